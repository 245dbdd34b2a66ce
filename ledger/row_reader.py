"""The rows of one feed, read and believed only when they check.

Each row's sum is checked before its content is used, and each row against its neighbours: indexes are consecutive, a
record's place in time is stated by its own row, control events fill exactly the places that the pings leave. Whatever
fails is `Damaged` and names the position. `feeds` makes entries and moments of what stands here. Reads, never writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final, TypeVar

from ledger import codec, rows
from ledger.blocks import Block, Context, Group
from ledger.context_rows import ContextRows
from ledger.cutting import groups_until
from ledger.entry import Entry, Observed
from ledger.errors import Damaged
from ledger.events import KINDS
from ledger.gathering import Gathered, gathered
from ledger.heads import Head, RecordRow
from ledger.identity import Feed
from ledger.opening import SPOKEN, translate
from ledger.rows import Directory
from ledger.schema import RARE
from ledger.unpacking import Pings
from ledger.watching import Watch

RECORD: Final = (
    "select feed, n, first, last, pings, lost, low_ns, high_ns, before_ns, peak_ns, steady, origin_ns, prior, leaf, closed, "
    "directory, sum from record"
)
CONTROL: Final = "select feed, idx, at_ns, boot, mono_ns, kind, v, body, sum from control"
_RUN: Final = 32
"""So many record rows are fetched at once."""
_RUN_BYTES: Final = 1 << 15
"""About so many bytes of directories are given at once."""
_T = TypeVar("_T")


class RowReader:
    """The rows of one feed of one open ledger file. `row` is its row id there."""

    def __init__(
        self, connection: sqlite3.Connection, row: int, feed: Feed, *, own: bool = False, watch: Watch | None = None
    ) -> None:
        """`own`: this very connection writes, so nothing that may change is kept from one question to the next. `watch`: of
        the connection, shared by the readers of one file.
        """
        self._connection = connection
        self._own = own
        self._watch = watch or Watch(connection)
        self._head: tuple[int, Head] | None = None
        self.row = row
        self.feed = feed
        self._contexts = ContextRows(row, self._rows, self.damaged)

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
            version = self._version()
            if self._head is not None and self._head[0] == version:
                return self._head[1]
        query = "select records, sealed, last, peak_ns, chain, frontier, contexts, kinds, evidence, sum from head"
        found = self._row(f"{query} where feed = ?", (self.row,))
        if found is None or rows.row_sum(self.row, *found[:-1]) != found[-1]:
            raise self.damaged("the feed's head row is not what was written", 0)
        head = Head(*found[:-1])
        self._head = version, head
        return head

    def _version(self, *, anew: bool = False) -> int:
        try:
            return self._watch.look() if anew else self._watch.version()
        except SPOKEN as error:
            raise translate(error, self.feed.name) from error

    def damaged(self, what: str, index: int) -> Damaged:
        """The error for something at or near entry `index` of this feed."""
        return Damaged(what, position=self.feed.at(index) if index else self.feed.name)

    # Records.

    def records(self, after: int = 0, until: int | None = None) -> Iterator[RecordRow]:
        """The record rows n in (after, until], in order, each checked with its neighbours."""
        for run in self.runs(after, until):
            yield from run

    def runs(self, after: int = 0, until: int | None = None) -> Iterator[list[RecordRow]]:
        """The same, some at a time; those before one that does not check are given before the error."""
        until = self.head().records if until is None else until
        before: RecordRow | None = None
        query = f"{RECORD} where feed = ? and n > ? and n <= ? order by n"
        while after < until:
            end = min(after + _RUN, until)
            run: list[RecordRow] = []
            size = 0
            for found in self._rows(query, (self.row, after, end)):
                try:
                    record = self._next(found, after, before)
                except Damaged:
                    if run:
                        yield run
                    raise
                after, before = record.n, record
                run.append(record)
                size += len(record.directory)
                if size >= _RUN_BYTES:
                    yield run
                    run, size = [], 0
            if run:
                yield run
            if after != end:
                raise self.damaged(f"record {after + 1} is missing", before.last + 1 if before else 1)

    def _next(self, found: tuple[Any, ...], after: int, before: RecordRow | None) -> RecordRow:
        record = self._record(found)
        if record.n != after + 1 or (before is not None and (record.first != before.last + 1 or record.prior != before.chain)):
            raise self.damaged(f"record {after + 1} is missing or out of its place", record.first)
        return record

    def record(self, n: int) -> RecordRow:
        """Record number `n`."""
        found = self._row(f"{RECORD} where feed = ? and n = ?", (self.row, n))
        if found is None or found[1] != n:
            raise self.damaged(f"record {n} is missing", 0)
        return self._record(found)

    def _record(self, found: tuple[Any, ...]) -> RecordRow:
        record = RecordRow(*found)
        if rows.row_sum(*found[:-1]) != record.sum or record.feed != self.row:
            raise self.damaged(f"record {record.n} is not what was written", record.first if type(record.first) is int else 0)
        return record

    def holding(self, index: int) -> RecordRow | None:
        """The record that holds entry `index`, or None if it stands in the open part."""
        head = self.head()
        low, high, begin, end, tries = 1, head.records, 1, head.sealed, 0
        while low <= high and begin <= index <= end:
            # Records are mostly of one length: where they would be; where they are not, in the middle.
            middle = low + (index - begin) * (high - low + 1) // (end - begin + 1) if tries < 4 else (low + high) // 2
            tries += 1
            record = self.record(middle)
            if index < record.first:
                high, end = middle - 1, record.first - 1
            elif index > record.last:
                low, begin = middle + 1, record.last + 1
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
        return self.contexts((number,))[number]

    def contexts(self, numbers: Collection[int]) -> Mapping[int, Context]:
        """The contexts with these numbers, by number, and maybe others. What is not at hand is read at once."""
        return self._contexts.named(numbers)

    # Entries.

    def controls(self, first: int, last: int) -> list[Entry]:
        """The control entries with indexes `first` … `last`, ascending; `effective_ns` is the wall clock still."""
        feed, checked, decoded = self.feed, self._control_row, codec.decode_event
        result = []
        for row in self._rows(f"{CONTROL} where feed = ? and idx between ? and ? order by idx", (self.row, first, last)):
            index, at_ns, boot, mono_ns, kind, version, raw = checked(row)
            result.append(Entry(feed, index, at_ns, decoded(kind, version, raw), boot, mono_ns, at_ns))
        return result

    def _control_row(self, found: tuple[Any, ...]) -> tuple[int, int, int | None, int | None, str, int, bytes]:
        """Index, clocks, kind, version and stored form of a control entry, once its row has been checked."""
        feed, index, at_ns, boot, mono_ns, kind, version, body, stored = found
        if rows.row_sum(*found[:-1]) != stored or feed != self.row:
            raise self.damaged("the entry is not what was written", index if type(index) is int else 0)
        return index, at_ns, boot, mono_ns, kind, version, body.encode() if isinstance(body, str) else body

    def _control(self, found: tuple[Any, ...]) -> Entry:
        return self.control_entry(self._control_row(found))

    def control_entry(self, found: tuple[int, int, int | None, int | None, str, int, bytes]) -> Entry:
        """A control entry, of which a row's columns were checked; `effective_ns` is the wall clock."""
        index, at_ns, boot, mono_ns, kind, version, raw = found
        return Entry(self.feed, index, at_ns, codec.decode_event(kind, version, raw), boot, mono_ns, at_ns)

    def rare(self, kinds: Sequence[str], until: int | None = None) -> list[Entry]:
        """The entries of these kinds (none of them `link.` or `ping.`), ascending; `effective_ns` is the wall clock."""
        head = self.head()
        marks = ", ".join("?" * len(kinds))
        found = self._rows(
            f"{CONTROL} where feed = ? and {RARE} and kind in ({marks}) and idx <= ? order by idx",
            (self.row, *kinds, head.last),
        )
        if sum(row[5] in KINDS for row in found) != head.count_of(kinds):
            raise self.damaged("control entries are missing from the index of kinds", 0)
        return [self._control(row) for row in found if until is None or row[1] <= until]

    def controls_of(self, record: RecordRow) -> list[Entry]:
        """The control entries of a record: exactly as many as its pings leave places for."""
        found = self.controls(record.first, record.last) if record.pings <= record.last - record.first else []
        return self._all_controls(record, found)

    def controls_of_run(self, run: Sequence[RecordRow]) -> list[list[Entry]]:
        """The same of each of some neighbouring records."""
        sizes = [record.last - record.first + 1 - record.pings for record in run]
        found = self.controls(run[0].first, run[-1].last) if any(sizes) else []
        ends = list(accumulate(sizes, initial=0))
        result = [found[start:end] for start, end in pairwise(ends)]
        if ends[-1] != len(found) or any(
            entries[0].index < record.first or entries[-1].index > record.last
            for record, entries in zip(run, result, strict=True)
            if entries
        ):
            return [self.controls_of(record) for record in run]
        return result

    def gathered(self, run: Sequence[RecordRow]) -> Gathered:
        """What the pings of some neighbouring records amount to, from their directories."""
        try:
            # One after the other: a directory is let go of before the next is decoded.
            told = ((rows.decode_directory(record.directory), record.origin_ns, record.first) for record in run if record.pings)
            return gathered(told, self.contexts)
        except Damaged as error:
            raise error if error.position else self.damaged(error.message, run[0].first) from None

    def _all_controls(self, record: RecordRow, found: list[_T]) -> list[_T]:
        if len(found) + record.pings != record.last - record.first + 1:
            raise self.damaged(f"record {record.n} lacks control events, or has too many", record.first)
        return found

    def controls_until(self, record: RecordRow, at_ns: int) -> tuple[list[Entry], Entry | None]:
        """The control entries of a steady record with an instant of at most `at_ns`, and the one after them, if any. Of those
        that come later nothing but their number is looked at: instants never decrease in it.
        """
        if record.pings > record.last - record.first:
            return [], None
        query = f"{CONTROL} where feed = ? and idx between ? and ? order by idx"
        found = self._all_controls(record, self._rows(query, (self.row, record.first, record.last)))
        result: list[Entry] = []
        for row in found:
            entry = self._control(row)
            if entry.at_ns > at_ns:
                return result, entry
            result.append(entry)
        return result, None

    def groups(self, record: RecordRow) -> list[Group]:
        """What the pings of a record amount to, from its directory."""
        told = self._told(record)
        return [] if told is None else rows.decode_groups(told, record.origin_ns, record.first, self._named(told).__getitem__)

    def groups_until(self, record: RecordRow, controls: Sequence[Entry], at_ns: int) -> list[Group]:
        """What the pings of a steady record up to an instant amount to. `controls`: those of `controls_until`."""
        told = self._told(record)
        if told is None:
            return []
        try:
            block = self._block(record, told, opened=False)
            places = [entry.index for entry in controls]
            return groups_until(block, told, record.origin_ns, record.first, places, until=at_ns, inflate=rows.inflate)
        except Damaged as error:
            raise self.damaged(error.message, record.first) from None

    @staticmethod
    def _told(record: RecordRow) -> Directory | None:
        return rows.decode_directory(record.directory) if record.pings else None

    def _block(self, record: RecordRow, told: Directory | None, *, opened: bool = True) -> Block:
        """The block of a record, whose directory is `told`; its body is fetched here, and checked."""
        found = self._row("select body from record where feed = ? and n = ?", (self.row, record.n))
        if found is None or rows.body_sum(found[0]) != record.closed:
            raise self.damaged(f"the columns of record {record.n} are not what was written", record.first)
        return rows.decode_block(record.pings, told, found[0], self._named(told).__getitem__, opened=opened)

    def _named(self, told: Directory | None) -> Mapping[int, Context]:
        return {} if told is None else self.contexts(list(accumulate(told.contexts)))

    def pings(self, record: RecordRow, controls: Sequence[Entry]) -> Pings:
        """The pings of a record, opened."""
        try:
            block = self._block(record, self._told(record), opened=False)
            return Pings(block, record.first, [entry.index for entry in controls], inflate=rows.inflate)
        except Damaged as error:
            raise self.damaged(error.message, record.first) from None

    def canonical(self, record: RecordRow) -> codec.Record:
        """The record as its leaf covers it: control events as they are stored, whatever is made of them today."""
        first, last = record.first, record.last
        controls = []
        if record.pings <= last - first:
            query = f"{CONTROL} where feed = ? and idx between ? and ? order by idx"
            for found in self._rows(query, (self.row, first, last)):
                index, at_ns, boot, mono_ns, kind, version, raw = self._control_row(found)
                controls.append(codec.Control(index - first, at_ns, boot, mono_ns, kind, version, raw))
        block = self._block(record, self._told(record))
        return codec.Record(codec.RECORD_FORMAT, first, last - first + 1, tuple(self._all_controls(record, controls)), block)

    def observed(self, record: RecordRow) -> list[Observed]:
        """The entries of a record without their places."""
        try:
            return codec.open_record(self.canonical(record))
        except (Damaged, IndexError, ValueError, StopIteration) as error:
            raise self.damaged(f"record {record.n} does not open: {error}", record.first) from None
