"""What a cause is judged by: the cluster at a moment, the two machines asked about, and single entries where they are named.

A `Case` is either whole, drawn from a history, or an *excerpt*: the same moment, with how far each feed goes, who joined,
under which settings and how others left, but of all that the feeds say only the entries that are named. The same rules are
put to both. So it is found out what a few entries prove by themselves, and which of them can be spared (`prune`).

Pure: what reads a history is handed in. An excerpt is made from values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from ledger.entry import Entry
from ledger.events import LinkFailed, LinkLost, NodeStalled, NodeStarted
from ledger.identity import Feed
from projections.acts import AnyAct, KeyChange, Plan, Removal, Rename
from projections.cluster import Cluster
from projections.feed_state import FeedState
from projections.views import Pair
from replay.authors import Place

TELLING: Final = frozenset({
    "connection-limit", "auth-failed", "host-key-mismatch", "not-a-member", "name-unresolvable", "name-points-elsewhere",
    "reverse-timeout", "reverse-missing", "disconnected", "left", "transport-mismatch", "version-mismatch", "protocol-error",
})  # fmt: skip
"""Reasons that say what is wrong. All others say only that nothing came back."""
_DEFAULT_TIMEOUT_MS, _DEFAULT_LOST_AFTER = 15_000, 1


class Finding(msgspec.Struct, frozen=True):
    """A cause, and what it rests on. `root`: the entry that all began with; `since_ns`: since when A and B are not linked;
    `chain`: entries that prove it, those that matter least first; `suspect`: a machine; `sides`: of a partition.
    """

    cause: str
    root: Place | None = None
    since_ns: int | None = None
    chain: tuple[Place, ...] = ()
    suspect: str | None = None
    sides: tuple[tuple[str, ...], ...] = ()

    @property
    def accuses(self) -> bool:
        """Whether it says more than that the path between the two is broken, or that too little is known."""
        return self.suspect is not None or bool(self.sides) or self.cause in TELLING

    def same(self, other: Finding | None) -> bool:
        """Whether another one claims the same: cause, root and since when."""
        return other is not None and (self.cause, self.root, self.since_ns) == (other.cause, other.root, other.since_ns)


class Case:
    """The mesh at a moment, with the question whether `a` reaches `b`. `entry` gives an entry, None if it is not there;
    `rare` the entries of some kinds in a feed's cut, ascending; `off_ns` the instant of the last entry before a restart, None
    if that `node.started` was the machine's first; `reborn` the `node.started` with which a machine whose feed has ended by then
    began its next epoch from a backup, None if it did not; `loss` the link whose loss is asked about, where that is
    settled already.
    """

    def __init__(
        self,
        cluster: Cluster,
        a: str,
        b: str,
        *,
        entry: Callable[[Place], Entry | None],
        rare: Callable[[Feed, tuple[str, ...]], Sequence[Entry]],
        off_ns: Callable[[Place], int | None],
        reborn: Callable[[Feed], Place | None],
        loss: Pair | None = None,
    ) -> None:
        self.cluster = cluster
        self.a = a
        self.b = b
        self.entry = entry
        self.rare = rare
        self.off_ns = off_ns
        self.reborn = reborn
        self.loss = loss

    @property
    def both(self) -> tuple[Pair, Pair]:
        """The link that is asked about, and the way back."""
        return (self.a, self.b), (self.b, self.a)

    @property
    def settle_ns(self) -> int:
        """After so long everybody has noticed what happened: failures that make a loss, and two more intervals."""
        return settle_ns(self.cluster)

    @property
    def timeout_ns(self) -> int:
        """So long a ping waits for its answer, by the settings in force."""
        return timeout_ns(self.cluster)

    def down(self, pair: Pair) -> bool:
        """Whether the observer, whose feed covers the moment, says that this link is down."""
        view = self.cluster.links.get(pair)
        return view is not None and pair[0] in self.cluster.covered and view.state == "down"

    @property
    def subject(self) -> Pair | None:
        """The link whose loss is asked about: the one from A to B if it is down, else the way back; None if neither is."""
        settled = () if self.loss is None else (self.loss,)
        return next((pair for pair in (*settled, *self.both) if self.down(pair)), None)

    @property
    def lost(self) -> tuple[int | None, tuple[Place, ...]]:
        """Since when the subject is down, and the entry that made it so; nothing if none is."""
        pair = self.subject
        return (None, ()) if pair is None else (self.cluster.links[pair].since_at, (self.since(pair),))

    def since(self, pair: Pair) -> Place:
        """The entry that made a link what it is. Precondition: there is one."""
        view = self.cluster.links[pair]
        if view.feed is None:
            raise ValueError(pair)
        return view.feed, view.since

    def said(self, pair: Pair) -> list[tuple[str, Place]]:
        """The reasons of a link that is down: that of the last dial, then that of the loss."""
        if not self.down(pair):
            return []
        view = self.cluster.links[pair]
        feed, since = self.since(pair)
        last = view.link.evidence if view.link is not None else since
        found: list[tuple[str, Place]] = []
        for index in dict.fromkeys((last, since)):
            entry = self.entry((feed, index))
            if entry is not None and isinstance(entry.event, LinkLost | LinkFailed):
                found.append((entry.event.reason, (feed, index)))
        return found

    def stalls(self, feed: Feed) -> list[tuple[int, int, Place]]:
        """From when to when the feed's node stood still, by its own word, and where that stands; the last first."""
        found: list[tuple[int, int, Place]] = []
        for place in [(feed, each.index) for each in reversed(self.rare(feed, ("node.stalled",)))]:
            entry = self.entry(place)
            if entry is not None and isinstance(entry.event, NodeStalled):
                found.append((entry.effective_ns - entry.event.stalled_ms * 1_000_000, entry.effective_ns, place))
        return found

    def culprit(self, place: Place) -> str | None:
        """Whom the entry at a place, about a link, holds guilty."""
        entry = self.entry(place)
        return entry.event.culprit if entry is not None and isinstance(entry.event, LinkLost | LinkFailed) else None


