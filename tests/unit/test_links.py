"""A link as its observer saw it."""

from __future__ import annotations

import pytest
from told import imported, ns, told

from ledger import events as ev
from ledger.entry import Entry
from projections.feed_state import FeedState
from projections.links import UNHEARD, LinkState, bad, good, link_at, silence_ns
from projections.projection import fold

ALPHA = imported("alpha")
UP = ev.LinkEstablished("bravo", "1", "192.0.2.2")
LOST = ev.LinkLost("bravo", "timeout", "1", "192.0.2.2", "bravo")
ANSWER = ev.PingAnswered("bravo", 1, 900, "1")
MISS = ev.PingFailed("bravo", 2, "timeout", "1")


def after(*steps: tuple[float, ev.Event]) -> FeedState:
    return fold(FeedState(ALPHA), told(ALPHA, *steps))


def seen(state: FeedState, at: float, end: float | None = None) -> LinkState:
    end_ns = state.last_ns if end is None else ns(end)
    return link_at(state.links["bravo"], state.pings.get("bravo"), ns(at), end_ns, silence_ns(60_000))


def test_nothing_is_up_by_default() -> None:
    """A peer without an entry has no link state, and a failed ping alone leaves it unknown, since nothing."""
    state = after((0, MISS))
    assert "bravo" not in after((0, ev.NoteAdded("quiet"))).links
    assert (state.links["bravo"].state, state.links["bravo"].since) == ("unknown", 0)
    assert UNHEARD.state == "unknown"


@pytest.mark.parametrize("event", [UP, ANSWER])
def test_established_or_answered_is_up(event: ev.Event) -> None:
    """Either makes a link up, since that entry."""
    link = after((5, event)).links["bravo"]
    assert (link.state, link.since, link.since_ns, link.reason) == ("up", 1, ns(5), None)


@pytest.mark.parametrize("kind", [ev.LinkLost, ev.LinkFailed])
def test_lost_or_failed_is_down_and_stays_down(kind: type[ev.LinkLost]) -> None:
    """What made it down stays its reason, its culprit and its since, however long it lasts and whatever fails after."""
    state = after((0, UP), (9, kind("bravo", "reset", culprit="bravo")), (60, MISS), (70, ev.LinkFailed("bravo", "refused")))
    for at in (70, 10_000):
        link = seen(state, at, end=20_000)
        assert (link.state, link.reason, link.since, link.since_ns, link.culprit) == ("down", "reset", 2, ns(9), "bravo")


def test_an_answer_brings_a_lost_link_up_from_then() -> None:
    """The first answer after a loss is the since of the new run, without the reason of the old."""
    link = after((0, UP), (9, LOST), (60, ANSWER), (120, ANSWER)).links["bravo"]
    assert (link.state, link.since, link.reason, link.culprit, link.address) == ("up", 3, None, None, "192.0.2.2")


def test_silence_begins_at_two_and_a_half_intervals() -> None:
    """An up link is up one nanosecond before, unknown from then, by the last evidence; failed pings are evidence too."""
    state = after((0, UP), (60, ANSWER), (120, MISS))
    assert seen(state, 120 + 149.999999999, end=900).state == "up"
    link = seen(state, 120 + 150, end=900)
    assert (link.state, link.since, link.since_ns, link.reason) == ("unknown", 3, ns(270), None)


def test_silence_is_only_while_the_feed_goes_on() -> None:
    """Beyond the feed's end the last state holds: then it is coverage that ends."""
    state = after((0, UP), (60, ANSWER))
    assert seen(state, 10_000).state == "up"
    assert seen(state, 10_000, end=209).state == "up"
    assert seen(state, 10_000, end=210).state == "unknown"


def test_after_a_silence_the_run_begins_anew() -> None:
    """An answer or an establishment at the threshold starts a run; a nanosecond earlier it does not."""
    for event in (ANSWER, UP):
        assert after((0, UP), (149.999999999, event)).links["bravo"].since == 1
        assert after((0, UP), (150, event)).links["bravo"].since == 2


def test_a_failed_ping_after_a_silence_does_not_bring_the_link_up() -> None:
    """Unknown from the silence on, until the next answer."""
    state = after((0, UP), (400, MISS))
    link = state.links["bravo"]
    assert (link.state, link.since, link.since_ns) == ("unknown", 1, ns(150))
    assert fold(state, told(ALPHA, (401, ANSWER), first=3)).links["bravo"].since == 3


def test_the_silence_of_a_run_is_the_feeds_own_interval() -> None:
    """Runs are split by the interval recorded in the feed itself."""
    state = after((0, ev.SettingsChanged(1, 1_000)), (0, UP), (3, ANSWER))
    assert state.links["bravo"].since == 3
    assert state.interval_ms == 1_000


def test_a_started_node_knows_nothing() -> None:
    """After node.started every link is unknown since then, until there is evidence; a first failed ping is none."""
    state = after((0, UP), (1, ev.PingAnswered("charlie", 1, 5)), (60, ev.NodeStarted(2)), (61, ev.PingFailed("delta", 1)))
    for peer in ("bravo", "charlie", "delta"):
        assert (state.links[peer].state, state.links[peer].since, state.links[peer].since_ns) == ("unknown", 3, ns(60))
    assert fold(state, told(ALPHA, (62, LOST), first=5)).links["bravo"].state == "down"


def test_a_failure_is_an_interval() -> None:
    """Last good and first bad evidence enclose it, and good evidence closes it."""
    state = after((0, UP), (60, ANSWER), (120, MISS), (180, MISS), (181, LOST))
    link, ping = state.links["bravo"], state.pings["bravo"]
    assert good(link, ping) == (ns(60), 2)
    assert bad(link, ping) == (ns(120), 3)
    healed = fold(state, told(ALPHA, (240, ANSWER), first=6))
    assert good(healed.links["bravo"], healed.pings["bravo"]) == (ns(240), 6)
    assert bad(healed.links["bravo"], healed.pings["bravo"]) is None
    again = fold(healed, told(ALPHA, (300, MISS), (360, MISS), first=7))
    assert bad(again.links["bravo"], again.pings["bravo"]) == (ns(300), 7)


def test_a_new_link_id_continues_an_up_link() -> None:
    """A replaced connection keeps the since of the run and takes the new id and address."""
    link = after((0, UP), (30, ev.LinkEstablished("bravo", "2", "192.0.2.9"))).links["bravo"]
    assert (link.since, link.link, link.address) == (1, "2", "192.0.2.9")


def test_entries_of_others_and_entries_seen_change_nothing() -> None:
    """A feed's fold ignores another feed's entries and those it has folded."""
    rows: list[Entry] = told(ALPHA, (0, UP), (1, LOST))
    state = fold(FeedState(ALPHA), rows)
    assert fold(state, rows) == state
    assert fold(state, told("bravo", (5, UP), (6, UP), (7, UP))) == state
