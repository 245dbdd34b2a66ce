"""The four questions of a machine: how often it was away, how long each time, whether it came back by itself, and why it went.

The window is cut into stretches of what the machine was: `up` (a member that communicates), `silent` (a member that is known
not to), `unknown`, `planned` (disconnected on purpose), `absent` (no member). They adjoin and fill the window, to the
nanosecond, and each is what `History.at` says at every instant of it. Nothing is smoothed: what flaps is told by a
number beside the facts, under the settings in force.

Reads a history, writes nothing.
"""

from __future__ import annotations

from typing import Any, Literal

from ledger.entry import Entry
from ledger.events import SettingsChanged
from projections.cluster import Cluster
from replay.answers_conditions import Absence, Absences, Standing
from replay.glances import no_machine
from replay.history import History
from replay.intervals import window
from replay.spans import format_instant
from replay.turns import Progress, turns
from replay.walk import Stop, Walk

_ACTS = ("machine.joined", "machine.left", "machine.disconnected", "machine.reconnected", "hostname.changed", "key.changed")


def absences(
    history: History, machine: str, since_ns: int | None = None, until_ns: int | None = None, *, progress: Progress | None = None
) -> Absences:
    """What the machine was over [since, until), from the first entry to the last if not given. Raises Refused for a window
    that ends before it begins, and for a machine that the history does not know.
    """
    start_ns, end_ns = window(history, since_ns, until_ns)
    last = history.at(history.end_ns())
    if machine not in last.machines:
        raise no_machine(machine, last.machines)
    found: list[tuple[Standing, Stop]] = []
    marks = turns(history, start_ns, end_ns)
    for number, stop in enumerate(Walk(history, start_ns).stops(marks, end_ns, every=False) if start_ns < end_ns else ()):
        if progress is not None:
            progress(number, len(marks))
        state = standing(stop.cluster, machine)
        if not found or found[-1][0] != state:
            found.append((state, stop))
    acts = _acts(history, machine)
    ends = [stop.cluster.at_ns for _state, stop in found[1:]] + [end_ns]
    rows = [
        _row(machine, state, stop, end, start_ns=start_ns, end_ns=end_ns, acts=acts)
        for (state, stop), end in zip(found, ends, strict=False)
    ]
    silent = [stop.cluster.at_ns for number, (state, stop) in enumerate(found) if state == "silent" and number]
    settings = last.settings or SettingsChanged(0)
    return Absences(
        machine=machine,
        since=format_instant(start_ns),
        until=format_instant(end_ns),
        left=sum(state == "absent" for state, _stop in found[1:]),
        silent=len(silent),
        planned=sum(state == "planned" for state, _stop in found[1:]),
        times_ns={each: sum(row.span_ns for row in rows if row.state == each) for each in _STATES},
        flaps_max=settings.flaps_max,
        flap_window_ms=settings.flap_window_ms,
        flapping=_most(silent, settings.flap_window_ms * 1_000_000) > settings.flaps_max,
        stretches=rows,
    )


_STATES: tuple[Standing, ...] = ("up", "silent", "unknown", "planned", "absent")


def standing(cluster: Cluster, machine: str) -> Standing:
    """What the machine is at the moment."""
    view = cluster.machines.get(machine)
    if view is None or not view.member:
        return "absent"
    if machine in cluster.planned:
        return "planned"
    return "up" if view.communicating else "unknown" if view.communicating is None else "silent"


def _acts(history: History, machine: str) -> list[Entry]:
    """What operators did about the machine, by instant."""
    found: list[Entry] = []
    for feed in history.feeds:
        for act in history.reader(feed).rare(_ACTS):
            event: Any = act.event
            if getattr(event, "machine", feed.machine) == machine:
                found += history.entries(feed, act.index - 1, act.index)
    return sorted(found, key=lambda entry: (entry.effective_ns, entry.feed, entry.index))


def _row(machine: str, state: Standing, stop: Stop, until_ns: int, *, start_ns: int, end_ns: int, acts: list[Entry]) -> Absence:
    since_ns = stop.cluster.at_ns
    within = [entry for entry in acts if since_ns < entry.effective_ns <= until_ns] if state != "up" and until_ns < end_ns else []
    view = stop.cluster.machines.get(machine)
    member = stop.cluster.membership.machines.get(machine)
    back: Literal["itself", "operator"] | None = (
        None if state == "up" or until_ns == end_ns else "operator" if within else "itself"
    )
    by = stop.entries[-1].position if stop.entries and since_ns > start_ns else None
    return Absence(
        state=state,
        since=format_instant(since_ns),
        until=None if until_ns == end_ns else format_instant(until_ns),
        span_ns=until_ns - since_ns,
        cause="disconnected" if state == "planned" else view.cause if view is not None and state != "up" else None,
        pos=view.since_pos if view is not None and state == "absent" else by,
        by=member.by if member is not None and state == "absent" else None,
        ended_by=back,
        ended_pos=[entry.position for entry in within],
    )


def _most(at_ns: list[int], within_ns: int) -> int:
    """The most of these ascending instants that lie within so long a time."""
    best = first = 0
    for place, instant in enumerate(at_ns):
        while instant - at_ns[first] > within_ns:
            first += 1
        best = max(best, place - first + 1)
    return best
