"""Polars over parquet, lazily: `scan_parquet`, one `group_by`, `collect`; nothing is read that the query does not need.

Files of 500,000 rows, written by Polars itself with its default compression, columns of the narrowest types. The rows of
a feed stand in order of index, and a group keeps the order of its rows, so the newest of a pair and kind is `last()`:
here the quickest of six ways that were tried.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import polars as pl
from bench.digest import State
from bench.peers.contestant import COLUMNS, JOINED_KIND, LEFT_KIND, Contestant, Names, Rows

from ledger.entry import Observed
from ledger.identity import Feed

TYPES = dict.fromkeys(COLUMNS, pl.Int64) | {
    "feed": pl.UInt8, "idx": pl.UInt32, "kind": pl.UInt8, "peer": pl.UInt8, "number": pl.UInt32, "rtt_us": pl.UInt32,
    "link": pl.UInt32, "boot": pl.UInt16, "peer_boot": pl.UInt16, "peer_feed": pl.UInt8, "held": pl.UInt32,
    "reason": pl.UInt8, "body": pl.String,
}  # fmt: skip
SLICE = 500_000


class PolarsParquet(Contestant):
    """A folder of parquet files."""

    name = "Polars, parquet"
    package = "polars"

    def create(self, feeds: Sequence[Feed]) -> None:
        self.rows = Rows(feeds)
        self.waiting: list[tuple] = []
        self.files = 0
        self.dimensions: dict[str, list] = {}

    def append(self, feed: Feed, entries: list[Observed]) -> None:
        """Gathers rows for the next file; it is not measured, as parquet is no store for small commits."""
        self.waiting.extend(self.rows.of(feed, entries))
        if len(self.waiting) >= SLICE:
            self.write()

    def write(self) -> None:
        self.files += 1
        frame = pl.DataFrame(self.waiting, schema=TYPES, orient="row")
        frame.write_parquet(self.folder / f"events-{self.files:05d}.parquet")
        self.waiting.clear()

    def close(self) -> None:
        if self.waiting:
            self.write()
        (self.folder / "names.msgpack").write_bytes(msgspec.msgpack.encode(self.rows.fresh()))

    def open(self) -> None:
        self.names = Names(msgspec.msgpack.decode((self.folder / "names.msgpack").read_bytes())["machine"])

    def threads(self) -> int:
        return pl.thread_pool_size()

    def replay(self) -> State:
        names, kind = self.names, pl.col("kind")
        events = pl.scan_parquet(self.folder / "events-*.parquet")
        newest = events.group_by("feed", "peer", "kind").agg(
            pl.col("idx").last(), pl.col("at_ns").last(), pl.col("rtt_us").last(), many=pl.len()
        )
        membership = events.filter(kind.is_in([JOINED_KIND, LEFT_KIND])).select("feed", "idx", "kind", "body")
        pairs, changes = (frame.rows() for frame in pl.collect_all([newest, membership]))
        return State(*names.by_kind(row for row in pairs if row[1] is not None), names.members(changes))
