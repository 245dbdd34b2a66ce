"""Files of other forms: the same entries in each, nothing half written, and no ledger ever written over."""

import csv
import io
import json
import os
import sqlite3
import sys
from base64 import b64encode
from itertools import pairwise

import pytest

from ledger.entry import Observed, Opaque
from ledger.errors import Damaged, NotALedger, Refused, Unwritable
from ledger.events import FeedOpened, LinkEstablished, NoteAdded, PingAnswered, PingFailed
from ledger.identity import Feed
from ledger.store import Ledger
from replay.export import FORMATS, backup, export
from replay.flat import COLUMNS
from replay.moments import Range
from replay.union import Union

INCARNATION = "import:" + "0" * 64
START = 1_767_225_600_000_000_000
SECOND = 1_000_000_000
ALPHA, BRAVO = Feed.of(INCARNATION, "alpha"), Feed.of(INCARNATION, "bravo")


def told(feed, count):
    """A feed with something of everything that is hard to write."""
    return [
        Observed(START, FeedOpened(INCARNATION, feed.machine, 1)),
        Observed(START, NoteAdded('a "quoted", =1+1\r\n\x1b[2J\x00\u202eé')),
        Observed(START, LinkEstablished("zulu", ""), 1, 5),
        Observed(START, LinkEstablished("yankee", "null")),
        Observed(START, Opaque("odd\n\x9bkind", 3, b"\xff\x00")),
        *(Observed(START + n * SECOND, PingAnswered("zulu", n, n * 7, "x\x85,1", held=n)) for n in range(1, count)),
        Observed(START + count * SECOND, PingFailed("zulu", count)),
    ]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a.ledger"
    with Ledger.create(path, incarnation=INCARNATION) as ledger:
        ledger.append(told(BRAVO, 20), observer=BRAVO)
        ledger.append(told(ALPHA, 1500), observer=ALPHA)
    return path


def write(source, target, form, selection=None):
    with Union.open([source]) as union:
        return export(union, target, form, *([selection] if selection else []))


def rows_of(source):
    """The flat rows as they must be, made by hand from what the ledger reads."""
    with Ledger.open(source) as ledger:
        for entry in ledger.read():
            event = entry.event
            opaque = isinstance(event, Opaque)
            yield {
                "pos": entry.position,
                "rec": entry.record,
                "at_ns": entry.at_ns,
                "boot": entry.boot,
                "mono_ns": entry.mono_ns,
                "kind": event.kind,
                "v": event.version,
                "observer": entry.observer,
                **{name: getattr(event, name, None) for name in ("peer", "link", "reason", "number", "rtt_us", "held")},
                "raw": b64encode(event.raw).decode() if opaque else None,
            }


def test_csv(tmp_path, source):
    """Csv has one row an entry under its header, null empty, with CRLF, and nothing in it that a terminal would obey."""
    answer = write(source, tmp_path / "a.csv", "csv")
    data = (tmp_path / "a.csv").read_bytes().decode()
    found = list(csv.DictReader(io.StringIO(data, newline="")))
    wanted = list(rows_of(source))
    assert answer.entries == len(found) == len(wanted) == sum(answer.feeds.values())
    assert list(found[0]) == list(COLUMNS)
    for row, facts in zip(found, wanted, strict=True):
        facts["kind"] = facts["kind"].replace("\n", "\\n").replace("\x9b", "\\x9b")
        facts["link"] = facts["link"] and facts["link"].replace("\x85", "\\x85")
        assert {name: row[name] for name in facts} == {k: "" if v is None else str(v) for k, v in facts.items()}
        assert row["raw"] or json.loads(row["event"]) is not None
    assert all(line.isprintable() for line in data.split("\r\n"))


def test_parquet(tmp_path, source):
    """Parquet has the same columns with their types, in the same order, and text exactly as it was recorded."""
    duckdb = pytest.importorskip("duckdb")
    folder = tmp_path / "odd [1]* it's?"
    folder.mkdir()
    path = folder / "a.parquet"
    assert write(source, path, "parquet").entries == 1530
    with duckdb.connect() as connection:
        read = connection.execute(
            "select * from read_parquet($1)", [str(path).replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")]
        )
        names = [each[0] for each in read.description]
        found = [dict(zip(names, row, strict=True)) for row in read.fetchall()]
        nanoseconds = connection.execute("select epoch_ns(timestamp_ns '2026-01-01')").fetchone()
    assert nanoseconds == (START,)
    assert names == list(COLUMNS)
    wanted = list(rows_of(source))
    assert [{name: row[name] for name in facts} for row, facts in zip(found, wanted, strict=True)] == wanted
    assert json.loads(found[1]["event"])["text"] == 'a "quoted", =1+1\r\n\x1b[2J\x00\u202eé'
    assert str(found[0]["at"]) == "2026-01-01 00:00:00"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in folder.iterdir()] == ["a.parquet"]


