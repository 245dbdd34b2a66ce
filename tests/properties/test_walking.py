"""Walking a feed is reading it: the quick way gives what the plain way gives."""

from hypothesis import given

from ledger.store import Ledger
from ledger.testing import observations
from ledger.walking import visit, walk


@given(observations())
def test_a_walk_visits_what_reading_yields(tmp_path_factory, given_entries):
    """Every entry once, in order, with the same index, instant, kind, peer and round trip; sealed or not."""
    path = tmp_path_factory.mktemp("walk") / "a.ledger"
    with Ledger.create(path, incarnation="import:walk") as ledger:
        feed = ledger.open_feed("alpha", at=0)
        half = len(given_entries) // 2
        ledger.append(given_entries[:half], observer=feed)
        ledger.seal(feed)
        ledger.append(given_entries[half:], observer=feed)
        assert list(walk(ledger.reader(feed))) == [visit(entry) for entry in ledger.read(feed)]
