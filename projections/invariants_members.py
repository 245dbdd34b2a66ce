"""Invariants across feeds about who is in: agreement, leaving, the end of a cluster, strangers (B11, B13, B14, B19).

They follow joins and leaves as entries name them, in display order: who has a join that no leave has ended is a member. That
is what operators see; the judgement with authority is the fold's (`membership`), which is judged elsewhere. Clocks differ, so
that nothing is held against anybody for two intervals.
"""

# ruff: noqa: ARG002  monitors are told more than each needs
from __future__ import annotations

from typing import ClassVar

import msgspec

from ledger import events as ev
from ledger.entry import Entry
from projections.halves import ends_by_machine
from projections.monitor import Horizon, Monitor, Rule, State, Witness

ACTS = frozenset({"machine.joined", "machine.left"})


class Roll(State):
    """`joins`: by machine the positions of its joins that no leave has ended; `left`: by machine (instant, position, feed id,
    index, writer) of the leave that ended the last; `ever`: who had a join at all.
    """

    joins: dict[str, list[str]] = msgspec.field(default_factory=dict)
    left: dict[str, tuple[int, str, str, int, str]] = msgspec.field(default_factory=dict)
    ever: dict[str, int] = msgspec.field(default_factory=dict)


class Enrolled(Monitor):
    """What the monitors here share: they call the roll."""

    mesh = True
    kinds = ACTS
    state_type: ClassVar[type[State]] = Roll

    def step(self, entry: Entry, now_ns: int) -> None:
        """A join, or a leave, by the positions that it names; a leave that names none ends all."""
        event = entry.event
        if isinstance(event, ev.MachineJoined):
            self.state.joins.setdefault(event.machine, []).append(entry.position)
            self.state.ever.setdefault(event.machine, entry.effective_ns)
            self.state.left.pop(event.machine, None)
            self.joined(event.machine, entry)
        elif isinstance(event, ev.MachineLeft):
            held = self.state.joins.get(event.machine, [])
            rest = [pos for pos in held if event.joins and pos not in event.joins]
            self.state.joins[event.machine] = rest
            if held and not rest:
                self.state.left[event.machine] = (
                    entry.effective_ns, entry.position, entry.feed.id, entry.index, entry.feed.machine,
                )  # fmt: skip
                self.parted(event.machine, entry)
        else:
            self.other(entry)

    def joined(self, machine: str, entry: Entry) -> None:
        """A machine has one more join."""

    def parted(self, machine: str, entry: Entry) -> None:
        """A machine has no join any more."""

    def other(self, entry: Entry) -> None:
        """Any other entry of the `kinds`."""


class Holding(Roll):
    """By observer and feed id how many entries of it are held. `doubted`: links after a leave, by machine: (instant, position,
    what is wrong, position of the leave).
    """

    held: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    doubted: dict[str, list[tuple[int, str, str, str]]] = msgspec.field(default_factory=dict)


class LeaveIsFinal(Enrolled):
    """B13."""

    kinds = ACTS | {"link.established", "feed.received"}
    state_type: ClassVar[type[State]] = Holding

    def __init__(self) -> None:
        says = "Who holds that a machine left, itself included, has no new link to or from it until it joins anew."
        super().__init__(Rule("B13", "a leave is final", "mesh", says))

    def other(self, entry: Entry) -> None:
        """What is held, and links."""
        event, observer = entry.event, entry.feed.machine
        if isinstance(event, ev.FeedReceived):
            held = self.state.held.setdefault(observer, {})
            held[event.feed] = max(event.held, held.get(event.feed, 0))
        elif isinstance(event, ev.LinkEstablished):
            judged = False
            for gone in {event.peer, observer} & self.state.left.keys():
                _at_ns, pos, feed, index, writer = self.state.left[gone]
                if observer == writer or self.state.held.get(observer, {}).get(feed, 0) >= index:
                    judged = True
                    what = f"{gone} had left, and {observer} holds that"
                    self.state.doubted.setdefault(gone, []).append((entry.effective_ns, entry.position, what, pos))
            if not judged and {event.peer, observer} & self.state.ever.keys():
                self.tally.judged += 1

    def joined(self, machine: str, entry: Entry) -> None:
        """A link just before it joins anew: that was a clock behind."""
        self._settle(machine, entry.effective_ns)

    def _settle(self, machine: str, joined_ns: int | None) -> None:
        for at_ns, pos, what, left in self.state.doubted.pop(machine, ()):
            if joined_ns is not None and joined_ns - at_ns <= 2 * self.pace.interval_ns(at_ns, at_ns):
                self.tally.judged += 1
            else:
                self.tally.violate(Witness(at_ns, pos, what, (left,)))

    def end(self, horizon: Horizon) -> None:
        """Whoever did not join anew."""
        for machine in list(self.state.doubted):
            self._settle(machine, None)


