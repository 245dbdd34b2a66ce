"""A saved fold as bytes: what a snapshot holds of one feed's state, in little room.

Two things make a `FeedState` small. Of pings and links nearly all numbers differ little from the feed's end, or from each
other: so they stand in columns, as differences. And nearly all else (names, feeds, links, keys) is as it was some records ago: so the
bytes are deflated with an earlier state for a dictionary (`base`; RFC 1950 calls it preset). `unpack` gives back exactly
what `pack` was given, which is a law. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from math import gcd
from operator import itemgetter, sub
from typing import Any, Final

import msgspec

from projections.feed_state import FeedState
from projections.links import LinkState
from projections.pings import PingState

MAX_BYTES: Final = 1 << 26
"""No state comes near; a few bytes from elsewhere could inflate to more."""
UNREADABLE: Final = (msgspec.MsgspecError, ValueError, TypeError, IndexError, RecursionError, zlib.error)
"""What `unpack` and `inflate` raise on bytes that are none of theirs."""


class _Saved(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A state without its pings and links; these in columns, one a field, by the names of `peers` and `ends`. `scale`: the
    unit of their instants, which count from the feed's end (pings) or beginning (links, where None is 0).
    """

    state: FeedState
    scale: int
    peers: list[str]
    pings: list[list[Any]]
    ends: list[str]
    links: list[list[Any]]


_encode: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(_Saved)
_PING: Final = PingState.__struct_fields__
_LINK: Final = LinkState.__struct_fields__
_LAST, _LAST_NS, _ANSWERED, _ANSWERED_NS, _STATED = map(_PING.index, ("last", "last_ns", "answered", "answered_ns", "stated"))
_SINCE, _EVIDENCE, _GOOD = map(_LINK.index, ("since", "evidence", "good"))
_INSTANTS: Final = tuple(map(_LINK.index, ("since_ns", "evidence_ns", "good_ns", "bad_ns")))
_AGAINST: Final = ((_GOOD, _EVIDENCE), (_EVIDENCE, _SINCE), (_INSTANTS[2], _INSTANTS[1]), (_INSTANTS[1], _INSTANTS[0]))
"""Columns of links that mostly equal another, which is subtracted."""


def pack(state: FeedState) -> bytes:
    """A state as bytes, not deflated yet."""
    pings, links = _columns(state.pings.values(), len(_PING)), _columns(state.links.values(), len(_LINK))
    last, last_ns = pings[_LAST], pings[_LAST_NS]
    for place, against in ((_ANSWERED, last), (_ANSWERED_NS, last_ns), (_STATED, last)):
        pings[place] = list(map(sub, against, pings[place]))
    pings[_LAST] = [state.entries - value for value in last]
    pings[_LAST_NS] = [state.last_ns - value for value in last_ns]
    first_ns = state.first_ns
    scale = gcd(
        *pings[_LAST_NS], *pings[_ANSWERED_NS], *(value - first_ns for place in _INSTANTS for value in links[place] if value)
    )
    scale = scale or 1
    for place in (_LAST_NS, _ANSWERED_NS):
        pings[place] = [value // scale for value in pings[place]]
    for place in _INSTANTS:
        links[place] = [(value - first_ns) // scale if value else None for value in links[place]]
    for place, other in _AGAINST:
        links[place] = [
            value - ref if value is not None and ref is not None else value
            for value, ref in zip(links[place], links[other], strict=True)
        ]
    rest = msgspec.structs.replace(state, pings={}, links={})
    return _encode(_Saved(rest, scale, list(state.pings), pings, list(state.links), links))


def _columns(values: Iterable[msgspec.Struct], many: int) -> list[list[Any]]:
    rows = list(map(msgspec.structs.astuple, values))
    return [list(map(itemgetter(place), rows)) for place in range(many)]


def unpack(data: bytes) -> FeedState:
    """The state that `data` holds. Raises one of `UNREADABLE` if it holds none."""
    saved = _DECODER.decode(data)
    state, pings, links, scale = saved.state, saved.pings, saved.links, saved.scale
    entries, first_ns, end_ns = state.entries, state.first_ns, state.last_ns
    last = pings[_LAST] = [entries - value for value in pings[_LAST]]
    last_ns = pings[_LAST_NS] = [end_ns - value * scale for value in pings[_LAST_NS]]
    pings[_ANSWERED] = list(map(sub, last, pings[_ANSWERED]))
    pings[_ANSWERED_NS] = [ref - value * scale for ref, value in zip(last_ns, pings[_ANSWERED_NS], strict=True)]
    pings[_STATED] = list(map(sub, last, pings[_STATED]))
    state.pings = dict(zip(saved.peers, map(PingState, *pings), strict=True))
    for place, other in reversed(_AGAINST):
        links[place] = [
            value + ref if value is not None and ref is not None else value
            for value, ref in zip(links[place], links[other], strict=True)
        ]
    for place in _INSTANTS:
        links[place] = [first_ns + value * scale if value is not None else 0 for value in links[place]]
    state.links = dict(zip(saved.ends, map(LinkState, *links), strict=True))
    return state


def deflate(data: bytes, base: bytes) -> bytes:
    """`data`, deflated with `base` (empty: none) for a dictionary."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, base) if base else zlib.compressobj(9, wbits=-15)
    return packer.compress(data) + packer.flush()


def inflate(data: bytes, base: bytes) -> bytes:
    """What `deflate` was given. Raises zlib.error."""
    opener = zlib.decompressobj(-15, base) if base else zlib.decompressobj(-15)
    whole = opener.decompress(data, MAX_BYTES)
    if not opener.eof:
        raise zlib.error("more than a state")
    return whole
