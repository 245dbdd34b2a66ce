"""Each cause is named for what it is, with its root, its proof and since when."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest
from called import call, incident
from scene import MEMORY
from staged import Mesh, written
from told import ns

from ledger import events as ev
from ledger.errors import NotCovered, Refused
from replay import History, why
from replay.answers_why import Cause, Why
from replay.cases import TELLING
from replay.sayings import _ADVICE, advice
from replay.spans import format_instant
from replay.telling import _MEANS, why_lines

NAMES = ("alpha", "bravo", "charlie", "delta")


@contextmanager
def opened(mesh: Mesh, until: float = 1800, only: tuple[str, ...] | None = None) -> Iterator[History]:
    """The mesh as a history, of some machines' logs only if they are named."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = written(Path(folder) / "one.ledger", mesh.feeds(until, only))
        with History.open(path) as history:
            yield history


def asked(mesh: Mesh, a: str, b: str, at: float, *, until: float = 1800, only: tuple[str, ...] | None = None) -> Why:
    """What `why` answers."""
    with opened(mesh, until, only) as history:
        return why(history, a, b, ns(at))


def mesh_joined(mesh: Mesh, observer: str, *names: str) -> Mesh:
    """The mesh, with the observer's own word that the others are members."""
    for name in names:
        mesh.say(0, observer, ev.MachineJoined(name, f"{name}.lab.example"))
    return mesh


def kinds(answer: Why) -> list[str]:
    """The chain as `machine kind`, the last first."""
    return [f"{link.pos.partition('#')[0]} {link.kind}" for link in answer.chain]


def root(answer: Why) -> str | None:
    """The root as `machine kind`."""
    return next((f"{link.pos.partition('#')[0]} {link.kind}" for link in answer.chain if link.root), None)


def instant(seconds: float) -> str:
    """As an answer has it."""
    return format_instant(ns(seconds))


# A link that stands.


def test_a_link_that_stands_has_no_cause() -> None:
    """Up both ways: reachable, with nothing to explain and nothing to do, and since when."""
    answer = asked(Mesh(*NAMES), "alpha", "bravo", 600)
    assert (answer.reachable, answer.route, answer.direct) == (True, ["alpha", "bravo"], "up")
    assert (answer.cause, answer.root_pos, answer.chain, answer.advice) == (None, None, [], None)
    assert (answer.since, answer.until) == (instant(1), None)
    assert [other.machine for other in answer.others] == ["charlie", "delta"]


# The path.


@pytest.mark.parametrize("at", [612, 700, 1100])
def test_a_path_between_two_is_named_by_its_reason(at: float) -> None:
    """Only these two lost each other: reachable over others, the link down for the reason recorded, at whichever moment."""
    mesh = Mesh(*NAMES)
    mesh.cut(610, "alpha", "bravo", "timeout", "closed")
    mesh.link(1200, "alpha", "bravo")
    answer = asked(mesh, "alpha", "bravo", at)
    assert (answer.reachable, answer.route, answer.direct) == (True, ["alpha", "charlie", "bravo"], "down")
    assert (answer.cause, answer.suspect, root(answer)) == ("timeout", None, "alpha link.lost")
    assert (answer.since, answer.until) == (instant(610), instant(1200))
    back = asked(mesh, "bravo", "alpha", at)
    assert (back.cause, root(back)) == ("timeout", "alpha link.lost"), "who hung up knows more than who was hung up on"
    assert kinds(back) == ["bravo link.lost", "alpha link.lost"]
    assert back.since == instant(611)


def test_a_link_down_one_way_is_named_from_the_side_that_lost_it() -> None:
    """Asymmetric: alpha hears nothing of bravo, bravo hears alpha; both questions find alpha's loss."""
    mesh = Mesh(*NAMES)
    mesh.lose(610, "alpha", "bravo", "idle-timeout")
    for pair in (("alpha", "bravo"), ("bravo", "alpha")):
        answer = asked(mesh, *pair, 1000)
        assert (answer.direct, answer.cause, root(answer)) == ("asymmetric", "idle-timeout", "alpha link.lost")


