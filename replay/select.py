"""Which entries are asked for, and reading no others: the selection of `log` and `tail`.

A `Selection` says of any entry whether it is wanted (`wants`): that is the definition. Most of it is known before an entry
is opened: which feeds can hold such entries, which records by their place in time, and of pings, which stand in columns,
which *contexts* (answered or not, peer, reason). So a record is opened only where it may hold something, and of its pings
only those that are wanted. That both ways give the same is a law under test.

Reads a history, writes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any, Final, cast

import msgspec

from ledger.entry import Entry
from ledger.errors import Refused
from ledger.events import JoinRefused, PingAnswered, PingFailed, Reason
from ledger.feeds import FeedReader
from ledger.heads import RecordRow, Timeline
from ledger.identity import Feed
from ledger.unpacking import Pings
from replay.cells import Cell
from replay.history import History
from replay.streams import Piece, backwards, forwards, in_order


class Selection(msgspec.Struct, frozen=True):
    """What is asked for; all of it must hold. `machine`: its observer, peer or subject. `cell`: a link (its observer and
    peer), a pair (either way round), or a machine. `kinds`: prefixes of kinds, one of which must fit. `observer`: a machine, or
    a feed by its name. `since_ns`, `until_ns`: effective instants, half-open.
    """

    machine: str | None = None
    cell: Cell | None = None
    kinds: tuple[str, ...] = ()
    observer: str | None = None
    reason: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def wants(self, entry: Entry) -> bool:
        """Whether an entry, with its effective instant, is asked for."""
        return (
            self.reads(entry.feed)
            and (self.since_ns is None or self.since_ns <= entry.effective_ns)
            and (self.until_ns is None or entry.effective_ns < self.until_ns)
            and self.wants_event(entry.feed, entry.event)
        )

    def wants_event(self, feed: Feed, event: Any) -> bool:
        """The same, of an event in a feed that is read, whenever it was."""
        return (
            (not self.kinds or event.kind.startswith(self.kinds))
            and (self.reason is None or getattr(event, "reason", None) == self.reason)
            and (self.machine is None or _concerns(feed, event, self.machine))
            and (self.cell is None or _of_cell(feed, event, self.cell))
        )

    def reads(self, feed: Feed) -> bool:
        """Whether a feed may hold what is asked for."""
        if self.observer is not None and self.observer not in {feed.machine, feed.name}:
            return False
        if self.cell is None or self.cell.kind == "machine":
            return True
        return feed.machine == self.cell.a or (self.cell.kind == "pair" and feed.machine == self.cell.b)

    def wants_pings(self, feed: Feed, peer: str, reason: str | None) -> bool:
        """Whether pings to `peer` that failed for this reason (None: were answered) are asked for: all of them, or none."""
        return self.wants_event(feed, PingAnswered(peer, 0, 0) if reason is None else PingFailed(peer, 0, cast("Reason", reason)))

    @property
    def pings(self) -> bool:
        """Whether it may want any ping."""
        kinds = [PingFailed.kind] if self.reason is not None else [PingAnswered.kind, PingFailed.kind]
        return not self.kinds or any(kind.startswith(self.kinds) for kind in kinds)

    @property
    def answers(self) -> bool:
        """Whether it may want a ping that was answered."""
        return self.reason is None and (not self.kinds or PingAnswered.kind.startswith(self.kinds))


ALL: Final = Selection()


def _concerns(feed: Feed, event: Any, machine: str) -> bool:
    """Whether a machine saw it, is its other end, or is what it is about."""
    if machine in {feed.machine, getattr(event, "peer", None), getattr(event, "machine", None)}:
        return True
    return isinstance(event, JoinRefused) and event.who == machine


def _of_cell(feed: Feed, event: Any, cell: Cell) -> bool:
    if cell.kind == "machine":
        return _concerns(feed, event, cell.a)
    peer = getattr(event, "peer", None)
    return (feed.machine, peer) == (cell.a, cell.b) or (cell.kind == "pair" and (feed.machine, peer) == (cell.b, cell.a))


def select(
    history: History,
    selection: Selection = ALL,
    *,
    head: int | None = None,
    last: int | None = None,
    reverse: bool = False,
) -> Iterator[Entry]:
    """The entries asked for, in display order: only the first `head` or the last `last` of them; `reverse`: newest first.

    Raises Refused if both ends are asked for, or an observer that has no feed here.
    """
    if head is not None and last is not None:
        raise Refused("the first and the last entries at once", hint="ask for one end")
    feeds = _feeds(history, selection)
    backward = last is not None or (reverse and head is None)
    stream = in_order(_streams(history, feeds, selection, backward=backward), partial(opened, selection), reverse=backward)
    count = head if last is None else last
    if count is None:
        return stream
    some = islice(stream, min(max(0, count), sys.maxsize))
    return some if backward == reverse else iter(list(some)[::-1])


def _feeds(history: History, selection: Selection) -> list[Feed]:
    """The feeds to read. Raises Refused if whose entries are asked for has none."""
    found = [feed for feed in history.feeds if selection.reads(feed)]
    if not found and history.feeds:
        cell = selection.cell
        whom = selection.observer if cell is None or cell.kind == "machine" else " or ".join(sorted({cell.a, cell.b}))
        names = ", ".join(feed.name for feed in history.feeds[:8])
        raise Refused(f"no feed of {whom}", hint=f"there are the feeds of {names}")
    return found


def _streams(
    history: History, feeds: Sequence[Feed], selection: Selection, *, backward: bool
) -> Iterator[tuple[FeedReader, int, Iterator[Piece]]]:
    since_ns, until_ns = selection.since_ns, selection.until_ns
    for rank, feed in enumerate(feeds):
        reader = history.reader(feed)
        if backward:
            yield reader, rank, backwards(reader, rank, since_ns, until_ns, history.feed_end_ns(feed))
        else:
            yield reader, rank, forwards(reader, rank, since_ns, until_ns)


def opened(selection: Selection, reader: FeedReader, piece: Piece, timeline: Timeline) -> list[Entry]:
    """The entries of a piece that are asked for, ascending."""
    record, feed = piece.record, reader.feed
    if record is None:
        found = [each for each in reader.entries(piece.first - 1, piece.last) if selection.wants_event(feed, each.event)]
    elif record.steady and not timeline.stretches:
        found = _from_columns(selection, reader, record, timeline)
    else:
        found = [each for each in reader.entries_of(record, timeline) if selection.wants_event(feed, each.event)]
    since_ns, until_ns = selection.since_ns, selection.until_ns
    if since_ns is not None:
        found = [entry for entry in found if entry.effective_ns >= since_ns]
    if until_ns is not None:
        found = [entry for entry in found if entry.effective_ns < until_ns]
    return found


def _from_columns(selection: Selection, reader: FeedReader, record: RecordRow, timeline: Timeline) -> list[Entry]:
    """What is asked for of a record whose wall clocks are effective instants: of its pings only what they share is looked at."""
    feed = reader.feed
    wanted: set[tuple[str, str | None]] = set()
    if selection.pings and record.pings and (selection.answers or record.lost):
        shared = {(group.peer, group.reason) for group in reader.groups(record)}
        wanted = {each for each in shared if selection.wants_pings(feed, *each)}
        if wanted == shared:
            return [each for each in reader.entries_of(record, timeline) if selection.wants_event(feed, each.event)]
    controls = reader.controls_of(record)
    found = [
        Entry(feed, each.index, each.at_ns, each.event, each.boot, each.mono_ns, each.at_ns, record.n)
        for each in controls
        if selection.wants_event(feed, each.event)
    ]
    if wanted:
        found += _pings(feed, record, reader.pings(record, controls), wanted)
        found.sort(key=attrgetter("index"))
    return found


def _pings(feed: Feed, record: RecordRow, pings: Pings, wanted: set[tuple[str, str | None]]) -> Iterator[Entry]:
    for number, context in enumerate(pings.block.contexts):
        if (context.peer, context.reason) in wanted:
            places = pings.order[pings.starts[number] : pings.starts[number + 1]]
            for place, o in zip(places, pings.observed(number), strict=True):
                yield Entry(feed, pings.index(place), o.at_ns, o.event, o.boot, o.mono_ns, o.at_ns, record.n)
