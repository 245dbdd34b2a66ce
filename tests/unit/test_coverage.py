"""What a feed can answer for, and when."""

from __future__ import annotations

import pytest
from told import imported, ns, told

from ledger import events as ev
from ledger.entry import Opaque
from projections.coverage import Pause, covered_at, covered_spans
from projections.feed_state import FeedState
from projections.projection import fold

ALPHA = imported("alpha")
MINUTE = 60 * 10**9


def covers(at: float, *steps: tuple[float, ev.Event | Opaque], end: float | None = None, resumed: bool = False) -> bool:
    state = fold(FeedState(ALPHA), told(ALPHA, *steps))
    return covered_at(state, ns(at), state.last_ns if end is None else ns(end), MINUTE, resumed=resumed)


NOTE = ev.NoteAdded("x")


@pytest.mark.parametrize(
    ("at", "yes"), [(-0.000000001, False), (0, True), (100, True), (100 + 240, True), (100 + 240.000000001, False)]
)
def test_a_feed_covers_from_its_first_entry_to_four_intervals_after_its_last(at: float, yes: bool) -> None:
    """Both ends are inside."""
    assert covers(at, (0, NOTE), (100, NOTE)) is yes


def test_an_empty_feed_covers_nothing() -> None:
    """Not even the beginning of time."""
    assert not covers(0)


def test_a_gap_between_entries_is_covered() -> None:
    """A feed that goes on later was only quiet: its links become unknown, the feed does not."""
    assert covers(5_000, (0, NOTE), end=9_000)


def test_a_stopped_node_covers_nothing_until_it_starts() -> None:
    """From node.stopped on, to node.started."""
    assert not covers(10, (0, NOTE), (10, ev.NodeStopped(1)))
    assert not covers(10, (0, NOTE), (10, ev.NodeStopped(1)), (10, NOTE))
    assert covers(20, (0, NOTE), (10, ev.NodeStopped(1)), (20, ev.NodeStarted(2)))


def test_a_crash_ends_coverage_after_two_and_a_half_intervals() -> None:
    """If the feed resumes with a start, the last state holds no longer than that."""
    assert covers(149.999999999, (0, NOTE), end=900, resumed=True)
    assert not covers(150, (0, NOTE), end=900, resumed=True)


def test_an_unknown_kind_covers_nothing_until_the_next_known_entry() -> None:
    """What could not be read may have changed anything."""
    assert not covers(1, (0, NOTE), (1, Opaque("link.dreamt", 1, b"")))
    assert covers(2, (0, NOTE), (1, Opaque("link.dreamt", 1, b"")), (2, NOTE))


def test_spans_leave_out_every_pause() -> None:
    """Overlapping pauses are left out once, spans are half-open and stay in the window."""
    pauses = [
        Pause("opaque", ns(300), ns(310)),
        Pause("stopped", ns(100), ns(200)),
        Pause("crashed", ns(150), ns(250)),
        Pause("crashed", ns(305), ns(400)),
        Pause("stopped", ns(900)),
    ]
    spans = covered_spans(ns(0), ns(1000), MINUTE, pauses, since_ns=ns(-50), until_ns=ns(2000))
    assert spans == [(ns(0), ns(100)), (ns(200), ns(300)), (ns(310), ns(900))]
    assert covered_spans(ns(0), ns(100), MINUTE, [], since_ns=ns(50), until_ns=ns(2000)) == [(ns(50), ns(340) + 1)]
    assert covered_spans(ns(0), ns(100), MINUTE, [], since_ns=ns(500), until_ns=ns(600)) == []
