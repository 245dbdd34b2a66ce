"""One door for all answers: `table`, `json`, `jsonl` and `csv`, on any text stream.

The format changes the form and nothing else: all four are made from one answer, and it is the same in a pipe as on a
terminal. `json` is one object, `jsonl` one object a row, `csv` is RFC 4180 with a header, and `table` is plain text for
people, with durations spelled out. Nothing is printed that a terminal would obey or a reader could not see (`text`).

Rows may be a stream: no more than a batch of them is held. This room is handed its stream and opens none.
"""

from __future__ import annotations

import csv
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from typing import Any, Final, Literal, TextIO

import msgspec
from msgspec import UNSET, Struct

from replay.answers_node import Node
from replay.listings import LISTED, sections
from replay.receipts import LogRow, Sql
from replay.spans import format_span
from replay.text import json_text, visible

Format = Literal["table", "json", "jsonl", "csv"]
FORMATS: Final[tuple[Format, ...]] = ("table", "json", "jsonl", "csv")
BATCH: Final = 1000
"""Rows that are encoded, laid out and written at once."""

Row = Struct | Mapping[str, Any]

_ENCODER: Final = msgspec.json.Encoder()
_TABLED: Final[dict[type[Struct], tuple[str, ...]]] = {
    LogRow: ("pos", "at", "kind", "event"),
    Node: ("machine", "hostname", "port", "cluster", "transport", "dir"),
}
"""Rows of which people are shown less: the rest would drown what they look for."""
_HIDDEN: Final = frozenset({"schema", "text", "hashes"})


def write(answer: Struct, form: Format, out: TextIO, *, above: Iterable[str] = (), below: Iterable[str] = ()) -> None:
    """Write `answer`, a struct of `schemas.ANSWERS`, to `out`. `above` and `below`: lines of a table for people."""
    if form == "json":
        out.write(json_text(encode(answer)) + "\n")
        return
    if isinstance(answer, Sql):
        write_rows(answer, answer.rows, form, out, above=above, below=below)
        return
    shape, rows = LISTED[type(answer)]
    if form == "jsonl":
        _write_jsonl(rows(answer), out, BATCH)
    elif form == "csv":
        _write_csv(rows(answer), columns(shape), out, BATCH)
    else:
        _write_lines(above, out)
        for place, (title, part, its_rows) in enumerate(sections(answer)):
            _write_lines([*([""] if place else []), *([title] if title else [])], out)
            _write_table(its_rows, _tabled(part), out, BATCH)
        _write_lines(below, out)


def write_rows(
    head: Struct,
    rows: Iterable[Row],
    form: Format,
    out: TextIO,
    *,
    above: Iterable[str] = (),
    below: Iterable[str] = (),
    live: bool = False,
) -> None:
    """Write a stream of rows: `head` is their answer with its list, the last field, left empty: `Log(entries=[])`.

    What is written equals `write` of the answer with all rows in it. `live`: each row at once, and flushed.
    """
    batch = 1 if live else BATCH
    names: Sequence[str] = head.columns if isinstance(head, Sql) else columns(LISTED[type(head)][0])
    if form == "json":
        emptied = msgspec.structs.replace(head, rows=[]) if isinstance(head, Sql) else head
        opening = json_text(encode(emptied)).removesuffix("]}")
        out.write(opening)
        between = ""
        for some in _batches(rows, batch):
            out.write(between + json_text(b",".join(encode(row) for row in some)))
            between = ","
            _flush(out, live)
        out.write("]}\n")
    elif form == "jsonl":
        _write_jsonl(rows, out, batch)
    elif form == "csv":
        _write_csv(rows, names, out, batch)
    else:
        _write_lines(above, out)
        if isinstance(head, Sql):
            _write_table(rows, names, out, batch, ours=False)
        else:
            _write_table(rows, _tabled(LISTED[type(head)][0]), out, batch)
        _write_lines(below, out)


