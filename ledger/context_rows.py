"""The contexts of one feed, as far as somebody asked for them: read by their numbers, few at a time, and few are kept.

A feed has as many contexts as it had links, and a record names the twenty or so that stood then. They are of all ages, so who
reads them by their neighbours reads mostly others. Each row's sum is checked before it is used. Reads, never writes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from ledger import rows
from ledger.blocks import Context
from ledger.errors import Damaged

_MARKS: Final = (4, 8, 16, 32, 64)
"""So many are asked for at once: few sizes, so that a query's plan is kept from one time to the next."""
_AHEAD: Final = 32
"""So many are read where the next are missing: who goes through a feed will ask for those after them."""
_KEPT_MAX: Final = 256
"""So many are kept of a feed: a reader of twenty feeds that kept more held more of contexts than of all else."""


class ContextRows:
    """The contexts of the feed with row id `row`. `query` gives all rows of a query, `damaged` makes the error."""

    def __init__(
        self,
        row: int,
        query: Callable[[str, Sequence[object]], list[tuple[Any, ...]]],
        damaged: Callable[[str, int], Damaged],
    ) -> None:
        self._row = row
        self._query = query
        self._damaged = damaged
        self._known: dict[int, Context] = {}

    def named(self, numbers: Collection[int]) -> Mapping[int, Context]:
        """Those with these numbers, by number, and maybe others. Raises Damaged if one is missing or not what was written."""
        known = self._known
        missing = [number for number in numbers if number not in known]
        if not missing:
            return known
        if len(known) + len(missing) > _KEPT_MAX:
            known = self._known = {}  # another dictionary: who was given the last one keeps it
            missing = list(numbers)
        first = min(missing)
        if (not first or first - 1 in known) and max(missing) - first < _AHEAD:
            self._read("id between ? and ?", (first, first + _AHEAD - 1))
        else:
            for start in range(0, len(missing), _MARKS[-1]):
                asked = missing[start : start + _MARKS[-1]]
                size = next(size for size in _MARKS if len(asked) <= size)
                self._read(f"id in ({', '.join('?' * size)})", [*asked, *asked[-1:] * (size - len(asked))])
        for number in missing:
            if number not in known:
                raise self._damaged(f"context {number} is missing", 0)
        return known

    def _read(self, which: str, values: Sequence[int]) -> None:
        query = f"select id, body, sum from context where feed = ? and {which}"
        for number, body, stored in self._query(query, (self._row, *values)):
            if rows.row_sum(self._row, number, body) != stored:
                raise self._damaged(f"context {number} is not what was written", 0)
            self._known[number] = rows.decode_context(body)
