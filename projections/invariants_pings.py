"""Invariants of one feed about its pings and its clocks (A1, A3, A4, A9, A10, A12, A21, B17).

Pings come as runs; whoever needs them one by one says so. Clocks come as columns, entry by entry. What the settings allow
is in the `Pace`: cadence and silence are measured by the interval that was in force.
"""

# ruff: noqa: ARG002  monitors are told more than each needs
from __future__ import annotations

from operator import sub
from typing import ClassVar, Final

import msgspec

from ledger import events as ev
from ledger.entry import Entry
from ledger.identity import Feed
from projections.deadlines import Responds
from projections.invariants_links import ANSWERED, ESTABLISHED, FAILED, LOST, UNANSWERED, about, parted
from projections.monitor import Monitor, Rule, Run, Seen, State, Witness
from projections.operators import Always, Monotone

STEP_NS: Final = 1_000_000_000
"""Wall and monotonic clock may part by this much from entry to entry, and a thousandth of the time between, unsaid."""
JITTER_NS: Final = 1_000_000_000
"""A ping may be so much late for want of a processor, however short the interval."""
HELD_MAX: Final = 1000
"""Bad news of a feed that are kept until it is known whether its node had stalled."""


class Numbered(State):
    """By feed id the index of the last entry."""

    last: dict[str, int] = msgspec.field(default_factory=dict)


class Gapless(Monitor):
    """A1: the indexes of a feed."""

    clocks = True
    state_type: ClassVar[type[State]] = Numbered

    def __init__(self) -> None:
        says = "The positions of a feed are 1, 2, 3 … with no gap, none twice."
        super().__init__(Rule("A1", "positions without gaps", "log", says))

    def clock(self, feed: Feed, first: int, walls: list[int], monos: list[int | None], boots: list[int | None]) -> None:
        """These follow those before."""
        last = self.state.last.get(feed.id, 0)
        self.state.last[feed.id] = first + len(walls) - 1
        if first == last + 1:
            self.tally.judged += len(walls)
        else:
            self.tally.judged += len(walls) - 1
            self.tally.violate(Witness(walls[0], feed.at(first), f"#{first} comes after #{last}"))


class Timed(msgspec.Struct, array_like=True):
    """A feed's clocks at its last entry. `running`: its node began and has not stopped; `begun`: the last entry said that it
    begins; `by_ns`: the last entry says that the wall clock was set by so much.
    """

    wall: int = 0
    mono: int | None = None
    boot: int | None = None
    running: bool = False
    begun: bool = False
    by_ns: int | None = None
    known: bool = False


class Clocks(State):
    """By feed id how its clocks stood."""

    feeds: dict[str, Timed] = msgspec.field(default_factory=dict)


class _Clocked(Monitor):
    """What A3 and A4 share: each entry's clocks against those before."""

    clocks = True
    kinds = frozenset({"node.started", "node.stopped", "clock.stepped"})
    state_type: ClassVar[type[State]] = Clocks

    def step(self, entry: Entry, now_ns: int) -> None:
        """What this entry allows its clocks."""
        held = self.state.feeds.setdefault(entry.feed.id, Timed())
        if isinstance(entry.event, ev.NodeStarted):
            held.begun = True
        elif isinstance(entry.event, ev.ClockStepped):
            held.by_ns = entry.event.by_ns
        else:
            held.running = False

    def clock(self, feed: Feed, first: int, walls: list[int], monos: list[int | None], boots: list[int | None]) -> None:
        """Entry by entry, unless all of them are as they should be."""
        held = self.state.feeds.get(feed.id)
        if held is None:
            held = self.state.feeds[feed.id] = Timed()
        if held.boot is None and boots.count(None) == len(boots):
            held.running = held.running or held.begun
            held.wall, held.mono, held.begun, held.by_ns, held.known = walls[-1], monos[-1], False, None, True
            return
        if len(walls) > 1 and held.known and not held.begun and held.by_ns is None:
            whole = self.whole(held, walls, monos, boots)
            if whole is not None:
                self.tally.judged += whole
                held.wall, held.mono, held.boot = walls[-1], monos[-1], boots[-1]
                return
        for index, (wall, mono, boot) in enumerate(zip(walls, monos, boots, strict=True), first):
            if held.known:
                wrong = self.one(held, wall, mono, boot)
                if wrong is not None:
                    self.tally.violate(Witness(wall, feed.at(index), wrong, (feed.at(index - 1),)))
            held.running = held.running or held.begun
            held.wall, held.mono, held.boot, held.begun, held.by_ns, held.known = wall, mono, boot, False, None, True

    def whole(self, held: Timed, walls: list[int], monos: list[int | None], boots: list[int | None]) -> int | None:
        """How many comparisons a column stands, None if it must be looked at entry by entry."""
        raise NotImplementedError

    def one(self, held: Timed, wall: int, mono: int | None, boot: int | None) -> str | None:
        """What is wrong with one entry's clocks; counts what is not."""
        raise NotImplementedError


