"""What pinging one peer has come to: the last result, the last answer, and how many were sent and lost.

One value per directed pair, replaced at each result. A result is good or bad evidence about the link, but what it does to
the link stands in `links`; here it is only counted. `linkless` results were recorded without a link to send them on: they
count as lost for who asks what was sent, and not for who asks how good the link was.

Indexes are entry indexes in the observer's feed, 0 where there is none yet. Pure values, no entries of their own.
"""

from __future__ import annotations

import msgspec


class PingState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The pings of one observer to one peer. `reason` None: the last one was answered. `rtt_us`: of the last answered.
    `feed`, `held`: the peer's feed and how many of its entries were held, as the ping at index `stated` said last.
    `failing`: the first failure since the last answer and the last establishment, as the failures told it; 0 after an answer.
    """

    last: int
    last_ns: int
    reason: str | None
    answered: int
    answered_ns: int
    rtt_us: int
    sent: int
    lost: int
    linkless: int
    feed: str | None = None
    held: int | None = None
    stated: int = 0
    failing_ns: int = 0
    failing: int = 0

    @property
    def outcome(self) -> str:
        """`answered`, or the reason why not."""
        return self.reason or "answered"

    @property
    def last_rtt_us(self) -> int | None:
        """The round trip of the last ping, None if it failed."""
        return None if self.reason else self.rtt_us


NONE = PingState(0, 0, None, 0, 0, 0, 0, 0, 0)
"""Before the first ping. Never kept: a peer without pings has no state."""


def answered(
    ping: PingState, count: int, index: int, at_ns: int, *, rtt_us: int, feed: str | None, held: int | None
) -> PingState:
    """After `count` answers, the last of them at (`index`, `at_ns`). A feed without a count says nothing of what was held."""
    if feed is None or held is None:
        return PingState(
            index, at_ns, None, index, at_ns, rtt_us, ping.sent + count, ping.lost, ping.linkless,
            ping.feed, ping.held, ping.stated,
        )  # fmt: skip
    return PingState(index, at_ns, None, index, at_ns, rtt_us, ping.sent + count, ping.lost, ping.linkless, feed, held, index)


def failed(
    ping: PingState, count: int, index: int, at_ns: int, *,
    reason: str, linkless: bool, feed: str | None, held: int | None, first: tuple[int, int], established: int,
) -> PingState:  # fmt: skip
    """After `count` failures of one reason, with or without a link, the last of them at (`index`, `at_ns`), the first at
    `first` (instant, index). `established`: the index at which the link stood last.
    """
    stated = index
    if feed is None or held is None:
        feed, held, stated = ping.feed, ping.held, ping.stated
    failing_ns, failing = (ping.failing_ns, ping.failing) if ping.failing > established else first
    return PingState(
        index, at_ns, reason, ping.answered, ping.answered_ns, ping.rtt_us,
        ping.sent + count, ping.lost + count, ping.linkless + (count if linkless else 0), feed, held, stated,
        failing_ns, failing,
    )  # fmt: skip


def joined(before: PingState, after: PingState) -> PingState:
    """The pings of two epochs as one: counts added, all else as the later says. Its indexes are those of the later."""
    return msgspec.structs.replace(
        after, sent=before.sent + after.sent, lost=before.lost + after.lost, linkless=before.linkless + after.linkless
    )
