"""Several ledger files read as one, with nothing written: what `-L a.ledger -L b.ledger` means.

Of each feed the copy that goes furthest is read. Files that contradict each other do so at one index (`copies`): the feed
stands before it, its readers give nothing from there on, and `contradicted` names both sides. Two incarnations are
refused, and so is a folder without ledgers. `merge` takes its sources through the same door.

A file that is being written may go on growing under its reader; a feed that is contradicted does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import msgspec

from ledger.errors import Refused, WrongIncarnation
from ledger.feeds import FeedReader
from ledger.identity import Feed
from ledger.store import Ledger
from replay.copies import United, held, unite
from replay.standing import Standing

SUFFIX = ".ledger"


class Contradicted(msgspec.Struct, frozen=True):
    """A fork of one feed: the first index that is contradicted, and the names of the branches."""

    feed: Feed
    index: int
    branches: tuple[str, ...]

    @property
    def position(self) -> str:
        """Where it is: `alpha#12021`."""
        return self.feed.at(self.index)


class Union:
    """Ledger files, opened together. `ledgers` are they, in the order given; `incarnation` is theirs, None if they are empty."""

    def __init__(self, ledgers: Sequence[Ledger]) -> None:
        self.ledgers = tuple(ledgers)
        self.incarnation = one_incarnation(ledgers)
        self._holders: dict[Feed, list[Ledger]] = {}
        for ledger in ledgers:
            for feed in ledger.feeds():
                self._holders.setdefault(feed, []).append(ledger)
        self.contradicted: dict[str, Contradicted] = {}
        self._chosen = {feed: self._choose(feed) for feed in self._holders}

    @classmethod
    def open(cls, paths: Iterable[str | Path]) -> Self:
        """Open ledger files, and the `*.ledger` of folders, to read together.

        Raises Refused for a folder without ledgers or for no path at all, WrongIncarnation, and what `Ledger.open` raises.
        """
        opened = open_all(files(paths))
        try:
            return cls(opened)
        except BaseException:
            for ledger in opened:
                ledger.close()
            raise

    def close(self) -> None:
        """Close all files."""
        for ledger in self.ledgers:
            ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Within, each file is looked at once whether anybody wrote: for one question that asks many feeds."""
        with ExitStack() as stack:
            for ledger in self.ledgers:
                stack.enter_context(ledger.watch.still())
            yield

    def feeds(self) -> list[Feed]:
        """The feeds of all files, by machine, epoch and id."""
        return sorted(self._holders)

    def reader(self, feed: Feed) -> FeedReader:
        """The reader of what stands of a feed. Raises KeyError for a feed that no file holds."""
        return self._chosen[feed][1]

    def ledger(self, feed: Feed) -> Ledger:
        """The file that a feed is read from. Raises KeyError for a feed that no file holds."""
        return self._chosen[feed][0]

    def _choose(self, feed: Feed) -> tuple[Ledger, FeedReader]:
        holders = self._holders[feed]
        if len(holders) == 1 and not holders[0].branches(feed):
            return holders[0], holders[0].reader(feed)
        united = unite_feed(holders, feed)
        index = united.index
        if index is None:
            ledger = max(holders, key=lambda each: (each.head(feed).last, each.head(feed).records))
            return ledger, ledger.reader(feed)
        self.contradicted[feed.id] = Contradicted(feed, index, tuple(branch.name for branch in united.branches))
        # Before the fork all copies agree, and whoever holds a side of it holds what stands.
        ledger = next(each for each in holders if each.head(feed).last >= index - 1)
        reader = ledger.reader(feed)
        return ledger, reader if reader.head().last == index - 1 else Standing(reader, index)


def files(paths: Iterable[str | Path]) -> list[Path]:
    """The ledger files that `paths` name, each once: a folder means its `*.ledger`, by name.

    Raises Refused for a folder that has none, and for no path at all.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        named = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not named:
            raise Refused(f"{path}: no ledgers in this folder", hint=f"a ledger's name ends in {SUFFIX}; name the file itself")
        for file in named:
            found.setdefault(file.resolve(), file)
    if not found:
        raise Refused("no ledger named", hint="name a ledger, or a folder that holds some")
    return list(found.values())


def open_all(paths: Iterable[Path]) -> list[Ledger]:
    """The ledgers at these paths, opened to read: all of them, or none is left open."""
    opened: list[Ledger] = []
    try:
        for path in paths:
            opened.append(Ledger.open(path))  # noqa: PERF401 - those opened so far must be closed again
    except BaseException:
        for ledger in opened:
            ledger.close()
        raise
    return opened


def unite_feed(holders: Iterable[Ledger], feed: Feed) -> United:
    """What all copies of a feed in these ledgers amount to, branches kept as evidence among them."""
    return unite([copy for ledger in holders for copy in held(ledger, feed)])


def spelled(feeds: Iterable[Feed]) -> dict[Feed, str]:
    """A name for each feed: its own, and where several share it, with the first digits of the id: `alpha~3f2a`."""
    given = list(feeds)
    result = {}
    for feed in given:
        others = [other.id for other in given if other.name == feed.name and other != feed]
        digits = 4
        while any(other.startswith(feed.id[:digits]) for other in others):
            digits += 1
        result[feed] = f"{feed.name}~{feed.id[:digits]}" if others else feed.name
    return result


def one_incarnation(ledgers: Iterable[Ledger]) -> str | None:
    """The incarnation of all these ledgers, None if none holds any. Raises WrongIncarnation, naming two and the file."""
    held: str | None = None
    for ledger in ledgers:
        for given in [ledger.incarnation, *(feed.incarnation for feed in ledger.feeds())]:
            if held is not None and given not in {held, None}:
                raise WrongIncarnation(held, str(given), str(ledger.path))
            held = held or given
    return held
