"""What one machine knew: as the naive model says, by its own word alone, and the same for a node that keeps it as it goes."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from model import effective_instants
from model_belief import belief, known_of_own, own_feeds
from properties.test_states import printed
from recorded import keepable, on_disk

from ledger.errors import NotCovered
from ledger.identity import Feed
from ledger.testing import History, entries, histories, worlds
from projections import belief as beliefs
from projections import growing
from projections.belief import Belief, stated
from replay import states
from replay.believing import live

WORLDS = (worlds(size_max=2, machines_max=3) | worlds(size_max=2, machines_max=3, withheld=True)).map(
    lambda world: {feed: log for feed, log in world.feeds.items() if log}
)
"""What observers of one truth recorded: replicated, with joins that some had not heard of, and logs whose end is missing."""
LONG_AGO = -(2**63)
SEALS = st.lists(st.integers(1, 60), max_size=3)
SHIFTS = st.sampled_from([-1, 0, 1, 10**9, 150 * 10**9, 240 * 10**9, 240 * 10**9 + 1])


def plain(history: History) -> dict:
    """In the model's words."""
    return {feed: [(o.at_ns, o.boot, o.mono_ns, o.event) for o in log] for feed, log in history.items()}


def moments(history: History, machine: str) -> list[int]:
    """The effective instants of a machine's own entries."""
    return sorted({at for feed, log in plain(history).items() if feed.machine == machine for at in effective_instants(log)})


def compare(history: History, seals: list[int], shift_ns: int, data: st.DataObject) -> None:
    history = keepable(history)
    feeds = plain(history)
    with on_disk(history, seals) as opened:
        for machine in sorted({feed.machine for feed in history}):
            own = moments(history, machine)
            for at_ns in data.draw(st.lists(st.sampled_from(own), max_size=4, unique=True)) if own else ():
                expected = belief(feeds, machine, at_ns + shift_ns)
                try:
                    found = opened.belief(machine, at_ns + shift_ns)
                except NotCovered:
                    assert expected is None
                    continue
                assert expected is not None
                assert printed(states.at(found, machine)) == expected.answer()


@given(histories(size_max=20), SEALS, SHIFTS, st.data())
def test_a_belief_is_what_the_model_says(history: History, seals: list[int], shift_ns: int, data: st.DataObject) -> None:
    """Members, links, pairs, routes and coverage as a machine knew them, at and around its own instants."""
    compare(history, seals, shift_ns, data)


@given(histories(size_max=12, hostile=True), SEALS, st.data())
def test_a_belief_is_what_the_model_says_of_anything(history: History, seals: list[int], data: st.DataObject) -> None:
    """Whatever stands in the feeds, and whatever they say that they hold."""
    compare(history, seals, 0, data)


def what_was_received_suffices(history: History, seals: list[int], shift_ns: int, data: st.DataObject) -> None:
    machine = data.draw(st.sampled_from(sorted({feed.machine for feed in history})))
    own = moments(history, machine)
    at_ns = (data.draw(st.sampled_from(own)) if own else 0) + shift_ns
    known = belief(plain(history), machine, at_ns)
    if known is None:
        return
    received = {feed: history[feed][: len(lines)] for feed, lines in known.seen.items()}
    named, rest_named = own_feeds(plain(history), machine), own_feeds(plain(received), machine)
    if any(known.own.epoch > feed.epoch for feed in rest_named) and known.own not in rest_named:
        # Nothing that is left says that the newest epoch is the machine's: then an older one does not speak for it.
        with on_disk(received) as rest, pytest.raises(NotCovered):
            rest.belief(machine, at_ns)
        return
    # Of the earlier epochs, too, what is left has to say that they are the machine's.
    assume(rest_named == [feed for feed in named if feed in received])
    with on_disk(history, seals) as whole, on_disk(received) as rest:
        assert rest.belief(machine, at_ns) == whole.belief(machine, at_ns)


@given(histories(size_max=20), SEALS, SHIFTS, st.data())
def test_what_had_not_been_received_changes_nothing(
    history: History, seals: list[int], shift_ns: int, data: st.DataObject
) -> None:
    """Every log entry beyond what a machine had received by then deleted, its belief is the same, as known then; or not covered,
    where nothing left names its newest epoch.
    """
    what_was_received_suffices(keepable(history), seals, shift_ns, data)


def kept_up(history: History, opened: object, machine: str, data: st.DataObject) -> None:
    """Feed a `Belief` with what the machine would store, in some order, and compare it at every position."""
    feeds = plain(history)
    own = own_feeds(feeds, machine)
    logs = {feed: [] for feed in history}
    for entry in entries(history):
        logs[entry.feed].append(entry)
    done = dict.fromkeys((feed for feed in history if feed not in own), 0)
    by_id = {feed.id: feed for feed in history}
    twin, until = None, 0
    for place, feed in enumerate(own):
        if twin is None:
            twin = Belief(feed, opened.prefix)
        else:
            twin.begin(feed)
            done[own[place - 1]] = until
        until = len(logs[feed])
        if place + 1 < len(own):
            before = known_of_own(feeds, machine, (own[place + 1], 1))
            until = before[-2][1] if len(before) > 1 else until  # what it lost is stored no more
        for entry in logs[feed][:until]:
            told = stated(entry.event)
            if told is not None and by_id.get(told[0]) in done:
                catch_up(twin, logs, done, by_id[told[0]], told[1] + data.draw(st.integers(0, 2)))
            twin.apply(entry)
            if entry.index % 3 == 0 or entry.index == until:
                expected = opened.belief(machine, feed.at(entry.index))
                assert twin.at(entry.effective_ns) == expected


