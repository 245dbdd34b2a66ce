"""Transcripts: a story in plain words, commands, and what they print. The same file is a proof and something to read.

    # Lines that begin with a dash of this kind are the story.
    file matrix_1                 (a file of the folder, its content up to the dashes)
    0 0.1
    0.2 0
    ----

    world collected               (a generated world (`told`), a ledger for each of its machines in that folder)
    machines alpha bravo charlie
    05:00 cut alpha bravo
    ----

    incident told                 (the generated incident (`generated`), with all ledgers merged, in that folder)
    ----

    meshledger at end x.ledger    (a command, as it would be typed)
    ----
    what it prints                (`~` stands for an empty line)
    ! what it says on standard error
    [3]                           (the exit code, if it is not 0)

A block ends at an empty line. With MESHLEDGER_UPDATE=1 what is printed now is written into the file: read the
difference before it is kept.
"""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from called import Called, call
from generated import collected
from telling import record, told

UPDATE = "MESHLEDGER_UPDATE"
DASHES = "----"


def check(script: Path, folder: Path) -> None:
    """Run the commands of `script` in `folder`, and compare all that they print."""
    wanted = script.read_text("utf-8")
    found = "\n".join(_told(wanted.splitlines(), folder)) + "\n"
    if os.environ.get(UPDATE):
        script.write_text(found, "utf-8")
        return
    assert found == wanted, f"if this is right, run again with {UPDATE}=1"


def _told(lines: list[str], folder: Path) -> Iterator[str]:
    """The lines of the script, with what its commands print now."""
    commands = 0
    blocks = "\n".join(lines).split("\n\n")
    for number, block in enumerate(blocks):
        if number:
            yield ""
        first, *rest = block.splitlines() or [""]
        content = rest[: rest.index(DASHES)] if DASHES in rest else []
        if first.startswith("file "):
            yield from block.splitlines()
            (folder / first.removeprefix("file ")).write_text("".join(f"{line}\n" for line in content), "utf-8")
        elif first.startswith("world "):
            yield from block.splitlines()
            record(told(content), folder / first.removeprefix("world "))
        elif first.startswith("incident "):
            yield from block.splitlines()
            collected(folder / first.removeprefix("incident "))
        elif first.startswith("meshledger "):
            commands += 1
            yield from [first, DASHES, *_printed(call(*shlex.split(first)[1:], folder=folder))]
        else:
            assert all(line.startswith("#") for line in block.splitlines()), f"neither story nor command: {first}"
            yield from block.splitlines()
    assert commands, "a transcript without a command shows nothing"


def _printed(done: Called) -> Iterator[str]:
    for line in done.out.replace("\r\n", "\n").splitlines():
        yield line or "~"
    for line in done.err.splitlines():
        yield f"! {line}"
    if done.code:
        yield f"[{done.code}]"
