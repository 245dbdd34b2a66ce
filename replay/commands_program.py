"""About this program itself: `demo`, `schema`, `version`, `completion`.

None of them asks a ledger of the guest's. `demo` makes ledgers of its own, `schema` says what answers look like.
"""

from __future__ import annotations

from pathlib import Path

import click

from ledger.errors import Refused
from replay.asked import Asked
from replay.exits import NO
from replay.options import Command


@click.command("demo", cls=Command)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True, help="Deals out who is hit by what.")
@click.option("--keep", metavar="DIR", help="The new folder for the ledgers. Else one among the temporary files.")
@click.option("--machines", type=click.IntRange(5, 8), default=5, show_default=True, help="How many form the mesh.")
@click.pass_obj
def demo_(asked: Asked, /, *, seed: int, keep: str | None, machines: int) -> int:
    """Raise a real cluster on loopback, break it, and ask its ledgers what happened. It takes less than a minute.

    Every machine is a process with its own keys and directory, linked by SSH. What must be the answers is written down before;
    the questions are put by processes that know nothing of the faults, and once more where the fault was not. A line for each
    fault with the entries that show it ends in ok, or the exit code is 1. No root, no internet; nothing of yours is touched.

    For example:
      meshledger demo
      meshledger demo --keep incident --seed 7
      meshledger demo --machines 6 -o json
    """
    from replay.demo import run

    shown = asked.form == "table"
    with asked.stream() as out:
        answer = run(
            seed,
            machines,
            None if keep is None else Path(keep),
            tell=(lambda line: print(line, file=out, flush=True)) if shown else None,
            say=asked.say,
        )
        if not shown:
            from replay.output import write

            write(answer, asked.form, out)
    return 0 if answer.ok else NO


@click.command("schema", cls=Command)
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--row", is_flag=True, help="Of one line of jsonl, instead of the object of json.")
@click.pass_obj
def schema_(asked: Asked, /, *, name: str | None, row: bool) -> int:
    """The JSON Schema (draft 2020-12) of the answer of a command. Without a NAME, the names that there are.

    Within a version, fields are added and never changed.

    For example:
      meshledger schema at
      meshledger schema log --row -O log.schema.json
    """
    from msgspec import json

    from replay.schemas import ANSWERS, row_schema, schema

    if asked.output == "csv":
        raise Refused("a schema is no table", hint="leave -o csv out")
    encoded_only = asked.form in {"json", "jsonl"}
    if name is None:
        text = "\n".join(ANSWERS) if not encoded_only else json.encode(list(ANSWERS)).decode()
    else:
        encoded = json.encode(row_schema(name) if row else schema(name))
        text = (encoded if encoded_only else json.format(encoded, indent=2)).decode()
    with asked.stream() as out:
        out.write(f"{text}\n")
    return 0


@click.command("version", cls=Command)
@click.pass_obj
def version_(asked: Asked, /) -> int:
    """The version of this program, of Python and SQLite, and the format of ledgers that it writes.

    For example:
      meshledger version
      meshledger version -o json
    """
    import platform
    import sqlite3
    from importlib.metadata import version

    from ledger.schema import FORMAT
    from replay.receipts import Version

    asked.answer(
        Version(version=version("meshledger"), python=platform.python_version(), sqlite=sqlite3.sqlite_version, format=FORMAT)
    )
    return 0


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_obj
def completion_(asked: Asked, /, *, shell: str) -> int:
    """A script that completes commands and options in your shell.

    For example:
      meshledger completion bash > ~/.local/share/bash-completion/completions/meshledger
      meshledger completion zsh > ~/.zfunc/_meshledger
      meshledger completion fish > ~/.config/fish/completions/meshledger.fish
    """
    from click.shell_completion import get_completion_class

    from replay.cli import COMPLETION, PROGRAM, cli

    made = get_completion_class(shell)
    if made is None:
        raise Refused(f"'{shell}' is no shell that is known here", hint="bash, zsh or fish")
    with asked.stream() as out:
        out.write(made(cli, {}, PROGRAM, COMPLETION).source())
    return 0
