"""Making blocks: a record's pings sorted into contexts and columns (the shapes stand in `blocks`).

The way: every ping's fields as tuples, turned into columns at once; each ping's context numbered; the columns brought into
the order of contexts; each column replaced by what its neighbours do not foretell; what is left cut into byte planes.

    AT      wall clock, difference along the context      RTT    over the context's least
    MONO    wall minus monotonic clock, difference        HOLD   replied - received, over the least
    NUMBER  difference                                    SENT   sent + rtt + hold - returned, over the least: mostly 0
    HELD    difference                                    SPAN   received - sent, difference
                                                          BACK   monotonic µs - returned, over the least

Here everything is done ping by ping and number by number, which is the definition; nearly every record is made by
`packing_lanes` instead, of whole columns. A law holds both to one value. Pure.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, chain, repeat
from math import gcd
from operator import add, floordiv, itemgetter, sub
from typing import Any, Final

import msgspec

from ledger import planes
from ledger.blocks import AT, BACK, COMMON, DELTA, GIVEN, HELD, HOLD, MONO, NUMBER, RTT, SENT, SPAN, Block, Column, Context
from ledger.entry import INSTANT_MAX_NS, INSTANT_MIN_NS, MONO_MAX_NS, Observed
from ledger.events import PingAnswered, PingFailed
from ledger.packing_few import FEW, arranged_few
from ledger.packing_lanes import Arranged, Numbering, arranged, demand_numbers
from ledger.unpacking import Pings

_EMPTY: Final = Block(0, (), (), ())
_NOTHING: Final = Column(1, 0, (), ())
_fields: Final = msgspec.structs.astuple
_STAMP_MAX: Final = 2**60


class Columns(msgspec.Struct, gc=False):
    """The fields of pings, a tuple each, in the order of the feed. `reason` is None where a ping was answered."""

    at: tuple[int, ...]
    boot: tuple[int | None, ...]
    mono: tuple[int | None, ...]
    peer: tuple[str, ...]
    number: tuple[int, ...]
    rtt: tuple[int, ...]
    link: tuple[str | None, ...]
    sent: tuple[int | None, ...]
    received: tuple[int | None, ...]
    replied: tuple[int | None, ...]
    returned: tuple[int | None, ...]
    peer_boot: tuple[int | None, ...]
    feed: tuple[str | None, ...]
    held: tuple[int | None, ...]
    reason: tuple[str | None, ...]
    lost: int


def columns_of(pings: Sequence[Observed]) -> Columns:
    """The columns of these pings, one at least. Raises TypeError if one is no ping."""
    at, events, mono, boot = itemgetter(0, 1, 3, 2)(tuple(zip(*map(_fields, pings), strict=True)))
    kinds = set(map(type, events))
    if kinds == {PingAnswered}:
        fields: tuple[Any, ...] = tuple(zip(*map(_fields, events), strict=True))
        return Columns(*(at, boot, mono, *fields, (None,) * len(at), 0))
    if not kinds <= {PingAnswered, PingFailed}:
        raise TypeError("not all of these are pings")
    rows = [(*_fields(event), None) if type(event) is PingAnswered else _failed(event) for event in events]
    fields = tuple(zip(*rows, strict=True))
    return Columns(*(at, boot, mono, *fields, len(at) - fields[-1].count(None)))


def _failed(event: PingFailed) -> tuple[Any, ...]:
    if event.reason is None:
        raise TypeError("a failure without a reason would pass for an answer")
    return (event.peer, event.number, 0, event.link, None, None, None, None, None, event.feed, event.held, event.reason)


def pack(pings: Sequence[Observed]) -> Block:
    """The block of these pings, in their order. Raises what `arrange` raises."""
    return arrange(pings, 1, ()).block


def arrange(pings: Sequence[Observed], first: int, controls: Sequence[int]) -> Pings:
    """The block of these pings, opened: what `Pings(pack(pings), first, controls)` is, without decoding what is at hand.

    Raises TypeError, OverflowError or ValueError where a number is not of its field's type or range; texts are not looked at.
    """
    if not pings:
        return Pings(_EMPTY, first, controls)
    found = arranged_few(pings) if len(pings) <= FEW else None
    if found is None:
        try:
            found = arranged(pings)
        except (TypeError, ValueError, OverflowError, AttributeError):  # not the way for these, or no pings: the plain way says
            found = arranged_plainly(pings)
    block, sizes, order, kept = found
    opened = Pings(block, first, controls, sizes)
    opened.keep(order, kept)
    return opened


def arranged_plainly(pings: Sequence[Observed]) -> Arranged:
    """The block of these pings, one at least: the definition. Raises what `arrange` raises."""
    columns = columns_of(pings)
    count, got = len(columns.at), len(columns.at) - columns.lost
    numbers, contexts = _contexts(columns)
    which: Sequence[int] = bytes(numbers) if len(contexts) <= 128 else numbers
    sizes = [which.count(number) for number in range(len(contexts))]
    answered = sum(context.answered for context in contexts)
    order = sorted(range(count), key=which.__getitem__)
    found, kept = _plain(columns, order, got, sizes, answered)
    return Arranged(Block(count, contexts, planes.encode(array("q", numbers)), found), sizes, order, kept)


def _contexts(columns: Columns) -> tuple[list[int], tuple[Context, ...]]:
    """For each ping the number of its context, those answered first, each kind in the order of appearance."""
    flags = _flags(columns)
    keys = zip(columns.peer, columns.link, columns.reason, columns.boot, columns.peer_boot, columns.feed, flags, strict=False)
    numbering = Numbering()
    numbers = list(map(numbering.__getitem__, keys))
    contexts = [Context(key[2] is None, *key) for key in numbering]
    if columns.lost:
        ranked = sorted(range(len(contexts)), key=lambda number: not contexts[number].answered)
        place = {number: rank for rank, number in enumerate(ranked)}
        numbers = list(map(place.__getitem__, numbers))
        contexts = [contexts[number] for number in ranked]
    return numbers, tuple(contexts)


def _flags(columns: Columns) -> Iterable[int]:
    """For each ping, which optional numbers it bears, as bits of `GIVEN`."""
    optional = (columns.mono, columns.held, columns.sent, columns.received, columns.replied, columns.returned)
    bits = tuple(GIVEN.values())
    uniform = 0
    for place, (bit, column) in enumerate(zip(bits, optional, strict=True)):
        absent = column.count(None)
        if absent == (columns.lost if place > 1 else 0):
            uniform |= bit
        elif absent < len(column):
            break
    else:
        if not columns.lost:
            return repeat(uniform)
        late = uniform & 3  # a failed ping bears no stamps
        return [uniform if reason is None else late for reason in columns.reason]
    return [sum(bit for bit, value in zip(bits, row, strict=True) if value is not None) for row in zip(*optional, strict=True)]


def _gathered(order: Sequence[int], got: int) -> Callable[[Sequence[Any], bool], tuple[Any, ...]]:
    """A function that brings a column into the order of contexts, as long as there are pings (True) or answers (False)."""
    everyone = _picker(order)
    answered = everyone if got == len(order) else _picker(order[:got])

    return lambda column, common: everyone(column) if common else answered(column)


def _filled(values: tuple[Any, ...]) -> tuple[int, ...]:
    """A column of numbers that need not be given, with 0 for those that are not."""
    return tuple(0 if value is None else value for value in values) if None in values else values


def _picker(order: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    if len(order) > 1:
        return itemgetter(*order)
    return lambda column: tuple(column[place] for place in order)


def _own(mono: Sequence[Any], at: Sequence[int]) -> Sequence[int]:
    """The monotonic clock, or the wall clock where it was not given."""
    return [wall if value is None else value for value, wall in zip(mono, at, strict=True)] if None in mono else mono


def _stamped(columns: Columns) -> bool:
    """Whether any ping bears a stamp."""
    stamps = (columns.sent, columns.received, columns.replied, columns.returned)
    return any(column.count(None) < len(column) for column in stamps)


def _plain(
    columns: Columns, order: Sequence[int], got: int, sizes: Sequence[int], answered: int
) -> tuple[tuple[Column, ...], dict[int, Sequence[int]]]:
    """The columns, number by number, and those that readers ask for first as they were."""
    gather = _gathered(order, got)
    at, own = gather(columns.at, True), gather(_own(columns.mono, columns.at), True)
    rtt = gather(columns.rtt, False)
    sent, received, replied, returned = (
        _filled(gather(column, False)) for column in (columns.sent, columns.received, columns.replied, columns.returned)
    )
    number, held = gather(columns.number, True), _filled(gather(columns.held, True))
    demand_numbers(at, own, rtt, sent, received, replied, returned, number, columns.held, columns.boot, columns.peer_boot)
    for column in (number, held, rtt, sent, received, replied, returned):
        if column and (min(column) < 0 or max(column) > _STAMP_MAX):
            raise ValueError("a number below 0 or above 2^60")
    if min(at) < INSTANT_MIN_NS or max(at) > INSTANT_MAX_NS:
        raise ValueError("an instant out of range")
    given = [value for value in columns.mono if value is not None]
    if given and (min(given) < 0 or max(given) > MONO_MAX_NS):
        raise ValueError("a monotonic clock out of range")
    hold = list(map(sub, replied, received))
    values: dict[int, Sequence[int]] = {
        AT: at,
        MONO: list(map(sub, at, own)),
        NUMBER: number,
        HELD: held,
        RTT: rtt,
    }
    if _stamped(columns):
        values |= {
            HOLD: hold,
            SENT: list(map(sub, map(add, map(add, sent, rtt), hold), returned)),
            SPAN: list(map(sub, received, sent)),
            BACK: list(map(sub, map(floordiv, own[:got], repeat(1000)), returned)),
        }
    found = (_column(index, values.get(index, ()), sizes if index in COMMON else sizes[:answered]) for index in range(9))
    return tuple(found), {AT: at, RTT: rtt, HELD: held}


def _column(index: int, values: Sequence[int], sizes: Sequence[int]) -> Column:
    if not values:
        return _NOTHING
    starts = list(accumulate(sizes, initial=0))[:-1]
    if index in DELTA:
        rest = array("q", [0, *map(planes.wrapped, map(sub, values[1:], values))])
        firsts = [values[start] for start in starts]
        for start in starts:
            rest[start] = 0
    else:
        firsts = [min(values[start : start + size]) for start, size in zip(starts, sizes, strict=True)]
        rest = array("q", map(sub, values, chain.from_iterable(map(repeat, firsts, sizes))))
    return _scaled(index, rest, firsts)


def _scaled(index: int, rest: array[int], firsts: Sequence[int]) -> Column:
    """A column of what is left, divided by its greatest common divisor where clocks and round trips are coarse."""
    steps = array("q", (0, *map(planes.wrapped, map(sub, firsts[1:], firsts))))
    scale = gcd(*rest[:16], *steps) if index in (AT, MONO, RTT) else 1
    if scale > 1:
        scale = gcd(scale, *rest)
    if scale > 1:
        rest = array("q", map(floordiv, rest, repeat(scale)))
        steps = array("q", map(floordiv, steps, repeat(scale)))
    return Column(scale or 1, firsts[0], planes.encode(steps), planes.encode(rest))
