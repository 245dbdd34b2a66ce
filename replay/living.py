"""What a live machine knows, folded from the ledger that it writes: the view that `ledger.node` is handed.

It is the belief that replay asks for (`--as-seen-by`), taken up at the end of the ledger and kept up from there: so the table a
node routes by, the keys it trusts, and what is rebuilt later, are one piece of code. Reads the writer's own ledger, or a
record that is only in memory (`remembered`), as a simulation has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ledger.entry import Entry, Observed
from ledger.identity import Feed
from ledger.instants import effective_instants, may_disown
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


def remembered(own: Feed, disk: Mapping[Feed, Sequence[Observed]]) -> Belief:
    """The belief of a machine that begins to write `own`, with a record in memory: give it every entry of `disk` as it comes."""

    def refold(feed: Feed, count: int) -> FeedState:
        log = disk[feed][:count]
        steps = [index for index, each in enumerate(log, 1) if may_disown(each.event)]
        state = FeedState(feed)
        for index, (each, at_ns) in enumerate(zip(log, effective_instants([each.at_ns for each in log], steps), strict=True), 1):
            state.apply(Entry(feed, index, each.at_ns, each.event, each.boot, each.mono_ns, at_ns))
        return state

    return Belief(own, refold)
