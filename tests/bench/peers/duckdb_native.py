"""DuckDB with a table of its own: columns of the narrowest types that hold the values, filled by COPY from CSV.

The state is one GROUP BY (feed, peer, kind) for the newest index, joined back to its row: here the quickest of five ways
that were tried, among them `arg_max`. A state at T is the same with a filter. It runs on as many threads as it chooses.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence

import duckdb
from bench.digest import State
from bench.peers.contestant import JOINED_KIND, LEFT_KIND, Contestant, Names, Rows

from ledger.entry import Observed
from ledger.identity import Feed

SCHEMA = """
CREATE TABLE event (
    feed UTINYINT NOT NULL, idx UINTEGER NOT NULL, at_ns BIGINT NOT NULL, boot USMALLINT, mono_ns BIGINT, kind UTINYINT NOT NULL,
    peer UTINYINT, number UINTEGER, rtt_us UINTEGER, link UINTEGER, sent_us BIGINT, received_us BIGINT, replied_us BIGINT,
    returned_us BIGINT, peer_boot USMALLINT, peer_feed UTINYINT, held UINTEGER, reason UTINYINT, body VARCHAR);
"""
DIMENSIONS = ("machine", "link", "feed", "boot", "reason")
NEWEST = """
WITH newest AS (
    SELECT feed, peer, kind, max(idx) AS idx, count(*) AS many FROM event WHERE peer IS NOT NULL %s GROUP BY feed, peer, kind)
SELECT newest.feed, newest.peer, newest.kind, newest.idx, event.at_ns, event.rtt_us, newest.many
FROM newest JOIN event ON event.feed = newest.feed AND event.idx = newest.idx
"""
MEMBERS = f"SELECT feed, idx, kind, body FROM event WHERE kind IN ({JOINED_KIND}, {LEFT_KIND}) %s"
SLICE = 200_000


class DuckdbNative(Contestant):
    """One table in DuckDB's own format."""

    name = "DuckDB native"
    package = "duckdb"
    counts_then = True

    def create(self, feeds: Sequence[Feed]) -> None:
        self.db = duckdb.connect(str(self.folder / "events.duckdb"))
        self.db.execute(SCHEMA)
        for table in DIMENSIONS:
            self.db.execute(f"CREATE TABLE {table} (id UINTEGER, name {'UBIGINT' if table == 'boot' else 'VARCHAR'})")
        self.rows = Rows(feeds)
        self.waiting: list[tuple] = []

    def append(self, feed: Feed, entries: list[Observed]) -> None:
        """Gathers rows for COPY; it is not measured, as DuckDB is no store for small commits."""
        self.waiting.extend(self.rows.of(feed, entries))
        if len(self.waiting) >= SLICE:
            self.load()

    def load(self) -> None:
        path = self.folder / "slice.csv"
        with path.open("w", newline="") as out:
            csv.writer(out).writerows(self.waiting)
        self.db.execute(f"COPY event FROM '{path}' (FORMAT csv, HEADER false, AUTO_DETECT false)")
        path.unlink()
        self.waiting.clear()

    def close(self) -> None:
        if self.waiting:
            self.load()
        for table, names in self.rows.fresh().items():
            if names:
                self.db.executemany(f"INSERT INTO {table} VALUES (?, ?)", names)
        self.db.execute("CHECKPOINT")
        self.db.close()

    def open(self) -> None:
        self.db = duckdb.connect(str(self.folder / "events.duckdb"), read_only=True)
        self.names = Names(self.db.execute("SELECT id, name FROM machine").fetchall())

    def leave(self) -> None:
        self.db.close()

    def threads(self) -> int:
        return self.db.execute("SELECT current_setting('threads')").fetchone()[0]

    def replay(self) -> State:
        return self.ask("", [])

    def state_at(self, at_ns: int) -> State:
        return self.ask("AND at_ns <= ?", [at_ns])

    def ask(self, only: str, values: list[int]) -> State:
        names = self.names
        newest, membership = (self.db.execute(query % only, values).fetchall() for query in (NEWEST, MEMBERS))
        return State(*names.by_kind(newest), names.members(membership))
