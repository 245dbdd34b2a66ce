"""What the seed system does, sentence by sentence (S1 … S31 of the README's table), on machines that run the node's own core.

Each story lets a mesh live on a virtual network, breaks what the sentence speaks of, and asks the ledgers that are left. Each
also says what would be seen if the behaviour were not there: a control, in which the same check does not hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from ledger.node import signals as sig
from ledger.node import wire
from ledger.node.simulation import Fault, Run, simulate
from ledger.node.virtual_node import VirtualNode
from projections import health
from projections.cluster import Cluster
from replay.findings import findings
from replay.history import History
from replay.living import remembered

START_NS = 1_767_225_600 * 10**9
MINUTE_S = 60


class Told:
    """A mesh that has lived, and its ledgers. `then`: what is done to it after its faults and the quiet that follows them."""

    def __init__(
        self, folder: Path, faults: list[Fault], *, machines: int = 3, seconds: int = 900, address: bool = False,
        then: Callable[[Run], None] = lambda _run: None,
    ) -> None:  # fmt: skip
        self.run: Run = simulate(7, views=remembered, machines=machines, seconds=seconds, faults=faults, address=address)
        then(self.run)
        folder.mkdir(exist_ok=True)
        self.run.save(str(folder))
        self.history = History.open(folder)

    def at(self, second: float) -> Cluster:
        """All that is known of the moment so many seconds after the beginning."""
        return self.history.at(START_NS + int(second * 10**9))

    def believed(self, machine: str, second: float) -> Cluster:
        """What one machine knew then."""
        return self.history.belief(machine, START_NS + int(second * 10**9))

    def events(self, kind: str, observer: str | None = None) -> list:
        """The events of a kind, with the second at which each was written and by whom, in order."""
        found = [
            ((entry.effective_ns - START_NS) / 10**9, entry.observer, entry.event)
            for feed in self.history.feeds
            for entry in self.history.entries(feed)
            if entry.kind == kind and observer in {None, entry.observer}
        ]
        return sorted(found, key=lambda each: each[:2])


@contextmanager
def telling(folder: Path) -> Iterator[Callable[..., Told]]:
    """Whoever wants a mesh that has lived calls this with its faults."""
    made: list[Told] = []

    def tell(*faults: Fault, **more: object) -> Told:
        made.append(Told(folder / f"{len(made)}", list(faults), **more))
        return made[-1]

    try:
        yield tell
    finally:
        for each in made:
            each.history.close()


def let(run: Run, seconds: float) -> float:
    """Let so much time pass: the second at which it is over."""
    run.world.run(run.world.now_ns + int(seconds * 10**9))
    return run.world.now_ns / 10**9


@pytest.fixture
def told(tmp_path):
    with telling(tmp_path) as tell:
        yield tell


def test_every_machine_links_to_every_other(told):
    """S1, S2, S26: the unit is the pair; of n members n(n-1)/2 pairs are up, seen from both sides, with nothing to report."""
    cluster = told(machines=5).at(600)
    assert Counter(cluster.pairs.values()) == {"up": 10}
    assert Counter(view.state for view in cluster.links.values()) == {"up": 20}
    assert health.gaps(cluster) == {}


def test_one_link_down_keeps_nobody_from_updates(told):
    """S3: while alpha=bravo is cut, what alpha records reaches bravo by charlie; both still reach each other."""
    cut = told(Fault(100, "cut", 0, 1, 400), Fault(250, "rename", 0, 1, 10))
    cluster, bravo = cut.at(400), cut.believed("bravo", 400)
    assert cluster.pair("alpha", "bravo") == "down"
    assert cluster.routes["alpha", "bravo"] == ("alpha", "charlie", "bravo")
    assert bravo.membership.machines["alpha"].hostname == "alpha-250.lab.example"
    assert cut.believed("bravo", 240).membership.machines["alpha"].hostname == "alpha.lab.example"


def test_each_link_says_how_it_is_carried(told):
    """S4: the transport of every link is recorded, and is that of the cluster."""
    quiet = told()
    assert {event.transport for _at, _who, event in quiet.events("link.established")} == {"ssh"} == {quiet.at(600).transport}


def test_tables_are_each_machines_own_and_are_gone_with_it(told):
    """S5, S31: each machine has its own table, which differs while it knows less; after a restart its links are unknown."""
    made = told(Fault(100, "cut", 0, 1, 300), Fault(600, "restart", 2, 0, 20))
    at, who, _event = made.events("link.lost")[0]
    assert who in {"alpha", "bravo"}
    assert made.believed(who, at).routes["alpha", "bravo"] != ("alpha", "bravo")
    assert made.believed("charlie", at).routes["alpha", "bravo"] == ("alpha", "bravo")
    started = max(at for at, who, _event in made.events("node.started") if who == "charlie")
    assert {view.state for (who, _peer), view in made.believed("charlie", started).links.items() if who == "charlie"} == {
        "unknown"
    }
    assert {view.state for (who, _peer), view in made.believed("charlie", 590).links.items() if who == "charlie"} == {"up"}


def test_the_table_changes_as_links_go_down_and_up(told):
    """S6: a lost link turns the route to the way round, and back when it stands again, by the record alone."""
    made = told(Fault(100, "cut", 0, 1, 300))
    routes = [made.believed("alpha", second).routes["alpha", "bravo"] for second in (90, 300, 800)]
    assert routes == [("alpha", "bravo"), ("alpha", "charlie", "bravo"), ("alpha", "bravo")]


def test_every_machine_pings_every_other_each_minute(told):
    """S7: each directed pair has one result each minute, give or take the first."""
    made = told(machines=4, seconds=20 * MINUTE_S)
    sent = [view.sent for view in made.at(20 * MINUTE_S).links.values()]
    assert len(sent) == 12
    assert set(sent) <= {19, 20, 21}


def test_status_without_evidence_is_unknown(told):
    """S8: a machine that has said nothing for minutes is not up by default: its pairs are not known, and nothing is guessed."""
    made = told(Fault(300, "restart", 2, 0, 900))
    quiet = made.at(300 + 8 * MINUTE_S)
    assert {quiet.pair("charlie", other) for other in ("alpha", "bravo")} == {"uncovered"}
    assert "up" not in {quiet.link("charlie", other).state for other in ("alpha", "bravo")}
    assert made.at(290).pair("alpha", "charlie") == "up"


def test_pings_keep_a_way_open(told):
    """S9: on a link that stands something passes each minute, so that no time-out between comes first."""
    made = told(machines=3, seconds=20 * MINUTE_S)
    by_pair: dict[tuple[str, str], list[float]] = {}
    for at, who, event in made.events("ping.answered"):
        by_pair.setdefault((who, event.peer), []).append(at)
    gaps = [b - a for found in by_pair.values() for a, b in pairwise(found)]
    assert len(by_pair) == 6
    assert max(gaps) < 61


def test_a_drop_by_the_limit_heals_itself(told):
    """S10, S11: dropped by the connection limit, back within seconds, nobody's command, no change of who is in."""
    made = told(Fault(300, "connection-limit", 0, 1, 3))
    lost = [(at, who, event.peer) for at, who, event in made.events("link.lost") if event.reason == "connection-limit"]
    assert lost
    for at, who, peer in lost:
        back = [when for when, observer, event in made.events("link.established", who) if event.peer == peer and when > at]
        assert back[0] - at < 15
    for kind in ("machine.left", "machine.joined", "machine.reconnected", "machine.disconnected"):
        assert [at for at, _who, _event in made.events(kind) if at > 10] == []
    assert made.at(310).members == ["alpha", "bravo", "charlie"]


