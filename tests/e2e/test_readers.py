"""Reading without touching, byte by byte; and what a full disk does.

A folder is looked at before and after: names, sizes, bytes, modes, times of change, inodes. Beside a live writer, on what a
killed writer left, and on a medium that takes no writes, a reader gives the same answers and leaves no trace.
"""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from scene import INCARNATION, feed_of, minutes, note, observed, opening

from ledger.errors import Damaged, Locked
from ledger.store import Ledger

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "PYTHONDONTWRITEBYTECODE": "1"}
FEED = feed_of()
STOOD = [opening(FEED), *minutes(1500), note("x")]

SCRIBE = """
import sys
from scene import *
from ledger.store import Ledger
with Ledger.create(sys.argv[1], incarnation=INCARNATION) as ledger:
    feed = feed_of()
    ledger.append([opening(feed), *minutes(1500), note("x")], observer=feed)
    print("ready", flush=True)
    for line in sys.stdin:
        ledger.append([note(line.strip()), *minutes(700)], observer=feed)
        print("done", flush=True)
"""


class Scribe:
    """A writer in another process: appends what it is told, until it is told to end, or killed."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIBE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        assert self.process.stdout.readline() == "ready\n"

    def append(self, text):
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self, number=None):
        if number is None:
            self.process.stdin.close()
        else:
            self.process.send_signal(number)
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture
def scribe(tmp_path):
    """A live writer of `a.ledger`."""
    found = Scribe(tmp_path / "a.ledger")
    yield found
    if found.process.poll() is None:
        found.end(signal.SIGKILL)


def look(folder):
    """All that can be seen of a folder, but when an inode's owner was set: SQLite sets a log's owner, to what it is, for root."""
    return {
        each.name: (each.read_bytes(), (said := each.stat()).st_mode, said.st_ino, said.st_mtime_ns, said.st_uid, said.st_size)
        for each in sorted(folder.iterdir())
    } | {"": folder.stat().st_mtime_ns}


def ask(path):
    """Everything a reader can be asked, and the entries."""
    with Ledger.open(path) as ledger:
        reader = ledger.reader(ledger.feed(FEED))
        entries = list(ledger.read())
        for record in reader.records():
            reader.groups(record)
            reader.canonical(record)
        assert [reader.cut(entry.effective_ns) for entry in entries[::500]]
        assert ledger.incarnation == INCARNATION
        assert reader.leaves()
        assert ledger.branches(FEED) == ledger.signatures(FEED) == []
    return observed(entries)


# A live writer.


def test_a_reader_beside_a_live_writer_leaves_no_trace(tmp_path, scribe):
    """No byte, time or name changes when a ledger is read while another process writes it; what is appended is seen."""
    path, stood = tmp_path / "a.ledger", list(STOOD)
    lasting = Ledger.open(path)
    for text in ("one", "two", "three"):
        before = look(tmp_path)
        assert {"a.ledger", "a.ledger-wal", "a.ledger-shm", "a.ledger.lock"} == before.keys() - {""}
        assert ask(path) == stood
        assert observed(lasting.read()) == stood
        assert look(tmp_path) == before
        scribe.append(text)
        stood += [note(text), *minutes(700)]
    before = look(tmp_path)
    assert observed(lasting.read(after=len(STOOD))) == stood[len(STOOD) :]
    assert look(tmp_path) == before
    lasting.close()
    scribe.end()
    assert [each.name for each in tmp_path.iterdir()] == ["a.ledger"]
    assert ask(path) == stood


def test_a_second_writer_is_refused(tmp_path, scribe):
    """While one process writes, another gets Locked at once, and the first goes on."""
    for again in (lambda: Ledger.open(tmp_path / "a.ledger", write=True), lambda: Ledger.create(tmp_path / "a.ledger")):
        with pytest.raises(Locked, match="being written by another process"):
            again()
    scribe.append("undisturbed")
    scribe.end()
    with Ledger.open(tmp_path / "a.ledger", write=True) as ledger:
        assert ledger.head(FEED).last == len(STOOD) + 701


def test_readers_that_come_and_go_do_not_disturb_a_writer(tmp_path, scribe):
    """Many openings between appends: each sees all that was acknowledged, and the writer never fails."""
    for turn in range(15):
        scribe.append(f"turn {turn}")
        with Ledger.open(tmp_path / "a.ledger") as ledger:
            assert ledger.head(FEED).last == len(STOOD) + 701 * (turn + 1)


def test_a_file_closed_by_its_writer_is_read_in_place(tmp_path, scribe):
    """When the writer has ended, the file is in rollback mode and is read without a copy and without a trace."""
    scribe.end()
    before = look(tmp_path)
    assert before["a.ledger"][0][18:20] == b"\1\1"
    assert ask(tmp_path / "a.ledger") == STOOD
    assert look(tmp_path) == before


# A killed writer.


@pytest.mark.parametrize("gone", [(), ("a.ledger.lock",), ("a.ledger-shm",), ("a.ledger.lock", "a.ledger-shm")])
def test_what_a_killed_writer_left_is_read_and_left(tmp_path, scribe, gone):
    """A left-over log without a writer is read from a private copy, whatever else is left: all is there, nothing changes."""
    scribe.append("last words")
    scribe.end(signal.SIGKILL)
    for name in gone:
        (tmp_path / name).unlink()
    assert (tmp_path / "a.ledger-wal").stat().st_size > 0
    before = look(tmp_path)
    assert ask(tmp_path / "a.ledger") == [*STOOD, note("last words"), *minutes(700)]
    assert look(tmp_path) == before


def test_the_next_writer_takes_up_what_a_killed_one_left(tmp_path, scribe):
    """After a kill a writer goes on at the last acknowledged entry, and leaves one clean file."""
    scribe.append("last words")
    scribe.end(signal.SIGKILL)
    last = len(STOOD) + 701
    with Ledger.open(tmp_path / "a.ledger", write=True) as ledger:
        assert ledger.append(note("first words"), observer=FEED, expect=last).last == last + 1
    assert [each.name for each in tmp_path.iterdir()] == ["a.ledger"]


def test_a_private_copy_is_cleared_away(tmp_path, scribe, monkeypatch):
    """The copy that a reader makes for itself is gone when it closes."""
    scribe.append("last words")
    scribe.end(signal.SIGKILL)
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    with Ledger.open(tmp_path / "a.ledger"):
        assert len(list(copies.iterdir())) == 1
    assert list(copies.iterdir()) == []


# A medium that takes no writes.

READ = """
import os, sys
from ledger.errors import LedgerError
from ledger.store import Ledger
import ledger.codec, ledger.rows, tempfile, sqlite3
if os.geteuid() == 0 and sys.argv[2] == "drop":
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with Ledger.open(sys.argv[1]) as ledger:
    print(ledger.head("alpha").last, len(list(ledger.read())))
