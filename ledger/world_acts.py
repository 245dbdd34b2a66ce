"""What is done to a generated world by hand: founded, joined, left, planned, upgraded, its clocks set.

An admission names what the newcomer's feed has by then, and hands it all that the admitter holds; a removal names the joins
that its writer knows of, and how much it holds of the subject's feed. Nothing here goes wrong: what does is in `world_faults`.
Without keys (imports) each feed begins with its machine's own join.

Pure: functions over a `Stage`.
"""

from __future__ import annotations

from typing import Literal

from ledger import events as ev
from ledger.world_mesh import start
from ledger.world_stage import CLUSTER, SECOND_NS, Machine, Stage
from ledger.world_truth import Clock


def found(stage: Stage, founder: Machine) -> None:
    """The cluster begins with its first machine."""
    _open(stage, founder)
    if stage.keyed:
        stage.write(founder, ev.ClusterCreated(CLUSTER, stage.incarnation, stage.transport, stage.addressing, stage.salt))
        _join(stage, founder, founder)
    truth = stage.truth
    settings = ev.SettingsChanged(1, truth.interval_ns // 1_000_000, truth.timeout_ns // 1_000_000, truth.lost_after)
    stage.write(founder, settings)
    start(stage, founder)


def admit(stage: Stage, actor: Machine, newcomer: Machine) -> bool:
    """The actor admits a machine that is out, for the first time or again. False, and nothing happened, if it cannot."""
    if newcomer.name in actor.members or newcomer.running or not stage.passes(actor, newcomer):
        return False
    _join(stage, actor, newcomer)
    stage.after(5_000_000, None, _begin, newcomer, actor)
    return True


def _begin(stage: Stage, newcomer: Machine, actor: Machine) -> None:
    if newcomer.running:  # two admitted it at once, and the other one was sooner
        return
    if not newcomer.log:
        _open(stage, newcomer)
    newcomer.heard.clear()
    for feed, count in ((actor.feed.id, len(actor.log)), *actor.held.items()):
        stage.deliver(newcomer, stage.by_feed[feed].feed, count)
    start(stage, newcomer)


def _open(stage: Stage, machine: Machine) -> None:
    feed = machine.feed
    stage.write(machine, ev.FeedOpened(feed.incarnation, feed.machine, feed.epoch, feed.ledger_key))
    if not stage.keyed:
        _join(stage, machine, machine)


def _join(stage: Stage, actor: Machine, who: Machine) -> None:
    keys = who.keys
    event = ev.MachineJoined(
        who.name, who.hostname, 22 if stage.transport == "ssh" else 2222, None, keys["host"], keys["dial"],
        keys["ledger"] if stage.keyed else None, len(who.log), stage.addressing,
    )  # fmt: skip
    stage.write(actor, event)


def remove(stage: Stage, actor: Machine, subject: Machine, cause: Literal["left", "removed"]) -> None:
    """The actor ends every join of the subject that it knows of."""
    joins = tuple(
        act.feed.at(act.index)
        for act in actor.known
        if isinstance(act.event, ev.MachineJoined) and act.event.machine == subject.name
    )
    held = len(subject.log) + 1 if actor is subject else actor.held.get(subject.feed.id, 0)
    stage.write(actor, ev.MachineLeft(subject.name, joins, held, cause, actor.name, subject.feed.epoch))


def rename(stage: Stage, machine: Machine, new: str, *, forced: bool) -> None:
    """`sethostname`: the machine's main host name is another from now on."""
    old, machine.hostname = machine.hostname, new
    stage.write(machine, ev.HostnameChanged(old, new, forced))


def set_clock(stage: Stage, machine: Machine, by_ns: int) -> None:
    """The machine's wall clock is set, and it says by how much."""
    now = stage.truth.clocks[machine.name].now
    wrong_ns = now.wall_ns(stage.now_ns) - stage.now_ns + by_ns
    stage.truth.clocks[machine.name].set(stage.now_ns, Clock(stage.now_ns, wrong_ns, now.ppm))
    if machine.running:
        stage.write(machine, ev.ClockStepped(by_ns))


def found_all(stage: Stage, names: list[str]) -> None:
    """The founder admits everybody who is in from the beginning, one after another."""
    founder, *others = (stage.machines[name] for name in names)
    found(stage, founder)
    for place, newcomer in enumerate(others, 1):
        stage.after(place * SECOND_NS // 5, founder, admit, founder, newcomer)
