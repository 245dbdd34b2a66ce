"""What ledgers hold, as a file of another form: jsonl, csv, parquet, a ledger of its own; and `backup`.

    jsonl     one entry a line (`jsonl`), which `import` reads back to the same heads
    csv       one entry a row, flat columns (`flat`)
    parquet   the same, by way of DuckDB (the extra `parquet`)
    ledger    a fresh ledger file: the same content gives the same bytes, whatever became of the source

The first three take a range of effective instants. A file is made beside its target and takes its place by one rename: what
fails leaves nothing half, and what stood there as it was. No ledger is ever written over. `backup` copies one ledger page by
page, consistent also beside a live writer, and checks every byte of the copy. Nothing here writes to a ledger that it reads.
Effects: files.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, Literal, get_args

from ledger.errors import Damaged, Refused
from ledger.opening import Reading, translate
from ledger.store import Ledger
from replay.flat import csv_header, csv_lines, duckdb, json_lines, to_parquet
from replay.jsonl import lines
from replay.merge import merge
from replay.moments import Range
from replay.receipts import Backup, Export
from replay.runs import ALL, Source, runs
from replay.soundness import examine
from replay.text import visible
from replay.union import Union, spelled

Format = Literal["jsonl", "csv", "parquet", "ledger"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
_SQLITE: Final = b"SQLite format 3\0"


def export(
    union: Union,
    target: str | Path | BinaryIO,
    form: Format,
    selection: Range = ALL,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Export:
    """Write what `union` holds to a file, or to a stream if `form` is jsonl or csv. Returns what was written.

    `selection`: [since, until) over effective instants; a ledger is exported whole. `progress` is told how many entries are
    written, of how many at most. Raises Refused for what cannot be
    written so or there, Unwritable, and Damaged where a source is not what was written.
    """
    if form not in FORMATS:
        raise Refused(f"'{visible(form)}' is no format of an export", hint=f"one of {', '.join(FORMATS)}")
    if not isinstance(target, (str, Path)):
        if form not in {"jsonl", "csv"}:
            raise Refused(f"{form} is no stream", hint="name a file: -O FILE")
        return _answer(union, None, form, _write(union, target, form, selection, progress))
    path = Path(target)
    if form == "ledger":
        return _to_ledger(union, path, selection, progress)
    if form == "parquet":
        duckdb()  # before anything else is done
    with fresh(path) as made:
        if form == "parquet":
            with fresh(path, kept=False) as flat:
                with flat.open("wb") as file:
                    counts = _write(union, file, form, selection, progress)
                to_parquet(flat, made, str(path))
        else:
            with made.open("wb") as file:
                counts = _write(union, file, form, selection, progress)
    return _answer(union, path, form, counts)


def _write(
    source: Source, file: BinaryIO, form: Format, selection: Range, progress: Callable[[int, int], None] | None = None
) -> Counter[str]:
    """Write all runs; how many entries each feed gave, by its id."""
    counts: Counter[str] = Counter()
    done, total = 0, sum(source.reader(feed).head().last for feed in source.feeds()) if progress is not None else 0
    if form == "csv":
        file.write(csv_header().encode())
    for run in runs(source, selection):
        if form == "parquet":
            file.write(json_lines(run))
        else:
            file.write((lines(run) if form == "jsonl" else csv_lines(run)).encode())
        counts[run.feed.id] += len(run.entries)
        done += len(run.entries)
        if progress is not None:
            progress(done, total)
    return counts


def _to_ledger(union: Union, path: Path, selection: Range, progress: Callable[[int, int], None] | None = None) -> Export:
    """A merge of the sources into a new file: that is what makes its bytes follow from the content alone."""
    if selection != ALL:
        raise Refused("a ledger is exported whole", hint="a part of it can leave as jsonl, csv or parquet")
    if path.exists():
        raise _taken(path)
    merge([ledger.path for ledger in union.ledgers], path, progress=progress)
    with Ledger.open(path) as made:
        return _answer(union, path, "ledger", Counter({feed.id: made.head(feed).last for feed in made.feeds()}))


def _answer(union: Union, path: Path | None, form: Format, counts: Counter[str]) -> Export:
    names = spelled(union.feeds())
    return Export(
        file=None if path is None else str(path),
        format=form,
        feeds={names[feed]: counts[feed.id] for feed in sorted(names)},
        entries=counts.total(),
    )


def backup(source: str | Path, target: str | Path) -> Backup:
    """Copy the ledger file `source` to the new file `target`, consistent also beside a live writer, in rollback mode and for
    its owner only. Uses SQLite's backup API (https://www.sqlite.org/backup.html).

    Raises Refused if the target is there, Unwritable, Damaged where the copy, and so its source, is not what was written,
    and what `Ledger.open` raises.
    """
    path = Path(target)
    if path.exists():
        raise _taken(path)
    reading = Reading(source)
    try:
        with fresh(path, new=True) as made:
            try:
                _copy_pages(reading.connection, made)
            except sqlite3.Error as error:
                Path(f"{made}-journal").unlink(missing_ok=True)  # it stays where the medium was full
                raise translate(error, str(path)) from error
            with Ledger.open(made) as copy:
                _demand_sound(copy, source)
                names = spelled(copy.feeds())
                feeds = {names[feed]: copy.head(feed).last for feed in sorted(names)}
            size = made.stat().st_size
    finally:
        reading.close()
    return Backup(file=str(path), feeds=feeds, entries=sum(feeds.values()), bytes=size)


def _copy_pages(source: sqlite3.Connection, made: Path) -> None:
    copy = sqlite3.connect(made, isolation_level=None)
    try:
        source.backup(copy)
        copy.execute("pragma journal_mode=delete")
    finally:
        copy.close()


def _demand_sound(copy: Ledger, source: str | Path) -> None:
    """That the copy is what was written, or Damaged: damage that is copied unsaid is found when nothing better is left."""
    problems = [*copy.scan().problems]
    for feed in copy.feeds() if not problems else ():
        found = examine(copy.reader(feed)).problems
        problems += [f"{feed.at(each.index) if each.index else feed.name}: {each.what}" for each in found]
    if problems:
        raise Damaged(f"{visible(str(source))}: {problems[0]}", hint="`verify` lists all that is damaged; nothing was copied")


# Files.


@contextmanager
def fresh(target: Path, *, new: bool = False, kept: bool = True) -> Iterator[Path]:
    """An empty file beside `target`, for its owner only, which takes its place if all goes well and is gone if not.

    `new`: nothing may stand there even then. `kept` false: it is gone in any case. Raises Refused and Unwritable.
    """
    made: Path | None = None
    try:
        _check(target)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent)
        os.close(descriptor)
        made = Path(name)
        yield made
        if kept:
            _place(made, target, new=new)
    except OSError as error:
        raise translate(error, str(target)) from error
    finally:
        if made is not None:
            with suppress(OSError):
                made.unlink(missing_ok=True)


def _check(target: Path) -> None:
    shown = visible(str(target))
    if not target.parent.is_dir():
        raise Refused(f"{visible(str(target.parent))}: there is no such folder", hint="make it first, or name another target")
    if target.is_dir():
        raise Refused(f"{shown}: is a folder", hint="name a file in it")
    if target.exists():
        if not stat.S_ISREG(target.stat().st_mode):
            raise Refused(f"{shown}: is no plain file", hint="jsonl and csv can be written to the standard output")
        with target.open("rb") as file:
            if file.read(len(_SQLITE)) == _SQLITE:
                raise _taken(target)


def _place(made: Path, target: Path, *, new: bool) -> None:
    """Give a finished file its name, lastingly."""
    descriptor = os.open(made, os.O_RDONLY)
    try:
        os.fchmod(descriptor, 0o600)  # whatever made it: DuckDB makes its own file
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        try:
            target.hardlink_to(made)
        except FileExistsError:
            raise _taken(target) from None
        except OSError:  # a medium without hard links
            if target.exists():
                raise _taken(target) from None
            made.replace(target)
    else:
        made.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _taken(path: Path) -> Refused:
    return Refused(f"{visible(str(path))}: is there already", hint="name a new file; `merge` adds to a ledger")
