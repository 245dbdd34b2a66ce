"""The transport `ssh`: links through the machines' own OpenSSH servers.

Dialling is an SSH login to the peer's sshd with the subsystem `mesh`; what answers there is a bridge (`bridge`), which sshd runs
for the key and which leads to the peer's node. Accepting is a Unix socket, `peer.sock`, at which bridges say in their first
line which key sshd authenticated. The node answers in one line before any frame, `MESH1 ok` or `MESH1 no REASON DETAIL`,
so that a dial fails with the reason of the other side, also where no node runs.

Whom sshd lets in is a file of the node's own, written whole from membership (`Acceptor.admit`); a key that is gone from it is out
at once: sshd reads the file at each login, bridges that are there already are cut, and one on its way is refused.
What sshd limits (`MaxStartups`, login time) the node does not see. Effects: the network, a socket, a file.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, cast, get_args

import asyncssh

from ledger.errors import Unwritable
from ledger.events import Reason
from ledger.node.doors import Allow, Turned
from ledger.node.failures import reason_of, shown
from ledger.node.links import DialFailed, Limits, Link, Listening, MeshLink, Standing
from ledger.node.sshclient import ClientSession, dial_mesh, probe_key
from ledger.node.sshd import authorized_keys, fingerprint, key_of

GREETING: Final = b"MESH1"
LINE_MAX: Final = 512
REASONS: Final = frozenset(get_args(Reason))
_CREDENTIALS: Final = struct.Struct("3i")
_SOCKET_MAX: Final = 100


async def dial(
    address: str,
    port: int,
    *,
    account: str,
    dial_key: asyncssh.SSHKey,
    host_keys: Collection[str],
    timeout_s: float,
    handler: Listening,
) -> Link:
    """A link to the node behind the sshd at `address`, as `account` there. Raises DialFailed."""
    return await dial_mesh(
        address,
        port,
        account=account,
        dial_key=dial_key,
        host_keys=host_keys,
        timeout_s=timeout_s,
        handler=handler,
        greeting=_greeted,
    )


async def probe(address: str, port: int, timeout_s: float) -> str:
    """The Ed25519 host key of the sshd at `address`. Raises DialFailed."""
    return await probe_key(address, port, timeout_s)


async def _greeted(session: ClientSession) -> None:
    """Wait for the line of the far node or its bridge. Raises DialFailed with what it says, or with what else is there."""
    while True:
        heard = b"".join(session.early)
        line, end, rest = heard.partition(b"\n")
        if end or len(heard) > LINE_MAX:
            break
        if session.over is not None:
            complaint = shown((heard + b" " + session.said).decode("utf-8", "replace"))
            reason, detail = reason_of(session.over[0])
            raise DialFailed(reason, f"no bridge answered: {complaint}" if complaint else detail)
        await session.more()
    words = shown(line.decode("utf-8", "replace")).split(" ", 3)
    if words[0] != GREETING.decode() or len(words) < 2 or (words[1] != "ok" and len(words) < 3):
        raise DialFailed("transport-mismatch", f"what answers is no bridge: {shown(line.decode('utf-8', 'replace'))}")
    if words[1] != "ok":
        reason = cast("Reason", words[2]) if words[2] in REASONS else "unknown"
        raise DialFailed(reason, words[3] if len(words) > 3 else words[2])
    session.early[:] = [rest] if rest else []


def bridge_command(socket_path: str | Path) -> list[str]:
    """What sshd runs for a member's key, but for the key: this interpreter, without anybody's settings, and the bridge."""
    bridge = Path(__file__).with_name("bridge.py")
    return [sys.executable, "-I", "-S", str(bridge), "--socket", str(Path(socket_path).absolute())]


async def listen(
    socket_path: str | Path,
    *,
    keys_file: str | Path,
    allow: Allow,
    handler: Listening,
    limits: Limits | None = None,
    command: Sequence[str] | None = None,
) -> Acceptor:
    """Accept bridges at `socket_path`. Until `admit` is called the key file stays as it was, and whom sshd lets in by it is told
    that the node is starting. Raises Unwritable.
    """
    made = Acceptor(Path(socket_path), Path(keys_file), allow, handler, limits or Limits(), command)
    await made.start()
    return made


class Acceptor:
    """The node's end of the bridges. `counts`: what was accepted and refused, by name, since it began."""

    port: Final = 0
    """The port is sshd's."""
    knocking: Final = False
    """Who is on the way in is with sshd."""

    def __init__(  # noqa: PLR0917 - `listen` alone makes it
        self, path: Path, keys_file: Path, allow: Allow, handler: Listening, limits: Limits, command: Sequence[str] | None
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.limits = limits
        self.allow = allow
        self.handler = handler
        self.bridges: dict[_Bridge, None] = {}
        self.keys: dict[str, str] | None = None
        self.turned_away: Turned = lambda _key, _address: None
        self._path = path
        self._keys_file = keys_file
        self._command = list(command) if command is not None else bridge_command(path)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen at the socket, which only this account may use."""
        try:
            self._path.unlink(missing_ok=True)
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                _bind(bound, self._path)
                self._path.chmod(0o600)
                self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Bridge(self), sock=bound)
            except OSError:
                bound.close()
                raise
        except OSError as error:
            raise Unwritable(f"{self._path}: {error.strerror}") from error

    def admit(self, keys: Iterable[tuple[str, str]]) -> None:
        """Let in these (key, machine), and nobody else from now on: the file is written whole, bridges of others are cut. The
        second holds also if the file cannot be written (Unwritable).
        """
        wanted = [(key, machine) for text, machine in keys if (key := key_of(text)) is not None]
        self.keys = marks = {fingerprint(key): key for key, _ in wanted}
        for bridge in list(self.bridges):
            if bridge.key and fingerprint(bridge.key) not in marks:
                bridge.abort()
        _replace(self._keys_file, authorized_keys(wanted, self._command).encode())

    async def close(self) -> None:
        """Accept no more, and end every link at once."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)
        for bridge in list(self.bridges):
            bridge.abort()
        await asyncio.sleep(0)

    def judge(self, mark: str, address: str) -> tuple[str, Standing] | tuple[Reason, str, None]:
        """What to make of a bridge that names this fingerprint: (key, standing), or (reason, detail, None)."""
        if self.keys is None:
            return "refused", "the node is starting", None
        key = self.keys.get(mark)
        standing = self.allow(key, address) if key is not None else None
        if key is None or standing is None:
            return "not-a-member", "this key is not known here, or no more", None
        proved = [each for each in self.bridges if each.key]
        strangers = sum(1 for each in proved if each.standing != "member")
        if (
            len(proved) >= self.limits.connections
            or sum(1 for each in proved if each.key == key) >= self.limits.per_key
            or (standing != "member" and strangers >= self.limits.strangers)
        ):
            self.turned_away(key, address)
            return "connection-limit", "too many connections", None
        return key, standing


class _Bridge(asyncio.Protocol):
    """One bridge that came in: the carrier of its link."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._transport: asyncio.Transport | None = None
        self._line = b""
        self._timer: asyncio.TimerHandle | None = None
        self._link: MeshLink | None = None
        self.key = ""
        self.standing: Standing = "stranger"

    # The link's carrier.

    def write(self, data: bytes) -> None:
        """Hand bytes on."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """End it at once; the bridge ends with it, and sshd's session with that."""
        if self._transport is not None:
            self._transport.abort()

    def backlog(self) -> int:
        """Bytes not yet handed to the kernel."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def pause(self, *, reading: bool) -> None:
        """Stop, or go on, taking from the peer."""
        if self._transport is None or self._transport.is_closing():
            return
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # The socket.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody of this machine connected."""
        self._transport = cast("asyncio.Transport", transport)
        acceptor = self._acceptor
        if not _same_account(transport.get_extra_info("socket")):
            acceptor.counts["refused-account"] += 1
            self.abort()
            return
        acceptor.counts["connections"] += 1
        acceptor.bridges[self] = None
        self._timer = asyncio.get_running_loop().call_later(acceptor.limits.login_s, self._late)

    def data_received(self, data: bytes) -> None:
        """The first line, then frames."""
        if self._link is not None:
            self._link.arrived(data)
            return
        self._line += data
        line, end, rest = self._line.partition(b"\n")
        if end:
            self._introduced(line, rest)
        elif len(self._line) > LINE_MAX:
            self._acceptor.counts["refused-line"] += 1
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """The bridge is gone."""
        self._acceptor.bridges.pop(self, None)
        self._in_time()
        if self._link is not None:
            self._link.lost(*reason_of(error))

    def _introduced(self, line: bytes, rest: bytes) -> None:
        acceptor = self._acceptor
        self._in_time()
        words = line.decode("ascii", "replace").split(" ")
        if len(words) != 3 or words[0] != GREETING.decode():
            acceptor.counts["refused-line"] += 1
            self.abort()
            return
        judged = acceptor.judge(words[1], words[2])
        if len(judged) == 3:
            reason, detail, _ = judged
            acceptor.counts[{"connection-limit": "refused-limit", "refused": "refused-starting"}.get(reason, "refused-key")] += 1
            self.write(GREETING + f" no {reason} {detail}\n".encode())
            cast("asyncio.Transport", self._transport).close()  # a line fits the socket's buffer: it is there already
            return
        self.key, self.standing = judged
        acceptor.counts["links"] += 1
        self.write(GREETING + b" ok\n")
        self._link = MeshLink(self, self.key, "accepted", shown(words[2]))
        self._link.start(acceptor.handler(self._link))
        if rest:
            self._link.arrived(rest)

    def _late(self) -> None:
        self._timer = None
        self._acceptor.counts["dropped-login-timeout"] += 1
        self.abort()

    def _in_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _same_account(bound: socket.socket) -> bool:
    """Whether the other end runs under this account, or is root (unix(7), SO_PEERCRED)."""
    said = bound.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, account, _ = _CREDENTIALS.unpack(said)
    return account in {os.getuid(), 0}


def _bind(bound: socket.socket, path: Path) -> None:
    """Bind to a path that may be longer than the kernel takes: by way of its folder's descriptor."""
    if len(os.fsencode(path)) <= _SOCKET_MAX:
        bound.bind(str(path))
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        bound.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _replace(target: Path, data: bytes) -> None:
    """Write a file of mode 0600, whole or not at all. Raises Unwritable."""
    fresh = target.with_name(f".{target.name}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
    except OSError as error:
        raise Unwritable(f"{target}: {error.strerror}") from error
