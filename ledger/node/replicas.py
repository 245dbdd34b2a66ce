"""Feeds of others, held: a run of entries as it travels, judged before it is believed, taken in as a whole.

A *run* is what follows, in one feed, after what its receiver holds: sealed records, with the proof that the tree so far is
a beginning of the tree in the origin's word (RFC 6962 consistency); or the open entries, which together with those held
digest to what the word states. Who holds most of what records hold gets only the entries that it lacks, and where the records
end: it makes them itself, and they are those of the word if they lead to its root. So a run proves itself, whoever brought it,
and an entry seldom travels twice. It fits in a frame.

`speak` is for the feed's origin; `run_after` for whoever holds as much as a word states; `take_run` judges and takes in. A
run that contradicts what is held is a fork: both sides were signed, neither stands from there, theirs is kept as a branch.
The ledger is handed in, opened to write; no other effects, and no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from ledger import codec, rows
from ledger.entry import Entry, Observed
from ledger.errors import BadProof, BadSignature, Damaged, EventRefused, Forked
from ledger.events import Event, FeedReceived
from ledger.feeds import FeedReader
from ledger.heads import RecordRow
from ledger.identity import Feed
from ledger.merkle import Frontier, consistency_proof, verify_consistency
from ledger.node.running import Running
from ledger.node.words import Hash, Named, Word, digest, spoken
from ledger.notes import Signer
from ledger.store import Branch, Ledger

RUN_MAX_BYTES: Final = 62_000
"""Records and open entries of one run: with the proof and the word it stays below a frame's 64 KiB."""
FEW: Final = 24
"""So few open entries are sooner looked at one by one than made into a record again."""
CLOSES_MAX: Final = 4
"""So many records at most are made by the receiver of a run."""
OPEN_MAX_BYTES: Final = 48_000
"""An open part of more bytes than this is sealed before its origin speaks of it, so that it fits in a run."""
QUIET: Final = frozenset(("ping.answered", "ping.failed", "feed.received", "head.witnessed"))
"""Kinds whose arrival needs no `feed.received` of its own: pings state what is held."""

_CONTROLS: Final = msgspec.msgpack.Decoder(tuple[int, int, int, list[codec.Control], msgspec.Raw])

Why = Literal["signature", "gap", "again", "inconsistent", "malformed", "medium"]
Part = Annotated[bytes, Meta(max_length=codec.RECORD_MAX_BYTES)]
Size = Annotated[int, Meta(ge=1, le=codec.RECORD_MAX_ENTRIES)]


