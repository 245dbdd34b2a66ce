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
import zlib
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from ledger import rows
from ledger.errors import Damaged, LedgerError
from ledger.feeds import FeedReader
from ledger.opening import translate
from ledger.store import Ledger
from projections.feed_state import FeedState
from replay.folding import fold_record

EVERY_RECORDS: Final = 2
"""A trade: a state each record takes twice the room, one each fourth leaves more records to fold for a moment."""

_DECIDING: Final = (
    "ledger.blocks", "ledger.codec", "ledger.entry", "ledger.events", "ledger.feeds", "ledger.heads", "ledger.instants",
    "ledger.planes", "ledger.row_reader", "ledger.rows", "ledger.unpacking", "projections.acts", "projections.feed_state",
    "projections.links", "projections.pings", "projections.records", "replay.folding", "replay.snapshots",
)  # fmt: skip
_DECODER: Final = msgspec.msgpack.Decoder(FeedState)
_ENCODER: Final = msgspec.msgpack.Encoder()


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
        path = path_of(ledger)
        if not path.is_file():
            return
        with suppress(sqlite3.Error, OSError):
            connection = sqlite3.connect(
                f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
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
            found = self._connection.execute(
                "select n, basis, body, sum from snap where fid = ? and n <= ? order by n desc limit 1",
                (reader.feed.id, records),
            ).fetchone()
        except sqlite3.Error as error:
            raise self._damaged(reader, str(error)) from None
        if found is None:
            return None
        n, basis, body, stored = found
        if rows.row_sum(reader.feed.id, n, basis, body) != stored or n > records:
            raise self._damaged(reader, "a snapshot is not what was written")
        try:
            state = _DECODER.decode(zlib.decompress(body))
        except (msgspec.MsgspecError, ValueError, zlib.error):
            raise self._damaged(reader, "a snapshot does not decode") from None
        state.feed = reader.feed
        return n, basis, state

    def _damaged(self, reader: FeedReader, what: str) -> Damaged:
        return Damaged(what, position=reader.feed.name, hint="remove the .snap file: nothing is lost but time")

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


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
            connection.execute("pragma page_size=1024")
            connection.execute("pragma journal_mode=delete")
            connection.execute("pragma synchronous=off")  # disposable: a torn one fails its sums
            connection.execute("create table if not exists meta (key text primary key, value text not null) without rowid")
            connection.execute(
                "create table if not exists snap (id integer primary key, fid text not null, n integer not null, "
                "basis blob not null, sum blob not null, body blob not null)"
            )
            connection.execute("create unique index if not exists snap_number on snap (fid, n)")
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
    last = connection.execute(
        "select n, basis, body, sum from snap where fid = ? order by n desc limit 1", (reader.feed.id,)
    ).fetchone()
    if last is not None:
        n, basis, body, stored = last
        fits = rows.row_sum(reader.feed.id, n, basis, body) == stored and n <= reader.head().records
        if fits and not timeline.stretches and reader.record(n).chain == basis:
            after, state = n, _DECODER.decode(zlib.decompress(body))
            state.feed = reader.feed
        else:
            connection.execute("delete from snap where fid = ?", (reader.feed.id,))
    if timeline.stretches:
        return 0  # a later step may disown entries that a state has folded: such feeds are folded anew
    for record in reader.records(after):
        fold_record(state, reader, record, timeline)
        if record.n % EVERY_RECORDS == 0:
            body = zlib.compress(_ENCODER.encode(state), 6)
            columns = (reader.feed.id, record.n, record.chain, body)
            connection.execute(
                "insert into snap (fid, n, basis, body, sum) values (?, ?, ?, ?, ?)", (*columns, rows.row_sum(*columns))
            )
            written += 1
    return written
