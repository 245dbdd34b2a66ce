"""A selection gives what looking through everything would give, and following a record misses and repeats nothing."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st
from model import Model
from recorded import keepable, on_disk
from scene import MEMORY

from ledger.events import KINDS
from ledger.identity import Feed
from ledger.store import Ledger
from ledger.testing import History, histories
from replay.cells import Cell
from replay.follow import ends, follow, parse_token, token_text
from replay.history import History as Opened
from replay.select import Selection, select

NAMES = st.sampled_from(["alpha", "bravo", "charlie"])
SEALS = st.lists(st.integers(1, 60), max_size=6)
PREFIXES = st.sampled_from(["ping", "ping.failed", "ping.a", "link", "link.lost", "machine.", "weather", "", *sorted(KINDS)])


@st.composite
def selections(draw: st.DrawFn, instants: list[int]) -> Selection:
    a, b = draw(st.lists(NAMES, min_size=2, max_size=2, unique=True))
    cells = [Cell("machine", a), Cell("link", a, b), Cell("pair", min(a, b), max(a, b))]
    edges = st.none() | st.sampled_from(instants).flatmap(lambda at: st.sampled_from([at - 1, at, at + 1]))
    criteria = {
        "machine": NAMES,
        "cell": st.sampled_from(cells),
        "kinds": st.lists(PREFIXES, max_size=2).map(tuple),
        "observer": NAMES,
        "reason": st.sampled_from(["timeout", "reset", "no-route"]),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(criteria)), max_size=2))  # of many at once nothing would be left
    return Selection(since_ns=draw(edges), until_ns=draw(edges), **{name: draw(criteria[name]) for name in chosen})


@given(histories(size_max=25) | histories(size_max=20, hostile=True), SEALS, st.data())
def test_a_selection_is_a_filter(history: History, seals: list[int], data: st.DataObject) -> None:
    """Whatever is asked, from either end and in either direction: what a plain look through all entries finds."""
    history = keepable(history)
    model = Model({feed: [(o.at_ns, o.boot, o.mono_ns, o.event) for o in log] for feed, log in history.items()})
    lines = sorted((line.effective_ns, feed, line.index) for feed, each in model.lines.items() for line in each)
    with on_disk(history, seals) as opened:
        asked = data.draw(selections(model.instants()))
        everything = {(entry.feed, entry.index): entry for feed in opened.feeds for entry in opened.entries(feed)}
        expected = []
        for effective_ns, feed, index in lines:
            entry = everything[feed, index]
            assert entry.effective_ns == effective_ns
            if asked.wants(entry):
                expected.append(entry)
        if not any(asked.reads(feed) for feed in opened.feeds):
            return
        count = data.draw(st.integers(0, 5))
        assert list(select(opened, asked)) == expected
        assert list(select(opened, asked, reverse=True)) == expected[::-1]
        assert list(select(opened, asked, head=count)) == expected[:count]
        assert list(select(opened, asked, head=count, reverse=True)) == expected[:count][::-1]
        assert list(select(opened, asked, last=count)) == expected[len(expected) - min(count, len(expected)) :]
        assert list(select(opened, asked, last=count, reverse=True)) == expected[::-1][:count]


@given(histories(size_max=30), st.data())
def test_following_misses_and_repeats_nothing(history: History, data: st.DataObject) -> None:
    """Entries come in parts, are sealed or not, feeds begin late; each step starts from the token's text and opens anew."""
    history = keepable(history)
    waiting = {feed: list(log) for feed, log in history.items()}
    seen: list[tuple[Feed, int]] = []
    with TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "one.ledger"
        token, known = "", []
        with Ledger.create(path) as ledger:
            while any(waiting.values()):
                feed = data.draw(st.sampled_from(sorted(each for each, log in waiting.items() if log)))
                count = data.draw(st.integers(1, 20))
                ledger.add_feed(feed)
                ledger.append(waiting[feed][:count], observer=feed)
                del waiting[feed][:count]
                if data.draw(st.booleans()):
                    ledger.seal(feed)
                limit = data.draw(st.none() | st.integers(1, 10))
                step = follow(path, parse_token(token, known), limit=limit)
                seen += [(entry.feed, entry.index) for entry in step.entries]
                assert len(step.entries) <= (limit or len(step.entries))
                with Opened.open(path) as opened:
                    known = opened.feeds
                    token = token_text(step.after, known)
                    assert parse_token(token, known) == {each: index for each, index in step.after.items() if index}
        with Opened.open(path) as opened:
            last = follow(opened, parse_token(token, known))
            seen += [(entry.feed, entry.index) for entry in last.entries]
            assert last.after == ends(opened)
            assert follow([path], last.after).entries == []
    assert len(set(seen)) == len(seen)
    for feed, log in history.items():
        assert [index for each, index in seen if each == feed] == list(range(1, len(log) + 1))
