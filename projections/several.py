"""Folding several sealed records of a feed at once: what a peer's groups and link entries come to, over all of them.

Where there is no silence, failures change no link, and answers only one that is not up; so the link follows from its entries and
from where the answers begin, and the pings from sums, the last answer and the last result. Of a peer with which that is not
plain (a silence, another feed, a link entry among answers, a failure that may have been the first unseen) the records are
halved, down to the one that it lies in: that is planned from its groups (`records`), and where they do not suffice either,
from its pings.

Record by record, and one by one, are what defines it; that all come to one state is a law under test.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, chain, compress
from operator import attrgetter, sub
from typing import NamedTuple

from ledger.entry import Entry, Opaque
from ledger.events import LinkEstablished
from ledger.gathering import Gathered
from projections import links as link_room
from projections import records
from projections.feed_state import LINKED, SWEEPING, FeedState
from projections.links import LinkState
from projections.pings import NONE, PingState
from projections.records import linked_by

_index = attrgetter("index")


class Run(NamedTuple):
    """Neighbouring records: the index of the first and of the last entry of each, the instant of the last entry of all, and what
    their pings amount to. `unfold` gives the pings to a peer in the record at a place among them, ascending.
    """

    spans: Sequence[tuple[int, int]]
    last_ns: int
    told: Gathered
    unfold: Callable[[str, int], Iterable[Entry]]


class _Share(NamedTuple):
    """What belongs to one peer: its groups, at `start` to `end` in `told`, and its link entries, ascending."""

    told: Gathered
    start: int
    end: int
    linked: Sequence[Entry]


def grow(state: FeedState, run: Run, controls: Sequence[Entry]) -> bool:
    """Grow a state by some records, in place, exactly as one by one. `controls`: their entries that are no pings, ascending.
    False, and nothing changed, if that does not suffice. Precondition: in the records wall clocks are effective instants.
    """
    first, last = run.spans[0][0], run.spans[-1][1]
    sweeps = [place for place, entry in enumerate(controls) if entry.event.__class__ in SWEEPING]
    if first <= state.entries or any(run.told.divided(controls[place].index) for place in sweeps):
        return False
    begun = 0
    for place in sweeps:
        entry = controls[place]
        if first < entry.index:
            _between(state, run, controls[begun:place], first, entry.index - 1)
        state.apply(entry)
        begun, first = place + 1, entry.index + 1
    if first <= last:
        _between(state, run, controls[begun:], first, last)
    state.last_ns = run.last_ns
    return True


def _between(state: FeedState, run: Run, controls: Sequence[Entry], first: int, last: int) -> None:
    """Grow by the entries `first` to `last`, none of which touches every peer."""
    linked: dict[str, list[Entry]] = {}
    others: list[Entry] = []
    for entry in controls:
        if entry.event.__class__ in LINKED:
            linked.setdefault(entry.event.peer, []).append(entry)
        else:
            others.append(entry)
    told = run.told
    peers = told.between(first, last)
    if not state.entries:
        begun = [told.firsts_ns[start] for start, _end in peers.values()]
        state.first_ns = min(begun + [entry.effective_ns for entry in controls[:1]])
    for entry in others:  # before pings: what these say of feeds held gives way to a later word
        state.step(entry, entry.index, entry.effective_ns)
    places = range(len(run.spans))
    for peer, (start, end) in peers.items():
        _grow_peer(state, peer, run, places, _Share(told, start, end, linked.pop(peer, ())))
    for entry in chain.from_iterable(linked.values()):
        state.step(entry, entry.index, entry.effective_ns)
    state.opaque = bool(controls) and controls[-1].index == last and controls[-1].event.__class__ is Opaque
    state.entries = last


def _grow_peer(state: FeedState, peer: str, run: Run, places: Sequence[int], share: _Share) -> None:
    """Grow by one peer's share of the records at `places`."""
    told, start, end, linked = share
    if start == end and not linked:
        return
    link = state.links.get(peer)
    step = _peer(link or state.unheard, state.pings.get(peer, NONE), state.silent_ns, share)
    if step is not None:
        now, then = step
        if now is not link:
            state.links[peer] = now
        if start < end:
            state.pings[peer] = then
    elif len(places) > 1:
        half = len(places) // 2
        border = run.spans[places[half]][0]
        cut, later = bisect_left(told.firsts, border, start, end), bisect_left(linked, border, key=_index)
        _grow_peer(state, peer, run, places[:half], _Share(told, start, cut, linked[:later]))
        _grow_peer(state, peer, run, places[half:], _Share(told, cut, end, linked[later:]))
    elif start == end:
        for entry in linked:
            state.step(entry, entry.index, entry.effective_ns)
    else:
        groups = told.groups(start, end)
        links, pings, tangled = records.plan(
            state.links, state.pings, state.silent_ns, state.unheard, linked={peer: linked}, groups=groups
        )
        state.links.update(links)
        state.pings.update(pings)
        if tangled:
            low, high = told.firsts[start], max(told.lasts[start:end])
            unfolded = [entry for entry in run.unfold(peer, places[0]) if low <= entry.index <= high]
            for entry in heapq.merge(linked, unfolded, key=_index):
                state.step(entry, entry.index, entry.effective_ns)


