"""Damage is loud: whatever is flipped in a ledger's file, every answer stays as it was or is an error, never another.

Two ways in. Bits of every row and column, by way of raw SQLite with the triggers gone: what a forger without care, or a
stray statement, would do. And bits of every page of the file: what a disk does. Beside each reading stands `verify`: it
reports a problem, or there was nothing to report, since all answers are unchanged.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from scene import MEMORY

from ledger import opening, schema
from ledger.entry import Observed
from ledger.errors import LedgerError
from ledger.events import (
    ClockStepped,
    LinkEstablished,
    LinkLost,
    MachineJoined,
    NodeStarted,
    NoteAdded,
    PingAnswered,
    PingFailed,
)  # fmt: skip
from ledger.identity import IMPORTED
from ledger.keys import generate
from ledger.store import Ledger
from replay.check import verify
from replay.merge import merge
from replay.proving import checkpoint
from replay.receipts import Problem
from replay.union import Union

INCARNATION = f"{IMPORTED}damage"
START_NS = 1_767_225_600_000_000_000
SECOND_NS = 1_000_000_000
TABLES = ("meta", "feed", "head", "control", "context", "open", "record", "branch", "signature", "quarantine")
UNCOVERED = {
    ("record", "id"),
    ("quarantine", "id"),
    ("quarantine", "source"),
    ("quarantine", "line"),
    ("quarantine", "why"),
    ("quarantine", "raw"),
}
"""What imports refused is no part of the log: kept as it came, and not proved. A record's row id says nothing."""

KEY = generate()
MOMENTS = (0, 9, 30, 50, 85, 100)
"""Before everything, in each record, between the two, in the open part, and after everything."""
Answer = Any


class Whole(NamedTuple):
    """A ledger that nobody damaged, what it answers, and what `verify` finds all the same: its fork."""

    path: Path
    answers: dict[str, Answer]
    problems: list[Problem]


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    """A small ledger with something in every table: records, an open part, a clock set back, a fork, a signed head."""
    with TemporaryDirectory(dir=MEMORY) as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(opening, "_PAUSE_S", 0)  # nobody writes here: what cannot be opened is damaged, and waiting heals nothing
        path = _written(Path(folder))
        yield Whole(path, answers(path), verify([path], keys=[KEY.text]).problems)


@pytest.fixture
def path(whole: Whole) -> Path:
    """Where a damaged copy stands, beside the whole one."""
    return whole.path.with_name("damaged.ledger")


def _written(folder: Path) -> Path:
    sides = []
    for side in range(2):
        path = folder / f"{side}.ledger"
        with Ledger.create(path, incarnation=INCARNATION) as ledger:
            for machine, peer in (("alpha", "bravo"), ("bravo", "alpha")):
                feed = ledger.open_feed(machine, at=START_NS)
                ledger.append(_entries(peer), observer=feed)
                ledger.seal(feed)
                ledger.append(_entries(peer, 40)[4:], observer=feed)
                ledger.seal(feed)
                ledger.append(_entries(peer, 80)[5 : 9 if machine == "alpha" else 8], observer=feed)
            ledger.append(NoteAdded(f"side {side}"), observer="bravo", at=START_NS + 99 * SECOND_NS)
            ledger.quarantine("file.jsonl", 3, "no such kind", b"{}")
        sides.append(path)
    merge(sides, folder / "whole.ledger")
    with Union.open([folder / "whole.ledger"]) as union:
        heads = checkpoint(union, KEY).heads
    with Ledger.open(folder / "whole.ledger", write=True) as ledger:
        for head in heads:
            ledger.keep_signature(ledger.feed(head.feed), head.records, head.text)
    return folder / "whole.ledger"


def _entries(peer: str, since: int = 0) -> list[Observed]:
    def at(second: int) -> int:
        return START_NS + (since + second) * SECOND_NS

    pings = [Observed(at(n), PingAnswered(peer, since + n, 900 + n * 7, "1"), 1, n) for n in range(8, 20)]
    return [
        Observed(at(1), NodeStarted(1, "0.1.0")),
        Observed(at(2), MachineJoined(peer, f"{peer}.lab.example")),
        Observed(at(3), LinkEstablished(peer, "1")),
        Observed(at(4), PingAnswered(peer, since + 4, 1000, "1")),
        Observed(at(9), PingFailed(peer, since + 5, "timeout", "1")),
        Observed(at(6), ClockStepped(-4 * SECOND_NS)),
        Observed(at(7), LinkLost(peer, "timeout", "1")),
        *pings,
    ]


def answers(path: Path) -> dict[str, Answer]:
    """Every answer that reading gives, or the error that stands for it. Nothing but a LedgerError may be raised."""
    found: dict[str, Answer] = {}

    def ask(name: str, question: Callable[[], Answer]) -> None:
        try:
            found[name] = question()
        except LedgerError as error:
            found[name] = error

    try:
        union = Union.open([path])
    except LedgerError as error:
        return {"open": error}
    with union:
        found["feeds"] = union.feeds()
        found["contradicted"] = union.contradicted
        for feed in union.feeds():
            ledger, reader = union.ledger(feed), union.reader(feed)
            ask(f"{feed.name} head", reader.head)
            ask(f"{feed.name} read", lambda reader=reader: list(reader.entries()))
            ask(f"{feed.name} some", lambda reader=reader: list(reader.entries(22, 30)))
            ask(f"{feed.name} branches", lambda ledger=ledger, feed=feed: ledger.branches(feed))
            ask(f"{feed.name} rare", lambda reader=reader: reader.rare(("node.started", "machine.joined", "note.added")))
            ask(f"{feed.name} groups", lambda reader=reader: [reader.groups(record) for record in reader.records()])
            for second in MOMENTS:
                at_ns = START_NS + second * SECOND_NS
                ask(f"{feed.name} cut {second}", lambda reader=reader, at_ns=at_ns: reader.cut(at_ns))
    return found


