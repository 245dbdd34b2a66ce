"""The tables of a ledger: append-only by triggers, plain to other tools, checked at every open."""

import sqlite3
import stat

import pytest
from scene import INCARNATION, KEY, MINUTE_NS, START_NS, feed_of, lost, minutes, note, opening

from ledger import schema
from ledger.entry import Observed
from ledger.errors import Damaged, Newer, NotALedger, Older
from ledger.events import LinkEstablished, MachineJoined, MachineLeft
from ledger.store import Ledger


@pytest.fixture
def path(tmp_path):
    """A ledger of one keyed feed: a sealed record, an open part with controls and pings."""
    found, feed = tmp_path / "a.ledger", feed_of(keyed=True)
    with Ledger.create(found, incarnation=INCARNATION) as ledger:
        ledger.append([opening(feed), *minutes(30)], observer=feed)
        ledger.append(Observed(START_NS, MachineJoined("alpha", "alpha.example", ledger_key=KEY)), observer=feed)
        ledger.append([note("open"), lost(), *minutes(7, first=30)], observer=feed)
        ledger.append(Observed(START_NS + MINUTE_NS, LinkEstablished("bravo", "l-2")), observer=feed)
    return found


@pytest.fixture
def db(path):
    """The same file, opened by a stock program that may write."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


KEPT = ("control", "context", "record", "feed", "open")


@pytest.mark.parametrize("table", KEPT)
def test_nothing_that_happened_is_changed_by_accident(db, table):
    """An UPDATE of any column of any row of the log is refused."""
    columns = [row[1] for row in db.execute(f"pragma table_info({table})")]
    for column in columns:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(f"update {table} set {column} = {column}")


@pytest.mark.parametrize("table", KEPT)
def test_nothing_that_happened_is_taken_away_by_accident(db, table):
    """A DELETE from the log is refused; of open rows, unless a record covers them."""
    before = db.execute(f"select count(*) from {table}").fetchone()
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(f"delete from {table}")
    assert db.execute(f"select count(*) from {table}").fetchone() == before != (0,)


@pytest.mark.parametrize("table", ["control", "record", "open"])
@pytest.mark.parametrize("verb", ["insert", "insert or replace", "insert or ignore"])
def test_a_position_that_is_taken_stays_taken(db, table, verb):
    """No INSERT, and no REPLACE either, writes over a position."""
    columns = [row[1] for row in db.execute(f"pragma table_info({table})") if row[1] != "id"]
    before = db.execute(f"select * from {table}").fetchall()
    with pytest.raises(sqlite3.IntegrityError, match="position is taken"):
        db.execute(f"{verb} into {table} ({', '.join(columns)}) select {', '.join(columns)} from {table}")
    assert db.execute(f"select * from {table}").fetchall() == before


def test_open_rows_go_only_when_a_record_covers_them(db):
    """A record that ends before an open row begins gives no leave to delete it."""
    sealed = db.execute("select max(last) from record").fetchone()[0]
    assert db.execute("select min(first) from open").fetchone()[0] > sealed
    with pytest.raises(sqlite3.IntegrityError, match="no record covers"):
        db.execute("delete from open")


def test_a_file_is_its_owners_alone(path):
    """A new ledger has mode 0600, whatever the umask."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_content_gives_the_same_bytes(tmp_path):
    """No clock time, no random number and no path gets into a file."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        with Ledger.create(tmp_path / name / f"{name}.ledger", incarnation=INCARNATION) as ledger:
            ledger.append([opening(feed_of()), *minutes(2500)], observer=feed_of())
    assert (tmp_path / "one/one.ledger").read_bytes() == (tmp_path / "other/other.ledger").read_bytes()


def test_the_migrations_are_remembered(db):
    """sqlite-utils knows which steps have been taken."""
    assert db.execute("select migration_set, name from _sqlite_migrations").fetchall() == [("meshledger", "format_2")]


@pytest.mark.parametrize(
    ("statement", "error", "said"),
    [
        ("update meta set value = '3' where key = 'format'", Newer, "written in format 3"),
        ("update meta set value = '1' where key = 'format'", Older, "written in format 1, which no release wrote"),
        ("update meta set value = '0' where key = 'format'", Damaged, "format number"),
        ("update meta set value = 'one' where key = 'format'", Damaged, "format number"),
        ("delete from meta where key = 'format'", Damaged, "format number"),
        ("drop trigger control_update", Damaged, "triggers"),
        ("create trigger mine after insert on control begin delete from head; end", Damaged, "triggers"),
        ("drop table head", Damaged, "tables"),
    ],
)
def test_a_file_that_is_not_as_it_was_made_is_refused(path, db, statement, error, said):
    """Newer and older formats, missing tables and triggers other than ours are told apart, to read and to write."""
    db.execute(statement)
    for write in (False, True):
        with pytest.raises(error, match=said):
            Ledger.open(path, write=write)


def test_a_weakened_trigger_is_seen(path, db):
    """A trigger of the right name that does nothing is damage."""
    db.execute("drop trigger record_delete")
    db.execute("create trigger record_delete before delete on record when 0 begin select 1; end")
    with pytest.raises(Damaged, match="triggers"):
        Ledger.open(path)


def test_triggers_made_anew_from_a_dump_are_ours(path, tmp_path):
    """A ledger restored from `.dump` opens: white space and case in a trigger's text are not its meaning."""
    restored = tmp_path / "restored.ledger"
    with sqlite3.connect(path) as source, sqlite3.connect(restored) as target:
        target.executescript("\n".join(source.iterdump()))
    target.close()
    source.close()
    with Ledger.open(path) as one, Ledger.open(restored) as other:
        assert list(one.read()) == list(other.read())


