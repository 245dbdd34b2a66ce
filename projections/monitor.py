"""What an invariant is: a sentence that must be true of every log, and a monitor that watches entries and judges it.

A monitor is fed entries in the order of their feeds, one by one, and keeps no more than it must to judge the next one: it can
be saved after any entry and go on from there (a law). Pings are the mass of a log, so they come as *runs*: results to one peer
over one link with nothing else about that peer between. A run of a thousand says the same as a thousand runs of one, which is
a law too. `now_ns` is *feed time*, the observer's own monotonic clock where there is one: deadlines run on nothing else.

Five verdicts. *violated* names the positions; *holds* means that it was put to the test and stood it; *pending* that the log
ends before a deadline; *vacuous* that nothing happened that it speaks of; *not covered* that the log is blind where it matters.
Four classes: `log` and `software` hold in every correct history; `mesh` and `coverage` are findings about the mesh and its log.

Pure values, no effects. Operators to write invariants with stand in `operators`, the engine in `watch`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import msgspec

from ledger.entry import Entry
from ledger.events import PingAnswered, PingFailed
from ledger.identity import Feed
from projections.cluster import Cluster
from projections.feed_state import FeedState
from projections.pace import Pace

Severity = Literal["log", "software", "mesh", "coverage"]
Outcome = Literal["holds", "violated", "pending", "vacuous", "not covered"]
PARTED: Final = frozenset({"left", "disconnected", "not-a-member"})
"""Reasons that say that a link need not come back."""
PINGS: Final = frozenset({"ping.answered", "ping.failed"})
SEVERITIES: Final[tuple[Severity, ...]] = ("log", "software", "mesh", "coverage")
"""The gravest first."""
WITNESSES_MAX: Final = 20
"""More positions than this are counted and not kept."""


class Rule(msgspec.Struct, frozen=True):
    """An invariant in words. `name`: A12; `title`: in four words; `says`: the sentence that must be true."""

    name: str
    title: str
    severity: Severity
    says: str


class Witness(msgspec.Struct, frozen=True, array_like=True):
    """One violation: the entry that shows it, why, and the other entries that belong to it. The earliest are kept.

    `severity`: where this one is of another class than its rule, such as a fold at odds with a log that merely shows a fault.
    """

    at_ns: int
    pos: str
    what: str
    also: tuple[str, ...] = ()
    severity: Severity | None = None


def _place(witness: Witness) -> tuple[int, str, str, tuple[str, ...]]:
    return witness.at_ns, witness.pos, witness.what, witness.also


class Tally(msgspec.Struct):
    """What came of an invariant so far: how often it was put to the test, failed, could not be judged, or is open. `severities`:
    those that violations named; `plain`: one was of the rule's own class.
    """

    judged: int = 0
    violations: int = 0
    uncovered: int = 0
    pending: int = 0
    witnesses: list[Witness] = []
    severities: list[Severity] = []
    plain: bool = False

    def violate(self, witness: Witness) -> None:
        """It failed: the earliest positions are kept, whatever the order in which they are found."""
        self.judged += 1
        self.violations += 1
        if witness.severity is not None and witness.severity not in self.severities:
            self.severities.append(witness.severity)
        elif witness.severity is None and not self.plain:
            self.plain = True
        if len(self.witnesses) < WITNESSES_MAX or _place(witness) < _place(self.witnesses[-1]):
            insort(self.witnesses, witness, key=_place)
            del self.witnesses[WITNESSES_MAX:]


class Verdict(msgspec.Struct, frozen=True):
    """What is said of an invariant at the end. `witnesses`: the earliest of its `violations`."""

    rule: Rule
    severity: Severity
    outcome: Outcome
    judged: int
    violations: int
    uncovered: int
    pending: int
    witnesses: tuple[Witness, ...]


class Run(msgspec.Struct, frozen=True, gc=False):
    """Results of pings to `peer` over `link`, all answered (`reason` None) or all failed, with consecutive numbers. `first`,
    `last`: entry indexes; `first_ns`, `last_ns`: effective instants; `begun_ns`, `now_ns`: feed time of both; `gap_ns`: the
    greatest feed time between two of them, less than one and a half intervals. `stamped`: they bear stamps of the exchange; in
    runs of several these are in order. `event`: the ping, if it is only one.
    """

    feed: Feed
    peer: str
    link: str | None
    reason: str | None
    count: int
    first: int
    last: int
    first_ns: int
    last_ns: int
    begun_ns: int
    now_ns: int
    gap_ns: int
    number: int
    stamped: bool = False
    event: PingAnswered | PingFailed | None = None

    @classmethod
    def of(cls, entry: Entry, event: PingAnswered | PingFailed, now_ns: int) -> Run:
        """A run of one."""
        index, at_ns, reason, stamped = entry.index, entry.effective_ns, None, False
        if isinstance(event, PingFailed):
            reason = event.reason
        else:
            stamped = event.sent_us is not None or event.received_us is not None
        return cls(
            entry.feed,
            event.peer,
            event.link,
            reason,
            1,
            index,
            index,
            at_ns,
            at_ns,
            now_ns,
            now_ns,
            0,
            event.number,
            stamped,
            event,
        )

    @property
    def position(self) -> str:
        """Where it begins."""
        return self.feed.at(self.first)


Seen = Entry | Run


class Horizon(msgspec.Struct):
    """Where the log ends. `cluster`: the join of all folds there; `now_ns`, `end_ns`: of each feed its feed time and the
    effective instant of its last entry; `pace`: the settings of the log.
    """

    cluster: Cluster
    now_ns: Mapping[Feed, int]
    end_ns: Mapping[Feed, int]
    pace: Pace


class State(msgspec.Struct):
    """What a monitor keeps between two entries; it encodes with msgspec."""

    tally: Tally = msgspec.field(default_factory=Tally)


class Monitor:
    """Watches entries and judges one rule. What it wants to see it says in the class: `kinds` of control entries, `pings` (of
    which of the two kinds), `clocks`, the fold after entries of the kinds `folds` (with the fold before, if `compares`).
    `mesh`: it looks across feeds, and wants control entries of all of them in display order.

    Write one by taking an operator (`operators`), or by a class of your own with a `State`.
    """

    kinds: frozenset[str] = frozenset()
    pings: frozenset[str] = frozenset()
    clocks: bool = False
    folds: frozenset[str] = frozenset()
    compares: bool = False
    mesh: bool = False
    state_type: ClassVar[type[State]] = State

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.pace = Pace()
        self.state: Any = self.state_type()

    @property
    def tally(self) -> Tally:
        """What came of it so far."""
        tally: Tally = self.state.tally
        return tally

    # What it is told. Each does nothing unless a monitor has use for it.

    def step(self, entry: Entry, now_ns: int) -> None:
        """A control entry of one of the `kinds`. Of a `mesh` monitor `now_ns` is the effective instant of the entry before it."""

    def ping(self, run: Run) -> bool:  # noqa: ARG002
        """Results of pings. False, and nothing changed: they are to be told one by one."""
        return True

    def clock(self, feed: Feed, first: int, walls: list[int], monos: list[int | None], boots: list[int | None]) -> None:
        """The clocks of consecutive entries from index `first` on, all but those that are told by `step`."""

    def folded(self, entry: Entry, before: FeedState | None, after: FeedState) -> None:
        """The fold of the entry's feed after an entry of the kinds `folds`; `before` only if it `compares`."""

    def reset(self, feed: Feed, now_ns: int) -> None:
        """The node stopped, or began anew: from `now_ns` on nothing that was awaited can be asked of it."""

    def blind(self, feed: Feed, now_ns: int) -> None:
        """An entry of an unknown kind: what was awaited may have been in it."""

    def pause(self, feed: Feed, now_ns: int, stalled_ns: int) -> None:
        """The node missed its own timers for so long; `now_ns` is the feed time of the entry before the one that says so."""

    def tick(self, feed: Feed, now_ns: int) -> None:
        """Feed time is `now_ns`: deadlines before it have passed."""

    def end(self, horizon: Horizon) -> None:
        """The log ends here. Counts what is still awaited as `pending`."""

    # What it says.

    def violate(
        self, seen: Seen, what: str, also: tuple[str, ...] = (), severity: Severity | None = None, *, last: bool = False
    ) -> None:
        """The rule is broken, as `seen` shows (its `last` entry, if it is a run)."""
        if isinstance(seen, Run):
            at_ns, index = (seen.last_ns, seen.last) if last else (seen.first_ns, seen.first)
        else:
            at_ns, index = seen.effective_ns, seen.index
        self.tally.violate(Witness(at_ns, seen.feed.at(index), what, also, severity))

    def verdict(self) -> Verdict:
        """What is said of the rule, once the log has ended."""
        tally = self.tally
        outcome: Outcome = "vacuous"
        if tally.violations:
            outcome = "violated"
        elif tally.judged:
            outcome = "holds"
        elif tally.pending:
            outcome = "pending"
        elif tally.uncovered:
            outcome = "not covered"
        own = [self.rule.severity] if tally.plain or not tally.severities else []
        severity = min([*tally.severities, *own], key=SEVERITIES.index)
        return Verdict(
            self.rule, severity, outcome, tally.judged, tally.violations, tally.uncovered, tally.pending, tuple(tally.witnesses)
        )

    def save(self) -> bytes:
        """Its state, from which another of its kind goes on."""
        return msgspec.msgpack.encode(self.state)

    def resume(self, saved: bytes) -> None:
        """Go on from what `save` gave. Raises msgspec.MsgspecError for anything else."""
        self.state = msgspec.msgpack.decode(saved, type=self.state_type)