def test_names_are_looked_up_before_each_dial(told):
    """S12, S13: every dial has its look-up, and the link that follows records the address that the name gave."""
    made = told(Fault(300, "restart", 1, 0, 10))
    named = {
        (who, answer)
        for _at, who, event in made.events("name.resolved")
        if event.direction == "forward"
        for answer in event.answers
    }
    dialled = [(who, event.address) for _at, who, event in made.events("link.established") if event.side == "dialled"]
    assert dialled
    assert set(dialled) <= named


def test_a_machine_whose_name_does_not_resolve_is_a_member_that_does_not_communicate(told):
    """S15, S30: renamed to a name that DNS does not know, and restarted: still a member, and mute, both ways, for that cause."""
    made = told(Fault(100, "rename", 2, 2, 700), Fault(200, "restart", 2, 0, 10))
    mute, before = made.at(500), made.at(150)
    assert mute.members == ["alpha", "bravo", "charlie"]
    assert (mute.machines["charlie"].communicating, mute.machines["charlie"].cause) == (False, "name-unresolvable")
    assert before.machines["charlie"].communicating is True  # links older than the rename stay (S14, S18)
    assert {mute.pair("alpha", "charlie"), mute.pair("bravo", "charlie")} == {"down"}
    assert mute.pair("alpha", "bravo") == "up"
    assert made.at(1400).machines["charlie"].communicating is True