def test_a_later_formats_tables_need_not_be_ours(tmp_path):
    """A newer ledger is told to be newer even if none of its tables are known, as long as it says its format."""
    path = tmp_path / "new.ledger"
    db = sqlite3.connect(path)
    db.execute(f"pragma application_id={schema.APPLICATION_ID}")
    db.execute("create table meta (key text primary key, value text)")
    db.execute("insert into meta values ('format', '7')")
    db.commit()
    db.close()
    with pytest.raises(Newer, match="format 7"):
        Ledger.open(path)


def test_another_database_is_no_ledger(tmp_path):
    """A database with tables of its own is refused, also if one of them is called like ours."""
    path = tmp_path / "b.db"
    db = sqlite3.connect(path)
    db.execute("create table meta (key text, value text)")
    db.commit()
    db.close()
    for write in (False, True):
        with pytest.raises(NotALedger, match="no ledger"):
            Ledger.open(path, write=write)


# What people with other tools see.


def test_the_event_view_counts_every_entry(path, db):
    """Control events and blocks of pings, sealed and open, add up to the feed."""
    with Ledger.open(path) as ledger:
        last = ledger.head("alpha").last
    assert db.execute("select sum(count) from event").fetchone() == (last,)
    assert db.execute("select sum(last - first + 1) from event where kind = 'ping.block'").fetchone()[0] >= 37
    assert db.execute("select sum(lost) from event").fetchone() == (4,)


def test_the_link_view_says_up_and_down(db):
    """Transitions of links with their reasons, as an operator would ask for them."""
    found = db.execute("select observer, peer, state, reason, link, at from link order by pos").fetchall()
    assert found == [
        ("alpha", "bravo", "down", "timeout", None, "2026-01-01T00:00:00.000000000Z"),
        ("alpha", "bravo", "up", None, "l-2", "2026-01-01T00:01:00.000000000Z"),
    ]


def test_the_member_view_says_who_came_and_went(path):
    """Joins and leaves with the machine they speak of."""
    with Ledger.open(path, write=True) as ledger:
        ledger.append(Observed(START_NS, MachineLeft("bravo")), observer="alpha")
    db = sqlite3.connect(path)
    assert db.execute("select machine, kind, hostname, observer from member order by pos").fetchall() == [
        ("alpha", "machine.joined", "alpha.example", "alpha"),
        ("bravo", "machine.left", None, "alpha"),
    ]
    db.close()


@pytest.mark.parametrize(
    ("at_ns", "shown"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (-1_000_000_000, "1969-12-31T23:59:59.000000000Z"),
        (1_767_225_600_000_000_001, "2026-01-01T00:00:00.000000001Z"),
        (-(2**62), "1823-11-12T00:06:21.572612096Z"),
        (2**62, "2116-02-20T23:53:38.427387904Z"),
    ],
)
def test_instants_are_shown_to_the_nanosecond(tmp_path, at_ns, shown):
    """The views print any instant exactly, also before 1970."""
    with Ledger.create(tmp_path / "t.ledger", incarnation=INCARNATION) as ledger:
        ledger.append([opening(feed_of(), at_ns), note("x", at_ns)], observer=feed_of())
    db = sqlite3.connect(tmp_path / "t.ledger")
    assert db.execute("select distinct at from event").fetchall() == [(shown,)]
    db.close()
