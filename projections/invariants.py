"""The invariants that are shipped: A1 to A21 of one feed, B1 to B19 of several, each by its name and with its sentence.

`shipped()` gives new monitors of all of them, in the order of their names. A2, B1 and B18 are about bytes, copies and signed
heads: no monitor of entries can see these, so their verdicts are filled in by whoever has checked the files (`replay.check`).
Guests add theirs by an entry point (group `meshledger.invariants`): a function without arguments that gives monitors.
"""

from __future__ import annotations

from projections import invariants_fold as fold
from projections import invariants_links as links
from projections import invariants_pings as pings
from projections.invariants_members import Agreement, LastLeavesClusterEnds, LeaveIsFinal, NoStrangers
from projections.invariants_names import (
    AddressNeedsReverse,
    DialNeedsAddress,
    OneNameOneMachine,
    OneTransport,
    RenameBeforeUpgrade,
)
from projections.invariants_pairs import DisplayOrder, TwoSided, Witnessed
from projections.invariants_recovery import CrashIsSeen, NobodyGivesUp
from projections.monitor import Monitor, Rule, Witness


class Structural(Monitor):
    """An invariant of files: told of tests and failures by whoever checks them."""

    def told(self, judged: int, wrong: list[tuple[str, str]]) -> None:
        """So many tests stood, and these positions failed, each with what is wrong."""
        self.tally.judged += judged
        for pos, what in wrong:
            self.tally.violate(Witness(0, pos, what))


def structural() -> list[Structural]:
    """A2, B1 and B18."""
    return [
        Structural(
            Rule(
                "A2", "bytes prove themselves", "log",
                "Every record is, byte for byte, what its leaf, the feed's tree and its signed heads say.",
            )
        ),
        Structural(
            Rule(
                "B1", "a merge is a union", "software",
                "Copies of a feed unite to one, in whatever order they come, or a fork is told.",
            )
        ),
        Structural(
            Rule(
                "B18", "no two words for one", "log",
                "Of one feed there is one history: heads that were kept or witnessed, and all copies, continue each other.",
            )
        ),
    ]  # fmt: skip


def shipped() -> list[Monitor]:
    """All of them, new, by name."""
    found: list[Monitor] = [
        *structural(),
        pings.Gapless(), pings.MonotonicClock(), pings.StepsAreTold(), links.LinkAlternation(), links.RestartEmpties(),
        links.NoSelfLink(), fold.members_only(), pings.cadence(), pings.closure(), links.answered_implies_up(),
        pings.silence(), links.lost_is_answered(), links.CapHeals(), DialNeedsAddress(), AddressNeedsReverse(),
        fold.unresolvable_member(), fold.RenameKeepsIdentity(), RenameBeforeUpgrade(), links.flap_bound(), pings.OwnHealth(),
        fold.arrival_independence(), DisplayOrder(), fold.unknown_stays_unknown(), TwoSided(), fold.completeness(),
        fold.one_loss_isolates_nobody(), Witnessed(), CrashIsSeen(), NobodyGivesUp(), Agreement(), fold.precedence(),
        LeaveIsFinal(), LastLeavesClusterEnds(), OneNameOneMachine(), OneTransport(), pings.halves(), NoStrangers(),
    ]  # fmt: skip
    return sorted(found, key=lambda monitor: (monitor.rule.name[0], int(monitor.rule.name[1:])))
