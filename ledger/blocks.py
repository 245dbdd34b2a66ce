"""Pings as columns: how a record holds its ping results, a thousand in ten kilobytes.

Nearly every entry is a ping, and nearly everything in it repeats. So the pings of one record are sorted into *contexts*
(answered or not, peer, link, boots, feed: what seldom changes), context by context in the order of the feed, and each
number becomes a column of what its neighbours do not foretell: differences along a context (`DELTA`) or the excess over
the context's least value (`LEAST`). A column is cut into byte planes, so that a quiet high byte costs nothing.
`packing` makes blocks, `unpacking` reads them: every ping comes back exactly (a law). `Group` says what one context
amounts to, which is all that most folds ask.

A block is canonical: one run of pings, one value. It holds no compressor's output; a store may compress the planes.
Only the shapes stand here.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.planes import Plane

AT, MONO, NUMBER, HELD, RTT, HOLD, SENT, SPAN, BACK = range(9)
COMMON: Final = (AT, MONO, NUMBER, HELD)
"""Columns with a value for every ping; the others only for those answered, which stand first."""
DELTA: Final = frozenset((AT, MONO, NUMBER, HELD, SPAN))


class Context(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the pings of one group share. `given`: which optional numbers they bear, one bit each (`GIVEN`)."""

    answered: bool
    peer: str
    link: str | None
    reason: str | None
    boot: int | None
    peer_boot: int | None
    feed: str | None
    given: int


GIVEN: Final = {"mono_ns": 1, "held": 2, "sent_us": 4, "received_us": 8, "replied_us": 16, "returned_us": 32}


class Column(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One number of all pings. Per context there is a first value (or the least): `base` is that of the first context,
    `firsts` the planes of how each differs from the one before; `planes` are those of the rest. What planes hold is
    divided by `scale`. A number that no ping bears is a column of zeros without a context.
    """

    scale: int
    base: int
    firsts: tuple[Plane, ...]
    planes: tuple[Plane, ...]


class Block(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The pings of one record. `which`: planes of the number of each ping's context, in the order of the feed."""

    count: int
    contexts: tuple[Context, ...]
    which: tuple[Plane, ...]
    columns: tuple[Column, ...]


class Group(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the pings of one context within a record amount to. `reason` is None if they were answered; `first`, `last`
    are entry indexes, `rtt_us` and `held` those of the last. `gap_ns` is no less than the greatest time between two
    neighbouring pings to the peer within the group and those groups of the peer that overlap with it.
    """

    peer: str
    link: str | None
    reason: str | None
    count: int
    first: int
    first_ns: int
    last: int
    last_ns: int
    rtt_us: int
    gap_ns: int
    feed: str | None
    held: int | None
