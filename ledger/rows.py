"""How rows hold a record on disk, and how a row shows that it is whole.

Every row that a library read relies on bears a *sum*: the first eight bytes of SHA-256 over all its other columns. A row
that was changed by anything but us is told from a good one before its content is used. The record's own columns carry
the *chain*: SHA-256 over what stood before and the record's leaf, sixteen bytes, so that a snapshot can name the very
records it was made from.

A record's row holds its block with each byte plane compressed (raw deflate, RFC 1951) where that saves room, the
contexts as numbers into the feed's `context` rows, and the *directory*: what each group amounts to. The directory is a
cache of the block (`verify` recomputes it); with it a fold needs to open no column. So the body, nearly all of a ledger's
bytes, stands last in the row and has a sum of its own, which the row's sum covers: a fold leaves it on the disk.
Pure: bytes in, bytes out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import accumulate, compress
from math import gcd
from typing import Any, Final

import msgspec

from ledger.blocks import COMMON, Block, Column, Context, Group
from ledger.entry import Observed
from ledger.errors import Damaged
from ledger.events import PingAnswered, PingFailed
from ledger.planes import Plane

CHAIN_START: Final = bytes(16)

_DIRECTORY_MAX_BYTES: Final = 1 << 24
"""A thousand groups of eleven numbers are a tenth of a megabyte; a few bytes from elsewhere could inflate to more."""

_OPEN_MANY_BYTES: Final = 1 << 12
"""An open row of so many bytes is deflated: in a feed written in batches it may stand for long."""
_OPEN_MAX_BYTES: Final = 1 << 26
_DEFLATED: Final = b"\1"
"""What such a row begins with; one that is not begins with the head of an array."""

_encode: Final = msgspec.msgpack.Encoder().encode
_UNREADABLE: Final = (
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    RecursionError,
    zlib.error,
)


class Directory(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The groups of a record, one number each: the context's id, the count, the places of the first and the last, their
    instants, the last round trip and the last `held` (0 where there is none). Ids and places are differences to the one
    before, instants count in `scale` ns from the row's origin; gaps count in `coarse` ns, rounded up.
    """

    scale: int
    coarse: int
    contexts: list[int]
    counts: list[int]
    firsts: list[int]
    first_steps: list[int]
    lasts: list[int]
    last_steps: list[int]
    rtts: list[int]
    held: list[int]
    gaps: list[int]


