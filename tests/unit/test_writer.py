"""Writing one feed: what is refused, where records end, what a record from elsewhere may be."""

import random
import sqlite3
import tempfile

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene import INCARNATION, KEY, MEMORY, MINUTE_NS, START_NS, answered, failed, feed_of, lost, minutes, note, observed, opening

from ledger import codec
from ledger.entry import Observed, Opaque
from ledger.errors import Conflict, Damaged, EventRefused, Forked
from ledger.events import KeyChanged, MachineJoined, MachineLeft, MachineReconnected, NoteAdded, PingAnswered
from ledger.store import Ledger
from ledger.writer import RECORD_ENTRIES

FEED, KEYED = feed_of(), feed_of(keyed=True)


@pytest.fixture
def ledger(tmp_path):
    """An empty ledger, opened to write."""
    with Ledger.create(tmp_path / "a.ledger", incarnation=INCARNATION) as opened:
        yield opened


def wide(count):
    """Pings of which a thousand take more room than a record has."""
    dice = random.Random(11)

    def ping():
        number, rtt, *stamps, held = (dice.randrange(2**60) for _ in range(7))
        return PingAnswered("bravo", number, rtt, None, *stamps, held=held)

    return [Observed(dice.randrange(2**61), ping(), 1, dice.randrange(2**61)) for _ in range(count)]


def ends(ledger, feed):
    """The last index of each record."""
    return [record.last for record in ledger.reader(feed).records()]


def check_all(ledger, feed, entries):
    """Everything that was appended is there, record by record and in all, and each leaf is what its entries make."""
    reader = ledger.reader(feed)
    assert observed(reader.entries()) == entries
    for record in reader.records():
        canonical = codec.make_record(record.first, entries[record.first - 1 : record.last])
        assert reader.canonical(record) == canonical
        assert record.leaf == codec.leaf_of(canonical)
        assert len(codec.encode_record(canonical)) <= codec.RECORD_MAX_BYTES
    assert reader.head().last == len(entries)


# Where records end.


@pytest.mark.parametrize("sizes", [[2700], [1] * 5 + [2695], [999, 1, 1700], [1000, 1000, 700], [1, 999, 1001, 699], [300] * 9])
def test_records_follow_from_entries_alone(ledger, sizes):
    """Whatever the batches were, a feed without a key is sealed by count: the same records, the same head."""
    entries, head = [opening(FEED), *minutes(2699)], None
    done = 0
    for size in sizes:
        ledger.append(entries[done : done + size], observer=FEED)
        done += size
    assert ends(ledger, FEED) == [RECORD_ENTRIES, 2 * RECORD_ENTRIES]
    check_all(ledger, FEED, entries)
    head = ledger.head(FEED)
    assert head.chain.hex() == ledger.reader(FEED).record(2).chain.hex()
    assert (head.records, head.sealed, head.last) == (2, 2000, 2700)


@pytest.mark.parametrize("sizes", [[2500], [999, 1, 1500], [600] * 4 + [100], [31] * 80 + [20]])
def test_a_record_stays_below_its_limit_of_bytes(ledger, sizes):
    """Entries that need more room than a record has are sealed in smaller records, the same whatever the batches were."""
    entries = [opening(FEED), *wide(2499)]
    done = 0
    for size in sizes:
        ledger.append(entries[done : done + size], observer=FEED)
        done += size
    check_all(ledger, FEED, entries)
    found = ends(ledger, FEED)
    assert found[0] < RECORD_ENTRIES
    with Ledger.create(ledger.path.parent / "b.ledger", incarnation=INCARNATION) as other:
        other.append(entries, observer=FEED)
        assert ends(other, FEED) == found


def test_big_control_events_are_sealed_in_small_records(ledger):
    """Sixteen kilobytes of text an entry: a few to a record, and nothing is refused or lost."""
    big = [Observed(START_NS, Opaque("x", 1, bytes([65 + n % 20]) * 16_000)) for n in range(1003)]
    ledger.append([opening(FEED), *big], observer=FEED)
    assert 2 <= ends(ledger, FEED)[0] <= 4
    check_all(ledger, FEED, [opening(FEED), *big])


