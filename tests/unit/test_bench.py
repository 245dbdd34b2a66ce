"""The benchmark's own ground: its log is the same each time, keeps its promises, and all contestants read it alike."""

from __future__ import annotations

import inspect
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
from bench import seattle, tasks, workload
from bench.digest import Fold, digest, rolled, visited
from bench.live import Live
from bench.measures import SCALES, Run
from bench.peers.contestant import Absent
from bench.roster import ROSTER, contestant

from ledger.entry import Observed
from ledger.events import MachineLeft, PingAnswered
from ledger.identity import Feed

EVENTS = 3000
Log = list[workload.Batch]


def whole(log: Log) -> dict[Feed, list[Observed]]:
    feeds: dict[Feed, list[Observed]] = {}
    for feed, entries in log:
        feeds.setdefault(feed, []).extend(entries)
    return feeds


@pytest.fixture(scope="module")
def log() -> Log:
    """A small log with the overture: everything that the workload knows happens in it once."""
    return list(workload.batches(EVENTS, 100))


def test_one_seed_gives_one_log(log: Log) -> None:
    """The same seed gives the same entries, another seed other ones, and the batch size changes none."""
    assert list(workload.batches(EVENTS, 100)) == log
    assert list(workload.batches(EVENTS, 100, seed=2)) != log
    assert whole(list(workload.batches(EVENTS, 7))) == whole(log)


