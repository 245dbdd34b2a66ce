"""The oracle itself, on histories small enough to judge by eye."""

import pytest
from model import Model, effective_instants, rfc3339
from model_record import Conflict, Record

from ledger import events as ev
from ledger.entry import Observed, Opaque
from ledger.identity import IMPORTED, Feed, incarnation_id

SECOND = 10**9
START = 1_767_225_600 * SECOND
IMPORT = f"{IMPORTED}paper"
ROOT = incarnation_id("lab", "ssh", "name", "key-a", "salt")


def feed(name, key=None, epoch=1):
    return Feed.of(IMPORT if key is None else ROOT, name, epoch, key)


def told(*steps):
    """(seconds after the start, event) … as a feed's complete entries."""
    return [(START + round(at * SECOND), None, None, event) for at, event in steps]


def own(name, *steps):
    """An imported feed that joins itself at 0."""
    return {feed(name): told((0, ev.MachineJoined(name)), *steps)}


def mesh(*logs):
    return Model({key: log for each in logs for key, log in each.items()})


def state(model, seconds):
    return model.at(START + round(seconds * SECOND))


def up(peer):
    return ev.LinkEstablished(peer, "1")


def answered(peer, number=1):
    return ev.PingAnswered(peer, number, 1200, "1")


TICK = ev.NoteAdded("tick")


def test_instants_are_printed_with_as_many_decimals_as_needed():
    """None for whole seconds, else up to nine, before 1970 too."""
    assert rfc3339(START) == "2026-01-01T00:00:00Z"
    assert rfc3339(START + 120_000_000) == "2026-01-01T00:00:00.12Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999999Z"


def test_a_step_back_disowns_the_longest_run_before_it():
    """A later step that reaches over an earlier one takes its place; what is no later than it ends the run."""
    note, back = ev.NoteAdded("x"), ev.ClockStepped(-1)
    rows = lambda *pairs: [(at, None, None, event) for at, event in pairs]  # noqa: E731
    assert effective_instants(rows((5, note), (9, note), (8, note), (7, back))) == [5, 7, 7, 7]
    assert effective_instants(rows((5, note), (9, note), (3, note), (7, back))) == [5, 9, 9, 9]
    assert effective_instants(rows((5, note), (9, note), (7, back), (8, note), (2, back))) == [2, 2, 2, 2, 2]
    assert effective_instants(rows((5, note), (3, note), (4, ev.ClockStepped(1)))) == [5, 5, 5]


def test_a_link_is_unknown_until_there_is_evidence_and_again_after_silence():
    """Unknown, up since the first answer, unknown 2.5 intervals after the last, up anew: while the feed goes on."""
    log = [(0, TICK), (60, answered("bravo")), (120, answered("bravo")), (400, TICK), (460, answered("bravo"))]
    model = mesh(own("alpha", *log), own("bravo"))
    link = lambda seconds: tuple(state(model, seconds)["links"]["alpha:bravo"][k] for k in ("state", "since", "since_pos"))  # noqa: E731
    assert link(59) == ("unknown", None, None)
    assert link(60) == ("up", "2026-01-01T00:01:00Z", "alpha#3")
    assert link(269.999999999) == ("up", "2026-01-01T00:01:00Z", "alpha#3")
    assert link(270) == ("unknown", "2026-01-01T00:04:30Z", "alpha#4")
    assert link(460) == ("up", "2026-01-01T00:07:40Z", "alpha#6")


def test_at_the_end_of_the_feed_the_last_state_stands():
    """Silence counts only while the feed goes on: after its last entry an up link stays up, as long as the feed covers."""
    model = mesh(own("alpha", (60, answered("bravo"))), own("bravo", (60, answered("alpha"))))
    assert state(model, 300)["pairs"] == {"alpha=bravo": "up"}
    assert state(model, 300.000000001)["pairs"] == {"alpha=bravo": "uncovered"}
    assert state(model, 300.000000001)["links"]["alpha:bravo"]["state"] == "up"


def test_down_stays_down_and_keeps_its_first_reason():
    """A second failure, a failed ping and silence change nothing of a link that is down; its counts go on."""
    lost, failed = ev.LinkLost("bravo", "reset", "1"), ev.LinkFailed("bravo", "refused")
    model = mesh(
        own("alpha", (1, up("bravo")), (2, lost), (3, failed), (4, ev.PingFailed("bravo", 1)), (900, TICK)), own("bravo")
    )
    link = state(model, 900)["links"]["alpha:bravo"]
    assert (link["state"], link["reason"], link["since_pos"], link["sent"], link["lost"]) == ("down", "reset", "alpha#3", 1, 1)
    assert link["last_ping"] == {"at": "2026-01-01T00:00:04Z", "outcome": "timeout", "rtt_us": None}


def test_a_start_forgets_all_links():
    """After `node.started` links are unknown since then; a peer of which nothing was ever said is unknown since never."""
    model = mesh(own("alpha", (1, up("bravo")), (2, ev.NodeStarted(2))), own("bravo"), own("charlie"))
    links = state(model, 3)["links"]
    assert (links["alpha:bravo"]["state"], links["alpha:bravo"]["since_pos"]) == ("unknown", "alpha#3")
    assert (links["alpha:charlie"]["state"], links["alpha:charlie"]["since_pos"]) == ("unknown", None)