def test_the_limit_of_connections_names_its_culprit() -> None:
    """Dropped by the limit: the culprit recorded is the suspect."""
    mesh = Mesh(*NAMES)
    mesh.lose(610, "alpha", "bravo", "connection-limit", culprit="bravo")
    mesh.lose(610, "bravo", "alpha", "closed")
    answer = asked(mesh, "alpha", "bravo", 620)
    assert (answer.cause, answer.suspect, root(answer)) == ("connection-limit", "bravo", "alpha link.lost")


@pytest.mark.parametrize("pair", [("alpha", "bravo"), ("bravo", "alpha")])
def test_a_drop_by_the_limit_begins_where_the_limit_was(pair: tuple[str, str]) -> None:
    """Bravo opened too many, alpha dropped it, and both wrote so: the root is alpha's word, from whichever end one asks."""
    mesh = Mesh(*NAMES)
    mesh.lose(610, "alpha", "bravo", "connection-limit", culprit="bravo")
    mesh.lose(610.1, "bravo", "alpha", "connection-limit", culprit="bravo")
    mesh.fail(612, "bravo", "alpha", "connection-limit", culprit="bravo")
    answer = asked(mesh, *pair, 620)
    assert (answer.cause, answer.suspect, root(answer)) == ("connection-limit", "bravo", "alpha link.lost")
    alone = asked(mesh_joined(mesh, "bravo", "alpha"), "bravo", "alpha", 620, only=("bravo",))
    assert (alone.cause, alone.suspect, root(alone)) == ("connection-limit", "bravo", "bravo link.failed")


@pytest.mark.parametrize("reason", sorted(TELLING - {"left", "disconnected"}))
def test_a_telling_reason_of_a_later_dial_is_the_cause(reason: ev.Reason) -> None:
    """The loss said `reset`; every dial since says what is wrong, and that is why the link is still down."""
    mesh = Mesh(*NAMES)
    mesh.cut(610, "alpha", "bravo", "reset", "closed")
    mesh.fail(620, "alpha", "bravo", reason)
    answer = asked(mesh, "alpha", "bravo", 1000)
    assert (answer.cause, root(answer)) == (reason, "alpha link.failed")
    assert kinds(answer) == ["alpha link.failed", "alpha link.lost"]
    assert [link.proves for link in answer.chain] == ["cause", "since"]


def test_behind_another_host_key_stands_its_change() -> None:
    """`host-key-mismatch` after bravo changed its host key: the change is the root."""
    mesh = Mesh(*NAMES)
    mesh.say(600, "bravo", ev.KeyChanged("host", "ssh-ed25519 one", "ssh-ed25519 two"))
    mesh.cut(610, "alpha", "bravo", "reset", "closed")
    mesh.fail(620, "alpha", "bravo", "host-key-mismatch")
    answer = asked(mesh, "alpha", "bravo", 1000)
    assert (answer.cause, answer.suspect, root(answer)) == ("host-key-mismatch", "bravo", "bravo key.changed")


def test_behind_another_version_stands_the_upgrade() -> None:
    """`version-mismatch` after bravo was upgraded: the upgrade is the root."""
    mesh = Mesh(*NAMES)
    mesh.say(600, "bravo", ev.VersionChanged("1", "2"))
    mesh.lose(610, "alpha", "bravo", "version-mismatch")
    answer = asked(mesh, "alpha", "bravo", 1000)
    assert (answer.cause, root(answer)) == ("version-mismatch", "bravo version.changed")


