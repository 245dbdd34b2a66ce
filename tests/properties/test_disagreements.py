"""Where observers differ is where the naive models say that they do, at every instant of a window, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from model_belief import belief
from properties.test_stats import model_of, turns
from recorded import keepable, observed, on_disk
from told import CREATED, ROOT, keyed, told

from ledger import events as ev
from ledger.identity import Feed
from ledger.rehearsal import Rehearsal, Step
from ledger.testing import History, World, faulty_worlds, histories, scripts
from replay.answers_views import Disagreements
from replay.disagreements import disagreements
from replay.moments import Anchors, parse_moment

SEALS = st.lists(st.integers(1, 60), max_size=3)
DIGITS = re.compile("~[0-9a-f]+")
PARTS = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


@st.composite
def lively(draw: st.DrawFn, size_max: int = 12) -> History:
    """A mesh that stands, and then loses links on one side or both, falls apart, crashes, and admits and removes: in a script
    of anything at all, observers seldom come to differ.
    """
    names = ("alpha", "bravo", "charlie", "delta")[: draw(st.integers(2, 4))]
    stage = Rehearsal(names, 1_767_225_600 * 10**9, keyed=draw(st.booleans()))
    stage.play([Step(10**9, "admit", 0, other, 0) for other in range(len(names) - 1)])
    stage.play([Step(10**9, "mesh", 0, 0, 0), Step(0, "round", 0, 0, 900)])
    words = (
        "round",
        "round",
        "lose",
        "lose",
        "part",
        "mesh",
        "crash",
        "stop",
        "start",
        "silence",
        "step",
        "remove",
        "note",
        "admit",
    )
    some = draw(scripts(words, size_max=size_max))
    parts = [Step(10**9, "lose", each, peer, 0) for each in range(3) for peer in range(3) if draw(st.booleans())]
    return stage.play([*some[: len(some) // 2], *parts, Step(0, "round", 0, 0, 700), *some[len(some) // 2 :]])


def window(history: History, since: float, until: float) -> tuple[int, int]:
    instants = model_of(history).instants()
    width = instants[-1] - instants[0] + 10**12
    since_ns, until_ns = (instants[0] - 10**9 + round(width * part) for part in sorted((since, until)))
    return since_ns, until_ns


def rows(answer: Disagreements, kinds: Iterable[str]) -> list[tuple[int, int, str, str, dict]]:
    """(since, until, kind, about, {says: {observer: position}}) of these kinds."""
    at = lambda text: parse_moment(text, Anchors()).at_ns  # noqa: E731
    return [
        (at(each.since), at(each.until), each.kind, each.about, {side.says: side.by for side in each.sides})
        for each in answer.disagreements
        if each.kind in kinds
    ]


def check_whole(found: list[tuple[int, int, str, str, dict]]) -> None:
    """No run is empty, and none goes on in another that says the same."""
    ends = {(until, kind, about, str(sides)) for _since, until, kind, about, sides in found}
    for since, until, kind, about, sides in found:
        assert since < until
        assert (since, kind, about, str(sides)) not in ends


def by_links(history: History, seals: list[int], since: float, until: float) -> None:
    history = keepable(history)
    model = model_of(history)
    since_ns, until_ns = window(history, since, until)
    with on_disk(history, seals) as opened:
        found = rows(disagreements(opened, since_ns, until_ns), ("pair", "machine"))
    # The model has no need to tell two feeds of one name apart, so its positions have no digits.
    found = [
        (since, until, kind, about, {says: {o: DIGITS.sub("", pos) for o, pos in by.items()} for says, by in sides.items()})
        for since, until, kind, about, sides in found
    ]
    check_whole(found)
    for at_ns in turns(model, history, since_ns, until_ns)[:-1]:
        moment = model.moment(at_ns)
        expected = {}
        speaking = [m for m in moment.knowing if not moment.is_planned(m)]
        for peer in moment.members:
            said = {o: moment.links[o, peer] for o in speaking if o != peer and moment.links[o, peer][0] != "unknown"}
            if moment.is_planned(peer):
                continue
            cells = {peer: ("machine", said)} | {
                f"{peer}={o}": ("pair", {o: link, peer: moment.links[peer, o]})
                for o, link in said.items()
                if peer < o and peer in speaking and moment.links[peer, o][0] != "unknown"
            }
            for about, (kind, links) in cells.items():
                sides: dict = {}
                for observer, link in links.items():
                    sides.setdefault(link[0], {})[observer] = link[3]
                if len(sides) > 1:
                    expected[kind, about] = sides
        assert {(kind, about): sides for s, u, kind, about, sides in found if s <= at_ns < u} == expected


@given(lively(), SEALS, PARTS, PARTS)
def test_pairs_and_machines_differ_where_the_model_says(history: History, seals: list[int], since: float, until: float) -> None:
    """Both sides, each observer's entry and the interval, over any window of any plausible history."""
    by_links(history, seals, since, until)


