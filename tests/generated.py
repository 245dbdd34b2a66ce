"""An incident to try everything on: five machines that never were, fifteen minutes, four faults.

`imagine` tells what each machine would have written, from a seed and nothing else; `record` writes that into one ledger a
machine, through the same door as any writer; `collected` does both, and merges. The story knows where its own events stand, so
that answers about it can be held against it (`generated_asked`).

    03:00  five machines join, and twenty links stand
    03:03  the link bravo=delta is reset, and back within seconds
    03:06  charlie gets a host name that DNS does not know: all lose it but bravo, whose link is older
    03:10  delta has heard nothing of echo for a minute, while echo hears delta: the pair is asymmetric
    03:11  charlie has its old name again, and all links are back
    03:13  echo leaves in order

Effects: `record` writes files; `imagine` uses dice of its own, so that the same seed gives the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from ledger import events as ev
from ledger.entry import Observed
from ledger.identity import Feed, incarnation_id
from ledger.notes import key_text
from ledger.store import Ledger
from replay.merge import merge
from replay.spans import SECOND_NS

NAMES: Final = ("alpha", "bravo", "charlie", "delta", "echo")
START_NS: Final = 1_767_582_000 * SECOND_NS
"""2026-01-05T03:00:00Z."""
MINUTES: Final = 15


class Incident(msgspec.Struct):
    """What each machine wrote, and where what the story is about stands: `places` by label, such as `alpha#57`."""

    feeds: dict[str, Feed]
    entries: dict[str, list[Observed]]
    places: dict[str, str]


Event = ev.Event | Callable[[Incident], ev.Event]
"""An event, or what makes it of all that was written before."""


def imagine(seed: int) -> Incident:
    """The incident of this seed. Round trips and the seconds within each minute differ from seed to seed; the faults do not."""
    return _Story(seed).told()


def record(incident: Incident, folder: Path) -> list[Path]:
    """Write each machine's feed into a ledger of its own, in `folder`. Raises what `Ledger` raises."""
    paths = []
    for name, feed in incident.feeds.items():
        path = folder / f"{name}.ledger"
        with Ledger.create(path, incarnation=feed.incarnation) as ledger:
            ledger.append(incident.entries[name], observer=feed)
            ledger.seal(feed)
        paths.append(path)
    return paths


def collected(folder: Path, seed: int = 1) -> list[Path]:
    """The five ledgers of an incident in a new folder, and beside them `incident.ledger`, which is all of them."""
    folder.mkdir()
    paths = record(imagine(seed), folder)
    merge(paths, folder / "incident.ledger")
    return paths


