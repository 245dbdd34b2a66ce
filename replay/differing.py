"""On which pairs and machines observers differed, by the merged logs: what each link was for its observer, side by side.

A link counts where its observer's feed covers it and it is up or down: unknown agrees with everybody. Planned disconnects are
no disagreement. Every stretch in which both sides stay the same, observers and their evidence, is one run, half-open and exact.

Reads what `stats.Window` swept, writes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from ledger.identity import Feed
from replay.eras import Era
from replay.stats import Window
from replay.sweep import DOWN, UNKNOWN

Said = tuple[str, Feed, int]
"""What an observer said, and the entry by which it said so."""


class Run(NamedTuple):
    """What observers said of `about` from `since_ns` until `until_ns`: by observer, more than one thing."""

    kind: str
    about: str
    since_ns: int
    until_ns: int
    said: dict[str, Said]


class Runs:
    """Collects runs: told of each change, in order, it joins what stays the same."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.found: list[Run] = []
        self._now: dict[str, tuple[int, dict[str, Said]]] = {}

    def turn(self, about: str, at_ns: int, said: Mapping[str, Said]) -> None:
        """From `at_ns` on this is said of `about`."""
        before = self._now.get(about)
        if before is not None and before[1] == said:
            return
        self.end(about, at_ns)
        if len({each[0] for each in said.values()}) > 1:
            self._now[about] = at_ns, dict(said)

    def open(self) -> set[str]:
        """What is differed on now."""
        return set(self._now)

    def end(self, about: str, at_ns: int) -> None:
        """Nothing more is said of `about` from `at_ns` on."""
        before = self._now.pop(about, None)
        if before is not None and before[0] < at_ns:
            self.found.append(Run(self.kind, about, before[0], at_ns, before[1]))

    def close(self, at_ns: int) -> list[Run]:
        """All runs, once the window has ended."""
        for about in list(self._now):
            self.end(about, at_ns)
        return self.found


def differing(window: Window, pairs: Iterable[tuple[str, str]], machines: Iterable[str]) -> list[Run]:
    """The runs of these pairs and about these machines."""
    of_pairs, of_machines = Runs("pair"), Runs("machine")
    wanted, about = list(pairs), list(machines)
    for number in range(len(window.window)):
        for a, b in wanted:
            _pair(window, number, of_pairs, a, b)
        for machine in about:
            _machine(window, number, of_machines, machine)
    until_ns = window.window[-1].until_ns if window.window else 0
    return of_pairs.close(until_ns) + of_machines.close(until_ns)


def _pair(window: Window, number: int, runs: Runs, a: str, b: str) -> None:
    era = window.window[number]
    name = f"{a}={b}"
    if {a, b} <= era.members and not {a, b} & era.planned:
        turns = list(_links(window, number, era, [(a, b), (b, a)]))
        for at_ns, said in _states(era, turns):
            runs.turn(name, at_ns, said)
    else:
        runs.end(name, era.since_ns)


def _machine(window: Window, number: int, runs: Runs, machine: str) -> None:
    era = window.window[number]
    if machine in era.members and machine not in era.planned:
        others = sorted(era.members - era.planned - {machine})
        turns = list(_links(window, number, era, [(other, machine) for other in others]))
        if any(said is not None and said[0] == DOWN for _at_ns, _observer, said in turns):
            for at_ns, said in _states(era, turns):
                runs.turn(machine, at_ns, said)
            return
    runs.end(machine, era.since_ns)


def _links(window: Window, number: int, era: Era, links: Iterable[tuple[str, str]]) -> Iterator[tuple[int, str, Said | None]]:
    """(instant, observer, what it says from then on) of each link, None where it says neither up nor down."""
    for observer, peer in links:
        feed = era.speakers.get(observer)
        line = window.lines[feed].get(peer) if feed is not None else None
        if feed is None or line is None:
            continue
        times, states, places = line.times, line.states, line.places
        for start_ns, stop_ns in window.covered[feed][number]:
            place = bisect_right(times, start_ns) - 1
            at_ns = start_ns
            while at_ns < stop_ns:
                state = states[place]
                yield at_ns, observer, None if state == UNKNOWN else (state, feed, places[place])
                place += 1
                at_ns = times[place] if place < len(times) else stop_ns
            yield stop_ns, observer, None


def _states(era: Era, turns: Iterable[tuple[int, str, Said | None]]) -> Iterator[tuple[int, dict[str, Said]]]:
    """What is said by whom, from each instant of an era on at which it changes, from its first on."""
    now: dict[str, Said] = {}
    first = True
    for at_ns, together in groupby(sorted(turns, key=itemgetter(0)), key=itemgetter(0)):
        if at_ns >= era.until_ns:
            break
        if first and at_ns > era.since_ns:
            yield era.since_ns, {}
        first = False
        for _at_ns, observer, said in together:
            now.pop(observer, None)
            if said is not None:
                now[observer] = said
        yield at_ns, now
    if first:
        yield era.since_ns, {}
