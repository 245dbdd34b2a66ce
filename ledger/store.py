"""Kept: `Ledger`, one SQLite file that holds one or many feeds of one incarnation.

    with Ledger.create("alpha.ledger", incarnation=...) as ledger:
        ledger.open_feed("alpha", at=now)
        receipt = ledger.append(LinkLost("bravo", "timeout"), observer="alpha", at=now)

An append that returned is on stable storage (WAL, `synchronous=FULL`, read back at open). One that failed may or may not
have happened: repeat it with the same entries and the same `expect`. What may be written is decided in `writer`, what may
be believed in `feeds`, how a file is opened in `opening`; this room ties them together and is the guest's door.
No clock here: instants are arguments.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from ledger import codec, rows
from ledger.entry import Entry, Observed, Opaque
from ledger.errors import Damaged, Refused, Unwritable, WrongIncarnation
from ledger.events import Event, FeedOpened
from ledger.feeds import FeedReader
from ledger.heads import Head
from ledger.identity import Feed, feed_id, machine_name
from ledger.instants import instant_ns
from ledger.locking import Writing
from ledger.opening import SPOKEN, Reading, translate
from ledger.scan import Scan, scan
from ledger.watching import Watch
from ledger.writer import RECORD_ENTRIES, FeedWriter

OUTERMOST: Final = ("begin immediate", "commit", ("rollback",))
NESTED: Final = ("savepoint nested", "release nested", ("rollback to nested", "release nested"))
"""How a transaction begins, ends, and is taken back; a savepoint that is rolled back to stands until it is released."""


class Receipt(msgspec.Struct, frozen=True):
    """Where an append stands: the feed, and the indexes of its first and last entry."""

    feed: Feed
    first: int
    last: int

    @property
    def positions(self) -> list[str]:
        """The position of each entry appended."""
        return [self.feed.at(index) for index in range(self.first, self.last + 1)]


class Branch(msgspec.Struct, frozen=True):
    """One side of a fork, kept as evidence: its records from the first that is not shared, and its open entries."""

    name: str
    records: tuple[bytes, ...]
    tail: tuple[Observed, ...]
    first: int


class Ledger:
    """A ledger file, opened. `path` is where it lies, `incarnation` the one it holds (None while it holds nothing)."""

    def __init__(self, opened: Reading | Writing) -> None:
        self._opened = opened
        self._connection = opened.connection
        self.path = opened.path
        self._readers: dict[str, FeedReader] = {}
        self._writers: dict[str, FeedWriter] = {}
        self._held: list[Feed] | None = None  # the feeds, where this is the writer: nobody else adds one
        self._depth = 0
        self.watch = Watch(self._connection)

    @classmethod
    def open(cls, path: str | Path, *, write: bool = False) -> Self:
        """Open a ledger: to read, touching nothing, or to write, as its one writer.

        Raises NotALedger, Newer, Older, Damaged, Locked or Unwritable.
        """
        return cls(Writing(path, create=False) if write else Reading(path))

    @classmethod
    def create(cls, path: str | Path, *, incarnation: str | None = None) -> Self:
        """Open a ledger to write, making the file (mode 0600) if it is not there or is empty.

        Raises WrongIncarnation if it holds another, and what `open` raises.
        """
        ledger = cls(Writing(path, create=True))
        try:
            if incarnation is not None:
                ledger._hold(incarnation, str(path))
        except BaseException:
            ledger.close()
            raise
        return ledger

    @property
    def writable(self) -> bool:
        """Whether this is the writer."""
        return isinstance(self._opened, Writing)

    @property
    def incarnation(self) -> str | None:
        """The incarnation whose feeds the file holds."""
        with self._said():
            found = self._connection.execute("select value from meta where key = 'incarnation'").fetchone()
        return found[0] if found else None

    def close(self) -> None:
        """Close the file; a writer leaves it so that it opens on any medium."""
        if isinstance(self._opened, Writing):
            self._opened.end()
        else:
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # Reading.

    def feeds(self) -> list[Feed]:
        """The feeds held, by machine and epoch. Raises Damaged if a row states what it cannot be."""
        if self._held is not None:
            return self._held[:]
        with self._said():
            rows_of = "select id, fid, machine, epoch, incarnation, ledger_key, sum from feed order by machine, epoch, fid"
            found = self._connection.execute(rows_of).fetchall()
            # In one statement: beside a live writer, two would speak of two moments.
            counts = "select (select count(*) from feed), (select count(*) from head)"
            feeds, heads = self._connection.execute(counts).fetchone()
        if feeds != heads or feeds < len(found):
            raise Damaged(f"{self.path}: {feeds} feeds, {heads} heads: a row is missing")
        incarnation = self.incarnation if found else None
        result = []
        for row, fid, machine, epoch, named, key, stored in found:
            written = rows.row_sum(row, fid, machine, epoch, named, key) == stored
            if not written or feed_id(named, machine, epoch, key) != fid or named != incarnation:
                raise Damaged("the feed's row is not what was written", position=str(machine))
            feed = Feed(machine, epoch, fid, named, key)
            if fid not in self._readers:
                self._readers[fid] = FeedReader(self._connection, row, feed, own=self.writable, watch=self.watch)
            result.append(feed)
        self._held = list(result) if self.writable else None
        return result

    def feed(self, observer: str | Feed) -> Feed:
        """The feed meant by a feed, its id, or its name (`alpha`: the newest epoch; `alpha.2`). Raises Refused if none."""
        named = observer.id if isinstance(observer, Feed) else observer
        if isinstance(observer, Feed) and self._held is not None and named in self._readers:
            return observer  # asked at each step, and by the writer alone
        held = self.feeds()
        found = [feed for feed in held if named in {feed.id, feed.machine, f"{feed.machine}.{feed.epoch}"}]
        if not found:
            names = ", ".join(feed.name for feed in held) or "none"
            raise Refused(f"{self.path}: no feed of {getattr(observer, 'name', observer)}", hint=f"it holds the feeds of {names}")
        return found[-1]

    def reader(self, feed: Feed) -> FeedReader:
        """The reader of a feed's rows."""
        return self._readers[feed.id] if feed.id in self._readers else self._readers[self.feed(feed).id]

    def head(self, observer: str | Feed) -> Head:
        """How far a feed goes."""
        return self.reader(self.feed(observer)).head()

    def read(self, observer: str | Feed | None = None, *, after: int = 0, until: int | None = None) -> Iterator[Entry]:
        """The entries of one feed with indexes in (after, until], in order; of every feed, one after another, if none is
        named. Raises Damaged, naming the position, before it would yield anything that was not written.
        """
        with self._said():
            for feed in self.feeds() if observer is None else [self.feed(observer)]:
                yield from self.reader(feed).entries(after, until)

    def branches(self, feed: Feed) -> list[Branch]:
        """The sides of a fork, if the feed is contradicted; else none."""
        found: dict[str, list[tuple[int, int, bytes]]] = {}
        row = self.reader(feed).row
        with self._said():
            selected = self._connection.execute(
                "select branch, seq, first, last, sealed, body, sum from branch where feed = ? order by branch, seq",
                (row,),
            ).fetchall()
        if len(selected) != self.reader(feed).head().evidence:
            raise Damaged("a fork's evidence is not whole", position=feed.name)
        for branch, seq, first, last, sealed, body, stored in selected:
            if rows.row_sum(row, branch, seq, first, last, sealed, body) != stored:
                raise Damaged("a fork's evidence is not what was written", position=feed.at(first))
            found.setdefault(branch, []).append((first, sealed, body))
        return [
            Branch(
                name,
                tuple(body for _first, sealed, body in parts if sealed),
                tuple(o for _first, sealed, body in parts if not sealed for o in codec.open_record(codec.decode_record(body))),
                parts[0][0],
            )
            for name, parts in found.items()
        ]

    def signatures(self, feed: Feed) -> list[tuple[int, str]]:
        """The signed heads held of a feed: number of records and the note's text."""
        row = self.reader(feed).row
        with self._said():
            found = self._connection.execute(
                "select records, note, sum from signature where feed = ? order by records, note", (row,)
            ).fetchall()
        if any(rows.row_sum(row, records, note) != stored for records, note, stored in found):
            raise Damaged("a signed head is not what was written", position=feed.name)
        return [(records, note) for records, note, _stored in found]

    def quarantined(self) -> Iterator[tuple[str, int | None, str, bytes]]:
        """What imports refused, outside the log, in an order of its own: source, line, why, and the bytes."""
        with self._said():
            query = "select source, line, why, raw from quarantine order by source, line, why, raw"
            for row in self._connection.execute(query):  # noqa: UP028 - `yield from` would close a cursor too late
                yield row

    def scan(self) -> Scan:
        """The check of the file as a file: strays, SQLite's own structure, rows for other tools. Raises nothing."""
        return scan(self._connection)

    # Writing.

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything within stands, or nothing of it. Nested, it stands as the transaction around it does, and that one can go on
        where nothing of it does.
        """
        if not self.writable:
            raise Refused(f"{self.path}: opened to read", hint="open it with write=True")
        if self._depth and not self._connection.in_transaction:  # SQLite does so where a medium refuses in the midst of it
            raise Unwritable(f"{self.path}: the transaction around this one was taken back")
        begin, end, back = NESTED if self._depth else OUTERMOST
        self._depth += 1
        try:
            with self._said(sqlite3.Error):  # what else a guest's own code raises is the guest's
                self._connection.execute(begin)
                yield
                self._connection.execute(end)
        except BaseException:
            self._undo(*back)
            raise
        finally:
            self._depth -= 1

    def _undo(self, *how: str) -> None:
        """Take back rows, and with them all that is remembered of rows."""
        while self._writers:
            self._writers.popitem()[1].forget()
        self._readers.clear()
        self._held = None
        if self._connection.in_transaction:
            for statement in how:
                self._connection.execute(statement)

    @contextmanager
    def _said(self, *spoken: type[sqlite3.Error | UnicodeError]) -> Iterator[None]:
        """What SQLite says within, said as one of our errors. `spoken`: the classes of it, by default all."""
        spoken = spoken or SPOKEN
        try:
            yield
        except spoken as error:
            raise translate(error, str(self.path)) from error

    def _hold(self, incarnation: str, where: str) -> None:
        held = self.incarnation
        if held is None:
            with self.transaction():
                self._connection.execute("insert into meta values ('incarnation', ?)", (incarnation,))
        elif held != incarnation:
            raise WrongIncarnation(held, incarnation, where)

    def add_feed(self, feed: Feed, where: str = "this feed") -> FeedWriter:
        """The writer of a feed, which is made known to the ledger if it was not. Raises WrongIncarnation."""
        writer = self._writers.get(feed.id)
        if writer is not None:
            return writer
        if all(held != feed for held in self.feeds()):
            with self.transaction():
                self._hold(feed.incarnation, where)
                run = self._connection.execute
                row = run("select coalesce(max(id), 0) + 1 from feed").fetchone()[0]
                columns = (row, feed.id, feed.machine, feed.epoch, feed.incarnation, feed.ledger_key)
                run("insert into feed values (?, ?, ?, ?, ?, ?, ?)", (*columns, rows.row_sum(*columns)))
                head = (row, *msgspec.structs.astuple(Head()))
                run("insert into head values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*head, rows.row_sum(*head)))
            self._held = None
        writer = self._writers[feed.id] = FeedWriter(self._connection, self.reader(feed))
        return writer

    def open_feed(
        self,
        machine: str,
        *,
        at: int | datetime,
        epoch: int = 1,
        ledger_key: str | None = None,
        incarnation: str | None = None,
    ) -> Feed:
        """Begin a machine's feed with its `feed.opened`, or find it begun already. Returns the feed."""
        incarnation = incarnation or self.incarnation
        if incarnation is None:
            raise Refused(f"{self.path}: holds no incarnation yet", hint="give incarnation=…")
        feed = Feed.of(incarnation, machine_name(machine), epoch, ledger_key)
        opened = FeedOpened(feed.incarnation, feed.machine, feed.epoch, feed.ledger_key)
        with self.transaction():
            if self.add_feed(feed).head.last == 0:
                self.append(Observed(instant_ns(at), opened), observer=feed)
        return feed

    def append(
        self,
        events: Event | Opaque | Observed | Sequence[Event | Opaque | Observed],
        *,
        observer: str | Feed,
        at: int | datetime | None = None,
        boot: int | None = None,
        mono_ns: int | None = None,
        expect: int | None = None,
        seal: bool = True,
        checked: bool = False,
    ) -> Receipt:
        """Append to a feed: all of the batch stands when this returns, or nothing does if it raises EventRefused.

        `at` (nanoseconds UTC, or an aware datetime), `boot` and `mono_ns` apply to events that come bare; an `Observed`
        has its own. `expect`: the index after which the batch belongs; the same entries there already are no error but
        the first receipt, anything else raises Conflict. `seal=False`: its origin seals. `checked`: `codec.check` took it.
        """
        given = [events] if isinstance(events, (Event, Opaque, Observed)) else events
        observed = all(kind is Observed for kind in set(map(type, given)))
        batch: list[Any] = list(given) if observed else []
        for event in () if observed else given:
            if isinstance(event, Observed):
                batch.append(event)
            elif at is None:
                raise Refused("an event needs its instant", hint="give at=…, or an Observed")
            else:
                batch.append(Observed(instant_ns(at), event, boot, mono_ns))
        feed = observer if isinstance(observer, Feed) else self.feed(observer)
        known = self._writers.get(feed.id)
        try:
            with self.transaction():
                writer = self.add_feed(feed)
                first, last = writer.append(batch, expect, seal=seal, checked=checked)
        except Refused:
            if known is not None:
                self._writers[feed.id] = known  # nothing was touched
            raise
        return Receipt(feed, first, last)

    def seal(self, observer: str | Feed) -> bool:
        """Seal a feed's open part, as its origin does at a stop. Whether there was anything to seal."""
        with self.transaction():
            return self.add_feed(self.feed(observer)).seal()

    def take(self, feed: Feed, record: codec.Record | codec.Opened) -> None:
        """Take in a record that the feed's origin sealed, opened if it is so already. Raises Damaged or Forked (see `writer`)."""
        with self.transaction():
            self.add_feed(feed).take(record)

    def keep_branch(self, feed: Feed, branch: Branch) -> None:
        """Keep one side of a fork as evidence."""
        with self.transaction():
            writer = self.add_feed(feed)
            bodies = [(body, 1) for body in branch.records]
            first = branch.first
            begin = first + sum(codec.decode_record(body).count for body in branch.records)
            for start in range(0, len(branch.tail), RECORD_ENTRIES):
                part = codec.make_record(begin + start, branch.tail[start : start + RECORD_ENTRIES])
                bodies.append((codec.encode_record(part), 0))
            for seq, (body, sealed) in enumerate(bodies, 1):
                count = codec.decode_record(body).count
                columns = (writer.row, branch.name, seq, first, first + count - 1, sealed, body)
                self._connection.execute("insert into branch values (?, ?, ?, ?, ?, ?, ?, ?)", (*columns, rows.row_sum(*columns)))
                first += count
            writer.keep_evidence(len(bodies))

    def keep_signature(self, feed: Feed, records: int, note: str) -> None:
        """Keep a signed head beside the records that it covers."""
        with self.transaction():
            columns = (self.add_feed(feed).row, records, note)
            self._connection.execute("insert or ignore into signature values (?, ?, ?, ?)", (*columns, rows.row_sum(*columns)))

    def quarantine(self, source: str, line: int | None, why: str, raw: bytes) -> None:
        """Keep what an import refused, outside the log."""
        refused = (source, line, why, raw)
        with self.transaction():
            self._connection.execute("insert into quarantine (source, line, why, raw) values (?, ?, ?, ?)", refused)
