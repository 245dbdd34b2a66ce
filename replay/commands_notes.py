"""What an analyst adds: `note`.

Effects: the name of whoever calls, from the environment.
"""

from __future__ import annotations

import getpass
import re

import click

from replay.asked import Asked
from replay.options import Command

_ODD = re.compile(r"[^a-z0-9_-]+")


@click.command("note", cls=Command)
@click.argument("text", metavar="TEXT")
@click.option("--mark", metavar="NAME", help="Name the moment, so that mark:NAME can be asked for.")
@click.option("--at", "time", default="now", show_default=True, metavar="TIME", help="The moment that the note is about.")
@click.option("--by", metavar="WHO", help="Who says so. Else your user name.")
@click.option("--as", "machine", metavar="NAME", help="Under which name it stands in the log: no machine's. Else your user name.")
@click.pass_obj
def note_(asked: Asked, /, *, text: str, mark: str | None, time: str, by: str | None, machine: str | None) -> int:
    """Write a note about a moment into a ledger, in a feed of your own: no answer about the mesh changes by it.

    With --mark the moment gets a name, for `at mark:NAME` and wherever else a TIME is asked for. A note survives merge and
    export; the same note written on two copies is one. While a node writes the ledger, take a `backup` and note there.

    For example:
      meshledger note 'the switch in rack 3 was replaced' --at '2026-11-22 03:12' -L incident.ledger
      meshledger note 'customers begin to call' --mark first-call --at 03:15 -L incident.ledger
      meshledger at mark:first-call -L incident.ledger
    """
    from replay.noting import note, taken

    path = asked.target(made=False)
    user = _user()
    with asked.history() as history:
        at_ns = asked.moment(history, time)
        name = machine if machine is not None else _free(user, taken(history))
    found = note(path, text, machine=name, at_ns=at_ns, by=by if by is not None else user, mark=mark)
    if not found.new:
        asked.say("this very note stands there already")
    asked.answer(found, printed=True)
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # nobody that the system knows
        return "analyst"


def _free(user: str, taken: set[str]) -> str:
    """A machine name made of a user's, and of no machine here."""
    name = _ODD.sub("-", user.lower()).strip("-_")[:50] or "analyst"
    return f"{name}-notes" if name in taken else name