def catch_up(twin: Belief, logs: dict, done: dict, feed: Feed, until: int) -> None:
    for entry in logs[feed][done[feed] : until]:
        twin.apply(entry)
    done[feed] = max(done[feed], min(until, len(logs[feed])))


@given(histories(size_max=25), SEALS, st.integers(1, 5), st.data())
def test_a_belief_is_the_same_whenever_it_was_folded(
    history: History, seals: list[int], waiting_max: int, data: st.DataObject
) -> None:
    """The same where hardly anything waits to be folded until somebody asks, and what does is folded at once."""
    history = keepable(history)
    with on_disk(history, seals) as opened, pytest.MonkeyPatch.context() as patch:
        patch.setattr(beliefs, "WAITING_MAX", waiting_max)
        patch.setattr(growing, "FEW", 0)
        kept_up(history, opened, data.draw(st.sampled_from(sorted({feed.machine for feed in history}))), data)


@given(histories(size_max=25), SEALS, st.integers(1, 9), st.data())
def test_neighbours_are_learnt_at_once_as_each_would_be(
    history: History, seals: list[int], waiting_max: int, data: st.DataObject
) -> None:
    """Whatever part of a feed comes, some of it known or too early: told at once it comes to what one by one comes to."""
    history = keepable(history)
    feeds = plain(history)
    with on_disk(history, seals) as opened, pytest.MonkeyPatch.context() as patch:
        patch.setattr(beliefs, "WAITING_MAX", waiting_max)
        own = own_feeds(feeds, data.draw(st.sampled_from(sorted({feed.machine for feed in history}))))
        if not own:
            return
        one, many = (Belief(own[-1], opened.prefix) for _each in range(2))
        logs: dict[Feed, list] = {feed: [] for feed in history}
        for entry in entries(history):
            logs[entry.feed].append(entry)
        done = dict.fromkeys(logs, 0)
        while any(done[feed] < len(log) for feed, log in logs.items()):
            feed = data.draw(st.sampled_from([feed for feed, log in logs.items() if done[feed] < len(log)]))
            start = max(0, done[feed] + data.draw(st.sampled_from([0, 0, 0, -1, -3, 0 if feed == own[-1] else 2])))
            part = logs[feed][start : start + data.draw(st.sampled_from([12, 5, 2, 1]))]
            many.learn(part)
            for entry in part:
                one.apply(entry)
            if start <= done[feed]:
                done[feed] = max(done[feed], start + len(part))
            if data.draw(st.booleans()):
                assert many.at(LONG_AGO) == one.at(LONG_AGO)
        assert many.at(LONG_AGO) == one.at(LONG_AGO)
        assert (many.held(), many._stored, many._waiting) == (one.held(), one._stored, one._waiting)


@given(histories(size_max=25), SEALS, st.data())
def test_a_node_that_keeps_its_belief_up_knows_what_replay_says(history: History, seals: list[int], data: st.DataObject) -> None:
    """Fed entry by entry, in an order in which they might have been stored, it equals `History.belief` at every position."""
    history = keepable(history)
    with on_disk(history, seals) as opened:
        machine = data.draw(st.sampled_from(sorted({feed.machine for feed in history})))
        kept_up(history, opened, machine, data)


@given(histories(size_max=20), SEALS, st.data())
def test_a_belief_is_taken_up_from_a_ledger(history: History, seals: list[int], data: st.DataObject) -> None:
    """Taken up at the end of what is stored, it is what replay says, and goes on as one that was there from the start."""
    history = keepable(history)
    machine = data.draw(st.sampled_from(sorted({feed.machine for feed in history})))
    own = own_feeds(plain(history), machine)
    if not own:
        return
    feed = own[-1]
    cut = data.draw(st.integers(1, len(history[feed])))
    rows = [entry for entry in entries(history) if entry.feed == feed]
    with on_disk(history | {feed: history[feed][:cut]}, seals) as part, on_disk(history) as whole:
        twin = live(part, feed, whole.prefix)  # of the ledger as it has grown since
        assert twin.at(LONG_AGO) == part.belief(machine, feed.at(cut))
        for entry in rows[cut:]:
            twin.apply(entry)
        assert twin.at(LONG_AGO) == whole.belief(machine, feed.at(len(rows)))


@settings(max_examples=12)
@given(WORLDS.filter(bool), SEALS, SHIFTS, st.data())
def test_in_worlds_too(history: History, seals: list[int], shift_ns: int, data: st.DataObject) -> None:
    """Where many observers recorded one truth, with replication, faults and missing logs, all of this holds as well."""
    compare(history, seals, shift_ns, data)
    what_was_received_suffices(history, seals, shift_ns, data)
    with on_disk(history, seals) as opened:
        kept_up(history, opened, data.draw(st.sampled_from(sorted({feed.machine for feed in history}))), data)
