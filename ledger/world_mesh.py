"""What machines of a generated world do by themselves: start and stop, ping each interval, heed who is in.

A ping whose request or answer is lost on a cut wire is a time-out, and after so many of them as the settings say the link is
given up; a peer that runs without that link answers with a reset. Numbers go up, with or without a link. A machine that
learns that somebody is in begins to ping and dial it; that somebody is out, it gives up the link; that it is out itself, it
stops in order.

Pure: functions over a `Stage`.
"""

from __future__ import annotations

from ledger import events as ev
from ledger.world_links import hang_up, hear, lose, ping_failed, want
from ledger.world_stage import SECOND_NS, Link, Machine, Stage, holding

# ---- who is in ----------------------------------------------------------------------------------------------------------


def regard(stage: Stage, machine: Machine) -> None:
    """Who is in has changed for the machine: it gives up links, makes links, or stops."""
    me = machine.name
    for name in sorted(machine.links):
        if not {me, name} <= machine.members:
            why = _gone(machine, me if me not in machine.members else name)
            lose(stage, machine, name, why, tell=why, seek=False)
        elif {me, name} & machine.planned:
            lose(stage, machine, name, "disconnected", tell="disconnected", seek=False)
    if me not in machine.members:
        stage.after(SECOND_NS // 10, machine, stop, machine)
        return
    for name in sorted(machine.members - {me}):
        if name not in machine.ticking:
            machine.ticking.add(name)
            stage.after(stage.dice.between(stage.interval_ns // 10, stage.interval_ns), machine, tick, machine, name)
        want(stage, machine, name, stage.dice.between(10_000_000, 300_000_000))


def _gone(machine: Machine, name: str) -> ev.Reason:
    """Why `name` is out, as far as the machine knows."""
    last = [act.event for act in machine.known if isinstance(act.event, ev.MachineLeft) and act.event.machine == name][-1:]
    return "left" if last and last[0].cause == "left" else "not-a-member"


# ---- coming and going ---------------------------------------------------------------------------------------------------


def start(stage: Stage, machine: Machine, software: str | None = None) -> None:
    """The machine's node begins to run: a new boot, and nothing left of what it knew of links."""
    old, machine.software = machine.software, software or machine.software
    machine.running = machine.powered = True
    machine.pushing = False
    machine.life += 1
    machine.boot += 1
    machine.boot_ns = stage.now_ns - stage.dice.between(SECOND_NS, 60 * SECOND_NS)
    stage.truth.running[machine.name].set(stage.now_ns, value=True)
    stage.write(machine, ev.NodeStarted(machine.boot, machine.software))
    if machine.software != old:
        stage.write(machine, ev.VersionChanged(old, machine.software))
    regard(stage, machine)


def stop(stage: Stage, machine: Machine) -> None:
    """It ends in order, and says so to its feed and its peers."""
    stage.write(machine, ev.NodeStopped(machine.boot, machine.software))
    hang_up(stage, machine, "closed")
    _end(stage, machine)


def kill(stage: Stage, machine: Machine, *, power: bool = False) -> None:
    """It ends with nothing said: its process is killed, or (`power`) the whole machine is dark."""
    if not power:
        hang_up(stage, machine, "reset")
    machine.powered = not power
    _end(stage, machine)


def _end(stage: Stage, machine: Machine) -> None:
    stage.truth.running[machine.name].set(stage.now_ns, value=False)
    machine.running, machine.pushing = False, False
    machine.life += 1
    machine.stalled_ns = 0
    for memory in (
        machine.links,
        machine.pending,
        machine.dials,
        machine.ticking,
        machine.lookups,
        machine.missed,
        machine.heard,
    ):
        memory.clear()


# ---- pings --------------------------------------------------------------------------------------------------------------


def tick(stage: Stage, machine: Machine, name: str) -> None:
    """The machine's ping to `name` is due."""
    if name not in machine.members or machine.name not in machine.members:
        machine.ticking.discard(name)
        return
    stage.after(stage.interval_ns, machine, tick, machine, name)
    waiting = machine.pending.get(name)
    if waiting is not None:  # its deadline passed while the machine was stalled
        _timed_out(stage, machine, name, waiting[0])
    number = machine.numbers[name] = machine.numbers.get(name, 0) + 1
    link = machine.links.get(name)
    if link is None:
        off = name in machine.planned or machine.name in machine.planned
        ping_failed(
            stage, machine, name, number, reason="disconnected" if off else machine.reasons.get(name, "no-route"), link=None
        )
        return
    peer, sent_us = stage.machines[name], stage.mono_ns(machine) // 1000
    machine.pending[name] = number, sent_us, link
    if stage.passes(machine, peer):
        stage.after(stage.latency_ns(), peer if peer.running else None, _request, machine, peer, link, number)
    stage.after(stage.timeout_ns, machine, _timed_out, machine, name, number)


def _request(stage: Stage, machine: Machine, peer: Machine, link: Link, number: int) -> None:
    if not peer.running or peer.links.get(machine.name) is not link:
        if peer.powered and stage.passes(peer, machine):
            stage.after(stage.latency_ns(), machine, hear, machine, peer.name, link, ("reset", None))
        return
    last = peer.heard.get(machine.name, 0)
    if number > last + 1 and last:
        stage.write(peer, ev.PingHeard(machine.name, last))
    peer.heard[machine.name] = number
    if stage.passes(peer, machine):
        now_us, took_us = stage.mono_ns(peer) // 1000, stage.dice.between(20, 300)
        reply = number, now_us, now_us + took_us, peer.boot
        stage.after(stage.latency_ns() + took_us * 1000, machine, _answer, machine, peer, link, reply)


def _answer(stage: Stage, machine: Machine, peer: Machine, link: Link, reply: tuple[int, int, int, int]) -> None:
    number, received_us, replied_us, boot = reply
    pending = machine.pending.get(peer.name)
    if pending is None or pending[0] != number or machine.links.get(peer.name) is not link:
        return  # late: it never rewrites what was recorded
    del machine.pending[peer.name]
    machine.missed[peer.name] = 0
    stage.sync(machine, peer)
    returned_us = stage.mono_ns(machine) // 1000
    rtt_us = max(0, (returned_us - pending[1]) - (replied_us - received_us))
    stamps = (pending[1], received_us, replied_us, returned_us, boot) if stage.keyed else ()
    stage.write(machine, holding(machine, peer, ev.PingAnswered(peer.name, number, rtt_us, link.id, *stamps)))


def _timed_out(stage: Stage, machine: Machine, name: str, number: int) -> None:
    pending = machine.pending.get(name)
    if pending is None or pending[0] != number:
        return
    del machine.pending[name]
    missed = machine.missed[name] = machine.missed.get(name, 0) + 1
    ping_failed(stage, machine, name, number, reason="timeout", link=pending[2])
    if missed >= stage.lost_after:
        lose(stage, machine, name, "timeout", tell="reset")
