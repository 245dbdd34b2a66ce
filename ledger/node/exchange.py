"""Runs of feeds between the ledger and the wires: given to who asks, taken in once they are judged.

What was given on a channel is remembered, so that what follows can be pushed without being asked for: the receiver holds just
that. A run of the own feed is never taken; it may show that this machine has lost entries which it had signed. The ledger is
written by the daemon's loop alone, which calls this. No other effects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.entry import Observed
from ledger.events import Event
from ledger.identity import Feed
from ledger.node import signals as sig
from ledger.node import wire
from ledger.node.craft import OwnCraft
from ledger.node.gate import Log
from ledger.node.replicas import Held, Run, held
from ledger.node.taking import Taken, take_run
from ledger.node.wires import Wires
from ledger.node.words import Word
from ledger.store import Ledger

RUNS_MAX: Final = 8
"""Runs that follow one another in one push."""
MADE_MAX: Final = 64
"""Feeds of which the last run made is kept."""


class Exchange:
    """The exchange of one node."""

    def __init__(self, ledger: Ledger, craft: OwnCraft, wires: Wires, log: Log) -> None:
        self._ledger = ledger
        self._craft = craft
        self._wires = wires
        self._log = log
        self._made: dict[str, tuple[Held, Word, Run]] = {}

    def give(self, action: sig.Give) -> None:
        """Send the next run of a feed, or say that there is none."""
        feed = action.feed.feed(self._craft.feed.incarnation)
        key = (action.channel, feed.id)
        after = action.after if action.after is not None else self._wires.given.get(key)
        run = self._run(feed, after) if after is not None and feed in self._ledger.feeds() else None
        if run is None:
            if action.after is not None:
                self._wires.given[key] = action.after
                self._wires.send(action.channel, wire.Nothing(feed.id))
            return
        pushed = 0
        while run is not None and pushed < RUNS_MAX:
            self._wires.send(action.channel, wire.Push(run))
            pushed += 1
            if run.records:
                records = run.after.records + len(run.records)
                after = Held(records, self._ledger.reader(feed).record(records).last)
            else:
                after = Held(run.after.records + len(run.closes), run.word.last)
            self._wires.given[key] = after
            run = self._run(feed, after) if action.after is None else None

    def _run(self, feed: Feed, after: Held) -> Run | None:
        """The next run of a feed after so much. The last one made of each is kept: what is new goes to all peers alike."""
        made = self._made.get(feed.id)
        if made is not None and made[0] == after and made[1] == self._craft.stated(feed):
            return made[2]
        run = self._craft.run(feed, after)
        if run is not None and (feed.id in self._made or len(self._made) < MADE_MAX):
            self._made[feed.id] = after, run.word, run
        return run

    def judge(self, action: sig.Take, stamp: Callable[[Event], Observed]) -> Taken | sig.Took:
        """Judge a run and take it in, with `feed.received` in the own feed where that is due. What it gives is for `took`, once
        the transaction around it stands. Raises what the store raises.
        """
        run, own = action.run, self._craft.feed
        feed = run.feed.feed(own.incarnation)
        if feed == own:
            have = held(self._ledger, feed)
            if not self._craft.proves(feed, run.word):
                return sig.Took(action.channel, feed, have, have.last, refused="signature", detail="not this machine's word")
            return sig.Took(action.channel, feed, have, have.last, ahead=run.word.last if run.word.last > have.last else None)
        return take_run(self._ledger, run, incarnation=own.incarnation, own=own, stamp=stamp, running=self._craft.running)

    def took(self, action: sig.Take, taken: Taken | sig.Took) -> sig.Took:
        """What the core is told of a run that was judged; its word is kept."""
        if isinstance(taken, sig.Took):
            return taken
        again = None
        if taken.refused == "again":
            head = self._ledger.head(taken.feed)
            again = Held(head.records, head.sealed)
        elif taken.refused == "inconsistent":
            again = Held()
        elif taken.refused == "gap":
            again = taken.held
        if taken.forked is not None:
            self._log({"event": "fork", "position": taken.feed.at(taken.forked), "detail": taken.detail})
        return sig.Took(
            action.channel, taken.feed, taken.held, self._craft.learn(action.run, taken), taken.entries, taken.own, taken.refused,
            again, taken.detail,
        )  # fmt: skip
