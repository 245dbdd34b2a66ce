"""Who: machines, host names, feeds and positions, in the one form in which they compare.

A *machine* is a member's lasting name, one DNS label in lower case; a *host name* is where it is found now, in lower
case, without the trailing dot. A *feed* is one observer's entries of one epoch; its id is SHA-256 over what it is
(incarnation, machine, epoch, ledger key), so that two feeds with one name can never be taken for one. A *position*
names an entry for ever: `alpha#12021`, `alpha.2#17` in the second epoch, `alpha~3f2a#12021` where two feeds share a name.

Nothing here knows what an event is. No I/O, no clock.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from ledger.errors import Refused

# Python's `$` also matches before a last line break, which no name has: hence the look ahead.
MACHINE_PATTERN: Final = r"^(?!.*\n)[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$"
HOSTNAME_PATTERN: Final = (
    r"^(?!.*\n)(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$"
)
NOTED: Final = "note:"
"""How the ledger key of an analyst's feed begins: no key, but the digest of what it says. So two of them differ or are one."""
IMPORTED: Final = "import:"
"""An incarnation id that begins so belongs to measurements without machines of ours behind them: no keys, no root."""

_MACHINE = re.compile(MACHINE_PATTERN)
_HOSTNAME = re.compile(HOSTNAME_PATTERN)
_POSITION = re.compile(r"^([a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?)(?:\.([1-9][0-9]{0,8}))?(?:~([0-9a-f]{4,64}))?#([0-9]{1,18})$")


def machine_name(text: str) -> str:
    """`text` in the form in which machine names compare. Raises Refused if it is no name."""
    name = text.strip().lower()
    if not _MACHINE.match(name):
        raise Refused(
            f"{text!r} is no machine name",
            hint="a machine is named by one label of at most 63 letters, digits, '-' or '_', such as alpha",
        )
    return name


def host_name(text: str) -> str:
    """`text` in the form in which host names compare: IDNA, lower case, no trailing dot (RFC 1035, RFC 5891)."""
    name = text.strip().removesuffix(".").lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            raise Refused(f"{text!r} is no host name") from None
    if not _HOSTNAME.match(name):
        raise Refused(f"{text!r} is no host name", hint="such as alpha.lab.example, at most 253 characters")
    return name


def feed_id(incarnation: str, machine: str, epoch: int, ledger_key: str | None) -> str:
    """The feed's id: SHA-256, as 64 hexadecimal digits, over what the feed is."""
    return _digest("meshledger feed", incarnation, machine, epoch, ledger_key)


def incarnation_id(name: str, transport: str, addressing: str, ledger_key: str, salt: str) -> str:
    """The id of a new cluster: it commits to its founder's ledger key, so that nobody else can be its root."""
    return _digest("meshledger incarnation", name, transport, addressing, ledger_key, salt)


def _digest(*parts: str | int | None) -> str:
    """SHA-256 over a JSON array (RFC 8259, UTF-8, no spaces): no two lists of parts have the same text."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


class Feed(msgspec.Struct, frozen=True, order=True, gc=False):
    """One observer's entries of one epoch. Ordered by machine, epoch, then id: the order in which ledgers list feeds."""

    machine: str
    epoch: int
    id: str
    incarnation: str
    ledger_key: str | None = None

    @classmethod
    def of(cls, incarnation: str, machine: str, epoch: int = 1, ledger_key: str | None = None) -> Feed:
        """The feed that these four name."""
        return cls(machine, epoch, feed_id(incarnation, machine, epoch, ledger_key), incarnation, ledger_key)

    @property
    def name(self) -> str:
        """`alpha`, or `alpha.2` in its second epoch."""
        return self.machine if self.epoch == 1 else f"{self.machine}.{self.epoch}"

    @property
    def notes(self) -> bool:
        """Whether it is an analyst's: it holds a note, and nothing of it counts for a mesh."""
        return self.ledger_key is not None and self.ledger_key.startswith(NOTED)

    def at(self, index: int) -> str:
        """The position of entry `index`, as text."""
        return f"{self.name}#{index}"


class Position(msgspec.Struct, frozen=True, gc=False):
    """A parsed position. `digits` are the first digits of the feed's id, or empty. Index 0 is before the first entry."""

    machine: str
    epoch: int
    digits: str
    index: int

    def names(self, feed: Feed) -> bool:
        """Whether this position can mean an entry of `feed`."""
        return self.machine == feed.machine and self.epoch == feed.epoch and feed.id.startswith(self.digits)

    def __str__(self) -> str:
        epoch = f".{self.epoch}" if self.epoch != 1 else ""
        digits = f"~{self.digits}" if self.digits else ""
        return f"{self.machine}{epoch}{digits}#{self.index}"


def parse_position(text: str) -> Position | None:
    """The position that `text` spells, or None if it spells none."""
    found = _POSITION.match(text.strip())
    if found is None:
        return None
    machine, epoch, digits, index = found.groups()
    return Position(machine, int(epoch or 1), digits or "", int(index))
