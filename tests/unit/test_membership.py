"""Who is in, and by whose word."""

from __future__ import annotations

from itertools import permutations

import pytest
from told import CREATED, PAPER, imported, keyed, ns, own, told

from ledger import events as ev
from ledger.entry import Entry
from ledger.identity import Feed
from projections.cluster import Cluster
from projections.membership import Membership
from projections.projection import fold

ALPHA, BRAVO, CHARLIE = keyed("alpha", "ed25519:a"), keyed("bravo", "ed25519:b"), keyed("charlie", "ed25519:c")


def join(machine: str, key: str, held: int = 0, **more: object) -> ev.MachineJoined:
    return ev.MachineJoined(machine, ledger_key=f"ed25519:{key}", held=held, **more)


def judged(*feeds: list[Entry]) -> Membership:
    """The membership, the same in whatever order the feeds come."""
    found = [fold(Cluster(), [row for rows in order for row in rows]).membership for order in permutations(feeds)]
    assert all(each == found[0] for each in found)
    return found[0]


FOUNDED = ((0, ev.FeedOpened(ALPHA.incarnation, "alpha", 1, "ed25519:a")), (0, CREATED), (0, join("alpha", "a")))


def test_the_founders_own_join_is_the_root() -> None:
    """The first own join after the creation counts, and says since when and under which name."""
    found = judged(told(ALPHA, *FOUNDED))
    assert found.names == ["alpha"]
    alpha = found.machines["alpha"]
    assert (alpha.since, alpha.since_ns, alpha.joins, alpha.feeds) == ("alpha#3", ns(0), ("alpha#3",), (ALPHA,))
    assert found.created is not None
    assert found.created.name == "lab"


@pytest.mark.parametrize(
    "rows",
    [
        told(ALPHA, (0, join("alpha", "a"))),
        told(ALPHA, (0, join("alpha", "a")), (0, CREATED)),
        told(ALPHA, (0, ev.ClusterCreated("lab", ALPHA.incarnation, salt="other")), (0, join("alpha", "a"))),
        told(keyed("mallory", "ed25519:m"), (0, CREATED), (0, join("mallory", "m"))),
        told(Feed.of(ALPHA.incarnation, "alpha"), (0, CREATED), (0, join("alpha", "a"))),
    ],
    ids=["no creation", "join before it", "another salt", "another key", "no key"],
)
def test_without_a_creation_that_the_incarnation_commits_to_nobody_is_in(rows: list[Entry]) -> None:
    """Who cannot show that it founded this very incarnation is no root."""
    assert judged(rows).machines == {}


def test_members_admit_members() -> None:
    """A join counts if the machine that wrote it was in; so membership spreads along feeds."""
    found = judged(
        told(ALPHA, *FOUNDED, (1, join("bravo", "b"))),
        told(BRAVO, (2, join("charlie", "c", hostname="charlie.lab.example", port=2222))),
    )
    assert found.names == ["alpha", "bravo", "charlie"]
    charlie = found.machines["charlie"]
    assert (charlie.hostname, charlie.port, charlie.ledger_key) == ("charlie.lab.example", 2222, "ed25519:c")


def test_a_chain_of_admissions_may_run_against_the_order_of_names() -> None:
    """Who was admitted by whom is followed to its end, whatever the machines are called."""
    found = judged(
        told(ALPHA, *FOUNDED, (1, join("zulu", "z"))),
        told(keyed("zulu", "ed25519:z"), (2, join("mike", "m"))),
        told(keyed("mike", "ed25519:m"), (3, join("bravo", "b"))),
        told(BRAVO, (4, join("charlie", "c"))),
    )
    assert found.names == ["alpha", "bravo", "charlie", "mike", "zulu"]


def test_of_two_removals_the_one_that_held_less_binds() -> None:
    """Both stand, and what either of them no longer held does not count."""
    left = ev.MachineLeft("bravo", ("alpha#4",), 1), ev.MachineLeft("bravo", ("alpha#4",), 2)
    acts = told(BRAVO, (2, join("charlie", "c")), (3, join("delta", "d")))
    for one, other in (left, left[::-1]):
        found = judged(told(ALPHA, *FOUNDED, (1, join("bravo", "b")), (5, one), (6, other)), acts)
        assert found.names == ["alpha", "charlie"]


def test_a_feed_speaks_for_a_machine_only_with_its_key() -> None:
    """A feed under another key than the join names is nobody's: its acts are as if unwritten."""
    found = judged(told(ALPHA, *FOUNDED, (1, join("bravo", "b"))), told(keyed("bravo", "ed25519:x"), (2, join("charlie", "c"))))
    assert found.names == ["alpha", "bravo"]
    assert found.machines["bravo"].feeds == ()


