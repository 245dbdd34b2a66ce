"""Lines lose nothing: export and import give the same heads and the same bytes, whatever stands in the log."""

from __future__ import annotations

import io
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from scene import MEMORY

from ledger import codec
from ledger.entry import Observed
from ledger.errors import EventRefused
from ledger.events import FeedOpened
from ledger.heads import Head
from ledger.identity import Feed
from ledger.store import Ledger
from ledger.testing import History, events, histories, instants, opaques
from replay.export import export
from replay.jsonl import lines, read_line
from replay.jsonl_import import import_jsonl
from replay.moments import Range
from replay.receipts import Import
from replay.runs import Run
from replay.union import Union

FEED = Feed.of("import:" + "0" * 64, "alpha")
clocks = st.none() | st.integers(min_value=0, max_value=2**60)


def fits(observed: Observed) -> bool:
    """Whether the record takes it: fields within their bounds can still add up to more than an event may take."""
    with suppress(EventRefused):
        codec.check(observed, "here")
        return True
    return False


anything = st.builds(Observed, instants(), events() | opaques(), clocks, clocks).filter(fits)


def write(path: Path, history: History, seals: list[int], portion: int) -> None:
    """Append in portions; after entry `seals[i]` of each keyed feed, seal."""
    with Ledger.create(path, incarnation=next(iter(history)).incarnation) as ledger:
        for feed, entries in history.items():
            for start in range(0, len(entries), portion):
                ledger.append(entries[start : start + portion], observer=feed)
                if feed.ledger_key is not None and any(start < seal <= start + portion for seal in seals):
                    ledger.seal(feed)


def exported(path: Path, selection: Range | None = None) -> bytes:
    stream = io.BytesIO()
    with Union.open([path]) as union:
        export(union, stream, "jsonl", selection or Range())
    return stream.getvalue()


def heads(path: Path) -> dict[Feed, Head]:
    with Ledger.open(path) as ledger:
        return {feed: ledger.head(feed) for feed in ledger.feeds()}


def take(path: Path, data: bytes) -> Import:
    with Ledger.create(path) as ledger:
        return import_jsonl(ledger, io.BytesIO(data), "x.jsonl")


@given(st.lists(anything, max_size=20), st.integers(min_value=1, max_value=2**40), st.none() | st.integers(1, 2**40))
def test_every_entry_is_a_line_and_every_line_that_entry(entries, first, record):
    """What is written of any entry, known or not, is read back as that entry at that place."""
    written = lines(Run(FEED, "alpha", first, record, entries)).encode().splitlines()
    found = [read_line(line) for line in written]
    assert [placed.observed for placed in found] == entries
    assert [(placed.name, placed.index, placed.record) for placed in found] == [
        ("alpha", index, record) for index in range(first, first + len(entries))
    ]


@given(histories(), st.lists(st.integers(1, 60), max_size=3), st.integers(1, 60))
def test_there_and_back_again(history, seals, portion):
    """Export, import, export: the same heads, the same bytes; and a second import finds everything there."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        one, other = Path(folder, "one.ledger"), Path(folder, "other.ledger")
        write(one, history, seals, portion)
        data = exported(one)
        result = take(other, data)
        assert result.refused == []
        assert result.conflicts == []
        assert heads(other) == heads(one)
        assert exported(other) == data
        again = take(other, data)
        assert [(taken.new, taken.there) for taken in again.feeds.values()] == [(0, taken.new) for taken in result.feeds.values()]
        assert heads(other) == heads(one)


@given(histories(), st.lists(st.integers(1, 60), max_size=3), st.integers(1, 60), st.randoms(use_true_random=False))
def test_feeds_may_be_mixed(history, seals, portion, order):
    """However the lines of different feeds stand between each other, as in a log, the same heads and bytes come back."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        one, other = Path(folder, "one.ledger"), Path(folder, "other.ledger")
        write(one, history, seals, portion)
        data = exported(one)
        rows = data.splitlines(keepends=True)
        turns = [read_line(row).name for row in rows]
        lanes = {name: iter([row for row, each in zip(rows, turns, strict=True) if each == name]) for name in turns}
        order.shuffle(turns)
        result = take(other, b"".join(next(lanes[name]) for name in turns))
        assert (result.refused, result.conflicts) == ([], [])
        assert sum(taken.new for taken in result.feeds.values()) == len(rows)
        assert heads(other) == heads(one)
        assert exported(other) == data


