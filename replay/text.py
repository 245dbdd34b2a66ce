r"""Hostile text made harmless: what a guest reads never moves the cursor, turns the line round or hides.

Host names, SSH errors and notes come from outside and are recorded as they came. Here is where they are made fit to be
shown: control characters, the controls of writing direction, characters without width, line and paragraph separators,
lone surrogates and non-characters become escapes (`\x1b`, `\u202e`); all other Unicode stays as it is. The list is
written out, so that every version of Python shows the same text; a test holds it against the Unicode database.

What is shown is for eyes, and not reversible: a back-slash that was there stays one. No I/O, no import of another room.
"""

from __future__ import annotations

import re
from typing import Final

# Cc, Cf, Cs, Zl, Zp of Unicode 17, what is reserved there for more of them, fillers without ink, and non-characters.
_RANGES: Final = (
    (0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x34F, 0x34F), (0x600, 0x605), (0x61C, 0x61C), (0x6DD, 0x6DD),
    (0x70F, 0x70F), (0x890, 0x891), (0x8E2, 0x8E2), (0x115F, 0x1160), (0x180E, 0x180E), (0x200B, 0x200F),
    (0x2028, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xD800, 0xDFFF), (0xFDD0, 0xFDEF), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB), (0x110BD, 0x110BD), (0x110CD, 0x110CD), (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
    *((plane + 0xFFFE, plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)),
)  # fmt: skip
HOSTILE: Final = re.compile("[" + "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in _RANGES) + "]")
"""One character that is never shown as it is."""
_BEYOND_JSON: Final = re.compile("[" + "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in _RANGES[1:]) + "]")

_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    r"""`text` with everything that is not plainly seen as an escape: `\n`, `\x1b`, `\u202e`, `\U000e0001`.

    The result holds no control, format or surrogate code point, and is its own visible form.
    """
    if text.isascii() and text.isprintable():
        return text
    return HOSTILE.sub(lambda found: _escape(found.group()), text)


def json_text(encoded: bytes) -> str:
    r"""JSON text (RFC 8259) as plainly seen text with the same meaning: what would not be shown stands as `\u202e`.

    `encoded` is UTF-8 from an encoder that escapes U+0000 to U+001F, so what is left can only stand within strings.
    """
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded.decode("ascii")
    return _BEYOND_JSON.sub(_json_escape, encoded.decode())


def shorten(text: str, width: int = 60) -> str:
    """The visible form of `text`, cut to at most `width` (1 or more) characters; `…` stands where something is missing.

    No escape is cut in two.
    """
    seen = [visible(character) for character in text[: width + 1]]
    if len(text) <= width and sum(map(len, seen)) <= width:
        return "".join(seen)
    kept, room = [], width - 1
    for piece in seen:
        room -= len(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept) + "…"


def _escape(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(found: re.Match[str]) -> str:
    units = found.group().encode("utf-16-be").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
