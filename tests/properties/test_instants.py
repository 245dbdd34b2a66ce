"""Effective instants: never back, never later than told, and what the naive definition says."""

from hypothesis import given
from hypothesis import strategies as st
from model import effective_instants as naive

from ledger.entry import Observed
from ledger.events import ClockStepped, NodeStarted, NoteAdded
from ledger.identity import IMPORTED, Feed
from ledger.instants import adjusted, disowned, effective_instants, may_disown
from ledger.testing import entries, histories, instants

EVENTS = st.sampled_from([NoteAdded("looked"), NodeStarted(1), ClockStepped(-1), ClockStepped(1), ClockStepped(0)])
WALLS = st.integers(min_value=0, max_value=12) | instants()
FEED = Feed.of(f"{IMPORTED}0", "alpha")


def counted(log):
    steps = [index for index, (_at_ns, event) in enumerate(log, 1) if may_disown(event)]
    return effective_instants([at_ns for at_ns, _event in log], steps)


@given(st.lists(st.tuples(WALLS, EVENTS), max_size=30))
def test_effective_instants_are_what_the_naive_definition_says(log):
    """The definition over a whole feed equals the one that looks at each entry and each later step by themselves."""
    assert counted(log) == naive([(at_ns, None, None, event) for at_ns, event in log])


@given(st.lists(st.tuples(WALLS, EVENTS), max_size=30))
def test_effective_instants_never_go_back(log):
    """They ascend with the index, so that the cut of a feed grows with the moment."""
    found = counted(log)
    assert found == sorted(found)


@given(st.lists(st.tuples(WALLS, EVENTS), min_size=1, max_size=30))
def test_an_effective_instant_is_some_wall_clock_of_its_feed(log):
    """No instant is made up: each is one that the feed's own clock showed."""
    assert set(counted(log)) <= {at_ns for at_ns, _event in log}


@given(st.lists(st.tuples(WALLS, st.just(NoteAdded("looked"))), max_size=30))
def test_without_a_step_nothing_is_disowned(log):
    """A feed in which nobody set the clock back counts by the running maximum alone."""
    walls = [at_ns for at_ns, _event in log]
    assert counted(log) == [max(walls[: place + 1]) for place in range(len(walls))]


@given(st.lists(st.tuples(WALLS, EVENTS), max_size=30), st.integers(min_value=0, max_value=30))
def test_a_later_entry_never_makes_an_earlier_one_later(log, cut):
    """Reading on can only lower what was read before: a longer feed disowns, it does not postpone."""
    short, whole = counted(log[:cut]), counted(log)
    assert all(after <= before for before, after in zip(short, whole, strict=False))


@given(st.lists(st.tuples(WALLS, EVENTS), max_size=30), st.integers(min_value=0), st.integers(min_value=0))
def test_a_stretch_can_be_read_by_itself(log, low, high):
    """With the disowned stretches at hand, any part of a feed is adjusted without reading the rest."""
    walls = [at_ns for at_ns, _event in log]
    steps = [(index, at_ns) for index, (at_ns, event) in enumerate(log, 1) if may_disown(event)]
    stretches = disowned(steps, lambda index: walls[index - 1])
    low, high = sorted((low % (len(log) + 1), high % (len(log) + 1)))
    assert adjusted(walls[low:high], low + 1, stretches) == adjusted(walls, 1, stretches)[low:high]


@given(histories(hostile=True))
def test_generated_entries_bear_their_effective_instants(history):
    """`entries` gives each feed's entries in order, with dense positions and the instants of the naive definition."""
    given_entries = entries(history)
    for feed, log in history.items():
        own = [entry for entry in given_entries if entry.feed == feed]
        assert [entry.index for entry in own] == list(range(1, len(log) + 1))
        assert all(entry.same(observed) for entry, observed in zip(own, log, strict=True))
        assert [entry.effective_ns for entry in own] == naive([(o.at_ns, o.boot, o.mono_ns, o.event) for o in log])


def test_a_clock_set_back_disowns_the_stretch_before_it():
    """What the feed recorded while its clock was ahead counts as the clock after the step; what was earlier stays."""
    log = [
        Observed(10, NoteAdded("early")), Observed(90, NoteAdded("ahead")), Observed(95, NoteAdded("ahead")),
        Observed(20, ClockStepped(-75)), Observed(30, NoteAdded("after")),
    ]  # fmt: skip
    assert [entry.effective_ns for entry in entries({FEED: log})] == [10, 20, 20, 20, 30]
