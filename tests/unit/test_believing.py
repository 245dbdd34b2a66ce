"""What one machine knew: staleness on its own clock, epochs, what is lacking, and how the command line says it."""

from __future__ import annotations

from pathlib import Path

import pytest
from called import call, incident
from recorded import observed, on_disk, recorded
from told import CREATED, ROOT, keyed, ns, told

from ledger import events as ev
from ledger.errors import NotCovered, Refused
from projections.belief import Belief
from replay.history import History

ALPHA, BRAVO = keyed("alpha", "ed25519:a"), keyed("bravo", "ed25519:b")
BRAVO_2 = keyed("bravo", "ed25519:b", 2)
FOUNDED = (
    (0, ev.FeedOpened(ROOT, "alpha", 1, "ed25519:a")),
    (0, CREATED),
    (0, ev.MachineJoined("alpha", ledger_key="ed25519:a", held=2)),
    (1, ev.MachineJoined("bravo", ledger_key="ed25519:b")),
    (2, ev.LinkEstablished("bravo", "1")),
)
OPENED = (
    (1, ev.FeedOpened(ROOT, "bravo", 1, "ed25519:b")),
    (2, ev.LinkEstablished("alpha", "1")),
)


def ping(peer: str, feed: object, held: int, number: int = 1) -> ev.PingAnswered:
    return ev.PingAnswered(peer, number, 500, "1", feed=feed.id, held=held)


def test_a_feed_that_does_not_grow_goes_stale_on_the_observers_clock() -> None:
    """Bravo's clock is a day ahead: what alpha believes of it lasts 4 intervals of alpha's clock after it last grew."""
    ahead = 86_400
    bravo = told(BRAVO, *((at + ahead, event) for at, event in OPENED))
    alpha = told(
        ALPHA, *FOUNDED, (60, ping("bravo", BRAVO, 1)), (100, ping("bravo", BRAVO, 2)), (160, ping("bravo", BRAVO, 2, 2)),
        *((160 + 60 * n, ping("bravo", BRAVO, 2, 2 + n)) for n in range(1, 6)),
    )  # fmt: skip
    with on_disk(observed([*alpha, *bravo])) as history:
        assert history.belief("alpha", ns(60)).pair("alpha", "bravo") == "unknown"  # it holds no word of bravo's about alpha
        assert history.belief("alpha", ns(100)).pair("alpha", "bravo") == "up"
        assert history.belief("alpha", ns(340)).pair("alpha", "bravo") == "up"
        late = history.belief("alpha", ns(340) + 1)
        assert late.pair("alpha", "bravo") == "uncovered"
        assert late.routes["alpha", "bravo"] == "unknown"
        assert late.link("bravo", "alpha").state == "up"  # the last that is known of it
        assert history.at(ns(340)).covered == {"alpha"}  # by wall clocks, bravo had not begun


def test_bravo_knows_less_than_alpha_until_it_hears() -> None:
    """A join that bravo has not received is none for bravo; with `feed.received` it is, and routes follow."""
    alpha = told(ALPHA, *FOUNDED, (3, ev.MachineJoined("charlie", ledger_key="ed25519:c")))
    bravo = told(BRAVO, *OPENED, (3, ev.FeedReceived(ALPHA.id, 5)), (9, ev.FeedReceived(ALPHA.id, 6)))
    with on_disk(observed([*alpha, *bravo])) as history:
        assert history.belief("bravo", "bravo#2").members == []
        assert history.belief("bravo", ns(8)).members == ["alpha", "bravo"]
        assert history.belief("bravo", ns(8)).routes["bravo", "alpha"] == ("bravo", "alpha")
        assert history.belief("bravo", ns(9)).members == ["alpha", "bravo", "charlie"]
        assert history.belief("alpha", ns(3)).members == ["alpha", "bravo", "charlie"]
        view = history.belief("bravo", ns(9)).view
        assert view is not None
        assert (view.observer, view.own, view.lacking) == ("bravo", BRAVO, {})


