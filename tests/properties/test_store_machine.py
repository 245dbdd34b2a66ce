"""Each step on the store and on the naive record: whatever was done in whatever order, both say the same.

The model is a list per feed (`model_record.Record`); effective instants and cuts come from their definition in
`ledger.instants`. Feeds with and without keys stand in one file, so that records end in both ways; the writer closes and
opens again, readers come and go, the file is checkpointed, copied and vacuumed, and no answer may change.
"""

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model_record import Record
from scene import INCARNATION, MEMORY, START_NS, answered, failed, feed_of, lost, note, observed, opening

from ledger import codec, merkle
from ledger.entry import Observed, Opaque
from ledger.errors import Conflict, EventRefused
from ledger.events import ClockStepped, MachineJoined, NodeStarted, NoteAdded
from ledger.instants import effective_instants, may_disown
from ledger.node.words import digest
from ledger.store import Ledger

FEEDS = (feed_of("alpha"), feed_of("alpha", 2, keyed=True), feed_of("bravo", keyed=True))
feeds = st.sampled_from(FEEDS)
steps = st.sampled_from([0, 1, 10**9, 60 * 10**9, -(10**9), -1])


def _controls(at):
    return st.sampled_from(
        [note("x", at), lost(at_ns=at), Observed(at, MachineJoined("charlie"), 1, 5), Observed(at, ClockStepped(-5)),
         Observed(at, NodeStarted(2), 2), Observed(at, Opaque("weather.changed", 1, b"\xff")),
         Observed(at, NoteAdded("é" * 2000))]
    )  # fmt: skip


@st.composite
def batches(draw):
    """A few runs of pings, long or short, and control events between them; the clock goes on, stands or is set back."""
    at, made = START_NS + draw(st.integers(0, 20)) * 10**9, []
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            made.append(draw(_controls(at)))
        step, count = draw(steps), draw(st.sampled_from([0, 1, 3, 40, 700]))
        kind, peers = draw(st.sampled_from([answered, failed])), draw(st.sampled_from([1, 3, 200]))
        held = draw(st.sampled_from([None, 7]))
        made += [kind(n, at + n * step, f"p{n % peers}", held=held) for n in range(count)]
        at += draw(steps) + count * step
    return made or [note("nothing else", at)]


