"""What is known of open parts as far as they were looked at, so that each entry is looked at once: digest and size.

An origin that speaks of its feed states the digest of the open part, and must know that this fits in a run. How many bytes it
takes as a record is seen by making the record; that it takes no more than a *bound* is known at a fraction of that. The bound
is kept as a block keeps its columns (`ledger.blocks`): each column is as wide as its greatest difference along a context, or its
greatest excess over a context's least. Divisors make columns narrower, so they are left aside. A law holds the bound to the
record. Pure, but for its own memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ledger import codec
from ledger.entry import Observed
from ledger.events import PingAnswered
from ledger.identity import Feed
from ledger.node.words import digest

CONTEXT_BYTES: Final = 110
"""What a context takes beside its texts: their heads, two boots, which numbers its pings bear, and nine first numbers."""
_FRAME_BYTES: Final = 1_500
"""What is there once: the heads of up to 152 planes, and the record's own."""
_PLACE_MAX: Final = 2**16 - 1
_COMMON: Final = 4
"""Columns with a number for every ping; the others have one for those that were answered."""
_WIDTH_MAX: Final = 8
_Key = tuple[object, ...]
_pack: Final = msgspec.msgpack.Encoder().encode


class Size:
    """A bound of what entries take as a record, as they are added one after another."""

    def __init__(self) -> None:
        self._bytes = _FRAME_BYTES
        self._pings = 0
        self._answered = 0
        self._before: dict[_Key, list[int]] = {}
        self._range: dict[_Key, list[int]] = {}
        self._bits = [0] * 9

    def add(self, entry: Observed) -> None:
        """One more entry, which the record takes."""
        event: Any = entry.event
        if not codec.is_ping(event):
            form = (_PLACE_MAX, entry.at_ns, entry.boot, entry.mono_ns, event.kind, event.version, codec.encode_event(event))
            self._bytes += len(_pack(form))
            return
        self._pings += 1
        at_ns, mono_ns, held = entry.at_ns, entry.mono_ns, event.held
        own_ns = at_ns if mono_ns is None else mono_ns
        steps, least = [at_ns, at_ns - own_ns, event.number, held or 0], []
        if event.__class__ is PingAnswered:
            self._answered += 1
            sent, received, replied, returned = event.sent_us, event.received_us, event.replied_us, event.returned_us
            key: _Key = (
                entry.boot, mono_ns is None, held is None, event.peer, event.link, event.peer_boot, event.feed,
                sent is None, received is None, replied is None, returned is None,
            )  # fmt: skip
            sent, received, returned = sent or 0, received or 0, returned or 0
            hold = (replied or 0) - received
            steps.append(received - sent)
            least = [event.rtt_us, hold, sent + event.rtt_us + hold - returned, own_ns // 1000 - returned]
        else:
            key = (entry.boot, mono_ns is None, held is None, event.peer, event.link, event.reason, event.feed)
        before = self._before.get(key)
        self._before[key] = steps
        bits = self._bits
        if before is None:
            self._range[key] = [*least, *least]
            texts = (event.peer, event.link, event.feed, getattr(event, "reason", None))
            self._bytes += CONTEXT_BYTES + sum([len(text.encode()) for text in texts if text is not None])
            return
        for place, number in enumerate(steps):
            step = number - before[place]
            size = (step if step >= 0 else ~step).bit_length()
            if size >= bits[place]:
                bits[place] = size + bool(step)
        if least:
            reach = self._range[key]
            for place, number in enumerate(least):
                low, high = reach[place], reach[place + 4]
                if low <= number <= high:
                    continue
                reach[place], reach[place + 4] = low, high = min(low, number), max(high, number)
                bits[5 + place] = max(bits[5 + place], (high - low).bit_length())  # the plane of its sign is one byte

    @property
    def bound(self) -> int:
        """So many bytes at most."""
        widths = [min(-(-bits // 8), _WIDTH_MAX) for bits in self._bits]
        which = -(-(len(self._before).bit_length() + 1) // 8)
        common, answered = which + sum(widths[:_COMMON]), sum(widths[_COMMON:])
        return self._bytes + self._pings * common + self._answered * answered


class Running:
    """The digests and bounds of feeds' open parts. Entries stay the same objects while an open part grows."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[int, Observed | None, Any]] = {}
        self._sizes: dict[str, tuple[int, Observed | None, Size]] = {}

    def of(self, feed: Feed, entries: Sequence[Observed]) -> Any:
        """`digest(entries)`, of the open part of a feed."""
        count, last, made = self._made.get(feed.id, (0, None, None))
        if count > len(entries) or (count and entries[count - 1] is not last):
            count, made = 0, None
        made = digest(entries[count:], made)
        if entries:
            self._made[feed.id] = len(entries), entries[-1], made
        return made

    def bound(self, feed: Feed, entries: Sequence[Observed]) -> int:
        """How many bytes the open part of a feed takes at most as a record."""
        count, last, size = self._sizes.get(feed.id, (0, None, None))
        if size is None or count > len(entries) or (count and entries[count - 1] is not last):
            count, size = 0, Size()
        for each in entries[count:]:
            size.add(each)
        if entries:
            self._sizes[feed.id] = len(entries), entries[-1], size
        return size.bound
