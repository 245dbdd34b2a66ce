"""What one machine knew, read from ledgers: the parts of a `belief`, each feed cut where the machine's own feed says.

Only the machine's own feeds decide how far any other feed counts, so whatever else the ledgers hold changes nothing. Where they
hold less than the machine had received, the belief says so (`View.lacking`), and the feed covers nothing.

Reads a history, writes nothing. `live` hands the same to a node, to be kept up with what it stores.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ledger.errors import NotCovered, Refused
from ledger.identity import Feed, Position, parse_position
from projections.belief import Belief, Refold, believed, growths
from projections.cluster import Cluster
from projections.feed_state import FeedState
from replay.folding import alone

if TYPE_CHECKING:
    from replay.history import History


class _Parts(NamedTuple):
    """What a belief is made of. `said`: entries held by feed id, as stated; `kept`: of its own earlier epochs."""

    own: FeedState
    others: list[FeedState]
    said: dict[str, int]
    kept: dict[str, int]
    lacking: dict[str, tuple[int, int]]
    stretches: list[tuple[Feed, int]]


def belief(history: History, machine: str, moment: int | datetime | str | Position) -> Cluster:
    """See `History.belief`."""
    feeds = own_feeds(history, machine)
    position = parse_position(moment) if isinstance(moment, str) else moment if isinstance(moment, Position) else None
    named = [place for place, feed in enumerate(feeds) if position is not None and position.names(feed)]
    if position is not None and len(named) == 1:
        place, index = named[0], history.entry(position).index
        parts = _parts(history, [*((feed, history.last(feed)) for feed in feeds[:place]), (feeds[place], index)])
        at_ns = parts.own.last_ns
    else:
        at_ns = history.resolve(moment)
        parts = _parts(history, _begun(history, machine, feeds, at_ns))
    return believed(parts.own, parts.others, _grown(history, parts, at_ns), parts.lacking, at_ns)


def live(history: History, feed: Feed, refold: Refold) -> Belief:
    """The belief of the machine that writes `feed`, as it stands at the end of what the ledgers hold, to be kept up.

    `refold`: such as `folding.prefix` over the reader of a feed in the ledger that is written (see `Belief`).
    """
    feeds = own_feeds(history, feed.machine)
    earlier = feeds[: feeds.index(feed)] if feed in feeds else []
    parts = _parts(history, [*((each, history.last(each)) for each in earlier), (feed, history.last(feed))])
    return Belief.resumed(
        parts.own,
        parts.others,
        refold=refold,
        said=parts.said,
        kept=parts.kept,
        grown=_grown(history, parts, parts.own.last_ns),
        stored={each: history.last(each) for each in history.feeds if each != feed},
    )


def own_feeds(history: History, machine: str) -> list[Feed]:
    """The feeds that `machine` wrote, by epoch: of several that bear its name those that a join or a change of key names.

    Raises Refused for a machine that nothing here speaks of, NotCovered for one of which there is no feed.
    """
    named = [feed for feed in history.feeds if feed.machine == machine]
    if len(named) == 1:
        return named
    known = history.at(history.end_ns()).membership.machines
    if not named:
        there = ", ".join(sorted({feed.machine for feed in history.feeds})) or "none"
        if machine in known:
            raise NotCovered(f"no feed of {machine} is at hand, so nothing says what it knew", hint=f"there are feeds of {there}")
        raise Refused(f"no machine {machine} in these ledgers", hint=f"there are feeds of {there}")
    vouched = known[machine].feeds if machine in known else ()
    return [feed for feed in named if feed in vouched] or named


def _begun(history: History, machine: str, feeds: list[Feed], at_ns: int) -> list[tuple[Feed, int]]:
    """The machine's feeds that had begun, with how many entries: all of them but for the last, which is cut."""
    cuts = [(feed, history.reader(feed).cut(at_ns)) for feed in feeds]
    begun = [(feed, count) for feed, count in cuts if count]
    if not begun:
        hint = f"its first entry is {feeds[0].at(1)}: ask for that, or later"
        raise NotCovered(f"{machine}'s feed had not begun by then, so nothing says what it knew", hint=hint)
    return [*((feed, history.last(feed)) for feed, _count in begun[:-1]), begun[-1]]


def _parts(history: History, begun: list[tuple[Feed, int]]) -> _Parts:
    stretches: list[tuple[Feed, int]] = []
    for feed, count in begun:
        opening = history.prefix(feed, 1).opening if count else None
        if opening is not None and opening.why == "new":
            stretches = []  # on an empty disk
        elif opening is not None and opening.lost_from is not None and stretches:
            before, held = stretches[-1]
            stretches[-1] = before, min(held, max(0, opening.lost_from - 1))
        stretches.append((feed, count))
    said: dict[str, int] = {}
    for feed, count in stretches:
        said.update(_held(history, feed, count))
    own = stretches[-1][0]
    said.pop(own.id, None)
    kept = {feed.id: count for feed, count in stretches[:-1]}
    by_id = {feed.id: feed for feed in history.feeds}
    others, lacking = [], {}
    for name in {**said, **kept}:
        wanted = max(said.get(name, 0), kept.get(name, 0))
        there = history.last(by_id[name]) if name in by_id else 0
        if there < wanted:
            lacking[name] = there, wanted
        if min(there, wanted):
            others.append(history.prefix(by_id[name], min(there, wanted)))
    return _Parts(history.prefix(*stretches[-1]), others, said, kept, lacking, stretches)


def _held(history: History, feed: Feed, count: int) -> dict[str, int]:
    return {name: held for name, held in history.prefix(feed, count).held().items() if name != feed.id}


def _grown(history: History, parts: _Parts, at_ns: int) -> dict[str, int]:
    """When the counts held last grew, as far back as it matters."""
    interval_ns = Cluster({state.feed: state for state in (*parts.others, parts.own)}).interval_ns
    horizon_ns = at_ns - 4 * interval_ns - 1
    said: dict[str, int] = {}
    grown: dict[str, int] = {}
    for feed, count in parts.stretches:
        start = min(history.reader(feed).cut(horizon_ns), count)
        if any(stretch.first <= count <= stretch.last for stretch in history.reader(feed).timeline().stretches):
            start = 0
        said.update(_held(history, feed, start))
        grown.update(growths(said, alone(history.reader(feed), start, count)))
        said.update(_held(history, feed, count))
    return grown
