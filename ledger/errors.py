"""What can go wrong with a record, and whose matter it is.

One base, so that a guest can catch the library; one class per situation; the facts as attributes and, where there
is something to do, a `hint`. Network trouble never appears here: that is an observation, and stands in the log.

`exit_code` is what the command line returns for the class (DESIGN section 8): 2 wrong use, 3 not covered, 4 the ledger
is damaged or contradicts itself, 5 could not reach. No I/O here, and no import of another room.
"""

from __future__ import annotations


class LedgerError(Exception):
    """Anything that this library refuses or finds broken. `hint` says what to do, where there is something to do."""

    exit_code = 4

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Refused(LedgerError, ValueError):
    """A caller's mistake, refused at the door: nothing was written."""

    exit_code = 2


class EventRefused(Refused):
    """An event that the record does not take: malformed, oversized, over-nested. `field` and `place` say where."""

    def __init__(self, message: str, *, field: str | None = None, place: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field
        self.place = place


class Conflict(Refused):
    """The feed does not end where the caller expected. `expected` and `last` are entry numbers."""

    def __init__(self, feed: str, expected: int, last: int) -> None:
        super().__init__(
            f"{feed} ends at #{last}, not at #{expected}",
            hint="read what was appended since, then append with the new position",
        )
        self.expected = expected
        self.last = last


class Forked(LedgerError):
    """Two different entries at one position of one feed; both are named. Neither stands from there on."""

    def __init__(self, position: str, branches: tuple[str, ...]) -> None:
        super().__init__(f"{position} is contradicted: branches {' and '.join(branches)} differ from there on")
        self.position = position
        self.branches = branches


class Damaged(LedgerError):
    """Stored bytes are not what was written. `position` names the place, as near as it can be known."""

    def __init__(self, what: str, *, position: str | None = None, hint: str | None = None) -> None:
        super().__init__(
            f"{position}: {what}" if position else what,
            hint=hint or "restore the file from a backup, or merge it anew from its sources",
        )
        self.position = position


class BadProof(Damaged):
    """A Merkle proof that does not show what it was given for. Nothing about the tree may be believed from it."""

    def __init__(self, what: str) -> None:
        hint = "get head and proof anew, from one source; if they differ still, a record was altered"
        super().__init__(what, hint=hint)


class BadSignature(Damaged):
    """A signature that does not hold for its text and key, or a text without a signature by any key that is known."""

    def __init__(self, what: str) -> None:
        super().__init__(what, hint="check that these are the signer's keys; if they are, the text was altered")


class NotALedger(Refused):
    """The path holds something else: a folder, a text, another database."""


class Newer(LedgerError):
    """The ledger was written by a newer version, in a layout that this one does not know."""

    exit_code = 2


class Older(LedgerError):
    """The ledger was written before the first release, in a layout that was given up."""

    exit_code = 2


class Locked(LedgerError):
    """Another process writes this ledger; one file has one writer."""

    exit_code = 5


class Unwritable(LedgerError):
    """The medium refuses: no space, read-only, no permission. Reads go on."""

    exit_code = 5


class WrongIncarnation(LedgerError):
    """One ledger holds one incarnation of one cluster; both are named."""

    exit_code = 2

    def __init__(self, held: str, given: str, where: str, *, hint: str = "keep the two in ledgers of their own") -> None:
        super().__init__(f"{where}: belongs to incarnation {given}, this ledger holds {held}", hint=hint)
        self.held = held
        self.given = given


class NotCovered(LedgerError):
    """The log does not cover the question: neither yes nor no."""

    exit_code = 3
