"""Every entry of a feed in order, as a few plain values: for whoever visits millions and needs no more of each.

`walk` gives what `entries` gives, without making events of it: a record's columns are brought into the order of the feed
and zipped. That both agree is a law. It reads by way of `feeds`, which checks what is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat

from ledger.blocks import AT, RTT
from ledger.entry import Entry
from ledger.feeds import FeedReader
from ledger.heads import RecordRow
from ledger.unpacking import Pings

Visit = tuple[int, int, str, str, int]
"""Index, wall clock in ns, peer (empty for an entry that has none), kind, round trip in µs (-1 if there is none)."""


def walk(reader: FeedReader) -> Iterator[Visit]:
    """The entries of a feed as it is now, in order. Raises Damaged as `FeedReader.entries` does."""
    return chain.from_iterable(_pieces(reader))


def visit(entry: Entry) -> Visit:
    """One entry, the plain way."""
    event = entry.event
    trip = getattr(event, "rtt_us", None)
    return entry.index, entry.at_ns, getattr(event, "peer", ""), event.kind, -1 if trip is None else trip


def _pieces(reader: FeedReader) -> Iterator[Iterable[Visit]]:
    head = reader.head()
    for record in reader.records(0, head.records):
        yield _record(reader, record)
    opened = reader.opened()
    if not opened.runs:
        yield map(visit, reader.opened_entries(opened, reader.timeline()))
        return
    controls = [reader.control_entry(control) for control in opened.controls]
    yield _between(chain.from_iterable(map(opened.visits, opened.runs)), opened.head.sealed + 1, controls)


def _record(reader: FeedReader, record: RecordRow) -> Iterator[Visit]:
    controls = reader.controls_of(record)
    pings = reader.pings(record, controls)
    visits = _pings(pings) if pings.count else iter(())
    return _between(visits, record.first, controls) if controls else visits


def _pings(pings: Pings) -> Iterator[Visit]:
    contexts = pings.block.contexts
    kinds = ["ping.answered" if context.answered else "ping.failed" for context in contexts]
    peers = [context.peer for context in contexts]
    which = pings.which
    answered: Sequence[int] = pings.column(RTT)
    return zip(
        pings.indexes(),
        pings.in_order(pings.column(AT)),
        map(peers.__getitem__, which),
        map(kinds.__getitem__, which),
        pings.in_order([*answered, *repeat(-1, pings.count - len(answered))]),
        strict=True,
    )


def _between(visits: Iterator[Visit], first: int, controls: Sequence[Entry]) -> Iterator[Visit]:
    """Control entries at their places among the pings; `first`: the index of the first entry of all."""
    pieces: list[Iterable[Visit]] = []
    for control in controls:
        pieces += [islice(visits, control.index - first), (visit(control),)]
        first = control.index + 1
    return chain(*pieces, visits)
