"""Writing one feed: append, seal, take in what another ledger sealed.

What is appended is durable when the transaction ends: control events as rows of text, pings as open rows. Whenever the
open part reaches `RECORD_ENTRIES`, the first so many entries become a record, whatever the batches were: so the records
of a feed follow from its entries alone. A keyed feed also seals at a stop and after the events that others build trust
on (`SEALING`). Everything is validated, and the records are made, before the first row is touched.

The state here is a copy of the head row and of the open entries; after any failure it is read anew, because a failed
commit may have happened or not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from operator import le
from typing import Any, Final

import msgspec

from ledger import codec, rows
from ledger.blocks import Context
from ledger.entry import Observed
from ledger.errors import Conflict, Damaged, EventRefused, Forked
from ledger.events import KeyChanged, MachineJoined, MachineLeft, MachineReconnected, PingAnswered, PingFailed
from ledger.feeds import FeedReader
from ledger.heads import Head
from ledger.merkle import Frontier
from ledger.packing import arrange
from ledger.unpacking import Pings

RECORD_ENTRIES: Final = 1_000
"""Between 256 and 1,024: measured at 256, 512 and 1,000, a record of fewer takes more bytes an entry."""
SEALING: Final = frozenset((MachineJoined, MachineLeft, MachineReconnected, KeyChanged))

_FEW: Final = 24
"""So few pings are checked sooner one by one than in columns."""
_PINGS: Final = frozenset((PingAnswered, PingFailed))


class FeedWriter:
    """One feed of the ledger file that `connection` writes. `reader` reads the same rows."""

    def __init__(self, connection: sqlite3.Connection, reader: FeedReader) -> None:
        self._run = connection.execute
        self._many = connection.executemany
        self._reader = reader
        self.feed = reader.feed
        self.row = reader.row
        self._known: set[Context] = set()
        self.head: Head
        self.tail: list[Observed]
        self.head, self.tail = self._reader.open_rows()
        self._clear = 0
        peaks = self.head.frontier
        self._frontier = Frontier(self.head.records, [peaks[at : at + 32] for at in range(0, len(peaks), 32)])
        known = self._reader.contexts(range(self.head.contexts))
        self._contexts: dict[Context, int] = {known[number]: number for number in range(self.head.contexts)}
        reader.mirror = self

    def forget(self) -> None:
        """What is in memory may not be what stands: from here on the rows are read."""
        self._reader.mirror = None

    # Validation.

    def check(self, batch: Sequence[Observed]) -> None:
        """Refuse a batch with anything in it that the record does not take: one by one, which defines what is valid.

        Raises EventRefused naming the first.
        """
        for place, entry in enumerate(batch, 1):
            codec.check(entry, f"entry {place} of {len(batch)}")

    def _check_texts(self, contexts: Sequence[Context]) -> None:
        """The same for what the pings of a block share: texts, boots. Their numbers were checked when it was made."""
        for context in contexts:
            if context not in self._known:
                c: Any = context
                event: Any = (
                    PingAnswered(c.peer, 0, 0, c.link, peer_boot=c.peer_boot, feed=c.feed)
                    if c.answered
                    else PingFailed(c.peer, 0, c.reason, c.link, c.feed)
                )
                codec.check(Observed(0, event, c.boot), "a ping")
                self._known.add(context)

    # Appending.

    def append(self, batch: Sequence[Observed], expect: int | None, *, seal: bool, checked: bool = False) -> tuple[int, int]:
        """Append a batch within the caller's transaction; the first and the last index (of none: as if one were to follow).

        `expect`: the index after which the batch belongs. If it stands there already, nothing is written. `checked`: `check` took
        it. Raises EventRefused, or Conflict where the feed ends elsewhere or other entries stand there.
        """
        if not batch:
            return self.head.last + 1, self.head.last
        if expect is not None and expect != self.head.last:
            self.check(batch)
            if expect < self.head.last and self._stands(batch, expect):
                return expect + 1, expect + len(batch)
            raise Conflict(self.feed.name, expect, self.head.last)
        first = self.head.last + 1
        self._write(batch, seal=seal, checked=checked)
        return first, self.head.last

    def _stands(self, batch: Sequence[Observed], after: int) -> bool:
        found = list(self._reader.entries(after, after + len(batch)))
        return len(found) == len(batch) and all(entry.same(given) for entry, given in zip(found, batch, strict=True))

    def _write(self, batch: Sequence[Observed], *, seal: bool, checked: bool) -> None:
        """Everything is validated, and the records are made, before the first row is touched."""
        tail = [*self.tail, *batch]
        records: list[tuple[codec.Record, Pings]] = []
        start = 0
        try:
            controls = codec.controls_among(batch)
            for _place, entry in () if checked else controls:
                codec.check(entry, "an entry")
            while seal and (size := self._due(tail, start)):
                records.append(self._make(self.head.sealed + 1 + start, tail[start : start + size]))
                self._check_texts(records[-1][0].pings.contexts)
                start += records[-1][0].count
            rest = [] if checked else [entry for entry in tail[max(start, len(self.tail)) :] if entry.event.__class__ in _PINGS]
            if len(rest) > _FEW:
                self._check_texts(arrange(rest, 1, ()).block.contexts)
            else:
                for entry in rest:
                    codec.check(entry, "an entry")
        except (EventRefused, TypeError, ValueError, OverflowError, AttributeError):
            self.check(batch)  # names the culprit
            raise
        written, stood = self.head.last, bool(self.tail)
        self._insert_controls(written + 1, controls)
        place = 0
        for record, pings in records:
            self._insert_record(record, pings, tail[place : place + record.count])
            place += record.count
        fresh = max(start, len(self.tail))
        self.tail = [*tail[start:fresh], *map(_as_stored, tail[fresh:])]
        self._clear = len(self.tail) if seal else max(0, self._clear - start)  # it was looked through to its end, or not
        if records and stood:
            self._cover(written)
        begin = max(written, self.head.sealed) + 1
        self._insert_open(begin, self.tail[begin - self.head.sealed - 1 :])
        self._set_head(last=written + len(batch))

    def _due(self, tail: Sequence[Observed], start: int) -> int:
        """How many entries from `start` on form a record now; 0 if none. `tail` begins with the open part."""
        window = tail[start : start + RECORD_ENTRIES]
        if self.feed.ledger_key is not None:
            known = max(0, self._clear - start)
            for place, entry in enumerate(window[known:], known + 1):
                if entry.event.__class__ in SEALING:
                    return place
        return len(window) if len(window) == RECORD_ENTRIES else 0

    def _make(self, first: int, entries: Sequence[Observed]) -> tuple[codec.Record, Pings]:
        """The record of these entries, or of as many of them as its limit of bytes allows."""
        while True:
            record, pings = codec.arrange_record(first, entries)
            size = len(codec.encode_record(record))
            if size <= codec.RECORD_MAX_BYTES:
                return record, pings
            entries = entries[: max(1, min(len(entries) - 1, len(entries) * codec.RECORD_MAX_BYTES // size))]

    def seal(self) -> bool:
        """Seal the open part, as at a stop, within the caller's transaction. Whether there was anything to seal."""
        if not self.tail:
            return False
        self._clear = 0
        while self.tail:
            record, pings = self._make(self.head.sealed + 1, self.tail)
            self._insert_record(record, pings, self.tail)
            self.tail = self.tail[record.count :]
        self._cover(self.head.last)
        self._set_head(last=self.head.last)
        return True

    def take(self, given: codec.Record | codec.Opened) -> None:
        """Take in a record that the feed's origin sealed, within the caller's transaction. It begins where the sealed
        part ends, and may cover a part of the open entries, or more than all of them.

        Raises Damaged if it is not what its entries make or holds what no append would take, Forked if it contradicts
        an open entry.
        """
        record, entries, pings = given if isinstance(given, codec.Opened) else self._opened(given)
        if record.first != self.head.sealed + 1:
            raise Damaged(
                f"a record begins at #{record.first}, the feed's sealed part ends at #{self.head.sealed}",
                position=self.feed.name,
            )
        try:
            self._check_texts(record.pings.contexts)
            for _place, entry in codec.controls_among(entries):
                codec.check(entry, "an entry")
        except (EventRefused, TypeError, ValueError, OverflowError) as error:
            raise self._unlikely(record, error) from None
        for index, (mine, theirs) in enumerate(zip(self.tail, entries, strict=False), record.first):
            if mine != theirs:
                raise Forked(self.feed.at(index), ("the open part", "a record"))
        last = self.head.sealed + record.count
        held = self.head.last
        self._insert_controls(held + 1, codec.controls_among(entries[held - self.head.sealed :]))
        self._insert_record(record, pings, entries)
        if self.tail:
            self.tail = self.tail[record.count :]
            self._clear = max(0, self._clear - record.count)
            self._cover(held)
        self._set_head(last=max(last, held))

    def _opened(self, record: codec.Record) -> codec.Opened:
        """A record with what it holds. Raises Damaged if it is not what its entries make."""
        entries = codec.open_record(record)
        try:
            made, pings = codec.arrange_record(record.first, entries)
        except (EventRefused, TypeError, ValueError, OverflowError) as error:
            raise self._unlikely(record, error) from None
        if made != record:
            raise Damaged("a record that its own entries do not make", position=self.feed.at(record.first))
        return codec.Opened(record, entries, pings)

    def _unlikely(self, record: codec.Record, error: Exception) -> Damaged:
        return Damaged(f"a record that no ledger would write: {error}", position=self.feed.at(record.first))

    # Rows.

    def _insert_controls(self, first: int, controls: Sequence[tuple[int, Observed]]) -> None:
        """Rows of control entries, each given with its place after the entry with index `first`."""
        found = []
        for place, entry in controls:
            event = entry.event
            raw = codec.encode_event(event)
            try:
                body: str | bytes = raw.decode()
            except UnicodeDecodeError:
                body = raw
            columns = (
                self.row,
                first + place,
                entry.at_ns,
                entry.boot,
                entry.mono_ns,
                event.kind,
                codec.version_of(event),
                body,
            )
            found.append((*columns, rows.row_sum(*columns)))
        if found:
            self.head = self.head.with_kinds(columns[5] for columns in found)
            self._many("insert into control values (?, ?, ?, ?, ?, ?, ?, ?, ?)", found)

    def _cover(self, last: int) -> None:
        """Take away the open rows that begin within the sealed part. What of them goes beyond it, up to index `last` at
        most, stands in rows anew; rows that begin beyond it stay.
        """
        sealed = self.head.sealed
        self._run("delete from open where feed = ? and first <= ?", (self.row, sealed))
        kept = self._run("select min(first) from open where feed = ?", (self.row,)).fetchone()[0]
        until = last if kept is None else kept - 1
        self._insert_open(sealed + 1, self.tail[: max(0, until - sealed)])

    def _insert_open(self, first: int, batch: Sequence[Observed]) -> None:
        """Runs of pings, a row each; control entries stand in their own rows."""
        run: list[Observed] = []
        for index, entry in enumerate([*batch, None], first):
            if entry is not None and entry.event.__class__ in _PINGS:
                run.append(entry)
            elif run:
                walls = [ping.at_ns for ping in run]
                lost = sum(type(ping.event) is PingFailed for ping in run)
                columns = (self.row, index - len(run), index - 1, min(walls), max(walls), lost, rows.encode_open(run))
                self._run("insert into open values (?, ?, ?, ?, ?, ?, ?, ?)", (*columns, rows.row_sum(*columns)))
                run = []

    def _number(self, context: Context) -> int:
        number = self._contexts.get(context)
        if number is None:
            number = self._contexts[context] = len(self._contexts)
            columns = (self.row, number, rows.encode_context(context))
            self._run("insert into context values (?, ?, ?, ?)", (*columns, rows.row_sum(*columns)))
        return number

    def _insert_record(self, record: codec.Record, pings: Pings, entries: Sequence[Observed]) -> None:
        """The row of the record that the first of `entries` make; its control entries have theirs already, or get them in the
        same transaction.
        """
        block, head = record.pings, self.head
        numbers = [self._number(context) for context in block.contexts]
        groups = pings.groups() if block.count else []
        origin, directory, body = rows.encode_body(block, numbers, groups, record.first)
        low, high, steady = _span(entries[: record.count], head.peak_ns)
        leaf = codec.leaf_of(record)
        peak = high if head.peak_ns is None else max(high, head.peak_ns)
        lost = sum(group.count for group in groups if group.reason is not None)
        columns = (
            self.row, head.records + 1, record.first, record.first + record.count - 1, block.count, lost, low, high,
            head.peak_ns, peak, steady, origin, head.chain, leaf, rows.body_sum(body), directory,
        )  # fmt: skip
        self._run(
            "insert into record (feed, n, first, last, pings, lost, low_ns, high_ns, before_ns, peak_ns, steady, "
            "origin_ns, prior, leaf, closed, directory, sum, body) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*columns, rows.row_sum(*columns), body),
        )
        self._frontier.append(leaf)
        self.head = msgspec.structs.replace(
            head, records=head.records + 1, sealed=head.sealed + record.count, peak_ns=peak,
            chain=rows.chain_after(head.chain, leaf), frontier=b"".join(self._frontier.hashes),
            contexts=len(self._contexts),
        )  # fmt: skip

    def keep_evidence(self, count: int) -> None:
        """Say in the head that so many rows more hold branches, within the caller's transaction."""
        self.head = msgspec.structs.replace(self.head, evidence=self.head.evidence + count)
        self._set_head(self.head.last)

    def _set_head(self, last: int) -> None:
        self.head = msgspec.structs.replace(self.head, last=last)
        columns = (self.row, *msgspec.structs.astuple(self.head))
        self._run("insert or replace into head values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*columns, rows.row_sum(*columns)))


def _as_stored(entry: Observed) -> Observed:
    """An entry as it is read again: a failed ping, whose reason is left out of its bytes if it is the very
    object that stands there by default, but not if it is an equal one.
    """
    return rows.decode_open(rows.encode_open([entry]))[0] if type(entry.event) is PingFailed else entry


def _span(entries: Sequence[Observed], before: int | None) -> tuple[int, int, int]:
    """Least and greatest wall clock of a record's entries, and whether the clock never went back in it nor behind `before`."""
    walls = [entry.at_ns for entry in entries]
    steady = all(map(le, walls, walls[1:])) and (before is None or walls[0] >= before)
    return (walls[0], walls[-1], 1) if steady else (min(walls), max(walls), 0)
