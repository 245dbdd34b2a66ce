"""The command line, called within this process: what it wrote on either stream, and how it ended.

`incident` records the generated incident, which most proofs about the command line are put to.
"""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple

from generated import imagine, record

from replay.cli import main

FORGOTTEN = ("MESHLEDGER_DIR", "MESHLEDGER_OUTPUT", "MESHLEDGER_TZ", "XDG_STATE_HOME", "COLUMNS")
"""What the environment of whoever runs the tests might say to us."""


class Called(NamedTuple):
    """One call: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


class _Stream(io.TextIOWrapper):
    """A standard stream that keeps what was written."""

    def __init__(self, given: bytes = b"") -> None:
        super().__init__(io.BytesIO(given), encoding="utf-8", newline="", write_through=True)

    def said(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()


def call(*arguments: str | Path, folder: Path | None = None, given: bytes = b"", **environment: str) -> Called:
    """Call the command line in `folder`, with `given` as its standard input."""
    out, err = _Stream(), _Stream()
    before, stdin = dict(os.environ), sys.stdin
    for name in FORGOTTEN:
        os.environ.pop(name, None)
    os.environ.update({"XDG_STATE_HOME": "nowhere", **environment})
    sys.stdin = _Stream(given)
    try:
        with (
            contextlib.chdir(folder or Path.cwd()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main([str(each) for each in arguments])
    finally:
        sys.stdin = stdin
        os.environ.clear()
        os.environ.update(before)
    return Called(code, out.said(), err.said())


def incident(folder: Path, seed: int = 1) -> list[Path]:
    """The five ledgers of the generated incident."""
    return record(imagine(seed), folder)
