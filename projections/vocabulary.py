"""The words that expressions are made of: each a question to a cluster about one machine, two, or the whole.

A truth is True, False or None (not known); a number that hangs on what is not known is a `Span`; `state` and `link` are words of
closed lists in which *unknown* and *uncovered* have a name of their own, so they are always known. A machine that is
no member is no error: nobody reaches it, and its pairs are absent. No word reads what only a ping changes. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from projections import health
from projections.cluster import Cluster


class Span(NamedTuple):
    """A number known to lie between these, both included."""

    low: int
    high: int


class Word(NamedTuple):
    """A word: how many machine names it takes, its kind, what it says, and its function of a cluster and those names."""

    takes: int
    kind: Literal["truth", "number", "text"]
    says: str
    of: Callable[..., Any]


def _pair(cluster: Cluster, a: str, b: str) -> str:
    return cluster.pair(a, b)


def _up(cluster: Cluster, a: str, b: str) -> bool | None:
    state = cluster.pair(a, b)
    return None if state in {"unknown", "uncovered"} else state == "up"


def _link(cluster: Cluster, observer: str, peer: str) -> str:
    view = cluster.links.get((observer, peer))
    return view.state if view is not None and observer in cluster.covered else "unknown"


def _reached_by(cluster: Cluster, machine: str) -> Span:
    states = [_link(cluster, other, machine) for other in cluster.members if other != machine]
    if machine not in cluster.members:
        return Span(0, 0)
    return Span(states.count("up"), states.count("up") + states.count("unknown"))


def _reaches(cluster: Cluster, a: str, b: str) -> bool | None:
    if a == b or a not in cluster.members or b not in cluster.members:
        return a == b and a in cluster.members
    route = cluster.routes[a, b]
    return None if route == "unknown" else route is not None


def _hops(cluster: Cluster, a: str, b: str) -> Span | int:
    """A pair that may be up can only make the way shorter: between one and what is known, or the longest there could be."""
    if not _reaches(cluster, a, b) and _reaches(cluster, a, b) is not None:
        return 0
    route = cluster.routes[a, b] if a != b else (a,)
    if isinstance(route, tuple):
        hops = len(route) - 1
        open_ = hops > 1 and any(state in {"unknown", "uncovered"} for state in cluster.pairs.values())
        return Span(1, hops) if open_ else hops
    return Span(0, max(0, len(cluster.members) - 1))


def _communicating(cluster: Cluster, machine: str) -> bool | None:
    view = cluster.machines.get(machine)
    return view.communicating if view is not None and view.member else False


def _count(*states: str) -> Callable[[Cluster], Span]:
    def count(cluster: Cluster) -> Span:
        found = list(cluster.pairs.values())
        sure = sum(state in states for state in found)
        return Span(sure, sure + sum(state in {"unknown", "uncovered"} and state not in states for state in found))

    return count


def _islands(cluster: Cluster) -> Span:
    up = [pair for pair, state in cluster.pairs.items() if state == "up"]
    maybe = [pair for pair, state in cluster.pairs.items() if state in {"unknown", "uncovered"}]
    return Span(len(health.components(cluster.members, up + maybe)), len(health.components(cluster.members, up)))


def _hostname(cluster: Cluster, machine: str) -> str | None:
    found = cluster.membership.machines.get(machine)
    return found.hostname if found is not None and found.member else ""


def _version(cluster: Cluster, machine: str) -> str | None:
    state = cluster.speakers.get(machine)
    return (state.software if state is not None else None) or None


WORDS: Final[dict[str, Word]] = {
    "member": Word(1, "truth", "whether the machine is a member", lambda cluster, machine: machine in cluster.members),
    "communicating": Word(1, "truth", "whether any link to or from the machine is up", _communicating),
    "covered": Word(
        1, "truth", "whether the machine's feed covers the moment", lambda cluster, machine: machine in cluster.covered
    ),
    "planned": Word(1, "truth", "whether it was disconnected on purpose", lambda cluster, machine: machine in cluster.planned),
    "hostname": Word(1, "text", "its main host name, '' for no member", _hostname),
    "version": Word(1, "text", "the version of the software it runs", _version),
    "reached_by": Word(1, "number", "how many others have a link to the machine that is up", _reached_by),
    "up": Word(2, "truth", "whether the pair is up", _up),
    "state": Word(2, "text", "of the pair: up down asymmetric unknown uncovered planned absent", _pair),
    "link": Word(2, "text", "as the first saw it: up down unknown", _link),
    "reaches": Word(2, "truth", "whether there is a route from one to the other", _reaches),
    "hops": Word(2, "number", "how many links that route has, 0 without a route", _hops),
    "members": Word(0, "number", "how many members there are", lambda cluster: len(cluster.members)),
    "pairs": Word(0, "number", "how many pairs of members there are", lambda cluster: len(cluster.pairs)),
    "pairs_up": Word(0, "number", "how many of them are up", _count("up")),
    "pairs_down": Word(0, "number", "how many are down or asymmetric", _count("down", "asymmetric")),
    "islands": Word(0, "number", "into how many parts the mesh falls", _islands),
}
"""All of them, in the order in which they are listed."""
