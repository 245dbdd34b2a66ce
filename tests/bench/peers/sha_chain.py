"""The usual way to make a log tamper-evident: a chain of SHA-256, event by event, beside rows in SQLite.

Each row keeps the event packed (numbers for names, MessagePack) and SHA-256 over the hash before it and these bytes; the
names have a chain of their own, numbered 0. `verify` reads all rows of each chain in order, hashes anew and compares:
the whole of what such a chain can promise, and no event is decoded.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence

import msgspec
from bench.peers.contestant import Contestant, Rows

from ledger.entry import Observed
from ledger.identity import Feed

NAMES = 0


class ShaChain(Contestant):
    """Rows (feed, idx, bytes, chain)."""

    name = "SHA-256 chain by event"

    def create(self, feeds: Sequence[Feed]) -> None:
        self.open()
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.execute(
            "CREATE TABLE event (feed INTEGER, idx INTEGER, bytes BLOB, chain BLOB, PRIMARY KEY (feed, idx)) WITHOUT ROWID"
        )
        self.rows = Rows(feeds)
        self.ends: dict[int, tuple[int, bytes]] = {}
        self.encode = msgspec.msgpack.Encoder().encode

    def chained(self, number: int, things: Iterable[tuple]) -> list[tuple]:
        sha256, encode = hashlib.sha256, self.encode
        index, chain = self.ends.get(number, (0, b""))
        rows = []
        for thing in things:
            index += 1
            packed = encode(thing)
            chain = sha256(chain + packed).digest()
            rows.append((number, index, packed, chain))
        self.ends[number] = index, chain
        return rows

    def append(self, feed: Feed, entries: list[Observed]) -> None:
        rows = self.chained(self.rows.feeds[feed.id], self.rows.of(feed, entries))
        names = ((table, *new) for table, some in self.rows.fresh().items() for new in some)
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", rows)
        self.db.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", self.chained(NAMES, names))
        self.db.execute("COMMIT")

    def close(self) -> None:
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.db.close()

    def open(self) -> None:
        self.db = sqlite3.connect(self.folder / "chain.sqlite", isolation_level=None)

    def leave(self) -> None:
        self.db.close()

    def verify(self) -> int:
        sha256 = hashlib.sha256
        checked = 0
        for (feed,) in self.db.execute("SELECT DISTINCT feed FROM event").fetchall():
            before, expected = b"", 0
            for index, packed, chain in self.db.execute(
                "SELECT idx, bytes, chain FROM event WHERE feed = ? ORDER BY idx", (feed,)
            ):
                expected += 1
                before = sha256(before + packed).digest()
                if before != chain or index != expected:
                    raise ValueError(f"feed {feed} is broken at {index}")
            checked += expected if feed != NAMES else 0
        return checked