@pytest.mark.parametrize(
    ("log", "covered", "uncovered"),
    [
        ([(10, ev.NodeStopped(1)), (70, ev.NodeStarted(2))], [0, 9.9, 70, 310], [-1, 10, 69.9, 310.1]),
        ([(10, TICK), (400, ev.NodeStarted(2))], [10, 159.9, 400], [160, 399.9]),
        ([(10, TICK), (100, ev.NodeStarted(2))], [10, 60, 99.9, 100], [341]),
        ([(10, Opaque("new.kind", 1, b"")), (20, Opaque("new.kind", 1, b"")), (30, TICK)], [9, 30], [10, 20, 29.9]),
    ],
    ids=["stopped", "crashed", "crashed for a moment", "unknown kind"],
)
def test_a_feed_does_not_cover_what_it_cannot_know(log, covered, uncovered):
    """Not before its first entry, not while stopped, not long after a crash, not across unknown kinds, not for ever."""
    model = mesh(own("alpha", *log))
    assert all(state(model, at)["coverage"].get("alpha") for at in covered)
    assert not any(state(model, at)["coverage"].get("alpha") for at in uncovered)


def test_pairs_and_routes():
    """A machine whose pair is down or asymmetric is reached over the first of the others; with all down, not at all."""
    names = ("alpha", "bravo", "charlie", "delta")
    logs = [own(name, *((1, up(peer)) for peer in names if peer != name), (60, TICK)) for name in names]
    logs[0][feed("alpha")] += told((61, ev.LinkLost("delta", "timeout")))
    found = state(mesh(*logs), 61)
    assert found["pairs"]["alpha=delta"] == "asymmetric"
    assert found["pairs"]["alpha=bravo"] == "up"
    assert found["routes"]["alpha:delta"] == ["alpha", "bravo", "delta"]
    logs[3][feed("delta")] += told(*((61, ev.LinkLost(peer, "timeout")) for peer in ("alpha", "bravo", "charlie")))
    found = state(mesh(*logs), 61)
    assert found["pairs"]["alpha=delta"] == "down"
    assert found["routes"]["alpha:delta"] is None
    assert found["machines"]["delta"]["communicating"] is True  # bravo still believes in its link
    assert state(mesh(*logs[:2]), 61)["routes"] == {"alpha:bravo": ["alpha", "bravo"], "bravo:alpha": ["bravo", "alpha"]}


FOUNDER = feed("alpha", "key-a")
FOUNDED = [
    (0, ev.FeedOpened(ROOT, "alpha", 1, "key-a")), (0, ev.ClusterCreated("lab", ROOT, salt="salt")),
    (0, ev.MachineJoined("alpha", ledger_key="key-a", held=2)), (1, ev.MachineJoined("bravo", ledger_key="key-b")),
]  # fmt: skip


def members(feeds, at=1000):
    return state(Model({key: told(*log) for key, log in feeds.items()}), at)["cluster"]["members"]


def test_membership_comes_from_the_root():
    """The founder's joins count, and those of whom it admitted; a stranger's do not, nor those under another key."""
    join = ev.MachineJoined("charlie", ledger_key="key-c")
    assert members({FOUNDER: FOUNDED}) == ["alpha", "bravo"]
    assert members({FOUNDER: FOUNDED, feed("bravo", "key-b"): [(2, join)]}) == ["alpha", "bravo", "charlie"]
    assert members({FOUNDER: FOUNDED, feed("bravo", "key-x"): [(2, join)]}) == ["alpha", "bravo"]
    assert members({FOUNDER: FOUNDED, feed("charlie", "key-c"): [(2, join)]}) == ["alpha", "bravo"]
    assert members({feed("mallory", "key-m"): [(0, ev.ClusterCreated("lab", ROOT, salt="salt")), (0, join)]}) == []


def test_what_a_removed_machine_wrote_later_does_not_count():
    """Acts up to the entries held at the removal count, later ones do not; its own removals stand all the same."""
    admit = [(2, ev.NoteAdded("x")), (3, ev.MachineJoined("charlie", ledger_key="key-c"))]
    gone = lambda held: [*FOUNDED, (9, ev.MachineLeft("bravo", ("alpha#4",), held, "removed"))]  # noqa: E731
    assert members({FOUNDER: gone(2), feed("bravo", "key-b"): admit}) == ["alpha", "charlie"]
    assert members({FOUNDER: gone(1), feed("bravo", "key-b"): admit}) == ["alpha"]
    back = [*admit, (4, ev.MachineLeft("alpha", ("alpha#3",), 99, "removed"))]
    assert members({FOUNDER: gone(2), feed("bravo", "key-b"): back}) == ["charlie"]


