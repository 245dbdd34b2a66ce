"""A history gone through forwards: the cluster at one moment after the other, each what `History.at` gives.

Each feed is folded once, from the first moment on: whole records from their directory where no moment falls into them, entry
by entry where one does. A state that was handed out is never changed again: the next one is a copy. So whoever walks may
keep the clusters, and a thousand moments cost little more than the last one.

The window ends where the feeds ended when the walk began. Reads a history, writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ledger.entry import Entry
from ledger.events import NodeStarted
from ledger.heads import RecordRow
from ledger.identity import Feed
from projections.cluster import Cluster
from projections.feed_state import FeedState
from replay.folding import fold_record
from replay.history import History

NEVER: Final = 2**63


class Stop(msgspec.Struct, frozen=True):
    """A moment of the walk. `before`: the same moment as it would be without the entries of that very instant, which are
    `entries`, in display order; none: only time has passed.
    """

    cluster: Cluster
    before: Cluster
    entries: tuple[Entry, ...]


class Walk:
    """The way through a history from `since_ns` on."""

    def __init__(self, history: History, since_ns: int) -> None:
        self._feeds = [_Course(history, feed, since_ns) for feed in history.feeds]
        self._ends = {course.feed: history.feed_end_ns(course.feed) for course in self._feeds}
        self._forked = [feed for feed in history.feeds if feed.id in history.contradicted]
        self._since_ns = since_ns

    def at(self, at_ns: int) -> Stop:
        """The moment `at_ns`, no earlier than the one before."""
        together = [entry for course in self._feeds for entry in course.advance(at_ns)]
        together.sort(key=lambda entry: (entry.feed, entry.index))
        after = self._cluster([(course, course.state) for course in self._feeds], at_ns)
        before = self._cluster([(course, course.before) for course in self._feeds], at_ns) if together else after
        return Stop(after, before, tuple(together))

    def _cluster(self, folded: list[tuple[_Course, FeedState]], at_ns: int) -> Cluster:
        begun = [(course, state) for course, state in folded if state.entries]
        ends = {state.feed: max(self._ends[state.feed], state.last_ns) for _course, state in begun}
        resumed = [state.feed for course, state in begun if course.resumes(state, at_ns)]
        forked = [feed for feed in self._forked if feed in ends and ends[feed] <= at_ns]
        return Cluster({state.feed: state for _course, state in begun}, ends, at_ns, resumed, forked)

    def stops(self, turns: Iterable[int], until_ns: int, *, every: bool) -> Iterator[Stop]:
        """The moments `turns` (ascending, after the first); `every`: and those of all entries before `until_ns`. First of all
        the moment at which the walk begins.
        """
        yield self.at(self._since_ns)
        waiting = iter(turns)
        turn = next(waiting, NEVER)
        while True:
            at_ns = min([turn, *(course.next_ns() for course in self._feeds)]) if every else turn
            if at_ns >= until_ns:
                return
            yield self.at(at_ns)
            while turn <= at_ns:
                turn = next(waiting, NEVER)


class _Course:
    """One feed, folded up to where the walk is."""

    def __init__(self, history: History, feed: Feed, since_ns: int) -> None:
        self.feed = feed
        self.reader = history.reader(feed)
        # One instant short: the entries of the first moment are told like all others.
        self.state = self.before = history.state(feed, since_ns - 1)
        self.timeline = self.reader.timeline()
        head = self.reader.head()
        self._last = head.last
        self._starts = {e.index for e in self.reader.rare((NodeStarted.kind,)) if isinstance(e.event, NodeStarted)}
        holding = self.reader.holding(self.state.entries + 1) if self.state.entries < head.sealed else None
        self._records: Iterator[RecordRow] = self.reader.records(holding.n - 1, head.records) if holding else iter(())
        self._record: RecordRow | None = next(self._records, None)
        self._tail = True
        self._open: list[Entry] = []
        self._place = 0

    def resumes(self, state: FeedState, at_ns: int) -> bool:
        """Whether the entry after the cut is a `node.started` that no `node.stopped` announced."""
        return state.lifecycle != "stopped" and at_ns != state.last_ns and state.entries + 1 in self._starts

    def next_ns(self) -> int:
        """The effective instant of the next entry."""
        while self._place >= len(self._open):
            if not self._opened():
                return NEVER
        return self._open[self._place].effective_ns

    def advance(self, at_ns: int) -> list[Entry]:
        """Fold what stands up to `at_ns`; gives the entries of that very instant."""
        fresh = False
        told: list[Entry] = []
        self.before = self.state
        while True:
            if self._place < len(self._open):
                entry = self._open[self._place]
                if entry.effective_ns > at_ns:
                    return told
                if not fresh or (entry.effective_ns == at_ns and not told):
                    self.state, fresh = self.state.copy(), True
                self.state.apply(entry)
                self._place += 1
                if entry.effective_ns == at_ns:
                    told.append(entry)
                else:
                    self.before = self.state
                continue
            record = self._record
            if record is not None and record.steady and not self.timeline.stretches:
                if record.low_ns > at_ns:
                    return told
                if record.high_ns < at_ns and record.first == self.state.entries + 1:
                    if not fresh:
                        self.state, fresh = self.state.copy(), True
                    fold_record(self.state, self.reader, record, self.timeline)
                    self.before = self.state
                    self._record = next(self._records, None)
                    continue
            if not self._opened():
                return told

    def _opened(self) -> bool:
        """Open what comes next; False if there is no more."""
        after = self.state.entries
        if self._record is not None:
            self._open = [entry for entry in self.reader.entries_of(self._record, self.timeline) if entry.index > after]
            self._record = next(self._records, None)
        elif self._tail and after < self._last:
            self._open = list(self.reader.entries(after, self._last))
            self._tail = False
        else:
            return False
        self._place = 0
        return True
