"""Runs of a feed between ledgers: what proves itself is taken in whole, what does not is not taken at all."""

import tempfile
from contextlib import ExitStack
from random import Random
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import events as ev
from ledger.codec import decode_record, encode_record, make_record
from ledger.entry import Observed
from ledger.identity import Feed, incarnation_id
from ledger.keys import generate
from ledger.node import replicas
from ledger.node.replicas import OPEN_MAX_BYTES, RUN_MAX_BYTES, Held, Run, held, run_after, speak
from ledger.node.running import Running
from ledger.node.taking import take_run
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


def test_a_record_of_entries_that_are_held_is_not_sent(origin, replica):
    """Who holds most of a record makes it itself: what travels are the entries that it lacks, and how many make the record."""
    origin.append(pings(10, 990), observer=FEED)
    carry(origin, replica)
    origin.append(pings(2000, 20), observer=FEED)
    run = run_after(origin, FEED, held(replica, FEED), speak(origin, FEED, KEY))
    assert (run.records, run.closes) == ((), (1000,))
    assert decode_record(run.tail).count == 20
    told = take_run(replica, run, incarnation=INCARNATION)
    assert (told.refused, len(told.entries), told.held) == (None, 20, held(origin, FEED))
    assert same(origin, replica)
    origin.seal(FEED)
    run = run_after(origin, FEED, held(replica, FEED), speak(origin, FEED, KEY))
    assert (run.records, run.tail, len(run.closes)) == ((), b"", 1)
    assert take_run(replica, run, incarnation=INCARNATION).held == held(origin, FEED)
    assert same(origin, replica)


@pytest.mark.parametrize("part", ["sizes", "fewer", "more", "tail", "none", "word"])
def test_records_that_come_out_otherwise_are_not_made(origin, replica, part):
    """Sizes or entries that do not lead to the root of the word take in nothing; and what is asked for then comes whole."""
    origin.append(pings(10, 990), observer=FEED)
    carry(origin, replica)
    origin.append(pings(2000, 30), observer=FEED)
    origin.seal(FEED)
    before = held(replica, FEED)
    word = speak(origin, FEED, KEY)
    run = run_after(origin, FEED, before, word)
    assert len(run.closes) == 2
    first, second = run.closes
    altered = {
        "sizes": {"closes": (first - 1, second + 1)},
        "fewer": {"closes": (first,)},
        "more": {"closes": (first, second, 1)},
        "none": {"tail": b""},
        "tail": {"tail": encode_record(make_record(run.after.last + 1, pings(3000, 30)))},
        "word": {"word": msgspec.structs.replace(word, records=word.records + 1)},
    }[part]
    told = take_run(replica, msgspec.structs.replace(run, **altered), incarnation=INCARNATION)
    assert told.refused in {"malformed", "again", "signature"}
    assert (told.held, held(replica, FEED)) == (before, before)
    whole = run_after(origin, FEED, Held(before.records, replica.head(FEED).sealed), word)
    assert len(whole.records) == 2
    assert take_run(replica, whole, incarnation=INCARNATION).refused is None
    assert same(origin, replica)


def test_a_record_to_be_made_of_what_is_not_held_is_a_gap_or_nothing(origin, replica, tmp_path):
    """Of a feed that is not held, of one held further, or with a beginning that lies in a record: no record is made."""
    origin.append(pings(10, 990), observer=FEED)
    carry(origin, replica)
    before = held(replica, FEED)
    origin.append(pings(2000, 30), observer=FEED)
    word = speak(origin, FEED, KEY)
    run = run_after(origin, FEED, before, word)
    assert run.closes
    with Ledger.create(tmp_path / "charlie.ledger", incarnation=INCARNATION) as nothing:
        for after in (run.after, Held()):
            told = take_run(nothing, msgspec.structs.replace(run, after=after), incarnation=INCARNATION)
            assert (told.refused, told.held) == ("gap", Held())
    within = msgspec.structs.replace(run, after=Held(before.records, 1))
    assert take_run(replica, within, incarnation=INCARNATION).refused == "malformed"
    assert held(replica, FEED) == before
    carry(origin, replica)
    assert take_run(replica, run, incarnation=INCARNATION).refused == "gap"
    assert same(origin, replica)


def test_a_run_under_an_older_word_leaves_what_is_known_of_the_open_part(origin, replica):
    """What comes late says less than is held by then; whatever comes next is judged by what is held."""
    running = Running()
    origin.append(pings(10, 5), observer=FEED)
    carry(origin, replica, running=running)
    after = held(replica, FEED)
    origin.append(pings(100, 3), observer=FEED)
    late = run_after(origin, FEED, after, speak(origin, FEED, KEY))
    origin.append(pings(200, 3), observer=FEED)
    carry(origin, replica, running=running)
    assert take_run(replica, late, incarnation=INCARNATION, running=running).refused is None
    origin.append(pings(300, 3), observer=FEED)
    assert [each.refused for each in carry(origin, replica, running=running)] == [None]
    assert same(origin, replica)


