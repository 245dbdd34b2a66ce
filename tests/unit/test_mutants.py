"""Each starred invariant notices a seeded fault: it holds of the code as it is, and not of the code with its edit (`mutants`)."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from model import Model
from mutants import MUTANTS, Mutant, edited
from recorded import recorded

from ledger import codec
from ledger import events as ev
from ledger.entry import Observed
from ledger.errors import Conflict, Damaged
from ledger.events import KINDS, Event, NoteAdded
from ledger.identity import Feed
from ledger.rehearsal import Rehearsal, Step
from ledger.store import Ledger
from ledger.testing import History, entries, world
from projections.feed_state import FeedState
from projections.invariants import shipped
from projections.pace import Pace
from projections.projection import fold
from projections.watch import Watch
from replay import snapshots, verdicts
from replay.check import verify
from replay.history import History as Opened

START = 1_767_225_600 * 10**9
STARRED = {
    *("A1", "A2", "A5", "A6", "A9", "A10", "A12", "A13", "B1", "B2", "B5", "B9", "B12"),
    *("C1", "C2", "C3", "C4", "C6", "C8", "C10", "C11"),
}
ALPHA = Feed.of("import:told", "alpha")
OPENED = Observed(START, ev.FeedOpened("import:told", "alpha", 1))


def steps(*words: str) -> list[Step]:
    """Steps a second apart: `word`, `word:actor`, `word:actor:peer`, `word:actor:peer:amount`."""
    found = []
    for word in words:
        name, *numbers = word.split(":")
        found.append(Step(10**9, name, *[*map(int, numbers), 0, 0, 0][:3]))
    return found


def rehearsed(*words: str, names: tuple[str, ...] = ("alpha", "bravo", "charlie"), keyed: bool = True) -> History:
    """What machines wrote that were all admitted, after these words."""
    stage = Rehearsal(names, START, keyed=keyed)
    stage.play([Step(10**9, "admit", 0, other, 0) for other in range(len(names) - 1)] if keyed else [])
    return stage.play(steps(*words))


def outcome(name: str, history: History) -> str:
    """The verdict of an invariant over a history."""
    log = sorted(entries(history), key=lambda entry: (entry.effective_ns, entry.feed, entry.index))
    watch = Watch([monitor for monitor in shipped() if monitor.rule.name == name], Pace.of(log))
    for entry in log:
        watch.step(entry)
    return watch.end()[0].outcome


def over_file(name: str, *paths: Path) -> str:
    """The verdict of an invariant over ledgers, bytes and all."""
    found = verdicts.judged(paths, verify(paths), [monitor for monitor in shipped() if monitor.rule.name == name])
    return found[0].outcome


def noted(*texts: str, at: int = START) -> list[Observed]:
    return [OPENED, *[Observed(at + place * 10**9, NoteAdded(text)) for place, text in enumerate(texts, 1)]]


# The invariants of logs: a history, or files, and the verdict.


def a1(folder: Path) -> str:
    path = recorded(folder / "a.ledger", {ALPHA: noted("one", "two", "three")}, [2, 4])
    with Ledger.open(path) as ledger:
        watch = Watch([monitor for monitor in shipped() if monitor.rule.name == "A1"])
        for record in ledger.reader(ALPHA).records():
            for entry in ledger.reader(ALPHA).entries_of(record):
                watch.step(entry)
    return watch.end()[0].outcome


def a2(folder: Path) -> str:
    return over_file("A2", recorded(folder / "a.ledger", {ALPHA: noted("one", "two")}, [3]))


def a5(_folder: Path) -> str:
    return outcome("A5", rehearsed("mesh", "round", "lose", "round"))


def a6(_folder: Path) -> str:
    return outcome("A6", rehearsed("mesh", "round", "crash", "mesh", "round"))


def a9(_folder: Path) -> str:
    return outcome("A9", rehearsed("mesh", *["round"] * 6, "note"))


def a10(_folder: Path) -> str:
    return outcome("A10", rehearsed("mesh", *["round"] * 4))


def a12(_folder: Path) -> str:
    return outcome("A12", rehearsed("mesh", "round", "stop:1", *["round"] * 6))


def a13(_folder: Path) -> str:
    return outcome("A13", rehearsed("mesh", "round", "lose", *["round"] * 6))


def b1(folder: Path) -> str:
    short = recorded(folder / "short.ledger", {ALPHA: noted("one")})
    long = recorded(folder / "long.ledger", {ALPHA: noted("one", "two")})
    return over_file("B1", short, long)


def b2(_folder: Path) -> str:
    return outcome("B2", rehearsed("mesh", "settings:0:0:1", "settings:1:0:2", "settings:2:0:3"))


def b5(_folder: Path) -> str:
    return outcome("B5", rehearsed("mesh", "round", "lose"))


def b9(_folder: Path) -> str:
    return outcome("B9", world(2, machines=4, minutes=25, words=["target-down"]).feeds)


def b12(_folder: Path) -> str:
    return outcome("B12", rehearsed("mesh", "round", "admit:0:0:3", "mesh", "round"))


# The invariants of store and folds: each raises where it does not hold.


def c1(_folder: Path) -> None:
    """The fold of equal entries is equal, whatever was folded before."""
    history = rehearsed("mesh", "round", "note", "note:1", "note", "round")
    first, second = (
        [
            msgspec.msgpack.encode(fold(FeedState(feed), [e for e in entries(history) if e.feed == feed]))
            for feed in sorted(history)
        ]
        for _ in range(2)
    )
    assert first == second


def _long() -> History:
    return rehearsed(*["note", "mesh", "round", "lose", "fail:1", "mesh"] * 12, "round", "lose", "round")


def c2(folder: Path) -> None:
    """With snapshots and without, every state is the same, also where records came after the last snapshot."""
    history = _long()
    half = {feed: log[: len(log) // 2] for feed, log in history.items()}
    path = recorded(folder / "a.ledger", half, range(5, 400, 9))
    assert snapshots.write(path)
    with Ledger.open(path, write=True) as ledger:
        for feed, log in history.items():
            for start in range(len(half[feed]), len(log), 9):
                ledger.append(log[start : start + 9], observer=feed)
                ledger.seal(feed)
    with Opened.open(path) as opened, Opened.open(path, snapshots=False) as plain:
        for feed in opened.feeds:
            for entry in opened.entries(feed):
                at_ns = entry.effective_ns
                assert opened.state(feed, at_ns) == plain.state(feed, at_ns)


def c3(folder: Path) -> None:
    """What was answered of a moment is answered of it still when the log has grown."""
    log = noted("one", "two", "three")
    path = recorded(folder / "a.ledger", {ALPHA: log[:2]})
    at_ns = log[1].at_ns + 1
    with Opened.open(path) as opened:
        then = opened.state(ALPHA, at_ns)
    with Ledger.open(path, write=True) as ledger:
        ledger.append(log[2:], observer=ALPHA)
    with Opened.open(path) as opened:
        assert opened.state(ALPHA, at_ns) == then


def c4(_folder: Path) -> None:
    """Losses are as the naive model counts them."""
    history = rehearsed("mesh", "round", "fail", "fail:1", "lose", "round", "mesh", "round")
    model = Model({feed: [(o.at_ns, o.boot, o.mono_ns, o.event) for o in log] for feed, log in history.items()})
    log = entries(history)
    told = model.at(max(entry.effective_ns for entry in log))["links"]
    for feed in history:
        state = fold(FeedState(feed), [entry for entry in log if entry.feed == feed])
        for peer, ping in state.pings.items():
            assert (ping.sent, ping.lost) == (told[f"{feed.machine}:{peer}"]["sent"], told[f"{feed.machine}:{peer}"]["lost"])


class Note2(Event, frozen=True):
    """A note as a later version might have it."""

    kind = "note.added"
    version = 2
    text: str
    length: int = 0


def c6(_folder: Path) -> None:
    """An old shape is read as its upcaster says, and a newer one not at all."""
    patch = pytest.MonkeyPatch()
    with patch.context() as newer:
        newer.setitem(KINDS, "note.added", Note2)
        newer.setitem(codec._DECODERS, "note.added", msgspec.json.Decoder(Note2))
        upcasters = {("note.added", 1): lambda fields: {"text": fields["text"], "length": len(fields["text"])}}
        assert codec.decode_event("note.added", 1, b'{"text":"one"}', upcasters) == Note2("one", 3)
        assert codec.decode_event("note.added", 2, b'{"text":"one"}', upcasters) == Note2("one")


def c8(folder: Path) -> None:
    """What was acknowledged is in the files as a killed writer would leave them."""
    with Ledger.create(folder / "a.ledger") as ledger:
        ledger.add_feed(ALPHA)
        ledger.append(noted("one"), observer=ALPHA)
        for path in folder.glob("a.ledger*"):
            shutil.copy(path, folder / path.name.replace("a.", "b."))
    with Ledger.open(folder / "b.ledger", write=True) as left:
        assert left.head(ALPHA).last == 2


def c10(folder: Path) -> None:
    """The same append again stands once, at its first position; other content there is a conflict."""
    with Ledger.create(folder / "a.ledger") as ledger:
        ledger.add_feed(ALPHA)
        for _ in range(2):
            ledger.append(noted("one"), observer=ALPHA, expect=0)
        assert ledger.head(ALPHA).last == 2
        with pytest.raises(Conflict):
            ledger.append(noted("two"), observer=ALPHA, expect=0)


def c11(folder: Path) -> None:
    """A changed byte in a record's row is an error that names the place."""
    path = recorded(folder / "a.ledger", {ALPHA: noted("one", "two")}, [3])
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
    for name, _sql in triggers:
        connection.execute(f"drop trigger {name}")
    connection.execute("update record set lost = lost + 1")
    for _name, sql in triggers:
        connection.execute(sql)
    connection.close()
    with Ledger.open(path) as ledger, pytest.raises(Damaged, match="alpha#1"):
        list(ledger.reader(ALPHA).records())


