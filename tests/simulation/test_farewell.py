"""Telling a machine that it was removed while it was away: every address, after a restart too, and never in the way of a link."""

from ledger.node import linking
from ledger.node.farewell import FOR_NS
from ledger.node.signals import Dial
from ledger.node.state import SECOND, Untold
from ledger.testing import Fault, simulate
from replay.living import remembered


def test_who_has_joined_anew_is_linked_though_a_farewell_was_planned():
    """Alpha still means to tell bravo of a removal that a new join has ended: alpha dials, and is linked all the same."""
    run = simulate(3, views=remembered, machines=2, seconds=120, faults=[])
    alpha, bravo = run.nodes.values()
    core = alpha.mesh.core
    because = linking.place_of(core, core.snapshot.membership.machines["bravo"].since)
    core.untold["bravo"] = Untold("bravo", because, core.now.mono_ns + 86_400 * SECOND)
    bravo.mesh.core.redial = lambda _peer: None  # so that it is alpha that dials
    run.world.hang_up(bravo)
    run.world.run(run.world.now_ns + 20 * SECOND)
    assert core.peers["bravo"].channel is not None


def test_of_several_addresses_each_is_tried_in_its_turn(monkeypatch):
    """Charlie, removed while it was cut off, has two addresses, and at the first nobody listens: the second is dialled too."""
    run = simulate(4, views=remembered, machines=3, seconds=120, faults=[])
    alpha, _bravo, charlie = run.nodes.values()
    world, core, dialled = run.world, alpha.mesh.core, []
    for other in (0, 1):
        run.break_(Fault(world.now_ns // SECOND, "cut", other, 2, 900))
    world.run(world.now_ns + 200 * SECOND)
    world.table[charlie.hostname] = ("answered", ("192.0.2.250", charlie.address))
    run.command(alpha, "remove", "charlie")
    do = core.do
    monkeypatch.setattr(core, "do", lambda action: (dialled.append(action), do(action)))
    world.run(world.now_ns + 400 * SECOND)
    addresses = [each.address for each in dialled if isinstance(each, Dial)]
    assert addresses[:4] == ["192.0.2.250", charlie.address] * 2


def test_a_restart_of_who_removed_it_takes_the_farewell_up_again():
    """Alpha removes charlie, which is cut off, and loses its power. Up again it tells charlie, which ends; of a removal that is
    older than a day it tells nobody.
    """
    run = simulate(5, views=remembered, machines=3, seconds=120, faults=[])
    alpha, _bravo, charlie = run.nodes.values()
    world = run.world
    for other, for_s in ((0, 300), (1, 3000)):  # so that it is from alpha that it hears
        run.break_(Fault(world.now_ns // SECOND, "cut", other, 2, for_s))
    world.run(world.now_ns + 200 * SECOND)
    run.command(alpha, "remove", "charlie")
    world.run(world.now_ns + 2 * SECOND)
    alpha.crash()
    alpha.start()
    assert alpha.mesh.core.untold
    assert charlie.mesh.core.state == "running"
    world.run(world.now_ns + 900 * SECOND)
    assert charlie.mesh is None or charlie.mesh.core.state == "stopping"
    assert not alpha.mesh.core.untold
    world.run(world.now_ns + FOR_NS)
    alpha.crash()
    alpha.start()
    assert not alpha.mesh.core.untold
