"""Laws of shown text, for every text there is."""

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from replay.text import json_text, shorten, visible

anything = st.text(st.characters(exclude_categories=()))


def _is_plain(text: str) -> bool:
    return all(unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in text)


@given(anything)
def test_nothing_that_is_shown_controls_anything(text: str) -> None:
    """What is shown holds no control, format or surrogate code point, and is its own visible form."""
    shown = visible(text)
    assert _is_plain(shown)
    assert visible(shown) == shown


@given(anything, st.integers(min_value=1, max_value=80))
def test_a_shortened_text_is_a_beginning_of_the_whole(text: str, width: int) -> None:
    """It fits the width and is plain; it is the whole, or a beginning of it with an ellipsis."""
    shown = shorten(text, width)
    assert len(shown) <= width
    assert _is_plain(shown)
    assert shown == visible(text) or (shown[-1] == "…" and visible(text).startswith(shown[:-1]))


@given(st.text())
def test_json_means_what_it_meant(text: str) -> None:
    """JSON made plain reads back to the same value, and holds nothing that is not seen."""
    shown = json_text(json.dumps([text], ensure_ascii=False).encode())
    assert json.loads(shown) == [text]
    assert _is_plain(shown)
