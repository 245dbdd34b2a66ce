"""What really was in a generated world: who ran, which wires were cut, what DNS said, whose clock was wrong, who was in.

Observers know none of this; a test does, and holds their answers against it. All instants here are true time, in
nanoseconds UTC. Wires are directed, `(alpha, bravo)` carries what alpha sends. Whatever changes in the course of a world is
a `Line`: values, each from an instant on. A `Fault` is one thing that went wrong (or was done), with the word that `why` is
expected to find for the links that it takes down. Membership is judged here by the sentences of DESIGN section 7 in
their plainest form, over the acts of a moment: this room imports no projection, so that it may judge them.

Pure values: nothing here plays, reads or throws dice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, Generic, Literal, TypeVar

import msgspec

from ledger import events as ev
from ledger.identity import Feed

_T = TypeVar("_T")
Wire = tuple[str, str]

FaultKind = Literal[
    "loss", "flap", "one-way-cut", "cut", "partition", "observer-isolated", "target-down", "restart", "rename",
    "renamed-without-dns", "name-points-elsewhere", "limit-drop", "upgrade", "upgrade-unprepared", "disconnected", "leave",
    "removal", "concurrent-admission", "one-sided-removal", "clock-step", "skew", "stall", "host-key-mismatch",
    "reverse-timeout", "transport-mixed",
]  # fmt: skip
"""What may happen to a world, or be done to it."""


class Line(Generic[_T]):
    """A value in the course of time: `first` from the beginning on, then whatever was set."""

    __slots__ = ("instants", "values")

    def __init__(self, first: _T) -> None:
        self.instants: list[int] = []
        self.values: list[_T] = [first]

    def set(self, at_ns: int, value: _T) -> None:
        """`value` from `at_ns` on, which must not lie before an earlier call's."""
        if value != self.values[-1]:
            self.instants.append(at_ns)
            self.values.append(value)

    def at(self, at_ns: int) -> _T:
        """The value at `at_ns`, what was set at that instant included."""
        return self.values[bisect_right(self.instants, at_ns)]

    @property
    def now(self) -> _T:
        """The last value."""
        return self.values[-1]


class Fault(msgspec.Struct, frozen=True, gc=False):
    """One thing that went wrong or was done. `cause`: the word that `why` should find for a link that it takes down, None
    if it takes none down; `wires`: the directed links that it can take down; `subjects`: the machines that it is about, the
    culprit first. [`since_ns`, `until_ns`): from when it was so to when it was undone (the world's end if never). What it
    left behind needs up to `Truth.settling_ns` more to mend. Faults of one `plant` were planted together: phases of one story.
    """

    plant: int
    kind: FaultKind
    subjects: tuple[str, ...]
    since_ns: int
    until_ns: int
    cause: str | None = None
    wires: tuple[Wire, ...] = ()


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What DNS says to a question: `outcome` as in `name.resolved`, and what the name (or address) stands for."""

    outcome: ev.Outcome
    answers: tuple[str, ...] = ()


NO_SUCH_NAME: Final = Answer("nxdomain")


class Clock(msgspec.Struct, frozen=True, gc=False):
    """How a machine's clocks run from `since_ns` on: wrong by `error_ns` then, and by `ppm` millionths of all time since."""

    since_ns: int
    error_ns: int = 0
    ppm: int = 0

    def wall_ns(self, at_ns: int) -> int:
        """What the wall clock shows at the true instant `at_ns`."""
        return at_ns + self.error_ns + (at_ns - self.since_ns) * self.ppm // 1_000_000


class Act(msgspec.Struct, frozen=True, gc=False):
    """An entry that changes who is in, and the true instant at which it was written."""

    at_ns: int
    feed: Feed
    index: int
    event: ev.Event
    root: bool = False


