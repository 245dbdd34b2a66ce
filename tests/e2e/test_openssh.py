"""The transport `ssh` through real OpenSSH servers, on loopback, with the configuration that the node prints.

Each node has an sshd of its own; who dials is this process, who answers is sshd's child, the bridge, and at its socket this
process again. What a member's key opens is tried with the real `ssh` client.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from servers import ACCOUNT, program, sshd
from wires import LOOPBACK, Heard, key, reset, settle

from ledger.node import openssh
from ledger.node.frames import FRAME_MAX
from ledger.node.links import DialFailed, Limits
from ledger.node.sshclient import key_text
from ledger.node.sshd import sshd_lines


class Node:
    """A node's end at its sshd: socket, key file, and whom it lets in."""

    def __init__(self, folder, **limits):
        self.folder = folder
        folder.mkdir()
        self.dial_key = key()
        self.limits = Limits(**limits)
        self.standing = {}
        self.accepted = []
        self.dialled = []
        self.port = None
        self.acceptor = None
        self.command = None

    @property
    def lines(self):
        return sshd_lines(ACCOUNT, str(self.folder / "authorized_keys"))

    @property
    def host_key(self):
        return " ".join((self.folder / "sshd_host_key.pub").read_text().split()[:2])

    async def open(self):
        self.acceptor = await openssh.listen(
            self.folder / "peer.sock",
            keys_file=self.folder / "authorized_keys",
            allow=lambda text, _address: self.standing.get(text),
            handler=self.accept,
            limits=self.limits,
            command=self.command,
        )

    async def close(self):
        for heard in self.dialled:
            heard.link.abort()
        if self.acceptor is not None:
            await self.acceptor.close()

    def accept(self, link):
        self.accepted.append(Heard(link, echo=True))
        return self.accepted[-1]

    def admit(self, *nodes, standing="member"):
        for node in nodes:
            self.standing[key_text(node.dial_key)] = standing
        self.acceptor.admit([(each, "bravo") for each in self.standing])

    async def dial(self, other, account=ACCOUNT):
        def handler(link):
            self.dialled.append(Heard(link))
            return self.dialled[-1]

        await openssh.dial(
            LOOPBACK,
            other.port,
            account=account,
            dial_key=self.dial_key,
            host_keys=[other.host_key],
            timeout_s=20,
            handler=handler,
        )
        return self.dialled[-1]

    async def tries(self, other):
        """The reason of a dial that came to nothing; None if it stands."""
        try:
            await self.dial(other)
        except DialFailed as failed:
            return failed.reason
        return None

    async def fails(self, other, account=ACCOUNT):
        with pytest.raises(DialFailed) as caught:
            await self.dial(other, account)
        return caught.value.reason, caught.value.detail


