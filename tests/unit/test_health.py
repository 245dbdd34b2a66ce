"""What is wrong with a mesh at a moment."""

from __future__ import annotations

from itertools import combinations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st
from told import PAPER, own, told

from ledger import events as ev
from projections import health
from projections.cluster import Cluster
from projections.projection import fold

NAMES = ("alpha", "bravo", "charlie", "delta", "echo")
PAIRS = list(combinations(NAMES, 2))


def mesh(up: list[tuple[str, str]], names: tuple[str, ...] = NAMES, **more: list[tuple[float, ev.Event]]) -> Cluster:
    """A mesh where just the pairs `up` are up, and the others down."""
    rows = []
    for name in names:
        steps: list[tuple[float, ev.Event]] = []
        for peer in names:
            if peer != name:
                link = ev.LinkEstablished(peer) if (min(name, peer), max(name, peer)) in up else ev.LinkFailed(peer, "refused")
                steps.append((0, link))
        rows += own(name, *steps, *more.get(name, []))
    return fold(Cluster(), rows)


def test_a_mesh_that_is_well_has_no_findings() -> None:
    """Every condition is empty when every pair is up."""
    cluster = mesh(PAIRS)
    found = [health.gaps, health.asymmetric, health.islands, health.articulation, health.shared_hostnames]
    assert not any(condition(cluster) for condition in (*found, health.strangers, health.twins))


def test_gaps_and_asymmetry_name_the_pairs() -> None:
    """A pair down and a pair seen up by one side only."""
    cluster = mesh(PAIRS[1:], charlie=[(1, ev.LinkLost("delta"))])
    assert health.gaps(cluster) == {("alpha", "bravo"): "down", ("charlie", "delta"): "asymmetric"}
    assert health.asymmetric(cluster) == [("charlie", "delta")]


@given(st.lists(st.sampled_from(PAIRS), unique=True))
def test_islands_and_articulation_agree_with_networkx(up: list[tuple[str, str]]) -> None:
    """Components and cut vertices of the graph of pairs that are up."""
    cluster = mesh(up)
    graph = nx.Graph(up)
    graph.add_nodes_from(NAMES)
    parts = sorted(tuple(sorted(part)) for part in nx.connected_components(graph))
    assert health.islands(cluster) == (parts if len(parts) > 1 else [])
    assert health.articulation(cluster) == sorted(nx.articulation_points(graph))


def test_shared_host_names_name_their_bearers() -> None:
    """Two members under one host name are both named; former members are not."""
    rows = own("alpha", hostname="x.lab") + own("bravo", hostname="x.lab") + own("charlie", hostname="x.lab")
    rows += own("delta", (1, ev.MachineLeft("charlie", ("charlie#2",), 2)))
    assert health.shared_hostnames(fold(Cluster(), rows)) == {"x.lab": ["alpha", "bravo"]}


def test_strangers_are_whom_members_speak_with_though_they_are_none() -> None:
    """Never a member, or heard of after it left; not who was only heard of before."""
    left = [(5.0, ev.MachineLeft("bravo", ("bravo#2",), 9)), (5.0, ev.MachineLeft("charlie", ("charlie#2",), 9))]
    steps = [*left, (6.0, ev.PingAnswered("bravo", 9, 5)), (6.0, ev.LinkFailed("mallory", "not-a-member"))]
    cluster = mesh(PAIRS, alpha=steps)
    assert set(health.strangers(cluster)) == {("alpha", "bravo"), ("alpha", "mallory")}


def test_twins_are_named_with_their_joins() -> None:
    """Two joins of one name with different keys, both standing."""
    joins = [ev.MachineJoined("bravo", dial_key="1"), ev.MachineJoined("bravo", dial_key="2")]
    rows = told("alpha", (0, ev.FeedOpened(PAPER, "alpha", 1)), (0, ev.MachineJoined("alpha")), *[(1, each) for each in joins])
    assert health.twins(fold(Cluster(), rows)) == {"bravo": ("alpha#3", "alpha#4")}