def encode(value: Any) -> bytes:
    """JSON in UTF-8. Text that UTF-8 cannot say (a file's name with a lone surrogate) is made visible instead."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _ENCODER.encode(_sayable(msgspec.to_builtins(value)))


def columns(shape: type[Struct]) -> tuple[str, ...]:
    """The columns of rows of this shape, in order."""
    return tuple(found.encode_name for found in msgspec.structs.fields(shape))


def _sayable(value: Any) -> Any:
    if isinstance(value, str):
        return value if _can_say(value) else visible(value)
    if isinstance(value, dict):
        return {_sayable(key): _sayable(item) for key, item in value.items()}
    return [_sayable(item) for item in value] if isinstance(value, list | tuple) else value


def _can_say(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    following = iter(rows)
    while some := list(islice(following, size)):
        yield some


def _flush(out: TextIO, live: bool) -> None:
    if live:
        out.flush()


def _write_lines(lines: Iterable[str], out: TextIO) -> None:
    out.writelines(f"{visible(line)}\n" for line in lines)


def _write_jsonl(rows: Iterable[Row], out: TextIO, batch: int) -> None:
    for some in _batches(rows, batch):
        try:
            lines = _ENCODER.encode_lines(some)
        except UnicodeEncodeError:
            lines = b"".join(encode(row) + b"\n" for row in some)
        out.write(json_text(lines))
        _flush(out, batch == 1)


def _write_csv(rows: Iterable[Row], names: Sequence[str], out: TextIO, batch: int) -> None:
    """RFC 4180: a header, CRLF, quotes doubled; null is empty; what is not a single value stands as JSON."""
    names = [name for name in names if name != "schema"]
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([visible(name) for name in names])
    for some in _batches(rows, batch):
        writer.writerows([_csv_cell(value) for value in _values(row, names)] for row in some)
        _flush(out, batch == 1)


def _csv_cell(value: Any) -> str | int | float:
    if value is None or value is UNSET:
        return ""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    return b64encode(value).decode() if isinstance(value, bytes) else json_text(encode(value))


def _write_table(rows: Iterable[Row], names: Sequence[str], out: TextIO, batch: int, *, ours: bool = True) -> None:
    """Columns as wide as what was written so far asks for. `ours`: the names bear units; durations are spelled out."""
    from tabulate import tabulate

    heads = [visible(name.removesuffix("_ns").removesuffix("_us") if ours else name) for name in names]
    widths = [len(head) for head in heads]
    empty = True
    for some in _batches(rows, batch) if names else ():
        cells = [[_cell(name if ours else "", value) for name, value in _named(row, names)] for row in some]
        # The first row is a ruler: it holds the columns at least as wide as before, and is cut off again.
        widths = [max(width, *map(len, column)) for width, column in zip(widths, zip(*cells, strict=True), strict=True)]
        ruler = ["." * width for width in widths]
        lines = tabulate([heads, ruler, *cells], tablefmt="plain", disable_numparse=True).split("\n")
        out.writelines(f"{line.rstrip()}\n" for line in ([lines[0]] if empty else []) + lines[2:])
        empty = False
        _flush(out, batch == 1)
    if empty and names:
        out.write("  ".join(heads) + "\n")


def _tabled(shape: type[Struct]) -> tuple[str, ...]:
    return _TABLED.get(shape) or tuple(name for name in columns(shape) if name not in _HIDDEN)


def _named(row: Row, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    if isinstance(row, LogRow) and row.event is UNSET:
        # Of an entry of an unknown kind, its bytes stand where its event would.
        return ((name, {"raw": row.raw} if name == "event" else getattr(row, name)) for name in names)
    return zip(names, _values(row, names), strict=True)


def _cell(name: str, value: Any) -> str:
    if value is None or value is UNSET or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith(("_ns", "_us")):
        return format_span(value if name.endswith("_ns") else value * 1000)
    if isinstance(value, list | tuple):
        return ">".join(_cell("", item) for item in value)
    if isinstance(value, Struct | Mapping):
        return " ".join(f"{visible(key)}={_cell('', item)}" for key, item in msgspec.to_builtins(value).items()) or "-"
    return b64encode(value).decode() if isinstance(value, bytes) else visible(str(value))


def _values(row: Row, names: Sequence[str]) -> Sequence[Any]:
    """The row's values in the order of `names`."""
    if isinstance(row, Mapping):
        return [row.get(name) for name in names]
    values: Sequence[Any] = _getter(type(row), tuple(names))(row)
    return values if len(names) > 1 else [values]


@lru_cache
def _getter(shape: type[Struct], names: tuple[str, ...]) -> attrgetter[Any]:
    attributes = {found.encode_name: found.name for found in msgspec.structs.fields(shape)}
    return attrgetter(*(attributes[name] for name in names))
