"""Generated worlds: the truth of a mesh, and the feeds that its many observers recorded of it.

    made = world(seed=7, machines=5, minutes=30)
    made.truth.reachable("alpha", "bravo", at_ns)     # what was so
    made.feeds[feed]                                  # what was recorded, entry by entry
    made.truth.faults                                 # what went wrong, with the cause that can be found out

A world is a `Setup` and a script of steps; the same two give the same entries, byte for byte, everywhere. A step that makes no
sense where it falls does nothing, so any part of a script is a script, which lets a failing one shrink. Every entry is one
that a correct node would have written: feeds are gapless, link ids change, ping numbers go up, entries held are there.
Observers' clocks differ, drift and are set. Of what was recorded, some may not have been collected (`withheld`).

Strategies over worlds are in `ledger.testing`. Heads are not signed here, so there is no `head.witnessed`; each machine has one
feed. Pure: no clock, and no dice but those of the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from ledger import events as ev
from ledger import world_faults as faults
from ledger import world_plans as plans
from ledger.dice import Dice
from ledger.entry import Observed
from ledger.identity import Feed
from ledger.rehearsal import Step
from ledger.world_acts import found_all
from ledger.world_mesh import regard
from ledger.world_stage import SECOND_NS, Machine, Stage
from ledger.world_truth import Clock, Fault, Truth

START_NS: Final = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z, where worlds begin by default."""
NAMES: Final = (
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima", "mike",
    "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango",
)  # fmt: skip

Word = Callable[[Stage, Machine, Machine, int], None]
FAULTS: Final[dict[str, Word]] = {
    "flap": faults.flap,
    "cut": faults.cut_both,
    "one-way-cut": faults.one_way_cut,
    "restart": faults.restart,
    "target-down": faults.target_down,
    "observer-isolated": faults.isolate,
    "partition": faults.partition,
    "loss": faults.loss,
    "limit-drop": faults.limit_drop,
    "rename": faults.renamed,
    "renamed-without-dns": faults.renamed_without_dns,
    "name-points-elsewhere": faults.points_elsewhere,
    "disconnected": plans.disconnected,
    "upgrade": plans.upgraded,
    "upgrade-unprepared": plans.upgraded_unprepared,
    "leave": plans.left,
    "removal": plans.removed,
    "one-sided-removal": plans.removed_on_one_side,
    "clock-step": faults.clock_step,
    "skew": faults.skew,
    "stall": faults.stall,
    "host-key-mismatch": faults.host_key_mismatch,
    "reverse-timeout": faults.reverse_timeout,
    "transport-mixed": faults.transport_mixed,
}
"""The words of a script that make something go wrong, the plainest first."""


def _wait(_stage: Stage, _actor: Machine, _peer: Machine, _amount: int) -> None:
    """Nothing but the gap before it."""


WORDS: Final[dict[str, Word]] = {"wait": _wait, "admit": plans.joined, **FAULTS}
"""All words of a script. The third `admit` of any is two admissions at once."""


class Setup(msgspec.Struct, frozen=True):
    """What a world is before anything happens. `outside`: how many of the `machines`, the last ones, are not in from the
    beginning. `keyed`: under ledger keys, else in the style of an import. `spread_ms`: all wall clocks are wrong
    by up to so much; `skews_s`: and by how many seconds the wall clocks of
    the first, second … machine are wrong. `collected`: how many in a thousand entries of the first, second … machine's feed
    were collected, all if not said; 0 is a feed that is missing. `seed`: of the jitter of pings and dials. `minutes`: where
    the world ends; if not said, when everything has mended and been quiet for two intervals.
    """

    machines: tuple[str, ...] = NAMES[:4]
    outside: int = 0
    seed: int = 0
    start_ns: int = START_NS
    interval_ms: int = 60_000
    timeout_ms: int = 15_000
    lost_after: int = 1
    keyed: bool = True
    addressing: ev.Addressing = "name"
    transport: ev.Transport = "ssh"
    spread_ms: int = 500
    skews_s: tuple[int, ...] = ()
    collected: tuple[int, ...] = ()
    minutes: int | None = None


class World:
    """A world that was played. `feeds`: what was collected, in the feeds' order; `withheld`: by feed, the entries at its end
    that were not (all of them where `feeds` has none of it). Treat it as frozen. Its repr is what plays it again.
    """

    __slots__ = ("feeds", "script", "setup", "truth", "withheld")

    def __init__(
        self,
        setup: Setup,
        script: tuple[Step, ...],
        truth: Truth,
        feeds: dict[Feed, list[Observed]],
        withheld: dict[Feed, list[Observed]],
    ) -> None:
        self.setup, self.script, self.truth, self.feeds, self.withheld = setup, script, truth, feeds, withheld

    def __repr__(self) -> str:
        return f"play({self.setup!r}, {list(self.script)!r})"

    @property
    def whole(self) -> dict[Feed, list[Observed]]:
        """All that was recorded, collected or not."""
        every = sorted({*self.feeds, *self.withheld})
        return {feed: [*self.feeds.get(feed, ()), *self.withheld.get(feed, ())] for feed in every}

    def held_by(self, machine: str) -> dict[Feed, list[Observed]]:
        """What the ledger of one machine holds: its own feed, and of the others what its own entries say that it had received.
        Empty if its feed was not collected. Raises KeyError for a machine that wrote nothing.
        """
        own = {feed.machine: feed for feed in self.whole}[machine]
        held: dict[str, int] = {own.id: len(self.feeds.get(own, ()))}
        for each in self.feeds.get(own, ()):
            event = each.event
            if isinstance(event, ev.FeedReceived | ev.PingAnswered | ev.PingFailed) and event.feed and event.held:
                held[event.feed] = event.held
        return {feed: log[: held[feed.id]] for feed, log in self.whole.items() if held.get(feed.id)}


