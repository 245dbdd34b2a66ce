"""Other people's servers, run by tests on loopback: own directories, own configuration, ports that were free.

Nothing of the machine's own configuration is read or changed, and each process is ended by whoever started it.
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

LOOPBACK = "127.0.0.1"
SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
ACCOUNT = getpass.getuser()


def program(name):
    """The path of a program that a test cannot do without; else the test is skipped."""
    found = shutil.which(name, path=SBIN)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def sshd_program():
    """The path of sshd. Run by root it refuses without /run/sshd, where it locks its child in: the service's start makes
    it, which a fresh machine may not have seen; so it is made here.
    """
    found = program("sshd")
    if os.getuid() == 0:
        try:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            pytest.skip(f"/run/sshd, which sshd needs, is missing: {error.strerror}")
    return found


def free_port(kind=socket.SOCK_STREAM):
    """A port that was free just now."""
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind((LOOPBACK, 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def running(command, ready, log):
    """A process until the block ends. `ready(process)` is asked until it is true; its output goes to `log`."""
    with log.open("wb") as out, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process:
        try:
            until = time.monotonic() + 20
            while not ready(process):
                if process.poll() is not None or time.monotonic() > until:
                    raise Unstarted(log.read_text(errors="replace"))
                time.sleep(0.01)
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()


class Unstarted(Exception):
    """A server ended before it was ready; it says why."""


def answers_tcp(port):
    """Whether somebody listens there."""

    def ready(_process):
        with socket.socket() as asking:
            asking.settimeout(1)
            return asking.connect_ex((LOOPBACK, port)) == 0

    return ready


@contextlib.contextmanager
def sshd(folder: Path, lines: str, *, more=""):
    """A real sshd for the account that runs the tests, with `lines` (what the node's `sshd-config` prints) at the end of its
    configuration. Gives its port; its host key is `folder/sshd_host_key`, its log `folder/sshd.log`, its process's number in
    `folder/sshd.pid`.
    """
    server, keygen = sshd_program(), program("ssh-keygen")
    folder.mkdir(parents=True, exist_ok=True)
    host = folder / "sshd_host_key"
    if not host.exists():
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", host], check=True)
    for attempt in range(5):
        port = free_port()
        config = folder / "sshd_config"
        config.write_text(
            f"Port {port}\nListenAddress {LOOPBACK}\nHostKey {host}\nPidFile {folder / 'sshd.pid'}\nUsePAM no\nLogLevel VERBOSE\n"
            # The folders above a test's are writable for others: what StrictModes refuses has nothing to do with us.
            f"StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n{more}\n{lines}"
        )
        try:
            with running([server, "-D", "-e", "-f", config], answers_tcp(port), folder / "sshd.log"):
                yield port
                return
        except Unstarted as why:
            if "Address already in use" not in str(why) or attempt == 4:
                raise
