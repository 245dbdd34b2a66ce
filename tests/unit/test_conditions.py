"""The shipped conditions at a moment: held, broken by somebody, or not known; and guests' beside them."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from itertools import combinations

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from told import own

from ledger import events as ev
from ledger.errors import Refused
from projections.cluster import Cluster
from projections.conditions import CONDITIONS, GROUP, Condition
from projections.projection import fold
from replay import judged

NAMES = ("alpha", "bravo", "charlie", "delta")
PAIRS = list(combinations(NAMES, 2))
STATES = st.fixed_dictionaries({pair: st.sampled_from(["up", "down", "unknown"]) for pair in PAIRS})


def mesh(states: dict[tuple[str, str], str], *planned: str) -> Cluster:
    """A mesh with these pairs; a pair that is unknown is so because nobody says anything of it."""
    rows = []
    for name in NAMES:
        steps: list[tuple[float, ev.Event]] = [(0, ev.MachineDisconnected(name))] if name in planned else []
        for pair, state in states.items():
            if name in pair and state != "unknown":
                peer = pair[1 - pair.index(name)]
                steps.append((0, ev.LinkEstablished(peer) if state == "up" else ev.LinkFailed(peer, "timeout")))
        rows += own(name, *steps, hostname=f"{name}.lab")
    return fold(Cluster(), rows)


def completions(states: dict[tuple[str, str], str]) -> list[nx.Graph]:
    """Every mesh that this one may be."""
    sure = [pair for pair, state in states.items() if state == "up"]
    maybe = [pair for pair, state in states.items() if state == "unknown"]
    graphs = []
    for mask in range(2 ** len(maybe)):
        graph = nx.Graph()
        graph.add_nodes_from(NAMES)
        graph.add_edges_from(sure + [pair for place, pair in enumerate(maybe) if mask >> place & 1])
        graphs.append(graph)
    return graphs


@given(STATES)
def test_what_is_said_is_true_whatever_the_unknown_pairs_are(states: dict[tuple[str, str], str]) -> None:
    """Islands and articulation against networkx, in every mesh that it may be: no verdict that one of them belies."""
    cluster, graphs = mesh(states), completions(states)
    whole = [nx.is_connected(graph) for graph in graphs]
    found = CONDITIONS["no-islands"].at(cluster).holds
    assert found is (whole[0] if len(set(whole)) == 1 else None)
    firm = [not any(True for _each in nx.articulation_points(graph)) for graph in graphs]
    found = CONDITIONS["no-articulation"].at(cluster).holds
    assert found is None or set(firm) == {found}
    assert found is not None or len(graphs) > 1


@given(STATES)
def test_a_full_mesh(states: dict[tuple[str, str], str]) -> None:
    """Broken by any pair that is down, held only when all are known to be up, and each pair is named."""
    found, words = CONDITIONS["full-mesh"].at(mesh(states)), set(states.values())
    assert found.holds is (False if "down" in words else None if "unknown" in words else True)
    named = {each.subject for each in found.witnesses}
    wanted = "down" if found.holds is False else "unknown"
    assert named == ({f"{a}={b}" for (a, b), state in states.items() if state == wanted} if found.holds is not True else set())


def test_who_was_disconnected_on_purpose_is_not_missed() -> None:
    """A mesh without one machine, in the same state with and without the word that it was meant."""
    states = {pair: "down" if "delta" in pair else "up" for pair in PAIRS}
    names = ("full-mesh", "no-islands", "no-articulation", "all-communicating")
    planned, lost = mesh(states, "delta"), mesh(states)
    assert [CONDITIONS[name].at(planned).holds for name in names] == [True] * 4
    assert [CONDITIONS[name].at(lost).holds for name in names] == [False, False, True, False]
    (witness,) = CONDITIONS["all-communicating"].at(lost).witnesses
    assert (witness.subject, witness.positions) == ("delta", ("alpha#5", "bravo#5", "charlie#5"))


def test_a_single_machine_that_holds_two_parts_together() -> None:
    """It is named, with the parts."""
    states = {pair: "up" if "bravo" in pair else "down" for pair in PAIRS}
    found = CONDITIONS["no-articulation"].at(mesh(states))
    assert [(each.subject, each.what) for each in found.witnesses] == [
        ("bravo", "alone holds alpha and charlie and delta together")
    ]


def test_names_versions_strangers() -> None:
    """What depends on no pair is known at once."""
    up = (0, ev.LinkEstablished("bravo"))
    alpha = own("alpha", up, (0, ev.LinkEstablished("zulu")), (0, ev.NodeStarted(1, "1")), hostname="a.lab")
    bravo = own("bravo", (0, ev.NameFailed("a.lab")), (0, ev.NodeStarted(1, "2")), hostname="a.lab")
    cluster = fold(Cluster(), alpha + bravo)
    broken = {name: condition.at(cluster) for name, condition in CONDITIONS.items() if condition.at(cluster).holds is False}
    assert set(broken) == {"names-resolve", "unique-hostnames", "one-version"}
    alive = fold(Cluster(), own("alpha", (1, ev.LinkEstablished("zulu"))))
    assert CONDITIONS["no-strangers"].at(alive).witnesses[0].subject == "alpha:zulu"
    gone = fold(Cluster(), own("alpha", (1, ev.LinkEstablished("zulu")), (2, ev.LinkLost("zulu", "left"))))
    assert CONDITIONS["no-strangers"].at(gone).holds is True


def test_nothing_is_said_of_an_empty_cluster() -> None:
    """Where no feed has begun, no condition holds and none is broken."""
    assert {condition.at(Cluster()).holds for condition in CONDITIONS.values()} == {None}


def guests(monkeypatch: pytest.MonkeyPatch, **made: object) -> None:
    """As if packages with these entry points were installed."""

    class Point(EntryPoint):
        def load(self) -> object:
            return made[self.name]

    points = [Point(name, "none", GROUP) for name in made]
    monkeypatch.setattr(judged, "entry_points", lambda group: points if group == GROUP else [])


def test_guests_bring_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One, a list, or a function that gives them; they stand after the shipped ones, and are listed."""
    ours = Condition("ours", "It is ours.", lambda cluster: "alpha" in cluster.members)
    more = [Condition("more", "More.", lambda _cluster: True)]
    guests(monkeypatch, first=ours, second=lambda: more)
    assert list(judged.conditions())[-2:] == ["ours", "more"]
    assert judged.listed().conditions[-1].says == "More."


@pytest.mark.parametrize("wrong", [5, [5], Condition("covered", "", lambda _cluster: True), lambda: 1 / 0])
def test_a_guest_at_fault_is_named(monkeypatch: pytest.MonkeyPatch, wrong: object) -> None:
    """What is no condition, clashes or fails is the package's fault, and is said so."""
    guests(monkeypatch, theirs=wrong)
    with pytest.raises(Refused, match="theirs"):
        judged.conditions()
