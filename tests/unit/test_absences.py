"""The four questions of a machine, in a mesh of which all is known: how often it was away, how long, back by whom, and why."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scene import MEMORY
from staged import Mesh, written
from told import ns

from ledger import events as ev
from ledger.errors import Refused
from ledger.rehearsal import Step
from ledger.worlds import NAMES, Setup, play
from replay import History
from replay.absences import absences
from replay.answers_conditions import Absences
from replay.spans import format_instant

OTHERS = ("alpha", "bravo", "charlie")
S = 10**9


@contextmanager
def opened(feeds: dict, name: str = "one.ledger") -> Iterator[History]:
    """These feeds as a history."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, History.open(written(Path(folder) / name, feeds)) as history:
        yield history


def lost(mesh: Mesh, at: float, until: float, reason: ev.Reason = "timeout") -> None:
    """Delta and all others lose each other at `at`, and are linked again at `until`."""
    for other in OTHERS:
        mesh.cut(at, other, "delta", reason, reason, later=0)
        mesh.link(until, other, "delta")


def told() -> Mesh:
    """Delta is away five times in half an hour: planned, twice silent by itself, renamed into silence and back, removed and
    admitted again.
    """
    mesh = Mesh(*OTHERS, "delta")
    mesh.say(10, "alpha", ev.SettingsChanged(1, flaps_max=2, flap_window_ms=600_000))
    mesh.say(200, "alpha", ev.MachineDisconnected("delta", "ops", "new memory"))
    mesh.say(320, "alpha", ev.MachineReconnected("delta", "ops"))
    lost(mesh, 500, 560)
    lost(mesh, 700, 830, "reset")
    mesh.say(890, "delta", ev.HostnameChanged("delta.lab.example", "d2.lab.example", forced=True))
    lost(mesh, 900, 1000, "name-unresolvable")
    mesh.say(895, "alpha", ev.NameFailed("d2.lab.example"))
    mesh.say(999, "delta", ev.HostnameChanged("d2.lab.example", "delta.lab.example"))
    mesh.say(1200, "bravo", ev.MachineLeft("delta", ("delta#2",), 1000, "removed", "bravo"))
    mesh.say(1500, "charlie", ev.MachineJoined("delta", "delta.lab.example", held=2))
    return mesh


def asked(mesh: Mesh, since: float, until: float) -> Absences:
    """What `stats -m delta` answers."""
    with opened(mesh.feeds(1800)) as history:
        return absences(history, "delta", ns(since), ns(until))


def test_each_time_away_is_told_with_how_long_and_why_and_by_whom() -> None:
    """All five, in order: what it was, for how many seconds, the cause, who removed it, and what ended it."""
    found = asked(told(), 100, 1700)
    away = [row for row in found.stretches if row.state != "up"]
    rows = [(row.state, row.since, row.span_ns, row.cause, row.by, row.ended_by) for row in away]
    assert rows == [
        ("planned", format_instant(ns(200)), 120 * S, "disconnected", None, "operator"),
        ("silent", format_instant(ns(500)), 60 * S, "timeout", None, "itself"),
        ("silent", format_instant(ns(700)), 130 * S, "reset", None, "itself"),
        ("silent", format_instant(ns(900)), 100 * S, "name-unresolvable", None, "operator"),
        ("absent", format_instant(ns(1200)), 300 * S, "removed", "bravo", "operator"),
    ]
    assert [len(row.ended_pos) for row in away] == [1, 0, 0, 1, 1]
    assert (found.left, found.silent, found.planned) == (1, 3, 1)
    assert found.times_ns == {"up": 890 * S, "silent": 290 * S, "unknown": 0, "planned": 120 * S, "absent": 300 * S}
    assert found.flapping, "three times silent within ten minutes, and two are allowed"


def test_what_begins_before_the_window_or_outlasts_it_is_cut_to_it() -> None:
    """A silence that was there before bears no entry and is no time that it fell silent; one that lasts has no end."""
    found = asked(told(), 750, 950)
    first, *_between, last = found.stretches
    assert (first.state, first.span_ns, first.pos, first.ended_by) == ("silent", 80 * S, None, "itself")
    assert (last.state, last.span_ns, last.until, last.ended_by) == ("silent", 50 * S, None, None)
    assert (found.silent, found.flapping) == (1, False)


def test_of_a_machine_that_is_not_known_nothing_is_made_up() -> None:
    """Neither known nor asked for: refused, with those that there are."""
    with opened(told().feeds(300)) as history, pytest.raises(Refused, match="zulu"):
        absences(history, "zulu")


@pytest.mark.parametrize(
    ("word", "state", "ended_by"),
    [
        ("target-down", "unknown", "itself"),  # its own feed does not say that it lost the others
        ("observer-isolated", "silent", "itself"),
        ("disconnected", "planned", "operator"),
        ("removal", "absent", None),
    ],
)
def test_in_a_world_its_time_away_is_the_truth_s(word: str, state: str, ended_by: str | None) -> None:
    """In a generated world with one fault the machine that it befell was away once, and as long as the truth says, but for what
    it takes to notice.
    """
    made = play(Setup(NAMES[:4], seed=5), [Step(200 * S, word, 1, 2, 9)])
    (fault,) = [each for each in made.truth.faults if each.plant]
    with opened(made.feeds) as history:
        found = absences(history, fault.subjects[0], fault.since_ns - 60 * S, made.truth.end_ns)
        others = [absences(history, name, fault.since_ns - 60 * S) for name in NAMES[:4] if name != fault.subjects[0]]
    away = [row for row in found.stretches if row.state == state]
    assert len(away) == 1
    assert abs(away[0].span_ns - (fault.until_ns - fault.since_ns)) <= made.truth.settling_ns
    assert away[0].ended_by == ended_by
    assert (found.left, found.silent, found.planned) == (state == "absent", state == "silent", state == "planned")
    assert [(other.left, other.silent, other.planned) for other in others] == [(0, 0, 0)] * 3
