"""A block cut at an instant: what its pings amount to up to a moment that falls into their record.

That is what most questions about the past come to: nearly everything before the moment is known from directories and saved
states, and one record a feed is cut. So the cut decodes no more than it must. What lies wholly before the moment, the
directory told already. Of the rest the place of the cut is sought in the order of the feed, as one looks up a name in a
telephone book (a guess from the instants at both ends); then a few sums along each context, from its nearer end, tell
what the last ping before the cut bears. Precondition: instants never decrease in the order of the feed.
`Pings.groups` with `until` is the definition; both agree but for gaps, which are those of the whole group here. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from ledger import planes
from ledger.blocks import AT, GIVEN, HELD, RTT, Block, Group
from ledger.planes import Plane
from ledger.rows import Directory
from ledger.unpacking import Pings
from ledger.values import may_wrap

Inflate = Callable[[Plane, int], Plane]


def groups_until(
    block: Block, told: Directory, low_ns: int, first: int, controls: Sequence[int], *, until: int, inflate: Inflate
) -> list[Group]:
    """The groups of the pings whose instant is at most `until` ns. `told`: the block's directory, whose instants count from
    `low_ns`; `first`: the index of the record's first entry; `controls`: those of its control entries up to the cut, ascending;
    `inflate` opens the planes of the columns, where they are still as they were stored.
    """
    at, held, rtt = block.columns[AT], block.columns[HELD], block.columns[RTT]
    which = block.which[0] if len(block.which) == 1 else b"" if block.which else bytes(block.count)
    contexts, counts = block.contexts, told.counts
    if may_wrap(at) or may_wrap(held) or not isinstance(which, bytes) or not which or len(contexts) > 128:
        return Pings(block, first, controls, inflate=inflate).groups(until)
    count, scale = block.count, told.scale
    begins = [low_ns + step * scale for step in told.first_steps]
    ends = [low_ns + step * scale for step in told.last_steps]
    starts = list(accumulate(counts, initial=0))
    steps, unit = _opened(at.planes, count, inflate), at.scale
    total = _sought(which, starts, begins, ends, steps=steps, unit=unit, until=until)
    rtts = _opened(rtt.planes, starts[sum([context.answered for context in contexts])], inflate)
    grown, many = _opened(held.planes, count, inflate), held.scale
    ahead = [control - first - place for place, control in enumerate(controls)]
    coarse, until_here, rfind, given = told.coarse, which.count, which.rfind, GIVEN["held"]
    result = []
    for number, (context, start, whole, place, begin, end, gap, last_held, last_rtt) in enumerate(
        zip(contexts, starts, counts, accumulate(told.firsts), begins, ends, told.gaps, told.held, told.rtts, strict=False)
    ):
        if begin > until:
            continue
        here = rfind(number, 0, total)
        if end > until:
            size = until_here(number, 0, total)
            stop = start + size
            if 2 * size < whole:
                end = begin + sum(steps[start + 1 : stop]) * unit
            else:
                end -= sum(steps[stop : start + whole]) * unit
            last_held -= sum(grown[stop : start + whole]) * many
            if context.answered:
                last_rtt += (rtts[stop - 1] - rtts[start + whole - 1]) * rtt.scale
        else:
            size = whole
        result.append(
            Group(
                context.peer,
                context.link,
                context.reason,
                size,
                first + place,
                begin,
                first + here + (bisect_right(ahead, here) if ahead else 0),
                end,
                last_rtt,
                gap * coarse,
                context.feed,
                last_held if context.given & given else None,
            )
        )
    return result


def _sought(
    which: bytes, starts: Sequence[int], begins: Sequence[int], ends: Sequence[int], *,
    steps: Sequence[int], unit: int, until: int,
) -> int:  # fmt: skip
    """How many pings, in the order of the feed, have an instant of at most `until` ns."""
    low, high = 0, len(which)
    low_ns, high_ns = min(begins), max(ends)
    if until < low_ns or until >= high_ns:
        return low if until < low_ns else high
    tries = 0
    while low < high:
        # By the instants at both ends; where time went too unevenly for that, in the middle.
        place = low + (until - low_ns) * (high - low) // (high_ns - low_ns + 1) if tries < 8 else (low + high) // 2
        tries += 1
        number = which[place]
        start = starts[number]
        at_ns = begins[number] + sum(steps[start + 1 : start + 1 + which.count(number, 0, place)]) * unit
        if at_ns <= until:
            low, low_ns = place + 1, at_ns
        else:
            high, high_ns = place, at_ns
    return low


def _opened(stored: Sequence[Plane], count: int, inflate: Inflate) -> Sequence[int]:
    """The numbers of planes as they were stored."""
    return planes.decode([inflate(plane, count) for plane in stored], count)
