"""The time grammar: how a guest names a moment, a span or a range, and how we print them.

Inside, a moment is an integer of nanoseconds UTC; it never passes through a float. Every instant that we print parses
back to itself. What hangs on circumstances (now, the zone, the ledger's ends, its marks and positions) comes in as
`Anchors`, so that a question means the same to everyone who asks it of the same files.

Nothing is guessed. What is ambiguous, unknown or out of range is refused, and the hint names the nearest spellings that
are valid here, each tried with this very grammar (`spellings` only proposes). Nothing here reads a clock or a ledger.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from typing import Final

import msgspec

from ledger.errors import Refused
from ledger.identity import Position, parse_position
from replay import spellings, zones
from replay.spans import NS_MAX, NS_MIN, SECOND_NS, TEXT_MAX, format_instant, format_span, parse_span
from replay.text import shorten

__all__ = [
    "Anchors", "Moment", "NoMoment", "Range", "format_instant", "format_span", "nearest", "parse_moment", "parse_range",
    "parse_span",
]  # fmt: skip

AROUND_NS: Final = 300 * SECOND_NS
"""How far `--around` reaches to each side unless it says so: five minutes."""


class Anchors(msgspec.Struct, frozen=True):
    """What a moment may be named by. `tz` is an IANA key, None for UTC; None elsewhere where there is nothing to name.

    `now_ns` is the wall clock of a live node; for files that nobody writes, their last entry; `--now` fixes it. `marks`
    gives for each name the instants that bear it. `position` gives an entry's instant, and raises where it is not held.
    """

    now_ns: int | None = None
    tz: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    marks: Mapping[str, Sequence[int]] = {}
    position: Callable[[Position], int] | None = None


class Moment(msgspec.Struct, frozen=True):
    """A moment, as asked for: the instant, the position if that is how it was named, and the text that named it."""

    at_ns: int
    position: Position | None
    text: str


class NoMoment(Refused):
    """A text that names no moment, or one beyond all instants. `hint` names the nearest spellings that are valid."""


class Range(msgspec.Struct, frozen=True):
    """Half-open: from `since_ns` on, before `until_ns`; None is no bound. Adjoining ranges lose and repeat nothing."""

    since_ns: int | None = None
    until_ns: int | None = None

    def holds(self, at_ns: int) -> bool:
        """Whether the instant stands in the range."""
        return (self.since_ns is None or self.since_ns <= at_ns) and (self.until_ns is None or at_ns < self.until_ns)


def parse_moment(text: str, anchors: Anchors) -> Moment:
    """The moment that `text` names. Raises Refused, with spellings that are valid, if it names none or more than one.

    RFC 3339 (https://www.rfc-editor.org/rfc/rfc3339), up to nine decimals; `2026-11-22`, `2026-11-22 03:12[:07[.5]]`,
    in `anchors.tz` unless an offset or a zone follows; `03:12`, the last one by now; `@1767225600.5`; `now`, `now-90m`,
    `-2h30m`, `+5m`, `15 min ago`; `today`, `yesterday`, `start`, `end`, `end-5m`; `mark:NAME`; `alpha#12021`.
    """
    text = text.strip()
    try:
        at_ns, position = _read(text, anchors)
    except NoMoment as refused:
        near = nearest(text, anchors)
        refused.hint = f"did you mean {_either(near)}?" if near else refused.hint
        raise
    return Moment(at_ns, position, text)


def is_moment(text: str) -> bool:
    """Whether this would name a moment where there is all that moments are named by."""
    try:
        parse_moment(text, Anchors(0, None, 0, 0, {text.removeprefix("mark:"): (0,)}, lambda _position: 0))
    except Refused:
        return False
    return True


def nearest(text: str, anchors: Anchors, most: int = 3) -> list[str]:
    """Spellings near `text` that are valid under `anchors`, nearest first; empty if none comes to mind."""
    found: list[str] = []
    for candidate in spellings.near(text) if len(text) <= TEXT_MAX else ():
        try:
            _read(candidate, anchors)
        except Refused:
            continue
        if candidate.lower() not in {known.lower() for known in found}:
            found.append(candidate)
        if len(found) == most:
            break
    return found


def parse_range(since: str | None, until: str | None, around: str | None, anchors: Anchors) -> Range:
    """The range of `--since`, `--until` and `--around T[±SPAN]` (also `T+-SPAN`; without it five minutes to each side).

    Raises Refused if a moment is refused, `since` lies after `until`, or `around` stands beside one of them.
    """
    if around is not None:
        if since is not None or until is not None:
            raise Refused("a range is given by --around or by --since and --until", hint="leave out one of the two")
        middle, sign, reach = around.replace("±", "+-").rpartition("+-")
        reach_ns = parse_span(reach) if sign else AROUND_NS
        at_ns = parse_moment(middle if sign else around, anchors).at_ns
        if reach_ns == 0:
            raise Refused(f"'{shorten(around)}' reaches nowhere", hint=f"such as '{format_instant(at_ns)}±5min'")
        return Range(_within(at_ns - reach_ns, around), _within(at_ns + reach_ns, around))
    since_ns = None if since is None else parse_moment(since, anchors).at_ns
    until_ns = None if until is None else parse_moment(until, anchors).at_ns
    if since_ns is not None and until_ns is not None and since_ns > until_ns:
        raise Refused(
            f"the range ends before it begins: {format_instant(since_ns)} … {format_instant(until_ns)}",
            hint="--since is the earlier end, --until the later",
        )
    return Range(since_ns, until_ns)


# How we read moments.

_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_CLOCK: Final = re.compile(
    r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?"
    r"(?: ?(?P<offset>[Zz]|UTC|[+-][0-9]{2}:[0-9]{2})| (?P<zone>[A-Za-z_]+(?:/[A-Za-z0-9_+-]+)+))?"
)
_UNIX: Final = re.compile(r"@(-?)([0-9]+)(?:\.([0-9]+))?")
_SHIFTED: Final = re.compile(r"(now|start|end|)\s*([+-])(.+)")
_AGO: Final = re.compile(r"(.*[^\W\d_])\s+ago")
_EXAMPLES: Final = (
    "such as '2026-11-22T03:12:07Z', '2026-11-22 03:12', '03:12', 'now-90m', '15 min ago', 'yesterday', 'end', "
    "'mark:NAME' or 'alpha#12021'"
)


def _read(text: str, anchors: Anchors) -> tuple[int, Position | None]:
    shown = shorten(text)
    if len(text) > TEXT_MAX:
        raise NoMoment(f"'{shown}' names no moment", hint=_EXAMPLES)
    position = parse_position(text)
    if position is not None:
        if anchors.position is None:
            raise Refused(f"no ledger is open in which to find {position}", hint="name one with -L FILE")
        return anchors.position(position), position
    if text.startswith("mark:"):
        return _marked(text[5:], anchors), None
    if unix := _UNIX.fullmatch(text):
        sign, whole, fraction = unix.groups()
        at_ns = int(whole) * SECOND_NS + _nanoseconds(fraction, shown)
        return _within(-at_ns if sign else at_ns, text), None
    if text in {"now", "start", "end"}:
        return _anchor(text, anchors), None
    if text in {"today", "yesterday"}:
        zone = zones.zone_named(anchors.tz)
        today = zones.shown_at(_anchor("now", anchors) // SECOND_NS, zone).replace(hour=0, minute=0, second=0)
        return _local(today - timedelta(days=text == "yesterday"), 0, zone, text), None
    if shifted := _SHIFTED.fullmatch(text):
        span_ns = _span(shifted[3], text)
        return _within(_anchor(shifted[1] or "now", anchors) + (span_ns if shifted[2] == "+" else -span_ns), text), None
    if ago := _AGO.fullmatch(text):
        return _within(_anchor("now", anchors) - _span(ago[1], text), text), None
    return _calendar(text, anchors), None


def _span(part: str, text: str) -> int:
    try:
        return parse_span(part)
    except Refused as refused:
        raise NoMoment(f"'{shorten(text)}' names no moment: {refused.message}", hint=refused.hint) from None


def _anchor(word: str, anchors: Anchors) -> int:
    at_ns = {"now": anchors.now_ns, "start": anchors.start_ns, "end": anchors.end_ns}[word]
    if at_ns is None:
        raise Refused(f"there is no entry that '{word}' could mean", hint="give the moment in full, or fix it with --now")
    return at_ns


def _marked(name: str, anchors: Anchors) -> int:
    instants = sorted(set(anchors.marks.get(name, ())))
    if len(instants) == 1:
        return instants[0]
    if instants:
        raise Refused(
            f"the mark '{shorten(name)}' was set at {len(instants)} moments",
            hint=f"name one: {_either([format_instant(at_ns) for at_ns in instants[:5]])}",
        )
    near = get_close_matches(name[:TEXT_MAX], sorted(anchors.marks), 3) or sorted(anchors.marks)[:3]
    named = f"did you mean {_either([f'mark:{other}' for other in near])}?" if near else "no mark was ever set"
    raise Refused(f"no mark is named '{shorten(name)}'", hint=named)


def _calendar(text: str, anchors: Anchors) -> int:
    """A date, a date with a clock, or a clock alone."""
    date = _DATE.match(text)
    rest = text[date.end() :] if date else text
    clock = _CLOCK.fullmatch(rest[1:] if date and rest[:1] in {"T", "t", " "} else rest)
    if (not date and not clock) or (date and rest and (not clock or rest[0].isdigit())):
        raise NoMoment(f"'{shorten(text)}' names no moment", hint=_EXAMPLES)
    hour, minute, second = (int(part or 0) for part in clock.groups()[:3]) if clock else (0, 0, 0)
    if hour > 23 or minute > 59 or second > 59:
        # RFC 3339 writes a leap second as :60; the count of nanoseconds has no place for it.
        raise NoMoment(f"'{shorten(text)}': a clock shows 00:00:00 to 23:59:59, and no leap second", hint=_EXAMPLES)
    fraction_ns = _nanoseconds(clock[4], shorten(text)) if clock else 0
    zone = _zone(clock, anchors, text)
    if date:
        year, month, day = (int(part) for part in date.groups())
        if not 1677 <= year <= 2262:
            _within(NS_MAX + 1, text)
        try:
            shown = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001  what a wall shows has no zone
        except ValueError:
            raise NoMoment(f"'{shorten(text)}': there is no such day", hint=_EXAMPLES) from None
        return _local(shown, fraction_ns, zone, text)
    now_ns = _anchor("now", anchors)
    today = zones.shown_at(now_ns // SECOND_NS, zone).replace(hour=hour, minute=minute, second=second)
    ahead = zones.guesses(today, zone)[0] * SECOND_NS + fraction_ns > now_ns
    return _local(today - timedelta(days=ahead), fraction_ns, zone, text)


def _zone(clock: re.Match[str] | None, anchors: Anchors, text: str) -> tzinfo:
    if clock and clock["offset"]:
        if clock["offset"][1:3].isdigit() and (int(clock["offset"][1:3]) > 23 or int(clock["offset"][4:6]) > 59):
            raise NoMoment(f"'{shorten(text)}': an offset goes from -23:59 to +23:59", hint="such as '+01:00' or 'Z'")
        return zones.fixed_zone(clock["offset"])
    return zones.zone_named(clock["zone"] if clock and clock["zone"] else anchors.tz)


def _local(shown: datetime, fraction_ns: int, zone: tzinfo, text: str) -> int:
    """The one instant at which a clock in `zone` shows this. Raises Refused where it is shown twice, or never."""
    seconds = [zones.guesses(shown, zone)[0]] if zone is UTC else zones.instants_of(shown, zone)
    if len(seconds) == 1:
        return _within(seconds[0] * SECOND_NS + fraction_ns, text)
    if seconds:
        either = [format_instant(second * SECOND_NS + fraction_ns) for second in seconds]
        raise Refused(f"'{shorten(text)}' came twice in {zone}: {' and '.join(either)}", hint=f"write {_either(either)}")
    change = zones.change_near(shown, zone)
    before, after = zones.shown_at(change - 1, zone), zones.shown_at(change, zone)
    raise Refused(
        f"'{shorten(text)}' never came in {zone}: {before} was followed by {after}",
        hint=f"write {_either([format_instant((change - 1) * SECOND_NS), format_instant(change * SECOND_NS)])}",
    )


def _nanoseconds(decimals: str | None, shown: str) -> int:
    if decimals and len(decimals) > 9:
        raise NoMoment(f"'{shown}' is finer than a nanosecond", hint="nine decimals at most")
    return int((decimals or "").ljust(9, "0"))


def _within(at_ns: int, text: str) -> int:
    if NS_MIN <= at_ns <= NS_MAX:
        return at_ns
    ends = f"from '{format_instant(NS_MIN)}' to '{format_instant(NS_MAX)}'"
    raise NoMoment(f"'{shorten(text)}' lies beyond all instants", hint=f"they go {ends}")


def _either(choices: Sequence[str]) -> str:
    return " or ".join(f"'{choice}'" for choice in choices)
