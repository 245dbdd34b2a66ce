"""From sshd to the node: what a member's key opens. It runs for each link, so it starts from the standard library alone.

    python -I -S bridge.py --socket DIR/peer.sock --key SHA256:…

sshd runs it in place of whatever the other side asked for (a forced command), with that in SSH_ORIGINAL_COMMAND: anything but
the subsystem `mesh` is refused. It tells the node in one line which key was proved and from where, then passes bytes both
ways, at most 64 KiB held each way, until either side ends. It understands none of them. Nothing of ours is imported here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import sys
import time
from pathlib import Path

HELD_MAX = 65_536
GREETING = b"MESH1"
UNAVAILABLE = 69
"""The exit code for a node that does not run (sysexits.h EX_UNAVAILABLE)."""
LAST_WORDS_S = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Bridge standard input and output to the node's socket."""
    parser = argparse.ArgumentParser(prog="bridge", description="What a member's key opens: the way from sshd to the node.")
    parser.add_argument("--socket", required=True, metavar="PATH", help="the node's peer.sock")
    parser.add_argument("--key", required=True, metavar="FINGERPRINT", help="of the key that sshd authenticated")
    given = parser.parse_args(arguments)
    if os.environ.get("SSH_ORIGINAL_COMMAND", "").split()[-1:] != ["mesh"]:
        sys.stderr.write("this key opens the mesh and nothing else\n")
        return 1
    client = os.environ.get("SSH_CONNECTION", "").split()
    address = client[0] if client else "-"
    try:
        node = connect(given.socket)
        node.sendall(b" ".join((GREETING, given.key.encode(), address.encode())) + b"\n")
    except OSError as error:
        _say(GREETING + f" no refused the node does not run here ({error.strerror})\n".encode())
        return UNAVAILABLE
    with node, contextlib.suppress(OSError):
        pump(node)
    return 0


def connect(path: str) -> socket.socket:
    """Connect to a socket whose path may be longer than the kernel takes (107 bytes): from within its folder."""
    where = Path(path)
    os.chdir(where.parent)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.connect(where.name)
    except OSError:
        made.close()
        raise
    return made


def _say(text: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(1, text)


def pump(node: socket.socket) -> None:
    """Pass bytes both ways until either side ends; what the node said last is still delivered."""
    far = node.fileno()
    for descriptor in (0, 1, far):
        os.set_blocking(descriptor, False)
    inward, outward = bytearray(), bytearray()
    until: float | None = None
    while until is None or (outward and time.monotonic() < until):
        poll = select.poll()
        _watch(poll, 0, select.POLLIN if until is None and len(inward) < HELD_MAX else 0)
        _watch(poll, 1, select.POLLOUT if outward else 0)
        wanted = select.POLLIN if until is None and len(outward) < HELD_MAX else 0
        _watch(poll, far, wanted | (select.POLLOUT if inward and until is None else 0))
        for descriptor, event in poll.poll(None if until is None else 100):
            if descriptor == 1 and event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                return
            if descriptor == 1:
                del outward[: os.write(1, outward)]
            if descriptor == 0 and not _fill(inward, 0):
                _deliver(node, inward)
                return
            if descriptor == far and event & select.POLLOUT:
                del inward[: node.send(inward)]
            if descriptor == far and event & ~select.POLLOUT and not _fill(outward, far):
                until = time.monotonic() + LAST_WORDS_S


def _watch(poll: select.poll, descriptor: int, events: int) -> None:
    """Watch for these events; for none at all, not even for the end: it would be told again and again."""
    if events or descriptor == 1:
        poll.register(descriptor, events)


def _fill(buffer: bytearray, descriptor: int) -> bool:
    """Read what is there. False at the end."""
    try:
        data = os.read(descriptor, HELD_MAX)
    except BlockingIOError:
        return True
    buffer += data
    return bool(data)


def _deliver(node: socket.socket, rest: bytearray) -> None:
    """Hand the node what came last, as far as it takes it."""
    node.settimeout(1.0)
    with contextlib.suppress(OSError):
        node.sendall(rest)


if __name__ == "__main__":
    sys.exit(main())
