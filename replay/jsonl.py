"""One entry a line: the form in which a ledger's entries leave as text and come back (jsonl, DESIGN section 8).

    {"pos":"alpha#7","rec":3,"at":"2026-11-22T03:12:07Z","boot":null,"mono_ns":null,"kind":"link.lost","v":1,
     "event":{"peer":"bravo","reason":"timeout"}}

`rec` is the sealed record that holds the entry, null in the open part; `event` has the fields as stored, those at their
default left out; an entry of an unknown kind or a newer version has `raw` instead, its stored bytes in base64 (RFC 4648).
A line is written with everything that a terminal would obey escaped (RFC 8259, section 7), and is read in any spelling of
JSON; but nothing is guessed, and a line that is not of this shape is refused whole. Pure: runs in, bytes out; bytes in, an
entry out.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final, NoReturn

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ledger import codec
from ledger.entry import INSTANT_MAX_NS, INSTANT_MIN_NS, Observed, Opaque
from ledger.errors import EventRefused
from ledger.events import KINDS, Event, PingAnswered, PingFailed
from replay.receipts import LogRow
from replay.runs import Run
from replay.spans import SECOND_NS, format_instant
from replay.text import json_text, shorten
from replay.zones import EPOCH

LINE_MAX_BYTES: Final = 1 << 17
"""With its line feed. Any line that we write is shorter: an event has 16 KiB at most, and a byte of it six in the line."""

_ENCODER: Final = msgspec.json.Encoder()
_INSTANT: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z").fullmatch
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?(?:\.[1-9][0-9]{0,8})?(?:~[0-9a-f]{4,64})?").fullmatch
# msgspec and the standard library raise these, of several families, on what is no such text; too deep is the last.
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, OverflowError)


class _Line(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A line as it may be read: all keys must be there, and either `event` or `raw`."""

    pos: Annotated[str, Meta(max_length=160)]
    rec: Annotated[int, Meta(ge=1, le=2**60)] | None
    at: Annotated[str, Meta(max_length=40)]
    boot: Annotated[int, Meta(ge=0, le=2**60)] | None
    mono_ns: Annotated[int, Meta(ge=0, le=INSTANT_MAX_NS)] | None
    kind: Annotated[str, Meta(min_length=1, max_length=codec.KIND_MAX_CHARS)]
    v: Annotated[int, Meta(ge=0, le=2**31)]
    event: Raw | UnsetType = UNSET
    raw: str | UnsetType = UNSET


class Placed(Struct, frozen=True, gc=False):
    """What a line says: which feed's name and index, which record, and the entry."""

    name: str
    index: int
    record: int | None
    observed: Observed


_DECODE: Final = msgspec.json.Decoder(_Line).decode
_DECODERS: Final[dict[str, Any]] = {kind: msgspec.json.Decoder(event) for kind, event in KINDS.items()}


# Out.


def row(name: str, index: int, record: int | None, observed: Observed) -> LogRow:
    """An entry as `log` and jsonl show it. `name`: of its feed, as in positions."""
    event = observed.event
    opaque = isinstance(event, Opaque)
    return LogRow(
        f"{name}#{index}",
        record,
        format_instant(observed.at_ns),
        observed.boot,
        observed.mono_ns,
        event.kind,
        event.version,
        UNSET if opaque else event,
        b64encode(event.raw).decode() if isinstance(event, Opaque) else UNSET,
    )


def lines(run: Run) -> str:
    """The lines of a run, each ended by a line feed."""
    name, record = run.name, run.record
    # The same as `row` for each, without its calls: there are millions of these.
    instants = {at_ns: format_instant(at_ns) for at_ns in {entry.at_ns for entry in run.entries}}
    rows = [
        row(name, index, record, entry)
        if isinstance(event := entry.event, Opaque)
        else LogRow(f"{name}#{index}", record, instants[entry.at_ns], entry.boot, entry.mono_ns, event.kind, event.version, event)
        for index, entry in enumerate(run.entries, run.first)
    ]
    return json_text(_ENCODER.encode_lines(rows))


# In.


def read_line(data: bytes) -> Placed:
    """The entry of a line. Raises EventRefused, saying what is wrong with it."""
    try:
        line = _DECODE(data)
    except _UNREADABLE as error:
        raise EventRefused(_reason(error)) from None
    name, _, digits = line.pos.rpartition("#")
    if not _is_name(name) or not _is_index(digits):
        _refuse("pos", line.pos, "is no position of an entry, such as alpha#12021")
    event = _event(line)
    observed = Observed(read_instant(line.at), event, line.boot, line.mono_ns)
    if type(event) is not PingAnswered and type(event) is not PingFailed:  # these are as their fields are
        codec.check(observed, line.pos)
    return Placed(name, int(digits), line.rec, observed)


def _is_index(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and digits[0] != "0" and len(digits) <= 18


@lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    return _NAME(name) is not None


def _event(line: _Line) -> Event | Opaque:
    given, raw = line.event, line.raw
    if isinstance(given, UnsetType) or not isinstance(raw, UnsetType):
        if not isinstance(given, UnsetType) or isinstance(raw, UnsetType):
            raise EventRefused("has neither event nor raw" if isinstance(raw, UnsetType) else "has both event and raw")
        try:
            return codec.decode_event(line.kind, line.v, b64decode(raw, validate=True))
        except ValueError:
            raise EventRefused("raw is no base64") from None
    known = KINDS.get(line.kind)
    if known is None or not 1 <= line.v <= known.version:
        raise EventRefused(f"{shorten(line.kind)} {line.v} is unknown to this version, so it must come as raw")
    if line.v < known.version:
        older = codec.decode_event(line.kind, line.v, bytes(given))
        if isinstance(older, Opaque):
            raise EventRefused(f"{line.kind} {line.v} is not as that version wrote it")
        return older
    try:
        event: Event = _DECODERS[line.kind].decode(given)
    except _UNREADABLE as error:
        raise EventRefused(f"{line.kind}: {_reason(error)}") from None
    return event


@lru_cache(maxsize=1024)
def read_instant(text: str) -> int:
    """The ns of an instant as we print it: RFC 3339 in UTC, `Z`, at most nine decimals. Raises EventRefused."""
    found = _INSTANT(text)
    if found is None:
        _refuse("at", text, "is no instant such as 2026-11-22T03:12:07.25Z")
    second, decimals = found.groups()
    try:
        at_ns = _second(second) * SECOND_NS
    except ValueError:
        _refuse("at", text, "is no instant: there is no such day or time")
    if decimals:
        at_ns += int(decimals.ljust(9, "0"))
    if not INSTANT_MIN_NS <= at_ns <= INSTANT_MAX_NS:
        _refuse("at", text, "is out of range: instants lie between 1823-11-12 and 2116-02-20")
    return at_ns


@lru_cache(maxsize=4096)
def _second(text: str) -> int:
    since = datetime.fromisoformat(text).replace(tzinfo=EPOCH.tzinfo) - EPOCH
    return since.days * 86_400 + since.seconds


def _refuse(field: str, text: str, what: str) -> NoReturn:
    raise EventRefused(f"{field} '{shorten(text)}' {what}", field=field)


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, UnicodeError):
        return "is no UTF-8 text"
    return shorten(str(error), 200)
