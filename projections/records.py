"""Folding a sealed record at once: what its groups of pings make of links and ping counts.

A record holds a thousand pings in a few groups, one a context. Nearly always a peer has one group, all answered, over a
link that is up: then its last ping says everything. This room plans exactly what folding one by one would come to, from
the groups and the link entries of the same peer that lie before, between or after them, and names the peers for which that
does not suffice (*tangled*): a link entry inside a group, a silence inside one, a peer whose
feed became another. The definition is `FeedState.apply`; that both agree is a law under test.

It plans and changes nothing; whoever folds carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

from ledger.blocks import Group
from ledger.entry import Entry, Opaque
from ledger.events import Event, LinkEstablished, LinkFailed, LinkLost
from projections import links as link_room
from projections import pings as ping_room
from projections.links import LinkState
from projections.pings import NONE, PingState

Linked = Mapping[str, Sequence[Entry]]


def plan(
    links: Mapping[str, LinkState],
    pings: Mapping[str, PingState],
    silent_ns: int,
    unheard: LinkState,
    *,
    linked: Linked,
    groups: Sequence[Group],
) -> tuple[dict[str, LinkState], dict[str, PingState], list[str]]:
    """(links, pings, tangled): the new states of the peers that `groups` name, and the peers left out of it.

    `linked`: by peer the link entries of the record, ascending; `unheard`: the link to a peer without a word so far. An answer
    over an up link changes no link, so such a peer is missing in the first.
    """
    new_links: dict[str, LinkState] = {}
    new_pings: dict[str, PingState] = {}
    several: dict[str, list[Group]] = {}
    singles = groups
    if len({group.peer for group in groups}) < len(groups):
        for group in groups:
            several.setdefault(group.peer, []).append(group)
        singles = [found[0] for found in several.values() if len(found) == 1]
        several = {peer: found for peer, found in several.items() if len(found) > 1}
    for group in singles:
        peer = group.peer
        ping, link = pings.get(peer), links.get(peer)
        if (
            ping is None
            or link is None
            or group.reason is not None
            or link.state != "up"
            or group.gap_ns >= silent_ns
            or group.first_ns - (ping.last_ns if ping.last > link.evidence else link.evidence_ns) >= silent_ns
            or peer in linked
        ):
            several[peer] = [group]
            continue
        feed, held, last, last_ns = group.feed, group.held, group.last, group.last_ns
        stated = last
        if feed is None or held is None:
            feed, held, stated = ping.feed, ping.held, ping.stated
        elif feed != ping.feed and ping.feed is not None:
            several[peer] = [group]
            continue
        new_pings[peer] = PingState(
            last,
            last_ns,
            None,
            last,
            last_ns,
            group.rtt_us,
            ping.sent + group.count,
            ping.lost,
            ping.linkless,
            feed,
            held,
            stated,
        )
    tangled = []
    for peer, found in several.items():
        link = links.get(peer)
        step = _steps(link or unheard, pings.get(peer, NONE), silent_ns, linked.get(peer, ()), found)
        if step is None:
            tangled.append(peer)
            continue
        new_pings[peer] = step[1]
        if step[0] is not link:
            new_links[peer] = step[0]
    return new_links, new_pings, tangled


def _steps(
    link: LinkState, ping: PingState, silent_ns: int, linked: Sequence[Entry], groups: Sequence[Group]
) -> tuple[LinkState, PingState] | None:
    """One peer's groups and link entries one after the other, None if that does not suffice.

    Groups that overlap, such as answers with failures among them, are taken together (`_together`).
    """
    entries = list(linked)
    for bundle in _bundles(groups):
        first, last = bundle[0].first, max(group.last for group in bundle)
        while entries and entries[0].index < first:
            entry = entries.pop(0)
            link = linked_by(link, ping, entry.event, entry.index, entry.effective_ns, silent_ns=silent_ns)
        if entries and entries[0].index < last and not _all_bad(entries, bundle, last):
            return None
        if any(group.held is not None and group.feed and ping.feed and group.feed != ping.feed for group in bundle):
            return None
        step = _single(link, ping, silent_ns, bundle[0]) if len(bundle) == 1 else _together(link, ping, silent_ns, bundle)
        if step is None:
            return None
        link, ping = step
        if link.state == "up" and any(group.gap_ns >= silent_ns for group in bundle):
            return None
    for entry in entries:
        link = linked_by(link, ping, entry.event, entry.index, entry.effective_ns, silent_ns=silent_ns)
    return link, ping


def _all_bad(entries: Sequence[Entry], bundle: Sequence[Group], last: int) -> bool:
    """Whether neither the groups nor the link entries among them bring anything good: then their order says nothing."""
    inside = (entry.event for entry in entries if entry.index < last)
    return all(group.reason is not None for group in bundle) and all(isinstance(e, LinkLost | LinkFailed) for e in inside)


def _bundles(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that overlap, together; ascending."""
    found: list[list[Group]] = []
    reached = 0
    for group in sorted(groups, key=_first):
        if group.first > reached:
            found.append([group])
        else:
            found[-1].append(group)
        reached = max(reached, group.last)
    return found


