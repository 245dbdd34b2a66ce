"""What pinging one peer has come to."""

from __future__ import annotations

from told import imported, ns, told

from ledger import events as ev
from projections.feed_state import FeedState
from projections.pings import PingState
from projections.projection import fold

ALPHA = imported("alpha")
BRAVO, BRAVO_2 = imported("bravo").id, imported("bravo", 2).id


def after(*steps: tuple[float, ev.Event]) -> FeedState:
    return fold(FeedState(ALPHA), told(ALPHA, *steps))


def test_results_are_counted() -> None:
    """Sent counts all, lost the failed, linkless those without a link; last and last answered stand apart."""
    ping = after(
        (0, ev.PingAnswered("bravo", 1, 900, "1")),
        (60, ev.PingFailed("bravo", 2, "timeout", "1")),
        (120, ev.PingFailed("bravo", 3, "no-route")),
    ).pings["bravo"]
    assert ping == PingState(3, ns(120), "no-route", 1, ns(0), 900, 3, 2, 1, failing_ns=ns(60), failing=2)
    assert (ping.outcome, ping.last_rtt_us) == ("no-route", None)


def test_an_answer_of_zero_microseconds_is_an_answer() -> None:
    """A round trip of 0 is reported as 0, not as none."""
    ping = after((0, ev.PingAnswered("bravo", 1, 0))).pings["bravo"]
    assert (ping.outcome, ping.last_rtt_us) == ("answered", 0)


def test_a_late_answer_never_rewrites_a_failure() -> None:
    """A failed ping stays lost, whatever is answered after it."""
    ping = after((0, ev.PingFailed("bravo", 1)), (1, ev.PingAnswered("bravo", 1, 7))).pings["bravo"]
    assert (ping.sent, ping.lost, ping.reason) == (2, 1, None)


def test_what_was_held_is_what_was_said_last() -> None:
    """Pings and feed.received both say it, the later wins; a ping that says nothing changes nothing."""
    state = after(
        (0, ev.FeedReceived(BRAVO, 4)),
        (1, ev.PingAnswered("bravo", 1, 7, feed=BRAVO, held=9)),
        (2, ev.PingFailed("bravo", 2)),
    )
    assert state.held() == {BRAVO: 9}
    assert fold(state, told(ALPHA, (3, ev.FeedReceived(BRAVO, 12)), first=4)).held() == {BRAVO: 12}


def test_an_old_epoch_stays_known_as_held() -> None:
    """When a peer's feed becomes another, what was held of the one before is kept."""
    state = after(
        (0, ev.PingAnswered("bravo", 1, 7, feed=BRAVO, held=9)), (1, ev.PingAnswered("bravo", 2, 7, feed=BRAVO_2, held=1))
    )
    assert state.held() == {BRAVO: 9, BRAVO_2: 1}
