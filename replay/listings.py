"""Answers as lists: the rows of fixed columns that csv, jsonl and tables print of an answer.

A row is made from the answer and from nothing else, so that `-o` changes the format and nothing else. Where an answer
is one list by nature (`log`, `diff`) its rows are that list; where it holds several, each row names its `cell` or its
`part`, and what does not apply is null; where it is a single object (`version`), so is its one row.

Pure: answers in, rows out. How a row is written is for `output`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import astuple, replace

from replay.answers import At, Blame, Blamed, Change, Connstatus, Diff, Instant, Members, Pos, Route, Routes, Stats
from replay.answers_conditions import Absence, Absences, Bisect, Conditions, Listed, StretchRow, stretches
from replay.answers_node import Doctor, Done, Invite, Looked, Node, PeerRow, Status, peers
from replay.answers_views import Disagreements
from replay.answers_why import ChainLink, Why
from replay.listings_verify import VerifyRow, checked, verified
from replay.receipts import (
    Backup,
    Checkpoint,
    Demo,
    Error,
    Export,
    Head,
    Import,
    Keygen,
    Log,
    LogRow,
    Merge,
    Note,
    Prove,
    Show,
    Step,
    Tail,
    Verify,
    Version,
)

SHOWN: Final = 5
"""Of more observers than this a table names the first and counts the rest."""


class MachineRow(Struct, frozen=True):
    """A machine at the moment."""

    machine: str
    member: bool
    communicating: bool | None
    cause: str | None
    hostname: str | None
    since: Instant | None
    since_pos: Pos | None


class LinkRow(Struct, frozen=True):
    """A link at the moment, and in `pair` the state of the pair it belongs to."""

    source: str = field(name="from")
    target: str = field(name="to")
    state: str
    pair: str | None
    reason: str | None
    since: Instant | None
    since_pos: Pos | None
    last_ping_at: Instant | None
    last_ping_outcome: str | None
    last_ping_rtt_us: int | None
    sent: int
    lost: int


class RouteRow(Struct, frozen=True):
    """A route: its machines joined by `>`, null for none, or `unknown`; `hops` null without a path."""

    source: str = field(name="from")
    target: str = field(name="to")
    hops: int | None
    route: str | None


class AtRow(Struct, frozen=True):
    """One field of one machine, link or pair, with since when and by which entry the machine or link is as it is."""

    cell: str
    field: str
    value: str | int | bool | None
    since: Instant | None = None
    since_pos: Pos | None = None


class StatsRow(Struct, frozen=True):
    """A pair with its times, or a link with its ping results; the others null."""

    cell: str
    up_ns: int | None = None
    down_ns: int | None = None
    asymmetric_ns: int | None = None
    unknown_ns: int | None = None
    uncovered_ns: int | None = None
    planned_ns: int | None = None
    absent_ns: int | None = None
    flaps: int | None = None
    sent: int | None = None
    lost: int | None = None
    rtt_p50_us: int | None = None
    rtt_p99_us: int | None = None
    rtt_max_us: int | None = None


class DisagreementRow(Struct, frozen=True):
    """One side of a disagreement: what it says, who says so, and each one's entry, in the same order."""

    kind: str
    about: str
    since: Instant
    until: Instant
    says: str
    observers: str
    by: str
    lone: str | None


class TakenRow(Struct, frozen=True):
    """`part` feed, with its counts; conflict, with its position; or refused, with its line and why."""

    part: str
    feed: str | None = None
    new: int | None = None
    there: int | None = None
    conflicting: int | None = None
    pos: str | None = None
    file: str | None = None
    line: int | None = None
    what: str | None = None


class WrittenRow(Struct, frozen=True):
    """How many entries of a feed were written to the file."""

    file: str | None
    feed: str
    entries: int


def _machines(answer: Members | At) -> Iterator[MachineRow]:
    return (MachineRow(name, *astuple(machine)) for name, machine in answer.machines.items())


def _links(answer: Connstatus | At) -> Iterator[LinkRow]:
    for name, link in answer.links.items():
        source, _, target = name.partition(":")
        pair = answer.pairs.get(f"{min(source, target)}={max(source, target)}")
        ping = link.last_ping
        yield LinkRow(
            source=source,
            target=target,
            state=link.state,
            pair=pair,
            reason=link.reason,
            since=link.since,
            since_pos=link.since_pos,
            last_ping_at=ping.at if ping else None,
            last_ping_outcome=ping.outcome if ping else None,
            last_ping_rtt_us=ping.rtt_us if ping else None,
            sent=link.sent,
            lost=link.lost,
        )


def _routes(answer: Routes | At) -> Iterator[RouteRow]:
    for name, route in answer.routes.items():
        source, _, target = name.partition(":")
        yield RouteRow(source, target, len(route) - 1 if isinstance(route, list) else None, _path(route))


def _path(route: Route) -> str | None:
    return ">".join(route) if isinstance(route, list) else route


