"""Why two machines are not linked: the rules, each a small function from a case to a finding, asked one after the other.

First what was meant to be (a side is no member, or planned to be away); then what an end was told plainly (a name that
does not resolve, a key that is another's, the limit of connections), with what made it so; then an end that did not run, by
its own feed; then whom the matrix accuses; and last the path between the two, with the reason that its ends recorded. A
reason is a symptom where it only says that nothing came back: then it stands as the cause only if somebody else still
reached the machine, or its own feed went on. Else the cause is `unknown`, and it is for the log to say more.

Pure: a case in, a finding out. The same rules judge a whole history and a few entries of it (`cases`).
"""

from __future__ import annotations

from typing import Final

from ledger.events import NodeStopped
from projections.acts import Plan, Removal
from projections.suspects import WITNESSES, Suspicion, matrix, suspicion
from projections.views import Pair
from replay.authors import Place
from replay.cases import TELLING, Case, Finding
from replay.roots import rooted

_PASSING: Final = frozenset({"left", "disconnected"})
"""Of these only the last word counts: the next dial may have another."""
_CONSEQUENT: Final = {
    "host-key-mismatch": 1,
    "auth-failed": 2,
    "protocol-error": 3,
    "not-a-member": 3,
    "left": 4,
    "disconnected": 4,
}
"""Reasons that one end gives for what the other end may know better: the less, the more it explains."""
_WEAK: Final = frozenset({"closed", "reset", "no-route", "unknown"})
"""What an end says when the other one hung up, or when nothing was tried."""


def judge(case: Case) -> Finding | None:
    """The cause for which there is no link between the two; None if there is one, up as both ends see it."""
    if case.a in case.cluster.members and case.b in case.cluster.members and case.cluster.pair(case.a, case.b) == "up":
        return None
    for rule in (_absent, _planned, _told, _not_running, _accused):
        found = rule(case)
        if found is not None:
            return found
    return _path(case)


# What was meant to be.


def _absent(case: Case) -> Finding | None:
    machines = case.cluster.membership.machines
    for name in (case.b, case.a):
        member = machines.get(name)
        if member is None:
            return Finding("not-a-member", suspect=name)
        if not member.member:
            acts = [
                ((feed, act.index), act)
                for feed, state in case.cluster.states.items()
                for act in state.acts
                if isinstance(act, Removal) and act.machine in {case.a, case.b}  # one may have ended the other's word
            ]
            root = next((place for place, _act in acts if place[0].at(place[1]) == member.since), None)
            others = [place for place, _act in acts if place != root]
            return Finding(member.cause or "removed", root, member.since_ns, (*others, *([root] if root else [])), name)
    return None


def _planned(case: Case) -> Finding | None:
    for name in (case.b, case.a):
        member = case.cluster.membership.machines[name]
        if member.disconnected:
            for feed, state in case.cluster.states.items():
                for act in state.acts:
                    if isinstance(act, Plan) and act.machine == name and feed.at(act.index) == member.planned:
                        place = feed, act.index
                        return Finding("disconnected", place, member.planned_ns, (place,), name)
    return None


# What an end was told.


def _told(case: Case) -> Finding | None:
    """Of all that the two ends were told what explains the rest: who hears that a key is no member's may have another name's."""
    told = [
        (_CONSEQUENT.get(reason, 0), order, reason, pair, place)
        for order, pair in enumerate(case.both)
        for number, (reason, place) in enumerate(case.said(pair))
        if reason in TELLING and not (number and reason in _PASSING)
    ]
    if not told:
        return None
    _weight, _order, reason, pair, place = min(told, key=lambda each: each[:2])
    return rooted(case, pair, reason, place)


# An end that did not run.


def _not_running(case: Case) -> Finding | None:
    for name, other in ((case.b, case.a), (case.a, case.b)):
        found = _off(case, name, (other, name)) or _stalled(case, name)
        if found is not None:
            return found
    return None


def _off(case: Case, name: str, loss: Pair) -> Finding | None:
    """`name` stopped, crashed or started anew, at about the time when it was lost."""
    cluster, slack_ns = case.cluster, case.cluster.interval_ns
    state = cluster.speakers.get(name)
    if state is None:
        return None
    lost = case.down(loss)
    lost_ns = cluster.links[loss].since_at if lost else None
    places = (case.since(loss),) if lost else ()
    if state.lifecycle == "stopped":
        root, off_ns, on_ns = (state.feed, state.lifecycle_index), state.lifecycle_ns, None
    elif state.feed in cluster.resumed:
        root, off_ns, on_ns = (state.feed, state.entries + 1), state.last_ns, None
        if not lost and name in cluster.covered:
            return None
    elif (reborn := case.reborn(state.feed)) is not None and (later := case.entry(reborn)) is not None:
        root, off_ns, on_ns = reborn, state.last_ns, later.effective_ns
        if not lost and name in cluster.covered:
            return None
    else:
        if not state.started or not lost or cluster.at_ns >= state.started_ns + case.settle_ns:
            return None
        started = case.off_ns((state.feed, state.started))
        if started is None:
            return None
        root, off_ns, on_ns = (state.feed, state.started), started, state.started_ns
        before = case.entry((state.feed, state.started - 1))
        if before is not None and isinstance(before.event, NodeStopped):
            places = (root, *places)
            root = state.feed, state.started - 1
    if lost_ns is not None and (lost_ns < off_ns - slack_ns or (on_ns is not None and lost_ns > on_ns + slack_ns)):
        return None
    since_ns, subject = case.lost
    return Finding("target-down", root, off_ns if since_ns is None else since_ns, (*places, *subject, root), name)


