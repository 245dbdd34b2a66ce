"""What is known of open parts as far as they were looked at, so that each entry is looked at once.

`Running` remembers digests: that of an open part goes into each word, and is what the word of another is judged by. `Extent`
bounds the bytes that entries take as a record, without making it: what a column holds of a ping lies within what the numbers of
its context differ by. That the one is the digest, and the other no less than the bytes, is a law. Entries stay the same objects
while an open part grows. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ledger import codec
from ledger.entry import Observed
from ledger.events import PingAnswered
from ledger.identity import Feed
from ledger.node.words import digest

CONTEXT_MAX_BYTES: Final = 700
"""What the pings of a group share: a machine, a link (of 64 letters, four bytes each), a feed, and nine first numbers."""
_FRAME_BYTES: Final = 1_500
"""What is there once: the heads of up to 152 planes, and the record's own."""
_COLUMNS: Final = 9


class Running:
    """The digest of each open part, as far as it was taken: of how many entries, and the last of them."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[int, Observed | None, Any]] = {}
        self._extents: dict[str, tuple[Observed | None, Extent]] = {}

    def of(self, feed: Feed, entries: Sequence[Observed]) -> Any:
        """`digest(entries)`, of the open part of a feed."""
        count, last, made = self._made.get(feed.id, (0, None, None))
        if count > len(entries) or (count and entries[count - 1] is not last):
            count, made = 0, None
        if count < len(entries) or made is None:
            made = digest(entries[count:], made)
            self.keep(feed, entries, made)
        return made

    def keep(self, feed: Feed, entries: Sequence[Observed], made: Any) -> None:
        """Remember a digest that somebody else has taken of an open part."""
        if entries:
            self._made[feed.id] = len(entries), entries[-1], made

    def bound(self, feed: Feed, entries: Sequence[Observed]) -> int:
        """No fewer bytes than the open part of a feed takes as a record."""
        last, extent = self._extents.get(feed.id, (None, Extent()))
        if extent.count > len(entries) or (extent.count and entries[extent.count - 1] is not last):
            extent = Extent()
        for entry in entries[extent.count :]:
            extent.add(entry)
        if entries:
            self._extents[feed.id] = entries[-1], extent
        return extent.bytes


class Extent:
    """How many bytes the first `count` entries of a record take at most."""

    def __init__(self) -> None:
        self.count = 0
        self._pings = 0
        self._fixed = _FRAME_BYTES
        self._spans: dict[tuple[object, ...], tuple[list[int], list[int]]] = {}
        self._widest = [0] * _COLUMNS

    @property
    def bytes(self) -> int:
        """No fewer than they take."""
        each = _width(len(self._spans)) + sum(map(_width, self._widest))
        return self._fixed + CONTEXT_MAX_BYTES * len(self._spans) + each * self._pings

    def add(self, entry: Observed) -> None:
        """One more."""
        self.count += 1
        event: Any = entry.event
        if not codec.is_ping(event):
            self._fixed += 64 + len(event.kind) + len(codec.encode_event(event))
            return
        self._pings += 1
        own = entry.at_ns if entry.mono_ns is None else entry.mono_ns
        shared: tuple[object, ...]
        if event.__class__ is PingAnswered:
            sent, received, replied, returned = event.sent_us, event.received_us, event.replied_us, event.returned_us
            lacks = (entry.mono_ns is None, event.held is None, sent is None, received is None, replied is None, returned is None)
            shared = (event.peer, event.link, event.peer_boot, event.feed, entry.boot, *lacks)
            sent, received, replied, returned = sent or 0, received or 0, replied or 0, returned or 0
            hold = replied - received
            numbers = [
                entry.at_ns, entry.at_ns - own, event.number, event.held or 0, event.rtt_us, hold,
                sent + event.rtt_us + hold - returned, received - sent, own // 1000 - returned,
            ]  # fmt: skip
        else:
            shared = (event.peer, event.link, event.reason, event.feed, entry.boot, entry.mono_ns is None, event.held is None)
            numbers = [entry.at_ns, entry.at_ns - own, event.number, event.held or 0]
        span = self._spans.get(shared)
        if span is None:
            self._spans[shared] = numbers, numbers[:]
            return
        lows, highs = span
        for column, number in enumerate(numbers):
            if number < lows[column]:
                lows[column] = number
            elif number > highs[column]:
                highs[column] = number
            else:
                continue
            self._widest[column] = max(self._widest[column], highs[column] - lows[column])


def _width(number: int) -> int:
    """The bytes of a number from its own negative to itself, eight at most."""
    return min(number.bit_length() // 8 + 1, 8) if number else 0