try:
    Ledger.open(sys.argv[1], write=True)
except LedgerError as error:
    print(type(error).__name__, error.exit_code)
"""


@pytest.fixture
def open_folder():
    """A folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as found:
        Path(found).chmod(0o755)
        yield Path(found)


@pytest.mark.parametrize("killed", [False, True])
def test_a_folder_without_the_right_to_write_is_read(open_folder, killed):
    """As a user who may not write there: closed ledgers and killed writers' leavings are read; a writer gets Unwritable."""
    scribe = Scribe(open_folder / "a.ledger")
    scribe.end(signal.SIGKILL if killed else None)
    for each in open_folder.iterdir():
        each.chmod(0o444)
    open_folder.chmod(0o555)
    before = look(open_folder)
    done = subprocess.run(
        [sys.executable, "-c", READ, open_folder / "a.ledger", "drop"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd="/",
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{len(STOOD)} {len(STOOD)}\nUnwritable 5\n", "")
    assert look(open_folder) == before
    open_folder.chmod(0o755)


def _unshared():
    """The command that gives a name space of its own for mounts, or a reason to skip."""
    for options in (["-m"], ["-rm"]):
        command = ["unshare", *options, "sh", "-c"]
        probe = "d=$(mktemp -d); mount -t tmpfs -o size=64k none $d && mount -o remount,ro $d; e=$?; umount $d; rmdir $d; exit $e"
        if shutil.which("unshare") and subprocess.run([*command, probe], check=False, capture_output=True).returncode == 0:
            return command
    return pytest.skip("mounts are not permitted here: a read-only medium and a full one cannot be made")


@pytest.mark.parametrize("killed", [False, True])
def test_a_read_only_medium_is_read(tmp_path, killed):
    """On a medium that is mounted read-only, as on a CD: the same."""
    command = _unshared()
    scribe = Scribe(tmp_path / "a.ledger")
    scribe.end(signal.SIGKILL if killed else None)
    before = look(tmp_path)
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path} && ! touch {tmp_path}/probe 2>&- && exec "
    done = subprocess.run(
        [*command, mount + '"$@"', "sh", sys.executable, "-c", READ, tmp_path / "a.ledger", "stay"],
        capture_output=True, text=True, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{len(STOOD)} {len(STOOD)}\nUnwritable 5\n", "")
    assert look(tmp_path) == before


def test_a_file_that_may_not_be_read_is_said_to_be_so(open_folder):
    """No permission is one clear line with the path."""
    with Ledger.create(open_folder / "a.ledger", incarnation=INCARNATION):
        pass
    done = subprocess.run(
        [sys.executable, "-c", READ, open_folder / "a.ledger", "drop"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd="/",
        check=False,
    )
    if os.geteuid() != 0:
        pytest.skip("needs a second user")
    assert done.stderr.splitlines()[-1] == f"ledger.errors.Unwritable: {open_folder}/a.ledger: permission denied"


# A full disk.

FULL = """
import sys
from pathlib import Path
from scene import *
from ledger.errors import Unwritable
from ledger.store import Ledger
path, last, stood = Path(sys.argv[1]), 0, []
ledger = Ledger.create(path, incarnation=INCARNATION)
feed = feed_of()
def append(batch):
    global last
    last = ledger.append(batch, observer=feed, expect=last).last
    stood.extend(batch)
append([opening(feed), *minutes(100)])
{limit}
refused = 0
for turn in range(4000):
    batch = [note("x" * 4000, START_NS + turn)] * 3
    try:
        append(batch)
    except Unwritable as error:
        assert "\\n" not in error.message and str(path) in error.message, error.message
        refused += 1
        assert observed(ledger.read()) == stood
        with Ledger.open(path) as reader:
            assert observed(reader.read()) == stood
        if refused == 3:
            break
assert refused == 3, refused
{free}
append(batch)
append(minutes(1000))
assert observed(ledger.read()) == stood
ledger.close()
with Ledger.open(path) as reader:
    assert observed(reader.read()) == stood
print("fine", len(stood))
"""


def test_a_full_medium_refuses_appends_and_nothing_else(tmp_path):
    """On a disk of one megabyte: refused with Unwritable, reads go on, and the same append succeeds when there is room."""
    command = _unshared()
    script = FULL.format(limit="(path.parent / 'ballast').write_bytes(bytes(400_000))", free="(path.parent / 'ballast').unlink()")
    mount = f"mount -t tmpfs -o size=1m none {tmp_path} && exec "
    done = subprocess.run(
        [*command, mount + '"$@"', "sh", sys.executable, "-c", script, tmp_path / "a.ledger"],
        capture_output=True, text=True, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("fine"), done.stderr


def test_a_quota_refuses_appends_and_nothing_else(tmp_path):
    """With a limit on the size of files: the same, whichever file meets it."""
    limits = "from resource import *; hard = getrlimit(RLIMIT_FSIZE)[1]; setrlimit(RLIMIT_FSIZE, ({}, hard))"
    script = FULL.format(limit=limits.format(300_000), free=limits.format("hard"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY or pytest.skip("a limit is in force already")
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.ledger"], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.stdout.startswith("fine"), done.stderr


# Other programs in the writer's way.


def test_a_stock_program_that_holds_the_file_makes_a_writer_wait_or_say_so(tmp_path):
    """A database program in the middle of a write transaction is named as the cause; when it is done, all goes on."""
    path = tmp_path / "a.ledger"
    with Ledger.create(path, incarnation=INCARNATION) as ledger:
        ledger.append(STOOD, observer=FEED)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin immediate")
        ledger._connection.execute("pragma busy_timeout=50")
        with pytest.raises(Locked, match="locked by another program"):
            ledger.append(note("y"), observer=FEED, expect=len(STOOD))
        other.execute("rollback")
        other.close()
        assert ledger.append(note("y"), observer=FEED, expect=len(STOOD)).last == len(STOOD) + 1


def test_a_copy_without_its_log_is_not_taken_for_whole(tmp_path, scribe):
    """The file alone, copied from under a live writer, is an older ledger or damaged; it is never something else."""
    scribe.append("later")
    shutil.copyfile(tmp_path / "a.ledger", tmp_path / "b.ledger")
    try:
        entries = ask(tmp_path / "b.ledger")
    except (Damaged, LookupError, ValueError):
        return
    whole = [*STOOD, note("later"), *minutes(700)]
    assert entries == whole[: len(entries)]
