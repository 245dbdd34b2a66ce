"""Everything that one feed's fold knows: what its observer saw, did and was, up to an entry.

The state of the whole is the join of these, so this is the only place where entries are folded. A `FeedState` is mutable
inside and frozen outside: `evolve` gives a new value, `apply` grows a private copy (`fold`). What it holds per peer is
frozen and replaced, so that a copy is a few shallow copies. It is total: any entries in any order, no exception; an
entry of another feed, or one that it has folded already, changes nothing. It encodes with msgspec (snapshots) and
decodes to an equal value. It knows one interval only, its own feed's; who asks at a moment brings the merged one.

`records` folds a whole sealed record of pings at once, to exactly the same state.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from copy import copy as shallow
from functools import partial
from operator import attrgetter
from typing import Any, Final, Literal, Self

import msgspec

from ledger import events as ev
from ledger.blocks import Group
from ledger.entry import Entry, Opaque
from ledger.identity import Feed
from projections import links as link_room
from projections import pings as ping_room
from projections.acts import ACTS, AnyAct
from projections.links import UNHEARD, LinkState, silence_ns
from projections.particulars import DEFAULT_INTERVAL_MS, Lookup, Opening, Settings
from projections.pings import NONE, PingState
from projections.records import linked_by, plan


class FeedState(msgspec.Struct):
    """The fold of one feed. `entries`: index of the last entry folded, 0 before the first. `lookups` by
    `"forward NAME"` or `"reverse ADDRESS"`. `received`: by feed id, (entries held, index of the entry that said so).
    `settings`: the newest generation that this feed itself recorded, of all its `proposals`.
    """

    feed: Feed
    entries: int = 0
    first_ns: int = 0
    last_ns: int = 0
    opaque: bool = False
    notes: int = 0
    opening: Opening | None = None
    lifecycle: Literal["none", "running", "stopped"] = "none"
    lifecycle_ns: int = 0
    lifecycle_index: int = 0
    started_ns: int = 0
    started: int = 0
    crashed: bool = False
    boot: int | None = None
    software: str | None = None
    settings: Settings | None = None
    proposals: list[Settings] = []
    silent_ns: int = DEFAULT_INTERVAL_MS * 2_500_000
    acts: list[AnyAct] = []
    lookups: dict[str, Lookup] = {}
    links: dict[str, LinkState] = {}
    pings: dict[str, PingState] = {}
    received: dict[str, tuple[int, int]] = {}

    def evolve(self, entry: Entry) -> Self:
        """The state after `entry`; this one stays as it is."""
        grown = self.copy()
        grown.apply(entry)
        return grown

    def copy(self) -> Self:
        """An equal state that shares nothing that `apply` changes."""
        grown = shallow(self)
        grown.acts = self.acts.copy()
        grown.lookups = self.lookups.copy()
        grown.links = self.links.copy()
        grown.pings = self.pings.copy()
        grown.received = self.received.copy()
        return grown

    def apply(self, entry: Entry) -> None:
        """Grow by `entry`, in place. Only for a copy that nobody else holds."""
        index = entry.index
        if index <= self.entries or (entry.feed is not self.feed and entry.feed != self.feed):
            return
        at_ns = entry.effective_ns
        if not self.entries:
            self.first_ns = at_ns
        self.step(entry, index, at_ns)
        self.opaque = entry.event.__class__ is Opaque
        self.entries = index
        self.last_ns = at_ns

    def apply_groups(
        self,
        first: int,
        last: int,
        last_ns: int,
        controls: Sequence[Entry],
        groups: Sequence[Group],
        *,
        unfold: Callable[[str], Iterable[Entry]] | None = None,
    ) -> bool:
        """Grow by a whole record, entries `first` to `last`, exactly as one by one. `controls`: its entries that are no
        pings, ascending; `groups`: its pings, context by context; `last_ns`: the instant of its last entry; `unfold`
        gives the pings to one peer in it, ascending, where groups do not suffice. False, and nothing changed, if they
        do not and there is no `unfold`. Precondition: in the record wall clocks are effective instants.
        """
        if first <= self.entries:
            return False
        linked: dict[str, list[Entry]] = {}
        others: list[Entry] = []
        sweeps: list[int] = []
        if controls:
            for place, entry in enumerate(controls):
                kind = entry.event.__class__
                if kind in LINKED:
                    linked.setdefault(entry.event.peer, []).append(entry)  # type: ignore[union-attr]
                else:
                    others.append(entry)
                    if kind in SWEEPING:
                        sweeps.append(place)
        if sweeps:
            return self._swept(sweeps, last, last_ns, controls, groups, unfold=unfold)
        links, pings, tangled = plan(self.links, self.pings, self.silent_ns, self.unheard, linked=linked, groups=groups)
        if tangled and unfold is None:
            return False
        for peer, entries in linked.items():
            if peer not in pings and peer not in tangled:
                others += entries
        for peer in tangled:
            others += heapq.merge(linked.get(peer, ()), unfold(peer) if unfold else (), key=_index)
        if not self.entries:
            self.first_ns = min([group.first_ns for group in groups] + [entry.effective_ns for entry in controls[:1]])
        self.links.update(links)
        self.pings.update(pings)
        for entry in others:
            self.step(entry, entry.index, entry.effective_ns)
        self.opaque = bool(controls) and controls[-1].index == last and controls[-1].event.__class__ is Opaque
        self.entries, self.last_ns = last, last_ns
        return True

    def step(self, entry: Entry, index: int, at_ns: int) -> None:
        """What the event itself changes, wherever its feed ends, in place."""
        event = entry.event
        kind = event.__class__
        change = _CHANGES.get(kind)
        if change is not None:
            change(self, event, index, at_ns)
        elif kind in ACTS:
            self.acts.append(ACTS[kind](event, index, at_ns))

    def _swept(
        self, sweeps: Sequence[int], last: int, last_ns: int, controls: Sequence[Entry], groups: Sequence[Group],
        *, unfold: Callable[[str], Iterable[Entry]] | None,
    ) -> bool:  # fmt: skip
        """A record with controls (at `sweeps`) that touch every peer: what lies between them, one stretch after the other."""
        grown = self.copy()
        rest, begun = list(groups), 0
        for place in [*sweeps, len(controls)]:
            end = controls[place].index if place < len(controls) else last + 1
            part = [group for group in rest if group.last < end]
            rest = [group for group in rest if group.last >= end]
            between = controls[begun:place]
            if any(group.first < end for group in rest):
                return False
            if part or between:
                stop = end - 1
                instants = [group.last_ns for group in part] + [entry.effective_ns for entry in between[-1:]]
                within = partial(_within, unfold, grown.entries, end) if unfold is not None else None
                first = min([group.first for group in part] + [entry.index for entry in between[:1]])
                if not grown.apply_groups(first, stop, max(instants), between, part, unfold=within):
                    return False
            if place < len(controls):
                grown.apply(controls[place])
            begun = place + 1
        grown.last_ns = last_ns
        for name in self.__struct_fields__:
            setattr(self, name, getattr(grown, name))
        return True

    @property
    def interval_ms(self) -> int:
        """The ping interval that this feed itself recorded."""
        return self.settings.ping_interval_ms if self.settings else DEFAULT_INTERVAL_MS

    @property
    def unheard(self) -> LinkState:
        """The link to a peer about which the feed says its first word."""
        return LinkState("unknown", None, self.started_ns, self.started) if self.started else UNHEARD

    def held(self) -> dict[str, int]:
        """By feed id, how many entries of other feeds were held, as this feed said last."""
        said = dict(self.received)
        for ping in self.pings.values():
            if ping.feed is not None and ping.held is not None and ping.stated > said.get(ping.feed, (0, 0))[1]:
                said[ping.feed] = ping.held, ping.stated
        return {feed: count for feed, (count, _index) in said.items()}


def _within(unfold: Callable[[str], Iterable[Entry]], after: int, before: int, peer: str) -> list[Entry]:
    """The pings to `peer` with indexes between the two."""
    return [entry for entry in unfold(peer) if after < entry.index < before]


def _answered(state: FeedState, event: ev.PingAnswered, index: int, at_ns: int) -> None:
    peer = event.peer
    ping, link = state.pings.get(peer, NONE), state.links.get(peer, UNHEARD)
    now = link_room.answered(link, ping, index, at_ns, state.silent_ns, name=event.link)
    if now is not link:
        state.links[peer] = now
    if event.held is not None and event.feed is not None and event.feed != ping.feed:
        _keep_held(state, ping)
    state.pings[peer] = ping_room.answered(ping, 1, index, at_ns, rtt_us=event.rtt_us, feed=event.feed, held=event.held)


def _failed(state: FeedState, event: ev.PingFailed, index: int, at_ns: int) -> None:
    peer = event.peer
    ping, link = state.pings.get(peer, NONE), state.links.get(peer) or state.unheard
    state.links[peer] = link_room.ping_failed(link, ping, at_ns, state.silent_ns)
    if event.held is not None and event.feed is not None and event.feed != ping.feed:
        _keep_held(state, ping)
    state.pings[peer] = ping_room.failed(
        ping, 1, index, at_ns, reason=event.reason, linkless=event.link is None, feed=event.feed, held=event.held,
        first=(at_ns, index), established=link.good,
    )  # fmt: skip


def _keep_held(state: FeedState, ping: PingState) -> None:
    """The peer's feed is another from here: what was held of the one before is kept."""
    if ping.feed is not None and ping.held is not None and ping.stated > state.received.get(ping.feed, (0, 0))[1]:
        state.received[ping.feed] = ping.held, ping.stated