@pytest.mark.parametrize(("why", "known"), [("restored", 3), ("unconfirmed", 6), ("new-key", 6), ("new", 0)])
def test_of_an_earlier_epoch_is_known_what_was_not_lost(why: str, known: int) -> None:
    """What a restored machine lost it does not know, nor what that told of others; a new disk knows nothing."""
    alpha = told(ALPHA, *FOUNDED)
    one = told(BRAVO, *OPENED, *((3 + n, ev.FeedReceived(ALPHA.id, 2 + n)) for n in range(4)))
    lost = (4, 6) if why == "restored" else (None, None)
    two = told(BRAVO_2, (20, ev.FeedOpened(ROOT, "bravo", 2, "ed25519:b", why, *lost)), (21, ev.NodeStarted(2)))
    with on_disk(observed([*alpha, *one, *two])) as history:
        found = history.belief("bravo", ns(30))
        held = {feed: state.entries for feed, state in found.states.items()}
        expected = {BRAVO_2: 2} | ({BRAVO: known, ALPHA: {3: 2, 6: 5}[known]} if known else {})
        assert held == expected
        belief = Belief(BRAVO, history.prefix)
        stored = one[: known or 6]
        for entry in (*alpha, *stored):
            belief.apply(entry)
        belief.begin(BRAVO_2)
        for entry in two:
            belief.apply(entry)
        assert belief.at(ns(30)) == found
        assert belief.own == BRAVO_2


def test_a_newer_epoch_that_nobody_admits_is_not_covered(tmp_path: Path) -> None:
    """Charlie admitted bravo's new key. Without charlie's log the old epoch does not speak for what bravo knew later."""
    charlie, bravo_2 = keyed("charlie", "ed25519:c"), keyed("bravo", "ed25519:b2", 2)
    alpha = told(ALPHA, *FOUNDED, (3, ev.MachineJoined("charlie", ledger_key="ed25519:c")))
    bravo = told(BRAVO, *OPENED, (3, ev.FeedReceived(ALPHA.id, 5)))
    again = told(bravo_2, (50, ev.FeedOpened(ROOT, "bravo", 2, "ed25519:b2", "new-key")), (51, ev.LinkEstablished("alpha", "2")))
    admits = told(
        charlie,
        (4, ev.FeedOpened(ROOT, "charlie", 1, "ed25519:c")),
        (49, ev.MachineJoined("bravo", ledger_key="ed25519:b2")),
    )
    with on_disk(observed([*alpha, *bravo, *again, *admits])) as whole:
        assert whole.belief("bravo", ns(55)).view.own == bravo_2
    with on_disk(observed([*alpha, *bravo, *again])) as rest:
        assert rest.belief("bravo", ns(49)).view.own == BRAVO
        for moment in (ns(50), "end", "bravo.2#2"):
            with pytest.raises(NotCovered, match="epoch 2 had begun by then"):
                rest.belief("bravo", moment)
    path = recorded(tmp_path / "rest.ledger", observed([*alpha, *bravo, *again]))
    found = call("members", "--as-seen-by", "bravo", "-L", str(path), "-q", folder=tmp_path)
    assert (found.code, "who admitted it" in found.err) == (3, True)


def test_what_came_back_after_a_loss_is_held_as_anothers_feed_is() -> None:
    """A restored machine that got its lost entries back from a peer says so, and knows them again."""
    one = told(BRAVO, *OPENED, (3, ev.NoteAdded("x")), (4, ev.NoteAdded("y")))
    two = told(BRAVO_2, (20, ev.FeedOpened(ROOT, "bravo", 2, "ed25519:b", "restored", 3, 4)), (25, ev.FeedReceived(BRAVO.id, 4)))
    with on_disk(observed([*told(ALPHA, *FOUNDED), *one, *two])) as history:
        assert history.belief("bravo", ns(24)).states[BRAVO].entries == 2
        assert history.belief("bravo", ns(25)).states[BRAVO].entries == 4


