"""Links in tests: keys, a handler that remembers, listeners and peers of every bad habit, all on loopback."""

import asyncio
import contextlib
import socket
import struct

import asyncssh

from ledger.node import ccs
from ledger.node.links import DialFailed, Limits
from ledger.node.sshclient import key_text

LOOPBACK = "127.0.0.1"


def key():
    """A fresh key."""
    return asyncssh.generate_private_key("ssh-ed25519")


def run(coroutine):
    """Run to the end, and no longer than a test should take."""
    return asyncio.run(asyncio.wait_for(coroutine, 60))


class Heard:
    """A handler that keeps what it is told. `echo` sends every message back."""

    def __init__(self, link, *, echo=False):
        self.link = link
        self.frames = asyncio.Queue()
        self.over = asyncio.get_running_loop().create_future()
        self.echo = echo

    def received(self, frame):
        assert not self.over.done(), "a message after the end"
        self.frames.put_nowait(frame)
        if self.echo:
            self.link.send(frame)

    def closed(self, reason, detail):
        self.over.set_result((reason, detail))  # a second end would raise

    async def end(self, timeout_s=10):
        return await asyncio.wait_for(asyncio.shield(self.over), timeout_s)


class Hall:
    """A `ccs` listener with its keys: who is a member, a guest, and what it accepted."""

    def __init__(self, **limits):
        self.host, self.member, self.other = key(), key(), key()
        self.standing = {key_text(self.member): "member", key_text(self.other): "stranger"}
        self.limits = Limits(**limits)
        self.accepted = []
        self.dialled = []
        self.echo = True

    async def __aenter__(self):
        self.listener = await ccs.listen(
            LOOPBACK,
            0,
            host_key=self.host,
            allow=lambda text, _address: self.standing.get(text),
            handler=self.accept,
            limits=self.limits,
        )
        self.port = self.listener.port
        return self

    async def __aexit__(self, *_exception):
        for heard in self.dialled:
            heard.link.abort()
        await self.listener.close()
        await settle()

    def known(self):
        """What the SSH library has to know to trust this listener."""
        return [self.host.convert_to_public()], [], []

    def accept(self, link):
        self.accepted.append(Heard(link, echo=self.echo))
        return self.accepted[-1]

    async def dial(self, dial_key=None, host_keys=None, timeout_s=10.0):
        self.dialled.append(await dial(self.port, dial_key or self.member, host_keys or [key_text(self.host)], timeout_s))
        return self.dialled[-1]

    async def fails(self, dial_key=None, **more):
        """(reason, detail) of a dial that must come to nothing."""
        try:
            await self.dial(dial_key, **more)
        except DialFailed as failed:
            return failed.reason, failed.detail
        raise AssertionError("it came to a link")


async def dial(port, dial_key, host_keys, timeout_s=10.0):
    made = []

    def handler(link):
        made.append(Heard(link))
        return made[-1]

    await ccs.dial(LOOPBACK, port, dial_key=dial_key, host_keys=host_keys, timeout_s=timeout_s, handler=handler)
    return made[0]


async def settle():
    """Let transports that were aborted be closed before the loop is."""
    for _ in range(5):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def peer(behave):
    """A TCP listener on loopback with the given habit: `await behave(reader, writer)`. Gives its port."""
    meetings = {}

    async def meet(reader, writer):
        meetings[asyncio.current_task()] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await behave(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(meet, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in meetings.values():
            writer.transport.abort()
        await asyncio.gather(*meetings, return_exceptions=True)
        await settle()


def reset(writer):
    """End a connection with a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def closed_port():
    """A port where nobody listens."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        return taken.getsockname()[1]
