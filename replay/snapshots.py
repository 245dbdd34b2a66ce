"""Saved folds, so that a moment long ago need not be folded from the beginning.

Beside `FILE` may lie `FILE.snap`: for each feed, its `FeedState` after every few records. A snapshot names its basis (the
chain after the last record it folds) and is used only where the ledger has that very chain there; all of them are void
once the fold's *fingerprint*, a digest of the source of everything that decides what a state is, is another. So they are
disposable: thrown away, nothing changes but the time an answer takes. They are written after an import, a merge and by
a running node; a question never writes one.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ledger import rows
from ledger.errors import Damaged, LedgerError
from ledger.feeds import FeedReader
from ledger.identity import Feed
from ledger.opening import translate
from ledger.store import Ledger
from projections.feed_state import FeedState
from replay import saved
from replay.folding import fold_record

EVERY_RECORDS: Final = 1
"""With a base at hand a state takes little room: one after each record, and a moment folds hardly more than its own."""
BASE_RECORDS: Final = 8
"""States of so many records are deflated against the first of them."""

_DECIDING: Final = (
    "ledger.blocks", "ledger.codec", "ledger.context_rows", "ledger.cutting", "ledger.entry", "ledger.events",
    "ledger.feeds", "ledger.gathering", "ledger.heads", "ledger.instants", "ledger.planes", "ledger.row_reader",
    "ledger.rows", "ledger.unpacking", "ledger.values", "projections.acts", "projections.feed_state", "projections.links",
    "projections.pings", "projections.records", "projections.several", "replay.folding", "replay.saved",
    "replay.snapshots",
)  # fmt: skip
_TABLES: Final = (
    "feed (id integer primary key, fid text not null unique)",
    "names (id integer primary key, sum blob not null, body blob not null)",
    "base (id integer primary key, sum blob not null, body blob not null)",
    "snap (id integer primary key, n integer, basis blob, names integer, base integer, sum blob not null, body blob not null)",
)
"""The ids of `names`, `base` and `snap` are the feed's, 32 bits up, and a number: so they need no index."""
_FOUND: Final = (
    "select s.n, s.basis, s.names, s.base, s.body, s.sum, b.body, b.sum from snap s join base b on b.id = s.base where s.id = "
    "(select max(id) from snap where id between (select id << 32 from feed where fid = ?1) "
    "and (select (id << 32) + ?2 from feed where fid = ?1))"
)


@cache
def fingerprint() -> str:
    """A digest of the source that decides what a saved state is."""
    import importlib.util

    digest = sha256()
    for name in _DECIDING:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # no source at hand: no snapshot is ever trusted
            return os.urandom(8).hex()
        digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()


def path_of(ledger: Path) -> Path:
    """Where the snapshots of a ledger lie."""
    return ledger.with_name(ledger.name + ".snap")