def test_clocks_set_back_later_change_no_belief() -> None:
    """Alpha heard bravo before bravo set its clock back: instants as alpha knew them stay, though bravo disowned them."""
    bravo = told(BRAVO, *((at + 500, event) for at, event in OPENED))
    later = told(BRAVO, (5, ev.ClockStepped(-(500 * 10**9))), first=3)
    alpha = told(ALPHA, *FOUNDED, (10, ping("bravo", BRAVO, 2)))
    with on_disk(observed([*alpha, *bravo, *later])) as whole, on_disk(observed([*alpha, *bravo])) as then:
        assert whole.belief("alpha", ns(11)) == then.belief("alpha", ns(11))
        assert whole.belief("alpha", ns(11)).link("bravo", "alpha").since_ns == ns(502)
        assert whole.at(ns(11)).link("bravo", "alpha").since_ns == ns(5)


def test_entries_that_are_not_at_hand_are_said_to_be_lacking(tmp_path: Path) -> None:
    """Bravo had received more of alpha's feed than the ledgers hold: nothing of alpha's is guessed, and the exit code is 3."""
    alpha = told(ALPHA, *FOUNDED)
    bravo = told(BRAVO, *OPENED, (3, ev.FeedReceived(ALPHA.id, 9)), (4, ev.FeedReceived("c" * 64, 2)))
    path = recorded(tmp_path / "b.ledger", observed([*alpha, *bravo]))
    with History.open(path) as history:
        found = history.belief("bravo", ns(5))
        assert found.view is not None
        assert found.view.lacking == {ALPHA.id: (5, 9), "c" * 64: (0, 2)}
        assert "alpha" not in found.covered
        assert (found.link("alpha", "bravo").state, found.pair("alpha", "bravo")) == ("unknown", "uncovered")
    asked = call("at", "bravo#4", "--as-seen-by", "bravo", path)
    assert asked.code == 3
    assert "bravo had received 9 entries of alpha, of which these ledgers hold 5" in asked.err
    assert f"2 entries of feed {'c' * 8}" in asked.err


def test_a_machine_without_a_feed_and_one_that_nobody_knows(tmp_path: Path) -> None:
    """The first is not covered (3), the second a mistake (2), and a feed that had not begun is not covered either (3)."""
    path = recorded(tmp_path / "a.ledger", observed([*told(ALPHA, *FOUNDED), *told(BRAVO, *OPENED)]))
    with History.open(path) as history:
        history.belief("alpha", ns(0))
        with pytest.raises(NotCovered, match="had not begun"):
            history.belief("bravo", ns(0))
        with pytest.raises(Refused, match="no machine zulu"):
            history.belief("zulu", ns(0))
    alone = recorded(tmp_path / "alone.ledger", observed(told(ALPHA, *FOUNDED)))
    for command in (["at", "end"], ["members"], ["connstatus"], ["routes"], ["blame", "alpha"], ["diff", "start", "end"]):
        asked = call(*command, "--as-seen-by", "bravo", alone)
        assert (asked.code, asked.out) == (3, ""), command
        assert "no feed of bravo is at hand" in asked.err
        assert "hint: there are feeds of alpha" in asked.err
        assert call(*command, "--as-seen-by", "zulu", alone).code == 2


def test_the_command_line_says_whose_belief_it_is(tmp_path: Path) -> None:
    """The answer names the machine; one that has fallen silent long ago is told, with 3."""
    incident(tmp_path)
    asked = call("members", "--as-seen-by", "delta", tmp_path, "-o", "json")
    assert asked.code == 0
    assert '"as_seen_by":"delta"' in asked.out
    assert '"echo":{"member":true' in asked.out  # echo's own leave reached nobody
    assert '"echo":{"member":false' in call("members", tmp_path, "-o", "json").out
    assert "as seen by delta; cluster demo; 5 members" in call("routes", "--as-seen-by", "delta", tmp_path).out
    gone = call("at", "end", "--as-seen-by", "echo", tmp_path)
    assert gone.code == 3
    assert "echo's feed does not cover" in gone.err
    blamed = call("blame", "echo", "--as-seen-by", "delta", tmp_path, "-o", "json")
    assert '"as_seen_by":"delta"' in blamed.out
    changed = call("diff", "delta#20", "delta#40", "--as-seen-by", "delta", tmp_path, "-o", "json")
    assert changed.code == 1
    assert '"as_seen_by":"delta"' in changed.out
