"""Who set what: for each field of a machine, a link or a pair the entry that made it what it is at a moment.

Every field is listed, also one that is null: that too may be some entry's doing. What no single entry set (whether a machine
communicates, the state of a pair) stands without one: it follows from the others, and `why` tells how. A pair is asked as
its two links, whose fields are then named `alpha:charlie.state`.

Reads a history, writes nothing. Entries are opened only where they are named.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ledger.errors import Refused
from ledger.events import PingFailed
from ledger.identity import Position
from projections.cluster import Cluster
from projections.views import UNSEEN, LinkView
from replay.answers import Blame, Blamed
from replay.authors import Place, author, author_of_link
from replay.cells import KEYS, Cell, last_ping, link_values, machine_values, parse_cell
from replay.history import History
from replay.select import Selection, select
from replay.spans import format_instant
from replay.union import spelled

_MACHINE = (
    "member", "cause", "since", "communicating", "covered", "hostname", "port", "account", *KEYS, "disconnected", "version",
)  # fmt: skip
_LINK = (
    "state", "reason", "culprit", "since", "link", "address", "last_good", "first_bad", "last_ping", "rtt_us", "sent", "lost",
)  # fmt: skip
_SPEAKING = ("node.started", "version.changed")

Found = tuple[str, Any, Place | None]
"""A field, its value, and the entry that set it."""


def blame(history: History, cell: Cell | str, moment: int | datetime | str | Position) -> Blame:
    """For each field of `cell` (`charlie`, `alpha:charlie`, `alpha=charlie`) the entry that set it, as of `moment`.

    Raises Refused if the cell names a machine that the history does not know by then, and what `History.at` raises.
    """
    return blame_of(history, cell, history.at(moment))


def blame_of(history: History, cell: Cell | str, cluster: Cluster) -> Blame:
    """The same, of a cluster that is at hand: such as what one machine knew."""
    meant = parse_cell(cell) if isinstance(cell, str) else cell
    if meant.kind == "machine":
        found = list(_machine(history, cluster, meant))
    elif meant.kind == "link":
        found = list(_link(history, cluster, meant.a, meant.b))
    else:
        found = [("state", cluster.pair(meant.a, meant.b), None)]
        for a, b in ((meant.a, meant.b), (meant.b, meant.a)):
            found += [(f"{a}:{b}.{field}", value, place) for field, value, place in _link(history, cluster, a, b)]
    observer = cluster.view.observer if cluster.view else None
    return Blame(cell=str(meant), at=format_instant(cluster.at_ns), as_seen_by=observer, fields=_opened(history, found))


def _machine(history: History, cluster: Cluster, cell: Cell) -> Iterator[Found]:
    _known(cluster, cell.a)
    values = machine_values(cluster, cell.a)
    for field in _MACHINE:
        if field == "version":
            yield _version(history, cluster, cell.a)
        else:
            yield field, values.get(field), author(cluster, cell, field)


def _version(history: History, cluster: Cluster, machine: str) -> Found:
    """The software it ran: said by a start, or by a change of version."""
    state = cluster.speakers.get(machine)
    if state is None or not state.software:
        return "version", None, None
    for entry in reversed(history.reader(state.feed).rare(_SPEAKING, state.entries)):
        event: Any = entry.event
        if state.software in {getattr(event, "software", None), getattr(event, "new", None)}:
            return "version", state.software, (state.feed, entry.index)
    return "version", state.software, None


def _view(cluster: Cluster, observer: str, peer: str) -> LinkView:
    _known(cluster, observer)
    view = cluster.link(observer, peer)
    if view is UNSEEN:
        _known(cluster, peer)
    return view


def _known(cluster: Cluster, machine: str) -> None:
    machines = cluster.membership.machines
    if machine not in machines and machine not in {feed.machine for feed in cluster.states}:
        names = ", ".join(list(machines)[:8]) or "none"
        raise Refused(f"no machine {machine} by {format_instant(cluster.at_ns)}", hint=f"there were {names}")


def _link(history: History, cluster: Cluster, observer: str, peer: str) -> Iterator[Found]:
    view = _view(cluster, observer, peer)
    values = link_values(view, {})
    values.update(last_ping=last_ping(view), sent=view.sent, lost=view.lost)
    answered = author_of_link(cluster, (observer, peer), view, "rtt_us")
    if answered is not None:
        values["rtt_us"] = cluster.states[answered[0]].pings[peer].rtt_us
    for field, evidence in (("last_good", view.good), ("first_bad", view.bad)):
        if evidence is not None:
            values[field] = format_instant(evidence[0])
    for field in _LINK:
        place = author_of_link(cluster, (observer, peer), view, field)
        if field == "lost" and place is None and view.lost:
            place = _last_lost(history, cluster, observer, peer)
        yield field, values.get(field), place


def _last_lost(history: History, cluster: Cluster, observer: str, peer: str) -> Place | None:
    """The last ping that failed, where others were answered after it."""
    failed = Selection(cell=Cell("link", observer, peer), kinds=(PingFailed.kind,), until_ns=cluster.at_ns + 1)
    for entry in select(history, failed, reverse=True):
        state = cluster.states.get(entry.feed)
        if state is not None and entry.index <= state.entries:
            return entry.feed, entry.index
    return None


def _opened(history: History, found: list[Found]) -> list[Blamed]:
    """The fields with their entries' instants and kinds."""
    names = spelled(history.feeds)
    entries = {
        place: entry
        for place in {place for _field, _value, place in found if place is not None}
        for entry in history.entries(place[0], place[1] - 1, place[1])
    }
    result = []
    for field, value, place in found:
        if place is None:
            result.append(Blamed(field, value, None, None, None))
        else:
            entry = entries[place]
            at = format_instant(entry.effective_ns)
            result.append(Blamed(field, value, f"{names[place[0]]}#{place[1]}", at, entry.kind))
    return result
