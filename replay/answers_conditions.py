"""What `bisect` answers: when a condition was broken, when it held again, how often, how long in all, and by what.

Shapes, as in `answers`, and the rows that tables, csv and jsonl print of them.
Spans are nanoseconds; the three totals add up to the window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

from replay.answers import Answer, Count, Instant, Pos

WITNESSES_LISTED: Final = 3
"""So many things that were wrong stand in a row."""
Verdict = Literal["held", "broken", "not covered"]


class Against(Struct, frozen=True):
    """One thing that was wrong, or not known. `subject`: a machine, several joined by commas, a link or a pair; `what`: the
    rest of the sentence; `positions`: the entries that made it so.
    """

    subject: str
    what: str
    positions: list[Pos]


class Stretch(Struct, frozen=True):
    """[since, until) of one verdict. `pos`, `kind`: the entry that began it; null: the passing of time, or the window's edge.
    `before`: the last entry that stood before it. `until` null: it had not ended with the window. `more`: more was wrong, or
    not known, than the first 16 things that `witnesses` names.
    """

    verdict: Verdict
    since: Instant
    until: Instant | None
    span_ns: Count
    pos: Pos | None
    kind: str | None
    before: Pos | None
    witnesses: list[Against]
    more: bool


class Bisect(Answer, frozen=True, kw_only=True, tag="meshledger.bisect/1"):
    """`bisect`: a condition over [since, until). `broken`: how often it was. `first`: the first time, null if never; `good`: the
    last instant at which it held before that, null if it was not seen to hold.
    """

    condition: str
    says: str
    since: Instant
    until: Instant
    held_ns: Count
    broken_ns: Count
    uncovered_ns: Count
    broken: Count
    first: Stretch | None
    good: Instant | None
    stretches: list[Stretch]


class Listed(Struct, frozen=True):
    """A condition by name, and the sentence that is true while it holds."""

    name: str
    says: str


class Conditions(Answer, frozen=True, kw_only=True, tag="meshledger.conditions/1"):
    """`bisect --list`: the conditions there are, and the words of expressions."""

    conditions: list[Listed]
    words: list[Listed]


class StretchRow(Struct, frozen=True):
    """A stretch of a condition: its verdict, what began it, and what was wrong or not known then."""

    verdict: str
    since: Instant
    until: Instant | None
    span_ns: int
    pos: Pos | None
    kind: str | None
    witness: str | None


def stretches(answer: Bisect) -> Iterator[StretchRow]:
    """The stretches, one a row."""
    for each in answer.stretches:
        told = [f"{found.subject} {found.what}" for found in each.witnesses]
        rest = len(told) - WITNESSES_LISTED
        more = [f"and {rest}{' or more' if each.more else ''} others"] if rest > 0 else []
        witness = "; ".join([*told[:WITNESSES_LISTED], *more]) or None
        yield StretchRow(each.verdict, each.since, each.until, each.span_ns, each.pos, each.kind, witness)


Standing = Literal["up", "silent", "unknown", "planned", "absent"]


class Absence(Struct, frozen=True):
    """[since, until) of what a machine was. `cause`: why it was not up; `pos`: the entry at which it became so, null if time
    passed; `by`: of an absence, who removed it. `ended_by`: what ended it, an `operator` (acts about the machine, at
    `ended_pos`) or `itself`; null while it lasts, and of `up`.
    """

    state: Standing
    since: Instant
    until: Instant | None
    span_ns: Count
    cause: str | None
    pos: Pos | None
    by: str | None
    ended_by: Literal["itself", "operator"] | None
    ended_pos: list[Pos]


class Absences(Answer, frozen=True, kw_only=True, tag="meshledger.absences/1"):
    """`stats -m`: how often a machine left, fell silent and was disconnected on purpose within [since, until), and each time in
    full. `times_ns` add up to the window. `flapping`: it fell silent more than `flaps_max` times within `flap_window_ms`.
    """

    machine: str
    since: Instant
    until: Instant
    left: Count
    silent: Count
    planned: Count
    times_ns: dict[Standing, Count]
    flaps_max: Count
    flap_window_ms: Count
    flapping: bool
    stretches: list[Absence]
