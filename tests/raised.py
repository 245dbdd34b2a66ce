"""A cluster of real nodes on loopback, each a process of its own with its own directory, keys and ports."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ledger.events import FeedReceived, MachineJoined, SettingsChanged
from ledger.identity import Feed
from ledger.node.config import Config, NodeDir
from ledger.node.control import SOCKET, ask
from ledger.node.founding import found
from ledger.node.replicas import Held, run_after, speak
from ledger.node.simulation import NAMES
from ledger.node.taking import take_run
from ledger.store import Ledger

PROGRAM = """
import asyncio, json, sys
from ledger.node.config import NodeDir
from ledger.node.daemon import Daemon
from replay.living import view
def log(line):
    print(json.dumps(dict(line)), file=sys.stderr, flush=True)
daemon = Daemon(NodeDir(sys.argv[1]), view, software=sys.argv[2], log=log)
if len(sys.argv) > 3:
    import cProfile
    cProfile.run("print(asyncio.run(daemon.run()))", sys.argv[3])
else:
    print(asyncio.run(daemon.run()))
"""
COMMAND = "import sys; from replay.cli import main; sys.exit(main())"


def free_port(hosts: Sequence[str] = ("127.0.0.1",)) -> int:
    """A port that nobody has now at any of these addresses. It is none of those that a kernel gives to whoever asks for any or to
    a connection: one that is not listened at for a moment, as when its node starts again, would be gone.
    """
    for _ in range(1000):
        port = random.randint(10_000, 32_000)
        with contextlib.ExitStack() as taken, contextlib.suppress(OSError):
            for host in hosts:
                taken.enter_context(socket.socket()).bind((host, port))
            return port
    raise AssertionError("no port is free")


class Node:
    """One node: its directory, and its process while it runs."""

    def __init__(self, folder: Path, name: str, port: int) -> None:
        self.folder = NodeDir(folder)
        self.name = name
        self.port = port
        self.process: subprocess.Popen | None = None

    def start(self, software: str = "test 1", *profile: str) -> None:
        """Run it."""
        with (self.folder.path / "stderr").open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(self.folder.path), software, *profile], stdout=subprocess.DEVNULL,
                stderr=errors, cwd=Path(__file__).parents[1],
            )  # fmt: skip

    def run(self, *inside: str) -> None:
        """Run it by the command line, as an operator would; `inside`: the command that goes before it, if any."""
        path = (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
        command = [*inside, sys.executable, "-c", COMMAND, "run", "--dir", str(self.folder.path)]
        with (self.folder.path / "stderr").open("ab") as errors:
            self.process = subprocess.Popen(command, stdout=errors, stderr=errors, env=environment)

    def ask(self, word: str, **more: object) -> dict:
        """A request over its control socket."""
        return ask(self.folder.file(SOCKET), {"ask": word, **more}, timeout_s=30)

    def kill(self, how: int = signal.SIGKILL) -> int:
        """End it, and wait."""
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(30)
        self.process = None
        return code

    def said(self) -> list[dict]:
        """What it logged, but for what are no JSON lines."""
        lines = (self.folder.path / "stderr").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def events(self, *kinds: str) -> list[Any]:
        """The events of these kinds in its own feeds, also while it runs."""
        with Ledger.open(self.folder.ledger) as ledger:
            own = [feed for feed in ledger.feeds() if feed.machine == self.name]
            return [entry.event for feed in own for entry in ledger.read(feed) if entry.kind in kinds]

    def waited(self) -> int:
        """How long, in ns of its own clock, its last start was without any link."""
        with Ledger.open(self.folder.ledger) as ledger:
            own = sorted(feed for feed in ledger.feeds() if feed.machine == self.name)
            lives = [entry for feed in own for entry in ledger.read(feed) if entry.kind in {"node.started", "link.established"}]
        since = max(place for place, entry in enumerate(lives) if entry.kind == "node.started")
        first = next(entry for entry in lives[since:] if entry.kind == "link.established")
        return (first.mono_ns or 0) - (lives[since].mono_ns or 0)

    def complaints(self) -> str:
        """What it wrote to stderr that is no log line."""
        lines = (self.folder.path / "stderr").read_text().splitlines()
        return "\n".join(line for line in lines if not line.startswith("{"))


def raised(
    folder: Path, count: int, *, interval_ms: int = 400, addressing: str = "address", dns: tuple[str, ...] = (),
    hosts: Sequence[str] = (), timeout_ms: int | None = None, lost_after: int = 1, **config: object,
) -> list[Node]:  # fmt: skip
    """So many nodes of one founded cluster, not started yet: the founder has admitted the others, and they know it. `hosts`: the
    address of each, with one port for all, where they are not all at 127.0.0.1.
    """
    where = dict(zip(NAMES, hosts or ["127.0.0.1"] * count, strict=False))
    shared = free_port([host for host in hosts if host.startswith("127.")])  # others are in namespaces of their own
    nodes = [Node(folder / name, name, shared if hosts else free_port()) for name in NAMES[:count]]
    settings = SettingsChanged(1, interval_ms, timeout_ms or max(interval_ms // 2, 150), lost_after)
    now = time.time_ns()
    feeds: list[Feed] = []
    for node in nodes:
        NodeDir.make(node.folder.path)
        node.folder.make_keys()
        made = Config(machine=node.name, listen=where[node.name], port=node.port, dns_servers=dns, **config)  # type: ignore[arg-type]
        if not feeds:
            hostname = where[node.name] if addressing == "address" else f"{node.name}.lab.example"
            feeds.append(found(
                node.folder, made, name="lab", hostname=hostname, port=node.port, transport="ccs", addressing=addressing,
                settings=settings, salt=os.urandom(8).hex(), at_ns=now,
            ))  # fmt: skip
        node.folder.set_config(made)
    founder = feeds[0]
    with Ledger.open(nodes[0].folder.ledger, write=True) as ledger:
        for node in nodes[1:]:
            hostname = where[node.name] if addressing == "address" else f"{node.name}.lab.example"
            ledger.append(
                MachineJoined(
                    node.name, hostname, node.port, None, node.folder.public("host_key"), node.folder.public("dial_key"),
                    node.folder.ledger_key().text, 0, addressing,
                ),
                observer=founder, at=now + 1,
            )  # fmt: skip
        word = speak(ledger, founder, nodes[0].folder.ledger_key())
        runs, after = [], Held()
        while (run := run_after(ledger, founder, after, word)) is not None:
            runs.append(run)
            last = ledger.reader(founder).record(after.records + len(run.records)).last if run.records else word.last
            after = Held(after.records + len(run.records), last)
    for node in nodes[1:]:
        with Ledger.create(node.folder.ledger, incarnation=founder.incarnation) as ledger:
            key = node.folder.ledger_key().text
            own = ledger.open_feed(node.name, at=now + 2, ledger_key=key, incarnation=founder.incarnation)
            for run in runs:
                assert take_run(ledger, run, incarnation=founder.incarnation).refused is None
            ledger.append(FeedReceived(founder.id, after.last), observer=own, at=now + 2)
    return nodes


@contextlib.contextmanager
def ended(nodes: list[Node]) -> Iterator[list[Node]]:
    """These nodes; those that still run in the end are killed."""
    try:
        yield nodes
    finally:
        for node in nodes:
            if node.process is not None:
                node.kill()


def linked(nodes: list[Node]) -> bool:
    """Whether each of these is linked with all others, as they say."""
    for node in nodes:
        with contextlib.suppress(Exception):
            members = node.ask("status")["members"]
            if all(members[other.name]["linked"] for other in nodes if other is not node):
                continue
        return False
    return True


def wait_for(what, seconds: float = 20.0, every: float = 0.05) -> float:
    """Wait until `what()` is true; how long it took. Fails after so many seconds."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        time.sleep(every)
    return time.monotonic() - began
