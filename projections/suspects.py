"""Whom the matrix of directed links accuses: a row, a column or a block of it, and not whoever reported.

A link that is down has a reason that its observer wrote down, and that reason is often a symptom: who lost a dead machine says
`timeout`, and so does who lost everybody. What others saw tells these apart. Islands are what links hold together that are
up in either direction. A machine that is an island by itself, with links down to two others or more, is *isolated* if its
own feed goes on and says that it lost them, and *down* if it says nothing. Two islands between which links of two machines
or more of either are down, and none is up, are a *partition*. One link alone accuses nobody but itself (several sources before
a suspicion: Suresh et al., "Stable and Consistent Membership at Scale with Rapid", USENIX ATC 2018).

Only feeds that cover the moment count; what is unknown accuses and acquits nobody. Pure: a cluster in, a suspicion out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal

import msgspec

from projections.cluster import Cluster
from projections.health import components
from projections.links import State
from projections.views import LinkView, Pair

Matrix = Mapping[Pair, State]
"""Every directed link between members that are not planned to be away, three-valued."""
WITNESSES: Final = 2
"""So many links must be down before anybody but the link itself is suspected."""


class Suspicion(msgspec.Struct, frozen=True):
    """`machine`: the one suspected, None for a partition, whose two sides are `sides`, that of the asker first. `down`: the
    links that accuse, nearest to the question first; `up`: those that hold the sides of a partition together.
    """

    cause: Literal["observer-isolated", "target-down", "partition"]
    machine: str | None
    sides: tuple[tuple[str, ...], ...]
    down: tuple[Pair, ...]
    up: tuple[Pair, ...] = ()


def matrix(cluster: Cluster, doubted: Collection[Pair] = ()) -> dict[Pair, State]:
    """What each observer whose feed covers the moment says of each of its links; unknown where none does, and where an observer
    lost what it cannot speak of (`doubted`: it stood still).

    An up link of which nothing good was heard since the other end lost it is unknown too: that is no witness against it.
    """
    covered, planned, links = cluster.covered, cluster.planned, cluster.links
    found: dict[Pair, State] = {}
    for (observer, peer), view in links.items():
        if observer not in planned and peer not in planned:
            stale = view.state == "up" and peer in covered and _stale(view, links[peer, observer], cluster.interval_ns)
            known = observer in covered and not stale and (observer, peer) not in doubted
            found[observer, peer] = view.state if known else "unknown"
    return found


def _stale(view: LinkView, back: LinkView, interval_ns: int) -> bool:
    """Whether an up link was last heard of before its other end lost it (or within an interval after: clocks differ)."""
    good = view.good
    return back.state == "down" and good is not None and good[0] <= back.since_at + interval_ns


def suspicion(cluster: Cluster, a: str, b: str, doubted: Collection[Pair] = ()) -> Suspicion | None:
    """Whom the matrix accuses of what lies between `a` and `b`; None if it is no more than the path between the two."""
    seen = matrix(cluster, doubted)
    names = sorted({name for pair in seen for name in pair})
    up = [pair for pair, state in seen.items() if state == "up"]
    islands = {name: island for island in components(names, up) for name in island}
    if a not in islands or b not in islands or islands[a] == islands[b]:
        return None
    lone = [name for name in (a, b) if len(islands[name]) == 1 and len(_lost(seen, name, a, b)) >= WITNESSES]
    if lone:
        first = min(lone, key=lambda name: (_began(cluster, seen, name, b if name == a else a), name != b))
        down = _lost(seen, first, a, b)
        own = any(observer == first for observer, _peer in down)
        return Suspicion("observer-isolated" if own else "target-down", first, ((first,),), tuple(down))
    sides = islands[a], islands[b]
    across = [pair for one in sides[0] for other in sides[1] for pair in ((one, other), (other, one)) if seen[pair] == "down"]
    ends = {name for pair in across for name in pair}
    if all(len(ends & set(side)) >= WITNESSES for side in sides):
        across.sort(key=lambda pair: (_far(pair, a, b), pair))
        return Suspicion("partition", None, sides, tuple(across), tuple(up))
    return None


def _lost(seen: Matrix, machine: str, a: str, b: str) -> list[Pair]:
    """The links down to or from a machine, one for each other machine; its own word before that of others."""
    found: dict[str, Pair] = {}
    for pair in sorted(seen, key=lambda pair: (_far(pair, a, b), pair[0] != machine, pair)):
        if machine in pair and seen[pair] == "down":
            found.setdefault(pair[0] if pair[1] == machine else pair[1], pair)
    return list(found.values())


def _began(cluster: Cluster, seen: Matrix, machine: str, other: str) -> int:
    """When a machine began to be lost, by links that do not lead to the other one that is asked about."""
    apart = [pair for pair, state in seen.items() if state == "down" and machine in pair and other not in pair]
    return min(cluster.links[pair].since_at for pair in apart)


def _far(pair: Pair, a: str, b: str) -> int:
    """How far a link is from the question: 0 the one asked about, 1 the way back, 2 any other."""
    return 0 if pair == (a, b) else 1 if pair == (b, a) else 2
