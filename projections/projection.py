"""The shape of every view, and the one loop.

A projection is a value: `evolve(entry)` gives the next one and leaves this one as it was, whatever the entry is. Views
that grow by many entries are mutable inside and frozen outside: they can also `copy` themselves and `apply` an entry in
place. `fold` copies once and then applies, so that a million steps do not make a million values; that it equals evolving
step by step is a law under test. Nothing here knows what an event means.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, Self, TypeVar, runtime_checkable

from ledger.entry import Entry


class Projection(Protocol):
    """A view over entries. `evolve` is total: any entries in any order, no exception."""

    def evolve(self, entry: Entry) -> Self:
        """The view after `entry`; this one stays as it is."""
        ...


@runtime_checkable
class Growing(Protocol):
    """A view that can be copied and then grown in place; only `fold` and `evolve` may ask it to."""

    def copy(self) -> Self:
        """An equal view that shares nothing that `apply` changes."""
        ...

    def apply(self, entry: Entry) -> None:
        """Grow by `entry`, in place."""
        ...


P = TypeVar("P", bound=Projection)


def fold(state: P, entries: Iterable[Entry]) -> P:
    """`state` evolved by all `entries`, one after the other. `state` itself stays as it is."""
    if isinstance(state, Growing):
        grown = state.copy()
        apply = grown.apply
        for entry in entries:
            apply(entry)
        return grown
    for entry in entries:
        state = state.evolve(entry)
    return state
