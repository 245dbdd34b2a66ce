"""Runs of a feed between ledgers: what proves itself is taken in whole, what does not is not taken at all."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import events as ev
from ledger.codec import decode_record, encode_record, make_record
from ledger.entry import Observed
from ledger.identity import Feed, incarnation_id
from ledger.keys import generate
from ledger.node.replicas import OPEN_MAX_BYTES, RUN_MAX_BYTES, Held, Run, held, run_after, speak, take_run
from ledger.node.running import Running, Size
from ledger.node.words import digest
from ledger.store import Ledger
from replay.check import verify

SECOND = 10**9
KEY = generate()
INCARNATION = incarnation_id("lab", "ccs", "name", KEY.text, "salt")
FEED = Feed.of(INCARNATION, "alpha", 1, KEY.text)


def pings(first, count, peer="bravo"):
    return [Observed(first * SECOND + n, ev.PingAnswered(peer, n, 400 + n % 7, "1-1"), 1, n) for n in range(count)]


@pytest.fixture
def origin(tmp_path):
    with Ledger.create(tmp_path / "alpha.ledger", incarnation=INCARNATION) as ledger:
        ledger.open_feed("alpha", at=SECOND, ledger_key=KEY.text)
        ledger.append(ev.MachineJoined("alpha", ledger_key=KEY.text), observer=FEED, at=2 * SECOND)
        yield ledger


@pytest.fixture
def replica(tmp_path):
    with Ledger.create(tmp_path / "bravo.ledger", incarnation=INCARNATION) as ledger:
        yield ledger


def carry(origin, replica, word=None, **options):
    """Runs from one ledger to the other until there are none; what became of each."""
    word = word or speak(origin, FEED, KEY)
    told = []
    while (run := run_after(origin, FEED, held(replica, FEED), word)) is not None:
        assert len(msgspec.msgpack.encode(run)) < 64 * 1024
        told.append(
            take_run(replica, msgspec.msgpack.decode(msgspec.msgpack.encode(run), type=Run), incarnation=INCARNATION, **options)
        )
        if told[-1].refused or told[-1].forked:
            break
    return told


def same(origin, replica):
    return list(origin.read(FEED)) == list(replica.read(FEED)) and origin.head(FEED).frontier == replica.head(FEED).frontier


def test_a_feed_arrives_as_it_is(origin, replica):
    """Records, their boundaries and the open part arrive entry by entry equal, and what grows later follows."""
    for batch in range(5):
        origin.append(pings(10 + batch * 1000, 700), observer=FEED)
        told = carry(origin, replica)
        assert [each.refused for each in told] == [None] * len(told)
        assert same(origin, replica)
    origin.seal(FEED)
    carry(origin, replica)
    assert same(origin, replica)
    assert carry(origin, replica) == []


def test_open_entries_travel_once(origin, replica):
    """A run of open entries holds those that are new, and not those that are held."""
    origin.append(pings(10, 500), observer=FEED)
    carry(origin, replica)
    origin.append(pings(1000, 3), observer=FEED)
    run = run_after(origin, FEED, held(replica, FEED), speak(origin, FEED, KEY))
    assert decode_record(run.tail).count == 3
    assert len(take_run(replica, run, incarnation=INCARNATION).entries) == 3


def test_arrival_is_recorded_with_what_arrived(origin, replica):
    """Control events are told by `feed.received` in the own feed, in the same transaction; pings alone are not."""
    mine = Feed.of(INCARNATION, "bravo", 1, "ed25519:bravo")
    replica.open_feed("bravo", at=SECOND, ledger_key="ed25519:bravo")
    told = carry(origin, replica, own=mine, stamp=lambda event: Observed(5 * SECOND, event, 1, 5))
    assert [entry.event for each in told for entry in each.own] == [ev.FeedReceived(FEED.id, each.held.last) for each in told]
    origin.append(pings(10, 20), observer=FEED)
    told = carry(origin, replica, own=mine, stamp=lambda event: Observed(6 * SECOND, event, 1, 6))
    assert [each.own for each in told] == [()]


def test_a_word_by_another_key_is_dropped(origin, replica):
    """Relayed bytes without the origin's signature are not taken."""
    origin.append(pings(10, 20), observer=FEED)
    word = speak(origin, FEED, generate())
    assert [each.refused for each in carry(origin, replica, word)] == ["signature"]
    assert held(replica, FEED) == Held()


