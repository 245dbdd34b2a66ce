"""Why A could not reach B: one cause, the entries that prove it, who else saw it, and what the log does not cover.

    with History.open("incident.ledger") as history:
        answer = why(history, "alpha", "charlie", "2026-11-22T03:12:00Z")
        answer.reachable, answer.cause, answer.root_pos

Whether A reaches B is the route table's word, so `why` and `at` never differ. If the two are not linked (up as both ends see
it), `causes` finds why, though A may reach B over others; at which moment it is judged, `question` says. What the chain proves,
it proves alone.

Reads a history, writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import cast

from ledger.events import HostnameChanged, NameFailed, Reason
from ledger.identity import Position
from projections.views import Pair
from replay import sayings
from replay.answers import Reach
from replay.answers_why import Cause, ChainLink, Missing, Other, Proves, Seen, Why
from replay.cases import Finding, excerpt
from replay.causes import judge
from replay.heals import over_ns
from replay.history import History
from replay.question import Question
from replay.spans import format_instant
from replay.union import spelled


def why(history: History, a: str, b: str, moment: int | datetime | str | Position, *, as_seen_by: str | None = None) -> Why:
    """Whether machine `a` could reach `b` at `moment`, and why they were not linked, if they were not. `as_seen_by`: by what that
    machine knew then (`History.belief`), which nothing that came later can alter; so no end of a loss is told.

    Raises Refused for a machine that the history does not know, or one asked about itself; NotCovered if no feed had begun by
    then; and what `History.at` raises.
    """
    return _Told(history, a, b, moment, as_seen_by=as_seen_by).answer()


class _Told(Question):
    """A question, and what was found in words."""

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
