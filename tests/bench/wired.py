"""Meshes of SSH links: ours and plain asyncssh with its defaults in one process, OpenSSH's own programs in theirs, over loopback.

A `Mesh` has so many listeners and n(n-1)/2 connections, all begun at once, one session in each. Both sides prove Ed25519 keys
of their own and each host key is checked; ours has its lean algorithms, callbacks and counting door, the peer what the
library does when nothing is said (but that neither looks at the user's own files). A ping is 64 bytes and their echo. What
is timed is what a guest waits for: from the first dial until every channel stands at both ends.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
from bench.peers import openssh_mesh

from ledger.node import ccs
from ledger.node.links import Limits, Link
from ledger.node.sshclient import key_text

PAYLOAD = b"p" * 64
PATIENCE_S = 120.0
IDLE_S = 5.0


def resident_kib() -> int:
    """The memory of this process now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


class Mesh:
    """Machines with their keys; `formed` after `form`. `ends`: the dialling end of each connection, as what sends."""

    def __init__(self, machines: int) -> None:
        self.hosts = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(machines)]
        self.dials = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(machines)]
        self.pairs = [(a, b) for b in range(machines) for a in range(b)]
        self.accepted = 0
        self.whole = asyncio.Event()
        self.ends: list[Callable[[bytes], None]] = []
        self.came: Callable[[bytes], None] = lambda _data: None

    def stands(self) -> None:
        """One more channel stands at its accepting end."""
        self.accepted += 1
        if self.accepted == len(self.pairs):
            self.whole.set()

    async def listen(self) -> None:
        """All listeners, before the clock runs."""
        raise NotImplementedError

    async def dial(self, a: int, b: int) -> Callable[[bytes], None]:
        """One connection with one session."""
        raise NotImplementedError

    async def form(self) -> float:
        """All connections at once; the seconds it took."""
        await self.listen()
        began = time.perf_counter()
        async with asyncio.timeout(PATIENCE_S):
            self.ends = await asyncio.gather(*(self.dial(a, b) for a, b in self.pairs))
            await self.whole.wait()
        return time.perf_counter() - began


class _Echo:
    """The accepting end of ours: sends back what comes."""

    def __init__(self, link: Link) -> None:
        self.received = link.send

    def closed(self, reason: str, detail: str) -> None:
        """Nobody asks."""


class _Taker:
    """The dialling end of ours."""

    def __init__(self, mesh: Mesh) -> None:
        self.received: Callable[[bytes], None] = lambda data: mesh.came(data)  # noqa: PLW0108 - `came` changes with each ping

    def closed(self, reason: str, detail: str) -> None:
        """Nobody asks."""


class Ours(Mesh):
    """Links of the transport `ccs`, as the node has them."""

    async def listen(self) -> None:
        """A door for each machine."""
        known = {key_text(key) for key in self.dials}

        def take(link: Link) -> _Echo:
            self.stands()
            return _Echo(link)

        self.doors = [
            await ccs.listen(
                "127.0.0.1", 0, host_key=host, allow=lambda key, _address: "member" if key in known else None, handler=take,
                limits=Limits(login_s=PATIENCE_S),
            )
            for host in self.hosts
        ]  # fmt: skip

    async def dial(self, a: int, b: int) -> Callable[[bytes], None]:
        """A link from `a` to `b`."""
        link = await ccs.dial(
            "127.0.0.1", self.doors[b].port, dial_key=self.dials[a], host_keys=[key_text(self.hosts[b])], timeout_s=PATIENCE_S,
            handler=lambda _link: _Taker(self),
        )  # fmt: skip
        return link.send


class _Server(asyncssh.SSHServer):
    def __init__(self, mesh: Plain) -> None:
        self.mesh = mesh

    def session_requested(self) -> _Answering:
        return _Answering(self.mesh)


class _Answering(asyncssh.SSHServerSession[bytes]):
    def __init__(self, mesh: Plain) -> None:
        self.mesh = mesh

    def connection_made(self, chan: Any) -> None:
        self.channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "mesh"

    def session_started(self) -> None:
        self.mesh.stands()

    def data_received(self, data: bytes, datatype: int | None) -> None:  # noqa: ARG002 - one stream
        self.channel.write(data)


class _Asking(asyncssh.SSHClientSession[bytes]):
    def __init__(self, mesh: Plain) -> None:
        self.mesh = mesh

    def data_received(self, data: bytes, datatype: int | None) -> None:  # noqa: ARG002 - one stream
        self.mesh.came(data)


