"""Pings as columns: how a record holds its ping results, a thousand in ten kilobytes.

Nearly every entry is a ping, and nearly everything in it repeats. So the pings of one record are sorted into *contexts*
(answered or not, peer, link, boots, feed: what seldom changes), context by context in the order of the feed, and each
number becomes a column of what its neighbours do not foretell: differences along a context (`DELTA`) or the excess over
the context's least value (`LEAST`). A column is cut into byte planes, so that a quiet high byte costs nothing.
The definition is the pair `pack` and `unpack`; every ping comes back exactly (a law). `Group` says what one context
amounts to, which is all that most folds ask.

What `pack` gives is canonical: one set of pings, one value. It holds no compressor's output; a store may compress the
planes. Only the standard library's arrays, no I/O, nothing that knows SQLite.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise, repeat
from math import gcd
from operator import add, attrgetter, floordiv, itemgetter, mul, sub
from typing import Any, Final

import msgspec

from ledger.entry import Observed
from ledger.errors import Damaged
from ledger.events import PingAnswered, PingFailed

Plane = bytes | int
"""One byte of each value of a column, in order; an int where they are all the same."""

AT, MONO, NUMBER, HELD, RTT, HOLD, SENT, SPAN, BACK = range(9)
COMMON: Final = (AT, MONO, NUMBER, HELD)
"""Columns with a value for every ping; the others only for those answered, which stand first."""
DELTA: Final = frozenset((AT, MONO, NUMBER, HELD, SPAN))

_SIZES: Final = (0, 1, 2, 4, 4, 8, 8, 8, 8)
_CODES: Final = {1: "b", 2: "h", 4: "i", 8: "q"}
_SIGN: Final = bytes(255 if byte > 127 else 0 for byte in range(256))
_BIG: Final = sys.byteorder == "big"


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


_GETTERS: Final = {name: attrgetter(name) for name in ("held", "sent_us", "received_us", "replied_us", "returned_us")}
GIVEN: Final = {"mono_ns": 1, "held": 2, "sent_us": 4, "received_us": 8, "replied_us": 16, "returned_us": 32}


class Column(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One number of all pings. `firsts`: per context the first value (a difference to the one before) or the least;
    `planes`: the rest, divided by `scale`, lowest byte first, two's complement.
    """

    scale: int
    firsts: tuple[int, ...]
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
    neighbouring pings to the peer in the record, whatever their contexts.
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


class _Numbering(dict[Any, int]):
    """Numbers what it is asked for, from 0, in the order of asking."""

    def __missing__(self, key: object) -> int:
        number = self[key] = len(self)
        return number


_ANSWERED_KEY = attrgetter("peer", "link", "peer_boot", "feed")
_FAILED_KEY = attrgetter("peer", "link", "reason", "feed")
_EMPTY: Final = Block(0, (), (), ())


def pack(pings: Sequence[Observed]) -> Block:
    """The block of these pings, in their order. Each event is a PingAnswered or PingFailed.

    Raises TypeError, OverflowError or ValueError where a value is not of its field's type or range: say which by
    checking one by one.
    """
    return arrange(pings, 1, ()).block


def arrange(pings: Sequence[Observed], first: int, controls: Sequence[int]) -> Pings:
    """The block of these pings, opened: what `Pings(pack(pings), first, controls)` is, without decoding what is at hand."""
    if not pings:
        return Pings(_EMPTY, first, controls)
    events: list[Any] = [ping.event for ping in pings]
    failed = [place for place, event in enumerate(events) if event.__class__ is PingFailed]
    answered = [event for event in events if event.__class__ is PingAnswered] if failed else events
    if len(answered) + len(failed) != len(events) or not all(event.__class__ is PingAnswered for event in answered):
        raise TypeError("not all of these are pings")
    given = _given(pings, events, answered)
    numbers, contexts = _contexts(pings, events, failed, given)
    order = sorted(range(len(pings)), key=numbers.__getitem__)
    which = bytes(numbers) if len(contexts) <= 128 else numbers
    sizes = [which.count(number) for number in range(len(contexts))]
    got = len(contexts) - len({context for context in contexts if not context.answered})
    values = _values([pings[place] for place in order], len(answered))
    columns = tuple(_column(index, values[index], sizes if index in COMMON else sizes[:got]) for index in range(9))
    opened = Pings(Block(len(pings), contexts, _planes(numbers), columns), first, controls, sizes)
    opened.keep(order, values)
    return opened


