"""Kept: `Ledger`, the guest's door to one file of feeds."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from scene import INCARNATION, KEY, START_NS, answered, feed_of, lost, minutes, note, observed, opening

from ledger import codec
from ledger.entry import Observed, Opaque
from ledger.errors import Conflict, Damaged, EventRefused, Locked, NotALedger, Refused, Unwritable, WrongIncarnation
from ledger.events import FeedOpened, LinkLost, NoteAdded
from ledger.identity import Feed
from ledger.instants import instant_ns
from ledger.store import Branch, Ledger
from ledger.writer import FeedWriter

ALPHA = feed_of()


@pytest.fixture
def ledger(tmp_path):
    """An empty ledger, opened to write."""
    with Ledger.create(tmp_path / "a.ledger", incarnation=INCARNATION) as opened:
        yield opened


def test_a_guests_first_minute(tmp_path):
    """Create, open a feed, append a bare event, read it back."""
    with Ledger.create(tmp_path / "alpha.ledger", incarnation=INCARNATION) as ledger:
        ledger.open_feed("alpha", at=START_NS)
        receipt = ledger.append(LinkLost("bravo", "timeout"), observer="alpha", at=START_NS + 1, boot=4, mono_ns=99)
    assert receipt.positions == ["alpha#2"]
    with Ledger.open(tmp_path / "alpha.ledger") as ledger:
        first, second = ledger.read("alpha")
    assert (first.position, first.kind, first.event) == ("alpha#1", "feed.opened", FeedOpened(INCARNATION, "alpha", 1))
    assert (second.observer, second.at_ns, second.boot, second.mono_ns, second.event) == (
        "alpha",
        START_NS + 1,
        4,
        99,
        LinkLost("bravo", "timeout"),
    )


def test_a_feed_is_opened_once(ledger):
    """Opening a feed that has begun finds it and writes nothing."""
    first = ledger.open_feed("alpha", at=START_NS)
    assert ledger.open_feed(" Alpha ", at=START_NS + 5) == first
    assert ledger.head("alpha").last == 1
    assert ledger.open_feed("alpha", at=START_NS, epoch=2, ledger_key=KEY) != first


def test_feeds_are_named_in_several_ways(ledger):
    """By machine (its newest epoch), by machine and epoch, by id, by themselves; anything else is refused with what there is."""
    one, two = ledger.open_feed("alpha", at=0), ledger.open_feed("alpha", at=0, epoch=2)
    other = ledger.open_feed("bravo", at=0)
    assert ledger.feeds() == [one, two, other]
    assert ledger.feed("alpha") == ledger.feed("alpha.2") == ledger.feed(two.id) == ledger.feed(two) == two
    assert ledger.feed("alpha.1") == ledger.feed(one) == one
    for unknown in ("charlie", "alpha.3", "", feed_of("charlie")):
        with pytest.raises(Refused, match="no feed of") as refused:
            ledger.feed(unknown)
        assert refused.value.hint == "it holds the feeds of alpha, alpha.2, bravo"


def test_all_feeds_are_read_one_after_another(ledger):
    """Without a name, `read` goes through the feeds in their order."""
    for name in ("bravo", "alpha"):
        ledger.open_feed(name, at=0)
        ledger.append([note(name), *minutes(3)], observer=name)
    assert [entry.position for entry in ledger.read()] == [
        f"{name}#{index}" for name in ("alpha", "bravo") for index in range(1, 6)
    ]


@pytest.mark.parametrize(
    "at",
    [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=3))), 1_767_225_600_000_000_000],
)
def test_an_instant_is_a_number_or_an_aware_datetime(ledger, at):
    """Both spellings of an instant are one, to the microsecond and without a float."""
    ledger.open_feed("alpha", at=at)
    assert next(ledger.read()).at_ns == START_NS == instant_ns(at)
    assert instant_ns(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1000


@pytest.mark.parametrize("at", [None, datetime(2026, 1, 1), 1.5, float("nan"), "2026-01-01"])  # noqa: DTZ001 - that is the point
def test_what_is_no_instant_is_refused(ledger, at):
    """No instant, a naive datetime, a float or a text: refused at the door, and nothing was written."""
    ledger.open_feed("alpha", at=0)
    with pytest.raises(Refused):
        ledger.append(NoteAdded("x"), observer="alpha", at=at)
    assert ledger.head("alpha").last == 1


def test_a_batch_may_mix_bare_and_observed_events(ledger):
    """`at` is for those that come bare; an Observed has its own."""
    ledger.open_feed("alpha", at=0)
    receipt = ledger.append([NoteAdded("x"), answered(1, 7), Opaque("weather.changed", 1, b"?")], observer="alpha", at=5)
    assert (receipt.first, receipt.last) == (2, 4)
    assert [entry.at_ns for entry in ledger.read(after=1)] == [5, 7, 5]


def test_an_empty_batch_changes_nothing(ledger):
    """Appending nothing is allowed and says where the next entry would stand."""
    ledger.open_feed("alpha", at=0)
    receipt = ledger.append([], observer="alpha")
    assert (receipt.first, receipt.last, receipt.positions) == (2, 1, [])


def test_a_refused_batch_leaves_no_feed_behind(ledger):
    """If the first batch of a feed is refused, the feed is not there either; the next one may begin it."""
    for bad in (Observed(0, NoteAdded("x" * 5000)), answered(-1)):
        with pytest.raises(EventRefused):
            ledger.append([opening(ALPHA), bad], observer=ALPHA)
    with pytest.raises(Conflict):
        ledger.append(opening(ALPHA), observer=ALPHA, expect=3)
    assert ledger.feeds() == []
    ledger.append(opening(ALPHA), observer=ALPHA, expect=0)
    assert ledger.feeds() == [ALPHA]


def test_unknown_kinds_are_kept_byte_for_byte(ledger):
    """What this version does not know comes back as it was, whatever its bytes are, from the open part and from a record."""
    strange = [
        Opaque("weather.changed", 2, b'{"wind":"north"}'), Opaque("link.lost", 9, b'{"a":1}'), Opaque("x", 0, b"\xff\x00\xfe"),
        Opaque("y", 1, b""), Opaque("note.added", 1, b'{ "text":"x" }'),
    ]  # fmt: skip
    keyed = feed_of(keyed=True)
    ledger.append([opening(keyed), *[Observed(n, each, 1, n) for n, each in enumerate(strange)]], observer=keyed)
    assert [entry.event for entry in ledger.read(after=1)] == strange
    ledger.seal(keyed)
    assert [entry.event for entry in ledger.read(after=1)] == strange
    assert [entry.record for entry in ledger.read(after=1)] == [1] * 5


def test_several_appends_stand_or_fall_together(ledger):
    """Within a transaction nothing stands until its end; if it fails, nothing does, and the feeds go on as before."""
    ledger.open_feed("alpha", at=0)

    def fail_half_way():
        with ledger.transaction():
            ledger.append(minutes(1200), observer="alpha")
            ledger.open_feed("bravo", at=0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert [feed.name for feed in ledger.feeds()] == ["alpha"]
    assert ledger.head("alpha").last == 1
    with ledger.transaction(), ledger.transaction():
        ledger.append(minutes(1200), observer="alpha", expect=1)
        ledger.append(note("x"), observer="alpha", expect=1201)
        with Ledger.open(ledger.path) as reader:
            assert reader.head("alpha").last == 1
    assert observed(ledger.read("alpha", after=1)) == [*minutes(1200), note("x")]


def test_a_nested_transaction_that_fails_takes_nothing_else_with_it(ledger):
    """Within a transaction what one within it did in vain leaves no trace, what stood before it and after it stands, and nothing
    of all that does before the outer one has ended.
    """
    ledger.open_feed("alpha", at=0)

    def fail():
        with ledger.transaction():
            ledger.append(minutes(1200, first=3), observer="alpha")
            ledger.open_feed("charlie", at=0)
            raise ZeroDivisionError

    with ledger.transaction():
        ledger.append(note("before"), observer="alpha")
        with pytest.raises(ZeroDivisionError):
            fail()
        assert ledger.head("alpha").last == 2
        with ledger.transaction():
            ledger.append(note("after"), observer="alpha", expect=2)
        with Ledger.open(ledger.path) as reader:
            assert reader.head("alpha").last == 1
    assert [feed.name for feed in ledger.feeds()] == ["alpha"]
    assert observed(ledger.read("alpha", after=1)) == [note("before"), note("after")]
    with pytest.raises(ZeroDivisionError):
        fail()
    with Ledger.open(ledger.path) as reader:
        assert observed(reader.read("alpha", after=1)) == [note("before"), note("after")]


def test_an_append_that_fails_half_way_is_all_gone_also_for_who_goes_on(ledger, monkeypatch):
    """Within a transaction an append fails after it has written rows, and the caller goes on: nothing of it stands. Where the
    medium has taken back the whole transaction, nothing more is written in it, and that is said.
    """
    ledger.open_feed("alpha", at=0)
    write = FeedWriter.append

    def torn(writer, *args, **more):
        write(writer, *args, **more)
        raise ZeroDivisionError

    with ledger.transaction():
        ledger.append(note("before"), observer="alpha")
        monkeypatch.setattr(FeedWriter, "append", torn)
        with pytest.raises(ZeroDivisionError):
            ledger.append(minutes(1200, first=3), observer="alpha")
        monkeypatch.undo()
        ledger.append(note("after"), observer="alpha", expect=2)
    assert observed(ledger.read("alpha", after=1)) == [note("before"), note("after")]

    def taken_back():
        with ledger.transaction():
            ledger.append(note("lost"), observer="alpha")
            ledger._connection.execute("rollback")
            ledger.append(note("alone"), observer="alpha")

    with pytest.raises(Unwritable, match="taken back"):
        taken_back()
    assert ledger.head("alpha").last == 3


def test_a_nested_transaction_that_fails_takes_back_its_own_beginning(ledger):
    """One that fails after another within it had failed is gone from its first entry on, not from where the other began."""
    ledger.open_feed("alpha", at=0)

    def fail(then):
        with ledger.transaction():
            ledger.append(note("gone"), observer="alpha")
            then()
            raise ZeroDivisionError

    def fail_again():
        with pytest.raises(ZeroDivisionError):
            fail(lambda: None)

    with ledger.transaction():
        ledger.append(note("before"), observer="alpha")
        with pytest.raises(ZeroDivisionError):
            fail(fail_again)
        ledger.append(note("after"), observer="alpha")
    assert observed(ledger.read("alpha", after=1)) == [note("before"), note("after")]


def test_a_callers_own_trouble_is_not_blamed_on_the_ledger(ledger):
    """An error of the program within a transaction comes out as it was: a missing file of the caller is not our file."""
    with pytest.raises(FileNotFoundError), ledger.transaction():
        (ledger.path.parent / "missing").read_bytes()


def test_a_reader_writes_nothing(ledger):
    """Whatever writes is refused on a ledger that was opened to read."""
    ledger.open_feed("alpha", at=0)
    with Ledger.open(ledger.path) as reader:
        for act in (
            lambda: reader.append(note("x"), observer="alpha"),
            lambda: reader.open_feed("bravo", at=0),
            lambda: reader.seal("alpha"),
            lambda: reader.quarantine("x", 1, "y", b""),
            lambda: reader.keep_signature(reader.feed("alpha"), 0, "note"),
        ):
            with pytest.raises(Refused, match="opened to read"):
                act()
    assert ledger.head("alpha").last == 1


def test_one_ledger_holds_one_incarnation(ledger):
    """A feed of another incarnation is refused, naming both, and nothing of it is written."""
    ledger.open_feed("alpha", at=0)
    stranger = Feed.of("import:other", "bravo")
    with pytest.raises(WrongIncarnation) as refused:
        ledger.append(opening(stranger), observer=stranger)
    assert (refused.value.held, refused.value.given) == (INCARNATION, "import:other")
    assert [feed.name for feed in ledger.feeds()] == ["alpha"]


def test_a_ledger_without_an_incarnation_takes_that_of_its_first_feed(tmp_path):
    """A file made for whatever comes holds what came first."""
    with Ledger.create(tmp_path / "b.ledger") as ledger:
        assert ledger.incarnation is None
        with pytest.raises(Refused, match="no incarnation yet"):
            ledger.open_feed("alpha", at=0)
        ledger.append(opening(ALPHA), observer=ALPHA)
        assert ledger.incarnation == INCARNATION


def test_branches_signatures_and_refusals_are_kept_beside_the_log(ledger):
    """Evidence of a fork, signed heads, and what an import refused come back as they were given."""
    keyed = feed_of(keyed=True)
    ledger.append([opening(keyed), *minutes(9)], observer=keyed)
    record = codec.encode_record(codec.make_record(11, [note("other"), lost()]))
    branch = Branch("b1", (record,), (note("tail"), answered(1)), 11)
    bare = Branch("b2", (), (note("only a tail"),), 11)
    ledger.keep_branch(keyed, branch)
    ledger.keep_branch(keyed, bare)
    ledger.keep_signature(keyed, 1, "a note")
    ledger.keep_signature(keyed, 1, "a note")
    ledger.quarantine("input.jsonl", 7, "no JSON", b"\xff")
    with Ledger.open(ledger.path) as reader:
        assert reader.branches(keyed) == [branch, bare]
        assert reader.signatures(keyed) == [(1, "a note")]
        assert observed(reader.read()) == [opening(keyed), *minutes(9)]


def test_evidence_that_was_altered_is_damage(ledger):
    """Branches and signed heads bear sums too."""
    keyed = feed_of(keyed=True)
    ledger.append(opening(keyed), observer=keyed)
    ledger.keep_branch(keyed, Branch("b1", (), (note("x"),), 2))
    ledger.keep_signature(keyed, 1, "a note")
    for table, column, ask in (("branch", "branch", ledger.branches), ("signature", "note", ledger.signatures)):
        ledger._connection.execute(f"drop trigger {table}_update")
        ledger._connection.execute(f"update {table} set {column} = 'forged'")
        with pytest.raises(Damaged):
            ask(keyed)


def test_a_closed_ledger_leaves_one_file(ledger):
    """At its end a writer leaves the ledger and nothing beside it."""
    ledger.open_feed("alpha", at=0)
    ledger.close()
    ledger.close()
    assert [each.name for each in ledger.path.parent.iterdir()] == ["a.ledger"]
    with Ledger.open(ledger.path, write=True) as again:
        ledger.close()  # once more: it must not take the other's lock away
        with pytest.raises(Locked):
            Ledger.open(ledger.path, write=True)
        assert again.head("alpha").last == 1


def test_a_path_may_be_anything(tmp_path):
    """Spaces, question marks, percent and hash signs and foreign letters in a path are part of its name."""
    path = tmp_path / "a b?mode=rw#%41ü.ledger"
    with Ledger.create(str(path), incarnation=INCARNATION) as ledger:
        ledger.open_feed("alpha", at=0)
        with Ledger.open(path) as reader:
            assert reader.head("alpha").last == 1
    with Ledger.open(path) as reader:
        assert reader.head("alpha").last == 1
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    with pytest.raises(NotALedger):
        Ledger.open(tmp_path / "a b")
