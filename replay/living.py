"""What a live machine knows, folded from the ledger that it writes: the view that `ledger.node` is handed.

It is the belief that replay asks for (`--as-seen-by`), taken up at the end of the ledger and kept up from there: so the table a
node routes by, the keys it trusts, and what is rebuilt later, are one piece of code. Reads the writer's own ledger.
"""

from __future__ import annotations

from ledger.identity import Feed
from ledger.store import Ledger
from projections.belief import Belief
from projections.feed_state import FeedState
from replay import folding
from replay.believing import live
from replay.history import History
from replay.union import Union


def view(ledger: Ledger, feed: Feed) -> Belief:
    """The belief of the machine that writes `feed` into `ledger`."""

    def refold(wanted: Feed, count: int) -> FeedState:
        return folding.prefix(ledger.reader(wanted), count)

    return live(History(Union([ledger]), snapshots=False), feed, refold)