def test_the_cache_gives_what_the_dice_gave(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log from the cache, filled or found, equals the generated one entry by entry."""
    monkeypatch.setattr(workload, "cache_folder", lambda: tmp_path)
    for _ in ("filled", "found"):
        assert list(workload.batches(EVENTS, 100, cache=True)) == log


def test_the_log_is_exact_and_has_everything(log: Log) -> None:
    """There are as many entries as asked for, batches have one size until the end, and every kind that was promised occurs."""
    assert sum(len(entries) for _, entries in log) == EVENTS
    assert {len(entries) for _, entries in log[:20]} == {100}
    for feed, entries in whole(log).items():
        kinds = [entry.event.kind for entry in entries]
        assert kinds[:5] == ["feed.opened", "machine.joined", "settings.changed", "node.started", "link.established"], feed
    assert {entry.event.kind for _, entries in log for entry in entries} >= {
        "machine.left", "hostname.changed", "node.stopped", "link.lost", "link.failed", "ping.failed", "ping.heard",
    }  # fmt: skip


def test_the_stamps_tell_the_round_trip(log: Log) -> None:
    """For each answered ping the four stamps give its RTT exactly, in order, and the entry comes after the answer."""
    pings = [(entry, entry.event) for _, entries in log for entry in entries if isinstance(entry.event, PingAnswered)]
    assert len(pings) > EVENTS // 3
    for entry, ping in pings:
        sent, received, replied, returned = ping.sent_us, ping.received_us, ping.replied_us, ping.returned_us
        assert None not in {sent, received, replied, returned, entry.mono_ns}
        assert ping.rtt_us == (returned - sent) - (replied - received)
        assert sent < returned <= entry.mono_ns // 1000
        assert received < replied
        assert entry.at_ns % 1000 == 0


def test_instants_grow_and_what_is_held_exists() -> None:
    """In each feed instants never decrease, and no ping claims more of a peer's feed than the peer had written by then."""
    feeds = whole(list(workload.batches(20_000, 1000, machines=6)))
    by_id = {feed.id: [entry.at_ns for entry in entries] for feed, entries in feeds.items()}
    for entries in feeds.values():
        held: dict[str, int] = {}
        assert all(before.at_ns <= after.at_ns for before, after in pairwise(entries))
        for entry in entries:
            if isinstance(entry.event, PingAnswered) and entry.event.held:
                assert entry.event.held >= held.get(entry.event.peer, 0)
                held[entry.event.peer] = entry.event.held
                clocks_ns = 20_000_000  # the two walls may differ by so much
                assert by_id[entry.event.feed][entry.event.held - 1] <= entry.at_ns + clocks_ns


def test_who_leaves_names_the_joins_it_ends() -> None:
    """A removal names positions at which joins of that machine stand, and holds all that the machine wrote until then."""
    feeds = whole(list(workload.batches(60_000, 1000, machines=6, seed=4)))
    at = {feed.at(index): entry for feed, entries in feeds.items() for index, entry in enumerate(entries, 1)}
    gone = [
        (feed, index, e.event) for feed, es in feeds.items() for index, e in enumerate(es, 1) if isinstance(e.event, MachineLeft)
    ]
    assert len(gone) > 2
    for feed, index, left in gone:
        assert left.joins
        assert left.held == index
        assert {at[position].event.machine for position in left.joins} == {feed.machine}


@pytest.mark.parametrize("key", sorted(ROSTER))
def test_all_contestants_give_one_answer(key: str, log: Log, tmp_path: Path) -> None:
    """Whatever a contestant answers equals the plain fold: the end, the events in order, and six moments on the way."""
    first, last = log[0][1][0].at_ns, max(entries[-1].at_ns for _, entries in log)
    moments = [first + (last - first) * part // 7 for part in range(1, 7)]
    fold, ends, values = Fold(moments), {}, {}
    try:
        store = contestant(key)(tmp_path)
        store.version()
        store.create(workload.feeds())
        for feed, entries in log:
            store.append(feed, entries)
        store.close()
    except Absent as why:
        pytest.skip(str(why))
    for feed, entries in log:
        fold.add(feed, entries)
        end = ends.get(feed.machine, 0)
        seen = (visited(index, entry) for index, entry in enumerate(entries, end + 1))
        values[feed.machine], ends[feed.machine] = rolled(seen, values.get(feed.machine, 0)), end + len(entries)
    assert store.size() > EVENTS
    store = contestant(key)(tmp_path)
    store.open()
    answered = 0
    try:
        answered += replays(store, digest(fold.end()))
        answered += walks(store, values)
        answered += states(store, dict(zip(moments, fold.states(), strict=True)))
        answered += verifies(store)
    finally:
        store.leave()
    assert answered, "a contestant that answers nothing"


def replays(store, right: str) -> bool:
    try:
        state = store.replay()
    except Absent:
        return False
    assert digest(state) == right
    return True


def walks(store, right: dict[str, int]) -> bool:
    values: dict[str, int] = {}
    try:
        for machine, run in store.walk():
            values[machine] = rolled(run, values.get(machine, 0))
    except Absent:
        return False
    assert values == right
    return True


def states(store, right: dict) -> bool:
    try:
        given = {moment: store.state_at(moment) for moment in right}
    except Absent:
        return False
    counts = store.counts_then
    assert [digest(given[moment], counts=counts) for moment in right] == [
        digest(right[moment], counts=counts) for moment in right
    ]
    return True


def verifies(store) -> bool:
    try:
        return store.verify() == EVENTS
    except Absent:
        return False


class Unasked(Run):
    """A run in which nobody is there: of each task only the words are looked at."""

    asked: ClassVar[list[str]] = []

    def task(self, task: str, **told: Any) -> dict[str, Any]:
        found = tasks.TASKS.get(task) or tasks.living(task)
        inspect.signature(found).bind(**told)
        self.asked.append(task)
        raise Absent("not asked here")


def test_every_row_asks_in_words_that_its_task_takes(tmp_path: Path) -> None:
    """A row whose task cannot be called as it is would be missing from the table, and only there."""
    Unasked.asked.clear()
    run = Unasked(SCALES["quick"], tmp_path, lambda _text: None)
    Live(run, "quick").rows()
    assert set(Unasked.asked) == {"formed", "pinged", "blows", "limited", "news", "simulated"}


@pytest.mark.skipif(seattle.archive() is None, reason="the data of Seattle is not at hand")
def test_the_real_log_follows_the_rules_of_its_import() -> None:
    """Three slices of Seattle: a ping a cell off the diagonal, and transitions only where the outcome changed."""
    log = list(seattle.batches(1000, slices=3))
    kinds = [entry.event.kind for _, entries in log for entry in entries]
    assert kinds.count("ping.answered") + kinds.count("ping.failed") == 3 * 99 * 98
    assert kinds.count("feed.opened") == 99
    for entries in whole(log).values():
        up: dict[str, bool] = {}
        for entry in entries:
            event = entry.event
            if event.kind == "link.established":
                assert not up.get(event.peer)
                up[event.peer] = True
            elif event.kind == "ping.answered":
                assert up[event.peer]
            elif event.kind == "link.lost":
                assert up[event.peer]
                up[event.peer] = False
