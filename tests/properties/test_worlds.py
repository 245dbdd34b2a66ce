"""Generated worlds: what their machines recorded is what a correct node would have, and agrees with what really was."""

import hashlib
from bisect import bisect_right
from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import on_disk

from ledger import events as ev
from ledger.codec import encode_event
from ledger.errors import LedgerError
from ledger.identity import IMPORTED
from ledger.rehearsal import Step
from ledger.testing import FAULTS, Setup, entries, faulty_worlds, play, world, worlds
from ledger.world_truth import FaultKind
from projections.cluster import Cluster
from projections.feed_state import FeedState
from projections.projection import fold

MINUTE_NS = 60 * 10**9


def by_feed(made):
    """The entries of each feed, as a reader gives them."""
    found = {feed: [] for feed in made.feeds}
    for entry in entries(made.feeds):
        found[entry.feed].append(entry)
    return found


def cluster_at(feeds, at_ns):
    """The merged state at an instant of the observers' clocks."""
    states, ends, resumed = {}, {}, set()
    for feed, log in feeds.items():
        cut = bisect_right([entry.effective_ns for entry in log], at_ns)
        states[feed], ends[feed] = fold(FeedState(feed), log[:cut]), log[-1].effective_ns
        if log[cut:] and isinstance(log[cut].event, ev.NodeStarted):
            resumed.add(feed)
    return Cluster(states, ends, at_ns, resumed)


def digest(made):
    """One number for all that was recorded."""
    total = hashlib.sha256()
    for feed, log in made.whole.items():
        total.update(feed.id.encode())
        for each in log:
            total.update(b"%d %d %d " % (each.at_ns, each.boot or 0, each.mono_ns or 0) + encode_event(each.event))
    return total.hexdigest()


def of(kind, log):
    return [each.event for each in log if isinstance(each.event, kind)]


@given(worlds(keyed=None))
def test_every_feed_is_one_that_a_node_would_write(made):
    """It opens first; a link id stands once; losses name the link that stands; numbers go up, answers come over a link that
    stands; nothing stands after a start; monotonic clocks run on within a boot.
    """
    for feed, log in made.whole.items():
        opened = log[0].event
        assert isinstance(opened, ev.FeedOpened)
        assert (opened.incarnation, opened.machine, opened.ledger_key) == (feed.incarnation, feed.machine, feed.ledger_key)
        assert max(Counter(event.link for event in of(ev.LinkEstablished, log)).values(), default=1) == 1
        standing, numbers, mono = {}, {}, {}
        for each in log:
            match each.event:
                case ev.LinkEstablished(peer=peer, link=link):
                    assert peer not in standing
                    standing[peer] = link
                case ev.LinkLost(peer=peer, link=link):
                    assert standing.pop(peer) == link
                case ev.LinkFailed(peer=peer):
                    assert peer not in standing
                case ev.NodeStarted() | ev.NodeStopped():
                    standing.clear()
                case ev.PingAnswered(peer=peer, link=link, number=number) | ev.PingFailed(peer=peer, link=link, number=number):
                    assert link == standing.get(peer)
                    assert number == numbers.get(peer, 0) + 1
                    numbers[peer] = number
            if each.boot is not None:
                assert each.mono_ns >= mono.get(each.boot, 0)
                assert each.boot == max(mono, default=each.boot) or each.boot > max(mono)
                mono[each.boot] = each.mono_ns
        if feed.incarnation.startswith(IMPORTED):
            assert all(each.boot is None for each in log)


@given(worlds(words=[word for word in FAULTS if word not in {"clock-step", "skew"}], skewed=False))
def test_the_dead_write_nothing(made):
    """Once a machine has begun, it writes while its node runs, and the first thing when it runs again is that it does."""
    for feed, log in made.whole.items():
        begun = next((place for place, each in enumerate(log) if isinstance(each.event, ev.NodeStarted)), len(log))
        for before, each in pairwise(log[begun:]):
            if isinstance(before.event, ev.NodeStopped):
                assert isinstance(each.event, ev.NodeStarted)
            around = [made.truth.up(feed.machine, each.at_ns + shift_ns) for shift_ns in (-(10**9), 0, 10**9)]
            assert any(around)


@given(worlds())
def test_what_is_held_is_there_and_never_less_than_before(made):
    """Every count of entries held, on pings, in `feed.received` and in acts, is one of entries that the feed has, and grows."""
    sizes = {feed.id: len(log) for feed, log in made.whole.items()}
    for log in made.whole.values():
        held = {}
        for each in log:
            if isinstance(each.event, ev.PingAnswered | ev.PingFailed | ev.FeedReceived) and each.event.feed is not None:
                count = each.event.held
                assert held.get(each.event.feed, 0) <= count <= sizes[each.event.feed]
                if isinstance(each.event, ev.FeedReceived):
                    assert count > held.get(each.event.feed, 0)
                held[each.event.feed] = count