def _linked(state: FeedState, event: Any, index: int, at_ns: int) -> None:
    link, ping = state.links.get(event.peer, UNHEARD), state.pings.get(event.peer)
    state.links[event.peer] = linked_by(link, ping, event, index, at_ns, silent_ns=state.silent_ns)


def _opened(state: FeedState, event: ev.FeedOpened, index: int, at_ns: int) -> None:
    state.opening = Opening(index, at_ns, event.why, event.lost_from, event.lost_until)


def _started(state: FeedState, event: ev.NodeStarted, index: int, at_ns: int) -> None:
    state.crashed = state.lifecycle != "stopped" and state.entries > 0
    state.lifecycle, state.lifecycle_ns, state.lifecycle_index = "running", at_ns, index
    state.started_ns, state.started, state.boot = at_ns, index, event.boot
    state.software = event.software or state.software
    for peer, link in state.links.items():
        state.links[peer] = link_room.started(link, index, at_ns)


def _stopped(state: FeedState, _event: ev.NodeStopped, index: int, at_ns: int) -> None:
    state.lifecycle, state.lifecycle_ns, state.lifecycle_index = "stopped", at_ns, index


def _settings(state: FeedState, event: ev.SettingsChanged, index: int, at_ns: int) -> None:
    proposal = Settings(
        index, at_ns, event.generation, event.ping_interval_ms, event.ping_timeout_ms, event.lost_after,
        event.connections_max, event.machines_max, event.flaps_max, event.flap_window_ms,
    )  # fmt: skip
    state.proposals = [*state.proposals, proposal]  # a copy's list stays as it was
    if state.settings is None or proposal.generation >= state.settings.generation:
        state.settings = proposal
        state.silent_ns = silence_ns(event.ping_interval_ms)


