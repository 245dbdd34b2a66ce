"""Machines without a world: the cores of a mesh on a virtual network and a virtual clock, storey A of the simulation.

A `VirtualNode` does for its core what the daemon does, with lists for a disk: it stores, then acts. A `World` carries messages
with delay, looks names up in a table, and turns faults on and off. Everything that could vary is drawn from one seed, so one
seed gives one log, byte for byte. Cryptography is played: keys are names, and a signature is a hash, since what is under
test is the protocol and not the cipher. The meaning of the record is handed in (`views`), as for the daemon. Pure.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, get_args

import msgspec

from ledger.entry import Entry, Observed
from ledger.events import Addressing, ClusterCreated, FeedOpened, FeedReceived, MachineJoined, Outcome, Reason, SettingsChanged
from ledger.identity import Feed, incarnation_id
from ledger.node import confirming, wire
from ledger.node import signals as sig
from ledger.node.dice import Dice
from ledger.node.mesh import Mesh
from ledger.node.replicas import QUIET, Held
from ledger.node.state import MS, SECOND
from ledger.node.view import View
from ledger.node.words import Named, Word

Disk = dict[Feed, list[Observed]]
Views = Callable[[Feed, Disk], View]
"""Makes the fold of a record: of the machine that writes this feed, whose disk this is (`refold` reads it)."""
START_NS: Final = 1_767_225_600 * SECOND
DIAL_TIMEOUT_NS: Final = 10 * SECOND
RUN_ENTRIES: Final = 500
LATENCY_NS: Final = (1 * MS, 30 * MS)


class VirtualRun(msgspec.Struct, frozen=True):
    """A run of a feed: its entries as they are."""

    feed: Named
    after: int
    entries: tuple[Observed, ...]
    word: Word


class Craft:
    """Played craft: a signature is a hash over the key's name."""

    def __init__(self, node: VirtualNode) -> None:
        self._node = node

    def sign(self, message: bytes) -> bytes:
        """A signature of this machine."""
        return hashlib.sha256(self._node.key.encode() + message).digest()

    def signed(self, key: str, message: bytes, signature: bytes) -> bool:
        """Whether this key signed that."""
        return hashlib.sha256(key.encode() + message).digest() == signature

    def proves(self, feed: Feed, word: Word) -> bool:
        """Nobody lies here."""
        return word.id == feed.id

    def word(self, feed_id: str) -> Word | None:
        """What is held of a feed."""
        feed = self._node.by_id.get(feed_id)
        return _word(feed, len(self._node.disk[feed])) if feed is not None and self._node.disk.get(feed) else None

    def head(self) -> str | None:
        """Records are not sealed here."""
        return None

    def opens(self, feed: Feed, text: str) -> tuple[int, str, str] | None:  # noqa: ARG002 - no heads, no readers of them
        """There are no heads."""
        return None


def _word(feed: Feed, last: int) -> Word:
    return Word(feed.id, last, 0, bytes(32), bytes(32), bytes(64))


