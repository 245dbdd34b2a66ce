"""When did it break, when did it hold again, how often, how long in all: `bisect`.

Like `git bisect` it says yes (0) if it found where something broke. Unlike it, it looks at every moment: a mesh heals, and
halving would jump over what broke and healed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from ledger.errors import Refused
from replay.answers_conditions import Bisect, Stretch
from replay.asked import Asked
from replay.exits import NO, NOT_COVERED
from replay.options import Command
from replay.spans import format_span

WITNESSES_MAX = 4
"""So many things that were wrong are named above the table; the table and json name all."""


@click.command("bisect", cls=Command)
@click.argument("words", nargs=-1, metavar="CONDITION [LEDGER]...")
@click.option("-e", "--expr", "text", metavar="TEXT", help="A condition in words of its own, instead of CONDITION.")
@click.option("-S", "--since", metavar="TIME", help="From this moment on; else from the first entry.")
@click.option("-U", "--until", metavar="TIME", help="Before this moment; else until the first full second after the last entry.")
@click.option("--around", metavar="TIME[±SPAN]", help="The window around a moment, instead of --since and --until.")
@click.option("--list", "listing", is_flag=True, help="Print the conditions there are, and the words of expressions.")
@click.pass_obj
def bisect_(
    asked: Asked,
    /,
    *,
    words: tuple[str, ...],
    text: str | None,
    since: str | None,
    until: str | None,
    around: str | None,
    listing: bool,
) -> int:
    """When a condition was first broken and by which entry, when it held again, how often it broke, how long in all.

    Every moment at which the mesh may have changed is looked at, so what broke and healed is found too. What the log
    does not cover is counted apart, and is neither held nor broken.

    An expression compares and joins words (and, or, not, == != < <= > >=, in); `--list` prints them.

    Exit codes: 0 it was broken · 1 never broken · 3 the log covers none of the window · 2 no such condition or word

    For example:
      meshledger bisect full-mesh --since '2026-11-22' -L incident.ledger
      meshledger bisect all-communicating --around '03:12±10min' incident.ledger
      meshledger bisect --expr 'reached_by("charlie") >= 2' -L incident.ledger
      meshledger bisect --expr 'state("alpha", "bravo") != "asymmetric"' -L incident.ledger -o json
      meshledger bisect --list
    """
    from replay.judged import bisect, chosen, conditions, listed

    if listing:
        asked.answer(listed())
        return 0
    if text is None and not words:
        raise Refused("no condition is asked for", hint="`meshledger bisect --list` prints them; --expr takes one in words")
    if text is not None and words and not Path(words[0]).exists() and words[0] in conditions():
        raise Refused(f"the condition {words[0]} and --expr at once", hint="leave out one of the two")
    name, ledgers = (words[0], words[1:]) if text is None else (None, words)
    with asked.history(ledgers) as history:
        condition = chosen(history, name, text)
        within = asked.range(history, since, until, around)
        progress = asked.progress("bisect", "moments")
        found = bisect(history, condition, within.since_ns, within.until_ns, progress=progress)
        asked.answer(found, above=[*_above(found), ""])
        code = 0 if found.broken else NO
        if not found.broken and not found.held_ns and found.uncovered_ns:
            code = NOT_COVERED
            asked.complain(
                f"nothing in these ledgers covers {found.condition} in this window", "merge the ledgers of other machines"
            )
        return asked.judged(history, code)


def _above(found: Bisect) -> Iterator[str]:
    """What stands above the table."""
    yield f"{found.condition}: {found.says}" if found.says else found.condition
    if found.first is None:
        yield f"never broken; held {format_span(found.held_ns)} of what is covered"
    else:
        first = found.first
        yield f"first broken  {first.since}  {'as the window begins' if first.since == found.since else _by(first)}"
        if found.good is not None:
            yield f"last good     {found.good}  after {first.before or 'no entry'}"
        again = next((each for each in found.stretches if each.since > first.since and each.verdict == "held"), None)
        yield f"holds again   {again.since}  {_by(again)}" if again else "holds again   not in this window"
        times = "once" if found.broken == 1 else f"{found.broken:,} times"
        yield f"broken        {times}, {format_span(found.broken_ns)} in all; held {format_span(found.held_ns)}"
        for place, witness in enumerate(first.witnesses[:WITNESSES_MAX]):
            yield f"{'' if place else 'witness':<13} {witness.subject} {witness.what}"
        if len(first.witnesses) > WITNESSES_MAX:
            yield f"{'':<13} and {len(first.witnesses) - WITNESSES_MAX:,}{' or more' if first.more else ''} others"
    if found.uncovered_ns:
        yield f"not covered   {format_span(found.uncovered_ns)}"


def _by(stretch: Stretch) -> str:
    return f"by {stretch.pos} {stretch.kind}" if stretch.pos else "by the passing of time"