def test_a_name_that_leads_elsewhere_finds_nobody(told):
    """S16, S17: DNS gives another machine's address: the dial is refused as a name that points elsewhere."""
    made = told(Fault(200, "dns-elsewhere", 0, 1, 200))
    failed = [
        (event.peer, event.detail) for _at, who, event in made.events("link.failed") if event.reason == "name-points-elsewhere"
    ]
    assert ("bravo", "charlie answers there") in failed or ("bravo", "alpha answers there") in failed
    assert "name-points-elsewhere" not in {event.reason for _at, _who, event in made.events("link.failed") if _at < 200}


def test_a_new_main_host_name_changes_nothing_else(told):
    """S14, S18: the machine, its membership and its links are what they were under the old name."""
    made = told(Fault(300, "rename", 1, 1, 10))
    before, after = made.at(290), made.at(330)
    assert before.machines["bravo"].hostname == "bravo.lab.example"
    assert after.machines["bravo"].hostname == "bravo-300.lab.example"
    assert after.members == before.members
    assert {pair: view.since for pair, view in after.links.items()} == {pair: view.since for pair, view in before.links.items()}


def test_by_address_a_reverse_look_up_that_times_out_refuses(told):
    """S19, S20: whoever is connected to looks the address up in reverse; a time-out refuses, a name that is missing does not."""
    late = told(Fault(200, "dns-timeout", 1, 0, 200), address=True)
    assert {event.direction for _at, _who, event in late.events("name.resolved")} == {"reverse"}
    refused = [(who, event.peer) for at, who, event in late.events("link.failed") if event.reason == "reverse-timeout"]
    assert ("bravo", "alpha") in refused
    failed = [(who, event.outcome) for _at, who, event in late.events("name.failed") if event.direction == "reverse"]
    assert set(failed) == {("bravo", "timeout")}
    assert Counter(late.at(1600).pairs.values()) == {"up": 3}
    missing = told(Fault(200, "dns-nxdomain", 1, 0, 200), address=True)
    assert {event.outcome for _at, _who, event in missing.events("name.failed")} == {"nxdomain"}
    assert [event for _at, _who, event in missing.events("link.failed") if event.reason == "reverse-timeout"] == []
    assert Counter(missing.at(300).pairs.values()) == {"up": 3}


def test_drops_removals_losses_and_plans_are_told_apart(told):
    """S30: planned, dropped by the limit, and lost are three states with three words; membership changes in none of them."""
    made = told(
        Fault(100, "disconnect", 0, 2, 100), Fault(500, "connection-limit", 0, 1, 3), Fault(900, "cut", 0, 1, 200), seconds=1500
    )
    assert made.at(180).pair("alpha", "charlie") == "planned"
    assert made.at(180).machines["charlie"].cause == "disconnected"
    lost = {event.reason for at, _who, event in made.events("link.lost") if 500 <= at < 520}
    assert "connection-limit" in lost
    late = {event.reason for at, _who, event in made.events("link.lost") if at > 900}
    assert "timeout" in late
    assert "connection-limit" not in late
    assert all(made.at(second).members == ["alpha", "bravo", "charlie"] for second in (180, 510, 1000))


