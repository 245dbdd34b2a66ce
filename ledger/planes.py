"""Numbers as byte planes: all lowest bytes of a column, then all second bytes, as far as they say anything.

A plane of one byte throughout is kept as that number; a column of zeros has no planes at all. Numbers are signed, in two's
complement, of 64 bits at most. `encode` and `decode` are each other's inverse (a law), and `encode` gives as few planes
as hold the numbers: so one column has one form. Also here: `Lanes`, a column as one long integer with 64 bits a number,
because whole columns are added and subtracted that way at the speed of one multiplication; what it cannot hold it
refuses, and the plain way, number by number, defines it. Pure arithmetic.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from ledger.errors import Damaged

Plane = bytes | int
"""One byte of each number of a column, in order; an int where they are all the same."""

_SIZES: Final = (0, 1, 2, 4, 4, 8, 8, 8, 8)
_CODES: Final = {1: "b", 2: "h", 4: "i", 8: "q"}
_SIGN: Final = bytes(255 if byte > 127 else 0 for byte in range(256))
_BIG: Final = sys.byteorder == "big"
_HALF: Final = 1 << 63


def encode(numbers: array[int]) -> tuple[Plane, ...]:
    """The planes of an array of 64-bit numbers (typecode q), lowest first."""
    if _BIG:
        numbers = numbers[:]
        numbers.byteswap()
    return encode_bytes(numbers.tobytes())


def encode_bytes(raw: bytes) -> tuple[Plane, ...]:
    """The same for numbers given as bytes, eight a number, lowest first."""
    width = 8
    top = raw[7::8]
    while width > 1:
        below = raw[width - 2 :: 8]
        if top != below.translate(_SIGN):
            break
        top, width = below, width - 1
    if width == 1 and top.count(0) == len(top):
        return ()
    planes: list[Plane] = []
    for byte in range(width):
        plane = raw[byte::8]
        planes.append(plane[0] if plane.count(plane[0]) == len(plane) else plane)
    return tuple(planes)


def decode(planes: Sequence[Plane], count: int) -> array[int]:
    """The numbers of a column. Raises Damaged if the planes are not those of so many numbers."""
    if not planes:
        return array("q", bytes(8 * count))
    width = len(planes)
    if width > 8:
        raise Damaged("a column has more than eight byte planes")
    size = _SIZES[width]
    raw = bytearray(count * size)
    plane = b""
    for byte, stored in enumerate(planes):
        plane = bytes((stored & 255,)) * count if isinstance(stored, int) else stored
        if len(plane) != count:
            raise Damaged(f"a byte plane holds {len(plane)} numbers, not {count}")
        raw[byte::size] = plane
    if width < size:
        sign = plane.translate(_SIGN)
        for byte in range(width, size):
            raw[byte::size] = sign
    numbers = array(_CODES[size])
    numbers.frombytes(raw)
    if _BIG:
        numbers.byteswap()
    return numbers


def wrapped(number: int) -> int:
    """`number` modulo 2^64, signed: so the differences of instants that lie centuries apart are kept."""
    return ((number + _HALF) & (2 * _HALF - 1)) - _HALF


@lru_cache(maxsize=64)
def _high(count: int) -> int:
    """The highest bit of every lane."""
    return int.from_bytes(b"\0\0\0\0\0\0\0\x80" * count, "little")


class TooWide(ValueError):
    """A number that a lane does not hold with room to spare: negative, or of 63 bits and more."""


def lanes(numbers: Iterable[int], count: int) -> int:
    """A column as one long integer. Raises TooWide unless every number is from 0 to 2^63 - 1; TypeError if one is none."""
    try:
        column = array("Q", numbers)
    except OverflowError:
        raise TooWide from None
    if _BIG:
        column.byteswap()
    long = int.from_bytes(column.tobytes(), "little")
    if long & _high(count):
        raise TooWide
    return long


def laned(planes: Sequence[Plane], count: int) -> int:
    """The numbers of a column as `lanes` would give them. Raises TooWide if one is negative, Damaged as `decode` does."""
    width = len(planes)
    if width > 7 or (planes and (planes[-1] > 127 if isinstance(planes[-1], int) else not planes[-1].isascii())):
        raise TooWide
    raw = bytearray(8 * count)
    for byte, stored in enumerate(planes):
        plane = bytes((stored & 255,)) * count if isinstance(stored, int) else stored
        if len(plane) != count:
            raise Damaged(f"a byte plane holds {len(plane)} numbers, not {count}")
        raw[byte::8] = plane
    return int.from_bytes(raw, "little")


def repeated(numbers: Sequence[int], sizes: Sequence[int]) -> int:
    """In lanes, each number as often as its size says. Raises OverflowError if one is negative or too great."""
    return int.from_bytes(
        b"".join([number.to_bytes(8, "little") * size for number, size in zip(numbers, sizes, strict=True)]), "little"
    )


def difference(minuend: int, subtrahend: int, count: int) -> int:
    """Lane by lane, in two's complement. Both as `lanes` gives them, or sums of such below 2^63."""
    high = _high(count)
    return ((minuend | high) - subtrahend) ^ high


@lru_cache(maxsize=64)
def constant(number: int, count: int) -> int:
    """The same number in every lane."""
    return int.from_bytes(number.to_bytes(8, "little") * count, "little")


def is_plain(long: int, count: int) -> bool:
    """Whether no lane is negative, so that the column can be subtracted from again."""
    return not long & _high(count)


def shifted(long: int, count: int) -> int:
    """Every number moved one lane on; 0 in the first."""
    return (long << 64) & ((1 << (64 * count)) - 1)


ROOM: Final = 1 << 61
"""Two numbers below it can be added in a lane."""


def multiplied(long: int, by: int, count: int) -> int:
    """Every number times `by` (from 1 on). Raises TooWide unless all products are below ROOM."""
    if long & constant((1 << 64) - (1 << max(0, 61 - by.bit_length())), count):
        raise TooWide
    return long * by


def divided(long: int, rest: int, by: int, count: int) -> int | None:
    """Every number, less `rest`, divided by `by` (1 < `by` < 2^62, `rest` < `by`); None unless all leave that very rest.

    A long integer is divided as a whole. That this divides lane by lane is seen from the quotients: none is so great that it
    could carry, times `by`, into the next lane.
    """
    long -= rest * constant(1, count)
    if not is_plain(long, count):  # a number less than `rest` leaves another
        return None
    quotient, left = divmod(long, by)
    return None if left or quotient & constant((1 << 64) - (1 << (64 - by.bit_length())), count) else quotient


def unlane(long: int, count: int) -> bytes:
    """The lanes as bytes, eight a number, lowest first."""
    return long.to_bytes(8 * count, "little")


def unlaned(long: int, count: int) -> array[int]:
    """The lanes as numbers, in two's complement (typecode q)."""
    numbers = array("q", unlane(long, count))
    if _BIG:
        numbers.byteswap()
    return numbers