def test_a_look_up_in_reverse_that_timed_out_is_the_root() -> None:
    """`reverse-timeout`: the look-up of the very address of the link stands behind it, not that of another."""
    mesh = Mesh(*NAMES)
    mesh.say(608, "alpha", ev.NameFailed("192.0.2.12", "reverse", "timeout"))
    mesh.say(609, "alpha", ev.NameFailed("192.0.2.13", "reverse", "timeout"))
    mesh.lose(610, "alpha", "bravo", "reverse-timeout", address="192.0.2.12:22")
    answer = asked(mesh, "alpha", "bravo", 1000)
    assert (answer.cause, answer.suspect, root(answer)) == ("reverse-timeout", "bravo", "alpha name.failed")
    assert answer.chain[1].says == "reverse 192.0.2.12 timeout"


def test_a_dial_refused_for_the_reverse_is_about_who_dialled() -> None:
    """Alpha dialled and was refused: bravo had looked up alpha's address, not alpha bravo's, which had failed before as well."""
    mesh = Mesh(*NAMES)
    mesh.lose(600, "alpha", "bravo", "reset", address="192.0.2.12:22")
    mesh.lose(600, "bravo", "alpha", "reset", address="192.0.2.11:40022")
    mesh.say(605, "alpha", ev.NameFailed("192.0.2.12", "reverse", "timeout"))
    mesh.say(606, "bravo", ev.NameFailed("192.0.2.13", "reverse", "timeout"))
    mesh.say(607, "bravo", ev.NameFailed("192.0.2.11", "reverse", "timeout"))
    mesh.fail(610, "alpha", "bravo", "reverse-timeout", address="192.0.2.12:22")
    answer = asked(mesh, "alpha", "bravo", 1000)
    assert (answer.cause, answer.suspect, root(answer)) == ("reverse-timeout", "alpha", "bravo name.failed")
    assert [link.says for link in answer.chain if link.root] == ["reverse 192.0.2.11 timeout"]


# Names.


def turned_away(reason: ev.Reason, *, culprit: str | None = None) -> Mesh:
    """Alpha loses bravo and dials it again where it was before; bravo refuses alpha for alpha's own name."""
    mesh = Mesh(*NAMES)
    mesh.lose(600, "alpha", "bravo", "reset", address="192.0.2.12:22")
    mesh.lose(600, "bravo", "alpha", "reset", address="192.0.2.11:40022")
    mesh.say(605, "alpha", ev.NameResolved("bravo.lab.example", answers=("192.0.2.12",)))
    given = {} if culprit is None else {"culprit": culprit}
    mesh.fail(607, "alpha", "bravo", reason, address="192.0.2.12:22", **given)
    return mesh


@pytest.mark.parametrize("pair", [("alpha", "bravo"), ("bravo", "alpha")])
@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("name-points-elsewhere", "mismatch"), ("name-unresolvable", "nxdomain"), ("name-unresolvable", "timeout")],
)
def test_who_was_turned_away_for_its_own_name_is_the_suspect(
    reason: ev.Reason, outcome: ev.Outcome, pair: tuple[str, str]
) -> None:
    """Bravo looked up alpha, who dialled, and refused: alpha's name is what is wrong, and bravo's look-up of it the root."""
    mesh = turned_away(reason)
    mesh.say(606, "bravo", ev.NameFailed("alpha.lab.example", outcome=outcome, answers=("203.0.113.9",)))
    answer = asked(mesh, *pair, 1000)
    assert (answer.cause, answer.suspect, root(answer)) == (reason, "alpha", "bravo name.failed")
    assert "alpha.lab.example" in (answer.advice or "")


@pytest.mark.parametrize("pair", [("alpha", "bravo"), ("bravo", "alpha")])
def test_an_acceptor_that_wrote_its_refusal_names_the_dialler(pair: tuple[str, str]) -> None:
    """As a node writes it: bravo's look-up was answered, the host there was another, so it refused alpha, and both say so."""
    mesh = turned_away("name-points-elsewhere", culprit="alpha")
    mesh.say(606, "bravo", ev.NameResolved("alpha.lab.example", answers=("203.0.113.9",)))
    mesh.fail(606.5, "bravo", "alpha", "name-points-elsewhere", culprit="alpha")
    answer = asked(mesh, *pair, 1000)
    assert (answer.cause, answer.suspect, root(answer)) == ("name-points-elsewhere", "alpha", "bravo name.resolved")


