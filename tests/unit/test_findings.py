"""The seed system's rules over histories told by hand: what breaks each, what does not, and the entries that are cited."""

from __future__ import annotations

from pathlib import Path

from recorded import observed, recorded
from told import ns, own
from told import told as by_hand

from ledger import events as ev
from ledger.entry import Entry
from ledger.identity import Feed, incarnation_id
from projections.findings import RULES, Finding, lint
from replay.findings import findings
from replay.history import History


def told(*feeds: list[Entry], end: float = 3600) -> list[Finding]:
    rows = sorted((row for feed in feeds for row in feed), key=lambda row: (row.effective_ns, row.feed, row.index))
    return lint(rows, {row.observer: ns(end) for row in rows})


def only(*feeds: list[Entry], end: float = 3600) -> Finding:
    found = told(*feeds, end=end)
    assert len(found) == 1, found
    return found[0]


def found_name(name: str, *answers: str) -> ev.NameResolved:
    return ev.NameResolved(name, answers=answers or ("192.0.2.13",))


RENAMED = ev.HostnameChanged("charlie.lab.example", "c3.lab.example")
UPGRADED = ev.VersionChanged("1.0", "1.1")


def by_address(addressing: str, *looked_up: tuple[float, ev.Event]) -> list[Finding]:
    """What is found of alpha at 192.0.2.1, which founded a cluster, and bravo, which looks addresses up."""
    a, b = "ed25519:a", "ed25519:b"
    root = incarnation_id("lab", "ssh", addressing, a, "salt")
    made = ev.FeedOpened(root, "alpha", 1, a), ev.ClusterCreated("lab", root, "ssh", addressing, "salt")
    joins = (
        ev.MachineJoined(name, address, ledger_key=key, addressing=addressing)
        for name, address, key in (("alpha", "192.0.2.1", a), ("bravo", "192.0.2.2", b))
    )
    alpha = by_hand(Feed.of(root, "alpha", 1, a), *((0, event) for event in (*made, *joins)))
    return told(alpha, by_hand(Feed.of(root, "bravo", 1, b), (1, ev.FeedOpened(root, "bravo", 1, b)), *looked_up))


def test_a_rename_that_nobody_finds_before_the_upgrade() -> None:
    """Renamed, looked up in vain, upgraded: three entries cited, in that order."""
    charlie = own("charlie", (10, RENAMED), (30, UPGRADED), hostname="charlie.lab.example")
    found = only(charlie, own("alpha", (20, ev.NameFailed("c3.lab.example"))))
    assert (found.rule, found.subjects) == ("name-before-upgrade", ("charlie",))
    assert found.positions == ("charlie#3", "alpha#3", "charlie#4")
    assert "could not be found in DNS by alpha" in found.says


def test_a_rename_that_nobody_looked_up_before_the_upgrade() -> None:
    """The order is part of the rule: a look-up that came after the upgrade, or before the rename, does not do."""
    charlie = own("charlie", (10, RENAMED), (30, UPGRADED), hostname="charlie.lab.example")
    for at in (5, 40):
        found = only(charlie, own("alpha", (at, found_name("c3.lab.example"))))
        assert found.positions == ("charlie#3", "charlie#4")


def test_a_rename_in_good_order_is_none() -> None:
    """Renamed, found by another machine, upgraded: as the manual asks. A machine never renamed may be upgraded."""
    charlie = own("charlie", (10, RENAMED), (30, UPGRADED), hostname="charlie.lab.example")
    assert told(charlie, own("alpha", (20, found_name("C3.lab.example.")))) == []
    assert told(own("charlie", (30, UPGRADED), hostname="charlie.lab.example"), own("alpha")) == []


def test_mixed_versions_have_a_span() -> None:
    """From the first that differs until the last has followed; machines that do not say are not counted."""
    alpha = own("alpha", (1, ev.NodeStarted(1, "1.0")), (100, ev.VersionChanged("1.0", "1.1")))
    bravo = own("bravo", (1, ev.NodeStarted(1, "1.0")), (400, ev.VersionChanged("1.0", "1.1")))
    found = only(alpha, bravo, own("charlie"))
    assert (found.rule, found.since_ns, found.until_ns) == ("one-version", ns(100), ns(400))
    assert found.subjects == ("alpha", "bravo")
    assert found.positions == ("bravo#3", "alpha#4")


def test_names_and_addresses_are_not_mixed() -> None:
    """A join by address into a cluster that goes by names."""
    found = only(own("alpha", (5, ev.MachineJoined("bravo", addressing="address"))))
    assert (found.rule, found.subjects, found.positions) == ("one-addressing", ("bravo",), ("alpha#2", "alpha#3"))


def test_one_transport() -> None:
    """A link over another transport than the first is told once for a pair, however often it comes and from either side."""
    alpha = own("alpha", (5, ev.LinkEstablished("bravo", transport="ssh")), (6, ev.LinkEstablished("charlie", transport="ccs")))
    charlie = own("charlie", (7, ev.LinkEstablished("alpha", transport="ccs")), (8, ev.LinkEstablished("alpha")))
    found = only(alpha, charlie)
    assert (found.rule, found.subjects) == ("one-transport", ("alpha", "charlie"))
    assert found.positions == ("alpha#3", "alpha#4")


