"""What is done once a tick, and not once a ping or once a peer: words, pushes and commits."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from ledger.events import SettingsChanged
from ledger.node import taking, wire
from ledger.node.state import SECOND
from ledger.node.virtual import World
from ledger.store import Ledger
from ledger.testing import simulate_nodes
from replay.living import remembered, view

NAMES = ("alpha", "bravo", "charlie", "delta")


@pytest.mark.parametrize("count", [2, 4])
def test_pings_are_pushed_once_an_interval_and_nobody_has_to_ask(count):
    """In a quiet mesh each machine pushes what it recorded once an interval to each peer: nobody asks for it, and at every peer
    what is held of each feed grows in each interval.
    """
    world = World(3, remembered, NAMES[:count], settings=SettingsChanged(1))
    for node in world.nodes.values():
        node.start()
    world.run(300 * SECOND)
    said: Counter[tuple[str, int, type]] = Counter()
    send = world.send

    def counted(node, number, message):
        said[node.name, number, type(message)] += 1
        send(node, number, message)

    world.send = counted
    held = []
    for minute in range(11):
        world.run((300 + minute * 60) * SECOND)
        held.append([len(log) for node in world.nodes.values() for feed, log in node.disk.items() if feed.machine != node.name])
    pushes = {key[:2]: number for key, number in said.items() if key[2] is wire.Push}
    assert len(pushes) == count * (count - 1)
    assert set(pushes.values()) <= {9, 10, 11}
    assert not any(kind in {wire.Want, wire.Nothing} for _name, _number, kind in said)
    assert all(after > before for one, other in pairwise(held) for before, after in zip(one, other, strict=True))


def test_an_answer_calls_off_what_would_have_ended_the_waiting_for_it():
    """In a quiet mesh a machine wakes by itself to ping each peer and to push, once an interval each, and for nothing else: no
    deadline of a ping that was answered wakes it.
    """
    world = World(4, remembered, NAMES, settings=SettingsChanged(1))
    for node in world.nodes.values():
        node.start()
    world.run(600 * SECOND)
    ticks: Counter[str] = Counter()
    for node in world.nodes.values():

        def counted(token, node=node, tick=node._tick):
            ticks[node.name] += token == node._due
            tick(token)

        node._tick = counted
    world.run(1200 * SECOND)
    assert all(10 * len(NAMES) - 2 <= ticks[name] <= 10 * len(NAMES) + 2 for name in NAMES), ticks


def test_a_node_commits_less_often_than_it_pings(monkeypatch):
    """What a node records and what comes from five others shares its commits: there are fewer than it has results of pings,
    though beside each of them there is a run of another feed.
    """
    commits, runs = 0, 0
    transaction, take = Ledger.transaction, taking._take

    @contextmanager
    def counted(self):
        nonlocal commits
        commits += self._depth == 0
        with transaction(self):
            yield

    def taken(*given, **more):
        nonlocal runs
        runs += 1
        return take(*given, **more)

    monkeypatch.setattr(Ledger, "transaction", counted)
    monkeypatch.setattr(taking, "_take", taken)
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own in it: what a disk does with `fsync` is not looked at here
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        run = simulate_nodes(
            1, Path(folder), views=view, machines=6, seconds=60, faults=[], settings=SettingsChanged(1, 2000, 1000)
        )
        assert run.unsettled == []
        pings = 0
        for name, node in run.nodes.items():
            with Ledger.open(node.folder.ledger) as ledger:
                pings += sum(e.kind == "ping.answered" for e in ledger.read() if e.observer == name)
    assert pings > 800
    assert runs > pings * 0.9
    assert commits < pings
