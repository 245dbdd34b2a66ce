"""Each invariant once more, as its sentence says it: quantified over lists of entries, looking forward and back as it likes.

Nothing here is incremental, nothing is kept between entries, and nothing is imported of what it judges: only what happened
(`ledger.events`, `ledger.entry`). Every function takes a `Log` and gives a `Found`. What is wrong in it and what is
wrong in a monitor is unlikely to be the same, since the one looks for an answer from its question on, and the other waits.

The invariants that judge the fold (A8, A17, A18, B2, B4, B7, B12) have another oracle: `model.py`, at every position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from ledger import events as ev
from ledger.entry import Entry, Opaque

MS = 1_000_000
PARTED = ("left", "disconnected", "not-a-member")


class Found:
    """What came of one invariant: where it is violated, and whether anything was judged, could not be told, or is open."""

    def __init__(self) -> None:
        self.wrong: list[tuple[int, str]] = []
        self.judged = self.uncovered = self.pending = False

    def at(self, entry: Entry) -> None:
        self.wrong.append((entry.effective_ns, entry.position))

    @property
    def outcome(self) -> str:
        if self.wrong:
            return "violated"
        if self.judged:
            return "holds"
        if self.pending:
            return "pending"
        return "not covered" if self.uncovered else "vacuous"


class Log:
    """A history as lists: `feeds` by feed, each in its order; `shown` in display order; `time` gives feed times."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.feeds: dict = {}
        for entry in entries:
            self.feeds.setdefault(entry.feed, []).append(entry)
        for log in self.feeds.values():
            log.sort(key=lambda entry: entry.index)
        self.shown = sorted((entry for log in self.feeds.values() for entry in log), key=_shown)
        self.controls = [entry for entry in self.shown if entry.kind not in ("ping.answered", "ping.failed")]
        self.time = {feed: _feed_times(log) for feed, log in self.feeds.items()}
        self.settings = _settings(self.shown)
        self.partings = [
            (entry.effective_ns, entry.event.machine)
            for entry in self.shown
            if isinstance(entry.event, (ev.MachineLeft, ev.MachineDisconnected))
        ]

    def over(self, since: int, until: int) -> list[ev.SettingsChanged]:
        """The settings in force at any instant between the two."""
        before = [each for at, each in self.settings if at <= since][-1:] or [ev.SettingsChanged(0)]
        return before + [each for at, each in self.settings if since < at <= until]

    def interval(self, at: int) -> int:
        return self.over(at, at)[0].ping_interval_ms * MS

    def detection(self, at: int) -> int:
        each = self.over(at, at)[0]
        return ((each.lost_after + 1) * each.ping_interval_ms + each.ping_timeout_ms) * MS

    def before(self, entry: Entry) -> int:
        """The instant of the entry before it in its feed; 0 if it is the first."""
        return self.feeds[entry.feed][entry.index - 2].effective_ns if entry.index > 1 else 0

    def end(self, machine: str) -> int | None:
        ends = [log[-1].effective_ns for feed, log in self.feeds.items() if feed.machine == machine]
        return max(ends, default=None)


def _shown(entry: Entry) -> tuple:
    return entry.effective_ns, entry.feed.machine, entry.feed.epoch, entry.feed.id, entry.index


def _feed_times(log: list[Entry]) -> list[int]:
    """Along one boot the monotonic clock, from where that boot's first reading in a row stood; else effective instants."""
    times = [0]
    for place, (before, entry) in enumerate(pairwise(log), 1):
        start = place - 1
        while start > 0 and log[start - 1].boot == entry.boot and log[start - 1].mono_ns is not None:
            start -= 1
        told = entry.boot is not None and entry.mono_ns is not None
        if told and before.boot == entry.boot and before.mono_ns is not None:
            times.append(max(times[-1], times[start] + entry.mono_ns - log[start].mono_ns))
        else:
            times.append(times[-1] + entry.effective_ns - before.effective_ns)
    return times


def _settings(shown: list[Entry]) -> list[tuple[int, ev.SettingsChanged]]:
    found: list[tuple[int, str, ev.SettingsChanged]] = []
    for entry in shown:
        event, machine = entry.event, entry.feed.machine
        if isinstance(event, ev.SettingsChanged):
            worse = found and (-event.generation, machine) > (-found[-1][2].generation, found[-1][1])
            if not worse and not (found and found[-1][1:] == (machine, event)):
                found.append((entry.effective_ns, machine, event))
    return [(at, event) for at, _machine, event in found]


def is_(entry: Entry, *kinds: str) -> bool:
    return not isinstance(entry.event, Opaque) and entry.kind in kinds


def peer_of(entry: Entry, *kinds: str) -> str | None:
    return entry.event.peer if is_(entry, *kinds) else None


