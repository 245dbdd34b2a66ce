"""Real nodes, with SSH, DNS and ledgers as they are, on a network in memory and in virtual time: storey B of the simulation.

What is and is not repeated from a seed: keys, clocks, delays, faults and so every entry of every feed, byte for byte, whatever
the hash seed of the process; the cookies, ephemeral keys and padding of SSH are fresh each time, and no entry depends on them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.identity import Feed
from ledger.node import linking
from ledger.store import Ledger
from ledger.testing import NODE_FAULTS, Fault, NodesRun, simulate_nodes
from projections.belief import Belief
from replay import states
from replay.check import verify
from replay.history import History
from replay.living import view
from replay.verdicts import judged, monitors

PLANNED = [
    Fault(60, "cut", 0, 1, 150), Fault(90, "clock-step", 2, 1, 40), Fault(120, "delay", 0, 1, 60),
    Fault(200, "dns-nxdomain", 1, 2, 90),
    Fault(240, "one-way", 2, 0, 150), Fault(330, "connection-limit", 0, 1, 20), Fault(400, "restart", 1, 0, 30),
    Fault(450, "reset", 0, 2, 1), Fault(480, "dns-timeout", 0, 1, 60), Fault(570, "stop", 2, 0, 10),
]  # fmt: skip
EVIDENCE = {
    "cut": "link.lost", "one-way": "link.lost", "reset": "link.lost", "stop": "node.stopped", "restart": "node.started",
    "power-cut": "node.started", "power-cut-all": "node.started", "clock-step": "clock.stepped", "stall": "node.stalled",
    "dns-nxdomain": "name.failed", "dns-timeout": "name.failed", "dns-servfail": "name.failed", "dns-nodata": "name.failed",
    "dns-elsewhere": "link.failed", "connection-limit": "link.lost", "disconnect": "machine.disconnected",
    "rename": "hostname.changed",
}  # fmt: skip
"""The kind that must stand in some ledger because of the fault: more often than without it."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, if there is such a place: what a disk does with `fsync` is not looked at here."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


class Watched:
    """A node's fold of its record, which remembers what it said of the table after some own entries."""

    def __init__(self, belief: Belief, feed: Feed, said: dict[tuple[str, str], dict], every: int) -> None:
        self._belief, self._own, self._said, self._every = belief, feed, said, every
        self.at, self.begin = belief.at, belief.begin

    def apply(self, entry) -> None:
        self._belief.apply(entry)
        if entry.observer == self._own.machine and (entry.kind.startswith("machine.") or entry.index % self._every == 0):
            self._said[entry.observer, entry.position] = states.at(self._belief.at(entry.at_ns), entry.observer)

    def learn(self, entries) -> None:
        for entry in entries:
            self.apply(entry)


def watching(said: dict[tuple[str, str], dict], every: int = 10):
    return lambda ledger, feed: Watched(view(ledger, feed), feed, said, every)


def wrong_with(paths: list[Path]) -> list[str]:
    """What is wrong with these ledgers taken together: bytes, and invariants of the record or of the software."""
    report = verify(paths)
    found = judged(paths, report, monitors())
    bad = [each.rule.name for each in found if each.severity not in {"mesh", "coverage"} and each.outcome == "violated"]
    return [*(problem.what for problem in report.problems), *bad]


def kinds_of(run: NodesRun) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, node in run.nodes.items():
        with Ledger.open(node.folder.ledger) as ledger:
            found += Counter(e.kind for feed in ledger.feeds() if feed.machine == name for e in ledger.reader(feed).entries())
    return found


def log_of(run: NodesRun) -> str:
    """Everything that every node holds, as one digest."""
    running = hashlib.sha256()
    for name, node in run.nodes.items():
        with Ledger.open(node.folder.ledger) as ledger:
            for feed in ledger.feeds():
                entries = [(e.at_ns, e.boot, e.mono_ns, e.event) for e in ledger.reader(feed).entries()]
                running.update(f"{name} {feed.id} {ledger.head(feed)} {entries}".encode())
    return running.hexdigest()


def judge(run: NodesRun, said: dict[tuple[str, str], dict], compared_min: int) -> None:
    """Healed; each ledger and all of them together hold every invariant; each table was what replay rebuilds."""
    assert run.unsettled == []
    assert {line["event"] for node in run.nodes.values() for line in node.said} <= {
        "started", "stopped", "run-not-taken", "ledger-refuses", "ledger-takes", "new-epoch",
    }  # fmt: skip
    for path in run.ledgers:
        assert wrong_with([path]) == []
    assert wrong_with(run.ledgers) == []
    compared = 0
    for name, node in run.nodes.items():
        with History.open(node.folder.ledger) as history:
            for (_, position), table in ((at, table) for at, table in said.items() if at[0] == name):
                assert states.at(history.belief(name, position), name) == table, position
                compared += 1
    assert compared >= compared_min


