"""Who saw it otherwise: `disagreements`.

It says no (1) if observers differed, 3 if fewer than two of those concerned cover anything of the window, so that nobody could
have differed.
"""

from __future__ import annotations

import click

from ledger.errors import Refused
from replay import headlines
from replay.answers_views import Disagreements
from replay.asked import Asked
from replay.cells import Cell, parse_cell
from replay.exits import NO
from replay.options import Command, ledgers_argument
from replay.spans import parse_span


@click.command("disagreements", cls=Command)
@click.option("-S", "--since", metavar="TIME", help="From this moment on; else from the first entry.")
@click.option("-U", "--until", metavar="TIME", help="Before this moment; else until the first full second after the last entry.")
@click.option("--around", metavar="TIME[±SPAN]", help="To both sides of a moment; five minutes if no span is named.")
@click.option("-m", "--machine", metavar="NAME", help="Only about this machine, and pairs that it is in.")
@click.option("-l", "--link", metavar="A=B", help="Only about this pair.")
@click.option("--least", metavar="SPAN", help="Only what lasted so long, such as 10s.")
@ledgers_argument()
@click.pass_obj
def disagreements_(
    asked: Asked,
    /,
    *,
    since: str | None,
    until: str | None,
    around: str | None,
    machine: str | None,
    link: str | None,
    least: str | None,
    ledgers: tuple[str, ...],
) -> int:
    """On which pairs and machines observers differed, since when and until when, and each one's entry.

    A pair is up one way and down the other; a machine is up for some and down for others, or for all but one; some hold a
    machine for a member and others do not; some see the mesh whole and others in parts. Links are those of the merged logs;
    members and islands are what each machine believed. Exit code 1 if there are any, 0 if none.

    For example:
      meshledger disagreements -L alpha.ledger -L bravo.ledger
      meshledger disagreements --around '2026-11-22 03:12±10min' -m charlie -L incident.ledger
      meshledger disagreements -S 03:00 -U 04:00 --least 10s -L incident.ledger -o json
    """
    from replay.disagreements import disagreements
    from replay.intervals import window

    with asked.history(ledgers) as history:
        of = _meant(machine, link)
        within = asked.range(history, since, until, around)
        start_ns, end_ns = window(history, within.since_ns, within.until_ns)
        least_ns = parse_span(least) if least is not None else 1
        told = asked.progress("disagreements", "passes over feeds")
        found = disagreements(history, start_ns, end_ns, of, least_ns=max(least_ns, 1), progress=told)
        asked.answer(found, above=[headlines.lasting(start_ns, end_ns), _summary(found)])
        code = NO if found.disagreements else 0
        covering = [name for name, span_ns in found.covered_ns.items() if span_ns]
        if len(covering) < 2 and not code:
            who = f"only {covering[0]}'s feed covers" if covering else "no feed covers"
            code = asked.uncovered(f"{who} anything of this window: nobody could differ", "name the ledgers of others too")
        return asked.judged(history, code)


def _meant(machine: str | None, link: str | None) -> Cell | None:
    if machine is not None and link is not None:
        raise Refused("-m and -l name different things", hint="leave out one of the two")
    if machine is not None:
        meant = parse_cell(machine)
        if meant.kind != "machine":
            raise Refused(f"'{meant}' is no machine", hint="a pair is named with -l")
        return meant
    cell = parse_cell(link) if link is not None else None
    if cell is not None and cell.kind == "machine":
        raise Refused(f"'{cell}' is no pair", hint="a pair is alpha=bravo; a machine is named with -m")
    return cell


def _summary(found: Disagreements) -> str:
    about = {(each.kind, each.about) for each in found.disagreements}
    lone = sorted({each.lone for each in found.disagreements if each.lone is not None})
    told = f"; alone at times: {', '.join(lone[:8])}{' …' if len(lone) > 8 else ''}" if lone else ""
    return f"{headlines.counted(len(found.disagreements), 'disagreement')} about {headlines.counted(len(about), 'thing')}{told}"
