"""The open part of a feed, as its rows hold it: entries when they are asked for, and what they amount to without making any.

A moment near the end, and every replay, folds the open part; of a feed written in batches that is up to a thousand pings.
`observed` gives them back and is the definition. `tally` counts them into groups as a record's directory would, from the rows'
plain numbers; that a fold comes to the same either way is a law. Rows were checked before they come here (`feeds`). Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter, le
from typing import Any, NamedTuple

from ledger import codec, rows
from ledger.blocks import Group
from ledger.entry import Observed
from ledger.heads import Head

Control = tuple[int, int, int | None, int | None, str, int, bytes]
"""Index, wall clock, boot, monotonic clock, kind, version, stored form."""
_NUMBER, _AT, _HELD, _RTT = 0, 1, 4, 5
"""Places in a ping of an open row (`rows.decode_open_row`)."""
_number, _at = itemgetter(_NUMBER), itemgetter(_AT)


class Run(NamedTuple):
    """Neighbouring pings that one row holds, the first of which has index `first`."""

    first: int
    contexts: Sequence[tuple[Any, ...]]
    pings: Sequence[tuple[Any, ...]]


class Tally(NamedTuple):
    """The entries up to a moment: index and instant of the last of them, what their pings amount to, how many control entries
    are among them.
    """

    last: int
    last_ns: int
    groups: list[Group]
    controls: int


class OpenPart:
    """What stands after the records that `head` counts: `runs` of pings and `controls`, ascending, without a hole."""

    def __init__(self, head: Head, runs: Sequence[Run], controls: Sequence[Control]) -> None:
        self.head, self.runs, self.controls = head, runs, controls

    def observed(self) -> list[Observed]:
        """The entries, in order, as they are stored."""
        pings = chain.from_iterable(rows.open_pings(run.contexts, run.pings) for run in self.runs)
        result: list[Observed] = []
        for index, at_ns, boot, mono_ns, kind, version, raw in self.controls:
            result.extend(islice(pings, index - self.head.sealed - 1 - len(result)))
            result.append(Observed(at_ns, codec.stored_event(kind, version, raw), boot, mono_ns))
        result.extend(pings)
        return result

    def peak_ns(self) -> int:
        """The latest wall clock of the feed, records and all. Precondition: some entry is open."""
        walls: list[int] = [max(map(_at, run.pings)) for run in self.runs if run.pings] + [
            control[1] for control in self.controls
        ]
        return max(walls) if self.head.peak_ns is None else max(self.head.peak_ns, *walls)

    def to(self, peer: str, last: int) -> list[tuple[int, Observed]]:
        """The pings to one peer up to index `last`, with their indexes, ascending."""
        found = []
        for run in self.runs:
            meant = {number for number, context in enumerate(run.contexts) if context[1] == peer}
            places = [place for place, ping in enumerate(run.pings[: max(0, last - run.first + 1)]) if ping[_NUMBER] in meant]
            pings = rows.open_pings(run.contexts, [run.pings[place] for place in places])
            found += [(run.first + place, ping) for place, ping in zip(places, pings, strict=True)]
        return found

    def visits(self, run: Run) -> Iterator[tuple[int, int, str, str, int]]:
        """The pings of a run as `walking` gives them."""
        kinds = ["ping.answered" if context[0] else "ping.failed" for context in run.contexts]
        peers = [context[1] for context in run.contexts]
        numbers = list(map(_number, run.pings))
        return zip(
            range(run.first, run.first + len(run.pings)),
            map(_at, run.pings),
            map(peers.__getitem__, numbers),
            map(kinds.__getitem__, numbers),
            [ping[_RTT] if len(ping) > _RTT else -1 for ping in run.pings],
            strict=True,
        )

    def tally(self, until: int) -> Tally | None:
        """What the entries with an instant of at most `until` ns amount to. None where that takes the entries themselves: the
        clock went back, or pings alike in all else say what they hold, and do not.
        """
        before, peak = self.head.sealed + 1, self.head.peak_ns
        walls = [0] * (self.head.last - self.head.sealed)
        for run in self.runs:
            walls[run.first - before : run.first - before + len(run.pings)] = map(_at, run.pings)
        for control in self.controls:
            walls[control[0] - before] = control[1]
        if not walls or not all(map(le, walls, walls[1:])) or (peak is not None and walls[0] < peak):
            return None
        kept = bisect_right(walls, until)
        last = self.head.sealed + kept
        groups = self._groups(last)
        if groups is None:
            return None
        return Tally(last, walls[kept - 1] if kept else 0, groups, bisect_right(self.controls, last, key=_number))

    def _groups(self, last: int) -> list[Group] | None:
        found: dict[tuple[Any, ...], list[Any]] = {}
        heard: dict[str, int] = {}
        gaps: dict[str, int] = {}
        for run in self.runs:
            if run.first > last:
                break
            pings = run.pings[: last - run.first + 1]
            numbers, walls = list(map(_number, pings)), list(map(_at, pings))
            peers = [context[1] for context in run.contexts]
            for peer, at_ns in zip(map(peers.__getitem__, numbers), walls, strict=True):
                gap_ns = at_ns - heard.get(peer, at_ns)
                if gap_ns > gaps.get(peer, -1):
                    gaps[peer] = gap_ns
                heard[peer] = at_ns
            silent = {ping[_NUMBER] for ping in pings if ping[_HELD] is None}
            if silent and any(ping[_HELD] is not None and ping[_NUMBER] in silent for ping in pings):
                return None
            places = range(run.first, run.first + len(pings))
            ends = dict(zip(numbers, zip(places, pings, strict=True), strict=True))  # the last wins
            begins = dict(zip(reversed(numbers), zip(reversed(places), reversed(walls), strict=True), strict=True))
            for number, count in Counter(numbers).items():
                answered, peer, link, said, feed, _boot = run.contexts[number]
                index, ping = ends[number]
                key = (peer, link, None if answered else said, feed, number in silent)
                kept = found.setdefault(key, [0, *begins[number], 0, ping])
                kept[0] += count
                kept[3:] = index, ping
        return [
            Group(
                peer, link, reason, count, first, first_ns, index, ping[_AT],
                0 if reason is not None else ping[_RTT], gaps[peer], feed, ping[_HELD],
            )
            for (peer, link, reason, feed, _silent), (count, first, first_ns, index, ping) in found.items()
        ]  # fmt: skip


class Copied(OpenPart):
    """An open part of which nothing but the entries is known."""

    def __init__(self, head: Head, observed: Sequence[Observed]) -> None:
        super().__init__(head, (), ())
        self._observed = list(observed)

    def observed(self) -> list[Observed]:
        """The entries, in order, as they are stored."""
        return self._observed

    def peak_ns(self) -> int:
        """The latest wall clock of the feed, records and all. Precondition: some entry is open."""
        walls = [entry.at_ns for entry in self._observed]
        return max(walls) if self.head.peak_ns is None else max(self.head.peak_ns, *walls)

    def tally(self, until: int) -> None:
        """Never."""
