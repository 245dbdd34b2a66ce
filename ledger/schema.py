"""The tables of a ledger: one plain SQLite file that stock tools open.

`control` holds every control event as JSON text, `record` every sealed record's pings in columns, `open` the pings that
no record covers yet, `context` what pings share, `feed` and `head` what each feed is and how far it goes, `branch` the
evidence of forks, `signature` signed heads, `quarantine` what an import refused (no part of the log). sqlite-utils makes
them, step by step, and remembers the steps; the views `event`, `link` and `member` are for people with other tools.

Triggers stop accidents: no UPDATE or DELETE of what happened, no INSERT at a taken position, no open row taken away
unless a record covers it. They are compared with this text at every open. `verify` stops forgers. Never `transform()` a
table here: that drops its triggers.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from ledger.errors import Damaged, Newer, NotALedger, Older

FORMAT: Final = 2
OLDEST: Final = 2
"""Format 1 held a record's directory and its columns in one column. It was given up before anything was released; a layout that
was released stays readable."""
APPLICATION_ID: Final = 0x4D4C4547  # "MLEG", shown by file(1)
PAGE_BYTES: Final = 1024

_TABLES: Final = """
create table meta (key text primary key, value text not null) without rowid;
create table feed (
  id integer primary key, fid text not null unique, machine text not null, epoch integer not null,
  incarnation text not null, ledger_key text, sum blob not null);
create table head (
  feed integer primary key references feed(id), records integer not null, sealed integer not null,
  last integer not null, peak_ns integer, chain blob not null, frontier blob not null, contexts integer not null,
  kinds blob not null, evidence integer not null, sum blob not null);
create table control (
  feed integer not null references feed(id), idx integer not null, at_ns integer not null, boot integer,
  mono_ns integer, kind text not null, v integer not null, body not null, sum blob not null,
  primary key (feed, idx)) without rowid;
create table context (
  feed integer not null references feed(id), id integer not null, body blob not null, sum blob not null,
  primary key (feed, id)) without rowid;
create table open (
  feed integer not null references feed(id), first integer not null, last integer not null, low_ns integer not null,
  high_ns integer not null, lost integer not null, body blob not null, sum blob not null,
  primary key (feed, first));
create table record (
  id integer primary key, feed integer not null references feed(id), n integer not null, first integer not null,
  last integer not null, pings integer not null, lost integer not null, low_ns integer not null,
  high_ns integer not null, before_ns integer, peak_ns integer not null, steady integer not null,
  origin_ns integer not null, prior blob not null, leaf blob not null, closed blob not null, directory blob not null,
  sum blob not null, body blob not null);
create unique index record_number on record (feed, n);
create index record_peak on record (feed, peak_ns);
create index control_rare on control (feed, idx, kind) where kind < 'link.' or kind > 'link/';
create table branch (
  feed integer not null references feed(id), branch text not null, seq integer not null, first integer not null,
  last integer not null, sealed integer not null, body blob not null, sum blob not null,
  primary key (feed, branch, seq));
create table signature (
  feed integer not null references feed(id), records integer not null, note text not null, sum blob not null,
  primary key (feed, records, note)) without rowid;
create table quarantine (
  id integer primary key, source text not null, line integer, why text not null, raw blob not null);
"""

_TRIGGERS: Final = {
    **{
        f"{table}_{verb}": f"create trigger {table}_{verb} before {verb} on {table} "
        f"begin select raise(abort, 'the log is append-only: {table} takes no {verb}'); end"
        for table in ("control", "context", "record", "feed", "branch", "signature")
        for verb in ("update", "delete")
    },
    "open_update": "create trigger open_update before update on open "
    "begin select raise(abort, 'the log is append-only: open takes no update'); end",
    "open_delete": "create trigger open_delete before delete on open "
    "when not exists (select 1 from record where feed = old.feed and n = "
    "(select max(n) from record where feed = old.feed) and last >= old.first) "
    "begin select raise(abort, 'the log is append-only: no record covers these open rows'); end",
    "control_taken": "create trigger control_taken before insert on control "
    "when exists (select 1 from control where feed = new.feed and idx = new.idx) "
    "begin select raise(abort, 'this position is taken'); end",
    "open_taken": "create trigger open_taken before insert on open "
    "when exists (select 1 from open where feed = new.feed and first <= new.last and last >= new.first) "
    "begin select raise(abort, 'this position is taken'); end",
    "record_taken": "create trigger record_taken before insert on record "
    "when exists (select 1 from record where feed = new.feed and n = new.n) "
    "begin select raise(abort, 'this position is taken'); end",
}

RARE: Final = "(kind < 'link.' or kind > 'link/')"
"""A condition that lets a query use the index over the few control events that are no link transitions."""

_FRACTION: Final = "(({0} % 1000000000 + 1000000000) % 1000000000)"
_INSTANT: Final = (
    f"strftime('%Y-%m-%dT%H:%M:%S', ({{0}} - {_FRACTION}) / 1000000000, 'unixepoch') || printf('.%09dZ', {_FRACTION})"
)
_NAME: Final = "f.machine || case when f.epoch = 1 then '' else '.' || f.epoch end"
_VIEWS: Final = {
    # In two steps, because DuckDB rewrites the view that it is asked for, and gets a union wrong.
    "event_part": f"""create view event_part as