def test_parquet_without_duckdb(tmp_path, source, monkeypatch):
    """Where DuckDB is missing the refusal says how to install it, and nothing was made."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(Refused) as caught:
        write(source, tmp_path / "a.parquet", "parquet")
    assert "pip install 'meshledger[parquet]'" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["a.ledger"]


def test_a_range_of_instants(tmp_path, source):
    """[since, until) over effective instants: adjoining ranges lose and repeat nothing."""
    bounds = [None, START, START + 7 * SECOND, START + 700 * SECOND, START + 1500 * SECOND, None]
    parts = []
    for since, until in pairwise(bounds):
        stream = io.BytesIO()
        write(source, stream, "jsonl", Range(since, until))
        parts += [json.loads(line)["pos"] for line in stream.getvalue().splitlines()]
        feeds = [pos.partition("#")[0] for pos in parts]
        assert set(feeds) <= {"alpha", "bravo"}
    whole = io.BytesIO()
    write(source, whole, "jsonl")
    assert sorted(parts) == sorted(json.loads(line)["pos"] for line in whole.getvalue().splitlines())


def test_a_ledger_of_its_own(tmp_path, source):
    """The same content gives the same file bytes, in whatever order and portions it was written, and reads the same."""
    other = tmp_path / "other.ledger"
    with Ledger.create(other, incarnation=INCARNATION) as ledger:
        for feed, entries in ((ALPHA, told(ALPHA, 1500)), (BRAVO, told(BRAVO, 20))):
            for start in range(0, len(entries), 13):
                ledger.append(entries[start : start + 13], observer=feed)
    answer = write(source, tmp_path / "x.ledger", "ledger")
    write(other, tmp_path / "y.ledger", "ledger")
    assert answer.feeds == {"alpha": 1505, "bravo": 25} == {feed.machine: n for feed, n in ((ALPHA, 1505), (BRAVO, 25))}
    assert (tmp_path / "x.ledger").read_bytes() == (tmp_path / "y.ledger").read_bytes()
    with Ledger.open(source) as one, Ledger.open(tmp_path / "x.ledger") as copy:
        assert [entry.event for entry in one.read()] == [entry.event for entry in copy.read()]
    with pytest.raises(Refused, match="exported whole"):
        write(source, tmp_path / "z.ledger", "ledger", Range(START, None))


@pytest.mark.parametrize("form", FORMATS)
def test_where_an_export_may_not_go(tmp_path, source, form):
    """A ledger, a folder and a folder that is not there are refused, and what stood there stands as it was."""
    before = source.read_bytes()
    (tmp_path / "folder").mkdir()
    for target in (source, tmp_path / "folder", tmp_path / "gone" / "x"):
        with pytest.raises(Refused):
            write(source, target, form)
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ledger", "folder"]


def test_a_stream_is_for_text(source):
    """Jsonl and csv go to a stream; a ledger and parquet need a file; an unknown format is refused by name."""
    for form in ("jsonl", "csv"):
        stream = io.BytesIO()
        assert write(source, stream, form).file is None
        assert stream.getvalue().count(b"\n") >= 1530
    for form, why in (("ledger", "no stream"), ("parquet", "no stream"), ("xml", "no format")):
        with pytest.raises(Refused, match=why):
            write(source, io.BytesIO(), form)


@pytest.mark.parametrize("form", FORMATS)
def test_what_fails_leaves_nothing_half(tmp_path, source, form, monkeypatch):
    """A failure on the way leaves the target as it was, and no file beside it."""
    target = tmp_path / "out"
    if form != "ledger":
        target.write_text("what stood here")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_given, **_named):
        raise OSError(28, "No space left on device")

    room = sys.modules["replay.merge" if form == "ledger" else "replay.export"]
    monkeypatch.setattr(room.os, "fsync", fail)
    if form == "ledger":
        monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(Unwritable, match="no space left"):
        write(source, target, form)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "ledger"])
def test_progress_is_told(tmp_path, source, form):
    """Whoever waits is told how many entries are written, up to all of them."""
    told = []
    with Union.open([source]) as union:
        export(union, tmp_path / "out", form, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] or form == "ledger"


def test_an_export_takes_the_place_of_the_last(tmp_path, source):
    """A file of an earlier export is replaced, by one that only its owner may read."""
    target = tmp_path / "a.jsonl"
    target.write_text("old")
    write(source, target, "jsonl")
    assert target.read_bytes().startswith(b'{"pos":"alpha#1"')
    assert target.stat().st_mode & 0o777 == 0o600


def test_no_plain_file(tmp_path, source):
    """A pipe is not replaced by a file."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused, match="no plain file"):
        write(source, tmp_path / "pipe", "csv")


