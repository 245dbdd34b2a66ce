"""A saved fold as bytes: what a snapshot holds of one feed's state, in little room.

Two things make a `FeedState` small. Of pings and links nearly all numbers differ little from the feed's end, or from each
other: so they stand in columns, as differences. And nearly all else (names, feeds, links, keys) is as it was some records
ago: so the bytes are deflated with an earlier state for a dictionary (`base`; RFC 1950 calls it preset). `unpack` gives back
exactly what `pack` was given, which is a law. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from math import gcd
from operator import itemgetter
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
    """A state without its pings and links; these in columns, one a field, by the names of `peers` and `ends`. A column that
    is the same throughout is that one value. `scale`: the unit of instants, which count from the feed's end (pings) or
    beginning (links, where None is 0).
    """

    state: FeedState
    scale: int
    peers: list[str]
    pings: list[Any]
    ends: list[str]
    links: list[Any]


_encode: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(_Saved)
_PING: Final = PingState.__struct_fields__
_LINK: Final = LinkState.__struct_fields__
_LAST, _LAST_NS, _ANSWERED, _ANSWERED_NS, _STATED = map(_PING.index, ("last", "last_ns", "answered", "answered_ns", "stated"))
_SINCE, _EVIDENCE, _GOOD = map(_LINK.index, ("since", "evidence", "good"))
_INSTANTS: Final = tuple(map(_LINK.index, ("since_ns", "evidence_ns", "good_ns", "bad_ns")))
_LIKE_PING: Final = ((_ANSWERED, _LAST), (_ANSWERED_NS, _LAST_NS), (_STATED, _LAST))
_LIKE_LINK: Final = ((_GOOD, _EVIDENCE), (_EVIDENCE, _SINCE), (_INSTANTS[2], _INSTANTS[1]), (_INSTANTS[1], _INSTANTS[0]))
"""Columns that mostly equal another, which is subtracted from them."""


def pack(state: FeedState) -> bytes:
    """A state as bytes, not deflated yet."""
    pings, links = _columns(state.pings.values(), len(_PING)), _columns(state.links.values(), len(_LINK))
    first_ns, end_ns = state.first_ns, state.last_ns
    instants = [end_ns - value for place in (_LAST_NS, _ANSWERED_NS) for value in pings[place]]
    scale = gcd(*instants, *(value - first_ns for place in _INSTANTS for value in links[place] if value)) or 1
    pings[_LAST] = [state.entries - value for value in pings[_LAST]]
    pings[_ANSWERED], pings[_STATED] = ([state.entries - value for value in pings[place]] for place in (_ANSWERED, _STATED))
    for place in (_LAST_NS, _ANSWERED_NS):
        pings[place] = [(end_ns - value) // scale for value in pings[place]]
    for place in _INSTANTS:
        links[place] = [(value - first_ns) // scale if value else None for value in links[place]]
    for columns, alike in ((pings, _LIKE_PING), (links, _LIKE_LINK)):
        for place, other in alike:
            columns[place] = [
                None if value is None else value - (ref or 0) for value, ref in zip(columns[place], columns[other], strict=True)
            ]
    rest = msgspec.structs.replace(state, pings={}, links={})
    return _encode(_Saved(rest, scale, list(state.pings), _brief(pings), list(state.links), _brief(links)))


def _columns(values: Iterable[msgspec.Struct], many: int) -> list[list[Any]]:
    rows = list(map(msgspec.structs.astuple, values))
    return [list(map(itemgetter(place), rows)) for place in range(many)]


def _brief(columns: list[list[Any]]) -> list[Any]:
    return [column[0] if column and column.count(column[0]) == len(column) else column for column in columns]


def unpack(data: bytes) -> FeedState:
    """The state that `data` holds. Raises one of `UNREADABLE` if it holds none."""
    saved = _DECODER.decode(data)
    state, scale, first_ns, entries, end_ns = (
        saved.state,
        saved.scale,
        saved.state.first_ns,
        saved.state.entries,
        saved.state.last_ns,
    )
    pings = _alike(saved.pings, _LIKE_PING, len(saved.peers))
    last, last_ns = pings[_LAST], pings[_LAST_NS]
    pings[_LAST] = [entries - value for value in last]
    pings[_LAST_NS] = [end_ns - value * scale for value in last_ns]
    for place, other, plain in ((_ANSWERED, _LAST, last), (_STATED, _LAST, last)):
        pings[place] = pings[other] if pings[place] is plain else [entries - value for value in pings[place]]
    answered = pings[_ANSWERED_NS]
    pings[_ANSWERED_NS] = pings[_LAST_NS] if answered is last_ns else [end_ns - value * scale for value in answered]
    state.pings = dict(zip(saved.peers, map(PingState, *pings), strict=True))
    links = _alike(saved.links, _LIKE_LINK, len(saved.ends))
    told: dict[int, list[int]] = {}  # columns that are one are brought back once
    for place in _INSTANTS:
        column = links[place]
        if id(column) not in told:
            told[id(column)] = [first_ns + value * scale if value is not None else 0 for value in column]
    for place in _INSTANTS:
        links[place] = told[id(links[place])]
    state.links = dict(zip(saved.ends, map(LinkState, *links), strict=True))
    return state


def _alike(columns: list[Any], alike: Iterable[tuple[int, int]], many: int) -> list[list[Any]]:
    """The columns in full, each as long as there are peers; those that equal another are that other."""
    whole = [column if isinstance(column, list) else [column] * many for column in columns]
    for place, other in reversed(tuple(alike)):
        if columns[place] == 0 and None not in whole[other]:
            whole[place] = whole[other]
        else:
            whole[place] = [
                None if value is None else value + (ref or 0) for value, ref in zip(whole[place], whole[other], strict=True)
            ]
    return whole


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
