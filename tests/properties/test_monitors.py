"""Laws of monitors: they agree with their sentences, may be split anywhere, and see in records what they see one by one."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import naive_invariants as naive
import naive_mesh
from hypothesis import event, given, settings
from hypothesis import strategies as st
from recorded import keepable, on_disk

from ledger import events as ev
from ledger.entry import Entry, Observed, Opaque
from ledger.identity import Feed
from ledger.rehearsal import WORDS, Rehearsal, Step
from ledger.testing import History, entries, histories, worlds
from projections.invariants import shipped
from projections.monitor import WITNESSES_MAX, Verdict
from projections.pace import Pace
from projections.watch import Watch
from replay.judging import judge

GRAVE = ("log", "software")
ONE_FEED = {name.upper(): each for name, each in vars(naive).items() if name[:1] in "ab" and name[1:].isdigit()}
ACROSS = {name.upper(): each for name, each in vars(naive_mesh).items() if name[:1] in "ab" and name[1:].isdigit()}
ALSO_THE_FOLD = {"B5", "B8"}
"""Judged by what the fold says as well, which no sentence here tells."""
ROLL = ("joined", "joined", "left", "received", "received", "started", "stopped", "established")
"""What tells who is in, and who knows of it."""
PARTED = ("lost", "failed", "established", "disconnected", "reconnected", "received", "received", "started")
"""What tells who dials whom, and who need not."""
REASONS = ("timeout", "reset", "connection-limit", "left", "not-a-member")
DENSE = (
    "established", "lost", "failed", "answered", "failed ping", "started", "stopped", "stalled", "stepped", "joined", "left",
    "disconnected", "reconnected", "received", "renamed", "resolved", "unresolved", "upgraded", "settings", "unknown",
)  # fmt: skip


def shown(history: History) -> list[Entry]:
    """All entries in display order."""
    return sorted(entries(history), key=lambda entry: (entry.effective_ns, entry.feed, entry.index))


def watched(log: list[Entry]) -> list[Verdict]:
    """All verdicts, entry by entry."""
    watch = Watch(shipped(), Pace.of(log))
    for entry in log:
        watch.step(entry)
    return watch.end()


def long_histories() -> st.SearchStrategy[History]:
    """Histories in which mostly nothing happens but pings, for hours: so that records hold runs."""
    return st.builds(_long, st.integers(0, 2**32), st.booleans(), st.integers(2, 4))


def _long(seed: int, keyed: bool, machines: int) -> History:
    dice = random.Random(seed)
    stage = Rehearsal(("alpha", "bravo", "charlie", "delta")[:machines], 1_767_225_600 * 10**9, keyed=keyed)
    if keyed:
        stage.play([Step(10**9, "admit", 0, other, 0) for other in range(machines - 1)])
    stage.play([Step(10**9, "mesh", 0, 0, 0)])
    words = [dice.choice(WORDS) for _ in range(4)]
    for _ in range(60):
        word = "round" if dice.random() < 0.9 else dice.choice(words)
        stage.play([Step(dice.choice([0, 0, 5_000_000]), word, dice.randrange(8), dice.randrange(8), dice.randrange(1200))])
    return stage.logs


@st.composite
def dense_histories(draw: st.DrawFn, words: tuple[str, ...] = ()) -> History:
    """Two or three feeds in which every entry matters to some deadline, and the times between them lie at its very edge.
    With `words` only those are said, and all machines are in and run before.
    """
    interval, timeout = 60 * 10**9, 15 * 10**9
    edges = [0, interval // 2, interval, interval * 3 // 2, 2 * interval, 2 * interval + timeout, 3 * interval, 4 * interval]
    gap = st.sampled_from([each + off for each in edges for off in (-1, 0, 1) if each + off >= 0] + [0] * 6 + [10**9] * 4)
    names, keyed = ("alpha", "bravo", "charlie")[: draw(st.integers(2, 3))], draw(st.booleans())
    feeds = {name: Feed.of("import:dense", name) for name in names}
    history: History = {feed: [] for feed in feeds.values()}
    joins: dict[str, list[str]] = {name: [] for name in names}
    numbers: dict[tuple[str, str], int] = {}
    now, boots = 1_767_225_600 * 10**9, dict.fromkeys(names, 1)
    before = [(word, place, place, 3, 0) for word in ("joined", "started") for place in range(len(names)) if words]
    words = words or (*draw(st.lists(st.sampled_from(DENSE), min_size=3, unique=True)), "answered")
    for word, place, pick, size, passed in before + draw(
        st.lists(st.tuples(st.sampled_from(words), st.integers(0, 2), st.integers(0, 2), st.integers(0, 9), gap), max_size=45)
    ):
        now += passed
        who, peer = names[place % len(names)], names[pick % len(names)]
        log = history[feeds[who]]
        if word in {"answered", "failed ping"}:
            numbers[who, peer] = numbers.get((who, peer), 0) + (1 if size else 2)
        if word == "started":
            boots[who] += size > 2
        number, link = numbers.get((who, peer), 0), f"{size % 3}"
        made = {
            "established": ev.LinkEstablished(peer, link, "192.0.2.7:22", ("ssh", "ccs")[size == 9], "dialled"),
            "lost": ev.LinkLost(peer, REASONS[size % len(REASONS)], link),
            "failed": ev.LinkFailed(peer, REASONS[size % len(REASONS)]),
            "answered": ev.PingAnswered(peer, number, 900, link, 5, 7, 7 + size // 9, 905),
            "failed ping": ev.PingFailed(peer, number, REASONS[size % len(REASONS)], link if size % 2 else None),
            "started": ev.NodeStarted(boots[who]),
            "stopped": ev.NodeStopped(boots[who]),
            "stalled": ev.NodeStalled(size * 15_000),
            "stepped": ev.ClockStepped(size * 10**9),
            "joined": ev.MachineJoined(peer, ("one.example", "two.example")[size % 2]),
            "left": ev.MachineLeft(peer, tuple(joins[peer][size // 5 :])),
            "disconnected": ev.MachineDisconnected(peer),
            "reconnected": ev.MachineReconnected(peer),
            "received": ev.FeedReceived(feeds[peer].id, len(history[feeds[peer]])),
            "renamed": ev.HostnameChanged("one.example", ("one.example", "two.example")[size % 2]),
            "resolved": ev.NameResolved(("one.example", "two.example")[size % 2]),
            "unresolved": ev.NameFailed(("one.example", "two.example")[size % 2]),
            "upgraded": ev.VersionChanged("1", "2"),
            "settings": ev.SettingsChanged(size, (60_000, 30_000, 120_000)[size % 3], flaps_max=2),
            "unknown": Opaque("link.dreamt", 1, b"{}"),
        }[word]
        log.append(Observed(now, made, boots[who] if keyed else None, now - 10**18 if keyed else None))
        if word == "joined":
            joins[peer].append(feeds[who].at(len(log)))
    return history


@given(
    history=dense_histories()
    | dense_histories()
    | histories()
    | histories(hostile=True)
    | long_histories()
    | worlds().map(lambda world: world.feeds)
)
@settings(max_examples=150)
def test_monitors_of_one_feed_agree_with_their_sentences(history: History) -> None:
    """Same verdicts, as many violations, at the same positions, as the sentences quantified over all entries."""
    agree(history, ONE_FEED)


@given(
    history=dense_histories()
    | dense_histories()
    | dense_histories()
    | histories()
    | worlds(machines_max=3).map(lambda w: w.feeds)
)
@settings(max_examples=100)
def test_monitors_across_feeds_agree_with_their_sentences(history: History) -> None:
    """The same of those that look across feeds."""
    agree(history, ACROSS)


@given(history=dense_histories(ROLL))
@settings(max_examples=100)
def test_who_is_in_agrees_with_its_sentences(history: History) -> None:
    """The same of those about members, where little else happens: acts, word of them, and nodes that come and go."""
    agree(history, {name: ACROSS[name] for name in ("B11", "B13", "B14", "B19")})


@given(history=dense_histories(PARTED))
@settings(max_examples=100)
def test_who_tries_agrees_with_its_sentence(history: History) -> None:
    """The same of whoever is disconnected on purpose and reconnected, as those hear of it who dial."""
    agree(history, {"B10": ACROSS["B10"]})


def agree(history: History, sentences: dict[str, Callable[[naive.Log], naive.Found]]) -> None:
    """Hold the verdicts of all monitors against what their sentences come to."""
    log = shown(history)
    verdicts = {verdict.rule.name: verdict for verdict in watched(log)}
    plain = naive.Log(log)
    for name, sentence in sentences.items():
        found, verdict = sentence(plain), verdicts[name]
        told = [(witness.at_ns, witness.pos) for witness in verdict.witnesses]
        event(f"{name} {verdict.outcome}")
        assert (name, verdict.violations, told) == (name, len(found.wrong), sorted(found.wrong)[:WITNESSES_MAX])
        if name not in ALSO_THE_FOLD:
            assert (name, verdict.outcome) == (name, found.outcome)


@given(history=histories() | worlds().map(lambda world: world.feeds))
def test_log_and_software_hold_in_every_correct_history(history: History) -> None:
    """No plausible history and no world violates an invariant of those classes: such a violation is a fault of ours."""
    wrong = [verdict for verdict in watched(shown(history)) if verdict.outcome == "violated" and verdict.severity in GRAVE]
    assert [(verdict.rule.name, verdict.witnesses[:1]) for verdict in wrong] == []


@given(history=histories(hostile=True))
def test_every_monitor_is_total(history: History) -> None:
    """Any entries in any feeds: a verdict for each invariant, and no exception; the fold's own invariants hold even then."""
    verdicts = watched(shown(history))
    assert len(verdicts) == 40
    fold = {"A8", "A17", "A18", "B2", "B4", "B7", "B12"}
    assert [each for each in verdicts if each.rule.name in fold and each.outcome == "violated"] == []


