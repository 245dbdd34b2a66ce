"""How often a mesh pings, and what its other limits were, over the time of a log: what deadlines are measured by.

Settings are told by one machine and hold for all, so a monitor of another machine's feed needs them from outside: a
`Pace` is the list of all settings in the order in which they came into force. The highest generation wins, then the
smaller machine name; before the first the defaults of `settings.changed` hold. Where they changed while something was awaited
the longest interval counts: a deadline is never shorter than what anybody was told. It knows too when machines left or were
disconnected on purpose, whoever wrote it, and where that stands: nobody is late for them, then or when they come to know. Pure
values.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import ClassVar, Final, Self

import msgspec

from ledger.entry import Entry
from ledger.events import MachineDisconnected, MachineLeft, SettingsChanged

DEFAULTS: Final = SettingsChanged(0)
_MS: Final = 1_000_000


class Pace(msgspec.Struct):
    """The settings in force, by the effective instant from which they were: `instants` ascending, `settings` and the machines
    that told them beside it. `partings`: by machine the instants at which it left or was disconnected, ascending; `acts`: by
    feed id the indexes of the entries that say so, ascending, and the machines beside them.
    """

    KINDS: ClassVar[tuple[str, ...]] = ("settings.changed", "machine.left", "machine.disconnected")
    """The kinds that it learns from."""

    instants: list[int] = []
    settings: list[SettingsChanged] = []
    machines: list[str] = []
    partings: dict[str, list[int]] = {}
    acts: dict[str, list[tuple[int, str]]] = {}

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """From entries in any order; those of other kinds are passed over."""
        pace = cls()
        for entry in sorted((entry for entry in entries if entry.kind in cls.KINDS), key=_order):
            pace.learn(entry)
        return pace

    def learn(self, entry: Entry) -> None:
        """Take in an entry that is no earlier than those before it; settings that are beaten change nothing."""
        event = entry.event
        if isinstance(event, (MachineLeft, MachineDisconnected)):
            self.partings.setdefault(event.machine, []).append(entry.effective_ns)
            self.acts.setdefault(entry.feed.id, []).append((entry.index, event.machine))
        if not isinstance(event, SettingsChanged):
            return
        if self.settings:
            held = self.settings[-1].generation, self.machines[-1]
            beaten = event.generation < held[0] or (event.generation == held[0] and entry.feed.machine > held[1])
            if beaten or (self.settings[-1] == event and self.machines[-1] == entry.feed.machine):
                return
        self.instants.append(entry.effective_ns)
        self.settings.append(event)
        self.machines.append(entry.feed.machine)

    def at(self, at_ns: int) -> SettingsChanged:
        """The settings in force at an instant."""
        place = bisect_right(self.instants, at_ns)
        return self.settings[place - 1] if place else DEFAULTS

    def over(self, since_ns: int, until_ns: int) -> list[SettingsChanged]:
        """All settings that were in force at some instant from `since_ns` to `until_ns`."""
        if not self.settings:
            return [DEFAULTS]
        first = bisect_right(self.instants, since_ns)
        last = bisect_right(self.instants, until_ns)
        found = self.settings[max(first - 1, 0) : last]
        return [DEFAULTS, *found] if first == 0 else found

    def interval_ns(self, since_ns: int, until_ns: int) -> int:
        """The longest ping interval in force between two instants."""
        return max(each.ping_interval_ms for each in self.over(since_ns, until_ns)) * _MS

    def timeout_ns(self, since_ns: int, until_ns: int) -> int:
        """The longest time that an answer was waited for."""
        return max(each.ping_timeout_ms for each in self.over(since_ns, until_ns)) * _MS

    def detection_ns(self, since_ns: int, until_ns: int) -> int:
        """The longest that a silent peer may pass unnoticed: `lost_after` intervals, one more, and the timeout."""
        over = self.over(since_ns, until_ns)
        return max((each.lost_after + 1) * each.ping_interval_ms + each.ping_timeout_ms for each in over) * _MS

    def parted(self, machine: str, since_ns: int, until_ns: int) -> bool:
        """Whether a machine left or was disconnected between two instants, both included."""
        found = self.partings.get(machine)
        return found is not None and bisect_right(found, until_ns) > bisect_left(found, since_ns)

    def told(self, feed_id: str, after: int, last: int) -> set[str]:
        """Of whom one learns that they left or were disconnected who held `after` entries of a feed, and then holds `last`."""
        return {machine for index, machine in self.acts.get(feed_id, ()) if after < index <= last}


def _order(entry: Entry) -> tuple[int, str, int, str, int]:
    return entry.effective_ns, entry.feed.machine, entry.feed.epoch, entry.feed.id, entry.index
