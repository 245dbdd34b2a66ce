"""Saved folds as bytes: what is packed comes back, whatever it is deflated against."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.identity import Feed
from projections.feed_state import FeedState
from projections.links import LinkState
from projections.pings import PingState
from replay import saved

COUNTS = st.integers(0, 2**40)
INSTANTS = st.just(0) | st.integers(-(2**62), 2**62) | st.integers(1, 10**6).map(lambda n: 1_767_225_600_000_000_000 + n * 1000)
NAMES = st.none() | st.sampled_from(["a", "link-1", "10.0.0.1"])
PINGS = st.builds(
    PingState, COUNTS, INSTANTS, NAMES, COUNTS, INSTANTS, COUNTS, COUNTS, COUNTS, COUNTS,
    NAMES, st.none() | COUNTS, COUNTS, INSTANTS, COUNTS,
)  # fmt: skip
LINKS = st.builds(
    LinkState, st.sampled_from(["up", "down", "unknown"]), NAMES, INSTANTS, COUNTS, NAMES, NAMES, NAMES,
    INSTANTS, COUNTS, INSTANTS, COUNTS, INSTANTS, COUNTS,
)  # fmt: skip
USUAL = st.tuples(COUNTS, INSTANTS).map(lambda at: PingState(*at, None, *at, 5, 9, 0, 0, "a" * 64, 3, at[0]))
PEERS = st.sampled_from([f"m{number:02}" for number in range(6)])


@st.composite
def states(draw):
    """A feed's state as far as bytes go: its parts need not agree with each other."""
    state = FeedState(Feed.of("import:x", "alpha", 1, None), draw(COUNTS), draw(INSTANTS), draw(INSTANTS))
    state.pings = draw(st.dictionaries(PEERS, USUAL) | st.dictionaries(PEERS, PINGS))
    state.links = draw(st.dictionaries(PEERS, LINKS))
    return state


@given(states(), states())
def test_a_state_comes_back_as_it_was(state, base):
    """Packed, deflated against another state or none, inflated and unpacked, a state is equal to what it was."""
    names, whole = saved.pack(state)
    told = saved.unpack_names(names)
    for dictionary in (b"", saved.pack(base)[1], whole):
        assert saved.unpack(told, saved.inflate(saved.deflate(whole, dictionary), dictionary), state.feed) == state
    found = saved.unpack(told, whole, state.feed)
    assert (list(found.links), list(found.pings)) == (list(state.links), list(state.pings))
