"""Reading one feed from its rows: heads, records, entries, cuts, and nothing believed that does not check."""

import sqlite3
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene import INCARNATION, KEY, MEMORY, MINUTE_NS, START_NS, answered, feed_of, lost, minutes, note, observed, opening

from ledger import codec, merkle, rows
from ledger.entry import Observed
from ledger.errors import Damaged
from ledger.events import ClockStepped, LinkEstablished, MachineJoined, NodeStarted
from ledger.instants import effective_instants, may_disown
from ledger.store import Ledger

FEED = feed_of(keyed=True)
STEP = Observed(START_NS + 31 * MINUTE_NS, ClockStepped(-9 * MINUTE_NS))
ENTRIES = [
    opening(FEED), Observed(START_NS, MachineJoined("alpha", ledger_key=KEY)), *minutes(80),
    lost(at_ns=START_NS + 40 * MINUTE_NS),
    STEP, *minutes(40, first=62), Observed(START_NS + 52 * MINUTE_NS, NodeStarted(2)), *minutes(2100, first=104),
    note("late", START_NS), *minutes(30, first=2204),
]  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A keyed feed with several records, clocks set back, and an open part."""
    found = tmp_path_factory.mktemp("feeds") / "a.ledger"
    with Ledger.create(found, incarnation=INCARNATION) as ledger:
        ledger.append(ENTRIES[:300], observer=FEED)
        ledger.seal(FEED)
        ledger.append(ENTRIES[300:], observer=FEED)
    return found


@pytest.fixture
def reader(path):
    """The reader of that feed."""
    with Ledger.open(path) as ledger:
        yield ledger.reader(FEED)


def test_a_head_says_how_far_a_feed_goes(reader):
    """Records, the last entry they cover, the last of all, and the Merkle tree's frontier over the leaves."""
    head, leaves = reader.head(), reader.leaves()
    assert (head.records, head.sealed, head.last) == (len(leaves), [record.last for record in reader.records()][-1], len(ENTRIES))
    frontier = merkle.Frontier(head.records, [head.frontier[at : at + 32] for at in range(0, len(head.frontier), 32)])
    assert frontier.root() == merkle.root(leaves)
    assert head.peak_ns == max(entry.at_ns for entry in ENTRIES[: head.sealed])


def test_records_adjoin_and_state_their_place_in_time(reader):
    """Each record begins where the last ended, bears the chain before it, and its least and greatest instant."""
    chain, last, peak = rows.CHAIN_START, 0, None
    for number, record in enumerate(reader.records(), 1):
        walls = [entry.at_ns for entry in ENTRIES[record.first - 1 : record.last]]
        assert (record.n, record.first, record.prior, record.before_ns) == (number, last + 1, chain, peak)
        assert (record.low_ns, record.high_ns) == (min(walls), max(walls))
        peak = max(walls) if peak is None else max(peak, *walls)
        assert record.peak_ns == peak
        assert record.steady == int(walls == sorted(walls) and (record.before_ns is None or walls[0] >= record.before_ns))
        assert reader.walls(record) == walls
        chain, last = record.chain, record.last
    assert reader.head().chain == chain


def test_a_record_is_found_by_any_entry_of_it(reader):
    """`holding` gives the record of each entry, and None for the open part and beyond."""
    for index in (1, 2, 3, 83, 84, 299, 300, 301, 1299, 1300):
        record = reader.holding(index)
        assert record.first <= index <= record.last
    assert reader.holding(len(ENTRIES)) is None
    assert reader.holding(len(ENTRIES) + 1) is None
    assert list(reader.records(1, 3)) == [reader.record(2), reader.record(3)]


