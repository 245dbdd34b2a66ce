"""What a contestant is: a folder with a store in it, and the questions that the benchmark puts to it.

A contestant answers what it can; what it does not answer raises `Absent`, and the run lists it as absent. The shared
half of the relational ones is here too: the numbers that names get (machines, links, feeds, boots, reasons), and the
flat row of an entry, in which every field of every event stands: pings in columns, all else as JSON in `body`.
"""

from __future__ import annotations

import importlib.metadata
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from bench.digest import ANSWERED, DOWN, FAILED, UP, Pair, PingCell, State, Visited, members

from ledger.entry import Observed
from ledger.events import KINDS, PingAnswered, PingFailed
from ledger.identity import Feed

KIND_NAMES = list(KINDS)
KIND_NUMBERS = {name: number for number, name in enumerate(KIND_NAMES)}
ANSWERED_KIND, FAILED_KIND = KIND_NUMBERS["ping.answered"], KIND_NUMBERS["ping.failed"]
UP_KIND = KIND_NUMBERS["link.established"]
DOWN_KINDS = (KIND_NUMBERS["link.lost"], KIND_NUMBERS["link.failed"])
JOINED_KIND, LEFT_KIND = KIND_NUMBERS["machine.joined"], KIND_NUMBERS["machine.left"]
LINK_KINDS = (UP_KIND, *DOWN_KINDS)

COLUMNS = (
    "feed", "idx", "at_ns", "boot", "mono_ns", "kind", "peer", "number", "rtt_us", "link", "sent_us", "received_us",
    "replied_us", "returned_us", "peer_boot", "peer_feed", "held", "reason", "body",
)  # fmt: skip
encode_json = msgspec.json.Encoder().encode


class Absent(Exception):
    """A contestant, or this answer of it, is not there: no error. The text says why."""


class Contestant:
    """A store in a folder. One is made for writing (`create`), then, mostly in another process, opened to be asked."""

    name: ClassVar[str]
    package: ClassVar[str | None] = None  # the distribution whose version is printed; None: the standard library
    batches: ClassVar[tuple[int, ...]] = (100, 1000, 10_000)  # the sizes of commit it is tried with
    slow: ClassVar[bool] = False  # measured on 300 thousand events at most, and marked as scaled
    counts_then: ClassVar[bool] = False  # whether `state_at` counts sent and lost

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def version(cls) -> str:
        """Its name and version, as the table prints them. Raises Absent where the package is not installed."""
        if cls.package is None:
            return f"sqlite3 {sqlite3.sqlite_version}"
        try:
            return f"{cls.package} {importlib.metadata.version(cls.package)}"
        except importlib.metadata.PackageNotFoundError:
            raise Absent(f"{cls.package} is not installed") from None

    def create(self, feeds: Sequence[Feed]) -> None:  # noqa: ARG002 - who has no such answer says so
        """A new, empty store, open for `append`."""
        raise Absent(f"{self.name} does not write")

    def append(self, feed: Feed, entries: list[Observed]) -> None:  # noqa: ARG002 - who has no such answer says so
        """The next entries of one feed, durable on return: one commit."""
        raise Absent(f"{self.name} does not append")

    def close(self) -> None:
        """What is needed before its files are whole: checkpoints, indexes, snapshots."""

    def size(self) -> int:
        """Bytes on disk after `close`."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def open(self) -> None:
        """Ready to be asked; not counted in the time of an answer."""

    def leave(self) -> None:
        """Let go of what `open` opened."""

    def replay(self) -> State:
        """The whole state at the end, counts included, from all events."""
        raise Absent(f"{self.name} does not replay")

    def walk(self) -> Iterator[tuple[str, Iterable[Visited]]]:
        """Each feed's machine, in order of name, and its events in order of index."""
        raise Absent(f"{self.name} does not give events in order")

    def state_at(self, at_ns: int) -> State:  # noqa: ARG002 - who has no such answer says so
        """The whole state at a moment: of each feed the entries whose instant is at most that."""
        raise Absent(f"{self.name} is not asked for moments")

    def verify(self) -> int:
        """Read and check every byte that vouches for an event; how many events that was."""
        raise Absent(f"{self.name} has nothing to verify")


class Numbers(dict):
    """Numbers for names, handed out from 1; `new` holds those that are not stored yet. None has number None."""

    def __init__(self) -> None:
        super().__init__()
        self[None] = None
        self.new: list[tuple[int, Any]] = []

    def __missing__(self, name: Any) -> int:
        number = self[name] = len(self)
        self.new.append((number, name))
        return number

    def fresh(self) -> list[tuple[int, Any]]:
        """What came since the last call."""
        new, self.new = self.new, []
        return new


