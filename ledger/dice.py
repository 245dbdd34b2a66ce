"""Dice that fall the same everywhere: a stream of numbers from one seed, in plain integers.

Generated worlds promise that one seed gives the same bytes on every machine and every Python, and this folder's pure rooms
touch no other dice. The generator is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
OOPSLA 2014): one addition and a mixing of bits a number. Not for secrets. Pure: state in an object, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

_T = TypeVar("_T")
_MASK: Final = 2**64 - 1


class Dice:
    """Numbers that `seed` decides. Every throw changes the next; two dice of one seed throw alike."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def bits(self) -> int:
        """64 bits, as an integer from 0."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1. `limit` must be positive; the bias is below limit / 2**64."""
        return (self.bits() * limit) >> 64

    def between(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both possible."""
        return low + self.below(high - low + 1)

    def one_of(self, some: Sequence[_T]) -> _T:
        """One of `some`, which must not be empty."""
        return some[self.below(len(some))]

    def permille(self, chance: int) -> bool:
        """True in `chance` of a thousand throws."""
        return self.below(1000) < chance