@pytest.mark.parametrize("reason", ["name-points-elsewhere", "name-unresolvable"])
def test_from_the_dialler_s_log_alone_its_own_name_is_the_suspect(reason: ev.Reason) -> None:
    """Only alpha's log: bravo was where it had been, its name was answered, and it refused: so alpha's own name is wrong."""
    mesh = mesh_joined(turned_away(reason), "alpha", "bravo")
    answer = asked(mesh, "alpha", "bravo", 1000, only=("alpha",))
    assert (answer.cause, answer.suspect, root(answer)) == (reason, "alpha", "alpha link.failed")


def renamed(*, dns: bool = False) -> Mesh:
    """Bravo is renamed at 600; alpha's link breaks at 610 and cannot be dialled again, charlie's and delta's stay."""
    mesh = Mesh(*NAMES)
    mesh.say(600, "bravo", ev.HostnameChanged("bravo.lab.example", "b2.lab.example", forced=True))
    if dns:
        mesh.say(605, "charlie", ev.NameResolved("b2.lab.example", answers=("192.0.2.12",)))
    mesh.cut(610, "alpha", "bravo", "timeout", "closed")
    mesh.say(620, "alpha", ev.NameFailed("b2.lab.example", outcome="nxdomain", server="192.0.2.53"))
    mesh.fail(620, "alpha", "bravo", "name-unresolvable")
    return mesh


def test_a_rename_without_dns_is_the_root() -> None:
    """Renamed, looked up in vain, dialled in vain: the rename is the root, the loss tells since when, bravo is the suspect."""
    answer = asked(renamed(), "alpha", "bravo", 1000)
    assert (answer.cause, answer.suspect, root(answer)) == ("renamed-without-dns", "bravo", "bravo hostname.changed")
    assert kinds(answer) == ["alpha link.failed", "alpha name.failed", "alpha link.lost", "bravo hostname.changed"]
    assert [link.proves for link in answer.chain] == ["cause", "cause", "since", "cause"]
    assert answer.advice == "publish an address for b2.lab.example, or set bravo.lab.example again on bravo"


def test_a_name_that_was_once_answered_only_does_not_resolve() -> None:
    """The new name had an address and lost it: no rename is to blame, the look-up is the root."""
    answer = asked(renamed(dns=True), "alpha", "bravo", 1000)
    assert (answer.cause, root(answer)) == ("name-unresolvable", "alpha name.failed")


def test_without_the_renamed_machine_s_log_the_look_up_is_the_root() -> None:
    """Only alpha's log: a name failed that is no other member's, so that much is known, and what is missing is named."""
    mesh = renamed()
    mesh.say(0, "alpha", ev.MachineJoined("bravo", "bravo.lab.example"))
    answer = asked(mesh, "alpha", "bravo", 1000, only=("alpha",))
    assert (answer.reachable, answer.cause, root(answer)) == (None, "name-unresolvable", "alpha name.failed")
    assert [(gap.machine, gap.since) for gap in answer.missing] == [("bravo", None)]
    assert "b2.lab.example" in (answer.advice or "")


def test_a_name_that_leads_elsewhere_is_shown_with_its_answer() -> None:
    """`name-points-elsewhere`: the look-up whose answer led to another machine is the root."""
    mesh = Mesh(*NAMES)
    mesh.cut(610, "alpha", "bravo", "timeout", "closed")
    mesh.say(620, "alpha", ev.NameResolved("bravo.lab.example", answers=("203.0.113.9",)))
    mesh.fail(621, "alpha", "bravo", "name-points-elsewhere")
    answer = asked(mesh, "alpha", "bravo", 1000)
    assert (answer.cause, root(answer)) == ("name-points-elsewhere", "alpha name.resolved")


