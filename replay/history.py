"""Any moment of what some ledgers hold: `History`, opened on files that it never writes.

    with History.open("seattle.ledger") as history:
        then = history.at("2026-01-01T03:12:07Z")     # a Cluster
        for entry in history.between(a, b): ...       # in display order, [a, b)

The state at T is the join of the feeds, each cut at T (its entries with an effective instant of at most T) and folded:
from the latest snapshot before, then record by record, then within the record that T falls into. Taking snapshots away
changes nothing. Where two copies of a feed contradict each other, what stands is what they share.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

from ledger.entry import Entry
from ledger.errors import NotCovered, Refused
from ledger.events import NodeStarted
from ledger.feeds import FeedReader
from ledger.heads import Head, RecordRow, Timeline
from ledger.identity import Feed, Position, parse_position
from ledger.instants import instant_ns
from projections.cluster import Cluster
from projections.feed_state import FeedState
from replay.believing import belief
from replay.folding import fold_opened, fold_records, fold_until, prefix
from replay.moments import Anchors, parse_moment
from replay.snapshots import Snapshots
from replay.union import Union


class History:
    """The feeds of one or several ledgers, merged in memory. `contradicted`: by feed id, where a fork begins."""

    def __init__(self, union: Union, *, snapshots: bool = True) -> None:
        self._union = union
        self._snapshots: dict[str, Snapshots] = {}
        self._use_snapshots = snapshots
        self._ends: dict[Feed, tuple[int, int]] = {}
        self.feeds: list[Feed] = union.feeds()
        self.contradicted = union.contradicted

    @classmethod
    def open(cls, *paths: str | Path, snapshots: bool = True) -> Self:
        """Open ledger files, or folders of them, to read. Raises what `Ledger.open` raises, and WrongIncarnation."""
        return cls(Union.open([Path(path) for path in paths]), snapshots=snapshots)

    def close(self) -> None:
        """Let go of all files."""
        for snapshots in self._snapshots.values():
            snapshots.close()
        self._union.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # Moments.

    def reader(self, feed: Feed) -> FeedReader:
        """The reader of a feed: of the copy that goes furthest."""
        return self._union.reader(feed)

    def start_ns(self) -> int:
        """The earliest effective instant of all feeds. Raises NotCovered if there is no entry."""
        found = [entry.effective_ns for feed in self._speaking() for entry in self.entries(feed, 0, 1)]
        if not found:
            raise NotCovered("these ledgers hold no entry", hint="import or merge something first")
        return min(found)

    def end_ns(self) -> int:
        """The latest effective instant of all feeds."""
        return max((self.feed_end_ns(feed) for feed in self._speaking()), default=0)

    def _speaking(self) -> list[Feed]:
        """The feeds that a mesh is made of: those of notes neither begin nor end it, unless there is nothing else."""
        return [feed for feed in self.feeds if not feed.notes] or self.feeds

    def feed_end_ns(self, feed: Feed) -> int:
        """The effective instant of a feed's last entry."""
        reader = self.reader(feed)
        head = reader.head()
        if not head.last:
            return 0
        known = self._ends.get(feed)
        if known is not None and known[0] == head.last:
            return known[1]
        self._ends[feed] = head.last, self._end(reader, head)
        return self._ends[feed][1]

    def _end(self, reader: FeedReader, head: Head) -> int:
        if not reader.timeline().stretches:  # then an effective instant is the greatest wall clock so far
            if head.last == head.sealed and head.peak_ns is not None:
                return head.peak_ns
            found, peak_ns = reader.peak()
            if found == head and peak_ns is not None:
                return peak_ns
        return next(iter(reader.entries(head.last - 1, head.last))).effective_ns

    def last(self, feed: Feed) -> int:
        """The index of the last entry of a feed that stands."""
        return self.reader(feed).head().last

    def entries(self, feed: Feed, after: int = 0, until: int | None = None) -> Iterator[Entry]:
        """The entries of a feed that stand, with indexes in (after, until]."""
        return self.reader(feed).entries(after, until)

    def at(self, moment: int | datetime | str | Position) -> Cluster:
        """The state at a moment: nanoseconds UTC, an aware datetime, a position (that entry applied), or text in the
        grammar of `moments`. Raises Refused for what names no moment.
        """
        at_ns = self.resolve(moment)
        states: dict[Feed, FeedState] = {}
        ends: dict[Feed, int] = {}
        resumed: list[Feed] = []
        with self._union.still():
            for feed in self.feeds:
                if feed.notes:
                    continue
                state, following = self._cut(feed, at_ns)
                if state.entries:
                    states[feed] = state
                    ends[feed] = max(self.feed_end_ns(feed), state.last_ns)
                    if self._resumes(state, following, at_ns):
                        resumed.append(feed)
        forked = [feed for feed in states if feed.id in self.contradicted and ends[feed] <= at_ns]
        return Cluster(states, ends, at_ns, resumed, forked)

    def belief(self, machine: str, moment: int | datetime | str | Position) -> Cluster:
        """What `machine` knew at a moment of its own clock (a position of its own feed: with just that entry applied).

        Raises Refused for a machine that nothing here speaks of, NotCovered if no feed of it had begun by then.
        """
        return belief(self, machine, moment)

    def resolve(self, moment: int | datetime | str | Position) -> int:
        """The instant of a moment, in ns."""
        if isinstance(moment, (int, datetime)):
            return instant_ns(moment)
        if isinstance(moment, Position):
            return self.entry(moment).effective_ns
        position = parse_position(moment)
        if position is not None:
            return self.entry(position).effective_ns
        return parse_moment(moment, self.anchors()).at_ns

    def anchors(self, now_ns: int | None = None, tz: str | None = None) -> Anchors:
        """What relative moments are relative to: the last entry, if no other `now` is given."""
        start, end = self.start_ns(), self.end_ns()
        return Anchors(
            now_ns=end if now_ns is None else now_ns,
            tz=tz,
            start_ns=start,
            end_ns=end,
            marks=self.marks(),
            position=lambda position: self.entry(position).effective_ns,
        )

    def marks(self) -> dict[str, list[int]]:
        """The instants of the marks that notes set, by name."""
        found: dict[str, list[int]] = {}
        for feed in self.feeds:
            reader = self.reader(feed)
            for note in reader.rare(("note.added",)):
                mark = getattr(note.event, "mark", None)
                if mark:
                    found.setdefault(mark, []).extend(e.effective_ns for e in self.entries(feed, note.index - 1, note.index))
        return found

    def entry(self, position: Position | str) -> Entry:
        """The entry at a position. Raises Refused if there is none, or the position names several."""
        parsed = parse_position(position) if isinstance(position, str) else position
        if parsed is None:
            raise Refused(f"{position!r} is no position", hint="such as alpha#12021")
        meant = [feed for feed in self.feeds if parsed.names(feed)]
        if not meant:
            names = ", ".join(feed.name for feed in self.feeds[:8])
            raise Refused(f"{parsed}: no feed of that name", hint=f"there are {names}")
        if len(meant) > 1:
            spelled = " or ".join(f"{feed.name}~{feed.id[:8]}#{parsed.index}" for feed in meant)
            raise Refused(f"{parsed}: two feeds have that name", hint=f"say {spelled}")
        for entry in self.entries(meant[0], parsed.index - 1, parsed.index) if parsed.index else ():
            return entry
        raise NotCovered(f"{parsed}: {meant[0].name} holds #1 to #{self.last(meant[0])}")

    def state(self, feed: Feed, at_ns: int) -> FeedState:
        """One feed's fold, cut at `at_ns`."""
        return self._cut(feed, at_ns)[0]

    def _cut(self, feed: Feed, at_ns: int) -> tuple[FeedState, Entry | None]:
        """The same, and the entry right after it, unless it is a ping."""
        reader = self.reader(feed)
        timeline = reader.timeline()
        while True:
            whole, record = reader.partial(at_ns, timeline)
            opened = reader.opened() if record is None else None
            if opened is None or opened.head.records == whole:
                break  # else sealed meanwhile: what was open stands in a record now
        state = self._whole(feed, reader, whole, record, timeline)
        if record is not None:
            return state, fold_until(state, reader, record, timeline, at_ns)
        return state, None if opened is None else fold_opened(state, reader, opened, timeline, at_ns)

    def prefix(self, feed: Feed, count: int) -> FeedState:
        """The fold of a feed's first `count` entries as they alone make it: without instants that later entries disowned."""
        reader = self.reader(feed)
        timeline = reader.timeline()
        if timeline.stretches or not count:
            return prefix(reader, count)
        record = reader.holding(count)
        whole = record.n - 1 if record is not None else reader.head().records
        return prefix(reader, count, self._whole(feed, reader, whole, record, timeline))

    def _whole(self, feed: Feed, reader: FeedReader, whole: int, record: RecordRow | None, timeline: Timeline) -> FeedState:
        """The fold of a feed's first `whole` records. `record`: the one after them, if it is at hand."""
        state, after = FeedState(feed), 0
        saved = None if timeline.stretches else self._saved(feed, reader, whole)
        if saved is not None:
            n, basis, found = saved
            chain = record.prior if record is not None and n == whole else reader.record(n).chain
            if chain == basis:
                state, after = found, n
        if after < whole:
            for run in reader.runs(after, whole):
                fold_records(state, reader, run, timeline)
        return state

    def _saved(self, feed: Feed, reader: FeedReader, whole: int) -> tuple[int, bytes, FeedState] | None:
        if not self._use_snapshots:
            return None
        path = self._union.ledger(feed).path
        snapshots = self._snapshots.get(str(path))
        if snapshots is None:
            snapshots = self._snapshots[str(path)] = Snapshots(path)
        return snapshots.before(reader, whole)

    @staticmethod
    def _resumes(state: FeedState, following: Entry | None, at_ns: int) -> bool:
        """Whether the entry after the cut is a `node.started` that no `node.stopped` announced."""
        if following is None or state.lifecycle == "stopped" or at_ns == state.last_ns:
            return False
        return isinstance(following.event, NodeStarted)

    # Stretches.

    def between(self, since_ns: int, until_ns: int, feeds: Sequence[Feed] | None = None) -> Iterator[Entry]:
        """The entries with effective instants in [since, until), in display order: instant, observer, epoch, index."""
        streams = []
        for feed in self.feeds if feeds is None else feeds:
            reader = self.reader(feed)
            first, last = reader.cut(since_ns - 1), reader.cut(until_ns - 1)
            if first < last:
                streams.append(self.entries(feed, first, last))
        if len(streams) == 1:
            return streams[0]
        return heapq.merge(*streams, key=lambda entry: (entry.effective_ns, entry.feed, entry.index))
