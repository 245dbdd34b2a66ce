"""Merging as a guest meets it: what is counted, what is refused, what becomes of the target when it fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import word
from word import START_NS, Word, feed_of

from ledger.entry import Observed
from ledger.errors import Damaged, Locked, NotALedger, Refused, WrongIncarnation
from ledger.events import NoteAdded
from ledger.identity import Feed
from ledger.store import Ledger
from replay.merge import merge
from replay.union import Union, spelled

ALPHA, AGAIN, BRAVO = feed_of("alpha"), feed_of("alpha", 2), feed_of("bravo")


def test_merge_counts_what_is_new_and_what_was_there(tmp_path: Path) -> None:
    """Entries are new or there by what the target held before, feed by feed."""
    target = word.write(tmp_path / "t.ledger", {ALPHA: Word((0,) * 4, (2,))})
    source = word.write(tmp_path / "s.ledger", {ALPHA: Word((0,) * 9, (2, 5)), BRAVO: Word((0, 0))})
    answer = merge([source], target)
    assert {name: (one.new, one.there, one.conflicting) for name, one in answer.feeds.items()} == {
        "alpha": (5, 4, 0),
        "bravo": (2, 0, 0),
    }
    with Ledger.open(target) as ledger:
        assert ledger.head("alpha").records == 2
        assert ledger.head("alpha").last == 9


def test_merge_leaves_its_sources_untouched(tmp_path: Path) -> None:
    """Sources are read: their bytes, and what lies beside them, are as they were."""
    source = word.write(tmp_path / "s.ledger", {ALPHA: Word((0,) * 3)})
    before = source.read_bytes()
    (tmp_path / "out").mkdir()
    merge([source], tmp_path / "out" / "t.ledger")
    assert source.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["s.ledger"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["t.ledger"]


def test_a_fork_keeps_both_sides_whole(tmp_path: Path) -> None:
    """From the first differing entry on neither side stands, and each is kept from the last common record on."""
    one = word.write(tmp_path / "1.ledger", {ALPHA: Word((0, 0, 0, 0, 0, 0), (2, 6))})
    other = word.write(tmp_path / "2.ledger", {ALPHA: Word((0, 0, 0, 1, 1), (2,))})
    answer = merge([one, other], tmp_path / "t.ledger")
    assert [(conflict.pos, len(conflict.branches)) for conflict in answer.conflicts] == [("alpha#4", 2)]
    assert answer.feeds["alpha"].conflicting == 3 + 2
    with Ledger.open(tmp_path / "t.ledger") as ledger:
        head = ledger.head("alpha")
        assert (head.records, head.sealed, head.last) == (1, 2, 3)
        kept = {branch.name: branch for branch in ledger.branches(ledger.feed("alpha"))}
        assert sorted(kept) == sorted(answer.conflicts[0].branches)
        assert {(branch.first, len(branch.records), len(branch.tail)) for branch in kept.values()} == {(3, 1, 0), (3, 0, 3)}


def test_two_epochs_of_one_machine_stand_side_by_side(tmp_path: Path) -> None:
    """A machine's feeds of two epochs are two feeds; nothing of them is compared."""
    one = word.write(tmp_path / "1.ledger", {ALPHA: Word((0, 0))})
    other = word.write(tmp_path / "2.ledger", {AGAIN: Word((1, 1, 1))})
    answer = merge([one, other], tmp_path / "t.ledger")
    assert {name: counts.new for name, counts in answer.feeds.items()} == {"alpha": 2, "alpha.2": 3}
    assert answer.conflicts == []


def test_feeds_that_share_a_name_are_told_apart_by_their_ids() -> None:
    """Two keys, one machine and epoch: two feeds, spelled with the first digits of their ids."""
    feeds = [Feed.of(word.INCARNATION, "alpha", 1, key) for key in (None, "ed25519:x")] + [BRAVO]
    names = spelled(feeds)
    assert names[BRAVO] == "bravo"
    assert {names[feed] for feed in feeds[:2]} == {f"alpha~{feed.id[:4]}" for feed in feeds[:2]}


def test_two_incarnations_are_refused(tmp_path: Path) -> None:
    """Files of two incarnations do not mix: the error names both and the file, and no target comes to be."""
    one = word.write(tmp_path / "1.ledger", {ALPHA: Word((0, 0))})
    other = tmp_path / "2.ledger"
    with Ledger.create(other, incarnation="another") as ledger:
        ledger.open_feed("alpha", at=START_NS)
    with pytest.raises(WrongIncarnation, match=r"2\.ledger: belongs to incarnation another, .* holds import:words"):
        merge([one, other], tmp_path / "t.ledger")
    with pytest.raises(WrongIncarnation):
        Union.open([one, other])
    assert not (tmp_path / "t.ledger").exists()


def test_a_damaged_source_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    """What fails half way changes no byte of the target, and leaves nothing beside it."""
    target = word.write(tmp_path / "t.ledger", {ALPHA: Word((0, 0))})
    source = word.write(tmp_path / "s.ledger", {ALPHA: Word((0,) * 8, (4, 8)), BRAVO: Word((0, 0))})
    before = target.read_bytes()
    source.write_bytes(source.read_bytes().replace(b"looked", b"lookee"))
    with pytest.raises(Damaged):
        merge([source], target)
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.ledger", "t.ledger"]