def test_a_changed_key_carries_a_machine_into_its_next_feed() -> None:
    """key.changed in the old feed names the key of the new one, whose acts count then."""
    found = judged(
        told(ALPHA, *FOUNDED, (1, join("bravo", "b"))),
        told(BRAVO, (2, ev.KeyChanged("ledger", "ed25519:b", "ed25519:b2"))),
        told(keyed("bravo", "ed25519:b2", 2), (3, join("charlie", "c"))),
    )
    assert found.names == ["alpha", "bravo", "charlie"]
    assert found.machines["bravo"].ledger_key == "ed25519:b2"
    assert [feed.epoch for feed in found.machines["bravo"].feeds] == [1, 2]


def test_acts_before_admission_do_not_count() -> None:
    """`from` says how many entries stood before: what they said binds nobody."""
    feeds = told(BRAVO, (0, join("charlie", "c")), (0, join("delta", "d")))
    assert judged(told(ALPHA, *FOUNDED, (1, join("bravo", "b", held=1))), feeds).names == ["alpha", "bravo", "delta"]


def test_a_removal_ends_the_joins_it_names() -> None:
    """The machine is out, with cause, by whom and since which entry; what it wrote up to the entries held still counts."""
    found = judged(
        told(ALPHA, *FOUNDED, (1, join("bravo", "b")), (9, ev.MachineLeft("bravo", ("alpha#4",), 1, "removed", "alpha"))),
        told(BRAVO, (2, join("charlie", "c")), (8, join("delta", "d"))),
    )
    assert found.names == ["alpha", "charlie"]
    bravo = found.machines["bravo"]
    assert (bravo.member, bravo.cause, bravo.by, bravo.since, bravo.joins) == (False, "removed", "alpha", "alpha#5", ())


def test_a_rejoin_is_a_join_that_the_removal_does_not_name() -> None:
    """Removed and admitted again: in, since the second join."""
    found = judged(
        told(
            ALPHA, *FOUNDED, (1, join("bravo", "b")), (2, ev.MachineLeft("bravo", ("alpha#4",), 0, "left")),
            (3, join("bravo", "b", hostname="new.lab.example")),
        )
    )  # fmt: skip
    assert (found.machines["bravo"].member, found.machines["bravo"].since) == (True, "alpha#6")
    assert found.machines["bravo"].hostname == "new.lab.example"


def test_machines_that_remove_each_other_are_both_out() -> None:
    """A removal stands if its writer was ever admitted, ended or not, so that no order decides who was first."""
    found = judged(
        told(ALPHA, *FOUNDED, (1, join("bravo", "b")), (1, join("charlie", "c"))),
        told(BRAVO, (2, ev.MachineLeft("charlie", ("alpha#5",), 0, "removed"))),
        told(CHARLIE, (2, ev.MachineLeft("bravo", ("alpha#4",), 0, "removed"))),
    )
    assert found.names == ["alpha"]


def test_a_stranger_removes_nobody() -> None:
    """A removal whose writer was never admitted does not stand; nor one that names another machine's join, or none."""
    found = judged(
        told(ALPHA, *FOUNDED, (1, join("bravo", "b")), (2, ev.MachineLeft("bravo", ("alpha#3", "alpha#99", "?#"), 0))),
        told(keyed("mallory", "ed25519:m"), (2, ev.MachineLeft("bravo", ("alpha#4",), 0, "removed"))),
    )
    assert found.names == ["alpha", "bravo"]


def test_two_machines_under_one_name_are_twins() -> None:
    """Two standing joins with different keys are a finding that names both."""
    founder = told(ALPHA, *FOUNDED, (1, join("bravo", "b")), (2, join("delta", "e")))
    found = judged(founder, told(BRAVO, (2, join("delta", "d"))))
    delta = found.machines["delta"]
    assert delta.twins
    assert set(delta.joins) == {"alpha#5", "bravo#1"}
    assert not found.machines["bravo"].twins


def test_the_last_leave_dissolves() -> None:
    """No member is left, and the incarnation has ended."""
    found = judged(told(ALPHA, *FOUNDED, (5, ev.MachineLeft("alpha", ("alpha#3",), 4))))
    assert (found.names, found.dissolved) == ([], True)
    assert not judged(told(ALPHA, *FOUNDED)).dissolved
    assert not judged(told(ALPHA, (0, ev.NoteAdded("x")))).dissolved


def test_imports_need_no_keys() -> None:
    """Each feed's own join is a root there, and a position in it is named as anywhere."""
    leave = ev.MachineLeft("bravo", ("bravo#2",), 0, "removed", "alpha")
    found = judged(own("alpha", (5, leave)), own("bravo"), told("charlie", (0, ev.NoteAdded("no join"))))
    assert found.names == ["alpha"]
    assert "charlie" not in found.machines
    assert found.machines["alpha"].feeds == (imported("alpha"),)


