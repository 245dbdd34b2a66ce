"""What every command is asked with: which ledgers, in what form, to which place, in whose time, how quietly.

One `Asked` goes with a call of the command line. It finds the ledgers (`-L`, arguments, or the node's own), opens them to be
read, resolves moments, and prints the answer: data on the standard output or in the file of `-O`, everything else on the
standard error. A destination is written beside its place and renamed, so that it is whole or not there.

This room and `following` of the command line are the only ones in `replay` that read a clock: `now` of a ledger that is being
written, and the pace of progress. Effects: environment, clock, standard streams, the destination.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from ledger.errors import NotALedger, Refused
from replay.exits import CONTRADICTED, NOT_COVERED, Failure, lines
from replay.text import shorten, visible

if TYPE_CHECKING:
    from msgspec import Struct

    from replay.history import History
    from replay.moments import Anchors, Range
    from replay.output import Format, Row
    from replay.union import Contradicted

NODE_LEDGER: Final = "node.ledger"
_FORMATS: Final = ("table", "json", "jsonl", "csv")
_HINT: Final = "name one with -L FILE (or a folder of them), or set MESHLEDGER_DIR to a node's directory"
_TOLD_EVERY_S: Final = 5.0
_DRAWN_EVERY_S: Final = 0.1


class Asked:
    """The shared options as given, each None where it was not, and what is done with them."""

    def __init__(self) -> None:
        self.ledgers: list[str] = []
        self.output: str | None = None
        self.destination: str | None = None
        self.tz: str | None = None
        self.now: str | None = None
        self.dir: str | None = None
        self.quiet = False
        self.printed = False
        self._drawn = False
        self.reads: list[Path] = []

    # Where things are.

    @property
    def form(self) -> Format:
        """The format of answers: `-o`, else $MESHLEDGER_OUTPUT, else table. Raises Refused for one that there is not."""
        form = self.output or os.environ.get("MESHLEDGER_OUTPUT") or "table"
        if form not in _FORMATS:
            raise Refused(f"MESHLEDGER_OUTPUT: '{shorten(form)}' is no format", hint=f"one of {', '.join(_FORMATS)}")
        return cast("Format", form)

    @property
    def folder(self) -> Path:
        """The node's directory: `--dir`, else $MESHLEDGER_DIR, else $XDG_STATE_HOME/meshledger. Raises Refused for a user
        without a home, where none of them is given.
        """
        named = self.dir or os.environ.get("MESHLEDGER_DIR")
        if named:
            return Path(named)
        state = os.environ.get("XDG_STATE_HOME")
        try:
            return (Path(state) if state else Path.home() / ".local" / "state") / "meshledger"
        except RuntimeError:  # so Python says it
            raise Refused("no directory of a node is named, and this user has no home to look in", hint=_HINT) from None

    def spelled(self, command: str) -> str:
        """How `command` is typed for the same node: with --dir where that was given."""
        return f"meshledger {command}" + (f" --dir {quote(self.dir)}" if self.dir else "")

    @property
    def zone(self) -> str | None:
        """The zone of times that name none: `--tz`, else $MESHLEDGER_TZ, else None for UTC. Raises Refused for no zone."""
        from replay.zones import zone_named

        zone = self.tz or os.environ.get("MESHLEDGER_TZ") or None
        zone_named(zone)  # also where no moment asks for it
        return zone

    def paths(self, named: Sequence[str] = ()) -> list[Path]:
        """The ledgers that a question is put to: those of -L and those named as arguments, else the node's own."""
        given = [*self.ledgers, *named]
        if given:
            return [Path(each) for each in given]
        own = self.folder / NODE_LEDGER
        if not own.is_file():
            raise Refused(f"no ledger named, and there is none at {own}", hint=_HINT)
        return [own]

    def one(self, named: Sequence[str] = ()) -> Path:
        """The same where only one ledger will do."""
        found = self.paths(named)
        if len(found) > 1:
            raise Refused(f"{len(found)} ledgers named where one is meant", hint="`merge` makes one of several")
        return found[0]

    def target(self, *, made: bool = True) -> Path:
        """The one ledger of -L that is to be written. Not `made`: it must be there."""
        if len(self.ledgers) != 1:
            what = f"{len(self.ledgers)} ledgers named" if self.ledgers else "no ledger named"
            hint = "; it is made if it is not there" if made else ""
            raise Refused(f"{what} to write into", hint=f"name one with -L FILE{hint}")
        return Path(self.ledgers[0])

    def file(self, what: str) -> Path:
        """The file of -O, where one must be named."""
        if self.destination is None:
            raise Refused(f"no file named for {what}", hint="name it with -O FILE")
        return Path(self.destination)

    # Histories and moments.

    @contextmanager
    def history(self, named: Sequence[str] = ()) -> Iterator[History]:
        """The ledgers, opened as one history to read. Raises NotALedger with a hint where a moment was named in place of one."""
        from replay.history import History
        from replay.moments import is_moment
        from replay.union import files

        for each in named:
            if not Path(each).exists() and is_moment(each):
                hint = f"a moment goes with an option, as in `--at {quote(each)}`"
                raise NotALedger(f"{shorten(each)}: there is no such file", hint=hint)
        self.reads = files(self.paths(named))
        with History.open(*self.reads) as history:
            yield history

    def anchors(self, history: History, *, whole: bool = True) -> Anchors:
        """What moments are named by. Not `whole`: only what costs nothing to know."""
        from replay.moments import Anchors, parse_moment

        tz = self.zone
        cheap = Anchors(tz=tz, position=lambda position: history.entry(position).effective_ns)
        if not whole:
            return cheap
        known = history.anchors(tz=tz)
        if self.now is not None:
            return history.anchors(parse_moment(self.now, known).at_ns, tz)
        from ledger.opening import is_written

        return history.anchors(time.time_ns(), tz) if any(map(is_written, self.reads)) else known

    def moment(self, history: History, text: str) -> int:
        """The instant in ns that `text` names, told where the text does not say it itself. Raises Refused if it names none."""
        from replay.moments import parse_moment
        from replay.spans import format_instant

        try:
            found = parse_moment(text, self.anchors(history, whole=False))
        except Refused:
            found = parse_moment(text, self.anchors(history))
        said = format_instant(found.at_ns)
        if said != text:
            self.say(f"{shorten(text)} is {said}")
        return found.at_ns

    def range(self, history: History, since: str | None, until: str | None, around: str | None = None) -> Range:
        """The range that was asked for, told as it was understood."""
        from replay.moments import parse_range
        from replay.spans import format_instant

        try:
            found = parse_range(since, until, around, self.anchors(history, whole=False))
        except Refused:
            found = parse_range(since, until, around, self.anchors(history))
        if found.since_ns is not None or found.until_ns is not None:
            begin = "start" if found.since_ns is None else format_instant(found.since_ns)
            end = "end" if found.until_ns is None else format_instant(found.until_ns)
            self.say(f"range {begin} … {end}")
        return found

    def judged(self, history: History, code: int = 0) -> int:
        """The exit code of an answer, once it is printed: 4 where a feed contradicts itself, both branches named."""
        return self.forked(history.contradicted, code)

    def forked(self, contradicted: Mapping[str, Contradicted], code: int = 0) -> int:
        """The same, of forks by feed."""
        for fork in contradicted.values():
            branches = " and ".join(fork.branches)
            self.complain(f"{fork.position} is contradicted: branches {branches} differ from there on, and neither stands")
        return CONTRADICTED if contradicted else code

    def uncovered(self, what: str, hint: str) -> int:
        """Tell that the answer just printed rests on nothing that covers the moment, and give the exit code for it."""
        self.complain(what, hint)
        return NOT_COVERED

    # What is said.

    def say(self, line: str) -> None:
        """One line for people, beside the data; none if they want quiet."""
        if not self.quiet:
            self.undraw()
            print(visible(line), file=sys.stderr, flush=True)  # noqa: T201

    def complain(self, message: str, hint: str | None = None) -> None:
        """One line about what is wrong, quiet or not."""
        self.undraw()
        for line in lines(Failure("", message, hint, 0)):
            print(line, file=sys.stderr, flush=True)  # noqa: T201

    def told(self, failure: Failure) -> None:
        """Why there is no answer: on the standard error, and as an object where an object was asked for and none begun."""
        if failure.error == "Damaged" and len(self.reads) > 1:
            failure.hint = "`meshledger verify` of these ledgers names the file; restore it from a backup, or merge it anew"
        self.complain(failure.message, failure.hint)
        if (self.output or os.environ.get("MESHLEDGER_OUTPUT")) == "json" and not self.printed:
            from replay.output import write
            from replay.receipts import Error

            answer = Error(error=failure.error, message=failure.message, hint=failure.hint, exit_code=failure.code)
            write(answer, "json", sys.stdout)

    def progress(self, label: str, unit: str) -> Callable[..., None]:
        """Told how much is done, of how much if that is known: a line drawn anew on a terminal, else one now and then."""
        terminal = sys.stderr.isatty()
        told = time.monotonic()

        def progress(done: int, total: int | None = None) -> None:
            nonlocal told
            now = time.monotonic()
            if self.quiet or now - told < (_DRAWN_EVERY_S if terminal else _TOLD_EVERY_S):
                return
            told = now
            line = f"{label}: {done:,} {unit}" if total is None else f"{label}: {done:,} of {total:,} {unit}"
            print(f"\r{line:<78}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)  # noqa: T201
            self._drawn = terminal

        return progress

    def undraw(self) -> None:
        """Take away a line of progress that stands on the terminal."""
        if self._drawn:
            print(f"\r{'':<78}\r", end="", file=sys.stderr, flush=True)  # noqa: T201
            self._drawn = False

    # What is answered.

    @contextmanager
    def stream(self) -> Iterator[TextIO]:
        """Where data goes: the standard output, or the file of -O, which is whole or not there."""
        self.undraw()
        if self.destination is None:
            self.printed = True
            yield sys.stdout
            return
        from replay.export import fresh

        with fresh(Path(self.destination)) as made, made.open("w", encoding="utf-8", newline="") as file:
            yield file

    def keep(self, text: str) -> None:
        """Write a text that is made for others to the file of -O."""
        with self.stream() as out:
            out.write(text)

    def answer(self, answer: Struct, *, above: Iterable[str] = (), below: Iterable[str] = (), printed: bool = False) -> None:
        """Print an answer. `printed`: -O names something else here, so the answer goes to the standard output."""
        from replay.output import write

        if printed:
            self.undraw()
            self.printed = True
            write(answer, self.form, sys.stdout, above=above, below=below)
            return
        with self.stream() as out:
            write(answer, self.form, out, above=above, below=below)

    def rows(self, head: Struct, rows: Iterable[Row], *, live: bool = False) -> None:
        """Print an answer whose list is a stream."""
        from replay.output import write_rows

        with self.stream() as out:
            write_rows(head, rows, self.form, out, live=live)


def settle_streams() -> None:
    """Standard streams that can say everything: UTF-8, with a stand-in where there is none."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  it stays open as long as we
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