def test_a_one_way_cut_is_asymmetric(told):
    """S29: what alpha sends reaches bravo no more: each finds out by itself, in between the pair is asymmetric; then it heals."""
    made = told(Fault(300, "one-way", 0, 1, 400))
    lost = [(at, who) for at, who, event in made.events("link.lost") if {who, event.peer} == {"alpha", "bravo"}]
    (first, one), (second, other) = lost[:2]
    assert {one, other} == {"alpha", "bravo"}
    between = made.at((first + second) / 2)
    assert between.pair("alpha", "bravo") == "asymmetric"
    assert (between.link(one, other).state, between.link(other, one).state) == ("down", "up")
    assert made.at(290).pair("alpha", "bravo") == "up"
    assert made.at(1500).pair("alpha", "bravo") == "up"


def test_an_upgrade_before_dns_knows_the_new_name_cuts_off(told):
    """S21, S22: a forced new name costs nothing until the upgrade, and then the machine; that is a finding, which cites the
    rename, a look-up in vain and the upgrade. One that others have found in DNS before its upgrade loses nothing.
    """
    renamed = upgraded = 0.0

    def then(run):
        nonlocal renamed, upgraded
        bravo, charlie = run.nodes["bravo"], run.nodes["charlie"]
        run.world.table["b2.lab.example"] = ("answered", (bravo.address,))
        run.command(bravo, "sethostname", "bravo", hostname="b2.lab.example")
        let(run, 5)
        run.world.hang_up(bravo)  # so that others look its name up
        let(run, 60)
        run.command(charlie, "sethostname", "charlie", hostname="c2.lab.example", force=True)
        renamed = let(run, 60)
        for node in (charlie, bravo):
            node.crash()
            node.software = "virtual 2"
            let(run, 1)
            node.start()
            upgraded = let(run, 120)

    made = told(seconds=60, then=then)
    before, after = made.at(renamed - 1), made.at(upgraded).machines
    assert before.machines["charlie"].hostname == "c2.lab.example"
    assert Counter(before.pairs.values()) == {"up": 3}
    assert (after["charlie"].communicating, after["charlie"].cause) == (False, "name-unresolvable")
    assert after["bravo"].communicating is True
    assert [(who, event.old, event.new) for _at, who, event in made.events("version.changed")] == [
        ("charlie", "virtual 1", "virtual 2"),
        ("bravo", "virtual 1", "virtual 2"),
    ]
    breaches = [found for found in findings(made.history) if found.rule == "name-before-upgrade"]
    assert [found.subjects for found in breaches] == [("charlie",)]
    shown = {entry.position: entry.kind for feed in made.history.feeds for entry in made.history.entries(feed)}
    assert [shown[position] for position in breaches[0].positions] == ["hostname.changed", "name.failed", "version.changed"]


def test_a_host_name_that_does_not_lead_here_is_refused(told):
    """S22: DNS first: a name that nobody has, or that leads to another machine, is refused and changes nothing; once DNS leads it
    here it is taken.
    """

    def then(run):
        alpha, charlie, table = run.nodes["alpha"], run.nodes["charlie"], run.world.table
        for answer in (("nxdomain", ()), ("answered", (alpha.address,)), ("answered", (charlie.address,))):
            table["c2.lab.example"] = answer
            run.command(charlie, "sethostname", "charlie", hostname="c2.lab.example")
            let(run, 30)

    made = told(seconds=60, then=then)
    nobody, another, here = (body for _request, body in made.run.nodes["charlie"].told)
    assert [body["ok"] for body in (nobody, another, here)] == [False, False, True]
    assert "nxdomain" in nobody["error"]
    assert "another key answers" in another["error"]
    assert [(who, event.old, event.new, event.forced) for _at, who, event in made.events("hostname.changed")] == [
        ("charlie", "charlie.lab.example", "c2.lab.example", False)
    ]


