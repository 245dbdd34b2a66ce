"""Every machine pings every other, each interval, link or no link.

The pings of a machine are spread over the interval. One ping does four jobs: it shows that the link lives, bounds the difference
of two clocks by its four stamps, states how much is held of the peer's feed, and carries what is new in what can be given. A ping
that is not answered in time has failed, and a late answer never changes that; so many failures in a row, and the link is lost. A
member without a link is not pinged, and that is recorded as a failure with its cause.
"""

from __future__ import annotations

from typing import Final

from ledger.events import HeadWitnessed, PingAnswered, PingHeard
from ledger.node import linking, replicating
from ledger.node.state import MS, SECOND, Channel, Core, Peer, Pinged
from ledger.node.wire import Ping, Pong
from ledger.origins import origin_of

HOUR_NS: Final = 3600 * SECOND
BATCH: Final = 3
"""Every so manieth ping says how far the feeds of others can be given: below the 4 intervals for which a feed covers."""


def begin(core: Core, peer: Peer) -> None:
    """From now on the peer is pinged, at its own place in the interval."""
    if peer.pinging:
        return
    peer.pinging = core.next_number()
    others = core.others
    place = others.index(peer.machine) if peer.machine in others else 0
    first = core.interval_ns * place // max(len(others), 1) + core.dice.below(
        max(core.interval_ns // (4 * max(len(others), 1)), 1)
    )
    _again(core, peer, peer.pinging, first, core.now.mono_ns + first)


def _again(core: Core, peer: Peer, token: int, delay_ns: int, due_ns: int) -> None:
    def due() -> None:
        if peer.pinging != token or core.peers.get(peer.machine) is not peer or core.state == "stopping":
            return
        ping(core, peer)
        # From when it was due, not from when it was done, or the pace would drift; what was missed is not made up for.
        following = max(due_ns + core.interval_ns, core.now.mono_ns + core.interval_ns // 2)
        _again(core, peer, token, following - core.now.mono_ns, following)

    core.later(delay_ns, due)


def ping(core: Core, peer: Peer) -> None:
    """One ping, or its absence."""
    if core.member(peer.machine) is None or not core.writable:
        return
    peer.number += 1
    number, channel = peer.number, peer.channel
    if channel is None:
        planned = {core.me, peer.machine} & core.snapshot.planned
        linking.fail_ping(core, peer, number, "disconnected" if planned else peer.reason, None)
        return
    core.send(channel, Ping(number, core.now.mono_us, replicating.news(core, channel, own=number % BATCH != 0)))

    def late() -> None:
        pinged = peer.pending.pop(number, None)
        if pinged is None or core.peers.get(peer.machine) is not peer:
            return
        linking.fail_ping(core, peer, number, "timeout", pinged.link)
        peer.failed += 1
        if peer.channel is channel and peer.failed >= core.settings.lost_after:
            linking.lose(core, peer, "timeout", f"{peer.failed} pings without an answer")

    peer.pending[number] = Pinged(core.now.mono_ns, channel.link, core.later(core.settings.ping_timeout_ms * MS, late))


def pinged(core: Core, channel: Channel, heard: Ping) -> None:
    """A ping came: answer, and see whether numbers are missing before it."""
    peer = core.peers.get(channel.machine)
    if peer is None or peer.channel is not channel:
        return
    core.send(channel, Pong(
        heard.number, heard.sent_us, core.now.mono_us, core.now.mono_us, core.boot, _head(core, peer)
    ))  # fmt: skip
    if peer.heard and heard.number > peer.heard + 1:
        core.tell(PingHeard(peer.machine, peer.heard))
    peer.heard = max(peer.heard, heard.number)
    if heard.have:
        replicating.told(core, channel, heard.have)


def ponged(core: Core, channel: Channel, heard: Pong) -> None:
    """An answer came; one that nobody waits for any more changes nothing."""
    peer = core.peers.get(channel.machine)
    if peer is None or peer.channel is not channel:
        return
    pinged = peer.pending.get(heard.number)
    if pinged is None or pinged.link != channel.link:
        return
    del peer.pending[heard.number]
    pinged.late.call = None
    asked_us, returned_us = pinged.sent_ns // 1000, core.now.mono_us
    # The daemon stamps a ping as it leaves, and the answer brings that back; outside of these bounds nobody need believe it.
    sent_us = heard.sent_us if asked_us <= heard.sent_us <= returned_us else asked_us
    there = max(heard.replied_us - heard.received_us, 0)
    rtt_us = max(returned_us - sent_us - there, 0)
    feed = peer.feed
    held = core.holds(feed.id).last if feed is not None else 0
    core.tell(PingAnswered(
        peer.machine, heard.number, rtt_us, channel.link, sent_us, heard.received_us, heard.replied_us, returned_us,
        heard.boot, feed.id if feed is not None and held else None, held or None,
    ))  # fmt: skip
    peer.failed, peer.rtt_us, peer.answered_ns = 0, rtt_us, core.now.wall_ns
    if heard.head is not None and not witness(core, peer, heard.head):
        replicating.broke(core, channel, "a signed head of its feed that it did not sign")


def _head(core: Core, peer: Peer) -> str | None:
    """The own signed head, if the peer was not given one within the hour."""
    key = ("head", peer.machine)
    if core.memo.get(key, 0) > core.now.mono_ns:
        return None
    head = core.craft.head()
    if head is not None:
        core.memo[key] = core.now.mono_ns + HOUR_NS
    return head


def witness(core: Core, peer: Peer, text: str) -> bool:
    """Keep a signed head that a peer gave, if it says more than the last. Whether it can be one: of another feed it may be, of
    an epoch that is not known here yet.
    """
    feed = peer.feed
    if feed is None or feed.ledger_key is None:
        return True
    found = core.craft.opens(feed, text)
    if found is None:
        return text.partition("\n")[0] != origin_of(feed)
    if found[0] > core.memo.get(("witnessed", feed.id), 0):
        core.memo["witnessed", feed.id] = found[0]
        core.tell(HeadWitnessed(feed.id, *found))
    return True
