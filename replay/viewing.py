"""What each machine believed, followed through a window: whom it held for members, and which islands it saw.

A belief changes with an entry of the machine's own feed, or with time: a feed that has not grown for 4 intervals on the
machine's clock covers no more. So a machine's feed is gone through once, instant by instant; of the others' feeds only
what they say where they were held is looked up (`tracks`). The definition is `History.belief`, asked at every instant, and that
both agree is a law under test. Where a machine's own feed does not cover, it has no view.

Reads a history, writes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from ledger.entry import Entry
from ledger.identity import Feed
from projections.belief import stated
from projections.cluster import Cluster
from projections.feed_state import FeedState
from projections.health import components
from replay.believing import grown, own_feeds, parts
from replay.eras import begin_ns
from replay.history import History
from replay.tracks import ACTING, Standings, Track

Island = tuple[str, ...]


class Sight(NamedTuple):
    """From `at_ns` on, by entry `place` of `feed`: the members and the islands that its machine believed in. None: no view."""

    at_ns: int
    feed: Feed
    place: int
    members: frozenset[str] | None
    islands: tuple[Island, ...]


class _Frame(NamedTuple):
    """What changes only where somebody is admitted, removed or planned for, or settings are recorded."""

    members: list[str]
    planned: frozenset[str]
    interval_ns: int
    speakers: dict[str, Feed]


class Views:
    """The beliefs of a window's machines. Feeds are followed once for all of them, each when it is first asked for."""

    def __init__(self, history: History, since_ns: int, until_ns: int) -> None:
        self.history = history
        self.since_ns, self.until_ns = since_ns, until_ns
        self.by_id = {feed.id: feed for feed in history.feeds}
        self._tracks: dict[tuple[str, int], Track] = {}
        self._acts: dict[str, list[Entry]] = {}

    def track(self, feed: Feed, silent_ns: int) -> Track:
        """The standings of a feed over what may come to be held in the window."""
        found = self._tracks.get((feed.id, silent_ns))
        if found is None:
            reader = self.history.reader(feed)
            first, last = reader.cut(self.since_ns - 1 - silent_ns), reader.cut(self.until_ns - 1)
            found = self._tracks[feed.id, silent_ns] = Track(self.history, feed, first, last, silent_ns)
        return found

    def acts(self, feed: Feed) -> list[Entry]:
        """The entries of a feed that decide who is in."""
        found = self._acts.get(feed.id)
        if found is None:
            acts = self.history.reader(feed).rare(ACTING)
            found = [next(iter(self.history.entries(feed, act.index - 1, act.index))) for act in acts]
            self._acts[feed.id] = found
        return found

    def lean(self, feed: Feed, count: int) -> FeedState:
        """As much of the fold of a feed's first `count` entries as decides who is in."""
        whole = FeedState(feed)
        if self.history.reader(feed).timeline().stretches:
            whole = self.history.prefix(feed, count)
        else:
            for act in self.acts(feed):
                if act.index <= count:
                    whole.apply(act)
        whole.entries = count
        return whole

    def seen_by(self, machine: str) -> Iterator[Sight]:
        """Every change of the machine's view in the window, from its first instant on; nothing for one without a feed. It has
        none from where a newer feed bears its name of which nothing says that it is its own (see `believing`).
        """
        feeds = own_feeds(self.history, machine)
        begun = [begin_ns(self.history, feed) for feed in feeds]
        named = [feed for feed in self.history.feeds if feed.machine == machine and not feed.notes and feed not in feeds]
        strange = [(feed.epoch, at_ns) for feed in named if (at_ns := begin_ns(self.history, feed)) is not None]
        before: Sight | None = None
        for place, feed in enumerate(feeds):
            later = min((at_ns for at_ns in begun[place + 1 :] if at_ns is not None), default=self.until_ns)
            begin = max(self.until_ns if begun[place] is None else begun[place] or 0, self.since_ns)
            over = min(later, self.until_ns)
            until = min((at_ns for epoch, at_ns in strange if epoch > feed.epoch and at_ns < over), default=over)
            if begin < until:
                earlier = [(each, self.history.last(each)) for each in feeds[:place]]
                for sight in _Viewer(self, feed, earlier, begin, until).run():
                    if before is None or sight[3:] != before[3:]:
                        before = sight
                        yield sight
            if until < over and max(begin, until) < over and before is not None and before.members is not None:
                at_ns = max(begin, until)
                before = Sight(at_ns, feed, self.history.reader(feed).cut(at_ns), None, ())
                yield before


