"""`verify`: every byte of every ledger, its chains and roots, its signatures, its forks.

Nothing here believes a row because another says so: each file is scanned as a file (`ledger.scan`), each feed gone through
record by record (`soundness`), each signed head held against the tree that the records make. Heads that were kept elsewhere
(`checkpoint`) show what a file alone cannot: that its end was cut off, or that all of it was written anew. Files that hold
the same feed are held against each other (`copies`), and so are the branches that a file keeps.

All problems are collected, and damage raises nothing; only what cannot be read as a ledger at all is refused. Each names the
invariant that it breaks: A1 where positions are missing, A2 where bytes do not prove themselves, B1 and B18 where copies or
heads of one feed do not go together. All others are judged elsewhere (`verdicts`), and come in by `Report.answer`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ledger.errors import LedgerError, Refused
from ledger.events import HeadWitnessed
from ledger.identity import Feed
from ledger.notes import Checkpoint, Note, VerifierKey, key_bytes, open_note, parse_note
from ledger.origins import origin_of
from ledger.store import Ledger
from replay import receipts
from replay.copies import United, contradiction, held
from replay.proving import read_bundle, trusted
from replay.soundness import BROKEN, Examined, examine
from replay.union import files, one_incarnation, spelled, unite_feed

Progress = Callable[[int, int], None]
"""Told how many feeds are done, and how many there are in all."""


class Checked(msgspec.Struct):
    """A feed as checked, in the file in which it goes furthest. `root` is None if its records make none; instants in ns;
    `open` entries are in no record yet, so no head answers for them; `signature` says what became of signed heads.
    """

    feed: Feed
    entries: int
    records: int
    root: bytes | None
    signature: str | None
    first_ns: int | None
    last_ns: int | None
    opaque: int
    open: int


class Report(msgspec.Struct):
    """What `verify` found. `feeds` by name; `quarantined`: rows that imports refused, no part of the log; `tested`: by
    invariant how many records, heads and copies stood the test.
    """

    feeds: dict[str, Checked]
    problems: list[receipts.Problem]
    quarantined: int = 0
    tested: dict[str, int] = {}

    @property
    def ok(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.problems

    def answer(
        self, invariants: Iterable[receipts.Invariant] = (), findings: Iterable[receipts.Finding] = (), *, ok: bool = True
    ) -> receipts.Verify:
        """The answer of `verify`, with what was found of invariants and of rules; `ok`: whether those hold."""
        broken = list(findings)
        feeds = {
            name: receipts.FeedCheck(
                checked.feed.epoch,
                checked.entries,
                checked.records,
                checked.root.hex() if checked.root else None,
                checked.signature,
            )
            for name, checked in self.feeds.items()
        }
        return receipts.Verify(
            ok=self.ok and ok and not broken, feeds=feeds, problems=self.problems, invariants=list(invariants), findings=broken
        )


def verify(
    paths: Iterable[str | Path],
    *,
    checkpoints: str | None = None,
    keys: Iterable[str | VerifierKey] = (),
    progress: Progress | None = None,
) -> Report:
    """Check ledgers, or folders of them. `checkpoints`: the text of a bundle kept elsewhere; `keys`: whom to believe besides
    the feeds' own keys (`ed25519:…`, or `name+hash+base64`).

    Raises Refused for a path that is no ledger, a text that is no bundle or no key; what is damaged is reported.
    """
    check = _Check(checkpoints, keys)
    named = files(paths)
    try:
        for path in named:
            check.open(path, f"{path}: " if len(named) > 1 else "")
        total = sum(len(file.feeds) for file in check.files)
        done = 0
        for file in check.files:
            check.file(file)
            for feed in file.feeds:
                check.feed(file, feed)
                done += 1
                if progress is not None:
                    progress(done, total)
        check.together()
        return check.report()
    finally:
        for file in check.files:
            file.ledger.close()


class _File(msgspec.Struct):
    """A ledger that could be opened: its feeds, and how its problems begin where there are several."""

    ledger: Ledger
    where: str
    feeds: list[Feed]


class _Check:
    """What was found so far."""

    def __init__(self, checkpoints: str | None, keys: Iterable[str | VerifierKey]) -> None:
        self.kept: dict[str, list[tuple[Checkpoint, Note | None]]] = {}
        for head in read_bundle(checkpoints) if checkpoints is not None else ():
            self.kept.setdefault(head[0].origin, []).append(head)
        self.keys = list(keys)
        trusted(self.keys, "any")  # what is no key is refused also where there is nothing to check with it
        self.files: list[_File] = []
        self.problems: dict[receipts.Problem, None] = {}
        self.quarantined = 0
        self.found: dict[Feed, list[tuple[Examined, str | None]]] = {}
        self.witnessed: dict[str, list[tuple[str, HeadWitnessed]]] = {}
        self.tested: Counter[str] = Counter()

    def note(self, where: str, pos: str | None, what: str, invariant: str | None = None) -> None:
        """Remember a problem, once. `invariant`: the one it breaks; None: A1 if positions are missing, else A2."""
        self.problems[receipts.Problem(pos, f"{where}{what}", invariant or ("A1" if _GAP.search(what) else "A2"))] = None

    # One file.

    def open(self, path: Path, where: str) -> None:
        """Open a ledger. Raises Refused if there is none; one that is damaged is noted."""
        try:
            file = _File(Ledger.open(path), where, [])
        except Refused:
            raise
        except LedgerError as error:
            self.note(where, None, error.message)
            return
        self.files.append(file)
        try:
            file.feeds = file.ledger.feeds()
            for feed in file.feeds:
                for entry in file.ledger.reader(feed).rare((HeadWitnessed.kind,)):
                    if isinstance(entry.event, HeadWitnessed):
                        self.witnessed.setdefault(entry.event.feed, []).append((feed.at(entry.index), entry.event))
        except BROKEN as error:
            self.note(where, None, _said(error))

    def file(self, file: _File) -> None:
        """Check a file as a file."""
        scan = file.ledger.scan()
        self.quarantined += scan.quarantined
        for what in scan.problems:
            self.note(file.where, None, what)
        try:
            incarnation = file.ledger.incarnation
        except BROKEN as error:
            self.note(file.where, None, _said(error))
            return
        for feed in file.feeds:
            if feed.incarnation != incarnation:
                what = f"belongs to incarnation {feed.incarnation}, the file to {incarnation}"
                self.note(file.where, feed.name, what)

    def feed(self, file: _File, feed: Feed) -> None:
        """Check a feed in a file: its bytes, its signed heads, the branches kept of it."""
        ledger, origin = file.ledger, origin_of(feed)
        kept: list[tuple[Checkpoint, Note | None]] = list(self.kept.get(origin, ()))
        signed: list[tuple[Checkpoint, Note | None]] = []
        try:
            for _records, text in ledger.signatures(feed):
                note = parse_note(text)
                signed.append((Checkpoint.parse(note.text), note))
        except BROKEN as error:
            self.note(file.where, feed.name, f"a signed head that does not read: {_said(error)}")
        witnessed = self.witnessed.get(feed.id, [])
        sizes = {head.size for head, _note in (*kept, *signed)} | {event.records for _pos, event in witnessed}
        found = examine(ledger.reader(feed), sizes)
        for problem in found.problems:
            self.note(file.where, feed.at(problem.index) if problem.index else feed.name, problem.what)
        states = [self._head(file, feed, found, *head, ours=True) for head in signed]
        states += [self._head(file, feed, found, *head, ours=False) for head in kept if head[0].size <= found.records]
        self.found.setdefault(feed, []).append((found, _worst(states)))
        self.tested["A2"] += found.records
        self._witnesses(file, found, witnessed)
        self._branches(file, feed)

    def _witnesses(self, file: _File, found: Examined, witnessed: Sequence[tuple[str, HeadWitnessed]]) -> None:
        """Hold heads that peers witnessed against the tree, where the feed's own key has signed them."""
        feed, origin = found.feed, origin_of(found.feed)
        for pos, event in witnessed:
            root = found.roots.get(event.records)
            if root is None or not event.signature:
                continue
            try:
                note = parse_note(f"{Checkpoint(origin, event.records, bytes.fromhex(event.root)).text}\n{event.signature}")
                open_note(note, trusted(_own_key(feed), origin))
            except BROKEN:
                continue  # whoever signed this, the feed did not
            self.tested["B18"] += 1
            if root.hex() != event.root:
                what = f"the first {event.records} records are not those of the head that {pos} witnessed"
                self.note(file.where, feed.name, what, "B18")

    def _head(
        self, file: _File, feed: Feed, found: Examined, head: Checkpoint, note: Note | None, *, ours: bool
    ) -> tuple[int, str]:
        """Hold a head against the tree: how bad it is, and in words. `ours`: it was kept in the ledger itself."""
        if head.origin != origin_of(feed):
            self.note(file.where, feed.name, f"keeps a head of {head.origin}")
            return _FALSE
        known = trusted([*_own_key(feed), *self.keys], head.origin)
        believed = note is not None and any((s.name, s.id) == (key.name, key.id) for s in note.signatures for key in known)
        if believed and note is not None:
            try:
                open_note(note, known)
            except BROKEN as error:
                self.note(file.where, feed.name, f"a signed head of {head.size} records: {_said(error)}")
                return _FALSE
        if ours and head.size > found.records:
            self.note(file.where, feed.name, _cut(head.size, found.records), "B18")
            return _FALSE
        root = found.roots.get(head.size)
        if root != head.root:
            self.note(file.where, feed.name, f"the first {head.size} records are not those of a head that was kept", "B18")
            return _FALSE
        self.tested["B18"] += 1
        return (1, f"{head.size} records signed") if believed else (2, f"{head.size} records, by nobody known")

    def _branches(self, file: _File, feed: Feed) -> None:
        try:
            named = [branch.name for branch in file.ledger.branches(feed)]
            if not named:
                return
            copies = held(file.ledger, feed)
            for name, copy in zip(named, copies[1:], strict=True):
                if copy.name != name:
                    self.note(file.where, feed.name, f"branch {name} is not what it was named for", "A2")
            if not any(contradiction(copies[1], other) for other in copies):
                self.note(file.where, feed.name, f"branch {named[0]} contradicts nothing: evidence is missing", "A2")
        except BROKEN as error:
            self.note(file.where, feed.name, _said(error))

    # All files.

    def together(self) -> None:
        """Hold the files against each other, and against the heads that were kept elsewhere."""
        try:
            one_incarnation([file.ledger for file in self.files])
        except BROKEN as error:
            self.note("", None, _said(error))
        names = spelled(self.found)
        for feed, found in self.found.items():
            records = max(examined.records for examined, _signature in found)
            for head, _note in self.kept.get(origin_of(feed), ()):
                if head.size > records:
                    self.note("", names[feed], _cut(head.size, records), "B18")
            try:
                holders = [file.ledger for file in self.files if feed in file.feeds]
                if len(holders) == 1 and not holders[0].branches(feed):
                    continue
                united, again = unite_feed(holders, feed), unite_feed(holders[::-1], feed)
            except BROKEN:
                continue  # noted where it stands
            self._united(names[feed], united, again, len(holders))
        held_origins = {origin_of(feed) for feed in self.found}
        for origin, heads in self.kept.items():
            if origin not in held_origins:
                what = f"nothing is held of {origin}, of which a head of {heads[-1][0].size} records was kept"
                self.note("", None, what, "B18")

    def _united(self, name: str, united: United, again: United, copies: int) -> None:
        """What the copies of a feed amount to, in either order: a longest one, or a fork."""
        said, said_again = (
            (each.copy.last, each.copy.name, each.index, [branch.name for branch in each.branches]) for each in (united, again)
        )
        if said != said_again:
            self.note("", name, "its copies unite to something else in another order", "B1")
        self.tested["B1"] += copies
        if united.index is None:
            self.tested["B18"] += copies
        else:
            sides = " and ".join(branch.name for branch in united.branches)
            what = f"is contradicted: branches {sides} differ from there on"
            self.note("", f"{name}#{united.index}", what, "B18")

    def report(self) -> Report:
        """What was found in all."""
        names = spelled(self.found)
        feeds = {}
        for feed in sorted(self.found):
            found, signature = max(self.found[feed], key=lambda pair: (pair[0].entries, pair[0].records))
            feeds[names[feed]] = Checked(
                feed, found.entries, found.records, found.root, signature, found.first_ns, found.last_ns, found.opaque, found.open
            )
        return Report(feeds, list(self.problems), self.quarantined, dict(self.tested))


_FALSE: Final = (3, "does not hold")
_GAP: Final = re.compile(r"\bmissing\b|\bout of its place\b|\blacks control events\b|\bdoes not follow the one before\b")
"""How readers say that positions are missing."""


def _worst(states: Sequence[tuple[int, str]]) -> str | None:
    """What became of signed heads, in words: the worst of it, and of equals the last."""
    return max(reversed(states), key=lambda state: state[0])[1] if states else None


def _cut(size: int, records: int) -> str:
    return f"was cut off: a head of {size} records was kept, {records} are here"


def _own_key(feed: Feed) -> list[str]:
    """The feed's ledger key, if it is one that can sign."""
    try:
        return [feed.ledger_key] if feed.ledger_key is not None and key_bytes(feed.ledger_key) else []
    except LedgerError:
        return []


def _said(error: Exception) -> str:
    return error.message if isinstance(error, LedgerError) else f"{type(error).__name__}: {error}"