_first = attrgetter("first")
_last = attrgetter("last")


def _single(link: LinkState, ping: PingState, silent_ns: int, group: Group) -> tuple[LinkState, PingState]:
    if group.reason is None:
        now = link_room.answered(link, ping, group.first, group.first_ns, silent_ns, name=group.link)
        return now, ping_room.answered(
            ping, group.count, group.last, group.last_ns, rtt_us=group.rtt_us, feed=group.feed, held=group.held
        )
    return link_room.ping_failed(link, ping, group.first_ns, silent_ns), ping_room.failed(
        ping, group.count, group.last, group.last_ns, reason=group.reason, linkless=group.link is None,
        feed=group.feed, held=group.held, first=(group.first_ns, group.first), established=link.good,
    )  # fmt: skip


def _together(link: LinkState, ping: PingState, silent_ns: int, bundle: list[Group]) -> tuple[LinkState, PingState] | None:
    """Groups that overlap, with no link entry among them. None where their order within matters: a silence before them,
    several feeds of the peer, a last failure whose run may have begun at another than its group's first.
    """
    if link.state == "up" and bundle[0].first_ns - link_room.evidence(link, ping)[0] >= silent_ns:
        return None
    stating = [group for group in bundle if group.feed is not None and group.held is not None]
    if len({group.feed for group in stating}) > 1:
        return None
    answers = [group for group in bundle if group.reason is None]
    failures = [group for group in bundle if group.reason is not None]
    established = link.good
    if answers:
        begun = min(answers, key=_first)
        link = link_room.answered(link, ping, begun.first, begun.first_ns, silent_ns, name=begun.link)
        answer = max(answers, key=_last)
        answered, answered_ns, rtt_us = answer.last, answer.last_ns, answer.rtt_us
        late = [group for group in failures if group.last > answered]
        if any(group.first < answered for group in late):
            return None
        failing = (0, 0)
    else:
        answered, answered_ns, rtt_us = ping.answered, ping.answered_ns, ping.rtt_us
        late = failures
        failing = (ping.failing_ns, ping.failing) if ping.failing > established else (0, 0)
    if late and not failing[1]:
        earliest = min(late, key=_first)
        failing = (earliest.first_ns, earliest.first)
    end = max(bundle, key=_last)
    feed, held, stated = ping.feed, ping.held, ping.stated
    if stating:
        told = max(stating, key=_last)
        feed, held, stated = told.feed, told.held, told.last
    lost = sum(group.count for group in failures)
    return link, PingState(
        end.last, end.last_ns, end.reason, answered, answered_ns, rtt_us,
        ping.sent + sum(group.count for group in bundle), ping.lost + lost,
        ping.linkless + sum(group.count for group in failures if group.link is None), feed, held, stated, *failing,
    )  # fmt: skip


def linked_by(
    link: LinkState, ping: PingState | None, event: Event | Opaque, index: int, at_ns: int, *, silent_ns: int
) -> LinkState:
    """The link after a link entry about it; any other entry leaves it as it is."""
    if isinstance(event, LinkEstablished):
        return link_room.established(link, ping, index, at_ns, silent_ns, name=event.link, address=event.address)
    if isinstance(event, LinkLost | LinkFailed):
        return link_room.lost(
            link, ping, index, at_ns, reason=event.reason, name=event.link, address=event.address, culprit=event.culprit
        )
    return link
