"""Laws of folding: total, resumable, indifferent to the order of feeds, and the same record by record as entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from ledger import events as ev
from ledger.blocks import Group
from ledger.entry import Entry, Opaque
from ledger.events import PingAnswered, PingFailed
from ledger.identity import Feed
from ledger.instants import effective_instants, may_disown
from ledger.testing import History, entries, histories
from projections import growing, health
from projections.cluster import Cluster
from projections.feed_state import FeedState
from projections.projection import fold

ANY = histories() | histories(hostile=True)


def by_feed(history: History) -> dict[Feed, list[Entry]]:
    found: dict[Feed, list[Entry]] = {}
    for entry in entries(history):
        found.setdefault(entry.feed, []).append(entry)
    return {feed: sorted(rows, key=lambda row: row.index) for feed, rows in found.items()}


def folded(rows: list[Entry], feed: Feed) -> FeedState:
    """The definition: one by one, a new value at each step."""
    state = FeedState(feed)
    for row in rows:
        state = state.evolve(row)
    return state


def groups_of(rows: list[Entry]) -> list[Group]:
    """The groups of the pings among `rows`, one a context, as a reader of blocks would give them."""
    contexts: dict[object, list[Entry]] = {}
    for row in rows:
        if isinstance(row.event, PingAnswered):
            e = row.event
            given_ = (row.mono_ns, e.held, e.sent_us, e.received_us, e.replied_us, e.returned_us)
            key = (True, e.peer, e.link, None, row.boot, e.peer_boot, e.feed, tuple(v is None for v in given_))
        elif isinstance(row.event, PingFailed):
            e = row.event
            key = (False, e.peer, e.link, e.reason, row.boot, None, e.feed, (row.mono_ns is None, e.held is None))
        else:
            continue
        contexts.setdefault(key, []).append(row)
    found = []
    for rows_ in contexts.values():
        first, last = rows_[0], rows_[-1]
        gap = max((b.effective_ns - a.effective_ns for a, b in pairwise(rows_)), default=0)
        rtt = last.event.rtt_us if isinstance(last.event, PingAnswered) else 0
        reason = None if isinstance(last.event, PingAnswered) else last.event.reason
        e = last.event
        found.append(
            Group(
                e.peer, e.link, reason, len(rows_), first.index, first.effective_ns, last.index, last.effective_ns,
                rtt, gap, e.feed, e.held,
            )
        )  # fmt: skip
    return found


def sealed(state: FeedState, rows: list[Entry], *, unfolding: bool) -> FeedState:
    """`state` after the record that `rows` are, by its groups where they suffice."""
    controls = [row for row in rows if not isinstance(row.event, PingAnswered | PingFailed)]
    grown = state.copy()
    unfold = None
    if unfolding:
        unfold = lambda peer: [r for r in rows if isinstance(r.event, PingAnswered | PingFailed) and r.event.peer == peer]  # noqa: E731
    took = grown.apply_groups(rows[0].index, rows[-1].index, rows[-1].effective_ns, controls, groups_of(rows), unfold=unfold)
    event(f"by groups{' and peers' if unfolding else ''}: {took}")
    if took:
        return grown
    assert grown == state, "a refused record must leave the state as it was"
    return fold(state, rows)


@given(ANY, st.data())
def test_a_record_folds_at_once_as_it_folds_entry_by_entry(history: History, data: st.DataObject) -> None:
    """Any cut of a feed into records, folded by their groups, gives the state that folding one by one gives."""
    for feed, rows in by_feed(history).items():
        state, start = FeedState(feed), 0
        while start < len(rows):
            size = data.draw(st.integers(1, len(rows) - start))
            state = sealed(state, rows[start : start + size], unfolding=data.draw(st.booleans()))
            start += size
            assert state == folded(rows[:start], feed)


PEERS = st.sampled_from(["bravo", "charlie"])
LINKS = st.sampled_from([None, "1", "2"])
FEEDS = st.sampled_from([None, None, "a" * 64, "b" * 64])
HELD = st.none() | st.integers(0, 9)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 60, 60, 149, 150, 151, 400]),
        st.one_of(
            st.builds(PingAnswered, PEERS, st.just(1), st.integers(0, 9), LINKS, feed=FEEDS, held=HELD),
            st.builds(PingFailed, PEERS, st.just(1), st.sampled_from(["timeout", "reset"]), LINKS, FEEDS, HELD),
            st.builds(PingAnswered, PEERS, st.just(1), st.just(5)),
            st.sampled_from(
                [
                    ev.LinkEstablished("bravo", "1", "192.0.2.1"),
                    ev.LinkEstablished("charlie", "2"),
                    ev.LinkLost("bravo", "timeout", "1"),
                    ev.LinkLost("charlie", "reset"),
                    ev.LinkFailed("bravo", "refused"),
                    ev.NodeStarted(1),
                    ev.NodeStopped(1),
                    ev.SettingsChanged(1, 10_000),
                    ev.FeedReceived("a" * 64, 3),
                    ev.NoteAdded("so"),
                    Opaque("link.dreamt", 1, b"{}"),
                ]
            ),
        ),
    ),
    min_size=1,
    max_size=40,
)


@given(STEPS, st.data())
def test_dense_records_of_few_peers_fold_alike(steps: list[tuple[int, object]], data: st.DataObject) -> None:
    """Silences, flaps and changed feeds at and around every threshold fold by groups as they fold one by one."""
    feed = Feed.of("import:x", "alpha")
    rows, at_ns = [], 10**18
    for index, (gap_s, what) in enumerate(steps, 1):
        at_ns += gap_s * 10**9
        rows.append(Entry(feed, index, at_ns, what, effective_ns=at_ns))
    state, start = FeedState(feed), 0
    while start < len(rows):
        size = data.draw(st.integers(1, len(rows) - start))
        state = sealed(state, rows[start : start + size], unfolding=data.draw(st.booleans()))
        start += size
        assert state == folded(rows[:start], feed)


BACK = st.sampled_from([0, 0, 0, 0, 1, 30, 400])


def anew(rows: list[Entry]) -> Callable[[Feed, int], FeedState]:
    """The fold of a beginning of `rows`, with the instants that the entries of it alone make."""

    def refold(feed: Feed, count: int) -> FeedState:
        steps = [row.index for row in rows[:count] if may_disown(row.event)]
        instants = effective_instants([row.at_ns for row in rows[:count]], steps)
        placed = [msgspec.structs.replace(row, effective_ns=at) for row, at in zip(rows[:count], instants, strict=True)]
        return folded(placed, feed)

    return refold


def grows_alike(rows: list[Entry], feed: Feed, few: int, data: st.DataObject) -> None:
    """Grown by parts of `rows` at once, of which some are known already, a state is what it is grown one by one."""
    state = one = FeedState(feed)
    one, refold, start = one.copy(), anew(rows), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growing, "FEW", few)
        while start < len(rows):
            size = data.draw(st.integers(1, len(rows) - start))
            state = growing.grown_by_all(state, rows[max(0, start - 2) : start + size], refold)
            for row in rows[start : start + size]:
                one = growing.grown_by(one, row, refold)
            start += size
            assert state == one


@given(STEPS, st.lists(BACK, min_size=40, max_size=40), st.integers(0, 6), st.data())
def test_many_entries_grow_a_state_as_each_would(
    steps: list[tuple[int, object]], back: list[int], few: int, data: st.DataObject
) -> None:
    """Whatever follows whatever, on clocks that also go back: folded many at once it comes to what one by one comes to."""
    feed = Feed.of("import:x", "alpha")
    rows, at_ns = [], 10**18
    for index, ((gap_s, what), back_s) in enumerate(zip(steps, back, strict=False), 1):
        at_ns += (gap_s - back_s) * 10**9
        rows.append(Entry(feed, index, at_ns, what, effective_ns=at_ns))
    grows_alike(rows, feed, few, data)


@given(ANY, st.integers(0, 6), st.data())
def test_entries_of_any_history_grow_a_state_as_each_would(history: History, few: int, data: st.DataObject) -> None:
    """The same of anything that observers may write."""
    for feed, rows in by_feed(history).items():
        grows_alike(rows, feed, few, data)


@pytest.mark.parametrize("among", [ev.SettingsChanged(1, 10_000), ev.NodeStarted(2), ev.ClockStepped(-9), ev.NodeStopped(1)])
def test_what_touches_every_peer_among_pings_folds_alike(among: ev.Event) -> None:
    """Found so: pings to one peer before and after the settings changed are no group."""
    feed = Feed.of("import:x", "alpha")
    events = [*[PingAnswered("bravo", number, 5) for number in range(60)], among]
    rows = [
        Entry(feed, index, 10**18 + index, each, effective_ns=10**18 + index) for index, each in enumerate([*events, *events], 1)
    ]
    assert growing.grown_by_all(FeedState(feed), rows, anew(rows)) == folded(rows, feed)


@given(ANY)
def test_folding_is_total_and_leaves_what_it_was_given(history: History) -> None:
    """Any entries in any order fold without an exception, into a state that answers, and the old one stays as it was."""
    rows = entries(history)
    cluster = Cluster()
    for row in rows[::-1] + rows:
        before = msgspec.msgpack.encode(list(cluster.states.values()))
        after = cluster.evolve(row)
        assert msgspec.msgpack.encode(list(cluster.states.values())) == before
        cluster = after
    answers(cluster)
    answers(fold(Cluster(), rows))


def answers(cluster: Cluster) -> tuple[object, ...]:
    """Every question there is."""
    return (
        cluster.machines, cluster.links, cluster.pairs, dict(cluster.routes), cluster.coverage, cluster.settings,
        cluster.name, cluster.incarnation, cluster.dissolved, cluster.planned, health.strangers(cluster),
        health.gaps(cluster), health.asymmetric(cluster), health.islands(cluster), health.articulation(cluster),
        health.shared_hostnames(cluster), health.twins(cluster), [view.last_ping for view in cluster.links.values()],
        [(v.since_ns, v.since_pos, v.good, v.bad, v.evidence) for v in cluster.links.values()],
    )  # fmt: skip


@given(ANY, st.data())
def test_a_fold_may_stop_and_resume_anywhere(history: History, data: st.DataObject) -> None:
    """Folding a part and then the rest equals folding all, also when the part was encoded and decoded in between."""
    rows = entries(history)
    cut = data.draw(st.integers(0, len(rows)))
    whole = fold(Cluster(), rows)
    assert fold(fold(Cluster(), rows[:cut]), rows[cut:]) == whole
    part = fold(Cluster(), rows[:cut])
    kept = {feed: msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=FeedState) for feed, state in part.states.items()}
    assert kept == part.states
    assert fold(Cluster(kept), rows[cut:]) == whole


@given(ANY, st.randoms())
def test_the_order_of_feeds_cannot_matter(history: History, dice: object) -> None:
    """However the feeds are shuffled among each other, the cluster and all its answers are the same."""
    feeds = by_feed(history)
    rows = entries(history)
    names = [row.feed for row in rows]
    dice.shuffle(names)
    rests = {feed: iter(each) for feed, each in feeds.items()}
    mixed = [next(rests[feed]) for feed in names]
    one, other = fold(Cluster(), rows), fold(Cluster(), mixed)
    assert one == other
    assert answers(one) == answers(other)


@given(histories())
def test_pairs_and_routes_are_complete(history: History) -> None:
    """Every pair of members has one state, every ordered pair a route, and a route goes over pairs that are up."""
    cluster = fold(Cluster(), entries(history))
    count = len(cluster.members)
    assert len(cluster.pairs) == count * (count - 1) // 2
    assert len(cluster.links) == len(cluster.routes) == count * (count - 1)
    for (start, goal), path in cluster.routes.items():
        if isinstance(path, tuple):
            assert path[0] == start
            assert path[-1] == goal
            assert all(cluster.pair(a, b) == "up" for a, b in pairwise(path))


def test_a_projection_with_evolve_alone_folds() -> None:
    """`fold` asks a guest's projection for nothing but `evolve`."""

    class Count:
        def __init__(self, seen: int = 0) -> None:
            self.seen = seen

        def evolve(self, entry: Entry) -> Count:
            return Count(self.seen + entry.index)

    feed = Feed.of("import:x", "alpha")
    assert fold(Count(), [Entry(feed, index, 0, ev.NoteAdded("x")) for index in (1, 2, 3)]).seen == 6
