"""The findings of a history: the seed system's rules over what some ledgers hold (`projections.findings`).

Only control entries are read, of the feeds that are machines' own, record by record: the pings stay closed, but for records in
which a clock went back. Reads a history, writes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from ledger.entry import Entry
from ledger.events import Ping
from ledger.identity import Feed
from projections.findings import Finding, lint
from replay.history import History


def findings(history: History) -> list[Finding]:
    """All breaches of the rules, by instant."""
    machines = history.at(history.end_ns()).membership.machines.values()
    own = [feed for member in machines for feed in member.feeds]
    ends: dict[str, int] = {}
    for feed in own:
        ends[feed.machine] = max(ends.get(feed.machine, 0), history.feed_end_ns(feed))
    streams = [controls(history, feed) for feed in own]
    return lint(heapq.merge(*streams, key=lambda entry: (entry.effective_ns, entry.feed, entry.index)), ends)


def controls(history: History, feed: Feed) -> Iterator[Entry]:
    """The control entries of a feed, in order, with their effective instants."""
    reader = history.reader(feed)
    timeline, head = reader.timeline(), reader.head()
    for record in reader.records(0, head.records):
        if record.steady and not timeline.stretches:
            yield from reader.controls_of(record)
        else:
            yield from (entry for entry in reader.entries_of(record, timeline) if not isinstance(entry.event, Ping))
    yield from (entry for entry in reader.entries(head.sealed, head.last) if not isinstance(entry.event, Ping))