# A row, a column, a block.


def died(*, said: bool = False, back: float | None = None) -> Mesh:
    """Bravo's node ends at 600, said or not, and everybody loses it within a minute; it may come back."""
    mesh = Mesh(*NAMES)
    if said:
        mesh.say(600, "bravo", ev.NodeStopped(1))
    mesh.away("bravo", 600, back or 1e9)
    for place, name in enumerate(("charlie", "alpha", "delta")):
        mesh.lose(610 + 20 * place, name, "bravo")
    if back is not None:
        mesh.say(back, "bravo", ev.NodeStarted(2))
        for name in ("alpha", "charlie", "delta"):
            mesh.link(back + 5, name, "bravo")
    return mesh


@pytest.mark.parametrize(("at", "reachable"), [(635, True), (700, False), (1100, None)])
def test_whom_everybody_lost_is_down(at: float, reachable: bool | None) -> None:
    """Alpha says `timeout`, and so do all others: bravo is down. The first to lose it is the root, also asked before all had."""
    answer = asked(died(), "alpha", "bravo", at)
    assert (answer.cause, answer.suspect, root(answer)) == ("target-down", "bravo", "charlie link.lost")
    assert kinds(answer) == ["alpha link.lost", "charlie link.lost"]
    assert answer.since == instant(630)
    assert answer.reachable is reachable, "what delta still said at 635, and that bravo's log covers nothing at 1100"


def test_a_stop_that_was_said_is_the_root() -> None:
    """Bravo wrote that it stopped: that is why everybody lost it."""
    answer = asked(died(said=True), "alpha", "bravo", 1100)
    assert (answer.cause, answer.suspect, root(answer)) == ("target-down", "bravo", "bravo node.stopped")
    assert kinds(answer) == ["alpha link.lost", "bravo node.stopped"]


def test_a_crash_is_told_by_the_start_after_it() -> None:
    """Two machines only, so nobody else could tell: that bravo began anew without a stop shows that it did not run."""
    mesh = Mesh("alpha", "bravo")
    mesh.away("bravo", 600, 1200)
    mesh.lose(640, "alpha", "bravo")
    mesh.say(1200, "bravo", ev.NodeStarted(2))
    mesh.link(1210, "alpha", "bravo")
    answer = asked(mesh, "alpha", "bravo", 1000)
    assert (answer.cause, answer.suspect, root(answer)) == ("target-down", "bravo", "bravo node.started")
    assert answer.until == instant(1210)
    assert [(gap.machine, gap.since, gap.until) for gap in answer.missing] == [("bravo", instant(570), instant(1200))]


def test_of_two_alone_nobody_can_tell_a_dead_peer_from_a_dead_path() -> None:
    """Two machines, and bravo's log just ends: `unknown`, with its missing stretch, and the recorded loss as all there is."""
    mesh = Mesh("alpha", "bravo")
    mesh.away("bravo", 600)
    mesh.lose(640, "alpha", "bravo")
    answer = asked(mesh, "alpha", "bravo", 1000)
    assert (answer.reachable, answer.cause, kinds(answer)) == (None, "unknown", ["alpha link.lost"])
    assert [(gap.machine, gap.since, gap.until) for gap in answer.missing] == [("bravo", instant(570), None)]


def isolated() -> Mesh:
    """Alpha goes on and loses everybody, who lose it; the others keep each other."""
    mesh = Mesh(*NAMES)
    for place, name in enumerate(("bravo", "charlie", "delta")):
        mesh.cut(610 + place, "alpha", name, later=20)
    return mesh


def test_who_lost_everybody_is_isolated() -> None:
    """Asked from either end, the suspect is alpha, who ran and lost all: its row accuses it, not those whom it lost."""
    for pair in (("alpha", "charlie"), ("charlie", "alpha")):
        answer = asked(isolated(), *pair, 1000)
        assert (answer.reachable, answer.cause, answer.suspect) == (False, "observer-isolated", "alpha")
        assert (root(answer) or "").startswith("alpha")
    between = asked(isolated(), "bravo", "charlie", 1000)
    assert between.cause is None