class Snapshots:
    """The snapshots beside one ledger, opened to read; none if the file is missing, foreign, damaged or void."""

    def __init__(self, ledger: Path) -> None:
        self._connection: sqlite3.Connection | None = None
        self._names: dict[int, saved.Names] = {}
        path = path_of(ledger)
        if not path.is_file():
            return
        with suppress(sqlite3.Error, OSError):
            connection = sqlite3.connect(
                f"file:{quote(os.fsencode(path.resolve()))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("pragma trusted_schema=off")
                found = connection.execute("select value from meta where key = 'fingerprint'").fetchone()
            except sqlite3.Error:
                connection.close()
                return
            if found is None or found[0] != fingerprint():
                connection.close()
                return
            self._connection = connection

    def before(self, reader: FeedReader, records: int) -> tuple[int, bytes, FeedState] | None:
        """The latest saved state of a feed that folds at most `records` records: their number, the basis, the state.

        Raises Damaged if the row was changed since it was written.
        """
        if self._connection is None or not records:
            return None
        try:
            found = self._connection.execute(_FOUND, (reader.feed.id, records)).fetchone()
            if found is None:
                return None
            if type(found[0]) is not int or found[0] > records or not _whole(reader.feed.id, found):
                raise self._damaged(reader, "a snapshot is not what was written")
            names = self._names.get(found[2])
            if names is None:
                names = self._names[found[2]] = _names(self._connection, reader.feed.id, found[2])
            state = _state(found, names, reader.feed)
        except sqlite3.Error as error:
            raise self._damaged(reader, str(error)) from None
        except saved.UNREADABLE:
            raise self._damaged(reader, "a snapshot does not decode") from None
        return found[0], found[1], state

    def _damaged(self, reader: FeedReader, what: str) -> Damaged:
        return Damaged(what, position=reader.feed.name, hint="remove the .snap file: nothing is lost but time")

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _whole(fid: str, found: tuple[Any, ...]) -> bool:
    """Whether a row of `_FOUND`, of the snapshot and of its base, is what was written."""
    n, basis, names, base, body, stored, first, first_stored = found
    return bool(rows.row_sum(fid, n, basis, names, base, body) == stored and rows.row_sum(fid, base, first) == first_stored)


def _names(connection: sqlite3.Connection, fid: str, number: int) -> saved.Names:
    """The names with this number. Raises ValueError, or another of `saved.UNREADABLE`, if they are not what was written."""
    body, stored = connection.execute("select body, sum from names where id = ?", (number,)).fetchone()
    if rows.row_sum(fid, number, body) != stored:
        raise ValueError
    return saved.unpack_names(saved.inflate(body, b""))


def _state(found: tuple[Any, ...], names: saved.Names, feed: Feed) -> FeedState:
    return saved.unpack(names, saved.inflate(found[4], found[6]), feed)


def write(path: Path) -> int:
    """Save the states that are missing for a ledger file; how many were written.

    The file is made anew if it is void, and left out where the folder cannot be written: then there is none.
    """
    with Ledger.open(path) as ledger:
        try:
            connection = _prepare(path_of(path))
        except (sqlite3.Error, OSError) as error:
            raise translate(error, str(path_of(path))) from None
        try:
            connection.execute("begin immediate")
            written = sum(_write_feed(connection, ledger.reader(feed)) for feed in ledger.feeds())
            connection.execute("commit")
        except sqlite3.Error as error:
            raise translate(error, str(path_of(path))) from None
        finally:
            connection.close()
    return written


def write_quietly(path: Path) -> int:
    """The same where snapshots are a convenience: 0 if they cannot be written."""
    try:
        return write(path)
    except LedgerError:
        with suppress(OSError):
            path_of(path).unlink()
        return 0


def _prepare(path: Path) -> sqlite3.Connection:
    for _attempt in range(2):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("pragma page_size=2048")
            connection.execute("pragma journal_mode=delete")
            connection.execute("pragma synchronous=off")  # disposable: a torn one fails its sums
            connection.execute("create table if not exists meta (key text primary key, value text not null) without rowid")
            for table in _TABLES:
                connection.execute(f"create table if not exists {table}")
            found = connection.execute("select value from meta where key = 'fingerprint'").fetchone()
            if found is None:
                connection.execute("insert into meta values ('fingerprint', ?)", (fingerprint(),))
                return connection
            if found[0] == fingerprint():
                return connection
        except sqlite3.Error:
            connection.close()
            path.unlink()
            continue
        connection.close()
        path.unlink()
    raise sqlite3.OperationalError("unable to open database file")


def _write_feed(connection: sqlite3.Connection, reader: FeedReader) -> int:
    """One feed's missing states, taking up from the last that still fits."""
    timeline = reader.timeline()
    written, after, state = 0, 0, FeedState(reader.feed)
    fid, run = reader.feed.id, connection.execute
    number, told, base, dictionary = -1, b"", -1, b""
    last = run(_FOUND, (fid, reader.head().records)).fetchone()
    if last is not None and not timeline.stretches and _whole(fid, last) and reader.record(last[0]).chain == last[1]:
        after, number, base, dictionary = last[0], last[2], last[3], last[6]
        state = _state(last, _names(connection, fid, number), reader.feed)
        told = saved.pack(state)[0]
        row = int(run("select id from feed where fid = ?", (fid,)).fetchone()[0]) << 32
        run("delete from snap where id > ? and id < ?", (row + after, row + (1 << 32)))
    else:
        row = _begun(connection, fid)
    if timeline.stretches:
        return 0  # a later step may disown entries that a state has folded: such feeds are folded anew
    for record in reader.records(after):
        fold_record(state, reader, record, timeline)
        if record.n % EVERY_RECORDS == 0:
            names, whole = saved.pack(state)
            if names != told:
                number, told = row + record.n, names
                names = saved.deflate(names, b"")
                run("insert or replace into names values (?, ?, ?)", (number, rows.row_sum(fid, number, names), names))
            if row + record.n // BASE_RECORDS != base:
                base, dictionary = row + record.n // BASE_RECORDS, whole
                run("insert or replace into base values (?, ?, ?)", (base, rows.row_sum(fid, base, whole), whole))
            columns = (record.n, record.chain, number, base, saved.deflate(whole, dictionary))
            run(
                "insert into snap values (?, ?, ?, ?, ?, ?, ?)",
                (row + record.n, *columns[:4], rows.row_sum(fid, *columns), columns[4]),
            )
            written += 1
    return written


def _begun(connection: sqlite3.Connection, fid: str) -> int:
    """What the ids of a feed's rows are above, its old rows taken away."""
    run = connection.execute
    run("insert or ignore into feed (fid) values (?)", (fid,))
    row = int(run("select id from feed where fid = ?", (fid,)).fetchone()[0]) << 32
    for table in ("snap", "base", "names"):
        run(f"delete from {table} where id >= ? and id < ?", (row, row + (1 << 32)))
    return row
