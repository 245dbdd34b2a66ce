"""What a node knows as it starts: its own feed, what it holds of the others', and the core made of that.

All of it is read from the ledger, so that a restart loses nothing but what was in memory only. A boot has a number greater than
every one before it: milliseconds of the wall clock, or one more than the last if that clock was set back. The ledger is handed
in; nothing is written, and no clock is read.
"""

from __future__ import annotations

from ledger import keys
from ledger.errors import Refused
from ledger.events import NodeStarted
from ledger.identity import Feed
from ledger.node.craft import OwnCraft
from ledger.node.dice import Dice
from ledger.node.mesh import Mesh
from ledger.node.replicas import held
from ledger.node.signals import Now
from ledger.node.view import View
from ledger.store import Ledger


def own_feed(ledger: Ledger, machine: str, key: keys.LedgerKey) -> Feed:
    """The feed that this machine writes: its newest with this ledger key. Raises Refused if there is none."""
    found = [feed for feed in ledger.feeds() if feed.machine == machine and feed.ledger_key == key.text]
    if not found:
        raise Refused(f"{ledger.path} holds no feed of {machine} under this ledger key", hint="`meshledger init` or `join` first")
    return found[-1]


def boot(ledger: Ledger, view: View, craft: OwnCraft, now: Now, *, software: str, port: int) -> Mesh:
    """The core of the machine that writes `craft.feed`, as it starts now."""
    own = craft.feed
    reader = ledger.reader(own)
    last = reader.head().last
    before = [entry.event for entry in reader.rare(("node.started",))]
    started = before[-1] if before else None
    known = view.at(now.wall_ns).membership.machines.get(own.machine)
    mine = known.feeds if known is not None else ()
    changed = [(feed, entry.index) for feed in mine for entry in ledger.reader(feed).rare(("key.changed",))]
    boots = [entry.boot for entry in reader.entries(max(0, last - 1)) if entry.boot is not None]
    number = max([now.wall_ns // 1_000_000, *(each + 1 for each in boots)])
    feeds = [feed for feed in ledger.feeds() if feed.ledger_key is not None]
    return Mesh(
        own, view, craft, Dice(int(own.id[:16], 16) ^ number), now, boot=number, software=software, port=port, last=last,
        held={feed: (held(ledger, feed), last if feed == own else craft.gives(feed)) for feed in [*feeds, own]},
        changed_keys=changed[-1] if changed else None, before=started.software if isinstance(started, NodeStarted) else None,
    )  # fmt: skip
