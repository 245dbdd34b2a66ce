"""The seed system's rules, read over a history: what its manual asks of administrators, and what the record shows of it.

`RULES` has a sentence each. A *finding* is one breach: who, since when, until when, and the entries that show it. The rules look
at control entries only, in display order, so a log of ten million pings is judged in a moment. What is so
for a while (versions mixed, names shared, too many machines) is one finding with its span; what is not known is none: a drop
is judged once the time to heal is over, a name that nobody looked up is not said to be missing.

Pure: entries in, findings out. They are findings about the mesh and its operation, never about the software.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ledger import events as ev
from ledger.entry import Entry
from projections.cluster import Cluster
from projections.conditions import CONDITIONS

HEALED_WITHIN_NS: Final = 60_000_000_000
"""A link dropped by the connection limit is back within so long, of itself."""

RULES: Final[dict[str, str]] = {
    "name-before-upgrade": "Before a machine is upgraded, its host name is set and others find it in DNS.",
    "one-version": "All members run one version of the software.",
    "one-addressing": "Machines join by name or by address, and one cluster does not mix the two.",
    "one-transport": "One cluster uses one transport, SSH or CCS, until all machines are removed.",
    "machines-max": "There are no more machines than the settings allow.",
    "limit-heals-itself": "A link dropped by the connection limit is back within 60 s, with no operator's act between.",
    "unique-hostnames": "No two members bear one host name.",
    "forward-and-reverse": "The address that a member's host name gives leads back to that name.",
    "address-has-name": "Where machines go by address, each address has a name, as a reverse look-up finds it.",
}
"""The rules by name, each with its sentence."""
_SPANS: Final = ("one-version", "machines-max", "unique-hostnames")
"""Rules that are conditions of the cluster."""
_FOLDED: Final = frozenset((
    ev.ClusterCreated, ev.MachineJoined, ev.MachineLeft, ev.HostnameChanged, ev.KeyChanged, ev.VersionChanged, ev.NodeStarted,
    ev.SettingsChanged,
))  # fmt: skip
_ACTS: Final = frozenset((
    ev.MachineJoined, ev.MachineLeft, ev.MachineDisconnected, ev.MachineReconnected, ev.HostnameChanged, ev.KeyChanged,
    ev.SettingsChanged,
))  # fmt: skip
"""What an operator does."""


class Finding(msgspec.Struct, frozen=True):
    """One breach of a rule. `says`: a sentence. `subjects`: the machines. `until_ns` None: it had not ended. `positions`: the
    entries that show it, in the order in which they tell it.
    """

    rule: str
    says: str
    subjects: tuple[str, ...]
    since_ns: int
    until_ns: int | None
    positions: tuple[str, ...]


def lint(entries: Iterable[Entry], ends: Mapping[str, int]) -> list[Finding]:
    """The findings, by instant. `entries`: the control entries of all machines' own feeds, in display order, with effective
    instants. `ends`: by machine, how far its feed goes.
    """
    rules = _Rules(ends)
    for entry in entries:
        rules.see(entry)
    return rules.end()


class _Drop(msgspec.Struct):
    """A link dropped by the limit, that has not come back yet."""

    entry: Entry
    acts: list[Entry]


class _Rules:
    def __init__(self, ends: Mapping[str, int]) -> None:
        self.ends = ends
        self.found: list[Finding] = []
        self.cluster = Cluster()
        self.stale = False
        self.open: dict[str, tuple[int, str, tuple[str, ...], list[str]]] = {}
        self.now_ns = 0
        self.last: dict[tuple[str, str], Entry] = {}
        self.named: Entry | None = None
        self.transport: tuple[str, str] | None = None
        self.mixed: set[tuple[str, str]] = set()
        self.renames: dict[str, Entry] = {}
        self.lookups: dict[tuple[str, str], Entry] = {}
        self.answered: dict[str, Entry] = {}
        self.drops: dict[tuple[str, str], _Drop] = {}
        self.astray: dict[str, tuple[Entry, Finding]] = {}

    def see(self, entry: Entry) -> None:
        """Judge by the next entry."""
        if self.stale and entry.effective_ns > self.now_ns:
            self._spans()
        self.now_ns = entry.effective_ns
        event: Any = entry.event
        kind = event.__class__
        if kind in _FOLDED:
            if kind is ev.VersionChanged:
                self._upgraded(entry, event)
            self.cluster = self.cluster.evolve(entry)
            self.stale = True
            if kind is ev.VersionChanged or (kind is ev.NodeStarted and event.software):
                self.last["one-version", entry.observer] = entry
            elif kind in {ev.HostnameChanged, ev.MachineJoined}:
                self.last["unique-hostnames", getattr(event, "machine", entry.observer)] = entry
        if kind is ev.ClusterCreated:
            self.transport = event.transport, entry.position
            self.named = entry
        elif kind is ev.MachineJoined:
            self._joined(entry, event)
        elif kind is ev.HostnameChanged:
            self.renames[entry.observer] = entry
        elif kind in {ev.NameResolved, ev.NameFailed}:
            self._looked_up(entry, event)
        elif kind is ev.LinkEstablished:
            self._healed(entry, event)
            self._transported(entry, event.peer, event.transport)
        elif kind in {ev.LinkLost, ev.LinkFailed}:
            if kind is ev.LinkLost and event.reason == "connection-limit":
                self.drops.setdefault((entry.observer, event.peer), _Drop(entry, []))
            if event.reason == "transport-mismatch":
                self._transported(entry, event.peer, "another")
        if kind in _ACTS:
            whom = {getattr(event, "machine", entry.observer)}
            for pair, drop in self.drops.items():
                if kind is ev.SettingsChanged or whom & set(pair):
                    drop.acts.append(entry)

    def end(self) -> list[Finding]:
        """What was found, once nothing more comes."""
        self._spans()
        for rule, (since_ns, says, subjects, positions) in self.open.items():
            self.found.append(Finding(rule, says, subjects, since_ns, None, tuple(positions)))
        for (observer, _peer), drop in list(self.drops.items()):
            until_ns = self.ends.get(observer, 0)
            if drop.acts or until_ns - drop.entry.effective_ns > HEALED_WITHIN_NS:
                self._dropped(drop, None)
        self.found += [finding for _entry, finding in self.astray.values()]
        self.found.sort(key=lambda found: (found.since_ns, found.rule, found.subjects, found.positions))
        return self.found

    # What is so for a while.

    def _spans(self) -> None:
        """Open and close what is a condition of the cluster, as it is after all entries of an instant."""
        self.stale = False
        for rule in _SPANS:
            judged = CONDITIONS[rule].at(self.cluster)
            held = self.open.get(rule)
            if judged.holds is False:
                subjects = tuple(sorted({name for each in judged.witnesses for name in each.subject.split(",")} - {"cluster"}))
                says = "; ".join(f"{each.subject} {each.what}" for each in judged.witnesses)
                if held is not None and (held[1] == says or rule == "machines-max"):
                    continue
                if held is not None:
                    self._close(rule, held)
                self.open[rule] = self.now_ns, says, subjects or tuple(self.cluster.members), self._shown(rule, subjects)
            elif held is not None:
                self._close(rule, held)

    def _close(self, rule: str, held: tuple[int, str, tuple[str, ...], list[str]]) -> None:
        since_ns, says, subjects, positions = held
        self.found.append(Finding(rule, says, subjects, since_ns, self.now_ns, tuple(positions)))
        del self.open[rule]

    def _shown(self, rule: str, subjects: tuple[str, ...]) -> list[str]:
        """The entries that show it: for each machine the one that made it what it is."""
        if rule == "machines-max":
            return [self.cluster.membership.machines[name].since for name in self.cluster.members]
        entries = [self.last[rule, name] for name in subjects if (rule, name) in self.last]
        return [entry.position for entry in sorted(entries, key=lambda entry: (entry.effective_ns, entry.feed, entry.index))]

    # Names, upgrades, look-ups.

    def _upgraded(self, entry: Entry, event: ev.VersionChanged) -> None:
        machine = entry.observer
        member = self.cluster.membership.machines.get(machine)
        if member is None or member.hostname is None or self.cluster.addressing == "address":
            return
        name = _plain(member.hostname)
        looked_up, rename = self.answered.get(name), self.renames.get(machine)
        failed = self.lookups.get(("forward", name))
        upgrade = f"{machine} was upgraded from {event.old} to {event.new}"
        if failed is not None and _found_nothing(failed) and failed.observer != machine:
            says = f"{upgrade} while {member.hostname} could not be found in DNS by {failed.observer}"
            positions = [rename.position] if rename else []
            self._add("name-before-upgrade", says, (machine,), entry, (*positions, failed.position, entry.position))
        elif rename is not None and (looked_up is None or looked_up.effective_ns < rename.effective_ns):
            says = f"{upgrade} after it was renamed {member.hostname}, which no other machine had found in DNS yet"
            self._add("name-before-upgrade", says, (machine,), entry, (rename.position, entry.position))

    def _looked_up(self, entry: Entry, event: ev.NameResolved | ev.NameFailed) -> None:
        key = (event.direction, _plain(event.name))
        self.lookups[key] = entry
        if event.direction == "forward":
            if not _found_nothing(entry):
                bearers = [name for name, m in self.cluster.membership.machines.items() if _plain(m.hostname or "") == key[1]]
                if entry.observer not in bearers:
                    self.answered[key[1]] = entry
                for address in event.answers:
                    self._reversed(_plain(address), entry)
        else:
            self._reversed(key[1], entry)

    def _reversed(self, address: str, entry: Entry) -> None:
        """Whether an address leads back to the members' names that give it, as of this look-up."""
        back = self.lookups.get(("reverse", address))
        held = self.astray.get(address)
        if self.cluster.addressing == "address":
            self._named(address, entry, held)
            return
        names = {}
        for machine in self.cluster.members:
            hostname = self.cluster.membership.machines[machine].hostname
            there = self.lookups.get(("forward", _plain(hostname or "")))
            if there is not None and not _found_nothing(there) and address in map(_plain, _answers(there)):
                names[_plain(hostname or "")] = machine, there
        if back is None or not names:
            return
        told = {_plain(answer) for answer in _answers(back)}
        good = not _found_nothing(back) and bool(told & names.keys())
        if good and held is not None:
            self.found.append(msgspec.structs.replace(held[1], until_ns=entry.effective_ns))
            del self.astray[address]
        elif not good and held is None:
            hostname, (machine, there) = min(names.items())
            what = f"leads back to {', '.join(sorted(told))}" if told else f"leads back to no name ({_outcome(back)})"
            says = f"{hostname} gives {address}, which {what}"
            shown = there.position, back.position
            self.astray[address] = entry, Finding("forward-and-reverse", says, (machine,), entry.effective_ns, None, shown)

    def _named(self, address: str, entry: Entry, held: tuple[Entry, Finding] | None) -> None:
        """Whether a member's address has a name, as of this look-up; of one that timed out nothing is known."""
        members = self.cluster.membership.machines
        bearers = [name for name in self.cluster.members if _plain(members[name].hostname or "") == address]
        if not _found_nothing(entry):
            if held is not None:
                self.found.append(msgspec.structs.replace(held[1], until_ns=entry.effective_ns))
                del self.astray[address]
        elif bearers and held is None and _outcome(entry) != "timeout":
            says = f"{address} is the address of {bearers[0]}, and has no name ({_outcome(entry)})"
            shown = members[bearers[0]].since, entry.position
            self.astray[address] = entry, Finding("address-has-name", says, (bearers[0],), entry.effective_ns, None, shown)

    # Joins, transports, drops.

    def _joined(self, entry: Entry, event: ev.MachineJoined) -> None:
        if self.named is None:
            self.named = entry
            return
        first: Any = self.named.event
        if event.addressing != first.addressing:
            says = f"{event.machine} joined by {event.addressing}, and the cluster uses {first.addressing}es".replace(
                "namees", "names"
            )
            self._add("one-addressing", says, (event.machine,), entry, (self.named.position, entry.position))

    def _transported(self, entry: Entry, peer: str, transport: str | None) -> None:
        if transport is None:
            return
        if self.transport is None:
            self.transport = transport, entry.position
            return
        pair = min(entry.observer, peer), max(entry.observer, peer)
        if transport != self.transport[0] and pair not in self.mixed:
            self.mixed.add(pair)
            says = f"{entry.observer} and {peer} met over {transport} transport, and the cluster uses {self.transport[0]}"
            self._add("one-transport", says, pair, entry, (self.transport[1], entry.position))

    def _healed(self, entry: Entry, event: ev.LinkEstablished) -> None:
        drop = self.drops.pop((entry.observer, event.peer), None)
        if drop is not None:
            self._dropped(drop, entry)

    def _dropped(self, drop: _Drop, back: Entry | None) -> None:
        event: Any = drop.entry.event
        took_ns = None if back is None else back.effective_ns - drop.entry.effective_ns
        late = took_ns is None or took_ns > HEALED_WITHIN_NS
        if not late and not drop.acts:
            return
        said = f"{drop.entry.observer}'s link to {event.peer} was dropped by the connection limit and "
        said += "did not come back" if took_ns is None else f"came back after {took_ns / 10**9:.0f} s"
        if drop.acts:
            said += f", with an operator's act between ({', '.join(sorted({act.kind for act in drop.acts}))})"
        culprit = (event.culprit,) if event.culprit and event.culprit not in {drop.entry.observer, event.peer} else ()
        shown = [drop.entry, *drop.acts, *([back] if back else [])]
        self.found.append(
            Finding(
                "limit-heals-itself",
                said,
                (drop.entry.observer, event.peer, *culprit),
                drop.entry.effective_ns,
                back.effective_ns if back else None,
                tuple(entry.position for entry in shown),
            )
        )

    def _add(self, rule: str, says: str, subjects: tuple[str, ...], entry: Entry, positions: tuple[str, ...]) -> None:
        self.found.append(Finding(rule, says, subjects, entry.effective_ns, None, positions))


def _plain(name: str) -> str:
    """Names of DNS do not tell case, and a last dot says nothing."""
    return name.lower().rstrip(".")


def _found_nothing(entry: Entry) -> bool:
    event: Any = entry.event
    return isinstance(event, ev.NameFailed) or event.outcome != "answered"


def _answers(entry: Entry) -> tuple[str, ...]:
    event: Any = entry.event
    return tuple(event.answers)


def _outcome(entry: Entry) -> str:
    event: Any = entry.event
    return str(event.outcome)
