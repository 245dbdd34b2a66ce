"""A machine's keys are changed while the mesh runs: real nodes, whose links end and come back, and who refuse the old key."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from naming import Names
from raised import Node, linked, raised, wait_for
from wires import dial, settle

from ledger.errors import Refused
from ledger.events import JoinRefused, KeyChanged, LinkEstablished, LinkFailed, LinkLost
from ledger.identity import Feed
from ledger.node import ccs, wire
from ledger.node.config import NodeDir
from ledger.node.links import DialFailed
from ledger.node.sshclient import key_text, load_key
from ledger.node.words import Named
from ledger.store import Ledger
from replay.check import verify

REFUSALS = {"host-key-mismatch", "auth-failed", "refused"}
boots = itertools.count(time.time_ns() // 1_000_000)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Node]]:
    """Three nodes that are linked."""
    names = Names()
    nodes = raised(tmp_path, 3, interval_ms=400, timeout_ms=350, lost_after=8, dns=(names.server,))
    try:
        for node in nodes:
            node.start()
        wait_for(lambda: linked(nodes), 30)
        yield nodes
    finally:
        for node in nodes:
            if node.process is not None:
                node.kill()
        names.close()


def events(node: Node, machine: str | None = None) -> list:
    """What a node holds of a machine's feed; its own, if none is named."""
    with Ledger.open(node.folder.ledger) as ledger:
        wanted = machine or node.name
        return [entry.event for feed in ledger.feeds() if feed.machine == wanted for entry in ledger.read(feed)]


def feed_of(node: Node) -> Feed:
    with Ledger.open(node.folder.ledger) as ledger:
        return next(feed for feed in ledger.feeds() if feed.machine == node.name)


def relinked(nodes: list[Node], node: Node, role: str) -> None:
    """The key of this role is changed, everybody knows, and all are linked."""
    said = node.ask("rekey", role=role)
    assert said["ok"], said
    changes = [event for event in events(node) if isinstance(event, KeyChanged)]
    assert (changes[-1].role, changes[-1].new) == (role, node.folder.public(f"{role}_key"))
    for other in nodes:
        wait_for(lambda other=other: changes[-1] in events(other, node.name), 20)
    wait_for(lambda: linked(nodes), 20)


def greeting(node: Node, feed: Feed, key: str, to: Node) -> str:
    """What a node answers to one that greets as `node` with this dial key: `up`, or the reason of its refusal."""

    async def inner() -> str:
        heard = await dial(to.port, load_key(key), [to.folder.public("host_key")])
        heard.link.send(wire.encode(wire.Hello(
            wire.PROTOCOL, feed.incarnation, node.name, Named.of(feed), 1, next(boots), "test 1", "ccs", "address",
            os.urandom(6).hex(), "127.0.0.1", node.port,
        )))  # fmt: skip
        while True:
            message = wire.decode(await asyncio.wait_for(heard.frames.get(), 10))
            if isinstance(message, wire.Hello | wire.Bye):
                heard.link.abort()
                await settle()
                return "up" if isinstance(message, wire.Hello) else message.reason

    return asyncio.run(inner())


def answering(node: Node) -> str:
    """The host key that answers where a node listens."""
    return asyncio.run(ccs.probe("127.0.0.1", node.port, 10))


def test_a_dial_key_is_changed_and_the_old_one_is_refused(cluster, tmp_path):
    """The links that the machine had dialled end as `auth-failed` and come back under the new key; who dials with the old one is
    told `auth-failed`, and that is recorded without a word against the link that stands.
    """
    alpha, _, charlie = cluster
    old = shutil.copy(charlie.folder.file("dial_key"), tmp_path / "old")
    before = charlie.folder.public("dial_key")
    relinked(cluster, charlie, "dial")
    assert key_text(load_key(charlie.folder.file("dial_key"))) == charlie.folder.public("dial_key") != before
    assert {event.reason for event in events(alpha) if isinstance(event, LinkLost) and event.peer == "charlie"} <= {
        "auth-failed", "closed", "reset",
    }  # fmt: skip
    assert greeting(charlie, feed_of(charlie), old, alpha) == "auth-failed"

    def told() -> bool:
        found = events(alpha)
        return any(isinstance(e, JoinRefused) and (e.who, e.reason) == ("charlie", "auth-failed") for e in found)

    wait_for(told, 10)
    assert linked(cluster)
    for node in cluster:
        assert node.kill(signal.SIGTERM) == 0
        assert verify([node.folder.ledger]).problems == []


def test_a_host_key_is_changed_and_only_the_new_one_answers(cluster):
    """The listener shows the new key at once; who expects the old one is told `host-key-mismatch`; a restart brings no old one
    back, and the links stand again.
    """
    alpha, bravo, _ = cluster
    before = bravo.folder.public("host_key")
    relinked(cluster, bravo, "host")
    assert answering(bravo) == bravo.folder.public("host_key") != before
    with pytest.raises(DialFailed) as failed:
        asyncio.run(dial(bravo.port, load_key(alpha.folder.file("dial_key")), [before]))
    assert failed.value.reason == "host-key-mismatch"
    assert bravo.kill(signal.SIGTERM) == 0
    bravo.start()
    wait_for(lambda: linked(cluster), 30)
    assert answering(bravo) == bravo.folder.public("host_key")


@pytest.mark.long
def test_who_was_away_while_both_keys_were_changed_finds_back(cluster):
    """A machine was down while another changed its keys: that one dials it, names the entry that changed them, is asked for it
    and believed; no operator helps. Until it knows its own record to be whole, it takes nothing in, and refuses (`auth-failed`).
    """
    alpha, bravo, charlie = cluster
    assert charlie.kill(signal.SIGTERM) == 0
    for role in ("dial", "host"):
        relinked([alpha, bravo], bravo, role)
    assert alpha.kill(signal.SIGTERM) == 0  # nobody else can tell it
    seen = len(events(charlie))
    charlie.start()
    wait_for(lambda: linked_pair(bravo, charlie), 30)
    later = events(charlie)[seen:]
    assert any(isinstance(event, LinkEstablished) and event.peer == "bravo" for event in later)
    assert {e.reason for e in later if isinstance(e, LinkFailed) and e.peer == "bravo"} <= REFUSALS
    changed = [event.role for event in events(charlie, "bravo") if isinstance(event, KeyChanged)]
    assert changed == ["dial", "host"]


def linked_pair(a: Node, b: Node) -> bool:
    """Whether these two say that they are linked with each other."""
    return bool(a.ask("status")["members"][b.name]["linked"] and b.ask("status")["members"][a.name]["linked"])


def test_a_power_cut_between_the_record_and_the_key_file_is_mended(tmp_path):
    """A new key that is recorded gets its place at the next start, wherever the exchange of the two files stopped; one that is
    not recorded is forgotten, and another is never taken for it.
    """
    for stopped in ("before", "between"):
        folder = NodeDir.make(tmp_path / stopped)
        folder.make_keys()
        fresh, public = folder.renew("dial")
        private = fresh.read_bytes()
        if stopped == "between":
            fresh.replace(folder.file("dial_key"))
        folder.settle("dial", public)
        assert folder.public("dial_key") == public == key_text(load_key(folder.file("dial_key")))
        assert folder.file("dial_key").read_bytes() == private
        assert not list(folder.path.glob("*.next*"))
        folder.renew("dial")
        with pytest.raises(Refused, match="is another key"):
            folder.adopt("dial", public)
        folder.settle("dial", public)
        assert folder.file("dial_key").read_bytes() == private
        assert not list(folder.path.glob("*.next*"))
