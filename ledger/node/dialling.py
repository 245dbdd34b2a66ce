"""To dial a member: look its main host name up, try what it gives, greet, and be greeted.

Dialling goes to the address that the peer's main host name gives *now*: a look-up stands before every dial, and its outcome is
an event. What each attempt comes to is one too. An address given by DNS at which another machine answers, or nothing does
though the peer was met elsewhere, is `name-points-elsewhere`: DNS is then what has to be mended.
"""

from __future__ import annotations

from typing import Final

from ledger.events import NameFailed, NameResolved, Reason
from ledger.identity import Feed, parse_position
from ledger.node import linking
from ledger.node.signals import Dial, LookedUp, LookUp, Missed, Opened, Probe, Probed
from ledger.node.state import SECOND, Channel, Core, Peer
from ledger.node.view import Member
from ledger.node.wire import PROTOCOL, Bye, Hello, Place
from ledger.node.words import Named

GREETING_NS: Final = 10 * SECOND
ENTITLED_MAX: Final = 64
ABSENT: Final = ("refused", "timeout")


def looked_up(core: Core, found: LookedUp) -> None:
    """Record a look-up that was made."""
    if found.fresh:
        kind = NameResolved if found.outcome == "answered" else NameFailed
        core.tell(kind(found.name, found.direction, found.outcome, found.answers, found.server, found.ttl_s, found.took_us))


def dial(core: Core, peer: Peer, *, anyway: bool = False) -> None:
    """Begin to dial a peer, unless there is a reason not to. `anyway`: also one that is believed to be disconnected: it may have
    been reconnected while the two could not hear of each other.
    """
    member = core.member(peer.machine)
    planned = core.snapshot.planned
    if (
        member is None or core.member(core.me) is None or core.state == "stopping" or peer.channel is not None or peer.dialling
        or core.me in planned or (peer.machine in planned and not anyway)
    ):  # fmt: skip
        return
    if member.hostname is None or member.host_key is None:
        linking.fail(core, peer, "name-unresolvable", "no host name is recorded" if member.host_key else "no key is recorded")
        return
    if core.snapshot.addressing == "address":
        peer.dialling, peer.addresses = -1, (member.hostname,)
        _next(core, peer)
        return

    def answered(found: LookedUp) -> None:
        looked_up(core, found)
        if found.outcome != "answered" or not found.answers:
            linking.fail(core, peer, "name-unresolvable", f"{found.name}: {found.outcome}")
            return
        peer.addresses = found.answers
        _next(core, peer)

    peer.dialling = core.ask(answered)
    core.do(LookUp(peer.dialling, member.hostname))


def _next(core: Core, peer: Peer) -> None:
    """Dial the next of the addresses that the name gave."""
    member = core.member(peer.machine)
    if member is None or member.host_key is None:
        linking.cease(core, peer)
        return
    address, *rest = peer.addresses
    peer.addresses = tuple(rest)
    peer.dialling = core.next_number()
    core.do(Dial(peer.dialling, peer.machine, address, member.port, (member.host_key,), member.account))


def opened(core: Core, seen: Opened) -> None:
    """The dialled channel stands: greet."""
    peer = next((each for each in core.peers.values() if each.dialling == seen.channel), None)
    channel = Channel(seen.channel, seen.key, seen.address, machine=peer.machine if peer else "")
    if peer is None:
        core.drop(channel)
        return
    channel.link = f"{core.feed.id[:8]}-{core.boot:x}-{seen.channel:x}"
    core.channels[channel.number] = channel
    core.send(channel, hello(core, peer, channel.link))

    def late() -> None:
        if core.channels.get(channel.number) is channel and channel.stage == "greeting":
            core.drop(channel)
            linking.fail(core, peer, "timeout", "no greeting", channel.address, link=channel.link)

    core.later(GREETING_NS, late)


def missed(core: Core, seen: Missed) -> None:
    """The dial came to nothing: the next address, or none is left."""
    peer = next((each for each in core.peers.values() if each.dialling == seen.channel), None)
    if peer is None:
        return
    member = core.member(peer.machine)
    named = core.snapshot.addressing != "address"
    if named and seen.reason == "host-key-mismatch" and seen.address and member is not None:

        def answered(found: Probed) -> None:
            others = {each.host_key: name for name, each in core.snapshot.membership.machines.items() if name != peer.machine}
            if found.key is not None and found.key in others:
                _missed(core, peer, "name-points-elsewhere", f"{others[found.key]} answers there", seen.address)
            else:
                _missed(core, peer, "host-key-mismatch", seen.detail, seen.address)

        peer.dialling = core.ask(answered)
        core.do(Probe(peer.dialling, seen.address, member.port))
        return
    reason = seen.reason
    if named and reason in ABSENT and peer.met and seen.address not in peer.met:
        reason = "name-points-elsewhere"
    _missed(core, peer, reason, seen.detail, seen.address)


