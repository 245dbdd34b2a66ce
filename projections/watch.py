"""The engine: many monitors over one log, each told what it wants to see and nothing else.

    watch = Watch(shipped(), Pace.of(entries))
    for entry in entries: watch.step(entry)
    verdicts = watch.end()

Entries of a feed come in its order; whoever wants the monitors that look across feeds (`mesh`) to be right brings them in
display order. Feed time runs on the observer's monotonic clock while it has one, else on effective instants. The fold of each
feed grows beside the monitors, so that they can judge it too. `save` and `resume` split a log anywhere (a law).

A whole record may come at once (`sealed`): its controls, its pings as runs and its clocks as columns, cut up by whoever
reads it (`replay.judging`). That this comes to the same is a law; what is one by one defines it. No effects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, Literal

import msgspec

from ledger import events as ev
from ledger.entry import Entry, Opaque
from ledger.events import KINDS
from ledger.identity import Feed
from projections.cluster import Cluster
from projections.feed_state import FeedState
from projections.monitor import PINGS, Horizon, Monitor, Run, Verdict
from projections.pace import Pace

OPAQUE: Final = "?"
"""The kind under which monitors ask for entries of unknown kinds."""
APART: Final = frozenset({"hostname.changed", "node.started", "node.stopped", "node.stalled", "clock.stepped"})
"""Kinds that concern a feed's links or clocks as a whole: records that hold one are told entry by entry."""
_TICK: Final = 16
"""Deadlines are looked at after so many pings, and after every control entry."""


class Course(msgspec.Struct):
    """How far a feed is: its fold, its feed time, and what that is reckoned from."""

    state: FeedState
    now_ns: int = 0
    at_ns: int = 0
    boot: int | None = None
    mono_ns: int = 0
    anchor_ns: int = 0
    begun: bool = False

    def time(self, at_ns: int, boot: int | None, mono_ns: int | None) -> int:
        """The feed time of an entry that comes next: it goes on by the monotonic clock of one boot, else by instants."""
        if not self.begun:
            return self.now_ns
        if boot is not None and mono_ns is not None and boot == self.boot:
            return max(self.now_ns, self.anchor_ns + mono_ns - self.mono_ns)
        return self.now_ns + at_ns - self.at_ns

    def begin(self, at_ns: int, boot: int | None, mono_ns: int | None) -> None:
        """Reckon from the first entry on."""
        self.go(self.now_ns, at_ns, boot, mono_ns)

    def go(self, now_ns: int, at_ns: int, boot: int | None, mono_ns: int | None) -> None:
        """Take that entry in."""
        self.begun = True
        if boot is None or mono_ns is None:
            self.boot = None
        elif boot != self.boot:
            self.boot, self.mono_ns, self.anchor_ns = boot, mono_ns, now_ns
        self.now_ns, self.at_ns = now_ns, at_ns


class Saved(msgspec.Struct):
    """A watch between two entries: the courses of the feeds, and each monitor's state by the place it has."""

    courses: list[Course]
    pace: Pace
    monitors: list[bytes]


