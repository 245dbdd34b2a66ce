"""Times by state, flaps, results and quantiles over a window."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import msgspec
import pytest
from recorded import observed, recorded
from seattle_data import INTERVAL_NS, START_NS, write_slices
from told import ns, own

from ledger import events as ev
from ledger.entry import Entry
from ledger.errors import Refused
from ledger.store import Ledger
from replay.answers import LinkCounts, PairTimes, Rtt
from replay.cells import parse_cell
from replay.history import History
from replay.rtt_matrix import Options, import_rtt_matrix, open_matrices
from replay.stats import nearest_rank, stats

S = 10**9


def pinged(peer: str, until: int, lost: tuple[int, ...] = ()) -> list[tuple[float, ev.Event]]:
    """A link that is pinged each minute, up to `until` minutes; in those of `lost` it is lost, and stands again right after."""
    steps: list[tuple[float, ev.Event]] = [(0, ev.LinkEstablished(peer, "1"))]
    for minute in range(1, until + 1):
        if minute in lost:
            steps += [
                (60 * minute, ev.PingFailed(peer, minute, "timeout", "1")),
                (60 * minute, ev.LinkLost(peer, "timeout", "1")),
            ]
        else:
            if minute - 1 in lost:
                steps.append((60 * minute, ev.LinkEstablished(peer, "1")))
            steps.append((60 * minute, ev.PingAnswered(peer, minute, 1000 * minute, "1")))
    return steps


def times(**named: int) -> PairTimes:
    """In seconds, the rest 0."""
    words = [field.name for field in msgspec.structs.fields(PairTimes)]
    return PairTimes(*(named.get(word.removesuffix("_ns"), 0) * (S if word != "flaps" else 1) for word in words))


def opened(tmp_path: Path, *rows: list[Entry]) -> History:
    return History.open(recorded(tmp_path / "one.ledger", observed(chain.from_iterable(rows))))


def test_an_hour_of_one_pair(tmp_path: Path) -> None:
    """Lost on one side for a minute, on both for another, and the rest up."""
    rows = own("alpha", *pinged("bravo", 60, (10, 20))), own("bravo", *pinged("alpha", 60, (20,)))
    with opened(tmp_path, *rows) as history:
        found = stats(history, ns(0), ns(3600))
    assert (found.since, found.until) == ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z")
    assert found.pairs == {"alpha=bravo": times(up=3480, asymmetric=60, down=60, flaps=2)}
    assert found.links["alpha:bravo"] == LinkCounts(59, 2, Rtt(31_000, 59_000, 59_000))
    assert found.links["bravo:alpha"].lost == 1


def test_what_is_silent_planned_absent_or_not_covered(tmp_path: Path) -> None:
    """Each of the seven states in its turn, to the nanosecond."""
    alpha = [
        *pinged("bravo", 5),
        (600, ev.MachineDisconnected("bravo")),
        (700, ev.MachineLeft("bravo", ("bravo#2",), 99, "removed")),
    ]
    rows = own("alpha", *alpha), own("bravo", *pinged("alpha", 5))
    with opened(tmp_path, *rows) as history:
        found = stats(history, ns(-100), ns(1000)).pairs["alpha=bravo"]
    # bravo ends at 300 and covers until 540, alpha's link is unknown from 450 on, and the last nanosecond of 540 is covered.
    assert found.absent_ns == 100 * S + 300 * S
    assert found.up_ns == 450 * S
    assert found.unknown_ns == 90 * S + 1
    assert found.uncovered_ns == 60 * S - 1
    assert found.planned_ns == 100 * S
    assert found.flaps == 1
    assert sum(msgspec.structs.astuple(found)[:7]) == 1100 * S


def test_the_interval_in_force_decides_what_is_silent(tmp_path: Path) -> None:
    """When the interval shrinks, the same silence is longer than it allows from then on."""
    rows = own("alpha", *pinged("bravo", 1), (100, ev.SettingsChanged(1, 10_000)), (300, ev.NoteAdded("x")))
    with opened(tmp_path, rows, own("bravo", *pinged("alpha", 1), (300, ev.NoteAdded("x")))) as history:
        found = stats(history, ns(60), ns(300)).pairs["alpha=bravo"]
    assert (found.up_ns, found.unknown_ns) == (40 * S, 200 * S)


def test_a_window_is_half_open_and_windows_add_up(tmp_path: Path) -> None:
    """A ping on the edge is in the later one; two adjoining windows come to the one over both."""
    rows = own("alpha", *pinged("bravo", 9, (4,))), own("bravo", *pinged("alpha", 9))
    with opened(tmp_path, *rows) as history:
        first, second, both = (stats(history, ns(a), ns(b)) for a, b in ((0, 240), (240, 600), (0, 600)))
        empty = stats(history, ns(60), ns(60))
    assert [each.links["alpha:bravo"].sent for each in (first, second, both)] == [3, 6, 9]
    assert [each.links["alpha:bravo"].lost for each in (first, second, both)] == [0, 1, 1]
    parts = [msgspec.structs.astuple(each.pairs["alpha=bravo"])[:7] for each in (first, second)]
    assert tuple(map(sum, zip(*parts, strict=True))) == msgspec.structs.astuple(both.pairs["alpha=bravo"])[:7]
    assert first.pairs["alpha=bravo"].flaps == 0  # it leaves `up` at the first instant of the second window
    assert (both.pairs["alpha=bravo"].flaps, empty.pairs) == (1, {})


def test_results_without_a_link_are_not_counted(tmp_path: Path) -> None:
    """A member without a link gets a failed ping each interval; it says nothing about how good a link is."""
    rows = own("alpha", (60, ev.PingFailed("bravo", 1, "no-route")), (120, ev.PingFailed("bravo", 2, "timeout", "1")))
    with opened(tmp_path, rows, own("bravo")) as history:
        found = stats(history, ns(0), ns(200)).links
    assert found["alpha:bravo"] == LinkCounts(1, 1, Rtt(None, None, None))
    assert found["bravo:alpha"] == LinkCounts(0, 0, Rtt(None, None, None))


def test_a_part_of_the_mesh_is_the_part_of_the_answer(tmp_path: Path) -> None:
    """One machine, one pair, one link: the same numbers, and nothing else."""
    names = ("alpha", "bravo", "charlie")
    rows = [own(name, *(step for peer in names if peer != name for step in pinged(peer, 9))) for name in names]
    told: list[tuple[int, int]] = []
    with opened(tmp_path, *(sorted_rows(each) for each in rows)) as history:
        whole = stats(history, ns(0), ns(600), progress=lambda done, total: told.append((done, total)))
        for cell, pairs, links in (
            ("alpha", {"alpha=bravo", "alpha=charlie"}, 4),
            ("bravo=alpha", {"alpha=bravo"}, 2),
            ("bravo:alpha", {"alpha=bravo"}, 1),
        ):
            part = stats(history, ns(0), ns(600), parse_cell(cell))
            assert set(part.pairs) == pairs
            assert len(part.links) == links
            assert part.pairs.items() <= whole.pairs.items()
            assert part.links.items() <= whole.links.items()
        with pytest.raises(Refused, match="zulu"):
            stats(history, ns(0), ns(600), parse_cell("alpha:zulu"))
        with pytest.raises(Refused, match="before it begins"):
            stats(history, ns(1), ns(0))
    assert told == [(1, 3), (2, 3), (3, 3)]


def sorted_rows(rows: list[Entry]) -> list[Entry]:
    """In the order of time, as a machine would have written them."""
    ordered = sorted(rows, key=lambda row: row.effective_ns)
    return [msgspec.structs.replace(row, index=index) for index, row in enumerate(ordered, 1)]


def test_quantiles_by_nearest_rank() -> None:
    """The example of the definition, and its ends."""
    ranked = [15, 20, 35, 40, 50]
    assert [nearest_rank(ranked, percent) for percent in (5, 30, 40, 50, 100)] == [15, 20, 20, 35, 50]
    assert nearest_rank([7], 1) == nearest_rank([7], 99) == 7


def test_real_pairs_are_what_they_are_at_every_minute(tmp_path: Path) -> None:
    """On twenty slices of real measurements: the times of all 4,851 pairs are what `at` says, minute by minute."""
    matrices = open_matrices(list(map(str, write_slices(tmp_path, 20))), Options(START_NS, INTERVAL_NS))
    with Ledger.create(tmp_path / "seattle.ledger", incarnation=matrices.incarnation) as ledger:
        import_rtt_matrix(ledger, matrices, lambda _done, _total: None)
    with History.open(tmp_path / "seattle.ledger") as history:
        start = history.start_ns()
        found = stats(history, start, start + 20 * 60 * S)
        counted = {cell: dict.fromkeys(("up", "down", "asymmetric", "unknown"), 0) for cell in found.pairs}
        for minute in range(20):
            for (a, b), state in history.at(start + minute * 60 * S).pairs.items():
                counted[f"{a}={b}"][state] += 60 * S
    assert len(counted) == 4851
    for cell, each in found.pairs.items():
        assert (each.up_ns, each.down_ns, each.asymmetric_ns, each.unknown_ns) == tuple(counted[cell].values())
