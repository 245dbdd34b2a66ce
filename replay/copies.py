"""Copies of one feed, and what they amount to together.

A *copy* is one file's word about a feed: a chain of sealed records, then entries that no record covers. Each entry is a
claim (this stands at #17), each record another (a record ends here, and nowhere before). Two copies are *compatible* if
no claim of one is denied by the other; their join then makes all claims of both. If one is denied, that index is a
*fork*: what stands before it stands, and each whole side of it is a branch.

The join is a least upper bound: commutative, associative, idempotent. To keep that true of forks, what is known of records
and what is known of entries is combined freely: every longest run of entries, with every longest chain of records that fits
it, is a branch. So any order and grouping of copies gives the same. Chains are compared first (a hash after each record),
entries only where chains end; nothing is held in memory but open parts, and what lies beyond a fork. Reads, never writes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import accumulate, combinations
from typing import Final, TypeVar

import msgspec

from ledger import codec, rows
from ledger.entry import Observed
from ledger.errors import Damaged
from ledger.feeds import FeedReader
from ledger.identity import Feed
from ledger.store import Branch, Ledger

NAME_DIGITS: Final = 16
_T = TypeVar("_T")
"""A timeline that disowns nothing: who asks only for what was recorded needs no effective instants."""


class Copy:
    """One word about a feed: the first `shared` records of `reader`, then the records `more`, then the entries `tail`."""

    def __init__(self, reader: FeedReader, shared: int, more: Sequence[codec.Record], tail: Sequence[Observed]) -> None:
        self.reader = reader
        self.feed: Feed = reader.feed
        self.shared = shared
        self.more = tuple(more)
        self.tail = tuple(tail)
        self.records = shared + len(self.more)
        self._chains = [reader.record(shared).chain if shared else rows.CHAIN_START]
        self._ends = [reader.record(shared).last if shared else 0]
        for record in self.more:
            self._chains.append(rows.chain_after(self._chains[-1], codec.leaf_of(record)))
            self._ends.append(record.first + record.count - 1)
        self.sealed = self._ends[-1]
        self.last = self.sealed + len(self.tail)

    def chain(self, n: int) -> bytes:
        """The chain after `n` records: equal chains, equal records."""
        if n >= self.shared:
            return self._chains[n - self.shared]
        return self.reader.record(n).chain if n else rows.CHAIN_START

    def end(self, n: int) -> int:
        """The index of the last entry of record `n`; 0 for none."""
        if n >= self.shared:
            return self._ends[n - self.shared]
        return self.reader.record(n).last if n else 0

    def sealed_records(self, after: int = 0) -> Iterator[codec.Record]:
        """The records from number `after` + 1 on, as their leaves cover them."""
        if after < self.shared:
            for row in self.reader.records(after, self.shared):
                yield self.reader.canonical(row)
        yield from self.more[max(0, after - self.shared) :]

    def entries(self, after: int = 0) -> Iterator[Observed]:
        """The entries that stand after record `after`, also those no record covers."""
        for record in self.sealed_records(after):
            yield from codec.open_record(record)
        yield from self.tail

    def before(self, index: int) -> int:
        """How many records lie wholly before entry `index`."""
        return _first(self.records, lambda n: self.end(n) >= index) - 1

    def continued(self, n: int, more: Sequence[codec.Record], tail: Sequence[Observed]) -> Copy:
        """The first `n` records of this copy, then `more`, then `tail`."""
        mine = self.more[: max(0, n - self.shared)]
        return Copy(self.reader, min(n, self.shared), (*mine, *more), tail)

    @property
    def name(self) -> str:
        """The name that this copy bears as a branch: a digest of all its records and entries, wherever it forks."""
        tail = codec.encode_record(codec.make_record(self.sealed + 1, self.tail)) if self.tail else b""
        return sha256(self.chain(self.records) + tail).hexdigest()[:NAME_DIGITS]


class United(msgspec.Struct, frozen=True):
    """What copies of one feed amount to. `copy` is what stands; if they fork, `index` is the first that is contradicted
    and `branches` are all sides of it, each whole from the end of the standing records on; `conflicting` counts their
    entries from the fork on.
    """

    copy: Copy
    index: int | None = None
    branches: tuple[Branch, ...] = ()
    conflicting: int = 0


# Copies that a ledger holds.


def held(ledger: Ledger, feed: Feed) -> list[Copy]:
    """The copies of a feed in one ledger: what stands there, and each branch kept as evidence."""
    standing = stands(ledger.reader(feed))
    return [standing, *(_branched(standing, branch) for branch in ledger.branches(feed))]


def stands(reader: FeedReader) -> Copy:
    """What stands of a feed in one file, as of one moment, also beside a live writer."""
    head, tail = reader.open_stored()
    return Copy(reader, head.records, (), tail)


def _branched(standing: Copy, branch: Branch) -> Copy:
    before = standing.before(branch.first)
    if standing.end(before) != branch.first - 1:
        raise Damaged("a branch does not begin where a record ends", position=standing.feed.at(branch.first))
    return Copy(standing.reader, before, [codec.decode_record(body) for body in branch.records], branch.tail)


# Two copies.


def contradiction(one: Copy, other: Copy) -> int | None:
    """The first index at which two copies contradict each other, or None: they are compatible."""
    shorter, longer = sorted((one, other), key=lambda copy: copy.records)
    if shorter.chain(shorter.records) != longer.chain(shorter.records):
        n = _first(shorter.records, lambda n: shorter.chain(n) != longer.chain(n))
        mine, theirs = next(shorter.sealed_records(n - 1)), next(longer.sealed_records(n - 1))
        pairs = zip(codec.open_record(mine), codec.open_record(theirs), strict=False)
        differing = next((place for place, (x, y) in enumerate(pairs) if x != y), None)
        return mine.first + (min(mine.count, theirs.count) - 1 if differing is None else differing)
    if not shorter.tail:
        return None
    pairs = zip(shorter.tail, longer.entries(shorter.records), strict=False)
    return next((index for index, (x, y) in enumerate(pairs, shorter.sealed + 1) if x != y), None)


def join(one: Copy, other: Copy) -> Copy:
    """What two compatible copies say together: the longer chain of records, the longer run of entries."""
    shorter, longer = sorted((one, other), key=lambda copy: copy.records)
    if shorter.last <= longer.last:
        return longer
    return longer.continued(longer.records, (), shorter.tail[longer.sealed - shorter.sealed :])


# Many copies.


def unite(copies: Sequence[Copy]) -> United:
    """What one or more copies of one feed amount to, whatever their order."""
    joined = copies[0]
    for other in copies[1:]:
        if contradiction(joined, other) is not None:
            return _forked(copies)
        joined = join(joined, other)
    return United(joined)


class _Run(msgspec.Struct, frozen=True):
    """What a copy says beyond a common record: entries, records, and where each record ends, counted in entries."""

    entries: list[Observed]
    records: list[codec.Record]
    ends: list[int]


def _forked(copies: Sequence[Copy]) -> United:
    """What copies amount to of which two contradict each other."""
    found = (contradiction(one, other) for one, other in combinations(copies, 2))
    index = min(each for each in found if each is not None)
    # Before the fork no claim is denied: the copy that has most records there has all that are known there.
    base = max(copies, key=lambda copy: copy.before(index))
    shared = base.before(index)
    first = base.end(shared) + 1
    runs = [_run(copy, shared, first) for copy in copies if copy.last >= first]
    branches: dict[str, Branch] = {}
    conflicting = 0
    for entries in _longest([run.entries for run in runs]):
        for records in _longest([run.records[: _fitting(run, entries)] for run in runs]):
            tail = entries[sum(record.count for record in records) :]
            whole = base.continued(shared, records, tail)
            branches[whole.name] = Branch(whole.name, tuple(map(codec.encode_record, records)), tuple(tail), first)
            conflicting += whole.last - index + 1
    standing = next(run.entries for run in runs if len(run.entries) > index - first)[: index - first]
    kept = tuple(branches[name] for name in sorted(branches))
    return United(base.continued(shared, (), standing), index, kept, conflicting)


def _run(copy: Copy, shared: int, first: int) -> _Run:
    if copy.records < shared:
        return _Run(list(copy.tail[first - 1 - copy.sealed :]), [], [])
    records = list(copy.sealed_records(shared))
    ends = list(accumulate(record.count for record in records))
    return _Run(list(copy.entries(shared)), records, ends)


def _fitting(run: _Run, entries: Sequence[Observed]) -> int:
    """How many records of a run these entries have as well."""
    agreed = 0
    for mine, theirs in zip(run.entries, entries, strict=False):
        if mine != theirs:
            break
        agreed += 1
    return bisect_right(run.ends, agreed)


def _longest(sequences: Sequence[list[_T]]) -> list[list[_T]]:
    """Those of which none is the beginning of another, each once."""
    kept: list[list[_T]] = []
    for one in sorted(sequences, key=len, reverse=True):
        if all(other[: len(one)] != one for other in kept):
            kept.append(one)
    return kept


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The first number from 1 to `count` for which `holds`, which then does for all after it; `count` + 1 for none."""
    return bisect_left(range(1, count + 1), True, key=holds) + 1
