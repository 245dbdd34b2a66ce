"""Is one feed what was written: every record back to its leaf, and everything that rows say about it computed anew.

`verify_bytes` is the part that proves: each record's canonical bytes, made from what the rows hold, hash to its leaf; the
leaves make the chain and the root of the head. `examine` does that and checks the rest: the directory and the instants that
folds and searches rely on, the neighbours, the contexts, the open part, the first entry. It collects what it finds and goes
on after it, so that one flipped bit does not hide another. Column by column, never entry by entry. Reads, never writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate
from operator import le
from typing import Final

import msgspec

from ledger import codec, rows
from ledger.blocks import AT
from ledger.entry import Observed, Opaque
from ledger.errors import Damaged, LedgerError
from ledger.events import FeedOpened
from ledger.feeds import FeedReader
from ledger.heads import Head, RecordRow, Timeline
from ledger.identity import Feed, parse_position
from ledger.merkle import Frontier
from ledger.unpacking import Pings

BROKEN: Final = (LedgerError, ValueError, TypeError, LookupError, StopIteration, OverflowError, AttributeError)
"""What rows that were forged with care, their sums made anew, may raise when they are opened."""
_TOGETHER: Final = 64
"""So many contexts are read at once."""


class Problem(msgspec.Struct, frozen=True):
    """Something that is not as it was written. `index`: the entry it is near; 0: it concerns the feed."""

    index: int
    what: str


class Examined(msgspec.Struct):
    """A feed, gone through. `root`: of its tree, None if that is not whole; `roots`: of the tree at the sizes asked for;
    instants in ns, None where there is none; `open` entries are in no record.
    """

    feed: Feed
    entries: int = 0
    records: int = 0
    root: bytes | None = None
    roots: dict[int, bytes] = msgspec.field(default_factory=dict)
    first_ns: int | None = None
    last_ns: int | None = None
    opaque: int = 0
    open: int = 0
    problems: list[Problem] = msgspec.field(default_factory=list)

    def note(self, index: int, error: Exception | str) -> None:
        """Remember a problem at or near entry `index`, or where the error itself says."""
        said = parse_position(error.position) if isinstance(error, Damaged) and error.position else None
        if said is not None and said.names(self.feed):
            index = said.index
        what = error.message if isinstance(error, LedgerError) else str(error) or type(error).__name__
        self.problems.append(Problem(index, what.removeprefix(f"{self.feed.at(index)}: ").removeprefix(f"{self.feed.name}: ")))


def verify_bytes(reader: FeedReader) -> tuple[int, int]:
    """That every record's bytes hash to its leaf, and the leaves to the chain and the root of the head.

    Returns how many records and entries they are. Raises Damaged, naming the position of the first that is not so.
    """
    head = reader.head()
    tree, chain, last = Frontier(), rows.CHAIN_START, 0
    for row in reader.records(0, head.records):
        record = reader.canonical(row)
        leaf = codec.leaf_of(record)
        if leaf != row.leaf or row.prior != chain or row.first != last + 1 or record.count != row.last - last:
            raise reader.damaged(f"record {row.n} does not hash to its leaf", row.first)
        chain, last = rows.chain_after(chain, leaf), row.last
        tree.append(leaf)
    if (tree.size, last, chain, b"".join(tree.hashes)) != (head.records, head.sealed, head.chain, head.frontier):
        raise reader.damaged("the head does not follow from the records", last)
    return tree.size, last


def examine(reader: FeedReader, sizes: Collection[int] = ()) -> Examined:
    """Go through a feed. `sizes`: the numbers of records at which the tree's root is wanted."""
    found = Examined(reader.feed)
    try:
        head = reader.head()
    except BROKEN as error:
        if not found.problems:
            found.note(0, error)
        return found
    found.records, found.entries, found.open = head.records, head.last, head.last - head.sealed
    walk = _Walk(reader, head, found)
    found.roots = {0: walk.tree.root()}
    for row in _rows(reader, head, found):
        walk.take(row)
        if row.n in sizes and walk.tree.size == row.n:
            found.roots[row.n] = walk.tree.root()
    walk.end()
    found.root = walk.tree.root() if walk.tree.size == head.records else None
    _open_part(reader, head, found, walk.kinds if walk.whole else None)
    _first_and_last(reader, head, found)
    return found


def _rows(reader: FeedReader, head: Head, found: Examined) -> Iterator[RecordRow]:
    """The record rows, going on behind one that is damaged."""
    after = 0
    while after < head.records:
        try:
            for row in reader.records(after, head.records):
                after = row.n
                yield row
        except BROKEN as error:
            found.note(_near(reader, after), error)
            after += 1
        else:
            return


def _near(reader: FeedReader, n: int) -> int:
    try:
        return reader.record(n).last + 1 if n else 1
    except BROKEN:
        return 0


