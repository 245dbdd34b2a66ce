"""The disk of a played machine: what was written, in its order, and what is left when it is set back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.entry import Entry, Observed
from ledger.events import FeedReceived, NodeStalled, NodeStarted
from ledger.identity import Feed
from ledger.node import signals as sig
from ledger.node.replicas import Held
from ledger.node.virtual_disk import VirtualDisk
from ledger.node.words import Named
from ledger.testing import simulate
from replay.living import remembered

FEEDS = [Feed.of("import:x", name, epoch) for name, epoch in (("alpha", 1), ("alpha", 2), ("bravo", 1), ("charlie", 1))]
WRITES = st.lists(st.tuples(st.sampled_from(FEEDS), st.integers(1, 3), st.booleans()), max_size=12)


def wrote(writes: list[tuple[Feed, int, bool]]) -> tuple[VirtualDisk, list[Entry | Feed]]:
    """A disk to which all of this was written, and it as a list of single entries."""
    disk, known = VirtualDisk("alpha"), list[Entry | Feed]()
    disk.journal.append(FEEDS[0])
    known.append(FEEDS[0])
    for number, (feed, count, begins) in enumerate([(FEEDS[0], 3, False), *writes]):
        if begins:
            disk.journal.append(FEEDS[1])
            known.append(FEEDS[1])
        events = [NodeStarted(number, f"{number}") if count == 2 else FeedReceived(feed.id, each) for each in range(count)]
        known += disk.keep(feed, [Observed(number, event) for event in events])
    return disk, known


@given(WRITES)
def test_a_journal_of_stretches_is_one_of_entries(writes: list[tuple[Feed, int, bool]]) -> None:
    """Whatever was written in whatever order comes back entry by entry, and each feed is a list of its own."""
    disk, known = wrote(writes)
    assert list(disk.written()) == known
    entries = [each for each in known if isinstance(each, Entry)]
    for feed, log in disk.disk.items():
        assert [each.event for each in entries if each.feed == feed] == [each.event for each in log]
    own = [each.event for each in entries if each.feed.machine == "alpha" and isinstance(each.event, NodeStarted)]
    assert disk.ran_before() == (own[-1].software if own else None)


@given(WRITES, st.integers(0, 50), WRITES)
def test_a_disk_that_is_set_back_lacks_the_last_writes(
    writes: list[tuple[Feed, int, bool]], back: int, more: list[tuple[Feed, int, bool]]
) -> None:
    """So many of the last writes are gone, but never those up to the machine's own admission; and it goes on from there."""
    disk, known = wrote(writes)
    disk.roll_back(back)
    kept = known[: max(4, len(known) - back)]
    if isinstance(kept[-1], Feed):  # an epoch begins with its first entry, and that is gone
        kept.pop()
    assert list(disk.written()) == kept
    for feed, count, _begins in more:
        kept += disk.keep(feed, [Observed(9, FeedReceived(feed.id, each)) for each in range(count)])
    assert list(disk.written()) == kept


def test_a_run_is_made_once_for_all_and_anew_for_a_disk_that_was_set_back() -> None:
    """What is given to many is one and the same run; from a disk that was set back and went on otherwise, to the same length,
    what stands there now is given.
    """
    run = simulate(8, views=remembered, machines=2, seconds=600, faults=[])
    alpha = run.nodes["alpha"]
    sent: list = []
    run.world.send = lambda _node, _channel, message: sent.append(message)
    give = sig.Give(7, Named.of(alpha.feed), Held(0, 4))

    def given_now() -> list:
        """What a run after the fourth entry brings, each in its place."""
        alpha.do(give)
        taken = sent[-1].run
        assert [entry.index for entry in taken.entries] == list(range(5, 5 + len(taken.observed)))
        assert all(entry.same(observed) for entry, observed in zip(taken.entries, taken.observed, strict=True))
        return list(taken.observed)

    before = given_now()
    assert before == alpha.disk[alpha.feed][4:]
    assert given_now() == before
    assert sent[-1] is sent[-2]
    alpha.crash()
    alpha.roll_back(9)
    lost = 4 + len(before) - len(alpha.disk[alpha.feed])
    assert lost > 0
    alpha.keep(alpha.feed, [Observed(1, NodeStalled(9))] * lost)
    alpha.start()
    assert given_now() == alpha.disk[alpha.feed][4:] != before
