"""The open part at a moment is what its entries, one by one, make it."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st
from recorded import keepable

from ledger.open_part import Copied
from ledger.store import Ledger
from ledger.testing import histories, observations
from projections.feed_state import FeedState
from replay.folding import fold_opened


@given(
    st.one_of(observations().map(lambda found: [found]), histories().map(lambda found: list(keepable(found).values()))), st.data()
)
def test_what_is_open_folds_from_its_rows_as_from_its_entries(tmp_path_factory, feeds, data):
    """However it was appended, up to every instant and 1 ns to either side: the state and what follows are the same."""
    with Ledger.create(tmp_path_factory.mktemp("open") / "a.ledger", incarnation="import:open") as ledger:
        feed = ledger.open_feed("alpha", at=0)
        ledger.seal(feed)
        given_entries = feeds[data.draw(st.integers(0, len(feeds) - 1))][:60]
        done = 0
        while done < len(given_entries):
            size = data.draw(st.integers(1, 20))
            ledger.append(given_entries[done : done + size], observer=feed)
            done += size
        reader = ledger.reader(feed)
        timeline, opened, last = reader.timeline(), reader.opened(), reader.head().last
        entries = reader.opened_entries(opened, timeline)
        assert opened.observed() == reader.open_stored()[1] == given_entries[len(given_entries) - len(entries) :]
        if entries:
            assert (
                opened.peak_ns() == Copied(opened.head, opened.observed()).peak_ns() == entries[-1].effective_ns
                or timeline.stretches
            )
            assert reader.peak() == (reader.head(), opened.peak_ns())
        begun = FeedState(feed)
        for entry in reader.entries(0, last - len(entries)):
            begun.apply(entry)
        for at_ns in sorted({entry.effective_ns + shift for entry in entries for shift in (-1, 0, 1)}):
            plain, quick = begun.copy(), begun.copy()
            until = [entry for entry in entries if entry.effective_ns <= at_ns]
            for entry in until:
                plain.apply(entry)
            following = fold_opened(quick, reader, opened, timeline, at_ns)
            assert quick == plain
            after = entries[len(until)] if len(until) < len(entries) else None
            assert following is None or following == after
            assert following is not None or after is None or after.kind.startswith("ping.")
        event(f"tallied: {opened.tally(2**62) is not None}")
