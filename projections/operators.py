"""What invariants are written with: one monitor for each way of saying that something must be so.

`Always` puts a question to each entry that it concerns and gives it what its conditions on the past (`past`) rest on; `Never` is
its negation; `Monotone`, `Alternates`, `AtMost` and `Sometimes` say what their names say, each sliced by a key. An answer by
a deadline is awaited in `deadlines`. What a monitor keeps of a slice is a place or two. No effects.
"""

# ruff: noqa: ARG002  monitors are told more than each needs
from __future__ import annotations

from collections.abc import Callable, Collection
from types import EllipsisType
from typing import ClassVar, Final

import msgspec

from ledger.entry import Entry
from ledger.identity import Feed
from projections.monitor import PINGS, Monitor, Rule, Run, Seen, State
from projections.pace import Pace
from projections.past import Condition, Key, Mark, Marks, mark


class Asking(State):
    """The marks of the conditions of an `Always`, one after the other; the feeds of which all is known since a `node.started`."""

    past: list[Marks] = msgspec.field(default_factory=list)
    grounded: list[str] = msgspec.field(default_factory=list)


class Always(Monitor):
    """Whenever `when` is seen, `ok` holds, given what was seen before: `ok(seen, key, found)` says what is wrong, None if
    nothing is, or `...` if the log cannot tell. `found` gives what each condition of `past` rests on. With `grounded` nothing is
    wrong for want of a condition where the feed is not known since its node began: then the log cannot tell.
    """

    state_type: ClassVar[type[State]] = Asking

    def __init__(
        self,
        rule: Rule,
        when: Key,
        ok: Callable[[Seen, str, list[Mark | None]], str | EllipsisType | None],
        past: Collection[Condition] = (),
        *,
        kinds: Collection[str],
        forgets: bool = True,
        grounded: bool = False,
    ) -> None:
        """`forgets`: what was seen before a node began anew does not count."""
        super().__init__(rule)
        self.when, self.ok, self.past, self.forgets, self.grounded = when, ok, list(past), forgets, grounded
        self.kinds = frozenset(kinds) - PINGS
        self.pings = PINGS & frozenset(kinds)
        self._share()

    def _share(self) -> None:
        """The marks live in the state, so that they are saved with it."""
        self.state.past = self.state.past or [{} for _condition in self.past]
        for condition, marks in zip(self.past, self.state.past, strict=True):
            condition.marks = marks

    def resume(self, saved: bytes) -> None:
        """Go on from what `save` gave."""
        super().resume(saved)
        self._share()

    def step(self, entry: Entry, now_ns: int) -> None:
        """Judge, then remember."""
        self._judge(entry, now_ns)

    def ping(self, run: Run) -> bool:
        """Judge where the run begins, then remember where it ends; a run that is wrong is asked for one by one."""
        return self._judge(run, run.begun_ns)

    def _judge(self, seen: Seen, now_ns: int) -> bool:
        key = self.when(seen)
        if key is not None:
            count = seen.count if isinstance(seen, Run) else 1
            found = [condition.found(seen, now_ns, key) for condition in self.past]
            wrong = self.ok(seen, key, found)
            if wrong is not None and self.grounded and None in found and seen.feed.id not in self.state.grounded:
                wrong = ...
            if wrong is None:
                self.tally.judged += count
            elif isinstance(wrong, EllipsisType):
                self.tally.uncovered += count
            elif count > 1:
                return False
            else:
                self.violate(seen, wrong, tuple(seen.feed.at(each.index) for each in found if each is not None and each.index))
        for condition in self.past:
            condition.take(seen, seen.now_ns if isinstance(seen, Run) else now_ns)
        return True

    def reset(self, feed: Feed, now_ns: int) -> None:
        """What held of the run of a node before does not hold of the next."""
        if self.forgets:
            for condition in self.past:
                condition.forget(feed)
        if self.grounded and feed.id not in self.state.grounded:
            self.state.grounded.append(feed.id)

    def blind(self, feed: Feed, now_ns: int) -> None:
        """What the unknown entry changed is not known."""
        for condition in self.past:
            condition.forget(feed)
        if feed.id in self.state.grounded:
            self.state.grounded.remove(feed.id)


class Never(Always):
    """What `what` says is wrong is never seen."""

    def __init__(self, rule: Rule, what: Callable[[Seen], str | None], *, kinds: Collection[str]) -> None:
        super().__init__(rule, lambda _seen: "", lambda seen, _key, _found: what(seen), kinds=kinds)


class Slices(State):
    """One mark a slice."""

    marks: Marks = msgspec.field(default_factory=dict)


class Monotone(Monitor):
    """The `value` of what is seen in a slice only grows: by `step` each time, or by any amount if None. What is seen as a
    run counts up by one a ping.
    """

    state_type: ClassVar[type[State]] = Slices

    def __init__(
        self, rule: Rule, key: Key, value: Callable[[Seen], int], *, kinds: Collection[str], step: int | None = None
    ) -> None:
        super().__init__(rule)
        self.key, self.value, self.stride = key, value, step
        self.kinds = frozenset(kinds) - PINGS
        self.pings = PINGS & frozenset(kinds)

    def step(self, entry: Entry, now_ns: int) -> None:
        """Compare with the one before."""
        self._judge(entry, now_ns, 1)

    def ping(self, run: Run) -> bool:
        """Compare the first with the one before; within a run they count up."""
        self._judge(run, run.now_ns, run.count)
        return True

    def _judge(self, seen: Seen, now_ns: int, count: int) -> None:
        key = self.key(seen)
        if key is None:
            return
        value, marks = self.value(seen), self.state.marks.setdefault(seen.feed.id, {})
        held = marks.get(key)
        marks[key] = mark(seen, now_ns, value + count - 1)
        self.tally.judged += count - 1
        if held is None or not isinstance(held.value, int):
            return
        if value <= held.value:
            self.violate(seen, f"{value} comes after {held.value}", (seen.feed.at(held.index),))
        elif self.stride is not None and value != held.value + self.stride:
            self.violate(seen, f"{value} comes right after {held.value}", (seen.feed.at(held.index),))
        else:
            self.tally.judged += 1

    def reset(self, feed: Feed, now_ns: int) -> None:
        """A node that begins anew counts anew."""
        self.state.marks.pop(feed.id, None)

    def blind(self, feed: Feed, now_ns: int) -> None:
        """What the unknown entry counted is not known."""
        self.state.marks.pop(feed.id, None)


