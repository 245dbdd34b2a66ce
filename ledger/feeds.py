"""One feed, read: its entries in order, its open part, its cut at a moment.

A `FeedReader` gives what its rows hold (`row_reader` checks them) as entries with their effective instants. A damaged file
gives an error, never a different answer. Everything here reads; nothing writes. What has been appended stays as it is, so a
reader needs no long transaction: it takes the head first, and never reads past it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, Protocol

from ledger import codec, rows
from ledger.blocks import AT
from ledger.entry import Entry, Observed, Opaque
from ledger.events import Event
from ledger.heads import Head, RecordRow, Timeline
from ledger.instants import Disowned, adjusted, disowned, may_disown
from ledger.open_part import OpenPart, Run
from ledger.row_reader import CONTROL, RECORD, RowReader

_STEPS: Final = ("node.started", "clock.stepped")


class Mirror(Protocol):
    """What a feed's writer has in memory, of which the rows are a copy: how far it goes, and its open part as it is stored."""

    head: Head
    tail: list[Observed]


class FeedReader(RowReader):
    """One feed of one open ledger file. `mirror`: that of the writer on this very connection, which is as good as the rows and
    spares reading them again after each append; that both say the same is a law.
    """

    mirror: Mirror | None = None
    _timeline: tuple[int, Timeline] | None = None
    _peak: tuple[int, Observed | None, int] = 0, None, 0
    """An open entry's index, itself, and the latest wall clock up to it."""

    def head(self) -> Head:
        """How far the feed goes now."""
        return self.mirror.head if self.mirror is not None else super().head()

    def entries_of(self, record: RecordRow, timeline: Timeline | None = None) -> list[Entry]:
        """The entries of a record, with their effective instants."""
        timeline = self.timeline() if timeline is None else timeline
        return self._placed(self.observed(record), record.first, record.n, self._before(record, timeline), timeline)

    def _before(self, record: RecordRow, timeline: Timeline) -> int | None:
        return timeline.peaks[record.n - 1] if timeline.peaks else record.before_ns

    def _placed(
        self, observed: Sequence[Observed], first: int, number: int | None, before: int | None, timeline: Timeline
    ) -> list[Entry]:
        walls = [entry.at_ns for entry in observed]
        if timeline.stretches:
            walls = adjusted(walls, first, timeline.stretches)
        effective = list(accumulate(walls, max) if before is None else accumulate(walls, max, initial=before))[-len(walls) :]
        feed = self.feed
        return [
            Entry(feed, index, o.at_ns, _today(o.event), o.boot, o.mono_ns, instant, number)
            for index, (o, instant) in enumerate(zip(observed, effective, strict=True), first)
        ]

    def open_part(self, timeline: Timeline | None = None, after: int = 0) -> list[Entry]:
        """The entries that no record covers yet, of them those with indexes beyond `after`."""
        timeline = self.timeline() if timeline is None else timeline
        return self.open_entries(timeline, after)[1]

    def open_entries(self, timeline: Timeline, after: int = 0) -> tuple[Head, list[Entry]]:
        """The same, with the head as of the same moment."""
        head, observed = self.open_stored()
        return head, self._opened(head, observed, timeline, after)

    def opened_entries(self, opened: OpenPart, timeline: Timeline) -> list[Entry]:
        """The entries of an open part, with their effective instants."""
        return self._opened(opened.head, opened.observed(), timeline)

    def _opened(self, head: Head, observed: list[Observed], timeline: Timeline, after: int = 0) -> list[Entry]:
        if not observed:
            return []
        if timeline.peaks and len(timeline.peaks) <= head.records:
            timeline = self.timeline()  # sealed since
        before = timeline.peaks[head.records] if timeline.peaks else head.peak_ns
        skip = min(max(0, after - head.sealed), len(observed))
        if skip and timeline.stretches:
            return self._placed(observed, head.sealed + 1, None, before, timeline)[skip:]
        if skip:
            before = self._risen(observed, head.sealed, skip, before)
        return self._placed(observed[skip:], head.sealed + 1 + skip, None, before, timeline)

    def _risen(self, observed: Sequence[Observed], sealed: int, count: int, before: int | None) -> int:
        """The latest wall clock of the first so many open entries and of what was `before` them. Who follows a feed asks for what
        is new in an open part that grows: each entry of it is looked at once, as long as the same objects are given.
        """
        index, last, peak = self._peak
        done = index - sealed
        if not 0 < done <= count or observed[done - 1] is not last:
            done, peak = 1, observed[0].at_ns if before is None else max(observed[0].at_ns, before)
        if done < count:
            peak = max(peak, *[entry.at_ns for entry in observed[done:count]])
        self._peak = sealed + count, observed[count - 1], peak
        return peak

    def open_stored(self) -> tuple[Head, list[Observed]]:
        """The head and the open entries as they are stored, as of one moment."""
        if self.mirror is not None:
            return self.mirror.head, list(self.mirror.tail)
        return self.open_rows()

    def open_rows(self) -> tuple[Head, list[Observed]]:
        """The same from the rows."""
        opened = self.opened()
        return opened.head, opened.observed()

    def opened(self) -> OpenPart:
        """The open part as its rows hold it, as of one moment: a seal in between would take rows away."""
        while True:
            self._version(anew=True)
            head = super().head()
            runs = []
            query = "select first, last, low_ns, high_ns, lost, body, sum from open where feed = ? and first <= ? order by first"
            for first, last, low, high, lost, body, stored in self._rows(query, (self.row, head.last)):
                if rows.row_sum(self.row, first, last, low, high, lost, body) != stored:
                    raise self.damaged("the entries are not what was written", first if type(first) is int else 0)
                runs.append(Run(first, *rows.decode_open_row(body)))
                if len(runs[-1].pings) != last - first + 1:
                    raise self.damaged("the entries are not as many as they should be", first)
            query = f"{CONTROL} where feed = ? and idx between ? and ? order by idx"
            controls = [self._control_row(found) for found in self._rows(query, (self.row, head.sealed + 1, head.last))]
            self._version(anew=True)
            if super().head().sealed == head.sealed:
                break
        index = head.sealed + 1
        for first, size in heapq.merge(((r.first, len(r.pings)) for r in runs), ((control[0], 1) for control in controls)):
            if first < index:
                raise self.damaged("the entry stands there twice", first)
            if first > index:
                break
            index += size
        if index != head.last + 1:
            raise self.damaged("the entry is missing", index)
        return OpenPart(head, runs, controls)

    def entries(self, after: int = 0, until: int | None = None) -> Iterator[Entry]:
        """The entries with indexes in (after, until], in order; to the end as it is now, if `until` is None."""
        head = self.head()
        until = head.last if until is None else min(until, head.last)
        timeline = self.timeline()
        if after < min(until, head.sealed):
            start = self.holding(after + 1)
            for record in self.records((start.n if start else 1) - 1, head.records):
                if record.first > until:
                    return
                for entry in self.entries_of(record, timeline):
                    if after < entry.index <= until:
                        yield entry
        done = max(after, head.sealed)
        if done < until:
            later = self.open_part(timeline, done)
            if not later or later[0].index > done + 1:  # sealed meanwhile
                yield from self.entries(done, until)
                return
            for entry in later:
                if done < entry.index <= until:
                    yield entry

    # Moments.

    def timeline(self) -> Timeline:
        """What was disowned, as known now."""
        count = self.head().count_of(_STEPS)
        if self._timeline is not None and self._timeline[0] == count and not self._timeline[1].peaks:
            return self._timeline[1]
        steps = [
            (entry.index, entry.at_ns) for entry in self.rare(_STEPS) if may_disown(entry.event) and not self._steady(entry.index)
        ]
        stretches = tuple(disowned(steps, self._wall_reader())) if steps else ()
        timeline = Timeline(stretches, tuple(self._peaks(stretches)) if stretches else ())
        self._timeline = (count, timeline)
        return timeline

    def _steady(self, index: int) -> bool:
        """Whether the clock at entry `index` is known not to be behind any before it, so that it disowns nothing."""
        record = self.holding(index)
        return record is not None and bool(record.steady)

    def _wall_reader(self) -> Any:
        """A function that gives the wall clock of entry i, keeping the stretch it read last."""
        held: dict[int, int] = {}

        def wall(index: int) -> int:
            while index not in held:
                record = self.holding(index)
                if record is not None:
                    held.update(zip(range(record.first, record.last + 1), self.walls(record), strict=True))
                    break
                head, observed = self.open_stored()  # without it, if it was sealed meanwhile: then look again
                held.update(zip(range(head.sealed + 1, head.last + 1), [o.at_ns for o in observed], strict=True))
            return held[index]

        return wall

    def _peaks(self, stretches: Sequence[Disowned]) -> Iterator[int | None]:
        peak: int | None = None
        yield peak
        for record in self.records():
            high = record.high_ns
            if any(s.first <= record.last and s.last >= record.first for s in stretches):
                high = max(adjusted([o.at_ns for o in self.observed(record)], record.first, stretches))
            peak = high if peak is None else max(peak, high)
            yield peak

    def partial(self, at_ns: int, timeline: Timeline) -> tuple[int, RecordRow | None]:
        """Where the cut at `at_ns` falls: how many records lie wholly before it, and the record it falls into, if any.

        None: the cut is at or after the end of the last record.
        """
        if timeline.peaks:
            n = next((n for n, peak in enumerate(timeline.peaks) if peak is not None and peak > at_ns), 0)
            return (n - 1, self.record(n)) if n else (len(timeline.peaks) - 1, None)
        query = f"{RECORD} where feed = ? and peak_ns > ? order by peak_ns, id limit 1"
        found = self._row(query, (self.row, at_ns))
        if found is None:
            head = self.head()
            if head.peak_ns is None or head.peak_ns <= at_ns:
                return head.records, None
            found = self._row(query, (self.row, at_ns))  # sealed meanwhile
        if found is None:
            raise self.damaged("a record is missing from the index of instants", head.sealed)
        record = self._record(found)
        if record.peak_ns <= at_ns or (record.before_ns is not None and record.before_ns > at_ns):
            raise self.damaged("the index of instants leads to another record", record.first)
        return record.n - 1, record

    def cut(self, at_ns: int) -> int:
        """How many entries have an effective instant of at most `at_ns`."""
        while True:
            timeline = self.timeline()
            whole, record = self.partial(at_ns, timeline)
            if record is not None:
                break
            head, tail = self.open_entries(timeline)
            if head.records == whole:
                return head.sealed + sum(entry.effective_ns <= at_ns for entry in tail)
            # Sealed meanwhile: look again.
        if record.steady and not timeline.stretches:
            controls = self.controls_of(record)
            pings = self.pings(record, controls)
            return record.first - 1 + pings.until(at_ns) + sum(entry.at_ns <= at_ns for entry in controls)
        return record.first - 1 + sum(entry.effective_ns <= at_ns for entry in self.entries_of(record, timeline))

    def walls(self, record: RecordRow) -> list[int]:
        """The wall clocks of a record's entries, in order."""
        controls = self.controls_of(record)
        pings = self.pings(record, controls)
        result = pings.in_order(pings.column(AT)) if pings.count else []
        for entry in controls:
            result.insert(entry.index - record.first, entry.at_ns)
        return result


def _today(event: Event | Opaque) -> Event | Opaque:
    """An event of an old version as today's; any other as it is."""
    return codec.decode_event(event.kind, event.version, event.raw) if isinstance(event, Opaque) else event
