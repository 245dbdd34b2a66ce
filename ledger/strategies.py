"""Hypothesis strategies for single values: names, instants, events of every kind, opaque bytes.

An event strategy is made from the event's own type: every field gets its bounds from the struct, so that a new kind
or a new field is generated from the day it is written. Text is as nasty as its bounds allow (controls, bidi marks,
lone combining signs, the longest there may be); integers reach both ends of their range.

Guests take these from `ledger.testing`, which adds whole feeds and histories. Needs Hypothesis (the extra `testing`).
No clock, no dice but Hypothesis's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast, get_args

from msgspec import inspect

from ledger.entry import INSTANT_MAX_NS, INSTANT_MIN_NS, Opaque
from ledger.events import KINDS, Event, PositionText
from ledger.identity import HOSTNAME_PATTERN, MACHINE_PATTERN

try:
    from hypothesis import strategies as st
except ImportError as missing:
    raise ImportError("ledger.testing needs Hypothesis: pip install 'meshledger[testing]'") from missing

START_NS: Final = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z, where generated histories begin."""
NAMES: Final = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")

_POSITION_PATTERN: Final = get_args(PositionText)[1].pattern
_NASTY: Final = (
    "\x00", "\x07", "\x1b[2J", "\r\n", "\t", "\x7f", "\x85", "\u200b", "\u202e", "\u2066", "\u2069", "\ufeff",
    "\u0301", "\u2028", "\ufffd", "\ufffe", "\U0010ffff", "'", '"', "\\", "</script>", "; DROP TABLE record",
    "%s{0}", "..", "=1+1", "\U0001f4a9",
)  # fmt: skip
_LABEL: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


def machines() -> st.SearchStrategy[str]:
    """Machine names in their one form: mostly short and familiar, now and then the longest or the oddest allowed."""
    inner = st.text(alphabet=_LABEL + "-_", max_size=61)
    odd = st.builds(lambda first, middle, last: first + middle + last, _letter(), inner, _letter())
    return st.sampled_from(NAMES) | st.sampled_from(_LABEL) | odd


def hostnames() -> st.SearchStrategy[str]:
    """Host names in their one form: one to several labels, at most 253 characters."""
    labels = st.lists(machines(), min_size=1, max_size=4).map(".".join).filter(lambda name: len(name) <= 253)
    return st.sampled_from([f"{name}.lab.example" for name in NAMES]) | labels


def instants() -> st.SearchStrategy[int]:
    """Instants in nanoseconds UTC: near the start of 2026, anywhere in 64 bits, and both ends."""
    near = st.integers(min_value=-(10**12), max_value=10**12).map(lambda offset: START_NS + offset)
    ends = st.sampled_from([0, -1, 1, INSTANT_MIN_NS, INSTANT_MAX_NS, 2**31 * 10**9])
    return near | ends | st.integers(min_value=INSTANT_MIN_NS, max_value=INSTANT_MAX_NS)


def texts(size_max: int) -> st.SearchStrategy[str]:
    """Text of at most `size_max` characters that UTF-8 can carry, from the plain to the hostile."""
    plain = st.text(alphabet=st.characters(codec="utf-8"), max_size=min(size_max, 40))
    nasty = st.lists(st.sampled_from(_NASTY), min_size=1, max_size=6).map(lambda parts: "".join(parts)[:size_max])
    return plain | nasty | st.sampled_from(["x" * size_max, "\U0001f4a9" * size_max])


def opaques() -> st.SearchStrategy[Opaque]:
    """Events that this version does not know: kinds unheard of, newer versions, shapes that do not re-encode."""
    unheard = st.sampled_from(["link.dreamt", "weather.changed", "x"])
    raw = st.sampled_from([b"{}", b"", b'{"peer":"bravo"}', b'{ "peer" : "bravo" }', b"\xff\xfe", b"[" * 50]) | st.binary(
        max_size=64
    )
    newer = st.builds(Opaque, kind=st.sampled_from(sorted(KINDS)), version=st.integers(min_value=2, max_value=2**31), raw=raw)
    return st.builds(Opaque, kind=unheard, version=st.integers(min_value=1, max_value=2**31), raw=raw) | newer


def events(kinds: Iterable[str] | None = None, *, names: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Event]:
    """Any valid event of `kinds` (stored tags; default all). `names`: where machine names come from, such as a small
    pool, so that events speak of each other. Raises KeyError for a kind that does not exist.
    """
    chosen = sorted(KINDS) if kinds is None else list(kinds)
    pool = machines() if names is None else names
    return st.sampled_from(chosen).flatmap(lambda kind: _event(KINDS[kind], pool))


def _letter() -> st.SearchStrategy[str]:
    return st.sampled_from(_LABEL)


def _event(kind: type[Event], names: st.SearchStrategy[str]) -> st.SearchStrategy[Event]:
    described = cast("inspect.StructType", inspect.type_info(kind))
    return st.fixed_dictionaries(
        {part.name: _value(part.type, names) for part in described.fields if part.required},
        optional={part.name: _value(part.type, names) for part in described.fields if not part.required},
    ).map(lambda fields: kind(**fields))


def _value(described: inspect.Type, names: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    match described:
        case inspect.UnionType(types=types):
            null_first = sorted(types, key=lambda each: not isinstance(each, inspect.NoneType))
            return st.one_of([_value(each, names) for each in null_first])
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.IntType(ge=low, le=high):
            return _integers(low, high)
        case inspect.StrType():
            return _strings(described, names)
        case inspect.VarTupleType(item_type=item):
            return st.lists(_value(item, names), max_size=4).map(tuple)
    raise NotImplementedError(f"no strategy for a field of type {type(described).__name__}")


def _integers(low: int | None, high: int | None) -> st.SearchStrategy[int]:
    ends = [end for end in (low, high) if end is not None]
    within = st.integers(min_value=low, max_value=high)
    return st.one_of(within, st.sampled_from(ends)) if ends else within


def _strings(described: inspect.StrType, names: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    low, high = described.min_length or 0, 4096 if described.max_length is None else described.max_length
    match described.pattern:
        case None:
            return texts(high).filter(lambda text: len(text) >= low)
        case pattern if pattern == MACHINE_PATTERN:
            return names
        case pattern if pattern == HOSTNAME_PATTERN:
            return hostnames()
        case pattern if pattern == _POSITION_PATTERN:
            indexes = st.integers(min_value=0, max_value=40)
            return st.builds(lambda name, index: f"{name}#{index}", names, indexes) | _matching(pattern, high)
        case pattern:
            return _matching(pattern, high)


def _matching(pattern: str, high: int) -> st.SearchStrategy[str]:
    """Text that `pattern` matches. Python's `$` also matches before a last line break, which is not meant here."""
    whole = pattern.removeprefix("^").removesuffix("$")
    found = st.from_regex(whole, fullmatch=True, alphabet=st.characters(codec="ascii"))
    return found.filter(lambda text: len(text) <= high)