class Alternates(Monitor):
    """In each slice `begin` and `end` take turns, and what ends is what stands. `name` tells one from another: a second `begin`
    puts another in the place of the first. Where a feed begins amid things, one `end` of what was before it is allowed.
    """

    state_type: ClassVar[type[State]] = Slices

    def __init__(
        self, rule: Rule, begin: Key, end: Key, name: Callable[[Seen], str | int | None], *, kinds: Collection[str], empty: str
    ) -> None:
        """`empty`: the kind of the entry after which nothing stands in any slice of its feed."""
        super().__init__(rule)
        self.begin, self.over, self.name, self.empty = begin, end, name, empty
        self.kinds = frozenset({*kinds, empty})

    def step(self, entry: Entry, now_ns: int) -> None:
        """Whoever ends must stand; whoever begins anew must be another."""
        marks = self.state.marks.setdefault(entry.feed.id, {})
        if entry.kind == self.empty:
            marks.clear()
            marks[""] = mark(entry, now_ns)
            return
        key, name = self.over(entry), self.name(entry)
        if key is not None:
            held = marks.get(key)
            marks[key] = Mark(now_ns, entry.effective_ns, -entry.index)
            if held is None:
                if "" in marks:
                    self.violate(entry, f"{key}: nothing stood that could end", (entry.feed.at(marks[""].index),))
            elif held.index < 0:
                self.violate(entry, f"{key}: it had ended already", (entry.feed.at(-held.index),))
            elif name is not None and held.value is not None and name != held.value:
                self.violate(entry, f"{key}: {name} ends, but {held.value} stood", (entry.feed.at(held.index),))
            else:
                self.tally.judged += 1
        key = self.begin(entry)
        if key is not None:
            held = marks.get(key)
            marks[key] = mark(entry, now_ns, name)
            if held is not None and held.index > 0 and name is not None and name == held.value:
                self.violate(entry, f"{key}: {name} begins, but stood already", (entry.feed.at(held.index),))
            else:
                self.tally.judged += 1

    def blind(self, feed: Feed, now_ns: int) -> None:
        """What the unknown entry began or ended is not known."""
        self.state.marks.pop(feed.id, None)


KEPT_MAX: Final = 255
"""So many places are kept in case the settings allow more later."""


class Recent(State):
    """By feed id and key the last places, and whether too many were told of already."""

    recent: dict[str, dict[str, list[Mark]]] = msgspec.field(default_factory=dict)
    told: dict[str, list[str]] = msgspec.field(default_factory=dict)


class AtMost(Monitor):
    """`what` is seen at most so often in a slice within any stretch of so long: `limit(pace, since, until)` gives both. Too many
    are told of once, until there are fewer again.
    """

    state_type: ClassVar[type[State]] = Recent

    def __init__(self, rule: Rule, what: Key, limit: Callable[[Pace, int], tuple[int, int]], *, kinds: Collection[str]) -> None:
        """`limit`: how many within how many ns, in force at an instant; 0 ns: no limit."""
        super().__init__(rule)
        self.seen, self.limit = what, limit
        self.kinds = frozenset(kinds)

    def step(self, entry: Entry, now_ns: int) -> None:
        """Count those of the last stretch."""
        key = self.seen(entry)
        if key is None:
            return
        feed, (count, per_ns) = entry.feed.id, self.limit(self.pace, entry.effective_ns)
        held = self.state.recent.setdefault(feed, {}).setdefault(key, [])
        told = self.state.told.setdefault(feed, [])
        held.append(mark(entry, now_ns))
        if per_ns:
            held[:] = [each for each in held if now_ns - each.now_ns < per_ns]
        del held[: -max(count, KEPT_MAX) - 1]
        if not per_ns or len(held) <= count:
            self.tally.judged += 1
            if key in told:
                told.remove(key)
        elif key not in told:
            told.append(key)
            before = tuple(entry.feed.at(each.index) for each in held[-count - 1 : -1])
            self.violate(entry, f"{key}: more than {count} times", before)

    def blind(self, feed: Feed, now_ns: int) -> None:
        """Counting begins anew."""
        self.state.recent.pop(feed.id, None)


class Sometimes(Monitor):
    """`what` is seen at least once: *holds*, else *vacuous*. So a run proves that a fault which it played did occur."""

    def __init__(self, rule: Rule, what: Callable[[Seen], object], *, kinds: Collection[str]) -> None:
        super().__init__(rule)
        self.what = what
        self.kinds = frozenset(kinds) - PINGS
        self.pings = PINGS & frozenset(kinds)

    def step(self, entry: Entry, now_ns: int) -> None:
        """Count it."""
        self.tally.judged += bool(self.what(entry))

    def ping(self, run: Run) -> bool:
        """Count each ping."""
        self.tally.judged += run.count if self.what(run) else 0
        return True
