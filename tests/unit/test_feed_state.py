"""What one feed's fold knows, and how it takes a record at once."""

from __future__ import annotations

import msgspec
import pytest
from told import imported, ns, told

from ledger import events as ev
from ledger.blocks import Group
from ledger.entry import Entry, Opaque
from projections.feed_state import FeedState
from projections.projection import fold

ALPHA = imported("alpha")


def after(*steps: tuple[float, ev.Event | Opaque]) -> FeedState:
    return fold(FeedState(ALPHA), told(ALPHA, *steps))


STORY = (
    (0, ev.FeedOpened(ALPHA.incarnation, "alpha", 1, None, "restored", 3, 9)),
    (0, ev.MachineJoined("alpha", "alpha.lab.example")),
    (0, ev.SettingsChanged(2, 30_000)),
    (0, ev.SettingsChanged(1, 1)),
    (1, ev.NodeStarted(7, "0.1.0")),
    (2, ev.NameFailed("bravo.lab.example", outcome="timeout")),
    (3, ev.NameResolved("bravo.lab.example", answers=("192.0.2.2",))),
    (4, ev.LinkEstablished("bravo", "1")),
    (5, ev.PingAnswered("bravo", 1, 900, "1", feed="b" * 64, held=2)),
    (6, ev.FeedReceived("c" * 64, 4)),
    (7, ev.VersionChanged("0.1.0", "0.2.0")),
    (8, ev.NoteAdded("seen", mark="here")),
    (9, ev.NodeStopped(7)),
)


def test_a_state_says_what_the_feed_said() -> None:
    """Opening, settings of the highest generation, latest look-ups, life, version and notes, each with its place."""
    state = after(*STORY)
    assert (state.entries, state.first_ns, state.last_ns, state.notes) == (13, ns(0), ns(9), 1)
    assert state.opening is not None
    assert (state.opening.why, state.opening.lost_from, state.opening.lost_until) == ("restored", 3, 9)
    assert (state.interval_ms, state.silent_ns) == (30_000, 75 * 10**9)
    lookup = state.lookups["forward bravo.lab.example"]
    assert (lookup.index, lookup.outcome, lookup.failed) == (7, "answered", False)
    assert (state.lifecycle, state.lifecycle_index, state.started, state.boot) == ("stopped", 13, 5, 7)
    assert (state.software, state.held()) == ("0.2.0", {"b" * 64: 2, "c" * 64: 4})


def test_a_state_decodes_to_an_equal_one() -> None:
    """A snapshot of the state is the state."""
    state = after(*STORY, (10, ev.PingFailed("delta", 1)), (11, ev.LinkLost("bravo")), (12, Opaque("link.dreamt", 1, b"")))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=FeedState) == state


def test_evolve_leaves_the_old_value() -> None:
    """Each step gives a new value; what was held before stays equal to itself."""
    state = after(*STORY)
    before = msgspec.msgpack.encode(state)
    for what in (ev.PingAnswered("bravo", 9, 1), ev.LinkLost("bravo"), ev.MachineJoined("echo"), ev.NodeStarted(8)):
        assert state.evolve(told(ALPHA, (99, what), first=14)[0]) != state
    assert msgspec.msgpack.encode(state) == before


def test_an_unknown_kind_is_marked_until_the_next_known_entry() -> None:
    """The state knows that its last entry could not be read, and forgets it with the next that could."""
    state = after((0, Opaque("link.dreamt", 1, b"")))
    assert state.opaque
    assert not fold(state, told(ALPHA, (1, ev.NoteAdded("x")), first=2)).opaque


def up(at: float = 0) -> FeedState:
    return after((at, ev.LinkEstablished("bravo", "1")), (at, ev.PingAnswered("bravo", 1, 5, "1")))


def group(
    first: int, last: int, since: float, until: float, *, reason: str | None = None, gap: float = 60, count: int = 2
) -> Group:
    return Group("bravo", "1", reason, count, first, ns(since), last, ns(until), 0 if reason else 7, round(gap * 1e9), None, None)