def _peer(link: LinkState, ping: PingState, silent_ns: int, share: _Share) -> tuple[LinkState, PingState] | None:
    """A peer's link and pings after its share, None if that is not plain."""
    told, start, end, linked = share
    good: Sequence[int] = range(start, end)
    bad: Sequence[int] = ()
    if start < end:
        reasons, stating = told.reasons, {*told.feeds[start:end]}
        stating.discard(None)
        if len(stating) > 1 or (stating and ping.feed is not None and ping.feed not in stating):
            return None
        if max(told.gaps_ns[start:end]) >= silent_ns or _silent(link, ping, silent_ns, share):
            return None
        if reasons[start:end].count(None) < end - start:
            good = [place for place in good if reasons[place] is None]
            bad = [place for place in range(start, end) if reasons[place] is not None]
    now = _link(link, ping, silent_ns, share, good) if linked or link.state != "up" else link
    then = _pings(ping, link.good, share, good, bad) if start < end else ping
    return None if now is None or then is None else (now, then)


def _silent(link: LinkState, ping: PingState, silent_ns: int, share: _Share) -> bool:
    """Whether a link that is up may have been silent before one of the results, each group's own gaps left aside."""
    told, start, end, linked = share
    heard_ns = first_ns = told.firsts_ns[start]
    before = bisect_left(linked, told.firsts[start], key=_index) if linked else 0
    if before:
        if isinstance(linked[before - 1].event, LinkEstablished):
            heard_ns = linked[before - 1].effective_ns
    elif link.state == "up":
        heard_ns = ping.last_ns if ping.last > link.evidence else link.evidence_ns
    if first_ns - heard_ns >= silent_ns:
        return True
    firsts_ns, reach_ns = told.firsts_ns[start + 1 : end], accumulate(told.lasts_ns[start:end], max)
    waits = [*map(silent_ns.__le__, map(sub, firsts_ns, reach_ns))]
    if True not in waits:
        return False
    for place in compress(range(start + 1, end), waits):
        before = bisect_left(linked, told.firsts[place], key=_index)
        entry = linked[before - 1] if before else None
        if entry is None or entry.index < max(told.lasts[start:place]):  # of the link in between nothing is said
            return True
        if isinstance(entry.event, LinkEstablished) and told.firsts_ns[place] - entry.effective_ns >= silent_ns:
            return True
    return False


