"""The disk of a machine that is played: each feed's entries as a list, and in which order they were written.

It outlives a crash and can be set back by some writes, as a disk is that was restored from a copy. That order is a *journal* of
stretches, not of entries: what a machine of a day has written it has in memory once. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import msgspec

from ledger.entry import Entry, Observed
from ledger.events import NodeStarted
from ledger.identity import Feed

Disk = dict[Feed, list[Observed]]


class Stretch(msgspec.Struct):
    """Entries of one feed that were written one after another: where they stand in its log."""

    feed: Feed
    first: int
    last: int


def placed(feed: Feed, first: int, batch: Sequence[Observed]) -> list[Entry]:
    """What was observed, as entries of a feed from index `first` on."""
    return [Entry(feed, index, o.at_ns, o.event, o.boot, o.mono_ns, o.at_ns) for index, o in enumerate(batch, first)]


class VirtualDisk:
    """What the machine `name` has stored. `key`: its ledger key; `disk`: its feeds, entry by entry; `by_id`: them by id."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = f"ledger-key-of-{name}"
        self.disk: Disk = {}
        self.by_id: dict[str, Feed] = {}
        self.journal: list[Stretch | Feed] = []
        """What was written, in that order; a feed is that of an own epoch which begins there."""

    def keep(self, feed: Feed, batch: Sequence[Observed]) -> list[Entry]:
        """Write to the disk; what was written, in its place."""
        self.put(feed, batch)
        return placed(feed, len(self.disk[feed]) + 1 - len(batch), batch)

    def put(self, feed: Feed, batch: Sequence[Observed]) -> None:
        """Write to the disk."""
        log = self.disk.setdefault(feed, [])
        self.by_id[feed.id] = feed
        first = len(log) + 1
        log += batch
        before = self.journal[-1] if self.journal else None
        if isinstance(before, Stretch) and before.feed == feed:
            before.last = len(log)
        elif batch:
            self.journal.append(Stretch(feed, first, len(log)))

    def written(self) -> Iterator[Entry | Feed]:
        """The journal, entry by entry."""
        for item in self.journal:
            if isinstance(item, Feed):
                yield item
            else:
                yield from placed(item.feed, item.first, self.disk[item.feed][item.first - 1 : item.last])

    def ran_before(self) -> str | None:
        """The software that ran here last, by the disk."""
        own = [item for item in self.journal if isinstance(item, Stretch) and item.feed.machine == self.name]
        logs = (reversed(self.disk[item.feed][item.first - 1 : item.last]) for item in reversed(own))
        events = (observed.event for observed in chain.from_iterable(logs))
        return next((event.software for event in events if isinstance(event, NodeStarted)), None)

    def roll_back(self, entries: int) -> None:
        """The disk is set back by so many writes (while the machine is off), but never before its own admission."""
        written = list(self.written())
        floor = next((place for place, item in enumerate(written) if isinstance(item, Entry) and item.feed.machine ==
                      self.name and item.index == 3), len(written))  # fmt: skip
        kept = written[: max(floor + 1, len(written) - entries)]
        if isinstance(kept[-1], Feed):  # a feed comes with its first entry
            kept.pop()
        self.journal = []
        self.disk.clear()
        for item in kept:
            if isinstance(item, Feed):
                self.journal.append(item)
                self.key = item.ledger_key or self.key
            else:
                self.keep(item.feed, [Observed(item.at_ns, item.event, item.boot, item.mono_ns)])