# One feed.


def a1(log: Log) -> Found:
    found = Found()
    for feed in log.feeds.values():
        for place, entry in enumerate(feed, 1):
            found.judged = True
            if entry.index != place:
                found.at(entry)
    return found


def a3(log: Log) -> Found:
    found = Found()
    for feed in log.feeds.values():
        for place, (before, entry) in enumerate(pairwise(feed), 1):
            if before.boot is None or entry.boot is None:
                continue
            lives = [each for each in feed[:place] if is_(each, "node.started", "node.stopped")]
            running = bool(lives) and is_(lives[-1], "node.started")
            if entry.boot != before.boot:
                wrong = running and not is_(entry, "node.started")
                if is_(entry, "node.stopped"):
                    wrong = False
            else:
                wrong = entry.mono_ns is not None and before.mono_ns is not None and entry.mono_ns < before.mono_ns
            found.judged = True
            if wrong:
                found.wrong.append((entry.at_ns, entry.position))
    return found


def a4(log: Log) -> Found:
    found = Found()
    for feed in log.feeds.values():
        for before, entry in pairwise(feed):
            if entry.boot is None or entry.boot != before.boot or None in (entry.mono_ns, before.mono_ns):
                continue
            if is_(entry, "node.started"):
                continue
            said = entry.event.by_ns if is_(entry, "clock.stepped") else 0
            passed = entry.mono_ns - before.mono_ns
            found.judged = True
            if abs(entry.at_ns - before.at_ns - passed - said) > 10**9 + abs(passed) // 1000:
                found.wrong.append((entry.at_ns, entry.position))
    return found


def _stretch(feed: list[Entry], place: int, *ends: str) -> list[Entry]:
    """The entries before `place`, back to the last of those kinds (with it), or to an unknown one (without it)."""
    start = place
    while start > 0:
        before = feed[start - 1]
        if isinstance(before.event, Opaque):
            break
        start -= 1
        if is_(before, *ends):
            break
    return feed[start:place]


def a5(log: Log) -> Found:
    found = Found()
    for feed in log.feeds.values():
        for place, entry in enumerate(feed):
            peer = peer_of(entry, "link.established", "link.lost", "link.failed")
            if peer is None:
                continue
            known = _stretch(feed, place, "node.started")
            fresh = bool(known) and is_(known[0], "node.started")
            words = [each for each in known if peer_of(each, "link.established", "link.lost") == peer]
            last = words[-1] if words else None
            stands = last is not None and is_(last, "link.established")
            if is_(entry, "link.failed"):
                wrong = stands
            elif is_(entry, "link.established"):
                wrong = stands and entry.event.link is not None and entry.event.link == last.event.link
            elif last is None:
                if not fresh:
                    continue
                wrong = True
            else:
                names = {entry.event.link, last.event.link} - {None}
                wrong = not stands or (len(names) > 1)
            found.judged = True
            if wrong:
                found.at(entry)
    return found


def a6(log: Log) -> Found:
    found = Found()
    for feed in log.feeds.values():
        for place, entry in enumerate(feed):
            found.judged |= is_(entry, "node.started")
            peer = peer_of(entry, "ping.answered", "ping.failed")
            if peer is None or entry.event.link is None:
                continue
            starts = [each for each in range(place) if is_(feed[each], "node.started")]
            est = [each for each in range(place) if peer_of(feed[each], "link.established") == peer]
            if not starts:
                continue
            since = [each for each in est if each > starts[-1]]
            if since and feed[since[-1]].event.link == entry.event.link:
                continue
            stood = None  # what stood at the last start before which anything named stood
            for start in starts:
                inside = [each for each in est if each < start]
                earlier = [each for each in starts if each < start]
                inside = [each for each in inside if not earlier or each > earlier[-1]]
                if inside and feed[inside[-1]].event.link is not None:
                    stood = feed[inside[-1]].event.link
            if stood == entry.event.link:
                found.at(entry)
    return found


def a7(log: Log) -> Found:
    found = Found()
    kinds = ("link.established", "link.lost", "link.failed", "ping.answered", "ping.failed", "ping.heard")
    for entry in log.shown:
        peer = peer_of(entry, *kinds)
        if peer is not None:
            found.judged = True
            if peer == entry.feed.machine:
                found.at(entry)
    return found


def _parted(entry: Entry) -> str | None:
    if is_(entry, "machine.left", "machine.disconnected"):
        return entry.event.machine
    if is_(entry, "link.lost", "link.failed", "ping.failed") and entry.event.reason in PARTED:
        return entry.event.peer
    return None


def _departed(entry: Entry) -> str | None:
    return entry.event.machine if is_(entry, "machine.left", "machine.disconnected") else None