class VirtualNode:
    """One machine: its disk, and its core while it runs."""

    def __init__(self, world: World, name: str, place: int) -> None:
        self.world = world
        self.name = name
        self.key = f"ledger-key-of-{name}"
        self.dial_key = f"dial-key-of-{name}"
        self.host_key = f"host-key-of-{name}"
        self.hostname = f"{name}.lab.example"
        self.address = f"10.0.0.{place + 1}"
        self.offset_ns = 0
        self.boots = 0
        self.disk: Disk = {}
        self.by_id: dict[str, Feed] = {}
        self.journal: list[Entry | Feed] = []
        self.feed: Feed
        self.view: View
        self.mesh: Mesh | None = None
        self.full = False
        self.stalled_until = 0
        self.limited = False
        self.told: list[tuple[int, Mapping[str, Any]]] = []
        self.dns: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._batch: list[Observed] = []
        self._accepted = 0
        self._due = 0
        self._members: set[str] = set()

    @property
    def now(self) -> sig.Now:
        """Its clocks."""
        return sig.Now(START_NS + self.world.now_ns + self.offset_ns, SECOND + self.world.now_ns)

    def keep(self, feed: Feed, batch: Sequence[Observed]) -> list[Entry]:
        """Write to the disk."""
        log = self.disk.setdefault(feed, [])
        self.by_id[feed.id] = feed
        entries = [
            Entry(feed, index, o.at_ns, o.event, o.boot, o.mono_ns, o.at_ns) for index, o in enumerate(batch, len(log) + 1)
        ]
        log += batch
        self.journal += entries
        return entries

    # Life.

    def start(self) -> None:
        """Boot: all that is known is what the disk holds."""
        self.boots += 1
        feeds = [item for item in self.journal if isinstance(item, Feed)]
        self.view = self.world.views(feeds[0], self.disk)
        for item in self.journal[1:]:
            if isinstance(item, Feed):
                self.view.begin(item)
            else:
                self.view.apply(item)
        self.feed = feeds[-1]
        held = {feed: (Held(0, len(log)), len(log)) for feed, log in self.disk.items()}
        self.mesh = Mesh(
            self.feed, self.view, Craft(self), self.world.dice.fork(), self.now, boot=self.boots, software="virtual 1", port=22,
            last=len(self.disk[self.feed]), held=held,
        )  # fmt: skip
        self._batch = []
        self.mesh.start()
        self.settle()

    def crash(self) -> None:
        """Power is gone."""
        self.mesh = None
        self.full = False
        self._due += 1
        self.world.hang_up(self)

    def roll_back(self, entries: int) -> None:
        """The disk is set back by so many writes (while the machine is off), but never before its own admission."""
        floor = next((place for place, item in enumerate(self.journal) if isinstance(item, Entry) and item.feed.machine == self.name
                      and item.index == 3), len(self.journal))  # fmt: skip
        kept = self.journal[: max(floor + 1, len(self.journal) - entries)]
        self.journal = []
        self.disk.clear()
        for item in kept:
            if isinstance(item, Feed):
                self.journal.append(item)
            else:
                self.keep(item.feed, [Observed(item.at_ns, item.event, item.boot, item.mono_ns)])

    # What the daemon does.

    def observe(self, seen: sig.Observation) -> None:
        """Take in one observation, now, or when a stall has ended."""
        if self.mesh is None:
            return
        if self.world.now_ns < self.stalled_until:
            mesh = self.mesh
            self.world.at(self.stalled_until, lambda: self.observe(seen) if self.mesh is mesh else None)
            return
        self.mesh.observe(self.now, seen)
        self.settle()

    def settle(self) -> None:
        """Store and act, until nothing is left to do; then wait for the next deadline."""
        while self.mesh is not None:
            events, actions = self.mesh.take_events(), self.mesh.take_actions()
            if not events and not actions:
                break
            self.store(events)
            for action in actions:
                self.do(action)
        if self.mesh is None:
            return
        due = self.mesh.deadline()
        self._due += 1
        if due is not None:
            token = self._due
            when = max(due - SECOND, self.world.now_ns)
            self.world.at(when, lambda: self.observe(sig.Tick()) if token == self._due else None)

    def store(self, events: Sequence[Observed]) -> None:
        """Append to the own feed, or keep it for later if the disk is full."""
        mesh = self.mesh
        batch = [*self._batch, *events]
        if not batch or mesh is None:
            return
        if self.full:
            self._batch = batch
            if mesh.core.writable:
                mesh.observe(self.now, sig.Medium(False, "full"))
            return
        self._batch = []
        mesh.stored(self.keep(self.feed, batch))

    def emptied(self) -> None:
        """There is room on the disk again."""
        self.full = False
        if self.mesh is not None:
            self.store(())
            self.observe(sig.Medium(True))

    def do(self, action: sig.Action) -> None:
        """Do what the core wants done."""
        world = self.world
        match action:
            case sig.Send():
                world.send(self, action.channel, action.message)
            case sig.Abort():
                world.abort(self, action.channel)
            case sig.Dial():
                world.dial(self, action)
            case sig.LookUp():
                world.look_up(self, action)
            case sig.Probe():
                world.probe(self, action)
            case sig.Give():
                self._give(action)
            case sig.Take():
                if self.mesh is not None:
                    self.store(self.mesh.take_events())
                self._take(action)
            case sig.Begin():
                self._begin(action)
            case sig.Trust():
                self._members = set(action.keys.values())
            case sig.Answer():
                self.told.append((action.request, action.body))
            case sig.Halt():
                world.at(world.now_ns, self.crash)
            case sig.Redeem():
                raise NotImplementedError("nobody joins by code in a virtual world")

    def _give(self, action: sig.Give) -> None:
        feed = action.feed.feed(self.feed.incarnation)
        log = self.disk.get(feed, [])
        key = (self.name, action.channel, feed.id)
        after = action.after.last if action.after is not None else self.world.given.get(key)
        if after is None:
            return
        entries = tuple(log[after : after + RUN_ENTRIES])
        if not entries:
            if action.after is not None:
                self.world.given[key] = after
                self.world.send(self, action.channel, wire.Nothing(feed.id))
            return
        self.world.given[key] = after + len(entries)
        run: Any = VirtualRun(action.feed, after, entries, _word(feed, len(log)))
        self.world.send(self, action.channel, wire.Push(run))

    def _take(self, action: sig.Take) -> None:
        mesh, run = self.mesh, action.run
        if mesh is None or self.full:
            return
        feed = run.feed.feed(self.feed.incarnation)
        log = self.disk.get(feed, [])
        given: Any = run
        if feed == self.feed:
            ahead = run.word.last if run.word.last > len(log) else None
            mesh.observe(self.now, sig.Took(action.channel, feed, Held(0, len(log)), len(log), ahead=ahead))
            return
        mesh.observe(self.now, sig.Tick())
        self.store(mesh.take_events())
        if given.after > len(log):
            held = Held(0, len(log))
            mesh.observe(self.now, sig.Took(action.channel, feed, held, len(log), refused="gap", again=held))
            return
        fresh = given.entries[len(log) - given.after :]
        entries = self.keep(feed, fresh)
        own: list[Entry] = []
        if any(entry.kind not in QUIET for entry in entries):
            own = self.keep(self.feed, [mesh.core.stamp(FeedReceived(feed.id, entries[-1].index))])
        size = len(self.disk[feed])
        mesh.observe(self.now, sig.Took(action.channel, feed, Held(0, size), size, tuple(entries), tuple(own)))

    def _begin(self, action: sig.Begin) -> None:
        mesh = self.mesh
        if mesh is None or self.full:
            return
        epoch = 1 + max(feed.epoch for feed in self.disk if feed.machine == self.name)
        feed = Feed.of(self.feed.incarnation, self.name, epoch, self.key)
        before, self.feed = self.feed, feed
        opened = confirming.opening(mesh.core, feed, action)
        self.journal.append(feed)
        entries = self.keep(feed, [opened])
        mesh.begun(feed, Held(0, len(self.disk[before])))
        mesh.stored(entries)
        self.world.coverage[f"epoch {action.why}"] += 1

    def accept(self, key: str, address: str) -> int:
        """Somebody opened a channel: its number here."""
        self._accepted -= 1
        self.observe(sig.Opened(self._accepted, key, address))
        return self._accepted