@given(history=dense_histories() | histories() | histories(hostile=True) | long_histories(), data=st.data())
def test_a_log_may_be_split_anywhere(history: History, data: st.DataObject) -> None:
    """Saved after any entry and resumed by others of their kind, all monitors come to the same verdicts."""
    log = shown(history)
    cut = data.draw(st.integers(0, len(log)))
    first = Watch(shipped(), Pace.of(log))
    for entry in log[:cut]:
        first.step(entry)
    second = Watch(shipped(), Pace.of(log))
    second.resume(first.save())
    for entry in log[cut:]:
        second.step(entry)
    assert second.end() == watched(log)


@given(history=histories(), data=st.data())
def test_feeds_may_come_in_any_order(history: History, data: st.DataObject) -> None:
    """Monitors of one feed do not mind how the feeds are mixed, as long as each comes in its order."""
    log = shown(history)
    own = [monitor.rule.name for monitor in shipped() if not monitor.mesh]
    parts = data.draw(st.permutations(sorted(history)))
    watch = Watch([monitor for monitor in shipped() if not monitor.mesh], Pace.of(log))
    for feed in parts:
        for entry in (each for each in log if each.feed == feed):
            watch.step(entry)
    assert watch.end() == [verdict for verdict in watched(log) if verdict.rule.name in own]


@given(
    history=dense_histories()
    | long_histories()
    | histories()
    | histories(hostile=True)
    | worlds().map(lambda world: world.feeds),
    seals=st.lists(st.integers(1, 300), max_size=8),
)
@settings(max_examples=40)
def test_records_at_once_say_what_entries_say_one_by_one(history: History, seals: list[int]) -> None:
    """A ledger judged by its records, with its pings as runs, gives the verdicts of its entries told one by one."""
    kept: dict[Feed, list] = keepable(history)
    with on_disk(kept, seals) as opened:
        assert judge(opened, shipped()) == watched(shown(kept))


@given(history=histories())
def test_what_is_learned_on_the_way_is_what_was_known(history: History) -> None:
    """A watch that learns settings as they come, as a node's does, judges what comes after as one that knew them all before."""
    log = shown(history)
    told = [entry for entry in log if entry.kind in Pace.KINDS]
    learning = Watch(shipped())
    for entry in log:
        learning.step(entry)
    assert learning.pace == Pace.of(told)
    assert msgspec.msgpack.decode(learning.save())