class Held(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """How much of a feed is held: sealed records, and the last entry."""

    records: Annotated[int, Meta(ge=0, le=2**60)] = 0
    last: Annotated[int, Meta(ge=0, le=2**60)] = 0


class Run(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """What follows in `feed` after `after`: `records` as their leaves cover them, from number `after.records` + 1 on, and
    `proof` that the tree with them begins the word's; or, if there are none to come, `tail`: the entries after `after.last` as a
    record of their own, empty if there are none. `closes`: of how many entries each the next records are, up to the word's last,
    which the receiver is to make of what it holds and of the tail.
    """

    feed: Named
    after: Held
    records: Annotated[tuple[Part, ...], Meta(max_length=256)]
    proof: Annotated[tuple[Hash, ...], Meta(max_length=64)]
    tail: Part
    word: Word
    closes: Annotated[tuple[Size, ...], Meta(max_length=CLOSES_MAX)] = ()


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


def is_quiet(run: Run) -> bool:
    """Whether a run brings results of pings and the like, and nothing that anybody waits for. Of bytes that are no record it says
    no: they are judged at once.
    """
    try:
        return not run.records and all(control.kind in QUIET for control in _CONTROLS.decode(run.tail)[3])
    except (ValueError, RecursionError):
        return False


def held(ledger: Ledger, feed: Feed) -> Held:
    """How much of a feed a ledger holds."""
    if feed not in ledger.feeds():
        return Held()
    head = ledger.head(feed)
    return Held(head.records, head.last)


def speak(ledger: Ledger, feed: Feed, signer: Signer, running: Running | None = None) -> Word:
    """The origin's word on its own feed as it is now. An open part too large to travel is sealed first."""
    running = running or Running()
    opened = ledger.reader(feed).open_stored()[1]
    made = running.of(feed, opened)
    if running.bound(feed, opened) > OPEN_MAX_BYTES and len(codec.encode_record(codec.make_record(1, opened))) > OPEN_MAX_BYTES:
        ledger.seal(feed)
        made = digest(())
    head = ledger.head(feed)
    root = _frontier(head.records, head.frontier).root()
    return spoken(feed, head.last, head.records, root=root, opened=made.digest(), signer=signer)


def run_after(ledger: Ledger, feed: Feed, after: Held, word: Word) -> Run | None:
    """The next run of `feed` for one who holds `after` of it, under `word`; None if there is nothing to give.

    Precondition: what is held here begins with what `word` states.
    """
    reader = ledger.reader(feed)
    named = Named.of(feed)
    if after.records < word.records:
        closing = _closing(reader, after, word)
        if closing is not None:
            return closing
        bodies: list[bytes] = []
        size = 0
        for row in reader.records(after.records, word.records):
            body = codec.encode_record(reader.canonical(row))
            if bodies and (size + len(body) > RUN_MAX_BYTES or len(bodies) == 256):
                break
            bodies.append(body)
            size += len(body)
        proof = consistency_proof(reader.leaves()[: word.records], after.records + len(bodies))
        return Run(named, after, tuple(bodies), tuple(proof), b"", word)
    if after.records > word.records or after.last >= word.last:
        return None
    sealed = reader.record(word.records).last if word.records else 0
    first = max(after.last, sealed)
    entries = _stored(reader, first, word.last)
    return Run(named, Held(after.records, first), (), (), codec.encode_record(codec.make_record(first + 1, entries)), word)


def _closing(reader: FeedReader, after: Held, word: Word) -> Run | None:
    """The run for one who holds the larger part of the records that it lacks, and lacks few; None for any other."""
    if word.records - after.records > CLOSES_MAX:
        return None
    sealed = reader.record(after.records).last if after.records else 0
    lacked = list(reader.records(after.records, word.records))
    sizes = tuple([row.last - row.first + 1 for row in lacked])
    if after.last - sealed <= lacked[-1].last - after.last or max(sizes) > codec.RECORD_MAX_ENTRIES:
        return None
    lacking = _stored(reader, after.last, word.last)
    tail = codec.encode_record(codec.make_record(after.last + 1, lacking)) if lacking else b""
    return Run(Named.of(reader.feed), after, (), (), tail, word, sizes) if len(tail) <= RUN_MAX_BYTES else None


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
    """What is to be taken of a run: records, then entries to append, whether these are checked, and the digest of the open part
    with them; none if there is no tail.
    """

    records: Sequence[codec.Opened] = ()
    arrived: list[Observed] = []
    checked: bool = False
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
    ahead = run.after.last > now.last or (bool(run.closes) and run.after.records < now.records)
    if run.after.records > now.records or (ahead and not run.records):
        return Taken(feed, now, refused="gap", detail=f"after {run.after.last}, held are {now.last}")
    running = running or Running()
    try:
        if run.closes:
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
    if judged.made is not None:
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
    tree = _frontier(now.records, head.frontier if head is not None else b"")
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
    return Judged(fresh, arrived[beyond:], tail.checked, made)


def _closed(ledger: Ledger, now: Held, run: Run, *, feed: Feed, tail: Tail | None) -> Judged | str:
    """The same for a run whose records are made here. Where they do not come out as the word has them, what is held may differ:
    then the records themselves will tell.
    """
    opened = ledger.reader(feed).open_stored()[1]
    head = ledger.head(feed)
    tree = _frontier(now.records, head.frontier)
    whole = [*opened[: run.after.last - head.sealed], *(tail.entries if tail is not None else ())]
    if (tail is not None and tail.first != run.after.last + 1) or head.sealed + len(whole) != run.word.last:
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
    return Judged(made, whole[max(at, now.last - head.sealed) :], tail is None or tail.checked, left)


def _take(
    ledger: Ledger,
    feed: Feed,
    now: Held,
    *,
    judged: Judged,
    own: Feed | None,
    stamp: Callable[[Event], Observed] | None,
) -> Taken:
    with ledger.attempt():
        for opened in judged.records:
            ledger.take(feed, opened)
        if judged.arrived:
            ledger.append(judged.arrived, observer=feed, seal=False, checked=judged.checked)
        entries = tuple(ledger.read(feed, after=now.last)) if judged.records or judged.arrived else ()
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
    mine = _stored(reader, first - 1, reader.head().last)
    whole = [*_stored(reader, first - 1, run.after.last), *tail] if tail else []
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


def _stored(reader: FeedReader, after: int, until: int) -> list[Observed]:
    """The entries with indexes in (after, until], as they are stored."""
    head, opened = reader.open_stored()
    if after >= head.sealed:
        return opened[after - head.sealed : until - head.sealed]
    start = reader.holding(after + 1)
    found: list[Observed] = []
    for row in reader.records((start.n if start else 1) - 1, head.records):
        observed = reader.observed(row)
        found += observed[max(0, after + 1 - row.first) : max(0, until + 1 - row.first)]
    return found + opened[: max(0, until - head.sealed)]


def _frontier(records: int, hashes: bytes) -> Frontier:
    return Frontier(records, [hashes[at : at + 32] for at in range(0, len(hashes), 32)])
