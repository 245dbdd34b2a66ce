"""sqlite-utils, the way its documentation shows for bulk: `insert_all` of dicts in batches, into a table made before.

The same columns and durability as `sqlite3_rows`, with UNIQUE(feed, idx); the hand that inserts is another one.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlite_utils
from bench.peers.contestant import COLUMNS, Rows
from bench.peers.sqlite3_rows import DIMENSIONS, SqliteRows

from ledger.entry import Observed
from ledger.identity import Feed

TYPES = {column: str if column == "body" else int for column in COLUMNS}


class SqliteUtilsRows(SqliteRows):
    """One dict a row, one `insert_all` a commit."""

    name = "sqlite-utils insert_all"
    package = "sqlite-utils"

    def create(self, feeds: Sequence[Feed]) -> None:
        self.connect()
        self.db.executescript(DIMENSIONS)
        table = sqlite_utils.Database(self.db)["event"]
        table.create(TYPES, not_null={"feed", "idx", "at_ns", "kind"})
        table.create_index(["feed", "idx"], unique=True)
        self.table = table
        self.rows = Rows(feeds)

    def append(self, feed: Feed, entries: list[Observed]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        rows = (dict(zip(COLUMNS, row, strict=True)) for row in self.rows.of(feed, entries))
        self.table.insert_all(rows, batch_size=len(entries))
        self.store_names()
        self.db.execute("COMMIT")