@given(st.lists(anything, max_size=30), st.booleans())
def test_a_feed_of_anything(entries, keyed):
    """A feed that opens and then holds any entries in any order goes there and back, keyed or not."""
    feed = Feed.of(FEED.incarnation, "alpha", 1, "ed25519:x" if keyed else None)
    opened = Observed(0, FeedOpened(feed.incarnation, "alpha", 1, feed.ledger_key))
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        one, other = Path(folder, "one.ledger"), Path(folder, "other.ledger")
        write(one, {feed: [opened, *entries]}, [7], 5)
        data = exported(one)
        assert take(other, data).refused == []
        assert heads(other) == heads(one)
        assert exported(other) == data


@given(histories(), st.data())
def test_parts_in_turn_are_the_whole(history, data):
    """Exports of adjoining ranges, imported in their order, give the entries of the whole; a whole export then the heads."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        one, other = Path(folder, "one.ledger"), Path(folder, "other.ledger")
        write(one, history, [], 7)
        walls = sorted({entry.at_ns for entries in history.values() for entry in entries})
        bounds = sorted(data.draw(st.lists(st.sampled_from(walls), max_size=3)))
        for since, until in zip([None, *bounds], [*bounds, None], strict=True):
            result = take(other, exported(one, Range(since, until)))
            assert result.refused == []
            assert result.conflicts == []
        with Ledger.open(one) as whole, Ledger.open(other) as parts:
            assert [(e.position, e.at_ns, e.event) for e in whole.read()] == [
                (e.position, e.at_ns, e.event) for e in parts.read()
            ]
        assert take(other, exported(one)).conflicts == []
        assert heads(other) == heads(one)


@given(histories(), st.data())
def test_damage_costs_no_more_than_it_must(history, data):
    """With lines dropped, doubled, garbled or moved, an import never raises, never invents, and the whole file mends all.

    Not claimed: that a keyed feed's last record is told from one of which the last lines vanished without a trace.
    """
    keyed = any(feed.ledger_key for feed in history)
    words = ["double", "garble"] if keyed else ["double", "garble", "drop", "move"]
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        one, other = Path(folder, "one.ledger"), Path(folder, "other.ledger")
        write(one, history, [], 7)
        whole = exported(one)
        damaged = whole.splitlines(keepends=True)
        for word in data.draw(st.lists(st.sampled_from(words), min_size=1, max_size=4)):
            place = data.draw(st.integers(0, max(0, len(damaged) - 1)))
            if not damaged:
                break
            if word == "drop":
                del damaged[place]
            elif word == "double":
                damaged.insert(place, damaged[place])
            elif word == "garble":
                damaged[place] = damaged[place][: data.draw(st.integers(0, 20))] + b"\xff\n"
            else:
                damaged.insert(data.draw(st.integers(0, len(damaged) - 1)), damaged.pop(place))
        result = take(other, b"".join(damaged))
        assert result.conflicts == []
        with Ledger.open(one) as source, Ledger.open(other) as target:
            for feed in target.feeds():
                assert [e.event for e in target.read(feed)] == [e.event for e in source.read(feed, until=target.head(feed).last)]
        assert take(other, whole).refused == []
        assert heads(other) == heads(one)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_an_entry_or_a_refusal(data):
    """Nothing that stands in a line raises anything but a refusal that says why."""
    with suppress(EventRefused):
        assert read_line(data).index >= 1
