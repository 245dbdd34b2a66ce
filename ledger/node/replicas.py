"""Feeds as they travel: a run of entries, and how it is made for who holds so much.

A *run* is what follows, in one feed, after what its receiver holds: sealed records, with the proof that the tree so far is
a beginning of the tree in the origin's word (RFC 6962 consistency); or the open entries, which together with those held
digest to what the word states. Who holds most of what records hold gets only the entries that it lacks, and where the records
end: it makes them itself, and they are those of the word if they lead to its root. So a run proves itself, whoever brought it,
and an entry seldom travels twice. It fits in a frame.

`speak` is for the feed's origin, `run_after` for whoever holds as much as a word states; `taking` judges and takes in. The ledger
is handed in, opened to write; no other effects, and no clock.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ledger import codec
from ledger.entry import Observed
from ledger.feeds import FeedReader
from ledger.identity import Feed
from ledger.merkle import Frontier, consistency_proof
from ledger.node.running import Running
from ledger.node.words import Hash, Named, Word, digest, spoken
from ledger.notes import Signer
from ledger.store import Ledger

RUN_MAX_BYTES: Final = 62_000
"""Records and open entries of one run: with the proof and the word it stays below a frame's 64 KiB."""
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
    root = frontier_of(head.records, head.frontier).root()
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
    entries = stored(reader, first, word.last)
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
    lacking = stored(reader, after.last, word.last)
    tail = codec.encode_record(codec.make_record(after.last + 1, lacking)) if lacking else b""
    return Run(Named.of(reader.feed), after, (), (), tail, word, sizes) if len(tail) <= RUN_MAX_BYTES else None


def stored(reader: FeedReader, after: int, until: int) -> list[Observed]:
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


def frontier_of(records: int, hashes: bytes) -> Frontier:
    """The tree of so many records, from the hashes that a head keeps of it."""
    return Frontier(records, [hashes[at : at + 32] for at in range(0, len(hashes), 32)])
