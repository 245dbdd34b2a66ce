"""The whole mesh at a moment: a value that is asked who is in, what is up, and how one gets from here to there.

A `Cluster` is the join of the feeds' folds, each cut at the moment, with what only a reader of the whole can know: where each
feed ends (`ends`), which resume right after the cut with a `node.started` (`resumed`), and which contradict themselves
(`contradicted`). If it is what one machine knew (`belief`), `view` says whose, and which instant the moment is on each feed's
clock. Every answer is derived, once, when it is first asked for. Two clusters are equal if they were made of
equal parts; the order in which feeds came cannot matter. `fold(Cluster(), entries)` works by itself: the moment is then
the greatest instant, and each feed ends with its last entry.

No effects, no clock: the moment is an argument.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Self

from ledger.entry import Entry
from ledger.identity import Feed
from projections import coverage
from projections.communicating import Contact, contacts, name_failed
from projections.feed_state import FeedState
from projections.links import link_at
from projections.membership import Member, Membership, members
from projections.particulars import DEFAULT_INTERVAL_MS, Settings
from projections.pings import PingState, joined
from projections.route_table import RouteTable
from projections.views import UNSEEN, Coverage, LinkView, MachineView, Pair, PairState, View

_NONE: frozenset[Feed] = frozenset()


class Cluster:
    """The mesh at `at_ns`. `states`: each feed's fold, cut there; `ends`: the instant of each feed's last entry as known (if
    not given, that of the cut); `resumed`, `contradicted`, `view`: see above. Treat it as frozen.
    """

    def __init__(
        self,
        states: Mapping[Feed, FeedState] | None = None,
        ends: Mapping[Feed, int] | None = None,
        at_ns: int | None = None,
        resumed: Collection[Feed] = _NONE,
        contradicted: Collection[Feed] = _NONE,
        *,
        view: View | None = None,
    ) -> None:
        self.states: dict[Feed, FeedState] = dict(states or {})
        self.ends: dict[Feed, int] = dict(ends or {})
        self._at_ns = at_ns
        self.resumed = frozenset(resumed)
        self.contradicted = frozenset(contradicted)
        self.view = view

    @property
    def at_ns(self) -> int:
        """The moment: as given, else the greatest instant, else 0."""
        if self._at_ns is not None:
            return self._at_ns
        return max((state.last_ns for state in self.states.values() if state.entries), default=0)

    def end_ns(self, feed: Feed) -> int:
        """The instant of the feed's last entry as known."""
        last_ns = self.states[feed].last_ns
        return max(last_ns, self.ends.get(feed, last_ns))

    def now_ns(self, feed: Feed) -> int:
        """The moment, on the feed's own clock."""
        return self.at_ns if self.view is None else self.view.clocks.get(feed, self.at_ns)

    def lacks(self, feed: Feed) -> bool:
        """Whether entries of the feed that its reader had received are not at hand."""
        return self.view is not None and feed.id in self.view.lacking

    def evolve(self, entry: Entry) -> Self:
        """The cluster after `entry`; this one stays as it is."""
        feed = entry.feed
        state = (self.states.get(feed) or FeedState(feed)).evolve(entry)
        at_ns = None if self._at_ns is None else max(self._at_ns, state.last_ns)
        return type(self)(
            {**self.states, feed: state}, self.ends, at_ns, self.resumed - {feed}, self.contradicted, view=self.view
        )

    def copy(self) -> Self:
        """An equal cluster that shares nothing that `apply` changes."""
        states = {feed: state.copy() for feed, state in self.states.items()}
        return type(self)(states, self.ends, self._at_ns, self.resumed, self.contradicted, view=self.view)

    def apply(self, entry: Entry) -> None:
        """Grow by `entry`, in place. Only for a copy that nobody else holds and nobody has asked."""
        feed = entry.feed
        state = self.states.get(feed)
        if state is None:
            state = self.states[feed] = FeedState(feed)
        state.apply(entry)
        if self._at_ns is not None and state.last_ns > self._at_ns:
            self._at_ns = state.last_ns
        if self.resumed:
            self.resumed -= {feed}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cluster):
            return NotImplemented
        return (
            self.states == other.states
            and self.at_ns == other.at_ns
            and self.resumed == other.resumed
            and self.contradicted == other.contradicted
            and self.view == other.view
            and all(self.end_ns(feed) == other.end_ns(feed) for feed in self.states)
        )

    __hash__ = None  # type: ignore[assignment]  # its equality looks at tables, which have none

    def __repr__(self) -> str:
        return f"Cluster(at_ns={self.at_ns}, states={self.states!r})"

    @cached_property
    def membership(self) -> Membership:
        """Who is in, and by whose word."""
        return members([(feed, state.acts) for feed, state in self.states.items()])

    @cached_property
    def members(self) -> list[str]:
        """The members' names, ascending."""
        return self.membership.names

    @cached_property
    def settings(self) -> Settings | None:
        """The settings in force: of those that count the highest generation, then the smaller machine name, then the
        later epoch; None if none were recorded, and then the defaults of `settings.changed` hold.
        """
        found = [
            (-proposal.generation, feed.machine, -feed.epoch, feed.id, -proposal.index, proposal)
            for feed, state in self.states.items()
            for proposal in state.proposals
            if self.membership.counts(feed, proposal.index)
        ]
        return min(found, key=lambda row: row[:5])[5] if found else None

    @property
    def interval_ns(self) -> int:
        """The ping interval in force."""
        return (self.settings.ping_interval_ms if self.settings else DEFAULT_INTERVAL_MS) * 1_000_000

    @property
    def name(self) -> str | None:
        """The cluster's name, if its creation is recorded."""
        return self.membership.created.name if self.membership.created else None

    @cached_property
    def incarnation(self) -> str | None:
        """The incarnation id that the feeds bear; of several, which no ledger mixes, the first in their order."""
        return min((feed.incarnation for feed in self.states), default=None)

    @property
    def transport(self) -> str | None:
        """`ssh` or `ccs`, if the creation is recorded."""
        return self.membership.created.transport if self.membership.created else None

    @property
    def addressing(self) -> str | None:
        """`name` or `address`, if the creation is recorded."""
        return self.membership.created.addressing if self.membership.created else None

    @property
    def dissolved(self) -> bool:
        """Whether there were members and are none."""
        return self.membership.dissolved

    @cached_property
    def speakers(self) -> dict[str, FeedState]:
        """For each machine that ever counted, its own feed of the newest epoch with an entry."""
        return {machine: states[-1] for machine, states in self._own.items()}

    @cached_property
    def _own(self) -> dict[str, list[FeedState]]:
        """The feeds of each machine that have an entry, by epoch; machines without one are missing."""
        found = {}
        for machine, member in self.membership.machines.items():
            own = [self.states[feed] for feed in member.feeds if self.states[feed].entries]
            if own:
                found[machine] = own
        return found

    def _earlier(self, observer: str) -> dict[str, PingState]:
        """What pinging each peer came to in the observer's earlier epochs."""
        found: dict[str, PingState] = {}
        for state in self._own.get(observer, ())[:-1]:
            for peer, ping in state.pings.items():
                found[peer] = joined(found[peer], ping) if peer in found else ping
        return found

    @cached_property
    def coverage(self) -> dict[str, Coverage | None]:
        """How far each member's feed carries; None for a member without a feed."""
        return {machine: self._coverage(self.speakers.get(machine)) for machine in self.members}

    def _coverage(self, state: FeedState | None) -> Coverage | None:
        if state is None:
            return None
        feed, end_ns = state.feed, self.end_ns(state.feed)
        covered = coverage.covered_at(state, self.now_ns(feed), end_ns, self.interval_ns, resumed=feed in self.resumed)
        return Coverage(feed.at(state.entries), state.last_ns, covered and not self.lacks(feed))

    @cached_property
    def covered(self) -> frozenset[str]:
        """The members whose feed covers the moment."""
        return frozenset(machine for machine, found in self.coverage.items() if found is not None and found.covered)

    @cached_property
    def links(self) -> dict[Pair, LinkView]:
        """All links between members, (observer, peer), by name."""
        found: dict[Pair, LinkView] = {}
        names, silent_ns = self.members, self.interval_ns * 5 // 2
        for observer in names:
            state = self.speakers.get(observer)
            if state is None or self.lacks(state.feed):
                for peer in names:
                    found[observer, peer] = UNSEEN
            else:
                feed, at_ns, end_ns = state.feed, self.now_ns(state.feed), self.end_ns(state.feed)
                heard = min(at_ns, end_ns) - silent_ns
                links, pings, earlier = state.links, state.pings, self._earlier(observer).get
                for peer in names:
                    link, ping = links.get(peer), pings.get(peer)
                    if link is None:
                        found[observer, peer] = LinkView("unknown", None, 0, 0, feed, None, ping, earlier(peer))
                        continue
                    now = link
                    if link.state == "up" and (ping.last_ns if ping and ping.last > link.evidence else link.evidence_ns) <= heard:
                        now = link_at(link, ping, at_ns, end_ns, silent_ns)
                    found[observer, peer] = LinkView(
                        now.state, now.reason, now.since, now.since_ns, feed, link, ping, earlier(peer)
                    )
            del found[observer, observer]
        return found

    def link(self, observer: str, peer: str) -> LinkView:
        """One link; also of former members and strangers, as far as the observer's own feed speaks of it."""
        found = self.links.get((observer, peer))
        if found is not None:
            return found
        state = self.speakers.get(observer)
        link = state.links.get(peer) if state else None
        if state is None or link is None or self.lacks(state.feed):
            return UNSEEN
        ping = state.pings.get(peer)
        now = link_at(link, ping, self.now_ns(state.feed), self.end_ns(state.feed), self.interval_ns * 5 // 2)
        return LinkView(now.state, now.reason, now.since, now.since_ns, state.feed, link, ping, self._earlier(observer).get(peer))

    @cached_property
    def pairs(self) -> dict[Pair, PairState]:
        """All pairs of members, (a, b) with a < b."""
        found: dict[Pair, PairState] = {}
        names, links, planned, covered = self.members, self.links, self.planned, self.covered
        for place, a in enumerate(names):
            for b in names[place + 1 :]:
                if a in planned or b in planned:
                    found[a, b] = "planned"
                elif a not in covered or b not in covered:
                    found[a, b] = "uncovered"
                else:
                    there, back = links[a, b].state, links[b, a].state
                    if there == back:
                        found[a, b] = there
                    else:
                        found[a, b] = "unknown" if "unknown" in {there, back} else "asymmetric"
        return found

    def pair(self, a: str, b: str) -> PairState:
        """One pair, in either order, of any two machines."""
        machines = self.membership.machines
        if not all(name in machines and machines[name].member for name in (a, b)):
            return "absent"
        return self.pairs[min(a, b), max(a, b)]

    @cached_property
    def planned(self) -> frozenset[str]:
        """The members that are administratively disconnected."""
        return frozenset(name for name, m in self.membership.machines.items() if m.member and m.disconnected)

    @cached_property
    def routes(self) -> RouteTable:
        """From each member to each: a path, None, or `"unknown"`."""
        up = [pair for pair, state in self.pairs.items() if state == "up"]
        maybe = [pair for pair, state in self.pairs.items() if state in {"unknown", "uncovered"}]
        return RouteTable(self.members, up, maybe)

    @cached_property
    def machines(self) -> dict[str, MachineView]:
        """Every machine that ever had a counting join, by name."""
        return {name: self._machine(member) for name, member in self.membership.machines.items()}

    def _machine(self, member: Member) -> MachineView:
        communicating: bool | None = False
        cause = member.cause
        if member.member:
            communicating = True if len(self.members) == 1 else self._contact[member.machine].state
            cause = None if communicating else self._cause(member)
        return MachineView(member.member, communicating, cause, member.hostname, member.since_ns, member.since)

    @cached_property
    def _contact(self) -> dict[str, Contact]:
        return contacts(self.members, self.links, self.covered)

    def _cause(self, member: Member) -> str | None:
        if member.disconnected:
            return "disconnected"
        if member.hostname is not None and name_failed(f"forward {member.hostname}", self.speakers):
            return "name-unresolvable"
        return self._contact[member.machine].reason
