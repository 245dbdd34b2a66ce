"""What one feed of a ledger makes of entries that are offered to it: new, there already, or at odds with what is there.

Whoever imports offers a feed's entries in order, from wherever it likes up to one past the last that is there. What
overlaps is compared, entry by entry, so that importing twice adds nothing and importing a longer copy adds the rest. The
first difference makes the feed *contradicted* for this import: it is named, with both digests, and from there on nothing
is written, for neither side is right by having come first. Merging ledgers keeps both sides (`merge`); an import only says so.

A feed is made known to the ledger with its first new entry, and not before. Writes only through `Ledger`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger import codec
from ledger.entry import Observed
from ledger.identity import Feed
from ledger.store import Ledger
from replay.receipts import Contradiction, Taken


class Intake:
    """The intake of one feed. `last` is the feed's last index by now, `conflict` the first contradiction, if any."""

    def __init__(self, ledger: Ledger, feed: Feed) -> None:
        self._ledger = ledger
        self.feed = feed
        self.conflict: Contradiction | None = None
        self._new = self._there = self._conflicting = 0
        held = feed in ledger.feeds()
        self.last = ledger.head(feed).last if held else 0
        branches = [branch.name for branch in ledger.branches(feed)] if held else []
        self._forked = Contradiction(feed.at(self.last + 1), branches) if branches else None
        self._page: list[Observed] = []
        self._page_first = 1

    @property
    def taken(self) -> Taken:
        """What became of the entries offered so far."""
        return Taken(self._new, self._there, self._conflicting)

    def lacking(self, first: int, offered: Sequence[Observed]) -> Sequence[Observed]:
        """Those of `offered`, from index `first` (at most `last` + 1) on, that the feed lacks; none once contradicted."""
        if self.conflict is None:
            overlap = min(len(offered), self.last - first + 1)
            differing = self._differing(first, offered[:overlap])
            if differing is not None:
                self._there += differing - first
                self._contradict(differing, offered[differing - first :])
                return ()
            self._there += overlap
            rest = offered[overlap:]
            if rest and self._forked is not None:
                self.conflict = self._forked
                self._conflicting += len(rest)
                return ()
            return rest
        self._conflicting += len(offered)
        return ()

    def append(self, lacking: Sequence[Observed], *, seal: bool) -> None:
        """Append what the feed lacks."""
        if lacking:
            self.last = self._ledger.append(list(lacking), observer=self.feed, seal=seal).last
            self._new += len(lacking)

    def take(self, record: codec.Record) -> None:
        """Take in a record that begins where the sealed part ends, and that no open entry contradicts."""
        last = record.first + record.count - 1
        self._ledger.take(self.feed, record)
        self._new += max(0, last - self.last)
        self.last = max(self.last, last)

    def deny(self, index: int, mine: codec.Record, theirs: codec.Record, lacking: int) -> None:
        """Two records that begin together end apart, the first of them at `index`: whoever sealed them denies the one or
        the other. `theirs` was offered already; `lacking` of its entries were not there.
        """
        self.conflict = Contradiction(self.feed.at(index), [codec.leaf_of(mine).hex(), codec.leaf_of(theirs).hex()])
        count = theirs.first + theirs.count - index
        self._there = max(0, self._there - (count - lacking))  # of those before, some were new in this very import
        self._conflicting += count

    def _contradict(self, index: int, offered: Sequence[Observed]) -> None:
        mine = self._page[index - self._page_first]
        self.conflict = Contradiction(self.feed.at(index), [digest(index, mine), digest(index, offered[0])])
        self._conflicting += len(offered)

    def _differing(self, first: int, offered: Sequence[Observed]) -> int | None:
        """The first index at which what is there is not what is offered, or None."""
        done = 0
        while done < len(offered):
            self._turn_to(first + done)
            start = first + done - self._page_first
            mine = self._page[start : start + len(offered) - done]
            theirs = list(offered[done : done + len(mine)])
            if mine != theirs:
                pairs = enumerate(zip(mine, theirs, strict=True), first + done)
                return next(index for index, (own, other) in pairs if own != other)
            done += len(mine)
        return None

    def _turn_to(self, index: int) -> None:
        """Have the page that holds entry `index`: its record, or the open part."""
        if self._page_first <= index < self._page_first + len(self._page):
            return
        reader = self._ledger.reader(self.feed)
        record = reader.holding(index)
        if record is None:
            entries = reader.open_part()
            self._page = [Observed(entry.at_ns, entry.event, entry.boot, entry.mono_ns) for entry in entries]
            self._page_first = entries[0].index
        else:
            self._page = reader.observed(record)
            self._page_first = record.first


def digest(index: int, observed: Observed) -> str:
    """The digest of one entry: the leaf hash (RFC 6962, SHA-256, hexadecimal) of a record that holds nothing else."""
    return codec.leaf_of(codec.make_record(index, [observed])).hex()
