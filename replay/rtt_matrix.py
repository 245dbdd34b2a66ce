"""Round-trip times measured elsewhere become a ledger: `meshledger import rtt-matrix`.

Row i of each matrix is what observer i saw in that slice of time, and becomes entries of its own feed: in the order of
columns a `ping.answered` for each positive cell and a `ping.failed` (`timeout`) for any other off the diagonal, and with each
ping the transition that it makes. `link.established` stands just before the first answer, and before the first one after a
loss; `link.lost` just after so many failures in a row as `lost_after` says; `link.failed` just after each failure while none
was ever answered. A link's id is the ordinal of its establishment, a ping's number that of the slice, from 1 in natural order.

Everything follows from the input: two imports write the same bytes, one that was interrupted or fed less goes on where it
stands. So the incarnation is made from the options, the names and the first slice (`_incarnation`). No clock is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import Final

import msgspec

from ledger.entry import INSTANT_MAX_NS, INSTANT_MIN_NS, Observed
from ledger.errors import Refused, WrongIncarnation
from ledger.events import (
    FeedOpened,
    LinkEstablished,
    LinkFailed,
    LinkLost,
    MachineJoined,
    PingAnswered,
    PingFailed,
    SettingsChanged,
)  # fmt: skip
from ledger.identity import IMPORTED, Feed
from ledger.store import Ledger
from replay.headlines import counted
from replay.intake import Intake
from replay.matrices import LOST, Cells, Slice, SliceError, Unit, default_names, find_slices, parse, read_names
from replay.receipts import Import, Refusal
from replay.spans import format_instant, format_span
from replay.text import visible

CHUNK_PINGS: Final = 500_000
"""How many pings are read before they are written, in one transaction."""
_MS: Final = 1_000_000
_INTERVAL_MAX_MS: Final = 86_400_000 * 366

Rows = list[list[int]]
Progress = Callable[[int, int], None]
"""Told now and then how many slices are done, of how many."""


class Options(msgspec.Struct, frozen=True):
    """What the files do not say: the unit of their cells, when the first slice was, how far apart slices are, and after
    how many failures in a row a link counts as lost. Instants and spans are in ns.
    """

    start_ns: int
    interval_ns: int
    unit: Unit = "s"
    lost_after: int = 1


class Matrices:
    """Slices found and understood so far that they can be written. `names` are machines with their host names, in the
    order of rows; `incarnation` the one that these slices belong to; `refused` what could not be read, so far.
    """

    def __init__(
        self, sources: Iterable[str | Path], options: Options, names: Sequence[tuple[str, str | None]] | None = None
    ) -> None:
        """Raises Refused for options out of range, where nothing can be read, or if `names` are not as many as rows."""
        _check(options)
        self.options = options
        self.refused: list[Refusal] = []
        self._cells = Cells(options.unit)
        self._slices = find_slices(sources)
        end_ns = options.start_ns + (len(self._slices) - 1) * options.interval_ns
        if end_ns > INSTANT_MAX_NS:
            raise Refused(f"{len(self._slices)} slices would last beyond 2116-02-20", hint="check start and interval")
        self._first, rows = self._begin()
        self.names = default_names(len(rows)) if names is None else list(names)
        if len(self.names) != len(rows):
            first = visible(self._slices[self._first].label)
            raise Refused(
                f"{counted(len(self.names), 'name')} for machines, {first} has {len(rows)} rows",
                hint="name one machine for each row",
            )
        self.incarnation = _incarnation(options, self.names, rows)

    def __len__(self) -> int:
        return len(self._slices)

    def _begin(self) -> tuple[int, Rows]:
        """The place of the first slice that can be read, and its rows."""
        for place, each in enumerate(self._slices):
            rows = self._rows(each, None)
            if rows is not None:
                return place, rows
        first = self.refused[0]
        line = f", line {first.line}" if first.line else ""
        raise Refused(
            f"{first.file}{line}: {first.why}" + (f"; nor can the other {len(self) - 1}" if len(self) > 1 else ""),
            hint="a matrix has one row a line and as many cells in each, separated by blanks, tabs or commas",
        )

    def _rows(self, each: Slice, size: int | None) -> Rows | None:
        try:
            return parse(each.read(), self._cells, size)
        except SliceError as error:
            self.refused.append(Refusal(error.line, error.why, visible(each.label)))
        except OSError as error:
            self.refused.append(Refusal(None, (error.strerror or str(error)).lower(), visible(each.label)))
        return None

    def chunks(self) -> Iterator[tuple[int, list[tuple[int, Rows]]]]:
        """The slices that can be read, by number, in lists of about CHUNK_PINGS pings, each after how many are done then."""
        size = len(self.names)
        most = max(1, CHUNK_PINGS // size**2)
        for start in range(self._first, len(self), most):
            chunk = []
            for number, each in enumerate(self._slices[start : start + most], start + 1):
                rows = self._rows(each, size)
                if rows is not None:
                    chunk.append((number, rows))
            yield min(start + most, len(self)), chunk


def _check(options: Options) -> None:
    if options.unit not in {"s", "ms", "us"}:
        raise Refused(f"'{visible(options.unit)}' is no unit of a cell", hint="s, ms or us")
    if not INSTANT_MIN_NS <= options.start_ns <= INSTANT_MAX_NS:
        raise Refused("the start is out of range", hint="instants lie between 1823-11-12 and 2116-02-20")
    if options.interval_ns % _MS or not 1 <= options.interval_ns // _MS <= _INTERVAL_MAX_MS:
        raise Refused(f"an interval of {format_span(options.interval_ns)}", hint="whole milliseconds, at most 366 days")
    if not 1 <= options.lost_after <= 1000:
        raise Refused(f"lost after {options.lost_after} failures", hint="from 1 to 1000")


def _incarnation(options: Options, names: Sequence[tuple[str, str | None]], rows: Rows) -> str:
    """`import:` and SHA-256, in hexadecimal, of this text, each line ended by a line feed:

    `meshledger rtt-matrix`; `unit s`; `start 2026-01-01T00:00:00Z`; `interval_ms 60000`; `lost_after 1`; for each machine
    its name and, after a blank, its host name if it has one; for each row of the first slice that can be read its cells in
    whole microseconds, separated by blanks, without the diagonal, `-` for those without an answer.
    """
    lines = [
        "meshledger rtt-matrix",
        f"unit {options.unit}",
        f"start {format_instant(options.start_ns)}",
        f"interval_ms {options.interval_ns // _MS}",
        f"lost_after {options.lost_after}",
        *(machine if hostname is None else f"{machine} {hostname}" for machine, hostname in names),
        *(" ".join("-" if cell == LOST else str(cell) for cell in row) for row in rows),
    ]
    return IMPORTED + sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


class _Observer:
    """One machine while its rows are read: the links it has, and how many failures in a row each peer stands at."""

    def __init__(self, place: int, matrices: Matrices) -> None:
        self.options = matrices.options
        self.machine, self.hostname = matrices.names[place]
        self.feed = Feed.of(matrices.incarnation, self.machine)
        self.peers = [machine for other, (machine, _hostname) in enumerate(matrices.names) if other != place]
        self.links: list[str | None] = [None] * len(self.peers)
        self.established = [0] * len(self.peers)
        self.failures = [0] * len(self.peers)
        self.steady = False
        self.seen = 0

    def opening(self) -> list[Observed]:
        """What stands at the beginning of its feed."""
        feed, options = self.feed, self.options
        events = (
            FeedOpened(feed.incarnation, self.machine, feed.epoch),
            MachineJoined(self.machine, self.hostname),
            SettingsChanged(1, options.interval_ns // _MS, lost_after=options.lost_after),
        )
        return [Observed(options.start_ns, event) for event in events]

    def see(self, number: int, row: Sequence[int]) -> Iterable[Observed]:
        """The entries that its row of slice `number` makes."""
        at = repeat(self.options.start_ns + (number - 1) * self.options.interval_ns)
        if self.steady and LOST not in row:  # as nearly all rows: the same as below, without a look at each
            return map(Observed, at, map(PingAnswered, self.peers, repeat(number), row, self.links))
        entries = list(map(Observed, at, self._events(number, row)))
        self.steady = None not in self.links and not any(self.failures)
        return entries

    def _events(
        self, number: int, row: Sequence[int]
    ) -> Iterator[PingAnswered | PingFailed | LinkEstablished | LinkLost | LinkFailed]:
        for place, (peer, rtt_us, link) in enumerate(zip(self.peers, row, self.links, strict=True)):
            if rtt_us != LOST:
                self.failures[place] = 0
                if link is None:
                    self.established[place] += 1
                    link = self.links[place] = str(self.established[place])
                    yield LinkEstablished(peer, link)
                yield PingAnswered(peer, number, rtt_us, link)
                continue
            yield PingFailed(peer, number, "timeout", link)
            if link is not None:
                self.failures[place] += 1
                if self.failures[place] >= self.options.lost_after:
                    self.links[place], self.failures[place] = None, 0
                    yield LinkLost(peer, "timeout", link)
            elif not self.established[place]:
                yield LinkFailed(peer, "timeout")


def import_rtt_matrix(ledger: Ledger, matrices: Matrices, progress: Progress | None = None) -> Import:
    """Write the slices into `ledger`, opened to write: what it has is compared, what it lacks is appended.

    Raises WrongIncarnation if the ledger holds another, and what `Ledger.append` raises. What was written before stands,
    and the same import goes on there.
    """
    held = ledger.incarnation
    if held not in {None, matrices.incarnation}:
        same = "an import goes on with the options and the first slice that it began with; for another name another ledger"
        raise WrongIncarnation(str(held), matrices.incarnation, "what is imported", hint=same)
    observers = [_Observer(place, matrices) for place in range(len(matrices.names))]
    intakes = [Intake(ledger, observer.feed) for observer in observers]
    for done, chunk in matrices.chunks():
        with ledger.transaction():
            for place, (observer, intake) in enumerate(zip(observers, intakes, strict=True)):
                batch = [] if observer.seen else observer.opening()
                for number, rows in chunk:
                    batch.extend(observer.see(number, rows[place]))
                intake.append(intake.lacking(observer.seen + 1, batch), seal=True)
                observer.seen += len(batch)
        if progress is not None:
            progress(done, len(matrices))
    return Import(
        feeds={intake.feed.name: intake.taken for intake in intakes},
        conflicts=[intake.conflict for intake in intakes if intake.conflict is not None],
        refused=list(matrices.refused),
    )


def open_matrices(sources: Iterable[str | Path], options: Options, names: str | Path | None = None) -> Matrices:
    """The slices of `sources`, ready to be written; `names` is a file with one machine a line. Raises Refused."""
    return Matrices(sources, options, None if names is None else read_names(names))