class _Viewer:
    """One feed of one machine, gone through from `since_ns` to `until_ns`: `Belief`, but for what nobody asks here."""

    def __init__(self, views: Views, feed: Feed, earlier: list[tuple[Feed, int]], since_ns: int, until_ns: int) -> None:
        self.views, self.feed, self.until_ns, self.since_ns = views, feed, until_ns, since_ns
        self.index = views.history.reader(feed).cut(since_ns)
        found = parts(views.history, [*earlier, (feed, self.index)])
        self.own, self.said, self.kept = found.own, found.said, found.kept
        self.grown = grown(views.history, found, since_ns)
        self.frame = self._frame()
        self.standings = Standings(self.own, self.frame.interval_ns * 5 // 2)

    def run(self) -> Iterator[Sight]:
        """Its sights, from the first instant on."""
        now_ns = self.since_ns
        yield self._sight(now_ns)
        reader = self.views.history.reader(self.feed)
        last = reader.cut(self.until_ns - 1)
        entries = reader.entries(self.index, last)
        for at_ns, together in groupby(entries, key=lambda entry: entry.effective_ns):
            yield from self._passing(now_ns, at_ns)
            turned = [self._grow(entry) for entry in together]
            now_ns = at_ns
            if any(turned):
                yield self._sight(now_ns)
        yield from self._passing(now_ns, self.until_ns)

    def _passing(self, now_ns: int, until_ns: int) -> Iterator[Sight]:
        """What time alone changes after `now_ns` and before `until_ns`."""
        reach_ns = self.frame.interval_ns * 4 + 1
        due = {self.own.last_ns + reach_ns, *(at_ns + reach_ns for at_ns in self.grown.values())}
        for at_ns in sorted(due):
            if now_ns < at_ns < until_ns:
                yield self._sight(at_ns)

    def _grow(self, entry: Entry) -> bool:
        """Take in an entry of its own. Whether the view may be another."""
        lapsed = entry.effective_ns > self.own.last_ns + self.frame.interval_ns * 4
        self.own.apply(entry)
        self.index = entry.index
        turned = self.standings.after(self.own, entry) or lapsed
        if entry.kind in ACTING:
            self._reframe()
            turned = True
        told = stated(entry.event)
        if told is None or told[0] == self.feed.id:
            return turned
        name, held = told
        before = self._count(name)
        if held > self.said.get(name, 0):
            stale = entry.effective_ns - self.grown.get(name, entry.effective_ns - 2**62) > self.frame.interval_ns * 4
            self.grown[name] = entry.effective_ns
            turned |= stale
        lacked = self._lacks(name)
        self.said[name] = held
        return self._held(name, before) or lacked != self._lacks(name) or turned

    def _held(self, name: str, before: int) -> bool:
        """Whether what is held of a feed now says something else than what was held `before`."""
        count = self._count(name)
        feed = self.views.by_id.get(name)
        if feed is None or count == before:
            return False
        acts = [act.index for act in self.views.acts(feed)]
        framed = not before or bisect_right(acts, before) != bisect_right(acts, count)
        if framed:
            self._reframe()
        silent_ns = self.frame.interval_ns * 5 // 2
        track = self.views.track(feed, silent_ns)
        return framed or track.at(before) != track.at(count)

    def _wanted(self, name: str) -> int:
        return max(self.said.get(name, 0), self.kept.get(name, 0))

    def _count(self, name: str) -> int:
        feed = self.views.by_id.get(name)
        return min(self._wanted(name), self.views.history.last(feed)) if feed is not None else 0

    def _lacks(self, name: str) -> bool:
        return self._count(name) < self._wanted(name)

    def _reframe(self) -> None:
        self.frame = self._frame()
        if self.standings.silent_ns != self.frame.interval_ns * 5 // 2:
            self.standings = Standings(self.own, self.frame.interval_ns * 5 // 2)

    def _frame(self) -> _Frame:
        counts = {feed: self._count(feed.id) for feed in self.views.history.feeds if feed != self.feed}
        states = {feed: self.views.lean(feed, count) for feed, count in counts.items() if count}
        states[self.feed] = self.own
        cluster = Cluster(states)
        speakers = {machine: state.feed for machine, state in cluster.speakers.items()}
        return _Frame(cluster.members, cluster.planned, cluster.interval_ns, speakers)

    def _sight(self, at_ns: int) -> Sight:
        reach_ns = self.frame.interval_ns * 4
        if not self.standings.now.speaks or at_ns > self.own.last_ns + reach_ns:
            return Sight(at_ns, self.feed, self.index, None, ())
        up: dict[str, frozenset[str]] = {}
        for machine in self.frame.members:
            feed = self.frame.speakers.get(machine)
            if machine in self.frame.planned or feed is None:
                continue
            if feed == self.feed:
                up[machine] = self.standings.now.up
                continue
            found = self.views.track(feed, self.standings.silent_ns).at(self._count(feed.id))
            fresh = feed.id in self.grown and at_ns - self.grown[feed.id] <= reach_ns
            if fresh and found.speaks and not self._lacks(feed.id):
                up[machine] = found.up
        pairs = [(a, b) for a in up for b in up[a] if a < b and a in up.get(b, ())]
        islands = components(self.frame.members, pairs)
        return Sight(at_ns, self.feed, self.index, frozenset(self.frame.members), tuple(islands) if len(islands) > 1 else ())
