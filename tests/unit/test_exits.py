"""Every way to fail is one clear line and the right exit code, and never a traceback."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from called import Called, call, incident
from generated import imagine, record

import replay.states
from ledger.events import LinkLost, NoteAdded
from ledger.store import Ledger

PROGRAM = [sys.executable, "-c", "import sys; from replay.cli import main; sys.exit(main())"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the five ledgers of the incident."""
    folder = tmp_path_factory.mktemp("told")
    incident(folder)
    return folder


@pytest.fixture
def here(tmp_path: Path, told: Path) -> Path:
    """A folder of the test's own, with a copy of alpha's ledger."""
    shutil.copy(told / "alpha.ledger", tmp_path / "alpha.ledger")
    return tmp_path


def clear(done: Called, code: int) -> list[str]:
    """That a call ended with this code, one line of what is wrong and a hint at most, all of it plain to see. The lines."""
    lines = done.err.splitlines()
    wrong = [line for line in lines if line.startswith("meshledger: ")]
    assert done.code == code, done.err
    assert len(wrong) == 1, done.err
    assert len([line for line in lines if line.startswith("hint: ")]) <= 1
    assert "Traceback" not in done.err
    assert done.err.replace("\n", "").isprintable()
    return wrong


# One of each code.


def test_0(told: Path) -> None:
    """A question that is answered ends with 0."""
    assert call("at", "2026-01-05T03:10:30Z", told).code == 0
    assert call("diff", "2026-01-05T03:10:30Z", "2026-01-05T03:10:30Z", told).code == 0


def test_1(told: Path) -> None:
    """A difference is a no."""
    assert call("diff", "2026-01-05T03:05:30Z", "2026-01-05T03:10:30Z", told).code == 1


def test_3(told: Path) -> None:
    """Before the first entry there is no answer; after all coverage there is one, and it says that nothing covers it."""
    assert clear(call("at", "2026-01-05T02:59:59Z", told), 3) == ["meshledger: no feed had begun by 2026-01-05T02:59:59Z"]
    done = call("connstatus", "--at", "2026-01-06", told)
    wrong = clear(done, 3)
    assert wrong == ["meshledger: no feed covers 2026-01-06T00:00:00Z: what is shown is what was last known"]
    assert done.out.startswith("as of 2026-01-06T00:00:00Z; cluster demo; 4 members; 0 of 4 feeds cover it\n")
    assert clear(call("diff", "2026-01-05T03:14:30Z", "2026-01-06", told), 3)
    assert clear(call("show", "alpha#76", told), 3) == ["meshledger: alpha#76: alpha holds #1 to #75"]


def test_4_of_a_fork(tmp_path: Path) -> None:
    """Two copies that contradict each other are named, both branches; what stands before is still answered."""
    story = imagine(1)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    record(story, tmp_path / "one")
    last = story.entries["alpha"][-1]
    story.entries["alpha"][-1] = type(last)(last.at_ns, LinkLost("bravo", "reset"), last.boot, last.mono_ns)
    record(story, tmp_path / "two")
    done = call("connstatus", "one", "two", folder=tmp_path)
    wrong = clear(done, 4)
    assert wrong[0].startswith("meshledger: alpha#75 is contradicted: branches ")
    assert done.out.startswith("as of 2026-01-05T03:14:")
    branches = wrong[0].split("branches ")[1].split(" differ")[0].split(" and ")
    assert len(set(branches)) == 2
    done = call("merge", "one", "two", "-O", "both.ledger", folder=tmp_path)
    assert done.code == 4
    assert all(branch in done.err for branch in branches)
    for words in (["log", "-n", "1"], ["tail"], ["export"], ["checkpoint"], ["stats"]):
        assert clear(call(*words, "both.ledger", "-q", folder=tmp_path), 4) == wrong
    assert call("verify", "both.ledger", folder=tmp_path).code == 4


def test_4_of_damage(here: Path) -> None:
    """A changed byte is told with its place, by a question that meets it and by verify."""
    path = here / "alpha.ledger"
    path.write_bytes(path.read_bytes().replace(b"no such name", b"no such none"))
    assert "alpha#" in clear(call("show", "alpha#39", path), 4)[0]
    assert clear(call("verify", path), 4) == ["meshledger: alpha#39: the entry is not what was written"]


