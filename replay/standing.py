"""Reading a contradicted feed: what stands of it, and nothing beyond.

From a fork on neither side stands. A file that holds one side whole knows nothing of the other; `Standing` reads it as
though it ended before the fork. Records wholly before it stay records, entries of the record that the fork cuts through
count as open. Everything else is `FeedReader`, which finds the end of the feed only by asking for its head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ledger.entry import Entry, Observed
from ledger.feeds import FeedReader
from ledger.heads import Head, RecordRow, Timeline
from ledger.merkle import Frontier
from ledger.open_part import Copied, OpenPart

_NEVER: Final = 2**62


class Standing(FeedReader):
    """What `reader` reads, up to the entry before `index`. It has at least so many entries."""

    def __init__(self, reader: FeedReader, index: int) -> None:
        vars(self).update(vars(reader))
        self._timeline = None
        self._whole = reader
        head, whole = reader.head(), _whole_before(reader, index)
        tree = Frontier()
        last: RecordRow | None = None
        for last in reader.records(0, whole):
            tree.append(last.leaf)
        self._standing = msgspec.structs.replace(
            head,
            records=whole,
            sealed=last.last if last else 0,
            last=index - 1,
            peak_ns=last.peak_ns if last else None,
            chain=last.chain if last else Head().chain,
            frontier=b"".join(tree.hashes),
        )

    def head(self) -> Head:
        """How far the feed stands."""
        return self._standing

    def leaves(self) -> list[bytes]:
        """The leaf hash of each record that stands."""
        return [record.leaf for record in self.records()]

    def rare(self, kinds: Sequence[str], until: int | None = None) -> list[Entry]:
        """As `FeedReader.rare`, of the entries that stand."""
        return self._whole.rare(kinds, min(self._standing.last, _NEVER if until is None else until))

    def partial(self, at_ns: int, timeline: Timeline) -> tuple[int, RecordRow | None]:
        """As `FeedReader.partial`, of the records that stand."""
        whole, record = super().partial(at_ns, timeline)
        return (whole, record) if whole < self._standing.records else (self._standing.records, None)

    def opened(self) -> OpenPart:
        """As `FeedReader.opened`, of the entries that stand after the last whole record."""
        head, wanted = self._standing, self._standing.last - self._standing.sealed
        found: list[Observed] = []
        for record in self._whole.records(head.records):
            if record.first > head.last:
                break
            found += self._whole.observed(record)
        if len(found) < wanted:
            found += self._whole.open_stored()[1]
        if len(found) < wanted:  # sealed meanwhile
            return self.opened()
        return Copied(head, found[:wanted])

    def peak(self) -> tuple[Head, int | None]:
        """As `FeedReader.peak`, of the entries that stand."""
        opened = self.opened()
        return opened.head, opened.peak_ns() if opened.head.last > opened.head.sealed else opened.head.peak_ns


def _whole_before(reader: FeedReader, index: int) -> int:
    """How many records lie wholly before entry `index`."""
    cut = reader.holding(index)
    return reader.head().records if cut is None else cut.n - 1
