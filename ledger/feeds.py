"""Reading one feed from its rows, and believing nothing that does not check.

A `FeedReader` gives a feed's head, its records, its entries, its cut at a moment. Each row's sum is checked before its
content is used, and each row against its neighbours: indexes are consecutive, a record's place in time is stated by its
own row, control events fill exactly the places that the pings leave. Whatever fails is `Damaged` and names the position.
So a damaged file gives an error, never a different answer.

Everything here reads; nothing writes. What has been appended stays as it is, so a reader needs no long transaction: it
takes the head first, and never reads past it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, TypeVar

import msgspec

from ledger import codec, rows
from ledger.blocks import AT, Context, Group, Pings
from ledger.entry import Entry, Observed, Opaque
from ledger.errors import Damaged
from ledger.events import KINDS, Event
from ledger.identity import Feed
from ledger.instants import Disowned, adjusted, disowned
from ledger.opening import SPOKEN, translate
from ledger.schema import RARE

_RECORD: Final = (
    "select feed, n, first, last, pings, lost, low_ns, high_ns, before_ns, peak_ns, steady, origin_ns, prior, leaf, sum, body "
    "from record"
)
_CONTROL: Final = "select feed, idx, at_ns, boot, mono_ns, kind, v, body, sum from control"
_RUN: Final = 16
"""So many record rows are fetched at once."""
_PAGE: Final = 256
"""Contexts are read by pages of so many; a record's contexts are mostly neighbours."""
_T = TypeVar("_T")
_STEPS: Final = ("node.started", "clock.stepped")


_encode_kinds: Final = msgspec.msgpack.Encoder(order="sorted").encode
_KINDS: Final = msgspec.msgpack.Decoder(dict[str, int])


class Head(msgspec.Struct, frozen=True, gc=False):
    """How far a feed goes: sealed records, the last entry they cover, the last entry of all; `peak_ns` the latest wall
    clock that the records saw, `chain` and `frontier` (of the Merkle tree) after them, `contexts` how many are named;
    `kinds` how many control entries of each rare kind there are, `evidence` how many rows hold branches: so that what is
    found by an index is known to be all.
    """

    records: int = 0
    sealed: int = 0
    last: int = 0
    peak_ns: int | None = None
    chain: bytes = rows.CHAIN_START
    frontier: bytes = b""
    contexts: int = 0
    kinds: bytes = _encode_kinds({})
    evidence: int = 0

    def with_kinds(self, kinds: Iterable[str]) -> Head:
        """The head once control entries of these kinds stand as well."""
        rare = [kind for kind in kinds if kind in KINDS and not kind.startswith("link.")]
        if not rare:
            return self
        counts = _KINDS.decode(self.kinds)
        for kind in rare:
            counts[kind] = counts.get(kind, 0) + 1
        return msgspec.structs.replace(self, kinds=_encode_kinds(counts))

    def count_of(self, kinds: Iterable[str]) -> int:
        """How many control entries the feed has of those of these kinds that are known, and none of them `link.`."""
        counts = _KINDS.decode(self.kinds)
        return sum(counts.get(kind, 0) for kind in set(kinds))


class RecordRow(msgspec.Struct, frozen=True, gc=False):
    """A record as its row states it. Instants are wall clock in ns: least, greatest, greatest of the feed before it and
    with it. `steady`: the wall clock never went back within it, nor behind what was before.
    """

    feed: int
    n: int
    first: int
    last: int
    pings: int
    lost: int
    low_ns: int
    high_ns: int
    before_ns: int | None
    peak_ns: int
    steady: int
    origin_ns: int
    prior: bytes
    leaf: bytes
    sum: bytes
    data: bytes

    @property
    def chain(self) -> bytes:
        """The chain after this record."""
        return rows.chain_after(self.prior, self.leaf)

    def body(self) -> rows.Body:
        """The body column, its block still closed."""
        return rows.decode_body(self.data)


