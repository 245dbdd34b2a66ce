"""A node's ledger is replaced by an older copy of itself, as after a restored backup: real processes, real files."""

from __future__ import annotations

import shutil
import signal

import pytest
from raised import ended, linked, raised, wait_for

from ledger.events import FeedOpened
from ledger.store import Ledger
from replay.check import verify


@pytest.fixture
def nodes(tmp_path):
    """Three nodes that are linked."""
    with ended(raised(tmp_path, 3, lost_after=8)) as made:
        for node in made:
            node.start()
        wait_for(lambda: linked(made), 30)
        yield made


def epochs(node, machine):
    """A machine's feeds as a node holds them: for each the first event and how many entries."""
    with Ledger.open(node.folder.ledger) as ledger:
        feeds = sorted(feed for feed in ledger.feeds() if feed.machine == machine)
        return [(next(iter(ledger.read(feed))).event, ledger.head(feed).last) for feed in feeds]


def test_a_ledger_that_is_set_back_twice_names_what_it_lost_and_forks_nothing(nodes, tmp_path):
    """Bravo's ledger is put back to a copy, and after a while to the same copy again. Each time the others show what they hold of
    its feeds, signed by its own key: it begins a new epoch that names the lost range, the second time one beyond the epoch that
    it has lost altogether. All come to hold all three, what was lost included; no entry contradicts another.
    """
    alpha, bravo, charlie = nodes
    copy = tmp_path / "copy"
    assert bravo.kill(signal.SIGTERM) == 0
    shutil.copy(bravo.folder.ledger, copy)
    ends = []
    for number in (1, 2, 3):
        bravo.start()
        wait_for(lambda: linked(nodes), 40)
        wait_for(lambda number=number: [len(epochs(each, "bravo")) for each in nodes] == [number] * 3, 40)
        least = epochs(bravo, "bravo")[-1][1]
        wait_for(lambda least=least: min(epochs(each, "bravo")[-1][1] for each in (alpha, charlie)) >= least, 20)
        assert bravo.kill(signal.SIGTERM) == 0
        ends.append(epochs(bravo, "bravo")[-1][1])
        wait_for(lambda end=ends[-1]: [epochs(each, "bravo")[-1][1] for each in (alpha, charlie)] == [end] * 2, 20)
        if number < 3:
            shutil.copy(copy, bravo.folder.ledger)
    opened = [event for event, _last in epochs(bravo, "bravo")]
    with Ledger.open(copy) as ledger:
        had = next(ledger.head(feed).last for feed in ledger.feeds() if feed.machine == "bravo")
    assert all(isinstance(event, FeedOpened) for event in opened)
    assert [(event.why, event.lost_from, event.lost_until) for event in opened] == [
        ("new", None, None), ("restored", had + 1, ends[0]), ("restored", 1, ends[1]),
    ]  # fmt: skip
    for node in (alpha, charlie):
        assert node.kill(signal.SIGTERM) == 0
    assert [last for _event, last in epochs(bravo, "bravo")] == [last for _event, last in epochs(alpha, "bravo")] == ends
    report = verify([node.folder.ledger for node in nodes])
    assert report.problems == []
