"""The best that SQL has for "the last of each pair at T": a clustered key and a loose index scan, in one statement.

Pings stand in a WITHOUT ROWID table keyed (feed, peer, at_ns, idx), so that the newest ping of a pair before T is one
descent; link changes have an index of the same shape, and the pairs a table of their own. So the statement makes as many
descents as there are pairs, however long the log. Sent and lost it cannot count without reading every row before T.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from bench.digest import ANSWERED, DOWN, FAILED, UP, State
from bench.peers.contestant import (
    ANSWERED_KIND,
    COLUMNS,
    FAILED_KIND,
    JOINED_KIND,
    LEFT_KIND,
    LINK_KINDS,
    UP_KIND,
    Absent,
    Rows,
)
from bench.peers.sqlite3_rows import DIMENSIONS, EVENT_COLUMNS, SqliteRows

from ledger.entry import Observed
from ledger.identity import Feed

KIND, PEER = COLUMNS.index("kind"), COLUMNS.index("peer")
CONTROL = ("feed", "idx", "at_ns", "boot", "mono_ns", "kind", "peer", "body")
PLACES = [COLUMNS.index(column) for column in CONTROL]
HERE = "feed = pair.feed AND peer = pair.peer AND at_ns <= :t"
IN_ORDER = EVENT_COLUMNS.replace("idx INTEGER NOT NULL, at_ns INTEGER NOT NULL", "at_ns INTEGER NOT NULL, idx INTEGER NOT NULL")
SCHEMA = f"""
CREATE TABLE ping ({IN_ORDER}, PRIMARY KEY (feed, peer, at_ns, idx)) WITHOUT ROWID;
CREATE TABLE control (feed INTEGER, idx INTEGER, at_ns INTEGER, boot INTEGER, mono_ns INTEGER, kind INTEGER, peer INTEGER,
    body TEXT, PRIMARY KEY (feed, idx)) WITHOUT ROWID;
CREATE INDEX change ON control (feed, peer, at_ns, idx, kind) WHERE kind IN ({", ".join(map(str, LINK_KINDS))});
CREATE INDEX membership ON control (at_ns) WHERE kind IN ({JOINED_KIND}, {LEFT_KIND});
CREATE TABLE pair (feed INTEGER, peer INTEGER, PRIMARY KEY (feed, peer)) WITHOUT ROWID;
"""
STATE = f"""
SELECT pair.feed, pair.peer, last.idx, last.kind, last.at_ns, last.rtt_us,
    (SELECT idx * 64 + kind FROM control WHERE {HERE} AND kind IN ({", ".join(map(str, LINK_KINDS))})
     ORDER BY at_ns DESC, idx DESC LIMIT 1)
FROM pair LEFT JOIN ping last ON last.feed = pair.feed AND last.peer = pair.peer
    AND last.at_ns = (SELECT max(at_ns) FROM ping WHERE {HERE})
ORDER BY pair.feed, pair.peer, last.idx
"""
BEFORE = f"""
SELECT idx, at_ns, rtt_us FROM ping WHERE feed = ? AND peer = ? AND at_ns <= ? AND kind = {ANSWERED_KIND}
ORDER BY at_ns DESC, idx DESC LIMIT 1
"""  # only for pairs whose newest ping failed
MEMBERS = f"SELECT feed, idx, kind, body FROM control WHERE kind IN ({JOINED_KIND}, {LEFT_KIND}) AND at_ns <= ?"


class SqlState(SqliteRows):
    """Clustered by pair and instant."""

    name = "SQL, loose index scan"

    def create(self, feeds: Sequence[Feed]) -> None:
        self.connect()
        self.db.executescript(DIMENSIONS + SCHEMA)
        self.rows = Rows(feeds)
        self.pairs: set[tuple[int, int]] = set()

    def append(self, feed: Feed, entries: list[Observed]) -> None:
        pings, control = [], []
        for row in self.rows.of(feed, entries):
            if row[KIND] in (ANSWERED_KIND, FAILED_KIND):
                pings.append(row)
            else:
                control.append([row[place] for place in PLACES])
        pairs = {(row[0], row[PEER]) for row in pings} | {(row[0], row[6]) for row in control if row[5] in LINK_KINDS}
        execute, many = self.db.execute, self.db.executemany
        execute("BEGIN IMMEDIATE")
        many(f"INSERT INTO ping ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})", pings)
        many("INSERT INTO control VALUES (?, ?, ?, ?, ?, ?, ?, ?)", control)
        many("INSERT INTO pair VALUES (?, ?)", pairs - self.pairs)
        self.store_names()
        execute("COMMIT")
        self.pairs |= pairs

    def replay(self) -> State:
        raise Absent("its tables are made for moments")

    def walk(self) -> NoReturn:
        raise Absent("its tables are made for moments")

    def state_at(self, at_ns: int) -> State:
        name, ask = self.names.machine, self.db.execute
        pings, links = {}, {}
        for feed, peer, index, kind, ping_at, rtt_us, change in ask(STATE, {"t": at_ns}):
            pair = name[feed], name[peer]
            good = index
            if kind == FAILED_KIND:
                good, ping_at, rtt_us = ask(BEFORE, (feed, peer, at_ns)).fetchone() or (None, None, None)
            if index is not None:
                pings[pair] = index, ANSWERED if kind == ANSWERED_KIND else FAILED, ping_at, rtt_us, None, None
            if good is not None and (change is None or good > change // 64):
                links[pair] = UP
            elif change is not None:
                links[pair] = UP if change % 64 == UP_KIND else DOWN
        return State(pings, links, self.names.members(ask(MEMBERS, (at_ns,))))
