"""What a feed's beginnings say, one longer than the other: its links that are up, as a function of how many entries are held.

A belief cuts other feeds by count. So that the beliefs of many machines are followed through a window without folding every
feed once for each of them, each feed is folded once, entry by entry, and what matters to who is joined to whom is kept
with the index from which on it is so. What lies outside the stretch that was followed is folded when it is asked for.

Reads a feed, writes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

from ledger.entry import Entry
from ledger.events import PingAnswered
from ledger.identity import Feed
from projections.feed_state import FeedState
from projections.growing import grown_by
from projections.links import evidence, link_at
from replay.folding import prefix
from replay.history import History

ACTING: Final = (
    "cluster.created", "cluster.dissolved", "machine.joined", "machine.left", "machine.disconnected", "machine.reconnected",
    "key.changed", "settings.changed",
)  # fmt: skip
"""Kinds that change who is in, and how long silence lasts."""


class Standing(NamedTuple):
    """The end of a beginning: the peers whose links are up there, and whether the feed goes on to speak for its machine."""

    up: frozenset[str]
    speaks: bool


def standing(state: FeedState, silent_ns: int) -> Standing:
    """What a fold says at its own end."""
    end_ns = state.last_ns
    up = frozenset(
        peer
        for peer, link in state.links.items()
        if link.state == "up" and link_at(link, state.pings.get(peer), end_ns, end_ns, silent_ns).state == "up"
    )
    return Standing(up, state.entries > 0 and state.lifecycle != "stopped" and not state.opaque)


class Standings:
    """Keeps the `Standing` of a fold up while it grows. An entry changes the link to its own peer, if it is one of those that
    change few; a silence is looked for no sooner than it can have set in.
    """

    def __init__(self, state: FeedState, silent_ns: int) -> None:
        self.silent_ns = silent_ns
        self.now = standing(state, silent_ns)
        self._due_ns = self._due(state)

    def _due(self, state: FeedState) -> int:
        heard = [evidence(state.links[peer], state.pings.get(peer))[0] for peer in self.now.up]
        return min(heard, default=state.last_ns) + self.silent_ns

    def after(self, state: FeedState, entry: Entry) -> bool:
        """Whether the standing is another now that the fold has grown by `entry`."""
        peer = getattr(entry.event, "peer", None)
        kept = isinstance(entry.event, PingAnswered) and peer in self.now.up and self.now.speaks
        if kept and state.last_ns < self._due_ns:
            return False
        before, self.now = self.now, standing(state, self.silent_ns)
        self._due_ns = self._due(state)
        return self.now != before


class Track:
    """One feed's standings for each count in [first, last], for one length of silence."""

    def __init__(self, history: History, feed: Feed, first: int, last: int, silent_ns: int) -> None:
        reader = history.reader(feed)
        state = history.prefix(feed, first)
        kept = Standings(state, silent_ns)
        self._history, self._feed, self._silent_ns = history, feed, silent_ns
        self._last = last
        self._outside: dict[int, Standing] = {}
        self._counts = [first]
        self._found = [kept.now]
        for entry in reader.entries(first, last):
            state = grown_by(state, entry, lambda _feed, count: prefix(reader, count))
            if kept.after(state, entry):
                self._counts.append(entry.index)
                self._found.append(kept.now)

    def at(self, count: int) -> Standing:
        """The standing where `count` entries are held."""
        if not self._counts[0] <= count <= self._last:
            if count not in self._outside:
                self._outside[count] = standing(self._history.prefix(self._feed, count), self._silent_ns)
            return self._outside[count]
        return self._found[bisect_right(self._counts, count) - 1]
