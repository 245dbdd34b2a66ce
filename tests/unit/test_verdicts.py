"""`verify` with invariants: exit codes by class, guests' invariants, and what the files themselves tell."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from called import call
from recorded import recorded

from ledger import events as ev
from ledger.entry import Observed
from ledger.errors import Refused
from ledger.identity import Feed
from ledger.keys import LedgerKey, generate
from ledger.notes import Checkpoint, sign_checkpoint
from ledger.store import Ledger
from projections.invariants import shipped
from replay import verdicts
from replay.check import verify
from replay.proving import origin_of

START = 1_767_225_600 * 10**9
ALPHA = Feed.of("import:told", "alpha")
BEGUN = [ev.FeedOpened("import:told", "alpha", 1), ev.MachineJoined("alpha"), ev.MachineJoined("bravo"), ev.NodeStarted(1)]


def told(path: Path, events: list[ev.Event], *, every_s: int = 1) -> Path:
    """A ledger of one feed: how a feed begins, and then these, `every_s` seconds apart."""
    rows = [Observed(START + place * every_s * 10**9, event) for place, event in enumerate([*BEGUN, *events])]
    return recorded(path, {ALPHA: rows})


def test_a_quiet_log_is_fine(tmp_path: Path) -> None:
    """Nothing violated: exit code 0; every invariant is answered, each with its sentence, none twice."""
    path = told(tmp_path / "a.ledger", [ev.LinkEstablished("bravo", "1"), ev.PingAnswered("bravo", 1, 900, "1")])
    done = call("verify", path, "-o", "json")
    answer = json.loads(done.out)
    assert (done.code, answer["ok"]) == (0, True)
    names = [each["name"] for each in answer["invariants"]]
    assert names == [*(f"A{n}" for n in range(1, 22)), *(f"B{n}" for n in range(1, 20))]
    assert all(each["says"].endswith(".") and each["title"] for each in answer["invariants"])
    assert {each["verdict"] for each in answer["invariants"]} <= {"holds", "pending", "vacuous", "not covered"}


def test_a_finding_about_the_mesh_makes_the_code_1(tmp_path: Path) -> None:
    """A link that was silently given up is a finding: named with its position, and the ledger itself is fine."""
    path = told(tmp_path / "a.ledger", [ev.LinkEstablished("bravo", "1"), *[ev.NoteAdded("quiet")] * 6], every_s=60)
    done = call("verify", path, "-o", "json")
    answer = json.loads(done.out)
    violated = {each["name"]: each for each in answer["invariants"] if each["verdict"] == "violated"}
    assert (done.code, answer["ok"], answer["problems"], list(violated)) == (1, False, [], ["A12"])
    assert [each["pos"] for each in violated["A12"]["violations"]] == ["alpha#5"]
    assert re.search(r"A12 +alpha#5 +2026-01-01T00:04:00Z +alpha:bravo: nothing was heard", call("verify", path).out)


def test_a_fault_of_log_or_software_makes_the_code_4(tmp_path: Path) -> None:
    """An answer over a link that never stood cannot be: exit code 4. Other invariants alone do not see it."""
    path = told(tmp_path / "a.ledger", [ev.PingAnswered("bravo", 1, 900, "1")])
    assert call("verify", path).code == 4
    assert call("verify", path, "--only", "A11").code == 4
    assert call("verify", path, "--only", "A10", "--only", "B5").code == 0
    assert call("verify", path, "--no-invariants").code == 0
    done = call("verify", path, "--only", "A99")
    assert (done.code, "there is no invariant named 'A99'" in done.err) == (2, True)
    assert call("verify", path, "--only", "A1", "--no-invariants").code == 2


def test_a_clock_before_1970_answers_nothing(tmp_path: Path) -> None:
    """Where a feed ends at a negative instant and another goes on, no ping answered is none, not one answered in 1970."""
    bravo = Feed.of("import:told", "bravo")
    rows = {
        ALPHA: [Observed(-300 * 10**9, event) for event in BEGUN],
        bravo: [Observed(-(10**9), ev.FeedOpened("import:told", "bravo", 1)), Observed(-(10**9), ev.NodeStarted(1))],
    }
    done = call("verify", recorded(tmp_path / "a.ledger", rows), "--only", "B9", "-o", "json")
    assert [each["verdict"] for each in json.loads(done.out)["invariants"]] == ["vacuous"]


def test_copies_and_forks_are_judged_from_the_files(tmp_path: Path) -> None:
    """Two copies that go on from each other unite (B1, B18 hold); two that differ contradict each other (B18)."""
    short = told(tmp_path / "short.ledger", [])
    long = told(tmp_path / "long.ledger", [ev.NoteAdded("more")])
    other = told(tmp_path / "other.ledger", [ev.NoteAdded("else")])
    found = _files([short, long])
    assert {name: found[name].outcome for name in ("A2", "B1", "B18")} == {"A2": "vacuous", "B1": "holds", "B18": "holds"}
    found = _files([long, other])
    assert (found["B18"].outcome, found["B18"].witnesses[0].pos) == ("violated", "alpha#5")
    assert found["B1"].outcome == "holds"


def _files(paths: list[Path]) -> dict[str, verdicts.Verdict]:
    return {each.rule.name: each for each in verdicts.judged(paths, verify(paths), shipped())}


def test_a_witnessed_head_tells_of_a_feed_written_anew(tmp_path: Path) -> None:
    """A head of alpha's that bravo witnessed, signed by alpha's key, is held against the records that alpha shows: the true ones
    stand, others are two words for one (B18); what alpha's key did not sign says nothing.
    """
    key = generate()
    alpha, bravo = Feed.of("told", "alpha", 1, key.text), Feed.of("told", "bravo", 1, generate().text)
    rows = [ev.FeedOpened("told", "alpha", 1, key.text), ev.NoteAdded("true")]
    anew = [rows[0], ev.NoteAdded("false")]
    root = _root(tmp_path / "first.ledger", alpha, rows)
    for name, shown, signer, outcome in (
        ("true", rows, key, "holds"),
        ("false", anew, key, "violated"),
        ("any", anew, generate(), "vacuous"),
    ):
        seen = ev.HeadWitnessed(alpha.id, 1, root.hex(), _signature(alpha, root, signer))
        path = tmp_path / f"{name}.ledger"
        with Ledger.create(path) as ledger:
            _write(ledger, alpha, shown)
            _write(ledger, bravo, [ev.FeedOpened("told", "bravo", 1, bravo.ledger_key), seen])
        found = _files([path])["B18"]
        assert (name, found.outcome) == (name, outcome)
        assert not found.witnesses or "bravo#2 witnessed" in found.witnesses[0].what


def _write(ledger: Ledger, feed: Feed, events: list[ev.Event]) -> None:
    ledger.add_feed(feed)
    ledger.append([Observed(START, event, 1, 7) for event in events], observer=feed)
    ledger.seal(feed)


def _root(path: Path, feed: Feed, events: list[ev.Event]) -> bytes:
    with Ledger.create(path) as ledger:
        _write(ledger, feed, events)
    root = verify([path]).feeds[feed.name].root
    assert root is not None
    return root


def _signature(feed: Feed, root: bytes, signer: LedgerKey) -> str:
    note = sign_checkpoint(Checkpoint(origin_of(feed), 1, root), signer)
    return note.partition("\n\n")[2]


GUEST = '''
from projections import Never, Rule, Sometimes

def ours():
    """A house rule, and proof that it was tried."""
    loud = lambda seen: "somebody shouts" if seen.event.text.isupper() else None
    says = "Nobody shouts in the log."
    return [
        Never(Rule("HOUSE1", "no shouting", "mesh", says), loud, kinds=["note.added"]),
        Sometimes(Rule("HOUSE2", "notes", "coverage", "Somebody takes notes."), lambda seen: True, kinds=["note.added"]),
    ]

def broken():
    raise RuntimeError("not today")

def twice():
    return Never(Rule("A1", "mine", "log", "Mine."), lambda seen: None, kinds=["note.added"])
'''


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package with invariants, installed as an installer leaves it: its module and its dist-info in a folder on the path."""

    def install(function: str) -> None:
        site = tmp_path / f"site-{function}"
        info = site / "house_rules-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"house_rules_{function}.py").write_text(GUEST)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: house-rules\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[meshledger.invariants]\nhouse = house_rules_{function}:{function}\n")
        (info / "RECORD").write_text("")
        monkeypatch.syspath_prepend(str(site))

    yield install
    for name in [name for name in sys.modules if name.startswith("house_rules")]:
        del sys.modules[name]


