"""Who may link to this machine: a peer whose key the membership names, whose name leads to it, and that is not linked better.

Trust comes from the record alone. A hello names the entries that entitle its speaker; those that are not held yet are pulled
from the speaker itself, judged and taken in, and only then is it judged, so that a newcomer is no stranger. Then its main host
name is resolved (DNS is required on both sides), or in address mode its address is looked up in reverse. Crossing dials
are settled here: a newer boot, a dial by the old link's dialler, or a link that the other side knows to be gone, replaces
what stands; of two dials that cross, the smaller name's wins.
"""

from __future__ import annotations

from typing import Final

from ledger.events import JoinRefused, LinkFailed, Reason
from ledger.node import confirming, dialling, linking, replicating
from ledger.node.linking import refuse
from ledger.node.signals import LookedUp, LookUp, Opened, Probe, Probed, TurnedAway
from ledger.node.state import SECOND, Channel, Core, Peer
from ledger.node.view import Member
from ledger.node.wire import PROTOCOL, Hello, Place, Want

STRANGER_RUNS_MAX: Final = 256
"""Runs that are taken from one that is no member yet."""
PROBED_MAX_S: Final = 3600
LIMIT_NS: Final = 60 * SECOND


def opened(core: Core, seen: Opened) -> None:
    """Somebody opened a channel: it has a moment to say who it is."""
    channel = core.channels[seen.channel] = Channel(seen.channel, seen.key, seen.address)

    def late() -> None:
        if core.channels.get(channel.number) is channel and channel.stage in {"greeting", "judging"}:
            core.drop(channel)
            said = "it did not say who it is" if channel.stage == "greeting" else "what entitles it did not come"
            turned(core, channel, ("timeout", said))

    core.later(dialling.GREETING_NS * 2, late)


def greeted(core: Core, channel: Channel, heard: Hello) -> None:
    """The dialler says who it is."""
    channel.hello, channel.machine, channel.link, channel.stage = heard, heard.machine, heard.link, "judging"
    wrong = _mismatch(core, heard)
    if wrong is not None:
        turn_away(core, channel, *wrong)
        return
    judge(core, channel)


def _mismatch(core: Core, heard: Hello) -> tuple[Reason, str] | None:
    if heard.protocol != PROTOCOL:
        return "version-mismatch", f"protocol {heard.protocol} there, {PROTOCOL} here"
    if heard.incarnation != core.feed.incarnation:
        return "not-a-member", f"of incarnation {heard.incarnation[:12]}; this is {core.feed.incarnation[:12]}"
    here = core.snapshot.transport or "ssh", core.snapshot.addressing or "name"
    if (heard.transport, heard.addressing) != here:
        said = f"{heard.transport} by {heard.addressing} there, {here[0]} by {here[1]} here"
        return "transport-mismatch", f"{said}: one cluster uses one; remove all machines and start again"
    return None


def judge(core: Core, channel: Channel) -> None:
    """Whether the dialler is let in. Called again whenever something that it is entitled by has been taken in."""
    heard = channel.hello
    if heard is None or channel.stage != "judging":
        return
    missing = next((place for place in heard.entitled if _lacks(core, place)), None)
    if missing is not None and core.state == "running":
        if channel.runs < STRANGER_RUNS_MAX:
            feed = missing.feed.feed(core.feed.incarnation)
            if feed.id not in channel.wants:
                channel.runs += 1
                channel.wants[feed.id] = core.now.mono_ns
                core.send(channel, Want(missing.feed, core.holds(feed.id)))
            return
        turn_away(core, channel, "not-a-member", "what entitles it did not come")
        return
    member = core.snapshot.membership.machines.get(heard.machine)
    if member is None or not member.member:
        known = f"{heard.machine} {member.cause or 'left'}" if member is not None else f"{heard.machine} was never admitted"
        why = linking.place_of(core, member.since) if member is not None and member.dial_key == channel.key else None
        turn_away(core, channel, "not-a-member", known, why)
    elif member.dial_key != channel.key:
        turn_away(core, channel, "auth-failed", f"the key is not the one recorded for {heard.machine}")
    elif heard.machine == core.me:
        turn_away(core, channel, "name-points-elsewhere", "this is the dialler itself")
    elif {core.me, heard.machine} & core.snapshot.planned:
        planned = {name: core.member(name) for name in (core.me, heard.machine) if name in core.snapshot.planned}
        whose = next(each for each in planned.values() if each is not None)
        turn_away(
            core, channel, "disconnected", f"{whose.machine} is disconnected on purpose", linking.place_of(core, whose.planned)
        )
    elif core.snapshot.addressing == "address":
        _reverse(core, channel)
    else:
        _forward(core, channel, member)


