"""Matrices of round-trip times as they lie about: files, folders and archives of them, each matrix one slice of time.

A slice is a square of numbers, one row a line, its cells separated by blanks, tabs or commas; cell (i, j) is what machine i
measured to machine j. Slices come in natural order (`_2` before `_10`) over everything that was named. An archive is read
as a stream and never unpacked. A cell is turned to whole microseconds from its decimal text, half to even, so no binary
fraction comes between; what is not positive and finite is a ping without an answer.

A slice that is ragged, empty, not square or not of numbers is refused whole, with its line. What a slice means for the
record is the affair of `rtt_matrix`. Reads files, writes none.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import Final, Literal, NamedTuple

from ledger.errors import LedgerError, Refused
from ledger.identity import host_name, machine_name
from replay.text import shorten, visible

Unit = Literal["s", "ms", "us"]
LOST: Final = -1
"""A cell without an answer."""
SLICE_MAX_BYTES: Final = 1 << 26
ARCHIVE_MAX_BYTES: Final = 1 << 31
ARCHIVES: Final = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")

_DECIMALS: Final = {"s": 6, "ms": 3, "us": 0}
_NUMBER: Final = re.compile(
    rb"[+-]?(?:(?P<plain>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,9})?)|inf|infinity|nan)",
    re.IGNORECASE,
)
_CELL_MAX_BYTES: Final = 64
_RTT_DIGITS: Final = 18
"""An RTT has at most so many digits in µs: 2^60 is the record's limit, and 10^18 lies below."""
_EXACT: Final = Context(prec=_CELL_MAX_BYTES, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
_CACHED_MAX: Final = 1 << 20
_DIGITS: Final = re.compile(r"([0-9]+)")


class Slice(NamedTuple):
    """One matrix to be read: its name for people, and what gives its bytes (raises OSError)."""

    label: str
    read: Callable[[], bytes]


class SliceError(Exception):
    """A slice that cannot be read as a matrix. `line` counts from 1, None if it concerns the whole."""

    def __init__(self, line: int | None, why: str) -> None:
        super().__init__(why)
        self.line = line
        self.why = why


# Where slices are.


def find_slices(sources: Iterable[str | Path]) -> list[Slice]:
    """The slices of files, folders (with theirs) and tar archives, in natural order; hidden files are passed over.

    Raises Refused for a path that is not there, an archive that is damaged or too big, and where nothing is found.
    """
    found: dict[str, Slice] = {}
    named = [Path(source) for source in sources]
    for source in named:
        for each in _within(source):
            found.setdefault(each.label, each)
    if not found:
        places = ", ".join(visible(str(source)) for source in named)
        raise Refused(f"{places or 'nothing named'}: no matrix to read", hint="name files, folders or tar archives")
    return sorted(found.values(), key=lambda each: natural(each.label))


def natural(text: str) -> tuple[list[str | int], str]:
    """A key by which numbers within texts sort as numbers, and texts that differ only in zeros by themselves."""
    parts: list[str | int] = list(_DIGITS.split(text))
    parts[1::2] = map(int, parts[1::2])
    return parts, text


def _within(source: Path) -> Iterator[Slice]:
    if source.is_dir():
        for path in source.rglob("*"):
            if path.is_file() and not _hidden(path.relative_to(source).parts):
                yield _file(path)
    elif source.name.lower().endswith(ARCHIVES):
        yield from _archived(source)
    elif source.exists():
        yield _file(source)
    else:
        raise Refused(f"{visible(str(source))}: there is no such file or folder")


def _file(path: Path) -> Slice:
    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(SLICE_MAX_BYTES + 1)

    return Slice(str(path), read)


def _archived(path: Path) -> Iterator[Slice]:
    """All of an archive is held, since its members stand in any order."""
    total = 0
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                if file is None or _hidden(member.name.split("/")):
                    continue
                data = file.read(SLICE_MAX_BYTES + 1)
                total += len(data)
                if total > ARCHIVE_MAX_BYTES:
                    raise Refused(f"{visible(str(path))}: holds more than {ARCHIVE_MAX_BYTES} bytes", hint="unpack it first")
                yield Slice(f"{path}:{member.name}", lambda data=data: data)  # type: ignore[misc]
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        # Some members may be lost, and with them the numbers of all slices: none of it can be used.
        raise Refused(f"{visible(str(path))}: is no whole archive: {visible(str(error))}") from None
    except OSError as error:
        raise Refused(f"{visible(str(path))}: {_said(error)}") from None


def _hidden(parts: Sequence[str]) -> bool:
    return any(part.startswith(".") and part not in {".", ".."} for part in parts)


# What a slice says.


class Cells(dict[bytes, int]):
    """RTTs in µs, or LOST, by the text of a cell: texts repeat, so each is read once. Raises ValueError if it is none."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._decimals = _DECIMALS[unit]

    def __missing__(self, text: bytes) -> int:
        value = cell_us(text, self._decimals)
        if len(self) >= _CACHED_MAX:
            self.clear()
        self[text] = value
        return value


def cell_us(text: bytes, decimals: int) -> int:
    """A cell in µs, if it is positive and finite, else LOST. `decimals`: how many its unit has more than µs.

    Raises ValueError, saying why, if it is no number or too great for the record.
    """
    found = _NUMBER.fullmatch(text) if len(text) <= _CELL_MAX_BYTES else None
    if found is None:
        shown = shorten(text.decode("utf-8", "backslashreplace"), 40)
        raise ValueError(f"'{shown}' is no number" if text else "is empty")
    if found["plain"] is None or text.startswith(b"-"):
        return LOST
    value = Decimal(found["plain"].decode()).scaleb(decimals, _EXACT)
    if not value:
        return LOST
    if value.adjusted() >= _RTT_DIGITS:
        raise ValueError(f"'{shorten(text.decode(), 40)}' is longer than any RTT")
    return int(value.to_integral_value(context=_EXACT))


def parse(data: bytes, cells: Cells, size: int | None) -> list[list[int]]:
    """The rows of a matrix, each without its diagonal cell: in µs, or LOST. `size`: how many it must have, if known.

    Raises SliceError if it is too big, empty, ragged, not square, of another size, or not of numbers.
    """
    if len(data) > SLICE_MAX_BYTES:
        raise SliceError(None, f"is larger than {SLICE_MAX_BYTES} bytes")
    rows: list[list[int]] = []
    wanted = size
    number = 0
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        texts = [cell.strip() for cell in line.split(b",")] if b"," in line else line.split()
        if not texts:
            continue
        if wanted is None:
            wanted = len(texts)
        if len(texts) != wanted:
            raise SliceError(number, f"has {len(texts)} cells, not {wanted}")
        if len(rows) == wanted:
            raise SliceError(number, f"is row {len(rows) + 1} of a matrix of {wanted} columns")
        try:
            row = list(map(cells.__getitem__, texts))
        except ValueError:
            raise SliceError(number, _unfit(texts, cells)) from None
        del row[len(rows)]
        rows.append(row)
    if not rows:
        raise SliceError(None, "is empty")
    if len(rows) != wanted:
        raise SliceError(number, f"ends after {len(rows)} rows of {wanted} cells: it is not square")
    return rows


def _unfit(texts: Sequence[bytes], cells: Cells) -> str:
    for column, text in enumerate(texts, 1):
        try:
            cells[text]
        except ValueError as error:
            return f"cell {column}: {error}"
    raise AssertionError(texts)


# What the machines are called.


def default_names(count: int) -> list[tuple[str, str | None]]:
    """`m01` … `m99`: as wide as the count needs."""
    width = len(str(count))
    return [(f"m{number:0{width}d}", None) for number in range(1, count + 1)]


def read_names(path: str | Path) -> list[tuple[str, str | None]]:
    """The machines of a names file: one a line, its host name in a second column if it has one.

    Raises Refused, with the line, for what is no name or stands twice.
    """
    shown = visible(str(path))
    try:
        text = Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"{shown}: is no UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise Refused(f"{shown}: {_said(error)}") from None
    names: dict[str, str | None] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        columns = line.replace(",", " ").split()
        if not columns:
            continue
        try:
            machine = machine_name(columns[0])
            hostname = host_name(columns[1]) if len(columns) > 1 else None
        except LedgerError as error:
            raise Refused(f"{shown}: line {number}: {visible(error.message)}", hint=error.hint) from None
        if len(columns) > 2 or machine in names:
            why = "has more than two columns" if len(columns) > 2 else f"names {machine} again"
            raise Refused(f"{shown}: line {number}: {why}", hint="one machine a line: NAME [HOSTNAME]")
        names[machine] = hostname
    return list(names.items())


def _said(error: OSError) -> str:
    return "there is no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