@pytest.mark.parametrize(
    ("after", "until"),
    [(0, None), (0, 1), (1, 2), (299, 301), (1000, 1301), (2200, None), (2250, 2255), (5000, None), (7, 7), (9, 3)],
)
def test_any_stretch_is_read_alike(reader, after, until):
    """Entries after one index and until another are those of the whole, with the same instants and records."""
    whole = list(reader.entries())
    assert list(reader.entries(after, until)) == whole[after : len(whole) if until is None else max(after, until)]
    assert observed(whole) == ENTRIES
    assert [entry.index for entry in whole] == list(range(1, len(ENTRIES) + 1))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 30, 500]), st.integers(-90, 90), st.booleans()), min_size=1, max_size=9),
    st.booleans(),
)
def test_who_follows_a_writer_reads_what_is_there(batches, stepped):
    """What is new after each batch, of clocks that go on and back, has the instants that it has in the whole, whether the clock
    was set on record, so that stretches are disowned, or only runs unevenly.
    """
    with (
        tempfile.TemporaryDirectory(dir=MEMORY) as folder,
        Ledger.create(f"{folder}/a.ledger", incarnation=INCARNATION) as ledger,
    ):
        ledger.append([opening(FEED)], observer=FEED)
        reader, now = ledger.reader(FEED), START_NS + 9000 * MINUTE_NS
        for size, by, seal in batches:
            now += by * MINUTE_NS
            batch = minutes(size, first=2 * (now // MINUTE_NS - START_NS // MINUTE_NS))
            if stepped and by < 0:
                batch.insert(0, Observed(now, ClockStepped(by * MINUTE_NS)))
            held = reader.head().last
            ledger.append(batch, observer=FEED)
            assert list(reader.entries(held)) == list(reader.entries())[held:]
            assert list(reader.entries(max(0, held - 7), held + 1)) == list(reader.entries())[max(0, held - 7) : held + 1]
            now = batch[-1].at_ns
            if seal:
                ledger.seal(FEED)
        found = list(ledger.reader(FEED).entries())
        steps = [entry.index for entry in found if may_disown(entry.event)]
        assert [entry.effective_ns for entry in found] == effective_instants([entry.at_ns for entry in found], steps)


def test_entries_know_their_record(reader):
    """`record` is the number of the sealed record, None in the open part; open_part gives those."""
    sealed = reader.head().sealed
    for entry in reader.entries():
        assert (entry.record is None) == (entry.index > sealed)
        assert entry.record is None or reader.record(entry.record).first <= entry.index <= reader.record(entry.record).last
    assert reader.open_part() == list(reader.entries(sealed))


def test_effective_instants_are_those_of_the_definition(reader):
    """Whatever part of the feed is read, instants are as if all of it had been."""
    steps = [index for index, entry in enumerate(ENTRIES, 1) if may_disown(entry.event)]
    wanted = effective_instants([entry.at_ns for entry in ENTRIES], steps)
    assert [entry.effective_ns for entry in reader.entries()] == wanted
    for record in reader.records():
        assert [entry.effective_ns for entry in reader.entries_of(record)] == wanted[record.first - 1 : record.last]


def test_cuts_are_those_of_the_definition(reader):
    """At, just before and just after each effective instant, the cut is the number of entries that count by then."""
    instants = [entry.effective_ns for entry in reader.entries()]
    for at_ns in sorted({each + by for each in {*instants[:200:3], *instants[200::97], *instants[-40:]} for by in (-1, 0, 1)}):
        assert reader.cut(at_ns) == sum(each <= at_ns for each in instants)
    assert (reader.cut(-(2**62)), reader.cut(2**62)) == (0, len(ENTRIES))


def test_rare_events_are_found_without_reading_the_rest(reader):
    """Kinds other than links and pings come by way of an index, the same as by reading all."""
    whole = list(reader.entries())
    for kinds in (("node.started",), ("clock.stepped", "note.added"), ("feed.opened", "machine.joined"), ("machine.left",)):
        assert [entry.index for entry in reader.rare(kinds)] == [entry.index for entry in whole if entry.kind in kinds]
    assert reader.rare(("note.added",), until=100) == []


def test_a_directory_says_what_its_columns_say(reader):
    """The groups of a record's row and those computed from its columns agree, and add up to the record."""
    for record in reader.records():
        controls = reader.controls_of(record)
        stored, computed = reader.groups(record), reader.pings(record, controls).groups()
        assert [msgspec.structs.replace(group, gap_ns=0) for group in stored] == [
            msgspec.structs.replace(group, gap_ns=0) for group in computed
        ]
        assert all(kept.gap_ns >= group.gap_ns for kept, group in zip(stored, computed, strict=True))
        assert sum(group.count for group in stored) == record.pings == record.last - record.first + 1 - len(controls)
        assert sum(group.count for group in stored if group.reason) == record.lost


def test_a_record_gives_its_canonical_bytes(reader):
    """What a leaf covers can be had from the rows at any time."""
    for record in reader.records():
        canonical = reader.canonical(record)
        assert codec.leaf_of(canonical) == record.leaf
        assert canonical == codec.make_record(record.first, ENTRIES[record.first - 1 : record.last])


def test_more_contexts_than_are_kept(tmp_path):
    """A feed whose records share hundreds of contexts reads back, also with a reader from before they were written."""
    pings = [answered(n, START_NS + n, peer=f"p{n % 700}") for n in range(2100)]
    with Ledger.create(tmp_path / "a.ledger", incarnation=INCARNATION) as ledger, Ledger.open(tmp_path / "a.ledger") as beside:
        ledger.append([opening(feed_of()), *pings[:999]], observer=feed_of())
        assert len(list(beside.read("alpha"))) == 1000
        ledger.append(pings[999:], observer=feed_of())
        assert observed(beside.read("alpha"))[1:] == pings


def test_a_tail_goes_on_where_it_was(tmp_path):
    """A reader that asks after its last index gets each entry once, over seals and restarts of the writer."""
    path, seen = tmp_path / "a.ledger", []
    with Ledger.create(path, incarnation=INCARNATION) as ledger:
        ledger.append([opening(FEED), *minutes(5)], observer=FEED)
    reader = Ledger.open(path)
    for turn in range(4):
        with Ledger.open(path, write=True) as ledger:
            ledger.append([note(f"turn {turn}"), *minutes(7, first=turn * 7)], observer=FEED)
            seen += reader.read("alpha", after=len(seen))
            ledger.seal(FEED)
            ledger.append(Observed(START_NS, LinkEstablished("bravo")), observer=FEED)
        seen += reader.read("alpha", after=len(seen))
    assert [entry.index for entry in seen] == list(range(1, len(seen) + 1)) == list(range(1, reader.head("alpha").last + 1))
    reader.close()


class Meddling:
    """A connection that lets something happen just before its n-th query."""

    def __init__(self, connection, at, happening):
        self._connection, self._left, self._happening = connection, at, happening

    def execute(self, *arguments):
        if self._left == 0:
            self._happening()
        self._left -= 1
        return self._connection.execute(*arguments)


@pytest.fixture
def folder():
    """A folder in memory where there is one: this proof opens hundreds of ledgers, and durability is not its matter."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as found:
        yield Path(found)


@pytest.mark.parametrize("question", ["entries", "open", "cut", "cut-late", "leaves", "feeds", "timeline"])
@pytest.mark.parametrize("stepped", [False, True])
def test_a_seal_between_any_two_queries_changes_no_answer(folder, question, stepped):
    """Beside a live writer, rows move from open to sealed while a question is answered: nothing is missed or counted twice."""
    start = [opening(FEED), *minutes(40), *([STEP] if stepped else [])]
    later = [*minutes(9, first=200), note("new", START_NS + 10**15)]
    asked = {
        "entries": lambda ledger: [entry.index for entry in ledger.reader(FEED).entries(3)][: len(start) - 3],
        "open": lambda ledger: observed(ledger.reader(FEED).entries())[: len(start)],
        "cut": lambda ledger: ledger.reader(FEED).cut(START_NS + 9 * MINUTE_NS),
        "cut-late": lambda ledger: ledger.reader(FEED).cut(START_NS + 45 * MINUTE_NS),
        "leaves": lambda ledger: ledger.reader(FEED).leaves()[:1],
        "feeds": lambda ledger: ledger.feeds()[:1],
        "timeline": lambda ledger: ledger.reader(FEED).timeline().stretches,
    }[question]
    for at in range(14):
        path = folder / f"{at}.ledger"
        with Ledger.create(path, incarnation=INCARNATION) as writer, Ledger.open(path) as ledger:
            writer.append(start[:10], observer=FEED)
            writer.seal(FEED)
            writer.append(start[10:], observer=FEED)
            wanted = asked(ledger)

            def happening(writer=writer):
                writer.seal(FEED)
                writer.append(later, observer=FEED)
                writer.append(opening(feed_of("zulu")), observer=feed_of("zulu"))
                writer.seal(FEED)

            meddling = Meddling(ledger._connection, at, happening)
            ledger._connection = meddling
            ledger._readers.clear()
            assert asked(ledger) == wanted


# Damage.


def spoil(path, target, statement, *values):
    """A copy of the ledger with one statement run on it by force."""
    target.write_bytes(path.read_bytes())
    db = sqlite3.connect(target, isolation_level=None)
    db.execute("pragma synchronous=off")
    triggers = db.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
    for name, _sql in triggers:
        db.execute(f"drop trigger {name}")
    assert db.execute(statement, values).rowcount > 0
    for _name, sql in triggers:
        db.execute(sql)
    db.close()


SPOILED = {
    "a control's text": ("update control set body = replace(body, 'timeout', 'refused') where kind = 'link.lost'", "alpha#83"),
    "a control's instant": ("update control set at_ns = at_ns + 1 where idx = 1", "alpha#1"),
    "a control's kind": ("update control set kind = 'link.failed' where kind = 'link.lost'", "alpha#83"),
    "a control gone": ("delete from control where kind = 'link.lost'", "alpha#3"),
    "a control moved": ("update control set idx = 90 where kind = 'link.lost'", "alpha#90"),
    "a record's body": ("update record set body = cast(body || x'00' as blob) where n = 3", "alpha#301"),
    "a record's instant": ("update record set high_ns = high_ns + 1 where n = 3", "alpha#301"),
    "a record's leaf": ("update record set leaf = zeroblob(32) where n = 3", "alpha#301"),
    "a record's count of losses": ("update record set lost = lost + 1 where n = 3", "alpha#301"),
    "a record gone": ("delete from record where n = 3", "alpha"),
    "the last record gone": ("delete from record where n = (select max(n) from record)", "alpha"),
    "records exchanged": ("update record set n = 7 - n where n in (3, 4)", "alpha"),
    "an open row's bytes": ("update open set body = cast(body || x'c0' as blob)", "alpha#1301"),
    "an open row gone": ("delete from open", "alpha#1301"),
    "a context": ("update context set body = cast(body || x'00' as blob) where id = 0", "alpha"),
    "a context gone": ("delete from context where id = 1", "alpha"),
    "a head": ("update head set last = last - 1", "alpha"),
    "a head gone": ("delete from head", ""),
    "a feed gone": ("delete from feed", ""),
    "a feed's machine": ("update feed set machine = 'bravo'", "bravo"),
    "the incarnation": ("update meta set value = 'import:other' where key = 'incarnation'", "alpha"),
}


@pytest.mark.parametrize("case", SPOILED, ids=[name.replace(" ", "-") for name in SPOILED])
def test_damage_is_an_error_that_names_its_place(path, tmp_path, case):
    """Whatever row is changed, moved or taken away, reading all gives an error near the place, and no wrong entry before it."""
    statement, place = SPOILED[case]
    spoil(path, tmp_path / "b.ledger", statement)
    read = []

    def read_all():
        with Ledger.open(tmp_path / "b.ledger") as ledger:
            read.extend(Observed(entry.at_ns, entry.event, entry.boot, entry.mono_ns) for entry in ledger.read())

    with pytest.raises(Damaged) as found:
        read_all()
    assert place in (found.value.position or "") or place in found.value.message
    assert read == ENTRIES[: len(read)]


def test_damage_that_sqlite_sees_is_said_in_our_words(path, tmp_path):
    """A page of zeros is an error of ours that names the feed or the file, wherever it lies."""
    whole = path.read_bytes()
    size = int.from_bytes(whole[16:18], "big")
    seen = 0
    for page in range(1, len(whole) // size, 4):
        (tmp_path / "b.ledger").write_bytes(whole[: page * size] + bytes(size) + whole[(page + 1) * size :])
        try:
            with Ledger.open(tmp_path / "b.ledger") as ledger:
                assert observed(ledger.read()) == ENTRIES
        except Damaged:
            seen += 1
    assert seen > 5


@pytest.mark.parametrize("size", [1, 3, 40])
def test_what_is_read_as_it_is_written_is_what_is_read_at_the_end(tmp_path, size):
    """The writer reads what it has just appended, each time after what it read before: across seals and clocks set back the
    entries and their instants are those of a whole read at that time.
    """
    entries = ENTRIES[:120]
    with Ledger.create(tmp_path / "a.ledger", incarnation=INCARNATION) as ledger:
        for start in range(0, len(entries), size):
            ledger.append(entries[start : start + size], observer=FEED)
            if start % 50 == 49:
                ledger.seal(FEED)
            last = ledger.head(FEED).last
            fresh = list(ledger.read(FEED, after=start))
            with Ledger.open(tmp_path / "a.ledger") as other:
                assert fresh == list(other.read(FEED))[start:last]