Key = Callable[[Entry], str | None]


def _learns(log: Log, entries: list[Entry], place: int, key: str) -> bool:
    """Whether a feed's machine comes to hold at `place` that the machine `key` left, or was disconnected on purpose."""
    entry = entries[place]
    if not is_(entry, "feed.received"):
        return False
    source = entry.event.feed
    told = [each.event.held for each in entries[:place] if is_(each, "feed.received") and each.event.feed == source]
    return any(
        each.feed.id == source and _departed(each) == key and max(told, default=0) < each.index <= entry.event.held
        for each in log.shown
    )


def responds(log: Log, trigger: Key, answer: Key, length: Callable[[int, int], int], unless: Key) -> Found:
    """Of every question: is the first thing that settles it there in time?"""
    found = Found()
    for feed, entries in log.feeds.items():
        time = log.time[feed]
        last: dict[str, int] = {}
        for place, entry in enumerate(entries):
            key = trigger(entry)
            if key is None:
                continue
            held = last.get(key)
            waiting = held is not None and _settled(log, entries, held, key, answer, unless) > place
            if waiting and not _late(log, entries, time, held, place, length):
                continue  # asked already
            last[key] = place
            end = _settled(log, entries, place, key, answer, unless)
            over = end == len(entries)
            late = _late(log, entries, time, place, end, length)
            again = [
                each
                for each in range(place + 1, end)
                if trigger(entries[each]) == key and _late(log, entries, time, place, each, length)
            ]
            if late or again:
                at = entry.effective_ns
                limit = at + length(at, at + length(at, at))
                if not any(at <= when <= limit and who == key for when, who in log.partings):
                    found.at(entry)
            elif over:
                found.pending = True
            elif isinstance(entries[end].event, Opaque):
                found.uncovered = True
            elif answer(entries[end]) == key and unless(entries[end]) != key:
                found.judged = True
    return found


def _settled(log: Log, entries: list[Entry], place: int, key: str, answer: Key, unless: Key) -> int:  # noqa: PLR0917
    """The place of the first entry that answers, calls off, or ends all waiting."""
    for each in range(place + 1, len(entries)):
        entry = entries[each]
        if key in (answer(entry), unless(entry)) or _learns(log, entries, each, key):
            return each
        if isinstance(entry.event, Opaque) or is_(entry, "node.started", "node.stopped"):
            return each
    return len(entries)


def _late(log: Log, entries: list[Entry], time: list[int], place: int, end: int, length) -> bool:  # noqa: PLR0917
    """Whether what was asked at `place` is late by `end`; standstills are added, unless it was late before them."""
    at = entries[place].effective_ns
    limit = length(at, at + length(at, at))
    stalled = 0
    for each in range(place + 1, min(end + 1, len(entries))):
        if is_(entries[each], "node.stalled"):
            if time[each - 1] - time[place] - stalled > limit:
                return True
            stalled += entries[each].event.stalled_ms * MS
    if end == len(entries):
        by = time[-1]
    elif isinstance(entries[end].event, Opaque) or is_(entries[end], "node.started"):
        by = time[end - 1]
    else:
        by = time[end]
    return by - time[place] - stalled > limit


def _longest(log: Log, what: Callable[[ev.SettingsChanged], int]) -> Callable[[int, int], int]:
    return lambda since, until: max(what(each) for each in log.over(since, until)) * MS


