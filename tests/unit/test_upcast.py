"""An old shape in a ledger that newer code reads, merges and goes on with: shown as today's, kept as it was stored."""

import msgspec
import pytest

from ledger import codec
from ledger.events import KINDS, Event, NoteAdded, PingAnswered
from ledger.store import Ledger
from replay.merge import merge
from replay.soundness import verify_bytes


class Note2(Event, frozen=True):
    """A note as a later version might have it."""

    kind = "note.added"
    version = 2
    text: str
    length: int = 0


def longer(fields):
    """Version 1 of a note as version 2."""
    return {"text": fields["text"], "length": len(fields["text"])}


@pytest.fixture
def old(tmp_path):
    """A ledger with a note sealed and a note open, both of version 1."""
    path = tmp_path / "old.ledger"
    with Ledger.create(path, incarnation="import:old") as ledger:
        feed = ledger.open_feed("alpha", at=1)
        ledger.append([NoteAdded("one"), PingAnswered("bravo", 1, 5)], observer=feed, at=2)
        ledger.seal(feed)
        ledger.append(NoteAdded("three"), observer=feed, at=3)
    return path


@pytest.fixture
def newer(monkeypatch):
    """The program, a version later."""
    monkeypatch.setitem(KINDS, "note.added", Note2)
    monkeypatch.setitem(codec._DECODERS, "note.added", msgspec.json.Decoder(Note2))
    monkeypatch.setitem(codec.UPCASTERS, ("note.added", 1), longer)


def bodies(path):
    """The stored form of each control entry."""
    with Ledger.open(path) as ledger:
        return ledger._connection.execute("select idx, kind, v, body from control order by idx").fetchall()


def test_readers_see_the_new_shape(old, newer):
    """Every entry of the old version comes as today's event, in a record and in the open part."""
    with Ledger.open(old) as ledger:
        notes = [entry.event for entry in ledger.read("alpha") if entry.kind == "note.added"]
        assert notes == [Note2("one", 3), Note2("three", 5)]
        assert verify_bytes(ledger.reader(ledger.feed("alpha"))) == (1, 3)


def test_merging_carries_the_stored_bytes(old, newer, tmp_path):
    """A merge by newer code gives the same heads and the same stored bytes."""
    merge([old], tmp_path / "merged.ledger")
    assert bodies(tmp_path / "merged.ledger") == bodies(old)
    with Ledger.open(old) as one, Ledger.open(tmp_path / "merged.ledger") as other:
        assert one.head("alpha") == other.head("alpha")


def test_sealing_later_keeps_the_stored_bytes(old, newer):
    """Newer code that goes on with the feed seals the old entry as it was stored."""
    before = bodies(old)
    with Ledger.open(old, write=True) as ledger:
        ledger.append(Note2("four", 4), observer="alpha", at=4)
        ledger.seal("alpha")
        assert verify_bytes(ledger.reader(ledger.feed("alpha"))) == (2, 5)
    assert bodies(old)[: len(before)] == before
    assert [row[2] for row in bodies(old)] == [1, 1, 1, 2]
