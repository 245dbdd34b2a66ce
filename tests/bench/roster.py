"""Who takes part: the contestants by name, loaded only when they are called, so that nobody pays for another's imports."""

from __future__ import annotations

import importlib

from bench.peers.contestant import Absent, Contestant

ROSTER = {
    "ours": "bench.ours:Ours",
    "sqlite3": "bench.peers.sqlite3_rows:SqliteRows",
    "sqlite-utils": "bench.peers.sqlite_utils_rows:SqliteUtilsRows",
    "es-aggregates": "bench.peers.eventsourcing_app:EventsourcingAggregates",
    "es-structs": "bench.peers.eventsourcing_app:EventsourcingStructs",
    "duckdb": "bench.peers.duckdb_native:DuckdbNative",
    "polars": "bench.peers.polars_parquet:PolarsParquet",
    "sql-state": "bench.peers.sql_state:SqlState",
    "snapshots": "bench.peers.snapshot_rows:SnapshotRows",
    "sha-chain": "bench.peers.sha_chain:ShaChain",
}


def contestant(key: str) -> type[Contestant]:
    """The class of a contestant. Raises Absent, with the reason, where its package is not installed."""
    module, _, name = ROSTER[key].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as missing:
        raise Absent(f"{key} is not installed: {missing}") from None
