"""What is left of a farewell once its machine has joined anew: nothing that stands in the way of a link."""

from ledger.node import linking
from ledger.node.state import SECOND, Untold
from ledger.testing import simulate
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
