"""The generated workload of the benchmark: the feeds of a cluster that never was (`world`), entry by entry.

Each machine writes what it sees in its own feed, with every field that a live node would fill in.

ALL INSTANTS AND CLOCK READINGS ARE WHOLE MICROSECONDS (nanoseconds ending in 000). One seed, one log, byte for byte:
nothing but `random.Random(seed)` decides. Not in it: `feed.received`, `head.witnessed` and look-ups.

The rows of `world` are kept in a cache on disk, so that all contestants get the same log without waiting for the dice
again. `batches` builds the `Observed` from rows, cached or fresh, by one code path.
"""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import msgspec
from bench import world
from bench.world import ANSWERED_FIELDS, CONTROL_FIELDS, World, feeds

from ledger.entry import Observed
from ledger.events import KINDS, Event, PingAnswered, PingFailed
from ledger.identity import Feed

Batch = tuple[Feed, list[Observed]]
Slab = tuple[list[str], list[list[tuple]]]
"""The link ids that are new in it, and for each feed its rows, ascending."""

ROUNDS_A_SLAB = 64


def generated(events: int, seed: int = 1, machines: int = 20) -> Iterator[Slab]:
    """Exactly `events` rows in slabs of some dozen intervals, from the dice."""
    cluster = World(machines, seed)
    left, known, slab = events, 1, [[] for _ in range(machines)]
    for turn, rounds in enumerate(cluster.rounds(), 1):
        count = sum(map(len, rounds))
        if count >= left:
            last = sorted(((row[0], number, row) for number, rows in enumerate(rounds) for row in rows), key=itemgetter(0, 1))
            rounds = [[row for _, owner, row in last[:left] if owner == number] for number in range(machines)]
        left -= min(count, left)
        for rows, new in zip(slab, rounds, strict=True):
            rows.extend(new)
        if turn % ROUNDS_A_SLAB == 0 or not left:
            yield cluster.links[known:], slab
            known, slab = len(cluster.links), [[] for _ in range(machines)]
        if not left:
            return


def cache_folder() -> Path:
    """Where generated logs are kept between contestants: a folder of this user's under the temporary one."""
    folder = Path(tempfile.gettempdir()) / f"meshledger-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def cached(events: int, seed: int = 1, machines: int = 20) -> Iterator[Slab]:
    """As `generated`, from the cache; it is filled first if need be. Its name tells these rooms' text, so it is never stale."""
    text = hashlib.sha256(b"".join(Path(file).read_bytes() for file in (__file__, world.__file__))).hexdigest()[:12]
    path = cache_folder() / f"log-{text}-{machines}-{seed}-{events}.msgpack"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        collecting = gc.isenabled()
        gc.disable()  # a million fresh rows hold no cycles, and looking for them takes a third of the time
        try:
            with partial.open("wb") as out:
                for slab in generated(events, seed, machines):
                    packed = msgspec.msgpack.encode(slab)
                    out.write(len(packed).to_bytes(8, "big") + packed)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
            if collecting:
                gc.enable()
    decoder = msgspec.msgpack.Decoder(tuple[list[str], list[list[tuple]]])
    with path.open("rb") as source:
        while size := source.read(8):
            yield decoder.decode(source.read(int.from_bytes(size, "big")))


def observed(rows: list[tuple], names: list[Feed], links: list[str | None]) -> list[Observed]:
    """The rows of one feed as what a node would hand to the record."""
    result = []
    append = result.append
    for row in rows:
        size = len(row)
        if size == ANSWERED_FIELDS:
            at, mono, boot, peer, number, rtt, link, sent, received, replied, returned, peer_boot, held = row
            feed = names[peer]
            event: Event = PingAnswered(
                feed.machine, number, rtt, links[link], sent, received, replied, returned, peer_boot, feed.id, held
            )
        elif size == CONTROL_FIELDS:
            at, mono, boot, kind, body = row
            event = msgspec.convert(body, KINDS[kind])
        else:
            at, mono, boot, peer, number, reason, link, held = row
            feed = names[peer]
            event = PingFailed(feed.machine, number, reason, links[link], feed.id, held)
        append(Observed(at * 1000, event, boot, mono * 1000))
    return result


def slabs(events: int, seed: int = 1, machines: int = 20, *, cache: bool = False) -> Iterator[list[Batch]]:
    """The workload by stretches of time, each feed's part of it, for whoever wants to hold little at once."""
    names = feeds(machines, seed)
    links: list[str | None] = [None]
    for new, parts in (cached if cache else generated)(events, seed, machines):
        links.extend(new)
        yield [(feed, observed(rows, names, links)) for feed, rows in zip(names, parts, strict=True)]


def rebatched(source: Iterator[list[Batch]], batch: int) -> Iterator[Batch]:
    """The same entries, `batch` of one feed at a time, the feeds in turn; at the end what is left of each."""
    waiting: dict[str, list[Observed]] = {}
    known: dict[str, Feed] = {}
    for parts in source:
        for feed, entries in parts:
            known.setdefault(feed.id, feed)
            waiting.setdefault(feed.id, []).extend(entries)
        ready = min(map(len, waiting.values())) // batch * batch
        for first in range(0, ready, batch):
            for name, entries in waiting.items():
                yield known[name], entries[first : first + batch]
        for entries in waiting.values():
            del entries[:ready]
    while any(waiting.values()):
        for name, entries in waiting.items():
            if entries:
                yield known[name], entries[:batch]
                del entries[:batch]


def batches(events: int, batch: int, seed: int = 1, machines: int = 20, *, cache: bool = False) -> Iterator[Batch]:
    """`events` entries of `machines` feeds as (feed, the next `batch` of it), the feeds in turn."""
    return rebatched(slabs(events, seed, machines, cache=cache), batch)
