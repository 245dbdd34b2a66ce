"""The node's own listener and who dials it, over real sockets: frames both ways, each end and each refusal with its reason."""

import asyncio
import time

import asyncssh
import pytest
from wires import LOOPBACK, Hall, Heard, closed_port, dial, key, peer, reset, run, settle

from ledger.node import ccs
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
