"""A tail misses nothing and repeats nothing, whatever is written meanwhile."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from called import call

from ledger.events import LinkLost, PingAnswered
from ledger.store import Ledger
from replay.tailing import POLL_S

PROGRAM = [sys.executable, "-c", "import sys; from replay.cli import main; sys.exit(main())"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
INCARNATION = "import:" + "0" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of two feeds with five entries each."""
    with Ledger.create(tmp_path / "x.ledger", incarnation=INCARNATION) as ledger:
        for name in ("alpha", "bravo"):
            ledger.open_feed(name, at=0)
            ledger.append([PingAnswered("peer", number, 5) for number in range(4)], observer=name, at=10**9)
    return tmp_path / "x.ledger"


def write(path: Path, number: int, name: str = "alpha") -> None:
    """One more entry."""
    with Ledger.open(path, write=True) as ledger:
        ledger.append(LinkLost("peer", "timeout", str(number)), observer=name, at=(10 + number) * 10**9)


def positions(out: str) -> list[str]:
    """The positions in jsonl."""
    return [json.loads(line)["pos"] for line in out.splitlines()]


def test_the_last_are_shown(path: Path) -> None:
    """Without -f the last ten, or N, of what is asked for are shown, and the token is behind all that is there."""
    assert positions(call("tail", path, "-o", "jsonl").out) == [f"{n}#{i}" for i in [1] for n in ("alpha", "bravo")] + [
        f"{n}#{i}" for n in ("alpha", "bravo") for i in range(2, 6)
    ]
    done = call("tail", "-n", "2", "--observer", "alpha", path, "-o", "jsonl")
    assert positions(done.out) == ["alpha#4", "alpha#5"]
    assert done.err == "after alpha#5,bravo#5\n"


def test_what_never_began_ends_nowhere() -> None:
    """A tail of what is not there gives no token: nothing could go on after it."""
    assert call("tail", "-f", "no.ledger") == (2, "", "meshledger: no.ledger: there is no such file\n")


def test_a_token_goes_on_exactly(path: Path) -> None:
    """From any token, also of nothing, come just the entries behind it, and the token of one call is the next one's."""
    assert len(positions(call("tail", "--after", "", path, "-o", "jsonl").out)) == 10
    assert positions(call("tail", "--after", "alpha#3,bravo#5", path, "-o", "jsonl").out) == ["alpha#4", "alpha#5"]
    token = call("tail", path).err.removeprefix("after ").strip()
    assert positions(call("tail", "--after", token, path, "-o", "jsonl").out) == []
    write(path, 1)
    write(path, 2, "bravo")
    done = call("tail", "--after", token, path, "-o", "jsonl")
    assert positions(done.out) == ["alpha#6", "bravo#6"]
    assert done.err == "after alpha#6,bravo#6\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_following_beside_a_writer(path: Path, number: signal.Signals) -> None:
    """What is appended while a tail follows comes once and in order, and what comes after its end comes with its token."""
    words = [*PROGRAM, "tail", "-f", "-n", "1", str(path), "-o", "jsonl"]
    running = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stderr is not None
    with running.stdout, running.stderr:

        def next_one() -> str:
            line = running.stdout.readline() if running.stdout else ""
            assert line, running.stderr.read() if running.stderr else ""
            return positions(line)[0]

        found = [next_one()]
        with Ledger.open(path, write=True) as ledger:
            for each in range(20):
                ledger.append(LinkLost("peer", "timeout", str(each)), observer="alpha", at=(10 + each) * 10**9)
                if each % 7 == 0:
                    ledger.seal("alpha")
                if each == 9:
                    found += [next_one() for _ in range(10)]
        found += [next_one() for _ in range(10)]
        running.send_signal(number)
        found += positions(running.stdout.read())
        assert running.wait() == 128 + number
        token = running.stderr.read().removeprefix("after ").strip()
    write(path, 99)
    found += positions(call("tail", "--after", token, path, "-o", "jsonl").out)
    assert found == ["bravo#5", *(f"alpha#{index}" for index in range(6, 27))]


def test_ends_after_matches_or_time(path: Path) -> None:
    """--until-match counts what comes, not what was there; without enough of it --timeout ends with 1, else with 0."""
    done = call("tail", "--until-match", "1", "--timeout", "50ms", path, "-o", "jsonl")
    assert (done.code, done.out) == (1, "")
    assert call("tail", "-f", "--timeout", "50ms", path).code == 0
    done = call("tail", "--after", "alpha#2", "--until-match", "3", "--observer", "alpha", path, "-o", "jsonl")
    assert (done.code, positions(done.out)) == (0, ["alpha#3", "alpha#4", "alpha#5"])
    words = [*PROGRAM, "tail", "-k", "link", "--until-match", "1", "--timeout", "1min", str(path), "-o", "jsonl"]
    running = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for number in range(200):  # it may not have begun yet: until it ends, there is always more to come
        write(path, number)
        try:
            running.wait(POLL_S)
            break
        except subprocess.TimeoutExpired:
            continue
    assert running.wait(1) == 0
    assert running.stdout is not None
    with running.stdout:
        assert len(positions(running.stdout.read())) == 1


def test_as_one_object(path: Path) -> None:
    """Also a tail that follows is one object in json, closed at its end."""
    answer = json.loads(call("tail", "-f", "-n", "2", "--timeout", "1ms", path, "-o", "json").out)
    assert [row["pos"] for row in answer["entries"]] == ["bravo#4", "bravo#5"]
