"""Real nodes with names that lead nowhere or to somebody else, and then all at once without power."""

import signal

import pytest
from naming import Names
from raised import linked, raised, wait_for

from ledger.node.confirming import PATIENCE_NS
from replay.check import verify

HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
NOBODY = "127.0.0.9"
BRAVO = "bravo.lab.example"
PATIENT = PATIENCE_NS - 1_000_000_000
"""Whoever is greeted within so long of its start has been, beyond doubt, before its patience was at an end."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """Three nodes, linked, each at an address of its own, all at one port; and the DNS server that they ask. A link is not lost
    over some late pings: beside a whole suite these come late, and a mesh of which some link is always down is not linked.
    """
    names = Names()
    nodes = raised(
        tmp_path_factory.mktemp("names"),
        3,
        addressing="name",
        hosts=HOSTS,
        dns=(names.server,),
        interval_ms=1000,
        timeout_ms=1000,
        lost_after=20,
    )
    for node, host in zip(nodes, HOSTS, strict=True):
        names.responder.table.address(f"{node.name}.lab.example", host, ttl_s=1)
    try:
        for node in nodes:
            node.run()
        wait_for(lambda: linked(nodes), 150, 0.2)
        yield nodes, names.responder.table
    finally:
        for node in nodes:
            if node.process is not None:
                node.kill()
        names.close()


def failed(node, peer, culprit=None):
    """The reasons for which `peer` and this node were not linked; without a culprit where it was this node that dialled."""
    return {event.reason for event in node.events("link.failed") if (event.peer, event.culprit) == (peer, culprit)}


def test_a_name_that_leads_elsewhere_links_nobody_in_either_direction(mesh):
    """Bravo starts again while its name leads to an address where nobody listens, then to charlie's: nobody reaches it there,
    and nobody lets it in, each for `name-points-elsewhere`; no longer resolving is `name-unresolvable`, both ways too. With the
    name right it is linked with nobody's help, and was a member all the time.
    """
    (alpha, bravo, charlie), table = mesh
    bravo.kill()
    seen = set()
    for reason, change in (
        ("name-points-elsewhere", lambda: table.address(BRAVO, NOBODY, ttl_s=1)),
        ("name-unresolvable", lambda: table.behave(BRAVO, "nxdomain")),
    ):
        change()
        # Both have dialled, and so looked it up anew: what they knew of its name before is good for as long as DNS said, and
        # whoever is back within that time is let in.
        for node in (alpha, charlie):
            wait_for(lambda reason=reason, node=node: reason in failed(node, "bravo"), 90, 0.2)
        if bravo.process is None:
            bravo.run()
        wait_for(lambda reason=reason: reason in failed(alpha, "bravo", "bravo"), 90, 0.2)  # alpha is dialled, and looks
        wait_for(lambda reason=reason: reason in failed(bravo, "alpha", "bravo"), 90, 0.2)  # bravo is told so
        seen |= {(name, peer["linked"]) for name, peer in alpha.ask("status")["members"].items() if name != "alpha"}
    assert seen == {("bravo", False), ("charlie", True)}
    table.address(BRAVO, HOSTS[2], ttl_s=1)
    wait_for(lambda: any("charlie answers" in event.detail for event in alpha.events("link.failed")), 90, 0.2)
    table.address(BRAVO, HOSTS[1], ttl_s=1)
    wait_for(lambda: linked([alpha, bravo, charlie]), 150, 0.2)
    assert alpha.events("machine.left") == []


def test_a_power_cut_of_all_machines(mesh):
    """All killed at once, and started again: each asks others that are still asking themselves, all are linked again, with every
    record whole, and in the epoch that they had, but for one that a busy machine kept from any link until its patience ended:
    that is told from its record.
    """
    nodes, _table = mesh

    def count(kind):
        return [len(node.events(kind)) for node in nodes]

    starts, epochs = count("node.started"), [node.events("feed.opened") for node in nodes]
    for node in nodes:
        node.process.kill()
    for node in nodes:
        node.kill()
        node.run()
    wait_for(lambda: linked(nodes), 150, 0.2)
    wait_for(lambda: all(node.ask("status")["state"] == "running" for node in nodes), 90, 0.2)
    assert count("node.started") == [1 + each for each in starts]
    for node, before in zip(nodes, epochs, strict=True):
        opened = [event.why for event in node.events("feed.opened")[len(before) :]]
        assert opened == [] or (opened == ["unconfirmed"] and node.waited() > PATIENT)
        assert node.kill(signal.SIGTERM) == 0
        assert node.events("machine.left", "cluster.dissolved") == []
    assert verify([node.folder.ledger for node in nodes]).problems == []
