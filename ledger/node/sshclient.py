"""Dialling over SSH: one connection, one session, the subsystem `mesh` in it, and whatever goes wrong as a reason.

Both transports dial so; they differ in who answers. The host keys that may answer are always named, the user's own files
(`~/.ssh`), agent and configuration are never looked at, and only modern algorithms are offered: AES-GCM needs no strict key
exchange, so that its absence does not matter (CVE-2023-48795). A `Tap` sits between the socket and the SSH library:
it knows what is not yet handed to the kernel, and what a peer said before it said `SSH-`. Effects: the network.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, cast

import asyncssh
from asyncssh.kex import get_kex_algs

from ledger.node.failures import before_version, reason_of
from ledger.node.links import DialFailed, Listening, MeshLink

SUBSYSTEM: Final = "mesh"
VERSION: Final = "Meshledger"
"""What stands behind `SSH-2.0-`; the software's own version is nobody's business before a key is proved."""
WINDOW: Final = 256 * 1024
PACKET: Final = 32 * 1024
KEX_ALGS: Final = [
    name for name in ("mlkem768x25519-sha256", "curve25519-sha256") if name.encode() in get_kex_algs()
]  # the first where the cryptography at hand has it
ENCRYPTION_ALGS: Final = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"]
MAC_ALGS: Final = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"]
"""Named because a list must be; with AES-GCM none is used."""
KEY_ALG: Final = "ssh-ed25519"
_HEARD_MAX: Final = 512


def key_text(key: asyncssh.SSHKey) -> str:
    """A public key as the log writes it: its type and its base64, no comment."""
    return " ".join(key.export_public_key("openssh").decode("ascii").split()[:2])


def load_key(path: str | Path) -> asyncssh.SSHKey:
    """The private key in an OpenSSH file. Raises OSError, asyncssh.KeyImportError."""
    return asyncssh.read_private_key(path)


class Tap(asyncio.Protocol):
    """Between a socket and the SSH library: passes everything on, both ways, and remembers what is worth knowing. What the
    library writes in one turn of the loop, of which there is much (before every packet one that says nothing), goes out in
    one piece at its end.
    """

    def __init__(self, inner: asyncio.Protocol) -> None:
        self.inner = inner
        self.gathered = bytearray()
        self.heard = b""
        self.transport: asyncio.Transport | None = None
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        self.inner.connection_made(cast("asyncio.BaseTransport", _Gathering(self, self.transport)))

    def gather(self, data: bytes) -> None:
        """Write in this turn of the loop, with whatever else is written in it."""
        if not self.gathered:
            asyncio.get_running_loop().call_soon(self._flush)
        self.gathered += data

    def _flush(self) -> None:
        data, self.gathered = self.gathered, bytearray()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if len(self.heard) < _HEARD_MAX:
            self.heard += data[: _HEARD_MAX - len(self.heard)]
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The peer sends no more."""
        return self.inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self.inner.connection_lost(error)

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """It has room again."""
        self.inner.resume_writing()

    def unsent(self) -> int:
        """Bytes that the socket has not taken."""
        if self.transport is None or self.transport.is_closing():
            return 0
        return len(self.gathered) + self.transport.get_write_buffer_size()


