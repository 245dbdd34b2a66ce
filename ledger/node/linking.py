"""A link stands, and a link is lost: what is recorded, what is ended, and when it is tried again.

Every machine links to every other, one channel per pair. A lost link is recorded first and aborted then: a graceful close would
wait for a peer that may be dead. It is dialled again after a back-off with jitter, which for a drop by the connection limit
stays at a second or two, so that the mesh is whole again within seconds and without an operator. Links that are lost again and
again soon after they came to stand are tried ever less often, whatever the interval: every loss costs all machines some work,
and where they are too busy to answer in time already, that work is what keeps them so.
"""

from __future__ import annotations

from typing import Final

from ledger.events import LinkEstablished, LinkFailed, LinkLost, PingFailed, PingHeard, Reason
from ledger.node.signals import Abort
from ledger.node.state import MS, SECOND, Channel, Core, Peer
from ledger.node.wire import SHOWN_MAX, Bye, Hello, Place, Shown, Want
from ledger.node.words import Named

BACKOFF_NS: Final = 500 * MS
SOON_NS: Final = 2 * SECOND
BACKOFF_MAX_NS: Final = 60 * SECOND
YIELD_NS: Final = 700 * MS
"""The larger name of a pair waits so long before it dials, so that most pairs dial once."""
STEADY_NS: Final = 10 * SECOND
"""A link that stood so long was a good one."""
BRIEF_MAX: Final = 3
"""After more links than that in a row which did not stand so long, the interval bounds the back-off no more, but this does."""
STORM_MAX_NS: Final = 30 * SECOND
ENDING_NS: Final = 2 * SECOND
DETAIL_MAX: Final = 1000
GROUNDS_MAX: Final = 16
RUNS_MAX: Final = 256
"""So many runs are asked for, and given, on a channel that ends."""


def peer_of(core: Core, machine: str) -> Peer:
    """What is kept of a member."""
    found = core.peers.get(machine)
    if found is None:
        found = core.peers[machine] = Peer(machine)
    return found


def establish(core: Core, channel: Channel, hello: Hello) -> None:
    """Both sides have greeted each other: the link stands."""
    peer = peer_of(core, channel.machine)
    channel.stage, channel.hello = "up", hello
    cease(core, peer)
    if peer.boot != hello.boot:
        peer.boot, peer.heard = hello.boot, 0
    peer.channel, peer.failed, peer.reason, peer.tried = channel, 0, "unknown", True
    peer.met.add(channel.address)
    peer.since_ns, peer.lost, peer.feed = core.now.mono_ns, None, hello.feed.feed(core.feed.incarnation)
    core.tell(LinkEstablished(
        peer.machine, channel.link, channel.address, hello.transport, "dialled" if channel.dialled else "accepted"
    ))  # fmt: skip


def lose(core: Core, peer: Peer, reason: Reason, detail: str = "", culprit: str | None = None) -> None:
    """The link of a peer is gone: its open pings have failed, it is recorded, then ended."""
    channel, peer.channel = peer.channel, None
    if channel is None:
        return
    link, address = channel.link, channel.address
    for number, pinged in sorted(peer.pending.items()):
        fail_ping(core, peer, number, reason, pinged.link)
        pinged.late.call = None
    peer.pending.clear()
    core.tell(LinkLost(peer.machine, reason, link, address, culprit, detail[:DETAIL_MAX]))
    if peer.heard:
        core.tell(PingHeard(peer.machine, peer.heard))
    core.drop(channel)
    peer.reason, peer.lost, peer.failed = reason, link, 0
    # One that did not stand for long is tried again less and less often, as one that did not come to stand at all.
    steady = core.now.mono_ns - peer.since_ns > STEADY_NS
    peer.tries, peer.brief = (0, 0) if steady else (peer.tries + 1, peer.brief + 1)
    plan(core, peer)


def fail(
    core: Core, peer: Peer, reason: Reason, detail: str = "", address: str | None = None,
    *, link: str | None = None, culprit: str | None = None,
) -> None:  # fmt: skip
    """A dial came to nothing."""
    core.tell(LinkFailed(peer.machine, reason, link, address, culprit, detail[:DETAIL_MAX]))
    peer.dialling, peer.addresses, peer.tried, peer.reason = 0, (), True, reason
    peer.tries += 1
    plan(core, peer)