@given(worlds(withheld=True, keyed=None, size_max=3))
@settings(max_examples=15)
def test_the_store_takes_every_feed(made):
    """What was collected is appended to a real ledger and read back entry by entry."""
    if made.feeds:
        with on_disk(made.feeds) as history:
            for feed, log in made.feeds.items():
                read = list(history.reader(feed).entries(0, None))
                assert len(read) == len(log)
                assert all(entry.same(each) for entry, each in zip(read, log, strict=True))


@given(worlds(words=("wait", "admit"), skewed=False, keyed=None))
def test_without_faults_the_mesh_is_full(made):
    """Where nothing went wrong everybody who is in is known, and every pair is up."""
    cluster = cluster_at(by_feed(made), made.truth.end_ns)
    assert cluster.members == sorted(made.truth.members(made.truth.end_ns))
    assert set(cluster.pairs.values()) <= {"up"}
    assert not any(of(ev.LinkLost | ev.LinkFailed, log) for log in made.feeds.values())


@given(worlds(words=[word for word in FAULTS if word not in {"clock-step", "skew"}], skewed=False, machines_min=3))
def test_in_quiet_times_the_record_agrees_with_the_truth(made):
    """When no fault has been at work for long enough, members are members, and what can be reached is up."""
    feeds, truth = by_feed(made), made.truth
    gone = {name for name in truth.machines if not truth.up(name, truth.end_ns)}
    cluster = cluster_at(feeds, truth.end_ns)
    assert set(cluster.members) == set(truth.members(truth.end_ns))
    for (a, b), state in cluster.pairs.items():
        assert not {a, b} & gone
        assert truth.reachable(a, b, truth.end_ns)
        assert state == "up", (a, b, cluster.links[a, b].reason)


@given(faulty_worlds(words=("cut", "one-way-cut", "observer-isolated", "partition", "target-down", "renamed-without-dns")))
def test_what_is_broken_for_long_enough_is_not_up(made):
    """Just before a fault that cuts pairs off is mended, none of these pairs is up, and none that it spares is anything else."""
    fault, truth = made.truth.faults[-1], made.truth
    at_ns = fault.until_ns - 1_000_000_000
    cluster = cluster_at(by_feed(made), at_ns)
    for (a, b), state in cluster.pairs.items():
        assert (state == "up") == ((a, b) not in fault.wires), (state, fault)
    assert truth.at_work(at_ns) == [fault]


SHOWN = {
    "timeout": {"timeout"}, "reset": {"reset"}, "connection-limit": {"connection-limit"}, "observer-isolated": {"timeout"},
    "partition": {"timeout"}, "target-down": {"reset", "timeout", "closed", "refused"}, "disconnected": {"disconnected"},
    "renamed-without-dns": {"name-unresolvable"}, "name-points-elsewhere": {"name-points-elsewhere"},
    "reverse-timeout": {"reverse-timeout"}, "host-key-mismatch": {"host-key-mismatch"}, "left": {"left"},
    "auth-failed": {"auth-failed"},
    "transport-mismatch": {"transport-mismatch"}, "removed": {"not-a-member"},
}  # fmt: skip
"""What observers record of each cause, at least once."""


@given(faulty_worlds(words=[word for word in FAULTS if word not in {"loss", "stall"}]))
def test_one_fault_is_one_plant_with_a_reason_that_was_recorded(made):
    """Exactly one thing was planted, and where it has a cause, a link that it takes down is lost or fails for its reason."""
    faults, start_ns = [fault for fault in made.truth.faults if fault.plant], made.truth.start_ns
    assert {fault.plant for fault in faults} == {1}
    for fault in faults:
        assert start_ns < fault.since_ns <= fault.until_ns <= made.truth.end_ns
        assert (fault.cause is None) == (not fault.wires)
        reasons = {
            each.event.reason
            for feed, log in made.feeds.items()
            for each in log
            if isinstance(each.event, ev.LinkLost | ev.LinkFailed) and (feed.machine, each.event.peer) in fault.wires
        }
        assert fault.cause is None or reasons & SHOWN[fault.cause]


@given(st.integers(min_value=0, max_value=10**6))
@settings(max_examples=5)
def test_one_seed_gives_one_world(seed):
    """The same seed gives the same entries byte for byte; another one, others."""
    assert digest(world(seed, 4, 15)) == digest(world(seed, 4, 15)) != digest(world(seed + 1, 4, 15))


def test_a_seed_gives_the_bytes_that_it_always_gave():
    """A known seed still gives the world that it gave when this was written, on whatever Python."""
    assert digest(world(7, 4, 20)) == "ada1c3c616c5a8dc8f6c1ae313a716e1da173765fdd93631531146ad21ff500b"


