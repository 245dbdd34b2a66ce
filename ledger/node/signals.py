"""What the core is told, and what it wants done: frozen values, nothing else.

*Observations* go in, each with a `Now`; *actions* come out, to be done only after the events that came out with them are on
stable storage. A channel has a number: the core gives one to each dial, from 1 up; the daemon to each that it accepted, from
-1 down. Questions to the world (look-ups, probes) bear a number too, and their answers name it.

Nothing here decides. No I/O, no clock: instants are nanoseconds and arrive as values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ledger.entry import Entry
from ledger.events import Outcome, Reason
from ledger.identity import Feed
from ledger.node.replicas import Held, Run, Why
from ledger.node.wire import Message
from ledger.node.words import Named


class Now(msgspec.Struct, frozen=True, gc=False):
    """One reading of both clocks: nanoseconds UTC, and nanoseconds of the monotonic clock."""

    wall_ns: int
    mono_ns: int

    @property
    def mono_us(self) -> int:
        """The monotonic clock as pings state it."""
        return self.mono_ns // 1000


class Signal(msgspec.Struct, frozen=True, gc=False):
    """What observations and actions share: they are values."""


# In.


class Tick(Signal, frozen=True):
    """A deadline has come."""


class Opened(Signal, frozen=True):
    """A channel stands, and its far side proved `key`."""

    channel: int
    key: str
    address: str


class Missed(Signal, frozen=True):
    """A dial came to nothing."""

    channel: int
    reason: Reason
    detail: str = ""
    address: str | None = None


class Closed(Signal, frozen=True):
    """A channel is gone."""

    channel: int
    reason: Reason
    detail: str = ""


class Heard(Signal, frozen=True):
    """A message came."""

    channel: int
    message: Message


class Garbled(Signal, frozen=True):
    """A frame came that is no message."""

    channel: int
    detail: str


class LookedUp(Signal, frozen=True):
    """A look-up ended. `fresh`: it was made now, and is not an answer remembered."""

    question: int
    name: str
    direction: Literal["forward", "reverse"]
    outcome: Outcome
    answers: tuple[str, ...] = ()
    server: str | None = None
    ttl_s: int | None = None
    took_us: int | None = None
    fresh: bool = True


class Probed(Signal, frozen=True):
    """The host key that answers at an address, or why none did."""

    question: int
    key: str | None = None
    reason: Reason = "unknown"
    detail: str = ""


class Took(Signal, frozen=True):
    """What became of a run. `held`: as held now; `gives`: how far it can be given on; `refused`: why nothing was taken, and
    `again` from where to ask instead; `ahead`: of the own feed, that its word states so much more than there is.
    """

    channel: int
    feed: Feed
    held: Held
    gives: int
    entries: tuple[Entry, ...] = ()
    own: tuple[Entry, ...] = ()
    refused: Why | None = None
    again: Held | None = None
    detail: str = ""
    ahead: int | None = None


class Commanded(Signal, frozen=True):
    """An operator asks this node for something. `more`: plain values, as they came over the control socket."""

    request: int
    ask: str
    machine: str | None = None
    by: str | None = None
    more: Mapping[str, Any] = {}


class TurnedAway(Signal, frozen=True):
    """The listener turned connections away at a limit, so many since it was last told: of a member, by the key that was proved,
    or of whom nobody knows. `address`: whence the last came.
    """

    count: int
    address: str | None = None
    machine: str | None = None


class Medium(Signal, frozen=True):
    """Whether the ledger takes entries: on a full disk it does not."""

    writable: bool
    detail: str = ""


Observation = (
    Tick | Opened | Missed | Closed | Heard | Garbled | LookedUp | Probed | Took | Commanded | TurnedAway | Medium
)  # fmt: skip


# Out.


class Dial(Signal, frozen=True):
    """Dial, as `channel`, and expect one of `host_keys`."""

    channel: int
    machine: str
    address: str
    port: int
    host_keys: tuple[str, ...]
    account: str | None = None


class Send(Signal, frozen=True):
    """Send a message. Of a ping or its answer the daemon sets the stamp at which it leaves."""

    channel: int
    message: Message


class Abort(Signal, frozen=True):
    """End a channel, or a dial, at once."""

    channel: int


class LookUp(Signal, frozen=True):
    """Ask DNS. `cached`: an answer that its TTL still allows will do."""

    question: int
    name: str
    direction: Literal["forward", "reverse"] = "forward"
    cached: bool = False


class Probe(Signal, frozen=True):
    """Find out which host key answers."""

    question: int
    address: str
    port: int


class Give(Signal, frozen=True):
    """Send the next run of a feed to one who holds `after` of it; if there is none, say so. `after` None: what follows on all
    that was given on this channel before, of which there must be some.
    """

    channel: int
    feed: Named
    after: Held | None


class Take(Signal, frozen=True):
    """Judge a run, take it in, and tell what became of it."""

    channel: int
    run: Run


class Begin(Signal, frozen=True):
    """Open a new epoch of the own feed: the record was rolled back, nobody could confirm it, or the ledger key is another.
    `beyond`: an epoch that others hold and this machine lost altogether; then the lost range is of that one.
    """

    why: Literal["restored", "unconfirmed", "new-key"]
    lost_from: int | None = None
    lost_until: int | None = None
    beyond: int = 0


class Answer(Signal, frozen=True):
    """The answer to a request: `ok` and plain values, or why not, with the exit code of the command line."""

    request: int
    body: Mapping[str, Any]


class Redeem(Signal, frozen=True):
    """Somebody asks to be let in with a code: check it, and if it is good remember it as used before it is answered by
    `Mesh.redeemed`.
    """

    channel: int
    invite: str
    proof: bytes
    body: bytes
    machine: str


class Trust(Signal, frozen=True):
    """Who may come in has changed: the dial keys of members by machine, and those of former ones."""

    keys: Mapping[str, str]
    former: frozenset[str] = frozenset()


class Adopt(Signal, frozen=True):
    """A new key of this machine is recorded: it is used from now on."""

    role: str
    key: str


class Halt(Signal, frozen=True):
    """End in order: this machine left, or was removed."""

    why: str


Action = Dial | Send | Abort | LookUp | Probe | Give | Take | Begin | Answer | Redeem | Trust | Adopt | Halt
