"""Invariants across feeds about pairs and their order: B3, B5, B8. Each also looks at what the shipped fold makes of it.

A fault that one side sees is a matter of a path; one that all see is a matter of a machine. How long either may last unnoticed is
what the settings say of a silent peer.
"""

# ruff: noqa: ARG002  monitors are told more than each needs
from __future__ import annotations

from typing import ClassVar

import msgspec

from ledger.entry import Entry
from ledger.events import KINDS
from projections.halves import AcrossFeeds, Half, Halves, ends_by_machine
from projections.monitor import Horizon, Monitor, Rule, State, Witness


class DisplayOrder(Monitor):
    """B3."""

    mesh = True
    kinds = frozenset({*KINDS, "?"}) - {"ping.answered", "ping.failed"}

    class Last(State):
        """The place of the last entry, and the last index of each feed."""

        key: tuple[int, str, int, str, int] | None = None
        index: dict[str, int] = msgspec.field(default_factory=dict)

    state_type: ClassVar[type[State]] = Last

    def __init__(self) -> None:
        says = "The order in which entries are shown is that of instants, and never against the order of a feed."
        super().__init__(Rule("B3", "the order extends every feed's", "software", says))

    def step(self, entry: Entry, now_ns: int) -> None:
        """Greater than the one before, and in its feed later."""
        feed = entry.feed
        key = entry.effective_ns, feed.machine, feed.epoch, feed.id, entry.index
        held = self.state.key
        if entry.index <= self.state.index.get(feed.id, 0):
            self.violate(entry, f"#{entry.index} is shown after #{self.state.index[feed.id]}")
        elif held is not None and key <= held:
            self.violate(entry, "it is shown after a later one")
        else:
            self.tally.judged += 1
        self.state.key, self.state.index[feed.id] = key, entry.index


class Onesided(Halves):
    """Pairs of which one side says up and the other down: since when, by which entries."""

    odd: dict[str, tuple[int, str, str]] = msgspec.field(default_factory=dict)


class TwoSided(AcrossFeeds):
    """B5, with a look at what the fold makes of pairs."""

    state_type: ClassVar[type[State]] = Onesided

    def __init__(self) -> None:
        says = (
            "A pair counts as up only if both sides see it up; that one side sees it up and the other down lasts no longer than a"
            " silent peer may go unnoticed."
        )
        super().__init__(Rule("B5", "links have two sides", "mesh", says))

    def turned(self, observer: str, peer: str, before: Half, entry: Entry) -> None:
        """Begins or ends."""
        self._look(observer, peer, entry.effective_ns)

    def _look(self, observer: str, peer: str, at_ns: int) -> None:
        here, there = self.state.half(observer, peer), self.state.half(peer, observer)
        pair = f"{min(observer, peer)}={max(observer, peer)}"
        odd = {here.state, there.state} == {"up", "down"}
        if odd and pair not in self.state.odd:
            down, up = (here, there) if here.state == "down" else (there, here)
            self.state.odd[pair] = (at_ns, down.pos, up.pos)
        elif not odd:
            self._close(pair, at_ns)

    def _close(self, pair: str, until_ns: int, *, blind: bool = False) -> None:
        found = self.state.odd.pop(pair, None)
        if found is None:
            return
        since_ns, down, up = found
        if until_ns - since_ns > self._bound(since_ns):
            self.tally.violate(Witness(since_ns, down, f"{pair} is down for one side and up for the other", (up,)))
        elif blind:
            self.tally.uncovered += 1
        else:
            self.tally.judged += 1

    def _bound(self, since_ns: int) -> int:
        return self.pace.detection_ns(since_ns, since_ns) + self.pace.interval_ns(since_ns, since_ns)

    def ended(self, observer: str, ended_ns: int, entry: Entry, *, crashed: bool) -> None:
        """Its side says nothing from then on."""
        for pair in [pair for pair in self.state.odd if observer in pair.split("=")]:
            self._close(pair, ended_ns, blind=crashed)

    def gone(self, machine: str, entry: Entry) -> None:
        """A pair that is no pair any more."""
        for pair in [pair for pair in self.state.odd if machine in pair.split("=")]:
            self._close(pair, entry.effective_ns)

    def end(self, horizon: Horizon) -> None:
        """Up to where both feeds go. Then what the fold says of each pair, against both links."""
        ends = ends_by_machine(horizon)
        for pair in list(self.state.odd):
            a, _, b = pair.partition("=")
            since_ns = self.state.odd[pair][0]
            until_ns = min(ends.get(a, since_ns), ends.get(b, since_ns))
            if until_ns - since_ns <= self._bound(since_ns):
                del self.state.odd[pair]
                self.tally.pending += 1
            else:
                self._close(pair, until_ns)
        cluster = horizon.cluster
        for (a, b), said in cluster.pairs.items():
            states = cluster.links[a, b].state, cluster.links[b, a].state
            planned, covered = {a, b} & cluster.planned, {a, b} <= cluster.covered
            meant = said
            if planned or not covered:
                meant = "planned" if planned else "uncovered"
            elif "unknown" in states:
                meant = "unknown"
            else:
                meant = states[0] if states[0] == states[1] else "asymmetric"
            if meant == said:
                self.tally.judged += 1
            else:
                pos = cluster.links[a, b].since_pos or cluster.links[b, a].since_pos or f"{a}#0"
                what = f"the fold says {said} of {a}={b}, whose sides say {states[0]} and {states[1]}"
                self.tally.violate(Witness(cluster.at_ns, pos, what, (), "software"))


