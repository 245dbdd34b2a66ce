"""One link as its observer saw it: up, down or unknown, why, and since which entry.

Nothing is up by default. Established or answered makes it up; lost or failed makes it down, and down it stays while the
feed goes on; `node.started` makes it unknown until there is evidence. A failed ping decides nothing: it is the first
bad evidence, or one more. An up link of which nothing was heard for 2.5 intervals while the feed went on is unknown from
then (`link_at`), and begins anew when it is heard of again. A failure between two pings is an interval, from the
last good to the first bad evidence, never a point.

A `LinkState` keeps what link entries said; what pings said is in `PingState`, which changes at each ping so that this
need not. The transitions are functions from value to value. Indexes are entry indexes, 0 where there is none.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from projections.pings import PingState

State = Literal["up", "down", "unknown"]


class LinkState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`since`, `reason`, `culprit`, `link`, `address` belong to the entry that made the state what it is (of an up link
    `link` and `address` to the last establishment). `evidence`: the last link entry; `good`: the last establishment;
    `bad`: the first link entry that was bad after what was the last good evidence then.
    """

    state: State
    reason: str | None = None
    since_ns: int = 0
    since: int = 0
    link: str | None = None
    address: str | None = None
    culprit: str | None = None
    evidence_ns: int = 0
    evidence: int = 0
    good_ns: int = 0
    good: int = 0
    bad_ns: int = 0
    bad: int = 0


UNHEARD = LinkState("unknown")
"""A peer about which the feed has no entry."""


def silence_ns(interval_ms: int) -> int:
    """The 2.5 intervals after which an up link that is not heard of is unknown."""
    return interval_ms * 2_500_000


def evidence(link: LinkState, ping: PingState | None) -> tuple[int, int]:
    """(instant, index) of the last entry about the link."""
    if ping is not None and ping.last > link.evidence:
        return ping.last_ns, ping.last
    return link.evidence_ns, link.evidence


def good(link: LinkState, ping: PingState | None) -> tuple[int, int] | None:
    """(instant, index) of the last good evidence, None if there was none."""
    if ping is not None and ping.answered > link.good:
        return ping.answered_ns, ping.answered
    return (link.good_ns, link.good) if link.good else None


def bad(link: LinkState, ping: PingState | None) -> tuple[int, int] | None:
    """(instant, index) of the first bad evidence since the last good, None if there was none since."""
    last = good(link, ping)
    since = last[1] if last else 0
    found = [(link.bad, link.bad_ns)] if link.bad > since else []
    if ping is not None and ping.failing > since:
        found.append((ping.failing, ping.failing_ns))
    if not found:
        return None
    index, at_ns = min(found)
    return at_ns, index


def link_at(link: LinkState, ping: PingState | None, now_ns: int, end_ns: int, silent_ns: int) -> LinkState:
    """The link as it is at `now_ns`, given that the feed goes on to `end_ns` and is silent after `silent_ns`.

    `link` and `ping` are those of the feed's cut at `now_ns`. Only an up link can turn out otherwise: unknown, since the
    silence was long enough, by the last evidence.
    """
    if link.state != "up":
        return link
    at_ns, index = (
        (ping.last_ns, ping.last) if ping is not None and ping.last > link.evidence else (link.evidence_ns, link.evidence)
    )
    if min(now_ns, end_ns) - at_ns < silent_ns:
        return link
    return _silent(link, at_ns + silent_ns, index)


def _silent(link: LinkState, since_ns: int, since: int) -> LinkState:
    return LinkState(
        "unknown", None, since_ns, since, link.link, link.address, None,
        link.evidence_ns, link.evidence, link.good_ns, link.good, link.bad_ns, link.bad,
    )  # fmt: skip


def established(
    link: LinkState,
    ping: PingState | None,
    index: int,
    at_ns: int,
    silent_ns: int,
    *,
    name: str | None,
    address: str | None,
) -> LinkState:
    """After `link.established` at (`index`, `at_ns`) as `name`. An up link that was not silent stays up since it was."""
    since_ns, since = at_ns, index
    if link.state == "up" and at_ns - evidence(link, ping)[0] < silent_ns:
        since_ns, since = link.since_ns, link.since
    return LinkState("up", None, since_ns, since, name, address, None, at_ns, index, at_ns, index, link.bad_ns, link.bad)


def lost(
    link: LinkState, ping: PingState | None, index: int, at_ns: int, *,
    reason: str, name: str | None, address: str | None, culprit: str | None,
) -> LinkState:  # fmt: skip
    """After `link.lost` or `link.failed`. What is down already stays down since it was, for the reason it was."""
    last = good(link, ping)
    bad_ns, first = (link.bad_ns, link.bad) if link.bad > (last[1] if last else 0) else (at_ns, index)
    if link.state == "down":
        return LinkState(
            "down", link.reason, link.since_ns, link.since, link.link, link.address, link.culprit,
            at_ns, index, link.good_ns, link.good, bad_ns, first,
        )  # fmt: skip
    return LinkState("down", reason, at_ns, index, name, address, culprit, at_ns, index, link.good_ns, link.good, bad_ns, first)


def answered(link: LinkState, ping: PingState | None, index: int, at_ns: int, silent_ns: int, *, name: str | None) -> LinkState:
    """After `ping.answered` over link id `name`: up, from here unless it was up and not silent; then nothing changes."""
    if link.state == "up" and at_ns - evidence(link, ping)[0] < silent_ns:
        return link
    address = link.address if name is not None and name == link.link else None
    return LinkState(
        "up", None, at_ns, index, name, address, None,
        link.evidence_ns, link.evidence, link.good_ns, link.good, link.bad_ns, link.bad,
    )  # fmt: skip


def ping_failed(link: LinkState, ping: PingState | None, at_ns: int, silent_ns: int) -> LinkState:
    """After `ping.failed`: never up, never down by itself. An up link that had been silent is unknown from that silence on."""
    if link.state != "up":
        return link
    heard_ns, heard = evidence(link, ping)
    return _silent(link, heard_ns + silent_ns, heard) if at_ns - heard_ns >= silent_ns else link


def started(link: LinkState, index: int, at_ns: int) -> LinkState:
    """After `node.started`: unknown, since then."""
    return LinkState(
        "unknown", None, at_ns, index, None, None, None,
        link.evidence_ns, link.evidence, link.good_ns, link.good, link.bad_ns, link.bad,
    )  # fmt: skip