@pytest.mark.parametrize(
    "event",
    [MachineJoined("bravo"), MachineLeft("bravo"), MachineReconnected("bravo"), KeyChanged("ledger", KEY, KEY)],
    ids=lambda event: event.kind,
)
def test_a_keyed_feed_is_sealed_right_after_what_trust_is_built_on(ledger, event):
    """In a keyed feed such an event ends its record; in a feed without a key it does not."""
    for feed in (KEYED, feed_of("bravo")):
        entries = [opening(feed), *minutes(9), Observed(START_NS, event), *minutes(5)]
        ledger.append(entries[:4], observer=feed)
        ledger.append(entries[4:], observer=feed)
        assert ends(ledger, feed) == ([11] if feed is KEYED else [])
        check_all(ledger, feed, entries)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 3, 400, 700]), st.booleans(), st.booleans()), min_size=1, max_size=7))
def test_what_was_looked_through_is_what_is_there(batches):
    """However many entries were appended, with what trust is built on among them or not, and whether they were to be sealed: the
    records are those that a writer makes which begins anew before each batch, and remembers nothing.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        whole, anew = (Ledger.create(f"{folder}/{name}.ledger", incarnation=INCARNATION) for name in "ab")
        batch = [opening(KEYED)]
        for number, (size, trusted, seal) in enumerate(batches):
            batch += [*minutes(size, first=1 + 1000 * number), *[Observed(START_NS, MachineJoined("bravo"))] * trusted]
            whole.append(batch, observer=KEYED, seal=seal)
            anew.close()
            anew = Ledger.create(f"{folder}/b.ledger", incarnation=INCARNATION)
            anew.append(batch, observer=KEYED, seal=seal)
            assert ends(whole, KEYED) == ends(anew, KEYED)
            batch = []
        whole.close()
        anew.close()


def test_a_stop_seals_what_is_open(ledger):
    """`seal` closes the open part, once; and the feed goes on after it."""
    ledger.append([opening(KEYED), *minutes(9), lost()], observer=KEYED)
    assert ledger.seal(KEYED)
    assert not ledger.seal(KEYED)
    assert ends(ledger, KEYED) == [11]
    ledger.append(minutes(3), observer=KEYED)
    check_all(ledger, KEYED, [opening(KEYED), *minutes(9), lost(), *minutes(3)])


def test_sealing_many_wide_entries_takes_several_records(ledger):
    """A stop with more in the open part than one record holds leaves nothing open."""
    entries = [opening(KEYED), *wide(900)]
    for start in range(0, 901, 53):
        ledger.append(entries[start : start + 53], observer=KEYED, seal=False)
    ledger.seal(KEYED)
    check_all(ledger, KEYED, entries)
    assert len(ends(ledger, KEYED)) == 2
    assert ledger._connection.execute("select count(*) from open").fetchone() == (0,)


def test_a_replica_does_not_seal(ledger):
    """With `seal=False` the open part grows beyond a record's size; it is as durable and as readable."""
    entries = [opening(KEYED), Observed(START_NS, MachineJoined("bravo")), *minutes(2500)]
    for start in range(0, len(entries), 700):
        ledger.append(entries[start : start + 700], observer=KEYED, seal=False)
    assert ends(ledger, KEYED) == []
    check_all(ledger, KEYED, entries)


# What is refused.


class Whole(int):
    """A number to Python, but none that a row holds."""


BAD = {
    "a negative number": answered(-1),
    "a number of a wrong type": Observed(START_NS, PingAnswered("bravo", "one", 1)),
    "no number": Observed(START_NS, PingAnswered("bravo", None, 1)),
    "no round trip": Observed(START_NS, PingAnswered("bravo", 1, None)),
    "half a number": Observed(START_NS, PingAnswered("bravo", 0.5, 1)),
    "a number beyond its range": answered(2**60 + 1),
    "an instant out of range": answered(1, 2**62 + 1),
    "no instant": answered(1, None),
    "a peer that is no machine": answered(1, peer="BRAVO"),
    "a peer that is a number": answered(1, peer=7),
    "a peer with a line break": answered(1, peer="bravo\n"),
    "a link too long": answered(1, link="x" * 65),
    "a link with a lone surrogate": answered(1, link="\ud800"),
    "a list for a link": answered(1, link=["l"]),
    "a feed that is none": answered(1, feed="f"),
    "no reason": failed(1, reason=None),
    "a reason that is none": failed(1, reason="tired"),
    "a boot that is none": Observed(START_NS, answered(1).event, "first"),
    "a negative boot": Observed(START_NS, answered(1).event, -1),
    "a negative monotonic clock": Observed(START_NS, answered(1).event, 1, -1),
    "a peer's boot out of range": answered(1, peer_boot=2**60 + 1),
    "a control event too big": Observed(START_NS, Opaque("x", 1, b"x" * 16_385)),
    "a text too long": Observed(START_NS, NoteAdded("x" * 4097)),
    "no event": Observed(START_NS, None),
    "True for a number": answered(True),
    "True for an instant": answered(1, True),
    "True for a round trip": Observed(START_NS, PingAnswered("bravo", 1, True)),
    "True for a count of what is held": answered(1, held=True),
    "True for a stamp": answered(1, sent_us=1, received_us=1, replied_us=True, returned_us=1),
    "True for a boot": Observed(START_NS, answered(1).event, True, 1),
    "True for a peer's boot": answered(1, peer_boot=True),
    "True for a monotonic clock": Observed(START_NS, answered(1).event, 1, True),
    "False for the number of a failed ping": failed(False),
    "a number of a type of its own": answered(Whole(1)),
    "an instant of a type of its own": answered(1, Whole(1)),
}


