"""How links of a generated world are lost, and how they come to stand again.

Whoever gives up a link says so, which the other side hears as `reset` or as the reason told, if that message comes through;
a process that is gone answers with a reset, a machine without power not at all. A dial asks DNS, connects both ways, checks
the host key; the acceptor checks key, membership, plan, transport, the dialler's name (or, where addresses are used, the
reverse), and its limit, and tells the dialler why not. Back-off doubles up to an interval. What each side writes here is
what a node would have seen, and no more.

Pure: functions over a `Stage`.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from ledger import events as ev
from ledger.world_stage import SECOND_NS, SERVER, Link, Machine, Stage, holding
from ledger.world_truth import NO_SUCH_NAME, Answer

PORT: Final = 22
_LOOKUP_NS: Final = {"answered": 8_000_000, "nxdomain": 12_000_000, "mismatch": 8_000_000}
_LOOKUP_LONG_NS: Final = 2 * SECOND_NS
_DETAILS: Final[dict[str, str]] = {
    "timeout": "no answer in time",
    "reset": "Connection reset by peer",
    "closed": "closed by the other side",
    "refused": "Connection refused",
    "connection-limit": "more connections than allowed",
    "host-key-mismatch": "the host key is not that of the member",
    "auth-failed": "the key is not that of a member",
    "transport-mismatch": "the other side uses another transport",
    "reverse-timeout": "the reverse look-up timed out",
}

# ---- links that go down -------------------------------------------------------------------------------------------------


def lose(
    stage: Stage, machine: Machine, name: str, reason: ev.Reason, *,
    tell: ev.Reason | None, culprit: str | None = None, detail: str = "", seek: bool = True,
) -> None:  # fmt: skip
    """The machine gives up its link to `name`. `tell`: what the other side hears, if anything comes through. `seek`: it
    dials again.
    """
    link = machine.links.pop(name, None)
    if link is None:
        return
    peer = stage.machines[name]
    waiting = machine.pending.pop(name, None)
    if waiting is not None:
        ping_failed(stage, machine, name, waiting[0], reason=reason, link=link)
    machine.reasons[name], machine.missed[name] = reason, 0
    detail = detail or _DETAILS.get(reason, "")
    stage.write(machine, ev.LinkLost(name, reason, link.id, f"{peer.address}:{PORT}", culprit, detail))
    if machine.heard.get(name):
        stage.write(machine, ev.PingHeard(name, machine.heard[name]))
    if tell is not None and stage.passes(machine, peer) and peer.running:
        stage.after(stage.latency_ns(), peer, hear, peer, machine.name, link, (tell, culprit))
    if seek:
        want(stage, machine, name, stage.dice.between(500_000_000, 1_500_000_000))


def hear(stage: Stage, machine: Machine, name: str, link: Link, told: tuple[ev.Reason, str | None]) -> None:
    """The machine hears that the far side has given up this link: the reason told, and whose fault it was said to be."""
    reason, culprit = told
    if machine.links.get(name) is link:
        lose(stage, machine, name, reason, tell=None, culprit=culprit)


def ping_failed(stage: Stage, machine: Machine, name: str, number: int, *, reason: ev.Reason, link: Link | None) -> None:
    """A ping came to nothing, with or without a link to send it on."""
    event = ev.PingFailed(name, number, reason, link.id if link else None)
    stage.write(machine, holding(machine, stage.machines[name], event))


def hang_up(stage: Stage, machine: Machine, reason: ev.Reason) -> None:
    """The machine's process ends: its peers hear `reason`; it writes nothing any more."""
    for name, link in machine.links.items():
        peer = stage.machines[name]
        if stage.passes(machine, peer):
            stage.after(stage.latency_ns(), peer, hear, peer, machine.name, link, (reason, None))


# ---- links that come up -------------------------------------------------------------------------------------------------


def want(stage: Stage, machine: Machine, name: str, delay_ns: int) -> None:
    """The machine will dial `name`, unless it is about to already."""
    if name not in machine.dials and name not in machine.links:
        machine.dials[name] = 0
        stage.after(delay_ns, machine, _dial, machine, name)


def _wanted(machine: Machine, name: str) -> bool:
    off = machine.name in machine.planned or (name in machine.planned and name not in machine.eager)
    if name in machine.links or off or not {machine.name, name} <= machine.members:
        machine.dials.pop(name, None)
        return False
    return True


