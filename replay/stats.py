"""How long each pair was so, and how its links did: the integral of the state over a window, exact to the nanosecond.

The times of the seven states of a pair add up to the window, and a pair is counted as what `History.at` says it was, at every
instant of it: members and plans from the eras, coverage from the pauses of both feeds, up and down from the sweeps of both.
`flaps` is the number of times within the window that the pair left `up`, for whatever state: lost, silent, planned, not
covered or gone. Results of pings are those in [since, until) that had a link to be sent on; quantiles are by nearest rank
(the least round trip that so many per cent of them do not exceed).

Reads a history, one machine's feeds at a time, and writes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from typing import Final

from ledger.errors import Refused
from ledger.identity import Feed
from projections.coverage import covered_spans
from projections.feed_state import FeedState
from projections.views import Pair
from replay.answers import LinkCounts, PairTimes, Rtt, Stats
from replay.cells import Cell
from replay.eras import Era, eras
from replay.history import History
from replay.spans import format_instant
from replay.sweep import UNKNOWN, Count, Line, Sweep

Progress = Callable[[int, int], None]
"""Told how many feeds are done, and how many there are in all."""
Span = tuple[int, int]
_NO_RTT: Final = Rtt(None, None, None)


def stats(history: History, since_ns: int, until_ns: int, of: Cell | None = None, *, progress: Progress | None = None) -> Stats:
    """Times and results over [since, until), of every pair of machines that were members in it. `of`: only the pairs of a
    machine, only a pair, or only a link and its pair. Raises Refused for a window that ends before it begins, and for a
    machine that the history does not know.
    """
    if since_ns > until_ns:
        raise Refused("the window ends before it begins", hint="give the earlier end first")
    begun = {feed: history.state(feed, since_ns - 1) for feed in history.feeds}
    window = eras(history, begun, since_ns, until_ns)
    pairs = pairs_of(history, window, of)
    links = {pair for a, b in pairs for pair in ((a, b), (b, a))}
    over = Window(history, window, begun, links, progress)
    asked = {(of.a, of.b)} if of is not None and of.kind == "link" else links
    return Stats(
        since=format_instant(since_ns),
        until=format_instant(until_ns),
        pairs={f"{a}={b}": over.times(a, b) for a, b in pairs},
        links={f"{a}:{b}": over.counts.get((a, b), LinkCounts(0, 0, _NO_RTT)) for a, b in sorted(asked)},
    )


def pairs_of(history: History, window: Sequence[Era], of: Cell | None) -> list[Pair]:
    """The pairs that are asked for, in order. Raises Refused for a machine that the history does not know."""
    members = sorted(frozenset[str]().union(*(era.members for era in window)))
    if of is None:
        return [(a, b) for place, a in enumerate(members) for b in members[place + 1 :]]
    known = {*members, *(feed.machine for feed in history.feeds)}
    unknown = [name for name in (of.a, of.b) if name and name not in known]
    if unknown:
        raise Refused(f"no machine {unknown[0]} in this window", hint=f"there are {', '.join(sorted(known)[:8]) or 'none'}")
    if of.kind == "machine":
        return sorted((min(of.a, other), max(of.a, other)) for other in members if other != of.a)
    return [(min(of.a, of.b), max(of.a, of.b))]


class Window:
    """What the feeds say about the window: lines and coverage by feed, results by link."""

    def __init__(
        self,
        history: History,
        window: Sequence[Era],
        begun: dict[Feed, FeedState],
        links: Collection[Pair],
        progress: Progress | None,
    ) -> None:
        self.window = window
        self.lines: dict[Feed, dict[str, Line]] = {}
        self.covered: dict[Feed, list[list[Span]]] = {}
        self.counts: dict[Pair, LinkCounts] = {}
        peers: dict[str, set[str]] = {}
        for observer, peer in links:
            peers.setdefault(observer, set()).add(peer)
        own = frozenset[Feed]().union(*(era.own for era in window))
        feeds = [feed for feed in history.feeds if feed in own and feed.machine in peers]
        counts: dict[str, Count] = {}
        for done, (feed, following) in enumerate(pairwise([*feeds, None]), 1):
            if feed is None:
                break
            sweep = Sweep(
                history.reader(feed), begun[feed], history.feed_end_ns(feed), window, peers=peers[feed.machine], counts=counts
            )
            sweep.run()
            self.lines[feed] = sweep.lines
            self.covered[feed] = [_covered(sweep, era) for era in window]
            if following is None or following.machine != feed.machine:
                self.counts.update({(feed.machine, peer): _counted(count) for peer, count in counts.items()})
                counts = {}
            if progress is not None:
                progress(done, len(feeds))

    def times(self, a: str, b: str) -> PairTimes:
        """How long the pair was in each state, and how often it left `up`."""
        total: Counter[str] = Counter()
        flaps, before = 0, ""
        for number, era in enumerate(self.window):
            for state, span_ns in self._spans(a, b, number, era):
                total[state] += span_ns
                flaps += before == "up" != state
                before = state
        return PairTimes(
            up_ns=total["up"],
            down_ns=total["down"],
            asymmetric_ns=total["asymmetric"],
            unknown_ns=total["unknown"],
            uncovered_ns=total["uncovered"],
            planned_ns=total["planned"],
            absent_ns=total["absent"],
            flaps=flaps,
        )

    def _spans(self, a: str, b: str, number: int, era: Era) -> Iterator[tuple[str, int]]:
        """(state, length) of the pair, one after the other, through an era."""
        if a not in era.members or b not in era.members:
            yield "absent", era.until_ns - era.since_ns
            return
        if a in era.planned or b in era.planned:
            yield "planned", era.until_ns - era.since_ns
            return
        reached = era.since_ns
        feeds = era.speakers.get(a), era.speakers.get(b)
        if feeds[0] is not None and feeds[1] is not None:
            there, back = self.lines[feeds[0]].get(b), self.lines[feeds[1]].get(a)
            for start_ns, stop_ns in _both(self.covered[feeds[0]][number], self.covered[feeds[1]][number]):
                if reached < start_ns:
                    yield "uncovered", start_ns - reached
                yield from _together(there, back, start_ns, stop_ns)
                reached = stop_ns
        if reached < era.until_ns:
            yield "uncovered", era.until_ns - reached


def _covered(sweep: Sweep, era: Era) -> list[Span]:
    """Where a feed covers an era."""
    if not sweep.entries:
        return []
    return covered_spans(
        sweep.first_ns, sweep.end_ns, era.interval_ns, sweep.pauses, since_ns=era.since_ns, until_ns=era.until_ns
    )


def _both(ones: Sequence[Span], others: Sequence[Span]) -> Iterator[Span]:
    """Where both cover; each ascending and apart."""
    place = 0
    for start, stop in ones:
        while place < len(others) and others[place][1] <= start:
            place += 1
        for other in others[place:]:
            if other[0] >= stop:
                break
            yield max(start, other[0]), min(stop, other[1])


def _together(there: Line | None, back: Line | None, start_ns: int, stop_ns: int) -> Iterator[tuple[str, int]]:
    """What a pair is while both of its feeds cover, from both of its links."""
    turns = [(start_ns, side, _state_at(line, start_ns)) for side, line in enumerate((there, back))]
    for side, line in enumerate((there, back)):
        if line is not None and len(line.times) > 1:
            place = bisect_right(line.times, start_ns)
            while place < len(line.times) and line.times[place] < stop_ns:
                turns.append((line.times[place], side, line.states[place]))
                place += 1
    turns.sort(key=_when)
    now = [UNKNOWN, UNKNOWN]
    for (at_ns, side, state), following in pairwise([*turns, (stop_ns, 0, "")]):
        now[side] = state
        if following[0] > at_ns:
            yield _pair_state(now[0], now[1]), following[0] - at_ns


def _state_at(line: Line | None, at_ns: int) -> str:
    return UNKNOWN if line is None else line.states[bisect_right(line.times, at_ns) - 1]


def _when(turn: tuple[int, int, str]) -> int:
    return turn[0]


def _pair_state(there: str, back: str) -> str:
    if there == back:
        return there
    return UNKNOWN if UNKNOWN in {there, back} else "asymmetric"


def _counted(count: Count) -> LinkCounts:
    ranked = sorted(count.rtt_us)
    if not ranked:
        return LinkCounts(count.sent, count.lost, _NO_RTT)
    rtt_us = Rtt(nearest_rank(ranked, 50), nearest_rank(ranked, 99), ranked[-1])
    return LinkCounts(count.sent, count.lost, rtt_us)


def nearest_rank(ranked: Sequence[int], percent: int) -> int:
    """The quantile by nearest rank of numbers in ascending order, at least one (Hyndman and Fan 1996, definition 1)."""
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]
