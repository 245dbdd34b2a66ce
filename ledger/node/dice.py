"""Chance that can be repeated: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), from a seed that is handed in.

The core jitters with it, and a simulation draws all of its faults from it: one seed, one history. It is no source of secrets.
Pure, but for its own state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

_MASK: Final = (1 << 64) - 1
T = TypeVar("T")


class Dice:
    """A generator of evenly spread numbers."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def bits(self) -> int:
        """64 bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """A whole number from 0 to `bound` - 1. The bias of the remainder is below 2**-30 for every bound used here."""
        return self.bits() % bound

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        return low + self.below(high - low + 1)

    def chance(self, of: float) -> bool:
        """True with this probability."""
        return self.bits() < of * (_MASK + 1)

    def choice(self, among: Sequence[T]) -> T:
        """One of them."""
        return among[self.below(len(among))]

    def fork(self) -> Dice:
        """An independent generator."""
        return Dice(self.bits())
