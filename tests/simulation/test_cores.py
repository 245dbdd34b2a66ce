"""The cores of a mesh on a virtual network and clock, under every fault: what they promise, and what their ledgers say."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import codec
from ledger.events import KINDS
from ledger.identity import Feed
from ledger.node import dialling
from ledger.node import signals as sig
from ledger.node.signals import TurnedAway
from ledger.node.state import SECOND
from ledger.node.virtual_node import VirtualNode
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

    def learn(self, entries):
        """The same, one by one."""
        for entry in entries:
            self.apply(entry)


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


@pytest.mark.parametrize("seed", range(3))
def test_a_start_takes_up_what_the_disk_comes_to(seed, monkeypatch):
    """What a machine goes on with after a crash, a power cut or a disk that was set back is the fold of its disk from the first
    entry on, though it is not folded anew each time.
    """
    compared = Counter[str]()
    start = VirtualNode.start

    def compare(node):
        taken_up = node._folded
        start(node)
        at_ns = node.now.wall_ns
        assert states.at(node.view.at(at_ns), node.name) == states.at(node.folded().at(at_ns), node.name)
        compared["taken up" if taken_up else "anew"] += 1

    monkeypatch.setattr(VirtualNode, "start", compare)
    words = ("restart", "power-cut", "rollback", "cut", "rename", "clock-step")
    simulate(seed, views=remembered, machines=4, seconds=900, faults=14, words=words)
    assert compared["taken up"] > 3
    assert compared["anew"] > 4


def test_a_dial_refused_beside_a_link_that_stands_leaves_it_standing(tmp_path):
    """While bravo's link to alpha stands, somebody greets alpha as bravo, with charlie's key: refused, and neither the table nor
    the record calls bravo's own link down.
    """
    run = simulate(8, views=remembered, machines=3, seconds=200, faults=0)
    alpha, bravo, charlie = run.nodes.values()
    sent: list = []
    run.world.send = lambda _node, channel, message: sent.append((channel, message))
    before = kinds_of(run)["link.failed"]
    greeting = dialling.hello(bravo.mesh.core, bravo.mesh.core.peers["alpha"], "forged")
    alpha.observe(sig.Opened(-99, charlie.address, charlie.dial_key))
    alpha.observe(sig.Heard(-99, greeting))
    assert [message.reason for channel, message in sent if channel == -99] == ["auth-failed"]
    assert alpha.mesh.core.peers["bravo"].channel is not None
    assert kinds_of(run)["link.failed"] == before
    run.save(str(tmp_path))
    assert not_of_the_record(tmp_path) == []


def test_a_removal_on_one_side_of_a_partition_binds_each_from_when_it_holds_it(tmp_path):
    """While alpha and bravo are cut off from charlie and delta, alpha removes delta: out for bravo at once, and for charlie
    a member, linked as before, until the sides meet; then out for everybody. The record says who believed what, and when.
    """
    run = simulate(9, views=remembered, machines=4, seconds=300, faults=0)
    world, (alpha, bravo, charlie, delta) = run.world, run.nodes.values()
    apart = {(a.name, b.name) for a in (alpha, bravo) for b in (charlie, delta)}
    world.cuts |= apart | {(b, a) for a, b in apart}
    run.command(alpha, "remove", "delta")
    world.run(world.now_ns + 300 * SECOND)
    assert [len(node.mesh.core.snapshot.membership.names) for node in (alpha, bravo, charlie)] == [3, 3, 4]
    assert charlie.mesh.core.peers["delta"].channel is not None
    between = alpha.now.wall_ns
    world.cuts.clear()
    world.heal()
    world.run(world.now_ns + 600 * SECOND)
    assert delta.mesh is None or not any(peer.channel for peer in delta.mesh.core.peers.values())
    for node in (alpha, bravo, charlie):
        assert node.mesh.core.snapshot.membership.names == ["alpha", "bravo", "charlie"]
        assert all(node.mesh.core.peers[name].channel for name in node.mesh.core.others)
    run.save(str(tmp_path))
    with History.open(tmp_path) as history:
        believed = [history.belief(name, moment).members for moment in (between, "end") for name in ("bravo", "charlie")]
    assert [len(members) for members in believed] == [3, 4, 3, 3]
    assert not_of_the_record(tmp_path) == []


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


def test_an_answer_that_lay_there_while_this_machine_stood_still_is_no_failure():
    """A machine stands still from a ping until after the time-out; the answer, which had come in time, is taken as one."""
    run = simulate(2, views=remembered, machines=2, seconds=120, faults=[])
    alpha = run.nodes["alpha"]
    peer = alpha.mesh.core.peers["bravo"]
    while not peer.pending:
        run.world.run(run.world.now_ns + SECOND // 100)
    before = len(alpha.disk[alpha.feed])
    alpha.stalled_until = run.world.now_ns + 20 * SECOND
    run.world.run(run.world.now_ns + 30 * SECOND)
    told = [o.event for o in alpha.disk[alpha.feed][before:]]
    assert next(event.stalled_ms for event in told if event.kind == "node.stalled") > 1000
    assert [event.kind for event in told if event.kind == "ping.failed"] == []
    assert [event.reason for event in told if event.kind == "link.lost"] == ["reset"]  # bravo's own ping was late indeed


def test_a_link_that_does_not_stand_is_tried_less_and_less_often():
    """A link that is reset as soon as it stands is dialled again after a growing pause; once it has stood, soon again."""
    run = simulate(2, views=remembered, machines=2, seconds=300, faults=[])
    alpha = run.nodes["alpha"]
    world = run.world

    def links() -> list[int]:
        return [o.at_ns for o in alpha.disk[alpha.feed] if o.event.kind == "link.established"]

    def drop() -> None:
        world.hang_up(alpha)

    begun = len(links())
    until = world.now_ns + 200 * SECOND
    drop()
    while world.now_ns < until:
        seen = len(links())
        world.run(world.now_ns + SECOND // 10)
        if len(links()) > seen:
            drop()
    stood = links()[begun:]
    pauses = [after - before for before, after in pairwise(stood)]
    assert 3 <= len(stood) <= 20
    assert max(pauses) > 8 * SECOND
    world.run(world.now_ns + 300 * SECOND)
    now = world.now_ns
    drop()
    world.run(now + 5 * SECOND)
    assert alpha.mesh.core.peers["bravo"].channel is not None


def test_a_flood_is_an_entry_a_minute_and_breaks_no_link():
    """Connections turned away at a limit are recorded at once and then once a minute with their number, to the last one; of a
    member that is linked it does not say that the link is gone, of one that is not it says why.
    """
    run = simulate(2, views=remembered, machines=3, seconds=120, faults=[])
    alpha, world = run.nodes["alpha"], run.world
    before, begun = len(alpha.disk[alpha.feed]), world.now_ns
    for second in range(150):
        world.run(begun + second * SECOND)
        alpha.observe(TurnedAway(10, f"10.9.0.{second % 200}"))
    alpha.observe(TurnedAway(3, "10.0.0.2", "bravo"))
    world.run(begun + 400 * SECOND)
    told = [o.event for o in alpha.disk[alpha.feed][before:] if o.event.kind in {"join.refused", "link.failed", "link.lost"}]
    assert {event.reason for event in told} == {"connection-limit"}
    floods = [event for event in told if event.who != "bravo"]
    counts = [int(event.detail.split()[0]) for event in floods]
    assert (len(counts), counts[0], sum(counts)) == (4, 10, 1500)
    (known,) = (event for event in told if event.who == "bravo")
    assert (known.kind, known.address, known.detail.split()[0]) == ("join.refused", "10.0.0.2", "3")
    assert states.at(alpha.view.at(alpha.now.wall_ns), "alpha").links["alpha:bravo"].state == "up"
    run.nodes["charlie"].crash()
    world.run(world.now_ns + 5 * SECOND)
    alpha.observe(TurnedAway(1, "10.0.0.3", "charlie"))
    last = next(o.event for o in reversed(alpha.disk[alpha.feed]) if o.event.kind == "link.failed")
    assert (last.peer, last.reason, last.culprit, last.address) == ("charlie", "connection-limit", "charlie", "10.0.0.3")


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


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_day_of_twenty_machines():
    """Twenty machines, a day at the interval of a minute, every fault twice: healed, and every feed is with everybody."""
    run = simulate(1, views=remembered, machines=20, seconds=86_400, faults=2 * len(FAULTS))
    assert run.unsettled() == []


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
