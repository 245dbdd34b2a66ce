"""What befalls a generated world: the words of its script, each of which breaks something, says so to the truth, and mends it.

A word gets the machine it is about, another one, and an amount that decides how long, how much or which variant; where it makes
no sense it does nothing, so that any part of a script is a script. What it breaks it also mends, after a few intervals: long
enough that every observer has noticed. The `cause` of each fault is the word of DESIGN section 4 (or of `why`) that the
observers' entries can show.

Pure: functions over a `Stage`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ledger import events as ev
from ledger.world_acts import rename, set_clock
from ledger.world_links import lose
from ledger.world_mesh import kill, start, stop
from ledger.world_stage import SECOND_NS, Machine, Stage
from ledger.world_truth import Clock, Fault, FaultKind, Wire

NEVER_NS: Final = 2**62
_OLD: Final = "-old"
_ELSEWHERE: Final = "198.51.100.7"
"""An address of a host without a listener."""


def here(stage: Stage) -> list[Machine]:
    """The machines that run, are in by their own knowledge, and are not stalled: those that a word can be about."""
    return [
        machine
        for machine in stage.machines.values()
        if machine.running and machine.name in machine.members and machine.stalled_ns <= stage.now_ns
    ]


def lasting_ns(stage: Stage, amount: int) -> int:
    """How long a fault lasts: at least until every observer has noticed."""
    return stage.interval_ns * (stage.lost_after + 1 + amount % 4) + stage.timeout_ns + amount % 7 * stage.interval_ns // 7


def around(stage: Stage, *machines: Machine) -> tuple[Wire, ...]:
    """Every wire from and to these machines."""
    names = {machine.name for machine in machines}
    return tuple(wire for wire in stage.truth.cuts if names & set(wire))


def _both(a: Machine, b: Machine) -> tuple[Wire, ...]:
    return (a.name, b.name), (b.name, a.name)


def plant(
    stage: Stage, kind: FaultKind, subjects: Iterable[Machine], until_ns: int, *, cause: str | None, wires: tuple[Wire, ...]
) -> None:
    """The truth learns of a fault, from now to `until_ns`."""
    names = tuple(machine.name for machine in subjects)
    stage.truth.faults.append(Fault(stage.plant, kind, names, stage.now_ns, until_ns, cause, wires))


def _cut(stage: Stage, kind: FaultKind, subjects: Iterable[Machine], amount: int, *, cause: str, wires: tuple[Wire, ...]) -> None:
    """These wires carry nothing for a while."""
    span_ns = lasting_ns(stage, amount)
    plant(stage, kind, subjects, stage.now_ns + span_ns, cause=cause, wires=wires)
    _shift(stage, wires, 1)
    stage.after(span_ns, None, _shift, wires, -1)


def _shift(stage: Stage, wires: tuple[Wire, ...], by: int) -> None:
    for wire in wires:
        line = stage.truth.cuts[wire]
        line.set(stage.now_ns, line.now + by)


def _glitch(stage: Stage, machine: Machine) -> None:
    """Every connection of the machine breaks at once, as when a firewall forgets them."""
    for name in sorted(machine.links):
        lose(stage, machine, name, "reset", tell="reset")


def start_again(stage: Stage, machine: Machine, life: int, software: str | None = None) -> None:
    """The machine runs again, unless it has meanwhile."""
    if machine.life == life and not machine.running:
        start(stage, machine, software)


# ---- wires --------------------------------------------------------------------------------------------------------------


def one_way_cut(stage: Stage, actor: Machine, peer: Machine, amount: int) -> None:
    """Nothing from the actor comes to the peer any more; the way back is open."""
    _cut(stage, "one-way-cut", (actor, peer), amount, cause="timeout", wires=((actor.name, peer.name),))
    latest = stage.truth.faults[-1]
    stage.truth.faults[-1] = msgspec.structs.replace(latest, wires=_both(actor, peer))


def cut_both(stage: Stage, actor: Machine, peer: Machine, amount: int) -> None:
    """Nothing comes through between the two, either way."""
    _cut(stage, "cut", (actor, peer), amount, cause="timeout", wires=_both(actor, peer))


def isolate(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """Nothing comes through to the actor or from it."""
    _cut(stage, "observer-isolated", (actor,), amount, cause="observer-isolated", wires=around(stage, actor))


def partition(stage: Stage, actor: Machine, peer: Machine, amount: int) -> None:
    """Two sides, each of two machines at least, hear nothing of each other."""
    rest = [machine for machine in here(stage) if machine not in {actor, peer}]
    side = [actor, *(machine for place, machine in enumerate(rest) if amount >> place & 1)]
    other = [machine for machine in stage.machines.values() if machine not in side]
    if len(side) >= 2 and sum(machine in rest for machine in other) >= 1:
        names = {machine.name for machine in side}
        across = tuple(wire for wire in stage.truth.cuts if len(names & set(wire)) == 1)
        _cut(stage, "partition", side, amount, cause="partition", wires=across)


def loss(stage: Stage, actor: Machine, peer: Machine, amount: int) -> None:
    """Six of ten messages between the two get lost."""
    span_ns, wires = lasting_ns(stage, amount), _both(actor, peer)
    plant(stage, "loss", (actor, peer), stage.now_ns + span_ns, cause="timeout", wires=wires)
    _lossy(stage, wires, 600)
    stage.after(span_ns, None, _lossy, wires, 0)


def _lossy(stage: Stage, wires: tuple[Wire, ...], permille: int) -> None:
    for wire in wires:
        stage.truth.losses[wire].set(stage.now_ns, permille)


def flap(stage: Stage, actor: Machine, peer: Machine, amount: int) -> None:
    """The link is reset again and again, and back each time within seconds."""
    gap_ns, times = 5 * SECOND_NS, 2 + amount % 4
    plant(stage, "flap", (actor, peer), stage.now_ns + gap_ns * (times - 1) + SECOND_NS, cause="reset", wires=_both(actor, peer))
    for turn in range(times):
        stage.after(gap_ns * turn, actor, lose_by_name, actor, peer.name)


def lose_by_name(stage: Stage, machine: Machine, name: str) -> None:
    """The machine's link to `name`, if it has one, is reset."""
    lose(stage, machine, name, "reset", tell="reset")


