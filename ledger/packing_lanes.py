"""Making blocks of whole columns: what `packing` makes ping by ping, at a fraction of the price.

Nearly every record is alike: one boot, all answers with the same clocks and stamps, every number below 2^60. Then the pings
are brought into the order of contexts first, as objects; each field is one list, each list one long integer
(`planes.lanes`), and columns are subtracted, compared and divided as such. Whatever is otherwise raises `TooWide`, and is
left to `packing`, which defines the block and says what is no ping: a law holds both to one value. Pure.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise
from math import gcd
from operator import floordiv, itemgetter, sub
from typing import Any, Final, NamedTuple

import msgspec

from ledger import planes
from ledger.blocks import AT, BACK, GIVEN, HELD, HOLD, MONO, NUMBER, RTT, SENT, SPAN, Block, Column, Context
from ledger.entry import Observed
from ledger.events import PingAnswered, PingFailed
from ledger.planes import Plane, TooWide

_NOTHING: Final = Column(1, 0, (), ())
_BIAS: Final = 2**61
_STAMP: Final = 0xF0 << 56
"""The bits that a number below 2^60 leaves free."""
_SAMPLE: Final = 16
"""So many numbers are looked at first for a divisor, as `packing` does."""
_STAMPS: Final = ("sent_us", "received_us", "replied_us", "returned_us")
_written: Final = msgspec.json.Encoder().encode


class Arranged(NamedTuple):
    """A block, with what was at hand when it was made: how many pings each context has; for each place in the order of
    contexts the ping's place in the order of the feed; some columns as they were.
    """

    block: Block
    sizes: list[int]
    order: list[int]
    values: dict[int, Sequence[int]]


class Numbering(dict[Any, int]):
    """Numbers what it is asked for, from 0, in the order of asking."""

    def __missing__(self, key: object) -> int:
        number = self[key] = len(self)
        return number


def demand_numbers(*columns: Sequence[int | None]) -> None:
    """Refuse a column with True or False in it, which Python takes for 1 and 0, with a fraction, or with a number of a type that
    no row holds.

    Columns are written as JSON for it, because that is the quickest way to see every type: of what whole numbers and None are
    written in, nothing has an `e`, as those two words have, or a point. Raises TypeError.
    """
    written = _written(columns)
    if b"e" in written or b"." in written:
        raise TypeError("True, False and fractions are no whole numbers")


def arranged(pings: Sequence[Observed]) -> Arranged:
    """The block of these pings, one at least. Raises TooWide where this is not the way to make it; what is no ping, and what
    is no number where one must be, may raise TypeError, ValueError, OverflowError or AttributeError.
    """
    events: list[Any] = [ping.event for ping in pings]
    kinds: list[type] = list(map(type, events))
    boots = [ping.boot for ping in pings]
    count, lost = len(events), kinds.count(PingFailed)
    if kinds.count(PingAnswered) + lost != count or boots.count(boots[0]) != count or len(set(map(type, boots))) > 1:
        raise TooWide
    demand_numbers(boots[:1])
    clocked = GIVEN["mono_ns"] if pings[0].mono_ns is not None else 0
    answers = [event for event in events if event.__class__ is PingAnswered] if lost else events
    contexts, numbers = _answered(answers, boots[0], clocked)
    which: Sequence[int] = numbers
    if lost:
        more, others = _failed([event for event in events if event.__class__ is PingFailed], boots[0], clocked, len(contexts))
        contexts += more
        take: dict[type, Iterator[int]] = {PingAnswered: iter(numbers), PingFailed: iter(others)}
        which = list(map(next, map(take.__getitem__, kinds)))
    if len(contexts) <= 128:
        which = bytes(which)
    buckets: list[list[int]] = [[] for _ in contexts]
    adds = [bucket.append for bucket in buckets]
    for place, number in enumerate(which):
        adds[number](place)
    sizes, order = list(map(len, buckets)), list(chain.from_iterable(buckets))
    ordered = itemgetter(*order)(pings) if count > 1 else tuple(pings)
    columns, values = _columns(ordered, count - lost, sizes, contexts)
    stored: tuple[Plane, ...] = ()
    if len(contexts) > 1:
        stored = (which,) if isinstance(which, bytes) else planes.encode(array("q", which))
    return Arranged(Block(count, tuple(contexts), stored, columns), sizes, order, values)


def _answered(events: list[Any], boot: int | None, clocked: int) -> tuple[list[Context], list[int]]:
    """The contexts of answers, and for each its context's number. All must bear the same stamps as the first."""
    if not events:
        return [], []
    numbering = Numbering()
    others = [event.peer_boot for event in events]
    demand_numbers(others)
    keys = zip(
        [event.peer for event in events],
        [event.link for event in events],
        others,
        [event.feed for event in events],
        [event.held is not None for event in events],
        strict=True,
    )
    numbers = list(map(numbering.__getitem__, keys))
    given = clocked + sum(GIVEN[name] for name in _STAMPS if getattr(events[0], name) is not None)
    return [
        Context(True, peer, link, None, boot, other, feed, given + GIVEN["held"] * held)
        for peer, link, other, feed, held in numbering
    ], numbers