class _Story:
    """The story while it is told, minute by minute: first what happens, then the pings of that minute."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        keys = {name: key_text(sha256(f"generated {seed} {name}".encode()).digest()) for name in NAMES}
        self.incarnation = incarnation_id("demo", "ssh", "name", keys["alpha"], f"seed {seed}")
        self.salt = f"seed {seed}"
        self.feeds = {name: Feed.of(self.incarnation, name, 1, keys[name]) for name in NAMES}
        self.happenings: list[tuple[int, str, str, Event]] = []
        self.links: dict[tuple[str, str], str | None] = {}
        self.made = dict.fromkeys(NAMES, 0)
        self.reasons: dict[tuple[str, str], ev.Reason] = {}
        self.deaf: set[tuple[str, str]] = set()
        self.members = list(NAMES)

    def told(self) -> Incident:
        """All of it, in the order in which it happened, every entry in its feed."""
        self._begin()
        for number in range(MINUTES):
            self._happen(number)
            self._ping(number)
        incident = Incident(self.feeds, {name: [] for name in NAMES}, {})
        for at_ns, name, label, event in sorted(self.happenings, key=lambda each: each[0]):
            made = event if isinstance(event, ev.Event) else event(incident)
            mono_ns = at_ns - START_NS + (NAMES.index(name) + 1) * SECOND_NS
            incident.entries[name].append(Observed(at_ns, made, 1, mono_ns))
            if label:
                incident.places[label] = self.feeds[name].at(len(incident.entries[name]))
        return incident

    def add(self, at_ns: int, name: str, event: Event, label: str = "") -> None:
        """One entry of a feed."""
        self.happenings.append((at_ns, name, label, event))

    def _begin(self) -> None:
        for place, (name, feed) in enumerate(self.feeds.items()):
            at_ns = START_NS + place * SECOND_NS // 10
            self.add(at_ns, name, ev.FeedOpened(self.incarnation, name, 1, feed.ledger_key))
            if name == "alpha":
                self.add(at_ns, name, ev.ClusterCreated("demo", self.incarnation, "ssh", "name", self.salt))
                self.add(at_ns, name, ev.SettingsChanged(1))
            joined = ev.MachineJoined(name, f"{name}.lab.example", ledger_key=feed.ledger_key, held=0 if name == "alpha" else 1)
            self.add(at_ns + 1_000_000, "alpha", joined, f"join {name}")
            self.add(at_ns + 2_000_000, name, ev.NodeStarted(1, "demo"))
        for a in NAMES:
            for b in NAMES:
                if a < b:
                    self._up(START_NS + 5 * SECOND_NS, a, b)

    def _second(self, number: int, low: int, high: int) -> int:
        return START_NS + number * 60 * SECOND_NS + self.dice.randrange(low * 1000, high * 1000) * 1_000_000

    def _up(self, at_ns: int, a: str, b: str) -> None:
        for near, far in ((a, b), (b, a)):
            self.made[near] += 1
            self.links[near, far] = f"{near}-{self.made[near]}"
            self.add(at_ns, near, ev.LinkEstablished(far, self.links[near, far], f"192.0.2.{NAMES.index(far) + 11}:22", "ssh"))

    def _lost(self, at_ns: int, near: str, far: str, reason: ev.Reason, *, detail: str = "", label: str = "") -> None:
        link = self.links.get((near, far))
        self.links[near, far] = None
        self.reasons[near, far] = reason
        self.add(at_ns, near, ev.LinkLost(far, reason, link, detail=detail), label)

    def _happen(self, number: int) -> None:
        at_ns = self._second(number, 6, 20)
        if number == 3:  # a flap: a link is reset, and back within seconds
            self._lost(at_ns, "bravo", "delta", "reset", detail="Connection reset by peer", label="flap")
            self._lost(at_ns + 1_000_000, "delta", "bravo", "closed")
            self._up(at_ns + 4 * SECOND_NS, "bravo", "delta")
        elif number == 6:  # a new host name, which DNS does not know: only bravo's older link stays
            self.add(at_ns, "charlie", ev.HostnameChanged("charlie.lab.example", "c3.lab.example", forced=True), "rename")
            for place, name in enumerate(("alpha", "delta", "echo")):
                lost_ns = at_ns + (20 + place) * SECOND_NS // 10
                self.add(lost_ns, name, ev.NameFailed("c3.lab.example", outcome="nxdomain", server="192.0.2.53"))
                self._lost(
                    lost_ns + 1_000_000,
                    name,
                    "charlie",
                    "name-unresolvable",
                    detail="c3.lab.example: no such name",
                    label=f"lost {name}",
                )
                self._lost(lost_ns + 2_000_000, "charlie", name, "closed")
        elif number == 9:  # delta hears nothing of echo any more, while echo hears delta
            self.deaf.add(("delta", "echo"))
        elif number == 10:
            self._lost(at_ns, "delta", "echo", "timeout", detail="no answer within 15 s", label="deaf")
        elif number == 11:  # the old name again
            self.add(at_ns, "charlie", ev.HostnameChanged("c3.lab.example", "charlie.lab.example"), "renamed back")
            for place, name in enumerate(("alpha", "delta", "echo")):
                self._up(at_ns + (place + 1) * SECOND_NS, name, "charlie")
            self.deaf.clear()
            self._up(at_ns + 4 * SECOND_NS, "delta", "echo")
        elif number == 13:  # echo leaves in order
            self.members.remove("echo")
            self.add(at_ns, "echo", _leave, "leave")
            self.add(at_ns + 1_000_000, "echo", ev.NodeStopped(1, "demo"))
            for name in self.members:
                self._lost(at_ns + 2_000_000, name, "echo", "left")

    def _ping(self, number: int) -> None:
        for near in self.members:
            for far in self.members:
                if near != far:
                    self._ping_one(self._second(number, 32, 55), near, far, number + 1)

    def _ping_one(self, at_ns: int, near: str, far: str, number: int) -> None:
        link = self.links[near, far]
        rtt_us = int(self.dice.lognormvariate(6.2, 0.4))
        sent_us = (at_ns - START_NS) // 1000 + 10**6 * (NAMES.index(near) + 1)
        there_us = (at_ns - START_NS) // 1000 + 10**6 * (NAMES.index(far) + 1)
        feed = self.feeds[far].id

        deaf, reason = (near, far) in self.deaf, self.reasons.get((near, far), "timeout")

        def result(before: Incident) -> ev.Event:
            held = len(before.entries[far])
            if deaf or link is None:
                return ev.PingFailed(far, number, "timeout" if deaf else reason, link, feed, held)
            stamps = (sent_us, there_us + rtt_us // 2, there_us + rtt_us // 2, sent_us + rtt_us)
            return ev.PingAnswered(far, number, rtt_us, link, *stamps, 1, feed, held)

        self.add(at_ns, near, result)


def _leave(before: Incident) -> ev.Event:
    """Echo's leave: it ends the join by which alpha admitted it, and holds all of its own feed, this entry too."""
    return ev.MachineLeft("echo", (before.places["join echo"],), len(before.entries["echo"]) + 1, "left", "echo")
