"""A run of another's feed, judged before it is believed, and taken in as a whole: the receiving side of `replicas`.

Everything in a run follows from the origin's word, or nothing of it is taken. A run that contradicts what is held is a fork: both
sides were signed, neither stands from there, theirs is kept as a branch. The ledger is handed in, opened to write; no other
effects, and no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from ledger import codec, rows
from ledger.entry import Entry, Observed
from ledger.errors import BadProof, BadSignature, Damaged, EventRefused, Forked
from ledger.events import Event, FeedReceived
from ledger.heads import RecordRow
from ledger.identity import Feed
from ledger.merkle import Frontier, verify_consistency
from ledger.node.replicas import QUIET, Held, Run, Why, frontier_of, held, stored
from ledger.node.running import Running
from ledger.node.words import digest
from ledger.store import Branch, Ledger

FEW: Final = 24
"""So few open entries are sooner looked at one by one than made into a record again."""


class Taken(msgspec.Struct, frozen=True):
    """What became of a run. `entries`: those newly held, with effective instants; `own`: those written to the own feed
    with them. `refused`: why nothing was taken (`again`: what is held open differs, pull from the last record;
    `inconsistent`: records held differ, pull from the first), with `detail`. `forked`: the first index contradicted.
    """

    feed: Feed
    held: Held
    entries: tuple[Entry, ...] = ()
    own: tuple[Entry, ...] = ()
    refused: Why | None = None
    detail: str = ""
    forked: int | None = None


class Tail(msgspec.Struct, frozen=True):
    """The open entries of a run, the first of which has index `first`; `checked`: the record takes each of them."""

    first: int
    entries: list[Observed]
    checked: bool

    @classmethod
    def of(cls, data: bytes) -> Tail:
        """Those that these bytes hold. Raises Damaged or EventRefused."""
        few = codec.decode_few(data, FEW)
        if few is not None:
            return cls(*few, True)
        record, entries, _pings = codec.opened_record(data)
        return cls(record.first, entries, False)


class Judged(msgspec.Struct, frozen=True):
    """What is to be taken of a run: records, then entries to append, whether these are checked, then records that hold what is
    open by then; and the digest of the open part after it, none if there is no tail.
    """

    records: Sequence[codec.Opened] = ()
    arrived: list[Observed] = []
    checked: bool = False
    closing: Sequence[codec.Opened] = ()
    made: Any = None


def take_run(
    ledger: Ledger, run: Run, *, incarnation: str, own: Feed | None = None, stamp: Callable[[Event], Observed] | None = None,
    running: Running | None = None,
) -> Taken:  # fmt: skip
    """Judge a run, and take it in: all of it in one transaction, or nothing.

    `own`, `stamp`: the feed that records `feed.received` in the same transaction if anything arrived that pings will not
    tell of, and what gives an event its instant. `running`: what spares digesting again what is held. Raises
    what the store raises when the medium refuses; never for what the run says.
    """
    feed = run.feed.feed(incarnation)
    now = held(ledger, feed)
    try:
        run.word.check(feed)
        records = [codec.opened_record(body) for body in run.records]
        tail = Tail.of(run.tail) if run.tail else None
    except BadSignature as error:
        return Taken(feed, now, refused="signature", detail=error.message)
    except (Damaged, EventRefused) as error:
        return Taken(feed, now, refused="malformed", detail=error.message)
    known = list(ledger.reader(feed).records(run.after.records)) if 0 < now.records > run.after.records else []
    place = _first_difference(known, records)
    if place is not None:
        return _forked(ledger, now, run, feed=feed, records=records, place=place)
    fresh = records[len(known) :]
    elsewhere = run.after.last > now.last or (bool(run.closes) and (not now.last or run.after.records < now.records))
    if run.after.records > now.records or (elsewhere and not run.records):
        return Taken(feed, now, refused="gap", detail=f"after {run.after.last}, held are {now.last}")
    running = running or Running()
    try:
        if run.closes and not run.records:
            judged = _closed(ledger, now, run, feed=feed, tail=tail)
        else:
            judged = _judge(ledger, now, run, feed=feed, fresh=fresh, tail=tail, running=running)
    except Forked:
        return _forked(ledger, now, run, feed=feed, records=[], place=0, tail=tail.entries if tail else ())
    except BadProof as error:
        return _inconsistent(now, run, feed, error)
    except (Damaged, EventRefused) as error:
        return Taken(feed, now, refused="malformed", detail=error.message)
    if isinstance(judged, str):
        return Taken(feed, now, refused="again", detail=judged)
    try:
        taken = _take(ledger, feed, now, judged=judged, own=own, stamp=stamp)
    except Forked:
        return _forked(ledger, now, run, feed=feed, records=records, place=len(records) - len(fresh))
    except (Damaged, EventRefused) as error:
        return Taken(feed, held(ledger, feed), refused="malformed", detail=error.message)
    if judged.made is not None and taken.held.last == run.word.last:  # else more is held than the word speaks of
        running.keep(feed, ledger.reader(feed).open_stored()[1], judged.made)
    return taken


def _inconsistent(now: Held, run: Run, feed: Feed, error: BadProof) -> Taken:
    """Records that do not lead to the word's tree: if they are the first of the feed, whoever gave them lies; else it may be that
    what is held differs.
    """
    lies = not run.after.records and bool(run.records)
    return Taken(feed, now, refused="malformed" if lies else "inconsistent", detail=error.message)


def _judge(
    ledger: Ledger, now: Held, run: Run, *, feed: Feed, fresh: Sequence[codec.Opened], tail: Tail | None, running: Running
) -> Judged | str:
    """The open entries to append, once all of the run follows from the word; or why what is held open does not fit.

    Raises BadProof if the records do not lead to the word's tree, Damaged if they do not follow each other.
    """
    head = ledger.head(feed) if now.last else None
    tree = frontier_of(now.records, head.frontier if head is not None else b"")
    last = head.sealed if head is not None else 0
    for record, *_held in fresh:
        if record.first != last + 1:
            raise Damaged(f"a record begins at #{record.first}, not at #{last + 1}", position=feed.name)
        last += record.count
        tree.append(codec.leaf_of(record))
    if tail is None or tree.size > run.word.records:  # the latter: more has come another way meanwhile
        if fresh:
            verify_consistency(tree.size, run.word.records, tree.root(), run.word.root, run.proof)
        return Judged(fresh)
    verify_consistency(tree.size, run.word.records, tree.root(), run.word.root, run.proof)
    if tree.size != run.word.records:
        raise Damaged("open entries before the records that they follow", position=feed.name)
    if tail.first != run.after.last + 1 or tail.first + len(tail.entries) - 1 != run.word.last:
        raise Damaged("open entries that do not end where the word says", position=feed.name)
    opened = ledger.reader(feed).open_stored()[1] if now.last else []
    before = opened[: run.after.last - last]
    arrived = tail.entries
    made = digest(arrived, running.of(feed, before))
    if made.digest() != run.word.open:
        if not before:  # all of the open part came with it: then it is not that what is held differs
            raise Damaged("open entries that are not those of the word", position=feed.name)
        return "the open entries held are not those of the word"
    beyond = now.last - run.after.last
    for index, (mine, theirs) in enumerate(zip(opened[len(before) :], arrived, strict=False), tail.first):
        if mine != theirs:
            raise Forked(feed.at(index), ("what is held", "what the origin signed"))
    return Judged(fresh, arrived[beyond:], tail.checked, (), made)


def _closed(ledger: Ledger, now: Held, run: Run, *, feed: Feed, tail: Tail | None) -> Judged | str:
    """The same for a run whose records are made here. Where they do not come out as the word has them, what is held may differ:
    then the records themselves will tell.
    """
    opened = ledger.reader(feed).open_stored()[1]
    head = ledger.head(feed)
    tree = frontier_of(now.records, head.frontier)
    whole = [*opened[: run.after.last - head.sealed], *(tail.entries if tail is not None else ())]
    if (
        run.after.last < head.sealed
        or (tail is not None and tail.first != run.after.last + 1)
        or head.sealed + len(whole) != run.word.last
    ):
        raise Damaged("entries that do not end where the word says", position=feed.name)
    made: list[codec.Opened] = []
    at = 0
    for size in run.closes:
        part = whole[at : at + size]
        if len(part) < size:
            raise Damaged("a record that would end beyond the feed", position=feed.name)
        record, pings = codec.arrange_record(head.sealed + at + 1, part)
        if len(codec.encode_record(record)) > codec.RECORD_MAX_BYTES:
            raise Damaged("a record that no ledger would write", position=feed.at(record.first))
        made.append(codec.Opened(record, part, pings))
        tree.append(codec.leaf_of(record))
        at += size
    left = digest(whole[at:])
    agrees = tree.size == run.word.records and tree.root() == run.word.root and left.digest() == run.word.open
    if not agrees or any(mine != theirs for mine, theirs in zip(opened, whole, strict=False)):
        return "the entries held do not make the records of the word"
    return Judged((), whole[now.last - head.sealed :], tail is None or tail.checked, made, left)


def _take(
    ledger: Ledger,
    feed: Feed,
    now: Held,
    *,
    judged: Judged,
    own: Feed | None,
    stamp: Callable[[Event], Observed] | None,
) -> Taken:
    with ledger.transaction():
        for opened in judged.records:
            ledger.take(feed, opened)
        if judged.arrived:
            ledger.append(judged.arrived, observer=feed, seal=False, checked=judged.checked)
        entries = tuple(ledger.read(feed, after=now.last)) if judged.records or judged.arrived else ()
        for opened in judged.closing:  # last, so that what has arrived is not read out of a record
            ledger.take(feed, opened)
        written: tuple[Entry, ...] = ()
        if own is not None and stamp is not None and any(entry.kind not in QUIET for entry in entries):
            receipt = ledger.append(stamp(FeedReceived(feed.id, entries[-1].index)), observer=own)
            written = tuple(ledger.read(own, after=receipt.first - 1, until=receipt.last))
    return Taken(feed, held(ledger, feed), entries, written)


# Forks.


def _first_difference(known: Sequence[RecordRow], records: Sequence[codec.Opened]) -> int | None:
    """The place of the first record that is held already, and is another."""
    pairs = enumerate(zip(known, records, strict=False))
    return next((place for place, (row, record) in pairs if row.leaf != codec.leaf_of(record.record)), None)


def _forked(
    ledger: Ledger,
    now: Held,
    run: Run,
    *,
    feed: Feed,
    records: Sequence[codec.Opened],
    place: int,
    tail: Sequence[Observed] = (),
) -> Taken:
    """Keep as evidence what a run says from its record `place` on, or its whole open part, which contradicts what is held."""
    reader = ledger.reader(feed)
    shared = run.after.records + place
    tree = Frontier()
    for leaf in reader.leaves()[:shared]:
        tree.append(leaf)
    theirs = [each.record for each in records[place:]]
    for record in theirs:
        tree.append(codec.leaf_of(record))
    try:
        verify_consistency(tree.size, run.word.records, tree.root(), run.word.root, run.proof)
    except BadProof as error:
        return _inconsistent(now, run, feed, error)
    first = (reader.record(shared).last if shared else 0) + 1
    mine = stored(reader, first - 1, reader.head().last)
    whole = [*stored(reader, first - 1, run.after.last), *tail] if tail else []
    given = [entry for each in records[place:] for entry in each.entries] + whole
    index = next((i for i, (x, y) in enumerate(zip(mine, given, strict=False), first) if x != y), None)
    if index is None:  # the same entries, sealed elsewhere: two records that are both signed contradict each other all the same
        index = first + min(len(mine), len(given)) - 1
    chain = reader.record(shared).chain if shared else rows.CHAIN_START
    for record in theirs:
        chain = rows.chain_after(chain, codec.leaf_of(record))
    end = first + sum(record.count for record in theirs)
    named = chain + (codec.encode_record(codec.make_record(end, whole)) if whole else b"")
    branch = Branch(hashlib.sha256(named).hexdigest()[:16], tuple(map(codec.encode_record, theirs)), tuple(whole), first)
    if all(kept.name != branch.name for kept in ledger.branches(feed)):
        ledger.keep_branch(feed, branch)
    return Taken(feed, now, forked=index, detail=f"branch {branch.name}")