def test_from_its_own_log_alone_an_isolated_machine_is_known() -> None:
    """Only alpha's log: it lost everybody, so it is alpha; whether others could be reached by then is not covered."""
    mesh = isolated()
    for name in ("bravo", "charlie", "delta"):
        mesh.say(0, "alpha", ev.MachineJoined(name))
    answer = asked(mesh, "alpha", "charlie", 1000, only=("alpha",))
    assert (answer.reachable, answer.cause, answer.suspect) == (None, "observer-isolated", "alpha")


def test_without_its_log_it_is_down_by_the_word_of_the_others() -> None:
    """Without alpha's log nobody says that it ran: two or more lost it, so it is down as far as they know."""
    mesh = isolated()
    mesh.say(0, "bravo", ev.MachineJoined("alpha"))
    answer = asked(mesh, "bravo", "alpha", 1000, only=("bravo", "charlie", "delta"))
    assert (answer.reachable, answer.cause, answer.suspect) == (None, "target-down", "alpha")


def stalled(*, back: float = 700) -> Mesh:
    """Alpha stands still from 600 to `back`: bravo and charlie lose it meanwhile; awake, alpha finds its own pings timed out."""
    mesh = Mesh(*NAMES)
    mesh.away("alpha", 600, back)
    mesh.lose(640, "bravo", "alpha")
    mesh.lose(650, "charlie", "alpha")
    mesh.say(back, "alpha", ev.NodeStalled(int(back - 600) * 1000))
    for place, name in enumerate(("bravo", "charlie", "delta")):
        mesh.lose(back + place / 10, "alpha", name)
    mesh.lose(back + 1, "delta", "alpha", "reset")
    return mesh


@pytest.mark.parametrize("pair", [("alpha", "bravo"), ("bravo", "alpha"), ("alpha", "delta"), ("delta", "alpha")])
@pytest.mark.parametrize("at", [660, 702, 720])
def test_who_stood_still_accuses_itself_alone(pair: tuple[str, str], at: float) -> None:
    """Whoever lost whom, and whenever one asks: alpha stood still by its own word, and nobody else is suspected."""
    answer = asked(stalled(), *pair, at)
    if answer.direct == "up":
        assert at == 660
        assert "delta" in pair, "delta had not missed it yet"
        return
    assert (answer.cause, answer.suspect, root(answer)) == ("target-down", "alpha", "alpha node.stalled")
    assert any(link.says == "alpha stood still for 100.0 s" for link in answer.chain)


def test_what_it_lost_standing_still_accuses_nobody() -> None:
    """Alpha stood still, and says that it lost bravo and charlie; delta's path to bravo breaks: bravo is not down for that."""
    mesh = Mesh("alpha", "bravo", "delta")
    mesh.away("alpha", 600, 700)
    mesh.say(700, "alpha", ev.NodeStalled(100_000))
    mesh.lose(700, "alpha", "bravo")
    mesh.lose(690, "delta", "bravo")
    mesh.away("bravo", 710)
    answer = asked(mesh, "delta", "bravo", 720)
    assert (answer.cause, answer.suspect) == ("timeout", None)


def test_a_feed_that_ends_before_the_loss_is_no_witness() -> None:
    """Two machines; bravo's log ends just before alpha loses it, and still covers the moment: nothing shows that it ran."""
    mesh = Mesh("alpha", "bravo")
    mesh.away("bravo", 600)
    mesh.lose(640, "alpha", "bravo")
    answer = asked(mesh, "alpha", "bravo", 700)
    assert (answer.cause, answer.coverage["bravo"] is not None) == ("unknown", True)
    assert [(gap.machine, gap.since, gap.what) for gap in answer.missing] == [
        ("bravo", instant(570), "bravo's feed ends before the loss")
    ]


