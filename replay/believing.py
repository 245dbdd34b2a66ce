"""What one machine knew, read from ledgers: the parts of a `belief`, each feed cut where the machine's own feed says.

Only the machine's own feeds decide how far any other feed counts, so whatever else the ledgers hold changes nothing. Where they
hold less than the machine had received, the belief says so (`View.lacking`), and the feed covers nothing.

Reads a history, writes nothing. `live` hands the same to a node, to be kept up with what it stores.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol

from ledger.entry import Entry
from ledger.errors import NotCovered, Refused
from ledger.events import FeedOpened
from ledger.feeds import FeedReader
from ledger.identity import Feed, Position, parse_position
from projections.belief import Belief, believed, growths
from projections.cluster import Cluster
from projections.feed_state import FeedState
from projections.growing import Refold
from replay.folding import alone

Moment = int | datetime | str | Position


class Recorded(Protocol):
    """What is asked of a history: `History` is one."""

    @property
    def feeds(self) -> list[Feed]:
        """All feeds."""
        ...

    def reader(self, feed: Feed) -> FeedReader:
        """The reader of a feed."""
        ...

    def last(self, feed: Feed) -> int:
        """How many entries of a feed stand."""
        ...

    def prefix(self, feed: Feed, count: int) -> FeedState:
        """The fold of a feed's beginning."""
        ...

    def entry(self, position: Position | str) -> Entry:
        """The entry at a position."""
        ...

    def resolve(self, moment: Moment) -> int:
        """The instant of a moment."""
        ...

    def at(self, moment: Moment) -> Cluster:
        """All that is known of a moment."""
        ...

    def end_ns(self) -> int:
        """The latest instant."""
        ...


class Parts(NamedTuple):
    """What a belief is made of. `stretches`: its own feeds, as far as it knows them; `said`: entries held by feed id, as
    stated; `kept`: entries of its own earlier epochs; `lacking`: as in `View`.
    """

    own: FeedState
    others: list[FeedState]
    said: dict[str, int]
    kept: dict[str, int]
    lacking: dict[str, tuple[int, int]]
    stretches: list[tuple[Feed, int]]


def belief(history: Recorded, machine: str, moment: Moment) -> Cluster:
    """See `History.belief`."""
    feeds = own_feeds(history, machine)
    position = parse_position(moment) if isinstance(moment, str) else moment if isinstance(moment, Position) else None
    named = [place for place, feed in enumerate(feeds) if position is not None and position.names(feed)]
    if position is not None and len(named) == 1:
        place, index = named[0], history.entry(position).index
        found = parts(history, [*((feed, history.last(feed)) for feed in feeds[:place]), (feeds[place], index)])
        at_ns = found.own.last_ns
    else:
        at_ns = history.resolve(moment)
        found = parts(history, _begun(history, machine, feeds, at_ns))
    return believed(found.own, found.others, grown(history, found, at_ns), found.lacking, at_ns)


def live(history: Recorded, feed: Feed, refold: Refold) -> Belief:
    """The belief of the machine that writes `feed`, as it stands at the end of what the ledgers hold, to be kept up.

    `refold`: such as `folding.prefix` over the reader of a feed in the ledger that is written (see `Belief`).
    """
    feeds = own_feeds(history, feed.machine)
    earlier = feeds[: feeds.index(feed)] if feed in feeds else []
    found = parts(history, [*((each, history.last(each)) for each in earlier), (feed, history.last(feed))])
    return Belief.resumed(
        found.own,
        found.others,
        refold=refold,
        said=found.said,
        kept=found.kept,
        grown=grown(history, found, found.own.last_ns),
        stored={each: history.last(each) for each in history.feeds if each != feed},
    )


