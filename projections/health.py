"""What is wrong with a mesh at a moment, by name: conditions over a finished `Cluster`, each saying who.

A mesh is well if every pair of members is up, nobody hangs on a single machine, names are not shared and nobody speaks with
strangers. Each condition is a function from a cluster to those whom it holds for, sorted, empty if all is well; how long
it held is for whoever asks at many moments. Nothing here judges history, and nothing is called broken that is not known to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from projections.cluster import Cluster
from projections.views import LinkView, Pair, PairState


def gaps(cluster: Cluster) -> dict[Pair, PairState]:
    """The pairs of members that are not up, with what they are."""
    return {pair: state for pair, state in cluster.pairs.items() if state != "up"}


def asymmetric(cluster: Cluster) -> list[Pair]:
    """The pairs of which one side sees the link up and the other down."""
    return [pair for pair, state in cluster.pairs.items() if state == "asymmetric"]


def islands(cluster: Cluster) -> list[tuple[str, ...]]:
    """The parts of the mesh that pairs known to be up hold together, if there is more than one; each sorted."""
    found = components(cluster.members, _up(cluster))
    return found if len(found) > 1 else []


def articulation(cluster: Cluster) -> list[str]:
    """The machines without which those that hold together over pairs that are up would fall apart."""
    up = _up(cluster)
    parts = len(components(cluster.members, up))
    lone = set(cluster.members) - {machine for pair in up for machine in pair}
    return [
        machine
        for machine in cluster.members
        if machine not in lone
        and len(components([m for m in cluster.members if m != machine], [pair for pair in up if machine not in pair])) > parts
    ]


def shared_hostnames(cluster: Cluster) -> dict[str, list[str]]:
    """Host names that more than one member bears, with these members."""
    bearers: dict[str, list[str]] = {}
    for machine in cluster.members:
        hostname = cluster.membership.machines[machine].hostname
        if hostname is not None:
            bearers.setdefault(hostname, []).append(machine)
    return {hostname: found for hostname, found in sorted(bearers.items()) if len(found) > 1}


def strangers(cluster: Cluster) -> dict[Pair, LinkView]:
    """Links to machines that are no members, (observer, peer), of which a member's feed says something: of a former
    member only what came after its removal.
    """
    found, machines = {}, cluster.membership.machines
    for observer in cluster.members:
        state = cluster.speakers.get(observer)
        for peer in sorted(state.links) if state else ():
            gone = machines.get(peer)
            if gone is not None and gone.member:
                continue
            view = cluster.link(observer, peer)
            heard = view.evidence
            if gone is None or (heard is not None and heard[0] > gone.since_ns):
                found[observer, peer] = view
    return found


def twins(cluster: Cluster) -> dict[str, tuple[str, ...]]:
    """Names under which two machines are members at once, with the positions of their joins."""
    return {name: member.joins for name, member in cluster.membership.machines.items() if member.member and member.twins}


def components(machines: Iterable[str], pairs: Iterable[Pair]) -> list[tuple[str, ...]]:
    """The parts into which `pairs` join `machines`, each sorted, in order."""
    near: dict[str, set[str]] = {machine: set() for machine in machines}
    for a, b in pairs:
        near[a].add(b)
        near[b].add(a)
    found, seen = [], set[str]()
    for machine in sorted(near):
        if machine not in seen:
            part = _reach(machine, near)
            seen |= part
            found.append(tuple(sorted(part)))
    return found


def _reach(start: str, near: Mapping[str, set[str]]) -> set[str]:
    part, queue = {start}, [start]
    for machine in queue:
        fresh = near[machine] - part
        part |= fresh
        queue += fresh
    return part


def _up(cluster: Cluster) -> list[Pair]:
    return [pair for pair, state in cluster.pairs.items() if state == "up"]
