"""Who is in, under which name and keys, since when, and by whose word.

An observed-remove set with authority (DESIGN section 7). Each feed's fold collects its *acts*; `members` judges them all
together, in three passes that only ever add, so that the order of feeds cannot matter:

1. who was *ever admitted*: reached from the root through joins, ended or not. Their removals stand;
2. which removals end which joins;
3. which acts *count*: an act of a machine at index i counts if a counting join of it has `from` < i and no standing
   removal of that join names fewer than i entries held. A join counts if the act of writing it does. Both name the epoch
   that they count in: what lies in later ones lies beyond, in earlier ones before.

The root is the first own join after the `cluster.created` to whose key the incarnation id commits. Imports have no keys:
there each feed's own join is a root. A feed is a machine's only if a counting join or `key.changed` names its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from ledger.identity import IMPORTED, Feed, incarnation_id, parse_position
from projections.acts import AnyAct, Created, Join, KeyChange, Plan, Removal, Rename, order

Place = tuple[str, int]
Bound = tuple[int | None, int]
"""An epoch of a machine, and an index in it; without an epoch, that index in any."""
Grant = tuple[Bound, tuple[Bound, ...]]
"""Acts beyond the first bound count, and none beyond any of the others."""


class Member(msgspec.Struct, frozen=True, gc=False):
    """A machine that ever had a counting join. `member`: whether it is one now. `since`: the position of the join, or of the
    removal, that made it so. `joins`: the joins that stand; two that stand for different machines are `twins`, a finding.
    """

    machine: str
    member: bool
    since_ns: int
    since: str
    joins: tuple[str, ...]
    twins: bool
    hostname: str | None
    port: int
    account: str | None
    host_key: str | None
    dial_key: str | None
    ledger_key: str | None
    cause: str | None
    by: str | None
    disconnected: bool
    planned_ns: int | None
    planned: str | None
    feeds: tuple[Feed, ...]


class Membership(msgspec.Struct, frozen=True):
    """All machines that ever counted, by name; the root's word on the cluster; whether it is dissolved."""

    machines: dict[str, Member]
    created: Created | None
    dissolved: bool
    grants: dict[str, tuple[Grant, ...]]
    """Per machine one for each counting join of it."""

    @property
    def names(self) -> list[str]:
        """The members, by name."""
        return [name for name, member in self.machines.items() if member.member]

    def counts(self, feed: Feed, index: int) -> bool:
        """Whether an act at this place counts."""
        member = self.machines.get(feed.machine)
        return member is not None and feed in member.feeds and granted(self.grants[feed.machine], feed, index)


def beyond(feed: Feed, index: int, bound: Bound) -> bool:
    """Whether an act of a machine at `index` of this feed of it lies beyond a bound."""
    epoch, held = bound
    return index > held if epoch is None else (feed.epoch, index) > (epoch, held)


def granted(grants: Iterable[Grant], feed: Feed, index: int) -> bool:
    """Whether an act at `index` of a machine's feed counts by one of the joins behind its `grants`."""
    return any(beyond(feed, index, start) and not any(beyond(feed, index, limit) for limit in limits) for start, limits in grants)


def _imported(feed: Feed) -> bool:
    return feed.ledger_key is None and feed.incarnation.startswith(IMPORTED)


def is_root(feed: Feed, act: Created) -> bool:
    """Whether this `cluster.created` is what its incarnation id commits to."""
    return (
        feed.ledger_key is not None
        and act.incarnation == feed.incarnation
        and act.incarnation == incarnation_id(act.name, act.transport, act.addressing, feed.ledger_key, act.salt)
    )


