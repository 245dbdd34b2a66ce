"""The peer to beat on the same ground: `sqlite3` of the standard library, one row an event.

Typed columns, integers for machines, links, feeds, boots and reasons (each in a table of its own), (feed, idx) unique as
the key of a WITHOUT ROWID table (a tenth smaller and quicker here than an index beside a rowid), WAL with
synchronous=FULL, one `executemany` a commit. Its whole state is one GROUP BY.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from bench.digest import State, Visited
from bench.peers.contestant import (
    ANSWERED_KIND,
    COLUMNS,
    DOWN_KINDS,
    FAILED_KIND,
    JOINED_KIND,
    LEFT_KIND,
    LINK_KINDS,
    UP_KIND,
    Contestant,
    Names,
    Rows,
)

from ledger.entry import Observed
from ledger.identity import Feed

DIMENSIONS = """
CREATE TABLE feed (id INTEGER PRIMARY KEY, name TEXT NOT NULL, incarnation TEXT, machine TEXT, epoch INTEGER, ledger_key TEXT);
CREATE TABLE machine (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE link (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE boot (id INTEGER PRIMARY KEY, name INTEGER NOT NULL);
CREATE TABLE reason (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
"""
EVENT_COLUMNS = """
    feed INTEGER NOT NULL, idx INTEGER NOT NULL, at_ns INTEGER NOT NULL, boot INTEGER, mono_ns INTEGER, kind INTEGER NOT NULL,
    peer INTEGER, number INTEGER, rtt_us INTEGER, link INTEGER, sent_us INTEGER, received_us INTEGER, replied_us INTEGER,
    returned_us INTEGER, peer_boot INTEGER, peer_feed INTEGER, held INTEGER, reason INTEGER, body TEXT
"""
INSERT = f"INSERT INTO event ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
PINGS = f"""
WITH p AS (
    SELECT feed, peer, max(idx) AS last, max(CASE WHEN kind = {ANSWERED_KIND} THEN idx END) AS good,
           count(*) AS sent, sum(kind = {FAILED_KIND}) AS lost
    FROM event WHERE kind IN ({ANSWERED_KIND}, {FAILED_KIND}) GROUP BY feed, peer)
SELECT p.feed, p.peer, p.last, l.kind, g.at_ns, g.rtt_us, p.sent, p.lost
FROM p JOIN event l ON l.feed = p.feed AND l.idx = p.last LEFT JOIN event g ON g.feed = p.feed AND g.idx = p.good
"""
LINKS = f"""
SELECT feed, peer, max(CASE WHEN kind IN ({UP_KIND}, {ANSWERED_KIND}) THEN idx END),
       max(CASE WHEN kind IN ({DOWN_KINDS[0]}, {DOWN_KINDS[1]}) THEN idx END)
FROM event WHERE kind IN ({ANSWERED_KIND}, {", ".join(map(str, LINK_KINDS))}) GROUP BY feed, peer
"""
MEMBERS = f"SELECT feed, idx, kind, body FROM event WHERE kind IN ({JOINED_KIND}, {LEFT_KIND})"


class SqliteRows(Contestant):
    """One row an event."""

    name = "sqlite3 rows"
    extra = "PRIMARY KEY (feed, idx)"
    suffix = "WITHOUT ROWID"

    def create(self, feeds: Sequence[Feed]) -> None:
        self.connect()
        self.db.executescript(DIMENSIONS)
        self.db.execute(f"CREATE TABLE event ({EVENT_COLUMNS}, {self.extra}) {self.suffix}")
        self.rows = Rows(feeds)

    def connect(self) -> None:
        self.db = sqlite3.connect(self.folder / "rows.sqlite", isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        assert self.db.execute("PRAGMA synchronous").fetchone() == (2,)

    def append(self, feed: Feed, entries: list[Observed]) -> None:
        execute, many = self.db.execute, self.db.executemany
        execute("BEGIN IMMEDIATE")
        many(INSERT, self.rows.of(feed, entries))
        self.store_names()
        execute("COMMIT")

    def store_names(self) -> None:
        for table, names in self.rows.fresh().items():
            if names and table == "feed":
                by_id = {feed.id: feed for feed in self.rows.names}
                self.db.executemany(
                    "INSERT INTO feed VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (number, name, by_id[name].incarnation, by_id[name].machine, by_id[name].epoch, by_id[name].ledger_key)
                        for number, name in names
                    ],
                )
            elif names:
                self.db.executemany(f"INSERT INTO {table} VALUES (?, ?)", names)

    def close(self) -> None:
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.db.close()

    def open(self) -> None:
        self.connect()
        self.names = Names(self.db.execute("SELECT id, name FROM machine"))

    def leave(self) -> None:
        self.db.close()

    def replay(self) -> State:
        names, ask = self.names, self.db.execute
        return State(names.pings(ask(PINGS)), names.links(ask(LINKS)), names.members(ask(MEMBERS)))

    def walk(self) -> Iterator[tuple[str, Iterable[Visited]]]:
        for feed, machine in self.db.execute("SELECT id, machine FROM feed ORDER BY machine").fetchall():
            rows = self.db.execute("SELECT idx, at_ns, peer, kind, rtt_us FROM event WHERE feed = ? ORDER BY idx", (feed,))
            yield machine, self.names.visits(rows)
