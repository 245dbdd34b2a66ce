"""The pen of a node: what shares a commit, what waits, and what becomes of runs when one of them cannot be taken in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ledger.entry import Observed
from ledger.errors import Unwritable
from ledger.events import LinkLost, PingAnswered
from ledger.identity import incarnation_id
from ledger.keys import generate
from ledger.node import signals as sig
from ledger.node.notify import Notify
from ledger.node.pen import Pen
from ledger.node.replicas import Held
from ledger.node.words import Named
from ledger.store import Ledger

KEY = generate()
INCARNATION = incarnation_id("lab", "ccs", "name", KEY.text, "salt")
SECOND = 10**9


def ping(number: int) -> Observed:
    return Observed(SECOND + number, PingAnswered("bravo", number, 400, "1-1"), 1, number)


class Mesh:
    """What a pen sees of the core: it remembers what it is told, in order."""

    def __init__(self, feed: Any) -> None:
        self.core = SimpleNamespace(feed=feed, last=1, interval_ns=SECOND, stamp=lambda event: Observed(9 * SECOND, event, 1, 9))
        self.told: list[Any] = []

    def look(self, now: sig.Now) -> None:
        """The time."""

    def take_events(self) -> list[Observed]:
        """Nothing happened."""
        return []

    def stored(self, entries: list[Any]) -> None:
        """These stand."""
        self.core.last = entries[-1].index
        self.told += [entry.index for entry in entries]

    def observe(self, now: sig.Now, seen: Any) -> None:  # noqa: ARG002 - it is what the core is given
        """A run was judged, or the medium refuses."""
        if isinstance(seen, sig.Took):
            self.told.append(seen.channel if seen.refused is None else f"{seen.channel}: {seen.refused}")
        else:
            self.told.append(seen)


class Exchange:
    """Writes a note into another feed for each run, and refuses those of the channels that are named."""

    def __init__(self, ledger: Ledger, other: Any, refuses: set[int]) -> None:
        self.ledger, self.other, self.refuses = ledger, other, refuses

    def judge(self, action: Any, stamp: Any) -> sig.Took:  # noqa: ARG002 - it writes nothing to the own feed
        """Take it in, or fail as a medium does: in part, and with nothing left of it."""
        with self.ledger.transaction():
            self.ledger.append([ping(action.channel)], observer=self.other)
            if action.channel in self.refuses:
                raise Unwritable("the medium refuses")
        return sig.Took(action.channel, self.other, Held(), 0)

    def took(self, action: Any, taken: sig.Took) -> sig.Took:  # noqa: ARG002 - as it is
        """What the core is told."""
        return taken


@pytest.fixture
def made(tmp_path):
    """A pen, its mesh, its ledger, and what makes its exchange."""
    with Ledger.create(tmp_path / "alpha.ledger", incarnation=INCARNATION) as ledger:
        own = ledger.open_feed("alpha", at=0, ledger_key=KEY.text)
        other = ledger.open_feed("bravo", at=0)
        mesh: Any = Mesh(own)
        said: list[Any] = []
        pen = Pen(ledger, mesh, log=said.append, notify=Notify({}), now=lambda: sig.Now(SECOND, SECOND))

        def refusing(*channels: int) -> None:
            pen.exchange = Exchange(ledger, other, set(channels))  # type: ignore[assignment]

        yield SimpleNamespace(pen=pen, mesh=mesh, ledger=ledger, own=own, other=other, said=said, refusing=refusing)


def takes(*channels: int) -> Any:
    run = SimpleNamespace(feed=Named("bravo", 1, "ed25519:bravo"))
    return [SimpleNamespace(channel=channel, run=run) for channel in channels]


def test_results_of_pings_wait_and_everything_else_does_not(made):
    """Nothing is said to stand that does not: results lie until something else is to be written, and then stand before it."""
    made.pen.write([ping(1), ping(2)])
    assert (made.ledger.head(made.own).last, made.mesh.told) == (1, [])
    made.pen.write([Observed(3 * SECOND, LinkLost("bravo", "timeout"), 1, 3)])
    assert [entry.kind for entry in made.ledger.read(made.own, after=1)] == ["ping.answered", "ping.answered", "link.lost"]
    assert (made.mesh.told, made.pen.waiting) == ([2, 3, 4], [])


def test_runs_are_told_of_once_they_all_stand_and_after_what_came_before_them(made):
    """Own results that waited share the transaction of the runs: until it has ended a reader sees nothing of it, and then the
    core hears of the results first.
    """
    made.refusing()
    made.pen.write([ping(1)])
    seen = []

    def runs():
        for action in takes(5, 6, 7):
            with Ledger.open(made.ledger.path) as reader:
                seen.append((reader.head(made.own).last, reader.head(made.other).last, list(made.mesh.told)))
            yield action

    assert [action.channel for action in made.pen.take(runs())] == [5, 6, 7]
    assert seen == [(1, 1, [])] * 3
    assert made.mesh.told == [2, 5, 6, 7]
    assert (made.ledger.head(made.own).last, made.ledger.head(made.other).last) == (2, 4)


def test_where_runs_cannot_be_taken_together_each_is_taken_by_itself(made):
    """One of three fails as it is written: the others and the own results stand, nothing of it does, and it is said, to the core
    too, which has it asked for again.
    """
    made.refusing(6)
    made.pen.write([ping(1)])
    made.pen.take(takes(5, 6, 7))
    assert made.mesh.told == [2, 5, "6: medium", 7]
    assert [entry.event.number for entry in made.ledger.read(made.other, after=1)] == [5, 7]
    assert [(line["event"], line["feed"]) for line in made.said] == [("run-not-taken", "bravo")]


def test_what_a_medium_refuses_is_kept_and_stands_in_its_place(made, monkeypatch):
    """Entries that cannot be appended wait with those that come after them, the core hears once that the medium refuses, no run
    is taken meanwhile; and all stand in order when it takes again.
    """
    made.refusing()
    append = Ledger.append

    def refuses(self, *given, **more):
        raise Unwritable("no space")

    monkeypatch.setattr(Ledger, "append", refuses)
    made.pen.write([Observed(2 * SECOND, LinkLost("bravo", "timeout"), 1, 2)])
    made.pen.write([ping(3)])
    made.pen.take(takes(5))
    assert made.pen.full
    assert made.mesh.told == [sig.Medium(False, "no space"), "5: medium"]
    monkeypatch.setattr(Ledger, "append", append)
    made.pen.flush()
    assert not made.pen.full
    assert made.mesh.told[2:] == [sig.Medium(True), 2, 3]
    assert [entry.kind for entry in made.ledger.read(made.own, after=1)] == ["link.lost", "ping.answered"]