class Truth:
    """All that really was, to be asked at any true instant. `interval_ns`, `timeout_ns`, `lost_after`: the settings in force."""

    def __init__(self, machines: Sequence[str], start_ns: int, *, interval_ms: int, timeout_ms: int, lost_after: int) -> None:
        self.machines = tuple(machines)
        self.start_ns = self.end_ns = start_ns
        self.interval_ns, self.timeout_ns, self.lost_after = interval_ms * 1_000_000, timeout_ms * 1_000_000, lost_after
        self.running: dict[str, Line[bool]] = {name: Line(first=False) for name in machines}
        self.cuts: dict[Wire, Line[int]] = {(a, b): Line(0) for a in machines for b in machines if a != b}
        self.losses: dict[Wire, Line[int]] = {wire: Line(0) for wire in self.cuts}
        self.names: dict[str, Line[Answer]] = {}
        self.reverse: dict[str, Line[Answer]] = {}
        self.clocks: dict[str, Line[Clock]] = {name: Line(Clock(start_ns)) for name in machines}
        self.acts: list[Act] = []
        self.faults: list[Fault] = []

    def up(self, machine: str, at_ns: int) -> bool:
        """Whether the machine's node ran."""
        return self.running[machine].at(at_ns)

    def carries(self, a: str, b: str, at_ns: int) -> bool:
        """Whether the wire from `a` to `b` carried anything at all."""
        return self.cuts[a, b].at(at_ns) == 0

    def reachable(self, a: str, b: str, at_ns: int) -> bool:
        """Whether what `a` sent then could come to `b`: one way only."""
        return self.up(a, at_ns) and self.up(b, at_ns) and self.carries(a, b, at_ns)

    def dns(self, name: str, at_ns: int) -> Answer:
        """What DNS said to whoever asked for `name`."""
        return self.names[name].at(at_ns) if name in self.names else NO_SUCH_NAME

    def wall_ns(self, machine: str, at_ns: int) -> int:
        """What the machine's wall clock showed."""
        return self.clocks[machine].at(at_ns).wall_ns(at_ns)

    def members(self, at_ns: int) -> dict[str, str]:
        """Who was in, were all that was written by then known, with the machine whose join made each a member."""
        return judged(act for act in self.acts if act.at_ns <= at_ns)

    @property
    def settling_ns(self) -> int:
        """After this long without a fault all observers have noticed, dialled and pinged again."""
        return self.interval_ns * (self.lost_after + 3) + 2 * self.timeout_ns

    def quiet(self, at_ns: int) -> bool:
        """Whether no fault was at work at `at_ns`, nor had been for `settling_ns`."""
        begun = self.start_ns + self.settling_ns <= at_ns
        return begun and not any(fault.since_ns <= at_ns < fault.until_ns + self.settling_ns for fault in self.faults)

    def at_work(self, at_ns: int, wire: Wire | None = None) -> list[Fault]:
        """The faults that can keep a link (or this one, `wire`) down at `at_ns`, what they left behind included."""
        return [
            fault
            for fault in self.faults
            if fault.since_ns <= at_ns < fault.until_ns + self.settling_ns and (wire is None or wire in fault.wires)
        ]


def judged(acts: Iterable[Act]) -> dict[str, str]:
    """The members after `acts`, each with the machine whose join made it one. Joins count if their writer's word does;
    a removal ends the joins that it names, and its subject's word with the last entry that it held.
    """
    joins: dict[str, tuple[Act, ev.MachineJoined]] = {}
    limits: dict[str, int] = {}
    for act in acts:
        event = act.event
        if isinstance(event, ev.MachineJoined):
            joins[act.feed.at(act.index)] = act, event
        elif isinstance(event, ev.MachineLeft):
            for place in event.joins:
                limits[place] = min(limits.get(place, event.held), event.held)
    counting = {place for place, (act, _event) in joins.items() if act.root}
    waiting = set(joins) - counting
    grown = True
    while grown:
        grown = False
        for place in sorted(waiting):
            act = joins[place][0]
            if any(_entitles(joins[other][1], limits.get(other), act) for other in counting):
                counting.add(place)
                waiting.discard(place)
                grown = True
    return {
        joins[place][1].machine: joins[place][0].feed.machine for place in sorted(counting, reverse=True) if place not in limits
    }


def _entitles(join: ev.MachineJoined, limit: int | None, act: Act) -> bool:
    mine = join.machine == act.feed.machine and join.ledger_key == act.feed.ledger_key
    return mine and join.held < act.index and (limit is None or act.index <= limit)
