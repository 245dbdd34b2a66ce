"""The wires of a demonstration: each machine has its own view of DNS, in which every other one has an address of its own.

What alpha finds under bravo's name is an address where only alpha's dials come in. There a relay listens; it passes on to where
bravo listens, from the address that bravo's own DNS gives for alpha. So the nodes are ordinary ones, and the relay knows which
two it stands between: it can cut that wire silently, or one way only (bytes and ends wait, as packets that are sent again
would), reset what stands, or turn away above a limit, as a firewall or a server between two machines does.

Where machines go by address, a machine has one address for all, so that a dialler is known only if there is just one other.
All of it is on loopback, at ports of the kernel's choice. Effects: sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from typing import Final, Self

from ledger.node.responder import Responder

TTL_S: Final = 1
MACHINES_MAX: Final = 200
_ALL: Final = 250
"""The octet of addresses that are the same for all."""
_CHUNK: Final = 65536
_TRIES: Final = 50
_LINGER_S: Final = 1.0
_TURNED_AWAY: Final = b"Exceeded MaxStartups\r\n"
"""As OpenSSH's listener says it."""


class Wires:
    """The wires between `names`, of which at most 200. Whoever's place is n has addresses 127.`block`.n.*."""

    def __init__(self, names: Sequence[str], block: int, *, by_address: bool = False) -> None:
        if len(names) > (2 if by_address else MACHINES_MAX):
            raise ValueError(f"{len(names)} machines are more than there are addresses for")
        self._places = {name: place for place, name in enumerate(names, 1)}
        self._block = block
        self._by_address = by_address
        self.ports: dict[str, int] = {}
        self.dns = {name: Responder(self.own(name)) for name in names}
        self._gates = {(a, b): asyncio.Event() for a in names for b in names if a != b}
        for gate in self._gates.values():
            gate.set()
        self._carried: dict[_Carried, None] = {}
        self._limits: dict[str, frozenset[str]] = {}
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def own(self, name: str) -> str:
        """Where a machine listens."""
        return f"127.{self._block}.{self._places[name]}.{self._places[name]}"

    def address(self, seen_by: str, name: str) -> str:
        """Where `name` is for another machine: what its DNS gives."""
        return f"127.{self._block}.{_ALL if self._by_address else self._places[seen_by]}.{self._places[name]}"

    async def __aenter__(self) -> Self:
        try:
            for responder in self.dns.values():
                await responder.start()
            for name in self._places:
                await self._listen(name)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def _listen(self, name: str) -> None:
        """Listen for everybody who may dial `name`, at one port that it can have itself. Raises OSError."""
        others = [other for other in self._places if other != name]
        for tries_left in reversed(range(_TRIES)):
            taken: list[socket.socket] = []
            try:
                port = 0
                for address in (self.own(name), *(self.address(other, name) for other in others)):
                    taken.append(_bound(address, port))
                    port = port or taken[0].getsockname()[1]
            except OSError:
                for each in taken:
                    each.close()
                if not tries_left:
                    raise
                continue
            taken.pop(0).close()  # its own, which was taken only to see that it can be had
            self.ports[name] = port
            for other, each in zip(others, taken, strict=True):
                self._servers.append(await asyncio.start_server(_Carrying(self, other, name).meet, sock=each))
            return

    async def close(self) -> None:
        """End everything at once."""
        for responder in self.dns.values():
            responder.close()
        for server in self._servers:
            server.close()
        for carried in list(self._carried):
            carried.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    # DNS, for all at once.

    def publish(self, hostname: str, name: str) -> None:
        """`hostname` is a name of this machine, forward and in reverse."""
        for seen_by, responder in self.dns.items():
            address = self.own(name) if seen_by == name else self.address(seen_by, name)
            responder.table.address(hostname, address, ttl_s=TTL_S)
            responder.table.pointer(self.address(seen_by, name), hostname, ttl_s=0)  # looked up at each dial

    def withdraw_pointer(self, name: str) -> None:
        """The addresses of a machine have no names any more."""
        for seen_by, responder in self.dns.items():
            responder.table.forget(self.address(seen_by, name))

    # What may happen to wires.

    def cut(self, source: str, target: str) -> None:
        """From now on nothing gets from `source` to `target`; nobody is told."""
        self._gates[source, target].clear()

    def heal(self, source: str, target: str) -> None:
        """What waited gets through, and so does all that follows."""
        self._gates[source, target].set()

    def reset(self, name: str) -> None:
        """Whatever lay between has forgotten the connections of a machine: both ends of each are told so."""
        for carried in list(self._carried):
            if name in carried.ends:
                carried.abort()

    def limit(self, name: str, most: int | None) -> None:
        """No more than so many machines may be connected with one: the first ones by name of those that are stay, the others are
        dropped, and turned away, whoever dials. None: as many as it likes.
        """
        self._limits.pop(name, None)
        if most is None:
            return
        theirs = {each: next(iter(set(each.ends) - {name})) for each in self._carried if name in each.ends}
        self._limits[name] = frozenset(sorted(set(theirs.values()))[:most])
        for carried, other in theirs.items():
            if other not in self._limits[name]:
                carried.abort()

    def admits(self, a: str, b: str) -> bool:
        """Whether one more connection between these is within the limits of both."""
        return all(other in self._limits[name] for name, other in ((a, b), (b, a)) if name in self._limits)

    async def gate(self, source: str, target: str) -> None:
        """Until what `source` sends gets through."""
        await self._gates[source, target].wait()


