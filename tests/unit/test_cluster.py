"""The whole mesh at a moment."""

from __future__ import annotations

import pytest
from told import CREATED, imported, keyed, ns, own, told

from ledger import events as ev
from ledger.entry import Entry
from projections.cluster import Cluster
from projections.projection import fold
from projections.views import UNSEEN, LastPing

NAMES = ("alpha", "bravo", "charlie")


def mesh(**more: list[tuple[float, ev.Event]]) -> list[Entry]:
    """Three machines linked and pinged at 0, and what each says `more`; every feed ends at 60 or later."""
    rows: list[Entry] = []
    for name in NAMES:
        peers = [peer for peer in NAMES if peer != name]
        first = [(0.0, ev.LinkEstablished(peer, "1")) for peer in peers]
        first += [(60.0, ev.PingAnswered(peer, 1, 900, "1")) for peer in peers]
        rows += own(name, *first, *more.get(name, []), hostname=f"{name}.lab.example")
    return rows


def state(rows: list[Entry], at: float | None = None, ends: float | None = None) -> Cluster:
    """The cluster at `at`: feeds cut there, known until `ends` (default: as far as they go)."""
    whole = fold(Cluster(), rows)
    if at is None:
        return whole
    cut = fold(Cluster(), [row for row in rows if row.effective_ns <= ns(at)])
    known = {feed: each.last_ns if ends is None else ns(ends) for feed, each in whole.states.items()}
    return Cluster(cut.states, known, ns(at))


def lost(peer: str, reason: str = "timeout") -> ev.LinkLost:
    return ev.LinkLost(peer, reason, "1")


def test_an_empty_cluster_answers() -> None:
    """Nobody is in, nothing is up, and nothing is wrong."""
    empty = Cluster()
    assert (empty.at_ns, empty.members, empty.machines, empty.links, empty.pairs, len(empty.routes)) == (0, [], {}, {}, {}, 0)
    assert (empty.coverage, empty.name, empty.incarnation, empty.dissolved) == ({}, None, None, False)
    assert empty.pair("alpha", "bravo") == "absent"
    assert empty == Cluster()


def test_a_mesh_that_stands() -> None:
    """Everything is up, covered, direct, and talks."""
    cluster = state(mesh())
    assert cluster.at_ns == ns(60)
    assert cluster.members == list(NAMES)
    assert set(cluster.pairs.values()) == {"up"}
    assert cluster.routes["charlie", "alpha"] == ("charlie", "alpha")
    view = cluster.links["alpha", "bravo"]
    assert (view.state, view.reason, view.since_pos, view.since_ns) == ("up", None, "alpha#3", ns(0))
    assert (view.last_ping, view.sent, view.lost, view.linkless) == (LastPing(ns(60), "answered", 900), 1, 0, 0)
    assert (view.good, view.bad, view.evidence) == ((ns(60), 5), None, (ns(60), 5))
    machine = cluster.machines["bravo"]
    assert (machine.member, machine.communicating, machine.cause) == (True, True, None)
    assert (machine.hostname, machine.since_pos, machine.since_ns) == ("bravo.lab.example", "bravo#2", ns(0))
    assert all(found is not None and found.covered for found in cluster.coverage.values())


def test_pairs_take_the_first_state_that_applies() -> None:
    """Absent, planned, uncovered, unknown, up, down, asymmetric: each hides those after it."""
    down_both = {"alpha": [(70, lost("bravo"))], "bravo": [(70, lost("alpha"))]}
    assert state(mesh(**down_both)).pair("bravo", "alpha") == "down"
    assert state(mesh(alpha=[(70, lost("bravo"))])).pair("alpha", "bravo") == "asymmetric"
    assert state(mesh(alpha=[(70, ev.NodeStarted(2))])).pair("alpha", "bravo") == "unknown"
    assert state(mesh(alpha=[(70, ev.NodeStarted(2)), (71, ev.NodeStopped(2))])).pair("alpha", "bravo") == "uncovered"
    stopped = [(70.0, ev.NodeStopped(2))]
    off = [(71.0, ev.MachineDisconnected("bravo"))]
    assert state(mesh(alpha=stopped, charlie=off)).pair("alpha", "bravo") == "planned"
    gone = [*off, (72.0, ev.MachineLeft("bravo", ("bravo#2",), 9, "removed"))]
    assert state(mesh(alpha=stopped, charlie=gone)).pair("alpha", "bravo") == "absent"
    assert ("alpha", "bravo") not in state(mesh(charlie=gone)).pairs