def test_a_setting_says_how_many_machines_there_may_be() -> None:
    """Twenty, unless the settings say otherwise; while there are more it is one finding."""
    names = [f"m{number}" for number in range(22)]
    found = only(*(own(name) for name in names))
    assert (found.rule, len(found.subjects), found.until_ns) == ("machines-max", 22, None)
    assert told(*(own(name) for name in names[:20])) == []
    two = own("alpha", (1, ev.SettingsChanged(1, machines_max=1)), (50, ev.MachineLeft("bravo", ("bravo#2",), 2))), own("bravo")
    found = only(*two)
    assert (found.since_ns, found.until_ns) == (ns(1), ns(50))


def dropped(*more: tuple[float, ev.Event]) -> list[Entry]:
    lost = ev.LinkLost("bravo", "connection-limit", "1", culprit="charlie")
    return own("alpha", (5, ev.LinkEstablished("bravo", "1")), (100, lost), *more)


def test_a_drop_by_the_limit_heals_itself() -> None:
    """Back within a minute is well; later, or never once the minute is over, is a finding that names the culprit."""
    back = ev.LinkEstablished("bravo", "2")
    assert told(dropped((160, back))) == []
    late = only(dropped((160.001, back)))
    assert (late.rule, late.subjects) == ("limit-heals-itself", ("alpha", "bravo", "charlie"))
    assert (late.since_ns, late.until_ns, late.positions) == (ns(100), ns(160.001), ("alpha#4", "alpha#5"))
    assert "did not come back" in only(dropped()).says
    assert told(dropped(), end=160) == []  # it may yet


def test_a_drop_that_an_operator_healed() -> None:
    """In time, but by hand: the acts between are cited. An act about another machine is none."""
    back = ev.LinkEstablished("bravo", "2")
    found = only(dropped((110, ev.MachineReconnected("bravo")), (120, back)))
    assert found.positions == ("alpha#4", "alpha#5", "alpha#6")
    assert "operator's act between (machine.reconnected)" in found.says
    assert told(dropped((110, ev.MachineReconnected("delta")), (120, back))) == []


def test_shared_host_names() -> None:
    """Two members under one name, from the rename until one is renamed again."""
    bravo = own("bravo", (50, ev.HostnameChanged("b", "a")), (90, ev.HostnameChanged("a", "b")), hostname="b")
    found = only(own("alpha", hostname="a"), bravo)
    assert (found.rule, found.subjects) == ("unique-hostnames", ("alpha", "bravo"))
    assert (found.since_ns, found.until_ns, found.positions) == (ns(50), ns(90), ("alpha#2", "bravo#3"))


def test_forward_and_reverse_match() -> None:
    """An address that leads back to another name, or to none, until it leads back to the right one."""
    forward, reverse = found_name("alpha.lab", "192.0.2.1"), "reverse"
    wrong = ev.NameResolved("192.0.2.1", reverse, answers=("old.lab.",))
    right = ev.NameResolved("192.0.2.1", reverse, answers=("ALPHA.lab.",))
    alpha = own("alpha", hostname="alpha.lab")
    found = only(alpha, own("bravo", (10, forward), (11, wrong), (50, right)))
    assert (found.rule, found.subjects, found.positions) == ("forward-and-reverse", ("alpha",), ("bravo#3", "bravo#4"))
    assert (found.since_ns, found.until_ns) == (ns(11), ns(50))
    assert "leads back to old.lab" in found.says
    missing = only(alpha, own("bravo", (11, ev.NameFailed("192.0.2.1", reverse)), (12, forward)))
    assert "leads back to no name (nxdomain)" in missing.says
    assert told(alpha, own("bravo", (10, forward), (11, right))) == []
    assert told(alpha, own("bravo", (10, forward))) == []  # nobody looked


def test_by_address_each_address_has_a_name() -> None:
    """A member's address that a reverse look-up finds no name for, until one finds it; a time-out, or a stranger's, is none."""
    missing, there = ev.NameFailed("192.0.2.1", "reverse"), ev.NameResolved("192.0.2.1", "reverse", answers=("alpha.lab",))
    (found,) = by_address("address", (10, there), (20, missing), (21, missing), (50, there))
    assert (found.rule, found.subjects, found.positions) == ("address-has-name", ("alpha",), ("alpha#3", "bravo#3"))
    assert (found.since_ns, found.until_ns) == (ns(20), ns(50))
    assert by_address("address", (20, ev.NameFailed("192.0.2.1", "reverse", "timeout"))) == []
    assert by_address("address", (20, ev.NameFailed("192.0.2.9", "reverse"))) == []
    assert by_address("name", (20, missing)) == []


def test_every_rule_is_broken_somewhere_above() -> None:
    """No rule is listed that nothing here breaks."""
    text = Path(__file__).read_text("utf-8")
    assert [rule for rule in RULES if f'"{rule}"' not in text] == []


def test_findings_of_a_ledger_are_those_of_its_entries(tmp_path: Path) -> None:
    """Read from sealed records and an open part, also where a clock went back; strangers' feeds are not asked."""
    charlie = own("charlie", (10, RENAMED), (30, UPGRADED), hostname="charlie.lab.example")
    pings = [(step, ev.PingAnswered("charlie", number, 5, "1")) for number, step in enumerate((12, 14, 11, 15))]
    alpha = own("alpha", (9, ev.LinkEstablished("charlie", "1")), *pings, (20, ev.NameFailed("c3.lab.example")))
    feeds = observed([*charlie, *alpha])
    with History.open(recorded(tmp_path / "x.ledger", feeds, [3, 5, 7])) as history:
        assert [found.positions for found in findings(history)] == [("charlie#3", "alpha#8", "charlie#4")]
