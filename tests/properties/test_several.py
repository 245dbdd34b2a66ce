"""Laws of folding several records at once: the same state as one by one, at whatever borders, and however nasty the feed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import event, given
from hypothesis import strategies as st
from recorded import keepable, on_disk

from ledger import codec, rows
from ledger import events as ev
from ledger.blocks import Context, Group
from ledger.entry import Entry, Observed, Opaque
from ledger.events import PingAnswered, PingFailed
from ledger.gathering import Gathered, gathered
from ledger.identity import Feed
from ledger.testing import histories, worlds
from ledger.unpacking import Pings
from projections.feed_state import FeedState
from projections.projection import fold
from projections.several import Run, grow
from replay.folding import fold_records

FEED = Feed.of("import:x", "alpha")
BEGUN_NS = 10**18
PEERS = ("bravo", "charlie", "delta")
HELD_OF = {peer: digit * 64 for peer, digit in zip(PEERS, "abc", strict=True)}
PINGS = (PingAnswered, PingFailed)

Step = tuple[int, object]
"""Seconds since the step before, and what happened then."""

peers = st.sampled_from(PEERS)
links = st.sampled_from([None, "1", "2"])
feeds = st.sampled_from([None, None, "a" * 64, "b" * 64])
held = st.none() | st.integers(0, 9)
reasons = st.sampled_from(["timeout", "no-route"])
waits = st.sampled_from([0, 1, 60, 60, 149, 150, 151, 400])
oddities = st.one_of(
    st.builds(PingAnswered, peers, st.just(1), st.integers(0, 9), links, feed=feeds, held=held),
    st.builds(PingFailed, peers, st.just(1), reasons, links, feeds, held),
    st.builds(ev.LinkEstablished, peers, links),
    st.builds(ev.LinkLost, peers, reasons, links),
    st.builds(ev.LinkFailed, peers, reasons),
    st.sampled_from(
        [
            ev.NodeStarted(1), ev.NodeStopped(1), ev.SettingsChanged(1, 10_000), ev.SettingsChanged(2, 60_000),
            ev.FeedReceived("a" * 64, 3), ev.NoteAdded("so"), Opaque("link.dreamt", 1, b"{}"),
        ]
    ),
)  # fmt: skip
nasty = st.lists(st.tuples(waits, oddities), min_size=1, max_size=60)


@st.composite
def calm(draw: st.DrawFn) -> list[Step]:
    """A feed as a live machine writes it, to three peers a minute: bursts of failures, flaps, outages, restarts among answers."""
    steps: list[Step] = [(0, ev.NodeStarted(1))] if draw(st.booleans()) else []
    names = dict.fromkeys(PEERS, "1")
    if draw(st.booleans()):
        steps += [(0, ev.LinkEstablished(peer, "1", "192.0.2.1")) for peer in PEERS]
    failing: dict[str, int] = {}
    for minute in range(draw(st.integers(1, 40))):
        for peer in PEERS:
            steps.append((20, _result(peer, names[peer], failing, minute)))
            match draw(st.integers(0, 24)):
                case 0:
                    failing[peer] = draw(st.integers(1, 4))
                case 1:
                    steps.append((0, ev.LinkLost(peer, "timeout", names[peer])))
                    failing[peer] = draw(st.integers(0, 3))
                    names[peer] = ""
                case 2:
                    names[peer] = draw(st.sampled_from(["1", "2", "3"]))
                    steps.append((1, ev.LinkEstablished(peer, names[peer])))
                case 3:
                    steps.append((draw(waits), draw(oddities)))
    return steps


def _result(peer: str, link: str, failing: dict[str, int], minute: int) -> object:
    if not link or failing.get(peer, 0) > 0:
        failing[peer] = failing.get(peer, 0) - 1
        return PingFailed(peer, minute, "timeout" if link else "no-route", link or None, HELD_OF[peer], minute)
    return PingAnswered(peer, minute, 5 + minute, link, feed=HELD_OF[peer], held=minute)


def told(steps: list[Step]) -> list[Entry]:
    """The entries that these steps make."""
    found, at_ns = [], BEGUN_NS
    for index, (wait_s, what) in enumerate(steps, 1):
        at_ns += wait_s * 10**9
        found.append(Entry(FEED, index, at_ns, what, effective_ns=at_ns))  # type: ignore[arg-type]
    return found


class Sealed:
    """Entries as a record holds them, and its directory as it is stored, without a file."""

    contexts: list[Context]

    def __init__(self, entries: list[Entry], contexts: list[Context]) -> None:
        self.entries, self.contexts = entries, contexts
        self.first, self.last = entries[0].index, entries[-1].index
        self.controls = [entry for entry in entries if not isinstance(entry.event, PINGS)]
        self.record = codec.make_record(self.first, [Observed(entry.at_ns, entry.event) for entry in entries])
        self.opened = Pings(self.record.pings, self.first, [entry.index for entry in self.controls])
        for context in self.record.pings.contexts:
            if context not in contexts:
                contexts.append(context)
        if self.record.pings.count:
            numbers = [contexts.index(context) for context in self.record.pings.contexts]
            self.low_ns, directory, _body = rows.encode_body(self.record.pings, numbers, self.opened.groups(), self.first)
            self.directory = rows.decode_directory(directory)

    def __repr__(self) -> str:
        return repr([((entry.at_ns - BEGUN_NS) / 10**9, entry.event) for entry in self.entries])

    def groups(self) -> list[Group]:
        """What its pings amount to, by the definition."""
        if not self.record.pings.count:
            return []
        return rows.decode_groups(self.directory, self.low_ns, self.first, self.contexts.__getitem__)

    def unfold(self, peer: str) -> list[Entry]:
        """The pings to one peer."""
        return [entry for entry in self.entries if isinstance(entry.event, PINGS) and entry.event.peer == peer]


def together(run: list[Sealed]) -> Gathered:
    """What the pings of some records amount to."""
    some = [(each.directory, each.low_ns, each.first) for each in run if each.record.pings.count]
    return gathered(some, lambda numbers: {number: run[0].contexts[number] for number in numbers})


@st.composite
def cut(draw: st.DrawFn) -> list[Sealed]:
    """A feed cut into records anywhere."""
    entries = told(draw(nasty | calm()))
    size = draw(st.sampled_from([1, 2, 7, 20]))
    places = draw(st.sets(st.integers(1, len(entries)), max_size=len(entries) // size))
    contexts: list[Context] = []
    return [Sealed(entries[a:b], contexts) for a, b in pairwise(sorted({0, *places, len(entries)}))]


@given(cut())
def test_what_is_gathered_is_what_each_record_tells(sealed: list[Sealed]) -> None:
    """The groups of several records together are theirs one by one, each peer's in the order in which they begin."""
    columns = together(sealed)
    plain = sorted((group for each in sealed for group in each.groups()), key=lambda group: (group.peer, group.first))
    assert [group for start, end in columns.peers.values() for group in columns.groups(start, end)] == plain
    assert columns.groups(0, len(columns.firsts)) == plain
    assert list(columns.reasons) == [group.reason for group in plain]
    assert list(columns.feeds) == [None if group.held is None else group.feed for group in plain]
    assert [columns.link(place) for place in range(len(plain))] == [group.link for group in plain]
    for each in sealed:
        part = columns.between(each.first, each.last)
        own = sorted(each.groups(), key=lambda group: (group.peer, group.first))
        assert [group for start, end in part.values() for group in columns.groups(start, end)] == own


