"""What `why` says holds: it names what was planted, never contradicts the state, and its chain proves the cause, with no entry
too many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from recorded import keepable, on_disk
from staged import Mesh
from told import ns

from ledger import events as ev
from ledger.dice import Dice
from ledger.entry import Entry, Observed
from ledger.errors import NotCovered, Refused
from ledger.identity import Feed
from ledger.rehearsal import Step
from ledger.testing import FAULTS, World, faulty_worlds, histories
from ledger.world_truth import Fault
from ledger.worlds import Setup, play
from projections.cluster import Cluster
from replay import states
from replay.answers_why import Why
from replay.cases import Case, Finding, excerpt
from replay.causes import judge
from replay.history import History
from replay.question import Question
from replay.spans import format_instant
from replay.why import _Told, why

NAMES = ("alpha", "bravo", "charlie", "delta", "echo")
SCENE = 3
"""So many entries open a feed, make its machine a member, and begin its first run, in these meshes."""

KINDS = ("path", "one-way", "isolated", "stopped", "crashed", "parted", "renamed", "limit", "left", "planned", "key")

SINGLE = sorted(set(FAULTS) - {"loss", "one-sided-removal", "clock-step", "skew", "rename"})
"""What goes wrong in a world once and parts a pair. Left out: what parts none, and a removal that follows an isolation."""
APART_NS = 2 * 10**9
"""So far apart may be what happens, and what is written of it: clocks differ by half a second, and dials follow a loss within one
and a half.
"""


class Planted(NamedTuple):
    """A mesh with one fault: its cause, the moments between which the pair shows it, and a pair that it parts."""

    mesh: Mesh
    cause: str
    since: float
    until: float
    pair: tuple[str, str]


def _cut(mesh: Mesh, a: str, b: str, at: float, lag: float) -> None:
    mesh.cut(at, a, b, "timeout", "closed", later=lag)


@st.composite
def planted(draw: st.DrawFn) -> Planted:
    """One fault of a drawn kind, at a drawn second, in a mesh of three to five machines."""
    count = draw(st.integers(3, 5))
    names = draw(st.permutations(NAMES[:count]))
    x, y, *rest = names
    mesh = Mesh(*NAMES[:count])
    at = draw(st.integers(400, 900))
    lag = draw(st.sampled_from([0.5, 3, 20]))
    until = at + draw(st.sampled_from([90, 250, 600]))
    kind = draw(st.sampled_from(KINDS))
    shown, cause = at + 30.0, kind
    others = [y, *rest]
    pairs: list[tuple[str, str]] = []
    if kind == "path":
        cause, pairs = "timeout", [(x, y)]
        _cut(mesh, x, y, at, lag)
    elif kind == "one-way":
        cause, pairs = "timeout", [(x, y)]
        mesh.lose(at, x, y)
    elif kind == "isolated":
        cause, pairs = "observer-isolated", [(x, other) for other in others]
        for place, other in enumerate(others):
            mesh.cut(at + place, x, other, later=lag)
    elif kind in {"stopped", "crashed"}:
        cause, pairs = "target-down", [(x, other) for other in others]
        mesh.away(x, at, until - 3)
        if kind == "stopped":
            mesh.say(at, x, ev.NodeStopped(1))
        for place, other in enumerate(others):
            mesh.lose(at + lag + place, other, x)
        mesh.say(until - 3, x, ev.NodeStarted(2))
    elif kind == "parted":
        assume(count >= 4)
        cause, sides = "partition", (names[:2], names[2:])
        pairs = [(a, b) for a in sides[0] for b in sides[1]]
        for place, (a, b) in enumerate(pairs):
            mesh.cut(at + place, a, b, later=lag)
    elif kind == "renamed":
        cause, pairs = "renamed-without-dns", [(x, other) for other in others]
        new = f"{x}-new.lab.example"
        mesh.say(at - 100, x, ev.HostnameChanged(f"{x}.lab.example", new, forced=True))
        for place, other in enumerate(others):
            mesh.cut(at + place, other, x, "idle-timeout", "closed", later=lag)
            mesh.say(at + place + 2, other, ev.NameFailed(new))
            mesh.fail(at + place + 2, other, x, "name-unresolvable")
    elif kind == "limit":
        cause, pairs = "connection-limit", [(x, y)]
        mesh.lose(at, x, y, "connection-limit", culprit=y)
        mesh.lose(at + lag, y, x, "closed")
    elif kind == "key":
        cause, pairs = "host-key-mismatch", [(x, y)]
        mesh.say(at - 50, y, ev.KeyChanged("host", "one", "two"))
        _cut(mesh, x, y, at, lag)
        mesh.fail(at + 5, x, y, "host-key-mismatch")
    elif kind == "left":
        mesh.say(at, x, ev.MachineLeft(x, (f"{x}#2",), 10**6, "left", x))
        for other in others:
            mesh.lose(at + lag, other, x, "left")
    else:
        cause = "disconnected"
        mesh.say(at, y, ev.MachineDisconnected(x, "ops"))
        for other in others:
            mesh.cut(at + lag, other, x, "disconnected", "closed", later=1)
        mesh.say(until, y, ev.MachineReconnected(x, "ops"))
    for place, (a, b) in enumerate(pairs):
        mesh.link(until + place, a, b)
    if kind == "left":
        until = 1500
    pair = draw(st.sampled_from(pairs or [(x, other) for other in others]))
    return Planted(mesh, cause, min(shown, until - 1), until, pair if draw(st.booleans()) else pair[::-1])


def asked(opened: History, a: str, b: str, at: float) -> Why:
    return why(opened, a, b, ns(at))


@given(planted(), st.floats(0, 1), st.booleans())
def test_the_cause_named_is_the_one_planted(fault: Planted, share: float, reversed_: bool) -> None:
    """In every mesh with one fault, from either end, at any moment of it: what was planted, or `unknown` and what is missing."""
    at = fault.since + share * (fault.until - fault.since) * 0.999
    with on_disk(fault.mesh.feeds(1600)) as opened:
        answer = asked(opened, *(fault.pair[::-1] if reversed_ else fault.pair), at)
    assert answer.cause == fault.cause or (answer.cause == "unknown" and answer.missing), (answer.cause, fault.cause)


@given(planted(), st.floats(0, 1), st.sets(st.sampled_from(NAMES), min_size=1, max_size=3))
def test_with_logs_missing_nothing_is_made_up(fault: Planted, share: float, kept: set[str]) -> None:
    """With some machines' logs only, the cause is the planted one, what is known of it without the others, or `unknown`."""
    at = fault.since + share * (fault.until - fault.since) * 0.999
    names = set(fault.mesh.names)
    assume(kept & names and kept & names != names)
    for name in kept & names:
        for other in names - kept:
            fault.mesh.say(0, name, ev.MachineJoined(other, f"{other}.lab.example"))
    weaker = {
        "observer-isolated": {"target-down", "timeout"},
        "target-down": {"timeout"},
        "partition": {"target-down", "observer-isolated", "timeout"},
        "renamed-without-dns": {"name-unresolvable", "idle-timeout", "closed", "target-down", "observer-isolated"},
        "timeout": {"closed"},
        "connection-limit": {"closed"},
        "host-key-mismatch": {"closed", "timeout"},
        "left": {"target-down", "observer-isolated", "closed"},
        "disconnected": {"target-down", "observer-isolated", "closed"},
    }
    with on_disk(fault.mesh.feeds(1600, kept)) as opened:
        answer = asked(opened, *fault.pair, at)
        route = opened.at(ns(at)).routes[fault.pair] if set(fault.pair) <= set(opened.at(ns(at)).members) else None
    assert answer.cause in {fault.cause, "unknown", None, *weaker[fault.cause]}
    if answer.cause is None or answer.cause == "unknown":
        assert answer.missing or answer.direct == "up" or answer.chain
    assert answer.reachable == (None if route == "unknown" else route is not None)


