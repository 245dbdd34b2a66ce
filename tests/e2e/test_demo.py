"""The demonstration as it is typed: it ends all of its processes however it ends, and a fault that is left out is missed.

That all is well if nothing is left out, `.ci/run` shows by running it; here that is among the long proofs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import msgspec
import pytest
from called import call
from raised import wait_for

from replay.demo import run
from replay.demo_story import FAULTS, RENAMED
from replay.schemas import schema

PROGRAM = "import sys; from replay.cli import main; sys.exit(main())"


def descendants(pid: int) -> list[int]:
    """The processes that descend from one, as the kernel lists them."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def showing(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A demonstration of which a node runs, with all of its processes; its temporary files are in `folder`."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    command = [sys.executable, "-c", PROGRAM, "demo"]
    # Where a shell runs the tests in the background they ignore SIGINT, and what they start would too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        wait_for(lambda: len(list(folder.glob("meshledger-nodes-*/*/control.sock"))) >= 1, 60)
        yield process, descendants(process.pid)
    finally:
        process.kill()
        process.communicate(timeout=30)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 130, marks=pytest.mark.long)])
def test_interrupted_it_ends_all_that_it_started(how: signal.Signals, code: int, tmp_path: Path) -> None:
    """Ctrl-C ends every process and takes every key and directory away; so does SIGTERM."""
    with showing(tmp_path) as (process, children):
        assert children
        process.send_signal(how)
        _out, errors = process.communicate(timeout=30)
        assert process.returncode == code
        assert "Traceback" not in errors
        assert [pid for pid in children if alive(pid)] == []
        assert list(tmp_path.glob("meshledger-*")) == []


@pytest.mark.long
def test_killed_it_leaves_no_process_behind(tmp_path: Path) -> None:
    """SIGKILL cannot be heard; the kernel then ends what was started."""
    with showing(tmp_path) as (process, children):
        process.kill()
        process.wait(30)
        wait_for(lambda: not any(alive(pid) for pid in children))


@pytest.mark.long
def test_a_node_that_dies_is_told(tmp_path: Path) -> None:
    """A node that is killed from outside ends the demonstration with a line that names it, and no process is left."""
    with showing(tmp_path) as (process, children):
        nodes = [pid for pid in children if b"run\0--dir" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(nodes[0], signal.SIGKILL)
        _out, errors = process.communicate(timeout=60)
        assert process.returncode == 5
        assert re.search(r"meshledger: the node of \w+ has ended by itself \(exit code -9\) while waiting until ", errors)
        assert [pid for pid in children if alive(pid)] == []


@pytest.mark.long
@pytest.mark.timeout(300)
def test_all_faults_are_answered_about(tmp_path: Path) -> None:
    """Every line ends in ok, in less than a minute on a machine that has nothing else to do; what follows can be typed."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "demo", "--keep", "kept", "--seed", "2"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    print(f"{time.monotonic() - began:.1f} s")
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, sum_up, merged, following = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [*FAULTS, "the record"]
    assert [line for line in lines if not line.endswith(" ok")] == []
    assert sum_up.endswith("all of them ok")
    assert merged == "the merged ledger: kept/mesh.ledger"
    typed = following.removeprefix("next: meshledger ").split()
    assert call(*typed, folder=tmp_path).code == 0
    assert sorted(path.name for path in (tmp_path / "kept").glob("*.ledger")) == sorted(
        f"{name}.ledger" for name in ("alpha", "bravo", "charlie", "delta", "echo", "mesh")
    )
    assert list((tmp_path / "kept").rglob("*key*")) == []


@pytest.mark.long
@pytest.mark.timeout(300)
def test_no_fault_is_answered_about_that_was_not(tmp_path: Path) -> None:
    """With all faults left out every line of theirs is NOT OK; the record is in order all the same."""
    told: list[str] = []
    answer = run(3, 5, tmp_path / "kept", tell=told.append, without=FAULTS)
    assert not answer.ok
    wrong = {step.fault for step in answer.steps if not step.ok}
    assert wrong == set(FAULTS)
    assert sum(line.endswith(" NOT OK") for line in told) == len(FAULTS)
    jsonschema.validate(json.loads(msgspec.json.encode(answer)), schema("demo"))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_one_fault_left_out_is_missed_alone(tmp_path: Path) -> None:
    """Without the rename its line is NOT OK, and all others are ok."""
    answer = run(4, 6, tmp_path / "kept", without=[RENAMED])
    assert {step.fault for step in answer.steps if not step.ok} == {RENAMED}
