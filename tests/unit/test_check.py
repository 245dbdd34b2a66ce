"""`verify`: what it says of sound ledgers, of forged ones, and of those whose end was cut off."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import word
from word import START_NS, Word, feed_of

from ledger import rows
from ledger.errors import Damaged, NotALedger, Refused
from ledger.events import NoteAdded, PingAnswered
from ledger.heads import Head
from ledger.identity import Feed
from ledger.keys import generate
from ledger.merkle import Frontier
from ledger.store import Ledger
from replay.check import verify
from replay.merge import merge
from replay.proving import bundle, checkpoint
from replay.soundness import verify_bytes
from replay.union import Union

ALPHA, BRAVO = feed_of("alpha"), feed_of("bravo")
KEY = generate()
SOUND = {ALPHA: Word((0,) * 9, (2, 5, 8)), BRAVO: Word((0, 0))}


def test_a_sound_ledger_has_no_problem(tmp_path: Path) -> None:
    """Nothing is reported; each feed shows its entries, records, root and how far it reaches; the answer says the same."""
    path = word.write(tmp_path / "a.ledger", SOUND)
    told: list[tuple[int, int]] = []
    report = verify([path], progress=lambda done, total: told.append((done, total)))
    assert (report.ok, report.problems, told) == (True, [], [(1, 2), (2, 2)])
    alpha = report.feeds["alpha"]
    with Ledger.open(path) as ledger:
        tree = Frontier()
        for leaf in ledger.reader(ALPHA).leaves():
            tree.append(leaf)
    assert (alpha.entries, alpha.records, alpha.root, alpha.open) == (9, 3, tree.root(), 1)
    assert (alpha.first_ns, alpha.last_ns, alpha.signature) == (START_NS, START_NS + 9_000_000_000, None)
    assert alpha.opaque == 1
    answer = report.answer()
    assert answer.feeds["alpha"].root == tree.root().hex()
    assert report.answer(ok=False).ok is False
    assert msgspec.json.decode(msgspec.json.encode(answer))["ok"] is True


def test_verify_bytes_counts_what_it_hashed(tmp_path: Path) -> None:
    """Every record is hashed to its leaf, and the numbers of records and entries come back."""
    path = word.write(tmp_path / "a.ledger", SOUND)
    with Ledger.open(path) as ledger:
        assert verify_bytes(ledger.reader(ALPHA)) == (3, 8)
        assert verify_bytes(ledger.reader(BRAVO)) == (0, 0)


def _forge(path: Path, change: Callable[[sqlite3.Connection], None]) -> None:
    """Change a ledger as a forger would: triggers away, change, triggers back."""
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
    for name, _sql in triggers:
        connection.execute(f"drop trigger {name}")
    change(connection)
    for _name, sql in triggers:
        connection.execute(sql)
    connection.close()


def _resum(connection: sqlite3.Connection, table: str, where: str, last: int) -> None:
    """Make the sums of rows anew, so that no reader notices. `last`: the columns that the sum covers."""
    for row in connection.execute(f"select rowid, * from {table} where {where}").fetchall():
        covered = row[2 : 2 + last] if table == "record" else row[1 : 1 + last]
        connection.execute(f"update {table} set sum = ? where rowid = ?", (rows.row_sum(*covered), row[0]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("low_ns = low_ns - 1", "states other instants"),
        ("steady = 1 - steady", "states other instants"),
        ("lost = lost + 1", "states other instants"),
        ("before_ns = before_ns + 1", "states other instants"),
        ("leaf = zeroblob(32)", "does not hash to its leaf"),
        ("prior = zeroblob(16)", "out of its place"),
        ("origin_ns = origin_ns + 1", "states other instants"),
    ],
)
def test_a_row_that_says_what_its_content_does_not_is_found(tmp_path: Path, change: str, said: str) -> None:
    """A forger who makes the sum of a record's row anew is found by what the record's bytes amount to."""
    path = word.write(tmp_path / "a.ledger", SOUND)

    def forge(connection: sqlite3.Connection) -> None:
        connection.execute(f"update record set {change} where n = 2")
        _resum(connection, "record", "n = 2", 16)

    _forge(path, forge)
    report = verify([path])
    assert any(said in problem.what and problem.pos == "alpha#3" for problem in report.problems), report.problems


def test_rows_that_no_head_covers_are_found(tmp_path: Path) -> None:
    """Rows beyond the end, or of no feed, are read by nobody, and reported."""
    path = word.write(tmp_path / "a.ledger", SOUND)

    def forge(connection: sqlite3.Connection) -> None:
        connection.execute("insert into control select feed, 99, at_ns, boot, mono_ns, kind, v, body, sum from control limit 1")
        connection.execute("insert into context select 7, id, body, sum from context limit 1")

    _forge(path, forge)
    said = " ".join(problem.what for problem in verify([path]).problems)
    assert "1 rows of table control" in said
    assert "1 rows of table context" in said


def test_one_problem_does_not_hide_another(tmp_path: Path) -> None:
    """Two damaged records of one feed, and one of another, are all reported."""
    path = word.write(tmp_path / "a.ledger", {ALPHA: Word((0,) * 9, (2, 4, 6, 8)), BRAVO: Word((0,) * 4, (2, 4))})
    _forge(path, lambda c: c.execute("update record set lost = 9 where (feed = 1 and n in (1, 3)) or (feed = 2 and n = 2)"))
    damaged = {problem.pos for problem in verify([path]).problems if "is not what was written" in problem.what}
    assert damaged == {"alpha#1", "alpha#5", "bravo#3"}


def test_an_altered_entry_is_found_by_its_record(tmp_path: Path) -> None:
    """A control event changed with its sum made anew no longer hashes to the leaf; `verify_bytes` names the place."""
    path = word.write(tmp_path / "a.ledger", {ALPHA: Word((0,) * 9, (2, 5, 8))})

    def forge(connection: sqlite3.Connection) -> None:
        found = connection.execute("select * from control where idx = 5").fetchone()
        body = found[7].replace("o", "a")
        columns = (*found[:7], body)
        connection.execute("update control set body = ?, sum = ? where idx = 5", (body, rows.row_sum(*columns)))

    _forge(path, forge)
    with Ledger.open(path) as ledger, pytest.raises(Damaged, match="alpha#3"):
        verify_bytes(ledger.reader(ALPHA))
    assert any("does not hash to its leaf" in problem.what for problem in verify([path]).problems)


def test_a_feed_that_begins_as_another_is_found(tmp_path: Path) -> None:
    """The first entry must open the very feed in which it stands, and must open one."""
    path = tmp_path / "a.ledger"
    with Ledger.create(path, incarnation=word.INCARNATION) as ledger:
        ledger.add_feed(ALPHA)
        ledger.append(word.entry(BRAVO, 1, 0), observer=ALPHA)
        ledger.add_feed(BRAVO)
        ledger.append(NoteAdded("first"), observer=BRAVO, at=START_NS)
    found = {problem.pos: problem.what for problem in verify([path]).problems}
    assert "opens another feed" in found["alpha#1"]
    assert "begins with note.added" in found["bravo#1"]


def test_a_fork_is_a_problem_in_one_file_and_between_two(tmp_path: Path) -> None:
    """A contradicted feed is reported at its first differing entry, with both branches, merged or not."""
    paths = [
        word.write(tmp_path / f"{n}.ledger", {ALPHA: each})
        for n, each in enumerate((Word((0,) * 4, (2,)), Word((0, 0, 1), (2,))))
    ]
    between = verify(paths).problems
    merge(paths, tmp_path / "t.ledger")
    within = verify([tmp_path / "t.ledger"]).problems
    assert between == within
    assert [problem.pos for problem in between] == ["alpha#3"]


def test_two_incarnations_and_strange_files(tmp_path: Path) -> None:
    """Ledgers of two incarnations are a problem, no ledger at all is refused, a damaged one reported."""
    one = word.write(tmp_path / "1.ledger", {ALPHA: Word((0, 0))})
    other = tmp_path / "2.ledger"
    with Ledger.create(other, incarnation="another") as ledger:
        ledger.open_feed("alpha", at=START_NS)
    assert any("belongs to incarnation" in problem.what for problem in verify([one, other]).problems)
    with pytest.raises(NotALedger):
        verify([tmp_path / "missing.ledger"])
    connection = sqlite3.connect(one)
    connection.execute("drop trigger control_update")
    connection.close()
    assert [problem.pos for problem in verify([one]).problems] == [None]


# Cut off.


def _kept(path: Path, *, signed: bool) -> str:
    with Union.open([path]) as union:
        return bundle(checkpoint(union, KEY if signed else None))


@pytest.mark.parametrize("signed", [True, False])
def test_a_truncated_tail_is_found_by_a_head_kept_elsewhere(tmp_path: Path, signed: bool) -> None:
    """A file whose last records were taken away, all else made to fit, is sound by itself; a kept checkpoint tells."""
    long = word.write(tmp_path / "long.ledger", {ALPHA: Word((0,) * 9, (2, 5, 8)), BRAVO: Word((0, 0), (2,))})
    kept = _kept(long, signed=signed)
    keys = [KEY.text]
    assert verify([long], checkpoints=kept, keys=keys).ok
    for ends in ((2, 5), (2,), ()):
        short = tmp_path / f"short{len(ends)}.ledger"
        word.write(short, {ALPHA: Word((0,) * max(ends, default=1), ends), BRAVO: Word((0, 0), (2,))})
        assert verify([short]).ok
        assert [problem.pos for problem in verify([short], checkpoints=kept, keys=keys).problems] == ["alpha"]
    assert verify([tmp_path / "short2.ledger", long], checkpoints=kept, keys=keys).ok


def test_a_feed_written_anew_is_found_by_a_head_kept_elsewhere(tmp_path: Path) -> None:
    """A feed with one entry another, and everything after it computed anew, is not that of the kept head; nor is none."""
    kept = _kept(word.write(tmp_path / "a.ledger", {ALPHA: Word((0,) * 6, (2, 5))}), signed=True)
    other = word.write(tmp_path / "b.ledger", {ALPHA: Word((0, 0, 0, 1, 0, 0), (2, 5))})
    assert "not those of a head that was kept" in verify([other], checkpoints=kept).problems[0].what
    without = word.write(tmp_path / "c.ledger", {BRAVO: Word((0,) * 6, (2, 5))})
    assert "nothing is held of" in verify([without], checkpoints=kept).problems[0].what
    with pytest.raises(Refused):
        verify([other], checkpoints="no bundle")


def test_signed_heads_in_the_ledger_are_held_against_its_tree(tmp_path: Path) -> None:
    """A signature that does not hold, a head larger than the feed, a head of other records: each is a problem."""
    feed = Feed.of(word.INCARNATION, "alpha", 1, KEY.text)
    path = tmp_path / "a.ledger"
    with Ledger.create(path, incarnation=word.INCARNATION) as ledger:
        ledger.open_feed("alpha", at=START_NS, ledger_key=KEY.text)
        ledger.append(PingAnswered("bravo", 1, 9), observer=feed, at=START_NS)
        ledger.seal(feed)
    with Union.open([path]) as union:
        text = checkpoint(union, KEY).heads[0].text
    with Ledger.open(path, write=True) as ledger:
        ledger.keep_signature(feed, 1, text)
    report = verify([path])
    assert (report.problems, report.feeds["alpha"].signature) == ([], "1 records signed")
    with Ledger.open(path, write=True) as ledger:
        ledger.keep_signature(feed, 2, text.replace("\n1\n", "\n2\n"))
    report = verify([path])
    assert "does not fit the text" in report.problems[0].what
    assert report.feeds["alpha"].signature == "does not hold"


def test_heads_count_kinds_and_evidence(tmp_path: Path) -> None:
    """The head's own counts are computed anew: a forged head row, its sum made to fit, does not pass."""
    path = word.write(tmp_path / "a.ledger", SOUND)

    def forge(connection: sqlite3.Connection) -> None:
        connection.execute("update head set kinds = ? where feed = 1", (Head().with_kinds(["feed.opened"]).kinds,))
        _resum(connection, "head", "feed = 1", 10)

    _forge(path, forge)
    assert any("counts other kinds" in problem.what for problem in verify([path]).problems)
