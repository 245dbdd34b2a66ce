"""Who set what."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import observed, recorded
from told import CREATED, imported, keyed, ns, own, told

from ledger import events as ev
from ledger.errors import Refused
from replay.blame import blame
from replay.history import History


def asked(opened: History, cell: str, at: int | str) -> dict[str, tuple[object, str | None, str | None]]:
    """By field: value, position, kind."""
    return {each.field: (each.value, each.pos, each.kind) for each in blame(opened, cell, at).fields}


def test_a_link_names_the_entry_behind_each_field(tmp_path: Path) -> None:
    """Down by the loss, last good by an answer, first bad by the failed ping before the loss."""
    rows = own(
        "alpha",
        (0, ev.LinkEstablished("bravo", "1", "192.0.2.2")),
        (60, ev.PingAnswered("bravo", 1, 900, "1")),
        (120, ev.PingFailed("bravo", 2, "timeout", "1")),
        (121, ev.LinkLost("bravo", "reset", "1", "192.0.2.2", "bravo")),
        (180, ev.PingFailed("bravo", 3, "no-route")),
    )
    with History.open(recorded(tmp_path / "one.ledger", observed(rows + own("bravo")))) as opened:
        up, down = asked(opened, "alpha:bravo", ns(119)), asked(opened, "alpha:bravo", "end")
        both = asked(opened, "bravo=alpha", "end")
        answer = blame(opened, "alpha:bravo", "end")
    established = "alpha#3", "link.established"
    assert up["state"] == ("up", *established)
    assert up["link"] == ("1", *established)
    assert up["address"] == ("192.0.2.2", *established)
    assert up["first_bad"] == (None, None, None)
    lost = "alpha#6", "link.lost"
    assert down["state"] == ("down", *lost)
    assert down["reason"] == ("reset", *lost)
    assert down["culprit"] == ("bravo", *lost)
    assert down["since"] == ("2026-01-01T00:02:01Z", *lost)
    assert down["last_good"] == ("2026-01-01T00:01:00Z", "alpha#4", "ping.answered")
    assert down["first_bad"] == ("2026-01-01T00:02:00Z", "alpha#5", "ping.failed")
    assert down["rtt_us"] == (900, "alpha#4", "ping.answered")
    assert down["last_ping"][1:] == ("alpha#7", "ping.failed")
    assert down["lost"] == (2, "alpha#7", "ping.failed")
    assert both["state"] == ("unknown", None, None)
    assert both["alpha:bravo.state"] == ("down", *lost)
    assert both["bravo:alpha.state"] == ("unknown", None, None)
    assert (answer.cell, answer.at) == ("alpha:bravo", "2026-01-01T00:03:00Z")
    assert {each.at for each in answer.fields if each.field == "state"} == {"2026-01-01T00:02:01Z"}


def test_the_last_loss_is_named_also_behind_answers(tmp_path: Path) -> None:
    """How many pings were lost is the last failed one's doing, however many were answered after it; none lost, none named."""
    rows = own(
        "alpha",
        (0, ev.LinkEstablished("bravo", "1")),
        (60, ev.PingFailed("bravo", 1, "timeout", "1")),
        (120, ev.PingFailed("bravo", 2, "timeout", "1")),
        (180, ev.PingAnswered("bravo", 3, 900, "1")),
    )
    with History.open(recorded(tmp_path / "one.ledger", observed(rows + own("bravo")))) as opened:
        assert asked(opened, "alpha:bravo", "end")["lost"] == (2, "alpha#5", "ping.failed")
        assert asked(opened, "alpha:bravo", ns(60))["lost"] == (1, "alpha#4", "ping.failed")
        assert asked(opened, "alpha:bravo", ns(1))["lost"] == (0, None, None)


def test_an_up_link_takes_its_id_from_its_last_establishment(tmp_path: Path) -> None:
    """It is up since the first one, over the link of the second; an answer after a loss brings its own."""
    rows = own(
        "alpha",
        (0, ev.LinkEstablished("bravo", "1")),
        (1, ev.LinkEstablished("bravo", "2")),
        (2, ev.LinkLost("bravo", "reset", "2")),
        (3, ev.PingAnswered("bravo", 1, 900, "3")),
    )
    with History.open(recorded(tmp_path / "one.ledger", observed(rows + own("bravo")))) as opened:
        twice, answered = asked(opened, "alpha:bravo", ns(1)), asked(opened, "alpha:bravo", "end")
    assert twice["state"] == ("up", "alpha#3", "link.established")
    assert twice["link"] == ("2", "alpha#4", "link.established")
    assert answered["state"] == ("up", "alpha#6", "ping.answered")
    assert answered["link"] == ("3", "alpha#6", "ping.answered")


