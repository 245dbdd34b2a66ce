"""A window cut into *eras*: stretches in which members, plans, the ping interval and who speaks for whom stay the same.

These change only where an act counts, settings are recorded or a feed begins, so they are asked once at each such instant,
of a cluster that knows nothing else. What changes at every ping (links) is for `sweep`.

Reads a history, writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Final, NamedTuple

import msgspec

from ledger.entry import Entry
from ledger.heads import RecordRow
from ledger.identity import Feed
from projections.cluster import Cluster
from projections.feed_state import FeedState
from replay.history import History

_KINDS: Final = (
    "cluster.created", "cluster.dissolved", "machine.joined", "machine.left", "machine.disconnected", "machine.reconnected",
    "key.changed", "settings.changed",
)  # fmt: skip
"""What may change an era; a host name does not."""


class Era(msgspec.Struct, frozen=True):
    """[since, until). `speakers`: the feed that speaks for a machine, where one has begun; `own`: all that are machines' own."""

    since_ns: int
    until_ns: int
    members: frozenset[str]
    planned: frozenset[str]
    interval_ns: int
    speakers: dict[str, Feed]
    own: frozenset[Feed]

    @property
    def silent_ns(self) -> int:
        """How long nothing is heard of an up link until it is unknown."""
        return self.interval_ns * 5 // 2


class _Change(NamedTuple):
    """An act of a feed; None: the feed has begun by then."""

    at_ns: int
    feed: Feed
    act: Entry | None


def eras(history: History, begun: Mapping[Feed, FeedState], since_ns: int, until_ns: int) -> list[Era]:
    """The eras of [since, until), adjoining; none if it is empty. `begun`: each feed's fold, cut just before `since`."""
    states = {feed: _lean(state) for feed, state in begun.items()}
    changes = [
        change
        for feed, state in states.items()
        for change in _changes(history, feed, state.entries)
        if since_ns < until_ns and change.at_ns < until_ns
    ]
    changes.sort(key=lambda change: change.at_ns)  # stable: of one feed they stay in their order
    clusters = {since_ns: _cluster(states)} if since_ns < until_ns else {}
    for at_ns, together in groupby(changes, key=lambda change: change.at_ns):
        for _at_ns, feed, act in together:
            if act is not None:
                states[feed].apply(act)
            elif not states[feed].entries:
                states[feed].entries = 1
        clusters[at_ns] = _cluster(states)
    starts = [*clusters, until_ns]
    return [_era(clusters[start], start, end) for start, end in pairwise(starts)]


def _era(cluster: Cluster, since_ns: int, until_ns: int) -> Era:
    speakers = {machine: state.feed for machine, state in cluster.speakers.items()}
    own = frozenset(feed for member in cluster.membership.machines.values() for feed in member.feeds)
    return Era(since_ns, until_ns, frozenset(cluster.members), cluster.planned, cluster.interval_ns, speakers, own)


def _lean(state: FeedState) -> FeedState:
    """As much of a fold as eras depend on."""
    return FeedState(
        state.feed,
        state.entries,
        settings=state.settings,
        proposals=state.proposals,
        silent_ns=state.silent_ns,
        acts=state.acts.copy(),
    )


def _cluster(states: Mapping[Feed, FeedState]) -> Cluster:
    cluster = Cluster({feed: state for feed, state in states.items() if state.entries})
    _asked = cluster.members, cluster.planned, cluster.interval_ns, cluster.speakers  # now: the states go on changing
    return cluster


def _changes(history: History, feed: Feed, done: int) -> Iterator[_Change]:
    """What a feed changes after its first `done` entries, in its order, with effective instants."""
    reader = history.reader(feed)
    timeline = reader.timeline()
    record: RecordRow | None = None
    for act in reader.rare(_KINDS):
        if act.index > done:
            if record is None or act.index > record.last:
                record = reader.holding(act.index)
            if record is None or not record.steady or timeline.stretches:
                act = next(iter(reader.entries(act.index - 1, act.index)))
            yield _Change(act.effective_ns, feed, act)
    if not done:
        began_ns = begin_ns(history, feed)
        if began_ns is not None:
            yield _Change(began_ns, feed, None)


def silences(window: Sequence[Era]) -> list[tuple[int, int, int]]:
    """(since, until, silence) through these eras, neighbours that agree made one."""
    found: list[tuple[int, int, int]] = []
    for era in window:
        if found and found[-1][2] == era.silent_ns:
            found[-1] = (found[-1][0], era.until_ns, era.silent_ns)
        else:
            found.append((era.since_ns, era.until_ns, era.silent_ns))
    return found


def begin_ns(history: History, feed: Feed) -> int | None:
    """The effective instant of a feed's first entry, None if there is none."""
    reader = history.reader(feed)
    head = reader.head()
    if head.records and not reader.timeline().stretches:
        first = reader.record(1)
        if first.steady:
            return first.low_ns
    return next(iter(reader.entries(0, 1))).effective_ns if head.last else None
