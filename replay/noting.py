"""Notes and marks: an analyst's word about a moment, in a feed of its own.

A copy of a ledger must not write into anybody's feed: two copies that did would contradict each other (a fork). So each note
stands in a feed by itself, of the same incarnation, under the analyst's name, whose identity is the digest of what it says: the
same note made on two copies is one feed with the same bytes, two notes are two feeds, and whatever is merged with whatever, none
contradicts another. No join names such a feed, so it counts for nothing but its note (`Feed.notes`).

Effects: writes the ledger that it is given. No clock: the instant is an argument.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from ledger import codec
from ledger.entry import Observed
from ledger.errors import Refused
from ledger.events import FeedOpened, NoteAdded
from ledger.identity import NOTED, Feed, machine_name
from ledger.store import Ledger
from replay.history import History
from replay.receipts import Note
from replay.spans import format_instant
from replay.text import shorten
from replay.union import spelled

TEXT_MAX: Final = 4096
"""As `events` has it."""
_MARK: Final = re.compile(r"[A-Za-z0-9_.-]{1,63}")


def note(path: Path, text: str, *, machine: str, at_ns: int, by: str | None = None, mark: str | None = None) -> Note:
    """Write a note of the moment `at_ns` into the ledger at `path`, as `machine`, a name that no machine of its mesh bears.

    Raises Refused for such a name, for a ledger that holds nothing, and for a mark that names another moment already;
    EventRefused for a text or mark that is none; and what `Ledger.open` raises, such as Locked while a node is writing.
    """
    machine = machine_name(machine)
    if not text.strip() and mark is None:
        raise Refused("a note without a text", hint="say what is to be remembered, or name the moment: --mark NAME")
    if len(text) > TEXT_MAX:
        raise Refused(f"a note of {len(text):,} characters", hint=f"at most {TEXT_MAX:,}: note where the rest can be found")
    if mark is not None and not _MARK.fullmatch(mark):
        hint = "1 to 63 letters, digits, '-', '_' or '.', such as first-call"
        raise Refused(f"'{shorten(mark)}' cannot name a moment", hint=hint)
    event = NoteAdded(text, by, mark)
    codec.check(Observed(at_ns, event), "the note")
    with History.open(path, snapshots=False) as history:
        if machine in taken(history):
            raise Refused(f"{machine} is a machine of this mesh", hint="a note needs a name of its own: --as NAME")
        instants = set(history.marks().get(mark or "", ()))
        if instants - {at_ns}:
            there = " and ".join(map(format_instant, sorted(instants - {at_ns})))
            raise Refused(f"mark:{mark} names {there} already", hint="choose another name")
    with Ledger.open(path, write=True) as ledger:
        incarnation = ledger.incarnation
        if incarnation is None:
            raise Refused(f"{path}: holds nothing that could be noted on", hint="import or merge something first")
        feed = Feed.of(incarnation, machine, 1, _digest(machine, at_ns, event))
        opened = FeedOpened(feed.incarnation, feed.machine, feed.epoch, feed.ledger_key)
        new = feed not in ledger.feeds()
        with ledger.transaction():
            ledger.append([Observed(at_ns, opened), Observed(at_ns, event)], observer=feed, expect=0)
            ledger.seal(feed)
        name = spelled(ledger.feeds())[feed]
    return Note(file=str(path), pos=f"{name}#2", at=format_instant(at_ns), mark=mark, by=by, text=text, new=new)


def taken(history: History) -> set[str]:
    """The names that notes may not be written under: of machines that were ever admitted, and of whoever wrote anything else."""
    machines = history.at(history.end_ns()).membership.machines
    return {*machines, *(feed.machine for feed in history.feeds if not feed.notes)}


def _digest(machine: str, at_ns: int, event: NoteAdded) -> str:
    """SHA-256 over a JSON array (RFC 8259) of all that the note says."""
    return NOTED + sha256(msgspec.json.encode((machine, at_ns, event.text, event.by, event.mark))).hexdigest()
