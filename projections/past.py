"""The past of a slice: conditions that say what was, as it stood before what is seen now.

`Since(begin, end)` (begun, and not ended since), `Once(what, within)` (it happened, at most so long ago), `Historically`
(nothing of the kind happened so long). Each gives the place that it rests on, so that a violation can name it. All take plain
functions of what is seen (an entry, or a run of pings) that give the key of its slice, None if it is none of theirs. Slices
belong to a feed, and of each one place is kept (slicing as in MonPoly: Basin and others, "Monitoring Metric First-order
Temporal Properties", JACM 2015). Lengths are in feed time. No effects.
"""

# ruff: noqa: ARG002  monitors are told more than each needs
from __future__ import annotations

from collections.abc import Callable

import msgspec

from ledger.identity import Feed
from projections.monitor import Run, Seen

Key = Callable[[Seen], str | None]
"""The slice that what is seen belongs to; None: it does not concern this."""


class Mark(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A place in a feed: feed time, effective instant, index; and a value of what was there (a link's id, a number)."""

    now_ns: int
    at_ns: int
    index: int
    value: str | int | None = None


Marks = dict[str, dict[str, Mark]]
"""By feed id and key."""


def mark(seen: Seen, now_ns: int, value: str | int | None = None, *, last: bool = True) -> Mark:
    """Where something was seen: the end of a run, or its beginning."""
    if isinstance(seen, Run):
        return (
            Mark(seen.now_ns, seen.last_ns, seen.last, value) if last else Mark(seen.begun_ns, seen.first_ns, seen.first, value)
        )
    return Mark(now_ns, seen.effective_ns, seen.index, value)


class Condition:
    """Something about the past of a slice, as it stood before what is seen now."""

    def __init__(self) -> None:
        self.marks: Marks = {}

    def take(self, seen: Seen, now_ns: int) -> None:
        """Look at what is seen."""
        raise NotImplementedError

    def found(self, seen: Seen, now_ns: int, key: str) -> Mark | None:
        """What the condition rests on, None if it does not hold."""
        raise NotImplementedError

    def forget(self, feed: Feed) -> None:
        """The node began anew."""
        self.marks.pop(feed.id, None)


class Once(Condition):
    """`what` happened, at most `within` ago (ever, if None). Its `value` is kept with it."""

    def __init__(self, what: Key, within: int | None = None, value: Callable[[Seen], str | int | None] | None = None) -> None:
        super().__init__()
        self.what, self.within, self.value = what, within, value

    def take(self, seen: Seen, now_ns: int) -> None:
        """Look at what is seen."""
        key = self.what(seen)
        if key is not None:
            self.marks.setdefault(seen.feed.id, {})[key] = mark(seen, now_ns, self.value(seen) if self.value else None)

    def found(self, seen: Seen, now_ns: int, key: str) -> Mark | None:
        """The last time that it happened."""
        held = self.marks.get(seen.feed.id, {}).get(key)
        return None if held is None or (self.within is not None and now_ns - held.now_ns > self.within) else held


class Historically(Once):
    """Nothing of the kind happened for `within` (ever, if None): `found` is the moment itself, None if it did."""

    def found(self, seen: Seen, now_ns: int, key: str) -> Mark | None:
        """Here and now, if nothing happened."""
        return mark(seen, now_ns, last=False) if super().found(seen, now_ns, key) is None else None


class Since(Condition):
    """`begin` happened, and `end` has not since. Of a run, its last ping counts for `begin`."""

    def __init__(self, begin: Key, end: Key, value: Callable[[Seen], str | int | None] | None = None) -> None:
        super().__init__()
        self.begin, self.over, self.value = begin, end, value

    def take(self, seen: Seen, now_ns: int) -> None:
        """Look at what is seen; what ends it and begins it at once begins it."""
        key = self.over(seen)
        if key is not None:
            self.marks.get(seen.feed.id, {}).pop(key, None)
        key = self.begin(seen)
        if key is not None:
            self.marks.setdefault(seen.feed.id, {})[key] = mark(seen, now_ns, self.value(seen) if self.value else None)

    def found(self, seen: Seen, now_ns: int, key: str) -> Mark | None:
        """Since when."""
        return self.marks.get(seen.feed.id, {}).get(key)