class _Stored(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A block as stored: planes shorter than the count are deflated."""

    which: tuple[Plane, ...]
    columns: tuple[Column, ...]


_DIRECTORY: Final = msgspec.msgpack.Decoder(Directory)
_STORED: Final = msgspec.msgpack.Decoder(_Stored)
_CONTEXT: Final = msgspec.msgpack.Decoder(Context)
_OPEN: Final = msgspec.msgpack.Decoder(tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]])


def row_sum(*columns: object) -> bytes:
    """The sum of a row's other columns, in their order."""
    return sha256(_encode(columns)).digest()[:8]


def chain_after(chain: bytes, leaf: bytes) -> bytes:
    """The chain once a record with this leaf hash stands after it."""
    return sha256(chain + leaf).digest()[:16]


def deflate(plane: Plane, *, noisy: bool = True) -> Plane:
    """A byte plane as stored: deflated if that is shorter by an eighth. `noisy`: it may be left at a glance."""
    if isinstance(plane, int) or len(plane) < 16:
        return plane
    if noisy and len(set(head := plane[:128])) * 16 > len(head) * 11:
        return plane
    packed = _deflated(plane)
    return packed if len(packed) * 8 <= len(plane) * 7 else plane


def _deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(5, zlib.DEFLATED, -12, 5)
    return packer.compress(data) + packer.flush()


def inflate(plane: Plane, count: int) -> Plane:
    """A byte plane as it was. Raises Damaged if it is none."""
    if isinstance(plane, int) or len(plane) == count:
        return plane
    try:
        whole = zlib.decompress(plane, -15, count)  # a row is bounded, and so is what it can inflate to
    except zlib.error as error:
        raise Damaged(f"a byte plane does not inflate: {error}") from None
    if len(whole) != count:
        raise Damaged("a byte plane inflates to another length")
    return whole


def make_directory(groups: Sequence[Group], numbers: Sequence[int], first: int) -> tuple[int, Directory]:
    """The origin of a directory's instants, and the directory. `first`: the index of the record's first entry."""
    low = min(group.first_ns for group in groups)
    coarse = max(group.gap_ns for group in groups) // 100 + 1
    scale = gcd(*(group.first_ns - low for group in groups), *(group.last_ns - low for group in groups)) or 1
    return low, Directory(
        scale,
        coarse,
        _differences(numbers),
        [group.count for group in groups],
        _differences([group.first - first for group in groups]),
        [(group.first_ns - low) // scale for group in groups],
        _differences([group.last - first for group in groups]),
        [(group.last_ns - low) // scale for group in groups],
        [group.rtt_us for group in groups],
        [group.held or 0 for group in groups],
        [-(-group.gap_ns // coarse) for group in groups],
    )


def _differences(numbers: Sequence[int]) -> list[int]:
    return [number - before for number, before in zip(numbers, (0, *numbers), strict=False)]


def body_sum(body: bytes) -> bytes:
    """The sum of a body column, itself a column of the row."""
    return sha256(body).digest()[:8]


def encode_body(block: Block, numbers: Sequence[int], groups: Sequence[Group], first: int) -> tuple[int, bytes, bytes]:
    """The origin of the directory's instants, the directory column and the body column. `numbers`: the ids of the block's
    contexts. A directory is a byte that says whether it is deflated, and itself.
    """
    if not block.count:
        return 0, b"", b""
    low, directory = make_directory(groups, numbers, first)
    plain = _encode(directory)
    packed = _deflated(plain)
    columns = tuple(
        Column(
            column.scale,
            column.base,
            tuple(deflate(plane) for plane in column.firsts),
            tuple(deflate(plane) for plane in column.planes),
        )
        for column in block.columns
    )
    stored = _encode(_Stored(tuple(deflate(plane, noisy=False) for plane in block.which), columns))
    return low, b"\1" + packed if len(packed) * 8 <= len(plain) * 7 else b"\0" + plain, stored


def decode_directory(data: bytes) -> Directory:
    """The directory that its column holds. Raises Damaged if it is none."""
    try:
        if data[0] == 1:
            return _DIRECTORY.decode(zlib.decompressobj(-15).decompress(data[1:], _DIRECTORY_MAX_BYTES))
        return _DIRECTORY.decode(data[1:])
    except _UNREADABLE as error:
        raise Damaged(f"a record's directory does not decode: {error}") from None


def decode_block(
    total: int, told: Directory | None, body: bytes, context: Callable[[int], Context], *, opened: bool = True
) -> Block:
    """The block of `total` pings that a body column holds. `told`: its directory, None if there are no pings; `context` gives
    the context with a number. Unless `opened`, the planes of its columns are still as they were stored (who reads them takes
    `inflate`), and it is not canonical.
    """
    if told is None or not total:
        return Block(0, (), (), ())
    try:
        stored = _STORED.decode(body)
    except _UNREADABLE as error:
        raise Damaged(f"a record's columns do not decode: {error}") from None
    contexts = tuple(context(number) for number in accumulate(told.contexts))
    which = tuple(inflate(plane, total) for plane in stored.which)
    if not opened:
        return Block(total, contexts, which, stored.columns)
    answered = [kept.answered for kept in contexts]
    got = sum(compress(told.counts, answered))
    few = sum(answered)
    columns = []
    for index, column in enumerate(stored.columns):
        count, kept = (total, len(contexts)) if index in COMMON else (got, few)
        firsts = tuple([inflate(plane, kept) for plane in column.firsts])
        columns.append(Column(column.scale, column.base, firsts, tuple([inflate(plane, count) for plane in column.planes])))
    return Block(total, contexts, which, tuple(columns))


def decode_groups(d: Directory, low_ns: int, first: int, context: Callable[[int], Context]) -> list[Group]:
    """The directory as groups. `low_ns`: the origin of its instants, `first`: the index of the record's first entry.

    `gap_ns` of each is rounded up.
    """
    scale = d.scale
    coarse = d.coarse
    return [
        Group(
            kept.peer,
            kept.link,
            kept.reason,
            count,
            start,
            low_ns + start_step * scale,
            end,
            low_ns + end_step * scale,
            rtt_us,
            gap * coarse,
            kept.feed,
            held if kept.given & 2 else None,
        )
        for kept, count, start, start_step, end, end_step, rtt_us, held, gap in zip(
            map(context, accumulate(d.contexts)),
            d.counts,
            map(first.__add__, accumulate(d.firsts)),
            d.first_steps,
            map(first.__add__, accumulate(d.lasts)),
            d.last_steps,
            d.rtts,
            d.held,
            d.gaps,
            strict=True,
        )
    ]


def encode_context(context: Context) -> bytes:
    """The body column of a context's row."""
    return _encode(context)


def decode_context(data: bytes) -> Context:
    """The context of a row. Raises Damaged if it is none."""
    try:
        return _CONTEXT.decode(data)
    except _UNREADABLE as error:
        raise Damaged(f"a context does not decode: {error}") from None


def encode_open(pings: Sequence[Observed]) -> bytes:
    """The body column of an open row: pings that no record covers yet. Texts stand once, numbers as they came; many together
    are deflated.
    """
    contexts: dict[tuple[Any, ...], int] = {}
    found: list[tuple[Any, ...]] = []
    for ping in pings:
        event = ping.event
        if isinstance(event, PingAnswered):
            key: tuple[Any, ...] = (True, event.peer, event.link, event.peer_boot, event.feed, ping.boot)
            number = contexts.setdefault(key, len(contexts))
            stamps = (event.sent_us, event.received_us, event.replied_us, event.returned_us)
            found.append((number, ping.at_ns, ping.mono_ns, event.number, event.held, event.rtt_us, *stamps))
        elif isinstance(event, PingFailed):
            key = (False, event.peer, event.link, event.reason, event.feed, ping.boot)
            number = contexts.setdefault(key, len(contexts))
            found.append((number, ping.at_ns, ping.mono_ns, event.number, event.held))
    plain = _encode((list(contexts), found))
    return _DEFLATED + zlib.compress(plain, 1, -15) if _OPEN_MANY_BYTES <= len(plain) <= _OPEN_MAX_BYTES else plain


def decode_open_row(data: bytes) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The contexts of an open row's pings (answered, peer, link, the peer's boot or the reason, feed, boot), and of each ping
    the number of its context, wall and monotonic clock, number, held; where it was answered also round trip and stamps.

    Raises Damaged if it holds none.
    """
    try:
        if data[:1] == _DEFLATED:
            opener = zlib.decompressobj(-15)
            data = opener.decompress(data[1:], _OPEN_MAX_BYTES)
            if not opener.eof:
                raise ValueError("larger than any append")
        contexts, found = _OPEN.decode(data)
        if any(len(context) != 6 for context in contexts) or any(
            len(ping) != (10 if contexts[ping[0]][0] else 5) for ping in found
        ):
            raise ValueError("of another length")
    except _UNREADABLE as error:
        raise Damaged(f"an open row does not decode: {error}") from None
    return contexts, found


def decode_open(data: bytes) -> list[Observed]:
    """The pings of an open row. Raises Damaged if they are none."""
    return open_pings(*decode_open_row(data))


def open_pings(contexts: Sequence[tuple[Any, ...]], found: Sequence[tuple[Any, ...]]) -> list[Observed]:
    """The pings that `decode_open_row` gave. Raises Damaged if they are none."""
    try:
        result = []
        for number, at_ns, mono_ns, count, held, *rest in found:
            answered, peer, link, said, feed, boot = contexts[number]
            if answered:
                rtt_us, *stamps = rest
                sent, received, replied, returned = stamps
                event: Any = PingAnswered(peer, count, rtt_us, link, sent, received, replied, returned, said, feed, held)
            else:
                event = PingFailed(peer, count, said, link, feed, held)
            result.append(Observed(at_ns, event, boot, mono_ns))
    except _UNREADABLE as error:
        raise Damaged(f"an open row does not decode: {error}") from None
    return result
