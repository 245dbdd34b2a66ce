"""Invariants of one feed about its links: what stands, what ends, what follows a loss (A5 to A7, A11, A13, A14, A20).

Numbered as in the list of the verification notes. Where one is of class *software* it judges two things: that the entries
can have happened one after the other, and that the shipped fold makes of them what they say.
"""

# ruff: noqa: ARG002  monitors are told more than each needs
from __future__ import annotations

from typing import ClassVar

import msgspec

from ledger import events as ev
from ledger.entry import Entry
from projections.deadlines import Responds
from projections.feed_state import FeedState
from projections.monitor import PARTED, PINGS, Monitor, Rule, Run, Seen, State
from projections.operators import Alternates, Always, AtMost
from projections.pace import Pace
from projections.past import Key, Mark, Since

ESTABLISHED, LOST, FAILED = "link.established", "link.lost", "link.failed"
ANSWERED, UNANSWERED = "ping.answered", "ping.failed"


def about(*kinds: str) -> Key:
    """Slices by peer, of these kinds."""

    def key(seen: Seen) -> str | None:
        if isinstance(seen, Run):
            return seen.peer if (ANSWERED if seen.reason is None else UNANSWERED) in kinds else None
        return getattr(seen.event, "peer", None) if seen.event.kind in kinds else None

    return key


def parted(seen: Seen) -> str | None:
    """The peer that need not be spoken to any more, as far as this feed says: it left, or was disconnected on purpose."""
    if isinstance(seen, Run):
        return seen.peer if seen.reason in PARTED else None
    event = seen.event
    if isinstance(event, (ev.MachineLeft, ev.MachineDisconnected)):
        return event.machine
    if isinstance(event, (ev.LinkLost, ev.LinkFailed)) and event.reason in PARTED:
        return event.peer
    return None


class LinkAlternation(Alternates):
    """A5, with a look at the fold after each link entry."""

    folds = frozenset({ESTABLISHED, LOST, FAILED})

    def __init__(self) -> None:
        super().__init__(
            Rule(
                "A5", "links alternate", "software",
                "A link is lost only while it stands, no dial fails while one stands; the fold has what each such entry says.",
            ),
            about(ESTABLISHED), about(LOST), lambda seen: getattr(getattr(seen, "event", None), "link", None),
            kinds=(ESTABLISHED, LOST, FAILED), empty="node.started",
        )  # fmt: skip

    def step(self, entry: Entry, now_ns: int) -> None:
        """As links take turns; a failed dial beside a link that stands would make it down."""
        if isinstance(entry.event, ev.LinkFailed):
            held = self.state.marks.get(entry.feed.id, {}).get(entry.event.peer)
            if held is not None and held.index > 0:
                self.violate(entry, f"{entry.event.peer}: a dial fails while a link stands", (entry.feed.at(held.index),))
            else:
                self.tally.judged += 1
            return
        super().step(entry, now_ns)

    def folded(self, entry: Entry, before: FeedState | None, after: FeedState) -> None:
        """The link is what the entry makes it, by that entry."""
        peer = getattr(entry.event, "peer", "")
        said = "up" if isinstance(entry.event, ev.LinkEstablished) else "down"
        link = after.links.get(peer)
        if link is None or link.state != said or link.evidence != entry.index:
            found = "nothing" if link is None else f"{link.state} by #{link.evidence}"
            self.violate(entry, f"the fold has {entry.feed.machine}:{peer} {found}, this entry makes it {said}")


class Stood(State):
    """By feed id and peer the id of the link that stands, and of the one that stood when the node began anew."""

    now: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    before: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)


class RestartEmpties(Monitor):
    """A6: the route table is in memory, and so is every link."""

    kinds = frozenset({ESTABLISHED, "node.started"})
    pings = PINGS
    folds = frozenset({"node.started"})
    state_type: ClassVar[type[State]] = Stood

    def __init__(self) -> None:
        says = "After a node began anew no link counts as up, and none of before is pinged over, until it was established anew."
        super().__init__(Rule("A6", "a restart empties the table", "software", says))

    def step(self, entry: Entry, now_ns: int) -> None:
        """Remember what stands, and at a start what stood."""
        now = self.state.now.setdefault(entry.feed.id, {})
        if isinstance(entry.event, ev.LinkEstablished):
            now.pop(entry.event.peer, None)
            if entry.event.link is not None:
                now[entry.event.peer] = entry.event.link
        else:
            self.state.before.setdefault(entry.feed.id, {}).update(now)
            now.clear()

    def ping(self, run: Run) -> bool:
        """A ping over a link of before the start is wrong."""
        if run.link is None or run.feed.id not in self.state.before:
            return True
        before = self.state.before[run.feed.id].get(run.peer)
        if before != run.link or self.state.now[run.feed.id].get(run.peer) == run.link:
            return True
        if run.count > 1:
            return False
        self.violate(run, f"pings {run.peer} over {run.link}, which stood before the node began anew")
        return True

    def folded(self, entry: Entry, before: FeedState | None, after: FeedState) -> None:
        """Right after a start nothing is up."""
        up = [peer for peer, link in after.links.items() if link.state == "up"]
        if up:
            self.violate(entry, f"the fold has {', '.join(sorted(up)[:5])} up right after the start")
        else:
            self.tally.judged += 1


