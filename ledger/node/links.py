"""An open channel between two nodes, whatever carries it: what the daemon sees of it, and how it ends.

A transport (`ccs`, `openssh`) dials and listens, and gives a `Link` for each channel that stands. The daemon gives a
`Handler` for it: callbacks, no task per message. What every transport does alike is here: bytes become frames, a frame
that stops half-way times out, a peer that breaks the protocol is dropped, one that takes nothing is dropped before it
fills the memory, and the end is told exactly once, with a reason.

`abort` never waits: a graceful close of a link to a silent peer would wait for that peer. Nothing here knows what a frame
means. Effects: the event loop's timers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Literal, Protocol

import msgspec

from ledger.events import Reason
from ledger.node.frames import Frames, framed

PARTIAL_S: Final = 15.0
"""How long a frame may take from its first byte to its last."""
BACKLOG_MAX: Final = 8 * 1024 * 1024
"""Bytes that a link holds for a peer that does not take them; then it is dropped."""

Standing = Literal["member", "stranger", "guest"]
"""How a key stands with the node: named by membership, not yet known, or let in by an open invitation."""
Side = Literal["dialled", "accepted"]


class Link(Protocol):
    """An open mesh channel. `key`: the public key that the far side proved, `ssh-ed25519 AAAA…`: its dial key if we
    accepted, its host key if we dialled. `address`: the far address as text.
    """

    key: str
    side: Side
    address: str

    def send(self, frame: bytes) -> None:
        """Send one message, without its length. Never blocks, raises nothing for what the peer or the wire does."""

    def abort(self) -> None:
        """End at once. Never waits for the peer."""

    def backlog(self) -> int:
        """Bytes that are not yet handed to the kernel."""

    def pause(self) -> None:
        """Take nothing more from the peer until `resume`."""

    def resume(self) -> None:
        """Take from the peer again."""


class Handler(Protocol):
    """What the daemon gives for a link."""

    def received(self, frame: bytes) -> None:
        """A message came."""

    def closed(self, reason: Reason, detail: str) -> None:
        """The link is gone. Called once, and last."""


class DialFailed(Exception):
    """A dial that came to nothing: why, in the log's words, and the verbatim error."""

    def __init__(self, reason: Reason, detail: str, address: str | None = None) -> None:
        super().__init__(f"{address}: {reason} ({detail})" if address else f"{reason} ({detail})")
        self.reason: Reason = reason
        self.detail = detail
        self.address = address


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a listener takes at once. `connections`: in all; `unauthenticated`: that have proved no key yet; `strangers`:
    proved keys that are no members'; `per_key`: of one key (a replacement and two that cross are three). What is left of
    `connections` is the members'. `login_s`: from the first byte to the open mesh channel.
    """

    connections: int = 256
    unauthenticated: int = 64
    strangers: int = 8
    per_key: int = 4
    login_s: float = 10.0


class Carrier(Protocol):
    """The side of a transport that a link writes to."""

    def write(self, data: bytes) -> None:
        """Hand bytes on; never blocks. May raise OSError once the channel is gone."""

    def abort(self) -> None:
        """End at once; the transport reports the end through `MeshLink.lost`."""

    def backlog(self) -> int:
        """Bytes not yet handed to the kernel."""

    def pause(self, *, reading: bool) -> None:
        """Stop, or go on, taking from the peer."""


class MeshLink:
    """A `Link` over a carrier. The transport feeds it with `arrived` and ends it with `lost`."""

    def __init__(self, carrier: Carrier, key: str, side: Side, address: str) -> None:
        self.key = key
        self.side: Side = side
        self.address = address
        self._carrier = carrier
        self._frames = Frames()
        self._handler: Handler | None = None
        self._early: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ended: tuple[Reason, str] | None = None
        self._over = False

    # What the daemon does.

    def send(self, frame: bytes) -> None:
        """Send one message. A caller's mistake (empty, too long) raises BadFrame; nothing else raises."""
        data = framed(frame)
        if self._ended or self._over:
            return
        try:
            self._carrier.write(data)
        except OSError as error:
            self._end("closed", str(error))
            return
        if self._carrier.backlog() > BACKLOG_MAX:
            self._end("timeout", f"the peer takes nothing: {BACKLOG_MAX} bytes wait for it")

    def abort(self) -> None:
        """End at once. `closed` follows, as for any end, in a later turn of the loop."""
        self._end("closed", "ended by this side")

    def backlog(self) -> int:
        """Bytes that are not yet handed to the kernel."""
        return 0 if self._over else self._carrier.backlog()

    def pause(self) -> None:
        """Take nothing more from the peer until `resume`."""
        if not self._over:
            self._carrier.pause(reading=False)

    def resume(self) -> None:
        """Take from the peer again."""
        if not self._over:
            self._carrier.pause(reading=True)

    # What the transport does.

    def start(self, handler: Handler) -> None:
        """The link stands: from here on the handler hears. What came before is given to it first."""
        self._handler = handler
        early, self._early = self._early, []
        for data in early:
            self.arrived(data)

    def arrived(self, data: bytes) -> None:
        """Bytes came from the peer."""
        if self._ended or self._over:
            return
        if self._handler is None:
            self._early.append(data)
            return
        whole, bad = self._frames.take(data)
        if self._timer is not None and (whole or bad):
            self._timer.cancel()
            self._timer = None
        for frame in whole:
            if self._ended:
                return
            self._handler.received(frame)
        if bad is not None:
            self._end("protocol-error", str(bad))
        elif self._frames.partial and self._timer is None and not self._ended:
            self._timer = asyncio.get_running_loop().call_later(PARTIAL_S, self._stuck)

    def broken(self, detail: str) -> None:
        """The peer did what this protocol does not have."""
        self._end("protocol-error", detail)

    def lost(self, reason: Reason, detail: str) -> None:
        """The channel is gone. Told to the handler once; if this side ended it, with this side's reason."""
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._carrier.abort()  # a channel that closed alone takes its connection along
        if self._handler is not None:
            self._handler.closed(*(self._ended or (reason, detail)))

    def _stuck(self) -> None:
        self._timer = None
        self._end("protocol-error", f"a frame was not whole after {PARTIAL_S:g} s")

    def _end(self, reason: Reason, detail: str) -> None:
        if self._ended or self._over:
            return
        self._ended = reason, detail
        self._carrier.abort()


Listening = Callable[[Link], Handler]
"""What the daemon gives to a transport: called for each link that stands."""