class Cable(msgspec.Struct):
    """One open channel: both ends with their numbers; messages held back by a cut, by direction."""

    ends: tuple[VirtualNode, VirtualNode]
    numbers: list[int]
    open: bool = True
    free_ns: list[int] = []
    held: list[tuple[int, wire.Message]] = []


class World:
    """The network, DNS and the clock. `coverage` counts what has happened of each kind of fault."""

    def __init__(
        self, seed: int, views: Views, names: Sequence[str], *, settings: SettingsChanged | None = None,
        addressing: Addressing = "name",
    ) -> None:  # fmt: skip
        self.dice = Dice(seed)
        self.views = views
        self.now_ns = 0
        self.coverage: Counter[str] = Counter()
        self.cuts: set[tuple[str, str]] = set()
        self.slow_ns = 0
        self.lossy = 0.0
        self.table: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.cables: dict[tuple[str, int], tuple[Cable, int]] = {}
        self.given: dict[tuple[str, int, str], int] = {}
        self._dialling: set[tuple[str, int]] = set()
        self._heap: list[tuple[int, int, Callable[[], Any]]] = []
        self._sequence = 0
        self.nodes = {name: VirtualNode(self, name, place) for place, name in enumerate(names)}
        self._found(settings or SettingsChanged(1), addressing)

    def _found(self, settings: SettingsChanged, addressing: Addressing) -> None:
        first, *rest = self.nodes.values()
        incarnation = incarnation_id("lab", "ssh", addressing, first.key, "virtual")

        def join(node: VirtualNode, held: int) -> MachineJoined:
            host = node.hostname if addressing == "name" else node.address
            return MachineJoined(node.name, host, 22, None, node.host_key, node.dial_key, node.key, held, addressing)

        founder = Feed.of(incarnation, first.name, 1, first.key)
        events = [
            FeedOpened(incarnation, first.name, 1, first.key), ClusterCreated("lab", incarnation, "ssh", addressing, "virtual"),
            join(first, 2), settings, *(join(node, 0) for node in rest),
        ]  # fmt: skip
        batch = [Observed(START_NS, event) for event in events]
        for node in self.nodes.values():
            self.table[node.hostname] = ("answered", (node.address,))
            self.table[node.address] = ("answered", (node.hostname,))
            own = Feed.of(incarnation, node.name, 1, node.key)
            node.journal.append(own)
            if node is not first:
                node.keep(own, [Observed(START_NS, FeedOpened(incarnation, node.name, 1, node.key))])
            node.keep(founder, batch)
            if node is not first:
                node.keep(own, [Observed(START_NS, FeedReceived(founder.id, len(batch)))])

    # Time.

    def at(self, when_ns: int, call: Callable[[], Any]) -> None:
        """Call at this instant."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(when_ns, self.now_ns), self._sequence, call))

    def run(self, until_ns: int) -> None:
        """Let time pass."""
        heap = self._heap
        while heap and heap[0][0] <= until_ns:
            self.now_ns, _sequence, call = heapq.heappop(heap)
            call()
        self.now_ns = until_ns

    def _delay(self) -> int:
        delay = self.dice.between(*LATENCY_NS) + self.slow_ns
        while self.lossy and self.dice.chance(self.lossy):
            delay += 200 * MS  # lost, and sent again
            self.coverage["loss"] += 1
        return delay

    # Wires.

    def by_address(self, address: str) -> VirtualNode | None:
        """The machine at an address."""
        return next((node for node in self.nodes.values() if node.address == address), None)

    def dial(self, node: VirtualNode, action: sig.Dial) -> None:
        """Carry a dial: two round trips, or a time-out."""
        self._dialling.add((node.name, action.channel))
        there = self.by_address(action.address)

        def missed(reason: Reason, detail: str) -> None:
            if (node.name, action.channel) in self._dialling:
                self._dialling.discard((node.name, action.channel))
                node.observe(sig.Missed(action.channel, reason, detail, action.address))

        def arrive() -> None:
            if (node.name, action.channel) not in self._dialling or node.mesh is None:
                return
            if there is None or self._cut(node, there):
                self.at(self.now_ns + DIAL_TIMEOUT_NS, lambda: missed("timeout", "no answer"))
            elif there.mesh is None:
                missed("refused", "nobody listens")
            elif there.limited:
                self.coverage["connection-limit"] += 1
                missed("connection-limit", "too many connections")
            elif there.host_key not in action.host_keys:
                missed("host-key-mismatch", "another key answers")
            else:
                self._dialling.discard((node.name, action.channel))
                cable = Cable((node, there), [action.channel, 0], free_ns=[0, 0])
                self.cables[node.name, action.channel] = cable, 0
                there._accepted -= 1  # noqa: SLF001 - the world hands out the numbers of what arrives
                cable.numbers[1] = there._accepted  # noqa: SLF001
                self.cables[there.name, cable.numbers[1]] = cable, 1
                there.observe(sig.Opened(cable.numbers[1], node.dial_key, node.address))
                node.observe(sig.Opened(action.channel, there.host_key, there.address))

        self.at(self.now_ns + self._delay() + self._delay(), arrive)

    def _cut(self, a: VirtualNode, b: VirtualNode) -> bool:
        return (a.name, b.name) in self.cuts or (b.name, a.name) in self.cuts

    def send(self, node: VirtualNode, number: int, message: wire.Message) -> None:
        """Carry a message, in order, unless the way is cut: then it waits for the way, as bytes of a stream do."""
        found = self.cables.get((node.name, number))
        if found is None:
            return
        cable, side = found
        if (node.name, cable.ends[1 - side].name) in self.cuts:
            cable.held.append((side, message))
            return
        when = max(self.now_ns + self._delay(), cable.free_ns[side])
        cable.free_ns[side] = when
        there = cable.ends[1 - side]

        def arrive() -> None:
            if cable.open and self.cables.get((there.name, cable.numbers[1 - side])) == (cable, 1 - side):
                if (node.name, there.name) in self.cuts:
                    cable.held.append((side, message))
                else:
                    there.observe(sig.Heard(cable.numbers[1 - side], message))

        self.at(when, arrive)

    def abort(self, node: VirtualNode, number: int) -> None:
        """One side ends a channel: the other hears of it, if the way is not cut."""
        self._dialling.discard((node.name, number))
        found = self.cables.pop((node.name, number), None)
        if found is not None:
            self._end(*found, "reset")

    def _end(self, cable: Cable, side: int, reason: Reason) -> None:
        there, other = cable.ends[1 - side], cable.numbers[1 - side]

        def arrive() -> None:
            if (cable.ends[side].name, there.name) in self.cuts:
                return  # nobody tells: its own pings will
            if self.cables.pop((there.name, other), None) is not None:
                cable.open = False
                there.observe(sig.Closed(other, reason, "the other side ended it"))

        self.at(self.now_ns + self._delay(), arrive)

    def hang_up(self, node: VirtualNode, reason: Reason = "reset", most: int = 10**9) -> int:
        """End the channels of a machine, or so many of them, as its kernel does when it dies; how many there were."""
        ended = 0
        for (name, number), (cable, side) in list(self.cables.items()):
            if name == node.name and ended < most:
                del self.cables[name, number]
                self._end(cable, side, reason)
                ended += 1
                if node.mesh is not None:
                    node.observe(sig.Closed(number, reason, "dropped at a limit"))
        return ended

    def heal(self) -> None:
        """What a cut held back goes on its way, where it is open again."""
        for cable, side in list(self.cables.values()):
            if side == 0 and cable.held:
                held, cable.held = cable.held, []
                for origin, message in held:
                    self.send(cable.ends[origin], cable.numbers[origin], message)

    # Names.

    def look_up(self, node: VirtualNode, action: sig.LookUp) -> None:
        """Answer from the table, or from what this machine's own server says."""
        outcome, answers = node.dns.get(action.name) or self.table.get(action.name, ("nxdomain", ()))
        took = 2 * SECOND if outcome == "timeout" else self._delay()
        said: Outcome = next(each for each in get_args(Outcome) if each == outcome)
        seen = sig.LookedUp(action.question, action.name, action.direction, said, answers, "10.0.0.53", 60, took // 1000)
        if outcome != "answered":
            self.coverage[f"dns {outcome}"] += 1
        self.at(self.now_ns + took, lambda: node.observe(seen))

    def probe(self, node: VirtualNode, action: sig.Probe) -> None:
        """Which host key answers at an address."""
        there = self.by_address(action.address)
        if there is None or self._cut(node, there):
            seen = sig.Probed(action.question, None, "timeout", "no answer")
            self.at(self.now_ns + DIAL_TIMEOUT_NS, lambda: node.observe(seen))
        else:
            up = there.mesh is not None
            seen = sig.Probed(action.question, there.host_key if up else None, "refused", "" if up else "nobody listens")
            self.at(self.now_ns + self._delay(), lambda: node.observe(seen))