def test_one_link_unknown_makes_the_pair_unknown() -> None:
    """Also if the other is known to be down."""
    rows = mesh(alpha=[(70, ev.NodeStarted(2))], bravo=[(70, lost("alpha"))])
    assert state(rows).pair("alpha", "bravo") == "unknown"


def test_the_end_of_a_feed_decides_what_silence_means() -> None:
    """At one moment: a feed that ended leaves its links as they were until it covers no more; one that goes on does not."""
    rows = mesh()
    ended = state(rows, at=60 + 240)
    assert (ended.links["alpha", "bravo"].state, ended.pair("alpha", "bravo")) == ("up", "up")
    assert state(rows, at=60 + 240.000000001).pair("alpha", "bravo") == "uncovered"
    going_on = state(rows, at=60 + 150, ends=900)
    view = going_on.links["alpha", "bravo"]
    assert (view.state, view.since_ns, view.since_pos) == ("unknown", ns(210), "alpha#5")
    assert going_on.pair("alpha", "bravo") == "unknown"
    assert state(rows, at=60 + 149.999999999, ends=900).pair("alpha", "bravo") == "up"


def test_a_feed_that_resumes_with_a_start_had_crashed() -> None:
    """Then it covers 2.5 intervals after its last entry, and no more."""
    whole = fold(Cluster(), mesh())
    feed = imported("alpha")
    for at, covered in ((60 + 149, True), (60 + 150, False)):
        cluster = Cluster(whole.states, dict.fromkeys(whole.states, ns(900)), ns(at), resumed={feed})
        assert ("alpha" in cluster.covered) is covered
        assert "bravo" in cluster.covered


def test_the_highest_generation_of_settings_is_in_force() -> None:
    """Then the smaller machine name; a feed that is nobody's has no say."""
    rows = mesh(
        alpha=[(61, ev.SettingsChanged(2, 20_000))],
        bravo=[(61, ev.SettingsChanged(3, 40_000))],
        charlie=[(61, ev.SettingsChanged(3, 10_000))],
    )
    rows += told("mallory", (61, ev.SettingsChanged(99, 1)))
    cluster = state(rows)
    assert cluster.interval_ns == 40 * 10**9
    assert cluster.settings is not None
    assert cluster.settings.generation == 3
    assert state(mesh()).interval_ns == 60 * 10**9


def test_the_merged_interval_decides_silence_now() -> None:
    """A feed that never recorded settings is silent by those in force."""
    rows = mesh(bravo=[(61, ev.SettingsChanged(1, 1_000))])
    assert state(rows, at=62.5, ends=70).links["alpha", "bravo"].state == "unknown"


def test_communicating_follows_from_links() -> None:
    """One link up from either side suffices; all known down is no; else unknown."""
    cut = {"alpha": [(70, lost("bravo", "reset"))], "charlie": [(70, lost("bravo", "refused"))]}
    assert state(mesh(**cut)).machines["bravo"].communicating is True
    all_down = {**cut, "bravo": [(70, lost("alpha", "reset")), (70, lost("charlie", "timeout"))]}
    bravo = state(mesh(**all_down)).machines["bravo"]
    assert (bravo.communicating, bravo.cause) == (False, "reset")
    unsure = state(mesh(**cut, bravo=[(70, ev.NodeStarted(2))])).machines["bravo"]
    assert (unsure.communicating, unsure.cause) == (None, "refused")


def test_the_word_of_a_feed_that_covers_nothing_is_not_known() -> None:
    """A link that a feed last saw up, before its node stopped, neither proves nor refutes."""
    rows = mesh(
        alpha=[(70, lost("bravo"))],
        charlie=[(70, lost("bravo"))],
        bravo=[(70, ev.NodeStopped(1))],
    )
    assert state(rows).machines["bravo"].communicating is None


def test_the_only_member_communicates() -> None:
    """There is nobody it fails to talk to."""
    assert state(own("alpha")).machines["alpha"].communicating is True


@pytest.mark.parametrize(
    ("word", "cause"),
    [
        (ev.NameFailed("bravo.lab.example"), "name-unresolvable"),
        (ev.NameFailed("other.lab.example"), "timeout"),
        (ev.NameResolved("bravo.lab.example"), "timeout"),
        (ev.MachineDisconnected("bravo"), "disconnected"),
    ],
)
def test_the_cause_tells_plans_and_names_from_losses(word: ev.Event, cause: str) -> None:
    """A member that does not communicate says why, in the words of the contract, and is still a member."""
    rows = mesh(
        alpha=[(70, lost("bravo")), (71, word)],
        charlie=[(70, lost("bravo"))],
        bravo=[(70, lost("alpha")), (70, lost("charlie"))],
    )
    bravo = state(rows).machines["bravo"]
    assert (bravo.member, bravo.communicating, bravo.cause) == (True, False, cause)


