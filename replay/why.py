"""Why A could not reach B: one cause, the entries that prove it, who else saw it, and what the log does not cover.

    with History.open("incident.ledger") as history:
        answer = why(history, "alpha", "charlie", "2026-11-22T03:12:00Z")
        answer.reachable, answer.cause, answer.root_pos

Whether A reaches B is the route table's word, so `why` and `at` never differ. If the two are not linked (up as both ends see
it), `causes` finds why, though A may reach B over others. A loss is judged when all who were to notice it have had the
time, as far as it lasted so long: the cause of an outage is one, at whichever of its moments one asks. The chain is
pruned until no entry can be spared (`cases.prune`): what it proves, it proves alone.

Reads a history, writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, cast

from ledger.entry import Entry
from ledger.errors import NotCovered, Refused
from ledger.events import (
    FeedOpened,
    HostnameChanged,
    LinkEstablished,
    LinkFailed,
    LinkLost,
    NameFailed,
    NodeStalled,
    NodeStarted,
    NodeStopped,
    Reason,
)
from ledger.identity import Feed, Position
from projections.cluster import Cluster
from projections.views import Pair
from replay import sayings
from replay.answers import Reach
from replay.answers_why import Cause, ChainLink, Missing, Other, Proves, Seen, Why
from replay.authors import Place
from replay.cases import TELLING, Case, Finding, excerpt, prune, settle_ns
from replay.causes import judge
from replay.glances import controls_near, entry_at
from replay.heals import linked_again_ns, over_ns
from replay.history import History
from replay.spans import format_instant
from replay.union import spelled

_RESTORED: Final = frozenset({"restored", "unconfirmed"})
"""Why an epoch is opened by a node that started and lacked what it had written before."""


def why(history: History, a: str, b: str, moment: int | datetime | str | Position, *, as_seen_by: str | None = None) -> Why:
    """Whether machine `a` could reach `b` at `moment`, and why they were not linked, if they were not. `as_seen_by`: by what that
    machine knew then (`History.belief`), which nothing that came later can alter; so no end of a loss is told.

    Raises Refused for a machine that the history does not know, or one asked about itself; NotCovered if no feed had begun by
    then; and what `History.at` raises.
    """
    return _Question(history, a, b, moment, as_seen_by=as_seen_by).answer()


def cause(history: History, a: str, b: str, moment: int | datetime | str | Position) -> Finding | None:
    """Only the finding behind the answer, with places in place of texts; None if the two are linked."""
    return _Question(history, a, b, moment).finding


class _Question:
    """The two moments of a question: `then`, which is asked about, and that of the `case`, at which a loss is judged."""

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
        now = None
        for name in (self.a, self.b):
            if name in self.then.membership.machines:
                continue
            now = now or self.history.at(self.history.end_ns())
            if name not in now.membership.machines:
                raise Refused(f"no machine {name} in these ledgers", hint=f"there are {', '.join(now.members[:8]) or 'none'}")

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

    # The answer.

    def answer(self) -> Why:
        """All of it."""
        then, found = self.then, self.finding
        pair = self.a, self.b
        both = all(name in then.members for name in pair)
        route = then.routes[pair] if both else None
        since_ns, until_ns = self._lasted()
        chain = list(self._chain()) if found is not None else []
        return Why(
            source=self.a,
            target=self.b,
            at=format_instant(then.at_ns),
            reachable=None if route == "unknown" else route is not None,
            cause=cast("Cause", found.cause) if found is not None else None,
            root_pos=next((link.pos for link in chain if link.root), None),
            chain=chain,
            others=list(self._others()),
            since=None if since_ns is None else format_instant(since_ns),
            until=None if until_ns is None else format_instant(until_ns),
            coverage=self._coverage(),
            advice=None if found is None else self._advice(found),
            as_seen_by=self.as_seen_by,
            route=list(route) if isinstance(route, tuple) else route,
            direct=then.pair(*pair),
            suspect=None if found is None else found.suspect,
            sides=[] if found is None else [list(side) for side in found.sides],
            missing=list(self._missing()),
        )

    def _lasted(self) -> tuple[int | None, int | None]:
        """Since when, and until when: of the loss, the absence or the plan; of a link that is up, only since when."""
        then, found = self.then, self.finding
        if found is None:
            views = [then.links[pair] for pair in ((self.a, self.b), (self.b, self.a)) if pair in then.links]
            return max((view.since_at for view in views), default=None), None
        if self.as_seen_by is not None:
            return found.since_ns, None
        gone = [name for name in (self.a, self.b) if name not in then.members]
        if gone:
            return found.since_ns, over_ns(self.history, then.at_ns, lambda cluster: not set(gone) <= set(cluster.members))
        away = then.planned & {self.a, self.b}
        if away:
            return found.since_ns, over_ns(self.history, then.at_ns, lambda cluster: bool(away & cluster.planned))
        return found.since_ns, self.over_ns

    def _chain(self) -> Iterator[ChainLink]:
        """The entries of the proof, the last first, each with what the rest would say without it."""
        found, case = self.finding, self.case
        names = spelled(self.history.feeds)
        entries = [] if found is None else [entry for place in found.chain if (entry := case.entry(place)) is not None]
        for entry in sorted(entries, key=lambda entry: (entry.effective_ns, entry.feed, entry.index), reverse=True):
            place = entry.feed, entry.index
            rest = judge(excerpt(case, [other for other in entries if other is not entry]))
            proves: Proves = "cause"
            if rest is not None and found is not None and rest.cause == found.cause:
                proves = "root" if rest.root != found.root else "since"
            yield ChainLink(
                pos=f"{names[entry.feed]}#{entry.index}",
                at=format_instant(entry.effective_ns),
                kind=entry.kind,
                says=sayings.says(entry),
                root=found is not None and place == found.root,
                proves=proves,
            )

    def _others(self) -> Iterator[Other]:
        then = self.then
        for name in then.members:
            if name in then.covered and name not in {self.a, self.b}:
                yield Other(name, *(self._seen(pair) for end in (self.b, self.a) for pair in ((name, end), (end, name))))

    def _seen(self, pair: Pair) -> Seen:
        view = self.then.link(*pair)
        if pair[0] not in self.then.covered:
            return Seen("unknown", None, None, None)
        since = None if view.since_ns is None else format_instant(view.since_ns)
        return Seen(view.state, cast("Reason | None", view.reason), since, view.since_pos)

    def _missing(self) -> Iterator[Missing]:
        """What it would take to know more: the feeds of the two, and of all others where the cause is unknown."""
        then, found = self.then, self.finding
        unsure = found is not None and found.cause == "unknown"
        asked = [self.a, self.b, *(name for name in then.members if unsure and name not in {self.a, self.b})]
        for name in asked:
            if name not in then.members:
                continue
            reach = then.coverage[name]
            if name in then.covered:
                ended = reach is not None and then.end_ns(then.speakers[name].feed) <= (found.since_ns or 0 if found else 0)
                if unsure and ended and reach is not None:
                    yield Missing(name, format_instant(reach.until_ns), None, f"{name}'s feed ends before the loss")
                continue
            if reach is None:
                yield Missing(name, None, None, f"no feed of {name} had begun")
                continue
            feed = then.speakers[name].feed
            known = self.as_seen_by is None
            after = next(self.history.entries(feed, then.states[feed].entries), None) if known else None
            until = None if after is None else format_instant(after.effective_ns)
            yield Missing(name, format_instant(reach.until_ns), until, f"{name}'s feed does not cover the moment")
        for pair in ((self.a, self.b), (self.b, self.a)):
            view = then.links.get(pair)
            if view is not None and pair[0] in then.covered and view.state == "unknown":
                since = None if view.since_ns is None else format_instant(view.since_ns)
                yield Missing(pair[0], since, None, f"{pair[0]} says nothing of its link to {pair[1]}")

    def _coverage(self) -> dict[str, Reach | None]:
        return {
            name: None if reach is None else Reach(reach.until_pos, format_instant(reach.until_ns), reach.covered)
            for name, reach in self.then.coverage.items()
        }

    def _advice(self, found: Finding) -> str:
        root = self.case.entry(found.root) if found.root is not None else None
        old = root.event.old if root is not None and isinstance(root.event, HostnameChanged) else None
        member = self.then.membership.machines.get(found.suspect or self.b)
        hostname = member.hostname if member is not None else None
        if root is not None and isinstance(root.event, NameFailed):
            hostname = root.event.name
        return sayings.advice(found.cause, self.a, self.b, suspect=found.suspect, hostname=hostname, old=old)


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