select {_NAME} || '#' || c.idx as pos, f.machine as observer, f.epoch as epoch, c.idx as first, c.idx as last,
  c.at_ns as at_ns, {_INSTANT.format("c.at_ns")} as at, {_INSTANT.format("c.at_ns")} as until, c.kind as kind, c.v as v,
  1 as count, null as lost, cast(c.body as text) as body
from control c join feed f on f.id = c.feed
union all
select {_NAME} || '#' || r.first, f.machine, f.epoch, r.first, r.last, r.low_ns, {_INSTANT.format("r.low_ns")},
  {_INSTANT.format("r.high_ns")}, 'ping.block', 1, r.pings, r.lost, null
from record r join feed f on f.id = r.feed where r.pings > 0
union all
select {_NAME} || '#' || o.first, f.machine, f.epoch, o.first, o.last, o.low_ns, {_INSTANT.format("o.low_ns")},
  {_INSTANT.format("o.high_ns")}, 'ping.block', 1, o.last - o.first + 1, o.lost, null
from open o join feed f on f.id = o.feed""",
    "event": "create view event as select * from event_part",
    "link": f"""create view link as
select f.machine as observer, json_extract(c.body, '$.peer') as peer, {_NAME} || '#' || c.idx as pos,
  {_INSTANT.format("c.at_ns")} as at, c.kind as kind, json_extract(c.body, '$.link') as link,
  case c.kind when 'link.established' then 'up' else 'down' end as state, json_extract(c.body, '$.reason') as reason
from control c join feed f on f.id = c.feed
where c.kind in ('link.established', 'link.lost', 'link.failed') and json_valid(c.body)""",
    "member": f"""create view member as
select json_extract(c.body, '$.machine') as machine, {_NAME} || '#' || c.idx as pos, {_INSTANT.format("c.at_ns")} as at,
  f.machine as observer, c.kind as kind, json_extract(c.body, '$.hostname') as hostname
from control c join feed f on f.id = c.feed
where c.kind in ('machine.joined', 'machine.left') and json_valid(c.body)""",
}


def create(path: str) -> None:
    """Make the tables in a new, empty file. `path` must not exist, or be empty. Not durable until the caller syncs it."""
    import sqlite_utils
    from sqlite_utils.migrations import Migrations

    migrations = Migrations("meshledger")

    @migrations()
    def format_2(db: sqlite_utils.Database) -> None:
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                db.conn.execute(statement)
        for statement in (*_TRIGGERS.values(), *_VIEWS.values()):
            db.conn.execute(statement)
        db.conn.execute("insert into meta values ('format', ?)", (str(FORMAT),))

    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # Nothing here need be durable: whoever makes a file syncs it before it counts.
        connection.execute("pragma journal_mode=memory")
        connection.execute("pragma synchronous=off")
        connection.execute(f"pragma page_size={PAGE_BYTES}")
        connection.execute(f"pragma application_id={APPLICATION_ID}")
        migrations.apply(sqlite_utils.Database(connection))
        # The same content gives the same bytes: no clock time in the file.
        connection.execute("update _sqlite_migrations set applied_at = ''")
    finally:
        connection.close()


def check(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a file that is no ledger, is newer than this program, or whose triggers or views are not ours.

    Raises NotALedger, Newer, Older or Damaged.
    """
    names = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
    mark = connection.execute("pragma application_id").fetchone()[0]
    whole = {"meta", "feed", "head", "control", "record"} <= names
    if not whole and (mark != APPLICATION_ID or "meta" not in names):
        raise NotALedger(f"{path}: an SQLite database, but no ledger", hint="name a file made by meshledger")
    found = connection.execute("select value from meta where key = 'format'").fetchone()
    if found is None or not found[0].isdecimal() or int(found[0]) < 1:
        raise Damaged(f"{path}: the format number is missing")
    if int(found[0]) > FORMAT:
        raise Newer(
            f"{path}: written in format {found[0]}, this program knows formats up to {FORMAT}",
            hint="install a newer meshledger",
        )
    if int(found[0]) < OLDEST:
        raise Older(
            f"{path}: written in format {found[0]}, which no release wrote; this program knows formats from {OLDEST}",
            hint="export it as jsonl with the version that wrote it, and import that",
        )
    if not whole:
        raise Damaged(f"{path}: tables of the ledger are missing")
    views = dict(connection.execute("select name, sql from sqlite_master where type = 'view'"))
    if {name: _folded(sql) for name, sql in views.items()} != {name: _folded(sql) for name, sql in _VIEWS.items()}:
        raise Damaged(f"{path}: the views are not as they were made")
    stored = dict(connection.execute("select name, sql from sqlite_master where type = 'trigger'"))
    if {name: _folded(sql) for name, sql in stored.items()} != {name: _folded(sql) for name, sql in _TRIGGERS.items()}:
        raise Damaged(f"{path}: the triggers that keep the log append-only are not as they were made")


def _folded(sql: str) -> str:
    return " ".join(sql.split()).lower()