class Strange(Roll):
    """Links to machines that are not in: by observer and peer the first, (instant, position, position of the leave or none)."""

    unknown: dict[str, tuple[int, str, str]] = msgspec.field(default_factory=dict)


class NoStrangers(Enrolled):
    """B19."""

    kinds = ACTS | {"link.established"}
    state_type: ClassVar[type[State]] = Strange

    def __init__(self) -> None:
        says = "Links lie between the joins and leaves of both machines: nobody talks to strangers, give or take two intervals."
        super().__init__(Rule("B19", "no traffic from strangers", "mesh", says))

    def joined(self, machine: str, entry: Entry) -> None:
        """Whoever had a link to it before: was that just a clock ahead?"""
        for key in [key for key in self.state.unknown if key.partition(":")[2] == machine]:
            at_ns, pos, left = self.state.unknown.pop(key)
            if entry.effective_ns - at_ns > 2 * self.pace.interval_ns(at_ns, at_ns):
                what = f"{key}: {machine} had left" if left else f"{key}: {machine} had not joined yet"
                self.tally.violate(Witness(at_ns, pos, what, (left or entry.position,)))
            else:
                self.tally.judged += 1

    def other(self, entry: Entry) -> None:
        """A new link."""
        event = entry.event
        if not isinstance(event, ev.LinkEstablished):
            return
        left = self.state.left.get(event.peer)
        late = left is not None and entry.effective_ns - left[0] > 2 * self.pace.interval_ns(left[0], left[0])
        if event.peer not in self.state.ever or late:
            found = entry.effective_ns, entry.position, left[1] if left else ""
            self.state.unknown.setdefault(f"{entry.feed.machine}:{event.peer}", found)
        else:
            self.tally.judged += 1

    def end(self, horizon: Horizon) -> None:
        """Whoever was never admitted is a stranger; in a log that admits nobody there is nothing to tell by."""
        for key, (at_ns, pos, left) in self.state.unknown.items():
            peer = key.partition(":")[2]
            if left:
                self.tally.violate(Witness(at_ns, pos, f"{key}: {peer} had left", (left,)))
            elif self.state.ever:
                self.tally.violate(Witness(at_ns, pos, f"{key}: nobody ever admitted {peer}"))
            else:
                self.tally.uncovered += 1


class Ended(Roll):
    """Where the last machine left, if nobody is in: (instant, position)."""

    over: tuple[int, str] | None = None
    dissolved: str | None = None


class LastLeavesClusterEnds(Enrolled):
    """B14, with a look at the fold."""

    kinds = ACTS | {"link.established", "cluster.dissolved"}
    state_type: ClassVar[type[State]] = Ended

    def __init__(self) -> None:
        says = "A cluster ends when its last machine leaves: nobody joins or links afterwards, nobody dissolves it before."
        super().__init__(Rule("B14", "the last one out ends it", "software", says))

    def parted(self, machine: str, entry: Entry) -> None:
        """Was it the last?"""
        if not any(self.state.joins.values()):
            self.state.over = entry.effective_ns, entry.position
            self.tally.judged += 1

    def joined(self, machine: str, entry: Entry) -> None:
        """Into a cluster that is no more? Concurrent joins are only shown later."""
        if self.state.over is not None:
            self._after(entry, f"{machine} joins")
            self.state.over = None

    def _after(self, entry: Entry, what: str) -> None:
        over = self.state.over
        if over is not None and entry.effective_ns - over[0] > 2 * self.pace.interval_ns(over[0], over[0]):
            self.tally.violate(Witness(entry.effective_ns, entry.position, f"{what} after the last had left", (over[1],), "mesh"))

    def other(self, entry: Entry) -> None:
        """A link after the end, or an end before the last has left."""
        if isinstance(entry.event, ev.LinkEstablished):
            self._after(entry, f"{entry.feed.machine} links")
        elif any(self.state.joins.values()):
            names = sorted(name for name, joins in self.state.joins.items() if joins)
            what = f"dissolved, and {', '.join(names[:5])} had not left"
            self.tally.violate(Witness(entry.effective_ns, entry.position, what, (), "mesh"))
        else:
            self.tally.judged += 1

    def end(self, horizon: Horizon) -> None:
        """The fold calls it dissolved if it has had members and has none."""
        cluster = horizon.cluster
        meant = bool(cluster.machines) and not any(view.member for view in cluster.machines.values())
        if cluster.dissolved != meant:
            first = min((view.since_pos for view in cluster.machines.values()), default="?#0")
            self.tally.violate(Witness(cluster.at_ns, first, f"the fold says {cluster.dissolved} of whether it is dissolved"))


