"""Bounded response: what was asked for is answered within so long, or it is named.

`Responds` turns "eventually" into an obligation with a deadline, one a slice at a time, and so needs no future: it is broken once
feed time has passed the deadline, whenever the monitor gets to look. Deadlines stand in a heap, so that a moment in which
nothing is due costs one comparison. A deadline is measured by the settings in force until it would have passed.

A node that stopped is asked no more; one that stalled gets that time on top; after an entry of an unknown kind nobody can
tell. No effects.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Collection
from typing import ClassVar, Final

import msgspec

from ledger.entry import Entry
from ledger.events import FeedReceived
from ledger.identity import Feed
from projections.monitor import PINGS, Horizon, Monitor, Rule, Run, Seen, State, Witness
from projections.pace import Pace
from projections.past import Key

RECEIPTS: Final = frozenset({"feed.received"})
Span = Callable[[Pace, int, int], int]
"""A length in ns, given the pace and the effective instants between which it is measured."""


class Awaited(msgspec.Struct, gc=False, array_like=True):
    """An answer that is awaited: since when (feed time, effective instant), by which entry."""

    now_ns: int
    at_ns: int
    index: int


class Awaiting(State):
    """By feed id and key what is awaited; by feed id a heap of (not due before, key), and the keys that stand in it. `held`: by
    feed id how many entries of others it holds, of feeds that tell of partings.
    """

    open: dict[str, dict[str, Awaited]] = msgspec.field(default_factory=dict)
    heap: dict[str, list[tuple[int, str]]] = msgspec.field(default_factory=dict)
    queued: dict[str, set[str]] = msgspec.field(default_factory=dict)
    held: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)


class Responds(Monitor):
    """Whatever `trigger` sees is followed by an `answer` of the same slice `within` so long, in feed time. What is an answer and
    a trigger at once answers first; a second trigger changes nothing.
    """

    state_type: ClassVar[type[State]] = Awaiting

    def __init__(
        self,
        rule: Rule,
        trigger: Key,
        answer: Key,
        within: Span,
        *,
        kinds: Collection[str],
        unless: Key | None = None,
        peers: bool = False,
        what: str = "no answer came in time",
    ) -> None:
        """`unless`: what calls it off, for a slice; `peers`: slices are machines, and one that leaves, whoever writes it, calls
        it off too: when it is written, and when the feed's machine comes to hold that. Where pings are among the `kinds`,
        `within` is one and a half intervals or more: a run of pings then answers itself.
        """
        super().__init__(rule)
        self.trigger, self.answer, self.within, self.unless = trigger, answer, within, unless
        self.peers, self.what = peers, what
        self.kinds = (frozenset(kinds) | (RECEIPTS if peers else frozenset())) - PINGS
        self.pings = PINGS & frozenset(kinds)
        self._era = (1, 0, 0, 0)

    def step(self, entry: Entry, now_ns: int) -> None:
        """Something that calls off, an answer, a trigger."""
        event = entry.event
        if self.peers and isinstance(event, FeedReceived):
            self._learn(entry.feed, event, now_ns)
        self._see(entry, now_ns)

    def _learn(self, feed: Feed, event: FeedReceived, now_ns: int) -> None:
        """What is received may say of machines that they are gone: from here on this feed's machine need not wait for them."""
        if event.feed in self.pace.acts:
            held = self.state.held.setdefault(feed.id, {})
            before = held.get(event.feed, 0)
            for machine in sorted(self.pace.told(event.feed, before, event.held)):
                self._close(feed, machine, now_ns, answered=False)
            held[event.feed] = max(before, event.held)

    def ping(self, run: Run) -> bool:
        """The first ping answers, the last one triggers; within a run each answers the one before."""
        self._see(run, run.begun_ns)
        return True

    def _see(self, seen: Seen, now_ns: int) -> None:
        feed = seen.feed
        if self.unless is not None:
            key = self.unless(seen)
            if key is not None:
                self._close(feed, key, now_ns, answered=False)
        answers = self.answer(seen)
        if answers is not None:
            self._close(feed, answers, now_ns, answered=True)
        key = self.trigger(seen)
        if key is None:
            return
        name = feed.id
        waiting = self.state.open.get(name)
        held = waiting.get(key) if waiting else None
        if waiting and held is not None and now_ns - held.now_ns > self._length(held):
            del waiting[key]
            self._late(feed, key, held)
        if waiting is None:
            waiting, self.state.heap[name], self.state.queued[name] = self.state.open.setdefault(name, {}), [], set()
        if isinstance(seen, Run):
            if answers is None:
                if key not in waiting:
                    waiting[key] = Awaited(seen.begun_ns, seen.first_ns, seen.first)
            else:
                self.state.tally.judged += seen.count - 1
                if key not in waiting:
                    waiting[key] = Awaited(seen.now_ns, seen.last_ns, seen.last)
        elif key not in waiting:
            waiting[key] = Awaited(now_ns, seen.effective_ns, seen.index)
        if key not in self.state.queued[name]:
            self.state.queued[name].add(key)
            heapq.heappush(self.state.heap[name], (waiting[key].now_ns + self._length(waiting[key]), key))

    def _length(self, awaited: Awaited) -> int:
        """How long it may take: by the settings in force while it would not be late yet. Settings seldom change, so the answer is
        kept with the instants between which it holds.
        """
        at_ns, instants = awaited.at_ns, self.pace.instants
        since_ns, until_ns, length, known = self._era
        if since_ns <= at_ns < until_ns and known == len(instants):
            return length
        length = self.within(self.pace, at_ns, at_ns)
        place = bisect_right(instants, at_ns)
        until_ns = (instants[place] if place < len(instants) else 2**63) - length
        if at_ns < until_ns:
            self._era = (instants[place - 1] if place else -(2**63), until_ns, length, len(instants))
            return length
        return self.within(self.pace, at_ns, at_ns + length)

    def _close(self, feed: Feed, key: str, now_ns: int, *, answered: bool) -> None:
        """What was awaited in a slice is there, in time or late, or need not come any more."""
        awaited = self.state.open.get(feed.id, {}).pop(key, None)
        if awaited is None:
            return
        if now_ns - awaited.now_ns > self._length(awaited):
            self._late(feed, key, awaited)
        elif answered:
            self.state.tally.judged += 1

    def _late(self, feed: Feed, key: str, awaited: Awaited) -> None:
        if self.peers and self.pace.parted(key, awaited.at_ns, awaited.at_ns + self._length(awaited)):
            return
        told = f"{feed.machine}:{key}: {self.what}" if key else self.what
        self.tally.violate(Witness(awaited.at_ns, feed.at(awaited.index), told))

    def tick(self, feed: Feed, now_ns: int) -> None:
        """Whoever waited too long is named. The heap says when it is worth looking."""
        heap = self.state.heap.get(feed.id)
        if not heap or heap[0][0] >= now_ns:
            return
        waiting, queued = self.state.open[feed.id], self.state.queued[feed.id]
        later = []
        while heap and heap[0][0] < now_ns:
            _due, key = heapq.heappop(heap)
            queued.discard(key)
            awaited = waiting.get(key)
            if awaited is None:
                continue  # answered, and nothing more is awaited
            due_ns = awaited.now_ns + self._length(awaited)
            if due_ns < now_ns:
                del waiting[key]
                self._late(feed, key, awaited)
            else:
                later.append((due_ns, key))
        for item in later:
            queued.add(item[1])
            heapq.heappush(heap, item)

    def _all_due(self, feed: Feed, now_ns: int) -> None:
        """The same without the heap, which looks too late where settings made deadlines shorter."""
        waiting = self.state.open.get(feed.id, {})
        for key, awaited in list(waiting.items()):
            if awaited.now_ns + self._length(awaited) < now_ns:
                del waiting[key]
                self._late(feed, key, awaited)

    def _forget(self, feed: Feed) -> int:
        """Nothing is awaited in a feed any more; returns how much was."""
        for each in (self.state.heap, self.state.queued):
            each.pop(feed.id, None)
        return len(self.state.open.pop(feed.id, ()))

    def reset(self, feed: Feed, now_ns: int) -> None:
        """What is late by now is late; the rest is asked no more."""
        self._all_due(feed, now_ns)
        self._forget(feed)

    def blind(self, feed: Feed, now_ns: int) -> None:
        """What is late by now is late; of the rest nobody can tell."""
        self._all_due(feed, now_ns)
        self.tally.uncovered += self._forget(feed)

    def pause(self, feed: Feed, now_ns: int, stalled_ns: int) -> None:
        """What was late before is late; the rest the node could not do while it stood still."""
        self._all_due(feed, now_ns)
        for awaited in self.state.open.get(feed.id, {}).values():
            awaited.now_ns += stalled_ns

    def end(self, horizon: Horizon) -> None:
        """What is late by now is late, the rest pending."""
        for feed, now_ns in horizon.now_ns.items():
            self._all_due(feed, now_ns)
        self.tally.pending += sum(map(len, self.state.open.values()))