class _Gathering:
    """The transport as the SSH library sees it: the socket's, but for `write`."""

    def __init__(self, tap: Tap, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.write = tap.gather
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Dialling:
    """What the library takes for a tunnel: it makes the connection itself, through a tap."""

    def __init__(self) -> None:
        self.tap: Tap | None = None

    async def create_connection(
        self, session_factory: Callable[[], asyncio.Protocol], remote_host: str, remote_port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.Protocol]:
        """Connect; the SSH connection that the factory makes sits behind the tap."""
        made = asyncio.get_running_loop().create_connection(lambda: Tap(session_factory()), remote_host, remote_port)
        transport, self.tap = await made
        return transport, self.tap.inner

    def close(self) -> None:
        """There is nothing to close: the connection closes itself."""

    async def wait_closed(self) -> None:
        """There is nothing to wait for."""


class ChannelCarrier:
    """A session of an SSH connection as the carrier of a link."""

    def __init__(self, connection: asyncssh.SSHClientConnection | asyncssh.SSHServerConnection, channel: Any, tap: Tap) -> None:
        self._connection = connection
        self._channel = channel
        self._tap = tap

    def write(self, data: bytes) -> None:
        """Hand bytes on."""
        self._channel.write(data)

    def abort(self) -> None:
        """End the whole connection at once."""
        self._connection.abort()

    def backlog(self) -> int:
        """Bytes not yet handed to the kernel: behind the peer's window, and behind the socket."""
        return int(self._channel.get_write_buffer_size()) + self._tap.unsent()

    def pause(self, *, reading: bool) -> None:
        """Stop, or go on, taking from the peer: its window fills."""
        if reading:
            self._channel.resume_reading()
        else:
            self._channel.pause_reading()


class ClientSession(asyncssh.SSHClientSession[bytes]):
    """The dialler's end of the channel. Until a link is `attach`ed, what comes is kept (it is bounded by the window)."""

    def __init__(self) -> None:
        self.channel: Any = None
        self.early: list[bytes] = []
        self.said = b""
        self.over: tuple[Exception | None] | None = None
        self.waiter: asyncio.Future[None] | None = None
        self._link: MeshLink | None = None

    def connection_made(self, chan: Any) -> None:
        """The channel is open."""
        self.channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes came; of what the far side's program complains (`datatype`) the beginning is kept for the detail."""
        if datatype is not None:
            self.said += data[: _HEARD_MAX - len(self.said)]
        elif self._link is not None:
            self._link.arrived(data)
        else:
            self.early.append(data)
            self._wake()

    def eof_received(self) -> bool:
        """A peer that will send no more is gone: half a link is none."""
        if self._link is not None:
            self._link.lost("closed", "the other side sends no more")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel, or the whole connection, is gone."""
        self.over = (exc,)
        self._wake()
        if self._link is not None:
            self._link.lost(*reason_of(exc))

    def must_stand(self) -> None:
        """Raise what ended the channel, if it ended already."""
        if self.over is not None:
            raise self.over[0] or asyncssh.ConnectionLost("the channel closed as soon as it stood")

    def attach(self, link: MeshLink) -> None:
        """From here on the link hears."""
        self._link = link
        for data in self.early:
            link.arrived(data)
        self.early.clear()

    async def more(self) -> None:
        """Wait until something came, or the channel is gone."""
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class _Client(asyncssh.SSHClient):
    """The dialler's side of the connection: why it went, and that a channel that closes alone takes it along."""

    def __init__(self) -> None:
        self.lost: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc


Greeting = Callable[[ClientSession], Any]
"""An awaitable that a transport runs in the fresh session before the link stands; raises DialFailed."""


async def dial_mesh(
    address: str,
    port: int,
    *,
    account: str,
    dial_key: asyncssh.SSHKey,
    host_keys: Collection[str],
    timeout_s: float,
    handler: Listening,
    greeting: Greeting | None = None,
) -> MeshLink:
    """A link to the mesh that answers at `address` (no name: DNS is the resolver's) with one of `host_keys`. Raises
    DialFailed, and ValueError for an address that is none.
    """
    ipaddress.ip_address(address)
    known = _known(host_keys)
    dialling, client = Dialling(), _Client()
    connection: asyncssh.SSHClientConnection | None = None
    try:
        async with asyncio.timeout(timeout_s):
            connection = await asyncssh.connect(
                address,
                port,
                tunnel=cast("Any", dialling),
                client_factory=lambda: client,
                known_hosts=known,
                username=account,
                client_keys=[dial_key],
                signature_algs=[KEY_ALG],
                **_CLIENT,
            )
            channel, made = await connection.create_session(
                ClientSession,
                subsystem=SUBSYSTEM,
                encoding=None,
                window=WINDOW,
                max_pktsize=PACKET,
            )
            session = cast("ClientSession", made)
            if greeting is not None:
                await greeting(session)
            session.must_stand()
    except (OSError, asyncssh.Error, DialFailed, ValueError) as error:
        if connection is not None:
            connection.abort()
            await connection.wait_closed()  # a turn of the loop; the peer is not waited for. Then `client` knows why.
        raise _failed(error, dialling.tap, client, address) from None
    except BaseException:
        if connection is not None:
            connection.abort()
        raise
    tap = cast("Tap", dialling.tap)
    key = connection.get_server_host_key()
    link = MeshLink(ChannelCarrier(connection, channel, tap), key_text(key) if key else "", "dialled", address)
    link.start(handler(link))
    session.attach(link)
    return link


def _known(host_keys: Collection[str]) -> Any:
    """Whom to trust, as the library wants it. The keys come from the log: a text that is none trusts nobody."""
    known = []
    for text in host_keys:
        try:
            known.append(asyncssh.import_public_key(text))
        except asyncssh.KeyImportError:
            continue
    return known, [], []


def _failed(error: Exception, tap: Tap | None, client: _Client, address: str) -> DialFailed:
    """The one failure that a dial's exception amounts to."""
    if isinstance(error, DialFailed):
        return DialFailed(error.reason, error.detail, address)
    # A session that cannot be opened because the connection went tells less than why the connection went.
    if isinstance(error, asyncssh.ChannelOpenError) and client.lost is not None:
        error = client.lost
    told = before_version(tap.heard, error) if tap is not None else None
    return DialFailed(*(told or reason_of(error)), address)


async def probe_key(address: str, port: int, timeout_s: float, kinds: Sequence[str] = (KEY_ALG,)) -> str:
    """The host key that answers at `address`, as the log writes keys, of one of these `kinds`. Only the key exchange is made,
    which proves it; nothing is said about who dials. Raises DialFailed, and ValueError for an address that is none.
    """
    ipaddress.ip_address(address)
    dialling, client = Dialling(), _Client()
    try:
        async with asyncio.timeout(timeout_s):
            key = await asyncssh.get_server_host_key(
                address,
                port,
                tunnel=cast("Any", dialling),
                kex_algs=[*KEX_ALGS],
                server_host_key_algs=[*kinds],
                config=None,
            )
    except (OSError, asyncssh.Error) as error:
        raise _failed(error, dialling.tap, client, address) from None
    if key is None:
        raise DialFailed("protocol-error", "no host key was shown", address)
    return key_text(key)


_CLIENT: Final[dict[str, Any]] = {
    "config": None,
    "agent_path": None,
    "client_host_keys": None,
    "x509_trusted_certs": None,
    "gss_host": None,
    "gss_kex": False,
    "gss_auth": False,
    "public_key_auth": True,
    "password_auth": False,
    "kbdint_auth": False,
    "host_based_auth": False,
    "preferred_auth": ["publickey"],
    "disable_trivial_auth": True,
    "kex_algs": KEX_ALGS,
    "encryption_algs": ENCRYPTION_ALGS,
    "mac_algs": MAC_ALGS,
    "compression_algs": None,
    "agent_forwarding": False,
    "x11_forwarding": False,
    "client_version": VERSION,
}
