"""From each machine to each other, against networkx and brute force."""

from __future__ import annotations

import string
from itertools import combinations, pairwise, permutations

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.route_table import RouteTable

NAMES = list(string.ascii_lowercase[:6])
PAIRS = list(combinations(NAMES, 2))
SOME = st.lists(st.sampled_from(PAIRS), unique=True)


@given(SOME, SOME)
def test_routes_are_the_smallest_shortest_paths(up: list[tuple[str, str]], maybe: list[tuple[str, str]]) -> None:
    """Among all shortest paths the first by name; none if even the best of worlds has none; else unknown."""
    table = RouteTable(NAMES, up, maybe)
    graph, best = nx.Graph(up), nx.Graph(up + maybe)
    for each in (graph, best):
        each.add_nodes_from(NAMES)
    for a, b in permutations(NAMES, 2):
        if nx.has_path(graph, a, b):
            assert table[a, b] == min(map(tuple, nx.all_shortest_paths(graph, a, b)))
        else:
            assert table[a, b] == ("unknown" if nx.has_path(best, a, b) else None)
    assert table.as_dict() == dict(table)
    assert len(table) == len(dict(table)) == 30


def test_a_table_is_a_mapping_of_ordered_pairs() -> None:
    """Whoever is not in it, and the way to oneself, is refused as a key; equal routes are equal tables."""
    table = RouteTable(["b", "a"], [("a", "b")])
    assert table == RouteTable(["a", "b"], [("b", "a")]) == {("a", "b"): ("a", "b"), ("b", "a"): ("b", "a")}
    for pair in (("a", "a"), ("a", "z"), ("z", "a")):
        assert pair not in table
        with pytest.raises(KeyError):
            table[pair]


def test_a_large_line_is_walked_to_its_end() -> None:
    """A hundred machines in a row: the longest way there is."""
    names = [f"m{number:03}" for number in range(100)]
    table = RouteTable(names, pairwise(names))
    assert table[names[0], names[-1]] == tuple(names)
    assert table[names[-1], names[0]] == tuple(reversed(names))