@pytest.mark.parametrize("part", ["records", "tail", "proof", "word"])
def test_altered_bytes_are_not_taken(origin, replica, part):
    """A run with anything in it changed takes in nothing."""
    origin.append(pings(10, 2300), observer=FEED)
    word = speak(origin, FEED, KEY)
    if part == "tail":
        while (run := run_after(origin, FEED, held(replica, FEED), word)).records:
            take_run(replica, run, incarnation=INCARNATION)
        observed = [Observed(9 * SECOND, ev.PingAnswered("bravo", 1, 1), 1, n) for n in range(decode_record(run.tail).count)]
        run = msgspec.structs.replace(run, tail=encode_record(make_record(run.after.last + 1, observed)))
    else:
        run = run_after(origin, FEED, Held(), msgspec.structs.replace(word, last=word.last + 1) if part == "word" else word)
    before = held(replica, FEED)
    if part == "records":
        record = decode_record(run.records[0])
        other = make_record(record.first, [Observed(SECOND, ev.NoteAdded("never said"))] * record.count)
        run = msgspec.structs.replace(run, records=(encode_record(other), *run.records[1:]))
    if part == "proof":
        run = msgspec.structs.replace(run, records=run.records[:1], proof=(bytes(32),))
    assert take_run(replica, run, incarnation=INCARNATION).refused in {"signature", "malformed", "inconsistent", "again"}
    assert held(replica, FEED) == before


def test_a_relay_serves_under_the_origins_word(origin, replica, tmp_path):
    """Whoever holds what a word states can hand it on, also once it holds more."""
    origin.append(pings(10, 1500), observer=FEED)
    word = speak(origin, FEED, KEY)
    carry(origin, replica, word)
    origin.append(pings(5000, 900), observer=FEED)
    carry(origin, replica)
    with Ledger.create(tmp_path / "charlie.ledger", incarnation=INCARNATION) as third:
        while (run := run_after(replica, FEED, held(third, FEED), word)) is not None:
            assert take_run(third, run, incarnation=INCARNATION).refused is None
        assert held(third, FEED).last == word.last
        assert [entry.event for entry in third.read(FEED)] == [entry.event for entry in origin.read(FEED, until=word.last)]


def _twin(tmp_path, origin, common):
    """Another ledger that shares the origin's first entries and then says something else under the same key."""
    twin = Ledger.create(tmp_path / "twin.ledger", incarnation=INCARNATION)
    for entry in origin.read(FEED, until=common):
        twin.append(Observed(entry.at_ns, entry.event, entry.boot, entry.mono_ns), observer=FEED)
    return twin


@pytest.mark.parametrize("sealed", [False, True])
def test_a_fork_is_kept_and_named(origin, replica, tmp_path, sealed):
    """Two signed branches of one feed: the index is named, theirs is kept, and a check of the file names both."""
    origin.append(pings(10, 5), observer=FEED)
    with _twin(tmp_path, origin, 7) as twin:
        origin.append(ev.NoteAdded("one"), observer=FEED, at=60 * SECOND)
        twin.append(ev.NoteAdded("another"), observer=FEED, at=60 * SECOND)
        if sealed:
            origin.seal(FEED)
            twin.seal(FEED)
        carry(origin, replica)
        run = run_after(twin, FEED, Held(1, 2), speak(twin, FEED, KEY))
        told = take_run(replica, run, incarnation=INCARNATION)
        assert (told.refused, told.forked) == (None, 8)
        assert take_run(replica, run, incarnation=INCARNATION).forked == 8
        assert [branch.first for branch in replica.branches(FEED)] == [3]
    path = replica.path
    replica.close()
    assert [problem.what.split(":")[0] for problem in verify([path]).problems] == ["is contradicted"]


def test_a_gap_and_a_stale_run_change_nothing(origin, replica):
    """A run that begins beyond what is held is a gap; one that says less than is held says nothing new."""
    origin.append(pings(10, 1500), observer=FEED)
    old = run_after(origin, FEED, Held(), speak(origin, FEED, KEY))
    late = run_after(origin, FEED, Held(2, 1002), speak(origin, FEED, KEY))
    assert take_run(replica, late, incarnation=INCARNATION).refused == "gap"
    carry(origin, replica)
    before = held(replica, FEED)
    told = take_run(replica, old, incarnation=INCARNATION)
    assert (told.refused, told.entries, told.held) == (None, (), before)
    assert take_run(replica, late, incarnation=INCARNATION).entries == ()


