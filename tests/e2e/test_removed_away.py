"""A machine that was away when it was removed: refused at its key, told so by who removed it, and gone."""

import contextlib
import signal

import pytest
from raised import ended, linked, raised, wait_for

from replay.check import verify


def answer(node):
    """What it says of itself, or nothing while it does not listen yet."""
    with contextlib.suppress(Exception):
        return node.ask("status")
    return {}


@pytest.fixture
def nodes(tmp_path):
    with ended(raised(tmp_path, 3)) as made:
        yield made


def test_a_machine_removed_while_it_was_away_learns_of_it(nodes):
    """Charlie is down when alpha removes it. Back again it is refused at its key by both others and has no link to bravo;
    alpha calls, it takes in the entry of its removal, checked as any other, and ends. Nobody else records a link to it.
    """
    alpha, bravo, charlie = nodes
    for node in nodes:
        node.start()
    wait_for(lambda: linked(nodes), 60)
    charlie.kill()
    before = len(alpha.events("link.established"))
    assert alpha.ask("remove", machine="charlie")["ok"]
    charlie.start()
    wait_for(lambda: charlie.process.poll() is not None, 90)
    assert charlie.kill(signal.SIGTERM) == 0
    assert any(event.reason == "auth-failed" for event in charlie.events("link.failed"))
    assert [event.peer for event in charlie.events("link.established")[-1:]] == ["alpha"]
    assert [event.reason for event in charlie.events("link.lost")[-1:]] == ["not-a-member"]
    assert len(alpha.events("link.established")) == before
    assert linked([alpha, bravo])
    for node in (alpha, bravo):
        assert node.kill(signal.SIGTERM) == 0
    report = verify([node.folder.ledger for node in nodes])
    assert report.problems == []


def test_a_machine_that_nobody_tells_sees_that_its_key_is_refused(nodes):
    """Who removed charlie is gone itself: charlie has no link, goes on, and `status` says what that may mean."""
    alpha, bravo, charlie = nodes
    for node in nodes:
        node.start()
    wait_for(lambda: linked(nodes), 60)
    assert charlie.ask("status")["hint"] is None
    charlie.kill()
    assert alpha.ask("remove", machine="charlie")["ok"]
    wait_for(lambda: "charlie" not in bravo.ask("status")["members"], 30)
    alpha.kill()
    charlie.start()
    wait_for(lambda: answer(charlie).get("hint"), 60)
    assert "may have been removed" in answer(charlie)["hint"]
    assert charlie.process.poll() is None
