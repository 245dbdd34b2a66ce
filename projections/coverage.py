"""What a feed can answer for, and when.

A feed covers from its first entry until 4 intervals after its last: so long the last state holds. Not covered are the
time from `node.stopped` to the next `node.started`; after a crash (a `node.started` that no `node.stopped` stands before)
the time from 2.5 intervals after the last entry before it; and the time from an entry of an unknown kind to the
next one that is known. What is not covered is neither yes nor no.

`covered_at` answers for one moment, from the fold of the feed up to it; `covered_spans` for a window, from the pauses a
reader met in it. Instants are effective ones; spans are half-open. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from projections.feed_state import FeedState


class Pause(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a feed in which its word may not hold. `stopped`: from `node.stopped` to `node.started`. `crashed`:
    from the last entry before a `node.started` without a stop, to it. `opaque`: from an unknown entry to the next
    known one. `until_ns` None: it has not ended.
    """

    kind: Literal["stopped", "crashed", "opaque"]
    from_ns: int
    until_ns: int | None = None


def covered_until(end_ns: int, interval_ns: int) -> int:
    """The last instant that a feed covers which ends at `end_ns`."""
    return end_ns + 4 * interval_ns


def covered_at(state: FeedState, now_ns: int, end_ns: int, interval_ns: int, *, resumed: bool = False) -> bool:
    """Whether a feed covers `now_ns`. `state`: the feed cut there; `end_ns`: the instant of its last entry as known;
    `resumed`: the entry right after the cut is a `node.started`.
    """
    if not state.entries or now_ns < state.first_ns or now_ns > end_ns + 4 * interval_ns:
        return False
    if state.lifecycle == "stopped" or state.opaque:
        return False
    return not (resumed and now_ns >= state.last_ns + interval_ns * 5 // 2)


def covered_spans(
    first_ns: int, end_ns: int, interval_ns: int, pauses: Iterable[Pause], *, since_ns: int, until_ns: int
) -> list[tuple[int, int]]:
    """The covered spans [from, until) of a feed within [since_ns, until_ns), ascending and apart.

    `first_ns`, `end_ns`: the instants of the feed's first and last entry as known. `pauses` in any order.
    """
    low, high = max(first_ns, since_ns), min(covered_until(end_ns, interval_ns) + 1, until_ns)
    holes = sorted(
        (
            pause.from_ns + (interval_ns * 5 // 2 if pause.kind == "crashed" else 0),
            high if pause.until_ns is None else pause.until_ns,
        )
        for pause in pauses
    )
    spans: list[tuple[int, int]] = []
    for start, stop in holes:
        if start >= stop:
            continue
        if low < min(start, high):
            spans.append((low, min(start, high)))
        low = max(low, stop)
    if low < high:
        spans.append((low, high))
    return spans
