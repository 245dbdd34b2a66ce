"""Verification as people ask for it: the bytes first, then every invariant over the whole history, and one exit code for all.

Invariants of files (A2, B1, B18, and A1 in part) are what `check` has found already; all others watch the entries (`judging`).
Guests' invariants come by the entry point `meshledger.invariants`: each names a function without arguments that gives
monitors, and is taken by the name of the distribution that brings it.

Of classes *log* and *software* a violation means that the ledger or this program is wrong; of *mesh* and *coverage* it is a
finding about what was recorded. Reads ledgers, writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from ledger.errors import LedgerError, Refused
from projections.invariants import Structural, shipped
from projections.monitor import Monitor, Verdict
from replay import receipts
from replay.check import Report
from replay.findings import findings
from replay.history import History
from replay.judging import Progress, judge
from replay.spans import format_instant
from replay.text import shorten

GROUP: Final = "meshledger.invariants"
"""The group of entry points by which guests add invariants."""
GRAVE: Final = frozenset({"log", "software"})


def monitors(only: Collection[str] = ()) -> list[Monitor]:
    """New monitors of all invariants, shipped and guests', or of those named in `only`.

    Raises Refused for a name that there is not, and for a guest's entry point that does not give monitors.
    """
    found = shipped()
    known = {monitor.rule.name for monitor in found}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        for monitor in _guests(point.name, point.load):
            if monitor.rule.name in known:
                raise Refused(f"{point.name}: an invariant named {monitor.rule.name} is there already")
            known.add(monitor.rule.name)
            found.append(monitor)
    wrong = [name for name in only if name not in known]
    if wrong:
        raise Refused(
            f"there is no invariant named '{shorten(wrong[0])}'", hint=f"one of {', '.join(m.rule.name for m in found)}"
        )
    return [monitor for monitor in found if not only or monitor.rule.name in only]


def _guests(name: str, load: object) -> Sequence[Monitor]:
    """What an entry point brings. A guest's fault is told as such, whatever it raises."""
    try:
        made = load()()  # type: ignore[operator]
        given = [made] if isinstance(made, Monitor) else list(made)
    except Exception as error:
        raise Refused(f"invariants of {name}: {type(error).__name__}: {error}", hint="its package is at fault") from error
    if not all(isinstance(each, Monitor) for each in given):
        raise Refused(f"invariants of {name}: not all of them are monitors", hint="see projections.Monitor")
    return given


def judged(
    paths: Iterable[str | Path], report: Report, chosen: Iterable[Monitor], *, progress: Progress | None = None
) -> list[Verdict]:
    """What all `chosen` monitors say of ledgers that `check.verify` has gone through. What cannot be opened is judged by its
    bytes alone.
    """
    found = list(chosen)
    try:
        with History.open(*paths, snapshots=False) as history:
            verdicts = judge(history, found, progress=progress)
    except LedgerError:
        verdicts = [monitor.verdict() for monitor in found]
    return [_with_files(monitor, verdict, report) for monitor, verdict in zip(found, verdicts, strict=True)]


def _with_files(monitor: Monitor, verdict: Verdict, report: Report) -> Verdict:
    """A verdict with what is known from the files."""
    name = verdict.rule.name
    broken = [problem for problem in report.problems if problem.invariant == name]
    if not isinstance(monitor, Structural) and not (broken and name == "A1"):
        return verdict
    teller = Structural(verdict.rule)
    teller.tally.judged, teller.tally.violations = verdict.judged, verdict.violations
    teller.tally.witnesses, teller.tally.plain = list(verdict.witnesses), bool(verdict.violations)
    teller.told(report.tested.get(name, 0), [(problem.pos or "", problem.what) for problem in broken])
    return teller.verdict()


def invariants(verdicts: Iterable[Verdict]) -> list[receipts.Invariant]:
    """Verdicts as they are answered."""
    return [
        receipts.Invariant(
            name=verdict.rule.name, title=verdict.rule.title, severity=verdict.severity, verdict=verdict.outcome,
            says=verdict.rule.says, judged=verdict.judged, violated=verdict.violations, uncovered=verdict.uncovered,
            pending=verdict.pending,
            violations=[
                receipts.Violation(each.pos, format_instant(each.at_ns) if each.at_ns else None, each.what, list(each.also))
                for each in verdict.witnesses
            ],
        )
        for verdict in verdicts
    ]  # fmt: skip


def breaches(paths: Iterable[str | Path]) -> list[receipts.RuleBreach]:
    """The rules of operation that were broken (`findings`); none where the ledgers cannot be read as one."""
    try:
        with History.open(*paths) as history:
            found = findings(history)
    except LedgerError:
        return []
    return [
        receipts.RuleBreach(
            each.rule,
            each.says,
            list(each.subjects),
            format_instant(each.since_ns),
            None if each.until_ns is None else format_instant(each.until_ns),
            list(each.positions),
        )
        for each in found
    ]


def broken(answer: receipts.Verify) -> bool:
    """Whether the ledger or this program is wrong: exit code 4."""
    return bool(answer.problems) or any(each.verdict == "violated" and each.severity in GRAVE for each in answer.invariants)
