"""Laws of differences: applied, mirrored, composed; for any two moments of any history, in either order."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ledger.testing import History, entries, histories
from projections.cluster import Cluster
from projections.projection import fold
from replay import states
from replay.answers import Change
from replay.cells import Cells, cells, place_of
from replay.diff import apply, diff

ANY = histories() | histories(hostile=True)
PARTS = st.integers(0, 60)


def cluster(history: History, count: int) -> Cluster:
    """The mesh after the first so many entries in display order."""
    rows = sorted(entries(history), key=lambda row: (row.effective_ns, row.feed, row.index))
    return fold(Cluster(), rows[: count % (len(rows) + 1)])


def compose(first: list[Change], second: list[Change]) -> dict[tuple[str, str], tuple[Any, Any]]:
    """(old, new) by cell and field of two differences in a row; what comes back to where it was is gone."""
    found: dict[tuple[str, str], tuple[Any, Any]] = {}
    for change in (*first, *second):
        place = change.cell, change.field
        found[place] = found[place][0] if place in found else change.old, change.new
    return {place: each for place, each in found.items() if each[0] != each[1]}


def plain(changes: list[Change]) -> dict[tuple[str, str], tuple[Any, Any]]:
    return {(change.cell, change.field): (change.old, change.new) for change in changes}


@given(ANY, PARTS, PARTS, st.booleans())
def test_a_difference_applied_to_the_one_gives_the_other(history: History, one: int, other: int, pings: bool) -> None:
    """Cell by cell and field by field, and it names no change that is none."""
    before, after = cluster(history, one), cluster(history, other)
    changes = diff(before, after, pings=pings)
    assert apply(changes, cells(before, pings=pings)) == cells(after, pings=pings)
    assert all(change.old != change.new for change in changes)
    assert len(plain(changes)) == len(changes)


@given(ANY, PARTS)
def test_nothing_differs_from_itself(history: History, one: int) -> None:
    """No change between a moment and the same moment told again."""
    assert diff(cluster(history, one), cluster(history, one), pings=True) == []


@given(ANY, PARTS, PARTS)
def test_the_way_back_is_the_mirror_image(history: History, one: int, other: int) -> None:
    """The same cells and fields in the same order, old and new changed over."""
    before, after = cluster(history, one), cluster(history, other)
    there, back = diff(before, after, pings=True), diff(after, before, pings=True)
    assert [(c.cell, c.field, c.old, c.new) for c in there] == [(c.cell, c.field, c.new, c.old) for c in back]


@given(ANY, PARTS, PARTS, PARTS)
def test_two_in_a_row_are_the_one_over_both(history: History, one: int, two: int, three: int) -> None:
    """Composition: what lies between leaves no trace."""
    first, second, third = (cluster(history, count) for count in (one, two, three))
    assert compose(diff(first, second), diff(second, third)) == plain(diff(first, third))


@given(ANY, PARTS, PARTS)
def test_each_change_names_an_entry_of_the_moment_after(history: History, one: int, other: int) -> None:
    """Or none: for pairs, routes, and whether a machine communicates; never one that only the moment before has."""
    before, after = cluster(history, one), cluster(history, other)
    changes = diff(before, after)
    held = {feed.at(index) for feed, state in after.states.items() for index in range(1, state.entries + 1)}
    for change in changes:
        assert change.pos is None or change.pos in held
        if "=" in change.cell or change.field in {"route", "communicating", "covered"}:
            assert change.new is None or change.pos is None
    assert changes == sorted(changes, key=lambda change: place_of(change.cell))


def rebuilt(grid: Cells) -> dict[str, Any]:
    """Links, pairs, routes and machines in the shape of `at`, from nothing but cells."""
    links = {name: values for name, values in grid.items() if ":" in name}
    words = ("state", "reason", "since", "since_pos", "last_ping", "sent", "lost")
    return {
        "machines": {
            name: {word: values.get(word) for word in ("member", "communicating", "cause", "hostname", "since", "since_pos")}
            for name, values in grid.items()
            if "member" in values
        },
        "links": {name: {"sent": 0, "lost": 0} | {w: v[w] for w in words if w in v} for name, v in links.items()},
        "pairs": {name: values["state"] for name, values in grid.items() if "=" in name},
        "routes": {name: values.get("route") for name, values in links.items()},
    }


@given(ANY, PARTS)
def test_cells_lose_nothing_of_the_answer(history: History, one: int) -> None:
    """The whole state as `at` prints it can be put together again from cells."""
    found = cluster(history, one)
    answer = msgspec.to_builtins(states.at(found))
    grid = rebuilt(cells(found, pings=True))
    whole = {name: {w: v for w, v in link.items() if v is not None} for name, link in answer["links"].items()}
    assert grid == {"machines": answer["machines"], "links": whole, "pairs": answer["pairs"], "routes": answer["routes"]}
