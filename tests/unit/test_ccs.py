"""The node's own listener and who dials it, over real sockets: frames both ways, every end with its reason, every cap kept."""

import asyncio
import gc
import time
from pathlib import Path

import asyncssh
import pytest
from wires import LOOPBACK, Hall, Heard, closed_port, dial, key, peer, reset, settle

from ledger.node import ccs, links
from ledger.node.failures import reason_of
from ledger.node.frames import FRAME_MAX, BadFrame
from ledger.node.links import DialFailed
from ledger.node.sshclient import key_text

NOISE = {
    "another service": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "bytes": b"\x00\xff" * 5000,
    "an old version": b"SSH-1.5-old\r\n",
    "bytes behind a version": b"SSH-2.0-x\r\n" + b"\xff" * 64,
}


def run(coroutine):
    """Run to the end, and no longer than a test should take."""
    return asyncio.run(asyncio.wait_for(coroutine, 60))


async def failed(port, **more):
    """(reason, detail, address) of a dial to this port."""
    with pytest.raises(DialFailed) as caught:
        await dial(port, more.pop("dial_key", key()), more.pop("host_keys", [key_text(key())]), **more)
    return caught.value.reason, caught.value.detail, caught.value.address


# A link.


def test_a_link_knows_both_ends_and_carries_frames_whole():
    """Each side has the key that the other proved; frames of one byte and of 64 KiB arrive as they were sent, in order."""

    async def inner():
        async with Hall() as hall:
            heard = await hall.dial()
            far = hall.accepted[0].link
            assert (heard.link.key, heard.link.side, heard.link.address) == (key_text(hall.host), "dialled", LOOPBACK)
            assert (far.key, far.side, far.address) == (key_text(hall.member), "accepted", LOOPBACK)
            sent = [b"\x00", b"x" * FRAME_MAX, b"\xff" * 1000, *(bytes([n]) * (n + 1) for n in range(200))]
            for frame in sent:
                heard.link.send(frame)
            assert [await heard.frames.get() for _ in sent] == sent
            for wrong in (b"", bytes(FRAME_MAX + 1)):
                with pytest.raises(BadFrame):
                    heard.link.send(wrong)

    run(inner())


@pytest.mark.parametrize("who", ["dialler", "acceptor"])
def test_an_end_is_told_once_to_both(who):
    """Whoever aborts, each side hears of the end exactly once, and sending into it does nothing."""

    async def inner():
        async with Hall() as hall:
            heard = await hall.dial()
            far = hall.accepted[0]
            mine, other = (heard, far) if who == "dialler" else (far, heard)
            mine.link.abort()
            assert not mine.over.done(), "never within the call"
            mine.link.abort()
            assert await mine.end() == ("closed", "ended by this side")
            reason, _ = await other.end()
            assert reason in {"closed", "reset"}
            for each in (mine, other):
                each.link.send(b"late")
                each.link.abort()
                assert each.link.backlog() == 0
            await settle()
            assert not hall.listener.proved

    run(inner())


@pytest.mark.parametrize("who", ["dialler", "acceptor"])
def test_last_words_are_heard(who):
    """What was sent in the same turn as the abort still arrives: a refusal may say why it is one."""

    async def inner():
        async with Hall() as hall:
            hall.echo = False
            heard = await hall.dial()
            mine, other = (heard, hall.accepted[0]) if who == "dialler" else (hall.accepted[0], heard)
            mine.link.send(b"because")
            mine.link.abort()
            assert await asyncio.wait_for(other.frames.get(), 5) == b"because"
            assert (await other.end())[0] in {"closed", "reset"}

    run(inner())


def test_closing_the_listener_ends_its_links_and_frees_the_port():
    """After `close` both sides have heard the end, and nobody answers at the port."""

    async def inner():
        async with Hall() as hall:
            heard = await hall.dial()
            await hall.listener.close()
            await hall.accepted[0].end()
            await heard.end()
            assert (await hall.fails())[0] == "refused"

    run(inner())


def test_a_probe_tells_the_host_key():
    """The key that answers is told, without one of ours being shown; where none answers the dial's reasons hold."""

    async def inner():
        async with Hall() as hall:
            assert await ccs.probe(LOOPBACK, hall.port, 5) == key_text(hall.host)
        with pytest.raises(DialFailed) as caught:
            await ccs.probe(LOOPBACK, closed_port(), 5)
        assert caught.value.reason == "refused"

    run(inner())


# Dials that come to nothing.


def test_a_port_where_nobody_listens_refuses():
    """Refused"""
    assert run(failed(closed_port()))[::2] == ("refused", LOOPBACK)


def test_a_port_that_says_nothing_times_out():
    """timeout, when it was to be and not later"""

    async def inner():
        async with peer(lambda reader, _writer: reader.read()) as port:
            began = time.monotonic()
            reason, detail, _ = await failed(port, timeout_s=0.3)
            assert (reason, detail) == ("timeout", "no answer in time")
            assert time.monotonic() - began < 2

    run(inner())


