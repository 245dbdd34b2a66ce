"""What waits its turn: runs to be given and to be taken in, one at a time, between which the node hears and answers.

A run costs milliseconds, of a busy disk tens of them; a ping that had to wait for a dozen would be taken for lost. So these two
actions are put here, and the daemon does a little of them in each turn of its loop. What concerns one channel stays in
order; between channels it goes round, so that one who sends much delays himself. `Haste` says when it is time: results of pings
can wait until there are more of them, and for a rest after each piece of work; and all can wait a moment for somebody who is on
the way in. Pure.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ledger.node.signals import Give, Heard, Observation, Take
from ledger.node.wire import Ping, Pong

WAITING_MAX: Final = 8
"""Runs that wait of one channel; above, nothing is taken from it until half of them are done."""


class Bulk:
    """Gives and takes that wait, by channel."""

    def __init__(self) -> None:
        self._waiting: dict[int, deque[Give | Take]] = {}
        self._held: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, channel: int) -> bool:
        return channel in self._waiting

    def add(self, action: Give | Take) -> None:
        """One more. A push of what follows on a push that still waits is one with it."""
        waiting = self._waiting.setdefault(action.channel, deque())
        if not (isinstance(action, Give) and action.after is None and action in waiting):
            waiting.append(action)

    def next(self) -> Give | Take:
        """The one whose turn it is. Raises StopIteration if none waits."""
        channel = next(iter(self._waiting))
        waiting = self._waiting.pop(channel)
        action = waiting.popleft()
        if waiting:
            self._waiting[channel] = waiting
        return action

    def is_take(self) -> bool:
        """Whether the one whose turn it is takes a run in."""
        return bool(self._waiting) and isinstance(next(iter(self._waiting.values()))[0], Take)

    def of(self, channel: int) -> list[Give | Take]:
        """All of one channel, in order; they wait no more."""
        return list(self._waiting.pop(channel, ()))

    def ended(self, channel: int) -> None:
        """The channel is gone: nothing can be given on it any more. What came on it still counts."""
        kept = [action for action in self.of(channel) if isinstance(action, Take)]
        if kept:
            self._waiting[channel] = deque(kept)
        self._held.discard(channel)

    def crowds(self, channel: int) -> bool:
        """Whether nothing more is to be taken from this channel, as of now."""
        if channel in self._held or len(self._waiting.get(channel, ())) <= WAITING_MAX:
            return False
        self._held.add(channel)
        return True

    def eases(self, channel: int) -> bool:
        """Whether it may speak again, as of now."""
        if channel not in self._held or len(self._waiting.get(channel, ())) > WAITING_MAX // 2:
            return False
        self._held.discard(channel)
        return True


DOOR_NS: Final = 20_000_000
"""So long what is urgent waits while a link is made: else a machine that returns to many would wait for each one's disk, since
each link that stands is told to all at once.
"""
REST: Final = 2
"""What nobody waits for takes one part of the time, and leaves so many to all else: where many nodes share a machine, all of them
take in at the same moment what one has sent.
"""
NEVER_NS: Final = 2**63


class Haste:
    """When what waits is due, in whole ns of one clock: of fractions of seconds some are too small to wait for."""

    def __init__(self) -> None:
        self._soon_ns = self._urgent_ns = NEVER_NS
        self._rested_ns = 0

    def soon(self, at_ns: int) -> None:
        """Something waits that is due at that time."""
        self._soon_ns = min(self._soon_ns, at_ns)

    def urgent(self, here_ns: int) -> None:
        """Something waits, as of now, that is due at once."""
        self._urgent_ns = min(self._urgent_ns, here_ns)

    def worked(self, since_ns: int, here_ns: int) -> None:
        """A piece of work was done between these instants, and not all of it."""
        self._rested_ns = here_ns + REST * (here_ns - since_ns)

    def is_soon(self, here_ns: int) -> bool:
        """Whether what could wait for others of its kind has waited long enough."""
        return here_ns >= self._soon_ns

    def due_ns(self, *, knocks: bool) -> int:
        """When it is time, from `NEVER_NS` on never. `knocks`: whether a link is being made."""
        return min(max(self._soon_ns, self._rested_ns), self._urgent_ns + (DOOR_NS if knocks else 0))

    def done(self, *, waiting: bool) -> None:
        """Nothing urgent waits any more; `waiting`: but something that is due later."""
        self._urgent_ns = NEVER_NS
        if not waiting:
            self._soon_ns = NEVER_NS


def at_once(seen: Observation) -> bool:
    """Whether it need not wait for the runs that came before it: pings and their answers, which do not speak of them."""
    return isinstance(seen, Heard) and isinstance(seen.message, Ping | Pong)
