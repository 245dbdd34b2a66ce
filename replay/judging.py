"""All invariants over what some ledgers hold: records at once where that says the same, entries one by one where it does not.

A feed is gone through once. A record whose clocks were steady and which holds nothing that concerns the whole feed is told as
its controls and its *runs*: pings to a peer that are of one context, with consecutive numbers, no silence among them and no
other word about the peer. Everything else is told entry by entry. Control entries of all feeds are then
shown in display order to the monitors that look across feeds. That a whole log told so gives the verdicts of one told one by
one is a law under test.

Of each feed one record is in memory. What cannot be read ends its feed there. Reads a history, writes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import attrgetter, itemgetter, sub
from typing import Any, Final

from ledger.blocks import AT, HOLD, NUMBER, SENT
from ledger.entry import Entry, Opaque
from ledger.errors import LedgerError
from ledger.events import FeedReceived, PingAnswered, PingFailed
from ledger.feeds import FeedReader
from ledger.heads import RecordRow, Timeline
from ledger.identity import Feed
from ledger.unpacking import Pings
from projections.feed_state import FeedState
from projections.monitor import Monitor, Run, Verdict
from projections.pace import Pace
from projections.watch import APART, Course, Watch
from replay.folding import evidence_to, pings_to
from replay.history import History

Progress = Callable[[int, int], None]
"""Told how many entries are done, and how many there are in all."""
Look = tuple[tuple[int, int, int], Entry, int]
"""A control entry for the monitors across feeds: its place in display order, itself, and the instant of the entry before it."""
Told = tuple[Run, Callable[[], Iterable[Entry]]] | Entry
_PINGS: Final = (PingAnswered, PingFailed)


def judge(history: History, monitors: Iterable[Monitor], *, progress: Progress | None = None) -> list[Verdict]:
    """What each monitor says of the whole history. A feed that is damaged is judged up to there: `verify` names the damage."""
    watch = Watch(monitors, pace_of(history))
    judging = _Judging(history, watch, progress)
    looks = [judging.feed(feed, rank) for rank, feed in enumerate(history.feeds)]
    for _place, entry, before_ns in heapq.merge(*looks, key=itemgetter(0)):
        watch.look(entry, before_ns)
    forked = [feed for feed in history.feeds if feed.id in history.contradicted]
    return watch.end(contradicted=forked)


def pace_of(history: History) -> Pace:
    """The settings and partings that any feed ever told, with their effective instants."""
    found: list[Entry] = []
    for feed in history.feeds:
        try:
            for entry in history.reader(feed).rare(Pace.KINDS):
                found += history.entries(feed, entry.index - 1, entry.index)
        except LedgerError:
            continue  # it is judged up to the damage
    return Pace.of(found)


class _Judging:
    """The pass over all feeds."""

    def __init__(self, history: History, watch: Watch, progress: Progress | None) -> None:
        self.history, self.watch, self.progress = history, watch, progress
        self.total = 0
        for feed in history.feeds:
            try:
                self.total += history.last(feed)
            except LedgerError:
                continue
        self.done = 0

    def feed(self, feed: Feed, rank: int) -> Iterator[Look]:
        """Tell one feed, a record at a time; gives its control entries."""
        reader = self.history.reader(feed)
        try:
            head, timeline = reader.head(), reader.timeline()
            for record in reader.records(0, head.records):
                yield from self._record(reader, record, timeline, rank)
                self._count(record.last - record.first + 1)
            rest = reader.open_part(timeline)
            yield from self._one_by_one(rest, rank)
            self._count(len(rest))
        except LedgerError:
            return

    def _count(self, entries: int) -> None:
        self.done += entries
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _one_by_one(self, entries: Iterable[Entry], rank: int) -> Iterator[Look]:
        course = None
        for entry in entries:
            course = course or self.watch.course(entry.feed)
            before_ns = course.at_ns
            self.watch.tell(course, entry)
            if entry.event.__class__ not in _PINGS:
                yield (entry.effective_ns, rank, entry.index), entry, before_ns

    def _record(self, reader: FeedReader, record: RecordRow, timeline: Timeline, rank: int) -> Iterator[Look]:
        course = self.watch.course(reader.feed)
        if record.steady and not timeline.stretches:
            controls = reader.controls_of(record)
            if all(entry.event.__class__ is not Opaque and entry.event.kind not in APART for entry in controls):
                sealed = _Sealed(reader, record, controls, course, self.watch.pace)
                if not course.begun:
                    course.begin(sealed.walls[0], sealed.boot, sealed.monos[0])
                    sealed = _Sealed(reader, record, controls, course, self.watch.pace)
                if sealed.even:
                    yield from self._sealed(sealed, rank)
                    return
        yield from self._one_by_one(reader.entries_of(record, timeline), rank)

    def _sealed(self, sealed: _Sealed, rank: int) -> Iterator[Look]:
        """A record at once."""
        watch, course, record = self.watch, sealed.course, sealed.record
        walls = sealed.walls
        before_ns = course.at_ns
        settings = watch.pace.over(record.low_ns, record.high_ns)
        bound_ns = min(each.ping_interval_ms for each in settings) * 1_500_000
        told = sealed.told(bound_ns)
        self._probe(sealed)
        watch.sealed(course, told, walls, sealed.monos, sealed.boots, first=record.first)
        self._fold(sealed)
        for entry in sealed.controls:
            place = entry.index - record.first
            before = walls[place - 1] if place else before_ns
            yield (entry.effective_ns, rank, entry.index), entry, before

    def _probe(self, sealed: _Sealed) -> None:
        """Show the fold after each link entry: of the one peer that it concerns, grown entry by entry."""
        folders = self.watch.folders
        wanted = {entry.event.peer for entry in sealed.controls if folders[entry.kind]}  # type: ignore[union-attr]
        for peer in sorted(wanted):
            state = _only(sealed.course.state, peer)
            linked = [entry for entry in sealed.controls if getattr(entry.event, "peer", None) == peer]
            for entry in heapq.merge(linked, pings_to(peer, sealed.reader, sealed.pings), key=attrgetter("index")):
                kind = entry.kind
                before = state.copy() if kind in self.watch.compared else None
                state.apply(entry)
                for monitor in folders[kind]:
                    monitor.folded(entry, before if monitor.compares else None, state)

    def _fold(self, sealed: _Sealed) -> None:
        """Grow the feed's fold by the record."""
        reader, record, state = sealed.reader, sealed.record, sealed.course.state
        unfold = partial(evidence_to, reader=reader, pings=sealed.pings)
        groups = reader.groups(record)
        if not state.apply_groups(record.first, record.last, record.high_ns, sealed.controls, groups, unfold=unfold):
            for entry in reader.entries_of(record):
                state.apply(entry)