class Rows:
    """Entries as flat rows, with the numbers that names got. Feeds get theirs in the order they are told."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self.machines, self.links, self.feeds = Numbers(), Numbers(), Numbers()
        self.boots, self.reasons = Numbers(), Numbers()
        self.ends: dict[int, int] = {}
        self.names = list(feeds)
        for feed in feeds:
            self.ends[self.feeds[feed.id]] = 0
            assert self.machines[feed.machine] == self.feeds[feed.id]

    def of(self, feed: Feed, entries: Iterable[Observed]) -> Iterator[tuple]:
        """A row of COLUMNS for each of the next entries of `feed`."""
        machines, links, feeds, boots, reasons = self.machines, self.links, self.feeds, self.boots, self.reasons
        number = feeds[feed.id]
        index = self.ends[number]
        for entry in entries:
            index += 1
            e = entry.event
            if type(e) is PingAnswered:
                yield (
                    number, index, entry.at_ns, boots[entry.boot], entry.mono_ns, ANSWERED_KIND, machines[e.peer], e.number,
                    e.rtt_us, links[e.link], e.sent_us, e.received_us, e.replied_us, e.returned_us, boots[e.peer_boot],
                    feeds[e.feed], e.held, None, None,
                )  # fmt: skip
            elif type(e) is PingFailed:
                yield (
                    number, index, entry.at_ns, boots[entry.boot], entry.mono_ns, FAILED_KIND, machines[e.peer], e.number,
                    None, links[e.link], None, None, None, None, None, feeds[e.feed], e.held, reasons[e.reason], None,
                )  # fmt: skip
            else:
                peer = getattr(e, "peer", None)
                yield (
                    number, index, entry.at_ns, boots[entry.boot], entry.mono_ns, KIND_NUMBERS[e.kind], machines[peer], None,
                    None, None, None, None, None, None, None, None, None, None, encode_json(e).decode(),
                )  # fmt: skip
        self.ends[number] = index

    def fresh(self) -> dict[str, list[tuple[int, Any]]]:
        """The names that got numbers since the last call, by the table that holds them."""
        return {
            "machine": self.machines.fresh(), "link": self.links.fresh(), "feed": self.feeds.fresh(),
            "boot": self.boots.fresh(), "reason": self.reasons.fresh(),
        }  # fmt: skip


class Names:
    """The way back, from numbers to names, and from rows of numbers to a State."""

    def __init__(self, machines: Iterable[tuple[int, str]]) -> None:
        self.machine = dict(machines)

    def pings(self, rows: Iterable[tuple]) -> dict[Pair, PingCell]:
        """Rows (feed, peer, last index, its kind, instant and RTT of the last answer, sent, lost)."""
        name = self.machine
        return {
            (name[feed], name[peer]): (index, ANSWERED if kind == ANSWERED_KIND else FAILED, at_ns, rtt_us, sent, lost)
            for feed, peer, index, kind, at_ns, rtt_us, sent, lost in rows
        }

    def links(self, rows: Iterable[tuple]) -> dict[Pair, str]:
        """Rows (feed, peer, index of the last good evidence, of the last bad one), either may be None."""
        name = self.machine
        return {
            (name[feed], name[peer]): UP if (good or 0) > (bad or 0) else DOWN
            for feed, peer, good, bad in rows
            if good is not None or bad is not None
        }

    def by_kind(self, rows: Iterable[tuple]) -> tuple[dict[Pair, PingCell], dict[Pair, str]]:
        """Pings and links, from rows (feed, peer, kind, last index of that kind, its instant and RTT, how many)."""
        pairs: dict[tuple[int, int], dict[int, tuple]] = {}
        for feed, peer, kind, *cell in rows:
            pairs.setdefault((feed, peer), {})[kind] = tuple(cell)
        none = (0, None, None, 0)
        pings, links = [], []
        for pair, kinds in pairs.items():
            good, bad = kinds.get(ANSWERED_KIND, none), kinds.get(FAILED_KIND, none)
            if good[3] + bad[3]:
                last = ANSWERED_KIND if good[0] > bad[0] else FAILED_KIND
                pings.append((*pair, max(good[0], bad[0]), last, good[1], good[2], good[3] + bad[3], bad[3]))
            up = max(good[0], kinds.get(UP_KIND, none)[0])
            down = max(kinds.get(kind, none)[0] for kind in DOWN_KINDS)
            links.append((*pair, up or None, down or None))
        return self.pings(pings), self.links(links)

    def members(self, rows: Iterable[tuple]) -> set[str]:
        """Rows (feed, index, kind, body) of joins and removals."""
        joins, ended = [], []
        for feed, index, kind, body in rows:
            told = msgspec.json.decode(body)
            if kind == JOINED_KIND:
                joins.append((f"{self.machine[feed]}#{index}", told["machine"]))
            else:
                ended.extend(told.get("joins", ()))
        return members(joins, ended)

    def visits(self, rows: Iterable[tuple]) -> Iterator[Visited]:
        """Rows (index, instant, peer, kind, RTT), as `rolled` wants them."""
        name, kinds = {None: "", **self.machine}, KIND_NAMES
        for index, at_ns, peer, kind, rtt_us in rows:
            yield index, at_ns, name[peer], kinds[kind], -1 if rtt_us is None else rtt_us