def test_real_nodes_heal_and_their_ledgers_hold(folder):
    """Ten minutes of three nodes under ten faults: each is felt, all heal, every invariant holds on each ledger and on all, and
    the table that each node had in memory at a position is what replay says it was (`--as-seen-by`).
    """
    said: dict[tuple[str, str], dict] = {}
    run = simulate_nodes(1, folder, views=watching(said, 9), machines=3, seconds=600, faults=PLANNED[:6])
    assert set(run.coverage) == {fault.word for fault in PLANNED[:6]}
    judge(run, said, 30)


def test_real_nodes_come_back_from_restarts(folder):
    """A kill, an orderly stop, a reset and a silent name server: what was on the disk is taken up, and the mesh stands again."""
    said: dict[tuple[str, str], dict] = {}
    faults = [fault for fault in PLANNED if fault.word in {"restart", "reset", "dns-timeout", "stop"}]
    run = simulate_nodes(2, folder, views=watching(said, 9), machines=3, seconds=600, faults=faults)
    started = kinds_of(run)["node.started"]
    assert started == 5
    judge(run, said, 20)


def test_one_seed_is_one_log_of_real_nodes(folder):
    """The same seed gives the same ledgers, keys and heads included; another seed gives others."""
    faults = [Fault(30, "reset", 0, 1, 1), Fault(60, "restart", 1, 0, 20)]
    logs = []
    for number, seed in enumerate((5, 5, 6)):
        (folder / f"{number}").mkdir()
        logs.append(log_of(simulate_nodes(seed, folder / f"{number}", views=view, machines=2, seconds=90, faults=faults)))
    assert logs[0] == logs[1]
    assert logs[0] != logs[2]


def test_a_fault_that_is_not_felt_fails_the_run(folder):
    """A stop of a node that is down already happens to nobody, and is no success."""
    with pytest.raises(AssertionError, match="never happened: stop"):
        simulate_nodes(
            3, folder, views=view, machines=2, seconds=60, faults=[Fault(10, "restart", 0, 1, 40), Fault(20, "stop", 0, 1, 5)]
        )


def test_a_node_that_gives_up_is_found(folder, monkeypatch):
    """Planted: after four dials that came to nothing a node does not dial again. A cut of minutes shows it."""
    plan = linking.plan
    monkeypatch.setattr(linking, "plan", lambda core, peer: plan(core, peer) if peer.tries < 4 else None)
    run = simulate_nodes(4, folder, views=view, machines=2, seconds=300, faults=[Fault(60, "cut", 0, 1, 240)])
    assert any("no link" in each for each in run.unsettled)


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("word", NODE_FAULTS)
def test_a_fault_among_real_nodes_is_felt_recorded_and_heals(word, folder):
    """Each fault, three times: it is felt, leaves its evidence, and a quiet while later all is as promised."""
    said: dict[tuple[str, str], dict] = {}
    run = simulate_nodes(8, folder, views=watching(said), machines=3, seconds=1200, faults=3, words=[word])
    (folder / "none").mkdir()
    without = simulate_nodes(8, folder / "none", views=view, machines=3, seconds=1200, faults=0)
    if word in EVIDENCE:
        assert kinds_of(run)[EVIDENCE[word]] > kinds_of(without)[EVIDENCE[word]]
    judge(run, said, 20)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_day_of_five_real_nodes(folder):
    """Five nodes, a day at the interval of a minute, every fault twice: healed, whole, and one with what replay rebuilds."""
    said: dict[tuple[str, str], dict] = {}
    run = simulate_nodes(9, folder, views=watching(said, 500), machines=5, seconds=86_400, faults=2 * len(NODE_FAULTS))
    assert set(run.coverage) == set(NODE_FAULTS)
    judge(run, said, 30)


def test_the_log_does_not_depend_on_the_hash_seed(folder):
    """Two processes with different hash seeds write the same ledgers from one seed."""
    logs = set()
    for hashes in ("1", "2"):
        (folder / hashes).mkdir()
        program = (
            "import sys; from pathlib import Path; from ledger.testing import simulate_nodes; from replay.living import view;"
            "simulate_nodes(7, Path(sys.argv[1]), views=view, machines=3, seconds=900, faults=8)"
        )
        subprocess.run(
            [sys.executable, "-c", program, str(folder / hashes)], check=True, env={**os.environ, "PYTHONHASHSEED": hashes},
            timeout=120,
        )  # fmt: skip
        digest = hashlib.sha256()
        for path in sorted((folder / hashes).glob("*/node.ledger")):
            with Ledger.open(path) as ledger:
                digest.update(repr([list(ledger.reader(feed).entries()) for feed in ledger.feeds()]).encode())
        logs.add(digest.hexdigest())
        shutil.rmtree(folder / hashes)
    assert len(logs) == 1