class _Walk:
    """What the records so far amount to, against what each row and the head say."""

    def __init__(self, reader: FeedReader, head: Head, found: Examined) -> None:
        self.reader = reader
        self.head = head
        self.found = found
        self.tree = Frontier()
        self.chain = rows.CHAIN_START
        self.sealed = 0
        self.n = 0
        self.peak: int | None = None
        self.contexts = 0
        self.whole = True
        self.kinds: Counter[str] = Counter()

    def take(self, row: RecordRow) -> None:
        """Compute everything that this record's row says from its content."""
        if row.n != self.n + 1:  # one before it is lost: what it should follow is not known
            self.chain, self.sealed, self.peak, self.whole = row.prior, row.first - 1, row.before_ns, False
            self.tree = Frontier()
        try:
            self._compare(row)
        except BROKEN as error:
            self.found.note(row.first, error)
            self.whole = False
        self.n, self.chain, self.sealed, self.peak = row.n, row.chain, row.last, row.peak_ns
        self.tree.append(row.leaf)

    def _compare(self, row: RecordRow) -> None:
        controls = self.reader.controls_of(row)
        record = self.reader.canonical(row)
        self.found.opaque += sum(isinstance(control.event, Opaque) for control in controls)
        self.kinds.update(control.kind for control in controls)
        self._say(row, codec.leaf_of(record) == row.leaf, "the record does not hash to its leaf")
        self._say(row, (row.first, row.prior) == (self.sealed + 1, self.chain), "the record does not follow the one before it")
        pings = Pings(record.pings, row.first, [control.index for control in controls])
        lost, origin = self._directory(row, pings)
        walls = pings.in_order(pings.column(AT)) if pings.count else []
        for control in controls:
            walls.insert(control.index - row.first, control.at_ns)
        steady = all(map(le, walls, walls[1:])) and (self.peak is None or walls[0] >= self.peak)
        high = max(walls)
        peak = high if self.peak is None else max(high, self.peak)
        stated = (row.pings, row.lost, row.low_ns, row.high_ns, row.before_ns, row.peak_ns, row.steady, row.origin_ns)
        computed = (pings.count, lost, min(walls), high, self.peak, peak, int(steady), origin)
        self._say(row, stated == computed, "the record's row states other instants or counts than its entries have")

    def _directory(self, row: RecordRow, pings: Pings) -> tuple[int, int]:
        """Compare the directory with the columns; how many pings failed, and the origin of its instants."""
        if not pings.count:
            return 0, 0
        groups = pings.groups()
        stored = rows.decode_directory(row.directory)
        numbers = list(accumulate(stored.contexts))
        origin, directory = rows.make_directory(groups, numbers, row.first)
        self._say(row, directory == stored, "the record's directory is not what its columns amount to")
        for number in numbers:
            if self.whole:
                self._say(row, number <= self.contexts, f"context {number} is named before those below it")
            self.contexts = max(self.contexts, number + 1)
        return sum(group.count for group in groups if group.reason is not None), origin

    def _say(self, row: RecordRow, holds: bool, what: str) -> None:
        if not holds:
            self.found.note(row.first, what)

    def end(self) -> None:
        """Compare the head with what the records amounted to; if one of them was lost, that has been said."""
        head = self.head
        self.whole = self.whole and self.n == head.records
        stated = (head.records, head.sealed, head.peak_ns, head.chain, head.frontier)
        computed = (self.n, self.sealed, self.peak, self.chain, b"".join(self.tree.hashes))
        if self.whole and stated != computed:
            self.found.note(head.sealed, "the feed's head does not follow from its records")
        if self.whole and head.contexts != self.contexts:
            self.found.note(0, f"{head.contexts} contexts are named in the head, {self.contexts} in the records")
        for start in range(0, head.contexts, _TOGETHER):
            numbers = range(start, min(start + _TOGETHER, head.contexts))
            try:
                self.reader.contexts(numbers)
            except BROKEN:
                self._contexts_one_by_one(numbers)

    def _contexts_one_by_one(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            try:
                self.reader.context(number)
            except BROKEN as error:
                self.found.note(0, error)


def _open_part(reader: FeedReader, head: Head, found: Examined, kinds: Counter[str] | None) -> None:
    """The entries that no record covers, and that the head counts what it should, with those in the records."""
    try:
        opened = reader.open_part(Timeline())
        for entry in opened:
            if entry.index > head.last:
                break  # appended meanwhile
            found.opaque += isinstance(entry.event, Opaque)
            if kinds is not None and not codec.is_ping(entry.event):
                kinds[entry.kind] += 1
            codec.check(Observed(entry.at_ns, entry.event, entry.boot, entry.mono_ns), "the entry")
    except BROKEN as error:
        found.note(head.sealed + 1, error)
        return
    if kinds is not None and Head().with_kinds(kinds.elements()).kinds != head.kinds:
        found.note(0, "the feed's head counts other kinds of entries than there are")


def _first_and_last(reader: FeedReader, head: Head, found: Examined) -> None:
    """Coverage, and that the first entry says of the feed what its row says."""
    if not head.last:
        return
    try:
        first = next(reader.entries(0, 1))
        found.first_ns = first.effective_ns
        event, feed = first.event, reader.feed
        if not isinstance(event, FeedOpened):
            found.note(1, f"the feed begins with {first.kind}, not with {FeedOpened.kind}")
        elif (event.incarnation, event.machine, event.epoch, event.ledger_key) != (
            feed.incarnation, feed.machine, feed.epoch, feed.ledger_key,
        ):  # fmt: skip
            found.note(1, "the first entry opens another feed than the one that it stands in")
        found.last_ns = next(reader.entries(head.last - 1, head.last)).effective_ns
    except BROKEN as error:
        if not found.problems:
            found.note(0, error)