def _lacks(core: Core, place: Place) -> bool:
    feed = place.feed.feed(core.feed.incarnation)
    return feed != core.feed and core.holds(feed.id).last < place.last


def _forward(core: Core, channel: Channel, member: Member) -> None:
    """The dialler's main host name has to give an address at which it answers with its host key."""
    name = member.hostname

    def answered(found: LookedUp) -> None:
        dialling.looked_up(core, found)
        if channel.stage != "judging":
            return
        if found.outcome != "answered" or not found.answers:
            turn_away(core, channel, "name-unresolvable", f"{found.name}: {found.outcome}")
            return
        # The address that it came from first: where there is no NAT, it is the one that answers.
        addresses = sorted(found.answers, key=lambda each: each != channel.address)
        _probe(core, channel, member, addresses, ttl_s=min(found.ttl_s or 0, PROBED_MAX_S))

    if name is None:
        turn_away(core, channel, "name-unresolvable", "no host name is recorded")
        return
    core.do(LookUp(core.ask(answered), name, "forward", cached=True))


def _probe(core: Core, channel: Channel, member: Member, addresses: list[str], *, ttl_s: int, said: str = "") -> None:
    if channel.stage != "judging":
        return
    if not addresses:
        turn_away(core, channel, "name-points-elsewhere", said)
        return
    address, *rest = addresses
    key = (address, str(member.port), member.host_key or "")
    if core.memo.get(key, -1) > core.now.mono_ns:
        settle(core, channel)
        return

    def answered(found: Probed) -> None:
        if found.key is not None and found.key == member.host_key:
            if ttl_s:
                core.memo[key] = core.now.mono_ns + ttl_s * SECOND
            if channel.stage == "judging":
                settle(core, channel)
            return
        why = "another key answers" if found.key is not None else f"{found.reason}: {found.detail}"
        _probe(core, channel, member, rest, ttl_s=ttl_s, said=f"{member.hostname} gives {address}, port {member.port}: {why}")

    core.do(Probe(core.ask(answered), address, member.port))


def _reverse(core: Core, channel: Channel) -> None:
    """In address mode only a look-up that times out refuses; a name that is missing is a finding in the log."""

    def answered(found: LookedUp) -> None:
        dialling.looked_up(core, found)
        if channel.stage != "judging":
            return
        if found.outcome == "timeout":
            turn_away(core, channel, "reverse-timeout", f"{found.name}: the reverse look-up timed out")
        else:
            settle(core, channel)

    core.do(LookUp(core.ask(answered), channel.address, "reverse", cached=True))


