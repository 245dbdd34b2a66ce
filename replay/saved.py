"""A saved fold as bytes: what a snapshot holds of one feed's state, in little room.

Two things make a `FeedState` small. Of pings nearly all numbers differ little from the feed's end, or from each other: so
they stand in columns, as differences. And nearly all else (names, feeds, links, keys) is as it was some records ago, byte
for byte: so the bytes are deflated with an earlier state for a dictionary (`base`; RFC 1950 calls it preset). `unpack` gives
back exactly what `pack` was given, which is a law. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import zlib
from math import gcd
from operator import itemgetter
from typing import Any, Final

import msgspec

from ledger.identity import Feed
from projections.feed_state import FeedState
from projections.pings import PingState

MAX_BYTES: Final = 1 << 26
"""No state comes near; a few bytes from elsewhere could inflate to more."""
UNREADABLE: Final = (msgspec.MsgspecError, ValueError, TypeError, IndexError, RecursionError, zlib.error)
"""What `unpack` and `inflate` raise on bytes that are none of theirs."""


class Names(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Of a state's pings what hardly ever changes: their peers, in order, and the feed of each."""

    peers: list[str]
    feeds: list[str | None]


class _Saved(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A state without its pings; these in columns, one a field (`_SHORT`). A column that is the same throughout is that one
    value. `scale`: the unit of their instants, which count back from the feed's end, as indexes do; `most`: the greatest
    number sent, from which the others count back. The state is of `NOBODY`: whoever has the row knows the feed.
    """

    state: FeedState
    scale: int
    most: int
    pings: list[Any]


NOBODY: Final = Feed("", 0, "", "", None)
_encode: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(_Saved)
_NAMES: Final = msgspec.msgpack.Decoder(Names)
_PING: Final = PingState.__struct_fields__
_FEED: Final = _PING.index("feed")
_SHORT: Final = _PING[:_FEED] + _PING[_FEED + 1 :]
"""The fields that stand in columns: all but the feed."""
_LAST, _LAST_NS, _ANSWERED, _ANSWERED_NS, _STATED = map(_SHORT.index, ("last", "last_ns", "answered", "answered_ns", "stated"))
_SENT: Final = _SHORT.index("sent")
_LIKE: Final = ((_ANSWERED, _LAST), (_ANSWERED_NS, _LAST_NS), (_STATED, _LAST))
"""Columns that mostly equal another, which is subtracted from them."""


def pack(state: FeedState) -> tuple[bytes, bytes]:
    """A state as bytes, not deflated yet: its names, and all else."""
    rows = list(map(msgspec.structs.astuple, state.pings.values()))
    pings: list[list[Any]] = [list(map(itemgetter(place), rows)) for place in range(len(_PING))]
    feeds = pings.pop(_FEED)
    entries, end_ns = state.entries, state.last_ns
    for place, other in _LIKE:
        pings[place] = [value - ref for value, ref in zip(pings[place], pings[other], strict=True)]
    pings[_LAST] = [entries - value for value in pings[_LAST]]
    pings[_LAST_NS] = [end_ns - value for value in pings[_LAST_NS]]
    most = max(pings[_SENT], default=0)
    pings[_SENT] = [most - value for value in pings[_SENT]]
    scale = gcd(*pings[_LAST_NS], *pings[_ANSWERED_NS]) or 1
    for place in (_LAST_NS, _ANSWERED_NS):
        pings[place] = [value // scale for value in pings[place]]
    brief = [column[0] if column and column.count(column[0]) == len(column) else column for column in pings]
    rest = _Saved(msgspec.structs.replace(state, feed=NOBODY, pings={}), scale, most, brief)
    return _encode(Names(list(state.pings), feeds)), _encode(rest)


def unpack_names(data: bytes) -> Names:
    """The names that `pack` gave. Raises one of `UNREADABLE` if they are none."""
    return _NAMES.decode(data)


def unpack(names: Names, data: bytes, feed: Feed) -> FeedState:
    """The state of `feed` that `data` holds. Raises one of `UNREADABLE` if it holds none."""
    saved = _DECODER.decode(data)
    state, scale, most, brief = saved.state, saved.scale, saved.most, saved.pings
    state.feed = feed
    if names.peers:
        entries, end_ns, many = state.entries, state.last_ns, len(names.peers)
        pings: list[Any] = [column if column.__class__ is list else [column] * many for column in brief]
        pings[_LAST] = [entries - value for value in pings[_LAST]]
        pings[_LAST_NS] = [end_ns - value * scale for value in pings[_LAST_NS]]
        pings[_SENT] = [most - value for value in pings[_SENT]]
        for place, other in _LIKE:
            if brief[place] == 0:
                pings[place] = pings[other]
            else:
                unit = scale if place == _ANSWERED_NS else 1
                pings[place] = [value * unit + ref for value, ref in zip(pings[place], pings[other], strict=True)]
        pings.insert(_FEED, names.feeds)
        state.pings = dict(zip(names.peers, map(PingState, *pings), strict=True))
    return state


def deflate(data: bytes, base: bytes) -> bytes:
    """`data`, deflated with `base` (empty: none) for a dictionary."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, base) if base else zlib.compressobj(9, wbits=-15)
    return packer.compress(data) + packer.flush()


def inflate(data: bytes, base: bytes) -> bytes:
    """What `deflate` was given. Raises zlib.error."""
    opener = zlib.decompressobj(-15, base) if base else zlib.decompressobj(-15)
    whole = opener.decompress(data, MAX_BYTES)
    if not opener.eof:
        raise zlib.error("more than a state")
    return whole