def test_guests_bring_invariants(tmp_path: Path, guest) -> None:
    """An installed package's invariants are found by their entry point, judged with ours, and may be asked for by name."""
    guest("ours")
    path = told(tmp_path / "a.ledger", [ev.NoteAdded("all is well"), ev.NoteAdded("HELP")])
    report = verify([path])
    found = {each.rule.name: each for each in verdicts.judged([path], report, verdicts.monitors())}
    assert len(found) == 42
    assert (found["HOUSE1"].outcome, [each.pos for each in found["HOUSE1"].witnesses]) == ("violated", ["alpha#6"])
    assert found["HOUSE2"].outcome == "holds"
    assert [each.rule.name for each in verdicts.monitors(["HOUSE1"])] == ["HOUSE1"]


@pytest.mark.parametrize(
    ("function", "said"), [("broken", "house: RuntimeError: not today"), ("twice", "named A1 is there already")]
)
def test_a_guest_at_fault_is_told_as_such(guest, function: str, said: str) -> None:
    """An entry point that raises, or takes a name that is taken, is refused, and its package named."""
    guest(function)
    with pytest.raises(Refused, match=said):
        verdicts.monitors()


def test_rules_of_operation_are_findings(tmp_path: Path) -> None:
    """A rule that was broken is told with its entries and makes the code 1, as any finding does; `--only` leaves rules out."""
    joined = [ev.MachineJoined("charlie", "one.example"), ev.MachineJoined("delta", "one.example")]
    path = told(tmp_path / "a.ledger", [*joined, ev.NoteAdded("and so it stayed")])
    done = call("verify", path, "-o", "json")
    breach = json.loads(done.out)["findings"][0]
    assert (done.code, breach["rule"], breach["until"]) == (1, "unique-hostnames", None)
    assert "alpha#6" in breach["positions"]
    assert "; 1 finding" in call("verify", path).out
    assert call("verify", path, "--only", "A1").code == 0