class Plain(Mesh):
    """asyncssh, its algorithms, windows and time-outs as they come."""

    async def listen(self) -> None:
        """A server for each machine."""
        keys = asyncssh.import_authorized_keys("\n".join(key_text(key) for key in self.dials))
        self.servers = [
            await asyncssh.listen(
                "127.0.0.1", 0, server_factory=lambda: _Server(self), server_host_keys=[host], authorized_client_keys=keys,
                encoding=None, config=None,
            )
            for host in self.hosts
        ]  # fmt: skip
        self.open: list[asyncssh.SSHClientConnection] = []

    async def dial(self, a: int, b: int) -> Callable[[bytes], None]:
        """A connection from `a` to `b` and its session."""
        host = asyncssh.import_public_key(key_text(self.hosts[b]))
        connection = await asyncssh.connect(
            "127.0.0.1", self.servers[b].get_port(), username="mesh", client_keys=[self.dials[a]],
            known_hosts=([host], [], []), agent_path=None, config=None,
        )  # fmt: skip
        channel, _ = await connection.create_session(lambda: _Asking(self), subsystem="mesh", encoding=None)
        self.open.append(connection)
        return channel.write


KINDS = {"ours": Ours, "asyncssh": Plain}


def formed(who: str, machines: int) -> dict[str, Any]:
    """Seconds until the mesh stood, and what one idle link takes, both ends: KiB, and microseconds of processor time a minute. A
    link is formed before, so that nobody pays for what is loaded late.
    """

    def a_minute(used_s: float, mesh: Any) -> float:
        return used_s / len(mesh.pairs) / IDLE_S * 60e6

    async def opened() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            async with openssh_mesh.raised(machines, Path(folder)) as mesh:
                before = openssh_mesh.share_kib(mesh.processes())
                took = await mesh.form()
                await asyncio.sleep(0.5)
                held = openssh_mesh.share_kib(mesh.processes()) - before
                used = openssh_mesh.used_s(mesh.processes())
                await asyncio.sleep(IDLE_S)
                used = openssh_mesh.used_s(mesh.processes()) - used
                return {"seconds": took, "kib": held / len(mesh.pairs), "idle_us": a_minute(used, mesh), "answer": len(mesh.ends)}

    async def measured() -> dict[str, Any]:
        first = KINDS[who](2)
        await first.form()
        mesh = KINDS[who](machines)
        gc.collect()
        gc.freeze()
        before = resident_kib()
        took = await mesh.form()
        gc.collect()
        await asyncio.sleep(0.5)
        kib = (resident_kib() - before) / len(mesh.pairs)
        used = time.process_time()
        await asyncio.sleep(IDLE_S)
        used = time.process_time() - used
        return {"seconds": took, "kib": kib, "idle_us": a_minute(used, mesh), "answer": mesh.accepted}

    return asyncio.run(opened() if who == "openssh" else measured())


def pinged(who: str, pings: int) -> dict[str, Any]:
    """Processor time of a round trip, both ends, in microseconds, and how long it took at half; one link, one at a time."""

    async def opened() -> dict[str, Any]:
        took, answered = [], 0
        with tempfile.TemporaryDirectory() as folder:
            async with openssh_mesh.raised(2, Path(folder)) as mesh:
                await mesh.form()
                processes = mesh.processes()
                used = openssh_mesh.used_s(processes)
                for _ in range(pings):
                    began = time.perf_counter()
                    answered += await mesh.echo(mesh.ends[0], PAYLOAD) == PAYLOAD
                    took.append(time.perf_counter() - began)
                used = openssh_mesh.used_s(processes) - used
        return {"cpu_us": used / pings * 1e6, "p50_us": statistics.median(took) * 1e6, "answer": answered}

    async def measured() -> dict[str, Any]:
        mesh = KINDS[who](2)
        await mesh.form()
        loop, took, answered = asyncio.get_running_loop(), [], 0
        gc.collect()
        gc.freeze()
        used = 0.0
        for number in range(pings + 200):
            if number == 200:  # what comes before warms up
                used = time.process_time()
            waiter: asyncio.Future[bytes] = loop.create_future()
            mesh.came = waiter.set_result
            began = time.perf_counter()
            mesh.ends[0](PAYLOAD)
            answered += await asyncio.wait_for(waiter, 10) == PAYLOAD
            took.append(time.perf_counter() - began)
        used = time.process_time() - used
        return {"cpu_us": used / pings * 1e6, "p50_us": statistics.median(took[200:]) * 1e6, "answer": answered - 200}

    return asyncio.run(opened() if who == "openssh" else measured())


def simulated(machines: int, hours: int) -> dict[str, Any]:
    """Seconds in which so many machines of cores lived so many hours with a dozen faults, and what they recorded."""
    from ledger.node.simulation import simulate
    from replay.living import remembered

    began = time.perf_counter()
    run = simulate(1, views=remembered, machines=machines, seconds=hours * 3600, faults=12)
    took = time.perf_counter() - began
    entries = sum(len(log) for name, node in run.nodes.items() for feed, log in node.disk.items() if feed.machine == name)
    return {"seconds": took, "days": machines * run.world.now_ns / 86400e9, "entries": entries, "answer": run.unsettled()}


TASKS = {task.__name__: task for task in (formed, pinged, simulated)}
