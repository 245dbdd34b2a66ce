"""What the node's own listener bears, over real sockets: members and strangers who ask for more than their share, or for anything
but the mesh, lose it and nobody else does; every cap is kept, and nothing is left behind.
"""

import asyncio
import gc
import time
from pathlib import Path

import asyncssh
import pytest
from wires import LOOPBACK, Hall, key, run, settle

from ledger.node import links
from ledger.node.frames import FRAME_MAX
from ledger.node.sshclient import key_text

# Hostile peers with a key.


async def raw(hall, dial_key=None):
    """A member's channel without our side of the protocol: what it writes goes out as it is."""
    connection = await asyncssh.connect(
        LOOPBACK, hall.port, username="x", client_keys=[dial_key or hall.member], known_hosts=hall.known(),
        config=None, agent_path=None,
    )  # fmt: skip
    writer, reader, _ = await connection.open_session(subsystem="mesh", encoding=None)
    return connection, writer, reader


def test_a_frame_announced_too_long_ends_the_link_at_its_length():
    """protocol-error as soon as the four bytes are there; nothing is buffered, and others are served."""

    async def inner():
        async with Hall() as hall:
            connection, writer, reader = await raw(hall)
            writer.write((FRAME_MAX + 1).to_bytes(4, "big"))
            assert await hall.accepted[0].end() == ("protocol-error", "a frame of 65537 bytes; there are frames of 1 to 65536")
            with pytest.raises((asyncssh.Error, OSError)):
                await reader.readexactly(1)
            connection.abort()
            heard = await hall.dial()
            heard.link.send(b"still served")
            assert await heard.frames.get() == b"still served"

    run(inner())


def test_a_half_frame_times_out(monkeypatch):
    """A frame that stops half-way, also one that trickles, ends the link when its time is over; an idle link stays."""
    monkeypatch.setattr(links, "PARTIAL_S", 0.3)

    async def inner():
        async with Hall() as hall:
            idle = await hall.dial()
            connection, writer, _ = await raw(hall)
            writer.write(b"\x00\x00\x00\x09half")
            began = time.monotonic()
            for _ in range(3):
                await asyncio.sleep(0.09)
                writer.write(b".")
            assert (await hall.accepted[1].end())[0] == "protocol-error"
            assert time.monotonic() - began < 2
            connection.abort()
            idle.link.send(b"here")
            assert await idle.frames.get() == b"here"

    run(inner())


def test_a_peer_that_takes_nothing_is_dropped_before_it_fills_the_memory(monkeypatch):
    """`backlog` tells what waits; above the limit the link ends as timed out."""
    monkeypatch.setattr(links, "BACKLOG_MAX", 2_000_000)

    async def inner():
        async with Hall() as hall:
            hall.echo = False
            heard = await hall.dial()
            hall.accepted[0].link.pause()
            for _ in range(8):
                heard.link.send(bytes(FRAME_MAX))
            assert 0 < heard.link.backlog() < 9 * FRAME_MAX
            for _ in range(64):
                heard.link.send(bytes(FRAME_MAX))
            assert (await heard.end())[0] == "timeout"

    run(inner())


def test_a_paused_link_takes_no_more_than_its_window_and_goes_on_after():
    """A daemon that cannot keep up pauses a link: what was sent meanwhile arrives after `resume`, in order."""

    async def inner():
        async with Hall() as hall:
            hall.echo = False
            heard = await hall.dial()
            far = hall.accepted[0]
            far.link.pause()
            sent = [n.to_bytes(2, "big") * 20_000 for n in range(20)]
            for frame in sent:
                heard.link.send(frame)
            await asyncio.sleep(0.1)
            assert far.frames.qsize() == 0
            far.link.resume()
            assert [await far.frames.get() for _ in sent] == sent

    run(inner())


def test_one_session_per_connection():
    """A second channel on a member's connection is refused and counted; the first stays."""

    async def inner():
        async with Hall() as hall:
            connection, _, _ = await raw(hall)
            with pytest.raises(asyncssh.ChannelOpenError) as caught:
                await connection.open_session(subsystem="mesh", encoding=None)
            assert caught.value.code == asyncssh.OPEN_RESOURCE_SHORTAGE
            assert hall.listener.counts["refused-session"] == 1
            assert not hall.accepted[0].over.done()
            connection.abort()

    run(inner())


def test_no_channel_of_any_other_kind_opens():
    """Forwards to ports and sockets, tunnels of both layers, and listeners at the far side: asked for directly by a member's
    connection, each is refused and counted, and the mesh channel beside them stays.
    """

    async def inner():
        async with Hall() as hall:
            connection, writer, reader = await raw(hall)
            session = asyncssh.SSHTCPSession
            attempts = [
                lambda: connection.create_connection(session, LOOPBACK, hall.port),
                lambda: connection.create_unix_connection(asyncssh.SSHUNIXSession, "/run/x.sock"),
                lambda: connection.create_tun(asyncssh.SSHTunTapSession),
                lambda: connection.create_tap(asyncssh.SSHTunTapSession),
            ]
            for attempt in attempts:
                with pytest.raises(asyncssh.ChannelOpenError):
                    await attempt()
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.create_server(session, LOOPBACK, 0)
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.create_unix_server(asyncssh.SSHUNIXSession, "/run/x.sock")
            assert hall.listener.counts["refused-forward"] == 6
            writer.write(b"\0\0\0\x02ok")
            assert await reader.readexactly(6) == b"\0\0\0\x02ok"
            connection.abort()

    run(inner())


