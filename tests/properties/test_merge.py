"""Merging is the set union of feeds: any order, grouping and repetition of files gives the same bytes, also of forks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import word
from hypothesis import given, settings
from hypothesis import strategies as st
from scene import MEMORY
from word import Word, feed_of

from ledger import codec
from ledger.entry import Observed
from ledger.identity import Feed
from ledger.store import Branch, Ledger
from ledger.testing import histories
from replay.merge import merge
from replay.union import Union

FEEDS = (feed_of("alpha"), feed_of("alpha", 2), feed_of("bravo"))


@st.composite
def words(draw: st.DrawFn) -> Word:
    """A copy of a feed: mostly the one that all agree on, cut somewhere; now and then another from some entry on."""
    length = draw(st.integers(min_value=1, max_value=8))
    entries = [0] * length
    if draw(st.booleans()):
        since = draw(st.integers(min_value=0, max_value=length))
        entries[since:] = [draw(st.integers(min_value=0, max_value=1))] * (length - since)
    ends = draw(st.sampled_from([(2, 5, 7), (2, 5, 7), (2, 4, 7), (3, 6)]))
    sealed = draw(st.integers(min_value=0, max_value=len(ends)))
    return Word(tuple(entries), tuple(end for end in ends[:sealed] if end <= length))


contents = st.dictionaries(st.sampled_from(FEEDS), words(), max_size=3)


def names(ledger: Ledger) -> dict[Feed, tuple[list[int], list[Word]]]:
    """What a ledger holds, as plain values: what stands, and its branches as whole copies."""
    found = {}
    for feed in ledger.feeds():
        reader = ledger.reader(feed)
        standing = [Observed(e.at_ns, e.event) for e in ledger.read(feed)]
        ends = [record.last for record in reader.records()]
        branches = [_whole(feed, branch, standing, ends) for branch in ledger.branches(feed)]
        found[feed] = (_word(feed, standing, ends), branches)
    return found


def _whole(feed: Feed, branch: Branch, standing: list[Observed], ends: list[int]) -> Word:
    entries, ends = standing[: branch.first - 1], [end for end in ends if end < branch.first]
    for body in branch.records:
        entries = [*entries, *codec.open_record(codec.decode_record(body))]
        ends = [*ends, len(entries)]
    return _word(feed, [*entries, *branch.tail], ends)


def _word(feed: Feed, entries: list[Observed], ends: list[int]) -> Word:
    numbers = [next(n for n in (0, 1) if word.entry(feed, i, n) == e) for i, e in enumerate(entries, 1)]
    return Word(tuple(numbers), tuple(ends))


@given(st.lists(contents, min_size=1, max_size=3))
def test_merge_gives_what_the_slow_union_gives(files: list[Mapping[Feed, Word]]) -> None:
    """What stands, where it forks and which branches are kept is what joining every part with every part gives."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        paths = [word.write(folder / f"{n}.ledger", content) for n, content in enumerate(files)]
        answer = merge(paths, folder / "all.ledger")
        with Ledger.open(folder / "all.ledger") as ledger, Union.open(paths) as union:
            held = names(ledger)
            assert set(held) == {feed for content in files for feed in content} == set(union.feeds())
            for feed, (standing, branches) in held.items():
                sides = word.unite(content[feed] for content in files if feed in content)
                index = word.fork(sides)
                if index is None:
                    assert ({standing}, branches) == (sides, [])
                    assert feed.id not in union.contradicted
                else:
                    assert set(branches) == sides
                    assert len(branches) == len(sides)
                    known = next(iter(sides))
                    ends = [end for end in max((side.ends for side in sides), key=len) if end < index]
                    assert standing == Word(known.entries[: index - 1], tuple(ends))
                    found = union.contradicted[feed.id]
                    assert (found.index, len(found.branches)) == (index, len(branches))
                    assert {c.pos: len(c.branches) for c in answer.conflicts}[feed.at(index)] == len(branches)
                    assert list(found.branches) == [branch.name for branch in ledger.branches(feed)]
                read = [Observed(e.at_ns, e.event) for e in union.reader(feed).entries()]
                assert read == [word.entry(feed, i, n) for i, n in enumerate(standing.entries, 1)]


@settings(max_examples=25)
@given(st.data())
def test_order_grouping_and_repetition_change_no_byte(data: st.DataObject) -> None:
    """Commutative, associative, idempotent: the file of A, B, C is that of any tree of merges over them, byte for byte."""
    files = data.draw(st.lists(contents, min_size=3, max_size=3))
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        a, b, c = (word.write(folder / f"{n}.ledger", content) for n, content in enumerate(files))
        merge([a, b, c], folder / "flat.ledger")
        merge([c, a, c], folder / "left.ledger")
        merge([folder / "left.ledger", b], folder / "grouped.ledger")
        merge([b], folder / "onto.ledger")
        merge([c], folder / "onto.ledger")
        merge([folder / "flat.ledger", a], folder / "onto.ledger")
        expected = (folder / "flat.ledger").read_bytes()
        assert (folder / "grouped.ledger").read_bytes() == expected
        assert (folder / "onto.ledger").read_bytes() == expected
        again = merge([folder / "flat.ledger"], folder / "flat.ledger")
        assert (folder / "flat.ledger").read_bytes() == expected
        assert all(counts.new == 0 for counts in again.feeds.values())


@settings(max_examples=15)
@given(st.data())
def test_parts_of_one_history_merge_to_the_whole(data: st.DataObject) -> None:
    """Files that hold one history cut at different lengths merge, in any order, to the bytes of the whole."""
    history = data.draw(histories(machines_max=3, size_max=20))
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        whole = _record(folder / "whole.ledger", history, {})
        merge([whole], folder / "alone.ledger")
        parts = []
        for n in range(3):
            cuts = {feed: data.draw(st.integers(min_value=0, max_value=len(entries))) for feed, entries in history.items()}
            parts.append(_record(folder / f"{n}.ledger", history, cuts))
        order = data.draw(st.permutations([*parts, whole]))
        answer = merge(order, folder / "all.ledger")
        assert answer.conflicts == []
        assert (folder / "all.ledger").read_bytes() == (folder / "alone.ledger").read_bytes()


def _record(path: Path, history: Mapping[Feed, list[Observed]], cuts: Mapping[Feed, int]) -> Path:
    with Ledger.create(path) as ledger:
        for feed, entries in history.items():
            ledger.append(entries[: cuts.get(feed)], observer=feed)
    return path
