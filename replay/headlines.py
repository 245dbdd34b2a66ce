"""What people read above and below a table: what it is as of, how much of it is covered, and what stands out.

The head of a state says the moment, the cluster, how many machines and feeds, and how many links are up, down and unknown.
For few machines `connstatus` is a matrix, FROM down and TO across, with one line on each row or column that stands out.
These lines are for eyes: whoever wants data asks for json.

Pure: a cluster or an answer in, lines out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from projections.cluster import Cluster
from replay.answers import Connstatus, Link
from replay.receipts import Import, Merge
from replay.spans import format_instant, format_span

MATRIX_MAX: Final = 25
"""More machines than this do not fit side by side."""


def head(cluster: Cluster) -> list[str]:
    """The lines above every state."""
    name = f"cluster {cluster.name}; " if cluster.name else ""
    members = counted(len(cluster.members), "member")
    feeds = len(cluster.members)
    covered = f"{len(cluster.covered)} of {counted(feeds, 'feed')} cover{'s' * (feeds == 1)} it"
    seen = f"as seen by {cluster.view.observer}; " if cluster.view else ""
    if cluster.dissolved:
        return [f"as of {format_instant(cluster.at_ns)}; {seen}{name}dissolved: no member is left"]
    return [f"as of {format_instant(cluster.at_ns)}; {seen}{name}{members}; {covered}"]


def links(cluster: Cluster) -> str:
    """How many links are in which state."""
    states = Counter(view.state for view in cluster.links.values())
    pairs = Counter(cluster.pairs.values())
    told = ", ".join(f"{states[state]} {state}" for state in ("up", "down", "unknown") if states[state]) or "none"
    odd = [f"{pairs[state]} {state}" for state in ("asymmetric", "planned", "uncovered") if pairs[state]]
    return f"links: {told}" + (f"; pairs: {', '.join(odd)}" if odd else "")


def matrix(answer: Connstatus) -> list[str]:
    """FROM and TO: one row an observer, what it saw of each other machine."""
    names = answer.cluster.members
    rows = [["FROM \\ TO", *names]]
    rows += [[a, *("-" if a == b else _seen(answer.links[f"{a}:{b}"]) for b in names)] for a in names]
    widths = [max(len(row[column]) for row in rows) for column in range(len(names) + 1)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _seen(link: Link) -> str:
    if link.state == "up":
        rtt_us = link.last_ping.rtt_us if link.last_ping else None
        return "up" if rtt_us is None else f"up {rtt_us / 1000:.1f}ms"
    return "unknown" if link.state == "unknown" else f"DOWN {link.reason or ''}".rstrip()


def reading(answer: Connstatus) -> Iterator[str]:
    """What stands out in the matrix: columns down for most who know, rows of which nothing is known, pairs that differ."""
    names = answer.cluster.members
    for name in names:
        column = Counter(answer.links[f"{other}:{name}"].state for other in names if other != name)
        known = column["up"] + column["down"]
        if column["down"] * 2 > known:
            yield f"reading: column {name} is down for {column['down']} of {known} that know: {name} is hard to reach"
        row = {answer.links[f"{name}:{other}"].state for other in names if other != name}
        if row == {"unknown"}:
            yield f"reading: row {name} is unknown: no feed of {name} says anything for this moment"
    for pair, state in answer.pairs.items():
        if state == "asymmetric":
            a, _, b = pair.partition("=")
            down = f"{a}:{b}" if answer.links[f"{a}:{b}"].state == "down" else f"{b}:{a}"
            yield f"reading: {pair} is asymmetric: {down} is down, the way back is up"


def taken(answer: Merge | Import) -> str:
    """The sum of what feeds brought."""
    new = sum(feed.new for feed in answer.feeds.values())
    there = sum(feed.there for feed in answer.feeds.values())
    conflicting = sum(feed.conflicting for feed in answer.feeds.values())
    feeds = counted(len(answer.feeds), "feed")
    return f"{feeds}: {new:,} new, {there:,} already there, {conflicting:,} conflicting, {len(answer.refused):,} refused"


def written(feeds: Mapping[str, int], form: str) -> str:
    """What left, where no table says so."""
    entries = sum(feeds.values())
    return f"{entries:,} {'entry' if entries == 1 else 'entries'} of {counted(len(feeds), 'feed')} as {form}"


def counted(count: int, word: str) -> str:
    """`1 member`, `4 members`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def lasting(since_ns: int, until_ns: int) -> str:
    """A window and its length."""
    return f"from {format_instant(since_ns)} until {format_instant(until_ns)}, {format_span(until_ns - since_ns)}"