def parted() -> Mesh:
    """Alpha and bravo keep each other, charlie and delta too, and nothing goes between the two sides."""
    mesh = Mesh(*NAMES)
    for place, (a, b) in enumerate((a, b) for a in NAMES[:2] for b in NAMES[2:]):
        mesh.cut(610 + place, a, b, later=10)
    return mesh


def test_two_sides_that_each_see_their_own_are_a_partition() -> None:
    """Neither side is accused: both are named, and the chain shows a loss from either and what holds a side together."""
    answer = asked(parted(), "alpha", "delta", 1000)
    assert (answer.reachable, answer.cause, answer.suspect) == (False, "partition", None)
    assert answer.sides == [["alpha", "bravo"], ["charlie", "delta"]]
    assert sum(link.kind == "link.lost" for link in answer.chain) == 2
    assert {link.proves for link in answer.chain} == {"cause"}


# What was meant to be.


@pytest.mark.parametrize(("cause", "by"), [("left", "bravo"), ("removed", "charlie")])
def test_a_machine_that_is_gone_is_gone_by_the_entry_that_says_so(cause: str, by: str) -> None:
    """Left or removed: the entry is the root, and asked before it the link was up."""
    mesh = Mesh(*NAMES)
    mesh.say(600, by, ev.MachineLeft("bravo", ("bravo#2",), 1000, cause, by))  # type: ignore[arg-type]
    for pair in (("alpha", "bravo"), ("bravo", "alpha")):
        answer = asked(mesh, *pair, 1000)
        assert (answer.reachable, answer.direct, answer.cause, answer.suspect) == (False, "absent", cause, "bravo")
        assert (kinds(answer), answer.since, answer.until) == ([f"{by} machine.left"], instant(600), None)
    assert asked(mesh, "alpha", "bravo", 599).cause is None


def test_a_machine_that_comes_back_ends_its_absence() -> None:
    """Removed at 600, admitted again at 900: until then, and neither before nor after."""
    mesh = Mesh(*NAMES)
    mesh.say(600, "charlie", ev.MachineLeft("bravo", ("bravo#2",), 1000, "removed", "charlie"))
    mesh.say(900, "charlie", ev.MachineJoined("bravo", held=2))
    answer = asked(mesh, "alpha", "bravo", 700)
    assert (answer.cause, answer.until) == ("removed", instant(900))
    assert asked(mesh, "alpha", "bravo", 901).cause is None


def test_a_machine_that_had_not_joined_is_no_member() -> None:
    """Before its join nothing is to be proved: no member, until it joined."""
    mesh = Mesh("alpha", "bravo")
    mesh.say(600, "alpha", ev.MachineJoined("charlie"))
    answer = asked(mesh, "alpha", "charlie", 500)
    assert (answer.reachable, answer.cause, answer.suspect, answer.chain) == (False, "not-a-member", "charlie", [])
    assert answer.until == instant(600)


def test_a_planned_absence_is_no_fault() -> None:
    """Disconnected on purpose, whatever the links say meanwhile; it ends with the reconnection."""
    mesh = Mesh(*NAMES)
    mesh.say(600, "charlie", ev.MachineDisconnected("bravo", "ops", "upgrade"))
    mesh.say(601, "bravo", ev.NodeStopped(1))
    mesh.lose(602, "alpha", "bravo", "disconnected")
    mesh.say(900, "charlie", ev.MachineReconnected("bravo", "ops"))
    answer = asked(mesh, "alpha", "bravo", 700)
    assert (answer.reachable, answer.direct, answer.cause) == (False, "planned", "disconnected")
    assert (kinds(answer), answer.since, answer.until) == (["charlie machine.disconnected"], instant(600), instant(900))


# What the log does not cover.