def _given(pings: Sequence[Observed], events: Sequence[Any], answered: Sequence[Any]) -> int:
    """Which optional numbers the pings bear, as bits, if those that can all bear the same; else -1."""
    flags = 0
    for name, bit in GIVEN.items():
        if name == "mono_ns":
            values = [ping.mono_ns for ping in pings]
        else:
            values = list(map(_GETTERS[name], events if name == "held" else answered))
        if None not in values:
            flags |= bit if values else 0
        elif values.count(None) < len(values):
            return -1
    return flags


def _given_of(ping: Observed) -> int:
    flags = 1 if ping.mono_ns is not None else 0
    for name, bit in GIVEN.items():
        if getattr(ping.event, name, None) is not None:
            flags |= bit
    return flags


def _contexts(
    pings: Sequence[Observed], events: Sequence[Any], failed: Sequence[int], given: int
) -> tuple[list[int], tuple[Context, ...]]:
    """For each ping the number of its context, those answered first, each kind in the order of appearance."""
    answers, failures = _Numbering(), _Numbering()
    boots = [ping.boot for ping in pings]
    bits: Iterable[int] = repeat(given, len(pings)) if given >= 0 else [_given_of(ping) for ping in pings]
    if not failed:
        numbers = list(map(answers.__getitem__, zip(map(_ANSWERED_KEY, events), boots, bits, strict=True)))
    else:
        bits = list(bits)
        gone = set(failed)
        kept = [place for place in range(len(events)) if place not in gone]
        keys = [(_ANSWERED_KEY(events[place]), boots[place], bits[place]) for place in kept]
        numbers = list(map(answers.__getitem__, keys))
        for place in failed:
            key = (_FAILED_KEY(events[place]), boots[place], bits[place] & 3)
            numbers.insert(place, len(answers) + failures[key])
    contexts = [Context(True, p, ln, None, boot, pb, f, flags) for (p, ln, pb, f), boot, flags in answers]
    contexts += [Context(False, p, ln, r, boot, None, f, flags) for (p, ln, r, f), boot, flags in failures]
    return numbers, tuple(contexts)


def _values(pings: Sequence[Observed], answered: int) -> list[list[int]]:
    """The nine columns before differencing, in the order of contexts. A number that is not given counts as 0."""
    events: list[Any] = [ping.event for ping in pings]
    at = [ping.at_ns for ping in pings]
    mono: list[Any] = [ping.mono_ns for ping in pings]
    if None in mono:
        mono = [at_ns if value is None else value for value, at_ns in zip(mono, at, strict=True)]
    number = [event.number for event in events]
    held = _filled([event.held for event in events])
    got = events[:answered]
    rtt = [event.rtt_us for event in got]
    sent = _filled([event.sent_us for event in got])
    received = _filled([event.received_us for event in got])
    replied = _filled([event.replied_us for event in got])
    returned = _filled([event.returned_us for event in got])
    for column in (at, mono, number, held, rtt, sent, received, replied, returned):
        array("q", column)  # refuses what is no integer of 64 bits
    hold = list(map(sub, replied, received))
    own = map(floordiv, mono[:answered], repeat(1000))
    return [
        at,
        list(map(sub, mono, at)),
        number,
        held,
        rtt,
        hold,
        list(map(sub, map(add, map(add, sent, rtt), hold), returned)),
        list(map(sub, received, sent)),
        list(map(sub, own, returned)),
    ]


def _filled(values: list[int | None]) -> list[int]:
    return [value or 0 for value in values] if None in values else values  # type: ignore[return-value]


