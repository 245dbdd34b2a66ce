"""What a file holds, whatever its heads say: the check of the file as a file.

A reader follows heads to rows, and so never meets a row that no head covers, an index that lost a line, or a row that
states less than its content. `verify` must: it counts strays, has SQLite go through its own structure, and compares the
columns that exist for other tools' queries with what they were made from. Reads only; what is found is text, not an error.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

import msgspec

from ledger import rows
from ledger.errors import Damaged
from ledger.events import PingFailed
from ledger.opening import SPOKEN

STRUCTURE_MAX: Final = 20
"""So many complaints of SQLite are enough; the rest would say the same."""

_STRAYS: Final = {
    "feed": "select count(*) from feed f where not exists (select 1 from head h where h.feed = f.id)",
    "head": "select count(*) from head h where not exists (select 1 from feed f where f.id = h.feed)",
    "record": "select count(*) from record t left join head h on h.feed = t.feed where h.feed is null or t.n < 1 "
    "or t.n > h.records",
    "context": "select count(*) from context t left join head h on h.feed = t.feed where h.feed is null or t.id < 0 "
    "or t.id >= h.contexts",
    "control": "select count(*) from control t left join head h on h.feed = t.feed where h.feed is null or t.idx < 1 "
    "or t.idx > h.last",
    "open": "select count(*) from open t left join head h on h.feed = t.feed where h.feed is null or t.first <= h.sealed "
    "or t.first > t.last or t.last > h.last",
    "branch": "select count(*) from branch t left join head h on h.feed = t.feed where h.feed is null",
    "signature": "select count(*) from signature t left join head h on h.feed = t.feed where h.feed is null",
}


class Scan(msgspec.Struct, frozen=True):
    """What was found. `problems`: what is wrong, in words; `quarantined`: rows that imports refused."""

    problems: tuple[str, ...]
    quarantined: int


def scan(connection: sqlite3.Connection) -> Scan:
    """Look through the file that `connection` reads."""
    problems: list[str] = []
    quarantined = 0
    try:
        problems += _structure(connection)
        for table, query in _STRAYS.items():
            count = connection.execute(query).fetchone()[0]
            if count:
                problems.append(f"{count} rows of table {table} belong to nothing that a head covers")
        problems += _open(connection)
        quarantined = connection.execute("select count(*) from quarantine").fetchone()[0]
        for _row in connection.execute("select source, line, why, raw from quarantine"):
            pass
    except SPOKEN as error:
        problems.append(f"SQLite says: {error}")
    return Scan(tuple(problems), quarantined)


def _structure(connection: sqlite3.Connection) -> Iterator[str]:
    for (line,) in connection.execute(f"pragma integrity_check({STRUCTURE_MAX})"):
        if line != "ok":
            yield f"SQLite's integrity check: {line}"


def _open(connection: sqlite3.Connection) -> Iterator[str]:
    """Open rows that state other instants or losses than their pings have."""
    query = "select feed, first, last, low_ns, high_ns, lost, body from open order by feed, first"
    for feed, first, last, low, high, lost, body in connection.execute(query):
        try:
            pings = rows.decode_open(body)
        except Damaged as error:
            yield f"open row {first} of feed row {feed}: {error.message}"
            continue
        walls = [ping.at_ns for ping in pings]
        stated = (last - first + 1, low, high, lost)
        if stated != (len(pings), min(walls), max(walls), sum(type(ping.event) is PingFailed for ping in pings)):
            yield f"open row {first} of feed row {feed} states what its pings do not say"
