"""As bytes: events in and out of their stored form, and old shapes brought up to date.

A control event is stored as JSON text (RFC 8259), its fields in the order of `events`, those with their default left
out. What is read back is accepted as known only if it encodes to the very same bytes: then one event has one stored
form, and a leaf of the Merkle tree can be recomputed from what was understood. Everything else (an unknown kind, a newer
version, a foreign spelling) is kept as it came, as `Opaque`.

A *record* as bytes is what a leaf of the tree covers: MessagePack of the format number, the index of its first entry, the
control events with their places, and the block of its pings. This room defines those bytes; how rows hold them on disk is
the store's affair. An old shape is brought to today's by a chain of upcasters, one version a step; `check_chain` refuses a
chain with a gap when this room is loaded. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from ledger.blocks import Block
from ledger.entry import INSTANT_MAX_NS, INSTANT_MIN_NS, MONO_MAX_NS, Observed, Opaque
from ledger.errors import Damaged, EventRefused
from ledger.events import KINDS, Event, PingAnswered, PingFailed
from ledger.merkle import leaf_hash
from ledger.packing import arrange
from ledger.unpacking import Pings, unpack

RECORD_FORMAT: Final = 1
CONTROL_MAX_BYTES: Final = 16 * 1024
RECORD_MAX_BYTES: Final = 60_000
"""C2SP tlog-tiles allows entries of 65,535 bytes at most; a record stays below with room to spare."""
RECORD_MAX_ENTRIES: Final = 65_536
"""No record of ours comes near; a few bytes from elsewhere could else claim more entries than there is memory."""
KIND_MAX_CHARS: Final = 64

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: Final[dict[tuple[str, int], Upcaster]] = {}
"""(kind, version) -> the fields as the next version has them. Every version ever written has one, except the last."""

_ENCODER: Final = msgspec.json.Encoder()
_DECODERS: Final = {kind: msgspec.json.Decoder(event) for kind, event in KINDS.items()}
_PINGS: Final = frozenset((PingAnswered, PingFailed))
# msgspec leaves out a text that is the default itself, and writes one that only equals it: equal events would have two forms.
_TEXTS: Final = {
    event: tuple((f.name, f.default) for f in msgspec.structs.fields(event) if isinstance(f.default, str))
    for event in KINDS.values()
}
# msgspec raises these, of several families, on bytes that are no such JSON; a parser's depth is the last of them.
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, TypeError)


class Control(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A control event within a record: its place from 0, its clocks, its stored form."""

    place: int
    at_ns: int
    boot: int | None
    mono_ns: int | None
    kind: str
    version: int
    body: bytes


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A run of entries from index `first` on, sealed: `count` of them, the controls at their places, pings between."""

    format: int
    first: int
    count: int
    controls: tuple[Control, ...]
    pings: Block


class Opened(NamedTuple):
    """A record that is what its entries make, with these as they are stored, and with its pings opened."""

    record: Record
    entries: list[Observed]
    pings: Pings


_RECORD_ENCODER: Final = msgspec.msgpack.Encoder()
_RECORD_DECODER: Final = msgspec.msgpack.Decoder(Record)


def check_chain(upcasters: Mapping[tuple[str, int], Upcaster], kinds: Mapping[str, type[Event]]) -> None:
    """Refuse a chain of upcasters that does not lead every old version of a known kind to today's, one step at a time.

    Raises AssertionError: it is our own mistake, found when the program starts.
    """
    for kind, version in upcasters:
        assert kind in kinds, f"an upcaster for {kind}, which is no kind"  # noqa: S101
        assert 1 <= version < kinds[kind].version, f"an upcaster for {kind} {version}, which is no old version"  # noqa: S101
    for kind, event in kinds.items():
        for version in range(1, event.version):
            assert (kind, version) in upcasters, f"{kind} {version} has no upcaster"  # noqa: S101


check_chain(UPCASTERS, KINDS)


def encode_event(event: Event | Opaque) -> bytes:
    """The stored form of an event, one for all that are equal. Raises EventRefused if it has none (lone surrogates, a value of a
    foreign type).
    """
    if isinstance(event, Opaque):
        return event.raw
    for name, default in _TEXTS.get(type(event), ()):
        value = getattr(event, name)
        if value is not default and value == default:
            event = msgspec.structs.replace(event, **{name: default})
    try:
        return _ENCODER.encode(event)
    except (*_UNREADABLE, OverflowError) as error:
        field = next((name for name in event.__struct_fields__ if not _has_json(getattr(event, name))), None)
        raise EventRefused(f"{event.kind}: {field or 'the event'}: {error}", field=field) from None


def _has_json(value: object) -> bool:
    try:
        _ENCODER.encode(value)
    except (*_UNREADABLE, OverflowError):
        return False
    return True


def decode_event(
    kind: str, version: int, raw: bytes, upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS
) -> Event | Opaque:
    """The event that `raw` stores; Opaque if this version does not know it or would write it differently."""
    known = KINDS.get(kind)
    if known is None or not 1 <= version <= known.version:
        return Opaque(kind, version, raw)
    try:
        if version == known.version:
            event: Event = _DECODERS[kind].decode(raw)
            return event if _ENCODER.encode(event) == raw else Opaque(kind, version, raw)
        fields = msgspec.json.decode(raw, type=dict[str, Any])
        if _ENCODER.encode(fields) != raw:
            return Opaque(kind, version, raw)
        for step in range(version, known.version):
            fields = upcasters[kind, step](fields)
        return msgspec.convert(fields, known)
    except (*_UNREADABLE, LookupError, AttributeError):  # the last two from an upcaster that meets a foreign shape
        return Opaque(kind, version, raw)


def stored_event(kind: str, version: int, raw: bytes) -> Event | Opaque:
    """The same for whoever carries entries on: an old version stays as it was stored, as Opaque, and is upcast by readers."""
    known = KINDS.get(kind)
    if known is not None and version != known.version:
        return Opaque(kind, version, raw)
    return decode_event(kind, version, raw)


def version_of(event: Event | Opaque) -> int:
    """The version of the stored form that `encode_event` gives."""
    return event.version


def check(observed: Observed, place: str) -> None:
    """Refuse what the record does not take, before anything is written. `place` says where it stood, for the message.

    Raises EventRefused, naming the field and the limit.
    """
    for name, value in (("at_ns", observed.at_ns), ("mono_ns", observed.mono_ns)):
        if type(value) is not int and not (value is None and name == "mono_ns"):
            _refuse(place, name, f"is {_shown(value)}, not a whole number of nanoseconds")
    if not INSTANT_MIN_NS <= observed.at_ns <= INSTANT_MAX_NS:
        told = "is out of range: instants lie between 1823-11-12 and 2116-02-20"
        _refuse(place, "at_ns", f"{_shown(observed.at_ns)} {told}")
    if observed.mono_ns is not None and not 0 <= observed.mono_ns <= MONO_MAX_NS:
        _refuse(place, "mono_ns", f"{_shown(observed.mono_ns)} is out of range: it lies between 0 and 2^62")
    if observed.boot is not None and (type(observed.boot) is not int or not 0 <= observed.boot <= 2**60):
        _refuse(place, "boot", f"is {_shown(observed.boot)}, not a number from 0 to 2^60")
    event = observed.event
    if isinstance(event, Opaque):
        _check_opaque(event, place)
        return
    if KINDS.get(getattr(event, "kind", "")) is not type(event):
        _refuse(place, "event", f"{type(event).__name__} is no event of ours")
    try:
        raw = encode_event(event)
    except EventRefused as error:
        raise EventRefused(f"{place}: {error.message}", field=error.field, place=place) from None
    if len(raw) > CONTROL_MAX_BYTES:
        _refuse(place, event.kind, f"takes {len(raw)} bytes, the limit is {CONTROL_MAX_BYTES}")
    try:
        again = _DECODERS[event.kind].decode(raw)
    except _UNREADABLE as error:
        text = str(error)
        field = text.rsplit("`$.", 1)[1].rstrip("`") if "`$." in text else None
        raise EventRefused(f"{place}: {event.kind}: {text}", field=field, place=place) from None
    if again != event or _ENCODER.encode(again) != raw:
        names = (name for name in event.__struct_fields__ if getattr(again, name) != getattr(event, name))
        _refuse(place, f"{event.kind}: {next(names, 'a field')}", "does not read back as it was given")


def _check_opaque(event: Opaque, place: str) -> None:
    if not isinstance(event.kind, str) or not 0 < len(event.kind) <= KIND_MAX_CHARS or not _has_json(event.kind):
        _refuse(place, "kind", f"must have 1 to {KIND_MAX_CHARS} characters that UTF-8 can carry")
    if type(event.version) is not int or not 0 <= event.version <= 2**31:
        _refuse(place, "v", "must be a whole number from 0 to 2^31")
    if not isinstance(event.raw, bytes) or len(event.raw) > CONTROL_MAX_BYTES:
        _refuse(place, event.kind, f"takes more than {CONTROL_MAX_BYTES} bytes")
    if not isinstance(stored_event(event.kind, event.version, event.raw), Opaque):
        _refuse(place, event.kind, "is known to this version: give it as the event that it is")


def _refuse(place: str, field: str, what: str) -> NoReturn:
    raise EventRefused(f"{place}: {field} {what}", field=field.rsplit(": ", 1)[-1], place=place)


def _shown(value: object) -> str:
    """A value for a message: Python refuses to print the longest integers, and nobody reads the longest texts."""
    try:
        text = repr(value)
    except ValueError:
        return f"a {type(value).__name__} too long to print"
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_ping(event: Event | Opaque) -> bool:
    """Whether an event is packed in columns rather than stored as text."""
    return type(event) in _PINGS


def controls_among(entries: Sequence[Observed]) -> list[tuple[int, Observed]]:
    """Those entries that are no pings, each with its place from 0."""
    kinds = [entry.event.__class__ for entry in entries]
    if _PINGS.issuperset(kinds):
        return []
    return [(place, entries[place]) for place, kind in enumerate(kinds) if kind not in _PINGS]


def make_record(first: int, entries: Sequence[Observed]) -> Record:
    """The record of these entries, the first of which has index `first`."""
    return arrange_record(first, entries)[0]


def arrange_record(first: int, entries: Sequence[Observed]) -> tuple[Record, Pings]:
    """The same, with its pings opened: the columns are at hand when a record is made."""
    controls = tuple(
        Control(place, o.at_ns, o.boot, o.mono_ns, o.event.kind, version_of(o.event), encode_event(o.event))
        for place, o in controls_among(entries)
    )
    pings = entries if not controls else [o for o in entries if o.event.__class__ in _PINGS]
    opened = arrange(pings, first, [first + control.place for control in controls])
    return Record(RECORD_FORMAT, first, len(entries), controls, opened.block), opened


def open_record(record: Record) -> list[Observed]:
    """The entries of a record, in order, as they are stored. Raises Damaged if its places do not add up."""
    if record.pings.count + len(record.controls) != record.count or not 0 <= record.pings.count <= RECORD_MAX_ENTRIES:
        raise Damaged("a record's entries do not add up to its count")
    pings = iter(unpack(record.pings))
    if not record.controls:
        return list(pings)
    result: list[Observed] = []
    for control in record.controls:
        while len(result) < control.place:
            result.append(next(pings))
        event = stored_event(control.kind, control.version, control.body)
        result.append(Observed(control.at_ns, event, control.boot, control.mono_ns))
    result.extend(pings)
    return result


def encode_record(record: Record) -> bytes:
    """The canonical bytes of a record: the data of its leaf."""
    return _RECORD_ENCODER.encode(record)


def decode_record(data: bytes) -> Record:
    """The record that canonical bytes hold. Raises Damaged if they hold none, or are not what it encodes to."""
    return opened_record(data).record


def opened_record(data: bytes) -> Opened:
    """The same, with what it holds: that is at hand once its bytes were found to be canonical."""
    if len(data) > RECORD_MAX_BYTES:
        raise Damaged(f"a record of {len(data)} bytes, the limit is {RECORD_MAX_BYTES}")
    try:
        record = _RECORD_DECODER.decode(data)
        if record.format != RECORD_FORMAT or record.count < 1:
            raise Damaged(f"a record of format {record.format}")
        entries = open_record(record)
        made, pings = arrange_record(record.first, entries)
        again = encode_record(made)
    except (*_UNREADABLE, IndexError, StopIteration, OverflowError) as error:
        raise Damaged(f"no record: {error}") from None
    if again != data:
        raise Damaged("a record that does not encode to itself")
    return Opened(made, entries, pings)


def decode_few(data: bytes, limit: int) -> tuple[int, list[Observed]] | None:
    """The index of the first, and the entries, of bytes that hold `limit` or less, each of which the record takes; None if they
    hold more. Whether they would encode to these very bytes is not asked: for entries that are known by another digest.

    Raises Damaged if they hold no record, EventRefused if one of them is refused.
    """
    try:
        record = _RECORD_DECODER.decode(data)
        if record.count > limit:
            return None
        if record.format != RECORD_FORMAT or record.count < 1:
            raise Damaged(f"a record of format {record.format}")
        entries = open_record(record)
    except (*_UNREADABLE, IndexError, StopIteration, OverflowError) as error:
        raise Damaged(f"no record: {error}") from None
    for entry in entries:
        check(entry, "an entry")
    return record.first, entries


def leaf_of(record: Record) -> bytes:
    """The record's leaf hash (RFC 6962)."""
    return leaf_hash(encode_record(record))
