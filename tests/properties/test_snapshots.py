"""Snapshots save time and nothing else: thrown away, void or damaged, no answer is another (C2, C11)."""

import sqlite3

import pytest
from hypothesis import given

from ledger import writer
from ledger.errors import LedgerError
from ledger.events import PingAnswered
from ledger.store import Ledger
from ledger.testing import observations
from replay import snapshots
from replay.history import History


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Records of five entries, a state after each: so that small feeds have many."""
    monkeypatch.setattr(writer, "RECORD_ENTRIES", 5)
    monkeypatch.setattr(snapshots, "EVERY_RECORDS", 1)


def written(path, entries):
    """A ledger of these entries, its snapshots beside it; how many there are."""
    with Ledger.create(path, incarnation="import:snap") as ledger:
        ledger.append(entries, observer=ledger.open_feed("alpha", at=entries[0].at_ns))
    return snapshots.write(path)


def answers(path, moments, *, use):
    """The state at each of these moments."""
    with History.open(path, snapshots=use) as history:
        return [history.at(at_ns) for at_ns in moments]


@given(observations())
def test_without_snapshots_nothing_is_another(tmp_path_factory, entries):
    """At every instant and 1 ns to either side, the state from a snapshot is the state from the first entry on."""
    path = tmp_path_factory.mktemp("snap") / "a.ledger"
    written(path, entries)
    moments = sorted({entry.at_ns + shift for entry in entries for shift in (-1, 0, 1)})
    assert answers(path, moments, use=True) == answers(path, moments, use=False)


ALTERED = [
    *[("snap", change) for change in ("id = id + 1000", "n = n + 1000", "n = 0", "n = 'x'", "basis = zeroblob(16)")],
    *[("snap", change) for change in ("names = names + 1", "names = 'x'", "names = null")],
    *[("snap", change) for change in ("base = base + 1", "body = substr(body, 2)", "body = 'x'", "sum = zeroblob(8)")],
    *[("base", change) for change in ("id = id + 900", "body = substr(body, 2)", "body = 3", "sum = zeroblob(8)")],
    *[("names", change) for change in ("id = id + 900", "body = substr(body, 2)", "body = 3", "sum = zeroblob(8)")],
    *[("feed", change) for change in ("id = id + 1", "fid = 'x'")],
]


@given(observations())
def test_a_changed_snapshot_is_an_error_or_changes_nothing(tmp_path_factory, entries):
    """Whichever column of a snapshot is altered, the answer is the same, or there is none."""
    path = tmp_path_factory.mktemp("snap") / "a.ledger"
    if not written(path, entries):
        return
    moments = [entry.at_ns for entry in entries]
    plain = answers(path, moments, use=False)
    for table, change in ALTERED:
        connection = sqlite3.connect(snapshots.path_of(path))
        connection.execute(f"update {table} set {change} where id = (select min(id) from {table})")
        connection.commit()
        connection.close()
        try:
            found = answers(path, moments, use=True)
        except LedgerError:
            continue
        assert found == plain


def test_another_fold_uses_none_of_them(tmp_path, monkeypatch):
    """A fold whose source differs finds its snapshots void, and writes its own."""
    path = tmp_path / "a.ledger"
    with Ledger.create(path, incarnation="import:snap") as ledger:
        feed = ledger.open_feed("alpha", at=0)
        for number in range(1, 12):
            ledger.append(PingAnswered("bravo", number, 5), observer=feed, at=number)
    assert snapshots.write(path) == 2
    assert snapshots.write(path) == 0
    monkeypatch.setattr(snapshots, "fingerprint", lambda: "another")
    with Ledger.open(path) as ledger:
        assert snapshots.Snapshots(path).before(ledger.reader(ledger.feed("alpha")), 2) is None
    assert snapshots.write(path) == 2


def test_a_file_of_another_form_is_made_anew(tmp_path):
    """Tables and columns that an earlier fold wrote are neither read nor kept: the file is made again, and answers."""
    path = tmp_path / "a.ledger"
    with Ledger.create(path, incarnation="import:snap") as ledger:
        feed = ledger.open_feed("alpha", at=0)
        for number in range(1, 12):
            ledger.append(PingAnswered("bravo", number, 5), observer=feed, at=number)
    moments = list(range(12))
    plain = answers(path, moments, use=False)
    connection = sqlite3.connect(snapshots.path_of(path))
    connection.executescript(
        "create table meta (key text primary key, value text not null) without rowid;"
        "insert into meta values ('fingerprint', 'of another form');"
        "create table feed (id integer primary key, fid text not null unique);"
        "create table base (id integer primary key, sum blob not null, body blob not null);"
        "create table snap (id integer primary key, n integer, basis blob, base integer, sum blob not null, body blob not null);"
    )
    connection.close()
    assert answers(path, moments, use=True) == plain
    assert snapshots.write(path) == 2
    assert answers(path, moments, use=True) == plain
