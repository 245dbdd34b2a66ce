"""The rows of `verify`: feeds, problems, invariants and findings, each as a part of one list, and as tables of their own.

Made from the answer and from nothing else, as in `listings`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import astuple

from replay.receipts import Verify


class VerifyRow(Struct, frozen=True):
    """`part` feed, with what was found of it; problem, with its place and what it is; invariant, with its verdict;
    violation, with its place, instant and what it is; or finding, with its rule (`invariant`) and the same.
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


class FindingRow(Struct, frozen=True):
    """A breach of a rule, as `verify` shows it to people."""

    rule: str
    at: str
    until: str | None
    what: str
    by: list[str]


def verified(answer: Verify) -> Iterator[VerifyRow]:
    """All of it as one list."""
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
    for finding in answer.findings:
        pos, also = (finding.positions[0] if finding.positions else None), finding.positions[1:]
        yield VerifyRow("finding", pos=pos, what=finding.says, invariant=finding.rule, at=finding.since, also=also or None)


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


def checked(answer: Verify) -> list[tuple[str | None, type[Struct], Iterable[Struct]]]:
    """(title, shape, rows) of each table: what is empty is left out, but for the feeds."""
    feeds = [FeedRow(name, *astuple(feed)) for name, feed in answer.feeds.items()]
    findings = [FindingRow(each.rule, each.since, each.until, each.says, each.positions) for each in answer.findings]
    parts: list[tuple[str | None, type[Struct], list[Struct]]] = [
        (None, FeedRow, [*feeds]),
        ("problems and violations", ViolationRow, [*_violations(answer)]),
        ("findings", FindingRow, [*findings]),
        ("invariants", InvariantRow, [*_invariants(answer)]),
    ]
    return [(title, shape, rows) for title, shape, rows in parts if rows or title is None]
