"""The node's own listener (`ccs`) before other programs: what OpenSSH's client gets of it, and what ssh-audit says of it.

The listener runs in a process of its own. A member's key is tried, so that what is refused is refused to who may come in.
"""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import program
from wires import LOOPBACK, key

from ledger.node.sshclient import key_text

TESTS = Path(__file__).parents[1]
QUIETLY = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "PYTHONDONTWRITEBYTECODE": "1"}


class Listening:
    """The listener's process, and an `ssh` that is a member. `off`: an edit of the code that the process runs with."""

    def __init__(self, folder, off=None):
        self.folder = folder
        host, member = key(), key()
        for name, private in (("host", host), ("member", member)):
            (folder / name).write_bytes(private.export_private_key("openssh"))
            (folder / name).chmod(0o600)
        command = [sys.executable, TESTS / "ccs_process.py", folder / "host", key_text(member)]
        command += ["--off", json.dumps(off)] if off is not None else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, text=True)
        self.port = int(self.process.stdout.readline())
        (folder / "known").write_text(f"[{LOOPBACK}]:{self.port} {key_text(host)}\n")

    def command(self, *options):
        return [
            program("ssh"), "-F", "none", "-i", self.folder / "member", "-p", str(self.port), "-l", "mesh", "-v",
            "-o", f"UserKnownHostsFile={self.folder}/known", "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes",
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", *options,
        ]  # fmt: skip

    def ssh(self, *options, after=(), given=b"", timeout=20):
        command = [*self.command(*options), LOOPBACK, *after]
        return subprocess.run(command, input=given, capture_output=True, timeout=timeout, check=False)

    def counts(self):
        """End the process: what it counted."""
        out, _ = self.process.communicate("", timeout=20)
        assert self.process.returncode == 0
        return json.loads(out)


@contextlib.contextmanager
def listening(folder, off=None):
    """A listener until the block ends."""
    made = Listening(folder, off)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.communicate("", timeout=20)


@pytest.fixture
def node(tmp_path):
    """A listener for one test."""
    with listening(tmp_path) as made:
        yield made


@contextlib.contextmanager
def target():
    """Somewhere to be forwarded to, on this machine; nobody may arrive."""
    with socket.socket() as waiting:
        waiting.bind((LOOPBACK, 0))
        waiting.listen()
        waiting.settimeout(0.2)
        yield waiting.getsockname()[1]
        with pytest.raises(TimeoutError):
            waiting.accept()


def free():
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        return taken.getsockname()[1]


