"""The projections say what the naive model says, at every position's effective instant and one nanosecond around it."""

from hypothesis import example, given, note
from hypothesis import strategies as st
from model import Model, rfc3339

from ledger import events as ev
from ledger.entry import Observed
from ledger.events import NodeStarted
from ledger.identity import Feed, incarnation_id
from ledger.testing import entries, histories
from projections.cluster import Cluster
from projections.feed_state import FeedState
from projections.projection import fold

ROOT = incarnation_id("lab", "ssh", "name", "key-a", "salt")
FOUNDED = (
    (0, ev.FeedOpened(ROOT, "alpha", 1, "key-a")),
    (0, ev.ClusterCreated("lab", ROOT, salt="salt")),
    (0, ev.MachineJoined("alpha", "a.old", ledger_key="key-a", held=2)),
    (1, ev.MachineJoined("bravo", "b.old", ledger_key="key-b")),
)


def told(**feeds):
    """A keyed history by hand: `alpha=(…)`, `bravo=(…)`, or `bravo2` for bravo's second epoch; seconds and events."""
    history = {}
    for name, steps in feeds.items():
        machine, epoch = name.rstrip("2"), 2 if name.endswith("2") else 1
        feed = Feed.of(ROOT, machine, epoch, f"key-{machine[0]}{epoch if epoch > 1 else ''}")
        history[feed] = [Observed(round(at * 10**9), event) for at, event in steps]
    return history


REMOVED = (9, ev.MachineLeft("bravo", ("alpha#4",), 1, "removed"))
SETTINGS_AFTER_REMOVAL = told(
    alpha=(*FOUNDED, REMOVED), bravo=((2, ev.SettingsChanged(5, 120_000)), (3, ev.SettingsChanged(9, 600_000)))
)
COUNTS_OVER_EPOCHS = told(
    alpha=(*FOUNDED, (5, ev.MachineJoined("bravo", "b.new", ledger_key="key-b2"))),
    bravo=((2, ev.PingAnswered("alpha", 1, 900)), (3, ev.PingFailed("alpha", 2)), (4, ev.HostnameChanged("b.old", "b.lost"))),
    bravo2=((6, ev.FeedOpened(ROOT, "bravo", 2, "key-b2", "new-key")), (7, ev.PingAnswered("alpha", 1, 700))),
)

CHARLIE = ev.MachineJoined("charlie", ledger_key="key-c")
FROM_IS_EXCLUSIVE = told(
    alpha=(*FOUNDED, REMOVED, (10, ev.MachineJoined("bravo", ledger_key="key-b", held=2))),
    bravo=((2, ev.FeedOpened(ROOT, "bravo", 1, "key-b")), (3, CHARLIE)),
)
THE_NARROWEST_REMOVAL_HOLDS = told(
    alpha=(*FOUNDED, REMOVED, (10, ev.MachineLeft("bravo", ("alpha#4",), 3, "removed"))),
    bravo=((2, ev.FeedOpened(ROOT, "bravo", 1, "key-b")), (3, CHARLIE)),
)


def model_of(history):
    return Model({feed: [(o.at_ns, o.boot, o.mono_ns, o.event) for o in log] for feed, log in history.items()})


def by_feed(history):
    """What a reader has: each feed's entries in order, with their effective instants."""
    feeds = {feed: [] for feed in history}
    for entry in entries(history):
        feeds[entry.feed].append(entry)
    return feeds


def cluster_at(feeds, now_ns):
    """The cluster at `now_ns`, as a reader of the whole makes it: each feed cut there, and what is known beyond the cut."""
    states, ends, resumed = {}, {}, set()
    for feed, log in feeds.items():
        cut = sum(entry.effective_ns <= now_ns for entry in log)
        states[feed] = fold(FeedState(feed), log[:cut])
        if log:
            ends[feed] = log[-1].effective_ns
        if log[cut:] and isinstance(log[cut].event, NodeStarted):
            resumed.add(feed)
    return Cluster(states, ends, now_ns, resumed)