def _dial(stage: Stage, machine: Machine, name: str) -> None:
    if not _wanted(machine, name):
        return
    peer = stage.machines[name]
    if stage.addressing == "address":
        _connect(stage, machine, peer, peer.address)
        return
    hostname = machine.hostnames.get(name, peer.hostname)
    kept = _kept(stage, machine, hostname)
    if kept is not None:
        _connect(stage, machine, peer, kept.answers[0])
    else:
        answer = stage.truth.dns(hostname, stage.now_ns)
        stage.after(_LOOKUP_NS.get(answer.outcome, _LOOKUP_LONG_NS), machine, _looked_up, machine, peer, hostname, answer)


def _looked_up(stage: Stage, machine: Machine, peer: Machine, hostname: str, answer: Answer) -> None:
    if not _wanted(machine, peer.name):
        return
    note(stage, machine, hostname, answer)
    if answer.answers:
        _connect(stage, machine, peer, answer.answers[0])
    else:
        _in_vain(stage, machine, peer, "name-unresolvable", detail=f"{hostname}: {_said(answer)}")


def _said(answer: Answer) -> str:
    return {"nxdomain": "no such name", "timeout": "no answer from DNS"}.get(answer.outcome, answer.outcome)


def _kept(stage: Stage, machine: Machine, hostname: str) -> Answer | None:
    """What the machine was told of a name, while it may still use it. Only what was answered is kept."""
    until_ns, answer = machine.lookups.get(hostname, (0, NO_SUCH_NAME))
    return answer if until_ns > stage.now_ns else None


