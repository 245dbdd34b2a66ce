"""A network in memory for real nodes: who is there, who listens, and who is switched off or killed; and datagrams to DNS.

A connection is made only if both ways are open, and asked for after 1, 3, 7 … seconds (RFC 6298); what then becomes of its bytes
is the business of `virtual_streams`. What a machine does runs in its context (`HERE`), so that the network knows who asks.

Effects: a loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
from collections.abc import Callable
from typing import Any, Final

from ledger.node.dice import Dice
from ledger.node.virtual_streams import Host, Stream, Ways

HERE: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("HERE")
"""The address of the machine whose code runs."""
SYN_S: Final = (1, 2, 4, 8, 16, 32, 64)
DNS_ADDRESS: Final = "10.0.0.53"


class VirtualNet(Ways):
    """The network, by its machines."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dice: Dice) -> None:
        super().__init__(loop, dice)
        self.listeners: dict[tuple[str, int], Listening] = {}

    # What the loop asks.

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> tuple[Stream, asyncio.Protocol]:
        """A stream to whoever listens there."""
        here, there = HERE.get(), self.hosts.get(host)
        for wait_s in SYN_S:
            if there is not None and there.on and not self.cut(here, host) and not self.cut(host, here):
                await asyncio.sleep(self.delay() + self.delay())
                listener = self.listeners.get((host, port))
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
        if (host, port) in self.listeners:
            raise OSError(errno.EADDRINUSE, f"{host}:{port} is in use")
        self.listeners[host, port] = found = Listening(self, there, port, factory)
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
        for place in [each for each in self.listeners if each[0] == address]:
            del self.listeners[place]
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

    def __init__(self, net: VirtualNet, host: Host, port: int, factory: Callable[[], asyncio.Protocol]) -> None:
        self.net = net
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
        if self.net.listeners.get(self.getsockname()) is self:
            del self.net.listeners[self.getsockname()]

    async def wait_closed(self) -> None:
        """There is nothing to wait for."""


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
