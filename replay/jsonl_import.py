"""Lines come back into a ledger: `meshledger import jsonl`, what `jsonl` wrote, wherever it has been since.

Entries go through an `Intake`: what is there is compared, what is new is written, other content at a taken position is
named and left alone. Lines of one feed that follow each other and have one `rec` are one record, as their origin sealed it,
and are taken so, also where lines of other feeds stand between them (`log` writes them so); lines without it stay open (a
feed without a key seals them by count, as it always does).

Lines are refused one by one, with number and reason, and kept in the ledger's quarantine. An index has no gaps, so the lines
of a feed after one that is missing cannot be taken either: they are refused together, and a repaired file brings them later.
Where a record's beginning or end cannot be seen, because something is missing there, its entries come in as open ones, not
as a record that its origin never made. What was taken is committed every so many lines; the same import again goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import BinaryIO, Final

from ledger import codec
from ledger.entry import Observed
from ledger.errors import EventRefused, WrongIncarnation
from ledger.events import FeedOpened
from ledger.heads import Head
from ledger.identity import Feed, parse_position
from ledger.store import Ledger
from replay.intake import Intake
from replay.jsonl import LINE_MAX_BYTES, Placed, read_line
from replay.receipts import Import, Refusal
from replay.text import visible
from replay.union import spelled

COMMIT_LINES: Final = 100_000
RUN_ENTRIES_MAX: Final = 1024
"""So many entries of a feed wait at most, as a record holds no more (DESIGN section 5)."""
_MARK: Final = b"\xef\xbb\xbf"
"""What some editors put before the first line of a text in UTF-8."""

Progress = Callable[[int], None]
"""Told now and then how many lines are done."""


class _Lane:
    """The lines of one feed, by the name that they give it. `intake` is None where no feed of that name is known; `why`
    it takes no more, if so, since line `stopped`, and how many lines were `refused`. `entries` wait to be written: neighbours
    from index `first` on, all with one `record`. `doubt`: the line just after them was refused; `maybe`: a later one was.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.intake: Intake | None = None
        self.why = ""
        self.stopped = 0
        self.refused = 0
        self.first = 1
        self.record: int | None = None
        self.entries: list[Observed] = []
        self.doubt = self.maybe = False

    def goes_on(self, placed: Placed) -> bool:
        """Whether a line is the next of those that wait."""
        return placed.index == self.first + len(self.entries)