def _column(index: int, values: list[int], sizes: Sequence[int]) -> Column:
    if not values:
        return Column(1, (), ())
    starts = list(accumulate(sizes, initial=0))[:-1]
    if index in DELTA:
        rest = [0, *map(sub, values[1:], values)]
        firsts = [rest[start] for start in starts]
        firsts[0] = values[0]
        for start in starts:
            rest[start] = 0
    else:
        firsts = [min(values[start : start + size]) for start, size in zip(starts, sizes, strict=True)]
        rest = list(map(sub, values, chain.from_iterable(map(repeat, firsts, sizes))))
    scale = gcd(*rest[:16]) if index in (AT, MONO, RTT) else 1
    if scale != 1:
        scale = gcd(*rest) or 1
        if scale != 1:
            rest = [value // scale for value in rest]
    return Column(scale, tuple(firsts), _planes(rest))


def _planes(values: list[int]) -> tuple[Plane, ...]:
    """Byte planes, lowest first, as few as hold the values in two's complement; none if all values are 0."""
    high, low = max(values), min(values)
    if not high and not low:
        return ()
    width = (max(high, ~low).bit_length() >> 3) + 1
    size = _SIZES[width]
    numbers = array(_CODES[size], values)
    if _BIG:
        numbers.byteswap()
    raw = numbers.tobytes()
    planes: list[Plane] = []
    for byte in range(width):
        plane = raw[byte::size]
        planes.append(plane[0] if plane.count(plane[0]) == len(plane) else plane)
    return tuple(planes)


def _numbers(planes: Sequence[Plane], count: int) -> array[int]:
    """What `_planes` was given."""
    if not planes:
        return array("q", bytes(8 * count))
    width = len(planes)
    if width > 8:
        raise Damaged("a column has more than eight byte planes")
    size = _SIZES[width]
    raw = bytearray(count * size)
    plane = b""
    for byte, stored in enumerate(planes):
        plane = bytes((stored,)) * count if isinstance(stored, int) else stored
        if len(plane) != count:
            raise Damaged(f"a byte plane holds {len(plane)} values, not {count}")
        raw[byte::size] = plane
    if width < size:
        sign = plane.translate(_SIGN)
        for byte in range(width, size):
            raw[byte::size] = sign
    numbers = array(_CODES[size])
    numbers.frombytes(raw)
    if _BIG:
        numbers.byteswap()
    return numbers


class Pings:
    """A block opened for reading: each column is decoded when it is first asked for. `first` is the index of the
    record's first entry, `controls` the indexes of its control entries, ascending: they lie between the pings.
    """

    __slots__ = ("_cache", "_mono", "_order", "block", "controls", "count", "first", "sizes", "starts", "which")

    def __init__(self, block: Block, first: int, controls: Sequence[int], sizes: list[int] | None = None) -> None:
        self.block = block
        self.first = first
        self.controls = controls
        self.count = block.count
        if len(block.which) == 1 and isinstance(block.which[0], bytes) and len(block.contexts) <= 128:
            self.which: Sequence[int] = block.which[0]
        elif not block.which:
            self.which = bytes(block.count)
        else:
            self.which = _numbers(block.which, block.count)
        if len(self.which) != block.count:
            raise Damaged("a block's contexts do not match its count")
        self.sizes = [self.which.count(number) for number in range(len(block.contexts))] if sizes is None else sizes
        if sum(self.sizes) != block.count or (block.count and len(block.columns) != 9):
            raise Damaged("a block names contexts that it does not have")
        self.starts = list(accumulate(self.sizes, initial=0))
        self._cache: dict[int, list[int]] = {}
        self._order: list[int] | None = None
        self._mono: list[int] | None = None

    def keep(self, order: list[int], values: list[list[int]]) -> None:
        """Take what is known already instead of decoding it."""
        self._order = order
        self._cache = dict(enumerate(values))

    @property
    def order(self) -> list[int]:
        """For each place in the order of contexts, the ping's place in the order of the feed."""
        if self._order is None:
            self._order = sorted(range(self.count), key=self.which.__getitem__)
        return self._order

    def column(self, index: int) -> list[int]:
        """The values of a column as `_values` gave them, in the order of contexts."""
        found = self._cache.get(index)
        if found is not None:
            return found
        stored = self.block.columns[index]
        contexts = self.block.contexts
        kept = len(contexts) if index in COMMON else sum(context.answered for context in contexts)
        count = self.starts[kept]
        numbers: Iterable[int] = _numbers(stored.planes, count)
        if len(stored.firsts) != kept:
            raise Damaged("a column's contexts do not match its block")
        if stored.scale != 1:
            numbers = map(mul, numbers, repeat(stored.scale))
        if index in DELTA:
            steps = list(numbers)
            for start, step in zip(self.starts, stored.firsts, strict=False):
                steps[start] = step
            values = list(accumulate(steps))
        else:
            values = list(map(add, numbers, chain.from_iterable(map(repeat, stored.firsts, self.sizes))))
        self._cache[index] = values
        return values

    def mono(self) -> list[int]:
        """The observer's monotonic clock in ns, in the order of contexts, also where it was not given."""
        if self._mono is None:
            self._mono = list(map(add, self.column(MONO), self.column(AT)))
        return self._mono

    def in_order(self, values: Sequence[Any]) -> list[Any]:
        """`values`, one for each ping in the order of contexts, put in the order of the feed."""
        placed: list[Any] = [None] * self.count
        for place, value in zip(self.order, values, strict=True):
            placed[place] = value
        return placed

    def index(self, place: int) -> int:
        """The entry index of the ping at `place` in the order of the feed."""
        index = self.first + place
        for control in self.controls:
            if control > index:
                break
            index += 1
        return index

    def groups(self, until: int | None = None) -> list[Group]:
        """One group a context, of the pings whose instant is at most `until` ns (all, if None).

        Precondition where `until` is given: instants never decrease in the order of the feed.
        """
        at, rtt, held = self.column(AT), self.column(RTT), self.column(HELD)
        starts = self.starts
        ends = starts[1:]
        total = self.count
        if until is not None:
            ends = [bisect_right(at, until, start, end) for start, end in pairwise(starts)]
            total = sum(map(sub, ends, starts))
        find, rfind = _finders(self.which)
        gaps = self._gaps(at, ends)
        plain = not self.controls
        result = []
        for number, (context, start, end) in enumerate(zip(self.block.contexts, starts, ends, strict=False)):
            if start == end:
                continue
            opening, closing = find(number, 0, total), rfind(number, 0, total)
            result.append(
                Group(
                    context.peer,
                    context.link,
                    context.reason,
                    end - start,
                    self.first + opening if plain else self.index(opening),
                    at[start],
                    self.first + closing if plain else self.index(closing),
                    at[end - 1],
                    rtt[end - 1] if context.answered else 0,
                    gaps[context.peer],
                    context.feed,
                    held[end - 1] if context.given & 2 else None,
                )
            )
        return result

    def _gaps(self, at: list[int], ends: Sequence[int]) -> dict[str, int]:
        """By peer, the greatest time between two neighbouring pings to it, whatever their contexts."""
        found: dict[str, list[int]] = {}
        for context, start, end in zip(self.block.contexts, self.starts, ends, strict=False):
            if context.peer in found:
                found[context.peer] = sorted(found[context.peer] + at[start:end])
            else:
                found[context.peer] = at[start:end]
        return {peer: max(map(sub, walls[1:], walls), default=0) for peer, walls in found.items()}

    def observed(self, number: int) -> Iterator[Observed]:
        """The pings of context `number`, in order."""
        context = self.block.contexts[number]
        at, mono, count, held = self.column(AT), self.mono(), self.column(NUMBER), self.column(HELD)
        given, boot, peer, link, feed = context.given, context.boot, context.peer, context.link, context.feed
        places = range(self.starts[number], self.starts[number + 1])
        if not context.answered:
            reason: Any = context.reason
            for place in places:
                event = PingFailed(peer, count[place], reason, link, feed, held[place] if given & 2 else None)
                yield Observed(at[place], event, boot, mono[place] if given & 1 else None)
            return
        rtt, hold, short, span, lag = (self.column(index) for index in (RTT, HOLD, SENT, SPAN, BACK))
        for place in places:
            back = mono[place] // 1000 - lag[place]
            sent = short[place] + back - rtt[place] - hold[place]
            received = span[place] + sent
            yield Observed(
                at[place],
                PingAnswered(
                    peer,
                    count[place],
                    rtt[place],
                    link,
                    sent if given & 4 else None,
                    received if given & 8 else None,
                    received + hold[place] if given & 16 else None,
                    back if given & 32 else None,
                    context.peer_boot,
                    feed,
                    held[place] if given & 2 else None,
                ),
                boot,
                mono[place] if given & 1 else None,
            )

    def to(self, peer: str) -> list[tuple[int, Observed]]:
        """The pings to one peer with their entry indexes, ascending."""
        found = []
        for number, context in enumerate(self.block.contexts):
            if context.peer == peer:
                places = self.order[self.starts[number] : self.starts[number + 1]]
                found += [(self.index(place), ping) for place, ping in zip(places, self.observed(number), strict=True)]
        return sorted(found, key=itemgetter(0))

    def until(self, until: int) -> int:
        """How many pings have an instant of at most `until` ns. Precondition as for `groups`."""
        at = self.column(AT)
        return sum(bisect_right(at, until, start, end) - start for start, end in pairwise(self.starts))


def _finders(which: Sequence[int]) -> tuple[Any, Any]:
    """`find` and `rfind` of a number between two places."""
    if isinstance(which, bytes):
        return which.find, which.rfind
    backwards = which[::-1]
    count = len(which)
    return which.index, lambda number, _start, end: count - 1 - backwards.index(number, count - end)


def unpack(block: Block) -> list[Observed]:
    """The pings of a block, in the order of the feed: what `pack` was given."""
    if not block.count:
        return []
    pings = Pings(block, 1, ())
    return pings.in_order(list(chain.from_iterable(pings.observed(number) for number in range(len(block.contexts)))))
