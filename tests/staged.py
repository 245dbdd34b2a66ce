"""A mesh told by hand, minute by minute: links that stand are pinged and answer, all others fail.

    mesh = Mesh("alpha", "bravo", "charlie")
    mesh.cut(610, "alpha", "bravo")              both lose each other at 610 s, `timeout` here and `timeout` there
    mesh.feeds(until=1200)                       the feeds, as they are appended

Seconds count from `told.START`. Every machine keeps a feed, is its own root and stands linked to all others from second 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from told import PAPER, imported, ns

from ledger import events as ev
from ledger.entry import Observed
from ledger.identity import Feed
from ledger.store import Ledger

INTERVAL = 60


class Mesh:
    """The script: what each machine writes beside its pings, and when it writes none."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.said: dict[str, list[tuple[float, int, ev.Event]]] = {name: [] for name in names}
        self.off: list[tuple[str, float, float]] = []
        self.order = 0
        for name in names:
            self.say(0, name, ev.FeedOpened(PAPER, name, 1))
            self.say(0, name, ev.MachineJoined(name, f"{name}.lab.example"))
            self.say(0, name, ev.NodeStarted(1))
        for place, a in enumerate(names):
            for b in names[place + 1 :]:
                self.link(1, a, b)

    def say(self, at: float, name: str, event: ev.Event) -> None:
        """`name` writes `event` at `at`."""
        self.order += 1
        self.said[name].append((at, self.order, event))

    def link(self, at: float, a: str, b: str) -> None:
        """The two are linked, as both write."""
        self.say(at, a, ev.LinkEstablished(b, f"{a}-{at}"))
        self.say(at, b, ev.LinkEstablished(a, f"{b}-{at}"))

    def lose(self, at: float, a: str, b: str, reason: ev.Reason = "timeout", **fields: str) -> None:
        """`a` loses its link to `b`."""
        self.say(at, a, ev.LinkLost(b, reason, **fields))

    def fail(self, at: float, a: str, b: str, reason: ev.Reason = "timeout", **fields: str) -> None:
        """`a` dials `b` in vain."""
        self.say(at, a, ev.LinkFailed(b, reason, **fields))

    def cut(
        self, at: float, a: str, b: str, there: ev.Reason = "timeout", back: ev.Reason = "timeout", *, later: float = 1
    ) -> None:
        """Both lose each other, `b` a little later."""
        self.lose(at, a, b, there)
        self.lose(at + later, b, a, back)

    def away(self, name: str, since: float, until: float = 1e9) -> None:
        """`name` writes no pings in [since, until)."""
        self.off.append((name, since, until))

    def feeds(self, until: float, only: Iterable[str] | None = None) -> dict[Feed, list[Observed]]:
        """The feeds up to `until`; of these machines only, if they are named."""
        return {imported(name): self._feed(name, until) for name in self.names if only is None or name in set(only)}

    def _feed(self, name: str, until: float) -> list[Observed]:
        rows = [row for row in self.said[name] if row[0] <= until]
        for number, second in enumerate(range(30, int(until) + 1, INTERVAL), 1):
            if any(who == name and since <= second < end for who, since, end in self.off):
                continue
            for place, peer in enumerate(other for other in self.names if other != name):
                at = second + place / 10
                rows.append((at, self.order + number, self._ping(name, peer, at, number)))
        rows.sort(key=lambda row: row[:2])
        return [Observed(ns(at), event) for at, _order, event in rows]

    def _ping(self, name: str, peer: str, at: float, number: int) -> ev.Event:
        link = None
        for when, _order, event in sorted(self.said[name], key=lambda row: row[:2]):
            if when <= at and getattr(event, "peer", None) == peer:
                link = event.link if isinstance(event, ev.LinkEstablished) else None
        if link is None:
            return ev.PingFailed(peer, number, "no-route")
        return ev.PingAnswered(peer, number, 900, link)


def written(path: Path, feeds: dict[Feed, list[Observed]]) -> Path:
    """A ledger of these feeds."""
    with Ledger.create(path) as ledger:
        for feed, observed in feeds.items():
            ledger.add_feed(feed)
            ledger.append(observed, observer=feed)
    return path
