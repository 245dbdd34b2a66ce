"""Words to systemd: ready, still well, stopping (sd_notify(3), the protocol of `Type=notify`).

A datagram to the socket named in NOTIFY_SOCKET; nothing at all where it is not set, so that the node runs anywhere. The
watchdog is fed by the loop that persists entries, never by a timer of its own: what it says is that the record is written.
Effects: the environment, that socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Notify:
    """Whom to tell. `interval_s`: how often the watchdog wants to hear (half of its patience), None if it does not."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        said = os.environ if environment is None else environment
        self._address = said.get("NOTIFY_SOCKET", "")
        patience = said.get("WATCHDOG_USEC", "")
        meant = said.get("WATCHDOG_PID") in {None, "", str(os.getpid())}
        self.interval_s = int(patience) / 2_000_000 if self._address and meant and patience.isdigit() and int(patience) else None

    def ready(self, status: str) -> None:
        """The node accepts and dials: what depends on it may start."""
        self._tell(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._tell(f"STATUS={_line(status)}")

    def well(self) -> None:
        """The watchdog's bone."""
        if self.interval_s is not None:
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """The node ends in order."""
        self._tell("STOPPING=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there, contextlib.suppress(OSError):
            there.sendto(text.encode(), address)


def _line(text: str) -> str:
    return text.replace("\n", " ")
