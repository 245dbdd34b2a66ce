"""Messages on a stream of bytes: four bytes of length, most significant first, then as many bytes.

A frame holds 1 to 65,536 bytes. The length is judged as soon as its four bytes are there, before anything is kept for it:
whoever announces more has broken the protocol, and nothing of it is buffered. What a stream holds between two calls is
never more than one frame that is not whole yet. Pure: bytes in, bytes out.
"""

from __future__ import annotations

from typing import Final

FRAME_MAX: Final = 65_536
PREFIX: Final = 4


class BadFrame(ValueError):
    """The other side announced a frame that there cannot be. The stream has no meaning from there on."""


def framed(body: bytes) -> bytes:
    """A message with its length before it. Raises BadFrame if it is empty or too long to be one."""
    _judge(len(body))
    return len(body).to_bytes(PREFIX, "big") + body


def _judge(length: int) -> None:
    if not 1 <= length <= FRAME_MAX:
        raise BadFrame(f"a frame of {length} bytes; there are frames of 1 to {FRAME_MAX}")


class Frames:
    """The reading side of a stream."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._broken = False

    @property
    def partial(self) -> bool:
        """Whether a frame has begun that is not whole."""
        return bool(self._held)

    def take(self, data: bytes) -> tuple[list[bytes], BadFrame | None]:
        """The frames that are whole now, in order, and what broke the stream, if it is broken: nothing is taken after that."""
        whole: list[bytes] = []
        if self._broken:
            return whole, BadFrame("the stream is broken")
        held = self._held
        held += data
        at = 0
        while len(held) - at >= PREFIX:
            length = int.from_bytes(held[at : at + PREFIX], "big")
            try:
                _judge(length)
            except BadFrame as bad:
                self._broken = True
                held.clear()
                return whole, bad
            if len(held) - at < PREFIX + length:
                break
            at += PREFIX
            whole.append(bytes(held[at : at + length]))
            at += length
        del held[:at]
        return whole, None
