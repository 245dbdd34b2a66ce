"""Many feeds as one stream in display order, forwards or backwards, opening no more than is asked for.

A feed comes as *pieces*, one a record and then its open part, each with a bound: no entry of it comes before that in the
stream. Pieces wait in a heap by their bounds, and only the one that may come next is opened. So the last twenty
entries of millions cost one or two records, and a stream that nobody reads to its end is not read to its end.

Display order is (effective instant, observer, epoch, index); feeds of one name go by their id. It knows nothing of what is
asked for: whoever asks opens the pieces.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from ledger.entry import INSTANT_MIN_NS, Entry
from ledger.feeds import FeedReader
from ledger.heads import RecordRow, Timeline

Key = tuple[int, int, int]
"""A place in the stream: instant, rank of the feed, index; all negative in one that goes backwards."""


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a feed, still closed: entries `first` to `last`, which are `record`, or open if that is None. No entry of
    it has a lesser key.
    """

    key: Key
    first: int
    last: int
    record: RecordRow | None


Opener = Callable[[FeedReader, Piece, Timeline], Sequence[Entry]]
"""Gives the wanted entries of a piece, ascending, with their effective instants."""


def forwards(reader: FeedReader, rank: int, since_ns: int | None, until_ns: int | None) -> Iterator[Piece]:
    """The pieces of a feed that may hold entries in [since, until), oldest first."""
    whole = 0 if since_ns is None else reader.partial(since_ns - 1, reader.timeline())[0]
    for piece in onwards(reader, rank, whole):
        if until_ns is not None and piece.key[0] >= until_ns:
            return
        yield piece


def onwards(reader: FeedReader, rank: int, whole: int) -> Iterator[Piece]:
    """The pieces of a feed after its first `whole` records, oldest first."""
    head, timeline = reader.head(), reader.timeline()
    for record in reader.records(whole, head.records) if whole < head.records else ():
        yield Piece((_low_ns(record, timeline), rank, record.first), record.first, record.last, record)
    if head.last > head.sealed:
        peak_ns = timeline.peaks[head.records] if timeline.peaks else head.peak_ns
        key = INSTANT_MIN_NS if peak_ns is None else peak_ns, rank, head.sealed + 1
        yield Piece(key, head.sealed + 1, head.last, None)


def backwards(reader: FeedReader, rank: int, since_ns: int | None, until_ns: int | None, end_ns: int) -> Iterator[Piece]:
    """The same, newest first. `end_ns`: the instant of the feed's last entry."""
    head, timeline = reader.head(), reader.timeline()
    n, cut = (head.records, None) if until_ns is None else reader.partial(until_ns - 1, timeline)
    if cut is not None:
        n = cut.n
    elif head.last > head.sealed:
        yield Piece((-end_ns, -rank, -head.last), head.sealed + 1, head.last, None)
    while n:
        record = cut if cut is not None and cut.n == n else reader.record(n)
        peak_ns = timeline.peaks[n] if timeline.peaks else record.peak_ns
        if peak_ns is None or (since_ns is not None and peak_ns < since_ns):
            return
        yield Piece((-peak_ns, -rank, -record.last), record.first, record.last, record)
        n -= 1


def _low_ns(record: RecordRow, timeline: Timeline) -> int:
    """No entry of the record has an earlier effective instant."""
    if not timeline.stretches:
        return record.low_ns
    before = timeline.peaks[record.n - 1]
    return INSTANT_MIN_NS if before is None else before


def in_order(streams: Iterable[tuple[FeedReader, int, Iterator[Piece]]], opener: Opener, *, reverse: bool) -> Iterator[Entry]:
    """The entries of all feeds in display order. Each feed: its reader, its rank, its pieces in the order of the stream."""
    return _Merge(streams, opener, reverse=reverse).entries()


class _Merge:
    """The heap. An item is (key, number of the feed, entries opened, place among them); closed pieces have no entries."""

    def __init__(self, streams: Iterable[tuple[FeedReader, int, Iterator[Piece]]], opener: Opener, *, reverse: bool) -> None:
        self.streams = list(streams)
        self.opener = opener
        self.sign = -1 if reverse else 1
        self.waiting: list[Piece | None] = [next(pieces, None) for _reader, _rank, pieces in self.streams]
        self.heap: list[tuple[Key, int, Sequence[Entry], int]] = []
        for number, piece in enumerate(self.waiting):
            if piece is not None:
                self.heap.append((piece.key, number, (), 0))
        heapq.heapify(self.heap)

    def entries(self) -> Iterator[Entry]:
        heap = self.heap
        while heap:
            _key, number, opened, place = heap[0]
            if not opened:
                opened = self._open(number)
            else:  # as long as no other feed comes between, it goes on without the heap
                following = min((heap[child][0] for child in (1, 2) if child < len(heap)), default=None)
                while True:
                    yield opened[place]
                    place += 1
                    if place == len(opened):
                        opened = ()
                        break
                    key = self._key(number, opened[place])
                    if following is not None and key > following:
                        break
            if opened:
                heapq.heapreplace(heap, (self._key(number, opened[place]), number, opened, place))
            else:
                self._next(number)

    def _key(self, number: int, entry: Entry) -> Key:
        sign = self.sign
        return sign * entry.effective_ns, sign * self.streams[number][1], sign * entry.index

    def _open(self, number: int) -> Sequence[Entry]:
        """The entries of the feed's waiting piece, in the order of the stream."""
        reader, piece = self.streams[number][0], self.waiting[number]
        if piece is None:
            return ()
        entries = self.opener(reader, piece, reader.timeline())
        return entries if self.sign > 0 else entries[::-1]

    def _next(self, number: int) -> None:
        """The feed at the top of the heap goes on to its next piece."""
        piece = self.waiting[number] = next(self.streams[number][2], None)
        if piece is None:
            heapq.heappop(self.heap)
        else:
            heapq.heapreplace(self.heap, (piece.key, number, (), 0))
