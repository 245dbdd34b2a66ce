"""When it was over: the first moment after another at which a link was up again, a machine was in again, or a plan ended.

A link is up again with the first `link.established` or `ping.answered` of its observer, also in a later epoch. Records are gone
over by their directory: which pings to whom were answered stands there, so that none needs to be opened. Whether a machine is
a member or planned to be away hangs on more than one entry, so the history is asked at each that may have changed it.

Reads a history, writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ledger.events import LinkEstablished, PingAnswered
from ledger.identity import Feed
from projections.cluster import Cluster
from replay.glances import entry_at
from replay.history import History

_BACK: Final = ("machine.joined", "machine.reconnected", "key.changed", "settings.changed")


def linked_again_ns(history: History, feed: Feed, peer: str, after: int) -> int | None:
    """The instant of the first good evidence about `peer` after entry `after` of the feed, or in its machine's later epochs;
    None if there is none.
    """
    index = _first_good(history, feed, peer, after)
    if index is not None:
        found = entry_at(history, (feed, index))
        return None if found is None else found.effective_ns
    later = [other for other in history.feeds if other.machine == feed.machine and other.epoch > feed.epoch]
    return linked_again_ns(history, later[0], peer, 0) if later else None


def _first_good(history: History, feed: Feed, peer: str, after: int) -> int | None:
    reader = history.reader(feed)
    head = reader.head()
    first = reader.holding(after + 1) if after < head.sealed else None
    done = after
    if first is not None:
        for record in reader.records(first.n - 1, head.records):
            found = [
                entry.index
                for entry in reader.controls_of(record)
                if isinstance(entry.event, LinkEstablished) and entry.event.peer == peer and entry.index > after
            ]
            groups = [group for group in reader.groups(record) if group.peer == peer and group.reason is None]
            if record.first <= after < record.last and any(group.first <= after < group.last for group in groups):
                groups = []  # the cut lies within: only entry by entry can tell
                found += _answers(history, feed, peer, after, record.last)
            found += [group.first for group in groups if group.first > after]
            if found:
                return min(found)
            done = record.last
    return next(iter(_answers(history, feed, peer, done, None)), None)


def _answers(history: History, feed: Feed, peer: str, after: int, until: int | None) -> Iterator[int]:
    """The indexes of good evidence, entry by entry."""
    for entry in history.entries(feed, after, until):
        event: Any = entry.event
        if isinstance(event, PingAnswered | LinkEstablished) and event.peer == peer:
            yield entry.index


def over_ns(history: History, after_ns: int, holds: Callable[[Cluster], bool]) -> int | None:
    """The first moment after `after_ns` at which `holds` is not so any more: `holds` may change with membership and plans
    alone, so it is asked at those entries; None if it stays.
    """
    instants = {
        entry.effective_ns
        for feed in history.feeds
        for act in history.reader(feed).rare(_BACK)
        for entry in history.entries(feed, act.index - 1, act.index)
        if entry.effective_ns > after_ns
    }
    return next((at_ns for at_ns in sorted(instants) if not holds(history.at(at_ns))), None)
