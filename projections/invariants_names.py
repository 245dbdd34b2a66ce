"""Invariants across feeds about names, addresses and transports (A15, A16, A19, B15, B16): the seed system's traps.

A host name belongs to a machine by its join and its own renames; a look-up is whoever's it was. What nobody looked up cannot
be judged: it is not covered. All of them are findings about the mesh, none about the software.
"""

# ruff: noqa: ARG002  monitors are told more than each needs
from __future__ import annotations

from typing import ClassVar

import msgspec

from ledger import events as ev
from ledger.entry import Entry
from projections.invariants_members import Enrolled, Roll
from projections.monitor import Monitor, Rule, State

NAMES = frozenset({"machine.joined", "hostname.changed"})
LOOKUPS = frozenset({"name.resolved", "name.failed"})


class Answered(msgspec.Struct, array_like=True):
    """The last look-up of a name: what came of it, and where that stands."""

    failed: bool
    outcome: str
    answers: tuple[str, ...]
    pos: str


class Known(State):
    """`names`: by machine its host name; `borne`: all it ever bore; `addressing`: by machine how it is addressed; `lookups`: by
    observer and `"forward NAME"` or `"reverse ADDRESS"`; `first`: what was seen first, and where.
    """

    names: dict[str, str] = msgspec.field(default_factory=dict)
    borne: dict[str, list[str]] = msgspec.field(default_factory=dict)
    addressing: dict[str, str] = msgspec.field(default_factory=dict)
    lookups: dict[str, dict[str, Answered]] = msgspec.field(default_factory=dict)
    first: dict[str, str] = msgspec.field(default_factory=dict)


class Named(Monitor):
    """What the monitors here share: who is called what, and what DNS said."""

    mesh = True
    kinds = NAMES | LOOKUPS | {"link.established"}
    state_type: ClassVar[type[State]] = Known

    def step(self, entry: Entry, now_ns: int) -> None:
        """Remember, then judge."""
        event, observer = entry.event, entry.feed.machine
        if isinstance(event, ev.MachineJoined):
            if event.hostname is not None:
                self._named(event.machine, event.hostname)
            self.state.addressing[event.machine] = event.addressing
        elif isinstance(event, ev.HostnameChanged):
            self._named(observer, event.new)
        elif isinstance(event, (ev.NameResolved, ev.NameFailed)):
            failed = isinstance(event, ev.NameFailed) or event.outcome != "answered"
            found = Answered(failed, event.outcome, event.answers, entry.position)
            self.remember(observer, f"{event.direction} {event.name}", found)
        self.judge(entry)

    def _named(self, machine: str, name: str) -> None:
        self.state.names[machine] = name
        borne = self.state.borne.setdefault(machine, [])
        if name not in borne:
            borne.append(name)

    def remember(self, observer: str, name: str, found: Answered) -> None:
        """A look-up of an observer."""
        self.state.lookups.setdefault(observer, {})[name] = found

    def judge(self, entry: Entry) -> None:
        """Judge an entry, itself remembered already."""
        raise NotImplementedError


