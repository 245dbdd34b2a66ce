"""Each behaviour that a sentence of the seed system names, switched off: then the story of that sentence no longer comes out.

A table of edits of the shipped code, as for invariants (`mutants`), each with the test of `test_seed` that has to fail under it. A
story without an edit fails the suite, and so does an edit that no longer applies.
"""

# ruff: noqa: E501  a table
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mutants import Mutant, edited
from simulation import test_seed as seed

OFF: tuple[tuple[Callable, Mutant], ...] = (
    (seed.test_every_machine_links_to_every_other, Mutant("S1 S2 S26", "ledger.node.mesh:Mesh.reconcile", "for name in core.others:", "for name in core.others[:1]:", "a machine links to one other")),
    (seed.test_one_link_down_keeps_nobody_from_updates, Mutant("S3", "ledger.node.replicating:news", "(core.feed.id,) if own else core.gives:", "(core.feed.id,):", "nobody passes on what others wrote")),
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
)  # fmt: skip


@pytest.mark.parametrize(("story", "mutant"), OFF, ids=[mutant.invariant.replace(" ", "-") for _story, mutant in OFF])
def test_without_the_behaviour_the_story_fails(story: Callable, mutant: Mutant, tmp_path: Path) -> None:
    """The story comes out with the code as it is (`test_seed`), and does not with its behaviour switched off."""
    with seed.telling(tmp_path) as tell, edited(mutant), pytest.raises((AssertionError, LookupError, ValueError)):
        story(tell)


def test_every_story_has_its_switch() -> None:
    """No story of the seed system is without an edit under which it fails."""
    stories = {each for name, each in vars(seed).items() if name.startswith("test_")}
    assert stories == {story for story, _mutant in OFF}
