"""What changed from one moment to another, field by field, each with both values and the entry that set the new one.

A difference is a list of changes from one grid of cells to another (`cells`). Null on either side means that the field was
not there: a link that appears has a `state` that was null, one that a removal takes away has one that is. The laws: a diff
applied to the moment before gives the moment after; nothing differs from itself; the diff back is the mirror image; two
diffs in a row compose to the one over both. They hold for any two clusters, in either order of time.

Pure: clusters in, changes out.
"""

from __future__ import annotations

from collections.abc import Iterable

from projections.cluster import Cluster
from replay.answers import Change, Diff
from replay.authors import author
from replay.cells import CLUSTER, CLUSTER_FIELDS, FIELDS, Cells, cells, parse_cell, place_of
from replay.spans import format_instant


def diff(before: Cluster, after: Cluster, *, pings: bool = False) -> list[Change]:
    """What is otherwise in `after`: the cluster first, then machines, links and pairs by name, in the order of fields.

    `pos` names the entry of `after` that set the new value, null where it follows from others (a pair, a route, whether a
    machine communicates). `pings`: also what every ping changes (`last_ping`, `sent`, `lost`).
    """
    old, new = cells(before, pings=pings), cells(after, pings=pings)
    changes: list[Change] = []
    for name in sorted(old.keys() | new.keys(), key=place_of):
        was, now = old.get(name, {}), new.get(name, {})
        if was != now:
            fields = [field for field in sorted(was.keys() | now.keys(), key=FIELDS.index) if was.get(field) != now.get(field)]
            changes += [Change(name, each, was.get(each), now.get(each), _position(after, name, each)) for each in fields]
    return changes


def answer(before: Cluster, after: Cluster, *, pings: bool = False) -> Diff:
    """The same, as it is printed."""
    return Diff(
        since=format_instant(before.at_ns),
        until=format_instant(after.at_ns),
        as_seen_by=after.view.observer if after.view else None,
        changes=diff(before, after, pings=pings),
    )


def apply(changes: Iterable[Change], grid: Cells) -> Cells:
    """The cells of the moment after, from those of the moment before."""
    result = {name: dict(values) for name, values in grid.items()}
    for change in changes:
        values = result.setdefault(change.cell, {})
        if change.new is None:
            values.pop(change.field, None)
        else:
            values[change.field] = change.new
    return {name: values for name, values in result.items() if values}


def _position(cluster: Cluster, name: str, field: str) -> str | None:
    cell = None if name == CLUSTER and field in CLUSTER_FIELDS else parse_cell(name)
    found = author(cluster, cell, field)
    return found[0].at(found[1]) if found else None
