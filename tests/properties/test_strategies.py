"""What `ledger.testing` hands out: plausible where it says so, and reaching what a test must reach."""

import subprocess
import sys
from collections import Counter
from itertools import pairwise

from hypothesis import find, given, settings

from ledger.entry import Opaque
from ledger.events import ClusterCreated, FeedOpened, LinkEstablished, LinkLost, MachineJoined, NodeStarted, PingAnswered
from ledger.identity import IMPORTED
from ledger.testing import entries, histories, observations


def of(kind, log):
    return [each.event for each in log if isinstance(each.event, kind)]


@given(observations())
def test_an_observer_writes_a_plausible_feed(log):
    """It opens, joins itself, uses a link id once, counts its pings up, and gets answers over the link it last made."""
    assert isinstance(log[0].event, FeedOpened)
    assert isinstance(log[1].event, MachineJoined)
    assert max(Counter(event.link for event in of(LinkEstablished, log)).values(), default=1) == 1
    for peer in ("bravo", "charlie"):
        answers = [event.number for event in of(PingAnswered, log) if event.peer == peer]
        assert all(one < other for one, other in pairwise(answers))
    standing = {}
    for each in log:
        match each.event:
            case LinkEstablished(peer=peer, link=link):
                standing[peer] = link
            case LinkLost(peer=peer, link=link):
                assert standing.pop(peer) == link
            case NodeStarted():
                standing.clear()
            case PingAnswered(peer=peer, link=link):
                assert standing[peer] == link


@given(histories(keyed=True))
def test_in_a_keyed_history_the_founder_creates_and_feeds_state_what_they_are(history):
    """There is one creation, in the first feed; each feed's first entry names its incarnation, machine, epoch and key."""
    assert sum(len(of(ClusterCreated, log)) for log in history.values()) == 1
    for feed, log in history.items():
        opened = log[0].event
        assert (opened.incarnation, opened.machine, opened.epoch, opened.ledger_key) == (
            feed.incarnation, feed.machine, feed.epoch, feed.ledger_key,
        )  # fmt: skip


@given(histories(keyed=False))
def test_an_imported_history_has_no_keys_and_no_clocks(history):
    """Imports have neither ledger keys nor boots nor monotonic clocks."""
    assert all(feed.ledger_key is None and feed.incarnation.startswith(IMPORTED) for feed in history)
    assert all(each.boot is None and each.mono_ns is None for log in history.values() for each in log)


def test_what_a_test_must_reach_is_reached_and_shrinks():
    """A second epoch, an unknown kind, a clock set back: each is found, and with little around it."""
    seek = settings(max_examples=500, derandomize=True, database=None, deadline=None)
    second = find(histories(size_max=8, keyed=True), lambda history: any(feed.epoch == 2 for feed in history), settings=seek)
    assert sum(map(len, second.values())) <= 25
    unknown = find(observations(), lambda log: of(Opaque, log), settings=seek)
    assert len(unknown) <= 12
    disowned = find(histories(size_max=8), lambda history: any(e.effective_ns < e.at_ns for e in entries(history)), settings=seek)
    assert sum(map(len, disowned.values())) <= 40


def test_without_hypothesis_the_error_says_what_to_install():
    """Whoever lacks the extra is told its name."""
    code = "import sys; sys.modules['hypothesis'] = None; import ledger.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'meshledger[testing]'" in done.stderr.splitlines()[-1]