def own_feeds(history: Recorded, machine: str) -> list[Feed]:
    """The feeds that `machine` wrote, by epoch: of several that bear its name those that a join or a change of key names.

    Raises Refused for a machine that nothing here speaks of, NotCovered for one of which there is no feed.
    """
    named = [feed for feed in history.feeds if feed.machine == machine and not feed.notes]
    if len(named) == 1:
        return named
    known = history.at(history.end_ns()).membership.machines
    if not named:
        there = ", ".join(sorted({feed.machine for feed in history.feeds if not feed.notes})) or "none"
        if machine in known:
            raise NotCovered(f"no feed of {machine} is at hand, so nothing says what it knew", hint=f"there are feeds of {there}")
        raise Refused(f"no machine {machine} in these ledgers", hint=f"there are feeds of {there}")
    vouched = known[machine].feeds if machine in known else ()
    return [feed for feed in named if feed in vouched] or named


def _begun(history: Recorded, machine: str, feeds: list[Feed], at_ns: int) -> list[tuple[Feed, int]]:
    """The newest of the machine's feeds that had begun, cut; and before it all of the earlier ones."""
    cuts = [history.reader(feed).cut(at_ns) for feed in feeds]
    place = max((place for place, count in enumerate(cuts) if count), default=None)
    if place is None:
        hint = f"its first entry is {feeds[0].at(1)}: ask for that, or later"
        raise NotCovered(f"{machine}'s feed had not begun by then, so nothing says what it knew", hint=hint)
    for feed in history.feeds:
        # It may well have been the machine that wrote this one; then an older epoch is not what it knew.
        newer = feed.machine == machine and feed.epoch > feeds[place].epoch and not feed.notes
        if newer and feed not in feeds and history.reader(feed).cut(at_ns):
            raise NotCovered(
                f"{machine}'s epoch {feed.epoch} had begun by then, and nothing at hand says that its key is {machine}'s",
                hint=f"bring the log of who admitted it; {feeds[place].at(history.last(feeds[place]))} is the last entry before",
            )
    return [*((feed, history.last(feed)) for feed in feeds[:place]), (feeds[place], cuts[place])]


def parts(history: Recorded, begun: list[tuple[Feed, int]]) -> Parts:
    """What a machine knew that had written so many entries of its feeds, which stand by epoch."""
    stretches: list[tuple[Feed, int]] = []
    for feed, count in begun:
        opened = [entry.event for entry in history.reader(feed).controls(1, 1)] if count else []
        opening = opened[0] if opened and isinstance(opened[0], FeedOpened) else None
        if opening is not None and opening.why == "new":
            stretches = []  # on an empty disk
        elif opening is not None and opening.lost_from is not None and stretches:
            before, held = stretches[-1]
            stretches[-1] = before, min(held, max(0, opening.lost_from - 1))
        stretches.append((feed, count))
    folds = [history.prefix(feed, count) for feed, count in stretches]
    said: dict[str, int] = {}
    for fold in folds:
        said.update(_held(fold))
    own = folds[-1].feed
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
    return Parts(folds[-1], others, said, kept, lacking, stretches)


def _held(state: FeedState) -> dict[str, int]:
    """What a fold says was held of other feeds than itself."""
    return {name: held for name, held in state.held().items() if name != state.feed.id}


def grown(history: Recorded, found: Parts, at_ns: int) -> dict[str, int]:
    """When, on the machine's clock, the counts held last grew before `at_ns`, by feed id: as far back as it matters."""
    last: dict[str, int] = {}
    if not found.said:
        return last
    interval_ns = Cluster({state.feed: state for state in (*found.others, found.own)}).interval_ns
    horizon_ns = at_ns - 4 * interval_ns - 1
    said: dict[str, int] = {}
    for feed, count in found.stretches:
        reader = history.reader(feed)
        start = min(reader.cut(horizon_ns), count)
        if any(stretch.first <= count <= stretch.last for stretch in reader.timeline().stretches):
            start = 0
        said.update(_held(history.prefix(feed, start)))
        last.update(growths(said, alone(reader, start, count)))
        said.update(_held(found.own if feed == found.own.feed else history.prefix(feed, count)))
    return last