@given(histories(size_max=15, hostile=True), SEALS, PARTS, PARTS)
def test_they_differ_so_whatever_stands_in_the_feeds(history: History, seals: list[int], since: float, until: float) -> None:
    """Clocks set back, unknown kinds, strangers and rejoins included."""
    by_links(history, seals, since, until)


def parts(moment: object) -> list[list[str]]:
    """The members of a model's moment, joined over pairs that are up."""
    left, found = list(moment.members), []
    while left:
        part = [left.pop(0)]
        for name in part:
            near = [other for other in left if moment.pair(name, other) == "up"]
            part += near
            left = [other for other in left if other not in near]
        found.append(sorted(part))
    return found


def by_belief(history: History, seals: list[int], since: float, until: float) -> None:
    history = keepable(history)
    feeds = {feed: [(o.at_ns, o.boot, o.mono_ns, o.event) for o in log] for feed, log in history.items()}
    since_ns, until_ns = window(history, since, until)
    with on_disk(history, seals) as opened:
        found = rows(disagreements(opened, since_ns, until_ns), ("member", "islands"))
        check_whole(found)
        for at_ns in turns(model_of(history), history, since_ns, until_ns)[:-1]:
            seen = {machine: belief(feeds, machine, at_ns) for machine in {feed.machine for feed in feeds}}
            seen = {m: b for m, b in seen.items() if b is not None and m in b.members and b.is_covered(b.own)}
            expected = {}
            for name in {name for each in seen.values() for name in each.members}:
                expected["member", name] = {m: "member" if name in b.members else "no member" for m, b in seen.items()}
            common = (
                [name for name in next(iter(seen.values())).members if all(name in b.members for b in seen.values())]
                if seen
                else []
            )
            expected["islands", "mesh"] = {}
            for machine, each in seen.items():
                told = [" ".join(name for name in part if name in common) for part in parts(each)]
                told = [part for part in told if part]
                expected["islands", "mesh"][machine] = " | ".join(told) if len(told) > 1 else "whole"
            expected = {cell: said for cell, said in expected.items() if len(set(said.values())) > 1}
            now = {
                (kind, about): {m: says for says, by in sides.items() for m in by}
                for s, u, kind, about, sides in found
                if s <= at_ns < u
            }
            assert now == expected
        for _since, _until, kind, about, sides in found:
            for says, by in sides.items():
                for machine, pos in by.items():
                    assert pos.partition("#")[0].partition(".")[0].partition("~")[0] == machine
                    if kind == "member" and "~" not in pos:
                        assert (about in opened.belief(machine, pos).members) == (says == "member")


@given(lively(8), SEALS, PARTS, PARTS)
def test_views_differ_where_the_model_of_belief_says(history: History, seals: list[int], since: float, until: float) -> None:
    """Members and islands as each machine believed them, over any window, to the nanosecond."""
    by_belief(history, seals, since, until)


@given(histories(size_max=8, hostile=True), SEALS, PARTS, PARTS)
def test_views_differ_so_whatever_stands_in_the_feeds(history: History, seals: list[int], since: float, until: float) -> None:
    """Whatever the feeds say, and say that they hold."""
    by_belief(history, seals, since, until)


