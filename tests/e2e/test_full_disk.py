"""A node whose disk is full: what it says, what it goes on doing, and that nothing which anybody was told of is lost.

Real nodes, run by the command line. The medium refuses by a limit on the size of files that is set from outside while the node
runs (RLIMIT_FSIZE, prlimit(2)), or, where root allows it, because a small file system is full to its last block.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from naming import Names
from raised import Node, linked, raised, wait_for

from ledger.events import LinkLost, MachineDisconnected, NodeStarted
from ledger.store import Ledger
from replay.check import verify

PROGRAM = "import sys; from replay.cli import main; sys.exit(main())"
SMALL = 4096
FREE = resource.RLIM_INFINITY


def start(node: Node) -> None:
    """Run a node as an operator does."""
    with (node.folder.path.parent / f"{node.name}.log").open("ab") as errors:
        node.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "run", "--dir", str(node.folder.path)], stderr=errors, cwd=Path(__file__).parents[2]
        )


def log(node: Node) -> str:
    return (node.folder.path.parent / f"{node.name}.log").read_text()


def allow(node: Node, size: int) -> None:
    """From now on the node's files may be so long."""
    assert node.process is not None
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (size, FREE))


def stop(node: Node) -> int:
    assert node.process is not None
    node.process.send_signal(signal.SIGTERM)
    return node.process.wait(30)


@pytest.fixture
def names() -> Iterator[Names]:
    found = Names()
    yield found
    found.close()


@contextmanager
def running(folder: Path, names: Names) -> Iterator[tuple[Node, Node]]:
    """Two nodes that are linked."""
    alpha, bravo = raised(folder, 2, interval_ms=400, timeout_ms=350, lost_after=8, dns=(names.server,))
    try:
        for node in (alpha, bravo):
            start(node)
        wait_for(lambda: linked([alpha, bravo]), 30)
        yield alpha, bravo
    finally:
        for node in (alpha, bravo):
            if node.process is not None and node.process.poll() is None:
                node.kill()


def entries(node: Node, machine: str) -> list:
    """What a node holds of a machine's feeds."""
    with Ledger.open(node.folder.ledger) as ledger:
        return [entry for feed in ledger.feeds() if feed.machine == machine for entry in ledger.read(feed)]


def filled_and_freed(alpha: Node, bravo: Node, fill: Callable[[], None], free: Callable[[], None]) -> None:
    """The story, whatever it is that makes the medium refuse."""
    fill()
    wait_for(lambda: "ledger-refuses" in log(alpha), 20)
    full_ns = time.time_ns()
    position = alpha.ask("status")["position"]  # reads go on
    heard = bravo.ask("status")["members"]["alpha"]["last_ping_ns"]
    said = alpha.ask("disconnect", machine="bravo", by="test")  # what cannot be written is not acknowledged
    assert (said["ok"], "its disk is full" in said["error"]) == (False, True)
    wait_for(lambda: (bravo.ask("status")["members"]["alpha"]["last_ping_ns"] or 0) > (heard or 0), 10)  # it answers still
    assert bravo.ask("status")["members"]["alpha"]["linked"]
    assert alpha.ask("status")["position"] == position
    assert [e for e in entries(alpha, "alpha") if e.at_ns > full_ns] == []
    free()
    wait_for(lambda: "ledger-takes" in log(alpha), 20)
    wait_for(lambda: alpha.ask("disconnect", machine="bravo", by="test")["ok"], 10)
    wait_for(lambda: any(isinstance(e.event, MachineDisconnected) for e in entries(bravo, "alpha")), 20)
    assert not [e for e in entries(bravo, "bravo") if isinstance(e.event, LinkLost) and e.event.reason != "disconnected"]


def test_on_a_full_disk_a_node_says_so_and_answers(tmp_path, names):
    """Pings are answered and questions too, none are sent, a command is refused; when there is room again it is taken, and all
    goes on. Stopped while the disk is full it ends with 5 and a line; it holds what others have of it.
    """
    with running(tmp_path, names) as (alpha, bravo):
        filled_and_freed(alpha, bravo, lambda: allow(alpha, SMALL), lambda: allow(alpha, FREE))
        alpha.ask("reconnect", machine="bravo", by="test")
        wait_for(lambda: linked([alpha, bravo]), 20)
        refused = log(alpha).count("ledger-refuses")
        allow(alpha, SMALL)
        wait_for(lambda: log(alpha).count("ledger-refuses") > refused, 20)
        assert stop(alpha) == 5
        last = log(alpha).splitlines()[-2:]
        assert "the medium refused the last" in last[0]
        assert "nothing that others were told of is among them" in last[1]
        given = len(entries(bravo, "alpha"))
        assert len(entries(alpha, "alpha")) >= given
        assert verify([alpha.folder.ledger]).problems == []
        start(alpha)
        wait_for(lambda: linked([alpha, bravo]), 30)
        assert [stop(node) for node in (alpha, bravo)] == [0, 0]
        for node in (alpha, bravo):
            assert verify([node.folder.ledger]).problems == []
        own = entries(alpha, "alpha")
        assert sum(isinstance(entry.event, NodeStarted) for entry in own) == 2
        assert {entry.feed.epoch for entry in own} == {1}


def test_a_node_that_cannot_write_does_not_start(tmp_path, names):
    """On a medium that refuses from the beginning `run` ends at once with 5 and a line that says what to do."""
    (alpha, _) = raised(tmp_path, 2, dns=(names.server,))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", "--dir", str(alpha.folder.path)], capture_output=True, text=True, check=False,
        timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)), cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 5
    first, *_hint = done.stderr.splitlines()
    assert "node.ledger" in first
    assert "Traceback" not in done.stderr
    assert verify([alpha.folder.ledger]).problems == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own takes root")
def test_a_file_system_that_is_full_to_its_last_block(tmp_path, names):
    """The same on a file system of a megabyte which somebody else has filled, and where there is room again when he is gone."""
    (tmp_path / "alpha").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", tmp_path / "alpha"], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    other = tmp_path / "alpha" / "other"

    def fill() -> None:
        with other.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(512))

    try:
        with running(tmp_path, names) as (alpha, bravo):
            filled_and_freed(alpha, bravo, fill, other.unlink)
            assert [stop(node) for node in (alpha, bravo)] == [0, 0]
            assert verify([alpha.folder.ledger]).problems == []
    finally:
        subprocess.run(["umount", "-l", tmp_path / "alpha"], check=True)
