"""A cluster as its answers: `at`, `members`, `connstatus` and `routes`, in the shapes that are printed.

A `Cluster` knows instants as integers and links by pairs of names; an answer is text and names of cells. Nothing is judged
here and nothing is asked twice: every part is what the cluster derived, in its order. Most machines share few instants,
so the text of an instant is made once an answer.

Pure: a cluster in, a struct of `answers` out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ledger.events import Reason, Transport
from projections.cluster import Cluster
from projections.pings import PingState
from projections.views import LinkView
from replay.answers import At, ClusterHead, Connstatus, LastPing, Link, Machine, Members, PairState, Reach, Route, Routes
from replay.spans import format_instant


def at(cluster: Cluster, as_seen_by: str | None = None) -> At:
    """The whole state. `as_seen_by`: the machine whose belief `cluster` is, None if it is all that is known."""
    texts = _Texts()
    return At(
        at=texts[cluster.at_ns],
        as_seen_by=as_seen_by,
        cluster=_head(cluster),
        machines=_machines(cluster, texts),
        links=_links(cluster, texts),
        pairs=_pairs(cluster),
        routes=_routes(cluster),
        coverage=_coverage(cluster, texts),
    )


def members(cluster: Cluster, as_seen_by: str | None = None) -> Members:
    """Who is in."""
    texts = _Texts()
    return Members(at=texts[cluster.at_ns], as_seen_by=as_seen_by, cluster=_head(cluster), machines=_machines(cluster, texts))


def connstatus(cluster: Cluster, as_seen_by: str | None = None) -> Connstatus:
    """Every link and every pair."""
    texts = _Texts()
    return Connstatus(
        at=texts[cluster.at_ns],
        as_seen_by=as_seen_by,
        cluster=_head(cluster),
        links=_links(cluster, texts),
        pairs=_pairs(cluster),
    )


def routes(cluster: Cluster, as_seen_by: str | None = None) -> Routes:
    """Every route."""
    return Routes(at=format_instant(cluster.at_ns), as_seen_by=as_seen_by, cluster=_head(cluster), routes=_routes(cluster))


class _Texts(dict[int, str]):
    """Instants as text, each made once."""

    def __missing__(self, at_ns: int) -> str:
        text = self[at_ns] = format_instant(at_ns)
        return text


def _head(cluster: Cluster) -> ClusterHead:
    transport = cast("Transport | None", cluster.transport)
    return ClusterHead(cluster.name, cluster.incarnation, transport, list(cluster.members))


def _machines(cluster: Cluster, texts: Mapping[int, str]) -> dict[str, Machine]:
    return {
        name: Machine(view.member, view.communicating, view.cause, view.hostname, texts[view.since_ns], view.since_pos)
        for name, view in cluster.machines.items()
    }


def _links(cluster: Cluster, texts: Mapping[int, str]) -> dict[str, Link]:
    return {f"{observer}:{peer}": _link(view, texts) for (observer, peer), view in cluster.links.items()}


def _link(view: LinkView, texts: Mapping[int, str]) -> Link:
    since, feed, ping, reason = view.since, view.feed, view.ping, cast("Reason | None", view.reason)
    if feed is None or not since:
        began = pos = None
    else:
        began, pos = texts[view.since_at], feed.at(since)
    if ping is not None and view.earlier is None:
        return Link(view.state, reason, began, pos, _last_ping(ping, texts), ping.sent, ping.lost)
    last = ping or view.earlier
    return Link(view.state, reason, began, pos, _last_ping(last, texts) if last else None, view.sent, view.lost)


def _last_ping(ping: PingState, texts: Mapping[int, str]) -> LastPing:
    if ping.reason is None:
        return LastPing(texts[ping.last_ns], "answered", ping.rtt_us)
    return LastPing(texts[ping.last_ns], cast("Reason", ping.reason), None)


def _pairs(cluster: Cluster) -> dict[str, PairState]:
    return {f"{a}={b}": state for (a, b), state in cluster.pairs.items()}


def _routes(cluster: Cluster) -> dict[str, Route]:
    return {f"{a}:{b}": list(route) if isinstance(route, tuple) else route for (a, b), route in cluster.routes.as_dict().items()}


def _coverage(cluster: Cluster, texts: Mapping[int, str]) -> dict[str, Reach | None]:
    return {
        name: None if found is None else Reach(found.until_pos, texts[found.until_ns], found.covered)
        for name, found in cluster.coverage.items()
    }
