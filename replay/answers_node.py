"""What is answered by the commands of the live mesh: a node made, a code given out, a command done, how a node is.

One struct an answer, as in `answers`: the object of `-o json` begins with its `schema`; within a version fields are added, never
changed. `status` is what the running node says of itself now; what the mesh *was* is asked of the record (`at`).

Shapes, and the rows that tables, csv and jsonl print of them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

from replay.answers import Answer, Count, Instant, Pos
from replay.spans import format_instant


class Node(Answer, frozen=True, kw_only=True, tag="meshledger.node/1"):
    """`init`, `join`: the node that was made, and its public keys."""

    machine: str
    hostname: str
    port: int
    cluster: str | None
    incarnation: str
    transport: str
    dir: str
    host_key: str
    dial_key: str
    ledger_key: str


class Invite(Answer, frozen=True, kw_only=True, tag="meshledger.invite/1"):
    """`invite`: a code, good once, until it expires. `machine`: who will admit."""

    code: str
    machine: str
    expires: Instant


class Done(Answer, frozen=True, kw_only=True, tag="meshledger.done/1"):
    """`leave`, `remove`, `disconnect`, `reconnect`, `sethostname`, `rekey`: what was done, to which machine, by which entry."""

    ask: str
    machine: str
    by: str | None
    pos: Pos | None
    detail: str | None = None


class Peer(Struct, frozen=True):
    """A member as the node knows it now. `held`: the last entry held of its feed; `route`: how it is reached."""

    hostname: str | None
    linked: bool
    link: str | None
    side: str | None
    address: str | None
    rtt_us: Count | None
    last_ping: Instant | None
    held: Pos | None
    disconnected: bool = False
    route: list[str] | None = None


class Status(Answer, frozen=True, kw_only=True, tag="meshledger.status/1"):
    """`status`: the node now. `state`: `checking` until it knows that its own record was not rolled back, then `running`. `hint`:
    where the node as a whole may be in trouble.
    """

    machine: str
    cluster: str | None
    incarnation: str
    transport: str
    addressing: str
    hostname: str | None
    software: str
    boot: Count
    since: Instant
    at: Instant
    state: Literal["checking", "running", "stopping"]
    position: Pos
    members: dict[str, Peer]
    hint: str | None = None


class Looked(Struct, frozen=True):
    """One thing that `doctor` looked at. `reason`: what a link that failed for it would be given as its reason."""

    machine: str
    check: str
    verdict: str
    said: str
    reason: str | None
    hint: str | None


class Doctor(Answer, frozen=True, kw_only=True, tag="meshledger.doctor/1"):
    """`doctor`: what links depend on, as this machine sees it. `ok`: nothing is bad; warnings may stand."""

    ok: bool
    checks: list[Looked]


class PeerRow(Struct, frozen=True):
    """One member in a table."""

    machine: str
    hostname: str | None
    linked: bool
    side: str | None
    address: str | None
    rtt_us: int | None
    last_ping: str | None
    held: str | None
    route: str | None


def peers(answer: Status) -> Iterator[PeerRow]:
    """The members, one a row."""
    for name, peer in answer.members.items():
        route = ">".join(peer.route) if peer.route else None
        yield PeerRow(name, peer.hostname, peer.linked, peer.side, peer.address, peer.rtt_us, peer.last_ping, peer.held, route)


def status(said: Mapping[str, Any]) -> Status:
    """The answer of a node to `status`, its instants as text."""
    members = {
        name: Peer(
            hostname=peer["hostname"], linked=peer["linked"], link=peer["link"], side=peer["side"], address=peer["address"],
            rtt_us=peer["rtt_us"], last_ping=_instant(peer["last_ping_ns"]), held=peer["held"],
            disconnected=peer["disconnected"], route=peer["route"],
        )
        for name, peer in sorted(said["members"].items())
    }  # fmt: skip
    return Status(
        machine=said["machine"], cluster=said["cluster"], incarnation=said["incarnation"], transport=said["transport"],
        addressing=said["addressing"], hostname=said["hostname"], software=said["software"], boot=said["boot"],
        since=format_instant(said["since_ns"]), at=format_instant(said["at_ns"]), state=said["state"],
        position=said["position"], members=members, hint=said.get("hint"),
    )  # fmt: skip


def _instant(at_ns: int | None) -> str | None:
    return None if at_ns is None else format_instant(at_ns)