@pytest.mark.parametrize(
    "words",
    [
        ["log", "alpha.ledger", "copy.ledger"],
        ["export", "alpha.ledger", "copy.ledger"],
        ["merge", "copy.ledger", "alpha.ledger", "-O", "new.ledger"],
        ["import", "ledger", "copy.ledger", "alpha.ledger", "-L", "new.ledger"],
    ],
)
def test_4_of_damage_in_one_of_several(words: list[str], here: Path) -> None:
    """Where one of several ledgers is damaged, it is said how to learn which; `verify` names it."""
    path = here / "alpha.ledger"
    shutil.copy(path, here / "copy.ledger")
    path.write_bytes(path.read_bytes().replace(b"no such name", b"no such none"))
    done = call(*words, "-q", folder=here)
    clear(done, 4)
    assert "`meshledger verify` of these ledgers names the file" in done.err
    assert "alpha#39: alpha.ledger: " in clear(call("verify", "copy.ledger", "alpha.ledger", "-q", folder=here), 4)[0]


def test_5(here: Path) -> None:
    """A ledger that another writes is not written; a place that refuses is told."""
    with Ledger.open(here / "alpha.ledger", write=True):
        wrong = clear(call("import", "ledger", "alpha.ledger", "-L", "alpha.ledger", folder=here), 5)
    assert "is being written by another process" in wrong[0]
    with Path("/dev/full").open("w") as full:
        code = _with_stdout(full.fileno(), ["version"])
    assert code == 5


def _with_stdout(descriptor: int, words: list[str]) -> int:
    """The exit code of a process whose standard output is this descriptor."""
    done = subprocess.run([*PROGRAM, *words], stdout=descriptor, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False, text=True)
    assert done.stderr == "meshledger: the standard output: no space left on device\n"
    return done.returncode