def test_after_a_start_without_a_word_it_is_unknown() -> None:
    """Alpha began anew and has not heard of bravo yet: unknown, and just that is named as missing."""
    mesh = Mesh("alpha", "bravo")
    mesh.say(600, "alpha", ev.NodeStarted(2))
    answer = asked(mesh, "alpha", "bravo", 601)
    assert (answer.reachable, answer.cause, answer.chain) == (None, "unknown", [])
    assert [(gap.machine, gap.since) for gap in answer.missing] == [("alpha", instant(600))]


def test_a_stranger_is_told_of_all_machines() -> None:
    """Whoever names a machine that there is not is told of all that are recorded, also of those that are members no more."""
    mesh = Mesh(*NAMES)
    mesh.say(600, "bravo", ev.MachineLeft("bravo", ("bravo#2",), 1000, "left", "bravo"))
    with opened(mesh) as history, pytest.raises(Refused) as refused:
        why(history, "alpha", "zulu", "end")
    assert refused.value.hint == "there are alpha, bravo, charlie, delta"


def test_what_cannot_be_asked_is_refused() -> None:
    """A stranger, a machine about itself, and a moment before all."""
    with opened(Mesh(*NAMES)) as history:
        with pytest.raises(Refused, match="no machine 'zulu'") as refused:
            why(history, "alpha", "zulu", "end")
        assert "bravo" in (refused.value.hint or "")
        with pytest.raises(Refused, match="about itself"):
            why(history, "alpha", "alpha", "end")
        with pytest.raises(NotCovered, match="no feed had begun"):
            why(history, "alpha", "bravo", ns(-1))


# In words.


def test_every_cause_has_words() -> None:
    """Each cause of the closed list is explained, and has something to do about it."""
    causes = {each for part in get_args(Cause) for each in (get_args(part) or (part,))}
    assert set(_MEANS) == set(_ADVICE)
    assert causes == set(_MEANS)
    for cause in causes:
        told = advice(cause, "alpha", "bravo", suspect=None, hostname=None, old=None)
        assert told
        assert "{" not in told


def test_of_many_who_saw_nothing_wrong_one_line_tells() -> None:
    """Who saw something else is told one by one, however many there are; data keep everybody."""
    mesh = Mesh(*(f"m{place:02}" for place in range(1, 13)))
    mesh.lose(300, "m03", "m02")
    answer = asked(mesh, "m01", "m02", 600)
    told = [line[9:] for line in why_lines(answer) if ":m0" in line or "others saw" in line]
    assert [line.partition(" ")[0] for line in told] == ["m03:m02", "9"]
    assert told[-1] == "9 others saw every link with m02 and m01 up: m04 m05 m06 m07 and 5 more"
    assert len(answer.others) == 10


def test_hostile_details_are_made_harmless() -> None:
    """An error that would move the cursor, turn the line round or go on for ever is shown as what it is, and short."""
    mesh = Mesh(*NAMES)
    mesh.lose(610, "alpha", "bravo", detail="\x1b[2Jgone\u202e\r\n" + "x" * 4000)
    answer = asked(mesh, "alpha", "bravo", 1000)
    says = answer.chain[0].says
    assert says.startswith("alpha:bravo timeout: \\x1b[2Jgone\\u202e\\r\\n")
    assert len(says) < 200
    text = "".join(why_lines(answer))
    assert text.isprintable()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("alpha", "charlie", "--at", "03:02"), 0),
        (("alpha", "charlie", "--at", "03:08"), 0),
        (("alpha", "charlie", "--at", "03:08", "--as-seen-by", "delta"), 0),
        (("alpha", "echo"), 1),
        (("alpha", "charlie", "--at", "03:08", "-L", "alpha.ledger"), 3),
        (("alpha", "zulu"), 2),
        (("alpha", "no machine"), 2),
    ],
)
def test_exit_codes(words: tuple[str, ...], code: int, tmp_path: Path) -> None:
    """0 reachable, also over others; 1 not; 3 not covered; 2 for machines that there are not."""
    incident(tmp_path)
    named = words if "-L" in words else (*words, "-L", ".")
    assert call("why", *named, folder=tmp_path).code == code
