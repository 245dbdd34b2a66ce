"""Making blocks of a few pings: what `packing` makes, without the preparations that pay for hundreds.

What travels between live nodes are runs of a handful of pings, and each is made into a record where it begins and again where it
ends, to see that it is canonical. With so few, nearly every column says nothing beyond where it begins. Numbers are whole and
within their ranges here; whatever is otherwise gives None, and is left to `packing`, which defines the block and says what is
wrong: a law holds both to one value. Pure.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise
from math import gcd
from typing import Any, Final

from ledger import planes
from ledger.blocks import AT, BACK, GIVEN, HELD, HOLD, MONO, NUMBER, RTT, SENT, SPAN, Block, Column, Context
from ledger.entry import INSTANT_MAX_NS, INSTANT_MIN_NS, MONO_MAX_NS, Observed
from ledger.events import PingAnswered, PingFailed
from ledger.packing_lanes import Arranged
from ledger.planes import Plane

FEW: Final = 16
"""No more than `packing` looks at for a divisor."""
_NOTHING: Final = Column(1, 0, (), ())
_STAMP_MAX: Final = 2**60
_MONO, _HELD, *_STAMPS = GIVEN.values()
_WHOLE: Final = frozenset((int,))
Row = tuple[int, ...]


def arranged_few(pings: Sequence[Observed]) -> Arranged | None:
    """The block of these pings, one at least and `FEW` at most; None where this is not the way to make it."""
    answers: dict[tuple[Any, ...], list[tuple[int, Row]]] = {}
    failures: dict[tuple[Any, ...], list[tuple[int, Row]]] = {}
    stamped = False
    for place, ping in enumerate(pings):
        event: Any = ping.event
        at_ns, mono_ns, held = ping.at_ns, ping.mono_ns, event.held if event.__class__ in _PINGS else None
        given = (_MONO if mono_ns is not None else 0) | (_HELD if held is not None else 0)
        numbers = [at_ns, at_ns if mono_ns is None else mono_ns, 0 if held is None else held]
        if event.__class__ is PingAnswered:
            numbers += (event.number, event.rtt_us)
            for bit, stamp in zip(_STAMPS, (event.sent_us, event.received_us, event.replied_us, event.returned_us), strict=True):
                if stamp is not None:
                    given |= bit
                numbers.append(0 if stamp is None else stamp)
            stamped = stamped or given > 3
            key: tuple[Any, ...] = (event.peer, event.link, None, ping.boot, event.peer_boot, event.feed, given)
            row = answers.setdefault(key, [])
        elif event.__class__ is PingFailed and event.reason is not None:
            numbers.append(event.number)
            key = (event.peer, event.link, event.reason, ping.boot, None, event.feed, given)
            row = failures.setdefault(key, [])
        else:
            return None
        if not _WHOLE.issuperset(map(type, numbers)) or not _in_range(numbers, mono_ns):
            return None
        row.append((place, tuple(numbers)))
    contexts = tuple(Context(key[2] is None, *key) for key in (*answers, *failures))
    parts = [*answers.values(), *failures.values()]
    which = [0] * len(pings)
    for number, part in enumerate(parts):
        for place, _row in part:
            which[place] = number
    sizes = [len(part) for part in parts]
    rows = [row for part in parts for _place, row in part]
    try:
        columns = _columns(rows, sizes, len(answers), stamped=stamped)
    except OverflowError:  # a difference modulo 2^64
        return None
    kept: dict[int, Sequence[int]] = {AT: [row[0] for row in rows], HELD: [row[2] for row in rows], RTT: []}
    if answers:
        kept[RTT] = [row[4] for row in rows[: sum(sizes[: len(answers)])]]
    return Arranged(
        Block(len(pings), contexts, _planes(which), columns), sizes, [place for part in parts for place, _row in part], kept
    )


_PINGS: Final = (PingAnswered, PingFailed)


def _in_range(numbers: Sequence[int], mono_ns: int | None) -> bool:
    return (
        INSTANT_MIN_NS <= numbers[0] <= INSTANT_MAX_NS
        and (mono_ns is None or 0 <= mono_ns <= MONO_MAX_NS)
        and min(numbers[2:]) >= 0
        and max(numbers[2:]) <= _STAMP_MAX
    )


def _columns(rows: Sequence[Row], sizes: Sequence[int], answered: int, *, stamped: bool) -> tuple[Column, ...]:
    """The columns of pings in the order of contexts, of which so many are of answers."""
    found = [_NOTHING] * 9
    found[AT] = _along([row[0] for row in rows], sizes, divided=True)
    found[MONO] = _along([row[0] - row[1] for row in rows], sizes, divided=True)
    found[HELD] = _along([row[2] for row in rows], sizes)
    found[NUMBER] = _along([row[3] for row in rows], sizes)
    if answered:
        sizes = sizes[:answered]
        rows = rows[: sum(sizes)]
        found[RTT] = _least([row[4] for row in rows], sizes, divided=True)
        if stamped:
            found[HOLD] = _least([row[7] - row[6] for row in rows], sizes)
            found[SENT] = _least([row[5] + row[4] + row[7] - row[6] - row[8] for row in rows], sizes)
            found[SPAN] = _along([row[6] - row[5] for row in rows], sizes)
            found[BACK] = _least([row[1] // 1000 - row[8] for row in rows], sizes)
    return tuple(found)


def _along(values: list[int], sizes: Sequence[int], *, divided: bool = False) -> Column:
    """A column of differences along each context."""
    firsts, rest, start = [], [0] * len(values), 0
    for size in sizes:
        firsts.append(values[start])
        for place in range(start + 1, start + size):
            rest[place] = values[place] - values[place - 1]
        start += size
    return _column(firsts, rest, divided=divided)


def _least(values: list[int], sizes: Sequence[int], *, divided: bool = False) -> Column:
    """A column of the excess over each context's least value."""
    firsts, rest, start = [], [], 0
    for size in sizes:
        here = values[start : start + size]
        least = min(here)
        firsts.append(least)
        rest += [value - least for value in here]
        start += size
    return _column(firsts, rest, divided=divided)


def _column(firsts: list[int], rest: list[int], *, divided: bool) -> Column:
    base = firsts[0]
    steps = [0, *[after - before for before, after in pairwise(firsts)]]
    scale = gcd(*rest, *steps) if divided else 1
    if scale > 1:
        if any(planes.wrapped(number) != number for number in (*rest, *steps)):
            raise OverflowError
        rest = [number // scale for number in rest]
        steps = [number // scale for number in steps]
    return Column(scale or 1, base, _planes(steps), _planes(rest))


def _planes(numbers: list[int]) -> tuple[Plane, ...]:
    return planes.encode(array("q", numbers)) if any(numbers) else ()
