"""What `why` answers: whether one machine could reach another, and if they were not linked, the one cause and its proof.

As all answers (`answers`): instants are RFC 3339 in UTC, positions are texts, null is *unknown* or *none* as each field says.
The list of causes is closed: the reasons of a link, and what only several links or entries together show.

Shapes only: nothing is computed here.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from ledger.events import Reason
from replay.answers import Answer, Instant, PairState, Pos, Reach, Route, State

Cause = Reason | Literal["observer-isolated", "target-down", "partition", "renamed-without-dns", "removed"]
Proves = Literal["cause", "root", "since"]


class ChainLink(Struct, frozen=True):
    """An entry of the proof. `says`: in one line, harmless to show. `root`: whether all began with it. `proves`: what the others
    would say otherwise without it: the cause, the root, or since when.
    """

    pos: Pos
    at: Instant
    kind: str
    says: str
    root: bool
    proves: Proves


class Seen(Struct, frozen=True):
    """A link as its observer saw it; `unknown` also where the observer's feed does not cover the moment."""

    state: State
    reason: Reason | None
    since: Instant | None
    since_pos: Pos | None


class Other(Struct, frozen=True):
    """The view of another observer whose feed covers the moment: its links to B and to A, and theirs to it."""

    machine: str
    to_target: Seen
    from_target: Seen
    to_source: Seen
    from_source: Seen


class Missing(Struct, frozen=True):
    """What the log does not cover: of which machine's feed, from when to when (null: none, or no end), and what."""

    machine: str
    since: Instant | None
    until: Instant | None
    what: str


class Why(Answer, frozen=True, kw_only=True, tag="meshledger.why/1"):
    """`why A B`: `reachable` as the route table has it, null if too little is known. `cause`: why there is no link both ways
    up between the two, null if there is one; `since` and `until`: when that began and was over. `route`: by which A reached
    B; `direct`: the pair's own state; `suspect`: the machine at fault, null if it is the path or nobody alone; `sides`:
    of a partition, that of A first.
    """

    source: str = field(name="from")
    target: str = field(name="to")
    at: Instant
    reachable: bool | None
    cause: Cause | None
    root_pos: Pos | None
    chain: list[ChainLink]
    others: list[Other]
    since: Instant | None
    until: Instant | None
    coverage: dict[str, Reach | None]
    advice: str | None
    as_seen_by: str | None = None
    route: Route = None
    direct: PairState = "absent"
    suspect: str | None = None
    sides: list[list[str]] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
