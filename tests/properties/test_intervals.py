"""What is said of all time is what the mesh was at every instant: brute force, the naive model, and entries one by one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given, note, settings, target
from hypothesis import strategies as st
from model import Model, rfc3339
from recorded import keepable, on_disk

from ledger import events as ev
from ledger.entry import Entry
from ledger.testing import History, histories
from projections.cluster import Cluster
from projections.conditions import CONDITIONS, Condition
from projections.expression import expression
from replay.absences import absences
from replay.history import History as Opened
from replay.intervals import Stretch, first_violation, intervals
from replay.moments import Anchors, parse_moment
from replay.turns import turns
from replay.walk import Walk

SEALS = st.lists(st.integers(1, 60), max_size=6)
FEW = settings(max_examples=max(10, settings.default.max_examples // 5), deadline=None)
"""Each example is asked at hundreds of moments."""
PARTS = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)
TEXTS = (
    'up("alpha", "bravo") and not planned("charlie")',
    'reached_by("alpha") >= 1 and islands < 2',
    'link("alpha", "bravo") == "up" or hops("alpha", "charlie") in (1, 2)',
    'hostname("bravo") != hostname("alpha") and communicating("alpha") or covered("bravo")',
    "pairs_down == 0 and pairs_up >= 1 and members >= 2 and no_strangers",
)


def model_of(history: History) -> Model:
    return Model({feed: [(o.at_ns, o.boot, o.mono_ns, o.event) for o in log] for feed, log in history.items()})


def edges(model: Model, history: History, since_ns: int, until_ns: int) -> list[int]:
    """Every entry's instant, and every instant at which time alone may change something, each with its neighbours."""
    events = [o.event for log in history.values() for o in log]
    intervals_ms = {60_000} | {event.ping_interval_ms for event in events if isinstance(event, ev.SettingsChanged)}
    spans_ns = [0] + [n for ms in intervals_ms for n in (ms * 2_500_000, ms * 4_000_000 + 1)]
    found = {at_ns + span_ns + step for at_ns in model.instants() for span_ns in spans_ns for step in (-1, 0, 1)}
    return sorted(at_ns for at_ns in {since_ns, *found} if since_ns <= at_ns < until_ns)


def parse(text: str) -> int:
    return parse_moment(text, Anchors()).at_ns


def window(model: Model, since: float, until: float) -> tuple[int, int]:
    instants = model.instants()
    width = instants[-1] - instants[0] + 10**12
    first, last = (instants[0] - 10**9 + round(width * part) for part in sorted((since, until)))
    return first, last


def holding(found: list[Stretch], at_ns: int) -> Stretch:
    return found[bisect_right([each.since_ns for each in found], at_ns) - 1]


def adjoin(found: list[Stretch], since_ns: int, until_ns: int) -> None:
    """They fill the window, and neighbours differ."""
    assert [each.since_ns for each in found[:1]] == [since_ns] * (since_ns < until_ns)
    assert not found or found[-1].until_ns == until_ns
    assert all(each.since_ns < each.until_ns for each in found)
    assert all(a.until_ns == b.since_ns and a.holds != b.holds for a, b in pairwise(found))


def judged(opened: Opened, conditions: Iterable[Condition], at: list[int], since_ns: int, until_ns: int) -> None:
    every = list(conditions)
    answers = {each.name: intervals(opened, each, since_ns, until_ns) for each in every}
    target(float(sum(map(len, answers.values()))), label="stretches")
    for found in answers.values():
        adjoin(found, since_ns, until_ns)
    for at_ns in at:
        cluster = opened.at(at_ns)
        for each in every:
            assert holding(answers[each.name], at_ns).holds == each.at(cluster).holds, (each.name, rfc3339(at_ns))
    for each in every:
        wrong = [stretch for stretch in answers[each.name] if stretch.holds is False]
        assert first_violation(opened, each, since_ns, until_ns) == (wrong[0] if wrong else None)


def compare(history: History, seals: list[int], since: float, until: float, conditions: Iterable[Condition]) -> None:
    history = keepable(history)
    model = model_of(history)
    since_ns, until_ns = window(model, since, until)
    at = edges(model, history, since_ns, until_ns)
    for feed, lines in model.lines.items():
        for line in lines:
            note(f"{feed.name}~{feed.id[:4]}#{line.index} {rfc3339(line.effective_ns)} {line.event}")
    note(f"from {rfc3339(since_ns)} to {rfc3339(until_ns)}")
    with on_disk(history, seals) as opened:
        judged(opened, conditions, at, since_ns, until_ns)


SHIPPED = [*CONDITIONS.values(), *(expression(text)[0] for text in TEXTS)]


@FEW
@given(histories(size_max=25), SEALS, PARTS, PARTS)
def test_shipped_conditions_are_what_they_are_at_every_instant(
    history: History, seals: list[int], since: float, until: float
) -> None:
    """All shipped conditions and several expressions, at every entry and every lapse, one nanosecond before and after."""
    compare(history, seals, since, until, SHIPPED)


