"""Conditions that a mesh holds, breaks and holds again: judgements of one `Cluster`, three-valued, each saying what is wrong.

A condition holds (True), is broken (False), or is not covered (None): the log does not say. Broken is only what is known to be,
whatever the pairs that are unknown or uncovered turn out to be; held likewise. The pairs of a machine that was disconnected on
purpose are not missed. How long each verdict stood is for whoever asks at many moments (`replay.intervals`).

`CONDITIONS` holds the shipped ones by name. Guests make their own of any function from a cluster to True, False or None
(`Condition`), and may name them in the entry point group `meshledger.conditions`. A condition that reads what every ping
changes (counts, round trips, last results) says so with `pings=True`, and is then asked at every entry. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, Self

import msgspec

from projections import health
from projections.cluster import Cluster
from projections.communicating import name_failed
from projections.particulars import DEFAULT_MACHINES_MAX
from projections.views import Pair

WITNESSES_MAX: Final = 16
GROUP: Final = "meshledger.conditions"
"""The entry point group of guests' conditions: each names a `Condition`, or a list of them."""


class Exhibit(msgspec.Struct, frozen=True):
    """One thing that is wrong, or not known. `subject`: a machine, a link `alpha:bravo` or a pair `alpha=bravo`; several
    machines are joined by commas. `what`: the rest of the sentence. `positions`: the entries that made it so, where any did.
    """

    subject: str
    what: str
    positions: tuple[str, ...] = ()


class Judgement(msgspec.Struct, frozen=True):
    """Whether a condition holds at a moment (None: not covered) and what speaks against it, in the order of names: the first
    `WITNESSES_MAX`, and whether there is `more`.
    """

    holds: bool | None
    witnesses: tuple[Exhibit, ...] = ()
    more: bool = False

    @classmethod
    def against(cls, holds: bool | None, witnesses: Iterable[Exhibit]) -> Self:
        """What speaks against it, no more of it than is kept."""
        found = tuple(islice(witnesses, WITNESSES_MAX + 1))
        return cls(holds, found[:WITNESSES_MAX], len(found) > WITNESSES_MAX)


Judge = Callable[[Cluster], Judgement | bool | None]


class Condition(msgspec.Struct, frozen=True):
    """A condition by name. `says`: one sentence, of what holds while it holds. `judge` is pure, and depends on nothing but what
    it is given; not on `at_ns`. `pings`: it also reads what every ping changes.
    """

    name: str
    says: str
    judge: Judge
    pings: bool = False

    def at(self, cluster: Cluster) -> Judgement:
        """What it says of a moment. Nothing is said of a cluster of which no feed has an entry yet."""
        if not any(state.entries for state in cluster.states.values()):
            return Judgement(None, (Exhibit("cluster", "has no entry yet"),))
        found = self.judge(cluster)
        return found if isinstance(found, Judgement) else Judgement(found)


def _judged(wrong: Iterable[Exhibit], open_: Iterable[Exhibit] = ()) -> Judgement:
    """Broken by anything wrong, else open by anything open, else held."""
    found = Judgement.against(False, wrong)
    if not found.witnesses:
        found = Judgement.against(None, open_)
    return found if found.witnesses else Judgement(True)


def _link(cluster: Cluster, observer: str, peer: str) -> tuple[str, tuple[str, ...]]:
    view = cluster.links[observer, peer]
    reason = f" ({view.reason})" if view.reason else ""
    return f"{observer}:{peer} is {view.state}{reason}", (view.since_pos,) if view.since_pos else ()


def _pair(cluster: Cluster, pair: Pair) -> Exhibit:
    """A pair, with what each side saw."""
    state, (a, b) = cluster.pairs[pair], pair
    if state == "uncovered":
        missing = [name for name in pair if name not in cluster.covered]
        return Exhibit(f"{a}={b}", f"is uncovered: no word of {' and '.join(missing)} holds")
    (there, first), (back, second) = _link(cluster, a, b), _link(cluster, b, a)
    return Exhibit(f"{a}={b}", f"is {state}: {there}, {back}", first + second)


def _pairs(cluster: Cluster, *states: str) -> Iterator[Exhibit]:
    return (_pair(cluster, pair) for pair, state in cluster.pairs.items() if state in states)


def _full_mesh(cluster: Cluster) -> Judgement:
    return _judged(_pairs(cluster, "down", "asymmetric"), _pairs(cluster, "unknown", "uncovered"))


def _symmetric(cluster: Cluster) -> Judgement:
    return _judged(_pairs(cluster, "asymmetric"), _pairs(cluster, "unknown", "uncovered"))


def _present(cluster: Cluster) -> list[str]:
    """The members that nobody disconnected on purpose."""
    return [name for name in cluster.members if name not in cluster.planned]


def _edges(cluster: Cluster, *states: str) -> list[Pair]:
    return [pair for pair, state in cluster.pairs.items() if state in states]


def _no_islands(cluster: Cluster) -> Judgement:
    names, up = _present(cluster), _edges(cluster, "up")
    parts = health.components(names, up)
    if len(parts) <= 1:
        return Judgement(True)
    least = health.components(names, up + _edges(cluster, "unknown", "uncovered"))
    if len(least) > 1:
        return Judgement.against(False, (Exhibit(",".join(part), "cannot reach the others") for part in least))
    return Judgement.against(None, (Exhibit(",".join(part), "may or may not reach the others") for part in parts))


