"""Who set it: for a field of a cell the entry that made it what it is at a moment.

A link's fields come from its observer's feed, whose fold keeps the places of what counts: since when, last good, first bad.
A machine's come from the acts that count, and from its own renames and changes of keys after them. A cell that a removal
took away was ended by that removal. What no single entry set (a pair, a route, whether a machine communicates) follows
from others and has no author.

Pure: a cluster in, a place out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ledger.identity import Feed
from projections.acts import AnyAct, Join, KeyChange, Plan, Removal, Rename, order
from projections.cluster import Cluster
from projections.membership import Member, beyond
from projections.views import LinkView, Pair
from replay.cells import KEYS, PING_FIELDS, SETTINGS, Cell

Place = tuple[Feed, int]
"""An entry: its feed and its index."""
_OF_PINGS: Final = frozenset((*PING_FIELDS, "rtt_us"))


def author(cluster: Cluster, cell: Cell | None, field: str) -> Place | None:
    """The entry that made a field what it is at this moment; also of one that is not there any more, if an entry ended it.
    None where no single entry did. `cell` None: the cluster's own.
    """
    if cell is None:
        return _author_of_cluster(cluster, field)
    if cell.kind == "machine":
        member = cluster.membership.machines.get(cell.a)
        return _author_of_machine(cluster, member, field) if member is not None else None
    if cell.kind == "pair":
        return None
    pair = cell.a, cell.b
    view = cluster.links.get(pair)
    return _ended(cluster, pair) if view is None else author_of_link(cluster, pair, view, field)


def author_of_link(cluster: Cluster, pair: Pair, view: LinkView, field: str) -> Place | None:
    """The entry of the observer's feeds that made a field of a link what it is."""
    feed, stood = view.feed, view.link
    if feed is None or field == "route":
        return None
    if field in _OF_PINGS:
        return _author_of_pings(cluster, pair, field)
    if field in {"link", "address"}:
        # Of an up link these are the last establishment's, unless an answer made it up after that.
        index = max(stood.since, stood.good) if stood is not None and view.state == "up" else view.since
    elif field in {"last_good", "first_bad"}:
        index = ((view.good if field == "last_good" else view.bad) or (0, 0))[1]
    else:
        index = view.since
    return (feed, index) if index else None


def _author_of_pings(cluster: Cluster, pair: Pair, field: str) -> Place | None:
    """The last result that counts for the field, in the newest epoch that has one."""
    observer, peer = pair
    member = cluster.membership.machines.get(observer)
    for feed in reversed(member.feeds) if member is not None else ():
        ping = cluster.states[feed].pings.get(peer)
        if ping is None or (field == "rtt_us" and not ping.answered):
            continue
        if field == "lost" and ping.reason is None:
            return None
        return feed, ping.answered if field == "rtt_us" else ping.last
    return None


def _ended(cluster: Cluster, pair: Pair) -> Place | None:
    """What took a link away: the removal of one of its ends, the later one."""
    gone = [cluster.membership.machines.get(name) for name in pair]
    left = [member for member in gone if member is not None and not member.member]
    return _since(cluster, max(left, key=lambda member: member.since_ns)) if left else None


def _author_of_cluster(cluster: Cluster, field: str) -> Place | None:
    if field in SETTINGS:
        for feed, state in cluster.states.items():
            if cluster.settings is not None and any(proposal is cluster.settings for proposal in state.proposals):
                return feed, cluster.settings.index
    elif field in {"name", "transport", "addressing"}:
        created = cluster.membership.created
        for feed, act in _acts(cluster):
            if act is created:
                return feed, act.index
    return None


def _author_of_machine(cluster: Cluster, member: Member, field: str) -> Place | None:
    if field in {"member", "since", "since_pos"}:
        return _since(cluster, member)
    if field == "cause":
        return _author_of_cause(cluster, member)
    if field == "disconnected":
        return _planned(cluster, member)
    if field in {"port", "account"}:
        joined = _newest_join(cluster, member)
        return (joined[0], joined[1].index) if joined else None
    if field == "hostname" or field in KEYS:
        return _author_of_own(cluster, member, field)
    return None


def _since(cluster: Cluster, member: Member) -> Place | None:
    return _act(cluster, member.since, Join if member.member else Removal, member.machine)


def _planned(cluster: Cluster, member: Member) -> Place | None:
    return _act(cluster, member.planned, Plan, member.machine) if member.planned is not None else None


def _author_of_cause(cluster: Cluster, member: Member) -> Place | None:
    if not member.member:
        return _since(cluster, member)
    cause = cluster.machines[member.machine].cause
    if cause == "disconnected":
        return _planned(cluster, member)
    if cause == "name-unresolvable":
        key = f"forward {member.hostname}"
        looked = [(state.lookups[key], name, state) for name, state in cluster.speakers.items() if key in state.lookups]
        lookup, _name, state = max(looked, key=lambda each: (each[0].at_ns, each[1]), default=(None, "", None))
        if lookup is not None and state is not None and lookup.failed:
            return state.feed, lookup.index
    return None


def _author_of_own(cluster: Cluster, member: Member, field: str) -> Place | None:
    """The machine's own last word on a host name or key of its own, else the join that brought it."""
    joined = _newest_join(cluster, member)
    value = getattr(member, field)
    if joined is None or value is None:
        return None
    newest = joined[1]
    for feed in reversed(member.feeds):
        at_home = feed.ledger_key == newest.ledger_key or feed == joined[0]
        for act in reversed(cluster.states[feed].acts):
            said = isinstance(act, Rename) if field == "hostname" else isinstance(act, KeyChange) and act.role == KEYS[field]
            later = not at_home or beyond(feed, act.index, (newest.epoch, newest.held))
            if said and isinstance(act, Rename | KeyChange) and act.new == value and later:
                return feed, act.index
    return joined[0], newest.index


def _newest_join(cluster: Cluster, member: Member) -> tuple[Feed, Join] | None:
    """The latest of the joins that stand; of a former member, of all that counted."""
    found = [
        (feed, act)
        for feed, act in _acts(cluster)
        if isinstance(act, Join)
        and act.machine == member.machine
        and (feed.at(act.index) in member.joins if member.member else cluster.membership.counts(feed, act.index))
    ]
    return max(found, key=lambda each: order(*each), default=None)


def _act(cluster: Cluster, position: str, kind: type[AnyAct], machine: str) -> Place | None:
    """The act about a machine at a position."""
    return next(
        (
            (feed, act.index)
            for feed, act in _acts(cluster)
            if isinstance(act, kind) and getattr(act, "machine", None) == machine and feed.at(act.index) == position
        ),
        None,
    )


def _acts(cluster: Cluster) -> Iterator[tuple[Feed, AnyAct]]:
    return ((feed, act) for feed, state in cluster.states.items() for act in state.acts)
