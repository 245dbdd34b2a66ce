"""What is answered about the mesh: its state at a moment, what changed, what set it, how long it was so.

One struct an answer: what the library encodes and what `-o json` prints. Its object begins with
`"schema": "meshledger.<answer>/1"`; within a version fields are added, never changed. Instants are RFC 3339 in UTC,
positions are texts such as `alpha#12021`, and a number bears its unit. A machine is keyed by its name, a link
`alpha:charlie`, a pair `alpha=charlie` with the smaller name first. Null is *unknown* or *none*, as each field says.

Shapes only: nothing is computed here. What is answered about ledgers and files stands in `receipts`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from ledger.events import Reason, Transport

State = Literal["up", "down", "unknown"]
PairState = Literal["absent", "planned", "uncovered", "unknown", "up", "down", "asymmetric"]
Instant = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$")]
Pos = Annotated[str, Meta(pattern=r"^[a-z0-9_.~-]+#[0-9]{1,18}$")]
Count = Annotated[int, Meta(ge=0)]


class Answer(Struct, frozen=True, kw_only=True, tag_field="schema"):
    """What all answers share: the tag `schema`, which stands first."""


class ClusterHead(Struct, frozen=True):
    """Which cluster: null where the record does not say it, as in imports. `members`: names, ascending."""

    name: str | None
    incarnation: str | None
    transport: Transport | None
    members: list[str]


class Machine(Struct, frozen=True):
    """A machine. `communicating` null: unknown. `cause`: why not, or why no member. `since`: of what it is now."""

    member: bool
    communicating: bool | None
    cause: str | None
    hostname: str | None
    since: Instant | None
    since_pos: Pos | None


class LastPing(Struct, frozen=True):
    """The last result recorded. `outcome`: `answered`, or the reason of the failure; `rtt_us` null unless answered."""

    at: Instant
    outcome: Literal["answered"] | Reason
    rtt_us: Count | None


class Link(Struct, frozen=True):
    """A link as its observer saw it. `sent`: all ping results, `lost`: those that failed."""

    state: State
    reason: Reason | None
    since: Instant | None
    since_pos: Pos | None
    last_ping: LastPing | None
    sent: Count
    lost: Count


class Reach(Struct, frozen=True):
    """How far a machine's feed carries the answer: its last entry by then, and whether it covers the moment."""

    until_pos: Pos
    until: Instant
    covered: bool


Route = list[str] | Literal["unknown"] | None
"""The machines from one end to the other, null if there is no way, `unknown` if there may be one."""


class Members(Answer, frozen=True, kw_only=True, tag="meshledger.members/1"):
    """`members`: who was in. `as_seen_by`: the machine whose belief this is, null for all that is known now."""

    at: Instant
    as_seen_by: str | None
    cluster: ClusterHead
    machines: dict[str, Machine]


class Connstatus(Answer, frozen=True, kw_only=True, tag="meshledger.connstatus/1"):
    """`connstatus`: every directed link between members, and every pair."""

    at: Instant
    as_seen_by: str | None
    cluster: ClusterHead
    links: dict[str, Link]
    pairs: dict[str, PairState]


class Routes(Answer, frozen=True, kw_only=True, tag="meshledger.routes/1"):
    """`routes`: the path from each member to each other."""

    at: Instant
    as_seen_by: str | None
    cluster: ClusterHead
    routes: dict[str, Route]


class At(Answer, frozen=True, kw_only=True, tag="meshledger.at/1"):
    """`at`: the whole state at a moment. `coverage`: null for a member without a feed."""

    at: Instant
    as_seen_by: str | None
    cluster: ClusterHead
    machines: dict[str, Machine]
    links: dict[str, Link]
    pairs: dict[str, PairState]
    routes: dict[str, Route]
    coverage: dict[str, Reach | None]


class Change(Struct, frozen=True):
    """One field of one cell, its value at both moments, and the entry that changed it (null: the passing of time)."""

    cell: str
    field: str
    old: Any
    new: Any
    pos: Pos | None


class Diff(Answer, frozen=True, kw_only=True, tag="meshledger.diff/1"):
    """`diff`: what changed from one moment to another."""

    since: Instant = field(name="from")
    until: Instant = field(name="to")
    as_seen_by: str | None = None
    changes: list[Change]


class Blamed(Struct, frozen=True):
    """One field of the cell: the entry that set it, its instant and its kind; null where no entry did."""

    field: str
    value: Any
    pos: Pos | None
    at: Instant | None
    kind: str | None


class Blame(Answer, frozen=True, kw_only=True, tag="meshledger.blame/1"):
    """`blame`: for each field of a machine, a link or a pair the entry that set it."""

    cell: str
    at: Instant
    as_seen_by: str | None = None
    fields: list[Blamed]


class PairTimes(Struct, frozen=True):
    """How long a pair was in each of the seven states; they add up to the window. `flaps`: times it ceased to be up."""

    up_ns: Count
    down_ns: Count
    asymmetric_ns: Count
    unknown_ns: Count
    uncovered_ns: Count
    planned_ns: Count
    absent_ns: Count
    flaps: Count


class Rtt(Struct, frozen=True):
    """Round trips answered in the window: quantiles by nearest rank, null if there were none."""

    p50: Count | None
    p99: Count | None
    max: Count | None


class LinkCounts(Struct, frozen=True):
    """Ping results over a link that stood, and those of them that failed."""

    sent: Count
    lost: Count
    rtt_us: Rtt


class Stats(Answer, frozen=True, kw_only=True, tag="meshledger.stats/1"):
    """`stats`: times by state of each pair and ping results of each link in [since, until)."""

    since: Instant
    until: Instant
    pairs: dict[str, PairTimes]
    links: dict[str, LinkCounts]
