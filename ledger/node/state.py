"""What the core keeps in memory, and the two lists into which it puts what happened and what is to be done.

A `Channel` is one open SSH channel, whoever opened it; a `Peer` is another member, linked or not. `Core` ties them together with
the view of the record, the deadlines and the dice. The rooms beside this one are functions on it, one matter each: none
of them keeps anything of its own. What was in memory is gone at a restart, and nothing here needs to survive one.

Pure, but for itself: clocks are values (`now`), and what happened leaves by `take_events`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import msgspec

from ledger.entry import Observed
from ledger.events import Event, Reason, SettingsChanged
from ledger.identity import Feed, parse_position
from ledger.node.dice import Dice
from ledger.node.replicas import Held
from ledger.node.signals import Abort, Action, Now, Send, Trust
from ledger.node.view import Craft, Member, Snapshot, View
from ledger.node.wire import Hello, JoinAsk, Message, Place
from ledger.node.words import Named

Stage = Literal["greeting", "judging", "up", "guest", "ending"]
SECOND: int = 1_000_000_000
MS: int = 1_000_000
FEEDS_MAX = 10_000
NONE_HELD = Held()


class Channel(msgspec.Struct):
    """An open channel. `number`: positive if dialled; `machine`: whom it was dialled for, or who says it speaks; `told`,
    `have`: by feed id how far this side, the other side, said it can give; `wants`: by feed id when its run was asked for;
    `given`: feeds of which runs were given on it, so that what follows can be pushed; `offers`: the entry that is
    why one is refused, after what it rests on, which may be asked for; `asks`: what this side asks for of that; `until_ns`: when
    a channel that ends is dropped.
    """

    number: int
    key: str
    address: str
    stage: Stage = "greeting"
    machine: str = ""
    link: str = ""
    hello: Hello | None = None
    told: dict[str, int] = {}
    have: dict[str, tuple[Named, int]] = {}
    wants: dict[str, int] = {}
    given: set[str] = set()
    offers: tuple[Place, ...] = ()
    asks: tuple[Place, ...] = ()
    until_ns: int = 0
    runs: int = 0
    addresses: tuple[str, ...] = ()

    @property
    def dialled(self) -> bool:
        """Whether this side dialled."""
        return self.number > 0


class Timer(msgspec.Struct):
    """What is done at a deadline; nothing, once it was called off."""

    call: Callable[[], None] | None


class Pinged(msgspec.Struct):
    """A ping that waits for its answer: when it was sent, on the monotonic clock, over which link, and what ends the waiting."""

    sent_ns: int
    link: str
    late: Timer


class Peer(msgspec.Struct):
    """Another member. `dialling`: the number of the dial or question that is under way, 0 if none; `tries`: dials that came to
    nothing since it was linked; `brief`: links in a row that did not stand for long; `number`: of the last ping to it; `failed`:
    failures in a row; `heard`: the last ping heard of it, in `boot`; `reason`: why there is no link; `met`: addresses at which it
    was met; `tried`: whether a dial has ended.
    """

    machine: str
    channel: Channel | None = None
    dialling: int = 0
    addresses: tuple[str, ...] = ()
    tries: int = 0
    brief: int = 0
    redial: int = 0
    number: int = 0
    pinging: int = 0
    pending: dict[int, Pinged] = {}
    failed: int = 0
    heard: int = 0
    boot: int = 0
    reason: Reason = "unknown"
    met: set[str] = set()
    lost: str | None = None
    tried: bool = False
    rtt_us: int | None = None
    answered_ns: int | None = None
    since_ns: int = 0
    feed: Feed | None = None


class Untold(msgspec.Struct):
    """A machine that this one removed, by the entry `because`, and that may not know it: see `farewell`. `asked`: it has asked
    for that entry.
    """

    machine: str
    because: Place
    until_ns: int
    tries: int = 0
    dialling: int = 0
    asked: bool = False


class Core:
    """One machine's memory. `state`: `checking` until its record is known to be whole, then `running`, at last `stopping`."""

    def __init__(
        self, own: Feed, view: View, dice: Dice, now: Now, *, boot: int, software: str, port: int,
        last: int, held: Mapping[Feed, tuple[Held, int]], craft: Craft, changed_keys: tuple[Feed, int] | None = None,
    ) -> None:  # fmt: skip
        self.feed = own
        self.me = own.machine
        self.view = view
        self.dice = dice
        self.now = now
        self.boot = boot
        self.software = software
        self.port = port
        self.last = last
        self.held = {feed.id: found for feed, (found, _gives) in held.items()}
        self.gives = {feed.id: gives for feed, (_held, gives) in held.items() if gives}
        self.named = {feed.id: Named.of(feed) for feed in held if feed.ledger_key is not None}
        self.craft = craft
        self.state: Literal["checking", "running", "stopping"] = "checking"
        self.since = now
        self.writable = True
        self.changed_keys = changed_keys
        """The own entry that last changed a key: its feed (an earlier epoch, perhaps) and its index."""
        self.channels: dict[int, Channel] = {}
        self.peers: dict[str, Peer] = {}
        self.questions: dict[int, Callable[[Any], None]] = {}
        self.numbers = 0
        self.memo: dict[tuple[str, ...], int] = {}
        self.wanted: dict[str, tuple[int, int]] = {}
        """By feed id the channel on which its next run was asked for, and when."""
        self.most: dict[str, int] = {}
        """By feed id no less than any channel can give of it."""
        self._feeds: dict[Named, Feed] = {}
        self.untold: dict[str, Untold] = {}
        self.asks: dict[int, JoinAsk] = {}
        self.granting: dict[tuple[str, str], int] = {}
        self.requests: dict[str, Callable[[Mapping[str, Any]], None]] = {}
        self.done: dict[str, Mapping[str, Any] | None] = {}
        self.awaiting: list[tuple[Event, Callable[[str], None]]] = []
        self.leaving = False
        self.snapshot: Snapshot = view.at(now.wall_ns)
        self._events: list[Observed] = []
        self._actions: list[Action] = []
        self._timers: list[tuple[int, int, Timer]] = []
        self._sequence = 0

    # Out.

    def tell(self, event: Event) -> None:
        """Something happened, now."""
        self._events.append(self.stamp(event))

    @property
    def waiting(self) -> int:
        """How many events wait to be stored."""
        return len(self._events)

    @property
    def oldest(self) -> Observed | None:
        """The first event that waits to be stored."""
        return self._events[0] if self._events else None

    def stamp(self, event: Event) -> Observed:
        """An event with its instants."""
        return Observed(self.now.wall_ns, event, self.boot, self.now.mono_ns)

    def do(self, action: Action) -> None:
        """Do this, once what happened until here is stored."""
        self._actions.append(action)

    def send(self, channel: Channel, message: Message) -> None:
        """Send a message."""
        self.do(Send(channel.number, message))

    def take_events(self) -> list[Observed]:
        """What happened, to be stored before any action is done. While the record is being checked nothing: it is kept."""
        if self.state == "checking" or not self.writable:
            return []
        events, self._events = self._events, []
        return events

    def take_actions(self) -> list[Action]:
        """What is to be done now, in order."""
        actions, self._actions = self._actions, []
        return actions

    # Time.

    def later(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        """Call back when so much time has passed, unless it is called off by then."""
        self._sequence += 1
        timer = Timer(call)
        heapq.heappush(self._timers, (self.now.mono_ns + max(delay_ns, 0), self._sequence, timer))
        return timer

    def deadline(self) -> int | None:
        """The next instant, on the monotonic clock, at which there is something to do."""
        timers = self._timers
        while timers and timers[0][2].call is None:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def due(self) -> None:
        """Do what has become due."""
        timers = self._timers
        while timers and timers[0][0] <= self.now.mono_ns:
            call = heapq.heappop(timers)[2].call
            if call is not None:
                call()

    def jitter(self, of_ns: int) -> int:
        """Between half of it and all of it."""
        return of_ns // 2 + self.dice.below(max(of_ns // 2, 1))

    # Numbers and questions.

    def next_number(self) -> int:
        """A number for a dial or a question."""
        self.numbers += 1
        return self.numbers

    def ask(self, answered: Callable[[Any], None]) -> int:
        """A question's number; `answered` is called with the observation that answers it."""
        number = self.next_number()
        self.questions[number] = answered
        return number

    # The record.

    @property
    def settings(self) -> Any:
        """The settings in force."""
        return self.snapshot.settings or SettingsChanged(0)

    @property
    def interval_ns(self) -> int:
        """The ping interval in force."""
        return int(self.settings.ping_interval_ms) * MS

    def member(self, machine: str) -> Member | None:
        """A machine that is in, None for any other."""
        found = self.snapshot.membership.machines.get(machine)
        return found if found is not None and found.member else None

    @property
    def others(self) -> list[str]:
        """The members but this machine, by name."""
        return [name for name in self.snapshot.membership.names if name != self.me]

    def refresh(self) -> None:
        """Look at the record again, as it says who is in and how it is to be done."""
        self.snapshot = self.view.at(self.now.wall_ns)
        machines = self.snapshot.membership.machines
        keys = {name: found.dial_key for name, found in machines.items() if found.member and found.dial_key}
        former = {found.dial_key for found in machines.values() if not found.member and found.dial_key}
        self.do(Trust(keys, frozenset(former) - set(keys.values())))

    def feed_at(self, position: str) -> tuple[Feed, int] | None:
        """The feed and index that a position names, of the feeds that count."""
        place = parse_position(position)
        member = self.snapshot.membership.machines.get(place.machine) if place is not None else None
        if place is None or member is None:
            return None
        return next(((feed, place.index) for feed in member.feeds if place.names(feed)), None)

    def feed_of(self, named: Named) -> Feed:
        """The feed that is named so on the wire."""
        found = self._feeds.get(named)
        if found is None:
            if len(self._feeds) > FEEDS_MAX:
                self._feeds.clear()
            found = self._feeds[named] = named.feed(self.feed.incarnation)
        return found

    def newest(self, member: Member) -> Feed | None:
        """The feed that a member writes, as far as it is known."""
        return member.feeds[-1] if member.feeds else None

    def can_give(self, channel: Channel, feed_id: str, feed: Named, last: int) -> None:
        """The other side of a channel can give so much of a feed."""
        channel.have[feed_id] = feed, last
        if last > self.most.get(feed_id, 0):
            self.most[feed_id] = last

    def holds(self, feed_id: str) -> Held:
        """How much of a feed is held."""
        return Held(0, self.last) if feed_id == self.feed.id else self.held.get(feed_id, NONE_HELD)

    stranger: Callable[[Channel, Reason, str], None]
    """Records that one whose channel did not come to be a link was turned away; set by `mesh`."""

    # Channels.

    redial: Callable[[Peer], None]
    """Dials a peer; set by `mesh`, since a lost link leads there and a dial leads to links."""

    want: Callable[[str], None]
    """Asks anybody for what is missing of a feed; set by `mesh` too."""

    def drop(self, channel: Channel) -> None:
        """End a channel at once, and forget it; what was asked for on it is asked of others."""
        self.forget(channel)
        self.do(Abort(channel.number))

    def forget(self, channel: Channel) -> None:
        """A channel is gone."""
        self.channels.pop(channel.number, None)
        for feed_id in [feed_id for feed_id, asked in self.wanted.items() if asked[0] == channel.number]:
            del self.wanted[feed_id]
            self.later(0, partial(self.want, feed_id))
