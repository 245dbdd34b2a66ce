"""`meshledger demo`: the generated incident (`demo`) recorded, asked about, and checked.

Each step puts a question as a guest would and holds the answer against what the story says. What is expected comes from the
story alone, never from the answer; so a step fails if the record, a fold or a question goes wrong, and a test breaks the
incident to see that it does. One line a step, ending in `ok` or `NOT OK`.

Effects: writes the ledgers into a new folder, and takes it away again unless it is to be kept.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ledger.errors import LedgerError, Refused
from ledger.opening import translate
from replay import states
from replay.blame import blame
from replay.check import verify
from replay.demo import MINUTES, NAMES, START_NS, Incident, imagine, record
from replay.diff import diff
from replay.history import History
from replay.merge import merge
from replay.receipts import Demo, Step
from replay.spans import SECOND_NS
from replay.stats import stats

FIRST_LINE: Final = (
    "This incident is generated: five machines that never were, fifteen minutes, four faults. No real machine takes part."
)
_HIDDEN_FROM: Final = ("alpha", "delta", "echo")
"""Who loses charlie when its name is gone."""

Question = tuple[str, str, Callable[[], str]]
"""What is asked, in the words of the command line; what the story says to it; and what gives the answer."""


def run(seed: int, keep: Path | None, told: Callable[[str], None] | None = None) -> Demo:
    """Record the incident of this seed, check every answer about it, and tell each line as it comes.

    `keep`: the new folder for its ledgers; without it they are taken away again. Raises Refused if that is there.
    """
    tell = told or (lambda _line: None)
    folder = _folder(keep)
    try:
        tell(FIRST_LINE)
        incident = imagine(seed)
        steps = []
        for step in checks(incident, record(incident, folder), folder):
            steps.append(step)
            tell(line(step))
        wrong = sum(not step.ok for step in steps)
        tell(f"{len(steps)} answers, {f'{wrong} of them wrong' if wrong else 'all of them ok'}")
        merged = folder / "incident.ledger"
        if keep is None:
            tell("next: meshledger demo --keep incident")
        else:
            tell(f"next: meshledger connstatus --at '2026-01-05 03:10:30' -L {merged}")
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return Demo(ok=not wrong, generated=True, ledger=None if keep is None else str(merged), steps=steps)


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="meshledger-demo-"))
    try:
        keep.mkdir(mode=0o700)
    except FileExistsError:
        raise Refused(f"{keep}: is there already", hint="name a new folder") from None
    except FileNotFoundError:
        raise Refused(f"{keep.parent}: there is no such folder", hint="make it first, or name another") from None
    except OSError as error:
        raise translate(error, str(keep)) from None
    return keep


def line(step: Step) -> str:
    """A step as one line."""
    verdict = "ok" if step.ok else f"expected {step.expected}   NOT OK"
    return f"{step.question} -> {step.answer}   {verdict}"


def checks(incident: Incident, paths: Sequence[Path], folder: Path) -> Iterator[Step]:
    """Every question, in the order of the story. Makes `incident.ledger` in `folder` on the way."""
    merged = folder / "incident.ledger"
    with History.open(*paths) as history:
        questions: list[Question] = [
            *_asked_of(history, incident),
            ("verify alpha.ledger … echo.ledger", "nothing wrong in 5 feeds", lambda: _verified(paths)),
            ("verify, one byte altered in a copy", "found", lambda: _altered(paths[2], folder)),
            ("merge, forwards and backwards", "the same bytes", lambda: _merged(paths, merged, folder)),
            ("at each minute, merged and not", f"the same state at {MINUTES} of {MINUTES}", lambda: _same(history, merged)),
        ]
        for question, expected, ask in questions:
            try:
                found = ask()
            except LedgerError as error:
                found = f"{type(error).__name__}: {error.message}"
            yield Step(question, expected, found, found == expected)


# What is asked, and what the story says.


def _asked_of(history: History, incident: Incident) -> Iterator[Question]:
    places = incident.places
    yield "at 03:02:30", "5 members, 20 links up", lambda: _mesh(history, 2.5)
    yield "stats --of bravo=delta: flaps", "1, and its times add up to the window", lambda: _flaps(history)
    yield "at 03:08:30: charlie", "down from alpha, delta, echo; up from bravo", lambda: _charlie(history)
    yield "routes --at 03:08:30: alpha to charlie", "alpha>bravo>charlie", lambda: _route(history, 8.5, "alpha", "charlie")
    yield (
        "blame alpha:charlie --at 03:08:30: reason",
        f"name-unresolvable by {places['lost alpha']}",
        (lambda: _blamed(history, "alpha:charlie", "reason", 8.5)),
    )
    yield (
        "blame charlie --at 03:08:30: hostname",
        f"c3.lab.example by {places['rename']}",
        (lambda: _blamed(history, "charlie", "hostname", 8.5)),
    )
    links = sorted(f"{a}:{b}" for name in _HIDDEN_FROM for a, b in ((name, "charlie"), ("charlie", name)))
    yield "diff 03:05:30 03:08:30: links that went down", ", ".join(links), lambda: _went_down(history, 5.5, 8.5)
    yield "connstatus --at 03:10:30: delta=echo", f"asymmetric by {places['deaf']}", lambda: _asymmetric(history)
    yield "at 03:12:30", "5 members, 20 links up", lambda: _mesh(history, 12.5)
    yield "at 03:14:30", "4 members, 12 links up", lambda: _mesh(history, 14.5)
    yield "members --at 03:14:30: echo", f"left by {places['leave']}", lambda: _left(history)


def _minute(number: float) -> int:
    return START_NS + int(number * 60) * SECOND_NS


def _mesh(history: History, number: float) -> str:
    cluster = history.at(_minute(number))
    up = sum(link.state == "up" for link in cluster.links.values())
    return f"{len(cluster.members)} members, {up} links up"


def _flaps(history: History) -> str:
    since_ns, until_ns = _minute(1), _minute(13)
    times = stats(history, since_ns, until_ns).pairs["bravo=delta"]
    total = times.up_ns + times.down_ns + times.asymmetric_ns + times.unknown_ns
    total += times.uncovered_ns + times.planned_ns + times.absent_ns
    return f"{times.flaps}, and its times {'add' if total == until_ns - since_ns else 'do not add'} up to the window"


def _charlie(history: History) -> str:
    links = history.at(_minute(8.5)).links
    seen = {
        state: [name for name in NAMES if name != "charlie" and links[name, "charlie"].state == state] for state in ("down", "up")
    }
    return f"down from {', '.join(seen['down'])}; up from {', '.join(seen['up'])}"


def _route(history: History, number: float, a: str, b: str) -> str:
    route = states.routes(history.at(_minute(number))).routes[f"{a}:{b}"]
    return ">".join(route) if isinstance(route, list) else str(route)


def _blamed(history: History, cell: str, field: str, number: float) -> str:
    found = next(each for each in blame(history, cell, _minute(number)).fields if each.field == field)
    return f"{found.value} by {found.pos}"


def _went_down(history: History, before: float, after: float) -> str:
    changes = diff(history.at(_minute(before)), history.at(_minute(after)))
    return ", ".join(sorted(c.cell for c in changes if ":" in c.cell and (c.field, c.old, c.new) == ("state", "up", "down")))


def _asymmetric(history: History) -> str:
    answer = states.connstatus(history.at(_minute(10.5)))
    return f"{answer.pairs['delta=echo']} by {answer.links['delta:echo'].since_pos}"


def _left(history: History) -> str:
    echo = states.members(history.at(_minute(14.5))).machines["echo"]
    return f"{'member' if echo.member else echo.cause} by {echo.since_pos}"


# What is proved.


def _verified(paths: Sequence[Path]) -> str:
    report = verify(paths)
    return f"{'nothing wrong' if report.ok else report.problems[0].what} in {len(report.feeds)} feeds"


def _altered(path: Path, folder: Path) -> str:
    """One letter of what charlie said of itself, changed behind its back."""
    copy = folder / "altered.ledger"
    copy.write_bytes(path.read_bytes().replace(b'"new":"c3.lab.example"', b'"new":"c4.lab.example"', 1))
    try:
        return "not found" if verify([copy]).ok else "found"
    finally:
        copy.unlink()


def _merged(paths: Sequence[Path], merged: Path, folder: Path) -> str:
    other = folder / "backwards.ledger"
    merge(paths, merged)
    merge(paths[::-1], other)
    same = merged.read_bytes() == other.read_bytes()
    other.unlink()
    return f"{'the same' if same else 'other'} bytes"


def _same(history: History, merged: Path) -> str:
    with History.open(merged) as whole:
        same = sum(whole.at(_minute(number)) == history.at(_minute(number)) for number in range(1, MINUTES + 1))
    return f"the same state at {same} of {MINUTES}"
