"""The door of the transport `ccs`: who may come in at once, before anything is known of them, and after.

The SSH library caps nothing, so this room does: connections in all, those that have proved no key yet, strangers, and
connections of one key. A flood cannot lock members out: above the caps it is the source with the most unproved
connections that loses one (a silent one first, then the oldest), never the newcomer. Who is turned away is told so in the
clear (RFC 4253 section 11.1, too many connections), and lingers for a second so that it hears it. Effects: sockets, timers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol, cast

import asyncssh

from ledger.node.links import Limits, Listening, Standing
from ledger.node.sshclient import VERSION, Tap

LINGER_S: Final = 1.0
LINGERERS_MAX: Final = 64
FULL: Final = "too many connections"

Allow = Callable[[str, str], Standing | None]
"""(key, address) -> how it stands, None if it may not in. Asked at each proof: the answer may change at any time."""


Turned = Callable[[str, str], None]
"""(key, address), the key empty if none was proved: somebody was turned away at a limit."""


class Proved(Protocol):
    """A connection whose other side has proved a key."""

    key: str
    standing: Standing

    def abort(self) -> None:
        """End it at once."""


class Listener:
    """The node's listener. `counts`: what was accepted, refused and dropped, by name, since it began."""

    def __init__(self, allow: Allow, handler: Listening, limits: Limits) -> None:
        self.port = 0
        self.counts: Counter[str] = Counter()
        self.allow = allow
        self.handler = handler
        self.limits = limits
        self.door = Door(self)
        self.unproved: dict[Tapped, None] = {}
        self.proved: dict[Proved, None] = {}
        self.arriving: dict[asyncio.Protocol, Tapped] = {}
        self.acceptor: asyncssh.SSHAcceptor | None = None
        self.turned_away: Turned = lambda _key, _address: None

    @property
    def knocking(self) -> bool:
        """Whether somebody is on the way in."""
        return bool(self.unproved)

    def rekey(self, host_key: asyncssh.SSHKey) -> None:
        """Show this host key to whoever connects from now on."""
        if self.acceptor is not None:
            self.acceptor.update(server_host_keys=[host_key])

    async def close(self) -> None:
        """Stop accepting, and end every connection at once."""
        self.door.close()
        for server in list(self.proved):
            server.abort()
        for tapped in list(self.unproved):
            tapped.abort()
        await asyncio.sleep(0)

    def has_room(self) -> bool:
        """Whether one more connection may come in, after making room for it if that is what it takes."""
        if len(self.unproved) >= self.limits.unauthenticated or (
            self.unproved and len(self.unproved) + len(self.proved) >= self.limits.connections
        ):
            self._make_room()
        return len(self.unproved) + len(self.proved) < self.limits.connections

    def _make_room(self) -> None:
        """Drop one unproved connection: of the source that has most of them, a silent one if there is one, the oldest."""
        sources = Counter(each.address for each in self.unproved)
        worst = max(sources, key=sources.__getitem__)
        theirs = [each for each in self.unproved if each.address == worst]
        silent = [each for each in theirs if not each.heard]
        victim = (silent or theirs)[0]
        self.counts["dropped-unauthenticated"] += 1
        self.turned_away("", victim.address)
        victim.abort()

    def admits(self, key: str, standing: Standing) -> bool:
        """Whether a key that was proved may stay: the caps of what was proved."""
        if sum(1 for each in self.proved if each.key == key) >= self.limits.per_key:
            return False
        strangers = sum(1 for each in self.proved if each.standing != "member")
        return standing == "member" or strangers < self.limits.strangers


class Door:
    """What the library takes for a tunnel: it listens itself, with a tap before every connection."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._server: asyncio.Server | None = None
        self.lingering = 0

    async def create_server(
        self, session_factory: Callable[[str, int], asyncio.Protocol], listen_host: str, listen_port: int
    ) -> asyncio.Server:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Tapped(self._listener, session_factory), listen_host, listen_port, backlog=512
        )
        return self._server

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def wait_closed(self) -> None:
        """There is nothing to wait for."""


class Tapped(Tap):
    """One connection that came in: turned away at the cap, else passed to the SSH library."""

    def __init__(self, listener: Listener, factory: Callable[[str, int], asyncio.Protocol]) -> None:
        super().__init__(asyncio.Protocol())
        self._listener = listener
        self._factory = factory
        self._away = False
        self._lingers = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        listener = self._listener
        if not listener.has_room():
            self._turn_away(cast("asyncio.Transport", transport))
            return
        listener.counts["connections"] += 1
        listener.unproved[self] = None
        self.inner = self._factory("", 0)
        listener.arriving[self.inner] = self
        super().connection_made(transport)

    def _turn_away(self, transport: asyncio.Transport) -> None:
        """Say why, in the clear, and close when the other side has heard it, or after a second."""
        self._away = True
        self._listener.counts["refused-limit"] += 1
        peer = transport.get_extra_info("peername")
        self._listener.turned_away("", str(peer[0]) if isinstance(peer, tuple) else "")
        self.transport = transport
        door = self._listener.door
        transport.write(b"SSH-2.0-" + VERSION.encode() + b"\r\n" + _disconnect_packet())
        if door.lingering >= LINGERERS_MAX:
            transport.abort()
            return
        door.lingering += 1
        self._lingers = True
        transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Bytes came; who is turned away is not listened to."""
        if not self._away:
            super().data_received(data)

    def eof_received(self) -> bool | None:
        """The peer sends no more."""
        return None if self._away else super().eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        if self._away:
            self._listener.door.lingering -= self._lingers
            return
        self._listener.unproved.pop(self, None)
        super().connection_lost(error)

    def abort(self) -> None:
        """End it at once."""
        self._listener.unproved.pop(self, None)
        if self.transport is not None:
            self.transport.abort()


def _disconnect_packet() -> bytes:
    """An unencrypted SSH_MSG_DISCONNECT that says so (RFC 4253 sections 6 and 11.1)."""
    reason = FULL.encode()
    payload = b"\x01" + asyncssh.DISC_TOO_MANY_CONNECTIONS.to_bytes(4, "big")
    payload += len(reason).to_bytes(4, "big") + reason + bytes(4)
    padding = -(5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return (1 + len(payload) + padding).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)