def test_a_fork_within_a_record_to_be_made_is_found(origin, replica, tmp_path):
    """The origin's twin seals what it said otherwise: the records do not come out, and when they come whole both are named."""
    origin.append(pings(10, 5), observer=FEED)
    with _twin(tmp_path, origin, 7) as twin:
        for ledger, word in ((origin, "one"), (twin, "another")):
            ledger.append(ev.NoteAdded(word), observer=FEED, at=60 * SECOND)
            ledger.append(pings(70, 3), observer=FEED)
        carry(origin, replica)
        twin.seal(FEED)
        run = run_after(twin, FEED, held(replica, FEED), speak(twin, FEED, KEY))
        assert run.closes
        assert take_run(replica, run, incarnation=INCARNATION).refused == "again"
        whole = run_after(twin, FEED, Held(1, 2), speak(twin, FEED, KEY))
        assert take_run(replica, whole, incarnation=INCARNATION).forked == 8


STEPS = st.lists(
    st.tuples(st.sampled_from(["pings", "note", "seal"]), st.integers(1, 700), st.sampled_from(["", "replica", "relay"])),
    min_size=1, max_size=9,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_made_or_sent_a_record_is_the_same(steps):
    """Whatever an origin writes and seals, and whenever it is carried: who makes records itself, who takes them from such a one,
    and who is sent each of them, hold what the origin holds.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        names = ("origin", "replica", "relay", "plain")
        made = [stack.enter_context(Ledger.create(f"{folder}/{name}", incarnation=INCARNATION)) for name in names]
        origin, replica, relay, plain = made
        origin.open_feed("alpha", at=SECOND, ledger_key=KEY.text)
        arrived = []
        for number, (what, count, to) in enumerate(steps, 1):
            if what == "pings":
                origin.append(pings(1000 * number, count), observer=FEED)
            elif what == "note":
                origin.append(ev.NoteAdded(f"note {number}"), observer=FEED, at=1000 * number * SECOND)
            else:
                origin.seal(FEED)
            if to:
                told = carry(origin, replica)
                assert not any(each.refused for each in told)
                arrived += [entry for each in told for entry in each.entries]
            if to == "relay":
                word = speak(origin, FEED, KEY)
                while (run := run_after(replica, FEED, held(relay, FEED), word)) is not None:
                    assert take_run(relay, run, incarnation=INCARNATION).refused is None
                assert same(origin, relay)
        arrived += [entry for each in carry(origin, replica) for entry in each.entries]
        assert [(e.index, e.effective_ns, e.event) for e in arrived] == [
            (e.index, e.effective_ns, e.event) for e in replica.read(FEED)
        ]
        with mock.patch.object(replicas, "CLOSES_MAX", -1):
            carry(origin, plain)
        assert same(origin, replica)
        assert same(origin, plain)


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


def test_a_run_that_cannot_be_taken_leaves_those_beside_it(origin, replica, tmp_path):
    """Several runs share a transaction: one that turns out to contradict what is held only when it is written is kept as
    evidence, and the others stand.
    """
    origin.append(pings(10, 5), observer=FEED)
    other, key = tmp_path / "delta.ledger", generate()
    feed = Feed.of(INCARNATION, "delta", 1, key.text)
    with _twin(tmp_path, origin, 7) as twin, Ledger.create(other, incarnation=INCARNATION) as beside:
        beside.open_feed("delta", at=SECOND, ledger_key=key.text)
        beside.append(pings(10, 30), observer=feed)
        first = run_after(beside, feed, Held(), speak(beside, feed, key))
        origin.append(ev.NoteAdded("one"), observer=FEED, at=60 * SECOND)
        carry(origin, replica)
        twin.append(pings(70, 3), observer=FEED)
        twin.seal(FEED)
        run = run_after(twin, FEED, Held(1, 2), speak(twin, FEED, KEY))
        with replica.transaction():
            assert take_run(replica, first, incarnation=INCARNATION).held.last == 31
            told = take_run(replica, run, incarnation=INCARNATION)
            beside.append(pings(50, 3), observer=feed)
            more = run_after(beside, feed, Held(0, 31), speak(beside, feed, key))
            assert take_run(replica, more, incarnation=INCARNATION).held.last == 34
        assert told.forked == 8
        assert list(replica.read(feed)) == list(beside.read(feed))
    assert [entry.event for entry in replica.read(FEED)] == [entry.event for entry in origin.read(FEED)]
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
        running.bound(FEED, entries[stop // 2 : stop])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from([0, 7, 8, 15, 16, 23, 32, 47, 60]), min_size=8, max_size=8),
    st.integers(1, 3),
    st.integers(0, 10),
    st.integers(0, 2**32),
)
def test_a_bound_holds_for_many_pings_of_any_width(widths, peers, failed, seed):
    """Of hundreds of pings, whose numbers are now narrow and now wide, the record takes no more than the bound says."""
    running, dice = Running(), Random(seed)
    entries: list[Observed] = []
    for number in range(1000):
        at_ns, mono_ns, count, held, rtt, *stamps = (dice.getrandbits(bits) if bits else 0 for bits in [widths[0], *widths])
        peer = ["bravo", "charlie", "delta"][number % peers]
        event: ev.Event = ev.PingAnswered(peer, count, rtt, "1-1", *stamps, 3, held=held)
        if dice.randrange(10) < failed:
            event = ev.PingFailed(peer, count, "timeout", "1-1", held=held)
        entries.append(Observed(at_ns, event, 1, mono_ns))
    assert len(encode_record(make_record(1, entries))) <= running.bound(FEED, entries)


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
