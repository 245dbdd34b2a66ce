"""The directories of a run of records, gathered: column by column, each peer's groups together.

Who folds many records of a feed asks of each peer how its groups follow one another, and seldom anything of one record. So
nothing is made of a group here: columns of numbers and names, sorted by peer and then by index, of which a slice is what one
peer's pings amounted to, however many records they stand in. `rows.decode_groups` is the definition: `Gathered.groups` gives the
very groups that it would (a law). Pure: directories in, columns out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate, islice
from operator import itemgetter
from typing import Any, NamedTuple

from ledger.blocks import GIVEN, Context, Group
from ledger.errors import Damaged
from ledger.rows import Directory

_HELD = GIVEN["held"]


class Gathered(NamedTuple):
    """Groups, sorted by peer and then by `firsts`: `peers` says where each peer's begin and end. `feeds` is None where a group
    says nothing of what was held, whatever its context's feed; `contexts` by the number in `numbers`; all else as in `Group`.
    """

    peers: Mapping[str, tuple[int, int]]
    contexts: Mapping[int, Context]
    numbers: Sequence[int]
    reasons: Sequence[str | None]
    feeds: Sequence[str | None]
    counts: Sequence[int]
    firsts: Sequence[int]
    firsts_ns: Sequence[int]
    lasts: Sequence[int]
    lasts_ns: Sequence[int]
    rtts_us: Sequence[int]
    held: Sequence[int]
    gaps_ns: Sequence[int]

    def link(self, place: int) -> str | None:
        """The link that the group at this place went over."""
        return self.contexts[self.numbers[place]].link

    def between(self, first: int, last: int) -> Mapping[str, tuple[int, int]]:
        """The same as `peers` of the groups that begin at indexes from `first` to `last`, and of peers that have some."""
        if first <= min(self.firsts, default=first) and max(self.firsts, default=last) <= last:
            return self.peers
        found = {}
        for peer, (start, end) in self.peers.items():
            low = bisect_left(self.firsts, first, start, end)
            high = bisect_left(self.firsts, last + 1, low, end)
            if low < high:
                found[peer] = low, high
        return found

    def divided(self, index: int) -> bool:
        """Whether a group begins before the entry with this index and ends after it."""
        for start, end in self.peers.values():
            before = bisect_left(self.firsts, index, start, end)
            if start < before and max(self.lasts[start:before]) > index:
                return True
        return False

    def groups(self, start: int, end: int) -> list[Group]:
        """The groups at these places, one by one."""
        found = []
        for number, _reason, _feed, count, first, first_ns, last, last_ns, rtt_us, held, gap_ns in zip(
            *(column[start:end] for column in self[2:]), strict=True
        ):
            kept = self.contexts[number]
            found.append(
                Group(
                    kept.peer, kept.link, kept.reason, count, first, first_ns, last, last_ns,
                    rtt_us, gap_ns, kept.feed, held if kept.given & _HELD else None,
                )
            )  # fmt: skip
        return found


def gathered(run: Iterable[tuple[Directory, int, int]], contexts: Callable[[Collection[int]], Mapping[int, Context]]) -> Gathered:
    """The groups of some records of one feed: of each record its directory, the origin of the directory's instants and the index
    of its first entry. `contexts` gives the contexts with some numbers. Raises Damaged if a directory's columns differ in length.
    """
    numbers: list[int] = []
    columns: list[list[int]] = [[] for _ in range(8)]
    counts, firsts, firsts_ns, lasts, lasts_ns, rtts_us, held, gaps_ns = columns
    for told, low_ns, first in run:
        scale, coarse = told.scale, told.coarse
        numbers += accumulate(told.contexts)
        counts += told.counts
        firsts += islice(accumulate(told.firsts, initial=first), 1, None)
        firsts_ns += [low_ns + step * scale for step in told.first_steps]
        lasts += islice(accumulate(told.lasts, initial=first), 1, None)
        lasts_ns += [low_ns + step * scale for step in told.last_steps]
        rtts_us += told.rtts
        held += told.held
        gaps_ns += [gap * coarse for gap in told.gaps]
        if not (
            len(numbers) == len(counts) == len(firsts) == len(firsts_ns) == len(lasts)
            == len(lasts_ns) == len(rtts_us) == len(held) == len(gaps_ns)
        ):  # fmt: skip
            raise Damaged("a record's directory has columns of different lengths")
    asked = sorted(set(numbers))
    found = contexts(asked)
    named = list(map({number: found[number].peer for number in asked}.__getitem__, numbers))
    order = sorted(sorted(range(len(numbers)), key=firsts.__getitem__), key=named.__getitem__)
    pick: Callable[[Sequence[Any]], Any] = itemgetter(*order) if len(order) > 1 else list
    numbers = pick(numbers)
    sizes = sorted(Counter(named).items())
    reasons = {number: found[number].reason for number in asked}
    feeds = {number: found[number].feed if found[number].given & _HELD else None for number in asked}
    return Gathered(
        {peer: (end - size, end) for (peer, size), end in zip(sizes, accumulate(size for _peer, size in sizes), strict=True)},
        found,
        numbers,
        list(map(reasons.__getitem__, numbers)),
        list(map(feeds.__getitem__, numbers)),
        *map(pick, columns),
    )