def answer(cluster):
    """A cluster in the shape of `at`, as far as it is a matter of projections."""
    when = lambda at_ns: None if at_ns is None else rfc3339(at_ns)  # noqa: E731
    last = lambda ping: ping and {"at": rfc3339(ping.at_ns), "outcome": ping.outcome, "rtt_us": ping.rtt_us}  # noqa: E731
    return {
        "at": when(cluster.at_ns),
        "as_seen_by": None,
        "cluster": {
            "name": cluster.name,
            "incarnation": cluster.incarnation,
            "transport": cluster.transport,
            "members": cluster.members,
        },
        "machines": {
            name: {
                "member": m.member, "communicating": m.communicating, "cause": m.cause, "hostname": m.hostname,
                "since": when(m.since_ns), "since_pos": m.since_pos,
            }
            for name, m in cluster.machines.items()
        },
        "links": {
            f"{a}:{b}": {
                "state": link.state, "reason": link.reason, "since": when(link.since_ns), "since_pos": link.since_pos,
                "last_ping": last(link.last_ping), "sent": link.sent, "lost": link.lost,
            }
            for (a, b), link in cluster.links.items()
        },
        "pairs": {f"{a}={b}": state for (a, b), state in cluster.pairs.items()},
        "routes": {f"{a}:{b}": list(r) if isinstance(r, tuple) else r for (a, b), r in cluster.routes.items()},
        "coverage": {
            name: {"until_pos": c.until_pos, "until": when(c.until_ns)} if c is not None and c.covered else None
            for name, c in cluster.coverage.items()
        },
    }  # fmt: skip


def differences(expected, found, path=""):
    """Where two answers differ, as text: what to read first when this fails."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            yield from differences(expected.get(key, "(missing)"), found.get(key, "(missing)"), f"{path}/{key}")
    elif expected != found:
        yield f"{path}: model {expected!r}, projections {found!r}"


def agree(history):
    """Compare at every moment at which anything can change, and one nanosecond before and after."""
    model, feeds = model_of(history), by_feed(history)
    for lines, log in zip(model.lines.values(), (feeds[feed] for feed in sorted(feeds)), strict=True):
        assert [line.effective_ns for line in lines] == [entry.effective_ns for entry in log]
    moments = {at_ns + shift for at_ns in model.instants() for shift in (-1, 0, 1)}
    for now_ns in sorted(moments):
        expected, found = model.at(now_ns), cluster_at(feeds, now_ns)
        differing = list(differences(expected, answer(found)))
        if differing:
            for lines in model.lines.values():
                for line in lines:
                    note(f"{line.pos:14} {rfc3339(line.effective_ns)}  {line.event}")
        assert not differing, f"at {rfc3339(now_ns)}: " + "; ".join(differing)
        moment = model.moment(now_ns)
        assert found.interval_ns == moment.interval_ns
        assert {pair: link.linkless for pair, link in found.links.items()} == {
            pair: moment.linkless(*pair) for pair in found.links
        }


@given(histories(keyed=True))
@example(SETTINGS_AFTER_REMOVAL)
@example(COUNTS_OVER_EPOCHS)
@example(FROM_IS_EXCLUSIVE)
@example(THE_NARROWEST_REMOVAL_HOLDS)
def test_a_keyed_cluster_is_as_the_model_says(history):
    """A cluster under keys, with joins, removals and new epochs, is at every moment what the naive model says."""
    agree(history)


@given(histories(keyed=False))
def test_an_import_is_as_the_model_says(history):
    """Feeds without keys and clocks, each its own root, amount at every moment to what the naive model says."""
    agree(history)


@given(histories(hostile=True, size_max=25))
def test_whatever_stands_in_the_feeds_the_projections_are_as_the_model_says(history):
    """Anything mixed with anything raises nothing, and is at every moment what the naive model says."""
    agree(history)


@given(histories(hostile=True, size_max=25), st.lists(st.tuples(st.integers(0), st.sampled_from([5, 8])), max_size=5))
def test_when_a_deadline_passes_too(history, picks):
    """2.5 and 4 intervals after an entry, when silence and lack of coverage set in, and around, they still agree."""
    model, feeds = model_of(history), by_feed(history)
    instants = model.instants()
    after = [(instants[place % len(instants)], halves) for place, halves in picks]
    after += [(log[-1].effective_ns, 8) for log in feeds.values() if log]
    for at_ns, halves in after:
        for shift in (-1, 0, 1):
            now_ns = at_ns + model.moment(at_ns).interval_ns * halves // 2 + shift
            assert not list(differences(model.at(now_ns), answer(cluster_at(feeds, now_ns))))


@given(histories(hostile=True, size_max=25), st.randoms(use_true_random=False))
def test_the_order_in_which_feeds_are_read_cannot_matter(history, dice):
    """Entries of several feeds interleaved in any way that keeps each feed's order fold to an equal cluster."""
    feeds = by_feed(history)
    waiting = [list(log) for log in feeds.values() if log]
    mixed = []
    while waiting:
        log = dice.choice(waiting)
        mixed.append(log.pop(0))
        waiting = [log for log in waiting if log]
    one, other = fold(Cluster(), entries(history)), fold(Cluster(), mixed)
    assert one == other
    assert answer(one) == answer(other)