def _stalled(case: Case, name: str) -> Finding | None:
    """`name` stood still when the link was lost: it missed its own timers, so what it lost then says nothing of others."""
    pair, state = case.subject, case.cluster.speakers.get(name)
    since_ns, subject = case.lost
    if pair is None or state is None or since_ns is None:
        return None
    early_ns = 0 if pair[0] == name else case.cluster.interval_ns
    for begun_ns, ended_ns, root in case.stalls(state.feed):
        if begun_ns - early_ns <= since_ns <= ended_ns + case.timeout_ns:
            return Finding("target-down", root, since_ns, (*subject, root), name)
    return None


def _doubted(case: Case) -> set[Pair]:
    """The links that were lost by who stood still then, or had just stood still."""
    return {
        pair
        for pair, view in case.cluster.links.items()
        if view.feed is not None and case.down(pair)
        for begun_ns, ended_ns, _place in case.stalls(view.feed)
        if begun_ns <= view.since_at <= ended_ns + case.timeout_ns
    }


# Whom the matrix accuses.


def _accused(case: Case) -> Finding | None:
    found = suspicion(case.cluster, case.a, case.b, _doubted(case))
    if found is None:
        return None
    links = case.cluster.links
    down = _proof(case, found)
    places = [case.since(pair) for pair in down]
    first = min(down, key=lambda pair: (links[pair].since_at, pair))
    since_ns = case.lost[0] or links[first].since_at
    chain = [*_held_together(case, found, down), *reversed(places), *case.lost[1]]
    return Finding(found.cause, case.since(first), since_ns, tuple(chain), found.machine, found.sides[: 2 * (not found.machine)])


def _proof(case: Case, found: Suspicion) -> list[Pair]:
    """The link that is asked about, and the earliest of the others that together with it accuse the same."""
    links = case.cluster.links
    nearest, rest = found.down[0], sorted(found.down[1:], key=lambda pair: (links[pair].since_at, pair))
    if found.cause == "observer-isolated" and nearest[0] != found.machine:
        rest = [pair for pair in rest if pair[0] == found.machine]
    if found.cause != "partition":
        return [nearest, *rest[: WITNESSES - 1]]
    apart = [pair for pair in rest if not set(pair) & set(nearest)]
    if apart:
        return [nearest, apart[0]]
    ends = [[pair for pair in rest if name in pair] for name in nearest]
    return [nearest, *(pairs[0] for pairs in ends if pairs)]


def _held_together(case: Case, found: Suspicion, down: list[Pair]) -> list[Place]:
    """The entries by which the ends of a partition's links are known to stand on one side each."""
    places: list[Place] = []
    ends = {name for pair in down for name in pair}
    for side in found.sides if found.cause == "partition" else ():
        near: dict[str, list[Pair]] = {}
        for pair in found.up:
            if pair[0] in side and pair[1] in side:
                for name, pair_ in ((pair[0], pair), (pair[1], pair)):
                    near.setdefault(name, []).append(pair_)
        start = case.a if case.a in side else case.b
        came: dict[str, tuple[str, Pair]] = {}
        queue = [start]
        for name in queue:
            for pair in sorted(near.get(name, ())):
                other = pair[0] if pair[1] == name else pair[1]
                if other != start and other not in came:
                    came[other] = name, pair
                    queue.append(other)
        for name in sorted(ends & came.keys()):
            while name != start:
                name, pair = came[name]
                places += _alive(case, pair)
    return list(dict.fromkeys(places))


def _alive(case: Case, pair: Pair) -> list[Place]:
    """The last good evidence of a link, and the last of any kind, which keeps it from being silent."""
    view = case.cluster.links[pair]
    found = [evidence for evidence in (view.evidence, view.good) if evidence is not None]
    return [(view.feed, index) for _at_ns, index in found if view.feed is not None]


# The path between the two.


def _path(case: Case) -> Finding:
    down = [pair for pair in case.both if case.down(pair)]
    if not down:
        return Finding("unknown")
    link = case.subject or down[0]
    subject, since_ns = case.since(link), case.lost[0]
    witness = _still_reached(case, link[1], since_ns or 0)
    said = [(reason, place, case.cluster.links[pair].since_at) for pair in down for reason, place in reversed(case.said(pair))]
    if witness is None or not said:
        return Finding("unknown", subject, since_ns, (subject,))
    reason, root, _at_ns = min(said, key=lambda each: (each[0] in _WEAK, each[2]))
    return Finding(reason, root, since_ns, (*witness, subject, root))


def _still_reached(case: Case, name: str, since_ns: int) -> tuple[Place, ...] | None:
    """What shows that a machine was there: nothing if its own feed covers the moment and went on after the loss, else a link
    of another; None: nothing.
    """
    if name in case.cluster.covered and case.cluster.end_ns(case.cluster.speakers[name].feed) > since_ns:
        return ()
    up = [pair for pair, state in matrix(case.cluster).items() if state == "up" and name in pair]
    if not up:
        return None
    pair = max(up, key=lambda pair: (case.cluster.links[pair].good or (0, 0), pair))
    return tuple(_alive(case, pair))
