"""The ledger key of a machine, changed: the old feed ends with the change, signed by the old key, and a new one begins.

The order is what a power cut at any moment leaves something of that a start can finish: the new key lies beside the old one;
the record names it (`key.changed`); the old feed's last word is kept, for nobody could sign it later; the new key takes the old
one's place; the new feed opens. Effects: the node's directory and its ledger.
"""

from __future__ import annotations

from ledger import keys
from ledger.entry import Observed
from ledger.events import FeedOpened, KeyChanged
from ledger.identity import Feed
from ledger.node.booting import own_feed
from ledger.node.config import NodeDir
from ledger.node.craft import OwnCraft
from ledger.store import Ledger


def adopt(folder: NodeDir, craft: OwnCraft, public: str) -> keys.LedgerKey:
    """Keep the last word of the own feed, and put the new key in its place; returns it. Raises LedgerError: Refused if the
    recorded key is not at hand, Unwritable if the medium refuses.
    """
    craft.leave()
    folder.replace("words", craft.encoded())
    key = folder.adopt_ledger(public)
    craft.rekey(key)
    return key


def finished(folder: NodeDir, ledger: Ledger, machine: str, now_ns: int) -> tuple[keys.LedgerKey, Feed]:
    """The machine's ledger key at a start, and the feed that it writes with it, once a change of the key that was cut off is
    finished, or forgotten if it was not recorded.

    Raises Refused if there is no key, or the ledger has no feed of it.
    """
    key = folder.ledger_key()
    if folder.file("ledger_key.next").exists():
        feed = own_feed(ledger, machine, key)
        fresh = keys.load(folder.file("ledger_key.next"))
        if fresh.text in {change.new for change in _changes(ledger, feed)}:
            key = adopt(folder, OwnCraft(ledger, feed, key, folder.words()), fresh.text)
        else:
            folder.file("ledger_key.next").unlink()
    feeds = [feed for feed in ledger.feeds() if feed.machine == machine and feed.ledger_key is not None]
    if all(feed.ledger_key != key.text for feed in feeds):
        before = next((feed for feed in feeds if key.text in {change.new for change in _changes(ledger, feed)}), None)
        if before is not None:
            following = Feed.of(before.incarnation, machine, 1 + max(feed.epoch for feed in feeds), key.text)
            opened = FeedOpened(following.incarnation, machine, following.epoch, key.text, "new-key")
            ledger.append(Observed(now_ns, opened), observer=following)
    return key, own_feed(ledger, machine, key)


def _changes(ledger: Ledger, feed: Feed) -> list[KeyChanged]:
    """The changes of the ledger key that a feed records."""
    found = [entry.event for entry in ledger.reader(feed).rare(("key.changed",))]
    return [change for change in found if isinstance(change, KeyChanged) and change.role == "ledger"]