def _link(link: LinkState, ping: PingState, silent_ns: int, share: _Share, good: Sequence[int]) -> LinkState | None:
    """The link after its entries and the answers at `good`, None if answers of one group lie on both sides of an entry."""
    told = share.told
    firsts, lasts = told.firsts, told.lasts
    done, reached = 0, 0
    for entry in share.linked:
        index = entry.index
        stop = bisect_left(good, index, done, key=firsts.__getitem__)
        if done < stop:
            if link.state != "up":
                link = _raised(link, told, good[done])
            best = max(good[done:stop], key=lasts.__getitem__)
            reached, reached_ns = lasts[best], told.lasts_ns[best]
            ping = PingState(reached, reached_ns, None, reached, reached_ns, 0, 0, 0, 0)
            done = stop
        if reached > index or (link.state == "up" and _again(entry, link, ping, silent_ns)):
            return None
        link = linked_by(link, ping, entry.event, index, entry.effective_ns, silent_ns=silent_ns)
    return _raised(link, told, good[done]) if done < len(good) and link.state != "up" else link


def _again(entry: Entry, link: LinkState, ping: PingState, silent_ns: int) -> bool:
    """Whether an up link is established again after what may be a silence: failures in between are not looked at."""
    return isinstance(entry.event, LinkEstablished) and entry.effective_ns - link_room.evidence(link, ping)[0] >= silent_ns


def _raised(link: LinkState, told: Gathered, place: int) -> LinkState:
    """A link that was not up, after the first answer of the group at `place`."""
    return link_room.answered(link, None, told.firsts[place], told.firsts_ns[place], 0, name=told.link(place))


def _pings(
    ping: PingState, established: int, share: _Share, good: Sequence[int], bad: Sequence[int]
) -> PingState | None:  # fmt: skip
    """What pinging has come to after the groups of a share, the answers at `good` and the failures at `bad`. `established`: where
    the link stood last before. None if a failure that is not its group's first may have been the first since the last answer.
    """
    told, start, end, linked = share
    lasts, counts = told.lasts, told.counts
    ending = end - 1
    if max(lasts[start:end]) != lasts[ending]:
        ending = max(range(start, end), key=lasts.__getitem__)
    last, last_ns, sent = lasts[ending], told.lasts_ns[ending], ping.sent + sum(counts[start:end])
    held: int | None
    feed, held, stated = told.feeds[ending], told.held[ending], last
    if feed is None:
        feed, held, stated = _stated(ping, share)
    if not bad:
        return PingState(
            last, last_ns, None, last, last_ns, told.rtts_us[ending], sent, ping.lost, ping.linkless, feed, held, stated
        )
    answered, answered_ns, rtt_us = ping.answered, ping.answered_ns, ping.rtt_us
    if good:
        best = max(good, key=lasts.__getitem__)
        answered, answered_ns, rtt_us = lasts[best], told.lasts_ns[best], told.rtts_us[best]
    failing_ns, failing = 0, 0
    failed = max([lasts[place] for place in bad])
    if failed > answered:
        stood = [entry.index for entry in linked if isinstance(entry.event, LinkEstablished) and entry.index < failed]
        since = max(answered, established, *stood[-1:])
        late = [place for place in bad if lasts[place] > since]
        if ping.failing > since:
            failing_ns, failing = ping.failing_ns, ping.failing
        elif late and told.firsts[late[0]] > since:
            failing_ns, failing = told.firsts_ns[late[0]], told.firsts[late[0]]
        else:
            return None
    return PingState(
        last, last_ns, told.reasons[ending], answered, answered_ns, rtt_us,
        sent, ping.lost + sum([counts[place] for place in bad]),
        ping.linkless + sum([counts[place] for place in bad if told.link(place) is None]),
        feed, held, stated, failing_ns, failing,
    )  # fmt: skip


def _stated(ping: PingState, share: _Share) -> tuple[str | None, int | None, int]:
    """The peer's feed, how much was held of it, and the index of the result that said so last, where the last of all did not."""
    told, start, end, _linked = share
    stating = [place for place in range(start, end) if told.feeds[place] is not None]
    if not stating:
        return ping.feed, ping.held, ping.stated
    place = max(stating, key=told.lasts.__getitem__)
    return told.feeds[place], told.held[place], told.lasts[place]