class _Importing:
    """One import while it goes on. `mixed`: a feed's lines went on after lines of others."""

    def __init__(self, ledger: Ledger, source: str) -> None:
        self._ledger = ledger
        self._source = source
        self._lanes: dict[str, _Lane] = {}
        self._current: _Lane | None = None
        self._mixed = False
        self._refused: list[Refusal] = []

    def line(self, number: int, data: bytes) -> None:
        """Take one line."""
        if len(data) > LINE_MAX_BYTES:
            self._refuse(number, data, f"is longer than {LINE_MAX_BYTES} bytes")
            return
        try:
            placed = read_line(data)
        except EventRefused as error:
            if not data.isspace():
                self._refuse(number, data, error.message)
            return
        lane = self._lanes.get(placed.name)
        if (
            lane is not None
            and placed.record == lane.record
            and lane.goes_on(placed)
            and not lane.why
            and 0 < len(lane.entries) < RUN_ENTRIES_MAX
        ):
            self._mixed |= lane is not self._current
            self._current = lane
            lane.doubt = lane.maybe = False
            lane.entries.append(placed.observed)
            return
        self._begin(placed, number, data)

    def end(self) -> Import:
        """The last line was taken: what became of all."""
        for lane in self._lanes.values():
            self._write(lane, whole=self._ended(lane))
        names = spelled(self._ledger.feeds())
        intakes = {lane.intake.feed: lane.intake for lane in self._lanes.values() if lane.intake is not None}
        for lane in self._lanes.values():
            if lane.why:
                more = f"; and {lane.refused - 1} more lines of this feed" if lane.refused > 1 else ""
                self._refused.append(Refusal(lane.stopped, visible(lane.why) + more, visible(self._source)))
        return Import(
            feeds={names[feed]: intakes[feed].taken for feed in sorted(intakes) if feed in names},
            conflicts=[intakes[feed].conflict for feed in sorted(intakes) if intakes[feed].conflict],  # type: ignore[misc]
            refused=sorted(self._refused, key=lambda refusal: refusal.line or 0),
        )

    def _begin(self, placed: Placed, number: int, data: bytes) -> None:
        """A line that does not go on where the last one of its feed stood: write what waits, and begin anew with this."""
        lane = self._lanes.get(placed.name)
        if lane is None:
            lane = self._lanes[placed.name] = self._lane(placed, number)
        else:
            again = lane is not self._current and placed.index < lane.first + len(lane.entries)
            self._write(lane, whole=self._ended(lane) if again else lane.goes_on(placed))
            self._mixed |= lane is not self._current
        self._current = lane
        intake = lane.intake
        if not lane.why and intake is not None and intake.conflict is None and placed.index > intake.last + 1:
            self._stop(lane, number, f"#{placed.index} of {lane.name} does not follow #{intake.last}: lines are missing")
        if lane.why:
            lane.refused += 1
            self._ledger.quarantine(self._source, number, lane.why, data)
            return
        lane.first, lane.record, lane.entries = placed.index, placed.record, [placed.observed]
        lane.doubt = lane.maybe = False

    def _lane(self, placed: Placed, number: int) -> _Lane:
        """The lane of a name that was not met before. Raises WrongIncarnation."""
        lane = _Lane(placed.name)
        event = placed.observed.event
        if placed.index > 1:
            held = [feed for feed in self._ledger.feeds() if _names(placed.name, feed)]
            if len(held) == 1:
                lane.intake = self._intake(held[0])
            else:
                why = "several feeds have that name here" if held else "no feed has that name here"
                self._stop(lane, number, f"{lane.name} is not begun at #1 in this file, and {why}")
        elif not isinstance(event, FeedOpened):
            self._stop(lane, number, f"{lane.name} begins with {event.kind}, not with feed.opened")
        else:
            feed = Feed.of(event.incarnation, event.machine, event.epoch, event.ledger_key)
            held_here = self._ledger.incarnation
            if held_here not in {None, feed.incarnation}:
                raise WrongIncarnation(str(held_here), feed.incarnation, f"{self._source}, line {number}")
            if _names(placed.name, feed):
                lane.intake = self._intake(feed)
            else:
                self._stop(lane, number, f"{lane.name} opens as {feed.name}~{feed.id[:8]}")
        return lane

    def _intake(self, feed: Feed) -> Intake:
        """The intake of a feed, once what waits of it under another name is written."""
        for lane in self._lanes.values():
            if lane.intake is not None and lane.intake.feed == feed:
                self._write(lane, whole=self._ended(lane))
        return Intake(self._ledger, feed)

    def _ended(self, lane: _Lane) -> bool:
        """Whether what waits is all of its record, where no line of the same feed follows. A feed that seals by count needs
        nobody's word for it; of one with a key the origin may have sealed anywhere, and nothing tells a file that was cut
        just there. Where lines of feeds are mixed, a refused one may have been of any.
        """
        keyed = lane.intake is not None and lane.intake.feed.ledger_key is not None
        return keyed and not lane.doubt and not (self._mixed and lane.maybe)

    def _write(self, lane: _Lane, *, whole: bool) -> None:
        """Write what waits. `whole`: if it bears a record's number, it is all of that record."""
        if lane.intake is None or not lane.entries:
            return
        first, entries, intake = lane.first, lane.entries, lane.intake
        lane.entries = []
        lane.doubt = lane.maybe = False
        if lane.record is None or not whole or not self._sealed(intake, lane.record, first, entries):
            intake.append(intake.lacking(first, entries), seal=intake.feed.ledger_key is None)

    def _sealed(self, intake: Intake, n: int, first: int, entries: list[Observed]) -> bool:
        """Take record `n`, of which these entries are all, or all from index `first` on; whether it could be placed.

        It cannot where the record before it does not end here, or not before it, and where it is larger than any.
        """
        feed = intake.feed
        head = self._ledger.head(feed) if intake.last else Head()
        mine = self._ledger.reader(feed).record(n) if n <= head.records else None
        begin = head.sealed + 1 if mine is None else mine.first
        if intake.conflict is not None or first < begin or n > head.records + 1:
            return False
        before = self._ledger.read(feed, after=begin - 1, until=first - 1) if begin < first else ()
        whole = [*(Observed(entry.at_ns, entry.event, entry.boot, entry.mono_ns) for entry in before), *entries]
        given = codec.make_record(begin, whole)
        if len(codec.encode_record(given)) > codec.RECORD_MAX_BYTES and len(whole) > 1:
            return False
        lacking = len(intake.lacking(first, entries))
        if intake.conflict is None:
            last = begin + len(whole) - 1
            if mine is None:
                intake.take(given)
            elif mine.last != last:
                intake.deny(min(mine.last, last), self._ledger.reader(feed).canonical(mine), given, lacking)
        return True

    def _stop(self, lane: _Lane, number: int, why: str) -> None:
        lane.why, lane.stopped = why, number

    def _refuse(self, number: int, data: bytes, why: str) -> None:
        if self._current is not None:
            self._current.doubt = True
        for lane in self._lanes.values():
            lane.maybe = True
        self._refused.append(Refusal(number, visible(why), visible(self._source)))
        self._ledger.quarantine(self._source, number, why, data)


def import_jsonl(ledger: Ledger, file: BinaryIO, source: str, progress: Progress | None = None) -> Import:
    """Take the lines of `file` into `ledger`, opened to write. `source` names the file in the answer and in the quarantine.

    Raises WrongIncarnation where a feed belongs to another, and what `Ledger.append` raises; what was committed before
    stands. Refused lines raise nothing: they are in the answer.
    """
    importing = _Importing(ledger, source)
    numbered = _numbered(file)
    done = 0
    while batch := list(islice(numbered, COMMIT_LINES)):
        with ledger.transaction():
            for number, data in batch:
                importing.line(number, data)
        done = batch[-1][0]
        if progress is not None:
            progress(done)
    with ledger.transaction():
        return importing.end()


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers; of one that is too long, just so much that it shows."""
    number = 0
    while data := file.readline(LINE_MAX_BYTES + 1):
        number += 1
        more = data
        if number == 1:
            data = data.removeprefix(_MARK)
        while not more.endswith(b"\n") and more:
            more = file.readline(LINE_MAX_BYTES)
        yield number, data


def _names(name: str, feed: Feed) -> bool:
    """Whether a feed may be called so: `alpha`, `alpha.2`, `alpha~3f2a`."""
    position = parse_position(f"{name}#1")
    return position is not None and position.names(feed)
