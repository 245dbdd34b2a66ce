"""When an entry counts: effective instants (DESIGN section 6).

An entry's effective instant is the running maximum of its feed's wall clock. Where the clock was set back (a backward
`clock.stepped`, or a `node.started` earlier than the feed), the stretch just before that was later than the clock
after the step is *disowned*: it counts as the clock after the step. So effective instants never decrease with the
index, and the *cut* of a feed at T, the number of entries whose effective instant is at most T, grows with T.

`effective_instants` is the definition, over a whole feed. `disowned` gives the same knowledge in brief, so that a reader
of one stretch need not read the rest. Also here: what a guest may give for an instant. Pure: lists in, lists out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final

import msgspec

from ledger.entry import Opaque
from ledger.errors import Refused
from ledger.events import ClockStepped, Event, NodeStarted

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Disowned(msgspec.Struct, frozen=True, gc=False):
    """Entries `first` … `last` (indexes from 1) count as `at_ns`, the wall clock after the step at `last + 1`."""

    first: int
    last: int
    at_ns: int


def may_disown(event: Event | Opaque) -> bool:
    """Whether an entry with this event can disown what stands before it."""
    return isinstance(event, NodeStarted) or (isinstance(event, ClockStepped) and event.by_ns < 0)


def disowned(steps: Iterable[tuple[int, int]], wall: Callable[[int], int]) -> list[Disowned]:
    """The disowned stretches, ascending. `steps`: (index, instant) of each entry that may disown, ascending;
    `wall(i)`: the wall clock of entry i. A later stretch that reaches over an earlier one takes its place.
    """
    found: list[Disowned] = []
    for index, at_ns in steps:
        first = index
        while first > 1 and wall(first - 1) > at_ns:
            first -= 1
        if first < index:
            while found and found[-1].first >= first:
                found.pop()
            found.append(Disowned(first, index - 1, at_ns))
    return found


def adjusted(walls: Sequence[int], first: int, stretches: Iterable[Disowned]) -> list[int]:
    """`walls` of the entries from index `first` on, with what is disowned replaced."""
    result = list(walls)
    for stretch in stretches:
        low, high = max(stretch.first - first, 0), min(stretch.last - first + 1, len(result))
        for offset in range(low, high):
            result[offset] = stretch.at_ns
    return result


def effective_instants(walls: Sequence[int], steps: Iterable[int]) -> list[int]:
    """The effective instant of each entry of a feed. `steps`: the indexes (from 1) of entries that may disown."""
    stretches = disowned([(index, walls[index - 1]) for index in steps], lambda index: walls[index - 1])
    return list(accumulate(adjusted(walls, 1, stretches), max))


def instant_ns(at: int | datetime) -> int:
    """An instant as nanoseconds UTC. Raises Refused for a datetime without a zone."""
    if isinstance(at, int):
        return at
    if not isinstance(at, datetime):
        raise Refused(f"an instant is {type(at).__name__}", hint="give an aware datetime, or whole nanoseconds UTC")
    if at.tzinfo is None:
        raise Refused(f"{at} has no zone", hint="give an aware datetime, or nanoseconds UTC")
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
