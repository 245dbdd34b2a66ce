"""Small pieces that proofs of the store share: a feed, its first entry, pings by the minute. Deterministic, no clock."""

from pathlib import Path

from ledger.entry import Observed
from ledger.events import FeedOpened, LinkLost, NoteAdded, PingAnswered, PingFailed
from ledger.identity import Feed

INCARNATION = "import:proof"
KEY = "ed25519:" + "A" * 43 + "="
START_NS = 1_767_225_600_000_000_000
MINUTE_NS = 60_000_000_000
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - only folders with names of their own are made there
"""Where proofs that open thousands of ledgers make them: durability is not their matter."""


def feed_of(machine="alpha", epoch=1, *, keyed=False):
    """A feed of the incarnation that all these proofs use."""
    return Feed.of(INCARNATION, machine, epoch, KEY if keyed else None)


def opening(feed, at_ns=START_NS):
    """The first entry of a feed."""
    return Observed(at_ns, FeedOpened(feed.incarnation, feed.machine, feed.epoch, feed.ledger_key))


def answered(number, at_ns=START_NS, peer="bravo", **fields):
    """A ping that was answered, as an import records it."""
    return Observed(at_ns, PingAnswered(peer, number, 900 + number % 50, **fields))


def failed(number, at_ns=START_NS, peer="bravo", reason="timeout", **fields):
    """A ping that was not."""
    return Observed(at_ns, PingFailed(peer, number, reason, **fields))


def note(text, at_ns=START_NS):
    """A control event that says `text`."""
    return Observed(at_ns, NoteAdded(text))


def lost(peer="bravo", at_ns=START_NS):
    """A lost link."""
    return Observed(at_ns, LinkLost(peer, "timeout"))


def minutes(count, *, peers=("bravo", "charlie"), first=0, start_ns=START_NS):
    """`count` pings, one peer after another, a round each minute; each seventh round fails."""
    made = []
    for place in range(first, first + count):
        number, peer = place // len(peers), peers[place % len(peers)]
        at_ns = start_ns + number * MINUTE_NS + place % len(peers)
        made.append((failed if number % 7 == 6 else answered)(number, at_ns, peer))
    return made


def observed(entries):
    """Entries as they were before they had places."""
    return [Observed(entry.at_ns, entry.event, entry.boot, entry.mono_ns) for entry in entries]