def test_a_name_that_two_feeds_share_means_both() -> None:
    """A position without digits ends the joins at it in every feed of that name; with digits only in that feed."""
    other = Feed.of(f"{PAPER}2", "alpha")
    twice = [told(feed, (0, ev.MachineJoined("bravo")), (0, ev.MachineJoined("alpha"))) for feed in (imported("alpha"), other)]
    for position, left in (("alpha#1", False), (f"alpha~{other.id[:8]}#1", True)):
        found = judged(*twice, own("charlie", (5, ev.MachineLeft("bravo", (position,), 0))))
        assert found.machines["bravo"].member is left


def test_the_own_rename_beats_the_name_of_the_join() -> None:
    """The host name is what the machine itself said last, unless it was admitted under another one since."""
    rename = ev.HostnameChanged("b.lab.example", "b2.lab.example")
    joined = (1, join("bravo", "b", hostname="b.lab.example"))
    again = (3, join("bravo", "b", held=1, hostname="b3.lab.example"))
    assert judged(told(ALPHA, *FOUNDED, joined), told(BRAVO, (2, rename))).machines["bravo"].hostname == "b2.lab.example"
    assert judged(told(ALPHA, *FOUNDED, joined, again), told(BRAVO, (2, rename))).machines["bravo"].hostname == "b3.lab.example"


def test_a_rename_in_a_later_epoch_is_later() -> None:
    """Indexes of another epoch are no measure: what a newer feed says comes after the join."""
    joined = (1, join("bravo", "b", held=7, hostname="b.lab.example"))
    moved = told(BRAVO, *[(0, ev.NoteAdded("x"))] * 7, (2, ev.KeyChanged("ledger", "ed25519:b", "ed25519:b2")))
    rename = told(keyed("bravo", "ed25519:b2", 2), (3, ev.HostnameChanged("b.lab.example", "b2.lab.example")))
    assert judged(told(ALPHA, *FOUNDED, joined), moved, rename).machines["bravo"].hostname == "b2.lab.example"


def test_a_disconnection_is_planned_and_no_leave() -> None:
    """The latest word that counts decides; a stranger's does not count."""
    off, on = ev.MachineDisconnected("bravo", "ops"), ev.MachineReconnected("bravo")
    rows = told(ALPHA, *FOUNDED, (1, join("bravo", "b")), (2, off))
    stranger = told(keyed("mallory", "ed25519:m"), (9, on))
    bravo = judged(rows, stranger).machines["bravo"]
    assert (bravo.member, bravo.disconnected, bravo.planned, bravo.planned_ns) == (True, True, "alpha#5", ns(2))
    assert not judged(rows, told(BRAVO, (3, on))).machines["bravo"].disconnected


BRAVO_2 = keyed("bravo", "ed25519:b", 2)


@pytest.mark.parametrize(("epoch", "names"), [(1, ["alpha"]), (2, ["alpha", "charlie", "mallory"]), (None, ["alpha", "mallory"])])
def test_a_removed_machine_lets_nobody_in_by_a_new_epoch(epoch: int | None, names: list[str]) -> None:
    """Bravo admits charlie by its entry 2, and is removed with one entry of a feed held. Then it opens another epoch, and lets
    mallory in by its first entry: that counts only if the removal held so much of that epoch. One that names no epoch (as of old)
    goes by the index alone.
    """
    found = judged(
        told(ALPHA, *FOUNDED, (1, join("bravo", "b")), (9, ev.MachineLeft("bravo", ("alpha#4",), 1, "removed", "alpha", epoch))),
        told(BRAVO, (2, ev.NoteAdded("one")), (3, join("charlie", "c"))),
        told(BRAVO_2, (10, join("mallory", "m"))),
    )
    assert found.names == names


def test_who_leaves_in_a_later_epoch_takes_nobody_along() -> None:
    """Alpha admits bravo by its entry 4, begins epoch 2, and leaves by the second entry there: what it did in epoch 1 stands."""
    left = ev.MachineLeft("alpha", ("alpha#3",), 2, "left", None, 2)
    found = judged(
        told(ALPHA, *FOUNDED, (1, join("bravo", "b"))),
        told(keyed("alpha", "ed25519:a", 2), (5, ev.NoteAdded("one")), (6, left)),
    )
    assert found.names == ["bravo"]


def test_who_joins_anew_acts_from_its_next_epoch_on() -> None:
    """Bravo left with 50 entries held, and joins again: what it does at the beginning of its next epoch counts at once."""
    left = ev.MachineLeft("bravo", ("alpha#4",), 50, "removed", "alpha", 1)
    found = judged(
        told(ALPHA, *FOUNDED, (1, join("bravo", "b")), (4, left), (6, join("bravo", "b", 50, epoch=1))),
        told(BRAVO, *[(2, ev.NoteAdded("one"))] * 50),
        told(BRAVO_2, (7, join("charlie", "c")), (8, ev.HostnameChanged("", "b2.lab.example"))),
    )
    assert found.names == ["alpha", "bravo", "charlie"]
    assert found.machines["bravo"].hostname == "b2.lab.example"
