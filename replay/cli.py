"""`meshledger`: the questions of the library, asked from a shell.

This room holds the list of commands and the door through which every call goes in and out. A command's own room is loaded
when it is called; the shared options stand in `options`, what is done with them in `asked`, how a call ends in `exits`. What
a command prints as JSON is the encoded answer of the library and nothing more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from replay.asked import Asked, settle_streams
from replay.exits import Terminated, ending, heed, obey
from replay.options import Group

PROGRAM: Final = "meshledger"
COMPLETION: Final = "_MESHLEDGER_COMPLETE"
"""Set by the shell's own completion (`completion`), never by people."""

_PLACES: Final = {
    "at": ("replay.commands_moments", "The whole state at a moment."),
    "members": ("replay.commands_moments", "Who was in, and who communicated."),
    "connstatus": ("replay.commands_moments", "Every link and pair: up, down or unknown."),
    "routes": ("replay.commands_moments", "How each machine would reach each other."),
    "diff": ("replay.commands_changes", "What changed from one moment to another."),
    "blame": ("replay.commands_changes", "Which entry set each field of a machine, a link or a pair."),
    "why": ("replay.commands_why", "Why A could not reach B: one cause, and its proof."),
    "stats": ("replay.commands_changes", "How long each pair was up, flaps, losses, round trips."),
    "bisect": ("replay.commands_conditions", "When a condition broke, how often, and for how long."),
    "disagreements": ("replay.commands_views", "On which pairs and machines observers differed."),
    "log": ("replay.commands_entries", "Entries, chosen by machine, link, kind and time."),
    "show": ("replay.commands_entries", "The entries at these positions, in full."),
    "tail": ("replay.commands_entries", "The last entries, and those that come."),
    "sql": ("replay.commands_entries", "A query in SQL over one ledger."),
    "import": ("replay.commands_files", "Take measurements, lines or ledgers into a ledger."),
    "merge": ("replay.commands_files", "Make one ledger of several, in any order."),
    "export": ("replay.commands_files", "Write entries as jsonl, csv, parquet or a ledger."),
    "backup": ("replay.commands_files", "Copy a ledger, also while it is being written."),
    "note": ("replay.commands_notes", "Write a note, or mark a moment, in a feed of your own."),
    "verify": ("replay.commands_trust", "Check every byte, chain and signature."),
    "checkpoint": ("replay.commands_trust", "The signed heads of all feeds, to be kept elsewhere."),
    "prove": ("replay.commands_trust", "Proof for outsiders that an entry stands in a feed."),
    "keygen": ("replay.commands_trust", "Make a key that signs heads."),
    "init": ("replay.commands_setup", "Found a cluster, with this machine as its first member."),
    "join": ("replay.commands_setup", "Join a cluster with a code."),
    "invite": ("replay.commands_node", "A code with which one machine may join."),
    "run": ("replay.commands_run", "Run the node of this directory."),
    "doctor": ("replay.commands_run", "Look at names, keys and limits that links depend on."),
    "sshd-config": ("replay.commands_run", "What this machine's sshd needs."),
    "status": ("replay.commands_node", "How a running node is now."),
    "leave": ("replay.commands_node", "Leave the cluster for good."),
    "remove": ("replay.commands_node", "Remove a machine that cannot leave by itself."),
    "disconnect": ("replay.commands_node", "Disconnect a machine for a while: planned."),
    "reconnect": ("replay.commands_node", "End a disconnection."),
    "rekey": ("replay.commands_node", "Change a key of this machine."),
    "sethostname": ("replay.commands_node", "Change a machine's main host name."),
    "systemd-unit": ("replay.commands_setup", "The unit under which a node runs."),
    "demo": ("replay.commands_program", "A real cluster raised on loopback, broken, and asked about."),
    "schema": ("replay.commands_program", "The JSON Schema of an answer."),
    "version": ("replay.commands_program", "The versions of this program, Python, SQLite and ledgers."),
    "completion": ("replay.commands_program", "A script that completes commands in your shell."),
}

_HELP: Final = """\
What did the mesh look like at 03:12:07, who believed what, and can it be proved?

A cluster's machines write what they see into ledgers. Questions only read them, need no daemon and no network, and
are answered from copied files too. Name ledgers with -L or after the command.

For example:
  meshledger demo
  meshledger at '2026-01-01 03:12:07' -L seattle.ledger
  meshledger diff -1h now -L alpha.ledger -L bravo.ledger
  meshledger log -l alpha=bravo --around '03:12±10min' -L incident.ledger

A TIME is RFC 3339, '2026-11-22 03:12', '03:12', @1767225600, -2h30m,
'15 min ago', yesterday, start, end, mark:NAME, or a position such as
alpha#12021. Without a zone it is UTC, unless --tz names one.
"""

_EPILOG: Final = """\
Exit codes:
  0   yes, or fine               4    the ledger is damaged or contradicts itself
  1   the answer is no           5    could not reach: locked, unwritable
  2   wrong use                  70   our own fault: please report it
  3   the log does not cover it  130  interrupted      141  closed pipe

Environment: MESHLEDGER_DIR (--dir), MESHLEDGER_OUTPUT (-o),
MESHLEDGER_TZ (--tz). No colour is ever printed (NO_COLOR).
"""


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"{PROGRAM} {version(PROGRAM)}")
        context.exit()


cli: Final = Group(
    PROGRAM,
    places=_PLACES,
    titles={"at": "Questions", "import": "Ledgers", "verify": "Proofs", "init": "A live mesh", "demo": "This program"},
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    params=[click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="The version.")],
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code. Prints; raises nothing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    settle_streams()
    if arguments is None:
        heed()
    if COMPLETION in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, PROGRAM, COMPLETION, os.environ[COMPLETION])
    asked = Asked()

    def run() -> int:
        if not given:
            click.echo(cli.get_help(cli.make_context(PROGRAM, [], obj=asked, resilient_parsing=True)))
            return 2
        with cli.make_context(PROGRAM, given, obj=asked) as context:
            return int(cli.invoke(context) or 0)

    try:
        return ending(run, asked.told, given)
    except Terminated as told:
        return obey(told)
