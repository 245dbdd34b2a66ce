"""One feed over a window: when each of its links was up, down or unknown, what its pings came to, where it does not cover.

The fold of a feed gives its links at one moment; this gives every change of them in [since, until), in one pass. A record is
taken by its directory: nearly always the pings to a peer fall among others, over a link that is up, and change nothing. Only
where they may (a group after a loss, groups that overlap, a gap as long as a silence) are they put in order one by one. The
definition is the fold, asked at every moment; that both agree is a law under test.

What is silent at a moment hangs on the interval in force then, which the eras bring. Reads records, writes nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

from ledger import events as ev
from ledger.blocks import AT, RTT, Group
from ledger.entry import Entry, Opaque
from ledger.feeds import FeedReader
from ledger.heads import RecordRow
from ledger.unpacking import Pings
from projections.coverage import Pause
from projections.feed_state import FeedState
from projections.links import evidence, silence_ns
from replay.eras import Era, silences

UP, DOWN, UNKNOWN = "up", "down", "unknown"
_LINKED: Final = (ev.LinkEstablished, ev.LinkLost, ev.LinkFailed)
_APART: Final = (ev.NodeStarted, ev.NodeStopped, ev.SettingsChanged, Opaque)
"""Kinds that concern more than one peer: a record that holds one is read entry by entry."""


class Line:
    """One directed link over the window: from `times[i]` on it was `states[i]`. Times never decrease, the first is `since`;
    where several are equal the last one counts. `places[i]`: the index of the entry that made it up or down, 0 if unknown.
    `stored` is the state that its fold holds, `since` that of the entry which made it so, `heard_ns` the last evidence.
    """

    __slots__ = ("heard_ns", "places", "since", "states", "stored", "times")

    def __init__(self, since_ns: int, stored: str, heard_ns: int, since: int = 0) -> None:
        self.times = [since_ns]
        self.states = [stored]
        self.places = [0 if stored == UNKNOWN else since]
        self.stored = stored
        self.heard_ns = heard_ns
        self.since = since

    def turn(self, at_ns: int, state: str) -> None:
        """From `at_ns` on it is `state`."""
        self.times.append(at_ns)
        self.states.append(state)
        self.places.append(0 if state == UNKNOWN else self.since)


class Count:
    """The ping results of one directed link, but for those that had no link to be sent on."""

    __slots__ = ("lost", "rtt_us", "sent")

    def __init__(self) -> None:
        self.sent = self.lost = 0
        self.rtt_us = array("q")


class Sweep:
    """The pass over a feed. `state`: its fold just before `since`; `end_ns`: the instant of its last entry as known;
    `eras`: those of the window; `peers`: whose links are asked for; `counts`: grows by their results, by peer.
    """

    def __init__(
        self,
        reader: FeedReader,
        state: FeedState,
        end_ns: int,
        eras: Sequence[Era],
        *,
        peers: Container[str],
        counts: dict[str, Count],
    ) -> None:
        self.reader = reader
        self.since_ns, self.until_ns = eras[0].since_ns, eras[-1].until_ns
        self.end_ns = end_ns
        self.peers = peers
        self.silences = silences(eras)
        self.generation = state.settings.generation if state.settings else -1
        self.own_silent_ns = state.silent_ns
        self.least_ns = min(silent for _since, _until, silent in self.silences)
        self.lines: dict[str, Line] = {}
        self.counts = counts
        for peer, link in state.links.items():
            if peer in self.peers:
                self.lines[peer] = Line(self.since_ns, link.state, evidence(link, state.pings.get(peer))[0], link.since)
        self.pauses: list[Pause] = []
        self.entries = state.entries
        self.first_ns = state.first_ns
        self.last_ns = state.last_ns
        self.stopped_ns = state.lifecycle_ns if state.lifecycle == "stopped" else None
        self.opaque_ns = state.last_ns if state.opaque else None

    def run(self) -> None:
        """Go over the window, once."""
        reader, timeline = self.reader, self.reader.timeline()
        head = reader.head()
        whole = reader.partial(self.since_ns - 1, timeline)[0]
        done = False
        for record in reader.records(whole, head.records) if whole < head.records else ():
            if record.steady and not timeline.stretches and self.since_ns <= record.low_ns and record.high_ns < self.until_ns:
                self._record(record)
            elif self._entries(reader.entries_of(record, timeline)):
                done = True
                break
        if not done:
            self._entries(reader.entries(max(head.sealed, self.entries)))
        self._finish()

    def _entries(self, entries: Iterable[Entry]) -> bool:
        """Go over these one by one. Whether the end of the window was reached."""
        for entry in entries:
            if entry.index <= self.entries:
                continue
            if entry.effective_ns >= self.until_ns:
                return True
            self._entry(entry)
        return False

    # One entry.

    def _entry(self, entry: Entry) -> None:
        event: Any = entry.event
        at_ns, kind = entry.effective_ns, event.__class__
        if not self.entries:
            self.first_ns = at_ns
        elif kind is ev.NodeStarted:
            self._started(at_ns)
        if self.opaque_ns is not None and kind is not Opaque:
            self.pauses.append(Pause("opaque", self.opaque_ns, at_ns))
            self.opaque_ns = None
        if kind is Opaque and self.opaque_ns is None:
            self.opaque_ns = at_ns
        elif kind is ev.NodeStopped and self.stopped_ns is None:
            self.stopped_ns = at_ns
        elif kind is ev.SettingsChanged and event.generation >= self.generation:
            self.generation, self.own_silent_ns = event.generation, silence_ns(event.ping_interval_ms)
        elif kind in _LINKED and event.peer in self.peers:
            self._linked(event.peer, at_ns, kind, entry.index)
        elif kind is ev.PingAnswered and event.peer in self.peers:
            self._good(self._line(event.peer), at_ns, entry.index)
            count = self._count(event.peer)
            count.sent += 1
            count.rtt_us.append(event.rtt_us)
        elif kind is ev.PingFailed and event.peer in self.peers:
            self._failed(self._line(event.peer), at_ns)
            if event.link is not None:
                count = self._count(event.peer)
                count.sent += 1
                count.lost += 1
        self.entries, self.last_ns = entry.index, at_ns

    def _started(self, at_ns: int) -> None:
        self.pauses.append(Pause("crashed", self.last_ns, at_ns))
        if self.stopped_ns is not None:
            self.pauses.append(Pause("stopped", self.stopped_ns, at_ns))
            self.stopped_ns = None
        for line in self.lines.values():
            self._hush(line, at_ns)
            line.turn(at_ns, UNKNOWN)
            line.stored = UNKNOWN

    def _line(self, peer: str) -> Line:
        found = self.lines.get(peer)
        if found is None:
            found = self.lines[peer] = Line(self.since_ns, UNKNOWN, self.since_ns)
        return found

    def _count(self, peer: str) -> Count:
        found = self.counts.get(peer)
        if found is None:
            found = self.counts[peer] = Count()
        return found

    # One link. These follow `links`, transition by transition.

    def _linked(self, peer: str, at_ns: int, kind: type, index: int) -> None:
        line = self._line(peer)
        if kind is ev.LinkEstablished:
            self._good(line, at_ns, index)
            return
        self._hush(line, at_ns)
        if line.stored != DOWN:
            line.since = index
        line.turn(at_ns, DOWN)
        line.stored, line.heard_ns = DOWN, at_ns

    def _good(self, line: Line, at_ns: int, index: int) -> None:
        again = line.stored != UP or at_ns - line.heard_ns >= self.own_silent_ns
        silent = self._hush(line, at_ns)
        if again:
            line.since = index
        if silent or again:
            line.turn(at_ns, UP)
            line.stored = UP
        line.heard_ns = at_ns

    def _failed(self, line: Line, at_ns: int) -> None:
        if self._hush(line, at_ns):
            line.stored = UNKNOWN if at_ns - line.heard_ns >= self.own_silent_ns else UP
            line.turn(at_ns, line.stored)
        line.heard_ns = at_ns

    def _hush(self, line: Line, until_ns: int) -> bool:
        """Whether an up link may have been silent up to `until_ns`; then it was unknown for so long as it was."""
        heard_ns = line.heard_ns
        if line.stored != UP or until_ns - heard_ns < min(self.least_ns, self.own_silent_ns):
            return False
        self._silent(line, until_ns, until_ns)
        return True

    def _silent(self, line: Line, until_ns: int, end_ns: int) -> None:
        for start_ns, stop_ns, silent_ns in self.silences:
            begin_ns, over_ns = max(start_ns, line.heard_ns + silent_ns), min(stop_ns, until_ns)
            if begin_ns < over_ns and end_ns - line.heard_ns >= silent_ns:
                line.turn(begin_ns, UNKNOWN)
                if over_ns < until_ns:
                    line.turn(over_ns, UP)

    # One record.

    def _record(self, record: RecordRow) -> None:
        controls = self.reader.controls_of(record)
        if any(entry.event.__class__ in _APART for entry in controls) or self.opaque_ns is not None:
            self._entries(self.reader.entries_of(record))
            return
        if not self.entries:
            self.first_ns = record.low_ns
        linked: dict[str, list[Entry]] = {}
        for entry in controls:
            if isinstance(entry.event, _LINKED) and entry.event.peer in self.peers:
                linked.setdefault(entry.event.peer, []).append(entry)
        groups: dict[str, list[Group]] = {peer: [] for peer in linked}
        for group in self.reader.groups(record):
            if group.peer in self.peers:
                groups.setdefault(group.peer, []).append(group)
        if groups:
            pings = self.reader.pings(record, controls)
            self._tally(pings)
            for peer, found in groups.items():
                self._peer(peer, found, linked.get(peer, ()), pings)
        self.entries, self.last_ns = record.last, record.high_ns

    def _peer(self, peer: str, groups: list[Group], linked: Sequence[Entry], pings: Pings) -> None:
        """What a record says of one link."""
        line = self._line(peer)
        if len(groups) == 1 and not linked and groups[0].gap_ns < min(self.least_ns, self.own_silent_ns):
            group = groups[0]
            if group.reason is None:
                self._good(line, group.first_ns, group.first)
            else:
                self._failed(line, group.first_ns)
            line.heard_ns = group.last_ns
            return
        steps: list[tuple[int, int, type]] = [(entry.index, entry.at_ns, entry.event.__class__) for entry in linked]
        steps += one_by_one(peer, pings)
        for index, at_ns, kind in sorted(steps, key=itemgetter(0)):
            if kind is ev.PingAnswered:
                self._good(line, at_ns, index)
            elif kind is ev.PingFailed:
                self._failed(line, at_ns)
            else:
                self._linked(peer, at_ns, kind, index)

    def _tally(self, pings: Pings) -> None:
        """The results of a whole record."""
        peers, starts = self.peers, pings.starts
        rtt_us = pings.column(RTT) if pings.count else []
        for number, context in enumerate(pings.block.contexts):
            if context.peer not in peers or (context.link is None and not context.answered):
                continue
            count, start, end = self._count(context.peer), starts[number], starts[number + 1]
            count.sent += end - start
            if context.answered:
                count.rtt_us.extend(rtt_us[start:end])
            else:
                count.lost += end - start

    # The end of the window.

    def _finish(self) -> None:
        for line in self.lines.values():
            if line.stored == UP:
                self._silent(line, self.until_ns, self.end_ns)
        if self.stopped_ns is not None:
            self.pauses.append(Pause("stopped", self.stopped_ns))
        if self.opaque_ns is not None:
            self.pauses.append(Pause("opaque", self.opaque_ns))
        following = self.reader.controls(self.entries + 1, self.entries + 1) if self.entries else []
        if following and isinstance(following[0].event, ev.NodeStarted):
            self.pauses.append(Pause("crashed", self.last_ns))


def one_by_one(peer: str, pings: Pings) -> list[tuple[int, int, type]]:
    """(index, instant, kind) of each ping to a peer."""
    at = pings.column(AT) if pings.count else []
    found: list[tuple[int, int, type]] = []
    for number, context in enumerate(pings.block.contexts):
        if context.peer == peer:
            kind = ev.PingAnswered if context.answered else ev.PingFailed
            start, end = pings.starts[number], pings.starts[number + 1]
            places = pings.order[start:end]
            found += [(pings.index(place), at_ns, kind) for place, at_ns in zip(places, at[start:end], strict=True)]
    return found