def a9(log: Log) -> Found:
    def asks(entry: Entry) -> str | None:
        return None if _parted(entry) else peer_of(entry, "ping.answered", "ping.failed")

    def answers(entry: Entry) -> str | None:
        return peer_of(entry, "ping.answered", "ping.failed")

    def length(since: int, until: int) -> int:
        interval = _longest(log, lambda each: each.ping_interval_ms)(since, until)
        return max(interval * 3 // 2, interval + 10**9)

    return responds(log, asks, answers, length, _parted)


def a12(log: Log) -> Found:
    kinds = ("link.established", "ping.answered", "ping.failed", "link.lost", "link.failed")

    def length(since: int, until: int) -> int:
        interval, timeout = (
            _longest(log, lambda x, name=name: getattr(x, name)) for name in ("ping_interval_ms", "ping_timeout_ms")
        )
        return 2 * interval(since, until) + timeout(since, until)

    return responds(log, lambda e: peer_of(e, *kinds[:2]), lambda e: peer_of(e, *kinds), length, _parted)


def _lost(entry: Entry) -> str | None:
    return entry.event.peer if is_(entry, "link.lost") and entry.event.reason not in PARTED else None


def a13(log: Log) -> Found:
    kinds = ("link.established", "link.failed", "ping.failed")
    length = _longest(log, lambda each: 2 * each.ping_interval_ms)
    return responds(log, _lost, lambda e: peer_of(e, *kinds), length, _parted)


def a14(log: Log) -> Found:
    def capped(entry: Entry) -> str | None:
        return entry.event.peer if is_(entry, "link.lost") and entry.event.reason == "connection-limit" else None

    length = _longest(log, lambda each: each.ping_interval_ms)
    return responds(log, capped, lambda e: peer_of(e, "link.established"), length, _departed)


def a10(log: Log) -> Found:
    found = Found()
    for feed in log.feeds.values():
        for place, entry in enumerate(feed):
            peer = peer_of(entry, "ping.answered", "ping.failed")
            if peer is None:
                continue
            known = _stretch(feed, place, "node.started", "node.stopped")
            before = [each for each in known if peer_of(each, "ping.answered", "ping.failed") == peer]
            if before:
                found.judged = True
                if entry.event.number != before[-1].event.number + 1:
                    found.at(entry)
    return found


def a11(log: Log) -> Found:
    found = Found()
    for feed in log.feeds.values():
        for place, entry in enumerate(feed):
            peer = peer_of(entry, "ping.answered")
            if peer is None:
                continue
            known = _stretch(feed, place, "node.started", "node.stopped")
            words = [each for each in known if peer_of(each, "link.established", "link.lost") == peer]
            if words and is_(words[-1], "link.established"):
                found.judged = True
            elif known and is_(known[0], "node.started", "node.stopped"):
                found.judged = True
                found.at(entry)
            else:
                found.uncovered = True
    return found


def a20(log: Log) -> Found:
    found = Found()
    for feed, entries in log.feeds.items():
        time = log.time[feed]
        for place, entry in enumerate(entries):
            peer = _lost(entry)
            if peer is None:
                continue
            losses = _losses(entries, place, peer)
            over = _flapping(log, entries, time, losses)
            found.judged = True
            earlier = [each for each in range(place) if _lost(entries[each]) == peer]
            told = bool(earlier) and _flapping(log, entries, time, _losses(entries, earlier[-1], peer))
            if over and not told:
                found.at(entry)
    return found


def _losses(entries: list[Entry], place: int, peer: str) -> list[int]:
    """The losses of a link up to `place`, since the last unknown entry."""
    start = max([each + 1 for each in range(place) if isinstance(entries[each].event, Opaque)], default=0)
    return [each for each in range(start, place + 1) if _lost(entries[each]) == peer]


def _flapping(log: Log, entries: list[Entry], time: list[int], losses: list[int]) -> bool:
    """Whether, at the last of these, there were too many of them within the window."""
    settings = log.over(entries[losses[-1]].effective_ns, entries[losses[-1]].effective_ns)[0]
    window = settings.flap_window_ms * MS
    return bool(window) and sum(time[losses[-1]] - time[each] < window for each in losses) > settings.flaps_max


def a21(log: Log) -> Found:
    found = Found()
    for feed, entries in log.feeds.items():
        time = log.time[feed]
        for place, entry in enumerate(entries):
            if is_(entry, "node.stalled"):
                found.judged = True
            bad = is_(entry, "link.lost") and entry.event.reason in ("timeout", "idle-timeout")
            bad |= is_(entry, "ping.failed") and entry.event.reason == "timeout" and entry.event.link is not None
            if not bad:
                continue
            lives = [each for each in range(len(entries)) if is_(entries[each], "node.started", "node.stopped")]
            low = max([each for each in lives if each < place], default=-1)
            high = min([each for each in lives if each > place], default=len(entries))
            stalls = [each for each in range(low + 1, high) if is_(entries[each], "node.stalled")]
            before = [each for each in stalls if each < place][-1:]
            after = [each for each in stalls if each > place][:1]
            timeout = {
                each: log.over(entries[each].effective_ns, entries[each].effective_ns)[0].ping_timeout_ms * MS for each in stalls
            }
            doubted = any(time[place] <= time[each] + timeout[each] for each in before)
            doubted = doubted or any(time[place] >= time[each] - entries[each].event.stalled_ms * MS for each in after)
            if doubted:
                found.at(entry)
    return found


def b17(log: Log) -> Found:
    found = Found()
    for entry in log.shown:
        event = entry.event
        if not is_(entry, "ping.answered") or (event.sent_us is None and event.received_us is None):
            continue
        found.judged = True
        sides = [(event.sent_us, event.returned_us), (event.received_us, event.replied_us)]
        took, held = (None if None in each else each[1] - each[0] for each in sides)
        backwards = any(each is not None and each < 0 for each in (took, held))
        if backwards or (took is not None and held is not None and held > took + took // 1000 + 1000):
            found.at(entry)
    return found