@settings(max_examples=6)
@given(faulty_worlds(words=("one-way-cut",)))
def test_a_planted_one_way_cut_is_listed_with_both_sides(world: World) -> None:
    """Where one direction of one wire was cut so that its observer lost the link, the pair is listed, the evidence of both
    sides are entries about it in their own feeds, and the interval ends are those entries' instants.
    """
    with on_disk(world.feeds) as opened:
        answer = disagreements(opened, opened.start_ns(), opened.end_ns() + 1)
        model = model_of(world.feeds)
        found = rows(answer, ("pair",))
        for fault in world.truth.faults:
            (a, b), *_others = fault.wires
            pair = f"{min(a, b)}={max(a, b)}"
            lasted = [at for at in model.instants() if fault.since_ns <= at < fault.until_ns]
            seen = [at for at in lasted if model.moment(at).pair(a, b) == "asymmetric"]
            for at_ns in seen:
                assert [about for since, until, _kind, about, _sides in found if since <= at_ns < until and about == pair] == [
                    pair
                ]
        for since_ns, _until_ns, _kind, about, sides in found:
            instants = []
            for by in sides.values():
                for observer, pos in by.items():
                    entry = opened.entry(pos)
                    peer = getattr(entry.event, "peer", None)
                    assert entry.observer == observer
                    assert {observer, peer} == set(about.split("="))
                    instants.append(entry.effective_ns)
            assert since_ns in instants


def told_twice(alpha: Iterable[tuple[float, ev.Event]], bravo: Iterable[tuple[float, ev.Event]]) -> History:
    """Two keyed feeds by hand: alpha founds, admits bravo at 1, and knows of a charlie that bravo never hears of."""
    one, other = keyed("alpha", "ed25519:a"), keyed("bravo", "ed25519:b")
    founded = (
        (0, ev.FeedOpened(ROOT, "alpha", 1, "ed25519:a")),
        (0, CREATED),
        (0, ev.MachineJoined("alpha", ledger_key="ed25519:a", held=2)),
        (1, ev.MachineJoined("bravo", ledger_key="ed25519:b")),
        (2, ev.LinkEstablished("bravo", "1")),
        (3, ev.MachineJoined("charlie", ledger_key="ed25519:c")),
    )
    opened = ((1, ev.FeedOpened(ROOT, "bravo", 1, "ed25519:b")), (2, ev.LinkEstablished("alpha", "1")))
    return observed([*told(one, *founded, *alpha), *told(other, *opened, *bravo)])


def pings(peer: str, feed: Feed, *held: tuple[float, int]) -> list[tuple[float, ev.Event]]:
    return [(at, ev.PingAnswered(peer, n, 5, "1", feed=feed.id, held=count)) for n, (at, count) in enumerate(held, 1)]


def test_a_view_ends_where_a_newer_epoch_begins_that_nothing_vouches_for() -> None:
    """What alpha believed is not told from its first epoch once a second one has begun, whose admission is no longer in force."""
    one, other = keyed("alpha", "ed25519:a"), keyed("bravo", "ed25519:b")
    new = Feed.of(ROOT, "alpha", 2, "ed25519:new")
    bravo = [
        (62.0, ev.MachineJoined("alpha", ledger_key="ed25519:new")),
        (122.0, ev.MachineLeft("alpha", ("alpha#3", "bravo#4"), 3, "removed", "bravo")),
    ]
    again = told(new, (62, ev.FeedOpened(ROOT, "alpha", 2, "ed25519:new", "new-key")), (122, ev.NodeStarted(1)))
    history = told_twice([], [(61.0, ev.PingAnswered("alpha", 1, 5, "1", feed=one.id, held=6)), *bravo])
    assert history[other]
    by_belief(history | observed(again), [], 0.0, 1.0)


def test_a_view_comes_back_after_a_silence_and_after_a_standstill() -> None:
    """Who writes again after more than 4 intervals has a view again; a feed that grows again after so long counts again."""
    one, other = keyed("alpha", "ed25519:a"), keyed("bravo", "ed25519:b")
    bravo = pings("alpha", one, *((60.0 * n + 5, 5) for n in range(1, 20)))
    silent = told_twice(pings("bravo", other, (60, 2), (460, 2), (520, 2)), bravo)
    by_belief(silent, [], 0.0, 1.0)
    standing = [(60.0 * n, 2) for n in range(1, 8)] + [(480.0, 9), (540.0, 9), (600.0, 10)]
    by_belief(told_twice(pings("bravo", other, *standing), bravo), [], 0.0, 1.0)
