"""What the rows of a feed state: how far it goes, what each record covers, which stretches of its clock were disowned.

Shapes that `row_reader` fills and `writer` keeps. A `Head` is all that changes in a feed; it counts what readers find by an
index, so that an index that lost a line is noticed. A `RecordRow` says of its record what a search needs to know without
opening it, and what stood before it. Nothing here reads or writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ledger import rows
from ledger.events import KINDS
from ledger.instants import Disowned

_encode_kinds: Final = msgspec.msgpack.Encoder(order="sorted").encode
_KINDS: Final = msgspec.msgpack.Decoder(dict[str, int])


class Head(msgspec.Struct, frozen=True, gc=False):
    """How far a feed goes: sealed records, the last entry they cover, the last entry of all; `peak_ns` the latest wall
    clock that the records saw, `chain` and `frontier` (of the Merkle tree) after them, `contexts` how many are named;
    `kinds` how many control entries of each rare kind there are, `evidence` how many rows hold branches: so that what is
    found by an index is known to be all.
    """

    records: int = 0
    sealed: int = 0
    last: int = 0
    peak_ns: int | None = None
    chain: bytes = rows.CHAIN_START
    frontier: bytes = b""
    contexts: int = 0
    kinds: bytes = _encode_kinds({})
    evidence: int = 0

    def with_kinds(self, kinds: Iterable[str]) -> Head:
        """The head once control entries of these kinds stand as well."""
        rare = [kind for kind in kinds if kind in KINDS and not kind.startswith("link.")]
        if not rare:
            return self
        counts = _KINDS.decode(self.kinds)
        for kind in rare:
            counts[kind] = counts.get(kind, 0) + 1
        return msgspec.structs.replace(self, kinds=_encode_kinds(counts))

    def count_of(self, kinds: Iterable[str]) -> int:
        """How many control entries the feed has of those of these kinds that are known, and none of them `link.`."""
        counts = _KINDS.decode(self.kinds)
        return sum(counts.get(kind, 0) for kind in set(kinds))


class RecordRow(msgspec.Struct, frozen=True, gc=False):
    """A record as its row states it. Instants are wall clock in ns: least, greatest, greatest of the feed before it and
    with it. `steady`: the wall clock never went back within it, nor behind what was before. `closed`: the sum of the body
    column, which is read only when a column is asked for; `directory`: what the pings amount to, still packed.
    """

    feed: int
    n: int
    first: int
    last: int
    pings: int
    lost: int
    low_ns: int
    high_ns: int
    before_ns: int | None
    peak_ns: int
    steady: int
    origin_ns: int
    prior: bytes
    leaf: bytes
    closed: bytes
    directory: bytes
    sum: bytes

    @property
    def chain(self) -> bytes:
        """The chain after this record."""
        return rows.chain_after(self.prior, self.leaf)


class Timeline(msgspec.Struct, frozen=True, gc=False):
    """What turns wall clocks into effective instants: the disowned stretches and, if there are any, the effective peak
    after each record (`peaks[n]`, `peaks[0]` before all).
    """

    stretches: tuple[Disowned, ...] = ()
    peaks: tuple[int | None, ...] = ()
