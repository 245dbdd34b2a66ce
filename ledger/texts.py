"""The grain of texts that others check: plain lines, decimal numbers, base64 (C2SP signed-note, RFC 4648 section 4).

Signed notes, checkpoints and proofs are compared and signed byte for byte. So each value has one spelling only: what
is read here spells back to what it was read from, and anything else is refused. Pure: text in, values out.
"""

from __future__ import annotations

import base64
import binascii
import re

from ledger.errors import Refused
from ledger.merkle import HASH_BYTES

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,17})\Z")


def plain(text: str, what: str) -> str:
    """`text` itself, if it is free of control characters but newlines, and UTF-8 can say it. Else raises Refused."""
    if _CONTROL.search(text):
        raise Refused(f"a {what} has no control characters but newlines")
    if _LONE_SURROGATE.search(text):
        raise Refused(f"a {what} is text that UTF-8 can say")
    return text


def is_number(text: str) -> bool:
    """Whether `text` is a size or an index: decimal, no leading zero, at most 18 digits."""
    return _NUMBER.match(text) is not None


def to_base64(data: bytes) -> str:
    """Standard base64 (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str) -> bytes | None:
    """The bytes that standard base64 spells in just this one way, or None."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return data if to_base64(data) == text else None


def hash_from_base64(text: str) -> bytes:
    """The 32 bytes of a hash. Raises Refused."""
    found = from_base64(text)
    if found is None or len(found) != HASH_BYTES:
        raise Refused(f"{text!r} is no SHA-256 hash in base64")
    return found