def test_a_member_with_the_other_transport_gets_no_link(told):
    """S25: while charlie speaks the other transport every dial from it and to it is refused for that, and each pair is a finding;
    the others stay linked, and once it speaks the cluster's again all is well.
    """
    mixed = 0.0

    def then(run):
        nonlocal mixed
        plain = run.world.send

        def otherwise(node: VirtualNode, number: int, message: wire.Message) -> None:
            cable, _side = run.world.cables.get((node.name, number), (None, 0))
            if isinstance(message, wire.Hello) and cable is not None and "charlie" in {end.name for end in cable.ends}:
                message = msgspec.structs.replace(message, transport="ccs")
            plain(node, number, message)

        run.world.send = otherwise
        run.world.hang_up(run.nodes["charlie"])
        mixed = let(run, 120)
        run.world.send = plain
        let(run, 900)

    made = told(seconds=60, then=then)
    cluster = made.at(mixed)
    assert cluster.pairs == {("alpha", "bravo"): "up", ("alpha", "charlie"): "down", ("bravo", "charlie"): "down"}
    assert {event.reason for at, _who, event in made.events("link.failed") if 60 < at <= mixed} == {"transport-mismatch"}
    assert cluster.members == ["alpha", "bravo", "charlie"]
    breaches = [found for found in findings(made.history) if found.rule == "one-transport"]
    assert sorted(found.subjects for found in breaches) == [("alpha", "charlie"), ("bravo", "charlie")]
    assert Counter(made.at(mixed + 900).pairs.values()) == {"up": 3}


def test_one_transport_until_all_have_left(told):
    """S27: even of the last machine nobody gets in who comes with the other transport: remove all and start again. The same
    newcomer is let in with the cluster's own.
    """

    def then(run):
        alpha = run.nodes["alpha"]
        plain = alpha.do

        def do(action: sig.Action) -> None:
            """What the daemon does of a good code: it is used."""
            if isinstance(action, sig.Redeem):
                alpha.mesh.redeemed(action.channel, None)
            else:
                plain(action)

        alpha.do = do
        for name in ("bravo", "charlie"):
            run.command(run.nodes[name], "leave", name)
            let(run, 60)
        for transport in ("ccs", "ssh"):
            ask = wire.JoinAsk(
                invite="code", proof=bytes(32), incarnation=alpha.feed.incarnation, machine="delta",
                hostname="delta.lab.example", port=22, account=None, host_key="h", dial_key="d", ledger_key="l",
                addressing="name", transport=transport,
            )  # fmt: skip
            number = alpha.accept()
            alpha.observe(sig.Opened(number, "d", "203.0.113.9"))
            alpha.observe(sig.Heard(number, ask))
            let(run, 20)

    made = told(seconds=60, then=then)
    (refused, who, event), *more = made.events("join.refused")
    assert (who, event.who, event.reason, more) == ("alpha", "delta", "transport-mismatch", [])
    assert "remove all machines and start again" in event.detail
    assert made.at(refused).members == ["alpha"]
    assert made.at(refused + 10).members == ["alpha"]
    assert made.at(refused + 30).members == ["alpha", "delta"]


def test_the_last_machine_takes_the_cluster_along(told):
    """S28: removed and left one by one, the cluster lives as long as one is in; the last has to say twice that it leaves, and
    with it the cluster ends, in the record too.
    """
    one = 0.0

    def then(run):
        nonlocal one
        alpha = run.nodes["alpha"]
        run.command(alpha, "remove", "charlie")
        let(run, 60)
        run.command(run.nodes["bravo"], "leave", "bravo")
        let(run, 60)
        run.command(alpha, "leave", "alpha")
        one = let(run, 60)
        let(run, 1)
        run.command(alpha, "leave", "alpha", dissolve=True)
        let(run, 60)

    made = told(seconds=60, then=then)
    nodes = made.run.nodes
    assert [(body["ok"], body.get("exit")) for _request, body in nodes["alpha"].told] == [(True, None), (False, 2), (True, None)]
    last, end = made.at(one), made.history.at("end")
    assert (last.members, last.dissolved) == (["alpha"], False)
    assert (end.members, end.dissolved) == ([], True)
    assert {name: view.cause for name, view in end.machines.items()} == {"alpha": "left", "bravo": "left", "charlie": "removed"}
    assert [(who, event.name) for _at, who, event in made.events("cluster.dissolved")] == [("alpha", "lab")]
    assert [name for name, node in nodes.items() if node.mesh is not None] == []
