"""What a cluster answers with: one machine, one link, one feed's reach, at one moment.

Plain frozen values with the names of the answers (DESIGN section 8). A `LinkView` is one small value a link, made by
the hundred: what seldom is asked for it derives when asked. No judgement is made here.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ledger.identity import Feed
from projections.links import UNHEARD, LinkState, State, bad, evidence, good
from projections.pings import PingState

Pair = tuple[str, str]
PairState = Literal["absent", "planned", "uncovered", "unknown", "up", "down", "asymmetric"]


class MachineView(msgspec.Struct, frozen=True, gc=False):
    """A machine at the moment. `communicating` None: unknown. `cause`: why not, or why it is no member (`left`, `removed`)."""

    member: bool
    communicating: bool | None
    cause: str | None
    hostname: str | None
    since_ns: int
    since_pos: str


class LastPing(msgspec.Struct, frozen=True, gc=False):
    """A last ping: `outcome` is `answered` or a reason; `rtt_us` None unless it was answered."""

    at_ns: int
    outcome: str
    rtt_us: int | None


class LinkView(msgspec.Struct, frozen=True, gc=False):
    """A link at the moment, as its observer saw it. `since` is an index of `feed`, 0 if there is no such entry;
    `link` and `ping` are what the observer's fold holds (None: nothing), `earlier` the pings of its earlier epochs.
    """

    state: State
    reason: str | None
    since: int
    since_at: int
    feed: Feed | None
    link: LinkState | None
    ping: PingState | None
    earlier: PingState | None = None

    @property
    def since_ns(self) -> int | None:
        """Since when it is so; None if nothing was ever heard."""
        return self.since_at if self.since else None

    @property
    def since_pos(self) -> str | None:
        """By which entry."""
        return self.feed.at(self.since) if self.feed is not None and self.since else None

    @property
    def last_ping(self) -> LastPing | None:
        """The last ping, None if there was none."""
        ping = self.ping or self.earlier
        return LastPing(ping.last_ns, ping.outcome, ping.last_rtt_us) if ping else None

    @property
    def sent(self) -> int:
        """Ping results recorded."""
        return (self.ping.sent if self.ping else 0) + (self.earlier.sent if self.earlier else 0)

    @property
    def lost(self) -> int:
        """Those that failed."""
        return (self.ping.lost if self.ping else 0) + (self.earlier.lost if self.earlier else 0)

    @property
    def linkless(self) -> int:
        """Those that failed for want of a link."""
        return (self.ping.linkless if self.ping else 0) + (self.earlier.linkless if self.earlier else 0)

    @property
    def evidence(self) -> tuple[int, int] | None:
        """(instant, index) of the last entry about the link."""
        found = evidence(self.link or UNHEARD, self.ping)
        return found if found[1] else None

    @property
    def good(self) -> tuple[int, int] | None:
        """(instant, index) of the last good evidence."""
        return good(self.link or UNHEARD, self.ping)

    @property
    def bad(self) -> tuple[int, int] | None:
        """(instant, index) of the first bad evidence after the last good."""
        return bad(self.link or UNHEARD, self.ping)


UNSEEN = LinkView("unknown", None, 0, 0, None, None, None)
"""A link about which no feed says anything."""


class Coverage(msgspec.Struct, frozen=True, gc=False):
    """How far the answer rests on a machine's feed: its last entry in the cut, and whether that covers the moment."""

    until_pos: str
    until_ns: int
    covered: bool


class View(msgspec.Struct, frozen=True):
    """Whose belief a cluster is: that of the machine which writes `own`. `clocks`: by feed the instant *on that feed's own
    clock* that the moment is: for `own` the moment itself, for another's feed its last held entry plus the time that passed
    on the observer's clock since the count held last grew. `lacking`: by feed id (entries at hand, entries held then),
    where the ledgers hold fewer.
    """

    own: Feed
    clocks: dict[Feed, int]
    lacking: dict[str, tuple[int, int]]

    @property
    def observer(self) -> str:
        """The machine."""
        return self.own.machine
