"""Connections in memory, for real nodes: streams that behave as TCP does under cuts, resets and delay.

A stream's bytes arrive in order, each piece after a drawn delay. Where a way is cut they are held back, as a kernel sends them
again and again, and go on when it heals. Who writes to an end that is gone is told so by a reset, unless that machine is off:
then nobody tells. The callbacks of an end run in the context of its machine. Who is there and who listens is the business of
`virtual_net`.

No faults of its own: `cuts`, `slow_s` and `lossy` are for who breaks things; `bitten` counts what they did. Effects: a loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from ledger.node.dice import Dice

LATENCY_US: Final = (200, 30_000)
AGAIN_S: Final = 0.2
"""A lost segment is sent again after so long (RFC 6298 has a second at first, Linux this)."""
KERNEL_BYTES: Final = 2 * 1024 * 1024
"""What a kernel takes for a peer that does not answer; the rest waits in the transport."""
Way = tuple[str, str]


class Host:
    """A machine as the network sees it. `on`: whether its kernel answers at all; `stalled`: whether its process takes nothing;
    `dns`: what its name server says to a message, if it says anything.
    """

    def __init__(self, address: str, dns: Callable[[bytes], list[bytes]]) -> None:
        self.address = address
        self.dns = dns
        self.on = True
        self.stalled = False
        self.port = 40_000


class Ways:
    """What lies between machines. `cuts`: ways on which nothing passes; `bitten`: by way and kind of happening, how often."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dice: Dice) -> None:
        self.loop = loop
        self.dice = dice
        self.hosts: dict[str, Host] = {}
        self.streams: dict[Stream, None] = {}
        self.cuts: set[Way] = set()
        self.slow_s = 0.0
        self.lossy = 0.0
        self.bitten: Counter[tuple[str, str, str]] = Counter()

    def delay(self) -> float:
        """How long the next piece takes."""
        delay = self.dice.between(*LATENCY_US) / 1e6 + self.slow_s
        if self.slow_s:
            self.bitten["", "", "delay"] += 1
        while self.lossy and self.dice.chance(self.lossy):
            delay += AGAIN_S
            self.bitten["", "", "loss"] += 1
        return delay

    def cut(self, origin: str, target: str) -> bool:
        """Whether this way is cut; that somebody wanted to go it counts."""
        if (origin, target) in self.cuts:
            self.bitten[origin, target, "cut"] += 1
            return True
        return False

    def heal(self) -> None:
        """What was held back goes on, where its way is open again."""
        for stream in list(self.streams):
            stream.release()


class Stream(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, ways: Ways, near: tuple[str, int], far: tuple[str, int], context: contextvars.Context) -> None:
        super().__init__({"sockname": near, "peername": far})
        self.near = near
        self.far = far
        self.peer: Stream
        self.unanswered = False
        self._ways = ways
        self._context = context.copy()
        self._protocol: asyncio.BaseProtocol
        self._closing = False  # by this side
        self._over = False  # nothing is heard or told any more
        self._paused = False
        self._inbox: list[bytes | None] = []
        self._held: list[bytes | None] = []
        self._flying: deque[bytes | None] = deque()
        self._free_s = 0.0

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """The connection stands."""
        self._protocol = protocol
        self._ways.streams[self] = None
        self._context.run(protocol.connection_made, self)

    # What asyncio has of a transport.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Whom to tell."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is told."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is at an end, or nearly."""
        return self._closing or self._over

    def is_reading(self) -> bool:
        """Whether it takes from the peer."""
        return not self._paused and not self.is_closing()

    def pause_reading(self) -> None:
        """Take nothing for a while."""
        self._paused = True

    def resume_reading(self) -> None:
        """Take again."""
        self._paused = False
        self._ways.loop.call_soon(self._drain, context=self._context)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Of no use here: nobody is told to wait."""

    def get_write_buffer_size(self) -> int:
        """What the kernel has not taken."""
        return max(0, sum(len(each) for each in self._held if each) - KERNEL_BYTES) if self._held else 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """None to speak of."""
        return 0, 1 << 62

    def can_write_eof(self) -> bool:
        """As TCP can."""
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send."""
        if not self.is_closing() and data:
            self._ship(bytes(data))

    def write_eof(self) -> None:
        """Send no more."""
        if not self.is_closing():
            self._ship(None)

    def close(self) -> None:
        """End, once what was written is out: as the network takes everything, at once."""
        if self.is_closing():
            return
        self._closing = True
        self._ship(None)
        self._ways.loop.call_soon(self._lost, None, context=self._context)

    def abort(self) -> None:
        """End. To a kernel that is the same, as nothing waits here."""
        self.close()

    # What happens on the way.

    def _ship(self, piece: bytes | None) -> None:
        if self._held or self._ways.cut(self.near[0], self.far[0]):
            self._held.append(piece)
            return
        now = self._ways.loop.time()
        self._free_s = max(now + self._ways.delay(), self._free_s)
        self._flying.append(piece)  # timers of one instant come in any order, the bytes of a stream do not
        self._ways.loop.call_at(self._free_s, self._arrive, context=self.peer._context)  # noqa: SLF001 - its own kind

    def _arrive(self) -> None:
        piece = self._flying.popleft()
        if self._held or self._ways.cut(self.near[0], self.far[0]):
            self._held.append(piece)
        else:
            self.peer.take(piece)

    def release(self) -> None:
        """Send again what a cut has held back."""
        if self._held and (self.near[0], self.far[0]) not in self._ways.cuts:
            held, self._held = self._held, []
            for piece in held:
                self._ship(piece)
            self._forget()

    def take(self, piece: bytes | None) -> None:
        """Something arrived here."""
        if self._closing or self._over:
            # A kernel answers what came to an end that is gone; one that is off does not.
            self.peer.unanswered = True
            if piece is not None and self._ways.hosts[self.near[0]].on:
                self.peer.reset_soon()
        elif self._paused or self._inbox or self._ways.hosts[self.near[0]].stalled:
            self._inbox.append(piece)
        else:
            self._give(piece)

    def _drain(self) -> None:
        while self._inbox and not self._paused and not self.is_closing():
            self._give(self._inbox.pop(0))

    def _give(self, piece: bytes | None) -> None:
        protocol: Any = self._protocol
        if piece is not None:
            protocol.data_received(piece)
        elif not protocol.eof_received():
            self.close()

    def reset_soon(self) -> None:
        """The other kernel says that it knows no such connection; a reset is sent but once."""
        self.unanswered = False
        if not self._over and not self._ways.cut(self.far[0], self.near[0]):
            self._ways.loop.call_later(self._ways.delay(), self.reset, context=self._context)

    def reset(self) -> None:
        """A reset arrived."""
        if not self._over:
            self._lost(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def die(self) -> None:
        """The process is gone, without a word of its own; its kernel says it."""
        if self._over:
            return
        if self._ways.hosts[self.near[0]].on:
            self.peer.reset_soon()
        self._lost(ConnectionAbortedError(errno.ECONNABORTED, "the process is gone"))

    def _lost(self, error: Exception | None) -> None:
        if self._over:
            return
        self._over = self._closing = True
        self._inbox.clear()
        self._forget()
        self._context.copy().run(self._protocol.connection_lost, error)

    def _forget(self) -> None:
        if self._over and not self._held:
            self._ways.streams.pop(self, None)
