"""Power lost at any moment: the disk holds what was synced, and of the rest all, nothing, or any torn part.

An append loop runs under strace, which records every write, sync, truncation and change of a name. From that record the disk
is built as it might be found after a crash between any two system calls: unsynced writes all kept, all lost, or a random
subset of them with torn sectors of 512 bytes; names likewise, until their folder was synced. The product opens each image:
every acknowledged entry must stand, at most one batch may be in doubt, and it must be there whole or not at all.

The same proof with `synchronous=NORMAL` must find a loss: so it can see.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import appender
import pytest
from scene import MEMORY, observed

from ledger.errors import LedgerError
from ledger.store import Ledger

ROOT = Path(__file__).parents[2]
SECTOR = 512
CALLS = "openat,open,creat,write,pwrite64,pwritev,fsync,fdatasync,ftruncate,unlink,unlinkat,rename,renameat,renameat2"
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_DESCRIPTOR = re.compile(r"(\d+)<((?:\\x[0-9a-f]{2})+|[^>]*)>")


def _plain(text):
    return bytes.fromhex(text.replace("\\x", "")) if "\\x" in text else text.encode()


class File:
    """One file: what is synced, and what was done to it since."""

    def __init__(self):
        self.synced, self.pending = bytearray(), []

    def sync(self):
        self.synced, self.pending = bytearray(self.content(self.pending)), []

    def content(self, steps):
        found = bytearray(self.synced)
        for at, data in steps:
            if data is None:
                del found[at:]
                found.extend(bytes(at - len(found)))
            else:
                found.extend(bytes(max(0, at + len(data) - len(found))))
                found[at : at + len(data)] = data
        return bytes(found)

    def torn(self, dice):
        """The pending writes, some of them, and of some only some sectors. Sizes may change without their data."""
        kept = []
        for at, data in self.pending:
            if data is None or dice.random() < 0.4:
                kept += [(at, data)] * dice.randrange(2)
                continue
            for start in range(-(at % SECTOR), len(data), SECTOR):
                piece = data[max(start, 0) : start + SECTOR]
                if dice.random() < 0.5:
                    kept.append((at + max(start, 0), piece))
        return kept


class Disk:
    """A folder of files, with names that are durable when the folder was synced."""

    def __init__(self, folder):
        self.folder = os.fsencode(folder)
        self.files, self.names, self.durable, self.pending = [], {}, {}, []

    def file(self, path):
        if path not in self.names:
            self.files.append(File())
            self._name(path, len(self.files) - 1)
        return self.files[self.names[path]]

    def _name(self, path, number):
        self.pending.append((path, number))
        _set(self.names, path, number)

    def sync(self, path):
        if path == self.folder:
            for step in self.pending:
                _set(self.durable, *step)
            self.pending = []
        elif path in self.names:
            self.file(path).sync()

    def rename(self, old, new):
        number = self.names[old]
        self._name(new, number)
        self._name(old, None)

    def unlink(self, path):
        if path in self.names:
            self._name(path, None)

    def image(self, mode, dice):
        """The folder as it might be found: name -> bytes."""
        names = dict(self.durable)
        steps = {"kept": len(self.pending), "lost": 0, "torn": dice.randint(0, len(self.pending))}[mode]
        for step in self.pending[:steps]:
            _set(names, *step)
        found = {}
        for path, number in names.items():
            file = self.files[number]
            kept = {"kept": lambda file=file: file.pending, "lost": list, "torn": lambda file=file: file.torn(dice)}[mode]()
            found[Path(os.fsdecode(path)).name] = file.content(kept)
        return found


def _set(names, path, number):
    if number is None:
        names.pop(path, None)
    else:
        names[path] = number


def record(folder, seed, rounds, *options):
    """Run the append loop under strace; its system calls, decoded, in order."""
    trace = folder / "trace"
    inner = folder / "disk"
    inner.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["strace", "-f", "-y", "-xx", "-s", "4000000", "-e", f"trace={CALLS}", "-o", trace]
    command += [sys.executable, appender.__file__, inner / "a.ledger", seed, str(rounds), *options]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    inside = os.fsencode(inner)
    for line in trace.read_text().splitlines():
        found = _LINE.match(line)
        if found is None or int(found[3]) < 0:
            continue
        call, rest = found[1], found[2]
        texts = [_plain(text) for text, _cut in _TEXT.findall(rest)]
        descriptor = _DESCRIPTOR.match(rest)
        path = _plain(descriptor[2]) if descriptor else b""
        if call == "write" and descriptor and descriptor[1] == "1":
            yield "said", texts[0].decode().strip(), None
        elif call in {"openat", "open", "creat"} and "O_CREAT" in rest and texts[0].startswith(inside):
            yield "create", texts[0], ("O_TRUNC" in rest)
        elif call in {"unlink", "unlinkat"}:
            yield "unlink", texts[0], None
        elif call.startswith("rename"):
            yield "rename", texts[0], texts[1]
        elif not path.startswith(inside):
            continue
        elif call == "pwrite64":
            yield "write", path, (int(rest.rsplit(",", 1)[1]), texts[0])
        elif call == "ftruncate":
            yield "write", path, (int(rest.rsplit(",", 1)[1]), None)
        elif call in {"fsync", "fdatasync"}:
            yield "sync", path, None
        else:
            pytest.fail(f"a call that this proof does not know: {line[:200]}")


class Images:
    """Crash images of one recorded run, and what each must hold."""

    def __init__(self, folder, seed, rounds, *options):
        self.seed = seed
        self.calls = list(record(folder, seed, rounds, *options))
        self.inside = folder / "disk"

    def judge(self, points, dice, modes=("kept", "lost", "torn")):
        """Build images at so many random moments; a list of what was wrong with any of them."""
        begun = next(n for n, call in enumerate(self.calls) if call[0] == "said" and call[1].startswith("begun"))
        done = next(n for n, call in enumerate(self.calls) if call[:2] == ("said", "done"))
        chosen = set(dice.sample(range(done), min(points, done))) | {begun, done - 1} | set(range(0, begun, max(1, begun // 6)))
        disk, acked, doubt, wrong = Disk(self.inside), {}, None, []
        for number, (what, path, value) in enumerate(self.calls[:done]):
            if what == "said":
                match path.split():
                    case ["trying", machine, last, count]:
                        doubt = machine, int(last), int(count)
                    case ["acked", machine, last]:
                        acked[machine], doubt = int(last), None
            elif what == "create":
                disk.file(path)
                if value:
                    disk.file(path).pending.append((0, None))
            elif what == "write":
                disk.file(path).pending.append(value)
            elif what == "sync":
                disk.sync(path)
            elif what == "rename":
                disk.rename(path, value)
            else:
                disk.unlink(path)
            if number in chosen:
                for mode in modes:
                    found = self.open(disk.image(mode, dice), acked, doubt, retry=dice.random() < 0.2)
                    wrong += [f"call {number}, {mode}: {each}" for each in found]
        return wrong

    def open(self, image, acked, doubt, *, retry):
        """Open an image with the product; what is wrong with what it holds."""
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            for name, data in image.items():
                (Path(folder) / name).write_bytes(data)
            path = Path(folder) / "a.ledger"
            if not path.exists():
                return ["the file is gone"] if acked else []
            try:
                if retry and doubt is not None:
                    feed = next(feed for feed in appender.FEEDS if feed.machine == doubt[0])
                    batch = [appender.entry(self.seed, feed, index) for index in range(doubt[1] + 1, doubt[1] + doubt[2] + 1)]
                    with Ledger.open(path, write=True) as ledger:
                        ledger.append(batch, observer=feed, expect=doubt[1])
                    acked = {**acked, doubt[0]: doubt[1] + doubt[2]}
                with Ledger.open(path) as ledger:
                    found = {feed.machine: observed(ledger.read(feed)) for feed in ledger.feeds()}
            except LedgerError as error:
                return [f"{type(error).__name__}: {error}"]
        wrong = []
        for feed in appender.FEEDS:
            entries, wanted = found.get(feed.machine, []), acked.get(feed.machine, 0)
            may = {wanted, doubt[1] + doubt[2]} if doubt is not None and doubt[0] == feed.machine else {wanted}
            if len(entries) not in may:
                lost = wanted - len(entries)
                wrong.append(
                    f"{feed.machine}: {lost} acknowledged entries lost" if lost > 0 else f"{feed.machine}: {-lost} too many"
                )
            if entries != [appender.entry(self.seed, feed, index) for index in range(1, len(entries) + 1)]:
                wrong.append(f"{feed.machine}: other entries")
        return wrong


@pytest.fixture(scope="module")
def _strace():
    """strace, and the right to use it."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: no record of system calls, no crash images")
    if subprocess.run(["strace", "-o", os.devnull, "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace may not trace here: no crash images")


@pytest.mark.usefixtures("_strace")
def test_no_crash_loses_what_was_acknowledged(tmp_path):
    """At a hundred moments of an append loop with checkpoints, in each of three kinds of image, all acknowledged stands."""
    images = Images(tmp_path, "small one", 60, "", "20")
    assert images.judge(90, random.Random(1)) == []


@pytest.mark.usefixtures("_strace")
def test_the_proof_sees_a_loss_where_there_is_one(tmp_path):
    """The same with `synchronous=NORMAL` finds acknowledged entries that are gone."""
    images = Images(tmp_path, "small two", 40, "normal", "20")
    wrong = images.judge(60, random.Random(2), modes=("lost",))
    assert sum("acknowledged entries lost" in each for each in wrong) > 10


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("_strace")
@pytest.mark.parametrize("seed", range(4))
def test_no_crash_loses_what_was_acknowledged_at_length(tmp_path, seed):
    """The same at more moments of longer runs, with batches that seal many records, and the usual checkpoints too."""
    images = Images(tmp_path, f"{'small ' * (seed % 2)}{seed}", 150, "", "20" if seed < 2 else "4096")
    assert images.judge(250, random.Random(seed)) == []