class MonotonicClock(_Clocked):
    """A3."""

    def __init__(self) -> None:
        says = "Within one boot the monotonic clock never goes back, and while a node runs another boot begins with node.started."
        super().__init__(Rule("A3", "the monotonic clock is one", "log", says))

    def whole(self, held: Timed, walls: list[int], monos: list[int | None], boots: list[int | None]) -> int | None:
        """All of the boot before and never back."""
        given = [mono for mono in (held.mono, *monos) if mono is not None]
        if held.boot is None or boots.count(held.boot) != len(boots) or len(given) != len(monos) + 1:
            return None
        return len(walls) if min(map(sub, given[1:], given)) >= 0 else None

    def one(self, held: Timed, wall: int, mono: int | None, boot: int | None) -> str | None:
        """Against the entry before."""
        if boot is None or held.boot is None:
            return None
        if boot != held.boot:
            if held.running and not held.begun:
                return f"boot {boot} follows boot {held.boot}, and no node began"
        elif mono is not None and held.mono is not None and mono < held.mono:
            return f"the monotonic clock goes back by {held.mono - mono} ns"
        self.tally.judged += 1
        return None


class StepsAreTold(_Clocked):
    """A4."""

    def __init__(self) -> None:
        says = "Where the wall clock jumps against the monotonic one, a clock.stepped says so, and by how much."
        super().__init__(Rule("A4", "clock steps are told", "log", says))

    def whole(self, held: Timed, walls: list[int], monos: list[int | None], boots: list[int | None]) -> int | None:
        """Both clocks stay together within less than what counts as a step."""
        given = [mono for mono in (held.mono, *monos) if mono is not None]
        if held.boot is None or boots.count(held.boot) != len(boots) or len(given) != len(monos) + 1:
            return None
        apart = list(map(sub, [held.wall, *walls], given))
        return len(walls) if max(apart) - min(apart) <= STEP_NS else None

    def one(self, held: Timed, wall: int, mono: int | None, boot: int | None) -> str | None:
        """Against the entry before."""
        if boot is None or boot != held.boot or mono is None or held.mono is None or held.begun:
            return None
        passed_ns = mono - held.mono
        jump_ns = wall - held.wall - passed_ns
        if abs(jump_ns - (held.by_ns or 0)) > STEP_NS + abs(passed_ns) // 1000:
            said = "nothing says so" if held.by_ns is None else f"{held.by_ns} ns are told"
            return f"the wall clock jumps by {jump_ns} ns, {said}"
        self.tally.judged += 1
        return None


