"""Local time: which instants a clock on the wall can mean, and which clock an instant shows.

Twice a year a zone shows an hour twice or leaves one out, so a local time means one instant, two, or none; this room
says which, and who asked decides. It counts in whole seconds since 1970, since no zone changes its clock within one.

The rules of a zone are a table that `zoneinfo` reads from the system or from the package tzdata. No clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from ledger.errors import Refused
from replay.text import shorten

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  what a wall shows has no zone
_SECOND: Final = timedelta(seconds=1)


def zone_named(key: str | None) -> tzinfo:
    """The zone of an IANA key such as `Europe/Berlin`, or UTC. Raises Refused if there is none of that name."""
    if key in {None, "UTC", "Z"}:
        return UTC
    from zoneinfo import ZoneInfo  # few questions name a zone

    try:
        return ZoneInfo(str(key))
    except (KeyError, ValueError, OSError):
        raise Refused(
            f"'{shorten(str(key))}' is no time zone known here",
            hint="such as Europe/Berlin; where the system lists none: pip install tzdata",
        ) from None


def fixed_zone(offset: str) -> tzinfo:
    """The zone of `Z`, `UTC` or `+01:00` (RFC 3339), whose numbers the caller has checked."""
    if offset in {"Z", "z", "UTC"}:
        return UTC
    size = timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6]))
    return timezone(-size if offset[0] == "-" else size)


def shown_at(second: int, zone: tzinfo) -> datetime:
    """What a clock in `zone` shows at `second`, without the zone."""
    return (EPOCH + second * _SECOND).astimezone(zone).replace(tzinfo=None, fold=0)


def instants_of(shown: datetime, zone: tzinfo) -> list[int]:
    """The seconds since 1970 at which a clock in `zone` shows `shown`: one, two where it was set back, or none."""
    return [second for second in guesses(shown, zone) if shown_at(second, zone) == shown]


def guesses(shown: datetime, zone: tzinfo) -> list[int]:
    """The seconds that `shown` means under the offsets before and after any change near it, ascending (PEP 495)."""
    local = (shown - _LOCAL_EPOCH) // _SECOND
    offsets = (shown.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    return sorted({local - offset // _SECOND for offset in offsets})


def change_near(shown: datetime, zone: tzinfo) -> int:
    """The second at which the clock in `zone` was set forward over `shown`, which it therefore never showed."""
    before, after = guesses(shown, zone)
    offset = _offset(before, zone)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if _offset(middle, zone) == offset else (before, middle)
    return after


def _offset(second: int, zone: tzinfo) -> timedelta | None:
    return (EPOCH + second * _SECOND).astimezone(zone).utcoffset()