class Agreeing(State):
    """Acts that others must come to hold: by observer, (feed id, index, instant, position); what each holds of each feed; who
    runs; who ever told what it holds.
    """

    wanted: dict[str, list[tuple[str, int, int, str]]] = msgspec.field(default_factory=dict)
    held: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    running: list[str] = msgspec.field(default_factory=list)
    joined: list[str] = msgspec.field(default_factory=list)


class Agreement(Monitor):
    """B11. No consensus is claimed: that views differ is a state, told by who does not know what."""

    mesh = True
    kinds = ACTS | {"feed.received", "node.started", "node.stopped"}
    state_type: ClassVar[type[State]] = Agreeing

    def __init__(self) -> None:
        says = "Within three intervals of a join or leave every member whose node runs holds the entry that says so."
        super().__init__(Rule("B11", "members agree on members", "mesh", says))

    def step(self, entry: Entry, now_ns: int) -> None:
        """An act to be known, or word that it is."""
        event, observer = entry.event, entry.feed.machine
        if isinstance(event, ev.FeedReceived):
            held = self.state.held.setdefault(observer, {})
            held[event.feed] = max(event.held, held.get(event.feed, 0))
            self._settle(observer, entry.effective_ns)
        elif isinstance(event, (ev.NodeStarted, ev.NodeStopped)):
            until_ns = entry.effective_ns if isinstance(event, ev.NodeStopped) else now_ns
            self._settle(observer, until_ns)
            self.tally.uncovered += len(self.state.wanted.pop(observer, ()))
            if isinstance(event, ev.NodeStopped) and observer in self.state.running:
                self.state.running.remove(observer)
            elif isinstance(event, ev.NodeStarted) and observer not in self.state.running:
                self.state.running.append(observer)
        elif isinstance(event, (ev.MachineJoined, ev.MachineLeft)):
            if isinstance(event, ev.MachineLeft) and event.machine in self.state.joined:
                self.state.joined.remove(event.machine)
                self.state.wanted.pop(event.machine, None)
            for other in self.state.running:
                if other in {observer, event.machine} or other not in self.state.joined:
                    continue
                if self.state.held.get(other, {}).get(entry.feed.id, 0) >= entry.index:
                    self.tally.judged += 1  # its clock is behind
                else:
                    wanted = self.state.wanted.setdefault(other, [])
                    wanted.append((entry.feed.id, entry.index, entry.effective_ns, entry.position))
            if isinstance(event, ev.MachineJoined) and event.machine not in self.state.joined:
                self.state.joined.append(event.machine)

    def _settle(self, observer: str, at_ns: int, *, last: bool = False) -> None:
        """What has come, what is late; of who never tells what it holds nothing is known."""
        held, rest = self.state.held.get(observer, {}), []
        for feed, index, since_ns, pos in self.state.wanted.get(observer, ()):
            late = at_ns - since_ns > 3 * self.pace.interval_ns(since_ns, since_ns)
            if held.get(feed, 0) >= index and not late:
                self.tally.judged += 1
            elif late and observer in self.state.held:
                self.tally.violate(Witness(since_ns, pos, f"{observer} did not hold this in time"))
            elif late:
                self.tally.uncovered += 1
            elif last:
                self.tally.pending += 1
            else:
                rest.append((feed, index, since_ns, pos))
        self.state.wanted[observer] = rest

    def end(self, horizon: Horizon) -> None:
        """Up to where each observer's feed goes."""
        ends = ends_by_machine(horizon)
        for observer in list(self.state.wanted):
            self._settle(observer, ends.get(observer, 0), last=True)