def test_a_name_that_does_not_resolve_is_no_proof_of_silence() -> None:
    """While a link is up the member communicates, whatever DNS says."""
    rows = mesh(alpha=[(70, ev.NameFailed("bravo.lab.example"))])
    assert state(rows).machines["bravo"].communicating is True


def test_who_left_is_no_member_and_says_why() -> None:
    """A former member stays in the answer, with the cause and since when."""
    rows = mesh(charlie=[(90, ev.MachineLeft("bravo", ("bravo#2",), 9, "removed", "charlie"))])
    cluster = state(rows)
    bravo = cluster.machines["bravo"]
    assert (bravo.member, bravo.communicating, bravo.cause, bravo.since_pos) == (False, False, "removed", "charlie#7")
    assert cluster.members == ["alpha", "charlie"]
    assert set(cluster.links) == {("alpha", "charlie"), ("charlie", "alpha")}
    assert cluster.link("alpha", "bravo").state == "up"


def test_routes_go_round_what_is_down() -> None:
    """A pair that is down is bypassed; a machine that nobody reaches has no route; one that may be reached is unknown."""
    pair_down = {"alpha": [(70, lost("bravo"))], "bravo": [(70, lost("alpha"))]}
    assert state(mesh(**pair_down)).routes["alpha", "bravo"] == ("alpha", "charlie", "bravo")
    cut_off = {**pair_down, "charlie": [(70, lost("bravo"))]}
    assert state(mesh(**cut_off)).routes["alpha", "bravo"] is None
    maybe = {**pair_down, "charlie": [(70, ev.NodeStarted(2))]}
    assert state(mesh(**maybe)).routes["alpha", "bravo"] == "unknown"


def test_the_newest_epoch_with_entries_speaks() -> None:
    """A machine with two feeds is heard through the newer one; its pings are counted in both."""
    second = imported("alpha", 2)
    rows = mesh()
    assert state(rows + told(second, (70, lost("bravo")))).links["alpha", "bravo"].since_pos == "alpha.2#1"
    view = state(rows + told(second, (70, lost("bravo")))).links["alpha", "bravo"]
    assert (view.sent, view.lost, view.last_ping) == (1, 0, LastPing(ns(60), "answered", 900))
    view = state(rows + told(second, (70, ev.PingFailed("bravo", 1)))).links["alpha", "bravo"]
    assert (view.sent, view.lost, view.linkless, view.last_ping) == (2, 1, 1, LastPing(ns(70), "timeout", None))
    cluster = fold(Cluster(), rows)
    both = Cluster({**cluster.states, second: fold(Cluster(), told(second, (70, lost("bravo")))).states[second]}, at_ns=ns(80))
    assert both.coverage["alpha"].until_pos == "alpha.2#1"


def test_a_member_without_a_feed_is_uncovered() -> None:
    """Its coverage is null, its links are unknown since nothing, its pairs uncovered."""
    founder = keyed("alpha", "ed25519:a")
    join = ev.MachineJoined("bravo", ledger_key="ed25519:b")
    rows = told(founder, (0, CREATED), (0, ev.MachineJoined("alpha", ledger_key="ed25519:a")), (1, join))
    cluster = state(rows)
    assert cluster.coverage["bravo"] is None
    assert cluster.links["bravo", "alpha"] == UNSEEN
    view = cluster.links["alpha", "bravo"]
    assert (view.state, view.since_ns, view.since_pos, view.last_ping, view.good) == ("unknown", None, None, None, None)
    assert cluster.pairs == {("alpha", "bravo"): "uncovered"}
    assert cluster.routes["alpha", "bravo"] == "unknown"
    assert (cluster.name, cluster.transport, cluster.addressing) == ("lab", "ssh", "name")
    assert cluster.incarnation == founder.incarnation


def test_clusters_are_equal_by_content() -> None:
    """Whatever way they came about; and differ if moment, ends, states or doubts do."""
    rows = mesh()
    one = fold(Cluster(), rows)
    assert one == Cluster(one.states, dict.fromkeys(one.states, ns(60)), ns(60))
    feed = imported("alpha")
    for other in (
        Cluster(one.states, None, ns(61)),
        Cluster(one.states, {feed: ns(61)}, ns(60)),
        Cluster(one.states, None, ns(60), resumed={feed}),
        Cluster(one.states, None, ns(60), contradicted={feed}),
        fold(one, told("alpha", (60, ev.NoteAdded("x")), first=7)),
    ):
        assert one != other
    assert one != "cluster"
