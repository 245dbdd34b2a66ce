"""Every instant of a window at which the mesh may become something else, so that nothing need be asked in between.

The state at T changes by entries, at their effective instants, and by the passing of time: an up link falls silent, a feed
ceases to cover. `sweep` knows the second kind and what pings do to links; this adds the entries that are no pings. What only a
ping changes (last result, counts, round trips) is no turn, but for the first ping to a machine that is no member: that
somebody speaks with a stranger is worth an instant. Nothing that depends on pings in no other way changes between two turns: a
law under test, against the fold asked everywhere.

Reads a history, writes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Final

from ledger import events as ev
from ledger.blocks import AT
from ledger.entry import Entry
from ledger.feeds import FeedReader
from ledger.heads import RecordRow
from ledger.unpacking import Pings
from projections.coverage import covered_spans
from projections.feed_state import FeedState
from replay.eras import Era, eras
from replay.history import History
from replay.sweep import Sweep

Progress = Callable[[int, int], None]
"""Told how much is done, and how much there is in all."""
_SILENT: Final = (ev.PingHeard, ev.FeedReceived, ev.HeadWitnessed, ev.NoteAdded, ev.JoinRefused, ev.NodeStalled, ev.ClockStepped)
"""Kinds that change no member, link, plan, name or coverage by themselves."""
_PINGS: Final = (ev.PingAnswered, ev.PingFailed)


def turns(history: History, since_ns: int, until_ns: int, *, progress: Progress | None = None) -> list[int]:
    """The instants in (since, until), ascending, each once. `progress` is told feeds."""
    begun = {feed: history.state(feed, since_ns - 1) for feed in history.feeds}
    window = eras(history, begun, since_ns, until_ns)
    if not window:
        return []
    own = frozenset().union(*(era.own for era in window))
    found = {era.since_ns for era in window}
    feeds = [feed for feed in history.feeds if feed in own]
    for done, feed in enumerate(feeds, 1):
        seen = _Seen(history.reader(feed), begun[feed], history.feed_end_ns(feed), window)
        seen.run()
        found |= seen.instants
        for line in seen.lines.values():
            found.update(line.times)
        for era in window if seen.entries else ():
            for span in covered_spans(
                seen.first_ns, seen.end_ns, era.interval_ns, seen.pauses, since_ns=era.since_ns, until_ns=era.until_ns
            ):
                found.update(span)
        if progress is not None:
            progress(done, len(feeds))
    return sorted(at_ns for at_ns in found if since_ns < at_ns < until_ns)


class _Anyone:
    """Links to whomever: also those to strangers fall silent."""

    def __contains__(self, name: object) -> bool:
        return True


class _Seen(Sweep):
    """A sweep that also keeps the instants of what is no ping, and of the first ping of an era to each machine that is no member
    in it. Later ones tell nothing new: who is no member, and since when, stays the same through an era, and began before it.
    """

    def __init__(self, reader: FeedReader, state: FeedState, end_ns: int, window: Sequence[Era]) -> None:
        super().__init__(reader, state, end_ns, window, peers=_Anyone(), counts={})
        self.instants: set[int] = set()
        self.window = window
        self.starts = [era.since_ns for era in window]
        self.always = frozenset.intersection(*(era.members for era in window))
        self.met: set[tuple[int, str]] = set()

    def _entry(self, entry: Entry) -> None:
        super()._entry(entry)
        self._note(entry)

    def _note(self, entry: Entry) -> None:
        event: Any = entry.event
        if event.__class__ in _PINGS:
            if event.peer not in self.always:
                self._meet(event.peer, (entry.effective_ns,))
        elif event.__class__ not in _SILENT:
            self.instants.add(entry.effective_ns)

    def _new(self, peer: str, first_ns: int, last_ns: int) -> list[int]:
        """The eras between these instants in which the peer is no member and was not met yet."""
        if peer in self.always:
            return []
        eras = range(max(bisect_right(self.starts, first_ns) - 1, 0), bisect_right(self.starts, last_ns))
        return [era for era in eras if peer not in self.window[era].members and (era, peer) not in self.met]

    def _meet(self, peer: str, at: Sequence[int]) -> None:
        """Keep the first of these ascending instants of pings in each era, but for its very start, which is a turn anyway."""
        for era in self._new(peer, at[0], at[-1]):
            place = bisect_right(at, self.starts[era])
            if place < len(at) and at[place] < self.window[era].until_ns:
                self.instants.add(at[place])
                self.met.add((era, peer))

    def _record(self, record: RecordRow) -> None:
        controls = self.reader.controls_of(record)
        for entry in controls:
            self._note(entry)
        if any(self._new(group.peer, group.first_ns, group.last_ns) for group in self.reader.groups(record)):
            pings = self.reader.pings(record, controls)
            at = pings.column(AT) if pings.count else ()
            found: dict[str, list[int]] = {}
            for number, context in enumerate(pings.block.contexts):
                if context.peer not in self.always:
                    found.setdefault(context.peer, []).extend(at[pings.starts[number] : pings.starts[number + 1]])
            for peer, instants in found.items():
                if instants:
                    self._meet(peer, sorted(instants))
        super()._record(record)

    def _tally(self, pings: Pings) -> None:
        """Results are not asked for."""