def _failed(events: list[Any], boot: int | None, clocked: int, first: int) -> tuple[list[Context], list[int]]:
    """The same for failed pings, whose contexts are numbered from `first`."""
    numbering = Numbering()
    keys = [(event.peer, event.link, event.reason, event.feed, event.held is not None) for event in events]
    numbers = [first + numbering[key] for key in keys]
    if any(reason is None for _peer, _link, reason, _feed, _held in numbering):
        raise TooWide
    return [
        Context(False, peer, link, reason, boot, None, feed, clocked + GIVEN["held"] * held)
        for peer, link, reason, feed, held in numbering
    ], numbers


def _columns(
    pings: Sequence[Observed], got: int, sizes: Sequence[int], contexts: Sequence[Context]
) -> tuple[tuple[Column, ...], dict[int, Sequence[int]]]:
    """The columns of pings in the order of contexts, of which `got` were answered; and those that readers ask for first."""
    count = len(pings)
    starts = list(accumulate(sizes, initial=0))[:-1]
    events: list[Any] = [ping.event for ping in pings]
    at = [ping.at_ns for ping in pings]
    number = [event.number for event in events]
    own: list[Any] = [ping.mono_ns for ping in pings]
    demand_numbers(at, number, own)
    wall = clock = planes.lanes(at, count)
    if contexts[0].given & GIVEN["mono_ns"]:
        clock = planes.lanes(own, count)
    else:
        _none(own)
        own = at
    since = planes.difference(wall, clock, count)
    if not planes.is_plain(since, count) or not planes.is_plain((wall | clock) << 1, count):
        raise TooWide
    found = {
        AT: _scaled(wall, at[:_SAMPLE], [at[start] for start in starts], starts, count),
        MONO: _scaled(
            since, list(map(sub, at[:_SAMPLE], own[:_SAMPLE])), [at[start] - own[start] for start in starts], starts, count
        ),
        NUMBER: _along(_stamps(number, count), [number[start] for start in starts], starts, count),
    }
    few = len(starts) if got == count else sum(context.answered for context in contexts)
    said = [event.held for event in events]
    demand_numbers(said)
    held: list[int] = [0 if value is None else value for value in said] if None in said else said
    found[HELD] = _along(_stamps(held, count), [held[start] for start in starts], starts, count)
    rtt: list[int] = []
    if got:
        answers = events[:got] if got < count else events
        rtt = [event.rtt_us for event in answers]
        demand_numbers(rtt)
        took = _stamps(rtt, got)
        found[RTT] = _trips(took, rtt, sizes[:few], starts[:few])
        found |= _exchanges(answers, contexts[0], own[:got], took, sizes[:few])
    return tuple(found.get(index, _NOTHING) for index in range(9)), {AT: at, RTT: rtt, HELD: held}


def _none(values: list[Any]) -> None:
    """That not one of these was given. (Where all must be, `lanes` refuses None.)"""
    if values.count(None) != len(values):
        raise TooWide


def _stamps(values: Sequence[int], count: int) -> int:
    long = planes.lanes(values, count)
    if long & planes.constant(_STAMP, count):
        raise TooWide
    return long