@given(worlds(words=[word for word in FAULTS if word != "clock-step"], skewed=False, size_max=4), st.data())
@settings(max_examples=20)
def test_any_part_of_a_script_is_a_script(made, data):
    """Steps taken out of a script leave a world that is the same until the first of them, or what comes in its place."""
    kept = data.draw(st.sets(st.sampled_from(range(len(made.script))))) if made.script else set()
    part = play(made.setup, [step for place, step in enumerate(made.script) if place in kept])
    missing = min(set(range(len(made.script))) - kept, default=len(made.script))
    same_ns = sum(step.gap_ns for step in made.script[:missing]) + 2 * made.truth.interval_ns - 2 * 10**9
    for feed, log in part.whole.items():
        for one, other in zip(log, made.whole.get(feed, ()), strict=False):
            if min(one.at_ns, other.at_ns) >= made.truth.start_ns + same_ns:
                break
            assert one == other


def test_every_kind_of_fault_occurs():
    """Over many seeds each kind of fault happens, each cause is at work, and every kind of event but four is recorded."""
    kinds, causes, events = Counter(), Counter(), Counter()
    for seed in range(90):
        made = world(seed, 5, 40, each_minutes=4) if seed % 5 else _by_address(seed)
        kinds.update({fault.kind for fault in made.truth.faults})
        causes.update({fault.cause for fault in made.truth.faults})
        events.update({each.event.kind for log in made.feeds.values() for each in log})
    assert set(FaultKind.__args__) - set(kinds) == set()
    assert set(SHOWN) - set(causes) == set()
    assert set(ev.KINDS) - set(events) == {"cluster.dissolved", "head.witnessed", "key.changed", "note.added"}


def _by_address(seed):
    setup = Setup(seed=seed, addressing="address")
    return play(setup, world(seed, 4, 60, words=("reverse-timeout", "flap", "restart")).script)


@given(worlds(withheld=True))
def test_what_was_not_collected_is_not_there(made):
    """Collected and withheld together are the whole, and a feed that is missing is missing."""
    whole = play(msgspec.structs.replace(made.setup, collected=()), made.script).feeds
    assert made.whole == whole
    for place, share in enumerate(made.setup.collected):
        feed = next((feed for feed in whole if feed.machine == made.setup.machines[place]), None)
        if feed is not None:
            assert len(made.feeds.get(feed, ())) == len(whole[feed]) * share // 1000


@given(worlds(skewed=False, machines_min=3, size_max=3), st.data())
@settings(max_examples=12)
def test_a_machines_own_ledger_tells_its_belief(made, data):
    """What a machine believed is the same from its own ledger alone as from all logs together, at any moment."""
    machine = data.draw(st.sampled_from(sorted(feed.machine for feed in made.whole)))
    at_ns = data.draw(st.integers(min_value=made.truth.start_ns + 10**9, max_value=made.truth.end_ns))
    with on_disk(made.held_by(machine)) as own, on_disk(made.whole) as every:
        try:
            alone = own.belief(machine, at_ns)
        except LedgerError as why:
            with pytest.raises(type(why)):
                every.belief(machine, at_ns)
        else:
            together = every.belief(machine, at_ns)
            assert alone.pairs == together.pairs
            assert alone.members == together.members
            assert dict(alone.routes.items()) == dict(together.routes.items())


def test_clocks_are_wrong_as_the_truth_says():
    """Each entry bears the wall clock that the truth gives its observer at some true instant, also after steps."""
    made = play(Setup(skews_s=(0, 200)), [step("clock-step", 0, 20), step("clock-step", 1, 31)])
    steps = [event.by_ns for log in made.feeds.values() for event in of(ev.ClockStepped, log)]
    assert sorted(steps) == [-11 * 10**9, 16 * 10**9]
    ends = [log[-1].at_ns - made.truth.wall_ns(feed.machine, made.truth.end_ns) for feed, log in made.feeds.items()]
    assert all(-MINUTE_NS <= late_ns <= 0 for late_ns in ends)


def step(word, actor, amount):
    """A step after two minutes."""
    return Step(2 * MINUTE_NS, word, actor, 0, amount)


@pytest.mark.parametrize("wrong", [Setup(machines=("alpha",), outside=1), Setup(timeout_ms=60_000), Setup(lost_after=0)])
def test_a_setup_that_cannot_be_is_refused(wrong):
    """A world without a machine, or whose time-outs outlast its interval, is a mistake of the caller's."""
    with pytest.raises(ValueError, match="a world needs"):
        play(wrong)


def test_clocks_go_back_only_when_set():
    """Entries of a feed never go back but where its clock was set back."""
    for seed in range(10):
        for log in world(seed).feeds.values():
            back = [later for earlier, later in pairwise(log) if later.at_ns < earlier.at_ns]
            assert all(isinstance(each.event, ev.ClockStepped) for each in back)
