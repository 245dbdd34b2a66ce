"""Which entries are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from recorded import observed, recorded
from told import ns, own, told

from ledger import events as ev
from ledger.entry import Entry, Opaque
from ledger.errors import Refused
from ledger.feeds import FeedReader
from replay.cells import parse_cell
from replay.history import History
from replay.select import Selection, select


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """Two feeds, partly sealed: alpha loses and regains bravo, bravo renames itself and is refused by nobody."""
    alpha = own(
        "alpha",
        (1, ev.LinkEstablished("bravo", "1")),
        (60, ev.PingAnswered("bravo", 1, 900, "1")),
        (120, ev.PingFailed("bravo", 2, "timeout", "1")),
        (120, ev.LinkLost("bravo", "timeout", "1")),
        (121, ev.JoinRefused("mallory", "192.0.2.9", "not-a-member")),
        (180, ev.PingAnswered("charlie", 1, 900, "7")),
        (240, Opaque("link.dreamt", 1, b"{}")),
    )
    bravo = own(
        "bravo",
        (1, ev.LinkEstablished("alpha", "1")),
        (60, ev.PingAnswered("alpha", 1, 800, "1")),
        (130, ev.HostnameChanged("bravo.lab.example", "b.lab.example")),
    )
    with History.open(recorded(tmp_path / "one.ledger", observed(alpha + bravo), [4, 7])) as opened:
        yield opened


def found(history: History, selection: Selection | None = None, **how: int | bool) -> list[str]:
    return positions(select(history, selection or Selection(), **how))


def positions(entries: Iterable[Entry]) -> list[str]:
    return [entry.position for entry in entries]


def test_everything_in_display_order(history: History) -> None:
    """By instant, then observer, then index."""
    first = ["alpha#1", "alpha#2", "bravo#1", "bravo#2", "alpha#3", "bravo#3", "alpha#4", "bravo#4", "alpha#5"]
    assert found(history)[:9] == first
    assert found(history, head=3) == first[:3]
    assert found(history, head=3, reverse=True) == first[:3][::-1]
    assert found(history, last=2) == ["alpha#8", "alpha#9"]
    assert found(history, last=2, reverse=True) == ["alpha#9", "alpha#8"]
    assert found(history, reverse=True) == found(history)[::-1]
    assert found(history, last=0) == found(history, head=0) == []


def test_a_machine_is_observer_peer_or_subject(history: History) -> None:
    """What it saw, what was seen of it, and what is about it."""
    assert found(history, Selection(machine="charlie")) == ["alpha#8"]
    assert found(history, Selection(machine="mallory")) == ["alpha#7"]
    assert found(history, Selection(machine="bravo", observer="alpha")) == ["alpha#3", "alpha#4", "alpha#5", "alpha#6"]
    assert "bravo#5" in found(history, Selection(machine="bravo"))


def test_a_link_has_one_direction_and_a_pair_both(history: History) -> None:
    """And a cell that is a machine is that machine."""
    link = Selection(cell=parse_cell("bravo:alpha"))
    assert found(history, link) == ["bravo#3", "bravo#4"]
    assert found(history, Selection(cell=parse_cell("bravo=alpha")), last=3) == ["bravo#4", "alpha#5", "alpha#6"]
    assert found(history, Selection(cell=parse_cell("charlie"))) == ["alpha#8"]


def test_kinds_go_by_their_beginnings(history: History) -> None:
    """One of several suffices; an unknown kind is found by its name too."""
    assert found(history, Selection(kinds=("link",))) == ["alpha#3", "bravo#3", "alpha#6", "alpha#9"]
    assert found(history, Selection(kinds=("link.lost", "hostname"))) == ["alpha#6", "bravo#5"]
    assert found(history, Selection(kinds=("ping.failed",))) == ["alpha#5"]
    assert found(history, Selection(kinds=("none",))) == []


def test_reasons_and_instants(history: History) -> None:
    """A reason picks what failed for it; a range is half-open."""
    assert found(history, Selection(reason="timeout")) == ["alpha#5", "alpha#6"]
    assert found(history, Selection(reason="not-a-member")) == ["alpha#7"]
    assert found(history, Selection(since_ns=ns(60), until_ns=ns(121))) == ["alpha#4", "bravo#4", "alpha#5", "alpha#6"]
    assert found(history, Selection(since_ns=ns(121), until_ns=ns(121))) == []


def test_each_entry_names_its_record(history: History) -> None:
    """As it is read otherwise, whichever way it was found."""
    for selection in (Selection(), Selection(kinds=("link", "machine")), Selection(cell=parse_cell("alpha:bravo"))):
        for entry in select(history, selection):
            assert entry == history.entry(entry.position)


def test_an_observer_without_a_feed_is_refused(history: History) -> None:
    """With the feeds that there are; so are both ends at once."""
    for selection in (Selection(observer="zulu"), Selection(cell=parse_cell("zulu:alpha"))):
        with pytest.raises(Refused, match="zulu") as refused:
            select(history, selection)
        assert "alpha, bravo" in str(refused.value.hint)
    with pytest.raises(Refused):
        select(history, head=1, last=1)


def test_an_end_of_a_long_ledger_opens_no_more_than_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last entries cost what they are, not what stands before them; so do the first ones, and those of a minute."""
    steps = [(60 * minute, ev.PingAnswered("bravo", minute, 900)) for minute in range(3000)]
    opened: list[int] = []
    entries_of = FeedReader.entries_of

    def counting(self: FeedReader, record: object, timeline: object = None) -> list[Entry]:
        opened.append(record.n)
        return entries_of(self, record, timeline)

    monkeypatch.setattr(FeedReader, "entries_of", counting)
    rows = observed([*told("alpha", *steps), *told("bravo", *steps)])
    with History.open(recorded(tmp_path / "one.ledger", rows, range(300, 3001, 300))) as history:
        minute = Selection(since_ns=ns(60 * 1500), until_ns=ns(60 * 1501))
        for how, selection in (({"last": 5}, Selection()), ({"head": 5}, Selection()), ({}, minute), ({"last": 1}, minute)):
            opened.clear()
            assert len(list(select(history, selection, **how))) == how.get("last", how.get("head", 2))
            assert len(opened) == 2  # one of each feed at most, of ten