def note(stage: Stage, machine: Machine, name: str, answer: Answer, direction: str = "forward") -> None:
    """The machine records what it was told of a name, and keeps an answer for as long as it may."""
    ttl_s = max(1, stage.interval_ns // SECOND_NS // 2)
    took_us = _LOOKUP_NS.get(answer.outcome, _LOOKUP_LONG_NS) // 1000
    way: ev.NameResolved | ev.NameFailed
    if answer.outcome == "answered":
        machine.lookups[name] = stage.now_ns + ttl_s * SECOND_NS, answer
        way = ev.NameResolved(name, "forward" if direction == "forward" else "reverse", "answered", answer.answers, SERVER, ttl_s)
    else:
        way = ev.NameFailed(name, "forward" if direction == "forward" else "reverse", answer.outcome, answer.answers, SERVER)
    stage.write(machine, type(way)(**{each: getattr(way, each) for each in way.__struct_fields__} | {"took_us": took_us}))


def _connect(stage: Stage, machine: Machine, peer: Machine, address: str) -> None:
    """Whoever has the address answers, or nobody does."""
    found = next((each for each in stage.machines.values() if each.address == address), None)
    there = found is not None and found.powered and found.stalled_ns <= stage.now_ns
    if found is None and address.startswith("198.51.100."):  # a host of somebody else, without a listener
        _later(stage, machine, peer, "refused", delay_ns=2 * stage.latency_ns(), address=address)
    elif found is machine:
        _later(stage, machine, peer, "host-key-mismatch", delay_ns=stage.latency_ns(), address=address)
    elif found is None or not there or not (stage.passes(machine, found) and stage.passes(found, machine)):
        _later(stage, machine, peer, "timeout", delay_ns=min(stage.timeout_ns, stage.interval_ns // 2), address=address)
    elif not found.running:
        _later(stage, machine, peer, "refused", delay_ns=2 * stage.latency_ns(), address=address)
    elif found is not peer or peer.keys["host"] != _known_key(machine, peer, "host"):
        _later(stage, machine, peer, "host-key-mismatch", delay_ns=2 * stage.latency_ns(), address=address)
    else:
        stage.after(3 * stage.latency_ns(), None, _hello, peer, machine, machine.life)


def _known_key(machine: Machine, peer: Machine, role: str) -> str | None:
    """The newest key of the peer that the entries which the machine holds name."""
    found = None
    for act in machine.known:
        if isinstance(act.event, ev.MachineJoined) and act.event.machine == peer.name:
            found = act.event.host_key if role == "host" else act.event.dial_key
        elif isinstance(act.event, ev.KeyChanged) and act.feed.machine == peer.name and act.event.role == role:
            found = act.event.new
    return found


def _later(stage: Stage, machine: Machine, peer: Machine, reason: ev.Reason, *, delay_ns: int, address: str) -> None:
    stage.after(delay_ns, machine, partial(_in_vain, address=address), machine, peer, reason)


def _in_vain(
    stage: Stage, machine: Machine, peer: Machine, reason: ev.Reason, *, detail: str = "", address: str | None = None
) -> None:
    """A dial came to nothing: it is recorded, unless a link stands by now, and another one follows."""
    if not _wanted(machine, peer.name):
        return
    machine.reasons[peer.name] = reason
    if reason == "disconnected":
        machine.eager.discard(peer.name)
    where = f"{address}:{PORT}" if address else None
    culprit = machine.name if reason == "connection-limit" else None
    stage.write(machine, ev.LinkFailed(peer.name, reason, None, where, culprit, detail or _DETAILS.get(reason, "")))
    _again(stage, machine, peer.name)


def _again(stage: Stage, machine: Machine, name: str) -> None:
    tried = machine.dials[name] = machine.dials.get(name, 0) + 1
    longest_ns = min(SECOND_NS << min(tried, 20), stage.interval_ns)
    stage.after(stage.dice.between(longest_ns // 2, longest_ns), machine, _dial, machine, name)


def _hello(stage: Stage, acceptor: Machine, dialler: Machine, life: int) -> None:
    """The acceptor judges the dialler, who brings what entitles it."""
    if dialler.life != life:
        return
    if not acceptor.running or acceptor.stalled_ns > stage.now_ns:
        gone: ev.Reason = "timeout" if acceptor.running else "reset"
        delay_ns = stage.timeout_ns if acceptor.running else stage.latency_ns()
        _later(stage, dialler, acceptor, gone, delay_ns=delay_ns, address=acceptor.address)
        return
    pair = frozenset((acceptor.name, dialler.name))
    mine = acceptor.links.get(dialler.name)
    if stage.crossing.get(pair, 0) > stage.now_ns or (mine is not None and dialler.links.get(acceptor.name) is mine):
        stage.after(stage.latency_ns(), dialler, _crossed, dialler, acceptor)
        return
    reason = _objection(stage, acceptor, dialler)
    if reason is not None:
        delay_ns = 5 * SECOND_NS if reason == "reverse-timeout" else stage.latency_ns()
        _later(stage, dialler, acceptor, reason, delay_ns=delay_ns, address=acceptor.address)
        return
    stage.crossing[pair] = stage.now_ns + 20_000_000
    if mine is not None:
        lose(stage, acceptor, dialler.name, "closed", tell=None, detail="replaced by a newer connection", seek=False)
    dialler.dialled += 1
    link = Link(f"{dialler.name[:40]}-{dialler.boot}-{dialler.dialled}", dialler.name, acceptor.name)
    _stand(stage, acceptor, dialler, link, "accepted")
    stage.after(stage.latency_ns(), dialler, _stand, dialler, acceptor, link, "dialled")


def _crossed(stage: Stage, machine: Machine, peer: Machine) -> None:
    if _wanted(machine, peer.name):
        _again(stage, machine, peer.name)


def _objection(stage: Stage, acceptor: Machine, dialler: Machine) -> ev.Reason | None:
    """Why the acceptor refuses, None if it does not. What it looked up for that, it records."""
    for machine in (dialler, *(stage.by_feed[feed] for feed in dialler.held)):
        if machine is not acceptor:
            count = len(machine.log) if machine is dialler else dialler.held[machine.feed.id]
            stage.deliver(acceptor, machine.feed, count)
    if dialler.name not in acceptor.members or acceptor.name not in acceptor.members:
        return "not-a-member"
    if _known_key(acceptor, dialler, "dial") != dialler.keys["dial"]:
        return "auth-failed"
    if {dialler.name, acceptor.name} & acceptor.planned:
        return "disconnected"
    if dialler.transport != acceptor.transport:
        return "transport-mismatch"
    if stage.addressing == "address":
        answer = stage.truth.reverse[dialler.address].at(stage.now_ns)
        note(stage, acceptor, dialler.address, answer, "reverse")
        if answer.outcome == "timeout":
            return "reverse-timeout"
    else:
        answer = _kept(stage, acceptor, dialler.hostname) or stage.truth.dns(dialler.hostname, stage.now_ns)
        astray = bool(answer.answers) and dialler.address not in answer.answers
        if astray:
            note(stage, acceptor, dialler.hostname, Answer("mismatch", answer.answers))
            return "name-points-elsewhere"
        if _kept(stage, acceptor, dialler.hostname) is None:
            note(stage, acceptor, dialler.hostname, answer)
        if not answer.answers:
            return "name-unresolvable"
    return "connection-limit" if acceptor.full_ns > stage.now_ns else None


def _stand(stage: Stage, machine: Machine, peer: Machine, link: Link, side: str) -> None:
    if peer.name in machine.links or not stage.passes(peer, machine):
        _crossed(stage, machine, peer)  # the other side will find out by its next ping
        return
    machine.links[peer.name] = link
    machine.dials.pop(peer.name, None)
    machine.eager.discard(peer.name)
    machine.missed[peer.name] = 0
    where = f"{peer.address}:{PORT}"
    stage.write(
        machine, ev.LinkEstablished(peer.name, link.id, where, machine.transport, "dialled" if side == "dialled" else "accepted")
    )
    stage.sync(machine, peer)
