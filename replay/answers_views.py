"""What is answered about observers that differ: `disagreements`.

Shapes only, in the words of `answers`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from replay.answers import Answer, Count, Instant, Pos

About = Literal["pair", "machine", "member", "islands"]


class Side(Struct, frozen=True):
    """What some observers said, each with the entry of its own feed from which on it said so."""

    says: str
    by: dict[str, Pos]


class Disagreement(Struct, frozen=True):
    """Observers differed in [since, until). `pair`: the one side's link was up and the other's down; `machine`: links to it
    were up for some and down for others; `member`: some held it for a member and others did not; `islands`: they saw the
    mesh fall into different parts. `lone`: the one observer that said otherwise than two or more.
    """

    kind: About
    about: str
    since: Instant
    until: Instant
    lone: str | None
    sides: list[Side]


class Disagreements(Answer, frozen=True, kw_only=True, tag="meshledger.disagreements/1"):
    """`disagreements`: in [since, until), in the order in which they began. `covered_ns`: how much of it each feed covers."""

    since: Instant
    until: Instant
    covered_ns: dict[str, Count]
    disagreements: list[Disagreement]