@FEW
@given(histories(size_max=20, hostile=True), SEALS, PARTS, PARTS)
def test_they_are_whatever_stands_in_the_feeds(history: History, seals: list[int], since: float, until: float) -> None:
    """Clocks set back, unknown kinds, strangers and rejoins included."""
    compare(history, seals, since, until, SHIPPED)


def _odd(cluster: Cluster) -> bool | None:
    """Changes at every ping."""
    sent = sum(ping.sent for state in cluster.states.values() for ping in state.pings.values())
    return None if sent % 3 == 2 else sent % 3 == 0


def _even_notes(cluster: Cluster) -> bool:
    return sum(state.notes for state in cluster.states.values()) % 2 == 0


@FEW
@given(histories(size_max=20), SEALS, PARTS, PARTS)
def test_any_function_of_a_state_will_do(history: History, seals: list[int], since: float, until: float) -> None:
    """A guest's function that reads what every ping changes is asked at every entry, and so is exact too."""
    guests = [Condition("odd", "", _odd, pings=True), Condition("notes", "", _even_notes, pings=True)]
    compare(history, seals, since, until, guests)


@FEW
@given(histories(size_max=25), SEALS)
def test_pairs_are_broken_when_the_model_says_so(history: History, seals: list[int]) -> None:
    """`full-mesh` and `symmetric`, against a model that shares no line with what it judges."""
    history = keepable(history)
    model = model_of(history)
    since_ns, until_ns = window(model, 0, 1)
    with on_disk(history, seals) as opened:
        mesh, even = (intervals(opened, name, since_ns, until_ns) for name in ("full-mesh", "symmetric"))
    for at_ns in edges(model, history, since_ns, until_ns):
        states = set(model.moment(at_ns).pairs.values())
        open_ = not any(line.effective_ns <= at_ns for lines in model.lines.values() for line in lines)
        unsure = open_ or bool(states & {"unknown", "uncovered"})
        for found, wrong in ((mesh, {"down", "asymmetric"}), (even, {"asymmetric"})):
            assert holding(found, at_ns).holds is (False if states & wrong else None if unsure else True)


@FEW
@given(histories(size_max=25), SEALS, PARTS)
def test_a_walk_gives_what_at_gives(history: History, seals: list[int], since: float) -> None:
    """Every cluster of a walk is the cluster of that moment, also once the walk has gone on."""
    history = keepable(history)
    model = model_of(history)
    since_ns, until_ns = window(model, since, 1)
    with on_disk(history, seals) as opened:
        stops = list(Walk(opened, since_ns).stops(turns(opened, since_ns, until_ns), until_ns, every=True))
        instants = {at_ns for at_ns in model.instants() if since_ns < at_ns < until_ns}
        assert instants <= {stop.cluster.at_ns for stop in stops}
        for stop in stops:
            assert stop.cluster == opened.at(stop.cluster.at_ns)
            wanted = [entry for feed in opened.feeds for entry in opened.entries(feed)]
            assert list(stop.entries) == [each for each in wanted if each.effective_ns == stop.cluster.at_ns]


@FEW
@given(histories(size_max=25), SEALS)
def test_the_entry_named_is_the_one_after_which_it_was_so(history: History, seals: list[int]) -> None:
    """Applied in display order, the verdict turns with that entry and not before it; without one, nothing but time passed."""
    history = keepable(history)
    model = model_of(history)
    since_ns, until_ns = window(model, 0, 1)
    condition = CONDITIONS["full-mesh"]
    with on_disk(history, seals) as opened:
        for stretch in intervals(opened, condition, since_ns, until_ns)[1:]:
            stop = Walk(opened, stretch.since_ns).at(stretch.since_ns)
            applied: list[Entry] = list(stop.entries)
            if stretch.by is None:
                assert condition.at(stop.before).holds == stretch.holds
                continue
            place = applied.index(stretch.by)
            cluster = stop.before
            for entry in applied[:place]:
                cluster = cluster.evolve(entry)
                assert condition.at(cluster).holds != stretch.holds or entry is applied[0]
            assert condition.at(cluster.evolve(stretch.by)).holds == stretch.holds


@FEW
@given(histories(size_max=25), SEALS, PARTS, PARTS)
def test_the_times_of_a_machine_are_what_the_model_says(history: History, seals: list[int], since: float, until: float) -> None:
    """Away, silent, planned, unknown or up at every instant, against the naive model; the times add up to the window."""
    history = keepable(history)
    model = model_of(history)
    since_ns, until_ns = window(model, since, until)
    at = edges(model, history, since_ns, until_ns)
    with on_disk(history, seals) as opened:
        names = list(opened.at(opened.end_ns()).machines)
        answers = {name: absences(opened, name, since_ns, until_ns) for name in names}
    for name, found in answers.items():
        assert sum(found.times_ns.values()) == until_ns - since_ns
        starts = [parse(each.since) for each in found.stretches]
        for at_ns in at:
            moment = model.moment(at_ns)
            state = "absent"
            if name in moment.members:
                talks = {True: "up", False: "silent", None: "unknown"}[moment.communicating(name)]
                state = "planned" if moment.is_planned(name) else talks
            assert found.stretches[bisect_right(starts, at_ns) - 1].state == state, (name, rfc3339(at_ns))
