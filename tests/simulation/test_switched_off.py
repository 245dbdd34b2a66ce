"""Each behaviour that a sentence of the seed system names, switched off: then the story of that sentence no longer comes out.

A table of edits of the shipped code, as for invariants (`mutants`), each with the test that has to fail under it: a story of
`test_seed`, or of what cores alone cannot show (that the mesh's own service is a secure one, and opens no logins) a test on real
wires. A story without an edit fails the suite, and so does an edit that no longer applies. `tests/README.md` has the same table.
"""

# ruff: noqa: E501  a table
from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from interop import test_ssh_client as client
from mutants import Mutant, edited
from simulation import test_seed as seed
from spoken import UPDATE
from unit import test_ccs as wires

OFF: tuple[tuple[Callable, Mutant], ...] = (
    (seed.test_every_machine_links_to_every_other, Mutant("S1 S2 S26", "ledger.node.mesh:Mesh.reconcile", "for name in core.others:", "for name in core.others[:1]:", "a machine links to one other")),
    (seed.test_one_link_down_keeps_nobody_from_updates, Mutant("S3", "ledger.node.replicating:news", " if own else core.gives.items():", ":", "nobody passes on what others wrote")),
    (seed.test_each_link_says_how_it_is_carried, Mutant("S4", "ledger.node.linking:establish", "channel.address, hello.transport,", "channel.address, None,", "the transport is not recorded")),
    (seed.test_tables_are_each_machines_own_and_are_gone_with_it, Mutant("S5 S31", "projections.feed_state:_started", "for peer, link in state.links.items():", "for peer, link in ():", "links are carried over a restart")),
    (seed.test_the_table_changes_as_links_go_down_and_up, Mutant("S6", "projections.cluster:Cluster.routes", 'state == "up"', 'state in {"up", "down"}', "the table does not mind links that are down")),
    (seed.test_every_machine_pings_every_other_each_minute, Mutant("S7", "ledger.node.pinging:_again", "max(due_ns + core.interval_ns,", "max(due_ns + 2 * core.interval_ns,", "a ping every other minute")),
    (seed.test_status_without_evidence_is_unknown, Mutant("S8", "projections.coverage:covered_at", "return not (resumed and", "return not (False and", "the last word holds for ever")),
    (seed.test_pings_keep_a_way_open, Mutant("S9", "ledger.node.pinging:_again", "max(due_ns + core.interval_ns,", "max(due_ns + 2 * core.interval_ns,", "ways are silent for two minutes")),
    (seed.test_a_drop_by_the_limit_heals_itself, Mutant("S10 S11", "ledger.node.linking:plan", "delay = core.jitter(", "delay = 300 * SECOND + core.jitter(", "a dropped link waits for minutes")),
    (seed.test_names_are_looked_up_before_each_dial, Mutant("S12 S13", "ledger.node.dialling:looked_up", "if found.fresh:", "if False:", "look-ups are not recorded")),
    (seed.test_a_machine_whose_name_does_not_resolve_is_a_member_that_does_not_communicate, Mutant("S15 S30", "projections.cluster:Cluster._cause", 'return "name-unresolvable"', "return None", "the cause of silence is not seen in DNS")),
    (seed.test_a_name_that_leads_elsewhere_finds_nobody, Mutant("S16 S17", "ledger.node.dialling:missed", "if found.key is not None and found.key in others:", "if False:", "another machine's answer is any wrong key")),
    (seed.test_a_new_main_host_name_changes_nothing_else, Mutant("S14 S18", "ledger.node.mesh:Mesh.reconcile", "if key != peer.channel.key:", 'if key != peer.channel.key or member.hostname != f"{name}.lab.example":', "a rename drops the links")),
    (seed.test_by_address_a_reverse_look_up_that_times_out_refuses, Mutant("S19 S20", "ledger.node.admission:_reverse", 'if found.outcome == "timeout":', "if False:", "a reverse time-out lets in")),
    (seed.test_drops_removals_losses_and_plans_are_told_apart, Mutant("S30", "projections.cluster:Cluster.pairs", "if a in planned or b in planned:", "if False:", "planned is taken for lost")),
    (seed.test_a_one_way_cut_is_asymmetric, Mutant("S29", "projections.cluster:Cluster.pairs", 'else "asymmetric"', 'else "up"', "one side that is up is enough")),
    (seed.test_an_upgrade_before_dns_knows_the_new_name_cuts_off, Mutant("S21", "projections.findings:_Rules._upgraded", 'if member is None or member.hostname is None or self.cluster.addressing == "address":', "if True:", "an upgrade is not held against the host name and DNS")),
    (seed.test_an_upgrade_before_dns_knows_the_new_name_cuts_off, Mutant("S21", "ledger.node.mesh:Mesh.start", "if self._before is not None and", "if False and", "an upgrade is not recorded")),
    (seed.test_a_host_name_that_does_not_lead_here_is_refused, Mutant("S22", "ledger.node.commanding:_sethostname", "if force:", "if True:", "a name is taken before DNS leads it here")),
    (seed.test_a_member_with_the_other_transport_gets_no_link, Mutant("S25", "ledger.node.admission:_mismatch", "if (heard.transport, heard.addressing) != here:", "if False:", "a link over either transport will do")),
    (seed.test_a_member_with_the_other_transport_gets_no_link, Mutant("S25", "projections.findings:_Rules._transported", "if transport != self.transport[0] and", "if False and", "mixed transports are no finding")),
    (seed.test_one_transport_until_all_have_left, Mutant("S27", "ledger.node.admitting:_wrong", "if (heard.transport, heard.addressing) != here:", "if False:", "a newcomer may bring the other transport")),
    (seed.test_the_last_machine_takes_the_cluster_along, Mutant("S28", "ledger.node.commanding:_leave", "if last:", "if False:", "the last leave is a leave like any other")),
    (seed.test_the_last_machine_takes_the_cluster_along, Mutant("S28", "ledger.node.commanding:_leave", "if last and not dissolve:", "if False:", "the last machine leaves with no second word")),
)  # fmt: skip

