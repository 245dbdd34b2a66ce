"""The core of a node, without wires: observations and the time go in, events and actions come out.

    mesh.observe(now, Heard(channel, message))
    events = mesh.take_events()      # store them, tell `mesh.stored`, and only then
    actions = mesh.take_actions()    # do these

`Mesh` says which room deals with what, and which message may come at which stage of a channel; anything else breaks the
protocol. It applies to the view what is stored, and when who is in, what is planned or which settings hold has changed, it brings
links and pings in line with that (`reconcile`). No asyncio, no clock, no dice of its own: given the same observations it
does the same, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from ledger.entry import Entry, Observed
from ledger.events import KeyChanged, MachineLeft, MachineReconnected, NodeStarted, NodeStopped, Reason, VersionChanged
from ledger.identity import Feed
from ledger.node import (
    admission,
    admitting,
    clockwatch,
    confirming,
    dialling,
    farewell,
    forwarding,
    linking,
    pinging,
    replicating,
    wire,
)
from ledger.node import signals as sig
from ledger.node.dice import Dice
from ledger.node.replicas import QUIET, Held
from ledger.node.state import Channel, Core, Peer
from ledger.node.view import Craft, View
from ledger.node.words import Named

ACTS: Final = frozenset((
    "feed.opened", "cluster.created", "cluster.dissolved", "settings.changed", "machine.joined", "machine.left",
    "machine.disconnected", "machine.reconnected", "hostname.changed", "key.changed",
))  # fmt: skip
"""Kinds that may change who is in, how they are reached, or how often they are pinged."""


class Mesh:
    """One machine of a mesh. `held`: by feed what the ledger holds and how far of that can be given on; `last`: the own
    feed's last entry; `changed_keys`: the own entry that last changed a key; `before`: the software that ran before, if any.
    """

    def __init__(
        self, own: Feed, view: View, craft: Craft, dice: Dice, now: sig.Now, *, boot: int, software: str, port: int, last: int,
        held: Mapping[Feed, tuple[Held, int]], changed_keys: tuple[Feed, int] | None = None, before: str | None = None,
    ) -> None:  # fmt: skip
        self.core = Core(
            own, view, dice, now, boot=boot, software=software, port=port, last=last, held=held, craft=craft,
            changed_keys=changed_keys,
        )  # fmt: skip
        self._before = before
        self.core.redial = lambda peer: dialling.dial(self.core, peer)
        self.core.stranger = lambda channel, reason, detail: admission.turned(self.core, channel, (reason, detail))
        self.core.want = lambda feed_id: replicating.want(self.core, feed_id)

    # What the daemon does.

    def start(self) -> None:
        """The node runs: say so, and look for the others."""
        core = self.core
        core.tell(NodeStarted(core.boot, core.software))
        if self._before is not None and self._before != core.software:
            core.tell(VersionChanged(self._before, core.software))
        core.gives[core.feed.id] = core.last
        core.refresh()
        self.reconcile(starting=True)
        farewell.resume(core)
        confirming.begin(core)

    def look(self, now: sig.Now) -> None:
        """Take up the time; what is due waits for its `Tick`."""
        clockwatch.look(self.core, now)

    def observe(self, now: sig.Now, seen: sig.Observation) -> None:
        """Take in one observation. Deadlines are judged by a `Tick` alone, which comes after all that had arrived by then: an
        answer that lay there while this machine was busy was not late.
        """
        core = self.core
        took = core.state != "checking" and core.writable
        clockwatch.look(core, now)
        match seen:
            case sig.Tick():
                core.due()
            case sig.Heard():
                self._heard(seen)
            case sig.Took():
                self._took(seen)
            case sig.Opened() if farewell.opened(core, seen):
                pass
            case sig.Missed() if farewell.missed(core, seen):
                pass
            case sig.Opened():
                (dialling if seen.channel > 0 else admission).opened(core, seen)
            case sig.Missed():
                dialling.missed(core, seen)
            case sig.Closed():
                self._closed(seen)
            case sig.Garbled():
                channel = core.channels.get(seen.channel)
                if channel is not None:
                    replicating.broke(core, channel, seen.detail)
            case sig.LookedUp() | sig.Probed():
                answered = core.questions.pop(seen.question, None)
                if answered is not None:
                    answered(seen)
            case sig.Commanded():
                forwarding.requested(core, seen)
            case sig.TurnedAway():
                admission.at_limit(core, seen)
            case sig.Medium():
                core.writable = seen.writable
        if core.state == "checking":
            confirming.resolve(core)
        if not took and core.state != "checking" and core.writable:
            replicating.want_all(core)

    def take_events(self) -> list[Observed]:
        """What happened, in order, to be stored before any action is done."""
        return self.core.take_events()

    def take_actions(self) -> list[sig.Action]:
        """What is to be done now, in order."""
        return self.core.take_actions()

    def deadline(self) -> int | None:
        """When, on the monotonic clock, a `Tick` is due."""
        return self.core.deadline()

    def stored(self, own: Sequence[Entry]) -> None:
        """These own entries, one after another, are on stable storage."""
        self._stand((), own, {entry.event.kind for entry in own})

    def _stand(self, theirs: Sequence[Entry], own: Sequence[Entry], kinds: AbstractSet[str]) -> None:
        """What is on stable storage now: of another's feed, and then of the own; of these kinds."""
        core = self.core
        core.view.learn(theirs)
        core.view.learn(own)
        if not kinds.isdisjoint(ACTS):
            core.last = max(core.last, own[-1].index if own else 0)
            core.refresh()
        # Answers go before the entries themselves: who hears that this machine has left ends the link.
        if core.awaiting:
            for entry in own:
                self._answer(entry)
        if own:
            replicating.wrote(core, own)
        if kinds.isdisjoint(ACTS):
            return
        for entry in own:
            if isinstance(entry.event, KeyChanged):
                core.changed_keys = entry.feed, entry.index
                core.do(sig.Adopt(entry.event.role, entry.event.new))
            admitting.stored(core, entry)
            if isinstance(entry.event, MachineLeft) and entry.event.cause == "removed":
                farewell.begin(core, entry.event.machine, wire.Place(Named.of(entry.feed), entry.index))
        self.reconcile()
        if MachineReconnected.kind in kinds and any(
            isinstance(entry.event, MachineReconnected) and entry.event.machine == core.me for entry in (*theirs, *own)
        ):
            for peer in core.peers.values():
                dialling.dial(core, peer, anyway=True)

    def begun(self, feed: Feed, before: Held) -> None:
        """The daemon opened a new epoch, as it was asked to; `before`: what is held of the one before."""
        core = self.core
        core.held[core.feed.id] = before
        core.view.begin(feed)
        core.feed, core.last, core.state = feed, 0, "running"
        replicating.want_all(core)

    def redeemed(self, channel: int, why_not: str | None) -> None:
        """A code was checked, and if it was good is used now."""
        admitting.redeemed(self.core, channel, why_not)

    def stop(self, now: sig.Now) -> None:
        """The node ends in order."""
        clockwatch.look(self.core, now)
        self.core.tell(NodeStopped(self.core.boot, self.core.software))

    def say_farewell(self, head: str | None = None) -> None:
        """Whoever is linked hears that the node has ended, with the last signed head."""
        core = self.core
        for peer in core.peers.values():
            if peer.channel is not None:
                core.send(peer.channel, wire.Bye("closed", "the node stopped", head=head))

    # Who is in.

    def reconcile(self, *, starting: bool = False) -> None:
        """Bring links and pings in line with what the record says now. Who starts dials all others at once: those that were up
        before it have met a closed door, and wait.
        """
        core = self.core
        machines = core.snapshot.membership.machines
        if core.member(core.me) is None and core.state != "stopping" and not core.leaving:
            core.state = "stopping"
            core.do(sig.Halt((machines[core.me].cause or "left") if core.me in machines else "never admitted"))
        for name, peer in list(core.peers.items()):
            member = core.member(name)
            if member is None:
                cause: Reason = "left" if machines[name].cause == "left" else "not-a-member"
                why = linking.place_of(core, machines[name].since)
                self._part(peer, cause, f"{name} {machines[name].cause or 'left'}", why)
                linking.cease(core, peer)
                del core.peers[name]
            elif {core.me, name} & core.snapshot.planned:
                whose = member if name in core.snapshot.planned else machines[core.me]
                self._part(peer, "disconnected", "disconnected on purpose", linking.place_of(core, whose.planned))
                linking.cease(core, peer)
                peer.reason = "disconnected"
            elif peer.channel is not None:
                key = member.host_key if peer.channel.dialled else member.dial_key
                if key != peer.channel.key:
                    linking.lose(core, peer, "host-key-mismatch" if peer.channel.dialled else "auth-failed", "the key changed")
        for name in core.others:
            fresh = name not in core.peers
            peer = linking.peer_of(core, name)
            newest = core.newest(machines[name])
            if newest is not None and (peer.feed is None or newest.epoch > peer.feed.epoch):
                peer.feed = newest
            pinging.begin(core, peer)
            if peer.channel is None and not peer.dialling and not peer.redial and not {core.me, name} & core.snapshot.planned:
                peer.tries = 0
                if starting or (fresh and core.me < name):
                    dialling.dial(core, peer)
                else:
                    linking.plan(core, peer)

    def _part(self, peer: Peer, reason: Reason, detail: str, because: wire.Place | None) -> None:
        """The record ends a link: the other side hears why, if it can."""
        self._lose(
            peer, reason, detail, None, lambda channel: linking.refuse(self.core, channel, reason, detail, because=because)
        )

    def _lose(self, peer: Peer, reason: Reason, detail: str, culprit: str | None, last: Callable[[Channel], None]) -> None:
        """Lose a link, and have something said on its channel before that ends."""
        channel = peer.channel
        if channel is None:
            return
        linking.lose(self.core, peer, reason, detail, culprit)
        for action in self.core.take_actions():
            if action == sig.Abort(channel.number):
                self.core.channels[channel.number] = channel
                last(channel)
            else:
                self.core.do(action)

    def _parted(self, peer: Peer, channel: Channel, heard: wire.Bye) -> None:
        """The other side ends the link. If it names an entry as the reason that is not held here, it is asked for: whoever is no
        member any more may not dial again.
        """
        core, because = self.core, heard.because
        if core.state != "running" or not linking.lacking(core, because[-1:]):
            linking.lose(core, peer, heard.reason, heard.detail, channel.machine)
            return
        self._lose(peer, heard.reason, heard.detail, channel.machine, lambda channel: linking.ask_why(core, channel, because))

    # What comes over channels.

    def _heard(self, seen: sig.Heard) -> None:
        core, message = self.core, seen.message
        channel = core.channels.get(seen.channel)
        if channel is None:
            return
        if channel.stage == "up":
            self._linked_said(channel, message)
            return
        match channel.stage, message:
            case "greeting", wire.Hello() if channel.dialled and farewell.greeted(core, channel, message):
                pass
            case "greeting", wire.Hello() if channel.dialled:
                if dialling.greeted(core, channel, message):
                    confirming.shown(core, message.yours)
                    replicating.greet(core, channel)
            case "greeting", wire.Hello():
                admission.greeted(core, channel, message)
            case "greeting", wire.JoinAsk() if not channel.dialled:
                admitting.wants_in(core, channel, message)
            case "greeting", wire.Want() if channel.dialled:
                replicating.asked(core, channel, message)
            case "greeting", wire.Bye() if channel.dialled:
                confirming.shown(core, message.yours)
                dialling.turned_away(core, channel, message)
            case "guest", wire.Want():
                replicating.asked(core, channel, message)
            case "judging", wire.Push():
                core.do(sig.Take(channel.number, message.run))
            case "judging", wire.Nothing():
                admission.turn_away(core, channel, "not-a-member", "what entitles it was not to be had")
            case (("judging" | "guest"), wire.Bye()):
                core.drop(channel)
            case "ending", wire.Want() if linking.may_ask(channel, message.feed):
                channel.runs += 1
                if message.feed == channel.offers[-1].feed:
                    farewell.asked(core, channel.machine)
                replicating.asked(core, channel, message)
                linking.end_later(core, channel)
            case "ending", wire.Push() if channel.asks:
                replicating.pushed(core, channel, message)
            case "ending", _:
                pass
            case _:
                replicating.broke(core, channel, f"a {type(message).__name__} where there is none")

    def _linked_said(self, channel: Channel, message: wire.Message) -> None:
        core = self.core
        match message:
            case wire.Ping():
                pinging.pinged(core, channel, message)
            case wire.Pong():
                pinging.ponged(core, channel, message)
            case wire.Have():
                replicating.told(core, channel, message.feeds)
            case wire.Want():
                replicating.asked(core, channel, message)
            case wire.Push():
                replicating.pushed(core, channel, message)
            case wire.Nothing():
                replicating.nothing(core, channel, message)
            case wire.Command():
                forwarding.came(core, message)
            case wire.Reply():
                forwarding.replied(core, message)
            case wire.Bye():
                peer = core.peers.get(channel.machine)
                if peer is not None and peer.channel is channel:
                    if message.head is not None:
                        pinging.witness(core, peer, message.head)
                    self._parted(peer, channel, message)
            case _:
                replicating.broke(core, channel, f"a {type(message).__name__} where there is none")

    def _closed(self, seen: sig.Closed) -> None:
        core = self.core
        channel = core.channels.get(seen.channel)
        if channel is None:
            return
        peer = core.peers.get(channel.machine)
        if peer is not None and peer.channel is channel:
            linking.lose(core, peer, seen.reason, seen.detail)
            return
        core.forget(channel)
        if seen.reason == "protocol-error":
            core.stranger(channel, seen.reason, seen.detail)
        if peer is not None and peer.dialling == channel.number:
            linking.fail(core, peer, seen.reason, seen.detail, channel.address, link=channel.link)

    def _took(self, seen: sig.Took) -> None:
        core = self.core
        if seen.ahead is not None:
            confirming.ahead(core, seen.ahead)
            return
        kinds = {entry.event.kind for entry in seen.entries}
        replicating.took(core, seen, quiet=kinds <= QUIET)
        self._stand(seen.entries, seen.own, kinds.union([entry.event.kind for entry in seen.own]))
        channel = core.channels.get(seen.channel)
        if channel is None or channel.stage == "up":
            return
        if channel.stage == "ending" and seen.refused is None:
            linking.ask_why(core, channel, channel.asks)
        if channel.stage == "judging" and seen.refused != "medium":
            if seen.refused is not None and seen.again is None:
                admission.turn_away(core, channel, "not-a-member", f"what entitles it does not hold: {seen.refused}")
            else:
                admission.judge(core, channel)

    def _answer(self, entry: Entry) -> None:
        """Whoever waits for this entry hears where it stands."""
        core = self.core
        for event, answered in [pair for pair in core.awaiting if pair[0] is entry.event]:
            core.awaiting.remove((event, answered))
            answered(entry.feed.at(entry.index))
