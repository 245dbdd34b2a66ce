"""Meshledger itself as a contestant. What the tree does not have yet raises `Absent`, is listed, and the run goes on.

Rules that hold for it as for the peers: `append` is durable on return; `close` writes all that answers may use (records
sealed, snapshots), and its bytes count; `open` reads no events; nothing is kept from one answer for the next that a
fresh process would not have, but what `open` loads.

A state here knows the last *evidence* of a link only (see `digest`): a link that our projection calls `unknown`, for
silence or a restart, is told by its evidence. `state_at` counts sent and lost (`counts_then`); the run leaves the counts
out where the peer has none. `replay` folds every record from the first on: no snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.digest import ANSWERED, DOWN, FAILED, UP, State, Visited
from bench.peers.contestant import Contestant

from ledger.entry import Entry, Observed
from ledger.identity import Feed

FILE = "bench.ledger"


def seen(entry: Entry) -> Visited:
    """An entry as `rolled` wants it."""
    event = entry.event
    return entry.index, entry.at_ns, getattr(event, "peer", ""), event.kind, getattr(event, "rtt_us", -1)


class Ours(Contestant):
    """One ledger file, with its snapshots beside it."""

    name = "meshledger"
    batches = (1000,)
    counts_then = True

    @classmethod
    def version(cls) -> str:
        return "meshledger, this tree"

    def create(self, feeds: Sequence[Feed]) -> None:
        from ledger.store import Ledger

        self.ledger = Ledger.create(self.folder / FILE, incarnation=feeds[0].incarnation)
        for feed in feeds:
            self.ledger.add_feed(feed)

    def append(self, feed: Feed, entries: list[Observed]) -> None:
        self.ledger.append(entries, observer=feed)

    def close(self) -> None:
        from replay import snapshots

        self.ledger.close()
        snapshots.write(self.folder / FILE)

    def open(self) -> None:
        from replay.history import History

        self.history = History.open(self.folder / FILE)

    def leave(self) -> None:
        self.history.close()

    def replay(self) -> State:
        from replay.history import History

        with History.open(self.folder / FILE, snapshots=False) as history:
            return self.told(history.at(history.end_ns()))

    def walk(self) -> Iterator[tuple[str, Iterable[Visited]]]:
        from ledger.walking import walk

        for feed in self.history.feeds:
            yield feed.machine, walk(self.history.reader(feed))

    def state_at(self, at_ns: int) -> State:
        return self.told(self.history.at(at_ns))

    @staticmethod
    def told(cluster) -> State:
        """A `Cluster` in the words that all contestants share."""
        pings, links = {}, {}
        for feed, state in cluster.states.items():
            name = feed.machine
            for peer, ping in state.pings.items():
                good = ping.answered > 0
                pings[name, peer] = (
                    ping.last, FAILED if ping.reason else ANSWERED, ping.answered_ns if good else None,
                    ping.rtt_us if good else None, ping.sent, ping.lost,
                )  # fmt: skip
                if good:
                    links[name, peer] = UP
            for peer, link in state.links.items():
                ping = state.pings.get(peer)
                last_good = max(link.good, ping.answered if ping else 0)
                if link.evidence or last_good:
                    links[name, peer] = UP if last_good >= link.evidence else DOWN
        return State(pings, links, cluster.members)

    def verify(self) -> int:
        from ledger.store import Ledger
        from replay.soundness import verify_bytes

        with Ledger.open(self.folder / FILE) as ledger:
            readers = [ledger.reader(feed) for feed in ledger.feeds()]
            return sum(verify_bytes(reader)[1] + len(reader.open_stored()[1]) for reader in readers)