class _Carrying:
    """Meets the dials of one machine to another."""

    def __init__(self, wires: Wires, dialler: str, acceptor: str) -> None:
        self._wires = wires
        self._ends = dialler, acceptor

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its end."""
        wires, (dialler, acceptor) = self._wires, self._ends
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler runs in one
        wires._tasks.add(task)  # noqa: SLF001 - one room
        carried = _Carried(self._ends, [writer])
        try:
            await wires.gate(dialler, acceptor)
            if not wires.admits(*self._ends):
                await _turn_away(reader, writer)
                return
            wires._carried[carried] = None  # noqa: SLF001
            source = wires.address(acceptor, dialler)
            there, back = await asyncio.open_connection(wires.own(acceptor), wires.ports[acceptor], local_addr=(source, 0))
            carried.writers.append(back)
            await asyncio.gather(
                _pump(wires, reader, back, self._ends), _pump(wires, there, writer, (acceptor, dialler)), return_exceptions=True
            )
        except (OSError, asyncio.CancelledError):
            pass  # nobody listens there, or the demonstration is over: the dialler sees an end
        finally:
            wires._carried.pop(carried, None)  # noqa: SLF001
            wires._tasks.discard(task)  # noqa: SLF001
            carried.abort()


class _Carried:
    """A connection that is carried: between whom (the dialler first), and its two sockets."""

    def __init__(self, ends: tuple[str, str], writers: list[asyncio.StreamWriter]) -> None:
        self.ends = ends
        self.writers = writers

    def abort(self) -> None:
        """Reset both sides."""
        for writer in self.writers:
            there = writer.get_extra_info("socket")
            if there is not None and not writer.transport.is_closing():
                with contextlib.suppress(OSError):
                    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


async def _pump(wires: Wires, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: tuple[str, str]) -> None:
    """Pass on what comes one way, and at last that no more comes; all of it only while that way is open."""
    while True:
        try:
            data = await reader.read(_CHUNK)
        except OSError:
            data = b""
        await wires.gate(*way)
        if not data:
            break
        try:
            writer.write(data)
            await writer.drain()
        except OSError:
            return  # the far side is gone: that comes back by the other way
    writer.transport.abort()


async def _turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say why, and stay until the other side has heard it, or for a second."""
    with contextlib.suppress(OSError, TimeoutError):
        writer.write(_TURNED_AWAY)
        writer.write_eof()
        async with asyncio.timeout(_LINGER_S):
            while await reader.read(_CHUNK):
                pass


def _bound(address: str, port: int) -> socket.socket:
    """A socket at an address. Raises OSError."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made
