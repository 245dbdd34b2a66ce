"""What operators may ask of this machine: leave, remove, disconnect, reconnect, sethostname, rekey, status.

A command is judged, and may be refused; what was done is an event like any other, and is answered only once it is stored. Each
gives the position of its entry. `sethostname` is refused unless the name leads, by DNS as this machine sees it, to a listener
with this machine's own host key: a cluster would otherwise lose it at the next dial. The last machine takes the cluster with it,
so that it has to be said twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ledger.errors import LedgerError
from ledger.events import (
    ClusterDissolved,
    Event,
    HostnameChanged,
    KeyChanged,
    MachineDisconnected,
    MachineLeft,
    MachineReconnected,
)
from ledger.identity import host_name
from ledger.node import dialling
from ledger.node.signals import Halt, LookedUp, LookUp, Probe, Probed
from ledger.node.state import SECOND, Core

Answered = Callable[[Mapping[str, Any]], None]
SHUT = ("auth-failed", "not-a-member")
ELSEWHERE = ("leave", "sethostname", "status")
"""What a machine does by itself, wherever it was commanded; the rest is a word about a machine, which any member can say."""


def no(error: str, *, hint: str | None = None, code: int = 1) -> dict[str, Any]:
    """A refusal."""
    return {"ok": False, "error": error, "hint": hint, "exit": code}


def perform(core: Core, ask: str, machine: str, by: str | None, *, more: Mapping[str, Any], answered: Answered) -> None:
    """Do what is asked about `machine`; `answered` is called once, at once or later."""
    if ask == "status":
        answered({"ok": True, **status(core)})
        return
    if core.state != "running" or not core.writable:
        why = "its disk is full" if not core.writable else "it does not know yet whether its own record is whole"
        answered(no(f"{core.me} takes no commands now: {why}", hint="try again in a minute"))
        return
    if core.member(machine) is None:
        known = ", ".join(core.snapshot.membership.names)
        answered(no(f"{machine} is no member", hint=f"members are {known}", code=2))
        return
    if ask == "leave":
        _leave(core, by, bool(more.get("dissolve")), answered)
    elif ask == "remove":
        _remove(core, machine, by, answered)
    elif ask == "disconnect":
        if machine in core.snapshot.planned:
            answered(no(f"{machine} is disconnected already"))
        else:
            _say(core, MachineDisconnected(machine, by, str(more.get("text") or "")[:4096]), machine, answered)
    elif ask == "reconnect":
        if machine not in core.snapshot.planned:
            answered(no(f"{machine} is not disconnected"))
        else:
            _say(core, MachineReconnected(machine, by), machine, answered)
    elif ask == "rekey":
        _rekey(core, str(more.get("role")), str(more.get("new")), answered)
    elif ask == "sethostname":
        _sethostname(core, str(more.get("hostname") or ""), force=bool(more.get("force")), answered=answered)
    else:
        answered(no(f"a node is not asked to {ask}", code=2))


def _say(core: Core, event: Event, machine: str, answered: Answered) -> None:
    """Record it, and answer with its position once it is stored."""
    core.tell(event)
    core.awaiting.append((event, lambda pos: answered({"ok": True, "machine": machine, "pos": pos, "detail": None})))


def _leave(core: Core, by: str | None, dissolve: bool, answered: Answered) -> None:
    own = core.member(core.me)
    joins = own.joins if own is not None else ()
    last = not core.others
    if last and not dissolve:
        answered(no(f"{core.me} is the last machine: the cluster would end with it", hint="say so with --dissolve", code=2))
        return
    core.leaving = True
    gone_after = core.last + core.waiting + 1
    _say(core, MachineLeft(core.me, joins, gone_after, "left", _machine(core, by), core.feed.epoch), core.me, answered)
    if last:
        core.tell(ClusterDissolved(core.snapshot.name or "", core.feed.incarnation))

    def gone() -> None:
        core.state = "stopping"
        core.do(Halt("left"))

    core.later(2 * SECOND, gone)


def _remove(core: Core, machine: str, by: str | None, answered: Answered) -> None:
    if machine == core.me:
        answered(no(f"{machine} is this machine itself", hint="`meshledger leave` lets it leave", code=2))
        return
    member = core.member(machine)
    newest = core.newest(member) if member is not None else None
    held, epoch = (core.holds(newest.id).last, newest.epoch) if newest is not None else (0, None)
    joins = member.joins if member is not None else ()
    _say(core, MachineLeft(machine, joins, held, "removed", _machine(core, by), epoch), machine, answered)


def _rekey(core: Core, role: str, new: str, answered: Answered) -> None:
    """The new key is made already, and used from when this is stored: members who hear of it end the links of an old `host` or
    `dial` key; under a new `ledger` key a new feed begins.
    """
    own = core.member(core.me)
    keys = {"host": own.host_key, "dial": own.dial_key, "ledger": core.feed.ledger_key} if own is not None else {}
    old = keys.get(role)
    if old is None or old == new:
        answered(no(f"{core.me} has no other {role} key to change from"))
    else:
        changed: Any = role
        _say(core, KeyChanged(changed, old, new), core.me, answered)


def _machine(core: Core, by: str | None) -> str | None:
    """`by` of a departure names a machine."""
    return by if by in core.snapshot.membership.machines else core.me


def _sethostname(core: Core, text: str, *, force: bool, answered: Answered) -> None:
    try:
        name = host_name(text)
    except LedgerError as error:
        answered(no(error.message, hint=error.hint, code=2))
        return
    own = core.member(core.me)
    if own is None or own.hostname is None:
        answered(no("this machine has no host name to change"))
        return
    old, key, port = own.hostname, own.host_key, core.port or own.port

    def done() -> None:
        _say(core, HostnameChanged(old, name, force), core.me, answered)

    def probe(addresses: list[str], said: str) -> None:
        if not addresses:
            answered(no(f"{name} does not lead to this machine: {said}", hint="update the DNS record first, or --force"))
            return
        address, *rest = addresses

        def found(seen: Probed) -> None:
            if seen.key is not None and seen.key == key:
                done()
            else:
                probe(rest, f"{address}: {'another key answers' if seen.key is not None else seen.detail or seen.reason}")

        core.do(Probe(core.ask(found), address, port))

    def resolved(seen: LookedUp) -> None:
        dialling.looked_up(core, seen)
        if force:
            done()
        else:
            probe(list(seen.answers) if seen.outcome == "answered" else [], f"{name}: {seen.outcome}")

    if core.snapshot.addressing == "address":
        done() if force else probe([name], "nothing answers there")
    else:
        core.do(LookUp(core.ask(resolved), name))


def _shut_out(core: Core) -> str | None:
    """A machine without a link, some of whose dials met a door that its key does not open, may be the last to know."""
    peers = [core.peers[name] for name in core.others if name in core.peers]
    if any(peer.channel is not None for peer in peers) or not any(peer.reason in SHUT for peer in peers):
        return None
    return "others refuse this machine's key: it may have been removed while it was cut off (ask `meshledger members` there)"


def status(core: Core) -> dict[str, Any]:
    """How this node is now."""
    own = core.member(core.me)
    routes = core.view.at(core.now.wall_ns).routes
    members = {}
    for name in core.snapshot.membership.names:
        member = core.member(name)
        peer = core.peers.get(name)
        channel = peer.channel if peer is not None else None
        feed = peer.feed if peer is not None and peer.feed is not None else core.newest(member) if member else None
        route = routes.get((core.me, name)) if name != core.me else None
        held = core.holds(feed.id).last if feed is not None else 0
        members[name] = {
            "hostname": member.hostname if member else None,
            "linked": channel is not None,
            "link": channel.link if channel else None,
            "side": ("dialled" if channel.dialled else "accepted") if channel else None,
            "address": channel.address if channel else None,
            "rtt_us": peer.rtt_us if peer else None,
            "last_ping_ns": peer.answered_ns if peer else None,
            "held": feed.at(held) if feed is not None and held else None,
            "disconnected": name in core.snapshot.planned,
            "route": list(route) if isinstance(route, tuple) else None,
        }
    return {
        "machine": core.me, "cluster": core.snapshot.name, "incarnation": core.feed.incarnation,
        "transport": core.snapshot.transport or "ssh", "addressing": core.snapshot.addressing or "name",
        "hostname": own.hostname if own else None, "software": core.software, "boot": core.boot,
        "since_ns": core.since.wall_ns, "at_ns": core.now.wall_ns, "state": core.state,
        "position": core.feed.at(core.last), "members": members, "hint": _shut_out(core),
    }  # fmt: skip
