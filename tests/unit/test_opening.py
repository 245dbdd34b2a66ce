"""Opening a ledger's file: one writer, readers who touch nothing, and one clear line for each thing that is wrong."""

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scene import INCARNATION, feed_of, minutes, note, opening

from ledger import opening as opened
from ledger.errors import Damaged, Locked, NotALedger, Unwritable, WrongIncarnation
from ledger.store import Ledger


@pytest.fixture
def path(tmp_path):
    """A small ledger that nobody writes."""
    with Ledger.create(tmp_path / "a.ledger", incarnation=INCARNATION) as ledger:
        ledger.append([opening(feed_of()), *minutes(5)], observer=feed_of())
    return tmp_path / "a.ledger"


def test_a_new_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """If making the tables fails, no half ledger is left, and the next attempt succeeds."""
    with monkeypatch.context() as patched:
        patched.setattr(
            opened.schema, "create", lambda _path: (_ for _ in ()).throw(sqlite3.OperationalError("database or disk is full"))
        )
        with pytest.raises(Unwritable, match="no space left"):
            Ledger.create(tmp_path / "a.ledger")
    assert list(tmp_path.iterdir()) == []
    Ledger.create(tmp_path / "a.ledger").close()
    assert [each.name for each in tmp_path.iterdir()] == ["a.ledger"]


def test_a_reader_outlasts_a_file_between_two_modes(path, monkeypatch):
    """Who opened it at rest and asks just as a writer begins waits for the writer's log, and is answered; if none comes, it says
    what it could not do.
    """
    with Ledger.open(path) as ledger:
        before = len(list(ledger.reader(feed_of()).entries()))
        with sqlite3.connect(path) as stock:
            stock.execute("pragma journal_mode=wal")
        stock.close()
        with monkeypatch.context() as patched:
            patched.setattr(opened, "_PAUSE_S", 0.001)
            with pytest.raises(Unwritable, match="cannot be opened"):
                list(ledger.reader(feed_of()).entries())
        stock = sqlite3.connect(path, check_same_thread=False)
        coming = threading.Timer(0.2, lambda: stock.execute("select count(*) from feed").fetchone())
        coming.start()
        assert len(list(ledger.reader(feed_of()).entries())) == before
        coming.join()
        stock.close()


_ATTACHED = """
import fcntl, sqlite3, sys
with open(sys.argv[1] + "-shm", "r+b") as shm:
    fcntl.lockf(shm, fcntl.LOCK_SH, 1, 128)  # the lock that SQLite holds of the shared memory while a connection is there
    print("attached", flush=True)
    sys.stdin.readline()
    stock = sqlite3.connect(sys.argv[1])
    stock.execute("select count(*) from feed").fetchone()
    sys.stdin.read()
"""


