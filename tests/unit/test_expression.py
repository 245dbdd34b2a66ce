"""Conditions as text: what they mean where something is not known, and how what is no condition is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told import own

from ledger import events as ev
from ledger.errors import Refused
from projections.cluster import Cluster
from projections.expression import expression
from projections.projection import fold
from projections.vocabulary import WORDS

UP, DOWN = ev.LinkEstablished, ev.LinkFailed


def mesh() -> Cluster:
    """alpha=bravo up, alpha=charlie asymmetric, bravo=charlie not known: bravo has no word of it; delta has no feed."""
    rows = own("alpha", (0, UP("bravo")), (0, UP("charlie")), (0, ev.MachineJoined("delta")), hostname="a.lab")
    rows += own("bravo", (0, UP("alpha")), (0, ev.NodeStarted(1, "1.0")), (0, UP("alpha")), hostname="b.lab")
    rows += own("charlie", (0, DOWN("alpha", "timeout")), (0, UP("bravo")))
    return fold(Cluster(), rows)


CASES: dict[str, bool | None] = {
    'up("alpha", "bravo")': True,
    'up("bravo", "charlie")': None,
    'up("alpha", "charlie")': False,
    'not up("bravo", "charlie")': None,
    'up("bravo", "charlie") or True': True,
    'up("bravo", "charlie") and False': False,
    'up("bravo", "charlie") and True': None,
    'state("alpha", "charlie") == "asymmetric"': True,
    'state("bravo", "charlie") == "unknown"': True,
    'state("alpha", "delta") == "uncovered"': True,
    'state("alpha", "zulu") == "absent"': True,
    'link("charlie", "alpha") == "down"': True,
    'state("alpha", "bravo") in ("down", "up")': True,
    'state("alpha", "bravo") not in ("down", "up")': False,
    'reached_by("charlie") >= 1': True,
    'reached_by("charlie") >= 2': None,
    'reached_by("charlie") >= 4': False,
    'reached_by("charlie") == 1': None,
    'reached_by("zulu") == 0': True,
    "1 < members <= 4": True,
    "members == 3": False,
    "pairs == 6 and pairs_up >= 1": True,
    "pairs_up > 1": None,
    "pairs_down >= 1 and pairs_down <= 5": True,
    "islands == 1": None,
    "islands <= 4": True,
    'hops("alpha", "bravo") == 1': True,
    'hops("alpha", "charlie") > 5': False,
    'reaches("alpha", "bravo")': True,
    'reaches("alpha", "charlie")': None,
    'reaches("alpha", "zulu")': False,
    'hostname("alpha") == "a.lab"': True,
    'hostname("charlie") == "c.lab"': None,
    'version("bravo") == "1.0"': True,
    'version("alpha") == "1.0"': None,
    'member("delta") and not member("zulu") and not planned("alpha")': True,
    'covered("alpha") and not covered("delta")': True,
    'communicating("delta")': None,
    "full_mesh": False,
    "no_twins and not covered": True,
}


@pytest.mark.parametrize("text", CASES)
def test_what_is_not_known_is_neither(text: str) -> None:
    """Each word, and each way to join them, by Kleene's tables and by bounds."""
    condition, _machines = expression(text)
    found = condition.at(mesh())
    assert found.holds is CASES[text]
    assert bool(found.witnesses) == (found.holds is not True)


def test_every_word_is_tried() -> None:
    """No word of the language is missing above."""
    assert [word for word in WORDS if not any(word in text for text in CASES)] == []


WRONG = {
    "": "no expression",
    "up('alpha'": "no expression",
    "upp('alpha', 'bravo')": "no word 'upp'",
    "up('alpha')": "whether the pair is up",
    "up(alpha, 'bravo')": "whether the pair is up",
    "members": "true or false",
    "members + 1 > 2": "does not belong",
    "members.real == 1": "does not belong",
    "__import__('os')": "no word",
    "(lambda: 1)()": "does not belong",
    "[x for x in ()]": "does not belong",
    "members == '3'": "compared with",
    "state('a','b') < 'up'": "no order",
    "members is 3": "'is'",
    "members in 3": "no list",
    "full_mesh('alpha')": "takes no machine",
    "members()": "how many members",
    "not members": "true or false is wanted",
    "1.5 < members": "does not belong",
    "-" * 300 + "1 == 1": "levels",
    "(" * 900 + "True" + ")" * 900: "no expression",
    "1" + "<2" * 300: "parts",
    "True" + " " * 2000: "characters",
    "up('alpha', 'bravo', peer='x')": "does not belong",
    "\x00": "no expression",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_condition_is_refused(text: str) -> None:
    """At the door, with its place and what may stand there."""
    with pytest.raises(Refused, match=re.escape(WRONG[text])) as refused:
        expression(text)
    assert refused.value.hint


def test_the_nearest_word_is_named() -> None:
    """A slip of the hand is answered with what was meant."""
    with pytest.raises(Refused) as refused:
        expression('reachd_by("alpha") > 1')
    assert "reached_by" in (refused.value.hint or "")


@given(st.text(max_size=60) | st.text("()[]'\"<>=! andortupmebs,0123456789.-\\", max_size=60))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    """Nothing else ever comes of a text, and nothing of it is run."""
    try:
        condition, _machines = expression(text)
    except Refused:
        return
    assert condition.at(mesh()).holds in {True, False, None}
