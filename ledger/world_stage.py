"""The stage of a generated world: its true clock, its machines, their pens, and how entries travel from one to another.

One heap of what is due, in true time. What a machine was about to do dies with it (its `life`), and waits while it is
stalled. Every entry goes through `write`, which stamps it with the machine's own wrong clocks; what is no ping is pushed to
linked peers at once, the rest travels with pings (`sync`), and through third machines where the link to the origin is down.
A machine knows of membership what the entries it holds say, and no more.

How machines ping and dial stands in `world_mesh`, how they come and go in `world_acts`, what befalls them in `world_faults`.
Pure: dice are handed in, files are for others.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from ledger import events as ev
from ledger.dice import Dice
from ledger.entry import Observed
from ledger.identity import IMPORTED, Feed, incarnation_id
from ledger.notes import key_text
from ledger.world_truth import NO_SUCH_NAME, Act, Answer, Clock, Line, Truth, judged

SECOND_NS: Final = 1_000_000_000
CLUSTER: Final = "lab"
SERVER: Final = "192.0.2.53"
_UNTOLD: Final = (ev.PingAnswered, ev.PingFailed, ev.FeedReceived, ev.HeadWitnessed)
"""Kinds that nobody is told of at once."""
_ACTS: Final = (
    ev.MachineJoined, ev.MachineLeft, ev.MachineDisconnected, ev.MachineReconnected, ev.HostnameChanged, ev.KeyChanged,
)  # fmt: skip


@dataclass(eq=False)
class Link:
    """A connection: who dialled whom. Each side holds it for as long as it believes in it."""

    id: str
    dialler: str
    acceptor: str


@dataclass(eq=False)
class Machine:
    """One machine: what it is, what it knows, what it is about to do."""

    name: str
    address: str
    hostname: str
    feed: Feed
    transport: ev.Transport
    keys: dict[str, str]
    log: list[Observed] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    running: bool = False
    powered: bool = True
    life: int = 0
    boot: int = 0
    boot_ns: int = 0
    software: str = "1.0.0"
    stalled_ns: int = 0
    full_ns: int = 0
    dialled: int = 0
    pushing: bool = False
    links: dict[str, Link] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    pending: dict[str, tuple[int, int, Link]] = field(default_factory=dict)
    reasons: dict[str, ev.Reason] = field(default_factory=dict)
    dials: dict[str, int] = field(default_factory=dict)
    ticking: set[str] = field(default_factory=set)
    eager: set[str] = field(default_factory=set)
    lookups: dict[str, tuple[int, Answer]] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    known: list[Act] = field(default_factory=list)
    members: frozenset[str] = frozenset()
    planned: frozenset[str] = frozenset()
    hostnames: dict[str, str] = field(default_factory=dict)


class Stage:
    """The world while it is played, up to `now_ns` in true time."""

    def __init__(
        self, names: Sequence[str], start_ns: int, dice: Dice, truth: Truth, *,
        keyed: bool, addressing: ev.Addressing, transport: ev.Transport, salt: str, spread_ms: int,
        regard: Callable[[Stage, Machine], None],
    ) -> None:  # fmt: skip
        """`regard`: what a machine does when who is in has changed for it."""
        self.now_ns = self.start_ns = start_ns
        self.dice, self.truth, self.keyed, self.addressing = dice, truth, keyed, addressing
        self.interval_ns, self.timeout_ns, self.lost_after = truth.interval_ns, truth.timeout_ns, truth.lost_after
        self.regard = regard
        self.plant = 0
        self._due: list[tuple[int, int, Machine | None, int, Callable[..., object], tuple[Any, ...]]] = []
        self._sequence = 0
        self.crossing: dict[frozenset[str], int] = {}
        keys = {name: {role: _key(salt, name, role) for role in ("host", "dial", "ledger")} for name in names}
        self.salt, self.transport = salt, transport
        self.incarnation = f"{IMPORTED}{salt}"
        if keyed:
            self.incarnation = incarnation_id(CLUSTER, transport, addressing, keys[names[0]]["ledger"], salt)
        self.machines: dict[str, Machine] = {}
        self.by_feed: dict[str, Machine] = {}
        for place, name in enumerate(names):
            feed = Feed.of(self.incarnation, name, 1, keys[name]["ledger"] if keyed else None)
            address = f"192.0.2.{place + 61}"
            hostname = f"{name}.lab.example" if addressing == "name" else address
            machine = Machine(name, address, hostname, feed, transport, keys[name])
            self.machines[name] = self.by_feed[feed.id] = machine
            truth.clocks[name].values[0] = Clock(
                start_ns, dice.between(-spread_ms * 1_000_000, spread_ms * 1_000_000), dice.between(-20, 20)
            )
            self.publish(hostname, address)
            self.publish_reverse(address, f"{name}.lab.example")

    # ---- time ---------------------------------------------------------------------------------------------------------

    def after(self, delay_ns: int, machine: Machine | None, do: Callable[..., object], *given: Any) -> None:
        """`do(stage, *given)` in `delay_ns`, unless `machine` has stopped by then; if it is stalled, when it wakes."""
        self._sequence += 1
        life = machine.life if machine else 0
        heapq.heappush(self._due, (self.now_ns + delay_ns, self._sequence, machine, life, do, given))

    def run(self, until_ns: int) -> None:
        """Play on to `until_ns`."""
        due = self._due
        while due and due[0][0] <= until_ns:
            at_ns, sequence, machine, life, do, given = heapq.heappop(due)
            self.now_ns = at_ns
            if machine is not None:
                if machine.life != life:
                    continue
                if machine.stalled_ns > at_ns:
                    heapq.heappush(due, (machine.stalled_ns, sequence, machine, life, do, given))
                    continue
            do(self, *given)
        self.now_ns = max(self.now_ns, until_ns)

    def mono_ns(self, machine: Machine) -> int:
        """What the machine's monotonic clock shows."""
        since_ns = self.now_ns - machine.boot_ns
        return since_ns + since_ns * self.truth.clocks[machine.name].values[0].ppm // 1_000_000

    def latency_ns(self) -> int:
        """How long a message is on its way now."""
        return self.dice.between(150_000, 2_500_000)

    # ---- wires and names ----------------------------------------------------------------------------------------------

    def passes(self, a: Machine, b: Machine) -> bool:
        """Whether what `a` sends to `b` now comes through."""
        wire = a.name, b.name
        loss = self.truth.losses[wire].now
        return self.truth.cuts[wire].now == 0 and not (loss and self.dice.permille(loss))

    def publish(self, name: str, *addresses: str, outcome: ev.Outcome = "answered") -> None:
        """DNS says this of a name from now on."""
        self._say(self.truth.names, name, Answer(outcome, addresses))

    def publish_reverse(self, address: str, *names: str, outcome: ev.Outcome = "answered") -> None:
        """And this of an address."""
        self._say(self.truth.reverse, address, Answer(outcome, names))

    def _say(self, table: dict[str, Line[Answer]], name: str, answer: Answer) -> None:
        if name not in table:
            table[name] = Line(NO_SUCH_NAME)
        table[name].set(self.now_ns, answer)

    # ---- the pen ------------------------------------------------------------------------------------------------------

    def write(self, machine: Machine, event: ev.Event) -> int:
        """The machine records an event, tells linked peers if that is due, and knows it. Returns the entry's index."""
        boot, mono_ns = (machine.boot, self.mono_ns(machine)) if self.keyed and machine.boot else (None, None)
        machine.log.append(Observed(self.truth.wall_ns(machine.name, self.now_ns), event, boot, mono_ns))
        index = len(machine.log)
        if not isinstance(event, _UNTOLD):
            machine.told.append(index)
            if not machine.pushing:
                machine.pushing = True
                self.after(1_000_000, machine, _push, machine)
            if isinstance(event, _ACTS):
                root = isinstance(event, ev.MachineJoined) and event.machine == machine.name and self._is_root(machine)
                act = Act(self.now_ns, machine.feed, index, event, root)
                machine.acts.append(act)
                self.truth.acts.append(act)
                self.learn(machine, [act])
        return index

    def _is_root(self, machine: Machine) -> bool:
        return not self.keyed or (machine is next(iter(self.machines.values())) and not machine.acts)

    def deliver(self, machine: Machine, feed: Feed, upto: int) -> None:
        """The machine now holds another's feed up to entry `upto`; it records that if more than pings came, and passes it on."""
        before, origin = machine.held.get(feed.id, 0), self.by_feed[feed.id]
        if origin is machine or upto <= before or not machine.log:
            return
        machine.held[feed.id] = upto
        if bisect_right(origin.told, upto) == bisect_right(origin.told, before):
            return
        self.write(machine, ev.FeedReceived(feed.id, upto))
        self.learn(machine, [act for act in origin.acts if before < act.index <= upto])
        for name in machine.links:
            peer = self.machines[name]
            if peer is not origin and peer.running and peer.held.get(feed.id, 0) < upto and self.passes(machine, peer):
                self.after(self.latency_ns(), peer, Stage.deliver, peer, feed, upto)

    def sync(self, machine: Machine, peer: Machine) -> None:
        """The machine pulls what the peer has of its own feed, and of the feeds whose origins it has no link to."""
        self.deliver(machine, peer.feed, len(peer.log))
        for feed_id, count in list(peer.held.items()):
            origin = self.by_feed[feed_id]
            if origin.name not in machine.links and machine.held.get(feed_id, 0) < count:
                self.deliver(machine, origin.feed, count)

    def learn(self, machine: Machine, acts: Sequence[Act]) -> None:
        """What the machine holds now says this as well about who is in."""
        if not acts:
            return
        machine.known.extend(acts)
        machine.known.sort(key=lambda act: (act.at_ns, act.feed.machine, act.index))
        before = machine.members, machine.planned
        machine.members = frozenset(judged(machine.known))
        planned: dict[str, bool] = {}
        for act in machine.known:
            event = act.event
            if isinstance(event, ev.MachineDisconnected):
                planned[event.machine] = True
            elif isinstance(event, ev.MachineReconnected):
                planned[event.machine] = False
            elif isinstance(event, ev.HostnameChanged):
                machine.hostnames[act.feed.machine] = event.new
            elif isinstance(event, ev.MachineJoined) and event.hostname:
                machine.hostnames[event.machine] = event.hostname
        machine.planned = frozenset(name for name, off in planned.items() if off)
        if (machine.members, machine.planned) != before and machine.running:
            self.after(20_000_000, machine, self.regard, machine)


def holding(machine: Machine, peer: Machine, event: ev.PingAnswered | ev.PingFailed) -> ev.Event:
    """The result of a ping, with how much the machine holds of the peer's feed."""
    held = machine.held.get(peer.feed.id)
    if held is None:
        return event
    fields = {name: getattr(event, name) for name in event.__struct_fields__} | {"feed": peer.feed.id, "held": held}
    return type(event)(**fields)


def _push(stage: Stage, machine: Machine) -> None:
    machine.pushing = False
    upto = len(machine.log)
    for name in machine.links:
        peer = stage.machines[name]
        if peer.running and machine.name in peer.links and stage.passes(machine, peer):
            stage.after(stage.latency_ns(), peer, Stage.deliver, peer, machine.feed, upto)


def _key(salt: str, name: str, role: str) -> str:
    return key_text(sha256(f"generated {salt} {name} {role}".encode()).digest())