def test_signed_heads_and_refused_lines_are_united_too(tmp_path: Path) -> None:
    """What lies beside the feeds is a set as well: each signed head and each refused line once, in one order."""
    paths = []
    for n, lines in enumerate(((1, None), (None, 2, 1))):
        path = word.write(tmp_path / f"{n}.ledger", {ALPHA: Word((0, 0))})
        with Ledger.open(path, write=True) as ledger:
            for line in lines:
                ledger.keep_signature(ALPHA, line or 0, f"note {line}")
                ledger.quarantine("file", line, "why", b"raw")
        paths.append(path)
    for order in (paths, paths[::-1]):
        merge(order, tmp_path / "t.ledger")
        with Ledger.open(tmp_path / "t.ledger") as ledger:
            assert ledger.signatures(ALPHA) == [(0, "note None"), (1, "note 1"), (2, "note 2")]
            assert [line for _source, line, _why, _raw in ledger.quarantined()] == [None, 1, 2]


def test_a_folder_means_its_ledgers(tmp_path: Path) -> None:
    """A folder stands for its `*.ledger`; one without any is refused, and so are no paths at all."""
    word.write(tmp_path / "1.ledger", {ALPHA: Word((0, 0))})
    word.write(tmp_path / "2.ledger", {BRAVO: Word((0, 0))})
    (tmp_path / "empty").mkdir()
    with Union.open([tmp_path, tmp_path / "1.ledger"]) as union:
        assert union.feeds() == [ALPHA, BRAVO]
        assert len(union.ledgers) == 2
    for nothing in ([tmp_path / "empty"], []):
        with pytest.raises(Refused):
            Union.open(nothing)
    with pytest.raises(NotALedger):
        Union.open([tmp_path / "missing"])
    with pytest.raises(Refused):
        merge([tmp_path], tmp_path / "nowhere" / "t.ledger")


def test_a_target_that_is_written_is_not_replaced(tmp_path: Path) -> None:
    """While a node writes the target, a merge into it is refused; its file stays in place."""
    source = word.write(tmp_path / "s.ledger", {ALPHA: Word((0, 0))})
    target = word.write(tmp_path / "t.ledger", {ALPHA: Word((0, 0, 0))})
    with Ledger.open(target, write=True) as ledger:
        with pytest.raises(Locked):
            merge([source], target)
        ledger.append(NoteAdded("still here"), observer=ALPHA, at=START_NS)


def test_what_a_killed_writer_left_is_merged(tmp_path: Path) -> None:
    """Entries that stand in a left-over `-wal` of the target count: nothing acknowledged is lost by the rename."""
    first = word.write(tmp_path / "first.ledger", {ALPHA: Word((0, 0))})
    target = tmp_path / "t.ledger"
    with Ledger.open(first, write=True) as ledger:
        ledger.append(NoteAdded("in the wal"), observer=ALPHA, at=START_NS)
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{first}{suffix}", f"{target}{suffix}")
    merge([word.write(tmp_path / "s.ledger", {BRAVO: Word((0, 0))})], target)
    with Ledger.open(target) as ledger:
        assert [entry.index for entry in ledger.read("alpha")] == [1, 2, 3]
        assert ledger.head("bravo").last == 2
    assert not Path(f"{target}-wal").exists()


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    """Progress grows, and ends where the total is."""
    source = word.write(tmp_path / "s.ledger", {ALPHA: Word((0,) * 8, (2, 5)), BRAVO: Word((0, 0))})
    told: list[tuple[int, int]] = []
    merge([source], tmp_path / "t.ledger", progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (10, 10)


@pytest.mark.parametrize("since", [1, 3, 4, 5, 6, 8, 9])
def test_a_reader_of_a_contradicted_feed_reads_as_if_it_ended_there(tmp_path: Path, since: int) -> None:
    """In memory as in a merged file: head, entries, cuts, kinds and groups are those of the part that stands."""
    one = Word((0,) * 9, (3, 6))
    other = Word((0,) * (since - 1) + (1,) * 3)
    paths = [word.write(tmp_path / f"{n}.ledger", {ALPHA: each}) for n, each in enumerate((one, other))]
    merge(paths, tmp_path / "t.ledger")
    with Union.open(paths) as union, Ledger.open(tmp_path / "t.ledger") as ledger:
        mine, merged = union.reader(ALPHA), ledger.reader(ledger.feed("alpha"))
        assert union.contradicted[ALPHA.id].position == f"alpha#{since}"
        ours, theirs = mine.head(), merged.head()
        assert (ours.records, ours.sealed, ours.last, ours.chain) == (theirs.records, theirs.sealed, theirs.last, theirs.chain)
        assert (ours.peak_ns, ours.frontier, mine.leaves()) == (theirs.peak_ns, theirs.frontier, merged.leaves())
        assert list(mine.entries()) == list(merged.entries())
        assert mine.rare(("feed.opened", "note.added")) == merged.rare(("feed.opened", "note.added"))
        for second in range(11):
            at_ns = START_NS + second * 1_000_000_000
            assert mine.cut(at_ns) == merged.cut(at_ns)
            whole, record = mine.partial(at_ns, mine.timeline())
            assert (whole, record and record.n) == (
                merged.partial(at_ns, merged.timeline())[0],
                None if merged.partial(at_ns, merged.timeline())[1] is None else whole + 1,
            )


def test_the_furthest_copy_is_read(tmp_path: Path) -> None:
    """Of copies that agree the one with the most entries is read, whatever it lacks in records."""
    short = word.write(tmp_path / "1.ledger", {ALPHA: Word((0,) * 6, (3, 6))})
    long = word.write(tmp_path / "2.ledger", {ALPHA: Word((0,) * 8, (3,))})
    with Union.open([short, long]) as union:
        assert union.ledger(ALPHA).path == long
        expected = [word.entry(ALPHA, index, 0) for index in range(1, 9)]
        assert [Observed(e.at_ns, e.event) for e in union.reader(ALPHA).entries()] == expected
        assert not union.contradicted
