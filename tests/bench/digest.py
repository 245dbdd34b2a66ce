"""What every contestant of the benchmark must answer alike, and the plain fold that says what is right.

The state of a whole cluster, as far as all contestants can tell it: of each directed pair its last ping (index in the
feed, outcome), the instant and round trip of the last answer, how many were sent and lost, and whether the last
*evidence* of the link is good (established, answered: `up`) or bad (lost, failed: `down`); and the members. It is the
last word that counts: no silence, no coverage, no restart makes a link unknown here, as no peer knows those words.

`digest` is SHA-256 over the state as sorted JSON. `Fold` is the definition, event by event, knowing nothing of how
anybody stores them. `rolled` is the work that the in-order measure asks of each event. No I/O.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Final

from ledger.entry import Observed
from ledger.events import LinkEstablished, LinkFailed, LinkLost, MachineJoined, MachineLeft, PingAnswered, PingFailed
from ledger.identity import Feed

Pair = tuple[str, str]
PingCell = tuple[int, str, int | None, int | None, int | None, int | None]
"""Last index, its outcome, instant (ns) and RTT (us) of the last answer, sent, lost; the last two None if not counted."""

ANSWERED: Final = "answered"
FAILED: Final = "failed"
UP: Final = "up"
DOWN: Final = "down"
Visited = tuple[int, int, str, str, int]
"""One event in order: index, instant (ns), peer or "", kind, RTT (us) or -1."""


class State:
    """The answer of one contestant, at one moment or at the end."""

    __slots__ = ("links", "members", "pings")

    def __init__(self, pings: dict[Pair, PingCell], links: dict[Pair, str], members: Iterable[str]) -> None:
        self.pings = pings
        self.links = links
        self.members = sorted(members)


def digest(state: State, *, counts: bool = True) -> str:
    """SHA-256 of a state. Without `counts`, sent and lost are left out."""
    fields = 6 if counts else 4
    plain = {
        "pings": {f"{observer}:{peer}": list(cell[:fields]) for (observer, peer), cell in state.pings.items()},
        "links": {f"{observer}:{peer}": link for (observer, peer), link in state.links.items()},
        "members": state.members,
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def members(joins: Iterable[tuple[str, str]], ended: Iterable[str]) -> set[str]:
    """Who is a member: `joins` as (position, machine), `ended` the positions that removals name."""
    over = set(ended)
    return {machine for position, machine in joins if position not in over}


class Fold:
    """The fold that defines the state, one event at a time, and its value at given moments on the way."""

    def __init__(self, moments: Sequence[int] = ()) -> None:
        self.moments = sorted(moments)
        self.index: dict[str, int] = {}
        self.passed: dict[str, int] = {}  # of each feed, how many moments lie before its next entry
        self.pings: dict[str, dict[str, list]] = {}
        self.links: dict[str, dict[str, str]] = {}
        self.joins: list[tuple[int, str, str]] = []
        self.ended: list[tuple[int, str]] = []
        self.then: list[tuple[dict[Pair, PingCell], dict[Pair, str]]] = [({}, {}) for _ in self.moments]

    def add(self, feed: Feed, entries: Iterable[Observed]) -> None:
        """The next entries of `feed`."""
        name = feed.machine
        index, passed = self.index.get(name, 0), self.passed.get(name, 0)
        pings, links = self.pings.setdefault(name, {}), self.links.setdefault(name, {})
        for entry in entries:
            index += 1
            while passed < len(self.moments) and self.moments[passed] < entry.at_ns:
                self._keep(passed, name)
                passed += 1
            event = entry.event
            if isinstance(event, PingAnswered):
                cell = pings.setdefault(event.peer, [0, "", None, None, 0, 0])
                cell[0], cell[1], cell[2], cell[3] = index, ANSWERED, entry.at_ns, event.rtt_us
                cell[4] += 1
                links[event.peer] = UP
            elif isinstance(event, PingFailed):
                cell = pings.setdefault(event.peer, [0, "", None, None, 0, 0])
                cell[0], cell[1] = index, FAILED
                cell[4] += 1
                cell[5] += 1
            elif isinstance(event, LinkEstablished):
                links[event.peer] = UP
            elif isinstance(event, LinkLost | LinkFailed):
                links[event.peer] = DOWN
            elif isinstance(event, MachineJoined):
                self.joins.append((entry.at_ns, feed.at(index), event.machine))
            elif isinstance(event, MachineLeft):
                self.ended.extend((entry.at_ns, position) for position in event.joins)
        self.index[name], self.passed[name] = index, passed

    def _keep(self, moment: int, name: str) -> None:
        pings, links = self.then[moment]
        pings.update({(name, peer): tuple(cell) for peer, cell in self.pings[name].items()})
        links.update({(name, peer): link for peer, link in self.links[name].items()})

    def end(self) -> State:
        """The state after all entries."""
        return State(
            {(name, peer): tuple(cell) for name, cells in self.pings.items() for peer, cell in cells.items()},
            {(name, peer): link for name, cells in self.links.items() for peer, link in cells.items()},
            members([(position, machine) for _, position, machine in self.joins], [position for _, position in self.ended]),
        )

    def states(self) -> list[State]:
        """The states at the moments, ascending. Call it once, after all entries."""
        for name in self.index:
            for moment in range(self.passed[name], len(self.moments)):
                self._keep(moment, name)
            self.passed[name] = len(self.moments)
        return [
            State(
                pings,
                links,
                members(
                    [(position, machine) for at, position, machine in self.joins if at <= moment],
                    [position for at, position in self.ended if at <= moment],
                ),
            )
            for moment, (pings, links) in zip(self.moments, self.then, strict=True)
        ]


def rolled(events: Iterable[Visited], start: int = 0) -> int:
    """A number that depends on each field of each event and on their order: the loop of the in-order measure.

    It holds for one interpreter and one PYTHONHASHSEED, which all contestants of a run share.
    """
    value = start
    for index, at_ns, peer, kind, rtt_us in events:
        value = hash((value, index, at_ns, peer, kind, rtt_us))
    return value


def visited(index: int, entry: Observed) -> Visited:
    """What `rolled` wants to know of an entry."""
    event = entry.event
    rtt_us = event.rtt_us if isinstance(event, PingAnswered) else -1
    return index, entry.at_ns, getattr(event, "peer", ""), event.kind, rtt_us
