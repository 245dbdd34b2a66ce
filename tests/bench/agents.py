"""Clusters of whole processes that lose a member: how soon all the others know, and how soon it is back.

Ours is read from the ledgers, `link.lost` and `link.established` of each other machine; Serf (lan profile) from what each
agent says, stamped as it arrives here. Three blows, always against the last member: killed (SIGKILL), started again,
silenced (SIGSTOP). All instants are of one wall clock, for it is one machine. Processes end by their own number.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.peers.contestant import Absent
from raised import Node, free_port, linked, raised

from ledger.entry import Entry
from ledger.events import LinkEstablished, LinkLost, NodeStarted, PingAnswered, PingFailed
from ledger.store import Ledger

PATIENCE_S = 90.0
INTERVAL_MS = 250
LOST_AFTER = 3
"""Pings in a row that say so. Serf too asks more than once (others, and then the suspect) before it tells of a failure."""
QUIET_S = 4.0


def until(what: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Wait until `what()` is true. Raises Absent: a cluster that does not come to it has no figure."""
    ends = time.monotonic() + seconds
    while not what():
        if time.monotonic() > ends:
            raise Absent(f"not within {seconds:g} s")
        time.sleep(0.05)


def processor_s(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_entries(node: Node, since_ns: int) -> list[Entry]:
    """What a node has recorded itself since then."""
    with Ledger.open(node.folder.ledger) as ledger:
        feeds = [feed for feed in ledger.feeds() if feed.machine == node.name]
        return [entry for feed in feeds for entry in ledger.read(feed) if entry.at_ns >= since_ns]


def end(nodes: list[Node]) -> None:
    """End what still runs."""
    for node in nodes:
        if node.process is not None:
            with contextlib.suppress(ProcessLookupError):
                node.process.send_signal(signal.SIGCONT)
            node.kill()


def ours(folder: str, count: int) -> dict[str, Any]:
    """Our cluster. Seconds; `alarms`: links lost while nothing was wrong; `pings`: how many were recorded in that time, with
    the processor time that one of them took, all of the node's work included.
    """
    path = Path(folder)
    shutil.rmtree(path, ignore_errors=True)
    nodes = raised(path, count, interval_ms=INTERVAL_MS, timeout_ms=INTERVAL_MS, lost_after=LOST_AFTER)
    try:
        for node in nodes:
            node.start()
        until(lambda: linked(nodes))
        return _blows(nodes)
    finally:
        end(nodes)
        shutil.rmtree(path, ignore_errors=True)


def _blows(nodes: list[Node]) -> dict[str, Any]:
    others, victim = nodes[:-1], nodes[-1]

    def lost(since_ns: int) -> float:
        """Seconds until the last of the others had recorded that its link to the victim is lost."""
        firsts: list[int] = []

        def known() -> bool:
            firsts[:] = [
                next(
                    (
                        e.at_ns
                        for e in own_entries(node, since_ns)
                        if isinstance(e.event, LinkLost) and e.event.peer == victim.name
                    ),
                    0,
                )
                for node in others
            ]
            return all(firsts)

        until(lambda: not any(node.ask("status")["members"][victim.name]["linked"] for node in others))
        until(known)
        return (max(firsts) - since_ns) / 1e9

    time.sleep(QUIET_S / 2)
    calm_ns, used = time.time_ns(), {node.name: processor_s(node.process.pid) for node in nodes if node.process}
    time.sleep(QUIET_S)
    used = {node.name: processor_s(node.process.pid) - used[node.name] for node in nodes if node.process}
    quiet_until = time.time_ns()
    quiet = [entry for node in nodes for entry in own_entries(node, calm_ns) if entry.at_ns < quiet_until]
    pings = sum(isinstance(entry.event, PingAnswered | PingFailed) for entry in quiet)
    told = {
        "pings": pings,
        "alarms": sum(isinstance(entry.event, LinkLost) for entry in quiet),
        "node_cpu_us": sum(used.values()) / max(pings, 1) * 1e6,
    }
    at = time.time_ns()
    victim.kill(signal.SIGKILL)
    told["killed"] = lost(at)

    at = time.time_ns()
    victim.start()
    until(lambda: linked(nodes))
    since = at
    theirs = own_entries(victim, since)
    listening = next(entry.at_ns for entry in theirs if isinstance(entry.event, NodeStarted))
    stood = []
    for node in others:
        pairs = ((theirs, node.name), (own_entries(node, since), victim.name))
        stood += [
            next(e.at_ns for e in log if isinstance(e.event, LinkEstablished) and e.event.peer == peer) for log, peer in pairs
        ]
    told["back"] = (max(stood) - listening) / 1e9
    told["back_whole"] = (max(stood) - at) / 1e9

    time.sleep(QUIET_S / 2)
    at = time.time_ns()
    assert victim.process is not None
    victim.process.send_signal(signal.SIGSTOP)
    told["silent"] = lost(at)
    return told


class Agent:
    """One Serf agent, and what it said, with the instant at which it was read."""

    def __init__(self, name: str, port: int, rpc: int, join: int | None) -> None:
        self.name, self.port, self.rpc, self.join = name, port, rpc, join
        self.lines: list[tuple[int, str]] = []
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Run it."""
        command = [
            "serf", "agent", f"-node={self.name}", f"-bind=127.0.0.1:{self.port}", f"-rpc-addr=127.0.0.1:{self.rpc}",
            "-profile=lan", "-log-level=info", *([f"-join=127.0.0.1:{self.join}"] if self.join else []),
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append((time.time_ns(), line))

    def said(self, what: str, of: str, since_ns: int) -> int:
        """When it first told this event of a member since then; 0 if it has not."""
        return next((at for at, line in list(self.lines) if at >= since_ns and f"{what}: {of} " in line), 0)

    def kill(self) -> None:
        """End it, and wait."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(30)
            self.process = None


def answers(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as there:
        there.settimeout(1)
        return there.connect_ex(("127.0.0.1", port)) == 0


def serf(count: int) -> dict[str, Any]:
    """Serf's cluster, the same blows. Raises Absent where it is not installed."""
    if shutil.which("serf") is None:
        raise Absent("serf is not installed")
    agents: list[Agent] = []
    for number in range(count):
        agents.append(Agent(f"member{number:02}", free_port(), free_port(), agents[0].port if agents else None))
    others, victim = agents[:-1], agents[-1]

    def all_told(what: str, since_ns: int) -> int:
        until(lambda: all(agent.said(what, victim.name, since_ns) for agent in others))
        return max(agent.said(what, victim.name, since_ns) for agent in others)

    try:
        agents[0].start()
        until(lambda: answers(agents[0].port))
        for agent in agents[1:]:
            agent.start()
        until(lambda: all(a.said("EventMemberJoin", b.name, 0) for a in agents for b in agents if a is not b))
        time.sleep(QUIET_S)
        told = {}
        at = time.time_ns()
        assert victim.process is not None
        victim.process.kill()
        victim.process.wait(30)
        told["killed"] = (all_told("EventMemberFailed", at) - at) / 1e9
        at = time.time_ns()
        victim.start()
        ends = time.monotonic() + PATIENCE_S
        while not answers(victim.port) and time.monotonic() < ends:
            time.sleep(0.002)
        listening = time.time_ns()
        back = all_told("EventMemberJoin", at)
        told["back"], told["back_whole"] = max(back - listening, 0) / 1e9, (back - at) / 1e9
        time.sleep(QUIET_S)
        at = time.time_ns()
        victim.process.send_signal(signal.SIGSTOP)
        told["silent"] = (all_told("EventMemberFailed", at) - at) / 1e9
    finally:
        for agent in agents:
            agent.kill()
    return told


def blows(who: str, folder: str, machines: int) -> dict[str, Any]:
    """The three blows, of ours or of Serf."""
    return ours(folder, machines) if who == "ours" else serf(machines)


TASKS = {"blows": blows}