def _missed(core: Core, peer: Peer, reason: Reason, detail: str, address: str | None) -> None:
    if peer.addresses:
        _next(core, peer)
    else:
        linking.fail(core, peer, reason, detail, address)


def greeted(core: Core, channel: Channel, heard: Hello) -> bool:
    """The acceptor greets back. Whether the link stands."""
    peer = core.peers.get(channel.machine)
    wrong = _wrong(core, channel, heard)
    if peer is None or peer.dialling != channel.number or wrong:
        core.drop(channel)
        if peer is not None and wrong:
            linking.fail(core, peer, "protocol-error", wrong, channel.address, link=channel.link)
        return False
    if peer.channel is not None:
        core.drop(channel)
        return False
    if core.member(core.me) is None:  # it has left while it dialled
        core.drop(channel)
        linking.cease(core, peer)
        return False
    peer.dialling = 0
    linking.establish(core, channel, heard)
    return True


def _wrong(core: Core, channel: Channel, heard: Hello) -> str | None:
    if heard.incarnation != core.feed.incarnation:
        return f"the other side is of incarnation {heard.incarnation[:12]}"
    if heard.machine != channel.machine:
        return f"the other side calls itself {heard.machine}"
    if heard.link != channel.link:
        return "the other side greets another link"
    return None if heard.protocol == PROTOCOL else f"the other side speaks protocol {heard.protocol}"


def turned_away(core: Core, channel: Channel, heard: Bye) -> None:
    """The acceptor says no; quietly, if it has or awaits another link of the pair."""
    peer = core.peers.get(channel.machine)
    because = heard.because
    if core.state == "running" and linking.lacking(core, because[-1:]):
        linking.ask_why(core, channel, because)
    else:
        core.drop(channel)
    if peer is None or peer.dialling != channel.number:
        return
    if heard.quiet:
        peer.dialling, peer.addresses, peer.tried = 0, (), True
        peer.tries = max(peer.tries, 1)
        linking.plan(core, peer)
        return
    linking.fail(core, peer, heard.reason, heard.detail, channel.address, link=channel.link, culprit=core.me)


def hello(core: Core, peer: Peer, link: str) -> Hello:
    """The greeting of this machine to a peer."""
    own, theirs = core.member(core.me), core.member(peer.machine)
    return Hello(
        protocol=PROTOCOL, incarnation=core.feed.incarnation, machine=core.me, feed=Named.of(core.feed), last=core.last,
        boot=core.boot, software=core.software, transport="ccs" if core.snapshot.transport == "ccs" else "ssh",
        addressing="address" if core.snapshot.addressing == "address" else "name", link=link,
        hostname=own.hostname if own else None, port=core.port or None, entitled=entitled(core, own, theirs),
        replaces=peer.lost, yours=linking.held_of(core, peer.machine), checking=core.state == "checking",
    )  # fmt: skip


def entitled(core: Core, own: Member | None, theirs: Member | None) -> tuple[Place, ...]:
    """The entries by which this machine may in: its admission, back to the root, and whatever ended a disconnection."""
    found: dict[tuple[str, int], Place] = {}

    def add(feed: Feed, index: int) -> None:
        if feed.ledger_key is not None:
            found[feed.id, index] = Place(Named.of(feed), index)

    waiting = [own.joins[-1]] if own is not None and own.joins else []
    seen: set[str] = set()
    while waiting and len(seen) < ENTITLED_MAX // 2:
        position = waiting.pop()
        if position in seen:
            continue
        seen.add(position)
        there = core.feed_at(position)
        if there is None:
            continue
        add(*there)
        admitter = core.snapshot.membership.machines.get(there[0].machine)
        parsed = parse_position(position)
        if admitter is not None and admitter.joins and parsed is not None:
            waiting.append(admitter.joins[-1])
    places = list(found.values())[::-1]
    for each in (own, theirs):
        there = core.feed_at(each.planned) if each is not None and each.planned else None
        if there is not None and there[0].ledger_key is not None:
            places.append(Place(Named.of(there[0]), there[1]))
    if own is not None and core.changed_keys is not None and core.changed_keys[0].ledger_key is not None:
        places.append(Place(Named.of(core.changed_keys[0]), core.changed_keys[1]))
    return tuple(places[-ENTITLED_MAX:])