class Watch:
    """Monitors over a log. `pace`: the settings of the whole log; None: as they are learned, entry by entry."""

    def __init__(self, monitors: Iterable[Monitor], pace: Pace | None = None) -> None:
        self.monitors = list(monitors)
        self.learning = pace is None
        self.pace = Pace() if pace is None else pace
        self.courses: dict[Feed, Course] = {}
        self._route()

    def _route(self) -> None:
        own = [each for each in self.monitors if not each.mesh]
        for each in self.monitors:
            each.pace = self.pace
        kinds = [*KINDS, OPAQUE]
        self.steppers = {kind: [m for m in own if kind in m.kinds] for kind in kinds}
        self.lookers = {kind: [m for m in self.monitors if m.mesh and kind in m.kinds] for kind in kinds}
        self.folders = {kind: [m for m in own if kind in m.folds] for kind in kinds}
        self.compared = {kind for kind in kinds if any(m.compares for m in self.folders[kind])}
        self.answers = [m for m in own if "ping.answered" in m.pings]
        self.failures = [m for m in own if "ping.failed" in m.pings]
        self.clockers = [m for m in own if m.clocks]
        self.waiting = [m for m in own if _overrides(m, "tick")]
        self.resetting = [m for m in own if _overrides(m, "reset")]
        self.blinded = [m for m in own if _overrides(m, "blind")]
        self.paused = [m for m in own if _overrides(m, "pause")]

    # One by one.

    def step(self, entry: Entry) -> None:
        """Tell the next entry of any feed to all. An entry that was told already changes nothing."""
        course = self.course(entry.feed)
        if entry.index <= course.state.entries:
            return
        before_ns = course.at_ns
        self.tell(course, entry)
        if entry.event.__class__ not in (ev.PingAnswered, ev.PingFailed):
            self.look(entry, before_ns)

    def course(self, feed: Feed) -> Course:
        """How far a feed is."""
        found = self.courses.get(feed)
        if found is None:
            found = self.courses[feed] = Course(FeedState(feed))
        return found

    def tell(self, course: Course, entry: Entry) -> None:
        """Tell the next entry of a feed to the monitors of one feed, and grow the fold."""
        event, feed = entry.event, entry.feed
        now_ns = course.time(entry.effective_ns, entry.boot, entry.mono_ns)
        if isinstance(event, (ev.PingAnswered, ev.PingFailed)):
            run = Run.of(entry, event, now_ns)
            for monitor in self.answers if run.reason is None else self.failures:
                monitor.ping(run)
            kind = event.kind
        else:
            kind = self.control(course, entry, now_ns)
        for monitor in self.clockers:
            monitor.clock(feed, entry.index, [entry.at_ns], [entry.mono_ns], [entry.boot])
        folders = self.folders[kind]
        before = course.state.copy() if kind in self.compared else None
        course.state.apply(entry)
        for monitor in folders:
            monitor.folded(entry, before if monitor.compares else None, course.state)
        if event.__class__ is ev.NodeStopped:
            for monitor in self.resetting:
                monitor.reset(feed, now_ns)
        course.go(now_ns, entry.effective_ns, entry.boot, entry.mono_ns)
        if not entry.index % _TICK or kind not in PINGS:
            self.tick(feed, now_ns)

    def control(self, course: Course, entry: Entry, now_ns: int) -> str:
        """Tell a control entry; returns the kind under which it goes."""
        event, feed = entry.event, entry.feed
        kind = event.kind
        if event.__class__ is Opaque:
            kind = OPAQUE
            for monitor in self.blinded:
                monitor.blind(feed, course.now_ns)
        elif event.__class__ is ev.NodeStarted:
            for monitor in self.resetting:
                monitor.reset(feed, course.now_ns)
        elif isinstance(event, ev.NodeStalled):
            for monitor in self.paused:
                monitor.pause(feed, course.now_ns, event.stalled_ms * 1_000_000)
        elif self.learning and kind in Pace.KINDS:
            self.pace.learn(entry)
        for monitor in self.steppers[kind]:
            monitor.step(entry, now_ns)
        return kind

    def tick(self, feed: Feed, now_ns: int) -> None:
        """Feed time is `now_ns`."""
        for monitor in self.waiting:
            monitor.tick(feed, now_ns)

    def look(self, entry: Entry, before_ns: int) -> None:
        """Tell a control entry to the monitors that look across feeds, in display order. `before_ns`: the effective instant of
        the entry before it in its feed.
        """
        kind = OPAQUE if entry.event.__class__ is Opaque else entry.event.kind
        for monitor in self.lookers[kind]:
            monitor.step(entry, before_ns)

    # A record at once.

    def sealed(
        self,
        course: Course,
        told: Iterable[tuple[Run, Callable[[], Iterable[Entry]]] | Entry],
        walls: list[int],
        monos: list[int | None],
        boots: list[int | None],
        *,
        first: int,
    ) -> None:
        """Tell a record of a feed to the monitors of one feed, without the fold: its controls and its runs, of each slice in the
        order of the feed; the pings of a run one by one, should somebody ask. Then its clocks, entry by entry. None of its
        controls is `APART` or of an unknown kind, all its clocks are of one boot and in order.
        """
        feed = course.state.feed
        for each in told:
            if isinstance(each, Entry):
                self.control(course, each, course.time(each.effective_ns, each.boot, each.mono_ns))
                continue
            run, pings = each
            for monitor in self.answers if run.reason is None else self.failures:
                if not monitor.ping(run):
                    for ping in pings():
                        now_ns = course.time(ping.effective_ns, ping.boot, ping.mono_ns)
                        monitor.ping(Run.of(ping, ping.event, now_ns))  # type: ignore[arg-type]
        for monitor in self.clockers:
            monitor.clock(feed, first, walls, monos, boots)
        now_ns = course.time(walls[-1], boots[-1], monos[-1])
        course.go(now_ns, walls[-1], boots[-1], monos[-1])
        self.tick(feed, now_ns)

    # The end, and in between.

    def end(self, ends: Mapping[Feed, int] | None = None, contradicted: Collection[Feed] = frozenset()) -> list[Verdict]:
        """The log ends: what each monitor says. Tells nothing more afterwards. `ends`, `contradicted`: as for `Cluster`."""
        states = {feed: course.state for feed, course in self.courses.items() if course.state.entries}
        at_ns = max((course.at_ns for course in self.courses.values()), default=0)
        horizon = Horizon(
            Cluster(states, ends, at_ns, (), contradicted),
            {feed: course.now_ns for feed, course in self.courses.items()},
            {feed: course.at_ns for feed, course in self.courses.items()},
            self.pace,
        )
        for monitor in self.monitors:
            monitor.end(horizon)
        return [monitor.verdict() for monitor in self.monitors]

    def save(self) -> bytes:
        """All of it, from which another watch over the same monitors goes on."""
        saved = Saved(list(self.courses.values()), self.pace, [monitor.save() for monitor in self.monitors])
        return msgspec.msgpack.encode(saved)

    def resume(self, saved: bytes) -> None:
        """Go on from what `save` gave. Raises msgspec.MsgspecError for anything else, ValueError for other monitors."""
        found = msgspec.msgpack.decode(saved, type=Saved)
        self.courses = {course.state.feed: course for course in found.courses}
        self.pace = found.pace
        for monitor, state in zip(self.monitors, found.monitors, strict=True):
            monitor.resume(state)
            monitor.pace = self.pace


def _overrides(monitor: Monitor, name: Literal["tick", "reset", "blind", "pause"]) -> bool:
    """Whether a monitor has use for what it would be told."""
    return getattr(type(monitor), name) is not getattr(Monitor, name)
