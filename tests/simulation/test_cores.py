"""The cores of a mesh on a virtual network and clock, under every fault: what they promise, and what their ledgers say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import codec
from ledger.events import KINDS
from ledger.identity import Feed
from ledger.node.state import SECOND
from ledger.testing import MESH_FAULTS as FAULTS
from ledger.testing import Fault, Run, simulate
from projections.belief import Belief
from replay import states
from replay.check import verify
from replay.history import History
from replay.living import remembered
from replay.verdicts import judged, monitors

EVIDENCE = {
    "restart": "node.started", "power-cut": "node.started", "rollback": "node.started", "clock-step": "clock.stepped",
    "dns-nxdomain": "name.failed", "dns-timeout": "name.failed", "dns-servfail": "name.failed", "dns-nodata": "name.failed",
    "connection-limit": "link.lost", "stall": "node.stalled", "disconnect": "machine.disconnected", "rename": "hostname.changed",
    "cut": "link.lost", "one-way": "link.lost",
}  # fmt: skip
"""The kind that must stand in some ledger because of the fault."""


def log_of(run: Run) -> bytes:
    """Everything that every machine holds, as bytes."""
    return msgspec.msgpack.encode([
        (name, feed.id, [(o.at_ns, o.boot, o.mono_ns, o.event.kind, codec.encode_event(o.event)) for o in log])
        for name, node in run.nodes.items()
        for feed, log in node.disk.items()
    ])  # fmt: skip


def kinds_of(run: Run) -> Counter[str]:
    return Counter(
        o.event.kind for name, node in run.nodes.items() for feed, log in node.disk.items() if feed.machine == name for o in log
    )


def test_one_seed_is_one_log():
    """The same seed gives the same entries on every machine, byte for byte; another seed gives others."""
    first, again, other = (log_of(simulate(seed, views=remembered, machines=3, seconds=900, faults=6)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


@pytest.mark.parametrize("word", FAULTS)
def test_a_fault_happens_is_recorded_and_heals(word, tmp_path):
    """Each fault alone is counted and leaves its evidence; a quiet while later all is as promised, and no invariant is broken."""
    run = simulate(3, views=remembered, machines=3, seconds=900, faults=4, words=[word])
    assert run.coverage[word] >= 4
    assert word not in EVIDENCE or kinds_of(run)[EVIDENCE[word]] > (3 if EVIDENCE[word] == "node.started" else 0)
    assert run.unsettled() == []
    run.save(str(tmp_path))
    assert not_of_the_record(tmp_path) == []


def not_of_the_record(folder: Path) -> list[str]:
    """What is wrong with the ledgers of a folder: bytes, and invariants of the record or of the software."""
    report = verify([folder])
    found = judged([folder], report, monitors())
    bad = [each.rule.name for each in found if each.severity not in {"mesh", "coverage"} and each.outcome == "violated"]
    return [*(problem.what for problem in report.problems), *bad]


class Watched(Belief):
    """A belief that remembers what it said of the table after each own entry, as its node went by it."""

    said: dict[str, dict]

    def apply(self, entry):
        """Learn of an entry; at some own ones keep what is believed."""
        super().apply(entry)
        self.said = getattr(self, "said", {})
        if entry.feed == self.own and entry.index % 37 == 0:
            self.said[entry.position] = states.at(self.at(entry.at_ns), entry.observer)


def test_the_live_table_is_what_replay_rebuilds(tmp_path):
    """Members, links, pairs and routes as a running node had them at a position are `--as-seen-by` of that position."""
    seen: dict[str, Watched] = {}

    def views(own: Feed, disk):
        belief = remembered(own, disk)
        seen[own.machine] = Watched(own, belief._refold)
        return seen[own.machine]

    run = simulate(11, views=views, machines=4, seconds=900, faults=14)
    run.save(str(tmp_path))
    compared = 0
    for name, belief in seen.items():
        with History.open(tmp_path / f"{name}.ledger") as history:
            for position, said in belief.said.items():
                assert states.at(history.belief(name, position), name) == said, position
                compared += 1
    assert compared > 15


SCHEDULES = st.lists(
    st.builds(
        Fault, st.integers(0, 600), st.sampled_from(FAULTS), st.integers(0, 2), st.integers(0, 2), st.sampled_from([1, 30, 200])
    ).filter(lambda fault: fault.a != fault.b),
    max_size=6,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), SCHEDULES)
def test_whatever_breaks_heals(seed, faults):
    """Any schedule of faults: a quiet while later every pair is linked and every feed is with everybody."""
    run = simulate(seed, views=remembered, machines=3, seconds=600, faults=faults)
    assert run.unsettled() == []


def test_every_kind_of_event_of_the_live_node_is_met():
    """Over a few seeds the cores write every kind that a node without codes, keys to change or sealed heads can write."""
    met: Counter[str] = Counter()
    for seed in range(4):
        met += kinds_of(simulate(seed, views=remembered, machines=4, seconds=1800, faults=len(FAULTS)))
    never = {
        "cluster.dissolved", "machine.left", "join.refused", "key.changed", "version.changed", "node.stopped", "head.witnessed",
        "note.added",
    }  # fmt: skip
    assert set(KINDS) - set(met) == never


def test_two_that_were_disconnected_and_reconnected_apart_meet_again():
    """Each was reconnected on itself and believes the other still to be disconnected: it is dialled all the same."""
    run = simulate(2, views=remembered, machines=2, seconds=120, faults=[])
    alpha, bravo = run.nodes.values()
    run.command(alpha, "disconnect", "bravo")
    run.world.run(run.world.now_ns + 300 * SECOND)
    for node in (alpha, bravo):
        run.command(node, "disconnect", "alpha")
    run.world.run(run.world.now_ns + 300 * SECOND)
    assert all(node.mesh.core.snapshot.planned == {"alpha", "bravo"} for node in (alpha, bravo))
    run.command(alpha, "reconnect", "alpha")
    run.command(bravo, "reconnect", "bravo")
    run.world.run(run.world.now_ns + 300 * SECOND)
    assert [node.mesh.core.snapshot.planned for node in (alpha, bravo)] == [frozenset(), frozenset()]
    assert run.unsettled() == []


def test_a_machine_that_is_told_to_leave_answers_before_it_is_gone():
    """`leave bravo`, commanded from alpha, is answered with the entry that says so; then the two that are left are the mesh."""
    run = simulate(2, views=remembered, machines=3, seconds=120, faults=[])
    alpha = run.nodes["alpha"]
    run.command(alpha, "leave", "bravo")
    run.world.run(run.world.now_ns + 300 * SECOND)
    assert [(body["ok"], body.get("pos", "").split("#")[0]) for _request, body in alpha.told] == [(True, "bravo")]
    assert run.nodes["bravo"].mesh is None
    assert alpha.mesh.core.snapshot.membership.names == ["alpha", "charlie"]
    assert run.unsettled() == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_four_hours_of_ten_machines(tmp_path):
    """Ten machines, four hours, every fault twice: healed, and the ledger of each holds every invariant of the record."""
    run = simulate(1, views=remembered, machines=10, seconds=4 * 3600, faults=2 * len(FAULTS))
    assert run.unsettled() == []
    run.save(str(tmp_path))
    (tmp_path / "rest").mkdir()
    for path in sorted(tmp_path.glob("*.ledger"))[2:]:
        path.rename(tmp_path / "rest" / path.name)
    assert not_of_the_record(tmp_path) == []


def test_who_is_removed_hears_why_before_its_link_ends():
    """Removed the moment its links stand anew, when nobody has asked for anything yet: it takes the removal in over the link that
    ends, and so ends itself, with no dial that would be refused.
    """
    run = simulate(3, views=remembered, machines=3, seconds=300, faults=[])
    world, (alpha, _bravo, charlie) = run.world, run.nodes.values()

    def linked() -> bool:
        return all(a.mesh.core.peers[b.name].channel is not None for a, b in ((alpha, charlie), (charlie, alpha)))

    world.hang_up(charlie)
    world.run(world.now_ns + SECOND // 100)
    assert not linked()
    while not linked():
        world.run(world.now_ns + SECOND // 1000)
    before = len(charlie.disk[charlie.feed])
    run.command(alpha, "remove", "charlie")
    world.run(world.now_ns + 5 * SECOND)
    assert charlie.mesh is None
    assert [o.event.machine for o in charlie.disk[alpha.feed] if o.event.kind == "machine.left"] == ["charlie"]
    assert [o for o in charlie.disk[charlie.feed][before:] if o.event.kind == "link.failed"] == []
