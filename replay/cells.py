"""The mesh as a grid of small facts: cells, each with its fields.

A cell is a machine (`charlie`), a link (`alpha:charlie`, as alpha saw it), a pair (`alpha=charlie`), or the `cluster` itself.
`cells` gives everything that was so at a moment as plain values; what is null is left out, and a cell without a field is
not there. So two moments are compared field by field (`diff`), and one field is asked for the entry that set it (`authors`).
A link is named with its id and address while it is up or down; an unknown one has neither.

Pure: clusters and names in, values out.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from ledger.errors import Refused
from ledger.identity import machine_name
from projections.cluster import Cluster
from projections.views import LinkView
from replay.spans import format_instant
from replay.text import shorten

Values = dict[str, Any]
Cells = dict[str, Values]

CLUSTER: Final = "cluster"
"""The name of the cluster's own cell. A machine may bear it too: no field of the one is a field of the other."""
SETTINGS: Final = (
    "ping_interval_ms", "ping_timeout_ms", "lost_after", "connections_max", "machines_max", "flaps_max", "flap_window_ms",
)  # fmt: skip
CLUSTER_FIELDS: Final = ("name", "incarnation", "transport", "addressing", "dissolved", *SETTINGS)
KEYS: Final = {"host_key": "host", "dial_key": "dial", "ledger_key": "ledger"}
MACHINE_FIELDS: Final = (
    "member", "communicating", "cause", "hostname", "since", "since_pos", "disconnected", "covered", "port", "account", *KEYS,
)  # fmt: skip
LINK_FIELDS: Final = ("state", "reason", "culprit", "since", "since_pos", "link", "address")
PING_FIELDS: Final = ("last_ping", "sent", "lost")
FIELDS: Final = tuple(dict.fromkeys((*CLUSTER_FIELDS, *LINK_FIELDS[:3], *MACHINE_FIELDS, *LINK_FIELDS, *PING_FIELDS, "route")))
"""Every field, in the order in which they are listed."""
_NAMED_AS: Final = "a machine such as charlie, a link such as alpha:charlie, or a pair such as alpha=charlie"


class Cell(msgspec.Struct, frozen=True):
    """Which cell is meant. `b` is empty for a machine; in a pair `a` is the smaller name."""

    kind: Literal["machine", "link", "pair"]
    a: str
    b: str = ""

    def __str__(self) -> str:
        return self.a + {"machine": "", "link": ":", "pair": "="}[self.kind] + self.b


def parse_cell(text: str) -> Cell:
    """The cell that `text` names: `charlie`, `alpha:charlie` or `alpha=charlie`. Raises Refused if it names none."""
    for kind, sign in (("link", ":"), ("pair", "=")):
        if sign in text:
            a, b = (_machine(part, text) for part in text.split(sign, 1))
            if a == b:
                raise Refused(f"'{shorten(text)}' names one machine twice", hint=f"name {_NAMED_AS}")
            if kind == "link":
                return Cell("link", a, b)
            return Cell("pair", min(a, b), max(a, b))
    return Cell("machine", _machine(text, text))


def _machine(part: str, text: str) -> str:
    try:
        return machine_name(part)
    except Refused:
        raise Refused(f"'{shorten(text)}' names nothing in a mesh", hint=f"name {_NAMED_AS}") from None


def place_of(name: str) -> tuple[int, str]:
    """Where a cell stands in a list of cells: the cluster, machines, links, pairs, each by name."""
    return (2 if ":" in name else 3 if "=" in name else int(name != CLUSTER)), name


# Everything that was so.


def cells(cluster: Cluster, *, pings: bool = False) -> Cells:
    """By cell and field, all that is not null. `pings`: with what each ping changes (`last_ping`, `sent`, `lost`)."""
    texts: dict[int, str] = {}
    found: Cells = {CLUSTER: _cluster(cluster)}
    for name in cluster.membership.machines:
        found.setdefault(name, {}).update(machine_values(cluster, name))
    routes = cluster.routes.as_dict()
    for pair, view in cluster.links.items():
        values = link_values(view, texts)
        if pings and view.sent:
            values.update(_of_pings(view))
        route = routes[pair]
        if route is not None:
            values["route"] = list(route) if isinstance(route, tuple) else route
        found[f"{pair[0]}:{pair[1]}"] = values
    for (a, b), state in cluster.pairs.items():
        found[f"{a}={b}"] = {"state": state}
    return found


def _told(**values: Any) -> Values:
    return {field: value for field, value in values.items() if value is not None}


def _cluster(cluster: Cluster) -> Values:
    values = _told(
        name=cluster.name,
        incarnation=cluster.incarnation,
        transport=cluster.transport,
        addressing=cluster.addressing,
        dissolved=cluster.dissolved,
    )
    if cluster.settings is not None:
        values.update({field: getattr(cluster.settings, field) for field in SETTINGS})
    return values


def machine_values(cluster: Cluster, name: str) -> Values:
    """What is so of a machine; nothing of one that never had a counting join."""
    view, member = cluster.machines.get(name), cluster.membership.machines.get(name)
    if view is None or member is None:
        return {}
    return _told(
        member=view.member,
        communicating=view.communicating,
        cause=view.cause,
        hostname=view.hostname,
        since=format_instant(view.since_ns),
        since_pos=view.since_pos,
        disconnected=member.disconnected,
        covered=name in cluster.covered if view.member else None,
        port=member.port,
        account=member.account,
        host_key=member.host_key,
        dial_key=member.dial_key,
        ledger_key=member.ledger_key,
    )


def link_values(view: LinkView, texts: dict[int, str]) -> Values:
    """What is so of a link, but for its pings. `texts`: instants that are text already."""
    values: Values = {"state": view.state}
    if view.reason is not None:
        values["reason"] = view.reason
    if view.since and view.feed is not None:
        since = texts.get(view.since_at)
        if since is None:
            since = texts[view.since_at] = format_instant(view.since_at)
        values["since"] = since
        values["since_pos"] = view.feed.at(view.since)
    stood = view.link
    if stood is not None and view.state != "unknown":
        if stood.link is not None:
            values["link"] = stood.link
        if stood.address is not None:
            values["address"] = stood.address
        if stood.culprit is not None:
            values["culprit"] = stood.culprit
    return values


def _of_pings(view: LinkView) -> Values:
    return _told(last_ping=last_ping(view), sent=view.sent, lost=view.lost)


def last_ping(view: LinkView) -> Values | None:
    """The last ping over a link, in the shape in which it is printed."""
    last = view.last_ping
    return {"at": format_instant(last.at_ns), "outcome": last.outcome, "rtt_us": last.rtt_us} if last else None
