"""What breaks among real nodes, and how it is made sure that it did: the faults of storey B, each with its bite.

A fault has happened when it was felt: when somebody wanted to go a way that was cut, asked for the name that did not resolve, was
turned away at the limit, or could not write. One that is asked for and was never felt is an error of the run, not a success.
Each is a `Fault` as in `simulation`, and a story of its own here: begin, wait, end. When all have ended the world is left alone
for some intervals; then `unsettled` says what does not hold, and every node ends in order. Effects: those of the nodes.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import asyncssh
from msgspec.structs import replace

from ledger.events import SettingsChanged
from ledger.node.daemon import Views
from ledger.node.dice import Dice
from ledger.node.doors import FULL
from ledger.node.responder import Behaviour
from ledger.node.simulation import NAMES, Fault, schedule
from ledger.node.state import SECOND
from ledger.node.virtual_daemons import QUIET_INTERVALS, NodesRun, RealNode
from ledger.node.virtual_loop import VirtualLoop

NODE_FAULTS: Final = (
    "cut", "one-way", "reset", "delay", "loss", "stop", "restart", "power-cut", "power-cut-all", "clock-step", "stall",
    "dns-nxdomain", "dns-timeout", "dns-servfail", "dns-nodata", "dns-elsewhere", "connection-limit", "disk-full",
    "disconnect", "rename",
)  # fmt: skip
LENGTHS_S: Final = (90, 200, 400)
"""Shorter ones need not be felt by machines that speak once a minute."""
_DNS: Final[dict[str, Behaviour]] = {"nxdomain": "nxdomain", "timeout": "silent", "servfail": "servfail", "nodata": "nodata"}
_PATIENCE_S: Final = 3600


class Breaks:
    """The stories of faults."""

    def __init__(self, run: NodesRun) -> None:
        self.run = run
        self.net = run.net
        self.dice: Dice = run.dice.fork()
        self.names = list(run.nodes)

    async def tell(self, fault: Fault) -> None:
        """Let one fault begin at its time, and end; count it if it was felt."""
        await asyncio.sleep(fault.at_s)
        a, b = (self.run.nodes[self.names[each % len(self.names)]] for each in (fault.a, fault.b))
        word = fault.word.removeprefix("dns-")
        story: Any = getattr(self, f"_{'dns' if word != fault.word else word.replace('-', '_')}")
        if await story(a, b, fault.for_s, word):
            self.run.coverage[fault.word] += 1

    async def _cut(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:
        ways = [(a.address, b.address), (b.address, a.address)][: 1 if word == "one-way" else 2]
        before = sum(self.net.bitten[*way, "cut"] for way in ways)
        self.net.cuts.update(ways)
        await asyncio.sleep(for_s)
        self.net.cuts.difference_update(ways)
        self.net.heal()
        return sum(self.net.bitten[*way, "cut"] for way in ways) > before

    async def _one_way(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:
        return await self._cut(a, b, for_s, word)

    async def _reset(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002 - at once
        """Something between resets what they have open; what is just being made, too."""
        return self._resets(a, b) > 0

    def _resets(self, a: RealNode, b: RealNode) -> int:
        ends = self.net.between(a.address, b.address)
        for stream in ends:
            self.run.loop.call_soon(stream.reset)
            self.run.loop.call_soon(stream.peer.reset)
        return len(ends)

    async def _delay(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002 - everywhere
        before = self.net.bitten["", "", "delay"]
        self.net.slow_s += 0.4
        await asyncio.sleep(for_s)
        self.net.slow_s = max(0.0, round(self.net.slow_s - 0.4, 6))
        return self.net.bitten["", "", "delay"] > before

    async def _loss(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002 - everywhere
        before = self.net.bitten["", "", "loss"]
        self.net.lossy += 0.1
        await asyncio.sleep(for_s)
        self.net.lossy = max(0.0, round(self.net.lossy - 0.1, 6))
        return self.net.bitten["", "", "loss"] > before

    async def _stop(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002
        """An orderly end, and another start."""
        if a.daemon is None or a.daemon.dead:
            return False
        await a.stop()
        await asyncio.sleep(for_s)
        a.start()
        return True

    async def _restart(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002
        """The process is killed, and started again."""
        if not await a.kill():
            return False
        await asyncio.sleep(for_s)
        a.start()
        return True

    async def _power_cut(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002
        return await self._without_power([a], for_s)

    async def _power_cut_all(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002
        return await self._without_power(list(self.run.nodes.values()), for_s)

    async def _without_power(self, nodes: list[RealNode], for_s: int) -> bool:
        off = [node for node in nodes if await node.kill(power=True)]
        await asyncio.sleep(for_s)
        for node in off:
            node.power_on(self.dice)
            node.start()
        return bool(off)

    async def _clock_step(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002
        a.offset_ns += (for_s if self.names.index(b.name) % 2 else -for_s) * SECOND
        return a.daemon is not None

    async def _stall(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002
        """The process stands still, while its kernel goes on."""
        daemon = a.daemon
        if daemon is None:
            return False
        daemon.held_up_until = self.run.loop.time() + for_s
        a.host.stalled = True
        await asyncio.sleep(for_s)
        self.net.wake(a.address)
        return not daemon.dead

    async def _dns(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:
        """What a's name server says of b; its connections to b are reset, so that it has to ask."""
        core = a.daemon.mesh.core if a.daemon is not None else None
        member = core.member(b.name) if core is not None else None
        name = (member.hostname if member is not None else None) or b.hostname
        before, table = a.responder.asked[name, "A"], a.responder.table
        if word == "elsewhere":
            elsewhere = next(node for node in self.run.nodes.values() if node not in {a, b})
            table.address(name, elsewhere.address)
        else:
            table.behave(name, _DNS[word])
        self._resets(a, b)
        await asyncio.sleep(for_s)
        table.address(name, b.address)
        return a.responder.asked[name, "A"] > before

    async def _connection_limit(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002
        """A listener takes nobody more, and drops whom it has: a's, or another's if all of a's links were dialled by itself."""
        running = [node.daemon for node in (a, b, *self.run.nodes.values()) if node.daemon is not None]
        listener = next((each.listener for each in running if each.listener is not None and each.listener.proved), None)
        if listener is None:
            return False
        limits, dropped = listener.limits, listener.counts["refused-limit"]
        listener.limits = replace(limits, connections=0)
        for server in list(listener.proved):
            dropped -= 1
            server._connection.disconnect(asyncssh.DISC_TOO_MANY_CONNECTIONS, FULL)  # noqa: SLF001 - as it does itself
        await asyncio.sleep(for_s)
        listener.limits = limits
        return bool(listener.counts["refused-limit"] > dropped)

    async def _disk_full(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002
        """The file may not grow: SQLite refuses as it does on a full disk. It lasts from the first refusal on, over restarts."""
        full_until = None
        packed = None
        for _ in range(_PATIENCE_S):
            daemon, now = a.daemon, self.run.loop.time()
            if full_until is not None and now >= full_until:
                break
            if daemon is not None and not daemon.dead:
                if packed is not daemon:
                    daemon.ledger._connection.execute("vacuum")  # noqa: SLF001 - or the pages set free would last for hours
                    packed = daemon
                daemon.ledger._connection.execute("pragma max_page_count=1")  # noqa: SLF001 - the least it takes: what there is
                if daemon.full and full_until is None:
                    full_until = now + for_s
            await asyncio.sleep(1)
        if a.daemon is not None and not a.daemon.dead:
            a.daemon.ledger._connection.execute("pragma max_page_count=1073741823")  # noqa: SLF001
        return full_until is not None

    async def _disconnect(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:
        said = await a.command(word, b.name)
        await asyncio.sleep(for_s)
        for _ in range(60):  # until nobody believes in it any more
            cores = [node.daemon.mesh.core for node in self.run.nodes.values() if node.daemon is not None]
            if b.daemon is not None and b.name in b.daemon.mesh.core.snapshot.planned:
                await b.command("reconnect", b.name)
            elif b.daemon is not None and all(b.name not in core.snapshot.planned for core in cores):
                break
            await asyncio.sleep(60)
        return bool(said and said["ok"])

    async def _rename(self, a: RealNode, b: RealNode, for_s: int, word: str) -> bool:  # noqa: ARG002
        """A new main host name, in DNS before it is used or (forced) only later."""
        name, forced = f"{a.name}-{round(self.run.loop.time())}.lab.example", not self.names.index(b.name) % 2

        def known() -> None:
            for node in self.run.nodes.values():
                node.responder.table.address(name, a.address)

        if not forced:
            known()
        said = await a.command("sethostname", a.name, hostname=name, force=forced)
        await asyncio.sleep(for_s)
        known()
        return bool(said and said["ok"])


def simulate_nodes(
    seed: int, folder: Path, *, views: Views, machines: int = 3, seconds: int = 600, faults: int | Sequence[Fault] = 6,
    words: Sequence[str] = NODE_FAULTS, settings: SettingsChanged | None = None, address: bool = False,
) -> NodesRun:  # fmt: skip
    """Let so many real nodes live in this empty folder for so many virtual seconds, with so many faults (or just these), and then
    in quiet. `views`: makes the fold of a node's record, such as `replay.living.view`. Raises AssertionError if a fault that was
    asked for was never felt.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)  # noqa: S101 - it is what the factory makes
        with loop.clocks():
            run = NodesRun(
                loop, seed, folder, views, NAMES[:machines], settings=settings or SettingsChanged(1),
                addressing="address" if address else "name",
            )  # fmt: skip
            planned = (
                schedule(run.dice.fork(), machines, seconds, faults, words, lengths_s=LENGTHS_S)
                if isinstance(faults, int) else list(faults)
            )  # fmt: skip
            runner.run(_lived(run, planned, seconds))
    gc.collect()
    missing = {fault.word for fault in planned} - set(run.coverage)
    if missing:
        raise AssertionError(f"never happened: {', '.join(sorted(missing))}")
    return run


async def _lived(run: NodesRun, planned: Sequence[Fault], seconds: int) -> None:
    breaks = Breaks(run)
    until = run.loop.time() + seconds
    for node in run.nodes.values():
        run.loop.call_later(run.dice.below(2000) / 1000, node.start)
    await asyncio.gather(*(breaks.tell(fault) for fault in planned))
    await asyncio.sleep(max(0.0, until - run.loop.time()))
    await asyncio.sleep(QUIET_INTERVALS * run.interval_ns / 1e9)
    run.unsettled = run.look()
    await asyncio.gather(*(node.stop() for node in run.nodes.values()))