def test_a_removal_ends_the_joins_it_names_and_no_other():
    """A machine that was admitted anew stays in when the removal of its older join arrives."""
    again = [*FOUNDED, (5, ev.MachineJoined("bravo", ledger_key="key-b", held=7))]
    assert members({FOUNDER: [*again, (9, ev.MachineLeft("bravo", ("alpha#4",)))]}) == ["alpha", "bravo"]
    assert members({FOUNDER: [*again, (9, ev.MachineLeft("bravo", ("alpha#4", "alpha#5")))]}) == ["alpha"]
    assert members({FOUNDER: [*again, (9, ev.MachineLeft("alpha", ("alpha#4", "alpha#5")))]}) == ["alpha", "bravo"]


def test_a_host_name_is_the_newest_joins_or_what_it_was_renamed_to_since():
    """A rename that the newest join already knew, by index or by epoch, does not override the name that join gives."""
    first = [(2, ev.FeedOpened(ROOT, "bravo", 1, "key-b")), (3, ev.HostnameChanged("b.old", "b.renamed"))]
    again = lambda key, held: (5, ev.MachineJoined("bravo", "b.new", ledger_key=key, held=held))  # noqa: E731
    name = lambda *joins: state(  # noqa: E731
        Model({FOUNDER: told(*FOUNDED, *joins), feed("bravo", "key-b"): told(*first)}), 9
    )["machines"]["bravo"]["hostname"]
    assert name() == "b.renamed"
    assert name(again("key-b", 1)) == "b.renamed"
    assert name(again("key-b", 2)) == "b.new"
    assert name(again("key-b2", 0)) == "b.new"


def test_settings_that_do_not_count_do_not_hide_those_that_do():
    """The highest generation that counts is in force, though its feed holds a higher one from after its removal."""
    slow, slower = ev.SettingsChanged(5, 120_000), ev.SettingsChanged(9, 600_000)
    gone = [*FOUNDED, (9, ev.MachineLeft("bravo", ("alpha#4",), 1, "removed"))]
    model = Model({FOUNDER: told(*gone), feed("bravo", "key-b"): told((2, slow), (3, slower))})
    assert model.moment(START + 8 * SECOND).interval_ns == 600 * SECOND
    assert model.moment(START + 9 * SECOND).interval_ns == 120 * SECOND


def test_counts_of_a_pair_run_over_all_epochs():
    """Sent and lost belong to the two machines, not to a feed: a new key does not set them back."""
    logs = own("alpha", (60, answered("bravo")), (120, ev.PingFailed("bravo", 2)))
    logs[feed("alpha", epoch=2)] = told((130, ev.FeedOpened(IMPORT, "alpha", 2)), (180, answered("bravo", 3)))
    link = state(mesh(logs, own("bravo")), 180)["links"]["alpha:bravo"]
    assert (link["sent"], link["lost"], link["state"], link["since_pos"]) == (3, 1, "up", "alpha.2#2")


def test_planned_is_the_last_word_on_a_disconnection():
    """A disconnected machine's pairs are planned until it is reconnected, by whichever member's word came last."""
    off, on = ev.MachineDisconnected("bravo"), ev.MachineReconnected("bravo")
    model = mesh(own("alpha", (5, off)), own("bravo", (7, on)))
    assert [state(model, at)["pairs"]["alpha=bravo"] for at in (4, 5, 6, 7)] == ["unknown", "planned", "planned", "unknown"]


# ---- the record ---------------------------------------------------------------------------------------------------------

HERE = feed("alpha")


def seen(text):
    return Observed(START, ev.NoteAdded(text))


def test_a_record_is_dense_and_refuses_what_it_did_not_expect():
    """Appending counts on from the end; an expectation that the feed has passed is a conflict, and nothing is written."""
    record = Record()
    assert record.append(HERE, [seen("a"), seen("b")]) == 2
    assert record.append(HERE, [seen("c")], expect=2) == 3
    with pytest.raises(Conflict) as refused:
        record.append(HERE, [seen("d")], expect=2)
    assert (refused.value.expected, refused.value.last) == (2, 3)
    assert record.read(HERE, after=1) == [(2, seen("b")), (3, seen("c"))]


def test_the_same_entries_again_give_the_first_receipt():
    """Repeating an append with what it expected then writes nothing and answers as before."""
    record = Record()
    assert record.append(HERE, [seen("a")], expect=0) == 1
    assert record.append(HERE, [seen("b")], expect=1) == 2
    assert record.append(HERE, [seen("a")], expect=0) == 1
    assert record.last(HERE) == 2


def test_other_bytes_at_a_taken_place_are_a_fork():
    """Neither branch stands from the first place that differs; both are kept; the same fork again is no news."""
    record = Record()
    record.append(HERE, [seen("a"), seen("b"), seen("c")])
    assert record.ingest(HERE, 1, [seen("a"), seen("b")]) == (0, 2, 0)
    assert record.ingest(HERE, 3, [seen("c"), seen("d")]) == (1, 1, 0)
    for _ in range(2):
        assert record.ingest(HERE, 1, [seen("a"), seen("x"), seen("c")]) == (0, 1, 2)
    assert record.forks[HERE] == [(2, [seen("x"), seen("c")])]
    assert record.read(HERE) == [(1, seen("a"))]
    with pytest.raises(Conflict):
        record.ingest(HERE, 9, [seen("z")])
