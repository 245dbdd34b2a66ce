"""What changed, and by which entry."""

from __future__ import annotations

from told import ns, own

from ledger import events as ev
from ledger.entry import Entry
from projections.cluster import Cluster
from projections.projection import fold
from replay.cells import cells
from replay.diff import answer, apply, diff


def rows() -> list[Entry]:
    """Three machines; at 61 alpha loses bravo, at 62 charlie is renamed, at 63 it is put aside, at 64 removed."""
    found: list[Entry] = []
    for name in ("alpha", "bravo", "charlie"):
        steps = [(0.0, ev.LinkEstablished(peer, "1")) for peer in ("alpha", "bravo", "charlie") if peer != name]
        if name == "alpha":
            steps += [
                (61, ev.LinkLost("bravo", "reset", "1", "192.0.2.2")),
                (63, ev.MachineDisconnected("charlie", "eve")),
                (64, ev.MachineLeft("charlie", ("charlie#2",), 5, "removed", "alpha")),
                (65, ev.SettingsChanged(1, 10_000)),
            ]
        if name == "charlie":
            steps += [(62, ev.HostnameChanged("charlie.lab.example", "carla.lab.example"))]
        found += own(name, *steps, hostname=f"{name}.lab.example")
    return found


def cluster(at: float) -> Cluster:
    return fold(Cluster(), [row for row in rows() if row.effective_ns <= ns(at)])


def changed(since: float, until: float) -> dict[tuple[str, str], tuple[object, object, str | None]]:
    return {(c.cell, c.field): (c.old, c.new, c.pos) for c in diff(cluster(since), cluster(until))}


def test_a_lost_link_changes_itself_its_pair_and_routes() -> None:
    """The link names the entry, the pair and the route follow from it and name none."""
    assert changed(60, 61) == {
        ("alpha:bravo", "state"): ("up", "down", "alpha#5"),
        ("alpha:bravo", "reason"): (None, "reset", "alpha#5"),
        ("alpha:bravo", "since"): ("2026-01-01T00:00:00Z", "2026-01-01T00:01:01Z", "alpha#5"),
        ("alpha:bravo", "since_pos"): ("alpha#3", "alpha#5", "alpha#5"),
        ("alpha:bravo", "address"): (None, "192.0.2.2", "alpha#5"),
        ("alpha:bravo", "route"): (["alpha", "bravo"], ["alpha", "charlie", "bravo"], None),
        ("bravo:alpha", "route"): (["bravo", "alpha"], ["bravo", "charlie", "alpha"], None),
        ("alpha=bravo", "state"): ("up", "asymmetric", None),
    }


def test_a_machine_names_the_acts_that_changed_it() -> None:
    """A rename in its own feed, an administrative act in another's."""
    assert changed(61, 62) == {("charlie", "hostname"): ("charlie.lab.example", "carla.lab.example", "charlie#5")}
    put_aside = changed(62, 63)
    assert put_aside["charlie", "disconnected"] == (False, True, "alpha#6")
    assert put_aside["alpha=charlie", "state"] == ("up", "planned", None)


def test_a_removal_takes_links_away_and_is_named_for_it() -> None:
    """What a removed machine had is null after it, by the removal."""
    found = changed(63, 64)
    assert found["charlie", "member"] == (True, False, "alpha#7")
    assert found["charlie", "cause"] == (None, "removed", "alpha#7")
    assert found["charlie:bravo", "state"] == ("up", None, "alpha#7")
    assert found["alpha=charlie", "state"] == ("planned", None, None)


def test_settings_are_the_clusters() -> None:
    """Its own cell stands first."""
    assert changed(64, 65)["cluster", "ping_interval_ms"] == (None, 10_000, "alpha#8")
    assert diff(cluster(0), cluster(65))[0].cell == "cluster"


def test_pings_are_left_out_unless_asked_for() -> None:
    """What every ping changes would hide everything else."""
    before = fold(Cluster(), own("alpha", (1, ev.PingAnswered("bravo", 1, 5))) + own("bravo"))
    after = fold(Cluster(), own("alpha", (1, ev.PingAnswered("bravo", 1, 5)), (2, ev.PingAnswered("bravo", 2, 6))) + own("bravo"))
    assert diff(before, after) == []
    found = {c.field: (c.old, c.new, c.pos) for c in diff(before, after, pings=True)}
    assert found["sent"] == (1, 2, "alpha#4")
    assert found["last_ping"][1] == {"at": "2026-01-01T00:00:02Z", "outcome": "answered", "rtt_us": 6}


def test_the_printed_answer_bears_both_moments() -> None:
    """`from` and `to`, and the changes between."""
    found = answer(cluster(60), cluster(61))
    assert (found.since, found.until) == ("2026-01-01T00:00:00Z", "2026-01-01T00:01:01Z")
    assert found.changes == diff(cluster(60), cluster(61))


def test_a_machine_may_be_called_cluster() -> None:
    """Its fields stand beside the cluster's own under one name, and none hides another."""
    before, after = Cluster(), fold(Cluster(), own("cluster", (1, ev.SettingsChanged(1))))
    changes = diff(before, after)
    assert {c.pos for c in changes if c.field == "member"} == {"cluster#2"}
    assert {c.pos for c in changes if c.field == "lost_after"} == {"cluster#3"}
    assert apply(changes, cells(before)) == cells(after)
