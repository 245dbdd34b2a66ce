"""What a guest may have meant: spellings near one that the time grammar refused.

Each rule rewrites one habit: month first, a clock of twelve hours, a comma for a point, an epoch in milliseconds, `5M`.
Rules are applied to each other's results, since habits come together. This room only proposes; whether a proposal is
valid is for the grammar to say (`moments.nearest`), and which is meant is for the guest. No import of another room.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Final

CALENDAR_DAYS: Final = {
    **dict.fromkeys(("M", "mo", "mon", "month", "months", "Month", "Months"), 30),
    **dict.fromkeys(("y", "Y", "yr", "yrs", "year", "years", "Year", "Years"), 365),
}
"""Units without a fixed length, and about how many days each has."""

_UNITS: Final = (
    "us", "microsecond", "microseconds", "ms", "millisecond", "milliseconds", "s", "second", "seconds", "m", "min",
    "minute", "minutes", "h", "hour", "hours", "d", "day", "days", "w", "week", "weeks",
)  # fmt: skip
_OTHER_UNITS: Final = {
    "sec": "s", "secs": "s", "mins": "min", "hr": "h", "hrs": "h", "wk": "w", "wks": "w", "msec": "ms", "msecs": "ms",
    "usec": "us", "usecs": "us", "µs": "us", "μs": "us",
}  # fmt: skip
_WORDS: Final = {
    "noon": ("12:00",), "midday": ("12:00",), "midnight": ("00:00", "today"), "tomorrow": ("now+1d",),
    "last night": ("yesterday",), "last week": ("1w ago",), "last hour": ("1h ago",), "an hour ago": ("1h ago",),
    "a minute ago": ("1min ago",), "a day ago": ("1d ago",), "a week ago": ("1w ago",), "first": ("start",),
    "begin": ("start",), "beginning": ("start",), "last": ("end",), "latest": ("end",),
}  # fmt: skip
_CLOSE: Final = ("now", "today", "yesterday", "start", "end", "noon", "midnight", "tomorrow", "beginning", "latest")
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(\s*)([^\W\d_]+)")
_TRIED_MAX: Final = 60


def near(text: str) -> Iterator[str]:
    """Rewritings of `text`, the nearest first: those of one rule, then of two, of three. Not one is checked."""
    seen, edge = {text}, [text]
    for _ in range(3):
        further: list[str] = []
        for known in edge:
            for rule in _RULES:
                for candidate in rule(known):
                    if candidate not in seen and len(seen) < _TRIED_MAX:
                        seen.add(candidate)
                        further.append(candidate)
                        yield candidate
        edge = further


def span(text: str) -> str | None:
    """`text` with each unit replaced by the nearest one of ours, or None if some unit has none."""
    units = [found[3] for found in _PART.finditer(text)]
    if not all(unit in _UNITS or _unit(unit) or unit in CALENDAR_DAYS for unit in units):
        return None
    return _PART.sub(_respelled, text)


def _respelled(part: re.Match[str]) -> str:
    count, space, unit = part.groups()
    if unit in _UNITS:
        return part[0]
    if unit in CALENDAR_DAYS and unit != "M" and count.isdigit():
        return f"{int(count) * CALENDAR_DAYS[unit]}d"
    return f"{count}{space}{_unit(unit) or unit}"


def _unit(unit: str) -> str | None:
    low = unit.lower()
    return low if low in _UNITS else _OTHER_UNITS.get(low)


def _plain(text: str) -> list[str]:
    """Signs of the typographer and spaces made plain, then small letters."""
    plain = re.sub(r"\s+", " ", re.sub("[‐-―−]", "-", text)).replace("µ", "u").replace("μ", "u").strip(" '\"`")
    return [plain, plain.lower(), re.sub(r"(?<=[0-9]) ?([Uu][Tt][Cc]|[Gg][Mm][Tt])$", "Z", plain)]


def _words(text: str) -> list[str]:
    low = text.lower()
    return [*_WORDS.get(low, ()), *(get_close_matches(low, _CLOSE, 1, 0.75) if low.isalpha() else ())]


def _date(text: str) -> list[str]:
    """Other orders and signs; one digit; a day that the month does not have."""
    if found := re.match(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4}|[0-9]{2})(?![0-9])", text):
        first, second, year, rest = found[1].zfill(2), found[2].zfill(2), found[3], text[found.end() :]
        year = year if len(year) == 4 else f"20{year}"
        return [f"{year}-{first}-{second}{rest}", f"{year}-{second}-{first}{rest}"]
    if found := re.match(r"([0-9]{4})([/.-]?)([0-9]{1,2})\2([0-9]{1,2})(?![0-9])", text):
        year, month, day, rest = int(found[1]), int(found[3]), int(found[4]), text[found.end() :]
        if not 1 <= month <= 12:
            return [f"{year:04}-{day:02}-{month:02}{rest}"]
        last = monthrange(max(year, 1), month)[1]
        if 1 <= day <= last:
            return [f"{year:04}-{month:02}-{day:02}{rest}"]
        after = f"{year:04}-{month + 1:02}-01" if month < 12 else f"{year + 1:04}-01-01"
        return [f"{year:04}-{month:02}-{last:02}{rest}", after + rest]
    return []


def _clock(text: str) -> list[str]:
    """One digit, twelve hours, no minutes, the end of a day, a leap second."""
    result = [
        re.sub(r"(^|[T ])([0-9]):", r"\g<1>0\2:", text),
        re.sub(r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2})(Z|[+-].*)?$", r"\1:00\2", text),
    ]
    if found := re.search(r"(?:^|(?<=[T ]))([0-9]{1,2})(:[0-9]{2}(?::[0-9]{2})?)? ?([ap])\.?m\.?$", text, re.IGNORECASE):
        hour = int(found[1]) % 12 + (12 if found[3] in "pP" else 0)
        result.append(f"{text[: found.start()]}{hour:02}{found[2] or ':00'}")
    if found := re.match(r"([0-9]{4})-([0-9]{2})-([0-9]{2})([Tt ])24:00", text):
        year, month, day, between = int(found[1]), int(found[2]), int(found[3]), found[4]
        result.append(f"{year:04}-{month:02}-{day + 1:02}{between}00:00{text[found.end() :]}")
    elif text.startswith("24:00"):
        result.append(f"00:00{text[5:]}")
    if re.search(r":[0-9]{2}:60", text):
        result.append(re.sub(r"(:[0-9]{2}):60(\.[0-9]*)?", r"\1:59.999999999", text))
    return result


def _fraction(text: str) -> list[str]:
    """A comma for the point; more than nine decimals, or none after the point."""
    return [
        re.sub(r"(?<=[0-9]),(?=[0-9])", ".", text),
        re.sub(r"(\.[0-9]{9})[0-9]+", r"\1", text),
        re.sub(r"\.(?![0-9])", "", text),
    ]


def _offset(text: str) -> list[str]:
    return [re.sub(r"(:[0-9]{2}(?:\.[0-9]+)? ?[+-][0-9]{2})([0-9]{2})?$", lambda found: f"{found[1]}:{found[2] or '00'}", text)]


def _epoch(text: str) -> list[str]:
    """Seconds since 1970 without the sign; in milliseconds, microseconds, nanoseconds."""
    found = re.fullmatch(r"@?(-?)([0-9]{9,20})", text)
    if not found:
        return ["@" + text] if re.fullmatch(r"-?[0-9]{5,}(\.[0-9]+)?", text) else []
    sign, digits = found.groups()
    if len(digits) <= 11:
        return [f"@{sign}{digits}"]
    finer = 3 if len(digits) < 15 else 6 if len(digits) < 18 else 9
    return [f"@{sign}{digits[:-finer]}.{digits[-finer:]}".rstrip("0").rstrip(".")]


def _span(text: str) -> list[str]:
    """Units of others; a span without a sign; a span before something that it cannot stand after."""
    body = text.removesuffix(" ago").removeprefix("now").lstrip("+- ")
    near_span = span(body)
    if not near_span or not _PART.match(near_span):
        return []
    sign = text[: len(text) - len(text.lstrip("now+- "))] if not text.endswith(" ago") else ""
    respelled = f"{near_span} ago" if text.endswith(" ago") else f"{sign}{near_span}"
    return [respelled] if sign or text.endswith(" ago") else [f"{near_span} ago", f"-{near_span}"]


_RULES: Final[tuple[Callable[[str], list[str]], ...]] = (
    _plain,
    _words,
    _date,
    _clock,
    _fraction,
    _offset,
    _epoch,
    _span,
)
