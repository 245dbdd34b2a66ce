"""The command line answers in every form, takes its options anywhere, and ends as it says it does."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copyfile

import jsonschema
import pytest
from called import Called, call, incident
from generated import imagine

from ledger.store import Ledger
from replay.cli import cli
from replay.listings import LISTED
from replay.output import columns
from replay.schemas import ANSWERS, row_schema, schema

T = "2026-01-05T03:10:30Z"
SPOKEN = {
    "at": ["at", T, "-L", "told"],
    "members": ["members", "told"],
    "connstatus": ["connstatus", "--at", T, "told"],
    "routes": ["routes", "--at", T, "told"],
    "diff": ["diff", "2026-01-05T03:05:30Z", T, "told"],
    "blame": ["blame", "alpha:charlie", "--at", T, "told"],
    "why": ["why", "alpha", "charlie", "--at", "2026-01-05T03:08:00Z", "told"],
    "stats": ["stats", "told"],
    "bisect": ["bisect", "full-mesh", "told"],
    "conditions": ["bisect", "--list"],
    "absences": ["stats", "-m", "charlie", "told"],
    "disagreements": ["disagreements", "--least", "10s", "told"],
    "log": ["log", "-k", "link", "told"],
    "show": ["show", "alpha#12", "charlie#1", "told"],
    "tail": ["tail", "-n", "4", "told"],
    "sql": ["sql", "select kind, count(*) as n, null as lacking from event group by 1", "told/alpha.ledger"],
    "import": ["import", "jsonl", "alpha.jsonl", "-L", "{new}/imported.ledger"],
    "merge": ["merge", "told", "-O", "{new}/merged.ledger"],
    "export": ["export", "told", "-O", "{new}/all.jsonl"],
    "backup": ["backup", "told/alpha.ledger", "-O", "{new}/copy.ledger"],
    "verify": ["verify", "told"],
    "checkpoint": ["checkpoint", "told", "--key", "a.key"],
    "prove": ["prove", "alpha#12", "told", "--key", "a.key"],
    "keygen": ["keygen", "-O", "{new}/b.key"],
    "note": ["note", "the wire was cut", "--mark", "cut", "--at", T, "--as", "kim", "-L", "{new}/noted.ledger"],
    "version": ["version"],
}
"""One way to say each command that has an answer. `{new}`: a folder of the test's own."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the incident's ledgers in `told`, one of them as jsonl, and a key."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "told").mkdir()
    incident(folder / "told")
    assert call("export", "told/alpha.ledger", "-O", "alpha.jsonl", folder=folder).code == 0
    assert call("keygen", "-O", "a.key", folder=folder).code == 0
    return folder


LIVE_ANSWERS = {"node", "invite", "done", "status", "doctor", "demo"}
LIVE_COMMANDS = {
    "init", "join", "run", "doctor", "sshd-config", "invite", "status", "leave", "remove", "disconnect", "reconnect",
    "rekey", "sethostname", "systemd-unit", "demo",
}  # fmt: skip
"""Of a running node: what they answer is held against its schema where nodes run (`e2e`)."""


def spoken(name: str, tmp_path: Path, place: Path, *more: str) -> Called:
    """One command of SPOKEN, called. Those that write do so in a copy."""
    if name == "note":
        copyfile(place / "told" / "alpha.ledger", tmp_path / "noted.ledger")
    return call(*(word.replace("{new}", str(tmp_path)) for word in SPOKEN[name]), *more, folder=place)


def test_every_answer_is_spoken() -> None:
    """No answer is without a command here, but the one about failures, and no command without an answer or a reason."""
    assert set(SPOKEN) == set(ANSWERS) - {"error"} - LIVE_ANSWERS
    assert set(cli.list_commands(None)) - {words[0] for words in SPOKEN.values()} == {"schema", "completion"} | LIVE_COMMANDS


