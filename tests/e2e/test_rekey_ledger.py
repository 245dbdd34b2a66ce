"""A machine's ledger key is changed while the mesh runs: its feed ends, signed by the old key, and its next epoch begins."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from raised import Node, ended, linked, raised, wait_for

from ledger import keys
from ledger.errors import Refused, Unwritable
from ledger.events import FeedOpened, KeyChanged
from ledger.identity import Feed
from ledger.node import renewal
from ledger.node.booting import own_feed
from ledger.node.craft import OwnCraft
from ledger.store import Ledger
from replay.check import verify


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Node]]:
    """Three nodes, not started yet."""
    with ended(raised(tmp_path, 3, lost_after=8)) as nodes:
        yield nodes


def feeds(node: Node, machine: str) -> dict[Feed, int]:
    """The feeds of a machine as a node holds them, and how far."""
    with Ledger.open(node.folder.ledger) as ledger:
        return {feed: ledger.head(feed).last for feed in ledger.feeds() if feed.machine == machine}


def hold_all(nodes: list[Node], machine: str, epochs: int) -> bool:
    """Whether all hold so many epochs of a machine, the earlier ones whole."""
    held = [feeds(node, machine) for node in nodes]
    return all(len(each) == epochs and list(each.values())[:-1] == list(held[0].values())[:-1] for each in held)


def test_a_ledger_key_is_changed(cluster):
    """Bravo's key is changed while charlie is away. The old feed ends with the change; everybody, charlie too once it is back and
    though alpha is gone by then, holds both feeds; what bravo commands elsewhere is obeyed under the new key; all of it verifies.
    """
    alpha, bravo, charlie = cluster
    for node in cluster:
        node.start()
    wait_for(lambda: linked(cluster), 30)
    assert charlie.kill(signal.SIGTERM) == 0
    before = bravo.folder.ledger_key().text
    said = bravo.ask("rekey", role="ledger")
    assert said["ok"], said
    after = bravo.folder.ledger_key().text
    wait_for(lambda: hold_all([alpha, bravo], "bravo", 2), 20)
    old, new = feeds(bravo, "bravo")
    assert (old.ledger_key, new.ledger_key) == (before, after)
    assert said["pos"] == old.at(feeds(bravo, "bravo")[old])
    assert bravo.events("key.changed") == [KeyChanged("ledger", before, after)]
    assert [opened.why for opened in bravo.events("feed.opened")] == ["new", "new-key"]
    assert not bravo.folder.file("ledger_key.next").exists()
    assert linked([alpha, bravo])
    assert bravo.ask("status", machine="alpha")["ok"]  # signed, and carried to alpha
    assert alpha.kill(signal.SIGTERM) == 0
    assert bravo.kill(signal.SIGKILL) != 0
    bravo.start()
    charlie.start()
    wait_for(lambda: linked([bravo, charlie]), 40)
    wait_for(lambda: hold_all([bravo, charlie], "bravo", 2), 20)
    assert bravo.ask("status", machine="charlie")["ok"]
    alpha.start()
    wait_for(lambda: linked(cluster), 40)
    for node in cluster:
        assert node.kill(signal.SIGTERM) == 0
    report = verify([node.folder.ledger for node in cluster])
    assert report.problems == []


def recorded(node: Node) -> tuple[Feed, str]:
    """A new ledger key beside the old one, and the entry that names it; the node's feed, and the new key."""
    _path, public = node.folder.renew("ledger")
    with Ledger.open(node.folder.ledger, write=True) as ledger:
        feed = own_feed(ledger, node.name, node.folder.ledger_key())
        ledger.append(KeyChanged("ledger", feed.ledger_key, public), observer=feed, at=10**18)
    return feed, public


def start(node: Node) -> tuple[str, list[Feed]]:
    """What a start makes of it: the key, and the machine's feeds, each begun once and the newest of that key."""
    with Ledger.open(node.folder.ledger, write=True) as ledger:
        key, own = renewal.finished(node.folder, ledger, node.name, 2 * 10**18)
        held = [feed for feed in ledger.feeds() if feed.machine == node.name]
        assert own == held[-1]
        assert [entry.event.why for feed in held for entry in ledger.read(feed) if isinstance(entry.event, FeedOpened)] == [
            "new", *["new-key"] * (len(held) - 1),
        ]  # fmt: skip
        words = OwnCraft(ledger, held[-1], key, node.folder.words()).words
        assert [feed.id in words for feed in held[:-1]] == [True] * (len(held) - 1)
    return key.text, held


@pytest.mark.parametrize("moment", ["not recorded", "recorded", "last word kept", "key in place", "done"])
def test_a_power_cut_at_any_moment_of_the_change_is_mended(cluster, moment, monkeypatch):
    """Wherever the change was cut off, a start ends with one key, one feed of it, and the last word of the feed before; a key
    that was not recorded is forgotten. A second start changes nothing more.
    """
    bravo = cluster[1]
    before = bravo.folder.ledger_key().text
    if moment == "not recorded":
        bravo.folder.renew("ledger")
        after = before
    else:
        feed, after = recorded(bravo)
        with Ledger.open(bravo.folder.ledger, write=True) as ledger, monkeypatch.context() as patched:
            craft = OwnCraft(ledger, feed, bravo.folder.ledger_key(), b"")
            if moment == "last word kept":
                patched.setattr(type(bravo.folder), "adopt_ledger", lambda *_: (_ for _ in ()).throw(Unwritable("no")))
                with pytest.raises(Unwritable):
                    renewal.adopt(bravo.folder, craft, after)
                assert craft.spoken().check(feed) is None  # it signs with the old key still
            elif moment in {"key in place", "done"}:
                renewal.adopt(bravo.folder, craft, after)
        if moment == "done":
            start(bravo)
    for _ in range(2):
        key, held = start(bravo)
        assert key == after == bravo.folder.ledger_key().text
        assert [feed.ledger_key for feed in held] == ([before] if after == before else [before, after])
    assert not bravo.folder.file("ledger_key.next").exists()


def test_another_key_is_never_taken_for_the_recorded_one(cluster):
    """The key beside the old one is not the one that the record names: it is not put in its place."""
    bravo = cluster[1]
    _feed, public = recorded(bravo)
    bravo.folder.file("ledger_key.next").unlink()
    keys.save(keys.generate(), bravo.folder.file("ledger_key.next"))
    with pytest.raises(Refused, match="is another key"):
        bravo.folder.adopt_ledger(public)


def test_the_end_of_an_epoch_that_nobody_could_confirm_reaches_the_others(cluster):
    """Alpha writes what nobody hears of, is killed, and starts alone: a new epoch, unconfirmed. When the others are back they
    come to hold the end of the epoch before as well.
    """
    alpha, *others = cluster
    for node in cluster:
        node.start()
    wait_for(lambda: linked(cluster), 30)
    for node in others:
        node.kill()
    alpha.ask("disconnect", machine="charlie")
    assert alpha.kill(signal.SIGKILL) != 0
    alpha.start()
    wait_for(lambda: len(feeds(alpha, "alpha")) == 2, 40)
    assert [opened.why for opened in alpha.events("feed.opened")] == ["new", "unconfirmed"]
    others[0].start()
    wait_for(lambda: hold_all([alpha, others[0]], "alpha", 2), 30)