def limit_drop(stage: Stage, actor: Machine, peer: Machine, _amount: int) -> None:
    """The actor opens more connections than the peer allows: the peer drops the link between the two."""
    if peer.name in actor.links:
        short_ns = min(3 * SECOND_NS, stage.interval_ns // 4)
        plant(stage, "limit-drop", (actor, peer), stage.now_ns + short_ns, cause="connection-limit", wires=_both(actor, peer))
        peer.full_ns = stage.now_ns + short_ns
        lose(stage, peer, actor.name, "connection-limit", tell="connection-limit", culprit=actor.name)


# ---- machines -----------------------------------------------------------------------------------------------------------


def target_down(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """The actor's process is killed, or (each other time) its power fails."""
    span_ns = lasting_ns(stage, amount)
    plant(stage, "target-down", (actor,), stage.now_ns + span_ns, cause="target-down", wires=around(stage, actor))
    kill(stage, actor, power=amount % 2 == 1)
    stage.after(span_ns, None, start_again, actor, actor.life)


def restart(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """The actor stops in order and runs again, within an interval or two."""
    span_ns = stage.interval_ns * (1 + amount % 8) // 4
    plant(stage, "restart", (actor,), stage.now_ns + span_ns, cause="target-down", wires=around(stage, actor))
    stop(stage, actor)
    stage.after(span_ns, None, start_again, actor, actor.life)


def stall(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """The actor's node stands still: it misses its own timers, and answers nobody."""
    span_ns = stage.interval_ns * (2 + amount % 5) // 2 + stage.timeout_ns
    plant(stage, "stall", (actor,), stage.now_ns + span_ns, cause="target-down", wires=around(stage, actor))
    actor.stalled_ns = stage.now_ns + span_ns
    stage.after(span_ns - 1, None, _wake, actor, actor.life, span_ns)


def _wake(stage: Stage, machine: Machine, life: int, span_ns: int) -> None:
    if machine.life == life:
        stage.write(machine, ev.NodeStalled(span_ns // 1_000_000))


def clock_step(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """The actor's wall clock is set, forward or back, by up to ten minutes."""
    by_ns = (1 + amount // 2 % 600) * SECOND_NS * (1 if amount % 2 else -1)
    plant(stage, "clock-step", (actor,), stage.now_ns, cause=None, wires=())
    set_clock(stage, actor, by_ns)


def skew(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """The actor's wall clock runs too fast or too slow from now on."""
    line = stage.truth.clocks[actor.name]
    wrong_ns = line.now.wall_ns(stage.now_ns) - stage.now_ns
    plant(stage, "skew", (actor,), stage.now_ns, cause=None, wires=())
    line.set(stage.now_ns, Clock(stage.now_ns, wrong_ns, (100 + amount % 400) * (1 if amount % 2 else -1)))


# ---- names and keys -----------------------------------------------------------------------------------------------------


def fresh_name(stage: Stage, machine: Machine) -> str:
    """A host name that nobody ever had."""
    return f"{machine.name}-{len(stage.truth.names)}.lab.example"


def renamed(stage: Stage, actor: Machine, _peer: Machine, _amount: int) -> None:
    """The actor gets another host name, and DNS knew it before."""
    if stage.addressing == "name":
        new = fresh_name(stage, actor)
        stage.publish(new, actor.address)
        plant(stage, "rename", (actor,), stage.now_ns, cause=None, wires=())
        rename(stage, actor, new, forced=False)


def renamed_without_dns(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """The actor gets a name that DNS does not know; then its connections break, and no new one can be made."""
    if stage.addressing == "name":
        span_ns, old = lasting_ns(stage, amount), actor.hostname
        plant(
            stage,
            "renamed-without-dns",
            (actor,),
            stage.now_ns + span_ns,
            cause="renamed-without-dns",
            wires=around(stage, actor),
        )
        rename(stage, actor, fresh_name(stage, actor), forced=True)
        stage.after(2 * SECOND_NS, actor, _glitch, actor)
        stage.after(span_ns, None, named_again, actor, actor.hostname, old if amount % 2 else None)


def named_again(stage: Stage, machine: Machine, name: str, old: str | None) -> None:
    """DNS learns the name, and the machine may take its old one back besides: who is cut off from it knows only the new one."""
    stage.publish(name, machine.address)
    if old is not None and machine.running and machine.hostname == name:
        rename(stage, machine, old, forced=False)


def points_elsewhere(stage: Stage, actor: Machine, peer: Machine, amount: int) -> None:
    """DNS gives the address of another host for the actor's name; when that is all that is cached, its connections break."""
    if stage.addressing == "name":
        wait_ns = stage.interval_ns
        span_ns = wait_ns + lasting_ns(stage, amount)
        plant(
            stage,
            "name-points-elsewhere",
            (actor,),
            stage.now_ns + span_ns,
            cause="name-points-elsewhere",
            wires=around(stage, actor),
        )
        stage.publish(actor.hostname, peer.address if amount % 2 else _ELSEWHERE)
        stage.after(wait_ns, actor, _glitch, actor)
        stage.after(span_ns, None, Stage.publish, actor.hostname, actor.address)


def reverse_timeout(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """The reverse zone answers nobody; then the actor's connections break. Only where machines are found by address."""
    if stage.addressing == "address":
        span_ns = lasting_ns(stage, amount)
        plant(stage, "reverse-timeout", (actor,), stage.now_ns + span_ns, cause="reverse-timeout", wires=around(stage, actor))
        for machine in stage.machines.values():
            stage.publish_reverse(machine.address, outcome="timeout")
            stage.after(span_ns, None, Stage.publish_reverse, machine.address, f"{machine.name}.lab.example")
        _glitch(stage, actor)


def host_key_mismatch(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """The actor comes up with other keys than those that membership names, as from an old image: who dials it sees another
    host key, and whom it dials refuses its own.
    """
    right = actor.keys
    if right["host"].endswith(_OLD):  # it has the wrong ones already
        return
    span_ns = lasting_ns(stage, amount)
    until_ns, wires = stage.now_ns + span_ns, around(stage, actor)
    _off(stage, "host-key-mismatch", actor)
    for cause in ("host-key-mismatch", "auth-failed"):  # one end says the one, the other the other
        plant(stage, "host-key-mismatch", (actor,), until_ns, cause=cause, wires=wires)
    _reborn(stage, actor, keys={**actor.keys, "host": f"{right['host']}{_OLD}", "dial": f"{right['dial']}{_OLD}"})
    stage.after(span_ns, None, _reborn, actor, right)


def _off(stage: Stage, kind: FaultKind, actor: Machine) -> None:
    """While it comes up as another, the actor does not run at all: the first phase of the story."""
    plant(stage, kind, (actor,), stage.now_ns + SECOND_NS, cause="target-down", wires=around(stage, actor))


def _reborn(stage: Stage, machine: Machine, keys: dict[str, str]) -> None:
    """The machine's node ends if it runs, and begins with these keys."""
    if machine.running:
        stop(stage, machine)
    machine.keys = keys
    stage.after(SECOND_NS, None, start_again, machine, machine.life)


def transport_mixed(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """A stranger with another transport asks to join and is refused, or (each other time) the actor comes up with another."""
    if amount % 2:
        plant(stage, "transport-mixed", (actor,), stage.now_ns, cause=None, wires=())
        other = "ccs" if stage.transport == "ssh" else "ssh"
        detail = f"this cluster uses {stage.transport}, not {other}: remove all machines and start again"
        stage.write(actor, ev.JoinRefused("stranger", "203.0.113.9", "transport-mismatch", detail))
        return
    span_ns = lasting_ns(stage, amount)
    _off(stage, "transport-mixed", actor)
    plant(stage, "transport-mixed", (actor,), stage.now_ns + span_ns, cause="transport-mismatch", wires=around(stage, actor))
    _converted(stage, actor, "ccs" if stage.transport == "ssh" else "ssh")
    stage.after(span_ns, None, _converted, actor, stage.transport)


def _converted(stage: Stage, machine: Machine, transport: ev.Transport) -> None:
    machine.transport = transport
    _reborn(stage, machine, machine.keys)
