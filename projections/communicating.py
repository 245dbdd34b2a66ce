"""Whether a member talks to the mesh: a fact of its own, apart from membership and from names.

True if any link to or from it is up; false if all of them are known to be down; else unknown. What counts as known is the word of
observers whose feed covers the moment: the last state in a feed that ended long ago is neither yes nor no. A name that does
not resolve is at most the reason given, never the fact. Pure: links in, answers out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import msgspec

from projections.feed_state import FeedState
from projections.views import LinkView, Pair


class Contact(msgspec.Struct, frozen=True, gc=False):
    """What the links to and from one member amount to; `reason`: the most frequent of those down, then the first by name."""

    state: bool | None
    reason: str | None


def contacts(members: Iterable[str], links: Mapping[Pair, LinkView], covered: Collection[str]) -> dict[str, Contact]:
    """For each member what its links say."""
    up: set[str] = set()
    unsure: set[str] = set()
    reasons: dict[str, list[str]] = {}
    for pair, view in links.items():
        if view.state == "up" and pair[0] in covered:
            up.update(pair)
        elif view.state == "down" and pair[0] in covered:
            for machine in pair:
                reasons.setdefault(machine, []).append(view.reason or "unknown")
        else:
            unsure.update(pair)
    return {
        machine: Contact(True if machine in up else None if machine in unsure else False, _commonest(reasons.get(machine, [])))
        for machine in members
    }


def _commonest(reasons: list[str]) -> str | None:
    counts = Counter(reasons)
    return min(counts, key=lambda reason: (-counts[reason], reason), default=None)


def name_failed(key: str, speakers: Mapping[str, FeedState]) -> bool:
    """Whether the latest look-up under `key`, by whichever machine, gave nothing to dial."""
    found = [
        (lookup.at_ns, observer, lookup.index, lookup.failed)
        for observer, state in speakers.items()
        if (lookup := state.lookups.get(key)) is not None
    ]
    return bool(found) and max(found)[3]