@pytest.mark.parametrize("case", BAD, ids=[name.replace(" ", "-") for name in BAD])
def test_a_batch_with_anything_bad_in_it_is_refused_whole(ledger, case):
    """However big the batch, the culprit is named by its place, nothing is written, and the feed goes on."""
    good = [opening(FEED), *minutes(5)]
    ledger.append(good, observer=FEED)
    for size in (1, 100, 1200):
        batch = minutes(size, first=5)
        batch.insert(size // 2, BAD[case])
        with pytest.raises(EventRefused) as refused:
            ledger.append(batch, observer=FEED)
        assert refused.value.place == f"entry {size // 2 + 1} of {size + 1}"
        assert refused.value.field
        assert observed(ledger.read(FEED)) == good
    ledger.append(minutes(1200, first=5), observer=FEED)
    check_all(ledger, FEED, [*good, *minutes(1200, first=5)])


def test_texts_that_were_checked_once_are_checked_again_in_another_place(ledger):
    """What is remembered as valid is the whole of what pings share: a good peer does not vouch for a bad reason."""
    ledger.append([opening(FEED), *[answered(n) for n in range(40)], *[failed(n) for n in range(40)]], observer=FEED)
    for bad in (failed(1, reason=None), failed(1, reason="Timeout"), answered(1, link=7), failed(1, feed="x")):
        with pytest.raises(EventRefused):
            ledger.append([*minutes(40), bad], observer=FEED)
    assert ledger.head(FEED).last == 81


# Identity before concurrency.


def test_the_same_entries_get_the_first_receipt(ledger):
    """A repeated append with its `expect` writes nothing and says where the entries stand, sealed or open."""
    batches = [[opening(FEED)], minutes(1500), [note("x")], minutes(30)]
    receipts, last = [], 0
    for batch in batches:
        receipts.append(ledger.append(batch, observer=FEED, expect=last))
        last = receipts[-1].last
    again, last = [], 0
    for batch in batches:
        again.append(ledger.append(batch, observer=FEED, expect=last))
        last = again[-1].last
    assert again == receipts
    assert ledger.append([*batches[0], *batches[1]], observer=FEED, expect=0).last == 1501
    check_all(ledger, FEED, [entry for batch in batches for entry in batch])


@pytest.mark.parametrize("expect", [-1, 0, 3, 4, 7, 8, 99, 10**20])
def test_other_entries_or_another_end_conflict(ledger, expect):
    """A position that was taken otherwise, or is not there yet, is a Conflict with both numbers."""
    ledger.append([opening(FEED), *minutes(5)], observer=FEED)
    with pytest.raises(Conflict) as refused:
        ledger.append([note("other"), note("more")], observer=FEED, expect=expect)
    assert (refused.value.expected, refused.value.last) == (expect, 6)
    assert ledger.head(FEED).last == 6


def test_a_batch_that_is_there_in_part_conflicts(ledger):
    """Half of it there and half not is no retry: a batch is durable whole or not at all."""
    ledger.append([opening(FEED), *minutes(5)], observer=FEED)
    with pytest.raises(Conflict):
        ledger.append(minutes(9)[3:], observer=FEED, expect=4)
    assert ledger.append(minutes(5)[3:], observer=FEED, expect=4).first == 5


@pytest.mark.parametrize("changed", [{"at_ns": START_NS + 1}, {"boot": 1}, {"mono_ns": 5}, {"event": NoteAdded("y")}])
def test_a_retry_is_the_same_in_all_its_parts(ledger, changed):
    """Instant, boot, monotonic clock and event make an entry; another of any of them is another entry."""
    ledger.append([opening(FEED), note("x")], observer=FEED)
    assert ledger.append(note("x"), observer=FEED, expect=1).last == 2
    with pytest.raises(Conflict):
        ledger.append(msgspec.structs.replace(note("x"), **changed), observer=FEED, expect=1)


# Records from elsewhere.


@pytest.fixture
def origin(tmp_path):
    """Another ledger, whose sealed records are to be taken in."""
    with Ledger.create(tmp_path / "origin.ledger", incarnation=INCARNATION) as opened:
        opened.append([opening(KEYED), *minutes(20), lost(), *minutes(20, first=20)], observer=KEYED)
        opened.seal(KEYED)
        opened.append([note("x"), *minutes(30, first=40)], observer=KEYED)
        opened.seal(KEYED)
        yield opened


def records_of(ledger, feed):
    reader = ledger.reader(ledger.feed(feed))
    return [reader.canonical(record) for record in reader.records()]


@pytest.mark.parametrize("ahead", [0, 1, 10, 22, 42, 43, 60, 73])
@pytest.mark.parametrize("step", [1, 5, 100])
def test_a_replica_takes_its_origins_records(ledger, origin, ahead, step):
    """However far a replica's open part reaches, and in whatever rows, records fit in; the head becomes the origin's."""
    entries = observed(origin.read(KEYED))
    for start in range(0, ahead, step):
        ledger.append(entries[start : min(start + step, ahead)], observer=KEYED, seal=False)
    for record in records_of(origin, KEYED):
        ledger.take(KEYED, record)
        check_all(ledger, KEYED, entries[: max(ahead, record.first + record.count - 1)])
    assert ledger.head(KEYED) == origin.head(KEYED)
    with Ledger.open(ledger.path) as again:
        check_all(again, again.feed(KEYED), entries)


def test_a_record_that_contradicts_the_open_part_is_a_fork(ledger, origin):
    """The differing position is named, and nothing is written."""
    ledger.append([opening(KEYED), *minutes(5), note("mine")], observer=KEYED, seal=False)
    with pytest.raises(Forked, match="alpha#7 is contradicted"):
        ledger.take(KEYED, records_of(origin, KEYED)[0])
    assert observed(ledger.read(KEYED)) == [opening(KEYED), *minutes(5), note("mine")]


def test_a_record_out_of_its_turn_is_refused(ledger, origin):
    """Records are taken in order, without a gap, once."""
    first, second = records_of(origin, KEYED)
    with pytest.raises(Damaged, match="begins at #43"):
        ledger.take(KEYED, second)
    ledger.take(KEYED, first)
    with pytest.raises(Damaged, match="begins at #1"):
        ledger.take(KEYED, first)


@pytest.mark.parametrize(
    "bad",
    [
        answered(1, peer="BRAVO"),
        failed(1, reason="tired"),
        answered(1, link="x" * 65),
        Observed(2**63, NoteAdded("x")),
        Observed(0, NoteAdded("x"), -7),
    ],
)
def test_a_record_with_what_no_append_takes_is_damage(ledger, bad):
    """A record made by another program may be canonical and still hold what the log does not take."""
    with pytest.raises(Damaged, match="no ledger would write"):
        ledger.take(KEYED, codec.make_record(1, [opening(KEYED), *minutes(3), bad]))
    assert [feed.name for feed in ledger.feeds()] == []


def test_a_record_that_its_entries_do_not_make_is_damage(ledger, origin):
    """Columns that say the same in another way are not taken."""
    record = records_of(origin, KEYED)[0]
    fat = msgspec.structs.replace(record.pings.columns[0], scale=record.pings.columns[0].scale * 1)
    other = msgspec.structs.replace(record, controls=tuple(reversed(record.controls)))
    assert fat == record.pings.columns[0]
    with pytest.raises(Damaged):
        ledger.take(KEYED, other)


# After a failure.


def test_a_failed_write_leaves_the_feed_as_it_was(ledger, monkeypatch):
    """If SQLite fails in the middle of a batch, nothing of it stands, in the file and in memory, and a retry succeeds."""
    good = [opening(FEED), *minutes(995)]
    ledger.append(good, observer=FEED)
    writer = ledger.add_feed(FEED)
    real = writer._run

    def failing(sql, *values):
        if "insert or replace into head" in sql:
            raise sqlite3.OperationalError("database or disk is full")
        return real(sql, *values)

    monkeypatch.setattr(writer, "_run", failing)
    batch = [answered(n, START_NS + n * MINUTE_NS) for n in range(600, 700)]
    with pytest.raises(Exception, match="no space left"):
        ledger.append(batch, observer=FEED, expect=996)
    check_all(ledger, FEED, good)
    assert ledger.append(batch, observer=FEED, expect=996).last == 1096
    check_all(ledger, FEED, [*good, *batch])