@pytest.mark.parametrize("name", SPOKEN)
def test_json_keeps_to_its_schema(name: str, tmp_path: Path, place: Path) -> None:
    """`-o json` prints one object, of the schema that `schema` prints."""
    done = spoken(name, tmp_path, place, "-o", "json")
    assert done.code == (1 if name in {"diff", "disagreements", "verify"} else 0), done.err
    answer = json.loads(done.out)
    jsonschema.validate(answer, json.loads(call("schema", name, "-o", "json").out))
    assert answer["schema"] == f"meshledger.{name}/1"
    assert done.out.count("\n") == 1


@pytest.mark.parametrize("name", SPOKEN)
def test_jsonl_keeps_to_its_schema(name: str, tmp_path: Path, place: Path) -> None:
    """`-o jsonl` prints one object a line, each of the schema of rows."""
    lines = spoken(name, tmp_path, place, "-o", "jsonl").out.splitlines()
    assert lines
    for line in lines:
        jsonschema.validate(json.loads(line), row_schema(name))


@pytest.mark.parametrize("name", SPOKEN)
def test_csv_is_square(name: str, tmp_path: Path, place: Path) -> None:
    """`-o csv` prints the columns of the rows and as many cells in each line, with the same number of rows as jsonl."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    head, *rows = csv.reader(io.StringIO(spoken(name, tmp_path / "one", place, "-o", "csv").out, newline=""))
    if name == "sql":
        assert head == ["kind", "n", "lacking"]
    else:
        assert head == [column for column in columns(LISTED[ANSWERS[name]][0]) if column != "schema"]
    assert {len(row) for row in rows} == {len(head)}
    assert len(rows) == len(spoken(name, tmp_path / "two", place, "-o", "jsonl").out.splitlines())


@pytest.mark.parametrize("name", SPOKEN)
def test_tables_are_plain(name: str, tmp_path: Path, place: Path) -> None:
    """The form for people, which is the one without `-o`, holds no control character and no trailing blank."""
    done = spoken(name, tmp_path, place)
    assert done.out
    assert done.out.replace("\n", "").isprintable()
    assert not any(line.endswith(" ") for line in done.out.splitlines())


def test_export_to_the_standard_output(place: Path) -> None:
    """Without -O the entries themselves are the data, and `-` reads them back to the same ledger."""
    done = call("export", "told/alpha.ledger", folder=place)
    assert done.out == (place / "alpha.jsonl").read_text()
    assert done.err == "75 entries of 1 feed as jsonl\n"


@pytest.mark.parametrize("name", ["connstatus", "log", "stats", "verify"])
def test_destination_holds_what_would_be_printed(name: str, tmp_path: Path, place: Path) -> None:
    """-O puts the same bytes into a file, for its owner only, and leaves the standard output empty and no draft behind."""
    printed = spoken(name, tmp_path, place, "-o", "csv")
    kept = spoken(name, tmp_path, place, "-o", "csv", "-O", str(tmp_path / "answer.csv"))
    assert kept.out == ""
    assert (tmp_path / "answer.csv").read_bytes().decode() == printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["answer.csv"]


# Options that all share.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["-L", "told"], []),
        (["-o", "json"], ["-L", "told"]),
        (["--ledger", "told", "--tz", "Europe/Berlin"], ["-q"]),
        (["-q", "-L", "told/alpha.ledger"], ["-L", "told/bravo.ledger", "-o", "jsonl"]),
        ([], ["--now", "2026-01-05T03:12:00Z", "-L", "told"]),
    ],
)
def test_shared_options_stand_anywhere(before: list[str], after: list[str], place: Path) -> None:
    """Before the command's name or after it, a shared option means the same."""
    one = call(*before, "routes", "--at", "-2min", *after, folder=place)
    other = call("routes", *before, *after, "--at", "-2min", folder=place)
    third = call(*before, *after, "routes", "--at", "-2min", folder=place)
    assert one == other == third
    assert one.code == 0


def test_shared_options_within_a_group(place: Path, tmp_path: Path) -> None:
    """They may also stand between `import` and what is imported."""
    for number, words in enumerate((["import", "{}", "jsonl"], ["{}", "import", "jsonl"], ["import", "jsonl", "{}"])):
        target = f"-L{tmp_path / str(number)}.ledger"
        assert call(*(word.format(target) for word in words), "alpha.jsonl", folder=place).code == 0
    assert len({path.read_bytes() for path in tmp_path.glob("*.ledger")}) == 1