def _no_articulation(cluster: Cluster) -> Judgement:
    names, up = _present(cluster), _edges(cluster, "up")
    maybe = _edges(cluster, "unknown", "uncovered")
    wrong = []
    for machine in names:
        near = {other for pair in up if machine in pair for other in pair} - {machine}
        if len(near) > 1:
            rest = [name for name in names if name != machine]
            parts = health.components(rest, [pair for pair in up + maybe if machine not in pair])
            apart = [part for part in parts if near & set(part)]
            if len(apart) > 1:
                wrong.append(Exhibit(machine, f"alone holds {' and '.join(','.join(part) for part in apart)} together"))
    if wrong or not maybe:
        return _judged(wrong)
    whole = len(health.components(names, up)) <= 1
    if whole and not any(len(health.components([m for m in names if m != n], [p for p in up if n not in p])) > 1 for n in names):
        return Judgement(True)  # more pairs that are up take nothing away
    return Judgement.against(None, _pairs(cluster, "unknown", "uncovered"))


def _all_communicating(cluster: Cluster) -> Judgement:
    said = {name: cluster.machines[name] for name in _present(cluster)}
    wrong = [
        Exhibit(name, f"is a member that does not communicate{f' ({view.cause})' if view.cause else ''}", _down(cluster, name))
        for name, view in said.items()
        if view.communicating is False
    ]
    return _judged(wrong, [Exhibit(name, "may not communicate") for name, view in said.items() if view.communicating is None])


def _down(cluster: Cluster, machine: str) -> tuple[str, ...]:
    """The entries by which links to a machine are down, as others saw it."""
    views = [view for (_observer, peer), view in cluster.links.items() if peer == machine and view.state == "down"]
    return tuple(view.since_pos for view in views if view.since_pos)


def _unique_hostnames(cluster: Cluster) -> Judgement:
    shared = health.shared_hostnames(cluster)
    return _judged(Exhibit(",".join(bearers), f"share the host name {hostname}") for hostname, bearers in shared.items())


def _no_strangers(cluster: Cluster) -> Judgement:
    """That a link with somebody who left is down is as it should be."""
    found: dict[str, list[Exhibit]] = {"up": [], "unknown": [], "down": []}
    for (a, b), view in health.strangers(cluster).items():
        by = (view.since_pos,) if view.since_pos else ()
        found[view.state].append(Exhibit(f"{a}:{b}", f"is {view.state}, and {b} is no member", by))
    return _judged(found["up"], found["unknown"])


def _no_twins(cluster: Cluster) -> Judgement:
    return _judged(Exhibit(name, "is two machines under one name", joins) for name, joins in health.twins(cluster).items())


def _covered(cluster: Cluster) -> Judgement:
    wrong = []
    for name in cluster.members:
        reach = cluster.coverage[name]
        if reach is None:
            wrong.append(Exhibit(name, "has no feed here"))
        elif not reach.covered:
            wrong.append(Exhibit(name, "is not covered: its feed says nothing of this moment", (reach.until_pos,)))
    return _judged(wrong)


def _not_too_many(cluster: Cluster) -> Judgement:
    most = cluster.settings.machines_max if cluster.settings else DEFAULT_MACHINES_MAX
    count = len(cluster.members)
    return _judged([Exhibit("cluster", f"has {count} members, more than {most}")] if count > most else [])


def _names_resolve(cluster: Cluster) -> Judgement:
    names = {name: cluster.membership.machines[name].hostname for name in cluster.members}
    return _judged(
        Exhibit(name, f"is not to be found under {hostname}: its latest look-up gave nothing to dial", _asked(cluster, hostname))
        for name, hostname in names.items()
        if hostname is not None and name_failed(f"forward {hostname}", cluster.speakers)
    )


def _asked(cluster: Cluster, hostname: str) -> tuple[str, ...]:
    """The latest look-up of a host name."""
    found = [
        (lookup.at_ns, observer, state.feed.at(lookup.index))
        for observer, state in cluster.speakers.items()
        if (lookup := state.lookups.get(f"forward {hostname}")) is not None
    ]
    return (max(found)[2],) if found else ()


def _one_version(cluster: Cluster) -> Judgement:
    spoken = {name: cluster.speakers[name].software for name in cluster.members if name in cluster.speakers}
    known = {name: software for name, software in spoken.items() if software}
    if len(set(known.values())) > 1:
        return Judgement.against(False, (Exhibit(name, f"runs {software}") for name, software in known.items()))
    return _judged((), [Exhibit(name, "does not say which version it runs") for name in cluster.members if name not in known])


CONDITIONS: Final[dict[str, Condition]] = {
    condition.name: condition
    for condition in (
        Condition("full-mesh", "Every pair of members is up.", _full_mesh),
        Condition("symmetric", "No pair is up as one side sees it and down as the other does.", _symmetric),
        Condition("no-islands", "Every member can reach every other over pairs that are up.", _no_islands),
        Condition("no-articulation", "Nobody hangs on a single machine: any one may fail and the others hold together.",
                  _no_articulation),
        Condition("all-communicating", "Every member communicates: some link to or from it is up.", _all_communicating),
        Condition("names-resolve", "Every member's main host name gave an address when it was looked up last.", _names_resolve),
        Condition("unique-hostnames", "No two members bear one host name.", _unique_hostnames),
        Condition("no-twins", "No two machines are members under one name.", _no_twins),
        Condition("no-strangers", "No member has a link with a machine that is no member.", _no_strangers),
        Condition("machines-max", "There are no more members than the settings allow.", _not_too_many),
        Condition("one-version", "All members run one version of the software.", _one_version),
        Condition("covered", "Every member's feed covers the moment.", _covered),
    )
}  # fmt: skip
"""The shipped conditions, by name, in the order in which they are listed."""
