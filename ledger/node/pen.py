"""The hand that writes a node's ledger: own entries, and runs of others' feeds, in as few transactions as there can be.

What the core gave is appended to the own feed, and then the core is told that it stands; until then nothing is said of it.
Results of pings, which nobody waits for, lie here for a moment and share a commit with what else is written by then, for a
commit costs more than what stands in it. Runs that wait are taken in together, all in one transaction; where that fails each by
itself, which is the definition. What a ledger refuses (a full disk) is kept, in order, and tried again each second until it
stands. Effects: the ledger's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ledger.entry import Entry, Observed
from ledger.errors import LedgerError
from ledger.identity import Feed
from ledger.node import confirming
from ledger.node import signals as sig
from ledger.node.exchange import Exchange
from ledger.node.gate import Log
from ledger.node.mesh import Mesh
from ledger.node.notify import Notify
from ledger.node.replicas import QUIET, held
from ledger.store import Ledger, Receipt

RETRY_S: Final = 1.0
GATHER_MAX_NS: Final = 500_000_000
"""So long at most a result lies here: a quarter of an interval, and never more than this."""
_NS: Final = 1_000_000_000


class Pen:
    """The pen of one node. `feed`: the own one; `waiting`: entries that are not stored; `full`: whether the ledger refuses."""

    def __init__(self, ledger: Ledger, mesh: Mesh, *, log: Log, notify: Notify, now: Callable[[], sig.Now]) -> None:
        self._ledger = ledger
        self.feed = mesh.core.feed
        self._mesh = mesh
        self._log = log
        self._notify = notify
        self._now = now
        self.exchange: Exchange
        self.waiting: list[Observed] = []
        self.full = False
        self._retry_s = 0.0

    def gather_ns(self) -> int:
        """How long what is not urgent may lie."""
        return min(self._mesh.core.interval_ns // 4, GATHER_MAX_NS)

    def write(self, events: Sequence[Observed]) -> None:
        """Append to the own feed; results of pings and the like at the next occasion."""
        self.waiting += events
        if self.full or any(each.event.kind not in QUIET for each in events):
            self.flush()

    def retry(self) -> None:
        """Try again what was refused, if it is time."""
        if self.full and self._now().mono_ns / _NS >= self._retry_s:
            self.flush()

    def flush(self) -> None:
        """Append what waits; what the ledger refuses is kept, in order, and tried again."""
        batch = self.waiting
        if not batch:
            return
        try:
            receipt = self._append(batch)
        except LedgerError as error:
            self._retry_s = self._now().mono_ns / _NS + RETRY_S
            if not self.full:
                self.full = True
                self._log({"event": "ledger-refuses", "error": error.message, "hint": error.hint})
                self._notify.status(f"the ledger refuses: {error.message}")
                self._mesh.observe(self._now(), sig.Medium(False, error.message))
            return
        self._stands(receipt, batch)

    def _append(self, batch: list[Observed]) -> Receipt:
        return self._ledger.append(batch, observer=self.feed, expect=self._mesh.core.last)

    def _stands(self, receipt: Receipt, batch: list[Observed]) -> None:
        self.waiting = []
        if self.full:
            self.full = False
            self._log({"event": "ledger-takes"})
            self._mesh.observe(self._now(), sig.Medium(True))
        self._mesh.stored([
            Entry(self.feed, index, each.at_ns, each.event, each.boot, each.mono_ns, each.at_ns)
            for index, each in enumerate(batch, receipt.first)
        ])  # fmt: skip

    # Runs.

    def take(self, actions: Iterable[sig.Take]) -> list[sig.Take]:
        """Take runs in, after what happened before them; those that were, in order."""
        self._mesh.look(self._now())
        self.waiting += self._mesh.take_events()
        if self.full:
            self.flush()
        if self.full:
            refused = list(actions)
            for action in refused:
                self._not_taken(action)
            return refused
        begun: list[sig.Take] = []
        coming = iter(actions)
        batch = self.waiting
        try:
            with self._ledger.transaction():
                receipt = self._append(batch) if batch else None
                judged = []
                for action in coming:
                    begun.append(action)
                    judged.append(self.exchange.judge(action, self._mesh.core.stamp))
        except LedgerError:
            self.flush()
            begun += coming
            for action in begun:
                self._take(action)
            return begun
        if receipt is not None:
            self._stands(receipt, batch)
        for action, taken in zip(begun, judged, strict=True):
            self._mesh.observe(self._now(), self.exchange.took(action, taken))
        return begun

    def _take(self, action: sig.Take) -> None:
        """Take one run in."""
        self._mesh.look(self._now())
        self.waiting += self._mesh.take_events()
        self.flush()
        if self.full:
            self._not_taken(action)
            return
        try:
            taken = self.exchange.judge(action, self._mesh.core.stamp)
        except LedgerError as error:
            self._log({"event": "run-not-taken", "feed": action.run.feed.machine, "error": error.message})
            self._not_taken(action)
            return
        self._mesh.observe(self._now(), self.exchange.took(action, taken))

    def _not_taken(self, action: sig.Take) -> None:
        """The medium refused a run: the core has it asked for again."""
        feed = action.run.feed.feed(self.feed.incarnation)
        there = held(self._ledger, feed)
        self._mesh.observe(self._now(), sig.Took(action.channel, feed, there, there.last, refused="medium"))

    # Epochs.

    def begin(self, action: sig.Begin, key: str) -> Feed:
        """Open the next epoch, under this ledger key, which is what is written from here on, also what waits: the feed before has
        ended, or its next places are taken.
        """
        before = self.feed
        epoch = 1 + max(action.beyond, *(each.epoch for each in self._ledger.feeds() if each.machine == before.machine))
        feed = Feed.of(before.incarnation, before.machine, epoch, key)
        opened = confirming.opening(self._mesh.core, feed, action, next(iter(self.waiting), None))
        self._ledger.append([opened], observer=feed)
        self._log({"event": "new-epoch", "feed": feed.name, "why": action.why})
        self.feed = feed
        self._mesh.begun(feed, held(self._ledger, before))
        self._mesh.stored([Entry(feed, 1, opened.at_ns, opened.event, opened.boot, opened.mono_ns, opened.at_ns)])
        return feed
