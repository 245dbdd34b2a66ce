"""The generated incident (`generated`), asked about through the library: each answer is held against what the story says.

What is expected comes from the story alone, never from the answer; so a step fails if the record, a fold or a question goes
wrong, and a test breaks the incident to see that it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from generated import MINUTES, NAMES, START_NS, Incident

from ledger.errors import LedgerError
from replay import states
from replay.blame import blame
from replay.check import verify
from replay.diff import diff
from replay.history import History
from replay.merge import merge
from replay.spans import SECOND_NS
from replay.stats import stats

_HIDDEN_FROM: Final = ("alpha", "delta", "echo")
"""Who loses charlie when its name is gone."""

Question = tuple[str, str, Callable[[], str]]
"""What is asked, in the words of the command line; what the story says to it; and what gives the answer."""


class Step(NamedTuple):
    """A question, what was expected, and what came."""

    question: str
    expected: str
    answer: str

    @property
    def ok(self) -> bool:
        return self.expected == self.answer


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
            yield Step(question, expected, found)


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
