"""What `verify` says as rows: one list for machines, four tables for people.

csv and jsonl get one shape whose `part` says what a row is; people get the feeds, then all that is wrong, then the rules of
operation that were broken, then every invariant with its sentence. A problem that an invariant repeats is told once.

Pure: answers in, rows out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import astuple

from replay.receipts import Verify


class VerifyRow(Struct, frozen=True):
    """`part` feed, with what was found of it; problem, with its place and what it is; invariant, with its verdict; violation,
    with its place, instant and what it is; or finding, a rule of operation (`invariant`) that was broken from `at` to `until`.
    """

    part: str
    feed: str | None = None
    epoch: int | None = None
    entries: int | None = None
    records: int | None = None
    root: str | None = None
    signature: str | None = None
    pos: str | None = None
    what: str | None = None
    invariant: str | None = None
    severity: str | None = None
    verdict: str | None = None
    judged: int | None = None
    violated: int | None = None
    uncovered: int | None = None
    pending: int | None = None
    at: str | None = None
    also: list[str] | None = None
    until: str | None = None


class FindingRow(Struct, frozen=True):
    """A rule of operation that was broken, as `verify` shows it to people."""

    rule: str
    since: str
    until: str | None
    says: str
    positions: list[str]


class FeedRow(Struct, frozen=True):
    """A feed, as `verify` shows it to people."""

    feed: str
    epoch: int
    entries: int
    records: int
    root: str | None
    signature: str | None


class InvariantRow(Struct, frozen=True):
    """An invariant, as `verify` shows it to people: `tests` that it was put to, how many it failed."""

    invariant: str
    severity: str
    verdict: str
    tests: int
    failed: int
    says: str


class ViolationRow(Struct, frozen=True):
    """A violation or a problem, as `verify` shows it to people."""

    invariant: str | None
    pos: str | None
    at: str | None
    what: str
    also: list[str]


def verified(answer: Verify) -> Iterator[VerifyRow]:
    """All that `verify` says, one row a thing."""
    for name, feed in answer.feeds.items():
        yield VerifyRow("feed", name, *astuple(feed))
    for problem in answer.problems:
        yield VerifyRow("problem", pos=problem.pos, what=problem.what, invariant=problem.invariant)
    for found in answer.invariants:
        yield VerifyRow(
            "invariant", what=found.says, invariant=found.name, severity=found.severity, verdict=found.verdict,
            judged=found.judged, violated=found.violated, uncovered=found.uncovered, pending=found.pending,
        )  # fmt: skip
    for found in answer.invariants:
        for each in found.violations:
            yield VerifyRow("violation", pos=each.pos, what=each.what, invariant=found.name, at=each.at, also=each.also)
    for breach in answer.findings:
        yield VerifyRow(
            "finding", pos=next(iter(breach.positions), None), what=breach.says, invariant=breach.rule, at=breach.since,
            also=breach.positions[1:], until=breach.until,
        )  # fmt: skip


def _invariants(answer: Verify) -> Iterator[InvariantRow]:
    for found in answer.invariants:
        yield InvariantRow(found.name, found.severity, found.verdict, found.judged, found.violated, found.says)


def _violations(answer: Verify) -> Iterator[ViolationRow]:
    """Problems, then what invariants found that is no problem already."""
    for problem in answer.problems:
        yield ViolationRow(problem.invariant, problem.pos, None, problem.what, [])
    told = {(problem.invariant, problem.what) for problem in answer.problems}
    for found in answer.invariants:
        for each in found.violations:
            if (found.name, each.what) not in told:
                yield ViolationRow(found.name, each.pos, each.at, each.what, each.also)


def verify_sections(answer: Verify) -> list[tuple[str | None, type[Struct], Iterable[Struct]]]:
    """(title, shape, rows) of each table that people are shown; those that are empty are left out, but for the feeds."""
    feeds = [FeedRow(name, *astuple(feed)) for name, feed in answer.feeds.items()]
    parts: list[tuple[str | None, type[Struct], list[Struct]]] = [
        (None, FeedRow, [*feeds]),
        ("problems and violations", ViolationRow, [*_violations(answer)]),
        (
            "rules of operation",
            FindingRow,
            [FindingRow(each.rule, each.since, each.until, each.says, each.positions) for each in answer.findings],
        ),
        ("invariants", InvariantRow, [*_invariants(answer)]),
    ]
    return [part for part in parts if part[2] or part[0] is None]
