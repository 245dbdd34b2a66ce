"""Why one machine could not reach another: `why`.

It says no (1) where there was no way, also none over other machines, and 3 where the log does not cover the question; a cause
may be named all the same. People get a block of text; the rows of `-o jsonl` and `csv` are the entries of the chain.
"""

from __future__ import annotations

import click

from replay.asked import Asked
from replay.exits import NO, NOT_COVERED
from replay.options import Command, belief_option, ledgers_argument
from replay.text import visible


@click.command("why", cls=Command)
@click.argument("source", metavar="A")
@click.argument("target", metavar="B")
@click.option("--at", "time", default="end", show_default=True, metavar="TIME", help="The moment asked about.")
@belief_option()
@ledgers_argument()
@click.pass_obj
def why_(asked: Asked, /, *, source: str, target: str, time: str, observer: str | None, ledgers: tuple[str, ...]) -> int:
    """Whether machine A could reach machine B, and if they were not linked: one cause, and the entries that prove it.

    The cause names the suspect and not the reporter: who lost everybody is isolated, whom everybody lost is down, and two
    sides that each see their own are a partition. Without any one entry of the chain the rest would not prove it.

    Exit code 0 if A could reach B, directly or over others; 1 if not; 3 if the log does not cover it, and says what is missing.

    For example:
      meshledger why alpha charlie --at '2026-11-22 03:12' -L incident.ledger
      meshledger why alpha charlie -L alpha.ledger -L bravo.ledger
      meshledger why alpha charlie --at 03:12 -L incident.ledger -o json
      meshledger why alpha charlie --at 03:12 --as-seen-by delta -L incident.ledger
    """
    from ledger.identity import machine_name, parse_position
    from replay.telling import why_lines
    from replay.why import why

    with asked.history(ledgers) as history:
        at_ns = asked.moment(history, time)
        moment = (parse_position(time) or at_ns) if observer is not None else at_ns
        found = why(history, machine_name(source), machine_name(target), moment, as_seen_by=observer)
        if asked.form == "table":
            with asked.stream() as out:
                out.writelines(f"{visible(line)}\n" for line in why_lines(found))
        else:
            asked.answer(found)
        code = 0 if found.reachable else NO
        if found.reachable is None:
            code = NOT_COVERED
        return asked.judged(history, code)