def test_backup_beside_a_live_writer(tmp_path, source):
    """A backup holds all that was acknowledged when it began, opens without a writer, and its source goes on."""
    with Ledger.open(source, write=True) as ledger:
        ledger.append(NoteAdded("now"), observer=BRAVO, at=START + 10**12)
        answer = backup(source, tmp_path / "b.ledger")
        ledger.append(NoteAdded("later"), observer=BRAVO, at=START + 10**12)
    assert answer.feeds == {"alpha": 1505, "bravo": 26}
    assert (answer.entries, answer.bytes) == (1531, (tmp_path / "b.ledger").stat().st_size)
    assert (tmp_path / "b.ledger").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "b.ledger").read_bytes()[18:20] == b"\x01\x01"  # rollback mode: opens on any medium
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ledger", "b.ledger"]
    with Ledger.open(tmp_path / "b.ledger") as copy:
        assert list(copy.read(BRAVO))[-1].event == NoteAdded("now")
    with Ledger.open(tmp_path / "b.ledger", write=True) as copy:
        copy.append(NoteAdded("goes on"), observer=BRAVO, at=START)


def test_backup_of_what_a_killed_writer_left(tmp_path, source):
    """What stands in a left-over journal is in the backup, and source and journal stay untouched."""
    ledger = Ledger.open(source, write=True)
    ledger.append(NoteAdded("last words"), observer=BRAVO, at=START)
    killed = tmp_path / "killed"
    killed.mkdir()
    for suffix in ("", "-wal"):
        (killed / f"a.ledger{suffix}").write_bytes((tmp_path / f"a.ledger{suffix}").read_bytes())
    ledger.close()
    before = {path.name: path.read_bytes() for path in killed.iterdir()}
    assert backup(killed / "a.ledger", tmp_path / "b.ledger").feeds["bravo"] == 26
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == before


def test_a_backup_never_replaces_a_file(tmp_path, source, monkeypatch):
    """What is there stays, also if it appears while the backup runs; and what is no ledger is no source."""
    target = tmp_path / "b.ledger"
    target.write_text("dear")
    with pytest.raises(Refused, match="is there already"):
        backup(source, target)
    monkeypatch.setattr(sys.modules["replay.export"], "_check", lambda _target: None)
    monkeypatch.setattr("pathlib.Path.exists", lambda _path, **_named: False)
    with pytest.raises(Refused, match="is there already"):
        backup(source, target)
    monkeypatch.undo()
    assert target.read_text() == "dear"
    with pytest.raises(NotALedger):
        backup(target, tmp_path / "c.ledger")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ledger", "b.ledger"]


def test_a_backup_of_damage_is_refused(tmp_path, source):
    """A byte that is not what was written is found by whoever makes a backup, and no copy of it is left."""
    sound = source.read_bytes()
    with Ledger.open(source) as ledger:
        place = sound.index(ledger.reader(ALPHA).record(1).leaf)
    source.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
    with pytest.raises(Damaged, match=r"a\.ledger: alpha"):
        backup(source, tmp_path / "b.ledger")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ledger"]


def test_a_backup_without_room_leaves_nothing(tmp_path, source, monkeypatch):
    """Where the medium is full in the middle, neither the copy nor SQLite's journal of it stays."""

    def full(_source, made):
        made.with_name(f"{made.name}-journal").write_text("begun")
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(sys.modules["replay.export"], "_copy_pages", full)
    with pytest.raises(Unwritable):
        backup(source, tmp_path / "b.ledger")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ledger"]


def test_a_backup_is_sound(tmp_path, source):
    """SQLite finds nothing wrong with a backup."""
    backup(source, tmp_path / "b.ledger")
    connection = sqlite3.connect(tmp_path / "b.ledger")
    try:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()
