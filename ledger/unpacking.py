"""Reading blocks: columns decoded when they are asked for, pings given back, groups counted (the shapes stand in `blocks`).

What `packing` made comes back exactly, which is a law. A column is opened only when somebody asks for it (for a moment
within a record, `cutting` opens less). What does not fit together is Damaged. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, compress, pairwise
from operator import itemgetter, sub
from typing import Any, NamedTuple

from ledger import planes
from ledger.blocks import AT, BACK, COMMON, DELTA, HELD, HOLD, MONO, NUMBER, RTT, SENT, SPAN, Block, Column, Context, Group
from ledger.entry import Observed
from ledger.errors import Damaged
from ledger.events import PingAnswered, PingFailed
from ledger.planes import Plane
from ledger.values import may_wrap, values_of


class Pings:
    """A block opened for reading: each column is decoded when it is first asked for. `first` is the index of the
    record's first entry, `controls` the indexes of its control entries, ascending: they lie between the pings.
    """

    __slots__ = (
        "_ahead",
        "_cache",
        "_columns",
        "_mono",
        "_open",
        "_order",
        "_pick",
        "block",
        "controls",
        "count",
        "first",
        "sizes",
        "starts",
        "which",
    )

    def __init__(
        self,
        block: Block,
        first: int,
        controls: Sequence[int],
        sizes: list[int] | None = None,
        inflate: Callable[[Plane, int], Plane] | None = None,
    ) -> None:
        """`inflate` opens the planes of the columns, where they are still as they were stored."""
        self.block = block
        self._open = inflate
        self.first = first
        self.controls = controls
        self._ahead = [control - first - place for place, control in enumerate(controls)]
        self.count = block.count
        if len(block.which) == 1 and isinstance(block.which[0], bytes) and len(block.contexts) <= 128:
            self.which: Sequence[int] = block.which[0]
        elif not block.which:
            self.which = bytes(block.count)
        else:
            self.which = planes.decode(block.which, block.count)
        if len(self.which) != block.count:
            raise Damaged("a block's contexts do not match its count")
        self.sizes = [self.which.count(number) for number in range(len(block.contexts))] if sizes is None else sizes
        if sum(self.sizes) != block.count or (block.count and len(block.columns) != 9):
            raise Damaged("a block names contexts that it does not have")
        self.starts = list(accumulate(self.sizes, initial=0))
        self._cache: dict[int, Sequence[int]] = {}
        self._columns: dict[int, tuple[Column, list[int]]] = {}
        self._order: list[int] | None = None
        self._mono: list[int] | None = None
        self._pick: Callable[[Sequence[Any]], tuple[Any, ...]] | None = None

    def keep(self, order: list[int], values: Mapping[int, Sequence[int]]) -> None:
        """Take what is known already instead of decoding it."""
        self._order = order
        self._cache = dict(values)

    @property
    def order(self) -> list[int]:
        """For each place in the order of contexts, the ping's place in the order of the feed."""
        if self._order is None:
            self._order = sorted(range(self.count), key=self.which.__getitem__)
        return self._order

    def column(self, index: int) -> Sequence[int]:
        """The values of a column as `_values` gave them, in the order of contexts."""
        found = self._cache.get(index)
        if found is not None:
            return found
        if not self.count:
            return ()
        opened, starts = self._columns.get(index) or self._inflated(index)
        values = self._cache[index] = values_of(opened, starts, delta=index in DELTA)
        return values

    def within(self, index: int, number: int) -> Sequence[int]:
        """The values of a column in context `number`, while the rest of it stays closed."""
        start, end = self.starts[number], self.starts[number + 1]
        if index not in self._columns:
            self._columns[index] = self._inflated(index)
        opened, starts = self._columns[index]
        if index in self._cache or may_wrap(opened):
            return self.column(index)[start:end]
        cut = [plane if isinstance(plane, int) else plane[start:end] for plane in opened.planes]
        scale, numbers = opened.scale, planes.decode(cut, end - start)
        first = sum(planes.decode(opened.firsts, len(starts) - 1)[: number + 1]) * scale + opened.base
        if index in DELTA:
            return list(accumulate([step * scale for step in numbers[1:]], initial=first))
        return [first + step * scale for step in numbers]

    def _inflated(self, index: int) -> tuple[Column, list[int]]:
        """A column with its planes as they were made, and where each context begins in it, with the end of the last."""
        stored, contexts = self.block.columns[index], self.block.contexts
        kept = len(contexts) if index in COMMON else sum([context.answered for context in contexts])
        firsts, rest = self._opened(stored.firsts, kept), self._opened(stored.planes, self.starts[kept])
        return Column(stored.scale, stored.base, firsts, rest), self.starts[: kept + 1]

    def mono(self) -> list[int]:
        """The observer's monotonic clock in ns, in the order of contexts, also where it was not given."""
        if self._mono is None:
            self._mono = list(map(sub, self.column(AT), self.column(MONO)))
        return self._mono

    def in_order(self, values: Sequence[Any]) -> list[Any]:
        """`values`, one for each ping in the order of contexts, put in the order of the feed."""
        if self.count < 2:
            return list(values)
        if self._pick is None:
            places = [iter(range(start, end)) for start, end in pairwise(self.starts)]
            self._pick = itemgetter(*map(next, map(places.__getitem__, self.which)))
        return list(self._pick(values))

    def index(self, place: int) -> int:
        """The entry index of the ping at `place` in the order of the feed."""
        return self.first + place + bisect_right(self._ahead, place)

    def indexes(self) -> list[int]:
        """The entry index of each ping, in the order of the feed."""
        found = list(range(self.first, self.first + self.count + len(self.controls)))
        for control in reversed(self.controls):
            del found[control - self.first]
        return found

    def groups(self, until: int | None = None) -> list[Group]:
        """One group a context, of the pings whose instant is at most `until` ns (all, if None).

        Precondition where `until` is given: instants never decrease in the order of the feed.
        """
        at, rtt, held = self.column(AT), self.column(RTT), self.column(HELD)
        starts = self.starts
        ends = starts[1:]
        total = self.count
        if until is not None:
            ends = [bisect_right(at, until, start, end) for start, end in pairwise(starts)]
            total = sum(map(sub, ends, starts))
        find, rfind = _finders(self.which)
        parts = [
            _Part(context, start, end, self.index(find(number, 0, total)), self.index(rfind(number, 0, total)))
            for number, (context, start, end) in enumerate(zip(self.block.contexts, starts, ends, strict=False))
            if start < end
        ]
        gaps = _gaps(parts, at)
        return [
            Group(
                part.context.peer,
                part.context.link,
                part.context.reason,
                part.end - part.start,
                part.first,
                at[part.start],
                part.last,
                at[part.end - 1],
                rtt[part.end - 1] if part.context.answered else 0,
                gap_ns,
                part.context.feed,
                held[part.end - 1] if part.context.given & 2 else None,
            )
            for part, gap_ns in zip(parts, gaps, strict=True)
        ]

    def _opened(self, stored: tuple[Plane, ...], count: int) -> tuple[Plane, ...]:
        return stored if self._open is None else tuple([self._open(plane, count) for plane in stored])

    def observed(self, number: int) -> Iterator[Observed]:
        """The pings of context `number`, in order."""
        context = self.block.contexts[number]
        at, mono, count, held = self.column(AT), self.mono(), self.column(NUMBER), self.column(HELD)
        given, boot, peer, link, feed = context.given, context.boot, context.peer, context.link, context.feed
        places = range(self.starts[number], self.starts[number + 1])
        if not context.answered:
            reason: Any = context.reason
            for place in places:
                event = PingFailed(peer, count[place], reason, link, feed, held[place] if given & 2 else None)
                yield Observed(at[place], event, boot, mono[place] if given & 1 else None)
            return
        rtt, hold, short, span, lag = (self.column(index) for index in (RTT, HOLD, SENT, SPAN, BACK))
        for place in places:
            back = mono[place] // 1000 - lag[place]
            sent = short[place] + back - rtt[place] - hold[place]
            received = span[place] + sent
            yield Observed(
                at[place],
                PingAnswered(
                    peer,
                    count[place],
                    rtt[place],
                    link,
                    sent if given & 4 else None,
                    received if given & 8 else None,
                    received + hold[place] if given & 16 else None,
                    back if given & 32 else None,
                    context.peer_boot,
                    feed,
                    held[place] if given & 2 else None,
                ),
                boot,
                mono[place] if given & 1 else None,
            )

    def to(self, peer: str) -> list[tuple[int, Observed]]:
        """The pings to one peer with their entry indexes, ascending."""
        found = []
        for number, context in enumerate(self.block.contexts):
            if context.peer == peer:
                places = self.order[self.starts[number] : self.starts[number + 1]]
                found += [(self.index(place), ping) for place, ping in zip(places, self.observed(number), strict=True)]
        return sorted(found, key=itemgetter(0))

    def evidence(self, peer: str) -> list[tuple[int, Observed]]:
        """As `to`, but of each ping only what tells of the link and of what was held, in a few columns: its number is 0, and
        stamps and monotonic clock are None.
        """
        found = []
        for number, c in enumerate(self.block.contexts):
            if c.peer == peer:
                many: Sequence[int | None] = self.within(HELD, number) if c.given & 2 else [None] * self.sizes[number]
                events: Iterator[PingAnswered | PingFailed]
                if c.answered:
                    events = (
                        PingAnswered(peer, 0, took, c.link, feed=c.feed, held=each)
                        for took, each in zip(self.within(RTT, number), many, strict=True)
                    )
                else:
                    reason: Any = c.reason
                    events = (PingFailed(peer, 0, reason, c.link, c.feed, each) for each in many)
                places = compress(range(self.count), map(number.__eq__, self.which))
                found += [
                    (self.index(place), Observed(at_ns, event, c.boot))
                    for place, at_ns, event in zip(places, self.within(AT, number), events, strict=True)
                ]
        return sorted(found, key=itemgetter(0))

    def until(self, until: int) -> int:
        """How many pings have an instant of at most `until` ns. Precondition as for `groups`."""
        at = self.column(AT)
        return sum(bisect_right(at, until, start, end) - start for start, end in pairwise(self.starts))


