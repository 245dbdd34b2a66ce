"""How a command ends: every failure one clear line and one exit code, and never a traceback.

    0 yes, or fine     1 the answer is no            2 wrong use                3 the log does not cover the question
    4 damaged, or contradicting itself               5 could not reach          70 our own fault
    130 interrupted                                  141 nobody reads what we write

A `LedgerError` brings its line, its hint and its code. What Click refuses is wrong use. What the system refuses (no space,
no permission) could not be reached. Anything else is our own fault: then a note with the traceback is written for whoever
mends it, and the line says where. Text that came from outside is shown harmlessly (`text`). Who is told to end (SIGTERM, SIGHUP)
takes away what is half made, and ends by that signal. Effects: standard streams, that note, signals.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar, Final

import click

from ledger.errors import LedgerError, Refused
from replay.text import visible

FINE, NO, MISUSED, NOT_COVERED, CONTRADICTED, UNREACHED, OUR_FAULT, INTERRUPTED, CLOSED = 0, 1, 2, 3, 4, 5, 70, 130, 141


_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """The signal `number` told this process to end: unwound like an interrupt."""

    heard: ClassVar[int | None] = None
    """The signal that came, also where something caught what it raised."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def heed() -> None:
    """From here on a signal to end raises Terminated, unless somebody has other plans for it (nohup does)."""

    def hear(number: int, _frame: object) -> None:
        Terminated.heard = number
        raise Terminated(number)

    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, hear)


def obey(told: Terminated) -> int:
    """End by the signal that told so, as whoever sent it expects."""
    signal.signal(told.number, signal.SIG_DFL)
    os.kill(os.getpid(), told.number)
    return 128 + told.number


def interrupted() -> KeyboardInterrupt:
    """What to raise where an interrupt, or a signal to end, was caught on its way."""
    return KeyboardInterrupt() if Terminated.heard is None else Terminated(Terminated.heard)


class Failure(Exception):
    """A failure as it is told: the class of the error, one line, a hint, and the exit code."""

    def __init__(self, error: str, message: str, hint: str | None, code: int) -> None:
        super().__init__(message)
        self.error = error
        self.message = message
        self.hint = hint
        self.code = code


def ending(run: Callable[[], int], told: Callable[[Failure], None], arguments: Sequence[str]) -> int:
    """Run a command and return its exit code. `told` is given each failure that has a line, and prints it.

    Raises Terminated, and nothing else.
    """
    try:
        try:
            code = run()
            sys.stdout.flush()
        except click.exceptions.Exit as ended:
            sys.stdout.flush()
            code = ended.exit_code
        except Terminated:
            raise
        except (KeyboardInterrupt, click.Abort):
            code = INTERRUPTED
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it ends as one line
            failure = failure_of(error, arguments)
            told(failure)
            sys.stdout.flush()
            code = failure.code
    except BrokenPipeError:
        _let_go()
        code = CLOSED
    except OSError:
        _let_go()  # the standard streams themselves refuse: there is nowhere left to say so
        code = UNREACHED
    except Terminated:
        raise
    except KeyboardInterrupt:
        code = INTERRUPTED
    return code


def failure_of(error: Exception, arguments: Sequence[str] = ()) -> Failure:
    """An exception as a failure. Of our own faults a note is written."""
    name = type(error).__name__
    if isinstance(error, LedgerError):
        return Failure(name, error.message, error.hint, error.exit_code)
    if isinstance(error, click.UsageError):
        text = error.format_message() if isinstance(error, click.BadParameter) else error.message
        return Failure("Refused", _sentence(text), _usage_hint(error), MISUSED)
    if isinstance(error, click.ClickException):
        return Failure("Refused", _sentence(error.format_message()), None, MISUSED)
    database = getattr(sys.modules.get("sqlite3"), "Error", ())
    if isinstance(error, (OSError, database)):
        from ledger.opening import translate

        told = translate(error, _place(error))
        return Failure(type(told).__name__, told.message, told.hint, MISUSED if isinstance(told, Refused) else told.exit_code)
    return Failure(name, f"our own fault: {name}: {error}", _noted(error, arguments), OUR_FAULT)


def lines(failure: Failure) -> list[str]:
    """What is printed of a failure: one line, and one with the hint if there is one."""
    hint = [] if failure.hint is None else [f"hint: {visible(failure.hint)}"]
    return [f"meshledger: {visible(failure.message)}", *hint]


def _place(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    if name is None:
        return "the current folder" if isinstance(error, FileNotFoundError) else "the standard output"
    return str(name)


def _sentence(text: str) -> str:
    """Click's messages begin with a capital, end in a full stop, and speak of integer ranges; ours do nothing of it."""
    text = " ".join(text.split()).replace("is not a valid integer range", "is no whole number")
    return (text[:1].lower() + text[1:]).removesuffix(".")


def _usage_hint(error: click.UsageError) -> str:
    given = getattr(error, "hint", None)
    if isinstance(given, str):
        return given
    near = getattr(error, "possibilities", None)
    if near:
        return f"did you mean {' or '.join(near)}?"
    where = error.ctx.command_path if error.ctx is not None else "meshledger"
    return f"`{where} --help` shows how it is used, with examples"


def _noted(error: Exception, arguments: Sequence[str]) -> str:
    """Write the note about a fault of ours, and say where it lies."""
    import platform
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    words = [f"meshledger {' '.join(map(ascii, arguments))}", f"Python {platform.python_version()} on {platform.platform()}"]
    try:
        descriptor, path = tempfile.mkstemp(prefix="meshledger-fault-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as note:
            note.write("\n".join([*words, "", text]))
    except OSError:
        return "this should not happen, and no note about it could be written; please report the command"
    return f"this should not happen; what is known of it stands in {path}: please report it"


def _let_go() -> None:
    """Nobody reads what we write: what waits to be written goes nowhere, so that the interpreter ends in silence."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