def _only(state: FeedState, peer: str) -> FeedState:
    """A fold that knows of one peer what `state` does, and nothing of others."""
    found = FeedState(
        state.feed, state.entries, state.first_ns, state.last_ns, lifecycle=state.lifecycle, started_ns=state.started_ns,
        started=state.started, boot=state.boot, settings=state.settings, silent_ns=state.silent_ns,
    )  # fmt: skip
    found.links = {peer: state.links[peer]} if peer in state.links else {}
    found.pings = {peer: state.pings[peer]} if peer in state.pings else {}
    return found


class _Sealed:
    """A record opened to be told at once. `even`: all its clocks are of one kind and boot, the feed's last, and never go back."""

    def __init__(self, reader: FeedReader, record: RecordRow, controls: list[Entry], course: Course, pace: Pace) -> None:
        self.reader, self.record, self.controls, self.course, self.pace = reader, record, controls, course, pace
        self.pings: Pings = reader.pings(record, controls)
        self.walls: list[int] = self.pings.in_order(self.pings.column(AT)) if self.pings.count else []
        timed, self.boot = self._clocked()
        self.monos: list[int | None]
        if timed:
            monos = self.pings.in_order(self.pings.mono()) if self.pings.count else []
            for entry in controls:
                self.walls.insert(entry.index - record.first, entry.at_ns)
                monos.insert(entry.index - record.first, entry.mono_ns)
            begun = [course.mono_ns + course.now_ns - course.anchor_ns, *monos]
            self.even = self.boot is not None and self.boot == course.boot and min(map(sub, monos, begun)) >= 0
            self.monos = monos
        else:
            for entry in controls:
                self.walls.insert(entry.index - record.first, entry.at_ns)
            self.even = self.boot is None and course.boot is None
            self.monos = [None] * len(self.walls)
        self.boots = [self.boot] * len(self.walls)

    def _clocked(self) -> tuple[bool, int | None]:
        """Whether every entry bears a monotonic clock, and the boot of all; (False, -1) if they differ in that."""
        found = {(bool(context.given & 1), context.boot) for context in self.pings.block.contexts}
        found |= {(entry.mono_ns is not None, entry.boot) for entry in self.controls}
        return found.pop() if len(found) == 1 else (False, -1)

    def told(self, bound_ns: int) -> list[Told]:
        """Controls and runs, in the order in which they begin. `bound_ns`: a gap so long parts two runs."""
        found: list[tuple[int, Told]] = [(entry.index, entry) for entry in self.controls]
        pings = self.pings
        if pings.count:
            contexts: dict[str, list[int]] = {}
            for number, context in enumerate(pings.block.contexts):
                contexts.setdefault(context.peer, []).append(number)
            whole = _stamps_in_order(pings)
            for peer, numbers in contexts.items():
                if whole:
                    found += [(run.first, (run, partial(self._single, run))) for run in self._runs(peer, numbers, bound_ns)]
                else:
                    found += [(ping.index, (self._run_of(ping), tuple)) for ping in pings_to(peer, self.reader, pings)]
        found.sort(key=itemgetter(0))
        return [each for _index, each in found]

    def _single(self, run: Run) -> Iterator[Entry]:
        """The pings of a run, one by one."""
        return (ping for ping in pings_to(run.peer, self.reader, self.pings) if run.first <= ping.index <= run.last)

    def _run_of(self, ping: Entry) -> Run:
        event: Any = ping.event
        return Run.of(ping, event, self.course.time(ping.effective_ns, ping.boot, ping.mono_ns))

    def _runs(self, peer: str, numbers: Sequence[int], bound_ns: int) -> Iterator[Run]:
        """The pings to a peer, parted where another context, a control about the peer, a number left out or a gap is between."""
        pings, starts = self.pings, self.pings.starts
        times: Sequence[int] = pings.column(AT) if self.boot is None else pings.mono()
        counted = pings.column(NUMBER)
        words = [entry.index - self.record.first - place for place, entry in enumerate(self.controls) if self._names(entry, peer)]
        if len(numbers) == 1 and not words:
            start, end = starts[numbers[0]], starts[numbers[0] + 1]
            first = counted[start]
            gap_ns = max(map(sub, times[start + 1 : end], times[start:end]), default=0)
            if gap_ns < bound_ns and counted[start:end] == list(range(first, first + end - start)):
                yield self._run(numbers[0], start, end, gap_ns)
                return
        order = pings.order
        rest = sorted(
            (order[column], number, column) for number in numbers for column in range(starts[number], starts[number + 1])
        )
        begun, gap_ns, before = 0, 0, rest[0]
        for place, each in enumerate(rest[1:], 1):
            passed_ns = times[each[2]] - times[before[2]]
            if (
                each[1] != before[1]
                or counted[each[2]] != counted[before[2]] + 1
                or passed_ns >= bound_ns
                or any(before[0] < word <= each[0] for word in words)
            ):
                yield self._run(before[1], rest[begun][2], before[2] + 1, gap_ns)
                begun, gap_ns = place, 0
            else:
                gap_ns = max(gap_ns, passed_ns)
            before = each
        yield self._run(before[1], rest[begun][2], before[2] + 1, gap_ns)

    def _names(self, entry: Entry, peer: str) -> bool:
        """Whether a control entry is about a peer, under whatever name its field has, or may tell that it is gone."""
        event = entry.event
        if isinstance(event, FeedReceived):
            return peer in self.pace.told(event.feed, 0, event.held)
        return peer in {getattr(event, "peer", None), getattr(event, "machine", None)}

    def _run(self, number: int, start: int, end: int, gap_ns: int) -> Run:
        """Neighbours of one context, from column to column."""
        pings, course, boot = self.pings, self.course, self.boot
        at = pings.column(AT)
        first_ns, last_ns = at[start], at[end - 1]
        if boot is None:
            begun_ns, now_ns = course.time(first_ns, None, None), course.time(last_ns, None, None)
        else:
            monos = pings.mono()
            begun_ns, now_ns = course.time(first_ns, boot, monos[start]), course.time(last_ns, boot, monos[end - 1])
        context = pings.block.contexts[number]
        return Run(
            self.reader.feed, context.peer, context.link, None if context.answered else context.reason, end - start,
            pings.index(pings.order[start]), pings.index(pings.order[end - 1]), first_ns, last_ns, begun_ns, now_ns, gap_ns,
            pings.column(NUMBER)[start], context.answered and bool(context.given & 12),
        )  # fmt: skip


def _stamps_in_order(pings: Pings) -> bool:
    """Whether the stamps of all exchanges are in order, and add up."""
    short, hold = pings.block.columns[SENT], pings.block.columns[HOLD]
    if short.planes or short.firsts or short.base:
        return False
    if not hold.planes and not hold.firsts:
        return hold.base >= 0
    return min(pings.column(HOLD), default=0) >= 0