class _Judgement:
    """The three passes over the acts of all feeds. A place is (id of the feed, index)."""

    def __init__(self, feeds: Iterable[tuple[Feed, Sequence[AnyAct]]]) -> None:
        self.feeds = sorted(feeds, key=_by_feed)
        self.created: tuple[Feed, Created] | None = None
        self.joins: dict[Place, tuple[Feed, Join]] = {}
        self.roots: list[Place] = []
        self.root_feeds: set[str] = set()
        self.removing = False
        for feed, acts in self.feeds:
            self._collect(feed, acts)
        self.limits: dict[Place, set[Bound]] = {}
        self.removals: dict[Place, list[tuple[Feed, Removal]]] = {}
        if self.removing:
            self._remove(self._ever())
        self.counting: dict[str, list[Place]] = {}
        self.grants: dict[str, list[Grant]] = {}
        self.keys: set[tuple[str, str | None]] = set()
        self._count()

    def _collect(self, feed: Feed, acts: Sequence[AnyAct]) -> None:
        imported = _imported(feed)
        founded = rooted = False
        for act in acts:
            if isinstance(act, Join):
                place = (feed.id, act.index)
                self.joins[place] = feed, act
                if act.machine == feed.machine and (imported or (founded and not rooted)):
                    rooted = True
                    self.roots.append(place)
            elif isinstance(act, Removal):
                self.removing = True
            elif isinstance(act, Created) and (imported or is_root(feed, act)):
                if not imported:
                    founded = True
                    self.root_feeds.add(feed.id)
                if self.created is None or order(feed, act) < order(*self.created):
                    self.created = feed, act

    def own(self, feed: Feed, keys: set[tuple[str, str | None]]) -> bool:
        """Whether a feed is its machine's, as far as these (machine, key) pairs are named."""
        if feed.ledger_key is None:
            return _imported(feed)
        return (feed.machine, feed.ledger_key) in keys or feed.id in self.root_feeds

    def _ever(self) -> list[tuple[Feed, Sequence[AnyAct]]]:
        """The feeds of machines that were ever admitted."""
        roots = [self.joins[place][1] for place in self.roots]
        reached = {join.machine for join in roots}
        keys: set[tuple[str, str | None]] = {(join.machine, join.ledger_key) for join in roots}
        waiting = self.feeds
        found: list[tuple[Feed, Sequence[AnyAct]]] = []
        while True:
            ready: list[tuple[Feed, Sequence[AnyAct]]] = []
            rest: list[tuple[Feed, Sequence[AnyAct]]] = []
            for pair in waiting:
                (ready if pair[0].machine in reached and self.own(pair[0], keys) else rest).append(pair)
            if not ready:
                return found
            waiting = rest
            found += ready
            for feed, acts in ready:
                for act in acts:
                    if isinstance(act, Join):
                        reached.add(act.machine)
                        keys.add((act.machine, act.ledger_key))
                    elif isinstance(act, KeyChange) and act.role == "ledger":
                        keys.add((feed.machine, act.new))

    def _remove(self, admitted: Iterable[tuple[Feed, Sequence[AnyAct]]]) -> None:
        """Which joins the standing removals end. A removal ends joins of the machine it names, and no others."""
        named: dict[tuple[str, int, int], list[Place]] = {}
        for place, (feed, _join) in self.joins.items():
            named.setdefault((feed.machine, feed.epoch, place[1]), []).append(place)
        for writer, acts in admitted:
            for act in acts:
                if not isinstance(act, Removal):
                    continue
                for text in act.joins:
                    position = parse_position(text)
                    if position is None:
                        continue
                    for place in named.get((position.machine, position.epoch, position.index), ()):
                        feed, join = self.joins[place]
                        if position.names(feed) and join.machine == act.machine:
                            self.limits.setdefault(place, set()).add((act.epoch, act.held))
                            self.removals.setdefault(place, []).append((writer, act))

    def _add(self, place: Place) -> None:
        join = self.joins[place][1]
        self.counting.setdefault(join.machine, []).append(place)
        limits = tuple(sorted(self.limits.get(place, ()), key=_by_bound))
        self.grants.setdefault(join.machine, []).append(((join.epoch, join.held), limits))
        self.keys.add((join.machine, join.ledger_key))

    def _count(self) -> None:
        for place in self.roots:
            self._add(place)
        roots = set(self.roots)
        waiting = [
            (feed, act)
            for feed, acts in self.feeds
            for act in acts
            if (isinstance(act, Join) and (feed.id, act.index) not in roots)
            or (isinstance(act, KeyChange) and act.role == "ledger")
        ]
        while waiting:
            left = []
            for feed, act in waiting:
                if not (self.own(feed, self.keys) and granted(self.grants.get(feed.machine, ()), feed, act.index)):
                    left.append((feed, act))
                elif isinstance(act, Join):
                    self._add((feed.id, act.index))
                elif isinstance(act, KeyChange):
                    self.keys.add((feed.machine, act.new))
            if len(left) == len(waiting):
                return
            waiting = left


