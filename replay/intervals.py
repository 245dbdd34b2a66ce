"""When a condition held, when it was broken, and when the log does not say: exact, also where it heals and breaks again.

    for stretch in intervals(history, "full-mesh", since_ns, until_ns): ...
    first_violation(history, lambda cluster: "charlie" in cluster.members)

A condition is any function of a state. It is asked at every moment at which the state may have become something else
(`turns`, and at every entry if it reads what pings change), so what stands between two moments is known and not supposed: no
halving, which would miss what broke and healed. Stretches are half-open [since, until), adjoin, and fill the window.

A stretch begins by an entry, or by the passing of time (a silence, a feed that covers no longer). Of several entries at one
instant the one is named after which, in display order, it was so. Reads a history, writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

import msgspec

from ledger.entry import Entry
from ledger.errors import NotCovered, Refused
from projections.cluster import Cluster
from projections.conditions import CONDITIONS, Condition, Judge, Judgement
from replay.history import History
from replay.spans import SECOND_NS, format_instant
from replay.text import shorten
from replay.turns import Progress, turns
from replay.walk import Stop, Walk


class Place(msgspec.Struct, frozen=True):
    """An entry by its position and its effective instant."""

    position: str
    at_ns: int


class Stretch(msgspec.Struct, frozen=True):
    """[since_ns, until_ns) in which the condition held (True), was broken (False) or is not covered (None). `by`: the entry
    that began it; None: time passed, or the window began. `before`: the last entry that stood before it, if any did.
    `judged`: what was wrong, or not known, when it began.
    """

    since_ns: int
    until_ns: int
    holds: bool | None
    by: Entry | None
    before: Place | None
    judged: Judgement


def intervals(
    history: History,
    condition: Condition | Judge | str,
    since_ns: int | None = None,
    until_ns: int | None = None,
    *,
    progress: Progress | None = None,
) -> list[Stretch]:
    """All stretches of [since, until): from the first entry, and until the first full second after the last, if not given.

    `condition`: the name of a shipped one, a `Condition`, or any pure function from a `Cluster` to True, False or None, which is
    asked at every entry; it must not depend on the moment itself. Raises Refused for a window that ends before it begins and
    for a name that there is not. `progress` is told moments.
    """
    return list(stretches(history, condition, since_ns, until_ns, progress=progress))


def first_violation(
    history: History,
    condition: Condition | Judge | str,
    since_ns: int | None = None,
    until_ns: int | None = None,
    *,
    progress: Progress | None = None,
) -> Stretch | None:
    """The first stretch in which it was broken, None if there is none; later ones are not looked for."""
    found = stretches(history, condition, since_ns, until_ns, progress=progress)
    return next((stretch for stretch in found if stretch.holds is False), None)


def window(history: History, since_ns: int | None, until_ns: int | None) -> tuple[int, int]:
    """The window that is meant: where an end is not given, from the first entry, until the first full second after the last.

    Raises Refused if it ends before it begins, NotCovered if it lies wholly before the log or wholly after it.
    """
    start_ns = history.start_ns() if since_ns is None else since_ns
    end_ns = (history.end_ns() // SECOND_NS + 1) * SECOND_NS if until_ns is None else until_ns
    if start_ns > end_ns:
        if until_ns is None:
            last = format_instant(history.end_ns())
            raise NotCovered(f"the window begins after the last entry, which is of {last}", hint="give an earlier --since")
        if since_ns is None:
            first = format_instant(start_ns)
            raise NotCovered(f"the window ends before the first entry, which is of {first}", hint="give a later --until")
        raise Refused("the window ends before it begins", hint="give the earlier end first")
    return start_ns, end_ns


def named(condition: Condition | Judge | str) -> Condition:
    """The condition that is meant."""
    if isinstance(condition, Condition):
        return condition
    if not isinstance(condition, str):
        return Condition(getattr(condition, "__name__", "condition"), "", condition, pings=True)
    if condition not in CONDITIONS:
        raise unknown(condition, list(CONDITIONS))
    return CONDITIONS[condition]


def unknown(name: str, known: list[str]) -> Refused:
    """The refusal of a name that there is not, with those near it."""
    near = get_close_matches(name, known, 3)
    return Refused(
        f"there is no condition '{shorten(name)}'",
        hint=f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(known)}, or an expression by --expr",
    )


def stretches(
    history: History,
    condition: Condition | Judge | str,
    since_ns: int | None = None,
    until_ns: int | None = None,
    *,
    progress: Progress | None = None,
) -> Iterator[Stretch]:
    """The same as `intervals`, one after the other: each as soon as it has ended."""
    meant = named(condition)
    start_ns, end_ns = window(history, since_ns, until_ns)
    if start_ns == end_ns:
        return
    found = turns(history, start_ns, end_ns)
    begun: Stretch | None = None
    for number, stop in enumerate(Walk(history, start_ns).stops(found, end_ns, every=meant.pings)):
        if progress is not None:
            progress(number, max(len(found), number))
        judged = meant.at(stop.cluster)
        if begun is None:
            begun = Stretch(start_ns, end_ns, judged.holds, None, _latest(stop.before), judged)
        elif judged.holds != begun.holds:
            at_ns = stop.cluster.at_ns
            yield msgspec.structs.replace(begun, until_ns=at_ns)
            begun = Stretch(at_ns, end_ns, judged.holds, *_culprit(stop, meant, judged), judged)
    if begun is not None:
        yield begun


def _culprit(stop: Stop, condition: Condition, judged: Judgement) -> tuple[Entry | None, Place | None]:
    """The entry after which it was so, and the last one that stood before it."""
    cluster = stop.before
    if not stop.entries or (len(stop.entries) > 1 and condition.at(cluster).holds == judged.holds):
        return None, _latest(cluster)
    before = _latest(cluster)
    for entry in stop.entries[:-1]:
        cluster = cluster.evolve(entry)
        if condition.at(cluster).holds == judged.holds:
            return entry, before
        before = Place(entry.position, entry.effective_ns)
    return stop.entries[-1], before


def _latest(cluster: Cluster) -> Place | None:
    """The last entry that a cluster was made of, in display order."""
    found = [(state.last_ns, state.feed, state.entries) for state in cluster.states.values() if state.entries]
    if not found:
        return None
    at_ns, feed, index = max(found)
    return Place(feed.at(index), at_ns)