@contextlib.asynccontextmanager
async def nodes(folder, *, more="", count=1, **limits):
    """`count` nodes with an sshd each, and one more that only dials."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for n in range(count):
            node = Node(folder / f"node{n}", **limits)
            node.port = stack.enter_context(sshd(node.folder, node.lines, more=more))
            await node.open()
            stack.push_async_callback(node.close)
            made.append(node)
        dialler = Node(folder / "dialler")
        stack.push_async_callback(dialler.close)
        yield [*made, dialler]
    await settle()


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 90))


def test_links_both_ways_through_two_servers(tmp_path):
    """Two nodes, each behind an sshd of its own, dial each other: each end has the key that the other proved (our host key is
    sshd's), and frames of every size arrive whole and in order.
    """

    async def inner():
        async with nodes(tmp_path, count=2) as (alpha, bravo, _):
            alpha.admit(bravo)
            bravo.admit(alpha)
            for near, far in ((alpha, bravo), (bravo, alpha)):
                heard = await near.dial(far)
                other = far.accepted[0].link
                assert (heard.link.key, heard.link.side, heard.link.address) == (far.host_key, "dialled", LOOPBACK)
                assert (other.key, other.side, other.address) == (key_text(near.dial_key), "accepted", LOOPBACK)
                sent = [b"x", bytes(FRAME_MAX), *(bytes([n]) * 30_000 for n in range(30))]
                for frame in sent:
                    heard.link.send(frame)
                assert [await heard.frames.get() for _ in sent] == sent
                heard.link.abort()
                assert (await far.accepted[0].end())[0] == "closed"
            assert await openssh.probe(LOOPBACK, alpha.port, 5) == alpha.host_key

    run(inner())


def test_a_removed_machine_is_out_at_once(tmp_path):
    """A key that is gone from membership: its link is cut, sshd refuses it from then on, another member is not touched."""

    async def inner():
        async with nodes(tmp_path) as (alpha, bravo):
            charlie = Node(tmp_path / "charlie")
            assert (await bravo.fails(alpha))[0] == "auth-failed"
            alpha.admit(bravo, charlie)
            gone, stays = await bravo.dial(alpha), await charlie.dial(alpha)
            del alpha.standing[key_text(bravo.dial_key)]
            alpha.admit()
            assert (await gone.end())[0] == "closed"
            assert (await bravo.fails(alpha))[0] == "auth-failed"
            stays.link.send(b"here")
            assert await stays.frames.get() == b"here"
            await charlie.close()

    run(inner())


def test_a_key_that_is_judged_and_found_wanting_is_told_why(tmp_path):
    """A line may still stand for a key that may no longer in (a used invitation): the node refuses it, in its own words."""

    async def inner():
        async with nodes(tmp_path) as (alpha, bravo):
            alpha.admit(bravo)
            alpha.standing.clear()
            assert (await bravo.fails(alpha))[0] == "not-a-member"
            assert alpha.acceptor.counts["refused-key"] == 1

    run(inner())


def test_limits_of_the_node_reach_the_dialler(tmp_path):
    """Strangers above their slots, and one key with too many connections, are told `connection-limit`."""

    async def inner():
        async with nodes(tmp_path, strangers=1, per_key=2) as (alpha, bravo):
            alpha.admit(bravo, standing="stranger")
            first = await bravo.dial(alpha)
            assert await bravo.fails(alpha) == ("connection-limit", "too many connections")
            alpha.admit(bravo)
            await bravo.dial(alpha)
            assert (await bravo.fails(alpha))[0] == "connection-limit"
            first.link.abort()
            await alpha.accepted[0].end()
            await settle()
            await bravo.dial(alpha)

    run(inner())


def test_a_node_that_does_not_run_is_told_from_a_host_that_does_not(tmp_path):
    """Sshd answers, the node behind it does not: refused, with the bridge's words; then the node runs, and the dial stands."""

    async def inner():
        async with nodes(tmp_path) as (alpha, bravo):
            alpha.admit(bravo)
            await alpha.acceptor.close()
            reason, detail = await bravo.fails(alpha)
            assert reason == "refused"
            assert "the node does not run here" in detail
            await alpha.open()
            assert await bravo.fails(alpha) == ("refused", "the node is starting")
            alpha.admit(bravo)
            await bravo.dial(alpha)

    run(inner())


def test_a_line_that_opens_something_else_is_another_transport(tmp_path):
    """What answers in place of a bridge is quoted: transport-mismatch. An account that is not the node's: auth-failed."""

    async def inner():
        async with nodes(tmp_path) as (alpha, bravo):
            await alpha.acceptor.close()
            alpha.command = ["/bin/echo", "welcome"]
            await alpha.open()
            alpha.admit(bravo)
            reason, detail = await bravo.fails(alpha)
            assert (reason, detail) == (
                "transport-mismatch",
                f"what answers is no bridge: welcome --key {next(iter(alpha.acceptor.keys))}",
            )
            assert (await bravo.fails(alpha, account="nobody"))[0] == "auth-failed"

    run(inner())


def test_maxstartups_reached(tmp_path):
    """Sshd takes one connection that has not logged in: the next dial is a `connection-limit` in sshd's words; it stands as soon
    as the slot is free, with nobody's help.
    """

    async def inner():
        async with nodes(tmp_path, more="MaxStartups 1:100:1") as (alpha, bravo):
            alpha.admit(bravo)
            line = b""
            while not line.startswith(b"SSH-2.0-"):  # until the test's own question whether sshd listens is forgotten
                reader, holder = await asyncio.open_connection(LOOPBACK, alpha.port)
                line = await reader.readline()
                if not line.startswith(b"SSH-2.0-"):
                    holder.transport.abort()
            assert await bravo.fails(alpha) == ("connection-limit", "Exceeded MaxStartups")
            reset(holder)
            for _ in range(100):
                again = await bravo.tries(alpha)
                if again is None:
                    return
                assert again == "connection-limit"
                await asyncio.sleep(0.1)
            pytest.fail("the slot was not free after 10 s")

    run(inner())


def test_maxsessions_reached(tmp_path):
    """An sshd that opens no session for who has logged in: connection-limit."""

    async def inner():
        async with nodes(tmp_path, more="MaxSessions 0") as (alpha, bravo):
            alpha.admit(bravo)
            assert (await bravo.fails(alpha))[0] == "connection-limit"

    run(inner())


def test_no_subsystem_is_another_transport(tmp_path):
    """An sshd whose configuration lacks the Subsystem line: transport-mismatch."""

    async def inner():
        node = Node(tmp_path / "alpha")
        lines = "\n".join(line for line in node.lines.splitlines() if not line.startswith("Subsystem"))
        bravo = Node(tmp_path / "bravo")
        with sshd(node.folder, lines) as node.port:
            await node.open()
            node.admit(bravo)
            assert (await bravo.fails(node))[0] == "transport-mismatch"
            await node.acceptor.close()
        await settle()

    run(inner())


def _bridges_of(port):
    """The bridge processes that this sshd's children run for."""
    found = []
    for each in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            said = (each / "environ").read_bytes().split(b"\0")
            if any(one.startswith(b"SSH_CONNECTION=") and one.endswith(b" %d" % port) for one in said):
                words = (each / "cmdline").read_bytes().split(b"\0")
                if any(word.endswith(b"/bridge.py") for word in words) and words[0] and b"python" in words[0]:
                    found.append(int(each.name))
    return found


def test_a_killed_bridge_ends_the_link_on_both_sides(tmp_path):
    """SIGKILL to the process between sshd and node: both ends hear of it at once."""

    async def inner():
        async with nodes(tmp_path) as (alpha, bravo):
            alpha.admit(bravo)
            heard = await bravo.dial(alpha)
            (bridge,) = _bridges_of(alpha.port)
            began = time.monotonic()
            os.kill(bridge, signal.SIGKILL)
            await heard.end()
            await alpha.accepted[0].end()
            assert time.monotonic() - began < 2

    run(inner())


def test_a_frozen_bridge_is_not_waited_for(tmp_path):
    """SIGSTOP to the bridge: what is sent waits (`backlog`), `abort` on either side returns at once and ends that side."""

    async def inner():
        async with nodes(tmp_path) as (alpha, bravo):
            alpha.admit(bravo)
            heard = await bravo.dial(alpha)
            (bridge,) = _bridges_of(alpha.port)
            os.kill(bridge, signal.SIGSTOP)
            try:
                for _ in range(60):
                    heard.link.send(bytes(FRAME_MAX))
                    alpha.accepted[0].link.send(bytes(FRAME_MAX))
                await asyncio.sleep(0.2)
                assert heard.link.backlog() > 0
                assert alpha.accepted[0].link.backlog() > 0
                began = time.monotonic()
                heard.link.abort()
                alpha.accepted[0].link.abort()
                assert await heard.end(2) == ("closed", "ended by this side")
                assert await alpha.accepted[0].end(2) == ("closed", "ended by this side")
                assert time.monotonic() - began < 1
            finally:
                os.kill(bridge, signal.SIGCONT)

    run(inner())


def test_a_bridge_of_nobody_gets_nothing(tmp_path):
    """At the socket itself: a line that is none, one too long, silence, and a fingerprint that sshd never saw are turned away."""

    async def inner():
        node = Node(tmp_path / "alpha", login_s=0.3)
        await node.open()
        node.admit()
        path = node.folder / "peer.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        assert (node.folder / "authorized_keys").stat().st_mode & 0o777 == 0o600
        for said in (b"hello\n", b"x" * 600, b"", b"MESH1 SHA256:none 127.0.0.1\n"):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(said)
            heard = await asyncio.wait_for(reader.read(), 5)
            assert heard == (b"MESH1 no not-a-member this key is not known here, or no more\n" if said[:4] == b"MESH" else b"")
            writer.transport.abort()
        counts = node.acceptor.counts
        assert (counts["refused-line"], counts["dropped-login-timeout"], counts["refused-key"]) == (2, 1, 1)
        assert not node.acceptor.bridges
        assert not node.accepted
        await node.acceptor.close()
        assert not path.exists()
        await settle()

    run(inner())


def test_a_socket_in_a_deep_folder(tmp_path):
    """A node's directory may be deeper than a socket's path may be long; the bridge finds it all the same."""
    deep = tmp_path / "d" / ("e" * 90) / ("f" * 90)
    deep.parent.mkdir(parents=True)

    async def inner():
        node = Node(deep)
        await node.open()
        bravo = Node(tmp_path / "bravo")
        node.admit(bravo)
        mark = next(iter(node.acceptor.keys))
        bridge = await asyncio.create_subprocess_exec(
            *openssh.bridge_command(deep / "peer.sock"), "--key", mark,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={"SSH_ORIGINAL_COMMAND": "/bin/false mesh", "SSH_CONNECTION": "192.0.2.7 1 192.0.2.8 22"},
        )  # fmt: skip
        assert await bridge.stdout.readline() == b"MESH1 ok\n"
        assert node.accepted[0].link.address == "192.0.2.7"
        bridge.stdin.write(b"\0\0\0\x03abc")
        assert await bridge.stdout.readexactly(7) == b"\0\0\0\x03abc"
        node.accepted[0].link.abort()
        assert await bridge.wait() == 0
        await node.acceptor.close()
        bridge._transport.close()
        await settle()

    run(inner())


# What a member's key opens, tried with the real client.


@pytest.fixture(scope="module")
def alpha(tmp_path_factory):
    """A node behind an sshd, with one member; and how to call `ssh` as that member."""
    program("ssh")
    folder = tmp_path_factory.mktemp("keys")
    node, member = Node(folder / "alpha"), Node(folder / "member")
    (folder / "id").write_bytes(member.dial_key.export_private_key("openssh"))
    (folder / "id").chmod(0o600)

    async def prepare():
        await node.open()
        node.admit(member)
        node.acceptor._server.close()

    asyncio.run(prepare())  # the key file stands; no node runs behind it
    with sshd(node.folder, node.lines, more=f"Subsystem sftp internal-sftp\nSetEnv PROOF={folder}") as port:
        (folder / "known").write_text(f"[{LOOPBACK}]:{port} {node.host_key}\n")
        base = [
            program("ssh"), "-F", "none", "-i", folder / "id", "-p", str(port), "-o", f"UserKnownHostsFile={folder}/known",
            "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes",
            "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=10",
        ]  # fmt: skip
        yield lambda *options, more=(), given=b"": subprocess.run(
            [*base, *more, f"{ACCOUNT}@{LOOPBACK}", *options], input=given, capture_output=True, timeout=30, check=False
        )


@pytest.mark.parametrize(
    ("options", "more", "said"),
    [
        ((), (), "opens the mesh and nothing else"),
        (("id",), (), "opens the mesh and nothing else"),
        (("sh", "-c", "id"), (), "opens the mesh and nothing else"),
        (("cat", "/etc/passwd", ";", "echo", "meshed"), (), "opens the mesh and nothing else"),
        ((), ("-tt",), "PTY allocation request failed"),
        (("-s", "sftp"), (), ""),
        (("-s", "none"), (), "subsystem request failed"),
    ],
    ids=["shell", "command", "sh", "near-miss", "terminal", "sftp", "subsystem"],
)
def test_a_members_key_opens_no_shell(alpha, options, more, said):
    """Shell, command, terminal and SFTP all end in the bridge, which ends them, or before it; nothing of it is run."""
    done = alpha(*options, more=more, given=b"id\nexit\n")
    assert done.returncode != 0
    assert done.stdout == b""
    assert said in done.stderr.decode()


def test_a_members_key_forwards_nothing(alpha):
    """No way through: a local forward's channel (`-W`), remote ports and sockets, and none is opened by `-R`."""
    with socket.socket() as target:
        target.bind((LOOPBACK, 0))
        target.listen()
        target.settimeout(0.2)
        inner = f"{LOOPBACK}:{target.getsockname()[1]}"
        through = alpha(more=("-W", inner))
        assert b"prohibited" in through.stderr
        remote = alpha("mesh", more=("-N", "-R", f"0:{inner}"))
        assert b"remote port forwarding failed" in remote.stderr
        with pytest.raises(TimeoutError):
            target.accept()


def test_the_bridge_is_what_the_key_opens(alpha):
    """The subsystem `mesh`, and it alone, leads to the bridge; which finds no node here, and says so."""
    done = alpha("-s", "mesh")
    assert done.stdout.startswith(b"MESH1 no refused the node does not run here")
    assert done.returncode == 69
