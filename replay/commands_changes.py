"""What changed, who set it, and for how long it was so: `diff`, `blame`, `stats`.

`diff` says no (1) if anything differs, so that a script can ask whether a change was felt.
"""

from __future__ import annotations

import click

from ledger.errors import Refused
from replay import headlines
from replay.asked import Asked
from replay.commands_moments import coverage, state
from replay.exits import NO
from replay.options import Command, belief_option, ledgers_argument


@click.command("diff", cls=Command)
@click.argument("since", metavar="T1")
@click.argument("until", metavar="T2")
@click.option("--pings", is_flag=True, help="Also what every ping changes: last result, counts.")
@belief_option()
@ledgers_argument()
@click.pass_obj
def diff_(asked: Asked, /, *, since: str, until: str, pings: bool, observer: str | None, ledgers: tuple[str, ...]) -> int:
    """What changed from one moment to another, field by field, each with both values and the entry that set the new one.

    Exit code 1 if anything changed, 0 if nothing did. A field without an entry follows from others.

    For example:
      meshledger diff '2026-11-22 03:10' '2026-11-22 03:13' -L incident.ledger
      meshledger diff -1h now -L node.ledger
      meshledger diff start end -L seattle.ledger -o jsonl
      meshledger diff -10min now --as-seen-by delta -L incident.ledger
    """
    from replay.diff import answer

    with asked.history(ledgers) as history:
        before, after = state(asked, history, since, observer), state(asked, history, until, observer)
        found = answer(before, after, pings=pings)
        cells = {change.cell for change in found.changes}
        summary = f"{headlines.counted(len(found.changes), 'field')} of {headlines.counted(len(cells), 'cell')} changed"
        asked.answer(found, above=[f"from {found.since} to {found.until}: {summary}"])
        code = NO if found.changes else 0
        return asked.judged(history, coverage(asked, history, before) or coverage(asked, history, after) or code)


@click.command("blame", cls=Command)
@click.argument("cell", metavar="CELL")
@click.option("--at", "time", default="end", show_default=True, metavar="TIME", help="The moment asked about.")
@belief_option()
@ledgers_argument()
@click.pass_obj
def blame_(asked: Asked, /, *, cell: str, time: str, observer: str | None, ledgers: tuple[str, ...]) -> int:
    """For each field of a machine, a link or a pair: the entry that made it what it is at that moment.

    A machine is charlie, a link alpha:charlie (as alpha saw it), a pair alpha=charlie. `show` prints an entry in full.

    For example:
      meshledger blame alpha:charlie --at '2026-11-22 03:12' -L incident.ledger
      meshledger blame charlie -L incident.ledger
      meshledger blame alpha=charlie --at end -L incident.ledger -o json
    """
    from replay.blame import blame_of

    with asked.history(ledgers) as history:
        cluster = state(asked, history, time, observer)
        found = blame_of(history, cell, cluster)
        asked.answer(found, above=[f"{found.cell} at {found.at}"])
        return asked.judged(history, coverage(asked, history, cluster))


@click.command("stats", cls=Command)
@click.option("-S", "--since", metavar="TIME", help="From this moment on; else from the first entry.")
@click.option("-U", "--until", metavar="TIME", help="Before this moment; else until the first full second after the last entry.")
@click.option("-m", "--machine", metavar="MACHINE", help="The four questions of one machine, instead of the times of pairs.")
@click.option("--of", metavar="CELL", help="Only the pairs of a machine, only a pair, or only a link and its pair.")
@ledgers_argument()
@click.pass_obj
def stats_(
    asked: Asked, /, *, since: str | None, until: str | None, machine: str | None, of: str | None, ledgers: tuple[str, ...]
) -> int:
    """How long each pair was in each of its seven states, how often it ceased to be up, and what pinging it came to.

    The times of a pair add up to the window, exactly. Results count where a link stood; quantiles are by nearest rank.

    For example:
      meshledger stats -L seattle.ledger -o csv -O stats.csv
      meshledger stats --since '2026-11-22 03:00' --until '2026-11-22 04:00' --of alpha=charlie -L incident.ledger
      meshledger stats -m charlie -L incident.ledger

    With -m: how often the machine left or fell silent, how long each time, back by itself or by whom, and why.
    """
    from replay.absences import absences
    from replay.cells import parse_cell
    from replay.intervals import window
    from replay.stats import stats

    with asked.history(ledgers) as history:
        within = asked.range(history, since, until)
        start_ns, end_ns = window(history, within.since_ns, within.until_ns)
        if machine is not None:
            if of is not None:
                raise Refused("-m and --of exclude each other", hint="--of a machine gives the times of its pairs")
            told = absences(history, machine, start_ns, end_ns, progress=asked.progress("stats", "moments"))
            times = f"left {told.left}, silent {told.silent}, disconnected on purpose {told.planned} times"
            asked.answer(
                told, above=[headlines.lasting(start_ns, end_ns), f"{machine}: {times}{', flapping' * told.flapping}", ""]
            )
            return asked.judged(history)
        cell = None if of is None else parse_cell(of)
        found = stats(history, start_ns, end_ns, cell, progress=asked.progress("stats", "feeds"))
        asked.answer(found, above=[headlines.lasting(start_ns, end_ns)])
        return asked.judged(history)