def fail_ping(core: Core, peer: Peer, number: int, reason: Reason, link: str | None) -> None:
    """A ping has failed."""
    feed = peer.feed
    held = core.holds(feed.id).last if feed is not None else 0
    core.tell(PingFailed(peer.machine, number, reason, link, feed.id if feed is not None and held else None, held or None))


def plan(core: Core, peer: Peer) -> None:
    """Dial again after the back-off, unless there is a link by then."""
    cap = min(BACKOFF_MAX_NS, max(core.interval_ns, STORM_MAX_NS if peer.brief > BRIEF_MAX else SOON_NS))
    if peer.reason == "connection-limit":
        cap = SOON_NS
    delay = core.jitter(min(cap, BACKOFF_NS << min(peer.tries, 10)))
    if core.me > peer.machine and peer.tries == 0:
        delay += YIELD_NS
    peer.redial = core.next_number()
    token = peer.redial

    def again() -> None:
        if peer.redial == token and peer.machine in core.peers:
            core.redial(peer)

    core.later(delay, again)


def cease(core: Core, peer: Peer) -> None:
    """Stop dialling a peer: there is no need any more."""
    if peer.dialling:
        core.questions.pop(peer.dialling, None)
        channel = core.channels.get(peer.dialling)
        if channel is None or channel.stage != "up":
            core.channels.pop(peer.dialling, None)
            core.do(Abort(peer.dialling))
    peer.dialling, peer.addresses, peer.redial = 0, (), 0


def refuse(
    core: Core, channel: Channel, reason: Reason, detail: str, *, quiet: bool = False, because: Place | None = None
) -> None:
    """Tell the other side why the channel ends; it has a moment to hear it and to close, or to ask for the entry that is why."""
    yours = held_of(core, channel.hello.machine) if channel.hello is not None else ()
    channel.stage, channel.offers = "ending", _grounds(core, because)
    core.send(channel, Bye(reason, detail[:DETAIL_MAX], quiet, None, channel.offers, yours))
    end_later(core, channel)


def _grounds(core: Core, because: Place | None) -> tuple[Place, ...]:
    """An entry, after what it rests on: the ends of its machine's earlier feeds, in which that says which key it signs with."""
    if because is None:
        return ()
    writer = core.snapshot.membership.machines.get(because.feed.machine)
    feeds = [feed for feed in writer.feeds if feed.epoch < because.feed.epoch] if writer is not None else []
    earlier = [Place(Named.of(feed), core.holds(feed.id).last) for feed in feeds if feed.ledger_key != because.feed.key]
    return (*earlier[1 - GROUNDS_MAX :], because)


def lacking(core: Core, places: tuple[Place, ...]) -> tuple[Place, ...]:
    """Those entries that are not held here."""
    return tuple([place for place in places if core.holds(core.feed_of(place.feed).id).last < place.last])


def ask_why(core: Core, channel: Channel, because: tuple[Place, ...]) -> None:
    """Ask on a channel that ends for the entry that is why, run by run, and for what it rests on before it."""
    channel.stage, channel.asks = "ending", lacking(core, because)
    if channel.asks and channel.runs < RUNS_MAX:
        channel.runs += 1
        first = channel.asks[0].feed
        core.send(channel, Want(first, core.holds(core.feed_of(first).id)))
    end_later(core, channel)


def may_ask(channel: Channel, feed: Named) -> bool:
    """Whether the other side of a channel that ends may ask for a run of this feed."""
    return channel.runs < RUNS_MAX and any(feed == place.feed for place in channel.offers)


def end_later(core: Core, channel: Channel) -> None:
    """End a channel in a moment from here, if the other side does not."""
    channel.until_ns = core.now.mono_ns + ENDING_NS

    def end() -> None:
        if core.channels.get(channel.number) is channel and core.now.mono_ns >= channel.until_ns:
            core.drop(channel)

    core.later(ENDING_NS, end)


def held_of(core: Core, machine: str) -> tuple[Shown, ...]:
    """What is held of a machine's last feeds, as it is shown to that machine: it may have lost it."""
    known = core.snapshot.membership.machines.get(machine)
    words = [(feed, core.craft.word(feed.id)) for feed in known.feeds[-SHOWN_MAX:]] if known is not None else []
    return tuple([Shown(Named.of(feed), word) for feed, word in words if word is not None])


def place_of(core: Core, position: str | None) -> Place | None:
    """An entry that decided something, as others may ask for it."""
    found = core.feed_at(position) if position is not None else None
    return Place(Named.of(found[0]), found[1]) if found is not None and found[0].ledger_key is not None else None
