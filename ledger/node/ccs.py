"""The transport `ccs`: the node's own SSH listener, which has the subsystem `mesh` and nothing else.

No shell, exec, pty, environment, SFTP, agent, X11 and no forwarding of any kind; one session per connection; public keys
only; a time-out runs from the first byte to the open channel. How many may be in at once is the door's (`doors`).
Refusals are counted, not logged. Effects: the network.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Collection
from typing import Any, Final, cast

import asyncssh

from ledger.node.doors import FULL, Allow, Listener, Tapped
from ledger.node.failures import reason_of
from ledger.node.links import Limits, Link, Listening, MeshLink, Standing
from ledger.node.sshclient import (
    ENCRYPTION_ALGS,
    KEX_ALGS,
    KEY_ALG,
    MAC_ALGS,
    PACKET,
    SUBSYSTEM,
    VERSION,
    WINDOW,
    ChannelCarrier,
    dial_mesh,
    key_text,
    probe_key,
)

ACCOUNT: Final = "mesh"
"""The user name that diallers give; nothing depends on it."""
PROOFS_MAX: Final = 8
"""Keys that one connection may offer."""

_REFUSED: Final = {
    "_process_env_request": "env",
    "_process_pty_req_request": "pty",
    "_process_x11_req_request": "x11",
    "_process_auth_agent_req_at_openssh_dot_com_request": "agent",
}
"""Requests in a session that are refused where the library would read them: it takes any environment without asking."""


async def dial(
    address: str,
    port: int,
    *,
    account: str | None = None,
    dial_key: asyncssh.SSHKey,
    host_keys: Collection[str],
    timeout_s: float,
    handler: Listening,
) -> Link:
    """A link to the node that listens at `address`. Raises DialFailed."""
    return await dial_mesh(
        address,
        port,
        account=account or ACCOUNT,
        dial_key=dial_key,
        host_keys=host_keys,
        timeout_s=timeout_s,
        handler=handler,
    )


async def probe(address: str, port: int, timeout_s: float) -> str:
    """The host key that answers at `address`. Raises DialFailed."""
    return await probe_key(address, port, timeout_s)


async def listen(
    address: str, port: int, *, host_key: asyncssh.SSHKey, allow: Allow, handler: Listening, limits: Limits | None = None
) -> Listener:
    """Accept links at `address`; port 0 lets the kernel choose. Raises OSError if the address cannot be had."""
    listener = Listener(allow, handler, limits or Limits())
    acceptor = await asyncssh.listen(
        address,
        port,
        tunnel=cast("Any", listener.door),
        server_factory=lambda: _Server(listener),
        server_host_keys=[host_key],
        login_timeout=limits.login_s if limits else Limits().login_s,
        **_SERVER,
    )
    listener.acceptor, listener.port = acceptor, acceptor.get_port()
    return listener


class _Server(asyncssh.SSHServer):
    """One connection, seen from this side: who proves what, and that it opens one mesh channel and nothing else."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._tap: Tapped
        self._connection: asyncssh.SSHServerConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._proofs = 0
        self._asked: tuple[str, Standing] | None = None
        self.session: _Session | None = None
        self.key = ""
        self.standing: Standing = "stranger"

    def abort(self) -> None:
        """End it at once."""
        if self._connection is not None:
            self._connection.abort()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """The library has taken the connection over."""
        self._connection = conn
        self._tap = self._listener.arriving.pop(conn)
        self._timer = asyncio.get_running_loop().call_later(self._listener.limits.login_s, self._late)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the session tells why
        """The connection is gone."""
        self._listener.proved.pop(self, None)
        self._in_time()

    def _late(self) -> None:
        self._listener.counts["dropped-login-timeout"] += 1
        self.abort()

    def _in_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - keys say who it is, names do not
        """Everybody has to prove a key."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Public keys are the only way."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        """Whether this key may in; the library then checks the proof."""
        self._proofs += 1
        if self._proofs > PROOFS_MAX:
            self._listener.counts["dropped-proofs"] += 1
            self.abort()
            return False
        text = key_text(key)
        standing = self._listener.allow(text, self._tap.address) if text.startswith(KEY_ALG + " ") else None
        if standing is None:
            self._listener.counts["refused-key"] += 1
            return False
        self._asked = text, standing
        return True

    def auth_completed(self) -> None:
        """The key that was asked about last is proved: the library asks and completes in one turn of the loop."""
        listener = self._listener
        listener.unproved.pop(self._tap, None)
        if self._asked is None or self._connection is None:
            self.abort()
            return
        self.key, self.standing = self._asked
        if not listener.admits(self.key, self.standing):
            listener.counts["refused-limit"] += 1
            listener.turned_away(self.key, self._tap.address)
            self._connection.disconnect(asyncssh.DISC_TOO_MANY_CONNECTIONS, FULL)
            return
        listener.proved[self] = None

    def session_requested(self) -> tuple[asyncssh.SSHServerChannel[bytes], _Session]:
        """One session per connection."""
        if self.session is not None or self._connection is None:
            self._listener.counts["refused-session"] += 1
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "one session per connection")
        channel = self._connection.create_server_channel(None, "strict", WINDOW, PACKET)
        for hook, what in _REFUSED.items():
            setattr(channel, hook, functools.partial(self._refuse, what))
        self.session = _Session(self)
        return channel, self.session

    def _refuse(self, what: str, packet: object) -> bool:  # noqa: ARG002 - it is not even read
        return self.refused(what)

    def refused(self, what: str) -> bool:
        """Count a request that there is no answer to but no."""
        self._listener.counts[f"refused-{what}"] += 1
        return False

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:  # noqa: ARG002
        """No forwarding."""
        return self.refused("forward")

    def server_requested(self, listen_host: str, listen_port: int) -> bool:  # noqa: ARG002
        """No forwarding the other way."""
        return self.refused("forward")

    def unix_connection_requested(self, dest_path: str) -> bool:  # noqa: ARG002
        """No forwarding to sockets."""
        return self.refused("forward")

    def unix_server_requested(self, listen_path: str) -> bool:  # noqa: ARG002
        """No forwarding from sockets."""
        return self.refused("forward")

    def tun_requested(self, unit: int | None) -> bool:  # noqa: ARG002
        """No tunnels."""
        return self.refused("forward")

    def tap_requested(self, unit: int | None) -> bool:  # noqa: ARG002
        """No tunnels."""
        return self.refused("forward")

    def stands(self, channel: Any) -> MeshLink:
        """The mesh channel is open: a link."""
        self._in_time()
        self._listener.counts["links"] += 1
        connection = cast("asyncssh.SSHServerConnection", self._connection)
        link = MeshLink(ChannelCarrier(connection, channel, self._tap), self.key, "accepted", self._tap.address)
        link.start(self._listener.handler(link))
        return link


class _Session(asyncssh.SSHServerSession[bytes]):
    """The acceptor's end of the channel."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._channel: Any = None
        self._link: MeshLink | None = None

    def connection_made(self, chan: Any) -> None:
        """The channel is open; nothing was asked of it yet."""
        self._channel = chan

    def shell_requested(self) -> bool:
        """No shell."""
        return self._server.refused("shell")

    def exec_requested(self, command: str) -> bool:  # noqa: ARG002
        """No command."""
        return self._server.refused("exec")

    def pty_requested(self, term_type: str, term_size: Any, term_modes: Any) -> bool:  # noqa: ARG002
        """No terminal."""
        return self._server.refused("pty")

    def subsystem_requested(self, subsystem: str) -> bool:
        """The mesh, and nothing else: SFTP is a subsystem too."""
        return subsystem == SUBSYSTEM or self._server.refused("subsystem")

    def session_started(self) -> None:
        """The mesh channel stands."""
        self._link = self._server.stands(self._channel)

    def data_received(self, data: bytes, datatype: int | None) -> None:  # noqa: ARG002 - a client sends no other stream
        """Bytes came."""
        if self._link is not None:
            self._link.arrived(data)

    def eof_received(self) -> bool:
        """A peer that will send no more is gone: half a link is none."""
        self._server.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone, and the connection with it."""
        if self._link is not None:
            self._link.lost(*reason_of(exc))
        self._server.abort()


_SERVER: Final[dict[str, Any]] = {
    "config": None,
    "server_version": VERSION,
    "kex_algs": KEX_ALGS,
    "encryption_algs": ENCRYPTION_ALGS,
    "mac_algs": MAC_ALGS,
    "compression_algs": None,
    "signature_algs": [KEY_ALG],
    "gss_host": None,
    "gss_kex": False,
    "gss_auth": False,
    "host_based_auth": False,
    "public_key_auth": True,
    "kbdint_auth": False,
    "password_auth": False,
    "x509_trusted_certs": None,
    "allow_pty": False,
    "line_editor": False,
    "x11_forwarding": False,
    "agent_forwarding": False,
    "allow_scp": False,
    "encoding": None,
    "window": WINDOW,
    "max_pktsize": PACKET,
}
