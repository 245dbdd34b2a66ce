"""A network in memory for real nodes: streams that behave as TCP does under cuts, resets and delay, and datagrams to DNS.

A stream's bytes arrive in order, each piece after a drawn delay. Where a way is cut they are held back, as a kernel sends them
again and again, and go on when it heals; a connection then is made only if both ways are open, and asked for after 1, 3, 7 …
seconds (RFC 6298). Who writes to an end that is gone is told so by a reset, unless that machine is off: then nobody tells. The
callbacks of an end run in the context of its machine (`HERE`), so that the network knows who asks.

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

HERE: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("HERE")
"""The address of the machine whose code runs."""
LATENCY_US: Final = (200, 30_000)
AGAIN_S: Final = 0.2
"""A lost segment is sent again after so long (RFC 6298 has a second at first, Linux this)."""
SYN_S: Final = (1, 2, 4, 8, 16, 32, 64)
KERNEL_BYTES: Final = 2 * 1024 * 1024
"""What a kernel takes for a peer that does not answer; the rest waits in the transport."""
DNS_ADDRESS: Final = "10.0.0.53"
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
        self.listeners: dict[int, Listening] = {}
        self.port = 40_000


class VirtualNet:
    """The network. `cuts`: ways on which nothing passes; `bitten`: by way and kind of happening, how often."""

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

    # What the loop asks.

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> tuple[Stream, asyncio.Protocol]:
        """A stream to whoever listens there."""
        here, there = HERE.get(), self.hosts.get(host)
        for wait_s in SYN_S:
            if there is not None and there.on and not self.cut(here, host) and not self.cut(host, here):
                await asyncio.sleep(self.delay() + self.delay())
                listener = there.listeners.get(port)
                if listener is None:
                    raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed ('{host}', {port})")
                return self._made(factory, self.hosts[here], listener)
            await asyncio.sleep(wait_s)
        raise TimeoutError(errno.ETIMEDOUT, f"Connect call failed ('{host}', {port})")

    def _made(self, factory: Callable[[], asyncio.Protocol], here: Host, listener: Listening) -> tuple[Stream, asyncio.Protocol]:
        here.port = here.port + 1 if here.port < 65_000 else 40_000
        near, far = (here.address, here.port), (listener.host.address, listener.port)
        asked = Stream(self, near, far, contextvars.copy_context())
        answers = Stream(self, far, near, listener.context)
        asked.peer, answers.peer = answers, asked
        answers.begin(listener.context.run(listener.factory))
        protocol = factory()
        asked.begin(protocol)
        return asked, protocol

    def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Listening:
        """A listener on a machine that is there."""
        there = self.hosts[host]
        if port in there.listeners:
            raise OSError(errno.EADDRINUSE, f"{host}:{port} is in use")
        there.listeners[port] = found = Listening(there, port, factory)
        return found

    def datagrams(self, factory: Callable[[], asyncio.DatagramProtocol]) -> tuple[Datagrams, asyncio.DatagramProtocol]:
        """An end for datagrams."""
        protocol = factory()
        transport = Datagrams(self, self.hosts[HERE.get()], protocol)
        protocol.connection_made(transport)
        return transport, protocol

    # What becomes of machines.

    def switch(self, address: str, *, on: bool) -> None:
        """Power: a machine that is off says nothing; once it is on again it resets what it does not know."""
        self.hosts[address].on = on
        if on:
            for stream in list(self.streams):
                if stream.far[0] == address and stream.unanswered:
                    stream.reset_soon()

    def kill(self, address: str) -> None:
        """The process there is gone: its kernel ends its streams, if it is on, and its ports are closed."""
        host = self.hosts[address]
        host.listeners.clear()
        for stream in list(self.streams):
            if stream.near[0] == address:
                stream.die()

    def wake(self, address: str) -> None:
        """The process there goes on."""
        self.hosts[address].stalled = False
        for stream in list(self.streams):
            if stream.near[0] == address:
                stream.resume_reading()

    def between(self, a: str, b: str) -> list[Stream]:
        """The ends of streams that these two have open, those of `a`."""
        return [stream for stream in self.streams if (stream.near[0], stream.far[0]) == (a, b) and not stream.is_closing()]


class Listening:
    """What a server is to asyncio."""

    def __init__(self, host: Host, port: int, factory: Callable[[], asyncio.Protocol]) -> None:
        self.host = host
        self.port = port
        self.factory = factory
        self.context = contextvars.copy_context()
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        """As the one socket of it says."""
        return self.host.address, self.port

    def close(self) -> None:
        """Listen no more."""
        if self.host.listeners.get(self.port) is self:
            del self.host.listeners[self.port]

    async def wait_closed(self) -> None:
        """There is nothing to wait for."""


class Stream(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, net: VirtualNet, near: tuple[str, int], far: tuple[str, int], context: contextvars.Context) -> None:
        super().__init__({"sockname": near, "peername": far})
        self.near = near
        self.far = far
        self.peer: Stream
        self.unanswered = False
        self._net = net
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
        self._net.streams[self] = None
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
        self._net.loop.call_soon(self._drain, context=self._context)

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
        self._net.loop.call_soon(self._lost, None, context=self._context)

    def abort(self) -> None:
        """End. To a kernel that is the same, as nothing waits here."""
        self.close()

    # What happens on the way.

    def _ship(self, piece: bytes | None) -> None:
        if self._held or self._net.cut(self.near[0], self.far[0]):
            self._held.append(piece)
            return
        now = self._net.loop.time()
        self._free_s = max(now + self._net.delay(), self._free_s)
        self._flying.append(piece)  # timers of one instant come in any order, the bytes of a stream do not
        self._net.loop.call_at(self._free_s, self._arrive, context=self.peer._context)  # noqa: SLF001 - its own kind

    def _arrive(self) -> None:
        piece = self._flying.popleft()
        if self._held or self._net.cut(self.near[0], self.far[0]):
            self._held.append(piece)
        else:
            self.peer.take(piece)

    def release(self) -> None:
        """Send again what a cut has held back."""
        if self._held and (self.near[0], self.far[0]) not in self._net.cuts:
            held, self._held = self._held, []
            for piece in held:
                self._ship(piece)
            self._forget()

    def take(self, piece: bytes | None) -> None:
        """Something arrived here."""
        if self._closing or self._over:
            # A kernel answers what came to an end that is gone; one that is off does not.
            self.peer.unanswered = True
            if piece is not None and self._net.hosts[self.near[0]].on:
                self.peer.reset_soon()
        elif self._paused or self._inbox or self._net.hosts[self.near[0]].stalled:
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
        if not self._over and not self._net.cut(self.far[0], self.near[0]):
            self._net.loop.call_later(self._net.delay(), self.reset, context=self._context)

    def reset(self) -> None:
        """A reset arrived."""
        if not self._over:
            self._lost(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def die(self) -> None:
        """The process is gone, without a word of its own; its kernel says it."""
        if self._over:
            return
        if self._net.hosts[self.near[0]].on:
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
            self._net.streams.pop(self, None)


class Datagrams(asyncio.DatagramTransport):
    """An end for datagrams: all that is out there is the machine's name server."""

    def __init__(self, net: VirtualNet, host: Host, protocol: asyncio.DatagramProtocol) -> None:
        super().__init__({"sockname": (host.address, 0)})
        self._net = net
        self._host = host
        self._protocol = protocol
        self._closed = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Ask."""
        if addr is None or addr[0] != DNS_ADDRESS:
            return
        for reply in self._host.dns(bytes(data)):
            self._net.loop.call_later(self._net.delay() + self._net.delay(), self._arrive, reply, tuple(addr[:2]))

    def _arrive(self, reply: bytes, addr: tuple[str, int]) -> None:
        if not self._closed:
            self._protocol.datagram_received(reply, addr)

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self._closed

    def close(self) -> None:
        """Hear no more."""
        if not self._closed:
            self._closed = True
            self._net.loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """The same."""
        self.close()
