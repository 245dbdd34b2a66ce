"""Following a record, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import observed, recorded
from told import keyed, ns, own

from ledger import events as ev
from ledger.entry import Observed
from ledger.errors import NotCovered, Refused
from ledger.identity import Feed
from ledger.store import Ledger
from replay.follow import ends, follow, parse_token, token_text
from replay.history import History
from replay.select import Selection


def note(at: float) -> Observed:
    return Observed(ns(at), ev.NoteAdded(str(at)))


def test_a_live_file_is_followed_beside_its_writer(tmp_path: Path) -> None:
    """Each step gives what came since, sealed or not, and new feeds from their beginning."""
    path = recorded(tmp_path / "one.ledger", observed(own("alpha", (1, ev.NoteAdded("1")))))
    first = follow(path, {})
    assert [entry.position for entry in first.entries] == ["alpha#1", "alpha#2", "alpha#3"]
    with Ledger.open(path, write=True) as ledger:
        ledger.append([note(5), note(6)], observer="alpha")
        bravo = ledger.open_feed("bravo", at=ns(4))
        second = follow(path, first.after)
        assert [entry.position for entry in second.entries] == ["bravo#1", "alpha#4", "alpha#5"]
        ledger.seal("alpha")
        assert follow(path, second.after).entries == []
        ledger.append(note(7), observer="alpha")
        ledger.append(note(3), observer=bravo)  # late: it counts as its feed's latest instant
        third = follow([path], second.after)
    assert [entry.position for entry in third.entries] == ["bravo#2", "alpha#6"]
    with History.open(path) as history:
        assert third.after == ends(history)
        assert follow(history, third.after).entries == []


def test_a_step_may_be_limited_and_selected(tmp_path: Path) -> None:
    """The token then stands behind the last entry that was given, not behind what was passed over after it."""
    rows = own("alpha", *((minute, ev.NoteAdded(str(minute))) for minute in range(9))) + own("bravo", (4.5, ev.NoteAdded("x")))
    path = recorded(tmp_path / "one.ledger", observed(rows), [5])
    notes = Selection(kinds=("note",))
    given, after = [], {}
    while True:
        step = follow(path, after, notes, limit=3)
        given += [entry.position for entry in step.entries]
        after = step.after
        if len(step.entries) < 3:
            break
    assert given == [*(f"alpha#{index}" for index in range(3, 8)), "bravo#3", *(f"alpha#{index}" for index in range(8, 12))]
    with History.open(path) as history:
        assert after == ends(history)


def test_a_token_is_text(tmp_path: Path) -> None:
    """Positions, feeds in their order; read back to the same; empty at the beginning."""
    path = recorded(tmp_path / "one.ledger", observed(own("alpha") + own("bravo")))
    with History.open(path) as history:
        after = ends(history)
        assert token_text(after, history.feeds) == "alpha#2,bravo#2"
        assert parse_token("alpha#2,bravo#2", history.feeds) == after
        assert parse_token(" ", history.feeds) == {}
        assert token_text({}, history.feeds) == ""
        assert parse_token("bravo#1, alpha#0", history.feeds) == {history.feeds[1].id: 1, history.feeds[0].id: 0}
        for text in ("alpha", "zulu#1", "alpha#1,alpha#2", "alpha#1,,", "alpha#x"):
            with pytest.raises(Refused) as refused:
                parse_token(text, history.feeds)
            assert refused.value.hint


def test_two_feeds_of_one_name_are_told_apart_by_digits() -> None:
    """As many digits of the id as it takes; without them it is refused, and the hint spells both."""
    one, other = keyed("alpha", "ed25519:a"), keyed("alpha", "ed25519:other")
    feeds: list[Feed] = sorted([one, other])
    text = token_text({one.id: 7, other.id: 9}, feeds)
    assert text == ",".join(f"alpha~{feed.id[:4]}#{7 if feed == one else 9}" for feed in feeds)
    assert parse_token(text, feeds) == {one.id: 7, other.id: 9}
    with pytest.raises(Refused) as refused:
        parse_token("alpha#7", feeds)
    assert f"alpha~{one.id[:4]}#7" in str(refused.value.hint)


def test_an_older_copy_is_no_continuation(tmp_path: Path) -> None:
    """A file that holds less than was read of it already would repeat itself later: it is refused."""
    path = recorded(tmp_path / "one.ledger", observed(own("alpha")))
    with History.open(path) as history:
        beyond = {history.feeds[0].id: 9}
    with pytest.raises(NotCovered, match="ends at #2"):
        follow(path, beyond)
