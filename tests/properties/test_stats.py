"""The times of the seven states add up to the window, and are what the mesh was at every instant of it."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given, note, target
from hypothesis import strategies as st
from model import Model, rfc3339
from recorded import keepable, on_disk

from ledger import events as ev
from ledger.entry import Observed
from ledger.identity import Feed
from ledger.testing import History, histories
from replay.answers import LinkCounts
from replay.stats import nearest_rank, stats

STATES = ("up", "down", "asymmetric", "unknown", "uncovered", "planned", "absent")
SEALS = st.lists(st.integers(1, 60), max_size=6)


def model_of(history: History) -> Model:
    return Model({feed: [(o.at_ns, o.boot, o.mono_ns, o.event) for o in log] for feed, log in history.items()})


def turns(model: Model, history: History, since_ns: int, until_ns: int) -> list[int]:
    """Every instant of the window at which a pair may become something else."""
    events = [o.event for log in history.values() for o in log]
    intervals_ms = {60_000} | {event.ping_interval_ms for event in events if isinstance(event, ev.SettingsChanged)}
    found = {since_ns, until_ns}
    for at_ns in model.instants():
        found.add(at_ns)
        for interval_ms in intervals_ms:
            found |= {at_ns + interval_ms * 2_500_000, at_ns + interval_ms * 4_000_000 + 1}
    return sorted(at_ns for at_ns in found if since_ns <= at_ns <= until_ns)


def integral(model: Model, at: list[int]) -> dict[str, dict[str, int]]:
    """What the naive model makes of the window: it is asked at every turn."""
    total: dict[str, dict[str, int]] = {}
    before: dict[str, str] = {}
    names = sorted({machine for start in at[:-1] for machine in model.moment(start).members})
    for start, end in pairwise(at):
        pairs = model.moment(start).pairs
        for place, a in enumerate(names):
            for b in names[place + 1 :]:
                cell, state = f"{a}={b}", pairs.get((a, b), "absent")
                times = total.setdefault(cell, dict.fromkeys((*STATES, "flaps"), 0))
                times[state] += end - start
                times["flaps"] += before.get(cell) == "up" != state
                before[cell] = state
    return total


def compare(history: History, seals: list[int], since: float, until: float) -> None:
    history = keepable(history)
    model = model_of(history)
    instants = model.instants()
    width = instants[-1] - instants[0] + 10**12
    since_ns, until_ns = (instants[0] - 10**9 + round(width * part) for part in sorted((since, until)))
    with on_disk(history, seals) as opened:
        answer = stats(opened, since_ns, until_ns)
        at = turns(model, history, since_ns, until_ns)
        target(len(at), label="turns")
        for feed, lines in model.lines.items():
            for line in lines:
                note(f"{feed.name}~{feed.id[:4]}#{line.index} {rfc3339(line.effective_ns)} {line.event}")
        note(f"from {rfc3339(since_ns)} to {rfc3339(until_ns)}")
        times = {cell: msgspec.structs.asdict(found) for cell, found in answer.pairs.items()}
        plain = {cell: {name.removesuffix("_ns"): value for name, value in found.items()} for cell, found in times.items()}
        assert plain == integral(model, at)
        for found in plain.values():
            assert sum(found[state] for state in STATES) == until_ns - since_ns
        results(model, answer.links, at)


def results(model: Model, links: dict[str, LinkCounts], at: list[int]) -> None:
    """Sent, lost and round trips, counted by looking through the feeds that were the observer's own at some turn."""
    moments = [model.moment(start) for start in at[:-1]]
    for cell, found in links.items():
        observer, _, peer = cell.partition(":")
        own = {feed for moment in moments for feed in moment.own_feeds(observer)}
        lines = [line for feed in own for line in model.lines[feed] if at[0] <= line.effective_ns < at[-1]]
        events = [line.event for line in lines if getattr(line.event, "peer", None) == peer]
        rtt_us = sorted(event.rtt_us for event in events if isinstance(event, ev.PingAnswered))
        lost = sum(isinstance(event, ev.PingFailed) and event.link is not None for event in events)
        assert (found.sent, found.lost) == (len(rtt_us) + lost, lost)
        assert found.rtt_us.max == (rtt_us[-1] if rtt_us else None)
        assert found.rtt_us.p50 == (rtt_us[(len(rtt_us) - 1) // 2] if rtt_us else None)


PARTS = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


@given(histories(size_max=25), SEALS, PARTS, PARTS)
def test_times_are_the_integral_of_what_the_model_says(history: History, seals: list[int], since: float, until: float) -> None:
    """Over any window of any plausible history, pair by pair, to the nanosecond; and so are the flaps."""
    compare(history, seals, since, until)


@given(histories(size_max=20, hostile=True), SEALS, PARTS, PARTS)
def test_times_are_the_integral_whatever_stands_in_the_feeds(
    history: History, seals: list[int], since: float, until: float
) -> None:
    """Clocks set back, unknown kinds, strangers and rejoins included."""
    compare(history, seals, since, until)


@st.composite
def narrow(draw: st.DrawFn, peers: list[str]) -> list[Observed]:
    """A feed of few peers, dense around every threshold: silences of 2.5 intervals, one nanosecond less or more. Its
    alphabet is drawn first, so that in some nothing but pings stands.
    """
    gap = st.sampled_from([0, 1, 60 * 10**9, 60 * 10**9, 150 * 10**9 - 1, 150 * 10**9, 150 * 10**9 + 1, 400 * 10**9])
    peer, link = st.sampled_from(draw(st.lists(st.sampled_from(peers), min_size=1))), st.sampled_from(["1", "1", "2", None])
    several = [
        st.builds(ev.PingFailed, peer, st.just(1), st.just("timeout"), link),
        st.builds(ev.PingAnswered, peer, st.just(1), st.just(5), link),
        st.builds(ev.LinkEstablished, peer, st.just("1")),
        st.builds(ev.LinkLost, peer, st.just("timeout"), st.just("1")),
        st.sampled_from([ev.NodeStarted(1), ev.NodeStopped(1)]),
        st.sampled_from([ev.SettingsChanged(1, 10_000), ev.SettingsChanged(2, 600_000)]),
    ]
    answered = st.builds(ev.PingAnswered, peer, st.just(1), st.integers(0, 9), st.just("1"))
    alphabet = [answered, *(draw(st.lists(st.sampled_from(several), max_size=5)) if draw(st.booleans()) else ())]
    at_ns, result = 10**18, []
    for gap_ns, event in draw(st.lists(st.tuples(gap, st.one_of(alphabet)), min_size=1, max_size=30)):
        at_ns += gap_ns
        result.append(Observed(at_ns, event))
    return result


@given(narrow(["bravo", "charlie"]), narrow(["alpha", "charlie"]), st.lists(st.integers(2, 32), max_size=4), PARTS, PARTS)
def test_dense_feeds_too(alpha: list[Observed], bravo: list[Observed], seals: list[int], since: float, until: float) -> None:
    """Silences, losses and restarts at and around every threshold, in records cut anywhere."""
    logs = {}
    for machine, log in (("alpha", alpha), ("bravo", bravo)):
        feed = Feed.of("import:dense", machine)
        opened = [ev.FeedOpened(feed.incarnation, machine, 1), ev.MachineJoined(machine)]
        logs[feed] = [*(Observed(10**18, event) for event in opened), *log]
    compare(logs, seals, since, until)


@given(st.lists(st.integers(0, 100), min_size=1), st.integers(1, 100))
def test_a_quantile_is_the_least_value_that_so_many_do_not_exceed(values: list[int], percent: int) -> None:
    """Nearest rank, in integers: the least value with at least so many per cent of all at or below it."""
    ranked = sorted(values)
    expected = min(each for each in ranked if sum(other <= each for other in ranked) * 100 >= percent * len(ranked))
    assert nearest_rank(ranked, percent) == expected