def test_a_large_open_part_is_sealed_before_it_is_spoken_of(origin, replica):
    """Whatever an origin records, its word can be followed in frames."""
    for n in range(40):
        origin.append(ev.NoteAdded("x" * 3000), observer=FEED, at=(10 + n) * SECOND)
    carry(origin, replica)
    assert same(origin, replica)
    assert RUN_MAX_BYTES < 64 * 1024


WIDE = st.sampled_from([None, 0, 1, 300, 2**31, 2**60])
ENTRIES = st.lists(
    st.builds(
        Observed,
        st.integers(0, 2**60),
        st.builds(
            ev.PingAnswered, st.sampled_from(["bravo", "m" * 63]), st.integers(0, 2**60), st.integers(0, 2**60),
            st.sampled_from([None, "é" * 64]), WIDE, WIDE, WIDE, WIDE, WIDE, st.sampled_from([None, "a" * 64]), WIDE,
        )
        | st.builds(ev.PingFailed, st.just("bravo"), st.integers(0, 9), st.sampled_from(["timeout", "no-route"]))
        | st.builds(ev.NoteAdded, st.text(max_size=300)),
        WIDE,
        WIDE,
    ),
    max_size=40,
)  # fmt: skip


@given(ENTRIES, st.lists(st.integers(0, 40), max_size=6))
def test_what_is_remembered_of_an_open_part_is_what_it_is(entries, stops):
    """However an open part grew, also if it is sealed, shorter or another between: its digest is that of its entries, and it
    takes no more bytes than the bound says.
    """
    running = Running()
    for stop in [*stops, len(entries)]:
        opened = entries[:stop]
        assert running.of(FEED, opened).digest() == digest(opened).digest()
        assert not opened or len(encode_record(make_record(1, opened))) <= running.bound(FEED, opened)
        running.of(FEED, entries[stop // 2 : stop])
        running.bound(FEED, entries[: stop // 2])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from([0, 7, 8, 15, 16, 23, 32, 47, 60]), min_size=8, max_size=8),
    st.integers(1, 3),
    st.integers(0, 10),
    st.integers(0, 2**32),
)
def test_a_bound_holds_for_many_pings_of_any_width(widths, peers, failed, seed):
    """Of hundreds of pings, whose numbers are now narrow and now wide, the record takes no more than the bound says, where what
    stands once in it weighs little.
    """
    running, size, dice = Running(), Size(), Random(seed)
    entries: list[Observed] = []
    for number in range(1000):
        at_ns, mono_ns, count, held, rtt, *stamps = (dice.getrandbits(bits) if bits else 0 for bits in [widths[0], *widths])
        peer = ["bravo", "charlie", "delta"][number % peers]
        event: ev.Event = ev.PingAnswered(peer, count, rtt, "1-1", *stamps, 3, held=held)
        if dice.randrange(10) < failed:
            event = ev.PingFailed(peer, count, "timeout", "1-1", held=held)
        entries.append(Observed(at_ns, event, 1, mono_ns))
        size.add(entries[-1])
    taken = len(encode_record(make_record(1, entries)))
    assert size.bound == running.bound(FEED, entries)
    assert taken <= size.bound - 1000


def test_a_control_event_takes_no_more_than_its_bytes(origin):
    """Hundreds of control events of every size of number and text take what the bound says, and little less."""
    size = Size()
    entries = [
        Observed(SECOND * 10**place, ev.NoteAdded("é" * (7 * place)), 2**place, 3**place) if number % 2 else
        Observed(SECOND * 10**9, ev.FeedReceived("f" * 64, 2**place), None, None)
        for number in range(500) for place in [number % 9]
    ]  # fmt: skip
    for entry in entries:
        size.add(entry)
    assert 0 <= size.bound - len(encode_record(make_record(1, entries))) < 3000


def test_a_mesh_that_is_quiet_never_makes_a_record_to_speak(origin):
    """Almost a thousand open pings of four links that stand are known to fit in a run by counting alone."""
    entries = []
    for number in range(990):
        mono = 1000 * SECOND + number * 15 * SECOND + 7_345_678 * (number % 11)
        us, place = mono // 1000, number % 4
        event = ev.PingAnswered(
            ["bravo", "charlie", "delta", "echo"][place], number // 4, 30_000 + 977 * (number % 13), f"{place:064}",
            us - 31_000, us + 5_000, us + 5_100, us - 50, 3, "f" * 64, number,
        )  # fmt: skip
        entries.append(Observed(SECOND * 10**9 + mono, event, 2, mono))
    assert len(encode_record(make_record(1, entries))) <= Running().bound(FEED, entries) < OPEN_MAX_BYTES
