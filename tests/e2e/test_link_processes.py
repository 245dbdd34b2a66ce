"""Links to a node in another process that freezes, dies, or is drowned: this side is never made to wait."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncssh
from wires import LOOPBACK, dial, key, settle

from ledger.node import ccs
from ledger.node.frames import FRAME_MAX
from ledger.node.links import DialFailed
from ledger.node.sshclient import key_text

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "PYTHONDONTWRITEBYTECODE": "1"}


class Other:
    """A node's listener in a process of its own, which echoes, and the key of a member of it."""

    def __init__(self, folder):
        host, self.member = key(), key()
        (folder / "host").write_bytes(host.export_private_key("openssh"))
        self.host_keys = [key_text(host)]
        command = [sys.executable, TESTS / "ccs_process.py", folder / "host", key_text(self.member)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, text=True)
        self.port = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.send(signal.SIGCONT)
        self.process.kill()
        self.process.communicate(timeout=20)

    def send(self, number):
        self.process.send_signal(number)

    async def dial(self, **more):
        return await dial(self.port, self.member, self.host_keys, **more)

    async def reason(self, **more):
        try:
            await self.dial(**more)
        except DialFailed as failed:
            return failed.reason
        return None


def run(coroutine):
    asyncio.run(asyncio.wait_for(coroutine, 60))


async def echoed(heard, frame=b"here"):
    heard.link.send(frame)
    assert await asyncio.wait_for(heard.frames.get(), 10) == frame


def test_a_killed_peer_is_known_at_once(tmp_path):
    """SIGKILL to the other process: its kernel says so, and the link's end is told within a second, without any ping."""

    async def inner():
        with Other(tmp_path) as other:
            heard = await other.dial()
            await echoed(heard)
            began = time.monotonic()
            other.send(signal.SIGKILL)
            reason, _ = await heard.end()
            assert reason in {"closed", "reset"}
            assert time.monotonic() - began < 1
            await asyncio.to_thread(other.process.wait, 10)
            assert await other.reason() == "refused"
            await settle()

    run(inner())


def test_a_silent_peer_is_not_waited_for(tmp_path):
    """SIGSTOP to the other process: nothing tells, so the link stays; sends wait in `backlog`; `abort` ends it at once, with the
    peer still frozen, and a graceful close is never tried. A new dial times out when it was to.
    """

    async def inner():
        with Other(tmp_path) as other:
            heard = await other.dial()
            await echoed(heard)
            other.send(signal.SIGSTOP)
            for _ in range(30):
                heard.link.send(bytes(FRAME_MAX))
            await asyncio.sleep(0.2)
            assert not heard.over.done()
            assert heard.link.backlog() > FRAME_MAX
            began = time.monotonic()
            heard.link.abort()
            called = time.monotonic() - began
            assert await heard.end() == ("closed", "ended by this side")
            assert called < 0.05
            assert time.monotonic() - began < 0.5
            assert heard.link.backlog() == 0
            began = time.monotonic()
            assert await other.reason(timeout_s=0.5) == "timeout"
            assert time.monotonic() - began < 1.5
            other.send(signal.SIGCONT)
            again = await other.dial()
            await echoed(again)
            again.link.abort()
            await settle()

    run(inner())


def test_closing_our_listener_does_not_wait_for_frozen_diallers(tmp_path):
    """A listener with a link to a frozen process closes at once."""
    dialler = """
import asyncio, sys
from wires import dial
from ledger.node.sshclient import load_key
async def main():
    heard = await dial(int(sys.argv[1]), load_key(sys.argv[2]), [sys.argv[3]])
    heard.link.send(b"up")
    await heard.end(60)
asyncio.run(main())
"""

    async def inner():
        host, member = key(), key()
        (tmp_path / "member").write_bytes(member.export_private_key("openssh"))
        up, over = asyncio.Event(), asyncio.Event()

        class Handler:
            def received(self, _frame):
                up.set()

            def closed(self, _reason, _detail):
                over.set()

        def allow(text, _address):
            return "member" if text == key_text(member) else None

        listener = await ccs.listen(LOOPBACK, 0, host_key=host, allow=allow, handler=lambda _: Handler())
        command = [sys.executable, "-c", dialler, str(listener.port), tmp_path / "member", key_text(host)]
        process = await asyncio.create_subprocess_exec(*command, env=ENVIRONMENT)
        await asyncio.wait_for(up.wait(), 30)
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        await listener.close()
        await asyncio.wait_for(over.wait(), 5)
        assert time.monotonic() - began < 1
        process.send_signal(signal.SIGCONT)
        await process.wait()
        process._transport.close()
        await settle()

    run(inner())


def test_five_hundred_unproved_connections_and_hostile_members(tmp_path):
    """A node under five hundred silent connections, with members that send noise, lengths that cannot be, and half frames: other
    members are served throughout, and what was dropped is counted.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2048)), hard))

    async def inner():
        with Other(tmp_path) as other:
            good = await other.dial()
            flood = [await asyncio.open_connection(LOOPBACK, other.port) for _ in range(500)]
            await echoed(good)
            for said in (b"\xff" * 64, (FRAME_MAX + 1).to_bytes(4, "big"), bytes(4), b"\0\0\0\x09half"):
                connection = await asyncssh.connect(
                    LOOPBACK, other.port, username="x", client_keys=[other.member], config=None, agent_path=None,
                    known_hosts=([asyncssh.import_public_key(other.host_keys[0])], [], []),
                )  # fmt: skip
                writer, reader, _ = await connection.open_session(subsystem="mesh", encoding=None)
                writer.write(said)
                if said != b"\0\0\0\x09half":
                    (heard,) = await asyncio.wait_for(asyncio.gather(reader.read(1), return_exceptions=True), 5)
                    assert heard == b"" or isinstance(heard, asyncssh.Error), "dropped, with or without a word"
                connection.abort()
                await echoed(good)
            late = await other.dial()
            await echoed(late, bytes(FRAME_MAX))
            for _, writer in flood:
                writer.transport.abort()
            for heard in (good, late):
                heard.link.abort()
            await settle()
            out, _ = await asyncio.to_thread(other.process.communicate, "", 20)
            counts = json.loads(out)
            assert counts["dropped-unauthenticated"] >= 400
            assert counts["links"] == 6

    try:
        run(inner())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
