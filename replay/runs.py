"""Entries on their way out: a selection of what ledgers hold, as runs in the order in which every export has them.

Feed by feed (by machine, epoch, id), within a feed by index; so the same content comes out the same, whatever became of the
file before. A *run* is what one record gives, or a part of the open entries. Only a record that is wholly within the selection
bears its number: what reads an export back may take equal numbers for the origin's boundaries.

A selection is half-open over effective instants, [since, until). Of a contradicted feed only what stands comes. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from ledger.entry import Observed
from ledger.feeds import FeedReader
from ledger.identity import Feed
from replay.moments import Range
from replay.union import spelled

OPEN_ENTRIES: Final = 4096
"""A run of open entries holds no more than this."""
ALL: Final = Range()


class Source(Protocol):
    """What entries are read from: a `Ledger`, or the `Union` of several."""

    def feeds(self) -> list[Feed]:
        """The feeds held."""

    def reader(self, feed: Feed) -> FeedReader:
        """The reader of what stands of a feed."""


class Run(msgspec.Struct, frozen=True):
    """Neighbouring entries of one feed, from index `first` on. `name` is the feed's in positions, `record` the number of
    the sealed record that these are, or None.
    """

    feed: Feed
    name: str
    first: int
    record: int | None
    entries: list[Observed]


def runs(source: Source, selection: Range = ALL) -> Iterator[Run]:
    """The runs of a selection. Raises Damaged before it would yield anything that was not written."""
    for feed, name in sorted(spelled(source.feeds()).items()):
        yield from _of_feed(source.reader(feed), name, selection)


def _of_feed(reader: FeedReader, name: str, selection: Range) -> Iterator[Run]:
    head = reader.head()
    feed = reader.feed
    after = 0 if selection.since_ns is None else reader.cut(selection.since_ns - 1)
    until = head.last if selection.until_ns is None else min(head.last, reader.cut(selection.until_ns - 1))
    if after < min(until, head.sealed):
        start = reader.holding(after + 1)
        for record in reader.records((start.n if start else 1) - 1, head.records):
            if record.first > until:
                return
            entries = reader.observed(record)
            if after < record.first and record.last <= until:
                yield Run(feed, name, record.first, record.n, entries)
            else:
                first = max(record.first, after + 1)
                kept = entries[first - record.first : until - record.first + 1]
                yield Run(feed, name, first, None, kept)
    pending: list[Observed] = []
    first = max(after, head.sealed) + 1
    for entry in reader.entries(first - 1, until) if first <= until else ():
        pending.append(Observed(entry.at_ns, entry.event, entry.boot, entry.mono_ns))
        if len(pending) == OPEN_ENTRIES:
            yield Run(feed, name, first, None, pending)
            first, pending = first + OPEN_ENTRIES, []
    if pending:
        yield Run(feed, name, first, None, pending)
