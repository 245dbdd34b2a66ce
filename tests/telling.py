"""Generated worlds in the words of a transcript: who is there, and what happens when.

    machines alpha bravo charlie        (who is in from the beginning, the founder first)
    seed 7                              (of the jitter; and so for every number or word of a `Setup`)
    05:00 cut alpha bravo 2             (minutes and seconds after the beginning: a word of `worlds.WORDS`, who, whom, amount)

The world begins at 2026-01-01T00:00:00Z. Nothing may happen in its first three minutes, in which it forms, nor to a machine
that does not run then. Clocks differ by some milliseconds, unless `spread_ms` says otherwise.
"""

from pathlib import Path

from ledger.rehearsal import Step
from ledger.store import Ledger
from ledger.worlds import WORDS, Setup, World, play

SECOND_NS = 10**9


def told(lines: list[str]) -> World:
    """The world that these lines tell of."""
    given: dict = {"spread_ms": 5}
    happened: list[tuple[int, str, list[str], int]] = []
    for line in lines:
        first, *rest = line.split()
        if first == "machines":
            given["machines"] = tuple(rest)
        elif ":" in first:
            minutes, seconds = first.split(":")
            word, *names = rest
            amount = int(names.pop()) if names[-1].isdecimal() else 0
            assert word in WORDS, f"{word} is no word of a world"
            happened.append((int(minutes) * 60 + int(seconds), word, names, amount))
        else:
            given[first] = int(rest[0]) if rest[0].isdecimal() else rest[0]
    setup = Setup(**given)
    names = setup.machines[: len(setup.machines) - setup.outside]
    now_ns = len(names) * SECOND_NS // 5 + 2 * setup.interval_ms * 10**6
    script = []
    for at_s, word, who, amount in happened:
        gap_ns, now_ns = at_s * SECOND_NS - now_ns, at_s * SECOND_NS
        assert gap_ns >= 0, f"{word}: too early"
        others = [name for name in names if name != who[0]]
        script.append(Step(gap_ns, word, names.index(who[0]), others.index(who[1]) if len(who) > 1 else 0, amount))
    made = play(setup, script)
    faults = sum(word not in {"wait", "admit"} for _, word, _, _ in happened)
    assert len({fault.plant for fault in made.truth.faults} - {0}) >= faults, "something that is told did not happen"
    return made


def record(made: World, folder: Path) -> list[Path]:
    """Each machine's ledger, if its feed was collected: its own feed, and of the others' what it had received."""
    folder.mkdir()
    paths = []
    for own in made.feeds:
        paths.append(folder / f"{own.machine}.ledger")
        with Ledger.create(paths[-1], incarnation=own.incarnation) as ledger:
            for feed, log in made.held_by(own.machine).items():
                ledger.add_feed(feed)
                ledger.append(log, observer=feed, seal=feed == own)
    return paths
