"""Machines without a world: the cores of a mesh on a virtual network and a virtual clock, storey A of the simulation.

A `World` carries messages with delay and in order, holds them back where a way is cut (as a stream does that is sent again and
again), looks names up in a table, and knows no time but its own. Everything that could vary is drawn from one seed, so that
one seed gives one log, byte for byte. The meaning of the record is handed in (`views`), as for the daemon. Pure.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, get_args

import msgspec

from ledger.entry import Observed
from ledger.events import Addressing, ClusterCreated, FeedOpened, FeedReceived, MachineJoined, Outcome, Reason, SettingsChanged
from ledger.identity import Feed, incarnation_id
from ledger.node import signals as sig
from ledger.node import wire
from ledger.node.dice import Dice
from ledger.node.state import MS, SECOND
from ledger.node.virtual_node import START_NS, Views, VirtualNode

DIAL_TIMEOUT_NS: Final = 10 * SECOND
LATENCY_NS: Final = (1 * MS, 30 * MS)
_SPREAD_NS: Final = LATENCY_NS[1] - LATENCY_NS[0] + 1


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
        self._addresses = {node.address: node for node in self.nodes.values()}
        self._found(settings or SettingsChanged(1), addressing)

    def _found(self, settings: SettingsChanged, addressing: Addressing) -> None:
        first, *rest = self.nodes.values()
        incarnation = incarnation_id("lab", "ssh", addressing, first.key, "virtual")

        def join(node: VirtualNode, held: int, epoch: int | None = None) -> MachineJoined:
            host = node.hostname if addressing == "name" else node.address
            return MachineJoined(node.name, host, 22, None, node.host_key, node.dial_key, node.key, held, addressing, epoch)

        founder = Feed.of(incarnation, first.name, 1, first.key)
        events = [
            FeedOpened(incarnation, first.name, 1, first.key), ClusterCreated("lab", incarnation, "ssh", addressing, "virtual"),
            join(first, 2, 1), settings, *(join(node, 0) for node in rest),
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
        heapq.heappush(self._heap, (max(self.now_ns, when_ns), self._sequence, call))

    def run(self, until_ns: int) -> None:
        """Let time pass."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until_ns:
            self.now_ns, _sequence, call = pop(heap)
            call()
        self.now_ns = until_ns

    def _delay(self) -> int:
        delay = LATENCY_NS[0] + self.dice.below(_SPREAD_NS) + self.slow_ns
        while self.lossy and self.dice.chance(self.lossy):
            delay += 200 * MS  # lost, and sent again
            self.coverage["loss"] += 1
        return delay

    # Wires.

    def by_address(self, address: str) -> VirtualNode | None:
        """The machine at an address."""
        return self._addresses.get(address)

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
                cable.numbers[1] = there.accept()
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
        if self.cuts and (node.name, cable.ends[1 - side].name) in self.cuts:
            cable.held.append((side, message))
            return
        when = cable.free_ns[side] = max(self.now_ns + self._delay(), cable.free_ns[side])
        self.at(when, partial(self._arrive, cable, side, message))

    def _arrive(self, cable: Cable, side: int, message: wire.Message) -> None:
        """A message has come to the end of a cable, if that still stands."""
        end = 1 - side
        there, number = cable.ends[end], cable.numbers[end]
        found = self.cables.get((there.name, number))
        if not cable.open or found is None or found[0] is not cable or found[1] != end:
            return
        if self.cuts and (cable.ends[side].name, there.name) in self.cuts:
            cable.held.append((side, message))
        else:
            there.observe(sig.Heard(number, message))

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