def _resolved(state: FeedState, event: ev.NameResolved | ev.NameFailed, index: int, at_ns: int) -> None:
    failed = isinstance(event, ev.NameFailed) or event.outcome != "answered"
    state.lookups[f"{event.direction} {event.name}"] = Lookup(index, at_ns, event.outcome, failed, tuple(event.answers))


def _received(state: FeedState, event: ev.FeedReceived, index: int, _at_ns: int) -> None:
    state.received[event.feed] = event.held, index


def _version(state: FeedState, event: ev.VersionChanged, _index: int, _at_ns: int) -> None:
    state.software = event.new


def _note(state: FeedState, _event: ev.NoteAdded, _index: int, _at_ns: int) -> None:
    state.notes += 1


_CHANGES: Final[dict[type, Callable[[FeedState, Any, int, int], None]]] = {
    ev.PingAnswered: _answered,
    ev.PingFailed: _failed,
    ev.LinkEstablished: _linked,
    ev.LinkLost: _linked,
    ev.LinkFailed: _linked,
    ev.FeedOpened: _opened,
    ev.NodeStarted: _started,
    ev.NodeStopped: _stopped,
    ev.SettingsChanged: _settings,
    ev.NameResolved: _resolved,
    ev.NameFailed: _resolved,
    ev.FeedReceived: _received,
    ev.VersionChanged: _version,
    ev.NoteAdded: _note,
}

LINKED: Final = frozenset((ev.LinkEstablished, ev.LinkLost, ev.LinkFailed))
SWEEPING: Final = frozenset((ev.NodeStarted, ev.SettingsChanged))
"""Kinds that touch every peer."""
_index = attrgetter("index")
