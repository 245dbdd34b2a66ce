"""Merging: the set union of feeds, written into one file.

Whatever the order, grouping and repetition of the sources, the same content gives the same heads, and in a fresh file the
same bytes. What the copies of a feed amount to is decided in `copies`; here it is written: feeds in their order, records
through `Ledger.take` (which takes only what its own entries make), then the open part, the branches of a fork, the signed
heads, and what imports had refused. A target that exists counts as a source.

The file is made beside the target and takes its place by one rename: a merge that fails leaves the target as it was.
Effects: files. One record in memory at a time, but for open parts and what lies beyond a fork.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final

from ledger.errors import NotALedger, Refused
from ledger.identity import Feed
from ledger.locking import Lock
from ledger.opening import translate
from ledger.store import Ledger
from replay.copies import United
from replay.receipts import Contradiction, Merge, Taken
from replay.union import files, one_incarnation, open_all, spelled, unite_feed

Progress = Callable[[int, int], None]
"""Told how many entries are done, and how many there are in all."""

_STRIDE: Final = 100_000
"""Entries between two tellings of progress."""


def merge(sources: Iterable[str | Path], target: str | Path, *, progress: Progress | None = None) -> Merge:
    """Write the union of ledgers (files, or folders of them) to `target`, which counts as a source if it exists.

    Of each feed the answer counts the entries that are new in the target, that came and stood there before, and that
    stand in branches, contradicted. Raises Refused where there is nothing to read, WrongIncarnation, Locked, Unwritable,
    and Damaged for a source that is not what was written: then the target is as it was.
    """
    target = Path(target)
    given = files(sources)
    with _held(target) as exists:
        ledgers = open_all(files([target, *given]) if exists else given)
        try:
            return _written(ledgers, target, exists, progress)
        finally:
            for ledger in ledgers:
                ledger.close()


def _written(ledgers: Sequence[Ledger], target: Path, exists: bool, progress: Progress | None) -> Merge:
    incarnation = one_incarnation(ledgers)
    holders: dict[Feed, list[Ledger]] = {}
    for ledger in ledgers:
        for feed in ledger.feeds():
            holders.setdefault(feed, []).append(ledger)
    names = spelled(holders)
    total = sum(max(ledger.head(feed).last for ledger in held) for feed, held in holders.items())
    taken: dict[str, Taken] = {}
    conflicts: list[Contradiction] = []
    done = 0
    with _fresh(target, incarnation) as fresh:
        for feed in sorted(holders):
            united = unite_feed(holders[feed], feed)
            for entries in _write(fresh, united):
                done += entries
                if progress is not None:
                    progress(min(done, total), total)
            for signed in sorted({signed for ledger in holders[feed] for signed in ledger.signatures(feed)}):
                fresh.keep_signature(feed, *signed)
            before = ledgers[0].head(feed).last if exists and ledgers[0] in holders[feed] else 0
            came = max((each.head(feed).last for each in holders[feed] if not exists or each is not ledgers[0]), default=0)
            stands = united.copy.last
            taken[names[feed]] = Taken(max(0, stands - before), min(before, came, stands), united.conflicting)
            if united.index is not None:
                branches = [branch.name for branch in united.branches]
                conflicts.append(Contradiction(f"{names[feed]}#{united.index}", branches))
        refused = heapq.merge(*(ledger.quarantined() for ledger in ledgers), key=_line_first)
        for row, _same in groupby(refused):
            fresh.quarantine(*row)
    return Merge(feeds=taken, conflicts=conflicts, refused=[])


def _write(fresh: Ledger, united: United) -> Iterator[int]:
    """Write one feed; now and then, how many entries were taken since."""
    copy = united.copy
    fresh.add_feed(copy.feed)
    waiting = 0
    for record in copy.sealed_records():
        fresh.take(copy.feed, record)
        waiting += record.count
        if waiting >= _STRIDE:
            yield waiting
            waiting = 0
    fresh.append(copy.tail, observer=copy.feed, seal=False)
    for branch in united.branches:
        fresh.keep_branch(copy.feed, branch)
    yield waiting + len(copy.tail)


def _line_first(refused: tuple[str, int | None, str, bytes]) -> tuple[str, int, str, bytes]:
    """The order in which SQLite gives them: no line stands before every line."""
    source, line, why, raw = refused
    return source, -1 if line is None else line, why, raw


# Files.


@contextmanager
def _held(target: Path) -> Iterator[bool]:
    """The right to write `target`, and whether it holds a ledger. What a killed writer left beside it is taken in first."""
    if not target.parent.is_dir():
        raise Refused(f"{target.parent}: there is no such folder", hint="make it first, or name another target")
    if target.is_dir():
        raise NotALedger(f"{target}: is a folder", hint="name the file that the merged ledger shall be")
    exists = target.exists() and target.stat().st_size > 0
    while exists:
        if not _settled(target):
            Ledger.open(target, write=True).close()
        lock = Lock(target)
        if _settled(target):
            break
        lock.release()  # between the two another wrote, and was killed
    else:
        lock = Lock(target)
    try:
        yield exists
    finally:
        lock.release()


def _settled(path: Path) -> bool:
    """Whether all of a ledger stands in its one file: in rollback mode (SQLite file format, offset 18), nothing beside it."""
    try:
        with path.open("rb") as file:
            modes = file.read(20)[18:]
    except OSError as error:
        raise translate(error, str(path)) from error
    return modes == b"\1\1" and not any(path.with_name(f"{path.name}{suffix}").exists() for suffix in ("-wal", "-journal"))


@contextmanager
def _fresh(target: Path, incarnation: str | None) -> Iterator[Ledger]:
    """A new ledger beside `target`, which it replaces if all goes well, and is gone if not."""
    path = target.with_name(f"{target.name}.merging")
    _remove(path)
    try:
        with Ledger.create(path, incarnation=incarnation) as ledger, ledger.transaction():
            yield ledger
        path.replace(target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # a new name lasts only once its folder is on the disk
        finally:
            os.close(folder)
    except OSError as error:
        raise translate(error, str(target)) from error
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