def test_the_mesh_is_served_to_openssh(node):
    """OpenSSH's client, with a member's key, gets the subsystem `mesh`: frames come back whole."""
    with subprocess.Popen(
        [*node.command("-s"), LOOPBACK, "mesh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as ssh:
        frame = struct.pack(">I", 60_000) + b"x" * 60_000
        ssh.stdin.write(frame)
        ssh.stdin.flush()
        assert ssh.stdout.read(len(frame)) == frame
        ssh.stdin.close()
        ssh.wait(20)
    assert node.counts()["links"] == 1


@pytest.mark.parametrize(
    ("options", "after", "counted"),
    [
        ((), (), "refused-shell"),
        ((), ("id",), "refused-exec"),
        (("-tt",), (), "refused-pty"),
        (("-s",), ("sftp",), "refused-subsystem"),
        (("-s",), ("mesh2",), "refused-subsystem"),
    ],
    ids=["shell", "exec", "pty", "sftp", "subsystem"],
)
def test_sessions_of_other_kinds_are_refused(node, options, after, counted):
    """No shell, no command, no terminal, no SFTP, no other subsystem: refused, counted, nothing printed."""
    done = node.ssh(*options, after=after, given=b"id\nexit\n")
    assert done.returncode != 0
    assert done.stdout == b""
    counts = node.counts()
    assert counts[counted] >= 1
    assert counts.get("links", 0) == 0


def test_an_environment_is_refused(node):
    """What a client would set in the environment is refused and kept nowhere; the mesh is served all the same."""
    done = node.ssh("-o", "SetEnv=LD_PRELOAD=/tmp/x PROOF=1", "-s", after=("mesh",))
    assert done.stdout == b""
    counts = node.counts()
    assert counts["refused-env"] == 2
    assert counts["links"] == 1


def test_local_forwards_lead_nowhere(node):
    """`-W` to an address: administratively prohibited, counted; nobody arrives at the target."""
    with target() as port:
        done = node.ssh("-W", f"{LOOPBACK}:{port}")
        assert done.returncode != 0
        assert b"open failed" in done.stderr
    assert node.counts()["refused-forward"] == 1


@pytest.mark.parametrize("kind", ["-L", "-D"])
def test_listening_forwards_lead_nowhere(node, kind):
    """`-L` and `-D` listen at the client's; who connects there gets nothing, and nobody arrives at the target."""
    here = free()
    with target() as port:
        to = f"{here}:{LOOPBACK}:{port}" if kind == "-L" else str(here)
        with subprocess.Popen(
            [*node.command("-N", kind, to), LOOPBACK], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as ssh:
            deadline = time.monotonic() + 10
            while True:
                with contextlib.suppress(ConnectionRefusedError), socket.create_connection((LOOPBACK, here), 5) as through:
                    if kind == "-D":
                        through.sendall(b"\x05\x01\x00")
                        assert through.recv(2) == b"\x05\x00"
                        through.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + struct.pack(">H", port))
                        assert through.recv(100)[1:2] != b"\x00"
                    else:
                        through.sendall(b"anybody?")
                        with contextlib.suppress(ConnectionResetError):
                            assert through.recv(100) == b""
                    break
                assert time.monotonic() < deadline
                time.sleep(0.05)
            ssh.kill()
            ssh.stdout.close()
    assert node.counts()["refused-forward"] == 1


def test_remote_forwards_are_refused(node, tmp_path):
    """`-R` of a port and of a Unix socket: refused, and nothing listens."""
    with target() as port:
        for listen in (f"0:{LOOPBACK}:{port}", f"{tmp_path}/remote.sock:{LOOPBACK}:{port}"):
            done = node.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", listen)
            assert done.returncode != 0
            assert b"forwarding" in done.stderr
    assert not (tmp_path / "remote.sock").exists()
    assert node.counts()["refused-forward"] == 2


def test_unix_sockets_lead_nowhere(node, tmp_path):
    """A local socket forwarded to a socket at the node's: who connects gets nothing."""
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(tmp_path / "there.sock"))
        there.listen()
        there.settimeout(0.2)
        to = f"{tmp_path}/here.sock:{tmp_path}/there.sock"
        with subprocess.Popen(
            [*node.command("-N", "-L", to), LOOPBACK], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as ssh:
            deadline = time.monotonic() + 10
            while not (tmp_path / "here.sock").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            with socket.socket(socket.AF_UNIX) as through:
                through.settimeout(10)
                through.connect(str(tmp_path / "here.sock"))
                with contextlib.suppress(ConnectionResetError):
                    assert through.recv(100) == b""
            ssh.kill()
            ssh.stdout.close()
        with pytest.raises(TimeoutError):
            there.accept()
    assert node.counts()["refused-forward"] == 1


def test_agent_and_x11_are_refused(node, tmp_path):
    """Forwarding of an agent and of a display is asked for by OpenSSH beside the mesh, and refused: no socket appears."""
    agent = subprocess.Popen([program("ssh-agent"), "-D", "-a", tmp_path / "agent.sock"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not (tmp_path / "agent.sock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent.sock"), "DISPLAY": ":77"}
        command = [*node.command("-A", "-X", "-o", "ForwardX11Trusted=yes", "-s"), LOOPBACK, "mesh"]
        done = subprocess.run(command, input=b"", capture_output=True, env=environment, timeout=20, check=False)
    finally:
        agent.terminate()
        agent.wait(10)
    assert b"Requesting X11 forwarding" in done.stderr
    assert b"Requesting authentication agent forwarding" in done.stderr
    counts = node.counts()
    assert (counts["refused-agent"], counts["refused-x11"], counts["links"]) == (1, 1, 1)


@pytest.mark.parametrize("mode", ["point-to-point", "ethernet"])
def test_tunnels_are_refused(node, mode):
    """Layer 2 and layer 3 tunnels: refused. Where the client itself may open no device, it says so before it asks."""
    done = node.ssh("-N", "-o", f"Tunnel={mode}", "-w", "any:any", "-o", "ExitOnForwardFailure=yes", timeout=20)
    assert done.returncode != 0
    said = done.stderr.decode()
    counts = node.counts()
    assert counts.get("refused-forward", 0) == 1 or "Could not request tunnel forwarding" in said or "tunnel device" in said


def test_a_key_that_is_no_members_gets_nothing(node):
    """Public keys only: no password, no keyboard, and nothing for a stranger."""
    stranger = key()
    (node.folder / "member").write_bytes(stranger.export_private_key("openssh"))
    done = node.ssh("-s", after=("mesh",))
    assert b"Permission denied (publickey)" in done.stderr
    assert node.counts()["refused-key"] == 1


WEAK = [
    "Ciphers=aes128-cbc",
    "Ciphers=chacha20-poly1305@openssh.com",
    "KexAlgorithms=diffie-hellman-group14-sha1",
    "HostKeyAlgorithms=ssh-rsa",
]


@pytest.mark.parametrize("option", WEAK)
def test_weak_algorithms_are_not_spoken(node, option):
    """A client that offers only what is old, or what needs strict key exchange, finds no common algorithm."""
    done = node.ssh("-o", option, "-s", after=("mesh",))
    assert b"no matching" in done.stderr


YOUNGER = {"mlkem768x25519-sha256", "kex-strict-s-v00@openssh.com"}
"""What an older ssh-audit has not heard of: a key exchange safe from quantum computers, and the mark of strict key exchange."""


def test_ssh_audit_finds_nothing_to_warn_of(node):
    """ssh-audit, which knows the weaknesses of SSH servers, has neither a failure nor a warning; but that an older one
    does not know what is younger than it is.
    """
    command = [program("ssh-audit"), "-n", "-p", str(node.port), LOOPBACK]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    found = [line for line in said.splitlines() if "[fail]" in line or "[warn]" in line]
    unknown = [line for line in found if line.endswith("[warn] unknown algorithm") and line.split()[1] in YOUNGER]
    assert found == unknown
    assert "curve25519-sha256" in said
    assert "aes256-gcm@openssh.com" in said
