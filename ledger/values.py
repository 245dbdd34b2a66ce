"""The values of a column: where each context begins, and what its planes hold, put together again (the shapes stand in `blocks`).

`plain_values` does it number by number and is the definition. Columns of hundreds are multiplied and added as one long integer
each (`quick_values`), those of a few pings, which mostly say nothing, without preparations (`few_values`); laws hold both to the
definition, wherever they do not refuse. Pure arithmetic.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, repeat
from operator import add, mul, sub
from typing import Final

from ledger import planes
from ledger.blocks import Column
from ledger.planes import TooWide

FEW: Final = 16
"""Columns of so few numbers are opened sooner one by one."""


def values_of(column: Column, starts: Sequence[int], *, delta: bool) -> list[int]:
    """The values of a column in the order of contexts: `plain_values`, in the way that is quickest for it."""
    if starts[-1] <= FEW and not may_wrap(column):
        return few_values(column, starts, delta=delta)
    try:
        return quick_values(column, starts, delta=delta)
    except (TooWide, OverflowError):
        return plain_values(column, starts, delta=delta)


def plain_values(column: Column, starts: Sequence[int], *, delta: bool) -> list[int]:
    """The values of a column in the order of contexts, number by number: the definition. `starts`: where each context begins,
    and the end of the last; `delta`: whether it holds differences along a context, not the excess over the least.
    """
    numbers: Iterable[int] = planes.decode(column.planes, starts[-1])
    steps: Iterable[int] = planes.decode(column.firsts, len(starts) - 1)
    if column.scale != 1:
        numbers = map(mul, numbers, repeat(column.scale))
        steps = map(mul, steps, repeat(column.scale))
    firsts = [first + column.base for first in accumulate(steps)]
    if not delta:
        return list(map(add, numbers, chain.from_iterable(map(repeat, firsts, map(sub, starts[1:], starts)))))
    values, before = list(numbers), 0
    for number, first in enumerate(firsts):
        start = starts[number]
        values[start] = first - before
        before = first + sum(values[start + 1 : starts[number + 1]])
    values = list(accumulate(values))
    return list(map(planes.wrapped, values)) if may_wrap(column) else values


def few_values(column: Column, starts: Sequence[int], *, delta: bool) -> list[int]:
    """The same for a few pings, whose columns mostly say nothing. Precondition: no difference was taken modulo 2^64."""
    scale, base, many = column.scale, column.base, len(starts) - 1
    numbers = planes.decode(column.planes, starts[-1]) if column.planes else None
    firsts = [base] * many
    if column.firsts:
        firsts = [first * scale + base for first in accumulate(planes.decode(column.firsts, many))]
    values: list[int] = []
    for number, first in enumerate(firsts):
        start, end = starts[number], starts[number + 1]
        if numbers is None:
            values += [first] * (end - start)
        elif not delta:
            values += [first + each * scale for each in numbers[start:end]]
        elif start < end:
            values += accumulate([first, *[each * scale for each in numbers[start + 1 : end]]])
    return values


def quick_values(column: Column, starts: Sequence[int], *, delta: bool) -> list[int]:
    """The same, whole columns at once: multiplied and added as long integers. Raises TooWide or OverflowError where a number
    may not fit there.
    """
    count, scale = starts[-1], column.scale
    firsts = [first * scale + column.base for first in accumulate(planes.decode(column.firsts, len(starts) - 1))]
    if not count or scale < 1 or may_wrap(column) or max(firsts) >= planes.ROOM:
        raise TooWide
    sizes = list(map(sub, starts[1:], starts))
    if not delta:
        long = planes.laned(column.planes, count)
    else:
        # Summed up throughout, then each context moved to where it begins.
        sums = array("Q", accumulate(planes.decode(column.planes, count)))
        firsts = [first - sums[start] * scale for first, start in zip(firsts, starts, strict=False)]
        long = planes.lanes(sums, count)
    return planes.unlaned(planes.multiplied(long, scale, count) + planes.repeated(firsts, sizes), count).tolist()


def may_wrap(column: Column) -> bool:
    """Whether a difference in this column may have been taken modulo 2^64: then it is 2^62 or more."""
    return column.scale.bit_length() + 8 * max(len(column.planes), len(column.firsts)) > 62