def members(feeds: Iterable[tuple[Feed, Sequence[AnyAct]]]) -> Membership:
    """What the acts of all feeds amount to. The order in which the feeds are given cannot matter."""
    return _members(tuple([(feed, tuple(acts)) for feed, acts in feeds]))


@lru_cache(maxsize=16)
def _members(feeds: tuple[tuple[Feed, tuple[AnyAct, ...]], ...]) -> Membership:
    """Acts are rare, moments are many: what was judged is remembered by its content."""
    found = _Judgement(feeds)
    own: dict[str, list[tuple[Feed, Sequence[AnyAct]]]] = {}
    plans: dict[str, tuple[Feed, Plan]] = {}
    for feed, acts in found.feeds:
        grants = found.grants.get(feed.machine)
        if grants is None or not found.own(feed, found.keys):
            continue
        own.setdefault(feed.machine, []).append((feed, acts))
        for act in acts:
            if isinstance(act, Plan) and granted(grants, feed, act.index):
                held = plans.get(act.machine)
                if held is None or order(feed, act) > order(*held):
                    plans[act.machine] = feed, act
    machines = {name: _member(found, name, own.get(name, []), plans.get(name)) for name in sorted(found.counting)}
    return Membership(
        machines,
        found.created[1] if found.created else None,
        bool(machines) and not any(member.member for member in machines.values()),
        {name: tuple(sorted(grants, key=_by_grant)) for name, grants in found.grants.items()},
    )


def _by_feed(pair: tuple[Feed, Sequence[AnyAct]]) -> tuple[str, int, str]:
    return pair[0].machine, pair[0].epoch, pair[0].id


def _by_bound(bound: Bound) -> tuple[int, int]:
    return bound[0] or 0, bound[1]


def _by_grant(grant: Grant) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    start, limits = grant
    return _by_bound(start), [_by_bound(limit) for limit in limits]


def _member(
    found: _Judgement, machine: str, own: Sequence[tuple[Feed, Sequence[AnyAct]]], plan: tuple[Feed, Plan] | None
) -> Member:
    ranked = sorted(found.counting[machine], key=lambda place: order(*found.joins[place]))
    standing = [place for place in ranked if place not in found.removals]
    feed, act = found.joins[(standing or ranked)[0]]
    since, since_ns, cause, by = feed.at(act.index), act.at_ns, None, None
    if not standing:
        writer, last = max((pair for place in ranked for pair in found.removals[place]), key=lambda pair: order(*pair))
        since, since_ns, cause, by = writer.at(last.index), last.at_ns, last.cause, last.by or writer.machine
    newest_feed, newest = found.joins[(standing or ranked)[-1]]
    hostname = newest.hostname
    keys = {"host": newest.host_key, "dial": newest.dial_key, "ledger": newest.ledger_key}
    admitted = [pair[0].epoch for pair in own if pair[0].ledger_key == newest.ledger_key or pair[0] == newest_feed]
    for feed, acts in own:
        at_home = feed.ledger_key == newest.ledger_key or feed == newest_feed
        if not at_home and not any(feed.epoch > epoch for epoch in admitted):
            continue
        for own_act in acts:
            if at_home and not beyond(feed, own_act.index, (newest.epoch, newest.held)):
                continue
            if isinstance(own_act, Rename):
                hostname = own_act.new
            elif isinstance(own_act, KeyChange):
                keys[own_act.role] = own_act.new
    who = {(join.ledger_key, join.dial_key, join.host_key) for _feed, join in map(found.joins.__getitem__, standing)}
    return Member(
        machine=machine,
        member=bool(standing),
        since_ns=since_ns,
        since=since,
        joins=tuple([found.joins[place][0].at(place[1]) for place in standing]),
        twins=len(who) > 1,
        hostname=hostname,
        port=newest.port,
        account=newest.account,
        host_key=keys["host"],
        dial_key=keys["dial"],
        ledger_key=keys["ledger"],
        cause=cause,
        by=by,
        disconnected=plan is not None and plan[1].disconnected,
        planned_ns=plan[1].at_ns if plan else None,
        planned=plan[0].at(plan[1].index) if plan else None,
        feeds=tuple([pair[0] for pair in own]),
    )