def _state(answer: At) -> Iterator[AtRow]:
    for name, machine in answer.machines.items():
        for word in ("member", "communicating", "cause", "hostname"):
            yield AtRow(name, word, getattr(machine, word), machine.since, machine.since_pos)
    for row in _links(answer):
        for word in ("state", "reason", "last_ping_at", "last_ping_outcome", "last_ping_rtt_us", "sent", "lost"):
            yield AtRow(f"{row.source}:{row.target}", word, getattr(row, word), row.since, row.since_pos)
    for name, state in answer.pairs.items():
        yield AtRow(name, "state", state)
    for name, route in answer.routes.items():
        yield AtRow(name, "route", _path(route))
    for name, reach in answer.coverage.items():
        yield AtRow(name, "covered", reach.covered if reach else False)
        yield AtRow(name, "covered_until", reach.until if reach else None)
        yield AtRow(name, "covered_until_pos", reach.until_pos if reach else None)


def _stats(answer: Stats) -> Iterator[StatsRow]:
    for name, times in answer.pairs.items():
        yield StatsRow(name, *astuple(times))
    for name, counts in answer.links.items():
        rtt = counts.rtt_us
        yield StatsRow(name, sent=counts.sent, lost=counts.lost, rtt_p50_us=rtt.p50, rtt_p99_us=rtt.p99, rtt_max_us=rtt.max)


def _differing(answer: Disagreements) -> Iterator[DisagreementRow]:
    for each in answer.disagreements:
        for side in each.sides:
            observers, by = " ".join(side.by), " ".join(side.by.values())
            yield DisagreementRow(each.kind, each.about, each.since, each.until, side.says, observers, by, each.lone)


def _shortened(row: DisagreementRow) -> DisagreementRow:
    """For eyes: of many observers the first few."""
    names, by = row.observers.split(), row.by.split()
    if len(names) <= SHOWN:
        return row
    rest = f"and {len(names) - SHOWN + 1} more"
    return replace(row, observers=" ".join([*names[: SHOWN - 1], rest]), by=" ".join([*by[: SHOWN - 1], rest]))


def _taken(answer: Merge | Import) -> Iterator[TakenRow]:
    for name, taken in answer.feeds.items():
        yield TakenRow("feed", name, *astuple(taken))
    for conflict in answer.conflicts:
        yield TakenRow("conflict", pos=conflict.pos, what=" and ".join(conflict.branches))
    for refusal in answer.refused:
        yield TakenRow("refused", file=refusal.file, line=refusal.line, what=refusal.why)


def _written(answer: Export | Backup) -> Iterator[WrittenRow]:
    return (WrittenRow(answer.file, name, entries) for name, entries in answer.feeds.items())


def _itself(answer: Struct) -> Iterable[Struct]:
    return (answer,)


LISTED: Final[dict[type[Struct], tuple[type[Struct], Callable[[Any], Iterable[Struct]]]]] = {
    At: (AtRow, _state),
    Members: (MachineRow, _machines),
    Connstatus: (LinkRow, _links),
    Routes: (RouteRow, _routes),
    Diff: (Change, lambda answer: answer.changes),
    Blame: (Blamed, lambda answer: answer.fields),
    Why: (ChainLink, lambda answer: answer.chain),
    Stats: (StatsRow, _stats),
    Disagreements: (DisagreementRow, _differing),
    Verify: (VerifyRow, verified),
    Merge: (TakenRow, _taken),
    Import: (TakenRow, _taken),
    Log: (LogRow, lambda answer: answer.entries),
    Show: (LogRow, lambda answer: answer.entries),
    Tail: (LogRow, lambda answer: answer.entries),
    Export: (WrittenRow, _written),
    Backup: (WrittenRow, _written),
    Checkpoint: (Head, lambda answer: answer.heads),
    Prove: (Prove, _itself),
    Keygen: (Keygen, _itself),
    Note: (Note, _itself),
    Version: (Version, _itself),
    Demo: (Step, lambda answer: answer.steps),
    Error: (Error, _itself),
    Node: (Node, _itself),
    Invite: (Invite, _itself),
    Done: (Done, _itself),
    Status: (PeerRow, peers),
    Doctor: (Looked, lambda answer: answer.checks),
    Bisect: (StretchRow, stretches),
    Absences: (Absence, lambda answer: answer.stretches),
    Conditions: (Listed, lambda answer: (*answer.conditions, *answer.words)),
}
"""For each answer the shape of its rows, and how they are made. `sql` is missing: its columns are the query's."""


def sections(answer: Struct) -> list[tuple[str | None, type[Struct], Iterable[Struct]]]:
    """(title, shape, rows) of each table that people are shown: of the whole state one a part, else the one list."""
    if isinstance(answer, At):
        return [
            ("machines", MachineRow, _machines(answer)),
            ("links", LinkRow, _links(answer)),
            ("routes", RouteRow, _routes(answer)),
        ]
    if isinstance(answer, Verify):
        return checked(answer)
    if isinstance(answer, Disagreements):
        return [(None, DisagreementRow, map(_shortened, _differing(answer)))]
    if isinstance(answer, Conditions):
        return [("conditions", Listed, answer.conditions), ("words of expressions", Listed, answer.words)]
    shape, rows = LISTED[type(answer)]
    return [(None, shape, rows(answer))]