class Timeline(msgspec.Struct, frozen=True, gc=False):
    """What turns wall clocks into effective instants: the disowned stretches and, if there are any, the effective peak
    after each record (`peaks[n]`, `peaks[0]` before all).
    """

    stretches: tuple[Disowned, ...] = ()
    peaks: tuple[int | None, ...] = ()


class FeedReader:
    """One feed of one open ledger file. `row` is its row id there."""

    def __init__(self, connection: sqlite3.Connection, row: int, feed: Feed, *, own: bool = False) -> None:
        """`own`: this very connection writes, so nothing that may change is kept from one question to the next."""
        self._connection = connection
        self._own = own
        self._head: tuple[int, Head] | None = None
        self.row = row
        self.feed = feed
        self._pages: dict[int, dict[int, Context]] = {}
        self._timeline: tuple[int, Timeline] | None = None

    def _rows(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """The rows of a query. What SQLite says against them is said as one of our errors. All at once: a query left half
        read would keep a writer from beginning, its log from being taken in, and this reader from seeing what is new.
        """
        try:
            return self._connection.execute(sql, values).fetchall()
        except SPOKEN as error:
            raise translate(error, self.feed.name) from error

    def _row(self, sql: str, values: Sequence[object]) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        try:
            found: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
        except SPOKEN as error:
            raise translate(error, self.feed.name) from error
        return found

    # What the feed is and how far it goes.

    def head(self) -> Head:
        """How far the feed goes now."""
        version = 0
        if not self._own:
            version = (self._row("pragma data_version", ()) or (0,))[0]
            if self._head is not None and self._head[0] == version:
                return self._head[1]
        query = "select records, sealed, last, peak_ns, chain, frontier, contexts, kinds, evidence, sum from head"
        found = self._row(f"{query} where feed = ?", (self.row,))
        if found is None or rows.row_sum(self.row, *found[:-1]) != found[-1]:
            raise self.damaged("the feed's head row is not what was written", 0)
        head = Head(*found[:-1])
        self._head = version, head
        return head

    def damaged(self, what: str, index: int) -> Damaged:
        """The error for something at or near entry `index` of this feed."""
        return Damaged(what, position=self.feed.at(index) if index else self.feed.name)

    # Records.

    def records(self, after: int = 0, until: int | None = None) -> Iterator[RecordRow]:
        """The record rows n in (after, until], in order, each checked with its neighbours."""
        until = self.head().records if until is None else until
        before: RecordRow | None = None
        query = f"{_RECORD} where feed = ? and n > ? and n <= ? order by n"
        while after < until:
            end = min(after + _RUN, until)
            for found in self._rows(query, (self.row, after, end)):
                record = self._record(found)
                if record.n != after + 1 or (
                    before is not None and (record.first != before.last + 1 or record.prior != before.chain)
                ):
                    raise self.damaged(f"record {after + 1} is missing or out of its place", record.first)
                after, before = record.n, record
                yield record
            if after != end:
                raise self.damaged(f"record {after + 1} is missing", before.last + 1 if before else 1)

    def record(self, n: int) -> RecordRow:
        """Record number `n`."""
        found = self._row(f"{_RECORD} where feed = ? and n = ?", (self.row, n))
        if found is None or found[1] != n:
            raise self.damaged(f"record {n} is missing", 0)
        return self._record(found)

    def _record(self, found: tuple[Any, ...]) -> RecordRow:
        record = RecordRow(*found)
        if rows.row_sum(*found[:14], found[15]) != record.sum or record.feed != self.row:
            raise self.damaged(f"record {record.n} is not what was written", record.first if type(record.first) is int else 0)
        return record

    def holding(self, index: int) -> RecordRow | None:
        """The record that holds entry `index`, or None if it stands in the open part."""
        low, high = 1, self.head().records
        while low <= high:
            middle = (low + high) // 2
            record = self.record(middle)
            if index < record.first:
                high = middle - 1
            elif index > record.last:
                low = middle + 1
            else:
                return record
        return None

    def leaves(self) -> list[bytes]:
        """The leaf hash of each record, in order. Only the numbers are checked here; `records` checks the rows."""
        count = self.head().records
        found = self._rows("select n, leaf from record where feed = ? and n <= ? order by n", (self.row, count))
        if [n for n, _leaf in found] != list(range(1, count + 1)):
            raise self.damaged("records are missing", 0)
        return [leaf for _n, leaf in found]

    def context(self, number: int) -> Context:
        """The context with this number."""
        page = self._pages.get(number // _PAGE)
        if page is None:
            if len(self._pages) >= 8:
                self._pages.clear()
            page = self._pages[number // _PAGE] = self._context_page(number // _PAGE)
        try:
            return page[number]
        except KeyError:
            # The page was read before this context was written.
            page = self._pages[number // _PAGE] = self._context_page(number // _PAGE)
        if number not in page:
            raise self.damaged(f"context {number} is missing", 0)
        return page[number]

    def _context_page(self, page: int) -> dict[int, Context]:
        found = self._rows(
            "select id, body, sum from context where feed = ? and id >= ? and id < ?",
            (self.row, page * _PAGE, (page + 1) * _PAGE),
        )
        result = {}
        for number, body, stored in found:
            if rows.row_sum(self.row, number, body) != stored:
                raise self.damaged(f"context {number} is not what was written", 0)
            result[number] = rows.decode_context(body)
        return result

    # Entries.

    def controls(self, first: int, last: int) -> list[Entry]:
        """The control entries with indexes `first` … `last`, ascending; `effective_ns` is the wall clock still."""
        found = self._rows(f"{_CONTROL} where feed = ? and idx between ? and ? order by idx", (self.row, first, last))
        return [self._control(row) for row in found]

    def _control_row(self, found: tuple[Any, ...]) -> tuple[int, int, int | None, int | None, str, int, bytes]:
        """Index, clocks, kind, version and stored form of a control entry, once its row has been checked."""
        feed, index, at_ns, boot, mono_ns, kind, version, body, stored = found
        if rows.row_sum(*found[:-1]) != stored or feed != self.row:
            raise self.damaged("the entry is not what was written", index if type(index) is int else 0)
        return index, at_ns, boot, mono_ns, kind, version, body.encode() if isinstance(body, str) else body

    def _control(self, found: tuple[Any, ...]) -> Entry:
        index, at_ns, boot, mono_ns, kind, version, raw = self._control_row(found)
        return Entry(self.feed, index, at_ns, codec.decode_event(kind, version, raw), boot, mono_ns, at_ns)

    def rare(self, kinds: Sequence[str], until: int | None = None) -> list[Entry]:
        """The entries of these kinds (none of them `link.` or `ping.`), ascending; `effective_ns` is the wall clock."""
        head = self.head()
        marks = ", ".join("?" * len(kinds))
        found = self._rows(
            f"{_CONTROL} where feed = ? and {RARE} and kind in ({marks}) and idx <= ? order by idx",
            (self.row, *kinds, head.last),
        )
        if sum(row[5] in KINDS for row in found) != head.count_of(kinds):
            raise self.damaged("control entries are missing from the index of kinds", 0)
        return [self._control(row) for row in found if until is None or row[1] <= until]

    def controls_of(self, record: RecordRow) -> list[Entry]:
        """The control entries of a record: exactly as many as its pings leave places for."""
        found = self.controls(record.first, record.last) if record.pings <= record.last - record.first else []
        return self._all_controls(record, found)

    def _all_controls(self, record: RecordRow, found: list[_T]) -> list[_T]:
        if len(found) + record.pings != record.last - record.first + 1:
            raise self.damaged(f"record {record.n} lacks control events, or has too many", record.first)
        return found

    def groups(self, record: RecordRow) -> list[Group]:
        """What the pings of a record amount to, from its directory."""
        return rows.decode_groups(record.body(), record.origin_ns, record.first, self.context)

    def pings(self, record: RecordRow, controls: Sequence[Entry]) -> Pings:
        """The pings of a record, opened."""
        try:
            block = rows.decode_block(record.body(), self.context, opened=False)
            return Pings(block, record.first, [entry.index for entry in controls], inflate=rows.inflate)
        except Damaged as error:
            raise self.damaged(error.message, record.first) from None

    def canonical(self, record: RecordRow) -> codec.Record:
        """The record as its leaf covers it: control events as they are stored, whatever is made of them today."""
        first, last = record.first, record.last
        controls = []
        if record.pings <= last - first:
            query = f"{_CONTROL} where feed = ? and idx between ? and ? order by idx"
            for found in self._rows(query, (self.row, first, last)):
                index, at_ns, boot, mono_ns, kind, version, raw = self._control_row(found)
                controls.append(codec.Control(index - first, at_ns, boot, mono_ns, kind, version, raw))
        block = rows.decode_block(record.body(), self.context)
        return codec.Record(codec.RECORD_FORMAT, first, last - first + 1, tuple(self._all_controls(record, controls)), block)

    def observed(self, record: RecordRow) -> list[Observed]:
        """The entries of a record without their places."""
        try:
            return codec.open_record(self.canonical(record))
        except (Damaged, IndexError, ValueError, StopIteration) as error:
            raise self.damaged(f"record {record.n} does not open: {error}", record.first) from None

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

    def open_part(self, timeline: Timeline | None = None) -> list[Entry]:
        """The entries that no record covers yet."""
        timeline = self.timeline() if timeline is None else timeline
        return self._open_entries(timeline)[1]

    def _open_entries(self, timeline: Timeline) -> tuple[Head, list[Entry]]:
        """The open part, with the head as of the same moment."""
        head, observed = self.open_stored()
        if not observed:
            return head, []
        if timeline.peaks and len(timeline.peaks) <= head.records:
            timeline = self.timeline()  # sealed since
        before = timeline.peaks[head.records] if timeline.peaks else head.peak_ns
        return head, self._placed(observed, head.sealed + 1, None, before, timeline)

    def open_stored(self) -> tuple[Head, list[Observed]]:
        """The head and the open entries as they are stored, as of one moment: a seal in between would take rows away."""
        while True:
            head = self.head()
            by_index: dict[int, Observed] = {}
            for first, last, low, high, lost, body, stored in list(
                self._rows(
                    "select first, last, low_ns, high_ns, lost, body, sum from open where feed = ? order by first",
                    (self.row,),
                )
            ):
                if rows.row_sum(self.row, first, last, low, high, lost, body) != stored:
                    raise self.damaged("the entries are not what was written", first if type(first) is int else 0)
                by_index.update(zip(range(first, last + 1), rows.decode_open(body), strict=True))
            query = f"{_CONTROL} where feed = ? and idx between ? and ? order by idx"
            for found in self._rows(query, (self.row, head.sealed + 1, head.last)):
                index, at_ns, boot, mono_ns, kind, version, raw = self._control_row(found)
                by_index[index] = Observed(at_ns, codec.stored_event(kind, version, raw), boot, mono_ns)
            if self.head().sealed == head.sealed:
                break
        wanted = range(head.sealed + 1, head.last + 1)
        missing = next((index for index in wanted if index not in by_index), None)
        if missing is not None:
            raise self.damaged("the entry is missing", missing)
        return head, [by_index[index] for index in wanted]

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
            later = self.open_part(timeline)
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
        steps = [(entry.index, entry.at_ns) for entry in self.rare(_STEPS)]
        stretches = tuple(disowned(steps, self._wall_reader())) if steps else ()
        timeline = Timeline(stretches, tuple(self._peaks(stretches)) if stretches else ())
        self._timeline = (len(steps), timeline)
        return timeline

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
        query = f"{_RECORD} where feed = ? and peak_ns > ? order by peak_ns, id limit 1"
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
            head, tail = self._open_entries(timeline)
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
