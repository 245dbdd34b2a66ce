"""The encoded answers are what the naive model says, at every moment of a history on disk."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from model import Model
from recorded import keepable, on_disk

from ledger.testing import History, histories
from replay import states


def printed(answer: object) -> dict:
    """What is encoded, in the model's words: it has no coverage where there is none, and no tag."""
    found = msgspec.json.decode(msgspec.json.encode(answer))
    found.pop("schema")
    if "coverage" in found:
        for machine, reach in found["coverage"].items():
            if reach is not None:
                covered = reach.pop("covered")
                found["coverage"][machine] = reach if covered else None
    return found


def compare(history: History, seals: list[int], shift_ns: int) -> None:
    history = keepable(history)
    with on_disk(history, seals) as opened:
        model = Model({feed: [(o.at_ns, o.boot, o.mono_ns, o.event) for o in log] for feed, log in history.items()})
        for at_ns in model.instants():
            cluster, expected = opened.at(at_ns + shift_ns), model.at(at_ns + shift_ns)
            if not cluster.states:  # before the first entry nobody has said which incarnation this is
                expected["cluster"]["incarnation"] = None
            assert printed(states.at(cluster)) == expected
            head = {word: expected[word] for word in ("at", "as_seen_by", "cluster")}
            assert printed(states.members(cluster)) == head | {"machines": expected["machines"]}
            assert printed(states.connstatus(cluster)) == head | {"links": expected["links"], "pairs": expected["pairs"]}
            assert printed(states.routes(cluster)) == head | {"routes": expected["routes"]}


@given(histories(size_max=15), st.lists(st.integers(1, 60), max_size=4), st.sampled_from([-1, 0, 1, 150 * 10**9]))
def test_answers_are_what_the_model_says(history: History, seals: list[int], shift_ns: int) -> None:
    """`at`, `members`, `connstatus` and `routes`, as they are encoded."""
    compare(history, seals, shift_ns)


@given(histories(size_max=12, hostile=True), st.lists(st.integers(1, 60), max_size=4))
def test_answers_are_what_the_model_says_of_anything(history: History, seals: list[int]) -> None:
    """Whatever stands in the feeds."""
    compare(history, seals, 0)