JUDGES: dict[str, Callable[[Path], str | None]] = {
    name.upper(): judge for name, judge in dict(globals()).items() if re.fullmatch(r"[abc]\d+", name)
}


def held(mutant: Mutant, folder: Path) -> bool:
    """Whether the invariant holds; one of store and folds does not where it raises anything."""
    judge = JUDGES[mutant.invariant]
    if not mutant.invariant.startswith("C"):
        found = judge(folder)
        assert found in {"holds", "violated"}, found
        return found == "holds"
    try:
        judge(folder)
    except (Exception, pytest.fail.Exception):
        return False
    return True


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.invariant)
def test_the_invariant_kills_its_mutant(mutant: Mutant, tmp_path: Path) -> None:
    """It holds of the shipped code, fails of the edited one, and holds again when the edit is taken back."""
    for name, said in (("before", True), ("edited", False), ("after", True)):
        folder = tmp_path / name
        folder.mkdir()
        if name == "edited":
            with edited(mutant):
                assert held(mutant, folder) is said, mutant.what
        else:
            assert held(mutant, folder) is said, name


def test_every_starred_invariant_kills_one() -> None:
    """None is without a mutant, and the table that people read lists them all."""
    assert {mutant.invariant for mutant in MUTANTS} == STARRED
    table = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert [
        f"| {mutant.invariant} | {mutant.what} |" for mutant in MUTANTS if f"| {mutant.invariant} | {mutant.what} |" not in table
    ] == []


def test_an_edit_that_no_longer_applies_fails() -> None:
    """A mutant whose text is gone is told, and nothing is swapped."""
    with pytest.raises(LookupError, match="stands there 0 times"), edited(MUTANTS[0]._replace(old="nowhere")):
        pass
