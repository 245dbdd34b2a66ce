"""Invariants across feeds about detection and recovery (B9, B10): whoever falls silent is missed, and nobody gives up.

A crash is known afterwards, by a start that no stop announced or by a feed that ends amid things; then whoever had a link
is asked what became of it. A log that is missing is no crash: whose pings were answered after its last entry was alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from ledger import events as ev
from ledger.entry import Entry
from projections.halves import AcrossFeeds, Halves, ends_by_machine
from projections.monitor import PARTED, Horizon, Rule, State, Witness


class Doubts(Halves):
    """By observer the crashes that it seems to have missed, unless it had crashed too: (due, since, position, what, where)."""

    doubts: dict[str, list[tuple[int, int, str, str, str]]] = msgspec.field(default_factory=dict)


class CrashIsSeen(AcrossFeeds):
    """B9: strong completeness, with a bound (SWIM: Das, Gupta, Motivala, DSN 2002)."""

    state_type: ClassVar[type[State]] = Doubts

    def __init__(self) -> None:
        says = (
            "Who falls silent without a word is lost by all who had a link to it and go on, in the time that the settings give."
        )
        super().__init__(Rule("B9", "a crash is seen by all", "mesh", says))

    def _bound(self, at_ns: int) -> int:
        return self.pace.detection_ns(at_ns, at_ns) + self.pace.interval_ns(at_ns, at_ns)

    def ended(self, observer: str, ended_ns: int, entry: Entry, *, crashed: bool) -> None:
        """At a start that no stop announced: who noticed the silence from `ended_ns` to here?"""
        self._settle(observer, ended_ns)
        if not crashed:
            return
        for other in list(self.state.running):
            if other != observer:
                self._judge(other, observer, ended_ns, entry.effective_ns, entry.position, pending=False)

    def _judge(self, other: str, silent: str, since_ns: int, until_ns: int, pos: str, *, pending: bool) -> None:
        """Whether `other`, whose word goes to `until_ns`, noticed in time that `silent` said its last at `since_ns`."""
        half = self.state.halves.get(other, {}).get(silent)
        if half is None:
            return
        due_ns = since_ns + self._bound(since_ns)
        if half.state == "up" and half.at_ns <= since_ns:
            if until_ns > due_ns:
                what = f"{silent} fell silent, and {other} noticed it late or never"
                self.state.doubts.setdefault(other, []).append((due_ns, half.at_ns, half.pos, what, pos))
            elif pending:
                self.tally.pending += 1
        elif half.state in {"down", "parted"} and half.lost_ns > since_ns:
            if half.lost_ns > due_ns:
                what = f"{silent} fell silent, and {other} noticed it late"
                self.tally.violate(Witness(half.at_ns, half.pos, what, (pos,)))
            else:
                self.tally.judged += 1

    def _settle(self, other: str, until_ns: int) -> None:
        """An observer's word goes to `until_ns`: what it missed before that it missed; after that it was silent itself."""
        for due_ns, at_ns, pos, what, where in self.state.doubts.pop(other, ()):
            if until_ns > due_ns:
                self.tally.violate(Witness(at_ns, pos, what, (where,)))
            else:
                self.tally.uncovered += 1

    def end(self, horizon: Horizon) -> None:
        """Feeds that end without a word, while others go on: unless those still had answers, so that a log is missing."""
        ends = ends_by_machine(horizon)
        answered: dict[tuple[str, str], int] = {}
        last: dict[str, str] = {}
        for feed, state in horizon.cluster.states.items():
            if horizon.end_ns[feed] == ends[feed.machine]:
                last[feed.machine] = feed.at(state.entries)
            for peer, ping in state.pings.items():
                if ping.answered:
                    pair = feed.machine, peer
                    answered[pair] = max(answered.get(pair, ping.answered_ns), ping.answered_ns)
        for silent, since_ns in ends.items():
            interval_ns = self.pace.interval_ns(since_ns, since_ns)
            for other in self.state.running if silent in self.state.running else ():
                if other == silent or ends.get(other, 0) <= since_ns:
                    continue
                if answered.get((other, silent), since_ns) > since_ns + interval_ns:
                    self.tally.uncovered += 1
                else:
                    self._judge(other, silent, since_ns, ends[other], last[silent], pending=True)
        for other in list(self.state.doubts):
            self._settle(other, ends.get(other, 0))


PATIENCE_NS: Final = 60_000_000_000
"""Between two dials so much may pass, however short the interval: whoever dials backs off."""


