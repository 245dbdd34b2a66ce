"""Every entry of a feed in order, as a few plain values: for whoever visits millions and needs no more of each.

`walk` gives what `entries` gives, without making events of it: a record's columns are brought into the order of the feed
and zipped. That both agree is a law. It reads by way of `feeds`, which checks what is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat

from ledger.blocks import AT, RTT
from ledger.entry import Entry
from ledger.feeds import FeedReader
from ledger.heads import RecordRow
from ledger.unpacking import Pings

Visit = tuple[int, int, str, str | None, int | None]
"""Index, wall clock in ns, kind, peer (None for an entry that has none), round trip in µs (None if there is none)."""


def walk(reader: FeedReader) -> Iterator[Visit]:
    """The entries of a feed as it is now, in order. Raises Damaged as `FeedReader.entries` does."""
    head = reader.head()
    for record in reader.records(0, head.records):
        yield from _record(reader, record)
    opened = reader.opened()
    if opened.runs:
        visits = chain.from_iterable(map(opened.visits, opened.runs))
        yield from _between(visits, [reader.control_entry(control) for control in opened.controls])
    else:
        yield from map(visit, reader.opened_entries(opened, reader.timeline()))


def visit(entry: Entry) -> Visit:
    """One entry, the plain way."""
    event = entry.event
    return entry.index, entry.at_ns, event.kind, getattr(event, "peer", None), getattr(event, "rtt_us", None)


def _record(reader: FeedReader, record: RecordRow) -> Iterator[Visit]:
    controls = reader.controls_of(record)
    pings = reader.pings(record, controls)
    visits = _pings(pings) if pings.count else iter(())
    if not controls:
        return visits
    return _between(visits, controls)


def _pings(pings: Pings) -> Iterator[Visit]:
    contexts = pings.block.contexts
    kinds = ["ping.answered" if context.answered else "ping.failed" for context in contexts]
    peers = [context.peer for context in contexts]
    which = pings.which
    answered: Sequence[int] = pings.column(RTT)
    trips: list[int | None] = [*answered, *repeat(None, pings.count - len(answered))]
    return zip(
        pings.indexes(),
        pings.in_order(pings.column(AT)),
        map(kinds.__getitem__, which),
        map(peers.__getitem__, which),
        pings.in_order(trips),
        strict=True,
    )


def _between(visits: Iterator[Visit], controls: Sequence[Entry]) -> Iterator[Visit]:
    """Control entries at their places among the pings."""
    waiting = iter(controls)
    control = next(waiting, None)
    for each in visits:
        while control is not None and control.index < each[0]:
            yield visit(control)
            control = next(waiting, None)
        yield each
    while control is not None:
        yield visit(control)
        control = next(waiting, None)