# Caps.


def test_strangers_have_few_slots_and_members_the_rest():
    """Above their cap strangers are told `connection-limit`; members still come in; a slot that is free again is given."""

    async def inner():
        async with Hall(strangers=2) as hall:
            held = [await hall.dial(hall.other) for _ in range(2)]
            reason, detail = await hall.fails(hall.other)
            assert reason == "connection-limit"
            assert "too many connections" in detail
            await hall.dial()
            held[0].link.abort()
            await hall.accepted[0].end()
            await hall.dial(hall.other)
            assert hall.listener.counts["refused-limit"] == 1

    run(inner())


def test_one_key_has_few_connections():
    """Above its cap a key is told `connection-limit`, also a member's; other members are not touched."""

    async def inner():
        async with Hall(per_key=2) as hall:
            second = key()
            hall.standing[key_text(second)] = "member"
            for _ in range(2):
                await hall.dial()
            assert (await hall.fails())[0] == "connection-limit"
            await hall.dial(second)

    run(inner())


def test_a_full_house_says_so():
    """With every connection taken by members the next is turned away before it says anything, and knows why."""

    async def inner():
        async with Hall(connections=2, per_key=9) as hall:
            for _ in range(2):
                await hall.dial()
            for _ in range(5):
                assert (await hall.fails())[0] == "connection-limit"
            hall.accepted[0].link.abort()
            await hall.accepted[0].end()
            await settle()
            await hall.dial()

    run(inner())


def test_silent_connections_cannot_keep_members_out():
    """Five hundred connections that prove nothing, more than all slots: a member comes in at once, and again, and they go at the
    login time-out.
    """

    async def inner():
        async with Hall(unauthenticated=16, connections=64, login_s=2.0) as hall:
            flood = [await asyncio.open_connection(LOOPBACK, hall.port) for _ in range(500)]
            assert len(hall.listener.unproved) <= 16
            for _ in range(3):
                heard = await hall.dial(timeout_s=5)
                heard.link.send(b"served")
                assert await heard.frames.get() == b"served"
            assert hall.listener.counts["dropped-unauthenticated"] >= 484
            await asyncio.sleep(2.2)
            assert not hall.listener.unproved
            assert hall.listener.counts["dropped-login-timeout"] >= 1
            for _, writer in flood:
                writer.transport.abort()
            assert not hall.accepted[0].over.done()
            await settle()

    run(inner())


def test_a_proved_key_that_opens_no_channel_is_dropped_too():
    """The login time-out runs to the open mesh channel: an idle connection, also a member's, does not stay."""

    async def inner():
        async with Hall(login_s=0.5) as hall:
            connection = await asyncssh.connect(
                LOOPBACK, hall.port, username="x", client_keys=[hall.member], known_hosts=hall.known(),
                config=None, agent_path=None,
            )  # fmt: skip
            await asyncio.wait_for(connection.wait_closed(), 5)
            assert hall.listener.counts["dropped-login-timeout"] == 1
            assert not hall.listener.proved

    run(inner())


def test_who_offers_many_keys_is_dropped():
    """Nine unknown keys are one too many."""

    async def inner():
        async with Hall() as hall:
            with pytest.raises((asyncssh.Error, OSError)):
                await asyncssh.connect(
                    LOOPBACK, hall.port, username="x", client_keys=[key() for _ in range(12)],
                    known_hosts=hall.known(), config=None, agent_path=None,
                )  # fmt: skip
            assert hall.listener.counts["dropped-proofs"] == 1
            assert hall.listener.counts["refused-key"] == 8

    run(inner())


def test_a_standing_that_ends_keeps_the_key_out_from_then_on():
    """The door is asked at every proof: a key that was let in is refused as soon as the answer is no."""

    async def inner():
        async with Hall() as hall:
            await hall.dial()
            del hall.standing[key_text(hall.member)]
            assert (await hall.fails())[0] == "auth-failed"

    run(inner())


def descriptors():
    """How many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_behind():
    """After a hundred connections that ended in every way (aborted, refused, half-way, turned away) no descriptor, no record of
    them at the door, and no object of the SSH library is left.
    """

    async def inner():
        async with Hall(per_key=1) as hall:
            for _ in range(20):
                heard = await hall.dial()
                assert (await hall.fails())[0] == "connection-limit"
                assert (await hall.fails(key()))[0] == "auth-failed"
                assert (await hall.fails(host_keys=[key_text(key())]))[0] == "host-key-mismatch"
                _, writer = await asyncio.open_connection(LOOPBACK, hall.port)
                writer.write(b"SSH-2.0-half\r\n\0\0")
                await writer.drain()
                writer.transport.abort()
                heard.link.abort()
                await hall.accepted[-1].end()
                await settle()
            hall.accepted.clear()
            hall.dialled.clear()
            del heard, writer
            await asyncio.sleep(0.1)
            assert (hall.listener.unproved, hall.listener.proved, hall.listener.arriving) == ({}, {}, {})
            gc.collect()
            kinds = asyncssh.SSHServerConnection, asyncssh.SSHClientConnection
            assert [each for each in gc.get_objects() if type(each) in kinds] == []
            return descriptors()

    assert run(inner()) == run(inner())
