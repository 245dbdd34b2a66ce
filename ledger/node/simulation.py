"""A mesh under faults, all of it drawn from one seed: what to break, when, and what must hold when nothing is broken any more.

    run = simulate(7, views=..., machines=5, hours=2)
    run.nodes["alpha"].disk          # each machine's feeds, entry by entry
    run.coverage                     # how often each fault has bitten

A `Fault` is a plain value, so that a list of them can be drawn, shrunk and written down. A fault that is asked for and never
happens is an error of the run, not a success. When all have ended the world is left alone for some intervals, and then
`unsettled` says what of the promises does not hold: all linked, every feed with everybody, one view of who is in. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import msgspec

from ledger.entry import Observed
from ledger.events import SettingsChanged
from ledger.identity import Feed
from ledger.node import signals as sig
from ledger.node.dice import Dice
from ledger.node.state import MS, SECOND
from ledger.node.virtual import World
from ledger.node.virtual_node import Views, VirtualNode
from ledger.store import Ledger

FAULTS: Final = (
    "cut", "one-way", "delay", "loss", "restart", "power-cut", "rollback", "clock-step", "dns-nxdomain", "dns-timeout",
    "dns-servfail", "dns-nodata", "dns-elsewhere", "connection-limit", "disk-full", "stall", "disconnect", "rename",
)  # fmt: skip
NAMES: Final = (
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima", "mike",
    "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango",
)  # fmt: skip
QUIET_INTERVALS: Final = 12
LENGTHS_S: Final = (1, 5, 30, 90, 200, 600)


class Fault(msgspec.Struct, frozen=True):
    """What is broken, from second `at_s` on, for `for_s` seconds, at machine number `a` (and towards `b`)."""

    at_s: int
    word: str
    a: int = 0
    b: int = 1
    for_s: int = 60


def schedule(
    dice: Dice, machines: int, seconds: int, count: int, words: Sequence[str] = FAULTS, *, lengths_s: Sequence[int] = LENGTHS_S
) -> list[Fault]:
    """So many faults, drawn evenly over the time; each of `words` at least once if there are as many."""
    found = []
    for number in range(count):
        word = words[number] if number < len(words) else dice.choice(words)
        a = dice.below(machines)
        b = (a + 1 + dice.below(machines - 1)) % machines
        found.append(Fault(dice.below(max(seconds, 1)), word, a, b, dice.choice(lengths_s)))
    return sorted(found, key=lambda fault: fault.at_s)


class Run:
    """A world and what is done to it."""

    def __init__(self, world: World, interval_ns: int) -> None:
        self.world = world
        self.interval_ns = interval_ns
        self.names = list(world.nodes)
        self.asked = 0

    @property
    def nodes(self) -> dict[str, VirtualNode]:
        """The machines, by name."""
        return self.world.nodes

    @property
    def coverage(self) -> dict[str, int]:
        """How often each fault has happened."""
        return dict(self.world.coverage)

    def break_(self, fault: Fault) -> None:
        """Let a fault begin, and plan its end."""
        world = self.world
        a, b = (self.world.nodes[self.names[each % len(self.names)]] for each in (fault.a, fault.b))
        until = world.now_ns + fault.for_s * SECOND
        world.coverage[fault.word] += 1
        match fault.word:
            case "cut" | "one-way":
                pairs = {(a.name, b.name)} | ({(b.name, a.name)} if fault.word == "cut" else set())
                world.cuts |= pairs
                world.at(until, lambda: self._join(pairs))
            case "delay":
                world.slow_ns += 400 * MS
                world.at(until, lambda: self._ease(400 * MS, 0.0))
            case "loss":
                world.lossy += 0.1
                world.at(until, lambda: self._ease(0, 0.1))
            case "restart" | "rollback" | "power-cut":
                for node in world.nodes.values() if fault.word == "power-cut" else (a,):
                    self._restart(node, until, fault.b * 7 + 1 if fault.word == "rollback" else 0)
            case "clock-step":
                a.offset_ns += (fault.for_s if fault.b % 2 else -fault.for_s) * SECOND
            case "connection-limit":
                a.limited = True
                world.hang_up(a, "connection-limit", 1 + fault.b % 3)
                world.at(until, lambda: setattr(a, "limited", False))
            case "disk-full":
                a.full = True
                world.at(until, lambda: a.emptied() if a.full else None)
            case "stall":
                a.stalled_until = max(a.stalled_until, until)
            case "disconnect":
                self.command(a, "disconnect", b.name)
                world.at(until, lambda: self._reconnect(b))
            case "rename":
                name = f"{a.name}-{fault.at_s}.lab.example"
                if fault.b % 2:
                    world.table[name] = ("answered", (a.address,))
                self.command(a, "sethostname", a.name, hostname=name, force=not fault.b % 2)
                world.at(until, lambda: world.table.__setitem__(name, ("answered", (a.address,))))
            case _:
                self._dns(fault.word.removeprefix("dns-"), a, b, until)

    def _join(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.world.cuts -= set(pairs)
        self.world.heal()

    def _ease(self, slow_ns: int, lossy: float) -> None:
        self.world.slow_ns -= slow_ns
        self.world.lossy = max(0.0, round(self.world.lossy - lossy, 6))

    def _restart(self, node: VirtualNode, until: int, back: int) -> None:
        if node.mesh is None:
            return
        node.crash()
        if back:
            node.roll_back(back)
        self.world.at(until, lambda: node.start() if node.mesh is None else None)

    def _dns(self, outcome: str, a: VirtualNode, b: VirtualNode, until: int) -> None:
        """The name of one machine, as the server of another says it. Its links are dropped, so that the name is needed."""
        core = a.mesh.core if a.mesh is not None else None
        member = core.member(b.name) if core is not None else None
        name = (member.hostname if member is not None else None) or b.hostname
        elsewhere = next(node for node in self.world.nodes.values() if node is not b)
        a.dns[name] = ("answered", (elsewhere.address,)) if outcome == "elsewhere" else (outcome, ())
        if outcome == "elsewhere":
            self.world.coverage["dns elsewhere"] += 1
        self.world.hang_up(a)
        self.world.at(until, lambda: a.dns.pop(name, None))

    def _reconnect(self, machine: VirtualNode, again: int = 60) -> None:
        """End a disconnection, once the machine runs and has heard of it; until nobody believes in it any more."""
        cores = [node.mesh.core for node in self.nodes.values() if node.mesh is not None]
        if machine.mesh is not None and machine.name in machine.mesh.core.snapshot.planned:
            self.command(machine, "reconnect", machine.name)
        if again and (machine.mesh is None or any(machine.name in core.snapshot.planned for core in cores)):
            self.world.at(self.world.now_ns + 60 * SECOND, lambda: self._reconnect(machine, again - 1))

    def command(self, node: VirtualNode, ask: str, machine: str, **more: object) -> None:
        """An operator commands, at this machine."""
        self.asked += 1
        node.observe(sig.Commanded(self.asked, ask, machine, "operator", more))

    def unsettled(self) -> list[str]:
        """What does not hold though the world has been quiet; nothing, if all is well."""
        wrong = []
        running = {name: node for name, node in self.nodes.items() if node.mesh is not None}
        want = {feed: log for node in running.values() for feed, log in node.disk.items() if feed.machine == node.name}
        # Of what was written within the last intervals the tail may be on its way.
        before = SECOND + self.world.now_ns - 5 * self.interval_ns
        dues = {feed: sum(o.mono_ns is None or o.mono_ns < before for o in log) for feed, log in want.items()}
        for name, node in running.items():
            core = node.mesh.core if node.mesh is not None else None
            if core is None:
                continue
            if core.state != "running":
                wrong.append(f"{name} is {core.state}")
            for other in core.others:
                peer = core.peers.get(other)
                if peer is None or (peer.channel is None and not {name, other} & core.snapshot.planned):
                    wrong.append(f"{name} has no link to {other}: {peer.reason if peer else 'unknown to it'}")
            for feed, due in dues.items():
                held = len(node.disk.get(feed, ()))
                if held < due:
                    wrong.append(f"{name} holds {held} of {feed.name}, of which {due} of {len(want[feed])} are old enough")
        return wrong

    def save(self, folder: str) -> list[str]:
        """Every machine's ledger as a file in a folder that is there; their paths."""
        return [save(node.disk, f"{folder}/{name}.ledger") for name, node in self.nodes.items()]