def settle(core: Core, channel: Channel) -> None:
    """It may in; now the pair keeps one of its links."""
    heard = channel.hello
    if heard is None or core.member(channel.machine) is None:
        return
    own = core.snapshot.membership.machines.get(core.me)
    if own is not None and not own.member:  # a leave is final, also in the moment before the end
        because = linking.place_of(core, own.since)
        refuse(core, channel, "left" if own.cause == "left" else "not-a-member", f"{core.me} {own.cause}", because=because)
        return
    peer = linking.peer_of(core, channel.machine)
    old = peer.channel
    if old is not None and old.hello is not None:
        newer = heard.boot > old.hello.boot
        gone = heard.replaces is not None and heard.replaces == old.link
        crossed = heard.boot == old.hello.boot and (not old.dialled or core.me > peer.machine)
        if not (newer or gone or crossed):
            refuse(core, channel, "closed", "another link of the pair stands", quiet=True)
            return
        linking.lose(core, peer, "reset" if newer else "closed", "the peer began anew" if newer else "the peer replaced it")
    elif _greeting(core, peer) and core.me < peer.machine:
        refuse(core, channel, "closed", "another link of the pair comes", quiet=True)
        return
    linking.establish(core, channel, heard)
    core.send(channel, dialling.hello(core, peer, channel.link))
    confirming.shown(core, heard.yours)
    replicating.greet(core, channel)


def _greeting(core: Core, peer: Peer) -> bool:
    """Whether this side's own dial stands and waits for its answer."""
    channel = core.channels.get(peer.dialling)
    return channel is not None and channel.stage == "greeting"


def turn_away(core: Core, channel: Channel, reason: Reason, detail: str, because: Place | None = None) -> None:
    """Refuse, and record it."""
    refuse(core, channel, reason, detail, because=because)
    if channel.hello is not None:
        turned(core, channel, (reason, detail))


def turned(core: Core, channel: Channel, why: tuple[Reason, str]) -> None:
    """Record who was turned away, by what it says or by the key it proved: each thing once an interval, or strangers could fill
    the log. Of a key that is no member's the address is all there is.
    """
    machine = channel.machine or next((each for each in core.others if _key(core, each) == channel.key), "")
    if machine == core.me or channel.dialled:
        return
    key = ("refused", machine, why[0], channel.address)
    if core.memo.get(key, -1) > core.now.mono_ns:
        return
    core.memo[key] = core.now.mono_ns + core.interval_ns
    # What somebody does who only calls himself so is no news of the machine's link, but that its key is another now may be.
    if machine and (_key(core, machine) == channel.key or why[0] not in {"protocol-error", "timeout"}):
        _record(core, machine, why, channel.address, channel.link or None)
    else:
        core.tell(JoinRefused(machine or channel.address, channel.address, why[0], why[1][: linking.DETAIL_MAX]))


def _key(core: Core, machine: str) -> str | None:
    member = core.member(machine)
    return member.dial_key if member is not None else None


def _record(core: Core, machine: str, why: tuple[Reason, str], address: str | None, link: str | None = None) -> None:
    """Somebody who is, or says to be, this machine was not let in. That says nothing of a link to it that stands."""
    reason, detail = why[0], why[1][: linking.DETAIL_MAX]
    peer = core.peers.get(machine)
    if peer is not None and peer.channel is not None:
        core.tell(JoinRefused(machine, address, reason, detail))
        return
    core.tell(LinkFailed(machine, reason, link, address, machine, detail))
    if peer is not None:
        peer.reason = reason


def at_limit(core: Core, seen: TurnedAway) -> None:
    """Connections were turned away at a limit: recorded at once, and what follows within a minute with its number at its end, so
    that a flood is an entry a minute. `who` is the member whose key was proved, else the address.
    """
    key = ("limit", seen.machine or "")
    core.memo["turned", *key] = core.memo.get(("turned", *key), 0) + seen.count
    if core.memo.get(key, -1) > core.now.mono_ns:
        return

    def tell() -> None:
        count = core.memo.pop(("turned", *key), 0)
        if not count:
            core.memo.pop(key, None)
            return
        core.memo[key] = core.now.mono_ns + LIMIT_NS
        detail = f"{count} connection{'s' if count > 1 else ''} turned away at a limit"
        if seen.machine is not None and seen.machine != core.me and core.member(seen.machine) is not None:
            _record(core, seen.machine, ("connection-limit", detail), seen.address)
        else:
            core.tell(JoinRefused(seen.address or "unknown", seen.address, "connection-limit", detail))
        core.later(LIMIT_NS, tell)

    tell()
