"""One machine without a world: its core, on lists for a disk (`virtual_disk`) and with played cryptography (`virtual_craft`).

A `VirtualNode` does for its core what the daemon does: it stores, and then acts. What it wants done outside it asks of its
surroundings (`Around`), which the world is. Its disk outlives a crash, and with it what was folded of it, as saved states do:
only what was set back is folded anew. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from ledger.entry import Entry, Observed
from ledger.events import FeedReceived, Reason
from ledger.identity import Feed
from ledger.node import confirming, wire
from ledger.node import signals as sig
from ledger.node.dice import Dice
from ledger.node.mesh import Mesh
from ledger.node.replicas import QUIET, Held
from ledger.node.state import SECOND
from ledger.node.view import View
from ledger.node.virtual_craft import VirtualCraft, VirtualRun, word_of
from ledger.node.virtual_disk import Disk, VirtualDisk, placed
from ledger.node.words import Named

Views = Callable[[Feed, Disk], View]
"""Makes the fold of a record: of the machine that begins to write this feed, whose disk this is."""
START_NS: Final = 1_767_225_600 * SECOND
RUN_ENTRIES: Final = 500


class Around(Protocol):
    """What a machine needs of its surroundings."""

    dice: Dice
    now_ns: int
    views: Views
    coverage: Counter[str]
    given: dict[tuple[str, int, str], int]

    def at(self, when_ns: int, call: Callable[[], Any]) -> None:
        """Call at this instant."""

    def send(self, node: VirtualNode, number: int, message: wire.Message) -> None:
        """Carry a message."""

    def abort(self, node: VirtualNode, number: int) -> None:
        """End a channel."""

    def dial(self, node: VirtualNode, action: sig.Dial) -> None:
        """Carry a dial."""

    def look_up(self, node: VirtualNode, action: sig.LookUp) -> None:
        """Answer a question to DNS."""

    def probe(self, node: VirtualNode, action: sig.Probe) -> None:
        """Say which key answers."""

    def hang_up(self, node: VirtualNode, reason: Reason = "reset", most: int = 10**9) -> int:
        """End channels of a machine."""


class VirtualNode(VirtualDisk):
    """One machine: its disk, and its core while it runs."""

    def __init__(self, world: Around, name: str, place: int) -> None:
        super().__init__(name)
        self.world = world
        self.dial_key = f"dial-key-of-{name}"
        self.host_key = f"host-key-of-{name}"
        self.hostname = f"{name}.lab.example"
        self.address = f"10.0.0.{place + 1}"
        self.offset_ns = 0
        self.software = "virtual 1"
        self.boots = 0
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
        self._when: int | None = None
        self._members: set[str] = set()
        self._folded = False
        self._made: dict[str, wire.Push] = {}
        """By feed id the last run of it that was given: what is new goes to all peers alike."""

    @property
    def now(self) -> sig.Now:
        """Its clocks."""
        return sig.Now(START_NS + self.world.now_ns + self.offset_ns, SECOND + self.world.now_ns)

    # Life.

    def start(self) -> None:
        """Boot: all that is known is what the disk holds."""
        self.boots += 1
        if not self._folded:
            self.view = self.folded()
            self._folded = True
        self.feed = next(item for item in reversed(self.journal) if isinstance(item, Feed))
        held = {feed: (Held(0, len(log)), len(log)) for feed, log in self.disk.items()}
        self.mesh = Mesh(
            self.feed, self.view, VirtualCraft(self), self.world.dice.fork(), self.now, boot=self.boots,
            software=self.software, port=22, last=len(self.disk[self.feed]), held=held, before=self.ran_before(),
        )  # fmt: skip
        self._batch = []
        self.mesh.start()
        self.settle()

    def folded(self) -> View:
        """The fold of all that the disk holds."""
        first, *rest = self.written()
        if not isinstance(first, Feed):
            raise TypeError(first)
        view = self.world.views(first, self.disk)
        for item in rest:
            if isinstance(item, Feed):
                view.begin(item)
            else:
                view.apply(item)
        return view

    def roll_back(self, entries: int) -> None:
        """The disk is set back by so many writes."""
        super().roll_back(entries)
        self._folded = False
        self._made = {}

    def crash(self) -> None:
        """Power is gone."""
        self.mesh = None
        self.full = False
        self._due += 1
        self._when = None
        self.world.hang_up(self)

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
        while (mesh := self.mesh) is not None:
            core = mesh.core
            events, actions = core.take_events(), core.take_actions()
            if events:
                self.store(events)
            elif not actions:
                break
            elif self._batch:
                self.store(())
            for action in actions:
                self.do(action)
        if mesh is None:
            return
        due = core.deadline()
        when = max(due - SECOND, self.world.now_ns) if due is not None else None
        if when == self._when:
            return  # it is waited for
        self._when = when
        self._due += 1
        if when is not None:
            self.world.at(when, partial(self._tick, self._due))

    def _tick(self, token: int) -> None:
        """The deadline that was waited for has come, unless another took its place."""
        if token == self._due:
            self._when = None
            self.observe(sig.Tick())

    def store(self, events: Sequence[Observed]) -> None:
        """Append to the own feed, or keep it for later if the disk is full."""
        mesh = self.mesh
        if mesh is None or not (events or self._batch):
            return
        batch = [*self._batch, *events]
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
            case sig.Give():
                self._give(action)
            case sig.Take():
                self._take(action)
            case sig.Abort():
                world.abort(self, action.channel)
            case sig.Dial():
                world.dial(self, action)
            case sig.LookUp():
                world.look_up(self, action)
            case sig.Probe():
                world.probe(self, action)
            case sig.Begin():
                self._begin(action)
            case sig.Trust():
                self._members = set(action.keys.values())
            case sig.Answer():
                self.told.append((action.request, action.body))
            case sig.Adopt(role="ledger"):
                self.key = action.key
                self._begin(sig.Begin("new-key"))
            case sig.Adopt():
                setattr(self, f"{action.role}_key", action.key)
            case sig.Halt():
                world.at(world.now_ns, self.crash)
            case sig.Redeem():
                raise NotImplementedError("nobody joins by code in a virtual world")

    def _give(self, action: sig.Give) -> None:
        if self.mesh is None:
            return
        feed = self.mesh.core.feed_of(action.feed)
        log = self.disk.get(feed, [])
        key = (self.name, action.channel, feed.id)
        after = action.after.last if action.after is not None else self.world.given.get(key)
        if after is None:
            return
        if after >= len(log):
            if action.after is not None:
                self.world.given[key] = after
                self.world.send(self, action.channel, wire.Nothing(feed.id))
            return
        push = self._run(action.feed, feed, log, after)
        self.world.given[key] = min(after + RUN_ENTRIES, len(log))
        self.world.send(self, action.channel, push)

    def _run(self, named: Named, feed: Feed, log: Sequence[Observed], after: int) -> wire.Push:
        """The next run of a feed after so much."""
        made = self._made.get(feed.id)
        run: Any = made.run if made is not None else None
        if made is None or run.after != after or run.word.last != len(log):
            observed = tuple(log[after : after + RUN_ENTRIES])
            run = VirtualRun(named, after, observed, tuple(placed(feed, after + 1, observed)), word_of(feed, len(log)))
            made = self._made[feed.id] = wire.Push(run)
        return made

    def _take(self, action: sig.Take) -> None:
        mesh, run, now = self.mesh, action.run, self.now
        if mesh is None:
            return
        self.store(mesh.take_events())
        feed = mesh.core.feed_of(run.feed)
        log = self.disk.get(feed, [])
        if self.full:
            mesh.observe(now, sig.Took(action.channel, feed, Held(0, len(log)), len(log), refused="medium"))
            return
        given: Any = run
        if feed == self.feed:
            ahead = run.word.last if run.word.last > len(log) else None
            mesh.observe(now, sig.Took(action.channel, feed, Held(0, len(log)), len(log), ahead=ahead))
            return
        due = mesh.core.deadline()
        if due is not None and due <= now.mono_ns:
            mesh.observe(now, sig.Tick())
            self.store(mesh.take_events())
        if given.after > len(log):
            held = Held(0, len(log))
            mesh.observe(now, sig.Took(action.channel, feed, held, len(log), refused="gap", again=held))
            return
        known = len(log) - given.after
        entries = given.entries[known:]
        self.put(feed, given.observed[known:])
        own: list[Entry] = []
        if not QUIET.issuperset([entry.event.kind for entry in entries]):
            own = self.keep(self.feed, [mesh.core.stamp(FeedReceived(feed.id, entries[-1].index))])
        size = len(self.disk[feed])
        mesh.observe(now, sig.Took(action.channel, feed, Held(0, size), size, entries, tuple(own)))

    def _begin(self, action: sig.Begin) -> None:
        mesh = self.mesh
        if mesh is None or self.full:
            return
        epoch = 1 + max(action.beyond, *(feed.epoch for feed in self.disk if feed.machine == self.name))
        feed = Feed.of(self.feed.incarnation, self.name, epoch, self.key)
        before, self.feed = self.feed, feed
        opened = confirming.opening(mesh.core, feed, action)
        self.journal.append(feed)
        entries = self.keep(feed, [opened])
        mesh.begun(feed, Held(0, len(self.disk[before])))
        mesh.stored(entries)
        self.world.coverage[f"epoch {action.why}"] += 1

    def accept(self) -> int:
        """A number for a channel that somebody opened."""
        self._accepted -= 1
        return self._accepted