class Apart(msgspec.Struct, array_like=True):
    """A machine that was disconnected on purpose. `feed`, `index`: the entry that reconnected it, once it is; `told`: who holds
    that.
    """

    feed: str = ""
    index: int = 0
    told: set[str] = msgspec.field(default_factory=set)


class Trying(Halves):
    """Pairs that are down: since when nobody tried, by which entry; and machines that nobody need try."""

    idle: dict[str, tuple[int, str]] = msgspec.field(default_factory=dict)
    apart: dict[str, Apart] = msgspec.field(default_factory=dict)


class NobodyGivesUp(AcrossFeeds):
    """B10."""

    kinds = AcrossFeeds.kinds | {"machine.reconnected", "feed.received"}
    state_type: ClassVar[type[State]] = Trying

    def __init__(self) -> None:
        says = (
            "While both machines run, a pair that was lost stands again within three intervals (a minute at least), or somebody"
            " dialled in vain; who was disconnected on purpose is waited for until both know that this is over."
        )
        super().__init__(Rule("B10", "nobody gives up", "mesh", says))

    def step(self, entry: Entry, now_ns: int) -> None:
        """Also what ends a disconnection, and who has heard of it."""
        event = entry.event
        if isinstance(event, ev.MachineReconnected):
            if event.machine in self.state.apart:
                self.state.apart[event.machine] = Apart(entry.feed.id, entry.index, {entry.feed.machine})
        elif isinstance(event, ev.FeedReceived):
            for apart in self.state.apart.values():
                if apart.feed == event.feed and event.held >= apart.index:
                    apart.told.add(entry.feed.machine)
        else:
            super().step(entry, now_ns)

    def _excused(self, pair: set[str]) -> bool:
        """Whether one of the two is disconnected on purpose, as far as the two know."""
        found = (self.state.apart.get(machine) for machine in pair)
        return any(apart is not None and not pair <= apart.told for apart in found)

    def linked(self, observer: str, peer: str, entry: Entry) -> None:
        """A loss begins it, any other link entry of either side ends it, and a failed dial begins it anew."""
        if self._excused({observer, peer}):
            return
        pair = f"{min(observer, peer)}={max(observer, peer)}"
        both = observer in self.state.running and peer in self.state.running
        if isinstance(entry.event, ev.LinkLost) and entry.event.reason not in PARTED and both:
            self.state.idle.setdefault(pair, (entry.effective_ns, entry.position))
            return
        self._close(pair, entry.effective_ns)
        there = self.state.half(peer, observer)
        if isinstance(entry.event, ev.LinkFailed) and there.state != "up" and entry.event.reason not in PARTED:
            self.state.idle[pair] = entry.effective_ns, entry.position

    def _close(self, pair: str, until_ns: int, *, pending: bool = False, blind: bool = False) -> None:
        found = self.state.idle.pop(pair, None)
        if found is None:
            return
        since_ns, pos = found
        if until_ns - since_ns > max(3 * self.pace.interval_ns(since_ns, since_ns), PATIENCE_NS):
            self.tally.violate(Witness(since_ns, pos, f"{pair} is down, and nobody tries"))
        elif pending:
            self.tally.pending += 1
        elif blind:
            self.tally.uncovered += 1
        else:
            self.tally.judged += 1

    def _pairs(self, machine: str) -> Iterator[str]:
        return (pair for pair in list(self.state.idle) if machine in pair.split("="))

    def ended(self, observer: str, ended_ns: int, entry: Entry, *, crashed: bool) -> None:  # noqa: ARG002
        """From then on nobody can ask it to try."""
        for pair in self._pairs(observer):
            self._close(pair, ended_ns, blind=True)

    def gone(self, machine: str, entry: Entry) -> None:
        """Nobody need try any more; after a disconnection until it is over."""
        for pair in self._pairs(machine):
            self._close(pair, entry.effective_ns, blind=True)
        self.state.apart.pop(machine, None)
        if isinstance(entry.event, ev.MachineDisconnected):
            self.state.apart[machine] = Apart()

    def end(self, horizon: Horizon) -> None:
        """Up to where both feeds go."""
        ends = ends_by_machine(horizon)
        for pair in list(self.state.idle):
            a, _, b = pair.partition("=")
            since_ns = self.state.idle[pair][0]
            self._close(pair, min(ends.get(a, since_ns), ends.get(b, since_ns)), pending=True)