def judge(whole: Whole, path: Path, what: str) -> str:
    """Hold the answers of a damaged file against those of the whole one. Returns what became of the damage."""
    damaged = answers(path)
    loud = any(isinstance(answer, LedgerError) for answer in damaged.values())
    for question, answer in damaged.items():
        same = isinstance(answer, LedgerError) or answer == whole.answers[question]
        assert same, f"{what}: {question} is answered differently"
    assert loud or damaged.keys() == whole.answers.keys(), f"{what}: questions went missing"
    try:
        problems: list[Any] = verify([path], keys=[KEY.text]).problems
    except LedgerError as error:
        problems = [error]
    seen = problems != whole.problems
    assert seen or not loud, f"{what}: reading fails, and verify finds nothing"
    return "loud" if loud else "seen" if seen else "harmless"


def test_the_whole_file_is_sound_but_for_its_fork(whole: Whole) -> None:
    """The file that the other proofs damage has nothing wrong with it but the fork, and something in every table."""
    assert [problem.what[:16] for problem in whole.problems] == ["is contradicted:"]
    assert not any(isinstance(answer, LedgerError) for answer in whole.answers.values())
    assert verify([whole.path], keys=[KEY.text]).feeds["alpha"].signature == "2 records signed"
    connection = sqlite3.connect(whole.path)
    assert all(connection.execute(f"select count(*) from {table}").fetchone()[0] for table in TABLES)
    connection.close()


def flipped(value: Any) -> Iterator[Any]:
    """The value with a bit of it another, or, where it is null, not null."""
    if value is None:
        yield 1
    elif isinstance(value, int):
        yield value ^ 1
        yield value ^ (1 << 33)
    elif isinstance(value, str):
        middle = len(value) // 2
        yield value[:middle] + chr(ord(value[middle]) ^ 1) + value[middle + 1 :] if value else "x"
    else:
        for place in {0, len(value) // 2, len(value) - 1} if value else ():
            yield value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
        if not value:
            yield b"x"


@pytest.mark.parametrize("table", TABLES)
def test_a_flipped_bit_in_any_column_is_never_another_answer(whole: Whole, table: str, path: Path) -> None:
    """A bit flipped in every column of every row, behind the triggers' back: the same answers, or errors; `verify` sees it."""
    connection = sqlite3.connect(whole.path)
    columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
    keys = [row[1] for row in connection.execute(f"pragma table_info({table})") if row[5]]
    triggers = [sql for (sql,) in connection.execute("select sql from sqlite_master where type = 'trigger'")]
    names = [name for (name,) in connection.execute("select name from sqlite_master where type = 'trigger'")]
    rows = connection.execute(f"select * from {table}").fetchall()
    connection.close()
    became: dict[str, int] = {}
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            for other in flipped(value):
                path.unlink(missing_ok=True)  # a new file, lest a reading that failed still holds the old one
                shutil.copyfile(whole.path, path)
                connection = sqlite3.connect(path, isolation_level=None)
                connection.execute("pragma synchronous=off")
                for name in names:
                    connection.execute(f"drop trigger {name}")
                where = " and ".join(f"{key} is ?" for key in keys)
                key = [row[columns.index(each)] for each in keys]
                try:
                    connection.execute(f"update {table} set {column} = ? where {where}", (other, *key))
                except sqlite3.IntegrityError:
                    continue
                finally:
                    for sql in triggers:
                        connection.execute(sql)
                    connection.close()
                fate = judge(whole, path, f"{table}.{column} of {key}")
                if (table, column) not in UNCOVERED:
                    assert fate != "harmless", f"{table}.{column} of {key}: nobody sees it"
                became[fate] = became.get(fate, 0) + 1
    assert sum(became.values()) >= len(rows)


def test_a_flipped_bit_in_any_page_is_never_another_answer(whole: Whole, path: Path) -> None:
    """Bits flipped in every page of the file, at its head and elsewhere: the same answers, or errors that `verify` shares."""
    content = whole.path.read_bytes()
    dice = random.Random(1)
    became: dict[str, int] = {}
    for page in range(0, len(content), schema.PAGE_BYTES):
        places = [page + n for n in (0, 4, 9)] + [page + dice.randrange(schema.PAGE_BYTES) for _ in range(4)]
        for place in places:
            bit = dice.randrange(8)
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.unlink(missing_ok=True)
            path.write_bytes(damaged)
            fate = judge(whole, path, f"byte {place}, bit {bit}")
            became[fate] = became.get(fate, 0) + 1
    assert became["loud"] > became.get("harmless", 0) // 4