class Felled(Halves):
    """Machines that all lost: since when, by which entries."""

    felled: dict[str, tuple[int, list[str]]] = msgspec.field(default_factory=dict)


class Witnessed(AcrossFeeds):
    """B8."""

    state_type: ClassVar[type[State]] = Felled

    def __init__(self) -> None:
        says = (
            "No machine is lost by two observers or more and held by none for longer than a silent peer may go unnoticed; one"
            " observer alone speaks of a path, and never of a machine."
        )
        super().__init__(Rule("B8", "who is down has witnesses", "mesh", says))

    def turned(self, observer: str, peer: str, before: Half, entry: Entry) -> None:
        """Another witness, or one that holds it again."""
        self._look(peer, entry.effective_ns)

    def _look(self, machine: str, at_ns: int) -> None:
        down, up = [], False
        for observer in self.state.running:
            half = self.state.halves.get(observer, {}).get(machine)
            if observer != machine and half is not None:
                if half.state == "up":
                    up = True
                    break
                if half.state == "down":
                    down.append(half.pos)
        if not up and len(down) > 1 and machine in self.state.running:
            self.state.felled.setdefault(machine, (at_ns, sorted(down)))
        else:
            self._close(machine, at_ns)

    def _close(self, machine: str, until_ns: int, *, pending: bool = False) -> None:
        found = self.state.felled.pop(machine, None)
        if found is None:
            return
        since_ns, down = found
        if until_ns - since_ns > self.pace.detection_ns(since_ns, since_ns) + self.pace.interval_ns(since_ns, since_ns):
            what = f"{machine} is down for all {len(down)} that had a link to it"
            self.tally.violate(Witness(since_ns, down[0], what, tuple(down[1:6])))
        elif pending:
            self.tally.pending += 1
        else:
            self.tally.judged += 1

    def ended(self, observer: str, ended_ns: int, entry: Entry, *, crashed: bool) -> None:
        """A witness less; and who stops in order is not missed."""
        self._close(observer, ended_ns)
        for machine in [machine for machine in self.state.felled if machine != observer]:
            self._close(machine, ended_ns)

    def gone(self, machine: str, entry: Entry) -> None:
        """Who left is not missed."""
        self._close(machine, entry.effective_ns)

    def end(self, horizon: Horizon) -> None:
        """Up to where the log goes. Then what the fold says of who communicates, against all links."""
        end_ns = max(horizon.end_ns.values(), default=0)
        for machine in list(self.state.felled):
            self._close(machine, end_ns, pending=True)
        cluster = horizon.cluster
        for name in cluster.members if len(cluster.members) > 1 else ():
            touching = [(pair[0] in cluster.covered, view.state) for pair, view in cluster.links.items() if name in pair]
            meant = True if (True, "up") in touching else False if all(each == (True, "down") for each in touching) else None
            said = cluster.machines[name]
            if said.communicating is meant:
                self.tally.judged += 1
            else:
                what = f"the fold says {said.communicating} of whether {name} communicates, its links say {meant}"
                self.tally.violate(Witness(cluster.at_ns, said.since_pos, what, (), "software"))