def test_70(told: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What should not happen is our own fault: one line, and a note with the traceback that says what it was."""

    def fall(*_given: Any) -> None:
        raise ZeroDivisionError("a \x1b[31mfault")

    monkeypatch.setattr(replay.states, "members", fall)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = call("members", told, "-q")
    assert clear(done, 70) == ["meshledger: our own fault: ZeroDivisionError: a \\x1b[31mfault"]
    notes = list(tmp_path.glob("meshledger-fault-*.txt"))
    assert len(notes) == 1
    assert str(notes[0]) in done.err
    assert "in fall" in notes[0].read_text()
    assert notes[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("raised", [KeyboardInterrupt, BrokenPipeError])
def test_130_and_141(raised: type[BaseException], told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt and a closed pipe end in silence."""

    def fall(*_given: Any) -> None:
        raise raised

    monkeypatch.setattr(replay.states, "members", fall)
    monkeypatch.setattr("replay.exits._let_go", lambda: None)
    assert call("members", told, "-q") == Called(130 if raised is KeyboardInterrupt else 141, "", "")


def test_what_comes_next_is_typed_for_the_same_node(tmp_path: Path) -> None:
    """Whoever named a directory is told commands that name it, and sees of the keys no more than fits a line."""
    words = ["init", "lab", "--transport", "ccs", "--hostname", "alpha.lab.example", "--port", "2301", "--dir", "my node"]
    done = call(*words, folder=tmp_path)
    assert done.code == 0
    assert done.err == (
        "next: `meshledger run --dir 'my node'` here, then `meshledger invite --dir 'my node'` for each machine that is to join\n"
    )
    assert done.out.splitlines()[0].split() == ["machine", "hostname", "port", "cluster", "transport", "dir"]
    done = call("status", "--dir", "my node", folder=tmp_path)
    assert (done.code, done.err.splitlines()[1]) == (5, "hint: start it with `meshledger run --dir 'my node'`")
    with Ledger.open(tmp_path / "my node" / "node.ledger", write=True):
        done = call("run", "--dir", "my node", folder=tmp_path)
    assert (done.code, done.err.splitlines()[0]) == (5, "meshledger: a node is running at my node already")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, told: Path) -> None:
    """Somebody that the system does not know, as in a container, is told to name what is meant; and nothing is our fault."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert "this user has no home" in clear(call("members", XDG_STATE_HOME=""), 2)[0]
    assert call("members", told, XDG_STATE_HOME="").code == 0


def test_a_folder_that_is_gone(tmp_path: Path, told: Path) -> None:
    """Where the current folder was taken away, that is said of it, and full paths are answered."""
    for words, code in ((["members", "x.ledger"], 2), (["members", str(told)], 0)):
        gone = tmp_path / "gone"
        gone.mkdir()
        script = f"import os, sys; os.rmdir(os.getcwd()); from replay.cli import main; sys.exit(main({words!r}))"
        words = [sys.executable, "-P", "-c", script]
        done = subprocess.run(words, cwd=gone, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert code == 0 or done.stderr.startswith("meshledger: the current folder: there is no such file")


def test_error_as_json(told: Path) -> None:
    """Who asked for json, and gets no answer, gets an object that says why; other forms have no place for it."""
    done = call("at", "bogus", told, "-o", "json")
    assert done.out.startswith('{"schema":"meshledger.error/1","error":"NoMoment","message":"\'bogus\' names no moment","hint":')
    assert done.out.endswith('"exit_code":2}\n')
    assert call("at", "bogus", told, "-o", "jsonl").out == ""


# Bad input: what is made in the folder, what is called, the exit code, and a part of the line.


def _newer(folder: Path) -> None:
    shutil.copy(folder / "alpha.ledger", folder / "x.ledger")
    with sqlite3.connect(folder / "x.ledger") as connection:
        connection.execute("update meta set value = '99' where key = 'format'")
    connection.close()


def _other(folder: Path) -> None:
    with sqlite3.connect(folder / "x.ledger") as connection:
        connection.execute("create table notes (text)")
    connection.close()


def _second(folder: Path) -> None:
    (folder / "second").mkdir()
    incident(folder / "second", seed=2)


def writes(name: str, content: bytes) -> Callable[[Path], None]:
    """What writes one file."""
    return lambda folder: (folder / name).write_bytes(content) and None


MATRIX = ["import", "rtt-matrix", "x", "-L", "new.ledger", "--start", "2026-01-01", "--interval", "60s"]
BAD: dict[str, tuple[Callable[[Path], Any] | None, list[str], int, str]] = {
    "missing": (None, ["at", "end", "no.ledger"], 2, "no.ledger: there is no such file"),
    "empty file": (writes("x.ledger", b""), ["at", "end", "x.ledger"], 2, "x.ledger: is empty"),
    "text": (writes("x.ledger", b"hello" * 99), ["at", "end", "x.ledger"], 2, "x.ledger: is no ledger"),
    "other database": (_other, ["at", "end", "x.ledger"], 2, "x.ledger: an SQLite database, but no ledger"),
    "newer": (_newer, ["at", "end", "x.ledger"], 2, "x.ledger: written in format 99"),
    "empty folder": (lambda folder: (folder / "f").mkdir(), ["at", "end", "f"], 2, "f: no ledgers in this folder"),
    "no ledger": (None, ["at", "end"], 2, "no ledger named, and there is none at nowhere/meshledger/node.ledger"),
    "folder as source": (None, ["import", "jsonl", ".", "-L", "new.ledger"], 2, ".: is a folder"),
    "folder as target": (None, ["merge", "alpha.ledger", "-O", "."], 2, ".: is a folder"),
    "folder as answer": (None, ["members", "alpha.ledger", "-O", "."], 2, ".: is a folder"),
    "ledger as answer": (None, ["members", "alpha.ledger", "-O", "alpha.ledger"], 2, "alpha.ledger: is there already"),
    "no such folder": (None, ["members", "alpha.ledger", "-O", "no/x"], 2, "no: there is no such folder"),
    "backup over": (None, ["backup", "alpha.ledger", "-O", "alpha.ledger"], 2, "alpha.ledger: is there already"),
    "two for one": (None, ["backup", "alpha.ledger", "alpha.ledger", "-O", "x"], 2, "2 ledgers named where one is meant"),
    "two targets": (None, ["import", "jsonl", "x", "-L", "a", "-L", "b"], 2, "2 ledgers named to write into"),
    "no target": (None, ["merge", "alpha.ledger"], 2, "no file named for the merged ledger"),
    "two clusters": (_second, ["at", "end", "alpha.ledger", "second"], 2, "belongs to incarnation"),
    "no matrix": (None, MATRIX, 2, "x: there is no such file or folder"),
    "empty matrix": (writes("x", b""), MATRIX, 2, "x: is empty"),
    "ragged matrix": (writes("x", b"0 1\n1\n"), MATRIX, 2, "x, line 2: has 1 cells, not 2"),
    "words in a matrix": (writes("x", b"0 a\n1 0\n"), MATRIX, 2, "x, line 1: cell 2: 'a' is no number"),
    "controls in a matrix": (writes("x", b"0 \x1b[2J\n1 0\n"), MATRIX, 2, r"cell 2: '\x1b[2J' is no number"),
    "start out of range": (writes("x", b"0 1\n1 0\n"), [*MATRIX, "--start", "2200-01-01"], 2, "the start is out of range"),
    "start without a date": (writes("x", b"0 1\n1 0\n"), [*MATRIX, "--start", "12:00"], 2, "no entry that 'now' could mean"),
    "interval": (writes("x", b"0 1\n1 0\n"), [*MATRIX, "--interval", "1 month"], 2, "'month' has no fixed length"),
    "short interval": (writes("x", b"0 1\n1 0\n"), [*MATRIX, "--interval", "0.5ms"], 2, "an interval of 500us"),
    "names no text": (writes("x", b"\xff\xfe"), [*MATRIX[:2], "alpha.ledger", *MATRIX[3:], "--names", "x"], 2, "x: is no UTF-8"),
    "names missing": (writes("x", b"0 1\n1 0\n"), [*MATRIX, "--names", "no"], 2, "no: there is no such file"),
    "instant": (None, ["at", "3/4/26", "alpha.ledger"], 2, "'3/4/26' names no moment"),
    "instant beyond": (None, ["at", "9999-01-01", "alpha.ledger"], 2, "'9999-01-01' lies beyond all instants"),
    "bidi": (None, ["at", "\u202e2026", "alpha.ledger"], 2, r"'\u202e2026' names no moment"),
    "zone": (None, ["at", "2026-01-05", "--tz", "Mars/Olympus", "alpha.ledger"], 2, "'Mars/Olympus' is no time zone"),
    "range": (None, ["log", "-S", "end", "-U", "start", "alpha.ledger"], 2, "the range ends before it begins"),
    "both ranges": (None, ["log", "-S", "end", "--around", "end", "alpha.ledger"], 2, "a range is given by --around or by"),
    "both ends": (None, ["log", "-n", "1", "--head", "1", "alpha.ledger"], 2, "the first and the last entries at once"),
    "no position": (None, ["show", "alpha", "alpha.ledger"], 2, "'alpha' is no position"),
    "odd position": (None, ["show", "alpha#x", "alpha.ledger"], 2, "'alpha#x' is no position"),
    "unknown feed": (None, ["show", "zulu#1", "alpha.ledger"], 2, "zulu#1: no feed of that name"),
    "no cell": (None, ["blame", "a:b:c", "alpha.ledger"], 2, "'a:b:c' names nothing in a mesh"),
    "unknown machine": (None, ["blame", "zulu", "alpha.ledger"], 2, "no machine zulu by"),
    "unknown machine in a log": (None, ["log", "-m", "zulu", "alpha.ledger"], 2, "no machine 'zulu' in these ledgers"),
    "unknown machine in a link": (None, ["log", "-l", "alpha:zulu", "alpha.ledger"], 2, "no machine 'zulu' in these ledgers"),
    "reason": (None, ["log", "--reason", "timout", "alpha.ledger"], 2, "there is no reason 'timout'"),
    "reason of a tail": (None, ["tail", "--reason", "x", "alpha.ledger"], 2, "there is no reason 'x'"),
    "window after all": (None, ["stats", "-S", "2030-01-01", "alpha.ledger", "-q"], 3, "the window begins after the last entry"),
    "window before all": (None, ["stats", "-U", "2020-01-01", "alpha.ledger", "-q"], 3, "the window ends before the first entry"),
    "condition after all": (None, ["bisect", "symmetric", "-S", "2030-01-01", "alpha.ledger", "-q"], 3, "begins after the last"),
    "views after all": (None, ["disagreements", "-S", "2030-01-01", "alpha.ledger", "-q"], 3, "begins after the last entry"),
    "two conditions": (
        None,
        ["bisect", "symmetric", "-e", "members > 1", "alpha.ledger"],
        2,
        "the condition symmetric and --expr at once",
    ),
    "no link": (None, ["log", "-l", "alpha", "alpha.ledger"], 2, "'alpha' is no link"),
    "no query": (None, ["sql", "select", "alpha.ledger"], 2, "SQLite says: incomplete input"),
    "empty query": (None, ["sql", " -- nothing", "alpha.ledger"], 2, "the query asks for nothing"),
    "writing query": (None, ["sql", "delete from control", "alpha.ledger"], 2, "SQLite says: attempt to write a readonly"),
    "attaching query": (None, ["sql", "attach 'y' as y", "alpha.ledger"], 2, "SQLite says: not authorized"),
    "token": (None, ["tail", "--after", "bogus", "alpha.ledger"], 2, "'bogus' is no position"),
    "token beyond": (None, ["tail", "--after", "alpha#99", "alpha.ledger"], 3, "alpha ends at #75, and was read to #99"),
    "token that says a feed twice": (None, ["tail", "--after", "alpha#9,alpha#10", "alpha.ledger"], 2, "names alpha twice"),
    "span backwards": (None, ["disagreements", "--least", "-5s", "alpha.ledger"], 2, "'-5s' is no span of time"),
    "half an expression": (None, ["bisect", "-e", "members >", "alpha.ledger"], 2, "invalid syntax at its end"),
    "ledger as lines": (None, ["import", "jsonl", "alpha.ledger", "-L", "new.ledger"], 2, "is a ledger, and no lines"),
    "cluster without a name": (None, ["init", "", "--transport", "ccs", "--hostname", "a.b"], 2, "'' cannot name a cluster"),
    "cluster with a long name": (None, ["init", "x" * 999, "--transport", "ccs", "--hostname", "a.b"], 2, "cannot name a"),
    "token and n": (None, ["tail", "--after", "alpha#9", "-n", "1", "alpha.ledger"], 2, "--after says where to begin"),
    "no key": (None, ["checkpoint", "--key", "no", "alpha.ledger"], 2, "no: there is no such file"),
    "wide key": (writes("k", b"x"), ["checkpoint", "--key", "k", "alpha.ledger"], 2, "k has mode 0644"),
    "key over": (writes("k", b"x"), ["keygen", "-O", "k"], 2, "k exists"),
    "checkpoint no text": (writes("c", b"\xff"), ["verify", "--checkpoint", "c", "alpha.ledger"], 2, "c: is no UTF-8 text"),
    "no checkpoint": (writes("c", b"x\n"), ["verify", "--checkpoint", "c", "alpha.ledger"], 2, "c: this is no checkpoint"),
    "no verifier": (None, ["verify", "--verifier", "x", "alpha.ledger"], 2, "no Ed25519 verifier key"),
    "unsigned proof": (None, ["prove", "alpha#3", "alpha.ledger"], 2, "no signed head of alpha covers record"),
    "part of a ledger": (None, ["export", "--format", "ledger", "-S", "end", "-O", "y", "alpha.ledger"], 2, "exported whole"),
    "parquet in a pipe": (None, ["export", "--format", "parquet", "alpha.ledger"], 2, "parquet is no stream"),
    "table of entries": (None, ["export", "-o", "csv", "alpha.ledger"], 2, "the entries themselves are printed, as jsonl"),
    "dash as a file": (None, ["merge", "alpha.ledger", "-O", "-"], 2, "'-' is no file"),
    "group alone": (None, ["import"], 2, "`meshledger import` is followed by one of rtt-matrix, jsonl, ledger"),
    "mark": (None, ["note", "x", "--mark", "a b", "-L", "alpha.ledger", "-q"], 2, "'a b' cannot name a moment"),
    "long note": (None, ["note", "x" * 4097, "-L", "alpha.ledger", "-q"], 2, "a note of 4,097 characters"),
    "empty note": (None, ["note", " ", "-L", "alpha.ledger", "-q"], 2, "a note without a text"),
    "demo over": (lambda folder: (folder / "d").mkdir(), ["demo", "--keep", "d"], 2, "d: is there already"),
    "command": (None, ["connstats"], 2, "there is no command 'connstats'"),
    "hostile command": (None, ["\x1b[2J\u202e"], 2, r"there is no command '\x1b[2J\u202e'"),
    "option": (None, ["at", "end", "--sicne", "x"], 2, "no such option '--sicne'"),
    "value": (None, ["log", "-n", "x", "alpha.ledger"], 2, "invalid value for '-n': 'x' is no whole number"),
    "format": (None, ["at", "end", "-o", "xml"], 2, "invalid value for '-o' / '--output': 'xml' is not one of"),
    "argument": (None, ["at"], 2, "missing argument 'TIME'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, here: Path) -> None:
    """Whatever is wrong with what was given, one line says what and where, nothing is made, and nothing else is lost."""
    make, words, code, part = BAD[name]
    if make is not None:
        make(here)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    done = call(*words, folder=here)
    assert part in clear(done, code)[0]
    assert done.out == ""
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


def test_hints_of_what_is_near(here: Path) -> None:
    """A word that is nearly right is answered with what is."""
    assert call("connstats").err.endswith("hint: did you mean connstatus or stats or status?\n")
    assert call("log", "--sicne", "x").err.splitlines()[1].startswith("hint: did you mean --since")
    assert call("bogus").err.endswith("hint: `meshledger --help` lists the commands\n")
    assert call("at").err.endswith("hint: `meshledger at --help` shows how it is used, with examples\n")
    assert call("at", "3/4/26", "alpha.ledger", folder=here).err.endswith("hint: did you mean '2026-03-04' or '2026-04-03'?\n")


def test_a_log_in_which_nothing_fits_says_so(here: Path) -> None:
    """An empty log is fine, and it is said that it is empty; a kind that there is not is named, with those near it."""
    done = call("log", "-k", "link.lots", "alpha.ledger", "-o", "jsonl", folder=here)
    assert done == (0, "", "no kind begins with 'link.lots': did you mean link.lost?\nno entry fits\n")
    assert call("log", "-k", "link.lots", "alpha.ledger", "-q", "-o", "jsonl", folder=here) == (0, "", "")
    assert call("log", "-n", "0", "alpha.ledger", "-o", "jsonl", folder=here) == (0, "", "")


@pytest.mark.parametrize("words", [["log", "-n"], ["log", "--head"], ["tail", "-n"]])
def test_more_than_there_can_be_is_all(words: list[str], here: Path) -> None:
    """Any number of entries may be asked for, also one that no machine counts to."""
    done = call(*words, str(10**30), "alpha.ledger", "-o", "jsonl", folder=here)
    assert (done.code, done.out.count("\n")) == (0, 75)


def test_hostile_text_is_shown_harmless(here: Path) -> None:
    """What a machine wrote into its ledger never reaches a terminal raw, in no form of an answer."""
    hostile = "\x1b[2J\u202egnp.exe\x00\u200b"
    with Ledger.open(here / "alpha.ledger", write=True) as ledger:
        ledger.append(NoteAdded(hostile, by=hostile), observer="alpha", at=imagine(1).entries["alpha"][-1].at_ns)
    for form in ("table", "json", "jsonl", "csv"):
        done = call("tail", "-n", "1", "alpha.ledger", "-o", form, folder=here)
        assert done.code == 0
        assert "gnp.exe" in done.out
        assert done.out.replace("\r\n", "").replace("\n", "").isprintable()


def test_refused_lines_are_counted(here: Path) -> None:
    """Lines that are refused do not stop an import: they are counted, the first is told, and the answer is no."""
    lines = call("export", "alpha.ledger", folder=here).out.splitlines()
    (here / "x.jsonl").write_text("\n".join([lines[0], "{", "\x1b" * 9, *lines[1:], ""]))
    done = call("import", "jsonl", "x.jsonl", "-L", "new.ledger", folder=here)
    assert clear(done, 1)[0].startswith("meshledger: 2 parts refused; the first: x.jsonl, line 2: ")
    assert "1 feed: 75 new, 0 already there, 0 conflicting, 2 refused" in done.out


def test_read_only_place(told: Path, tmp_path: Path) -> None:
    """In a folder that cannot be written questions are answered, and what writes is refused with 5."""
    shutil.copy(told / "alpha.ledger", tmp_path / "alpha.ledger")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(told / "alpha.ledger", folder / "alpha.ledger")
        (folder / "alpha.ledger").chmod(0o444)
        folder.chmod(0o555)
        writing = (["merge", "alpha.ledger", "-O", "x.ledger"], ["members", "alpha.ledger", "-O", "x"], ["keygen", "-O", "k"])
        for words in writing:  # once where it may be done, so that all is imported that is needed
            assert call(*words, folder=tmp_path).code == 0
        with _bound():
            assert call("members", "alpha.ledger", folder=folder).code == 0
            for words in writing:
                clear(call(*words, folder=folder), 5)
        assert [path.name for path in folder.iterdir()] == ["alpha.ledger"]
        folder.chmod(0o755)


@contextlib.contextmanager
def _bound() -> Iterator[None]:
    """Be one whom permissions bind: root, whom none bind, is nobody meanwhile."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
