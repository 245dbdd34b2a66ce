"""Both directions of each pair, as link entries say them: what monitors across feeds go by.

They are told the control entries of all feeds in display order; what a pair's links are follows from these, as pings only
confirm what link entries said. Between observers only instants compare, so every bound is an interval wider than it would
be on one clock. An observer that crashed says nothing: what was open then is not covered. A value or two a direction, no more.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from ledger import events as ev
from ledger.entry import Entry
from projections.monitor import PARTED, Horizon, Monitor, State

LINKS = frozenset({"link.established", "link.lost", "link.failed"})
LIVES = frozenset({"node.started", "node.stopped"})
LEAVES = frozenset({"machine.left", "machine.disconnected"})


class Half(msgspec.Struct, array_like=True):
    """One direction: what its observer says (up, down, parted on purpose, unknown), since when, by which position; `lost_ns`:
    when it stopped standing last.
    """

    state: str = "unknown"
    at_ns: int = 0
    pos: str = ""
    lost_ns: int = 0


class Halves(State):
    """By observer and peer."""

    halves: dict[str, dict[str, Half]] = msgspec.field(default_factory=dict)
    running: dict[str, int] = msgspec.field(default_factory=dict)
    """By machine since when its node runs, as far as it says."""
    spoken: dict[str, str] = msgspec.field(default_factory=dict)
    """By machine the feed of its last start or stop, or the one in which it went on under a new key: with any other new epoch
    nobody knows when the one before ended.
    """

    def half(self, observer: str, peer: str) -> Half:
        """What is known of one direction."""
        mine = self.halves.setdefault(observer, {})
        found = mine.get(peer)
        if found is None:
            found = mine[peer] = Half()
        return found


class AcrossFeeds(Monitor):
    """What the monitors here share: they follow each direction of each pair."""

    mesh = True
    kinds = LINKS | LIVES | LEAVES | {"feed.opened"}
    state_type: ClassVar[type[State]] = Halves

    def step(self, entry: Entry, now_ns: int) -> None:
        """`now_ns`: the effective instant of the entry before it in its feed."""
        event, observer = entry.event, entry.feed.machine
        if isinstance(event, (ev.LinkEstablished, ev.LinkLost, ev.LinkFailed)):
            half = self.state.half(observer, event.peer)
            said = "up"
            if not isinstance(event, ev.LinkEstablished):
                said = "parted" if event.reason in PARTED else "down"
            if half.state != said:
                before = Half(half.state, half.at_ns, half.pos, half.lost_ns)
                if half.state == "up":
                    half.lost_ns = entry.effective_ns
                half.state, half.at_ns, half.pos = said, entry.effective_ns, entry.position
                self.turned(observer, event.peer, before, entry)
            self.linked(observer, event.peer, entry)
        elif isinstance(event, (ev.NodeStarted, ev.NodeStopped)):
            same = self.state.spoken.get(observer) == entry.feed.id
            ended_ns = now_ns if isinstance(event, ev.NodeStarted) and same else entry.effective_ns
            crashed = isinstance(event, ev.NodeStarted) and observer in self.state.running and same
            self.state.spoken[observer] = entry.feed.id
            self.ended(observer, ended_ns, entry, crashed=crashed)
            for half in self.state.halves.get(observer, {}).values():
                half.state, half.at_ns, half.pos = "unknown", entry.effective_ns, entry.position
            self.state.running.pop(observer, None)
            if isinstance(event, ev.NodeStarted):
                self.state.running[observer] = entry.effective_ns
        elif isinstance(event, (ev.MachineLeft, ev.MachineDisconnected)):
            self.gone(event.machine, entry)
        elif isinstance(event, ev.FeedOpened) and event.why == "new-key":
            self.state.spoken[observer] = entry.feed.id

    def turned(self, observer: str, peer: str, before: Half, entry: Entry) -> None:
        """A direction is another than it was `before`."""

    def linked(self, observer: str, peer: str, entry: Entry) -> None:
        """Any link entry, after the direction has turned."""

    def ended(self, observer: str, ended_ns: int, entry: Entry, *, crashed: bool) -> None:
        """A node stopped, or began: what it did before ended at `ended_ns`. The directions are still what they were."""

    def gone(self, machine: str, entry: Entry) -> None:
        """A machine left, or was disconnected on purpose."""


def ends_by_machine(horizon: Horizon) -> dict[str, int]:
    """The instant of each machine's last entry, in whatever feed of it."""
    found: dict[str, int] = {}
    for feed, end_ns in horizon.end_ns.items():
        found[feed.machine] = max(end_ns, found.get(feed.machine, end_ns))
    return found
