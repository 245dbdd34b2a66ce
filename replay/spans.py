"""Instants and spans as text, and spans back: the two forms that everything printed about time is made of.

An instant is an integer of nanoseconds UTC inside and RFC 3339 outside, with as many decimals as it needs and no more;
it never passes through a float. A span is printed in the units that the time grammar reads, so that what was printed
can be asked for. What is no span is refused, and the refusal says what to write instead.

The grammar of moments (`moments`) stands on this room. No clock, no I/O.
"""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache
from typing import Final

from ledger.errors import Refused
from replay import spellings
from replay.text import shorten
from replay.zones import EPOCH

SECOND_NS: Final = 1_000_000_000
NS_MIN: Final = -(2**63)
NS_MAX: Final = 2**63 - 1
"""What can be named and printed, 1677-09-21 to 2262-04-11: more than the record takes."""
TEXT_MAX: Final = 200
"""No spelling of a moment or a span is longer, and no number in it long enough to be slow."""

_UNITS_NS: Final = {
    name: size_ns
    for size_ns, names in (
        (1_000, ("us", "microsecond", "microseconds")),
        (1_000_000, ("ms", "millisecond", "milliseconds")),
        (SECOND_NS, ("s", "second", "seconds")),
        (60 * SECOND_NS, ("m", "min", "minute", "minutes")),
        (3_600 * SECOND_NS, ("h", "hour", "hours")),
        (86_400 * SECOND_NS, ("d", "day", "days")),
        (604_800 * SECOND_NS, ("w", "week", "weeks")),
    )
    for name in names
}
_PART: Final = re.compile(r"\s*([0-9]+)(?:\.([0-9]+))?\s*([^\W\d_]+)")
_SPAN_HINT: Final = "a number and a unit of us ms s m min h d w, such as '90m', '2h30m' or '1.5s'"


def format_instant(at_ns: int) -> str:
    """`2026-11-22T03:12:07.25Z`: RFC 3339 in UTC, with 0 to 9 decimals, for every instant that 64 bits hold."""
    second, fraction = divmod(at_ns, SECOND_NS)
    if fraction == 0:
        return _to_the_second(second) + "Z"
    return f"{_to_the_second(second)}.{fraction:09d}".rstrip("0") + "Z"


@lru_cache(maxsize=4096)
def _to_the_second(second: int) -> str:
    # Entries come in the order of time, so the same second is asked for again and again.
    return (EPOCH + timedelta(seconds=second)).isoformat()[:19]


def format_span(span_ns: int) -> str:
    """`2h 30min`, `15min 11.5s`, `418ms`, `0.5us`: exact, read back by `parse_span`. A negative one begins with `-`."""
    if span_ns < 0:
        return f"-{format_span(-span_ns)}"
    if 0 < span_ns < SECOND_NS:
        return _decimal(span_ns, 1_000) + "us" if span_ns < 1_000_000 else _decimal(span_ns, 1_000_000) + "ms"
    minutes, rest_ns = divmod(span_ns, 60 * SECOND_NS)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if count]
    if rest_ns or not parts:
        parts.append(_decimal(rest_ns, SECOND_NS) + "s")
    return " ".join(parts)


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else str(whole)


def parse_span(text: str) -> int:
    """Nanoseconds of `90m`, `2h30m`, `1.5 hours`, `1d 12h`; without a sign. Raises Refused for anything else.

    Units: us ms s m min h d w and their long names, each once, from large to small; no months and no years.
    """
    shown, text = shorten(text), text.strip()
    total_ns, previous_ns, place = 0, 0, 0
    parts = [*_PART.finditer(text)] if len(text) <= TEXT_MAX else []
    for part in parts:
        whole, fraction, unit = part.group(1), part.group(2) or "", part.group(3)
        unit_ns = _UNITS_NS.get(unit)
        if part.start() != place:
            break
        if unit_ns is None:
            what = "has no fixed length" if unit in spellings.CALENDAR_DAYS else "is no unit of time"
            near = spellings.span(text)
            raise Refused(f"'{shown}': '{shorten(unit)}' {what}", hint=f"did you mean '{near}'?" if near else _SPAN_HINT)
        if previous_ns and unit_ns >= previous_ns:
            raise Refused(f"'{shown}': each unit stands once, from large to small", hint="such as '2h30m'")
        amount_ns, finer = divmod(int(whole + fraction) * unit_ns, 10 ** len(fraction))
        if finer:
            raise Refused(f"'{shown}' is finer than a nanosecond", hint="'0.001us' is one, and the finest")
        total_ns, previous_ns, place = total_ns + amount_ns, unit_ns, part.end()
    if not parts or place != len(text):
        raise Refused(f"'{shown}' is no span of time", hint=_SPAN_HINT)
    if total_ns > NS_MAX:
        raise Refused(f"'{shown}' is longer than the record can reach", hint="'15250w' is about the longest, 292 years")
    return total_ns
