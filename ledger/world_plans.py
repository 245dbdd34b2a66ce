"""What operators do to a generated world: admissions, leaves, removals, planned disconnections, upgrades.

These are no failures, but they take links down all the same, and whoever asks why must be told so. Some go wrong: two
admissions at once, a removal on one side of a partition, an upgrade that nobody announced and that brings a new name.
What is done for good lasts until the machine is admitted again.

Pure: functions over a `Stage`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ledger import events as ev
from ledger.world_acts import admit, remove, rename
from ledger.world_faults import around, fresh_name, here, isolate, lasting_ns, named_again, partition, plant, start_again
from ledger.world_mesh import stop
from ledger.world_stage import SECOND_NS, Machine, Stage

NEVER_NS: Final = 2**62


def joined(stage: Stage, actor: Machine, peer: Machine, amount: int) -> None:
    """The actor admits a machine that is out; each third time the peer admits one too, at once: another if there is one, or
    the same.
    """
    outside = [machine for machine in stage.machines.values() if not machine.running and not _in(stage, machine)]
    if not outside or not admit(stage, actor, outside[0]):
        return
    _back(stage, outside[0])
    if amount % 3 == 0:
        second = outside[1 % len(outside)]
        if peer.name in second.links or not admit(stage, peer, second):
            return
        _back(stage, second)
        plant(stage, "concurrent-admission", (actor, peer), stage.now_ns, cause=None, wires=())


def _in(stage: Stage, machine: Machine) -> bool:
    return any(machine.name in other.members for other in here(stage))


def _back(stage: Stage, machine: Machine) -> None:
    """The machine is in again: what was done to it for good is over."""
    faults = stage.truth.faults
    for place, fault in enumerate(faults):
        if fault.until_ns == NEVER_NS and fault.subjects[0] == machine.name:
            faults[place] = msgspec.structs.replace(fault, until_ns=stage.now_ns)


def left(stage: Stage, actor: Machine, _peer: Machine, _amount: int) -> None:
    """The actor leaves in order."""
    if len(here(stage)) > 2:
        plant(stage, "leave", (actor,), NEVER_NS, cause="left", wires=around(stage, actor))
        remove(stage, actor, actor, "left")


def removed(stage: Stage, actor: Machine, peer: Machine, _amount: int) -> None:
    """The actor removes the peer."""
    if len(here(stage)) > 2 and peer.name in actor.links:
        plant(stage, "removal", (peer, actor), NEVER_NS, cause="removed", wires=around(stage, peer))
        remove(stage, actor, peer, "removed")


def removed_on_one_side(stage: Stage, actor: Machine, peer: Machine, amount: int) -> None:
    """The peer is cut off with others or alone, and the actor's side removes it meanwhile."""
    if len(here(stage)) > 2:
        if amount % 2 and len(here(stage)) > 3:
            third = next(machine for machine in here(stage) if machine not in {actor, peer})
            partition(stage, peer, third, 0)
        else:
            isolate(stage, peer, actor, amount)
        stage.after(stage.interval_ns + stage.timeout_ns, actor, _removed_now, actor, peer)


def _removed_now(stage: Stage, actor: Machine, peer: Machine) -> None:
    if peer.name in actor.members and actor.name in actor.members:
        plant(stage, "one-sided-removal", (peer, actor), NEVER_NS, cause="removed", wires=around(stage, peer))
        remove(stage, actor, peer, "removed")


def disconnected(stage: Stage, actor: Machine, peer: Machine, amount: int) -> None:
    """An operator disconnects the peer, on whichever machine, and after a while reconnects it on itself."""
    if peer.name not in actor.planned:
        span_ns = lasting_ns(stage, amount)
        plant(stage, "disconnected", (peer,), stage.now_ns + span_ns, cause="disconnected", wires=around(stage, peer))
        stage.write(actor if amount % 2 else peer, ev.MachineDisconnected(peer.name, "operator", "maintenance"))
        stage.after(span_ns, None, _reconnected, peer)


def _reconnected(stage: Stage, machine: Machine) -> None:
    """The operator ends it, on the machine itself and so when it runs; only then the fault is over. Who is reconnected dials
    everybody once, also those whom it knows as disconnected: two that were both could else wait for each other for ever.
    """
    plans = [
        act.event
        for act in stage.truth.acts
        if isinstance(act.event, ev.MachineDisconnected | ev.MachineReconnected) and act.event.machine == machine.name
    ]
    if machine.name not in machine.members or not isinstance(plans[-1], ev.MachineDisconnected):
        return
    if not machine.running or machine.stalled_ns > stage.now_ns:
        stage.after(stage.interval_ns // 4, None, _reconnected, machine)
        return
    faults = stage.truth.faults
    for place, fault in enumerate(faults):
        if fault.cause == "disconnected" and fault.subjects[0] == machine.name and fault.until_ns <= stage.now_ns:
            faults[place] = msgspec.structs.replace(fault, until_ns=stage.now_ns)
    machine.eager = set(machine.members)
    stage.write(machine, ev.MachineReconnected(machine.name, "operator"))


def upgraded(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """The actor is upgraded as the book says: new name and DNS first (each other time), then disconnected, stopped, started
    with the new version, reconnected.
    """
    if actor.name in actor.planned:
        return
    if amount % 2 and stage.addressing == "name":
        new = fresh_name(stage, actor)
        stage.publish(new, actor.address)
        rename(stage, actor, new, forced=False)
    span_ns = lasting_ns(stage, amount)
    plant(stage, "upgrade", (actor,), stage.now_ns + span_ns + SECOND_NS, cause="disconnected", wires=around(stage, actor))
    stage.write(actor, ev.MachineDisconnected(actor.name, "operator", "upgrade"))
    stage.after(SECOND_NS, actor, stop, actor)
    stage.after(span_ns, None, start_again, actor, actor.life + 1, _newer(actor))
    stage.after(span_ns + SECOND_NS, None, _reconnected, actor)


def upgraded_unprepared(stage: Stage, actor: Machine, _peer: Machine, amount: int) -> None:
    """The actor is upgraded with no word before: it stops, and comes up with a new version and (each other time) a host name
    that DNS learns only later.
    """
    down_ns, span_ns = stage.interval_ns * (1 + amount % 8) // 4, lasting_ns(stage, amount)
    plant(stage, "upgrade-unprepared", (actor,), stage.now_ns + down_ns, cause="target-down", wires=around(stage, actor))
    stop(stage, actor)
    if amount % 2 and stage.addressing == "name":
        stage.after(down_ns, None, _renamed_at_start, actor, actor.life, span_ns)
    else:
        stage.after(down_ns, None, start_again, actor, actor.life, _newer(actor))


def _renamed_at_start(stage: Stage, machine: Machine, life: int, span_ns: int) -> None:
    if machine.life == life and not machine.running:
        wires = around(stage, machine)
        plant(stage, "upgrade-unprepared", (machine,), stage.now_ns + span_ns, cause="renamed-without-dns", wires=wires)
        start_again(stage, machine, life, _newer(machine))
        rename(stage, machine, fresh_name(stage, machine), forced=True)
        stage.after(span_ns, None, named_again, machine, machine.hostname, None)


def _newer(machine: Machine) -> str:
    major, minor, rest = machine.software.split(".")
    return f"{major}.{int(minor) + 1}.{rest}"
