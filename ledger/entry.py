"""An event as recorded: which feed, which index, when, and in which sealed record.

Order within a feed is the index and nothing else. `at_ns` is the observer's wall clock in nanoseconds UTC, as it was,
never corrected; (`boot`, `mono_ns`) its monotonic clock, null in imports. The moment an entry counts for is its
*effective instant*, which needs its neighbours (`instants`): the reader fills it in, and it is never stored.

`Observed` is the same before it has a place. No I/O, no clock.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.events import Event
from ledger.identity import Feed

INSTANT_MIN_NS: Final = -(2**62)
INSTANT_MAX_NS: Final = 2**62
"""1823-11-12 to 2116-02-20: so that any difference of two instants but the very greatest fits in 64 bits."""
MONO_MAX_NS: Final = 2**62
"""Monotonic clocks run from 0."""


class Opaque(msgspec.Struct, frozen=True, gc=False):
    """An event of an unknown kind, a newer version or a shape that does not re-encode to itself: kept byte for byte."""

    kind: str
    version: int
    raw: bytes


class Observed(msgspec.Struct, frozen=True, gc=False):
    """An event with its instant, before the record has given it a position."""

    at_ns: int
    event: Event | Opaque
    boot: int | None = None
    mono_ns: int | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An event as recorded. `effective_ns` is the moment it counts for, as its reader knows it; `record` the number of
    the sealed record that holds it, from 1, or None in the open part. Neither counts for identity (`same`).
    """

    feed: Feed
    index: int
    at_ns: int
    event: Event | Opaque
    boot: int | None = None
    mono_ns: int | None = None
    effective_ns: int = 0
    record: int | None = None

    @property
    def observer(self) -> str:
        """The machine that saw it."""
        return self.feed.machine

    @property
    def position(self) -> str:
        """`alpha#12021`."""
        return self.feed.at(self.index)

    @property
    def kind(self) -> str:
        """The stored tag of the event."""
        return self.event.kind

    def same(self, other: Entry | Observed) -> bool:
        """Whether `other` is this entry, wherever it is kept: same instant, same clocks, same event."""
        return (self.at_ns, self.boot, self.mono_ns, self.event) == (
            other.at_ns,
            other.boot,
            other.mono_ns,
            other.event,
        )