def settle_ns(cluster: Cluster) -> int:
    """How long after a loss all others that were lost too have been missed, by the settings in force."""
    lost_after = cluster.settings.lost_after if cluster.settings else _DEFAULT_LOST_AFTER
    return (lost_after + 2) * cluster.interval_ns + 2 * timeout_ns(cluster)


def timeout_ns(cluster: Cluster) -> int:
    """So long a ping waits for its answer, by the settings in force."""
    return (cluster.settings.ping_timeout_ms if cluster.settings else _DEFAULT_TIMEOUT_MS) * 1_000_000


def excerpt(case: Case, entries: Iterable[Entry]) -> Case:
    """The case with these entries alone, and what opens feeds and makes members."""
    whole = case.cluster
    told: dict[Feed, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.feed, entry.index)):
        told.setdefault(entry.feed, []).append(entry)
    states: dict[Feed, FeedState] = {}
    resumed: list[Feed] = []
    for feed, state in whole.states.items():
        lean = _opened(state, case)
        for entry in told.get(feed, ()):
            if entry.index <= state.entries:
                lean.entries = min(lean.entries, entry.index - 1)
                lean.apply(entry)
            elif entry.index == state.entries + 1 and isinstance(entry.event, NodeStarted):
                resumed.append(feed)
        lean.entries, lean.first_ns, lean.last_ns = state.entries, state.first_ns, state.last_ns
        lean.acts.sort(key=_index)
        states[feed] = lean
    known = {(entry.feed, entry.index): entry for found in told.values() for entry in found}
    ends = {feed: whole.end_ns(feed) for feed in whole.states}

    def rare(feed: Feed, kinds: tuple[str, ...]) -> list[Entry]:
        last = whole.states[feed].entries
        return [entry for entry in told.get(feed, ()) if entry.kind in kinds and entry.index <= last]

    def reborn(feed: Feed) -> Place | None:
        place = case.reborn(feed)
        return place if place in known else None

    cluster = Cluster(states, ends, whole.at_ns, resumed, view=whole.view)
    return Case(cluster, case.a, case.b, entry=known.get, rare=rare, off_ns=case.off_ns, reborn=reborn, loss=case.loss)


def _opened(state: FeedState, case: Case) -> FeedState:
    """As much of a feed's fold as says who is in, how often pings go, and nothing of what is to be proved."""
    return FeedState(
        state.feed,
        1,
        state.first_ns,
        state.first_ns,
        opening=state.opening,
        settings=state.settings,
        proposals=state.proposals,
        silent_ns=state.silent_ns,
        acts=[act for act in state.acts if not _to_prove(state.feed, act, case)],
    )


def _to_prove(feed: Feed, act: AnyAct, case: Case) -> bool:
    """Whether an act may itself be why A and B are not linked: then it is no mere part of the scene."""
    if isinstance(act, Removal | Plan):
        return act.machine in {case.a, case.b}
    return feed.machine in {case.a, case.b} and (isinstance(act, Rename) or (isinstance(act, KeyChange) and act.role != "ledger"))


def _index(act: AnyAct) -> int:
    return act.index


def prune(case: Case, finding: Finding, judge: Callable[[Case], Finding | None]) -> Finding:
    """The finding with a chain of which no entry can be spared: without any one the rest claims something else.

    Where even all of the chain does not claim it (a rule weighs what is no entry) it stays as it is.
    """
    entries = {place: entry for place in dict.fromkeys(finding.chain) if (entry := case.entry(place)) is not None}
    kept = list(entries)
    if finding.same(judge(excerpt(case, entries.values()))):
        for place in list(kept):
            rest = [other for other in kept if other != place]
            if finding.same(judge(excerpt(case, [entries[other] for other in rest]))):
                kept = rest
    return msgspec.structs.replace(finding, chain=tuple(kept))