def cadence() -> Monitor:
    """A9."""
    says = (
        "While a node runs, every peer that it pings is pinged again within one and a half intervals (or a second more than one)."
    )
    pings = about(ANSWERED, UNANSWERED)
    return Responds(
        Rule("A9", "pings keep their pace", "coverage", says), _peer_of_ping, pings,
        lambda pace, since, until: max(pace.interval_ns(since, until) * 3 // 2, pace.interval_ns(since, until) + JITTER_NS),
        kinds=(ANSWERED, UNANSWERED, LOST, FAILED, "machine.left", "machine.disconnected"),
        unless=parted, peers=True,
        what="no ping followed this one in time",
    )  # fmt: skip


def _peer_of_ping(seen: Seen) -> str | None:
    return seen.peer if isinstance(seen, Run) and parted(seen) is None else None


def closure() -> Monitor:
    """A10."""
    says = "Every ping has one result: from a node's start on the numbers of the pings to a peer are consecutive."
    return Monotone(
        Rule("A10", "one result a ping", "software", says),
        about(ANSWERED, UNANSWERED), lambda seen: seen.number if isinstance(seen, Run) else 0,
        kinds=(ANSWERED, UNANSWERED), step=1,
    )  # fmt: skip


def silence() -> Monitor:
    """A12."""
    says = (
        "While a link stands, two intervals and a timeout never pass without an answer, a failure that is recorded, or its loss."
    )
    return Responds(
        Rule("A12", "silence is noticed", "mesh", says), about(ESTABLISHED, ANSWERED),
        about(ESTABLISHED, ANSWERED, UNANSWERED, LOST, FAILED),
        lambda pace, since, until: 2 * pace.interval_ns(since, until) + pace.timeout_ns(since, until),
        kinds=(ESTABLISHED, ANSWERED, UNANSWERED, LOST, FAILED, "machine.left", "machine.disconnected"),
        unless=parted, peers=True,
        what="nothing was heard of it any more, and nothing says so",
    )  # fmt: skip


class Suspect(State):
    """By feed id bad news not long ago, (feed time, instant, index), and until when those that come are suspect."""

    recent: dict[str, list[tuple[int, int, int]]] = msgspec.field(default_factory=dict)
    until: dict[str, int] = msgspec.field(default_factory=dict)
    stalled: dict[str, int] = msgspec.field(default_factory=dict)


class OwnHealth(Monitor):
    """A21: who stood still must not blame others for it."""

    kinds = frozenset({"node.stalled", LOST})
    pings = frozenset({UNANSWERED})
    state_type: ClassVar[type[State]] = Suspect

    def __init__(self) -> None:
        says = (
            "No link was found silent while the finder itself stood still (node.stalled): such losses and time-outs are suspect."
        )
        super().__init__(Rule("A21", "one's own health first", "coverage", says))

    def step(self, entry: Entry, now_ns: int) -> None:
        """A stall casts doubt on the bad news in it, and on those of the next moments."""
        feed = entry.feed
        if isinstance(entry.event, ev.NodeStalled):
            self.tally.judged += 1
            begun_ns = now_ns - entry.event.stalled_ms * 1_000_000
            for then_ns, at_ns, index in self.state.recent.pop(feed.id, ()):
                if then_ns >= begun_ns:
                    self._doubt(feed, at_ns, index, entry.index)
            timeout_ns = self.pace.timeout_ns(entry.effective_ns, entry.effective_ns)
            self.state.until[feed.id], self.state.stalled[feed.id] = now_ns + timeout_ns, entry.index
        elif getattr(entry.event, "reason", "") in {"timeout", "idle-timeout"}:
            self._bad(feed, now_ns, entry.effective_ns, entry.index)

    def ping(self, run: Run) -> bool:
        """Time-outs over a link, one by one."""
        if run.reason != "timeout" or run.link is None:
            return True
        if run.count > 1:
            return False
        self._bad(run.feed, run.now_ns, run.first_ns, run.first)
        return True

    def _bad(self, feed: Feed, now_ns: int, at_ns: int, index: int) -> None:
        until_ns = self.state.until.get(feed.id)
        if until_ns is not None and now_ns <= until_ns:
            self._doubt(feed, at_ns, index, self.state.stalled[feed.id])
            return
        recent = self.state.recent.setdefault(feed.id, [])
        recent.append((now_ns, at_ns, index))
        if len(recent) > HELD_MAX:
            recent.sort()
            del recent[: HELD_MAX // 2]

    def _doubt(self, feed: Feed, at_ns: int, index: int, stalled: int) -> None:
        self.tally.violate(Witness(at_ns, feed.at(index), "its observer stood still: this is suspect", (feed.at(stalled),)))

    def reset(self, feed: Feed, now_ns: int) -> None:
        """Another run of the node is another's health."""
        for each in (self.state.recent, self.state.until, self.state.stalled):
            each.pop(feed.id, None)


def halves() -> Monitor:
    """B17."""

    def when(seen: Seen) -> str | None:
        return seen.peer if isinstance(seen, Run) and seen.reason is None and seen.stamped else None

    def ok(seen: Seen, _key: str, _found: object) -> str | None:
        event = seen.event
        return out_of_order(event) if isinstance(event, ev.PingAnswered) else None

    says = "The four stamps of an exchange are in order, and the peer held it no longer than it took."
    return Always(Rule("B17", "both halves of a ping agree", "log", says), when, ok, kinds=(ANSWERED,), forgets=False)


def out_of_order(event: ev.PingAnswered) -> str | None:
    """What is wrong with the stamps of an exchange, as far as they are given. Two clocks part by a thousandth at most."""
    sent, received, replied, returned = event.sent_us, event.received_us, event.replied_us, event.returned_us
    if sent is not None and returned is not None and returned < sent:
        return f"the answer came back {sent - returned} µs before it was sent"
    if received is not None and replied is not None:
        held_us = replied - received
        if held_us < 0:
            return f"the peer answered {-held_us} µs before it received"
        if sent is not None and returned is not None:
            took_us = returned - sent
            if held_us > took_us + took_us // 1000 + 1000:
                return f"the peer held it {held_us} µs of {took_us} µs"
    return None
