"""Meshes of OpenSSH's own programs, as somebody would build one without writing any SSH: an `sshd` a machine, an `ssh` a pair.

Each has its own keys and its own configuration; the subsystem `mesh` of every server is `cat`. A connection is two processes of
the dialler's and the server's side and the `cat`, so what it takes is memory and processor time of processes, not of a process:
the proportional share of each, and the time that each used. Nothing of the machine's own SSH configuration is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.peers.contestant import Absent

PATIENCE_S = 120.0
HOST = "127.0.0.1"
TICKS = os.sysconf("SC_CLK_TCK")


def program(name: str) -> str:
    """Its path. Raises Absent where it is not installed."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise Absent(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return int(taken.getsockname()[1])


def below(roots: list[int]) -> list[int]:
    """These processes and all that came of them."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(folder.name))
    found, left = [], list(roots)
    while left:
        found.append(left.pop())
        left += parents.get(found[-1], [])
    return found


def share_kib(processes: list[int]) -> int:
    """The proportional share of memory (PSS) of these processes, in KiB."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def used_s(processes: list[int]) -> float:
    """The processor time of these processes so far, in seconds."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


class OpenSSH:
    """A mesh of so many machines in a folder. Use `raised()`; then `form()`, once."""

    def __init__(self, machines: int, folder: Path) -> None:
        self.folder = folder
        self.pairs = [(a, b) for b in range(machines) for a in range(b)]
        self.machines = machines
        self.servers: list[subprocess.Popen[bytes]] = []
        self.ports: list[int] = []
        self.ends: list[asyncio.subprocess.Process] = []
        self.sshd, self.ssh, self.keygen = program("sshd"), program("ssh"), program("ssh-keygen")

    def key(self, name: str) -> Path:
        """A new Ed25519 key."""
        path = self.folder / name
        subprocess.run([self.keygen, "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        return path

    def listen(self) -> None:
        """A server for each machine, which takes the key of every other; they stand when this returns."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd, run by root, locks its child in
        hosts = [self.key(f"host{n}") for n in range(self.machines)]
        dials = [self.key(f"dial{n}") for n in range(self.machines)]
        allowed = self.folder / "allowed"
        allowed.write_text("".join(key.with_suffix(".pub").read_text() for key in dials))
        known = []
        for number, host in enumerate(hosts):
            port = free_port()
            config = self.folder / f"sshd{number}"
            config.write_text(
                f"Port {port}\nListenAddress {HOST}\nHostKey {host}\nPidFile none\nUsePAM no\nStrictModes no\nLogLevel ERROR\n"
                f"PermitRootLogin prohibit-password\nPasswordAuthentication no\nAuthorizedKeysFile {allowed}\n"
                f"MaxStartups 1000\nUseDNS no\nSubsystem mesh {program('cat')}\n"
            )
            self.servers.append(
                subprocess.Popen([self.sshd, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            self.ports.append(port)
            known.append(f"[{HOST}]:{port} {host.with_suffix('.pub').read_text()}")
        (self.folder / "known").write_text("".join(known))
        until = time.monotonic() + PATIENCE_S
        for port in self.ports:
            while True:
                with socket.socket() as asking:
                    if asking.connect_ex((HOST, port)) == 0:
                        break
                if time.monotonic() > until:
                    raise Absent("an sshd did not come up")
                time.sleep(0.01)

    async def dial(self, a: int, b: int) -> asyncio.subprocess.Process:
        """A connection from `a` to `b`, whose `mesh` has answered one byte."""
        end = await asyncio.create_subprocess_exec(
            self.ssh, "-F", "none", "-T", "-a", "-x", "-p", str(self.ports[b]), "-i", str(self.folder / f"dial{a}"),
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.folder / 'known'}",
            "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR",
            f"{getpass.getuser()}@{HOST}", "-s", "mesh",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.ends.append(end)
        if await self.echo(end, b"!") != b"!":
            raise Absent(f"ssh from {a} to {b} ended")
        return end

    async def echo(self, end: asyncio.subprocess.Process, data: bytes) -> bytes:
        """What comes back of these bytes; what is missing of them, if the other side is gone."""
        assert end.stdin is not None
        assert end.stdout is not None
        end.stdin.write(data)
        try:
            return await end.stdout.readexactly(len(data))
        except asyncio.IncompleteReadError as cut:
            return cut.partial

    async def form(self) -> float:
        """All connections at once; the seconds it took."""
        began = time.perf_counter()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(self.dial(a, b) for a, b in self.pairs))
        return time.perf_counter() - began

    def processes(self) -> list[int]:
        """All of it: servers, their children, clients."""
        return below([server.pid for server in self.servers] + [end.pid for end in self.ends])

    async def close(self) -> None:
        """Ends every process that was begun."""
        for end in self.ends:
            with contextlib.suppress(ProcessLookupError):
                end.kill()
        for end in self.ends:
            await end.wait()
        for server in self.servers:
            server.terminate()
            server.wait()


@contextlib.asynccontextmanager
async def raised(machines: int, folder: Path) -> AsyncIterator[OpenSSH]:
    """A mesh whose servers stand, ended with the block. Raises Absent where OpenSSH is not installed."""
    mesh = OpenSSH(machines, folder)
    try:
        mesh.listen()
        yield mesh
    finally:
        await mesh.close()