def save(disk: dict[Feed, list[Observed]], path: str) -> str:
    """A disk as a ledger file."""
    with Ledger.create(path, incarnation=next(iter(disk)).incarnation) as ledger:
        for feed, log in disk.items():
            if log:
                ledger.append(log, observer=feed)
    return path


def simulate(
    seed: int, *, views: Views, machines: int = 5, seconds: int = 3600, faults: int | Sequence[Fault] = 12,
    words: Sequence[str] = FAULTS, settings: SettingsChanged | None = None, address: bool = False,
) -> Run:  # fmt: skip
    """Let so many machines run for so long, with so many faults (or just these), and then in quiet. `views`: makes the fold of a
    machine's record (see `World`). Raises AssertionError if a fault that was asked for never happened.
    """
    settings = settings or SettingsChanged(1)
    world = World(seed, views, NAMES[:machines], settings=settings, addressing="address" if address else "name")
    run = Run(world, settings.ping_interval_ms * MS)
    planned = schedule(world.dice.fork(), machines, seconds, faults, words) if isinstance(faults, int) else list(faults)
    for node in world.nodes.values():
        world.at(world.dice.below(2 * SECOND), node.start)
    for fault in planned:
        world.at(fault.at_s * SECOND, partial(run.break_, fault))
    last = max([seconds, *(fault.at_s + fault.for_s for fault in planned)])
    world.run(last * SECOND + 1)
    world.run(world.now_ns + QUIET_INTERVALS * run.interval_ns)
    missing = {fault.word for fault in planned} - set(world.coverage)
    if missing:
        raise AssertionError(f"never happened: {', '.join(sorted(missing))}")
    return run