def asked_of(world: World, opened: History, wire: int, share: float) -> list[tuple[Fault, Why]]:
    """What `why` says of a link that each fault takes down, when so much of the fault is over; not of links that stood. It is
    held here to what was planted. Clocks differ by up to a second, so no moment is nearer to the beginning.
    """
    faults = [fault for fault in world.truth.faults if fault.plant and fault.wires]
    found = []
    for fault in faults:
        pair = fault.wires[wire % len(fault.wires)]
        begun_ns = fault.since_ns + min(10**9, (fault.until_ns - fault.since_ns) // 2)
        at_ns = begun_ns + int((fault.until_ns - 1 - begun_ns) * share)
        answer = why(opened, *pair, at_ns)
        if answer.direct != "up":
            causes = {
                other.cause
                for other in faults
                if pair in other.wires and other.since_ns - APART_NS <= at_ns < other.until_ns + APART_NS
            }
            named = answer.cause in causes
            assert named or (answer.cause == "unknown" and answer.missing), (fault, pair, at_ns, answer.cause)
            if named and answer.suspect is not None and fault.kind != "reverse-timeout":  # there the whole zone is silent
                assert answer.suspect in {name for other in faults for name in other.subjects}, (fault, pair, at_ns)
            found.append((fault, answer))
    return found


@pytest.mark.parametrize("word", SINGLE)
@settings(max_examples=4)
@given(data=st.data())
def test_in_every_world_with_one_fault_it_is_named(word: str, data: st.DataObject) -> None:
    """Of any link that the fault takes down, from its beginning to its end: what was planted and nobody but its subject, or
    `unknown` and what is missing.
    """
    world = data.draw(faulty_worlds(words=[word]))
    share = data.draw(st.floats(0, 1)) ** 2  # more of them early, while little is written
    with on_disk(world.feeds) as opened:
        asked_of(world, opened, data.draw(st.integers(0, 40)), share)


@pytest.mark.long
@pytest.mark.parametrize("word", SINGLE)
def test_of_many_worlds_with_one_fault_most_are_named(word: str) -> None:
    """In 12 worlds of each kind, six moments each, the law above holds, and nine of ten answers name the cause outright."""
    answers = []
    for seed in range(12):
        dice = Dice(seed)
        machines, halves = 4 + dice.below(2), dice.below(10)
        interval_ms, timeout_ms = dice.one_of([(60_000, 15_000), (10_000, 3_000), (600_000, 20_000)])
        step = Step(halves * interval_ms * 500_000, word, dice.below(8), dice.below(8), dice.below(28))
        way: ev.Addressing = "address" if word == "reverse-timeout" else "name"
        setup = Setup(NAMES[:machines], 0, seed, interval_ms=interval_ms, timeout_ms=timeout_ms, addressing=way)
        world = play(setup, [step])
        with on_disk(world.feeds) as opened:
            for _ in range(6):
                share = (dice.below(1000) / 1000) ** 2
                answers += [answer.cause for _fault, answer in asked_of(world, opened, dice.below(40), share)]
    assert len(answers) >= 10, "the fault was hardly there"
    assert answers.count("unknown") <= len(answers) // 10


@settings(max_examples=20)
@given(faulty_worlds(words=SINGLE), st.integers(0, 2**20))
def test_as_seen_by_one_machine_nothing_later_counts(world: World, draw: int) -> None:
    """What `why` says by the belief of a machine is of that belief: its routes, and no entry, end or missing stretch beyond."""
    fault = next(fault for fault in world.truth.faults if fault.plant)
    at_ns = fault.since_ns + (fault.until_ns - fault.since_ns) * (draw % 997) // 997
    with on_disk(world.feeds) as opened:
        observer = opened.feeds[draw % len(opened.feeds)].machine
        try:
            belief = opened.belief(observer, at_ns)
        except NotCovered:
            return
        machines = sorted(belief.membership.machines)
        for a, b in [*fault.wires[:1], *pairwise(machines)]:
            answer = why(opened, a, b, at_ns, as_seen_by=observer)
            route = belief.routes[a, b] if {a, b} <= set(belief.members) else None
            assert (answer.as_seen_by, answer.until) == (observer, None)
            assert answer.reachable == (None if route == "unknown" else route is not None)
            assert all(gap.until is None for gap in answer.missing)
            for each in answer.chain:
                entry = opened.entry(each.pos)
                assert entry.index <= belief.states[entry.feed].entries


# It never contradicts the state.


def drawn(data: st.DataObject, opened: History) -> tuple[str, str, int]:
    """A question about two machines that the history knows, at any of its moments."""
    now = opened.at(opened.end_ns())
    names = sorted(now.membership.machines)
    assume(len(names) > 1)
    a, b = data.draw(st.permutations(names))[:2]
    instants = sorted({entry.effective_ns for feed in opened.feeds for entry in opened.entries(feed)})
    return a, b, data.draw(st.sampled_from(instants)) + data.draw(st.sampled_from([0, 1, 10**9, 70 * 10**9]))


@given(histories(size_max=30), st.data())
def test_why_never_contradicts_at(history: Mapping[Feed, Sequence[Observed]], data: st.DataObject) -> None:
    """Reachable if and only if the route table has a path, unknown if it says so; direct is the pair; a cause if and only if
    the pair is not up; a loss begins when the state says that the link went down; and what it rests on is there.
    """
    with on_disk(keepable(dict(history))) as opened:
        a, b, at_ns = drawn(data, opened)
        state = states.at(opened.at(at_ns))
        try:
            answer = why(opened, a, b, at_ns)
        except NotCovered:
            assert not opened.at(at_ns).states
            return
        route = state.routes.get(f"{a}:{b}")
        assert answer.route == route
        assert answer.reachable == (None if route == "unknown" else route is not None)
        assert answer.direct == state.pairs.get(f"{min(a, b)}={max(a, b)}", "absent")
        assert (answer.cause is None) == (answer.direct == "up")
        assert answer.coverage == state.coverage
        for pair in (f"{a}:{b}", f"{b}:{a}"):
            link, reach = state.links.get(pair), state.coverage.get(pair.partition(":")[0])
            if answer.direct not in {"planned", "absent"} and link and link.state == "down" and reach and reach.covered:
                assert answer.since == link.since
                break
        for each in answer.chain:
            assert opened.entry(each.pos).kind == each.kind
        assert (answer.root_pos is None) == (not any(each.root for each in answer.chain))


@given(histories(size_max=30), st.integers(0, 2**20))
def test_a_loss_is_over_at_the_first_good_word(history: Mapping[Feed, Sequence[Observed]], draw: int) -> None:
    """`until` is the instant of the observer's first good evidence after the moment, found by reading entry by entry."""
    with on_disk(keepable(dict(history))) as opened:
        instants = sorted({entry.effective_ns for feed in opened.feeds for entry in opened.entries(feed)})
        at_ns = instants[draw % len(instants)]
        cluster = opened.at(at_ns)
        for a, b in combinations(cluster.members, 2):
            pair = _down(cluster, a, b)
            if pair is not None and not cluster.planned & {a, b}:
                good = _good_after(opened, cluster, pair)
                assert why(opened, a, b, at_ns).until == (format_instant(good) if good is not None else None)


def _down(cluster: Cluster, a: str, b: str) -> tuple[str, str] | None:
    """The link asked about if its observer covers the moment and says that it is down, else the way back if so."""
    for pair in ((a, b), (b, a)):
        if pair[0] in cluster.covered and cluster.links[pair].state == "down":
            return pair
    return None


def _good_after(opened: History, cluster: Cluster, pair: tuple[str, str]) -> int | None:
    """The instant of the first good evidence about a link in its observer's feeds after the cluster's cut."""
    speaker = cluster.links[pair].feed
    assert speaker is not None
    return next(
        (
            entry.effective_ns
            for feed in opened.feeds
            if feed.machine == pair[0] and feed.epoch >= speaker.epoch
            for entry in opened.entries(feed)
            if isinstance(entry.event, ev.LinkEstablished | ev.PingAnswered) and entry.event.peer == pair[1]
            if feed.epoch > speaker.epoch or entry.index > cluster.states[feed].entries
        ),
        None,
    )


# The chain proves it, and nothing in it can be spared.


def claim(found: Finding | None) -> tuple[Any, ...]:
    return (None,) if found is None else (found.cause, found.root, found.since_ns)


def proved(case: Case, entries: Sequence[Entry]) -> tuple[Any, ...]:
    """What these entries alone claim."""
    return claim(judge(excerpt(case, entries)))


@given(histories(size_max=30), st.data())
def test_a_chain_is_sufficient_and_minimal(history: Mapping[Feed, Sequence[Observed]], data: st.DataObject) -> None:
    """From its chain alone follow cause, root and since when, and from no part of the chain: in whatever history."""
    with on_disk(keepable(dict(history))) as opened:
        a, b, at_ns = drawn(data, opened)
        try:
            question = Question(opened, a, b, at_ns)
        except (NotCovered, Refused):
            return
        found = question.finding
        if found is None:
            return
        entries = [entry for place in found.chain if (entry := question.case.entry(place)) is not None]
        assert proved(question.case, entries) == claim(found)
        for size in range(len(entries)):
            for some in combinations(entries, size):
                assert proved(question.case, some) != claim(found)


@given(planted(), st.floats(0, 1))
def test_no_fewer_entries_prove_it(fault: Planted, share: float) -> None:
    """By brute force over all that was written but pings: no set smaller than the chain claims the same cause, root and since."""
    at = fault.since + share * (fault.until - fault.since) * 0.999
    with on_disk(fault.mesh.feeds(1600)) as opened:
        question = Question(opened, *fault.pair, ns(at))
        found, case = question.finding, question.case
        assert found is not None
        wanted = {"link.lost", "link.failed", "name.failed", "name.resolved", "hostname.changed", "node.stopped", "node.started"}
        wanted |= {"machine.left", "machine.disconnected"}
        pool = [entry for feed in opened.feeds for entry in opened.entries(feed) if entry.kind in wanted]
        pool = [
            entry for entry in pool if entry.index > 3 and {entry.observer, getattr(entry.event, "peer", "")} & set(fault.pair)
        ]
        for size in range(min(len(found.chain), 3)):
            for some in combinations(pool, size):
                assert proved(case, some) != claim(found)


@settings(max_examples=15)
@given(planted(), st.floats(0, 1))
def test_a_ledger_of_the_chain_alone_gives_the_same_answer(fault: Planted, share: float) -> None:
    """Put notes in the place of all other entries: asked of that ledger, `why` gives the same cause, root and since; with any
    one entry of the chain gone as well, it does not.
    """
    at = fault.since + share * (fault.until - fault.since) * 0.999
    feeds = fault.mesh.feeds(1600)
    with on_disk(feeds) as opened:
        question = _Told(opened, *fault.pair, ns(at))
        answer = question.answer()
        assume(answer.cause != "unknown")
        settled = question.case.cluster.at_ns
        kept = {(entry.feed, entry.index) for entry in (opened.entry(link.pos) for link in answer.chain)}
        whole = {(entry.feed, entry.index): entry for feed in opened.feeds for entry in opened.entries(feed)}
    said = {place for place in whole if place[1] <= SCENE}

    def told(places: set[tuple[Feed, int]]) -> tuple[Any, ...]:
        bare = {
            feed: [
                each if (feed, index) in places else msgspec.structs.replace(each, event=ev.NoteAdded("nothing"))
                for index, each in enumerate(log, 1)
            ]
            for feed, log in feeds.items()
        }
        with on_disk(bare) as other:
            found = why(other, *fault.pair, settled)
            return found.cause, found.root_pos, found.since

    assert told(said | kept) == (answer.cause, answer.root_pos, answer.since)
    for place in kept:
        assert told(said | kept - {place}) != (answer.cause, answer.root_pos, answer.since)
