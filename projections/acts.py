"""What a feed says that changes who is in: its *acts*, in their order.

An act is kept with its index and instant, as plainly as it was recorded; whether it counts is judged elsewhere, over the
acts of all feeds together (`membership`). Pure values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ledger import events as ev
from ledger.identity import Feed


class Act(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What all acts share: where in the feed, and when."""

    index: int
    at_ns: int


class Created(Act, frozen=True, gc=False, array_like=True, tag="created"):
    """`cluster.created`."""

    name: str
    incarnation: str
    transport: str
    addressing: str
    salt: str


class Dissolved(Act, frozen=True, gc=False, array_like=True, tag="dissolved"):
    """`cluster.dissolved`."""

    incarnation: str


class Join(Act, frozen=True, gc=False, array_like=True, tag="join"):
    """`machine.joined`; `held`: the entries its feed of `epoch` had at admission."""

    machine: str
    hostname: str | None
    port: int
    account: str | None
    host_key: str | None
    dial_key: str | None
    ledger_key: str | None
    held: int
    addressing: str
    epoch: int | None = None


class Removal(Act, frozen=True, gc=False, array_like=True, tag="removal"):
    """`machine.left`."""

    machine: str
    joins: tuple[str, ...]
    held: int
    cause: str
    by: str | None
    epoch: int | None = None


class KeyChange(Act, frozen=True, gc=False, array_like=True, tag="key"):
    """`key.changed`, of the observer's own."""

    role: str
    old: str
    new: str


class Rename(Act, frozen=True, gc=False, array_like=True, tag="rename"):
    """`hostname.changed`, of the observer's own."""

    old: str
    new: str
    forced: bool


class Plan(Act, frozen=True, gc=False, array_like=True, tag="plan"):
    """`machine.disconnected`, or `.reconnected`."""

    machine: str
    disconnected: bool
    by: str | None


AnyAct = Created | Dissolved | Join | Removal | KeyChange | Rename | Plan

ACTS: Final[dict[type, Callable[[Any, int, int], AnyAct]]] = {
    ev.ClusterCreated: lambda e, index, at_ns: Created(index, at_ns, e.name, e.incarnation, e.transport, e.addressing, e.salt),
    ev.ClusterDissolved: lambda e, index, at_ns: Dissolved(index, at_ns, e.incarnation),
    ev.MachineJoined: lambda e, index, at_ns: Join(
        index,
        at_ns,
        e.machine,
        e.hostname,
        e.port,
        e.account,
        e.host_key,
        e.dial_key,
        e.ledger_key,
        e.held,
        e.addressing,
        e.epoch,
    ),
    ev.MachineLeft: lambda e, index, at_ns: Removal(index, at_ns, e.machine, tuple(e.joins), e.held, e.cause, e.by, e.epoch),
    ev.KeyChanged: lambda e, index, at_ns: KeyChange(index, at_ns, e.role, e.old, e.new),
    ev.HostnameChanged: lambda e, index, at_ns: Rename(index, at_ns, e.old, e.new, e.forced),
    ev.MachineDisconnected: lambda e, index, at_ns: Plan(index, at_ns, e.machine, True, e.by),
    ev.MachineReconnected: lambda e, index, at_ns: Plan(index, at_ns, e.machine, False, e.by),
}
"""How each kind of event that is an act becomes one, given its index and instant."""


def order(feed: Feed, act: Act) -> tuple[int, str, int, int, str]:
    """The display order of an act: instant, observer, epoch, index; then the feed's id, so that it is total."""
    return act.at_ns, feed.machine, feed.epoch, act.index, feed.id
