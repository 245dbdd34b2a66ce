"""Every machine comes to hold every feed: who has what, who asks whom, and what is passed on at once.

A machine says how far it can give each feed (`Have`), when a link is made, when something other than pings arrives, and with
every third ping. Who lacks something asks for it, one run at a time and one link per feed, so that bulk never delays a ping; what
does not come in time is asked of another. The own entries are pushed without being asked to whoever asked for what was before
them: pings once an interval, so that each word is spoken once for all peers, and anything else at once. So the entries of a
machine reach one that has no link to it, and the log of a machine that died is with the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from ledger.entry import Entry
from ledger.node import linking
from ledger.node.replicas import QUIET, Held
from ledger.node.signals import Give, Take, Took
from ledger.node.state import MS, SECOND, Channel, Core
from ledger.node.wire import Have, Nothing, Place, Push, Want
from ledger.node.words import Named

PATIENCE_NS: Final = 10 * SECOND
GATHER_NS: Final = 50 * MS
"""What arrives within so short a time is told of once."""
PLACES_MAX: Final = 400
TICK: Final = ("tick",)
"""Under it the core remembers when pings are pushed next, or were last."""
NOTHING: Final = (Named("none", 1, ""), 0)


def greet(core: Core, channel: Channel) -> None:
    """A link stands: say what there is."""
    feeds = news(core, channel)
    if feeds:
        core.send(channel, Have(feeds))


def news(core: Core, channel: Channel, *, own: bool = False) -> tuple[Place, ...]:
    """How far each feed (or the own alone) can be given, where the other side was not told and does not have as much; they count
    as told. What is pushed anyway is not told of.
    """
    found: list[Place] = []
    told, have, mine = channel.told, channel.have, core.feed.id
    pushed = mine if mine in channel.given else ""
    if own and pushed:
        return ()
    for feed_id, last in ((mine, core.gives.get(mine, 0)),) if own else core.gives.items():
        if last > told.get(feed_id, 0) and feed_id != pushed and last > have.get(feed_id, NOTHING)[1]:
            found.append(Place(core.named[feed_id], last))
            told[feed_id] = last
            if len(found) == PLACES_MAX:
                break
    return tuple(found)


def wrote(core: Core, entries: Sequence[Entry]) -> None:
    """Own entries are stored. What is more than pings goes out at once, pings with the next tick."""
    if core.feed.id not in core.named:
        core.named[core.feed.id] = Named.of(core.feed)
    core.last = core.gives[core.feed.id] = entries[-1].index
    if QUIET.issuperset([entry.event.kind for entry in entries]):
        _tick(core)
        return
    _push(core)
    if any(peer.channel is not None and core.feed.id not in peer.channel.given for peer in core.peers.values()):
        _spread(core)


def _tick(core: Core) -> None:
    """Push what is there at the next tick, one of which there is an interval. The first is half of one away: a machine with a
    single peer then has one result at each tick, and not now two and now none.
    """
    tick = core.memo.get(TICK, 0)
    if tick > core.now.mono_ns:
        return
    following = tick + core.interval_ns
    if following <= core.now.mono_ns:
        following = core.now.mono_ns + core.interval_ns // 2
    core.memo[TICK] = following
    core.later(following - core.now.mono_ns, partial(_push, core))


def _push(core: Core) -> None:
    """Give what is new of the own feed to all who had what was before it."""
    for peer in core.peers.values():
        channel = peer.channel
        if channel is not None and core.feed.id in channel.given:
            channel.told[core.feed.id] = core.last
            core.do(Give(channel.number, core.named[core.feed.id], None))


def _spread(core: Core) -> None:
    """Tell all linked peers soon of what is new."""
    if core.memo.get(("spread",), -1) > core.now.mono_ns:
        return
    core.memo["spread",] = core.now.mono_ns + GATHER_NS

    def tell() -> None:
        for peer in core.peers.values():
            if peer.channel is not None:
                greet(core, peer.channel)

    core.later(GATHER_NS, tell)


def told(core: Core, channel: Channel, feeds: tuple[Place, ...]) -> None:
    """The other side says how far it can give feeds."""
    for place in feeds:
        feed_id = core.feed_of(place.feed).id
        core.can_give(channel, feed_id, place.feed, place.last)
        if place.last > core.holds(feed_id).last:
            want(core, feed_id)


def want(core: Core, feed_id: str) -> None:
    """Ask for what is missing of a feed, if somebody has it and nobody was asked."""
    if core.state == "checking" or not core.writable:
        return
    if feed_id in core.wanted and core.now.mono_ns - core.wanted[feed_id][1] < PATIENCE_NS:
        return
    held = core.holds(feed_id)
    if core.most.get(feed_id, 0) <= held.last:
        return  # nobody has more: what follows would find that too, by asking every channel
    able = [
        peer.channel
        for peer in core.peers.values()
        if peer.channel is not None and peer.channel.have.get(feed_id, NOTHING)[1] > held.last
    ]
    if able:
        # The feed's own machine first: what it says is the newest.
        channel = min(able, key=lambda each: (each.have[feed_id][0].machine != each.machine, -each.have[feed_id][1], each.number))
        ask(core, channel, channel.have[feed_id][0], held)


def want_all(core: Core) -> None:
    """From now on runs are taken: ask for all that was said to be there while they were not."""
    for feed_id in {feed_id: None for peer in core.peers.values() if peer.channel is not None for feed_id in peer.channel.have}:
        want(core, feed_id)


def ask(core: Core, channel: Channel, feed: Named, after: Held) -> None:
    """Ask one for a run; if it does not come in time, ask another, and after an interval the same one again."""
    feed_id = core.feed_of(feed).id
    asked = core.wanted[feed_id] = channel.number, core.now.mono_ns
    core.send(channel, Want(feed, after))

    def late() -> None:
        if core.wanted.get(feed_id) == asked:
            del core.wanted[feed_id]
            last = channel.have.pop(feed_id, NOTHING)[1]
            core.later(core.interval_ns, lambda: again(last))
            want(core, feed_id)

    def again(last: int) -> None:
        if core.channels.get(channel.number) is channel and last > channel.have.get(feed_id, NOTHING)[1]:
            core.can_give(channel, feed_id, feed, last)
            want(core, feed_id)

    core.later(PATIENCE_NS, late)


def _came(core: Core, channel: Channel, feed_id: str) -> None:
    """What was asked for on this channel is here, or will not come."""
    if core.wanted.get(feed_id, (0, 0))[0] == channel.number:
        del core.wanted[feed_id]


def asked(core: Core, channel: Channel, heard: Want) -> None:
    """The other side asks for a run."""
    feed_id = core.feed_of(heard.feed).id
    channel.given.add(feed_id)
    core.can_give(channel, feed_id, heard.feed, heard.after.last)
    core.do(Give(channel.number, heard.feed, heard.after))


def nothing(core: Core, channel: Channel, heard: Nothing) -> None:
    """There was no run to give."""
    _came(core, channel, heard.feed)
    channel.have.pop(heard.feed, None)
    want(core, heard.feed)


def pushed(core: Core, channel: Channel, heard: Push) -> None:
    """A run came. While the record is being checked, or the medium refuses, nothing is taken; it is remembered that it is to be
    had, for it may be the last that there is of its feed.
    """
    run = heard.run
    feed_id, last = run.word.id, run.word.last
    core.can_give(channel, feed_id, run.feed, max(last, channel.have.get(feed_id, NOTHING)[1]))
    if core.state == "checking" or not core.writable:
        _came(core, channel, feed_id)
        return
    if feed_id != core.feed.id:
        core.wanted.setdefault(feed_id, (channel.number, core.now.mono_ns))  # until it is judged, nobody is asked for it
    core.do(Take(channel.number, run))


def took(core: Core, seen: Took, *, quiet: bool) -> None:
    """A run was judged. `quiet`: it brings results of pings and the like alone."""
    feed_id = seen.feed.id
    channel = core.channels.get(seen.channel)
    if seen.refused == "medium":  # nothing is wrong with the run: it is asked for again
        if channel is not None:
            _came(core, channel, feed_id)
        core.later(PATIENCE_NS, partial(want, core, feed_id))
        return
    grew = seen.held.last > core.held.get(feed_id, Held()).last
    if seen.feed != core.feed:
        core.held[feed_id] = seen.held
        if feed_id not in core.named:
            core.named[feed_id] = Named.of(seen.feed)
        if seen.gives > core.gives.get(feed_id, 0):
            core.gives[feed_id] = seen.gives
    if channel is not None:
        _came(core, channel, feed_id)
        channel.wants.pop(feed_id, None)
        channel.runs = 0 if grew else channel.runs
        feed, last = channel.have.get(feed_id, (core.named.get(feed_id), 0))
        if feed is not None and seen.held.last > last and seen.refused is None:
            core.can_give(channel, feed_id, feed, seen.held.last)
    if seen.refused in {"signature", "malformed"} and channel is not None:
        broke(core, channel, f"{seen.feed.name}: {seen.refused}: {seen.detail}")
    elif seen.again is not None and channel is not None and channel.runs < 1000:
        channel.runs += 1
        ask(core, channel, Named.of(seen.feed), seen.again)
    elif seen.refused is not None and channel is not None:
        channel.have.pop(feed_id, None)
    if not quiet:
        _spread(core)
    if grew or seen.refused is not None:
        want(core, feed_id)


def broke(core: Core, channel: Channel, detail: str) -> None:
    """The other side breaks the protocol: it is dropped, and so it stands in the log."""
    peer = core.peers.get(channel.machine)
    if peer is not None and peer.channel is channel:
        linking.lose(core, peer, "protocol-error", detail, channel.machine)
    elif peer is not None and peer.dialling == channel.number:
        core.drop(channel)
        linking.fail(core, peer, "protocol-error", detail, channel.address, link=channel.link, culprit=channel.machine)
    else:
        core.drop(channel)
        core.stranger(channel, "protocol-error", detail)