OF_WIRES: tuple[tuple[Callable, Mutant], ...] = (
    (wires.test_wrong_keys_on_either_side, Mutant("S23", "ledger.node.ccs:_Server.validate_public_key", 'if text.startswith(KEY_ALG + " ") else None', 'or "member"', "any key is let in")),
)  # fmt: skip

OF_LOGINS: tuple[tuple[Callable, tuple, Mutant], ...] = (
    (client.test_sessions_of_other_kinds_are_refused, ((), (), "refused-shell"), Mutant("S24", "ledger.node.ccs:_Session.shell_requested", "return self._server", "return not self._server", "a shell is granted")),
    (client.test_sessions_of_other_kinds_are_refused, ((), ("id",), "refused-exec"), Mutant("S24", "ledger.node.ccs:_Session.exec_requested", "return self._server", "return not self._server", "a command is granted")),
    (client.test_sessions_of_other_kinds_are_refused, (("-s",), ("sftp",), "refused-subsystem"), Mutant("S24", "ledger.node.ccs:_Session.subsystem_requested", "return subsystem == SUBSYSTEM or", "return subsystem == SUBSYSTEM or not", "any subsystem is granted")),
)  # fmt: skip

FAILS = (AssertionError, LookupError, ValueError)
ALL = [*OFF, *OF_WIRES, *((story, mutant) for story, _how, mutant in OF_LOGINS)]
README = Path(__file__).parents[1] / "README.md"


def named(rows: tuple) -> list[str]:
    """What the cases of a table are called."""
    return [row[-1].invariant.replace(" ", "-") for row in rows]


@pytest.mark.parametrize(("story", "mutant"), OFF, ids=named(OFF))
def test_without_the_behaviour_the_story_fails(story: Callable, mutant: Mutant, tmp_path: Path) -> None:
    """The story comes out with the code as it is (`test_seed`), and does not with its behaviour switched off."""
    with seed.telling(tmp_path) as tell, edited(mutant), pytest.raises(FAILS):
        story(tell)


@pytest.mark.parametrize(("story", "mutant"), OF_WIRES, ids=named(OF_WIRES))
def test_without_the_behaviour_the_wires_fail(story: Callable, mutant: Mutant) -> None:
    """The same on real sockets (`unit/test_ccs.py`): a dial that has to fail does not."""
    with edited(mutant), pytest.raises(AssertionError, match="it came to a link"):
        story()


@pytest.mark.parametrize(("story", "how", "mutant"), OF_LOGINS, ids=named(OF_LOGINS))
def test_without_the_behaviour_openssh_is_let_in(story: Callable, how: tuple, mutant: Mutant, tmp_path: Path) -> None:
    """The same before OpenSSH's client (`interop/test_ssh_client.py`), with the edit in the listener's process."""
    with client.listening(tmp_path, mutant) as node, pytest.raises(AssertionError):
        story(node, *how)


def test_every_story_has_its_switch() -> None:
    """No story of the seed system is without an edit under which it fails, and no sentence without a story."""
    stories = {each for name, each in vars(seed).items() if name.startswith("test_")}
    assert stories == {story for story, _mutant in OFF}
    told = {int(number) for _story, mutant in ALL for number in re.findall(r"S(\d+)", mutant.invariant)}
    assert told == set(range(1, 32))


def test_the_table_that_people_read_is_this_one() -> None:
    """`tests/README.md` has these rows and no others, in the order of the sentences; MESHLEDGER_UPDATE=1 writes them there."""
    rows = sorted((int(mutant.invariant.split()[0][1:]), place, story, mutant) for place, (story, mutant) in enumerate(ALL))
    lines = ["| sentences | what is switched off | in | the story that fails |", "| --- | --- | --- | --- |"]
    for _number, _place, story, mutant in rows:
        file = Path(story.__code__.co_filename).relative_to(README.parent)
        where = "" if file.name == "test_seed.py" else f"`{file}` "
        said = f"{where}{story.__name__.removeprefix('test_')}"
        sentences = mutant.invariant.replace(" ", ", ")
        lines.append(f"| {sentences} | {mutant.what} | `{mutant.place}` | {said} |")
    table = "\n".join(lines)
    text = README.read_text(encoding="utf-8")
    stands = re.search(r"^## Switched off\n.*?(^\|.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert stands is not None
    if os.environ.get(UPDATE):
        README.write_text(text.replace(stands[1], table), encoding="utf-8")
        return
    assert stands[1] == table
