"""Folding what a feed's rows hold: a record at once where its groups suffice, entry by entry where they do not.

This is where `ledger.feeds` (what is stored) meets `projections.feed_state` (what it means). The fold one by one is the
definition; a record is folded from its directory if its clock was steady, and only the pings to a peer whose groups do
not suffice are opened. Both ways give one state, which is a law under test. A moment cuts a feed by instants, a belief by
the count of what was held (`prefix`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby

from msgspec.structs import replace

from ledger.entry import Entry, Observed
from ledger.feeds import FeedReader
from ledger.heads import RecordRow, Timeline
from ledger.instants import effective_instants, may_disown
from ledger.open_part import OpenPart
from ledger.unpacking import Pings
from projections.feed_state import FeedState
from projections.several import Run, grow


def fold_record(state: FeedState, reader: FeedReader, record: RecordRow, timeline: Timeline) -> None:
    """Grow a state by a whole record, in place."""
    if record.steady and not timeline.stretches:
        controls = reader.controls_of(record)
        groups = reader.groups(record)
        opened: list[Pings] = []

        def unfold(peer: str) -> Iterator[Entry]:
            if not opened:
                opened.append(reader.pings(record, controls))
            return evidence_to(peer, reader, opened[0])

        if state.apply_groups(record.first, record.last, record.high_ns, controls, groups, unfold=unfold):
            return
    for entry in reader.entries_of(record, timeline):
        state.apply(entry)


def fold_records(state: FeedState, reader: FeedReader, run: Sequence[RecordRow], timeline: Timeline) -> None:
    """Grow a state by some neighbouring records, in place: at once those whose clock was steady."""
    for steady, part in groupby(run, key=lambda record: record.steady and not timeline.stretches):
        together = list(part)
        if not steady or len(together) == 1 or not _fold_steady(state, reader, together):
            for record in together:
                fold_record(state, reader, record, timeline)


def _fold_steady(state: FeedState, reader: FeedReader, run: Sequence[RecordRow]) -> bool:
    controls = reader.controls_of_run(run)
    opened: dict[int, Pings] = {}

    def unfold(peer: str, place: int) -> Iterator[Entry]:
        if place not in opened:
            opened[place] = reader.pings(run[place], controls[place])
        return evidence_to(peer, reader, opened[place])

    spans = [(record.first, record.last) for record in run]
    told = Run(spans, run[-1].high_ns, reader.gathered(run), unfold)
    return grow(state, told, list(chain.from_iterable(controls)))


def fold_until(state: FeedState, reader: FeedReader, record: RecordRow, timeline: Timeline, at_ns: int) -> Entry | None:
    """Grow a state by those entries of a record whose effective instant is at most `at_ns`, in place. The entry right after
    them, unless it is a ping.
    """
    if not record.steady or timeline.stretches:
        for entry in reader.entries_of(record, timeline):
            if entry.effective_ns > at_ns:
                return entry
            state.apply(entry)
        return None
    controls, following = reader.controls_until(record, at_ns)
    groups = reader.groups_until(record, controls, at_ns)
    count = sum(group.count for group in groups) + len(controls)
    last = record.first + count - 1
    after = following if following is not None and following.index == last + 1 else None
    if not count:
        return after
    last_ns = max([group.last_ns for group in groups] + [entry.at_ns for entry in controls[-1:]])
    opened: list[Pings] = []

    def unfold(peer: str) -> Iterator[Entry]:
        if not opened:
            opened.append(reader.pings(record, controls))
        return (entry for entry in evidence_to(peer, reader, opened[0]) if entry.index <= last)

    if not state.apply_groups(record.first, last, last_ns, controls, groups, unfold=unfold):
        for entry in reader.entries_of(record, timeline):
            if entry.index > last:
                break
            state.apply(entry)
    return after


def fold_opened(state: FeedState, reader: FeedReader, opened: OpenPart, timeline: Timeline, at_ns: int) -> Entry | None:
    """The same with a feed's open part, which comes after all its records."""
    tally = None if timeline.stretches else opened.tally(at_ns)
    if tally is not None:
        first, last = opened.head.sealed + 1, tally.last
        controls = [reader.control_entry(control) for control in opened.controls[: tally.controls + 1]]
        following = controls.pop() if len(controls) > tally.controls else None

        def unfold(peer: str) -> Iterator[Entry]:
            return iter([_entry(reader, index, observed) for index, observed in opened.to(peer, last)])

        if last < first or state.apply_groups(first, last, tally.last_ns, controls, tally.groups, unfold=unfold):
            return following if following is not None and following.index == last + 1 else None
    for entry in reader.opened_entries(opened, timeline):
        if entry.effective_ns > at_ns:
            return entry
        state.apply(entry)
    return None


def prefix(reader: FeedReader, count: int, begun: FeedState | None = None) -> FeedState:
    """The fold of a feed's first `count` entries as they alone make it: an instant that a later entry disowned counts as it
    did before. `begun`: the fold of its first records, which is grown.
    """
    state = FeedState(reader.feed) if begun is None else begun
    timeline = reader.timeline()
    if timeline.stretches:
        if not any(stretch.first <= count <= stretch.last for stretch in timeline.stretches):
            for entry in reader.entries(state.entries, count):
                state.apply(entry)
            return state
        state = FeedState(reader.feed)
        for entry in alone(reader, 0, count):
            state.apply(entry)
        return state
    after = reader.holding(state.entries) if state.entries else None
    for run in reader.runs(after.n if after else 0):
        whole = [record for record in run if record.last <= count]
        fold_records(state, reader, whole, timeline)
        if len(whole) < len(run):
            break
    for entry in reader.entries(state.entries, count):
        state.apply(entry)
    return state


def alone(reader: FeedReader, after: int, until: int) -> Iterator[Entry]:
    """The entries with indexes in (after, until], with effective instants as the first `until` entries alone make them."""
    if not any(stretch.first <= until <= stretch.last for stretch in reader.timeline().stretches):
        return reader.entries(after, until)
    found = list(reader.entries(0, until))
    steps = [entry.index for entry in found if may_disown(entry.event)]
    instants = effective_instants([entry.at_ns for entry in found], steps)
    return iter([replace(e, effective_ns=at_ns) for e, at_ns in zip(found, instants, strict=True) if e.index > after])


def pings_to(peer: str, reader: FeedReader, pings: Pings) -> Iterator[Entry]:
    """The pings to one peer in a record, ascending, with wall clocks for effective instants."""
    for index, observed in pings.to(peer):
        yield _entry(reader, index, observed)


def evidence_to(peer: str, reader: FeedReader, pings: Pings) -> Iterator[Entry]:
    """The same as far as a fold asks: without numbers and stamps, whose columns stay closed."""
    for index, observed in pings.evidence(peer):
        yield _entry(reader, index, observed)


def _entry(reader: FeedReader, index: int, observed: Observed) -> Entry:
    return Entry(reader.feed, index, observed.at_ns, observed.event, observed.boot, observed.mono_ns, observed.at_ns)
