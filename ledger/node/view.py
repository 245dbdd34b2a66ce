"""What the core asks of the meaning of its own record: pure typing, satisfied by what the command line hands in.

A node keeps no second opinion on who is in, which keys count, which settings are in force or how another machine is
reached: it asks the same folds that replay asks (`projections.belief`). Entries are applied once they are stored; `at` gives
a value that does not change any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from ledger.entry import Entry
from ledger.identity import Feed
from ledger.node.words import Word


class Member(Protocol):
    """A machine that was ever admitted."""

    @property
    def machine(self) -> str:
        """Its lasting name."""

    @property
    def member(self) -> bool:
        """Whether it is in."""

    @property
    def since(self) -> str:
        """The position of the join, or of the removal, that made it what it is."""

    @property
    def since_ns(self) -> int:
        """The instant of that."""

    @property
    def joins(self) -> tuple[str, ...]:
        """The positions of the joins that stand."""

    @property
    def hostname(self) -> str | None:
        """Its main host name."""

    @property
    def port(self) -> int:
        """The port others dial."""

    @property
    def account(self) -> str | None:
        """The account at its sshd."""

    @property
    def host_key(self) -> str | None:
        """What answers there."""

    @property
    def dial_key(self) -> str | None:
        """What it proves when it dials."""

    @property
    def ledger_key(self) -> str | None:
        """What signs its feed."""

    @property
    def cause(self) -> str | None:
        """Why it is no member: `left` or `removed`."""

    @property
    def planned(self) -> str | None:
        """The position of the last disconnection or reconnection."""

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """Its feeds, by epoch."""


class Membership(Protocol):
    """Who is in."""

    @property
    def machines(self) -> Mapping[str, Member]:
        """All that ever were admitted, by name."""

    @property
    def names(self) -> list[str]:
        """The members, by name."""


class Settings(Protocol):
    """The settings in force."""

    @property
    def generation(self) -> int:
        """Which settings these are."""

    @property
    def ping_interval_ms(self) -> int:
        """How often every peer is pinged."""

    @property
    def ping_timeout_ms(self) -> int:
        """When a ping counts as failed."""

    @property
    def lost_after(self) -> int:
        """After how many failures a link is lost."""

    @property
    def machines_max(self) -> int:
        """How many machines there may be."""


class Snapshot(Protocol):
    """The mesh as this machine knows it at a moment."""

    @property
    def membership(self) -> Membership:
        """Who is in."""

    @property
    def settings(self) -> Settings | None:
        """The settings in force, None if none are recorded."""

    @property
    def planned(self) -> AbstractSet[str]:
        """The members that are administratively disconnected."""

    @property
    def routes(self) -> Mapping[tuple[str, str], tuple[str, ...] | str | None]:
        """From each member to each."""

    @property
    def dissolved(self) -> bool:
        """Whether there were members and are none."""

    @property
    def name(self) -> str | None:
        """The cluster's name."""

    @property
    def transport(self) -> str | None:
        """`ssh` or `ccs`."""

    @property
    def addressing(self) -> str | None:
        """`name` or `address`."""


class View(Protocol):
    """The fold that is kept up."""

    def apply(self, entry: Entry) -> None:
        """Learn of an entry that is stored now."""

    def learn(self, entries: Sequence[Entry]) -> None:
        """The same of each of these in turn, which are neighbours in one feed."""

    def begin(self, feed: Feed) -> None:
        """From here on the machine writes `feed`."""

    def at(self, now_ns: int) -> Snapshot:
        """What the machine knows at this instant of its wall clock."""


class Craft(Protocol):
    """What takes a private key, or arithmetic that a simulation can do without: handed in beside the view."""

    def sign(self, message: bytes) -> bytes:
        """The signature of this machine, by its ledger key."""

    def signed(self, key: str, message: bytes, signature: bytes) -> bool:
        """Whether the owner of this ledger key signed that."""

    def proves(self, feed: Feed, word: Word) -> bool:
        """Whether a word was spoken by the feed's own key."""

    def word(self, feed_id: str) -> Word | None:
        """The newest word held of a feed, under which it can be given on."""

    def head(self) -> str | None:
        """The newest head of the own feed, signed; None if nothing is sealed yet."""

    def opens(self, feed: Feed, text: str) -> tuple[int, str, str] | None:
        """The records, the root (64 digits) and the signature lines of a feed's signed head, None if it is none."""