def host_of(address: str) -> str:
    """An address without its port: of `192.0.2.7:22`, `[2001:db8::7]:22`, or alone."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, _, port = address.rpartition(":")
    return host if host and port.isdigit() and ":" not in host else address


class DialNeedsAddress(Named):
    """A15."""

    def __init__(self) -> None:
        says = "Who dials a machine dials an address that its main host name gave last, and not a name that gave none."
        super().__init__(Rule("A15", "a dial needs an address", "mesh", says))

    def judge(self, entry: Entry) -> None:
        """A link that was dialled, against the dialler's last look-ups of the host names that the peer bears or bore: whose
        clock is ahead may use a name that is not shown yet.
        """
        event = entry.event
        if not isinstance(event, ev.LinkEstablished) or event.side != "dialled" or event.address is None:
            return
        if self.state.addressing.get(event.peer) == "address":
            return
        lookups, host = self.state.lookups.get(entry.feed.machine, {}), host_of(event.address)
        found = [lookups[key] for name in self.state.borne.get(event.peer, ()) if (key := f"forward {name}") in lookups]
        name = self.state.names.get(event.peer)
        if not found:
            self.tally.uncovered += 1
        elif any(host in {host_of(answer) for answer in each.answers} for each in found if not each.failed):
            self.tally.judged += 1
        elif all(each.failed for each in found):
            self.violate(entry, f"{name} gave nothing to dial ({found[-1].outcome})", (found[-1].pos,))
        else:
            self.violate(entry, f"{event.address} is no address that {name} gave", (found[-1].pos,))


class AddressNeedsReverse(Named):
    """A16."""

    def __init__(self) -> None:
        says = (
            "Where machines go by address, nobody is accepted whose reverse look-up timed out; names and addresses are not mixed."
        )
        super().__init__(Rule("A16", "an address needs its name", "mesh", says))

    def judge(self, entry: Entry) -> None:
        """A join addressed otherwise than the first; a link that was accepted in spite of a time-out."""
        event = entry.event
        if isinstance(event, ev.MachineJoined):
            first = self.state.first.setdefault("addressing", f"{event.addressing} {entry.position}")
            addressing, _, pos = first.partition(" ")
            if addressing != event.addressing:
                self.violate(entry, f"{event.machine} joins by {event.addressing}, the first by {addressing}", (pos,))
            else:
                self.tally.judged += 1
        elif isinstance(event, ev.LinkEstablished) and event.side == "accepted" and event.address is not None:
            if self.state.addressing.get(event.peer) != "address":
                return
            found = self.state.lookups.get(entry.feed.machine, {}).get(f"reverse {host_of(event.address)}")
            if found is None:
                self.tally.uncovered += 1
            elif found.outcome == "timeout":
                self.violate(entry, f"accepted, and the reverse look-up of {event.address} had timed out", (found.pos,))
            else:
                self.tally.judged += 1


class RenameBeforeUpgrade(Named):
    """A19."""

    kinds = NAMES | LOOKUPS | {"version.changed"}

    def __init__(self) -> None:
        says = "Who changed its host name is found under the new one in DNS before its software changes."
        super().__init__(Rule("A19", "rename, DNS, then upgrade", "mesh", says))

    def remember(self, observer: str, name: str, found: Answered) -> None:
        """Anybody's look-up tells."""
        super().remember("", name, found)

    def judge(self, entry: Entry) -> None:
        """An upgrade after a rename."""
        event, machine = entry.event, entry.feed.machine
        if isinstance(event, ev.HostnameChanged):
            self.state.first[machine] = entry.position
        if not isinstance(event, ev.VersionChanged) or machine not in self.state.first:
            return
        renamed, name = self.state.first[machine], self.state.names[machine]
        found = self.state.lookups.get("", {}).get(f"forward {name}")
        if found is None:
            self.tally.uncovered += 1
        elif found.failed:
            self.violate(entry, f"{machine} is upgraded, and DNS does not know {name} ({found.outcome})", (renamed, found.pos))
        else:
            self.tally.judged += 1


class Bearers(Roll):
    """By machine its host name, and where it got it; its port."""

    names: dict[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    ports: dict[str, int] = msgspec.field(default_factory=dict)


class OneNameOneMachine(Enrolled):
    """B15."""

    kinds = Enrolled.kinds | NAMES
    state_type: ClassVar[type[State]] = Bearers

    def __init__(self) -> None:
        says = "No two members are found under one main host name, and one port there, at one time."
        super().__init__(Rule("B15", "one name, one machine", "mesh", says))

    def joined(self, machine: str, entry: Entry) -> None:
        """Its name as of the join."""
        event = entry.event
        if isinstance(event, ev.MachineJoined) and event.hostname is not None:
            self.state.ports[machine] = event.port
            self._bear(machine, event.hostname, entry)

    def other(self, entry: Entry) -> None:
        """A rename of its own."""
        if isinstance(entry.event, ev.HostnameChanged) and entry.feed.machine in self.state.names:
            self._bear(entry.feed.machine, entry.event.new, entry)

    def parted(self, machine: str, entry: Entry) -> None:
        """A name is free again."""
        self.state.names.pop(machine, None)

    def _bear(self, machine: str, name: str, entry: Entry) -> None:
        port = self.state.ports[machine]
        others = [
            (other, pos)
            for other, (theirs, pos) in self.state.names.items()
            if theirs == name and other != machine and self.state.ports[other] == port
        ]
        if others:
            self.violate(entry, f"{machine} is called {name}, and so is {others[0][0]}", tuple(pos for _other, pos in others))
        else:
            self.tally.judged += 1
        self.state.names[machine] = name, entry.position


class OneTransport(Named):
    """B16."""

    kinds = frozenset({"cluster.created", "link.established"})

    def __init__(self) -> None:
        says = "One incarnation of a cluster uses one transport: SSH and CCS are not mixed."
        super().__init__(Rule("B16", "one transport", "mesh", says))

    def judge(self, entry: Entry) -> None:
        """Against the cluster's creation, or the first link that says."""
        transport = getattr(entry.event, "transport", None)
        if transport is None:
            return
        said, _, pos = self.state.first.setdefault("transport", f"{transport} {entry.position}").partition(" ")
        if said != transport:
            self.violate(entry, f"a link over {transport} in a cluster of {said}", (pos,))
        else:
            self.tally.judged += 1