def test_environment(place: Path) -> None:
    """MESHLEDGER_DIR, MESHLEDGER_OUTPUT and MESHLEDGER_TZ stand in for options; an option wins."""
    (place / "node").mkdir(exist_ok=True)
    (place / "node" / "node.ledger").write_bytes((place / "told" / "alpha.ledger").read_bytes())
    said = call("members", "--at", "2026-01-05 04:10", folder=place, MESHLEDGER_DIR="node", MESHLEDGER_TZ="Europe/Berlin")
    assert said.out.startswith("as of 2026-01-05T03:10:00Z; ")
    said = call("members", "-o", "json", "--dir", "node", folder=place, MESHLEDGER_DIR="nowhere", MESHLEDGER_OUTPUT="csv")
    assert json.loads(said.out)["cluster"]["name"] == "demo"
    assert call("members", "--dir", "node", folder=place, MESHLEDGER_OUTPUT="xml").code == 2
    for words in (["schema"], ["schema", "at"], ["export", "told"]):
        assert call(*words, folder=place, MESHLEDGER_OUTPUT="csv") == call(*words, folder=place)
    (place / "state" / "meshledger").mkdir(parents=True)
    (place / "state" / "meshledger" / "node.ledger").write_bytes((place / "told" / "alpha.ledger").read_bytes())
    assert call("members", folder=place, XDG_STATE_HOME=str(place / "state")).code == 0


def test_quiet(place: Path) -> None:
    """-q leaves nothing on standard error but what is wrong."""
    assert call("at", "end", "told", folder=place).err == "end is 2026-01-05T03:14:54.346Z\n"
    assert call("at", "end", "told", "-q", folder=place).err == ""
    assert call("at", "bogus", "told", "-q", folder=place).err.startswith("meshledger: 'bogus' names no moment\nhint: ")


@pytest.mark.parametrize("moment", ["2026-01-05", "03:12", "15 min ago", "mark:cut", "alpha#12", "end"])
def test_a_moment_in_place_of_a_ledger_is_known_for_one(place: Path, moment: str) -> None:
    """Where files are named and no such file is there, whoever named a moment hears which option takes it."""
    told = call("connstatus", moment, folder=place)
    assert (told.code, told.err.count("\n")) == (2, 2)
    assert "as in `--at " in told.err
    assert "hint" not in call("connstatus", "nowhere.ledger", folder=place).err


def test_moments_before_now_are_no_options(place: Path) -> None:
    """`-5min` is an argument, though it begins with a dash; `--now` fixes what it is before."""
    done = call("diff", "-5min", "now", "--now", T, "told", "-o", "json", folder=place)
    assert json.loads(done.out)["from"] == "2026-01-05T03:05:30Z"


def test_several_ledgers_are_one(place: Path) -> None:
    """Files named one by one, their folder, and their merge give one answer."""
    names = [f"told/{path.name}" for path in sorted((place / "told").glob("*.ledger"))]
    assert call("at", T, *names, "-o", "json", folder=place).out == call("at", T, "told", "-o", "json", folder=place).out


def test_log_chooses(place: Path) -> None:
    """Filters, ranges and ends choose entries; the last N are the last N of the range."""

    def positions(*words: str) -> list[str]:
        done = call("log", *words, "told", "-o", "jsonl", folder=place)
        assert done.code == 0, done.err
        return [json.loads(line)["pos"] for line in done.out.splitlines()]

    lost = positions("-l", "alpha:charlie", "-k", "link.lost")
    assert lost == [imagine(1).places["lost alpha"]]
    both = positions("-l", "alpha=charlie", "-k", "link")
    assert len(both) == 6
    assert positions("-l", "alpha=charlie", "-k", "link", "-n", "2") == both[-2:]
    assert positions("-l", "alpha=charlie", "-k", "link", "--head", "2") == both[:2]
    assert positions("-l", "alpha=charlie", "-k", "link", "-n", "2", "-r") == both[:-3:-1]
    assert positions("--reason", "reset") == [imagine(1).places["flap"]]
    assert positions("--observer", "echo", "-k", "machine") == [imagine(1).places["leave"]]
    around = positions("--around", "03:06:15±15s", "-k", "hostname")
    assert (
        around == positions("-S", "03:06", "-U", "03:06:30", "-m", "charlie", "-k", "hostname") == [imagine(1).places["rename"]]
    )