class StoreMachine(RuleBasedStateMachine):
    """The store beside the model."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.path = Path(self.folder.name) / "a.ledger"
        self.model = Record()
        self.ledger = Ledger.create(self.path, incarnation=INCARNATION)
        self.reader = Ledger.open(self.path)
        self.followed = {feed: [] for feed in FEEDS}
        self.roots = {}

    def teardown(self):
        self.reader.close()
        self.ledger.close()
        assert [each.name for each in self.path.parent.iterdir()] == ["a.ledger"]
        self.folder.cleanup()

    @initialize()
    def begin(self):
        for feed in FEEDS:
            self._append(feed, [opening(feed)], 0)

    def _append(self, feed, batch, expect=None):
        wanted = self.model.append(feed, batch, expect)
        receipt = self.ledger.append(batch, observer=feed, expect=expect)
        assert (receipt.first, receipt.last) == (wanted - len(batch) + 1, wanted)

    # What a writer does.

    @rule(feed=feeds, batch=batches())
    def append(self, feed, batch):
        self._append(feed, batch)

    @rule(feed=feeds, batch=batches())
    def append_where_it_belongs(self, feed, batch):
        self._append(feed, batch, self.model.last(feed))

    @rule(feed=feeds, batch=batches(), count=st.integers(1, 40))
    def append_one_by_one(self, feed, batch, count):
        for each in batch[:count]:
            self._append(feed, [each])

    @rule(feed=feeds, back=st.integers(1, 1500), count=st.integers(1, 1500))
    def append_again(self, feed, back, count):
        log = self.model.feeds[feed]
        start = max(0, len(log) - back)
        self._append(feed, log[start : start + count], start)

    @rule(feed=feeds, batch=batches(), off=st.integers(-2000, 2000).filter(bool))
    def append_where_it_does_not_belong(self, feed, batch, off):
        expect = self.model.last(feed) + off
        if self.model.feeds[feed][max(expect, 0) : max(expect, 0) + len(batch)] == batch:
            return
        with pytest.raises(Conflict) as refused:
            self.ledger.append(batch, observer=feed, expect=expect)
        assert (refused.value.expected, refused.value.last) == (expect, self.model.last(feed))

    @rule(feed=feeds, batch=batches(), at=st.integers(0, 800))
    def append_something_bad(self, feed, batch, at):
        spoiled = [*batch[:at], answered(-1), *batch[at:]]
        with pytest.raises(EventRefused):
            self.ledger.append(spoiled, observer=feed)

    @rule(one=feeds, other=feeds, batch=batches(), fails=st.booleans())
    def append_to_two_feeds_or_none(self, one, other, batch, fails):
        try:
            with self.ledger.transaction():
                self.ledger.append(batch, observer=one)
                self.ledger.append(batch[:3], observer=other)
                if fails:
                    os_error()
        except InterruptedError:
            return
        self.model.append(one, batch)
        self.model.append(other, batch[:3])

    @rule(feed=feeds.filter(lambda feed: feed.ledger_key is not None))
    def seal(self, feed):
        head = self.ledger.head(feed)
        assert self.ledger.seal(feed) == (head.sealed < head.last)
        assert self.ledger.head(feed).sealed == self.ledger.head(feed).last

    @rule()
    def reopen(self):
        self.ledger.close()
        self.ledger = Ledger.open(self.path, write=True)

    @rule()
    def another_reader(self):
        self.reader.close()
        self.reader = Ledger.open(self.path)

    # What happens to files.

    @rule(mode=st.sampled_from(["passive", "full", "restart", "truncate"]))
    def checkpoint(self, mode):
        self.ledger._connection.execute(f"pragma wal_checkpoint({mode})").fetchall()

    @rule()
    def vacuum_a_copy(self):
        copy = Path(self.folder.name) / "copy.ledger"
        self.ledger._connection.execute(f"vacuum into '{copy}'")
        for stock in ("vacuum", "reindex", "analyze"):
            db = sqlite3.connect(copy, isolation_level=None)
            db.execute(stock)
            db.close()
        with Ledger.open(copy) as other:
            for feed in FEEDS:
                assert other.head(feed) == self.ledger.head(feed)
                assert list(other.read(feed)) == list(self.ledger.read(feed))
        with Ledger.open(copy, write=True) as other:
            other.append(note("goes on"), observer=FEEDS[0], expect=self.model.last(FEEDS[0]))
        copy.unlink()

    # What a reader asks.

    @rule(feed=feeds, data=st.data())
    def read_a_stretch(self, feed, data):
        log = self.model.feeds[feed]
        after = data.draw(st.integers(0, len(log)))
        until = data.draw(st.none() | st.integers(0, len(log) + 2))
        found = list(self.reader.read(feed, after=after, until=until))
        wanted = self.model.read(feed, after)
        assert [(entry.index, each) for entry, each in zip(found, observed(found), strict=True)] == [
            (index, each) for index, each in wanted if until is None or index <= until
        ]

    @rule(feed=feeds)
    def follow(self, feed):
        self.followed[feed] += self.reader.read(feed, after=len(self.followed[feed]))
        assert observed(self.followed[feed]) == self.model.feeds[feed]

    @rule(feed=feeds, data=st.data())
    def cut(self, feed, data):
        reader = self.reader.reader(self.reader.feed(feed))
        log = self.model.feeds[feed]
        instants = effective_instants(
            [each.at_ns for each in log], [n for n, each in enumerate(log, 1) if may_disown(each.event)]
        )
        some = data.draw(st.lists(st.sampled_from(instants), min_size=1, max_size=4))
        for at_ns in {each + by for each in {*some, instants[0], instants[-1]} for by in (-1, 0, 1)}:
            assert reader.cut(at_ns) == sum(each <= at_ns for each in instants)

    @rule(feed=feeds)
    def effective(self, feed):
        log = self.model.feeds[feed]
        wanted = effective_instants([each.at_ns for each in log], [n for n, each in enumerate(log, 1) if may_disown(each.event)])
        assert [entry.effective_ns for entry in self.reader.read(feed)] == wanted

    @rule(feed=feeds)
    def records(self, feed):
        reader, log = self.reader.reader(self.reader.feed(feed)), self.model.feeds[feed]
        leaves = []
        for record in reader.records():
            canonical = codec.make_record(record.first, log[record.first - 1 : record.last])
            assert reader.canonical(record) == canonical
            leaves.append(codec.leaf_of(canonical))
            assert record.pings == canonical.pings.count
            assert record.lost == sum(each.event.kind == "ping.failed" for each in log[record.first - 1 : record.last])
        assert reader.leaves() == leaves
        before = self.roots.get(feed, [])
        assert leaves[: len(before)] == before  # a tree only grows
        self.roots[feed] = leaves
        if feed.ledger_key is None:
            assert len(leaves) == len(log) // 1000
        assert merkle.root(leaves) == merkle.Frontier(len(leaves), _split(reader.head().frontier)).root()

    @rule(
        feed=feeds,
        kinds=st.sampled_from([("clock.stepped", "node.started"), ("note.added",), ("machine.joined", "feed.opened")]),
    )
    def rare(self, feed, kinds):
        found = self.reader.reader(self.reader.feed(feed)).rare(kinds)
        assert [(entry.index, entry.kind) for entry in found] == [
            (index, each.event.kind) for index, each in self.model.read(feed) if each.event.kind in kinds
        ]

    @invariant()
    def heads(self):
        """The writer and every reader see the same heads, which end where the model ends."""
        if not self.model.feeds:
            return
        assert self.reader.feeds() == self.ledger.feeds() == sorted(FEEDS)
        for feed in FEEDS:
            head = self.reader.head(feed)
            assert head == self.ledger.head(feed)
            assert head.last == self.model.last(feed)
            assert head.sealed <= head.last

    @invariant()
    def memory(self):
        """What the writer has in memory of a feed, which its readers are given, is what the rows say."""
        for feed in self.model.feeds and FEEDS:
            reader = self.ledger.reader(feed)
            remembered, read = reader.open_stored(), reader.open_rows()
            assert remembered == read
            assert digest(remembered[1]).digest() == digest(read[1]).digest()


def os_error():
    """Something goes wrong in the caller."""
    raise InterruptedError


def _split(frontier):
    return [frontier[at : at + 32] for at in range(0, len(frontier), 32)]


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=max(30, settings().max_examples // 4), stateful_step_count=25, deadline=None)
