"""Hostile text is shown, never obeyed."""

import json
import unicodedata

import pytest

from replay.text import HOSTILE, json_text, shorten, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("alpha.lab.example", "alpha.lab.example"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("one\ntwo\r\tthree", "one\\ntwo\\r\\tthree"),
        ("abc\u202edef\u2066\u2069", "abc\\u202edef\\u2066\\u2069"),
        ("\u200e\u200f\u061c", "\\u200e\\u200f\\u061c"),
        ("zero\u200b\u200dwidth\ufeff\u00ad", "zero\\u200b\\u200dwidth\\ufeff\\xad"),
        ("\u2028\u2029\x85\x9b", "\\u2028\\u2029\\x85\\x9b"),
        ("\udc80\ufffe\ufdd0\U0001ffff", "\\udc80\\ufffe\\ufdd0\\U0001ffff"),
        ("\U000e0041", "\\U000e0041"),
        ("Zürich 東京 ❤️ שלום é ½ \u00a0", "Zürich 東京 ❤️ שלום é ½ \u00a0"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_what_cannot_be_seen_is_escaped_and_the_rest_stays(text: str, shown: str) -> None:
    """Controls, bidi controls, the invisible, surrogates and non-characters become escapes; ordinary Unicode stays."""
    assert visible(text) == shown


def test_the_written_list_holds_all_that_unicode_calls_control_format_or_surrogate() -> None:
    """No code point of a class that moves, hides or breaks text is missing in the list, whatever Python knows of them."""
    hostile = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    missing = [
        hex(code)
        for code in range(0x110000)
        if (unicodedata.category(chr(code)) in hostile or code & 0xFFFE == 0xFFFE) and not HOSTILE.match(chr(code))
    ]
    assert missing == []


def test_letters_marks_numbers_and_signs_are_never_escaped() -> None:
    """The list takes no letter, mark, number, sign or space that is seen, but for the blank letters and the joiner."""
    blank = {0x34F, 0x115F, 0x1160, 0x3164, 0xFFA0}
    taken = [
        hex(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code))[0] in "LMNPS" and code not in blank and HOSTILE.match(chr(code))
        if not 0xE0100 <= code <= 0xE01EF  # variation selectors: marks without ink, and a way to hide text
    ]
    assert taken == []


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 10, "short"),
        ("exactly-10", 10, "exactly-10"),
        ("eleven-char", 10, "eleven-ch…"),
        ("ab\u202ecd", 8, "ab…"),
        ("ab\u202ecd", 9, "ab\\u202e…"),
        ("ab\u202ecd", 10, "ab\\u202ecd"),
        ("x" * 10**6, 5, "xxxx…"),
        ("", 1, ""),
    ],
)
def test_shortening_never_cuts_an_escape_in_two(text: str, width: int, shown: str) -> None:
    """A shortened text fits the width, ends in an ellipsis if something is missing, and keeps its escapes whole."""
    assert shorten(text, width) == shown


def test_json_stays_the_same_json_and_becomes_plainly_seen() -> None:
    """Escapes in JSON mean what stood there, also beyond the basic plane, and nothing hidden is left."""
    value = {"a\u202e": "\x7f\x9b\u2028 Zürich \U000e0041 \x1b\n"}
    encoded = json.dumps(value, ensure_ascii=False).encode()
    text = json_text(encoded)
    assert json.loads(text) == value
    assert "\\u202e" in text
    assert "\\udb40\\udc41" in text
    assert "Zürich" in text
    assert visible(text) == text
    assert json_text(b'["\x7f"]') == '["\\u007f"]'