def test_a_machine_names_joins_renames_keys_and_starts(tmp_path: Path) -> None:
    """What others admitted it with, what it changed itself after that, and what it said when it started."""
    alpha, bravo = keyed("alpha", "ed25519:a"), keyed("bravo", "ed25519:b")
    rows = told(
        alpha,
        (0, ev.FeedOpened(alpha.incarnation, "alpha", 1, "ed25519:a")),
        (0, CREATED),
        (0, ev.MachineJoined("alpha", "alpha.lab.example", ledger_key="ed25519:a")),
        (1, ev.MachineJoined("bravo", "bravo.lab.example", 2222, "ops", "host-1", "dial-1", "ed25519:b")),
        (9, ev.MachineDisconnected("bravo", "eve")),
    )
    rows += told(
        bravo,
        (2, ev.FeedOpened(bravo.incarnation, "bravo", 1, "ed25519:b")),
        (2, ev.NodeStarted(1, "0.1.0")),
        (3, ev.HostnameChanged("bravo.lab.example", "b.lab.example")),
        (4, ev.KeyChanged("host", "host-1", "host-2")),
        (5, ev.VersionChanged("0.1.0", "0.2.0")),
    )
    with History.open(recorded(tmp_path / "one.ledger", observed(rows))) as opened:
        found = asked(opened, "bravo", "end")
        before = asked(opened, "bravo", ns(2))
    joined = "alpha#4", "machine.joined"
    assert found["member"] == (True, *joined)
    assert found["port"] == (2222, *joined)
    assert found["account"] == ("ops", *joined)
    assert found["dial_key"] == ("dial-1", *joined)
    assert found["hostname"] == ("b.lab.example", "bravo#3", "hostname.changed")
    assert found["host_key"] == ("host-2", "bravo#4", "key.changed")
    assert found["version"] == ("0.2.0", "bravo#5", "version.changed")
    assert found["disconnected"] == (True, "alpha#5", "machine.disconnected")
    assert found["cause"] == ("disconnected", "alpha#5", "machine.disconnected")
    assert before["hostname"] == ("bravo.lab.example", *joined)
    assert before["version"] == ("0.1.0", "bravo#2", "node.started")
    assert before["disconnected"] == (False, None, None)


def test_a_name_that_does_not_resolve_is_blamed_on_the_look_up(tmp_path: Path) -> None:
    """By whichever machine looked last."""
    rows = own("alpha", (1, ev.LinkFailed("bravo", "refused")), (2, ev.NameFailed("bravo.lab.example")))
    rows += own("bravo", (1, ev.LinkFailed("alpha", "refused")), hostname="bravo.lab.example")
    with History.open(recorded(tmp_path / "one.ledger", observed(rows))) as opened:
        found = asked(opened, "bravo", "end")
    assert found["communicating"] == (False, None, None)
    assert found["cause"] == ("name-unresolvable", "alpha#4", "name.failed")


def test_an_earlier_epoch_is_named_for_what_it_did_last(tmp_path: Path) -> None:
    """A machine that goes on in a new feed has its last ping in the old one."""
    rows = own("alpha", (1, ev.PingAnswered("bravo", 1, 900))) + own("bravo")
    rows += told(imported("alpha", 2), (3, ev.FeedOpened("import:paper", "alpha", 2)))
    with History.open(recorded(tmp_path / "one.ledger", observed(rows))) as opened:
        found = asked(opened, "alpha:bravo", "end")
    assert found["rtt_us"] == (900, "alpha#3", "ping.answered")
    assert found["sent"] == (1, "alpha#3", "ping.answered")
    assert found["state"] == ("unknown", None, None)


def test_what_names_nothing_is_refused(tmp_path: Path) -> None:
    """With the machines that there are."""
    with History.open(recorded(tmp_path / "one.ledger", observed(own("alpha") + own("bravo")))) as opened:
        for cell in ("zulu", "alpha:zulu", "zulu=alpha", "alpha:alpha", "", "a b", "alpha:bravo:charlie"):
            with pytest.raises(Refused) as refused:
                blame(opened, cell, "end")
            assert refused.value.hint