def test_a_reader_outlasts_shared_memory_that_is_not_ready(path, monkeypatch):
    """A writer has attached the log's shared memory and not filled it yet: who has the file open waits until it has, and
    is answered; if it never does, says what could not be done.
    """
    with Ledger.open(path) as early:
        last = early.head("alpha").last
        with sqlite3.connect(path) as stock:
            stock.execute("pragma journal_mode=wal")
        stock.close()
        for suffix, content in (("-wal", b""), ("-shm", bytes(1 << 15))):
            Path(f"{path}{suffix}").write_bytes(content)
        command = [sys.executable, "-c", _ATTACHED, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as writer:
            assert writer.stdout.readline() == b"attached\n"
            with monkeypatch.context() as patched:
                patched.setattr(opened, "_PAUSE_S", 0.001)
                with pytest.raises(Unwritable, match="cannot be written here"):
                    early.head("alpha")
            coming = threading.Timer(0.2, writer.stdin.close)
            coming.start()
            assert early.head("alpha").last == last
            coming.join()


def test_what_a_kill_left_of_a_new_file_is_no_hindrance(tmp_path):
    """A draft that was never finished is made anew."""
    (tmp_path / "a.ledger.new").write_bytes(b"half")
    (tmp_path / "a.ledger").touch()
    with Ledger.create(tmp_path / "a.ledger", incarnation=INCARNATION):
        pass
    with Ledger.open(tmp_path / "a.ledger") as ledger:
        assert ledger.incarnation == INCARNATION


def test_a_writer_has_wal_and_full_synchronisation(path):
    """The settings that durability rests on are in force while a ledger is written."""
    with Ledger.open(path, write=True) as ledger:
        run = ledger._connection.execute
        assert run("pragma journal_mode").fetchone() == ("wal",)
        assert run("pragma synchronous").fetchone() == (2,)
    assert path.read_bytes()[18:20] == b"\1\1"


def test_a_medium_without_a_durable_journal_is_refused(path, monkeypatch):
    """A writer that does not read back what it asked for does not begin, and leaves no lock behind."""
    real = sqlite3.connect

    class Weak(sqlite3.Connection):
        def execute(self, sql, *values):
            return super().execute("pragma synchronous=normal" if sql == "pragma synchronous=full" else sql, *values)

    monkeypatch.setattr(opened.sqlite3, "connect", lambda *args, **kwargs: real(*args, **{**kwargs, "factory": Weak}))
    with pytest.raises(Unwritable, match="no durable journal"):
        Ledger.open(path, write=True)
    monkeypatch.undo()
    Ledger.open(path, write=True).close()


def test_one_file_has_one_writer(path):
    """A second writer is refused, in the same process too; when the first is gone it may begin."""
    first = Ledger.open(path, write=True)
    for again in (lambda: Ledger.open(path, write=True), lambda: Ledger.create(path, incarnation=INCARNATION)):
        with pytest.raises(Locked, match="being written"):
            again()
    first.close()
    Ledger.open(path, write=True).close()


def test_a_reader_that_looks_keeps_no_writer_out(path):
    """A reader that holds the lock's shared side for a moment is waited for, not taken for a writer."""
    (path.parent / "a.ledger.lock").touch()
    looking = opened._Shared(path)
    looking.__enter__()
    timer = threading.Timer(0.05, looking.__exit__)
    timer.start()
    with Ledger.open(path, write=True) as ledger:
        assert ledger.writable
    timer.join()


def test_readers_and_writers_of_one_process_do_not_loosen_each_others_locks(path):
    """A reader in the writer's own process comes and goes, then a stock program does: the log is still there.

    POSIX drops a process's locks on a file with any descriptor that it closes; a program that then finds no lock would take
    the log away under the writer.
    """
    with Ledger.open(path, write=True) as writer:
        writer.append(note("before"), observer="alpha")
        with Ledger.open(path) as reader:
            assert reader.head("alpha").last == 7
        Ledger.open(path).close()
        with pytest.raises(Locked):
            Ledger.open(path, write=True)
        query = "c.execute('select count(*) from control').fetchone()[0]"
        said = f"import sqlite3; c = sqlite3.connect({str(path)!r}); print({query}); c.close()"
        done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
        assert done.stdout == "2\n"
        assert (path.parent / "a.ledger-wal").exists()
        writer.append(note("after"), observer="alpha")
        with Ledger.open(path) as reader:
            assert reader.head("alpha").last == 8
    assert [each.name for each in path.parent.iterdir()] == ["a.ledger"]
    with Ledger.open(path) as reader:
        assert reader.head("alpha").last == 8


def test_no_descriptor_is_left_open(path):
    """Opening and closing, to read and to write, in any order, leaves no file open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    writer = Ledger.open(path, write=True)
    readers = [Ledger.open(path) for _ in range(3)]
    with pytest.raises(Locked):
        Ledger.open(path, write=True)
    readers.pop().close()
    writer.close()
    for reader in readers:
        reader.close()
    Ledger.open(path).close()
    with pytest.raises(NotALedger):
        Ledger.open(path.parent / "none")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_reader_lives_through_a_writers_coming_and_going(path):
    """A reader opened before a writer, beside it or between two sees each entry as soon as it is there."""
    early = Ledger.open(path)
    assert early.head("alpha").last == 6
    writer = Ledger.open(path, write=True)
    writer.append(note("one"), observer="alpha")
    beside = Ledger.open(path)
    assert early.head("alpha").last == beside.head("alpha").last == 7
    writer.close()
    between = Ledger.open(path)
    assert early.head("alpha").last == beside.head("alpha").last == between.head("alpha").last == 7
    writer = Ledger.open(path, write=True)
    writer.append(note("two"), observer="alpha")
    assert early.head("alpha").last == beside.head("alpha").last == 8
    for ledger in (early, beside, between, writer):
        ledger.close()
    Ledger.open(path, write=True).close()
    assert path.read_bytes()[18:20] == b"\1\1"


# One clear line for each thing that is wrong.


def _special(folder):
    os.mkfifo(folder / "pipe")
    (folder / "empty").touch()
    (folder / "text").write_text("no ledger, but a text of more than a hundred characters " * 9)
    (folder / "short").write_bytes(b"SQLite format 3\0")
    (folder / "odd").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    (folder / "folder").mkdir()


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("none", NotALedger, "there is no such file"),
        ("none/none", NotALedger, "there is no such file"),
        ("empty", NotALedger, "is empty"),
        ("text", NotALedger, "is no ledger"),
        ("short", NotALedger, "is no ledger"),
        ("odd", NotALedger, "is no ledger"),
        ("folder", NotALedger, "is a folder"),
        ("pipe", NotALedger, "is no file"),
    ],
)
def test_what_is_no_ledger_is_said_to_be_none(tmp_path, name, error, said):
    """Missing, empty, foreign and special files are each named for what they are, to read and to write; nothing is made."""
    _special(tmp_path)
    before = sorted(each.name for each in tmp_path.iterdir())
    for write in (False, True):
        with pytest.raises(error, match=said) as refused:
            Ledger.open(tmp_path / name, write=write)
        assert "\n" not in refused.value.message
        assert str(tmp_path) in refused.value.message
    assert sorted(each.name for each in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "error"), [("text", NotALedger), ("folder", NotALedger), ("none/none", (Unwritable, NotALedger))]
)
def test_nothing_foreign_is_written_over(tmp_path, name, error):
    """`create` makes new files and fills empty ones; it touches nothing else."""
    _special(tmp_path)
    before = (tmp_path / "text").read_bytes()
    with pytest.raises(error):
        Ledger.create(tmp_path / name)
    assert (tmp_path / "text").read_bytes() == before


def test_another_incarnation_is_refused_and_both_are_named(path):
    """One ledger file holds one incarnation."""
    with pytest.raises(WrongIncarnation, match=f"belongs to incarnation other, this ledger holds {INCARNATION}"):
        Ledger.create(path, incarnation="other")
    Ledger.open(path, write=True).close()


def test_a_name_need_not_be_text(tmp_path, path):
    """A file whose name no encoding reads is a ledger all the same, to read, to write and with its snapshots."""
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.ledger"))
    odd.write_bytes(path.read_bytes())
    with Ledger.open(path) as ledger, Ledger.open(odd) as other:
        assert list(other.read()) == list(ledger.read())
    Ledger.open(odd, write=True).close()


def test_a_truncated_file_is_damage(path):
    """A file that lost its end is told to be damaged, at the latest when it is read."""
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(Damaged), Ledger.open(path) as ledger:
        list(ledger.read())


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (FileNotFoundError(2, "No such file or directory"), NotALedger, "no such file"),
        (PermissionError(13, "Permission denied"), Unwritable, "permission denied"),
        (sqlite3.OperationalError("database is locked"), Locked, "locked"),
        (sqlite3.OperationalError("database or disk is full"), Unwritable, "no space left"),
        (sqlite3.OperationalError("attempt to write a readonly database"), Unwritable, "cannot be written"),
        (sqlite3.OperationalError("unable to open database file"), Unwritable, "cannot be opened"),
        (sqlite3.DatabaseError("file is not a database"), NotALedger, "is no ledger"),
        (sqlite3.DatabaseError("database disk image is malformed"), Damaged, "malformed"),
        (sqlite3.IntegrityError("this position is taken"), Damaged, "position is taken"),
    ],
)
def test_what_the_system_says_is_said_in_our_words(error, kind, said):
    """Errors of SQLite and of the system come out as ours, with the path."""
    found = opened.translate(error, "x.ledger")
    assert type(found) is kind
    assert said in found.message
    assert found.message.startswith("x.ledger: ")
