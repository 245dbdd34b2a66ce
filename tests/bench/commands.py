"""The command line as a user feels it: whole processes, from exec to exit, and the modules that they import.

`COMMANDS` is the one place that says how a command is spelled; `{ledger}`, `{other}`, `{jsonl}`, `{new}` and `{moment}` stand
for files and a moment of the run. A command that the tree does not have yet is absent. Its floor is `python -c pass`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.peers.contestant import Absent

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-c", "import sys; from replay.cli import main; sys.exit(main())"]
FLOOR = [sys.executable, "-c", "pass"]
COMMANDS = {
    "help": ["--help"],
    "at": ["at", "{moment}", "-L", "{ledger}", "-o", "json"],
    "export": ["export", "-L", "{ledger}", "--format", "jsonl", "-O", "{jsonl}", "-q"],
    "import": ["import", "jsonl", "{jsonl}", "-L", "{new}", "-q"],
    "merge": ["merge", "{ledger}", "{other}", "-O", "{new}", "-q"],
}
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}


def run(command: list[str]) -> float:
    """Seconds from exec to exit. Raises Absent if the command ends otherwise than with 0."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, cwd=ROOT, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Absent(f"exit {done.returncode}: {said[-1] if said else 'nothing said'}")
    return took


def spelled(name: str, places: dict[str, str]) -> list[str]:
    """The whole command line of one of COMMANDS."""
    return PROGRAM + [word.format(**places) for word in COMMANDS[name]]


def whole(name: str, places: dict[str, str]) -> float:
    """Seconds that a command takes; what it is to make anew is removed first."""
    target = {"export": "jsonl", "import": "new", "merge": "new"}.get(name)
    if target:
        for left in Path(places[target]).parent.glob(Path(places[target]).name + "*"):
            left.unlink()
    return run(spelled(name, places))


def modules(command: list[str]) -> int:
    """How many modules a process of this command imports, the interpreter's own included."""
    timed = [command[0], "-X", "importtime", *command[1:]]
    done = subprocess.run(timed, capture_output=True, env=ENVIRONMENT, cwd=ROOT, check=False)
    return len(re.findall(rb"^import time:\s+\d+ \|", done.stderr, re.MULTILINE))


def files(store: Path, folder: Path, moment: str) -> dict[str, str]:
    """The places that COMMANDS speak of: the run's own ledger, and one more of the same log to merge it with."""
    found = sorted(store.glob("*.ledger"))
    if not found:
        raise Absent("there is no ledger to run on")
    folder.mkdir(parents=True, exist_ok=True)
    other = folder / "other.ledger"
    shutil.copy(found[0], other)
    return {
        "ledger": str(found[0]), "other": str(other), "jsonl": str(folder / "log.jsonl"),
        "new": str(folder / "new.ledger"), "moment": moment,
    }  # fmt: skip