def play(setup: Setup, script: Iterable[Step] = ()) -> World:
    """The world that follows. A step's `actor` and `peer` are taken among the machines that run and are in, whatever number
    they are; `gap_ns` passes before it. Raises ValueError if the setup names fewer than one machine that is in, or a
    time-out that is no shorter than the interval.
    """
    inside = len(setup.machines) - setup.outside
    if inside < 1 or not 0 < setup.timeout_ms < setup.interval_ms or setup.lost_after < 1:
        raise ValueError("a world needs a machine that is in, and a time-out that is shorter than the interval")
    steps = tuple(script)
    truth = Truth(
        setup.machines, setup.start_ns, interval_ms=setup.interval_ms, timeout_ms=setup.timeout_ms, lost_after=setup.lost_after
    )
    stage = Stage(
        setup.machines, setup.start_ns, Dice(setup.seed), truth, keyed=setup.keyed, addressing=setup.addressing,
        transport=setup.transport, salt=f"world {setup.seed}", spread_ms=setup.spread_ms, regard=regard,
    )  # fmt: skip
    for name, skew_s in zip(setup.machines, setup.skews_s, strict=False):
        if skew_s:
            line = truth.clocks[name]
            line.values[0] = Clock(setup.start_ns, line.now.error_ns + skew_s * SECOND_NS, line.now.ppm)
            truth.faults.append(Fault(0, "skew", (name,), setup.start_ns, setup.start_ns))
    found_all(stage, list(setup.machines[:inside]))
    last_ns = None if setup.minutes is None else setup.start_ns + setup.minutes * 60 * SECOND_NS
    stage.run(_within(setup.start_ns + inside * SECOND_NS // 5 + 2 * stage.interval_ns, last_ns))
    for number, step in enumerate(steps, 1):
        until_ns = stage.now_ns + max(0, step.gap_ns)
        if last_ns is not None and until_ns >= last_ns:
            break
        stage.run(until_ns)
        stage.plant = number
        present = faults.here(stage)
        if len(present) > 1:
            actor = present[step.actor % len(present)]
            others = [machine for machine in present if machine is not actor]
            WORDS[step.word](stage, actor, others[step.peer % len(others)], step.amount)
    if last_ns is None:
        mended_ns = max([stage.now_ns, *(fault.until_ns for fault in truth.faults if fault.until_ns < plans.NEVER_NS)])
        last_ns = mended_ns + truth.settling_ns + 2 * stage.interval_ns
    stage.run(last_ns)
    truth.end_ns = last_ns
    truth.faults[:] = [msgspec.structs.replace(fault, until_ns=min(fault.until_ns, last_ns)) for fault in truth.faults]
    return _collected(setup, steps, stage)


def _within(at_ns: int, last_ns: int | None) -> int:
    return at_ns if last_ns is None else min(at_ns, last_ns)


def _collected(setup: Setup, script: tuple[Step, ...], stage: Stage) -> World:
    feeds: dict[Feed, list[Observed]] = {}
    withheld: dict[Feed, list[Observed]] = {}
    for place, machine in enumerate(stage.machines.values()):
        share = setup.collected[place] if place < len(setup.collected) else 1000
        many = len(machine.log) * max(0, min(share, 1000)) // 1000
        if many:
            feeds[machine.feed] = machine.log[:many]
        if many < len(machine.log):
            withheld[machine.feed] = machine.log[many:]
    order = sorted(feeds), sorted(withheld)
    return World(
        setup, script, stage.truth, {feed: feeds[feed] for feed in order[0]}, {feed: withheld[feed] for feed in order[1]}
    )


def world(
    seed: int, machines: int = 5, minutes: int = 30, *, words: Sequence[str] = tuple(WORDS), each_minutes: int = 5
) -> World:
    """A world from a number, for benchmarks and demonstrations: so many machines (1 to 20; of five or more one comes later),
    so many minutes, and one of `words` about every `each_minutes` minutes. Raises ValueError for more machines than names.
    """
    if not 1 <= machines <= len(NAMES):
        raise ValueError(f"a world of {machines} machines: from 1 to {len(NAMES)} can be named")
    dice = Dice(seed)
    script = []
    for _ in range(max(0, minutes // each_minutes)):
        gap_ns = dice.between(each_minutes * 40, each_minutes * 80) * SECOND_NS
        script.append(Step(gap_ns, dice.one_of(words), dice.below(64), dice.below(64), dice.below(1000)))
    skews_s = tuple(dice.between(-90, 90) if dice.permille(200) else 0 for _ in range(machines))
    setup = Setup(NAMES[:machines], int(machines >= 5), seed, skews_s=skews_s, minutes=minutes)
    return play(setup, script)
