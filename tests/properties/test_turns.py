"""Moments that are left out change nothing: asked only at turns, a condition says what it says asked at every entry.

Here machines come, go and come again while others go on pinging them, so most pings are to whoever is no member just then.
"""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings, target
from hypothesis import strategies as st
from msgspec.structs import replace
from recorded import keepable, observed, on_disk
from told import PAPER, START, imported, ns, told

from ledger import events as ev
from ledger.entry import Observed
from ledger.testing import History, histories
from projections.conditions import CONDITIONS
from projections.expression import expression
from replay.history import History as Opened
from replay.intervals import intervals
from replay.turns import turns

FEW = settings(max_examples=max(10, settings.default.max_examples // 5), deadline=None)
SEALS = st.lists(st.integers(1, 60), max_size=6)
PARTS = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)
NAMES = ("full-mesh", "all-communicating", "no-strangers", "covered", "no-islands")
TEXTS = (
    'reached_by("charlie") >= 1 or not member("delta")',
    'link("alpha", "charlie") == "up" and not covered("bravo")',
    "no_strangers and pairs_up >= 1",
)
ASKED = [*map(CONDITIONS.__getitem__, NAMES), *(expression(text)[0] for text in TEXTS)]
GAPS_NS = (0, 0, 1, 1_000_000, 60 * 10**9, 60 * 10**9, 150 * 10**9 - 1, 150 * 10**9, 150 * 10**9 + 1, 400 * 10**9)
WORDS = ("answer", "answer", "answer", "fail", "fail", "establish", "lose", "join", "leave", "leave", "start", "stop", "settings")


@st.composite
def comings(draw: st.DrawFn) -> History:
    """Two or three feeds that tell of four machines, two of which have no say in whether they are members."""
    writers = [imported(name) for name in ("alpha", "bravo", "charlie")[: draw(st.integers(1, 3))]]
    history: History = {}
    joins: dict[str, list[str]] = {"charlie": [], "delta": []}
    at_ns = START * 10**9
    for feed in writers:
        history[feed] = [
            Observed(at_ns, ev.FeedOpened(PAPER, feed.machine, 1), None, None),
            Observed(at_ns, ev.MachineJoined(feed.machine), None, None),
        ]
        joins.setdefault(feed.machine, []).append(feed.at(2))
    steps = st.tuples(st.sampled_from(GAPS_NS), st.sampled_from(writers), st.sampled_from(WORDS), st.sampled_from(sorted(joins)))
    for number, (gap_ns, feed, word, peer) in enumerate(draw(st.lists(steps, min_size=8, max_size=50))):
        at_ns += gap_ns
        event: ev.Event
        match word:
            case "answer":
                event = ev.PingAnswered(peer, number, 700)
            case "fail":
                event = ev.PingFailed(peer, number)
            case "establish":
                event = ev.LinkEstablished(peer)
            case "lose":
                event = ev.LinkLost(peer, "timeout")
            case "join":
                event = ev.MachineJoined(peer)
                joins[peer].append(feed.at(len(history[feed]) + 1))
            case "leave":
                event = ev.MachineLeft(peer, tuple(joins[peer]), len(history.get(imported(peer), ())))
            case "start":
                event = ev.NodeStarted(number)
            case "stop":
                event = ev.NodeStopped(number)
            case _:
                event = ev.SettingsChanged(number, ping_interval_ms=60_000 if number % 2 else 30_000)
        history[feed].append(Observed(at_ns, event, None, None))
    return history


def compare(opened: Opened, since: float, until: float) -> None:
    """In a part of what there is, and a little beyond its ends."""
    first_ns, last_ns = opened.start_ns() - 10**9, opened.end_ns() + 10**12
    since_ns, until_ns = (first_ns + round((last_ns - first_ns) * part) for part in sorted((since, until)))
    changes = 0
    for each in ASKED:
        found = intervals(opened, each, since_ns, until_ns)
        assert found == intervals(opened, replace(each, pings=True), since_ns, until_ns), each.name
        changes += len(found)
    target(float(changes), label="stretches")


@FEW
@given(comings(), SEALS, PARTS, PARTS)
def test_pings_to_whoever_is_no_member_are_told_once(history: History, seals: list[int], since: float, until: float) -> None:
    """Machines that come and go, pinged all the while: the same stretches, culprits and witnesses as asked at every entry."""
    with on_disk(keepable(history), seals) as opened:
        compare(opened, since, until)


@FEW
@given(histories(size_max=40, hostile=True), SEALS, PARTS, PARTS)
def test_the_same_whatever_stands_in_the_feeds(history: History, seals: list[int], since: float, until: float) -> None:
    """Clocks set back, unknown kinds and feeds that nobody admitted included."""
    history = keepable(history)
    assume(any(history.values()))
    with on_disk(history, seals) as opened:
        compare(opened, since, until)


@pytest.mark.parametrize("seals", [[], [14], [4, 8]], ids=["open", "sealed", "in-parts"])
def test_a_machine_that_left_is_a_stranger_from_its_next_ping_on(seals: list[int]) -> None:
    """Twice it goes and is pinged on: broken from the first ping after each going, which one in that very instant is not."""
    opening = ev.FeedOpened(PAPER, "alpha", 1)
    pings = [(at, ev.PingAnswered("charlie", at, 700)) for at in (10, 40, 70, 100, 130, 160, 190, 210, 220, 250, 280, 300)]
    alpha = told("alpha", (0, opening), (0, ev.MachineJoined("alpha")), *pings)
    acts = (0, ev.FeedOpened(PAPER, "bravo", 1)), (0, ev.MachineJoined("bravo")), (1, ev.MachineJoined("charlie"))
    gone, again = ev.MachineLeft("charlie", ("bravo#3",)), ev.MachineJoined("charlie")
    bravo = told("bravo", *acts, (70, gone), (200, again), (220, ev.MachineLeft("charlie", ("bravo#5",))))
    history = observed([*alpha, *bravo])
    with on_disk(history, seals) as opened:
        found = intervals(opened, "no-strangers", ns(0), ns(301))
        assert [(each.since_ns, each.holds) for each in found] == [
            (ns(0), True), (ns(100), False), (ns(200), True), (ns(250), False),
        ]  # fmt: skip
        assert [each.by.position if each.by else None for each in found] == [None, "alpha#6", "bravo#5", "alpha#12"]
        assert turns(opened, ns(0), ns(301)) == [ns(at) for at in (1, 10, 70, 100, 200, 220, 250)]
