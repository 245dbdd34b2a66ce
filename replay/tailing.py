"""One `tail` while it goes on: from a token, or from the last entries, to whatever comes.

Every so often the files are looked at; where they grew, they are opened anew and read from the token (`follow`). The token
moves with each entry that was printed, and an interrupt is heard between two of them, so that where it says it ended is where
it ended. It ends after so many entries, after so long, or when it is told to.

Effects: it waits, reads a clock to know how long, and listens for signals while it does.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ledger.entry import Entry, Observed
from ledger.identity import Feed
from replay.asked import Asked
from replay.exits import NO
from replay.follow import ends, follow, parse_token, token_text
from replay.history import History
from replay.jsonl import row
from replay.receipts import LogRow
from replay.select import Selection, select
from replay.union import files, spelled

LAST: Final = 10
"""So many entries are shown of those that are there already."""
POLL_S: Final = 0.2
_BATCH: Final = 1000
_FRESH_NS: Final = 2_000_000_000
"""A file that changed so lately may have changed since without its time saying so."""


def rows(history: History, entries: Iterable[Entry]) -> Iterator[LogRow]:
    """Entries as they are printed."""
    names = spelled(history.feeds)
    for entry in entries:
        yield row(names[entry.feed], entry.index, entry.record, Observed(entry.at_ns, entry.event, entry.boot, entry.mono_ns))


class Tailing:
    """A tail of `ledgers`; it ends after `matches` entries, if that is given. `code` is its exit code so far."""

    def __init__(self, asked: Asked, ledgers: Sequence[str], selection: Selection, matches: int | None) -> None:
        self._asked = asked
        self._ledgers = ledgers
        self._selection = selection
        self._matches = matches
        self._given = 0
        self._after: dict[str, int] = {}
        self._feeds: list[Feed] = []
        self._there: list[LogRow] = []
        self._goes_on = False
        self._forks = 0
        self._seen: object = None
        self._told = 0
        self.code = 0

    @property
    def token(self) -> str:
        """Behind everything that was printed."""
        return token_text(self._after, self._feeds) or "''"

    def begin(self, after: str | None, last: int | None) -> None:
        """Find where to begin: behind the token `after`, or with the `last` entries that are there."""
        with self._asked.history(self._ledgers) as history:
            self._feeds = history.feeds
            if after is not None:
                self._after = parse_token(after.strip("'"), history.feeds)
                self._goes_on = True
                return
            self._after = ends(history)
            count = last if last is not None else (0 if self._matches else LAST)
            found = (
                [e for e in select(history, self._selection, last=count) if e.index <= self._after[e.feed.id]] if count else []
            )
            self._there = list(rows(history, found))
            self._judge(history)

    def entries(self, span_ns: int | None, *, follows: bool) -> Iterator[LogRow]:
        """The rows to print, each counted once the next is asked for. Not `follows`: only what is there by now."""
        until = None if span_ns is None else time.monotonic() + span_ns / 1e9
        for each in self._there:
            yield each
            self._given += 1
        with self._listening():
            while (self._goes_on or follows) and not self._ended():
                yield from self._step()
                if not follows or self._ended():
                    break
                if until is not None and time.monotonic() >= until:
                    self.code = self.code or (NO if self._matches else 0)
                    break
                time.sleep(POLL_S if until is None else max(0.0, min(POLL_S, until - time.monotonic())))

    def _ended(self) -> bool:
        return bool(self._told) or (self._matches is not None and self._given >= self._matches)

    def _step(self) -> Iterator[LogRow]:
        """What came since."""
        seen = self._look()
        if seen is not None and seen == self._seen:
            return
        with self._asked.history(self._ledgers) as history:
            self._feeds = history.feeds
            self._judge(history)
            while not self._ended():
                step = follow(history, self._after, self._selection, limit=_BATCH)
                for entry, each in zip(step.entries, rows(history, step.entries), strict=True):
                    yield each
                    self._given += 1
                    self._after[entry.feed.id] = entry.index
                    if self._ended():
                        return
                self._after = dict(step.after)
                if len(step.entries) < _BATCH:
                    break
        self._seen = seen

    def _look(self) -> object:
        """What the files look like; None while they may change without looking otherwise."""
        found: list[tuple[str, int, int, int]] = []
        for path in files(self._asked.paths(self._ledgers)):
            for each in (path, Path(f"{path}-wal")):
                with suppress(FileNotFoundError):
                    stat = each.stat()
                    if time.time_ns() - stat.st_mtime_ns < _FRESH_NS:
                        return None
                    found.append((str(each), stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return found

    def _judge(self, history: History) -> None:
        if len(history.contradicted) != self._forks:
            self._forks = len(history.contradicted)
            self.code = self._asked.judged(history)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """While this is held, the first interrupt only asks to end; a second one does not ask."""

        def hear(number: int, _frame: Any) -> None:
            if self._told:
                raise KeyboardInterrupt
            self._told = number
            self.code = 128 + number

        before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
