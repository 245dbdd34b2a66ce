"""A feed's fold grown by entries that come one after another: each by itself, or many at once to the same state.

Who follows a feed as it is written has no sealed record to fold from (`records`), but mostly pings that are as alike as those of
a record. So what came is kept until somebody asks, is counted into groups as a record's directory would have it, and folded as
a record is. `grown_by` is the definition; that both agree is a law. No effects, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec

from ledger.blocks import Group
from ledger.entry import Entry
from ledger.events import ClockStepped, NodeStarted, PingAnswered, PingFailed, SettingsChanged
from ledger.identity import Feed
from ledger.instants import may_disown
from projections.feed_state import FeedState

Refold = Callable[[Feed, int], FeedState]
"""The fold of a feed's first so many entries, with effective instants as these alone make them."""
FEW: Final = 24
"""So few entries are folded sooner one by one."""
_PINGS: Final = (PingAnswered, PingFailed)
_APART: Final = frozenset((NodeStarted, ClockStepped, SettingsChanged))


def grown_by(state: FeedState, entry: Entry, refold: Refold) -> FeedState:
    """`state`, grown in place by the next entry of its feed, which counts from when the entries so far alone make it count; or
    the fold anew, where the entry sets the clock back behind some of them.
    """
    if entry.index <= state.entries:
        return state
    if may_disown(entry.event) and entry.at_ns < state.last_ns:
        return refold(state.feed, entry.index)
    at_ns = max(entry.at_ns, state.last_ns) if state.entries else entry.at_ns
    state.apply(entry if entry.effective_ns == at_ns else msgspec.structs.replace(entry, effective_ns=at_ns))
    return state


def grown_by_all(state: FeedState, entries: Sequence[Entry], refold: Refold) -> FeedState:
    """The same for all of `entries`, neighbours in the feed of `state`, one after another."""
    start = max(0, state.entries + 1 - entries[0].index) if entries else 0
    while len(entries) - start > FEW:
        stop = next((place for place in _parting(entries, start)), len(entries))
        if stop - start > FEW:
            state = _grow(state, entries[start:stop], refold)
        else:
            for entry in entries[start:stop]:
                state = grown_by(state, entry, refold)
        if stop < len(entries):
            state = grown_by(state, entries[stop], refold)
        start = stop + 1
    for entry in entries[start:]:
        state = grown_by(state, entry, refold)
    return state


def _parting(entries: Sequence[Entry], start: int) -> Iterator[int]:
    """The places from `start` on of entries that are folded by themselves: they may set a clock back, or touch every peer."""
    kinds = [entry.event.__class__ for entry in entries]
    if not _APART.isdisjoint(kinds):
        yield from (place for place in range(start, len(entries)) if kinds[place] in _APART)


def _grow(state: FeedState, entries: Sequence[Entry], refold: Refold) -> FeedState:
    """The state after entries none of which is folded by itself: what is no ping as it is, pings as what they amount to."""
    before = peak = state.last_ns if state.entries else entries[0].at_ns
    groups: dict[tuple[Any, ...], list[Any]] = {}
    heard: dict[str, list[int]] = {}
    controls: list[Entry] = []
    for entry in entries:
        if entry.at_ns > peak:  # noqa: PLR1730 - a call for every entry is felt here
            peak = entry.at_ns
        event: Any = entry.event
        kind = event.__class__
        if kind is PingAnswered:
            key = (event.peer, event.link, None, event.feed, event.held is None)
        elif kind is PingFailed:
            key = (event.peer, event.link, event.reason, event.feed, event.held is None)
        else:
            controls.append(_counted(entry, peak))
            continue
        pace = heard.get(event.peer)
        if pace is None:
            heard[event.peer] = [peak, 0]
        else:
            if peak - pace[0] > pace[1]:  # noqa: PLR1730 - as above
                pace[1] = peak - pace[0]
            pace[0] = peak
        group = groups.get(key)
        if group is None:
            groups[key] = [1, entry, peak, entry, peak]
        else:
            group[0] += 1
            group[3] = entry
            group[4] = peak

    def unfold(peer: str) -> list[Entry]:
        instants = accumulate((entry.at_ns for entry in entries), max, initial=before)
        next(instants)
        return [
            _counted(entry, at_ns)
            for entry, at_ns in zip(entries, instants, strict=True)
            if isinstance(entry.event, _PINGS) and entry.event.peer == peer
        ]

    found = [
        Group(
            peer, link, reason, count, first.index, first_ns, last.index, last_ns,
            0 if reason is not None else last.event.rtt_us, heard[peer][1], feed, last.event.held,
        )
        for (peer, link, reason, feed, _silent), (count, first, first_ns, last, last_ns) in groups.items()
    ]  # fmt: skip
    if not state.apply_groups(entries[0].index, entries[-1].index, peak, controls, found, unfold=unfold):
        for entry in entries:
            state = grown_by(state, entry, refold)
    return state


def _counted(entry: Entry, at_ns: int) -> Entry:
    return entry if entry.effective_ns == at_ns else msgspec.structs.replace(entry, effective_ns=at_ns)
