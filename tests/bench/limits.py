"""How soon a link that the limit of connections ended stands again, once there is room: nobody does anything about it.

A cluster of processes, with wires between them that turn away above a limit as a server does (`replay.demo_wires`). One machine
may be connected with one fewer than there are; the one that is dropped dials in vain, for some seconds drawn at random. Then
the limit is lifted, and both ledgers say when the link stood: what is told lies between these two instants of one wall clock.
There is no peer: OpenSSH and asyncssh dial once, and Serf has no connections that could be dropped.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench.peers.contestant import Absent

from ledger.events import LinkEstablished
from ledger.node.simulation import NAMES
from ledger.store import Ledger
from replay.demo_mesh import Cluster, Commands, host
from replay.demo_story import OVER
from replay.demo_wires import Wires

BLOCK = 79
"""The second octet of the machines' addresses."""
TIMES = 5
STEADY_S = 11.0
"""A link that stood so long was a good one (`linking.STEADY_NS`): those that do not last are another matter."""
VAIN_S = 4.0
"""So long at most the dials are in vain."""


def limited(who: str, folder: str, machines: int) -> dict[str, Any]:
    """Seconds from the room to the link at both ends, at half and at worst; `answer`: how often. Raises Absent if `who` is not
    ours.
    """
    if who != "ours":
        raise Absent("dials once")
    path = Path(folder)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        took = asyncio.run(_dropped(path, NAMES[:machines]))
    finally:
        shutil.rmtree(path, ignore_errors=True)
    return {"p50": statistics.median(took), "max": max(took), "answer": len(took)}


async def _dropped(folder: Path, names: tuple[str, ...]) -> list[float]:
    """The link between the first machine and the last by name, dropped again and again."""
    full, dropped = names[0], names[-1]
    ends = (full, dropped), (dropped, full)
    dice = random.Random(len(names))
    took = []
    async with AsyncExitStack() as stack:
        wires = await stack.enter_async_context(Wires(names, BLOCK))
        commands = Commands(folder)
        stack.push_async_callback(commands.end_all)
        cluster = Cluster(commands, wires, names)

        def away() -> bool:
            """Whether a dial was turned away, by the record of whoever dialled, and neither is linked with the other."""
            turned = any(cluster.wrote(a, "link.failed", "limit", peer=b, reason=OVER) for a, b in ends)
            return turned and cluster.apart(full, dropped)

        for name in names:
            wires.publish(host(name), name)
        await cluster.found("limits")
        for name in names[1:]:
            await cluster.join(name)
        await cluster.until("all are linked", lambda: cluster.linked(*names))
        for _ in range(TIMES):
            await asyncio.sleep(STEADY_S)
            cluster.mark("limit")
            wires.limit(full, len(names) - 2)
            await cluster.until("a dial was turned away", away)
            await asyncio.sleep(dice.uniform(0.0, VAIN_S))
            room = time.time_ns()
            wires.limit(full, None)
            await cluster.until("they are linked again", lambda: cluster.linked(full, dropped))
            took.append((max(_linked(cluster.ledger(a), a, b, room) for a, b in ends) - room) / 1e9)
        await cluster.stop()
    return took


def _linked(path: Path, machine: str, peer: str, since_ns: int) -> int:
    """When a machine first recorded since then, in its own feed, that it is linked with a peer."""
    with Ledger.open(path) as ledger:
        return min(
            entry.at_ns for feed in ledger.feeds() if feed.machine == machine for entry in ledger.read(feed)
            if isinstance(entry.event, LinkEstablished) and entry.event.peer == peer and entry.at_ns >= since_ns
        )  # fmt: skip


TASKS = {"limited": limited}