@given(cut(), st.data())
def test_several_records_at_once_fold_as_one_by_one(sealed: list[Sealed], data: st.DataObject) -> None:
    """Flaps, silences, changed feeds, restarts: whatever runs of records fold together, the state is that of the entries."""
    plain, quick, done = FeedState(FEED), FeedState(FEED), 0
    while done < len(sealed):
        run = sealed[done : done + data.draw(st.integers(1, 17))]
        unfolded: set[int] = set()

        def unfold(peer: str, place: int, run: list[Sealed] = run, unfolded: set[int] = unfolded) -> list[Entry]:
            unfolded.add(place)
            return run[place].unfold(peer)

        before = quick.copy()
        spans = [(each.first, each.last) for each in run]
        controls = [entry for each in run for entry in each.controls]
        took = grow(quick, Run(spans, run[-1].entries[-1].at_ns, together(run), unfold), controls)
        event(f"at once: {took}, pings opened: {bool(unfolded)}")
        for each in run:
            plain = fold(plain, each.entries)
        if not took:
            assert quick == before, "what is refused changes nothing"
            quick = plain.copy()
        assert quick == plain
        done += len(run)


@given(histories() | histories(hostile=True) | worlds(keyed=None).map(lambda world: world.feeds), st.data())
def test_a_file_folds_alike_in_runs_of_any_length(history: dict[Feed, list[Observed]], data: st.DataObject) -> None:
    """From whichever record on and however many at once, also where a clock went back: the state is that of the entries."""
    seals = data.draw(st.sets(st.integers(1, 120), max_size=40))
    length = data.draw(st.integers(1, 17))
    with on_disk(keepable(history), seals) as opened:
        for feed in opened.feeds:
            reader = opened.reader(feed)
            timeline, found = reader.timeline(), list(reader.records())
            plain = [FeedState(feed)]
            for record in found:
                plain.append(fold(plain[-1], reader.entries_of(record, timeline)))
                assert reader.holding(record.first) == reader.holding(record.last) == record
            assert reader.holding(0) is None
            assert reader.holding(reader.head().sealed + 1) is None
            for start, some in ((0, 1), (0, length), (len(found) // 3, length), (0, len(found))):
                grown, done = plain[start].copy(), start
                while done < len(found):
                    run = found[done : done + some]
                    fold_records(grown, reader, run, timeline)
                    done += len(run)
                    assert grown == plain[done]