class NoSelfLink(Monitor):
    """A7."""

    kinds = frozenset({ESTABLISHED, LOST, FAILED, "ping.heard"})
    pings = PINGS

    def __init__(self) -> None:
        super().__init__(Rule("A7", "no link to oneself", "software", "No machine links to itself or pings itself."))

    def step(self, entry: Entry, now_ns: int) -> None:
        """Of whom it speaks."""
        self._judge(entry, getattr(entry.event, "peer", None), 1)

    def ping(self, run: Run) -> bool:
        """Whom it pings."""
        return self._judge(run, run.peer, run.count)

    def _judge(self, seen: Seen, peer: str | None, count: int) -> bool:
        if peer != seen.feed.machine:
            self.state.tally.judged += count
        elif count > 1:
            return False
        else:
            self.violate(seen, f"{peer} speaks with itself")
        return True


def answered_implies_up() -> Monitor:
    """A11."""

    def ok(_seen: Seen, key: str, found: list[Mark | None]) -> str | None:
        if found[0] is None:
            return f"{key} answers, and no link to it stands"
        return None

    rule = Rule(
        "A11", "who answers has a link", "software", "A ping is answered only over a link that was established and not lost."
    )
    stands = Since(about(ESTABLISHED), about(LOST))
    return Always(rule, about(ANSWERED), ok, [stands], kinds=(ESTABLISHED, LOST, ANSWERED), grounded=True)


def _unparted(seen: Seen) -> str | None:
    event = getattr(seen, "event", None)
    return event.peer if isinstance(event, ev.LinkLost) and event.reason not in PARTED else None


def lost_is_answered() -> Monitor:
    """A13."""
    says = "Within two intervals after a link is lost it stands again, or a dial or ping failed, or its peer has left."
    kinds = (ESTABLISHED, LOST, FAILED, UNANSWERED, "machine.left", "machine.disconnected")
    return Responds(
        Rule("A13", "a loss is answered", "mesh", says), _unparted, about(ESTABLISHED, FAILED, UNANSWERED),
        lambda pace, since, until: 2 * pace.interval_ns(since, until), kinds=kinds, unless=parted, peers=True,
        what="lost, and nothing followed",
    )  # fmt: skip


def _capped(seen: Seen) -> str | None:
    event = getattr(seen, "event", None)
    return event.peer if isinstance(event, ev.LinkLost) and event.reason == "connection-limit" else None


class CapHeals(Responds):
    """A14, with a look at the fold: a drop by the connection limit is no change of membership."""

    folds = frozenset({LOST})
    compares = True

    def __init__(self) -> None:
        says = "A link that the connection limit dropped stands again within an interval, by itself; membership is not touched."
        kinds = (ESTABLISHED, LOST, "machine.left", "machine.disconnected")
        super().__init__(
            Rule("A14", "a drop by the limit heals", "mesh", says), _capped, about(ESTABLISHED),
            lambda pace, since, until: pace.interval_ns(since, until), kinds=kinds, unless=_departed, peers=True,
            what="dropped by the connection limit, and not back by itself",
        )  # fmt: skip

    def folded(self, entry: Entry, before: FeedState | None, after: FeedState) -> None:
        """No act came of it."""
        if before is not None and before.acts != after.acts:
            self.violate(entry, "a lost link changed what the fold knows of membership", severity="software")


def _departed(seen: Seen) -> str | None:
    event = getattr(seen, "event", None)
    return event.machine if isinstance(event, (ev.MachineLeft, ev.MachineDisconnected)) else None


def _flaps(pace: Pace, at_ns: int) -> tuple[int, int]:
    settings = pace.at(at_ns)
    return settings.flaps_max, settings.flap_window_ms * 1_000_000


def flap_bound() -> Monitor:
    """A20."""
    says = "No link is lost more often in a stretch of time than the settings call flapping; each such stretch is named once."
    return AtMost(Rule("A20", "links do not flap", "mesh", says), _unparted, _flaps, kinds=(LOST,))
