"""A failing property test leaves a ledger and names it, and the command line opens it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from called import call

from ledger.events import NodeStalled
from ledger.store import Ledger
from ledger.testing import entries, keeping, world

FAILING = '''
from hypothesis import given, settings
from ledger.events import PingFailed
from ledger.testing import entries, histories, kept

@given(histories(keyed=True))
@settings(max_examples=300, database=None, derandomize=True)
@kept
def test_nothing_ever_fails(history):
    """Wrong on purpose: pings do fail."""
    assert not any(isinstance(entry.event, PingFailed) for entry in entries(history))
'''


def test_a_failing_property_test_leaves_a_ledger(tmp_path: Path) -> None:
    """A test that must fail, run as anyone would, prints the path of a ledger with its smallest example; `verify`, `at` and
    `log` open it.
    """
    (tmp_path / "test_wrong.py").write_text(FAILING)
    root = Path(__file__).parents[2]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "-c",
        "/dev/null",
        "test_wrong.py",
    ]
    environment = {"PATH": "", "MESHLEDGER_KEPT": str(tmp_path / "kept"), "PYTHONPATH": str(root), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    named = re.findall(r"the history is kept as (\S+): meshledger verify", done.stdout)
    assert named, done.stdout
    path = Path(named[-1])
    assert path == tmp_path / "kept" / "test_nothing_ever_fails.ledger"
    assert call("verify", path, "-q").code in {0, 1}
    assert call("at", "end", path, "-q").code in {0, 3}
    log = call("log", path, "-k", "ping.failed", "-q", "-o", "jsonl").out
    assert log.count("ping.failed") == 1, "the smallest example has one failed ping"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_block_keeps_worlds_and_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A world, its feeds and its entries are kept alike: every entry of every feed; the error stays what it was."""
    monkeypatch.setenv("MESHLEDGER_KEPT", str(tmp_path))
    told = world(3, machines=3, minutes=5)
    for name, given in {"world": told, "feeds": told.feeds, "entries": entries(told.feeds)}.items():
        with pytest.raises(ZeroDivisionError) as failed, keeping(given, name):
            1 / 0  # noqa: B018  it must fail
        assert failed.value.__notes__ == [
            f"the history is kept as {tmp_path}/{name}.ledger: meshledger verify {tmp_path}/{name}.ledger"
        ]
        with Ledger.open(tmp_path / f"{name}.ledger") as ledger:
            kept = {feed: [each.event for each in ledger.reader(feed).entries()] for feed in ledger.feeds()}
        assert kept == {feed: [each.event for each in observed] for feed, observed in told.feeds.items()}


def test_a_block_that_holds_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a failure leaves a file, and what is no history is refused at the door."""
    monkeypatch.setenv("MESHLEDGER_KEPT", str(tmp_path))
    with keeping(world(3, machines=2, minutes=1)):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError), keeping(NodeStalled(3)):
        pass
