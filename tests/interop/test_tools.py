"""Other tools open our files: stock sqlite3, sqlite-utils, Datasette and DuckDB read the views and count right.

The file is closed by its writer, so it opens on any medium; each tool gets it read-only where it has such a door. What the
views say is compared with what our own reader says. DuckDB needs its sqlite extension, which comes as a package of its own.
"""

import csv
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from scene import INCARNATION, KEY, MINUTE_NS, START_NS, feed_of, lost, minutes, note, opening

from ledger.entry import Observed, Opaque
from ledger.events import LinkEstablished, MachineJoined, MachineLeft
from ledger.store import Ledger

ALPHA, BRAVO = feed_of("alpha", keyed=True), feed_of("bravo", 2)
COUNTS = "select kind, sum(count) as count, sum(lost) as lost from event group by kind order by kind"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Two feeds: sealed and open pings, links that came and went, members that came and left, kinds unheard of."""
    found = tmp_path_factory.mktemp("tools") / "a.ledger"
    with Ledger.create(found, incarnation=INCARNATION) as ledger:
        ledger.append(
            [opening(ALPHA), Observed(START_NS, MachineJoined("alpha", "alpha.lab.example", ledger_key=KEY))], observer=ALPHA
        )
        ledger.append([Observed(START_NS, LinkEstablished("bravo", "l-1")), *minutes(1500), lost()], observer=ALPHA)
        ledger.append([Observed(START_NS, Opaque("weather.changed", 3, b"\xff\x00{")), note("<b>x</b>")], observer=ALPHA)
        ledger.append([opening(BRAVO), *minutes(77), Observed(START_NS + MINUTE_NS, MachineLeft("alpha"))], observer=BRAVO)
    return found


@pytest.fixture(scope="module")
def told(path):
    """What our own reader counts: kinds (pings together), lost pings, links and members."""
    with Ledger.open(path) as ledger:
        entries = list(ledger.read())
    kinds = Counter("ping.block" if entry.kind in {"ping.answered", "ping.failed"} else entry.kind for entry in entries)
    return {
        "kinds": dict(kinds),
        "lost": sum(entry.kind == "ping.failed" for entry in entries),
        "links": [(entry.observer, entry.event.peer, entry.position) for entry in entries if entry.kind.startswith("link.")],
        "members": [
            (entry.event.machine, entry.position) for entry in entries if entry.kind in {"machine.joined", "machine.left"}
        ],
    }


@pytest.fixture(autouse=True)
def _untouched(path):
    """No tool leaves anything behind, or changes a byte."""
    before = path.read_bytes()
    yield
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def judge(told, counts, links, members):
    """Compare rows as a tool gave them, numbers perhaps as text."""
    assert {row["kind"]: int(row["count"]) for row in counts} == told["kinds"]
    assert sum(int(row["lost"] or 0) for row in counts) == told["lost"] > 0
    assert sorted((row["observer"], row["peer"], row["pos"]) for row in links) == sorted(told["links"])
    assert {row["state"] for row in links} == {"up", "down"}
    assert sorted((row["machine"], row["pos"]) for row in members) == sorted(told["members"])


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 program is not installed")
def test_stock_sqlite3(path, told):
    """The sqlite3 program reads the views, dumps the whole file, and finds its structure sound."""

    def rows(sql):
        return list(csv.DictReader(io.StringIO(run("sqlite3", "-readonly", "-csv", "-header", path, sql))))

    judge(told, rows(COUNTS), rows("select * from link"), rows("select * from member"))
    assert run("sqlite3", "-readonly", path, "pragma integrity_check; pragma foreign_key_check") == "ok\n"
    assert "create trigger control_update" in run("sqlite3", "-readonly", path, ".schema").lower()
    assert run("sqlite3", "-readonly", path, "select at from event where pos = 'bravo.2#1'") == "2026-01-01T00:00:00.000000000Z\n"


def test_sqlite_utils(path, told):
    """sqlite-utils lists, queries and shows the views from its command line."""

    def rows(sql):
        return json.loads(run(sys.executable, "-m", "sqlite_utils", "query", path, sql))

    judge(told, rows(COUNTS), rows("select * from link"), rows("select * from member"))
    listed = json.loads(run(sys.executable, "-m", "sqlite_utils", "views", path))
    assert {"event", "link", "member"} <= {row["view"] for row in listed}
    shown = json.loads(run(sys.executable, "-m", "sqlite_utils", "rows", path, "member"))
    assert {row["machine"] for row in shown} == {"alpha"}


@pytest.mark.skipif(importlib.util.find_spec("datasette") is None, reason="datasette is not installed")
def test_datasette(path, told):
    """Datasette serves each view as JSON, without a server."""

    def rows(query):
        return json.loads(run(sys.executable, "-W", "ignore", "-m", "datasette", path, "--get", f"/{path.stem}{query}"))

    answers = [rows(f"/{view}.json?_shape=array&_size=max") for view in ("link", "member")]
    counts = rows(f".json?_shape=array&sql={COUNTS.replace(' ', '+')}")
    judge(told, counts, *answers)
    shown = Counter(row["kind"] for row in rows("/event.json?_shape=array&_size=max"))
    assert shown - Counter(["ping.block"] * 9) == Counter({**told["kinds"], "ping.block": 0}) - Counter()


def test_duckdb(path, told, tmp_path):
    """DuckDB attaches the file and reads the views; it gives their columns as text, and is told which are numbers."""
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    spec = importlib.util.find_spec("duckdb_extension_sqlite")
    if spec is None:
        pytest.skip("duckdb-extension-sqlite is not installed")
    found = [
        each
        for each in Path(spec.submodule_search_locations[0]).rglob("*.duckdb_extension")
        if f"v{duckdb.__version__}" in str(each)
    ]
    if not found:
        pytest.skip(f"duckdb-extension-sqlite is not for duckdb {duckdb.__version__}")
    db = duckdb.connect()
    db.execute(f"set extension_directory = '{tmp_path}'")
    db.execute(f"install '{found[0]}'")
    db.execute("load sqlite")
    db.execute(f"attach '{path}' as mesh (type sqlite, read_only)")

    def rows(sql):
        cursor = db.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    counts = rows("select kind, sum(count::int) as count, sum(lost::int) as lost from mesh.event group by kind")
    judge(told, counts, rows("select * from mesh.link"), rows("select * from mesh.member"))
    db.close()


def test_sqlite_utils_migrations_are_idempotent(path, tmp_path):
    """What sqlite-utils remembers of the schema's steps can be read with it."""
    copy = tmp_path / "copy.ledger"
    shutil.copyfile(path, copy)
    listed = json.loads(run(sys.executable, "-m", "sqlite_utils", "rows", copy, "_sqlite_migrations"))
    assert [(row["migration_set"], row["name"]) for row in listed] == [("meshledger", "format_2")]
