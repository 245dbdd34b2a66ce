"""Links that do not last: a mesh that is too busy to answer in time must not keep itself busy with its own losses."""

from __future__ import annotations

from ledger.events import SettingsChanged
from ledger.node.linking import STEADY_NS
from ledger.node.state import SECOND
from ledger.node.virtual import World
from replay.living import remembered

STEP = SECOND // 20


def linked(world: World) -> bool:
    """Whether both sides of the only pair have their link."""
    cores = [node.mesh.core for node in world.nodes.values() if node.mesh is not None]
    return len(cores) == 2 and all(peer.channel is not None for core in cores for peer in core.peers.values())


def until_linked(world: World, patience_s: int = 120) -> float:
    """Let time pass until the pair is linked; how many seconds it took."""
    began = world.now_ns
    while not linked(world):
        assert world.now_ns - began < patience_s * SECOND
        world.run(world.now_ns + STEP)
    return (world.now_ns - began) / SECOND


def test_links_that_do_not_last_are_tried_ever_less_often():
    """With an interval of 250 ms a link that is lost once is back within two seconds. One that is lost over and over, each time
    soon after it came to stand, is tried ever less often, up to half a minute apart; and once one has stood, back at once again.
    """
    world = World(5, remembered, ("alpha", "bravo"), settings=SettingsChanged(1, 250, 125))
    alpha, _bravo = world.nodes.values()
    for node in world.nodes.values():
        node.start()
    until_linked(world)
    world.run(world.now_ns + 2 * STEADY_NS)
    pauses = []
    for _ in range(10):
        world.hang_up(alpha)
        world.run(world.now_ns + SECOND // 10)
        pauses.append(until_linked(world))
        world.run(world.now_ns + SECOND)
    assert max(pauses[:2]) <= 2.5
    assert min(pauses[-3:]) >= 14
    assert max(pauses) <= 31
    world.run(world.now_ns + 2 * STEADY_NS)
    world.hang_up(alpha)
    world.run(world.now_ns + SECOND // 10)
    assert until_linked(world) <= 2.5


def test_drops_at_the_limit_heal_within_seconds_however_often():
    """A link that the connection limit drops is back within seconds each time, though it never stands for long."""
    world = World(6, remembered, ("alpha", "bravo"), settings=SettingsChanged(1, 250, 125))
    alpha, bravo = world.nodes.values()
    for node in world.nodes.values():
        node.start()
    until_linked(world)
    for _ in range(12):
        for node in (alpha, bravo):
            world.hang_up(node, "connection-limit")
        world.run(world.now_ns + SECOND // 10)
        assert until_linked(world) <= 4
        world.run(world.now_ns + SECOND)