def _exchanges(events: list[Any], first: Context, own: list[int], took: int, sizes: Sequence[int]) -> dict[int, Column]:
    """The columns of the four stamps of answers, each of which all bear or none."""
    got = len(own)
    stamps: list[list[Any]] = [
        [event.sent_us for event in events],
        [event.received_us for event in events],
        [event.replied_us for event in events],
        [event.returned_us for event in events],
    ]
    given = [first.given & GIVEN[name] for name in _STAMPS]
    for column, bit in zip(stamps, given, strict=True):
        if not bit:
            _none(column)
            column[:] = [0] * got
    if not any(given):
        return {}
    demand_numbers(*stamps)
    starts = list(accumulate(sizes, initial=0))[:-1]
    sent, received, replied, returned = (_stamps(column, got) for column in stamps)
    span = received + planes.constant(_BIAS, got) - sent  # stamps are below 2^60: no lane is negative
    micros = _micros(own)
    return {
        HOLD: _least(planes.difference(replied, received, got), sizes, starts, got),
        SENT: _least(planes.difference(sent + took + replied, received + returned, got), sizes, starts, got),
        SPAN: _along(span, [stamps[1][start] - stamps[0][start] for start in starts], starts, got),
        BACK: _least(planes.difference(micros, returned, got), sizes, starts, got),
    }


def _micros(clocks: list[int]) -> int:
    """Clocks of ns as whole µs, in lanes: divided at once where all are as far from one."""
    count = len(clocks)
    short = planes.divided(planes.lanes(clocks, count), clocks[0] % 1000, 1000, count)
    return planes.lanes([clock // 1000 for clock in clocks], count) if short is None else short


def _scaled(long: int, sample: Sequence[int], firsts: Sequence[int], starts: Sequence[int], count: int) -> Column:
    """A column of differences along each context, divided by their greatest common divisor. `sample`: its first numbers."""
    first = firsts[0]
    scale = gcd(*(number - first for number in sample), *(number - first for number in firsts))
    if scale > 1:
        short = planes.divided(long, first % scale, scale, count)
        if short is None:
            scale = gcd(scale, *(number - first for number in planes.unlaned(long, count)))
            short = planes.divided(long, first % scale, scale, count) if scale > 1 else long
        if short is None:
            raise TooWide
        long = short
    return _along(long, firsts, starts, count, scale or 1)


def _along(long: int, firsts: Sequence[int], starts: Sequence[int], count: int, scale: int = 1) -> Column:
    """A column of differences along each context, from lanes without a negative one, divided by `scale` already."""
    rest = planes.unlaned(planes.difference(long, planes.shifted(long, count), count), count)
    for start in starts:
        rest[start] = 0
    return Column(scale, firsts[0], _steps(firsts, scale), planes.encode(rest))


def _steps(firsts: Sequence[int], scale: int = 1) -> tuple[Plane, ...]:
    """The planes of how each context's first number differs from that of the one before."""
    steps = array("q", [0, *[(after - before) // scale for before, after in pairwise(firsts)]])
    return planes.encode(steps)


def _least(long: int, sizes: Sequence[int], starts: Sequence[int], count: int) -> Column:
    """A column of the excess over each context's least value; lanes in two's complement."""
    if not long:
        return _NOTHING
    numbers = planes.unlaned(long, count)
    firsts = [min(numbers[start : start + size]) for start, size in zip(starts, sizes, strict=True)]
    if min(firsts) < 0:
        rest = array("q", (value - first for first, start, size in zip(firsts, starts, sizes, strict=True)
                           for value in numbers[start : start + size]))  # fmt: skip
        return Column(1, firsts[0], _steps(firsts), planes.encode(rest))
    return Column(1, firsts[0], _steps(firsts), planes.encode_bytes(planes.unlane(long - planes.repeated(firsts, sizes), count)))


def _trips(long: int, values: list[int], sizes: Sequence[int], starts: Sequence[int]) -> Column:
    """The same for round trips, divided by their greatest common divisor where they are coarse."""
    count = len(values)
    firsts = [min(values[start : start + size]) for start, size in zip(starts, sizes, strict=True)]
    rest = planes.unlaned(long - planes.repeated(firsts, sizes), count)
    scale = gcd(*rest[:_SAMPLE], *map(sub, firsts[1:], firsts))
    if scale > 1:
        scale = gcd(scale, *rest)
    if scale > 1:
        rest = array("q", map(floordiv, rest, [scale] * count))
    return Column(scale or 1, firsts[0], _steps(firsts, scale or 1), planes.encode(rest))
