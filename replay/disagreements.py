"""On what observers differed in a window: pairs, machines, who is a member, and which islands they saw.

Links are compared as the merged logs have them (`differing`); members and islands by what each machine believed (`viewing`), so
that both sides of a partition show as each saw itself. Everything is a stretch with two sides or more, half-open, cut to the
window, with the entry of each observer's own feed by which it said so: ask `show` for the entry, or `at` for the moment.

Reads a history, writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter

from ledger.errors import NotCovered
from replay.answers_views import About, Disagreement, Disagreements, Side
from replay.cells import Cell
from replay.differing import Run, Runs, Said, differing
from replay.eras import eras
from replay.history import History
from replay.spans import format_instant
from replay.stats import Window, pairs_of
from replay.union import spelled
from replay.viewing import Sight, Views

Progress = Callable[[int, int], None]
"""Told how many feeds are done, and how many there are in all: each is gone over for its links, and each for its view."""
ISLANDS = "mesh"
"""What islands are of."""


def disagreements(
    history: History,
    since_ns: int,
    until_ns: int,
    of: Cell | None = None,
    *,
    least_ns: int = 1,
    progress: Progress | None = None,
) -> Disagreements:
    """All disagreements of at least `least_ns` in [since, until). `of`: only those about a machine and its pairs, or only a
    pair (or link). Raises Refused for a window that ends before it begins, and for a machine that the history does not know.
    """
    begun = {feed: history.state(feed, since_ns - 1) for feed in history.feeds}
    window = eras(history, begun, since_ns, until_ns)
    pairs = pairs_of(history, window, of)
    names = sorted(frozenset[str]().union(*(era.members for era in window)))
    links = [pair for a, b in pairs for pair in ((a, b), (b, a))]
    total = 2 * len(history.feeds)
    swept = Window(history, window, begun, links, None if progress is None else lambda done, _all: progress(done, total))
    about = names if of is None else [of.a] if of.kind == "machine" else []
    runs = differing(swept, pairs, about) if window else []
    if (of is None or of.kind == "machine") and window:
        runs += _views(history, since_ns, until_ns, of, progress)
    runs = [run for run in runs if run.until_ns - run.since_ns >= least_ns]
    runs.sort(key=lambda run: (run.since_ns, run.kind, run.about, run.until_ns))
    named = {feed.id: text for feed, text in spelled(history.feeds).items()}
    covered = dict.fromkeys(names, 0)
    for number, era in enumerate(window):
        for machine in era.members & covered.keys():
            feed = era.speakers.get(machine)
            spans = swept.covered[feed][number] if feed in swept.covered and feed is not None else ()
            covered[machine] += sum(stop - start for start, stop in spans)
    return Disagreements(
        since=format_instant(since_ns),
        until=format_instant(until_ns),
        covered_ns={machine: span for machine, span in covered.items() if of is None or machine in {a for a, _b in links}},
        disagreements=[_told(run, named) for run in runs],
    )


def _told(run: Run, named: Mapping[str, str]) -> Disagreement:
    sides: dict[str, dict[str, str]] = {}
    for observer, (says, feed, index) in sorted(run.said.items()):
        sides.setdefault(says, {})[observer] = f"{named[feed.id]}#{index}"
    ordered = sorted(sides.items(), key=lambda side: (-len(side[1]), side[0]))
    alone = [next(iter(by)) for _says, by in ordered if len(by) == 1]
    lone = alone[0] if len(ordered) == 2 and len(alone) == 1 else None
    kind: About = run.kind  # type: ignore[assignment]
    since, until = format_instant(run.since_ns), format_instant(run.until_ns)
    return Disagreement(kind, run.about, since, until, lone, [Side(says, by) for says, by in ordered])


def _views(history: History, since_ns: int, until_ns: int, of: Cell | None, progress: Progress | None) -> list[Run]:
    """Where the machines' beliefs differ: about a member, and about islands among those whom all held for members."""
    views = Views(history, since_ns, until_ns)
    sights: list[tuple[int, str, Sight]] = []
    machines = sorted({feed.machine for feed in history.feeds if not feed.notes})
    for done, machine in enumerate(machines, 1):
        try:
            sights += [(sight.at_ns, machine, sight) for sight in views.seen_by(machine)]
        except NotCovered:
            continue
        if progress is not None:
            progress(len(history.feeds) + done * len(history.feeds) // len(machines), 2 * len(history.feeds))
    sights.sort(key=itemgetter(0))
    member, islands = Runs("member"), Runs("islands")
    now: dict[str, Sight] = {}
    told = _Told()
    for at_ns, together in groupby(sights, key=itemgetter(0)):
        now.update((machine, sight) for _at_ns, machine, sight in together)
        seeing = {m: sight for m, sight in now.items() if sight.members is not None and m in sight.members}
        if of is None:
            islands.turn(ISLANDS, at_ns, told.of(ISLANDS, dict(_islands(seeing))))
        for name in {name for sight in now.values() for name in sight.members or ()} | member.open():
            if of is None or of.a == name:
                member.turn(
                    name, at_ns, told.of(f"member {name}", {m: _said(name in (s.members or ()), s) for m, s in seeing.items()})
                )
    return member.close(until_ns) + islands.close(until_ns)


class _Told:
    """Who said what, by which entry first: an observer that says the same again is taken at its first word."""

    def __init__(self) -> None:
        self._said: dict[str, dict[str, Said]] = {}

    def of(self, about: str, said: dict[str, Said]) -> dict[str, Said]:
        before = self._said.get(about, {})
        kept = {observer: before[observer] if before.get(observer, ("",))[0] == new[0] else new for observer, new in said.items()}
        self._said[about] = kept
        return kept


def _said(is_member: bool, sight: Sight) -> Said:
    return "member" if is_member else "no member", sight.feed, sight.place


def _islands(seeing: Mapping[str, Sight]) -> Iterator[tuple[str, Said]]:
    """What each sees of those whom all of them hold for members."""
    common = frozenset[str].intersection(*(sight.members or frozenset() for sight in seeing.values())) if seeing else frozenset()
    for machine, sight in seeing.items():
        parts = [[name for name in island if name in common] for island in sight.islands]
        told = " | ".join(" ".join(part) for part in parts if part)
        yield machine, (told if " | " in told else "whole", sight.feed, sight.place)