# Help.


def commands() -> list[list[str]]:
    """Every command, as it is called."""
    return [[name] for name in cli.list_commands(None)] + [["import", name] for name in ("rtt-matrix", "jsonl", "ledger")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_teaches(words: list[str]) -> None:
    """Every command says what it is for, and shows at least two examples that begin as it is called."""
    done = call(*words, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: meshledger {' '.join(words)} ")
    examples = done.out.split("For example:\n")[1].split("\n\n")[0].splitlines()
    assert len([line for line in examples if " ".join(words[:1]) in line and line.startswith("    meshledger ")]) >= 2
    assert "Options of all commands:" in done.out


def test_help_of_the_whole() -> None:
    """The first page names every command and every exit code."""
    text = call("--help").out
    assert all(f"\n  {name} " in text for name in cli.list_commands(None))
    titles = ["Questions:", "Ledgers:", "Proofs:", "A live mesh:", "This program:", "Options:"]
    assert [line for line in text.splitlines() if line in titles] == titles
    assert all(f" {code} " in text for code in (0, 1, 2, 3, 4, 5, 70, 130, 141))
    assert call().out == text
    assert call().code == 2


def test_completion_completes() -> None:
    """The scripts are for the shell that was named, and the program answers what they ask."""
    assert all("_MESHLEDGER_COMPLETE" in call("completion", shell).out for shell in ("bash", "zsh", "fish"))
    done = call(COMP_WORDS="meshledger connst", COMP_CWORD="1", _MESHLEDGER_COMPLETE="bash_complete")
    assert done.out == "plain,connstatus\n"


# Lean.

HEAVY = ("sqlite_utils", "asyncssh", "dns", "cryptography", "duckdb", "hypothesis", "asyncio", "zoneinfo")


@pytest.mark.parametrize(
    "words", [["--help"], ["at", T, "-L", "told", "-q", "-o", "json"], ["log", "-n", "1", "told", "-o", "jsonl"]]
)
def test_starting_is_lean(words: list[str], place: Path) -> None:
    """What a question does not need is not imported, so that an answer comes at once."""
    loaded = f"[name for name in {HEAVY!r} if name in sys.modules]"
    script = f"import sys; from replay.cli import main; main({words!r}); print({loaded}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], cwd=place, env=process(), capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def process() -> dict[str, str]:
    """The environment of a process of its own."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}


PROGRAM = [sys.executable, "-c", "import sys; from replay.cli import main; sys.exit(main())"]


def test_closed_pipe_is_silent(place: Path) -> None:
    """Who reads only the beginning of an answer hears no complaint: 141."""
    running = subprocess.Popen(
        [*PROGRAM, "export", "told"], cwd=place, env=process(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait() == 141
    running.stderr.close()


def test_interrupt(place: Path) -> None:
    """An interrupted tail says where it ended, and ends with 130."""
    with (place / "err").open("w+b") as err:
        words = [*PROGRAM, "tail", "-f", "-n", "1", "told/alpha.ledger", "-o", "jsonl"]
        running = subprocess.Popen(words, cwd=place, env=process(), stdout=subprocess.PIPE, stderr=err)
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["pos"] == "alpha#75"
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        assert running.stdout.read() == b""
        assert running.wait() == 130
        running.stdout.close()
        assert (place / "err").read_text() == "after alpha#75\n"


def test_an_endless_query_is_interrupted(place: Path) -> None:
    """A query in SQL that looks for ever for one more row is ended by an interrupt, with 130 and not a word."""
    endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select x from n where x <= 5000"
    words = [*PROGRAM, "sql", endless, "told/alpha.ledger", "-o", "jsonl"]
    running = subprocess.Popen(words, cwd=place, env=process(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    try:
        assert running.stdout.readline() == b'{"x":1}\n'
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=60)[1] == b""
    finally:
        running.kill()
    assert running.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_is_told_to_end_leaves_nothing_half(number: signal.Signals, place: Path, tmp_path: Path) -> None:
    """A signal to end takes away the file that was being written, and is what the process ends by."""
    endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select x from n"
    words = [*PROGRAM, "sql", endless, "told/alpha.ledger", "-O", str(tmp_path / "numbers")]
    running = subprocess.Popen(words, cwd=place, env=process(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while not list(tmp_path.iterdir()):
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(number)
        assert running.communicate(timeout=60) == (b"", b"")
    finally:
        running.kill()
    assert running.returncode == -number
    assert list(tmp_path.iterdir()) == []


def test_schema_names() -> None:
    """`schema` lists what there is, prints each, and refuses what it cannot print."""
    assert call("schema").out.split() == list(ANSWERS)
    assert json.loads(call("schema", "at").out) == schema("at")
    assert json.loads(call("schema", "at", "--row", "-o", "jsonl").out) == row_schema("at")
    assert call("schema", "bogus").code == 2
    assert call("schema", "at", "-o", "csv").code == 2


def test_import_of_matrices(tmp_path: Path) -> None:
    """A matrix with names comes in; again it adds nothing; a ragged one beside it is refused and makes the code 1."""
    (tmp_path / "s_1").write_text("0 0.1\n0.2 0\n")
    (tmp_path / "names").write_text("left left.lab.example\nright\n")
    words = ["import", "rtt-matrix", "s_1", "-L", "x.ledger", "--start", "2026-01-01", "--interval", "60s", "--names", "names"]
    done = call(*words, folder=tmp_path)
    assert (done.code, done.out.splitlines()[-1]) == (0, "2 feeds: 10 new, 0 already there, 0 conflicting, 0 refused")
    assert (tmp_path / "x.ledger.snap").is_file()
    done = call(*words, folder=tmp_path)
    assert done.out.splitlines()[-1] == "2 feeds: 0 new, 10 already there, 0 conflicting, 0 refused"
    (tmp_path / "s_2").write_text("0 0.1\n0.2\n")
    done = call(*words[:3], "s_2", *words[3:], folder=tmp_path)
    assert done.code == 1
    assert done.err == "meshledger: 1 part refused; the first: s_2, line 2: has 1 cells, not 2\n"


def test_import_of_a_ledger_is_a_merge(place: Path, tmp_path: Path) -> None:
    """`import ledger` and `merge` make the same file."""
    assert call("import", "ledger", "told", "-L", tmp_path / "a.ledger", folder=place).code == 0
    assert call("merge", "told", "-O", tmp_path / "b.ledger", folder=place).code == 0
    assert (tmp_path / "a.ledger").read_bytes() == (tmp_path / "b.ledger").read_bytes()
    with Ledger.open(tmp_path / "a.ledger") as ledger:
        assert len(ledger.feeds()) == 5


def test_trust(place: Path, tmp_path: Path) -> None:
    """A checkpoint that was kept shows that the end of a ledger was cut off; proofs are written where -O says."""
    kept = tmp_path / "kept"
    assert call("checkpoint", "told", "--key", "a.key", "-O", kept, folder=place).code == 0
    assert call("verify", "told", "--checkpoint", kept, "--no-invariants", folder=place).code == 0
    fewer = tmp_path / "fewer.ledger"
    lines = (place / "alpha.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "fewer.jsonl").write_text("".join(line for line in lines if json.loads(line)["rec"] < 6))
    assert call("import", "jsonl", tmp_path / "fewer.jsonl", "-L", fewer).code == 0
    done = call("verify", fewer, "--checkpoint", kept)
    assert done.code == 4
    assert "alpha: was cut off" in done.err
    proof = tmp_path / "p.tlog-proof"
    assert call("prove", "alpha#12", "told", "--key", "a.key", "-O", proof, folder=place).code == 0
    assert proof.read_text().startswith("c2sp.org/tlog-proof@v1\n")
    assert call("prove", "alpha", "--old", "1", "told", "--key", "a.key", "-O", proof, folder=place).code == 0
    assert proof.read_text().startswith("old 1\n")
    assert call("prove", "alpha", "told", folder=place).code == 2
