"""Whether the own record is whole: asked of the others before anything new is written.

A disk that was set back has lost entries that others hold. A started node links and answers from disk, but takes nothing in, and
what it sees waits with its instants. Whoever greets it, or refuses it, shows the newest words held of its last feeds, signed by
its own key. All dials ended, somebody answered and nobody has more: confirmed. Somebody has more, or a newer epoch: a new epoch
that names the range that was lost. Nobody answered within an interval: a new epoch, unconfirmed. A cluster of one has nobody to
ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ledger.entry import Observed
from ledger.events import FeedOpened
from ledger.identity import Feed
from ledger.node import linking
from ledger.node.signals import Begin
from ledger.node.state import SECOND, Core
from ledger.node.wire import Shown

PATIENCE_NS: Final = 10 * SECOND
"""So long is waited for an answer at least, where pings are so frequent that an interval is shorter than a dial."""

EPOCHS_MAX: Final = 1000
"""A newer epoch may have begun under a ledger key that is lost too. So anybody could name one: it counts only where something was
lost by this machine's own word, and not if it is so far ahead.
"""


def patience_ns(core: Core) -> int:
    """How long an answer is waited for."""
    return max(core.interval_ns, PATIENCE_NS)


def begin(core: Core) -> None:
    """The node has started."""
    if not core.others:
        core.state = "running"
        return

    def late() -> None:
        if core.state == "checking" and not resolve(core):
            _begin(core, Begin("unconfirmed"))

    core.later(patience_ns(core), late)


def shown(core: Core, held: Iterable[Shown]) -> None:
    """Another, in its greeting or as it refused one, showed the newest words that it holds of this machine's last feeds."""
    for each in held:
        feed, last = core.feed_of(each.feed), each.word.last
        newer = feed.machine == core.me and 0 < feed.epoch - core.feed.epoch <= EPOCHS_MAX and feed.id not in core.held
        ours = feed.ledger_key == core.feed.ledger_key or ("lost", core.feed.id) in core.memo
        if feed == core.feed and last > core.last:
            if core.craft.proves(feed, each.word):
                ahead(core, last)
        elif newer and ours and core.craft.proves(feed, each.word):
            _beyond(core, feed.epoch, last)


def ahead(core: Core, last: int) -> None:
    """Own entries up to `last` were signed, and are lost."""
    if last > core.last and core.memo.get(("lost", core.feed.id), 0) < last:
        first = ("lost", core.feed.id) not in core.memo
        core.memo["lost", core.feed.id] = last
        if core.state == "running" and first:
            _begin(core, Begin("restored", core.last + 1, last))


def _begin(core: Core, begin: Begin) -> None:
    """A new epoch follows this one: once, however many show what was lost before it is opened."""
    if ("ended", core.feed.id) not in core.memo:
        core.memo["ended", core.feed.id] = 1
        core.do(begin)


def _beyond(core: Core, epoch: int, last: int) -> None:
    """A newer epoch of this machine, with so many entries, is lost altogether: the disk was set back more than once."""
    if epoch > core.memo.get(("beyond",), 0):
        core.memo["beyond",], core.memo["beyond", "last"] = epoch, last
        if core.state == "running":
            _begin(core, Begin("restored", 1, last, epoch))


def resolve(core: Core) -> bool:
    """Whether it is known now; then the node runs, or begins a new epoch."""
    if core.state != "checking":
        return True
    answered = [peer for peer in core.peers.values() if peer.channel is not None]
    if not answered:
        return False
    lost = core.memo.get(("lost", core.feed.id))
    dialled = all(linking.peer_of(core, name).tried for name in core.others if name not in core.snapshot.planned)
    if not dialled and core.now.mono_ns - core.since.mono_ns < patience_ns(core):
        return False
    beyond = core.memo.get(("beyond",), 0)
    if beyond > core.feed.epoch:
        _begin(core, Begin("restored", 1, core.memo["beyond", "last"], beyond))
    elif lost is not None:
        _begin(core, Begin("restored", core.last + 1, lost))
    else:
        core.state = "running"
    return True


def opening(core: Core, feed: Feed, why: Begin, waiting: Observed | None = None) -> Observed:
    """The first entry of a new epoch, which is `feed`: no later than what has been waiting to be written into it, the first of
    which may have left the core.
    """
    opened = FeedOpened(feed.incarnation, feed.machine, feed.epoch, feed.ledger_key, why.why, why.lost_from, why.lost_until)
    first = waiting or core.oldest
    if first is None:
        return core.stamp(opened)
    return Observed(first.at_ns, opened, first.boot, first.mono_ns)
