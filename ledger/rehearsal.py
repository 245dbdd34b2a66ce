"""A mesh on paper: a script of steps goes in, the feeds that its machines would have written come out.

The live node is not here, nor any part of it: this room only knows which entries follow from which happening, so that
generated histories look like real ones (link ids change at each establishment, numbers go up, entries held are true,
a join names what its machine's feed held) and still go wrong in every way the words below allow. One true clock runs
over all machines; each has its own error of the wall clock. A step that makes no sense where it falls does nothing, so
any part of a script is a script: that is what lets a failing one shrink.

Pure: no clock, no dice; `ledger.testing` draws the scripts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import msgspec

from ledger import events as ev
from ledger.entry import Observed, Opaque
from ledger.identity import IMPORTED, Feed, incarnation_id

_REASONS: Final[tuple[ev.Reason, ...]] = ("timeout", "reset", "refused", "closed", "connection-limit", "auth-failed")
_OLD, _NEW = "0.1.0", "0.2.0"
_AWAKENING: Final = frozenset({"start", "crash", "round", "mesh"})
"""Words that do not need the actor itself to be running."""
_PAIRED: Final = frozenset({"establish", "lose", "part", "fail", "refuse", "flap"})
"""Words that need another machine: nobody has a link to itself."""
_INTERVALS_MS: Final = (60_000, 1_000, 250, 600_000)


class Step(NamedTuple):
    """After `gap_ns` of true time, `actor` does or meets `word`, with regard to `peer`; `amount` is its size, if any."""

    gap_ns: int
    word: str
    actor: int
    peer: int
    amount: int


@dataclass
class Machine:
    """One machine of the rehearsal: its feeds, its clocks, its links as it sees them."""

    name: str
    feeds: list[Feed] = field(default_factory=list)
    wrong_ns: int = 0
    boot: int = 1
    running: bool = True
    links: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    dialled: int = 0

    @property
    def feed(self) -> Feed:
        """The feed it writes now."""
        return self.feeds[-1]


class Rehearsal:
    """The mesh while a script is played. `logs` holds each feed's entries in order."""

    def __init__(self, names: Iterable[str], start_ns: int, *, keyed: bool, scribes: int | None = None) -> None:
        """`names`: the machines; the first founds the cluster if `keyed`. `scribes`: how many of them keep a feed
        (default all; in a keyed cluster each gets one with its first admission).
        """
        self.now_ns = self.start_ns = start_ns
        self.keyed = keyed
        self.machines = [Machine(name) for name in names]
        self.logs: dict[Feed, list[Observed]] = {}
        self.joins: dict[str, list[str]] = {machine.name: [] for machine in self.machines}
        self.generation = 1
        self.interval_ms = _INTERVALS_MS[0]
        founder = self.machines[0].name
        self.incarnation = f"{IMPORTED}{'0' * 64}"
        if keyed:
            self.incarnation = incarnation_id("cluster", "ssh", "name", self._key(founder, 1), "salt")
        for machine in self.machines[: 1 if keyed else scribes]:
            self._open(machine, "new")
            if keyed:
                self._write(machine, ev.ClusterCreated("cluster", self.incarnation, "ssh", "name", "salt"))
            self._join(machine, machine, len(self.logs[machine.feed]))
            self._write(machine, ev.SettingsChanged(self.generation, self.interval_ms))
            self._write(machine, ev.NodeStarted(machine.boot, _OLD))

    def play(self, script: Iterable[Step]) -> dict[Feed, list[Observed]]:
        """All feeds after `script`."""
        for step in script:
            self.now_ns += max(0, step.gap_ns)
            actor = self.machines[step.actor % len(self.machines)]
            others = [machine for machine in self.machines if machine is not actor]
            peer = others[step.peer % len(others)] if others else actor
            if actor.feeds and (actor.running or step.word in _AWAKENING) and (others or step.word not in _PAIRED):
                getattr(self, f"_{step.word}")(actor, peer, step.amount)
        return self.logs

    # ---- what a step leaves behind ----------------------------------------------------------------------------------

    def _round(self, _actor: Machine, _peer: Machine, amount: int) -> None:
        """One interval passes and every running machine pings every other."""
        self.now_ns += self.interval_ms * 1_000_000
        for machine in self.machines:
            if machine.feeds and machine.running:
                for peer in self.machines:
                    if peer is not machine:
                        self._ping(machine, peer, amount)

    def _ping(self, actor: Machine, peer: Machine, amount: int) -> None:
        link, number = actor.links.get(peer.name), actor.numbers.get(peer.name, 0) + 1
        actor.numbers[peer.name] = number
        feed = peer.feed.id if peer.feeds else None
        held = len(self.logs[peer.feed]) if peer.feeds else None
        if link is None:
            self._write(actor, ev.PingFailed(peer.name, number, "no-route", None, feed, held))
        elif not peer.running:
            self._write(actor, ev.PingFailed(peer.name, number, "timeout", link, feed, held))
            self._lose(actor, peer, 0)
        else:
            answer = ev.PingAnswered(peer.name, number, amount, link, feed=feed, held=held)
            if self.keyed:
                here, there = self._mono_us(actor), self._mono_us(peer)
                answer = msgspec.structs.replace(
                    answer,
                    sent_us=here,
                    received_us=there,
                    replied_us=there,
                    returned_us=here + amount,
                    peer_boot=peer.boot,
                )
            self._write(actor, answer)

    def _mesh(self, _actor: Machine, _peer: Machine, amount: int) -> None:
        """Every running machine gets the links that it lacks."""
        for machine in self.machines:
            for peer in self.machines:
                if machine.feeds and machine.running and peer is not machine and peer.name not in machine.links:
                    self._establish(machine, peer, amount)

    def _fail(self, actor: Machine, peer: Machine, amount: int) -> None:
        """A ping of a link that stands gets no answer; the link is not given up."""
        number = actor.numbers[peer.name] = actor.numbers.get(peer.name, 0) + 1
        reason = _REASONS[amount % len(_REASONS)]
        self._write(actor, ev.PingFailed(peer.name, number, reason, actor.links.get(peer.name)))

    def _establish(self, actor: Machine, peer: Machine, amount: int) -> None:
        actor.dialled += 1
        link = actor.links[peer.name] = f"{actor.boot}-{actor.dialled}"
        self._write(actor, ev.LinkEstablished(peer.name, link, "10.0.0.7", "ssh", "dialled" if amount % 2 else "accepted"))

    def _lose(self, actor: Machine, peer: Machine, amount: int) -> None:
        link = actor.links.pop(peer.name, None)
        if link is not None:
            self._write(actor, ev.LinkLost(peer.name, _REASONS[amount % len(_REASONS)], link, "10.0.0.7", peer.name))

    def _part(self, actor: Machine, peer: Machine, amount: int) -> None:
        """The path between two machines breaks, and both notice (every third time: only the actor does)."""
        self._lose(actor, peer, amount)
        if peer.feeds and peer.running and amount % 3:
            self._lose(peer, actor, amount)

    def _refuse(self, actor: Machine, peer: Machine, amount: int) -> None:
        if peer.name not in actor.links:
            self._write(actor, ev.LinkFailed(peer.name, _REASONS[amount % len(_REASONS)], detail="dialled in vain"))

    def _flap(self, actor: Machine, peer: Machine, amount: int) -> None:
        for _ in range(amount % 3 + 1):
            self._lose(actor, peer, amount)
            self._establish(actor, peer, amount)

    def _silence(self, _actor: Machine, _peer: Machine, amount: int) -> None:
        """Nobody writes anything for some half intervals, or a nanosecond less or more than that."""
        self.now_ns += max(0, (amount % 12) * self.interval_ms * 500_000 + amount % 3 - 1)

    def _step(self, actor: Machine, _peer: Machine, amount: int) -> None:
        """The actor's wall clock is set, forward or back, by up to ten minutes."""
        by_ns = (amount // 2) * 10**9 * (1 if amount % 2 else -1)
        actor.wrong_ns += by_ns
        self._write(actor, ev.ClockStepped(by_ns))

    def _stop(self, actor: Machine, _peer: Machine, _amount: int) -> None:
        self._write(actor, ev.NodeStopped(actor.boot, _OLD))
        actor.running = False
        actor.links.clear()

    def _start(self, actor: Machine, peer: Machine, amount: int) -> None:
        if not actor.running:
            self._crash(actor, peer, amount)

    def _crash(self, actor: Machine, _peer: Machine, amount: int) -> None:
        """The actor comes up anew, with nothing said before; its clock may come up early."""
        actor.running, actor.boot = True, actor.boot + 1
        actor.links.clear()
        if amount % 4 == 3:
            actor.wrong_ns -= 90 * 10**9
        self._write(actor, ev.NodeStarted(actor.boot, _OLD))

    def _opaque(self, actor: Machine, _peer: Machine, amount: int) -> None:
        self._write(actor, Opaque("link.dreamt", amount % 3 + 1, b'{"peer":"bravo"}'))

    def _rename(self, actor: Machine, _peer: Machine, amount: int) -> None:
        old, new = f"{actor.name}.lab.example", f"{actor.name}-{amount % 5}.lab.example"
        self._write(actor, ev.HostnameChanged(old, new, forced=bool(amount % 2)))

    def _settings(self, actor: Machine, _peer: Machine, amount: int) -> None:
        self.generation += amount % 3  # two of one generation must be told apart as well
        self.interval_ms = _INTERVALS_MS[amount % len(_INTERVALS_MS)]
        self._write(actor, ev.SettingsChanged(self.generation, self.interval_ms))

    def _disconnect(self, actor: Machine, peer: Machine, amount: int) -> None:
        self._write(actor, ev.MachineDisconnected((peer if amount % 3 else actor).name, "operator"))

    def _reconnect(self, actor: Machine, peer: Machine, amount: int) -> None:
        self._write(actor, ev.MachineReconnected((peer if amount % 3 else actor).name, "operator"))

    def _note(self, actor: Machine, peer: Machine, amount: int) -> None:
        """Anything that is no evidence about a link."""
        several: tuple[ev.Event, ...] = (
            ev.NoteAdded("looked at it", "operator", f"mark-{amount}"),
            ev.PingHeard(peer.name, amount) if peer is not actor else ev.NodeStalled(amount),
            ev.NodeStalled(amount),
            ev.VersionChanged(_OLD, _NEW),
            ev.NameResolved(f"{peer.name}.lab.example", answers=("10.0.0.7",), ttl_s=60),
            ev.NameFailed(f"{peer.name}.lab.example", outcome="timeout"),
            ev.JoinRefused(peer.name, "10.0.0.9", "not-a-member"),
            ev.HeadWitnessed(actor.feed.id, amount, "0" * 64),
            ev.FeedReceived((peer.feeds or actor.feeds)[-1].id, amount),
        )
        self._write(actor, several[amount % len(several)])

    # ---- membership ---------------------------------------------------------------------------------------------------

    def _admit(self, actor: Machine, peer: Machine, amount: int) -> None:
        """The actor admits the peer: for the first time, again under its key, or (every fourth time) under a new one."""
        if not peer.feeds or amount % 4 == 3:
            self._join(actor, peer, 0, epoch=len(peer.feeds) + 1)
            self._open(peer, "new-key" if peer.feeds else "new")
            peer.running = True
            peer.links.clear()
            self._write(peer, ev.NodeStarted(peer.boot, _OLD))
        else:
            self._join(actor, peer, len(self.logs[peer.feed]))

    def _remove(self, actor: Machine, peer: Machine, amount: int) -> None:
        """The actor removes the peer, holding all of its feed or (every other time) a little less."""
        self._end(actor, peer, "removed", amount % 4 if amount % 2 else 0, amount)

    def _leave(self, actor: Machine, _peer: Machine, amount: int) -> None:
        self._end(actor, actor, "left", 0, amount)

    def _end(self, actor: Machine, gone: Machine, cause: Literal["left", "removed"], behind: int, amount: int) -> None:
        joins = self.joins[gone.name][-1:] if amount % 5 == 4 else self.joins[gone.name]
        held = max(0, len(self.logs[gone.feed]) - behind) if gone.feeds else 0
        epoch = gone.feed.epoch if gone.feeds and amount % 3 else None
        self._write(actor, ev.MachineLeft(gone.name, tuple(joins), held, cause, actor.name, epoch))

    def _rekey(self, actor: Machine, _peer: Machine, amount: int) -> None:
        """The actor changes a key; with a new ledger key it goes on in a new epoch."""
        old = self._key(actor.name, actor.feed.epoch)
        if not self.keyed or amount % 2:
            self._write(actor, ev.KeyChanged("host", old, f"{old} {amount}"))
        else:
            self._write(actor, ev.KeyChanged("ledger", old, self._key(actor.name, len(actor.feeds) + 1)))
            self._open(actor, "new-key")

    # ---- the pen ------------------------------------------------------------------------------------------------------

    def _key(self, name: str, epoch: int) -> str:
        return f"ed25519:{name}-{epoch}"

    def _open(self, machine: Machine, why: Literal["new", "new-key"]) -> None:
        epoch = len(machine.feeds) + 1
        key = self._key(machine.name, epoch) if self.keyed else None
        feed = Feed.of(self.incarnation, machine.name, epoch, key)
        machine.feeds.append(feed)
        self.logs[feed] = []
        self._write(machine, ev.FeedOpened(self.incarnation, machine.name, epoch, key, "new" if why == "new" else "new-key"))

    def _join(self, actor: Machine, who: Machine, held: int, epoch: int | None = None) -> None:
        epoch = epoch or (who.feed.epoch if who.feeds else 1)
        key = self._key(who.name, epoch) if self.keyed else None
        counted = who.feed.epoch if who.feeds and held % 3 else None
        event = ev.MachineJoined(who.name, f"{who.name}.lab.example", ledger_key=key, held=held, epoch=counted)
        self._write(actor, event)
        self.joins[who.name].append(actor.feed.at(len(self.logs[actor.feed])))

    def _write(self, machine: Machine, event: ev.Event | Opaque) -> None:
        boot, mono_ns = (machine.boot, self._mono_us(machine) * 1000) if self.keyed else (None, None)
        self.logs[machine.feed].append(Observed(self.now_ns + machine.wrong_ns, event, boot, mono_ns))

    def _mono_us(self, machine: Machine) -> int:
        return (self.now_ns - self.start_ns) // 1000 + machine.boot


WORDS: Final = (
    "round", "mesh", "establish", "lose", "part", "fail", "refuse", "flap", "silence", "step", "stop", "start", "crash", "opaque",
    "rename", "settings", "disconnect", "reconnect", "note", "admit", "remove", "leave", "rekey",
)  # fmt: skip
"""What may happen in a script, the plainest first."""
