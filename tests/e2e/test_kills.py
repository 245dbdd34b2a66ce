"""Killed at any moment: what was acknowledged is there, at most one batch is in doubt, and it is there whole or not at all.

A child process appends (`appender.py`) and says what was acknowledged; it is killed (SIGKILL) at a random moment, then again
after it went on with the same file. After each kill the whole ledger is read, which checks every row.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import appender
import pytest
from scene import observed

from ledger.errors import LedgerError
from ledger.store import Ledger

ROOT = Path(__file__).parents[2]
CHILD = [sys.executable, str(Path(appender.__file__))]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def read_all(path, seed):
    """Every entry of every feed, checked against what must stand there: machine -> last index."""
    lasts = {}
    with Ledger.open(path) as ledger:
        for feed in ledger.feeds():
            entries = observed(ledger.read(feed))
            assert entries == [appender.entry(seed, feed, index) for index in range(1, len(entries) + 1)]
            lasts[feed.machine] = len(entries)
    return lasts


def judge(path, seed, said, before):
    """Hold what stands against what the child said before it died. Returns what stands, and whether a batch was in doubt."""
    acked, doubt = dict(before), None
    for line in said:
        match line.split():
            case ["begun", alpha, bravo]:
                assert (int(alpha), int(bravo)) == (before.get("alpha", 0), before.get("bravo", 0))
            case ["trying", machine, last, count]:
                doubt = machine, int(last), int(count)
            case ["acked", machine, last]:
                acked[machine], doubt = int(last), None
    if not path.exists():
        assert not acked
        return {}, False
    found = read_all(path, seed)
    for machine in {*acked, *found}:
        may = {acked.get(machine, 0)}
        if doubt is not None and doubt[0] == machine:
            may.add(doubt[1] + doubt[2])
        assert found.get(machine, 0) in may, f"{machine}: {found.get(machine, 0)} entries, acknowledged {acked.get(machine, 0)}"
    if doubt is not None:
        retry(path, seed, *doubt)
        found[doubt[0]] = doubt[1] + doubt[2]
        assert read_all(path, seed) == found
    return found, doubt is not None


def retry(path, seed, machine, last, count):
    """The batch in doubt, once more with the same `expect`: it stands then, once, whether it did or not."""
    feed = next(feed for feed in appender.FEEDS if feed.machine == machine)
    batch = [appender.entry(seed, feed, index) for index in range(last + 1, last + count + 1)]
    with Ledger.open(path, write=True) as ledger:
        for _time in range(2):
            receipt = ledger.append(batch, observer=feed, expect=last)
            assert (receipt.first, receipt.last) == (last + 1, last + count)


def kill_one(path, seed, dice, before):
    """Let a child append, kill it at a random moment, judge what it left."""
    child = subprocess.Popen([*CHILD, str(path), seed, "100000"], stdout=subprocess.PIPE, env=ENVIRONMENT)
    try:
        if dice.random() < 0.85:
            child.stdout.readline()  # it has begun; else it may be killed while it makes or opens the file
            time.sleep(dice.expovariate(12))
        else:
            time.sleep(dice.uniform(0.05, 0.35))
    finally:
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().decode()
        child.stdout.close()
        child.wait()
    return judge(path, seed, rest.splitlines(), before)


def kills(folder, count, seed):
    """So many kills, a dozen on each file. Returns how many left a batch in doubt."""
    dice, doubts = random.Random(seed), 0
    for turn in range(count):
        if turn % 12 == 0:
            path, stands = folder / f"{turn}.ledger", {}
        stands, doubt = kill_one(path, f"{seed}{turn // 12}", dice, stands)
        doubts += doubt
    return doubts


def test_a_dozen_kills(tmp_path):
    """A dozen kills at random moments: nothing acknowledged is lost, nothing is there in part."""
    assert kills(tmp_path, 12, "dozen") > 0


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_hundred_kills(tmp_path):
    """Two hundred kills at random moments: nothing acknowledged is lost, nothing is there in part."""
    assert kills(tmp_path, 200, "hundreds") > 20


@pytest.mark.parametrize("after", ["begun", "trying", "acked"])
def test_a_kill_right_after_a_word(tmp_path, after):
    """Killed as soon as it said that it had begun, was trying, or that a batch was acknowledged."""
    child = subprocess.Popen([*CHILD, str(tmp_path / "a.ledger"), "word", "100000"], stdout=subprocess.PIPE, env=ENVIRONMENT)
    said = []
    while not said or not said[-1].startswith(after):
        said.append(child.stdout.readline().decode().strip())
    child.send_signal(signal.SIGKILL)
    said += child.stdout.read().decode().splitlines()
    child.stdout.close()
    child.wait()
    judge(tmp_path / "a.ledger", "word", said, {})


def test_a_killed_writers_lock_is_nobodys(tmp_path):
    """What a killed writer left beside its file keeps neither a reader nor the next writer out."""
    child = subprocess.Popen([*CHILD, str(tmp_path / "a.ledger"), "lock", "100000"], stdout=subprocess.PIPE, env=ENVIRONMENT)
    while not child.stdout.readline().startswith(b"acked"):
        pass
    with pytest.raises(LedgerError, match="being written"):
        Ledger.open(tmp_path / "a.ledger", write=True)
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    child.wait()
    assert (tmp_path / "a.ledger.lock").exists()
    with Ledger.open(tmp_path / "a.ledger", write=True), Ledger.open(tmp_path / "a.ledger"):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["a.ledger"]
