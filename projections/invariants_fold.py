"""Invariants that judge the shipped fold where a log ends (A8, A17, A18, B2, B4, B6, B7, B12): is it what it must be?

Each says again, in its own plain words and by its own means, what an answer of `Cluster` must be, and compares. They hold in
every log, correct or hostile, so long as the fold is right; what of the mesh itself is odd is found by others, but for B6, which
also names whom nobody ever looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

from ledger.entry import Entry
from ledger.identity import Feed, parse_position
from projections.acts import Join, KeyChange, Removal, Rename
from projections.cluster import Cluster
from projections.communicating import name_failed
from projections.feed_state import FeedState
from projections.monitor import Horizon, Monitor, Rule, Severity, Witness
from projections.route_table import RouteTable
from projections.views import Pair

Finding = tuple[str, str, Severity | None] | bool | None
"""A position, what is wrong there and its class (None: the rule's); True: as it must be; None: it cannot be told."""
TRIED_MAX: Final = 20
"""So many machines at most are taken for trying every single link of a mesh."""


class AtEnd(Monitor):
    """Judges the join of all folds where the log ends, by a function that gives its findings."""

    mesh = True

    def __init__(self, rule: Rule, findings: Callable[[Horizon], Iterator[Finding]]) -> None:
        super().__init__(rule)
        self.findings = findings

    def end(self, horizon: Horizon) -> None:
        """Each finding counts as one test."""
        for found in self.findings(horizon):
            if found is None:
                self.tally.uncovered += 1
            elif isinstance(found, bool):
                self.tally.judged += 1
            else:
                self.tally.violate(Witness(horizon.cluster.at_ns, found[0], found[1], (), found[2]))


def _somewhere(cluster: Cluster, machine: str) -> str:
    """A position that stands for what is said of a machine."""
    state = cluster.speakers.get(machine)
    if state is not None:
        return state.feed.at(state.entries)
    view = cluster.machines.get(machine)
    return view.since_pos if view is not None else f"{machine}#0"


def _members_only(horizon: Horizon) -> Iterator[Finding]:
    cluster = horizon.cluster
    members = set(cluster.members)
    for what, keys in (("links", cluster.links), ("pairs", cluster.pairs), ("routes", cluster.routes)):
        strange = sorted({name for pair in keys for name in pair} - members)
        yield (
            (_somewhere(cluster, strange[0]), f"the fold's {what} name {strange[0]}, who is no member", None) if strange else True
        )


def members_only() -> Monitor:
    """A8."""
    says = "Links, pairs and routes name members only, whatever is said of others."
    return AtEnd(Rule("A8", "members only", "software", says), _members_only)


def _unresolvable(horizon: Horizon) -> Iterator[Finding]:
    cluster = horizon.cluster
    for name, member in cluster.membership.machines.items():
        if member.joins and member.hostname is not None and name_failed(f"forward {member.hostname}", cluster.speakers):
            view = cluster.machines.get(name)
            wrong = view is None or not view.member or name not in cluster.members
            yield (
                (member.since, f"{name} has a join that stands, and the fold does not call it a member", None) if wrong else True
            )


def unresolvable_member() -> Monitor:
    """A17."""
    says = "A machine whose host name does not resolve remains a member: DNS takes nobody out."
    return AtEnd(Rule("A17", "unresolvable, and a member", "software", says), _unresolvable)


class RenameKeepsIdentity(Monitor):
    """A18."""

    folds = frozenset({"hostname.changed"})
    compares = True

    def __init__(self) -> None:
        says = "A new host name changes nothing but the name: links, pings and the machine itself stay what they were."
        super().__init__(Rule("A18", "a rename keeps identity", "software", says))

    def folded(self, entry: Entry, before: FeedState | None, after: FeedState) -> None:
        """The same links and pings, and one act more."""
        if before is None:
            return
        kept = before.links == after.links and before.pings == after.pings and before.feed == after.feed
        if kept and before.acts == after.acts[:-1] and before.lifecycle == after.lifecycle:
            self.tally.judged += 1
        else:
            self.violate(entry, "the fold has other links or pings after a rename")


def _in_any_order(horizon: Horizon) -> Iterator[Finding]:
    cluster = horizon.cluster
    feeds = list(cluster.states)
    if not feeds:
        return
    for order in (feeds[::-1], feeds[1:] + feeds[:1]):
        other = Cluster(
            {feed: cluster.states[feed] for feed in order}, cluster.ends, cluster.at_ns, cluster.resumed, cluster.contradicted
        )
        for what in ("members", "machines", "links", "pairs", "routes", "coverage", "settings", "name"):
            same = getattr(cluster, what) == getattr(other, what)
            yield True if same else (feeds[0].at(1), f"the fold has other {what} when feeds are read in another order", None)


def arrival_independence() -> Monitor:
    """B2."""
    says = "Whatever the order in which feeds arrive, the views are the same."
    return AtEnd(Rule("B2", "arrival does not matter", "software", says), _in_any_order)


def _unknown_stays(horizon: Horizon) -> Iterator[Finding]:
    cluster = horizon.cluster
    for (a, b), view in cluster.links.items():
        state = cluster.speakers.get(a)
        good = view.good
        if state is None:
            yield True if view.state == "unknown" else (_somewhere(cluster, b), f"{a}:{b} is {view.state}, without a feed", None)
        elif view.state == "up":
            stale = good is None or good[1] <= state.started
            yield (
                (state.feed.at(max(state.started, 1)), f"{a}:{b} is up without evidence since the start", None) if stale else True
            )
    for (a, b), said in cluster.pairs.items():
        if not {a, b} <= cluster.covered and said not in {"uncovered", "planned"}:
            yield (_somewhere(cluster, a), f"{a}={b} is {said}, though a side is not covered", None)
        else:
            yield True


def unknown_stays_unknown() -> Monitor:
    """B4."""
    says = "Without a feed that covers it a link is unknown and a pair uncovered; nothing is up by default."
    return AtEnd(Rule("B4", "unknown stays unknown", "software", says), _unknown_stays)


def _complete(horizon: Horizon) -> Iterator[Finding]:
    cluster = horizon.cluster
    names, links = cluster.members, cluster.links
    expected = {(a, b) for a in names for b in names if a != b}
    if set(links) != expected:
        odd = min(set(links) ^ expected)
        yield _somewhere(cluster, odd[0]), f"the fold has {len(links)} links of {len(expected)}, such as not {odd}", "software"
    for a, b in sorted(expected & set(links)):
        state = cluster.speakers.get(a)
        if state is None:
            yield None
            continue
        known = b in state.links or b in state.pings
        since_ns = max(cluster.machines[a].since_ns, cluster.machines[b].since_ns, state.first_ns)
        waited_ns = horizon.end_ns.get(state.feed, state.last_ns) - since_ns
        if known:
            yield True
        elif (
            waited_ns > 5 * horizon.pace.interval_ns(since_ns, since_ns) // 2
            and a not in cluster.planned
            and state.boot is not None
        ):
            yield state.feed.at(state.entries), f"{a} never said a word about {b}", None
        else:
            yield None


def completeness() -> Monitor:
    """B6."""
    says = "Of n members there are n(n-1) links, each of which is up, down or unknown; nobody is overlooked by a node that runs."
    return AtEnd(Rule("B6", "the mesh is complete", "mesh", says), _complete)


def _reaching(start: str, up: set[Pair]) -> set[str]:
    reached, more = {start}, True
    while more:
        fresh = {b for a, b in up if a in reached} | {a for a, b in up if b in reached}
        more = not fresh <= reached
        reached |= fresh
    return reached


def _routes(horizon: Horizon) -> Iterator[Finding]:
    cluster = horizon.cluster
    up = {pair for pair, state in cluster.pairs.items() if state == "up"}
    best = up | {pair for pair, state in cluster.pairs.items() if state in {"unknown", "uncovered"}}
    for a in cluster.members:
        now, ever = _reaching(a, up), _reaching(a, best)
        for b in cluster.members:
            if a == b:
                continue
            route = cluster.routes[a, b]
            if isinstance(route, tuple):
                sound = route[0] == a and route[-1] == b and len(set(route)) == len(route)
                sound = sound and all((min(hop), max(hop)) in up for hop in pairwise(route))
            else:
                sound = b not in now and (route is None) == (b not in ever)
            yield True if sound else (_somewhere(cluster, a), f"the fold's route from {a} to {b} is {route}", None)
    yield from _single_losses(cluster)


def _single_losses(cluster: Cluster) -> Iterator[Finding]:
    """A full mesh of the members, with each link taken out in turn."""
    names = cluster.members[:TRIED_MAX]
    every = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    for lost in every if len(names) > 2 else ():
        table = RouteTable(names, [pair for pair in every if pair != lost])
        for pair in (lost, lost[::-1]):
            route = table[pair]
            around = isinstance(route, tuple) and len(route) == 3
            yield True if around else (_somewhere(cluster, lost[0]), f"without {lost[0]}={lost[1]} its route is {route}", None)


def one_loss_isolates_nobody() -> Monitor:
    """B7."""
    says = "Routes are loop-free, over pairs that are up, wherever there is a way; one lost link of a full mesh isolates nobody."
    return AtEnd(Rule("B7", "one loss isolates nobody", "software", says), _routes)


def _precedence(horizon: Horizon) -> Iterator[Finding]:
    cluster = horizon.cluster
    named: set[tuple[str, int]] = set()
    joins: list[tuple[Feed, Join]] = []
    removals = [act for state in cluster.states.values() for act in state.acts if isinstance(act, Removal)]
    for feed, state in cluster.states.items():
        joins += [(feed, act) for act in state.acts if isinstance(act, Join)]
    for removal in removals:
        for text in removal.joins:
            position = parse_position(text)
            named |= {
                (feed.id, join.index)
                for feed, join in joins
                if position is not None
                and position.names(feed)
                and position.index == join.index
                and join.machine == removal.machine
            }
    for feed, join in joins:
        if (feed.id, join.index) in named or not cluster.membership.counts(feed, join.index):
            continue
        member = cluster.membership.machines.get(join.machine)
        stands = member is not None and member.member and feed.at(join.index) in member.joins
        yield (
            True if stands else (feed.at(join.index), f"no leave names this join of {join.machine}, and it does not stand", None)
        )
    for machine, member in cluster.membership.machines.items():
        yield from _newest(cluster, machine)
        if member.member:
            yield from _name(cluster, machine, [(feed, join) for feed, join in joins if feed.at(join.index) in member.joins])


def _newest(cluster: Cluster, machine: str) -> Iterator[Finding]:
    """Links are those of the newest epoch."""
    own = [feed for feed in cluster.membership.machines[machine].feeds if cluster.states[feed].entries]
    state = cluster.speakers.get(machine)
    if own and state is not None:
        newest = max(feed.epoch for feed in own)
        yield (
            True
            if state.feed.epoch == newest
            else (state.feed.at(1), f"{machine} speaks by an older feed than epoch {newest}", None)
        )


def _name(cluster: Cluster, machine: str, joins: list[tuple[Feed, Join]]) -> Iterator[Finding]:
    """A rename in an epoch from before the newest join is none of the machine admitted by it."""
    member = cluster.membership.machines[machine]
    if not joins:
        return
    feed, newest = max(joins, key=lambda pair: (pair[1].at_ns, pair[0].machine, pair[0].epoch, pair[1].index, pair[0].id))
    own = [(state.feed, act) for other in member.feeds for state in [cluster.states[other]] for act in state.acts]
    renames = [(each, act) for each, act in own if isinstance(act, Rename)]
    admitted = [each.epoch for each in member.feeds if each.ledger_key == newest.ledger_key or each == feed]
    changed = any(isinstance(act, KeyChange) and act.role == "ledger" for _each, act in own)
    if not renames or not admitted or changed or len({each.epoch for each in member.feeds}) < len(member.feeds):
        return
    if all(each.epoch < min(admitted) for each, _act in renames):
        right = member.hostname == newest.hostname
        what = f"{machine} is called {member.hostname} by a rename of an older epoch, its join says {newest.hostname}"
        yield True if right else (feed.at(newest.index), what, None)


def precedence() -> Monitor:
    """B12."""
    says = "What was said of an earlier epoch or join of a machine never changes a later one."
    return AtEnd(Rule("B12", "later epochs stand alone", "software", says), _precedence)
