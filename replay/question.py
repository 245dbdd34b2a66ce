"""The two moments of a question why: the one that is asked about, and the one at which a loss is judged.

A loss is judged when all who were to notice it have had the time, as far as it lasted so long: the cause of an outage is one, at
whichever of its moments one asks. So other moments of the same loss are looked at where the one asked about accuses nobody, or
where it is too early to. The chain of what is found is pruned until no entry can be spared (`cases.prune`).

Reads a history, writes nothing, and says nothing in words: `why` does.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ledger.entry import Entry
from ledger.errors import NotCovered, Refused
from ledger.events import FeedOpened, LinkEstablished, LinkFailed, LinkLost, NodeStalled, NodeStarted, NodeStopped
from ledger.identity import Feed, Position
from projections.cluster import Cluster
from projections.views import Pair
from replay.authors import Place
from replay.cases import TELLING, Case, Finding, prune, settle_ns
from replay.causes import judge
from replay.glances import controls_near, entry_at, no_machine
from replay.heals import linked_again_ns
from replay.history import History
from replay.spans import format_instant

_RESTORED: Final = frozenset({"restored", "unconfirmed"})
"""Why an epoch is opened by a node that started and lacked what it had written before."""


class Question:
    """Why `a` could not reach `b`: the cluster `then`, the `link` that is down and until when (`over_ns`), the `case` in
    which the loss is judged, and the `finding`; None if the two are linked. Raises what `why.why` raises.
    """

    def __init__(
        self,
        history: History,
        a: str,
        b: str,
        moment: int | datetime | str | Position,
        *,
        as_seen_by: str | None = None,
    ) -> None:
        self.history = history
        self.a, self.b = a, b
        self.as_seen_by = as_seen_by
        self.then = history.at(moment) if as_seen_by is None else history.belief(as_seen_by, moment)
        if not self.then.states:
            start = format_instant(history.start_ns())
            raise NotCovered(f"no feed had begun by {format_instant(self.then.at_ns)}", hint=f"the first entry is of {start}")
        self._known()
        self.link = self._down(self.then)
        self.over_ns = self._linked_again()
        self.case, found = self._judged()
        self.finding = None if found is None else prune(self.case, found, judge)

    def _known(self) -> None:
        if self.a == self.b:
            raise Refused(f"{self.a} is asked about itself", hint="name two machines")
        for name in (self.a, self.b):
            if name not in self.then.membership.machines:
                known = self.history.at(self.history.end_ns()).membership.machines
                if name not in known:
                    raise no_machine(name, known)

    # The moment of judgement.

    def _down(self, cluster: Cluster) -> Pair | None:
        """The link that is down: the one asked about, else the way back."""
        for pair in ((self.a, self.b), (self.b, self.a)):
            if pair[0] in cluster.covered and pair in cluster.links and cluster.links[pair].state == "down":
                return pair
        return None

    def _linked_again(self) -> int | None:
        feed = self.then.links[self.link].feed if self.link is not None else None
        if feed is None or self.link is None or self.as_seen_by is not None:
            return None
        return linked_again_ns(self.history, feed, self.link[1], self.then.states[feed].entries)

    def _judged(self) -> tuple[Case, Finding | None]:
        """The case in which the cause is found. Where a loss seems to be of the path alone, it is looked at when more had noticed
        it, or fewer had been linked again: those moments lie in the same loss, and its cause is one. So it is where links alone
        accuse somebody before all had the time to notice and to be told more, or where the look-up behind a refusal is not there.
        """
        case = self._case(self.then)
        found = judge(case)
        link = self.link
        if link is None or self.then.planned & set(link) or (found is not None and self._final(case, found)):
            return case, found
        best = case, found
        for at_ns in self._moments():
            if not self._stirred(at_ns):
                continue
            later = self.history.at(at_ns)
            view = later.links.get(link)
            lasts = view is not None and link[0] in later.covered and view.state == "down"
            if lasts and view is not None and view.since == self.then.links[link].since and not later.planned & set(link):
                case = self._case(later)
                found = judge(case)
                if found is not None and found.accuses:
                    if not _bare(case, found):
                        return case, found
                    if best[1] is None or not best[1].accuses:
                        best = case, found
        return best

    def _final(self, case: Case, found: Finding) -> bool:
        """Whether no other moment of the loss can tell more."""
        return found.accuses and not _bare(case, found) and not (self._early() and _by_links(case, found))

    def _early(self) -> bool:
        """Whether the moment is so soon after the loss that not all may have noticed."""
        return self.link is not None and self.then.at_ns < self.then.links[self.link].since_at + settle_ns(self.then)

    def _stirred(self, at_ns: int) -> bool:
        """Whether anything between `at_ns` and the moment asked about can make another cause of it: a word on other links of the
        two, on a node of theirs, or a telling one on their own.
        """
        then, ends = self.then, {self.a, self.b}
        span = sorted((at_ns, then.at_ns))
        for feed, state in then.states.items():
            found = controls_near(self.history, feed, state.entries, *span)
            if found is None or any(_tells(entry, ends) for entry in found):
                return True
        return False

    def _moments(self) -> list[int]:
        """Other moments of the same loss: once all have noticed, as far as it lasted so long, and between; or shortly before."""
        then, link = self.then, self.link
        if link is None or self.as_seen_by is not None:
            return []
        since_ns, wait_ns = then.links[link].since_at, settle_ns(then)
        settled_ns = min(since_ns + wait_ns, self.history.end_ns(), *([self.over_ns - 1] if self.over_ns is not None else []))
        if then.at_ns >= since_ns + wait_ns:
            return [then.at_ns - wait_ns]
        return [settled_ns - (settled_ns - since_ns) * part // 4 for part in range(4)] if settled_ns > since_ns else []

    def _case(self, cluster: Cluster) -> Case:
        history = self.history
        opened: dict[Place, Entry | None] = {}

        def entry(place: Place) -> Entry | None:
            if place not in opened:
                feed, index = place
                known = self.as_seen_by is None or (feed in cluster.states and index <= cluster.states[feed].entries)
                opened[place] = entry_at(history, place) if known else None
            return opened[place]

        def rare(feed: Feed, kinds: tuple[str, ...]) -> list[Entry]:
            last = cluster.states[feed].entries
            return [entry for entry in history.reader(feed).rare(kinds) if entry.index <= last]

        def off_ns(place: Place) -> int | None:
            feed, started = place
            if any(earlier.index < started for earlier in history.reader(feed).rare(("node.started",))):
                before = entry((feed, started - 1))
            else:
                earlier_feed = next((each for each in cluster.states if self._reborn(each) == place), None)
                before = None if earlier_feed is None else entry((earlier_feed, history.reader(earlier_feed).head().last))
            return None if before is None else before.effective_ns

        def reborn(feed: Feed) -> Place | None:
            ended = cluster.states[feed].entries == history.reader(feed).head().last
            return self._reborn(feed) if ended and self.as_seen_by is None else None

        return Case(cluster, self.a, self.b, entry=entry, rare=rare, off_ns=off_ns, reborn=reborn, loss=self.link)

    def _reborn(self, feed: Feed) -> Place | None:
        """The first `node.started` of the machine's next epoch, if that was opened after a restore."""
        later = [other for other in self.history.feeds if other.machine == feed.machine and other.epoch == feed.epoch + 1]
        for other in later[:1]:
            opening = entry_at(self.history, (other, 1))
            if opening is not None and isinstance(opening.event, FeedOpened) and opening.event.why in _RESTORED:
                started = next((act.index for act in self.history.reader(other).rare(("node.started",))), None)
                return None if started is None else (other, started)
        return None


def _by_links(case: Case, found: Finding) -> bool:
    """Whether links alone accuse somebody; what an end is told once it dials again may explain more."""
    return found.cause in {"observer-isolated", "target-down", "partition"} and _of_link(case, found)


def _bare(case: Case, found: Finding) -> bool:
    """Whether a refusal for a name stands there without the look-up behind it, which another clock may have earlier or later."""
    return found.cause in {"name-unresolvable", "name-points-elsewhere", "reverse-timeout"} and _of_link(case, found)


def _of_link(case: Case, found: Finding) -> bool:
    root = case.entry(found.root) if found.root is not None else None
    return root is not None and isinstance(root.event, LinkLost | LinkFailed)


def _tells(entry: Entry, ends: set[str]) -> bool:
    """Whether an entry may change what is thought of what lies between two machines, and is no mere repetition."""
    event, near = entry.event, entry.observer in ends
    if not isinstance(event, LinkLost | LinkFailed | LinkEstablished):
        return near and isinstance(event, NodeStarted | NodeStopped | NodeStalled)
    if near and event.peer in ends:
        return not isinstance(event, LinkEstablished) and event.reason in TELLING
    return near or event.peer in ends