def test_a_record_of_answers_is_one_step() -> None:
    """An answered group over an up link counts its pings and keeps the run."""
    state = up()
    assert state.apply_groups(3, 4, ns(120), (), [group(3, 4, 60, 120)])
    assert (state.pings["bravo"].sent, state.pings["bravo"].rtt_us, state.links["bravo"].since) == (3, 7, 1)
    assert (state.entries, state.last_ns) == (4, ns(120))


NOT_ENOUGH = {
    "a silence inside a group": ([group(3, 4, 60, 210, gap=150)], []),
    "two groups that interleave": ([group(3, 5, 60, 180), group(4, 6, 120, 240, reason="timeout")], []),
    "a link entry inside a group": ([group(3, 5, 60, 120)], [(4, 61, ev.LinkLost("bravo"))]),
    "settings between pings": ([group(3, 5, 60, 120)], [(4, 61, ev.SettingsChanged(1, 1))]),
    "a start between pings": ([group(3, 5, 60, 120)], [(4, 61, ev.NodeStarted(1))]),
}


def test_a_peer_whose_feed_became_another_is_not_told_by_groups() -> None:
    """What was held of the feed before must be kept, which only its pings one by one can say."""
    state = after((0, ev.LinkEstablished("bravo", "1")), (0, ev.PingAnswered("bravo", 1, 5, "1", feed="a" * 64, held=4)))
    changed = Group("bravo", "1", None, 1, 3, ns(60), 3, ns(60), 7, 0, "b" * 64, 1)
    assert not state.apply_groups(3, 3, ns(60), (), [changed])
    assert state.apply_groups(3, 3, ns(60), (), [Group(*msgspec.structs.astuple(changed)[:10], "a" * 64, 5)])
    assert state.held() == {"a" * 64: 5}


@pytest.mark.parametrize("why", NOT_ENOUGH)
def test_a_record_that_groups_do_not_tell_is_refused_untouched(why: str) -> None:
    """Where the groups do not suffice, the answer is no and nothing has changed."""
    groups, told_ = NOT_ENOUGH[why]
    controls = [Entry(ALPHA, index, ns(at), what, effective_ns=ns(at)) for index, at, what in told_]
    state, before = up(), up()
    assert not state.apply_groups(3, 6, ns(240), controls, groups)
    assert state == before


def test_a_tangled_peer_is_unfolded_alone() -> None:
    """With the pings of one peer at hand, a flap inside its groups folds exactly, and no other peer is asked for."""
    rows = told(
        ALPHA,
        (60, ev.PingAnswered("bravo", 2, 7, "1")),
        (120, ev.PingFailed("bravo", 3, "timeout", "1")),
        (120, ev.LinkLost("bravo", "timeout", "1")),
        (180, ev.LinkEstablished("bravo", "1")),
        (180, ev.PingAnswered("bravo", 4, 7, "1")),
        first=3,
    )
    asked = []

    def unfold(peer: str) -> list[Entry]:
        asked.append(peer)
        return [rows[0], rows[1], rows[4]]

    groups = [group(3, 7, 60, 180, gap=120), group(4, 4, 120, 120, reason="timeout", gap=0, count=1)]
    state = up()
    assert state.apply_groups(3, 7, ns(180), rows[2:4], groups, unfold=unfold)
    assert state == fold(up(), rows)
    assert asked == ["bravo"]


def test_a_first_record_opens_the_feed() -> None:
    """Settings and a start before the first ping are no obstacle."""
    rows = told(ALPHA, *STORY[:5], (4, ev.LinkEstablished("bravo", "1")), (60, ev.PingAnswered("bravo", 1, 7, "1")))
    state = FeedState(ALPHA)
    assert state.apply_groups(1, 7, ns(60), rows[:6], [group(7, 7, 60, 60, gap=0, count=1)])
    assert state == fold(FeedState(ALPHA), rows)
