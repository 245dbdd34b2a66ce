"""What one machine knew: its own feed, and of the others' just what its own feed names as held by then.

A machine that writes `feed.received`, or a ping that states what was held of the peer's feed, says how far it knew that feed.
So a belief needs nobody's word but the machine's own (DESIGN section 6, *as known then*): entries that came later, and instants
that later entries disowned, change nothing in it. Of its own earlier epochs a machine knows all but a range that it says was
lost; a feed opened as `new` was opened on an empty disk, and then it knows of what came before only what it received again.

A feed that is held does not go on by itself. Where it stands is its last held entry; how stale that is, the time that
passed on the *observer's* clock since the count held last grew (`View.clocks`): after 4 intervals it covers no more. What is
longer ago than that makes no difference, and is not told apart.

`believed` makes the cluster of such parts. `Belief` is the same in motion, for a node that is handed it: fed with every entry as
it is stored, it is at every position of the machine's feed what `History.belief` says of that position (a law).
No effects, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ledger import events as ev
from ledger.entry import Entry, Opaque
from ledger.events import Event
from ledger.identity import Feed
from ledger.instants import may_disown
from projections.cluster import Cluster
from projections.coverage import covered_at
from projections.feed_state import FeedState
from projections.growing import Refold, grown_by_all
from projections.views import View

_STATING = (ev.PingAnswered, ev.PingFailed, ev.FeedReceived)


def stated(event: Event | Opaque) -> tuple[str, int] | None:
    """(feed id, entries held) if the event says how much of another feed was held."""
    if isinstance(event, _STATING):
        said: Any = event
        if said.feed is not None and said.held is not None:
            return said.feed, said.held
    return None


def growths(said: Mapping[str, int], entries: Iterable[Entry]) -> dict[str, int]:
    """By feed id the effective instant of the last of `entries` (one machine's, in order) that states more than was stated
    before it. `said`: what was held before them.
    """
    before, found = dict(said), dict[str, int]()
    for entry in entries:
        told = stated(entry.event)
        if told is not None:
            feed, held = told
            if held > before.get(feed, 0):
                found[feed] = entry.effective_ns
            before[feed] = held
    return found


def believed(
    own: FeedState,
    others: Iterable[FeedState],
    grown: Mapping[str, int],
    lacking: Mapping[str, tuple[int, int]],
    at_ns: int,
) -> Cluster:
    """The belief of the machine whose feed `own` is, at `at_ns` on its clock. `others`: the folds of what it held of other
    feeds; `grown`: by feed id when the count held last grew (missing: longer ago than 4 intervals); `lacking`: see `View`.
    """
    states = {state.feed: state for state in (*others, own) if state.entries}
    first = Cluster(states, at_ns=at_ns)
    reach_ns = first.interval_ns * 4
    clocks = {}
    for feed, state in states.items():
        passed_ns = at_ns - grown.get(feed.id, at_ns - reach_ns - 1)
        clocks[feed] = at_ns if feed == own.feed else state.last_ns + min(max(passed_ns, 0), reach_ns + 1)
    view = View(own.feed, clocks, dict(lacking))
    return Cluster(states, at_ns=at_ns, view=view)


def holds(cluster: Cluster) -> bool:
    """Whether a belief covers its moment: the observer's own feed does."""
    view = cluster.view
    state = cluster.states.get(view.own) if view is not None else None
    return state is not None and covered_at(state, cluster.at_ns, cluster.end_ns(state.feed), cluster.interval_ns)


WAITING_MAX: Final = 500
"""So many entries that may be folded wait at most until somebody asks."""


class Belief:
    """What the machine that writes `own` knows, as it learns it. For one holder; the clusters it gives are values.

    `apply` is told of every entry once it is stored, own and others', each feed's in order; `learn` of neighbours in a feed at
    once, which comes to the same (a law). `refold` gives the fold of a feed's stored beginning: it is asked for only where a
    clock was set back, or a machine says that it holds less than before.
    What was learned is folded when somebody asks, many entries at once: what a state comes to follows from how much of a feed
    is known, and not from when it was folded.
    """

    def __init__(self, own: Feed, refold: Refold) -> None:
        self._refold = refold
        self._own = FeedState(own)
        self._wrote_last = 0, 0
        """Index and instant of the last own entry, of which some may wait to be folded."""
        self._written: list[Entry] = []
        self._states: dict[str, FeedState] = {}
        self._feeds: dict[str, Feed] = {}
        self._stored: dict[str, int] = {}
        self._said: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        self._grown: dict[str, int] = {}
        self._waiting: dict[str, list[Entry]] = {}
        self._touched: dict[str, None] = {}
        """Ids of the feeds of which more or less is stored, or said to be held, than when they were folded."""
        self._lent: set[str] = set()

    @classmethod
    def resumed(
        cls,
        own: FeedState,
        others: Iterable[FeedState],
        *,
        refold: Refold,
        said: Mapping[str, int],
        kept: Mapping[str, int],
        grown: Mapping[str, int],
        stored: Mapping[Feed, int],
    ) -> Belief:
        """Taken up from what stands in a ledger. `said`: entries held by feed id, as stated; `kept`: of its own earlier epochs;
        `grown`: as for `believed`; `stored`: how many entries of each other feed the ledger holds.
        """
        belief = cls(own.feed, refold)
        belief._own = own.copy()
        belief._wrote_last = own.entries, own.last_ns
        for state in others:
            belief._states[state.feed.id] = state.copy()
        for feed, count in stored.items():
            belief._feeds[feed.id] = feed
            belief._stored[feed.id] = count
        belief._said, belief._kept, belief._grown = dict(said), dict(kept), dict(grown)
        return belief

    @property
    def own(self) -> Feed:
        """The feed that the machine writes now."""
        return self._own.feed

    def held(self) -> dict[str, int]:
        """By feed id how many entries of other feeds the machine says that it holds."""
        return dict(self._said)

    def begin(self, feed: Feed) -> None:
        """From here on the machine writes `feed`, a newer epoch, and knows the one before as far as it was applied: what was
        lost of it has not been, and comes back, if it does, as any other's entries do.
        """
        before = self._fold_own()
        if before.entries:
            self._states[before.feed.id] = before
            self._feeds[before.feed.id] = before.feed
            self._stored[before.feed.id] = self._kept[before.feed.id] = before.entries
        self._own, self._wrote_last = FeedState(feed), (0, 0)

    def apply(self, entry: Entry) -> None:
        """Learn of an entry that is stored now."""
        feed = entry.feed
        if feed == self._own.feed:
            self._wrote(entry)
            return
        name = feed.id
        self._feeds[name] = feed
        if entry.index == self._stored.get(name, 0) + 1:
            self._stored[name] = entry.index
            waiting = self._waiting.get(name)
            if waiting is None:
                waiting = self._waiting[name] = []
            waiting.append(entry)
            self._touched[name] = None
            if len(waiting) % WAITING_MAX == 0:
                self._fold(name)

    def learn(self, entries: Sequence[Entry]) -> None:
        """Learn of entries that are stored now, neighbours in one feed: as `apply` of one after another."""
        if not entries:
            return
        feed = entries[0].feed
        if feed == self._own.feed:
            for entry in entries:
                self._wrote(entry)
            return
        name = feed.id
        self._feeds[name] = feed
        known = self._stored.get(name, 0) + 1 - entries[0].index
        if not 0 <= known < len(entries):
            return
        self._stored[name] = entries[-1].index
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = []
        before = len(waiting)
        waiting += entries[known:] if known else entries
        self._touched[name] = None
        if len(waiting) // WAITING_MAX > before // WAITING_MAX:
            self._fold(name)

    def at(self, now_ns: int) -> Cluster:
        """The belief at `now_ns`, wall clock of the machine; no earlier than its last entry."""
        self._fold_own()
        for name in self._touched:
            self._fold(name)
        self._touched.clear()
        lacking = {
            name: (self._stored.get(name, 0), held)
            for name, held in self._said.items()
            if held > self._stored.get(name, 0) and name != self._own.feed.id
        }
        self._lent.update(self._states, (self._own.feed.id,))
        return believed(self._own, self._states.values(), self._grown, lacking, max(now_ns, self._own.last_ns))

    # What its own entries say.

    def _wrote(self, entry: Entry) -> None:
        last, last_ns = self._wrote_last
        if entry.index <= last:
            return
        name, event = self._own.feed.id, entry.event
        self._written.append(entry)
        if may_disown(event):
            last_ns = self._fold_own().last_ns
            self._grown = {feed: min(grown, last_ns) for feed, grown in self._grown.items()}
        elif not last or entry.at_ns > last_ns:
            last_ns = entry.at_ns
        self._wrote_last = entry.index, last_ns
        if len(self._written) >= WAITING_MAX:
            self._fold_own()
        if isinstance(event, ev.FeedOpened) and event.why == "new" and entry.index == 1:
            self._forget()
        told = stated(event)
        if told is None or told[0] == name:
            return
        feed, held = told
        if held > self._said.get(feed, 0):
            self._grown[feed] = last_ns
        self._said[feed] = held
        self._touched[feed] = None

    def _forget(self) -> None:
        """An empty disk: nothing that was known is known; what is stored by now came since."""
        for known in (self._states, self._said, self._kept, self._grown):
            known.clear()

    def _fold_own(self) -> FeedState:
        """The fold of the own feed, with all that was written."""
        if self._written:
            self._own = grown_by_all(self._unlent(self._own), self._written, self._refold)
            self._written = []
        return self._own

    def _fold(self, name: str) -> None:
        """Bring what is believed of a feed to what is held of it, as far as it is stored."""
        state = self._states.get(name)
        done = state.entries if state is not None else 0
        aim = min(max(self._said.get(name, 0), self._kept.get(name, 0)), self._stored.get(name, 0))
        if aim == done:
            return
        feed = self._feeds[name]
        waiting = self._waiting.get(name, [])
        if aim > done and waiting and waiting[0].index <= done + 1:
            state = self._unlent(state) if state is not None else FeedState(feed)
            known = aim - waiting[0].index + 1
            self._states[name] = grown_by_all(state, waiting[:known], self._refold)
            self._waiting[name] = waiting[known:]
            return
        self._lent.discard(name)
        self._states[name] = self._refold(feed, aim)

    def _unlent(self, state: FeedState) -> FeedState:
        """A state that may grow: one that was lent stays as it is."""
        name = state.feed.id
        if name not in self._lent:
            return state
        self._lent.discard(name)
        return state.copy()
