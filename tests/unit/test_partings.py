"""Who waits for a machine that is gone: judged from when it came to know, not from when somebody wrote it elsewhere."""

from __future__ import annotations

import naive_invariants as naive
import naive_mesh
import pytest

from ledger import events as ev
from ledger.entry import Observed
from ledger.identity import Feed
from ledger.testing import History, entries
from projections.invariants import shipped
from projections.pace import Pace
from projections.watch import Watch

START, MINUTE = 1_767_225_600 * 10**9, 60 * 10**9
ALPHA, BRAVO, CHARLIE = (Feed.of("import:told", name) for name in ("alpha", "bravo", "charlie"))


def outcome(name: str, **told: list[tuple[float, ev.Event]]) -> str:
    """What an invariant comes to over feeds, (minute, event) by machine; its sentence says the same."""
    feeds: History = {
        Feed.of("import:told", machine): [Observed(START + int(at * MINUTE), event) for at, event in written]
        for machine, written in told.items()
    }
    log = sorted(entries(feeds), key=lambda entry: (entry.effective_ns, entry.feed, entry.index))
    watch = Watch([monitor for monitor in shipped() if monitor.rule.name == name], Pace.of(log))
    for entry in log:
        watch.step(entry)
    found = watch.end()[0].outcome
    sentence = getattr(naive, name.lower(), None) or getattr(naive_mesh, name.lower())
    assert sentence(naive.Log(log)).outcome == found
    return found


def removed(at: float, machine: str, cause: str = "removed") -> tuple[float, ev.Event]:
    return at, ev.MachineLeft(machine, (), None, cause)


@pytest.mark.parametrize(("received", "says"), [(12.0, "vacuous"), (14.5, "violated")])
def test_a_loss_needs_no_answer_once_one_knows_that_the_machine_was_removed(received: float, says: str) -> None:
    """Bravo removed charlie before alpha lost it; alpha heard of that in time (A13 has nothing to say), or too late."""
    alpha = [
        (0, ev.LinkEstablished("charlie", "1")), (11, ev.LinkLost("charlie", "timeout", "1")),
        (received, ev.FeedReceived(BRAVO.id, 1)), (20, ev.NoteAdded("later")),
    ]  # fmt: skip
    assert outcome("A13", alpha=alpha, bravo=[removed(2, "charlie")]) == says


@pytest.mark.parametrize("word", ["A9", "A12"])
def test_nobody_is_pinged_once_one_knows_that_it_left(word: str) -> None:
    """Charlie left while alpha was cut off: alpha fails to reach it each minute until it hears of that, and no longer."""
    alpha = [(0, ev.LinkEstablished("charlie", "1")), *((at, ev.PingAnswered("charlie", at, 900, "1")) for at in range(1, 4))]
    missed = [(at, ev.PingFailed("charlie", at, "timeout", "1")) for at in range(4, 11)]
    heard = [(10.5, ev.FeedReceived(CHARLIE.id, 1)), (20, ev.NoteAdded("later"))]
    assert outcome(word, alpha=[*alpha, *missed, *heard], charlie=[removed(3.5, "charlie", "left")]) == "holds"
    silent = [(20, ev.NoteAdded("later"))]
    if word == "A9":
        assert outcome(word, alpha=[*alpha, *missed, *silent], charlie=[removed(3.5, "charlie", "left")]) == "violated"


def test_a_departure_that_was_heard_of_long_ago_excuses_nothing() -> None:
    """Charlie left, alpha heard of it, charlie joined anew: whatever alpha receives after that, a loss is to be answered."""
    bravo = [removed(1, "charlie"), (3, ev.MachineJoined("charlie")), (10.5, ev.NoteAdded("more"))]
    alpha = [
        (2, ev.FeedReceived(BRAVO.id, 1)), (4, ev.FeedReceived(BRAVO.id, 2)), (5, ev.LinkEstablished("charlie", "1")),
        (10, ev.LinkLost("charlie", "timeout", "1")), (11, ev.FeedReceived(BRAVO.id, 3)), (20, ev.NoteAdded("later")),
    ]  # fmt: skip
    assert outcome("A13", alpha=alpha, bravo=bravo) == "violated"


@pytest.mark.parametrize(("received", "says"), [(None, "holds"), (8.0, "holds"), (4.0, "violated")])
def test_a_removed_machine_may_link_until_it_knows(received: float | None, says: str) -> None:
    """Charlie is removed while it is cut off, and links: that breaks B13 only if it held the removal before."""
    bravo = [(0, ev.MachineJoined("charlie")), removed(2, "charlie")]
    charlie = [(1, ev.NoteAdded("up")), (6, ev.LinkEstablished("alpha", "1"))]
    if received is not None:
        charlie = sorted([*charlie, (received, ev.FeedReceived(BRAVO.id, 2))], key=lambda each: each[0])
    assert outcome("B13", bravo=bravo, charlie=charlie) == says


def test_who_leaves_knows_it_at_once() -> None:
    """Charlie leaves and links: nobody has to tell it."""
    charlie = [(0, ev.MachineJoined("charlie")), removed(2, "charlie", "left"), (6, ev.LinkEstablished("alpha", "1"))]
    assert outcome("B13", charlie=charlie) == "violated"
