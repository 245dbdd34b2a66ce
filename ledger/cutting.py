"""A block cut at an instant: what its pings amount to up to a moment that falls into their record.

That is what most questions about the past come to: nearly everything before the moment is known from directories and saved
states, and one record a feed is cut. So the cut decodes no more than it must: the wall clock, which says how many pings of
each context lie before; of the others what the last of those bears. Precondition: instants never decrease in the order of
the feed. `Pings.groups` with `until` is the definition; both agree but for gaps, which are those of the whole group here.
Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from ledger import planes
from ledger.blocks import AT, GIVEN, HELD, RTT, Block, Group
from ledger.planes import Plane
from ledger.rows import Directory
from ledger.unpacking import Pings, may_wrap

Inflate = Callable[[Plane, int], Plane]


def groups_until(
    block: Block, told: Directory, low_ns: int, first: int, controls: Sequence[int], *, until: int, inflate: Inflate
) -> list[Group]:
    """The groups of the pings whose instant is at most `until` ns. `told`: the block's directory, whose instants count from
    `low_ns`; `first`: the index of the record's first entry; `controls`: those of its control entries up to the cut, ascending;
    `inflate` opens the planes of the columns, where they are still as they were stored.
    """
    at = block.columns[AT]
    which = block.which[0] if len(block.which) == 1 else b"" if block.which else bytes(block.count)
    if may_wrap(at) or not isinstance(which, bytes) or not which or len(block.contexts) > 128:
        return Pings(block, first, controls, inflate=inflate).groups(until)
    count, contexts, counts = block.count, block.contexts, told.counts
    kept = len(contexts)
    starts = list(accumulate(counts, initial=0))
    sums = list(accumulate(_opened(at.planes, count, inflate)))
    target = (until - at.base) // at.scale
    shifts = [step - sums[start] for step, start in zip(accumulate(_opened(at.firsts, kept, inflate)), starts, strict=False)]
    ends = [bisect_right(sums, target - shift, start, end) for shift, start, end in zip(shifts, starts, starts[1:], strict=False)]
    total = sum(ends) - sum(starts[:-1])
    if not total:
        return []
    answered = sum([context.answered for context in contexts])
    rtt, held = block.columns[RTT], block.columns[HELD]
    rtts, leasts = _opened(rtt.planes, starts[answered], inflate), list(accumulate(_opened(rtt.firsts, answered, inflate)))
    steps, begun = _opened(held.planes, count, inflate), list(accumulate(_opened(held.firsts, kept, inflate)))
    ahead = [control - first - place for place, control in enumerate(controls)]
    scale, coarse, rfind, given = told.scale, told.coarse, which.rfind, GIVEN["held"]
    result = []
    for number, (context, start, end, whole, place, first_step, gap) in enumerate(
        zip(contexts, starts, ends, counts, accumulate(told.firsts), told.first_steps, told.gaps, strict=False)
    ):
        if start == end:
            continue
        here = rfind(number, 0, total)
        result.append(
            Group(
                context.peer,
                context.link,
                context.reason,
                end - start,
                first + place,
                low_ns + first_step * scale,
                first + here + (bisect_right(ahead, here) if ahead else 0),
                at.base + (shifts[number] + sums[end - 1]) * at.scale
                if end - start < whole
                else low_ns + told.last_steps[number] * scale,
                rtt.base + (leasts[number] + rtts[end - 1]) * rtt.scale if context.answered else 0,
                gap * coarse,
                context.feed,
                held.base + begun[number] + sum(steps[start + 1 : end]) if context.given & given else None,
            )
        )
    return result


def _opened(stored: Sequence[Plane], count: int, inflate: Inflate) -> Sequence[int]:
    """The numbers of planes as they were stored."""
    return planes.decode([inflate(plane, count) for plane in stored], count)
