"""Entries as flat rows, for programs that want columns: csv, and parquet by way of DuckDB.

One row an entry, one column a fact that many kinds share; everything else of an event stands in `event`, as JSON. Csv is RFC
4180 with a header, CRLF, null empty, and text made harmless as everywhere where it is shown (`text`). Parquet is made by DuckDB
(the extra `parquet`) and has the text as it was recorded, and `at` as a timestamp of nanoseconds, UTC.
Effects: `to_parquet` writes the file that it is given.
"""

from __future__ import annotations

import csv
import io
import re
from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from ledger.entry import Opaque
from ledger.errors import Refused, Unwritable
from ledger.events import PingAnswered
from replay.runs import Run
from replay.spans import format_instant
from replay.text import json_text, shorten, visible

COLUMNS: Final = {
    "pos": "VARCHAR", "rec": "BIGINT", "at": "VARCHAR", "at_ns": "BIGINT", "boot": "BIGINT", "mono_ns": "BIGINT",
    "kind": "VARCHAR", "v": "BIGINT", "observer": "VARCHAR", "peer": "VARCHAR", "link": "VARCHAR", "reason": "VARCHAR",
    "number": "BIGINT", "rtt_us": "BIGINT", "held": "BIGINT", "event": "VARCHAR", "raw": "VARCHAR",
}  # fmt: skip
"""The columns and their types in SQL. `event` is JSON text; where the kind is unknown `raw` has the bytes, in base64."""

Row = tuple[Any, ...]
_shown: Final = lru_cache(maxsize=1024)(visible)
_encode: Final = msgspec.json.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines


def rows(run: Run, shown: Callable[[str], str] = str) -> list[Row]:
    """The rows of a run, in the order of COLUMNS. `shown`: what becomes of text that may be anything."""
    name, record, observer = run.name, run.record, run.feed.machine
    instants = {at_ns: format_instant(at_ns) for at_ns in {entry.at_ns for entry in run.entries}}
    found: list[Row] = []
    for index, entry in enumerate(run.entries, run.first):
        event: Any = entry.event
        place = (f"{name}#{index}", record, instants[entry.at_ns], entry.at_ns, entry.boot, entry.mono_ns)
        if type(event) is PingAnswered:  # as below, without asking: there are millions of these
            link = None if event.link is None else shown(event.link)
            facts: Row = (event.kind, event.version, observer, event.peer, link, None, event.number, event.rtt_us, event.held)
        else:
            link = getattr(event, "link", None)
            facts = (
                shown(event.kind),
                event.version,
                observer,
                getattr(event, "peer", None),
                None if link is None else shown(link),
                getattr(event, "reason", None),
                getattr(event, "number", None),
                getattr(event, "rtt_us", None),
                getattr(event, "held", None),
            )
        if isinstance(event, Opaque):
            found.append((*place, *facts, None, b64encode(event.raw).decode()))
        else:
            found.append((*place, *facts, json_text(_encode(event)), None))
    return found


def csv_header() -> str:
    """The first line of csv."""
    return ",".join(COLUMNS) + "\r\n"


def csv_lines(run: Run) -> str:
    """The lines of a run as csv."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows(run, _shown))
    return text.getvalue()


def json_lines(run: Run) -> bytes:
    """The rows of a run as JSON lines, exactly as recorded: what `to_parquet` reads."""
    return _encode_lines([dict(zip(COLUMNS, row, strict=True)) for row in rows(run)])


def duckdb() -> Any:
    """The module. Raises Refused, saying how to install it, where it is missing."""
    try:
        import duckdb as module
    except ImportError:
        raise Refused("parquet needs DuckDB, which is not installed", hint="pip install 'meshledger[parquet]'") from None
    return module


def to_parquet(source: Path, target: Path, shown: str) -> None:
    """Make the parquet file `target` of JSON lines. Raises Refused where DuckDB is missing, and Unwritable, naming `shown`."""
    module = duckdb()
    columns = ", ".join(f"\"{name}\": '{kind}'" for name, kind in COLUMNS.items())
    # DuckDB takes a path for a pattern: a bracket around a sign means the sign.
    path = re.sub(r"([*?\[])", r"[\1]", str(source.resolve()))
    # What it does not bring along it must not fetch.
    offline = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    try:
        with module.connect(":memory:", config=offline) as connection:
            connection.execute(
                f'copy (select * replace (make_timestamp_ns(at_ns) as "at") from read_json({_text(path)}, '
                f"format = 'newline_delimited', columns = {{{columns}}})) "
                f"to {_text(str(target.resolve()))} (format parquet, compression zstd)"
            )
    except module.Error as error:
        raise Unwritable(f"{visible(shown)}: DuckDB says: {shorten(str(error), 200)}") from error


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