def test_a_peer_that_resets_is_told_from_one_that_closes():
    """reset; closed"""

    async def resets(reader, writer):
        await reader.read(10)
        reset(writer)

    async def closes(reader, writer):
        await reader.readline()  # what is left unread when it closes would make it a reset
        writer.close()

    async def closes_later(_reader, writer):
        writer.write(b"SSH-2.0-Other\r\n")
        await writer.drain()
        writer.write_eof()
        await asyncio.sleep(0.05)

    async def inner():
        for habit, reason in ((resets, "reset"), (closes, "closed"), (closes_later, "closed")):
            async with peer(habit) as port:
                assert (await failed(port))[0] == reason

    run(inner())


@pytest.mark.parametrize("said", NOISE.values(), ids=NOISE)
def test_what_is_no_ssh_breaks_the_protocol(said):
    """protocol-error: another service, noise, an old version, a version with noise behind it"""

    async def habit(reader, writer):
        writer.write(said)
        await writer.drain()
        await reader.read(100)

    async def inner():
        async with peer(habit) as port:
            assert (await failed(port, timeout_s=5))[0] == "protocol-error"

    run(inner())


def test_noise_from_a_peer_that_then_says_nothing_is_still_noise():
    """protocol-error rather than timeout, as what was heard is the better evidence; the detail is harmless to show"""

    async def habit(reader, writer):
        writer.write(b"220 \x1b[31mmail.example ESMTP\r\n")
        await reader.read()

    async def inner():
        async with peer(habit) as port:
            assert await failed(port, timeout_s=0.3) == ("protocol-error", "not SSH: 220  [31mmail.example ESMTP", LOOPBACK)

    run(inner())


@pytest.mark.parametrize("line", [b"Exceeded MaxStartups\r\n", b"Not allowed at this time\r\n"])
def test_openssh_turns_away_before_its_version(line):
    """connection-limit, with sshd's own words"""

    async def habit(_reader, writer):
        writer.write(line)
        await writer.drain()

    async def inner():
        async with peer(habit) as port:
            assert (await failed(port))[:2] == ("connection-limit", line.decode().strip())

    run(inner())


def test_wrong_keys_on_either_side():
    """host-key-mismatch where another host answers; auth-failed where our key is not known. Nobody is let in."""

    async def inner():
        async with Hall() as hall:
            assert (await hall.fails(host_keys=[key_text(key())]))[0] == "host-key-mismatch"
            assert (await hall.fails(key()))[0] == "auth-failed"
            assert hall.listener.counts["links"] == 0
            assert hall.listener.counts["refused-key"] == 1

    run(inner())


def test_no_known_key_is_no_trust():
    """With no host key known, nobody is trusted: there is no first use, and no file of the user's that would know better."""

    async def inner():
        async with Hall() as hall:
            with pytest.raises(DialFailed) as caught:
                await dial(hall.port, hall.member, [])
            assert caught.value.reason == "host-key-mismatch"

    run(inner())


def test_an_ssh_server_without_the_mesh_is_another_transport():
    """transport-mismatch: it is the right host, it knows our key, and it has no such subsystem"""

    class Server(asyncssh.SSHServer):
        def public_key_auth_supported(self):
            return True

        def validate_public_key(self, *_proof):
            return True

        def session_requested(self):
            return asyncssh.SSHServerSession()

    async def inner():
        host = key()
        acceptor = await asyncssh.listen(LOOPBACK, 0, server_factory=Server, server_host_keys=[host], config=None)
        assert (await failed(acceptor.get_port(), host_keys=[key_text(host)]))[0] == "transport-mismatch"
        acceptor.close()
        await settle()

    run(inner())


def test_names_are_not_dialled():
    """An address is an address: a name would be looked up by the system, behind the resolver's back."""

    async def inner():
        with pytest.raises(ValueError, match="does not appear to be"):
            await ccs.dial("localhost", 22, dial_key=key(), host_keys=[], timeout_s=1, handler=Heard)
        with pytest.raises(ValueError, match="does not appear to be"):
            await ccs.probe("localhost", 22, 1)

    run(inner())


def test_reasons_of_what_loopback_cannot_do():
    """The rest of the table: unreachable hosts, disconnections by code, and what nobody has seen yet."""
    cases = [
        (OSError(113, "No route to host"), "no-route"),
        (OSError(101, "Network is unreachable"), "no-route"),
        (OSError(110, "Connection timed out"), "timeout"),
        (BrokenPipeError(32, "Broken pipe"), "reset"),
        (asyncssh.DisconnectError(2, "Too many authentication failures"), "auth-failed"),
        (asyncssh.DisconnectError(12, "x"), "connection-limit"),
        (asyncssh.DisconnectError(11, "x"), "closed"),
        (asyncssh.DisconnectError(99, "x"), "protocol-error"),
        (asyncssh.ConnectionLost("Login timeout expired"), "timeout"),
        (asyncssh.ChannelOpenError(2, "open failed"), "connection-limit"),
        (RuntimeError("?"), "unknown"),
        (None, "closed"),
    ]
    assert [reason_of(error)[0] for error, _ in cases] == [reason for _, reason in cases]
    assert len(reason_of(OSError(1, "x" * 9000))[1]) == 400


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
