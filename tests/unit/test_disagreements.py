"""Who saw it otherwise, on meshes small enough to read: lone dissenters, islands by view, and how the command line ends."""

from __future__ import annotations

import json
from pathlib import Path

from called import call, incident
from recorded import observed, on_disk, recorded
from told import ns, own, told

from ledger import events as ev
from ledger.errors import Refused
from replay.answers_views import Disagreement, Side
from replay.disagreements import disagreements


def mesh(**lost: dict[str, tuple[float, float]]) -> list:
    """Four machines that all hear of each other until 600; `lost` by observer: peers, from when until when."""
    rows = []
    names = ("alpha", "bravo", "charlie", "delta")
    for observer in names:
        steps: list = [(1, ev.LinkEstablished(peer, "1")) for peer in names if peer != observer]
        steps += [
            (60 * n, ev.PingAnswered(p, n, 5, "1"))
            for n in range(1, 10)
            for p in names
            if p != observer
            and not any(p == peer and since <= 60 * n < until for peer, (since, until) in lost.get(observer, {}).items())
        ]
        for peer, (since, until) in lost.get(observer, {}).items():
            steps += [(since, ev.LinkLost(peer, "timeout", "1")), (until, ev.LinkEstablished(peer, "2"))]
        rows += own(observer, *sorted(steps, key=lambda step: step[0]))
        joins = [(0.5, ev.MachineJoined(name)) for name in names if name != observer]
        rows = [*rows, *told(observer, *joins, first=10_000)]
    return rows


def ordered(rows: list) -> dict:
    """As appended: by feed, in the order of their instants."""
    return {feed: sorted(log, key=lambda each: each.at_ns) for feed, log in observed(rows).items()}


def test_one_against_the_rest_is_named() -> None:
    """Delta alone loses charlie for two minutes: a pair and a machine on which they differ, with delta as the lone one."""
    with on_disk(ordered(mesh(delta={"charlie": (130, 250)}))) as history:
        found = disagreements(history, ns(30), ns(500))
        by_links = [each for each in found.disagreements if each.kind in {"pair", "machine"}]
        assert [(each.kind, each.about, each.since, each.until, each.lone) for each in by_links] == [
            ("machine", "charlie", "2026-01-01T00:02:10Z", "2026-01-01T00:04:10Z", "delta"),
            ("pair", "charlie=delta", "2026-01-01T00:02:10Z", "2026-01-01T00:04:10Z", None),
        ]
        machine = by_links[0]
        assert [(side.says, sorted(side.by)) for side in machine.sides] == [("up", ["alpha", "bravo"]), ("down", ["delta"])]
        position = machine.sides[1].by["delta"]
        assert isinstance(history.entry(position).event, ev.LinkLost)
        assert found.covered_ns == dict.fromkeys(("alpha", "bravo", "charlie", "delta"), 470 * 10**9)


def test_a_window_cuts_and_a_cell_chooses() -> None:
    """Intervals are cut to the window; a machine or a pair leaves the others out; the least span leaves out what was shorter."""
    with on_disk(ordered(mesh(delta={"charlie": (130, 250)}, bravo={"alpha": (300, 301)}))) as history:
        cut = disagreements(history, ns(200), ns(240)).disagreements
        assert {(each.since, each.until) for each in cut if each.kind == "pair"} == {
            ("2026-01-01T00:03:20Z", "2026-01-01T00:04:00Z")
        }
        from replay.cells import parse_cell

        of = lambda cell, **more: {  # noqa: E731
            (each.kind, each.about)
            for each in disagreements(history, ns(30), ns(500), parse_cell(cell), **more).disagreements
            if each.kind != "member"
        }
        assert of("charlie") == {("machine", "charlie"), ("pair", "charlie=delta")}
        assert of("delta") == {("pair", "charlie=delta")}
        assert of("alpha=bravo") == {("pair", "alpha=bravo")}
        assert of("alpha=bravo", least_ns=10**9 + 1) == set()


def test_both_sides_of_a_cut_show_the_islands_that_they_saw() -> None:
    """In the incident nobody but echo knows that echo left: by belief they differ on whether it is a member."""
    from tempfile import TemporaryDirectory

    from replay.history import History

    with TemporaryDirectory() as folder, History.open(*incident(Path(folder))) as history:
        found = disagreements(history, history.start_ns(), history.end_ns())
        kinds = {each.kind for each in found.disagreements}
        assert kinds == {"pair", "machine", "islands"} | ({"member"} & kinds)
        for each in found.disagreements:
            if each.kind == "islands":
                for side in each.sides:
                    assert side.says == "whole" or " | " in side.says
                    for observer, pos in side.by.items():
                        assert history.entry(pos).observer == observer


def test_the_command_line_ends_as_the_answer_is(tmp_path: Path) -> None:
    """1 if they differ, 0 if not, 3 if fewer than two feeds cover anything, 2 for a cell or window that is none."""
    path = recorded(tmp_path / "m.ledger", ordered(mesh(delta={"charlie": (130, 250)})))
    asked = call("disagreements", path, "-m", "charlie", "-o", "json")
    assert asked.code == 1
    shown = [each for each in json.loads(asked.out)["disagreements"] if each["kind"] == "machine"]
    assert shown[0]["lone"] == "delta"
    assert call("disagreements", path, "-l", "alpha=bravo").code == 0
    assert call("disagreements", path, "-m", "charlie", "--around", "2026-01-01T00:08:00Z±10s", "--least", "1h").code == 0
    rows = call("disagreements", path, "-m", "charlie", "-o", "csv").out.splitlines()
    assert rows[0] == "kind,about,since,until,says,observers,by,lone"
    assert "delta" in call("disagreements", path, "-m", "charlie").out.splitlines()[1].partition("alone at times: ")[2]
    for wrong in (
        ["-m", "zulu"],
        ["-l", "alpha"],
        ["-m", "alpha=bravo"],
        ["-m", "alpha", "-l", "alpha=bravo"],
        ["-S", "end", "-U", "start"],
    ):
        assert call("disagreements", path, *wrong).code == 2, wrong
    alone = recorded(tmp_path / "a.ledger", {feed: log for feed, log in ordered(mesh()).items() if feed.machine == "alpha"})
    only = call("disagreements", alone)
    assert only.code == 3
    assert "only alpha's feed covers anything of this window" in only.err
    assert call("disagreements", path, "-S", "2027-01-01", "-U", "2027-01-02").code == 3


def test_the_shapes_are_public() -> None:
    """What is answered can be made and compared by guests."""
    one = Disagreement("pair", "a=b", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", None, [Side("up", {"a": "a#1"})])
    assert one == Disagreement("pair", "a=b", one.since, one.until, None, one.sides)
    assert issubclass(Refused, Exception)