class _Part(NamedTuple):
    """A context's pings in a block: their places in the order of contexts, their first and last entry index."""

    context: Context
    start: int
    end: int
    first: int
    last: int


def _gaps(parts: Sequence[_Part], at: Sequence[int]) -> list[int]:
    """For each part the greatest time between two neighbouring pings to its peer, within the run of overlapping parts of
    that peer that it belongs to.
    """
    if len({part.context.peer for part in parts}) == len(parts):
        # Whatever the clock did in between, it went from one side of each gap to the other in one step at least as great.
        steps = list(map(sub, at[1:], at))
        runs = [steps[part.start : part.end - 1] or (0,) for part in parts]
        return [max(*run, -min(run)) for run in runs]
    found = [0] * len(parts)
    order = sorted(range(len(parts)), key=lambda number: (parts[number].context.peer, parts[number].first))
    run: list[int] = []
    reached = 0
    for number in [*order, -1]:
        part = parts[number]
        if run and (number < 0 or part.context.peer != parts[run[0]].context.peer or part.first > reached):
            walls = sorted(chain.from_iterable(at[parts[each].start : parts[each].end] for each in run))
            gap_ns = max(map(sub, walls[1:], walls), default=0)
            for each in run:
                found[each] = gap_ns
            run, reached = [], 0
        run.append(number)
        reached = max(reached, part.last)
    return found


def _finders(which: Sequence[int]) -> tuple[Any, Any]:
    """`find` and `rfind` of a number between two places."""
    if isinstance(which, bytes):
        return which.find, which.rfind
    backwards = which[::-1]
    count = len(which)
    return which.index, lambda number, _start, end: count - 1 - backwards.index(number, count - end)


def unpack(block: Block) -> list[Observed]:
    """The pings of a block, in the order of the feed: what `pack` was given."""
    if not block.count:
        return []
    pings = Pings(block, 1, ())
    return pings.in_order(list(chain.from_iterable(pings.observed(number) for number in range(len(block.contexts)))))
