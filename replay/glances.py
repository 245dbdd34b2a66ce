"""Single entries of a history, and what is no ping in a short stretch of it, without opening whole records.

A control entry stands in a row of its own; where the record that holds it is in order (`steady`) and no clock was disowned, its
wall clock is its effective instant. Everything else is read as `History.entries` does: slower, and the same.

Reads a history, writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from ledger.entry import Entry
from ledger.errors import Refused
from ledger.events import MachineJoined
from ledger.identity import Feed
from replay.history import History
from replay.text import shorten

Place = tuple[Feed, int]


def entry_at(history: History, place: Place) -> Entry | None:
    """The entry at a place, None if there is none."""
    feed, index = place
    reader = history.reader(feed)
    if not 0 < index <= reader.head().last:
        return None
    found = reader.controls(index, index)
    if found and not reader.timeline().stretches:
        record = reader.holding(index)
        if record is not None and record.steady:
            return found[0]
    return next(history.entries(feed, index - 1, index), None)


def controls_near(history: History, feed: Feed, index: int, since_ns: int, until_ns: int) -> Iterable[Entry] | None:
    """The control entries with wall clocks in (since, until], looked for in the records from that of entry `index` outwards; None
    if clocks were set, so that only a reading in order could tell.
    """
    reader = history.reader(feed)
    if reader.timeline().stretches:
        return None
    head = reader.head()
    here = reader.holding(index) if 0 < index <= head.sealed else None
    first, last = head.sealed + 1, head.last
    if here is None and head.records:
        here = reader.record(head.records)
    if here is not None:
        record = here
        while record.low_ns > since_ns and record.n > 1:
            record = reader.record(record.n - 1)
        first, record = record.first, here
        while record.high_ns <= until_ns and record.n < head.records:
            record = reader.record(record.n + 1)
        last = record.last if record.high_ns > until_ns else head.last
    return [entry for entry in reader.controls(first, last) if since_ns < entry.at_ns <= until_ns]


def machines_of(history: History) -> set[str]:
    """All machines that have a feed, or of which it is recorded that they joined."""
    found = {feed.machine for feed in history.feeds}
    for feed in history.feeds:
        joined = (entry.event for entry in history.reader(feed).rare((MachineJoined.kind,)))
        found |= {event.machine for event in joined if isinstance(event, MachineJoined)}
    return found


def no_machine(name: str, known: Collection[str]) -> Refused:
    """What is said of a machine that there is not: those near it, or some of those that there are."""
    near = get_close_matches(name, known, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(known)[:8]) or 'none'}"
    return Refused(f"no machine '{shorten(name)}' in these ledgers", hint=hint)
