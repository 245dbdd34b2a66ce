"""Entries as they stand: `log` and `show`, `tail` which goes on with what comes, and `sql` for everything else.

`log` streams: no more than a batch of entries is held, whatever was asked for. How `tail` goes on is told in `tailing`. `sql`
puts a query to one ledger, opened to read, through sqlite-utils.
"""

from __future__ import annotations

from difflib import get_close_matches
from itertools import chain, islice
from typing import Any, Final, get_args

import click

from ledger.errors import Refused
from ledger.events import KINDS, Reason
from ledger.identity import parse_position
from replay.asked import Asked
from replay.cells import parse_cell
from replay.exits import interrupted
from replay.glances import machines_of, no_machine
from replay.history import History
from replay.moments import Range
from replay.options import Command, ledgers_argument
from replay.receipts import Log, Show, Sql, Tail
from replay.select import Selection, select
from replay.spans import parse_span
from replay.tailing import LAST, Tailing, rows
from replay.text import shorten

_REASONS: Final[tuple[str, ...]] = get_args(Reason)
_VIEWS: Final = "the views event, link and member are there to be asked"
_STEPS: Final = 1_000_000
"""So many steps of a query take some hundredths of a second."""


def _filters(function: Any) -> Any:
    """The options that choose entries."""
    options = (
        click.option("-m", "--machine", metavar="NAME", help="It saw it, is its other end, or is what it is about."),
        click.option("-l", "--link", metavar="A:B|A=B", help="A link, observer first; or a pair, both ways."),
        click.option("-k", "--kind", "kinds", multiple=True, metavar="KIND", help="The kind, or how it begins; may be repeated."),
        click.option("--observer", metavar="NAME", help="The machine, or the feed, that saw it."),
        click.option("--reason", metavar="WORD", help="The reason of a failure, such as timeout."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _selection(chosen: dict[str, Any], within: Range = Range()) -> Selection:  # noqa: B008  frozen
    cell = parse_cell(chosen["link"]) if chosen["link"] is not None else None
    if cell is not None and cell.kind == "machine":
        raise Refused(f"'{cell}' is no link", hint="a link is alpha:bravo, observer first; a pair alpha=bravo; else use -m")
    reason = chosen["reason"]
    if reason is not None and reason not in _REASONS:
        near = get_close_matches(reason, _REASONS, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(_REASONS)}"
        raise Refused(f"there is no reason '{shorten(reason)}'", hint=hint)
    return Selection(
        machine=chosen["machine"],
        cell=cell,
        kinds=tuple(chosen["kinds"]),
        observer=chosen["observer"],
        reason=reason,
        since_ns=within.since_ns,
        until_ns=within.until_ns,
    )


def _none_fits(asked: Asked, history: History, selection: Selection) -> None:
    """Say why not one entry was found, where it is a name that nothing here bears. Raises Refused for a machine."""
    known = machines_of(history)
    cell = selection.cell
    for name in (selection.machine, *((cell.a, cell.b) if cell is not None else ())):
        if name is not None and name not in known:
            raise no_machine(name, known)
    odd = next((kind for kind in selection.kinds if not any(each.startswith(kind) for each in KINDS)), None)
    if odd is not None:
        near = get_close_matches(odd, KINDS, 1)
        asked.say(f"no kind begins with '{shorten(odd)}'" + (f": did you mean {' or '.join(near)}?" if near else ""))
    asked.say("no entry fits")


@click.command("log", cls=Command)
@_filters
@click.option("-S", "--since", metavar="TIME", help="From this moment on.")
@click.option("-U", "--until", metavar="TIME", help="Before this moment.")
@click.option("--around", metavar="TIME[±SPAN]", help="To both sides of a moment; five minutes if no span is named.")
@click.option("-n", "last", type=click.IntRange(0), metavar="N", help="Only the last N of them.")
@click.option("--head", type=click.IntRange(0), metavar="N", help="Only the first N of them.")
@click.option("-r", "--reverse", is_flag=True, help="Newest first.")
@ledgers_argument()
@click.pass_obj
def log_(
    asked: Asked,
    /,
    *,
    ledgers: tuple[str, ...],
    since: str | None,
    until: str | None,
    around: str | None,
    last: int | None,
    head: int | None,
    reverse: bool,
    **chosen: Any,
) -> int:
    """Entries in the order of their instants, from all ledgers, chosen by machine, link, kind, observer, reason and time.

    A range takes its beginning and leaves out its end, so adjoining ranges lose and repeat nothing. A whole log as jsonl is
    read back by `import`; for a part of one there is `export`, which tells where records end.

    For example:
      meshledger log -k link -L incident.ledger
      meshledger log -l alpha=charlie --around '2026-11-22 03:12±2min' -L incident.ledger
      meshledger log -m charlie --reason timeout -n 20 -r -L seattle.ledger -o jsonl
    """
    with asked.history(ledgers) as history:
        selection = _selection(chosen, asked.range(history, since, until, around))
        entries = select(history, selection, head=head, last=last, reverse=reverse)
        first = list(islice(entries, 1))
        if not first and 0 not in (head, last):
            _none_fits(asked, history, selection)
        asked.rows(Log(entries=[]), rows(history, chain(first, entries)))
        return asked.judged(history)


@click.command("show", cls=Command)
@click.argument("positions", nargs=-1, required=True, metavar="POS... [LEDGER]...")
@click.pass_obj
def show_(asked: Asked, /, *, positions: tuple[str, ...]) -> int:
    """The entries at these positions, in the order named. A position is a feed's name and an index, such as alpha#12021.

    Positions stay valid for ever, whatever is merged later. Where two feeds share a name: alpha~3f2a#12021.

    For example:
      meshledger show alpha#12021 -L incident.ledger
      meshledger show alpha#12021 charlie.2#17 -L incident.ledger -o json
    """
    meant = [text for text in positions if parse_position(text) is not None]
    named = [text for text in positions if parse_position(text) is None]
    lost = next((text for text in named if "#" in text), None)
    if lost is not None or not meant:
        raise Refused(f"'{lost or positions[0]}' is no position", hint="such as alpha#12021, or alpha.2#17 in a second epoch")
    with asked.history(named) as history:
        asked.rows(Show(entries=[]), list(rows(history, [history.entry(text) for text in meant])))
        return asked.judged(history)


@click.command("tail", cls=Command)
@_filters
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what comes, until interrupted.")
@click.option("-n", "last", type=click.IntRange(0), metavar="N", help=f"Begin with the last N that are there. [default: {LAST}]")
@click.option("--after", metavar="TOKEN", help="Begin behind what an earlier tail gave: its last line on standard error.")
@click.option("--until-match", "matches", type=click.IntRange(1), metavar="N", help="Follow, and end after N entries.")
@click.option("--timeout", metavar="SPAN", help="Follow for so long at most; exit 1 if --until-match came to nothing.")
@ledgers_argument()
@click.pass_obj
def tail_(
    asked: Asked,
    /,
    *,
    ledgers: tuple[str, ...],
    following: bool,
    last: int | None,
    after: str | None,
    matches: int | None,
    timeout: str | None,
    **chosen: Any,
) -> int:
    """The last entries, and with -f those that come. Where it ended stands on standard error, as a token for --after.

    Going on after a token misses nothing and repeats nothing, whatever was written, sealed or begun in between.

    For example:
      meshledger tail -f -k link -L node.ledger
      meshledger tail --after 'alpha#12021,bravo#11876' -L node.ledger -o jsonl
      meshledger tail -k link.established -m charlie --until-match 1 --timeout 10min -L node.ledger
    """
    if after is not None and last is not None:
        raise Refused("--after says where to begin, and so does -n", hint="leave out one of the two")
    span_ns = None if timeout is None else parse_span(timeout)
    tailing = Tailing(asked, ledgers, _selection(chosen), matches)
    follows = following or matches is not None or span_ns is not None
    tailing.begin(after, last)
    try:
        asked.rows(Tail(entries=[]), tailing.entries(span_ns, follows=follows), live=follows)
    finally:
        asked.say(f"after {tailing.token}")
    return tailing.code


@click.command("sql", cls=Command)
@click.argument("query", metavar="QUERY")
@ledgers_argument()
@click.pass_obj
def sql_(asked: Asked, /, *, query: str, ledgers: tuple[str, ...]) -> int:
    """The rows that a query in SQL gives. It reads one ledger and cannot change it.

    The views `event`, `link` and `member` are made for queries; `event` has one row for each run of pings.

    For example:
      meshledger sql 'select kind, count(*) from event group by 1' -L incident.ledger
      meshledger sql 'select at, observer, peer, reason from link where state = "down"' -L incident.ledger -o csv
    """
    import sqlite3

    import sqlite_utils

    from ledger.opening import Reading, translate

    reading = Reading(asked.one(ledgers))
    try:
        # The views take JSON apart, which SQLite allows a file's own schema only if it is trusted; ours was checked.
        reading.connection.execute("pragma trusted_schema=on")
        reading.connection.set_authorizer(_only_reading)
        reading.connection.set_progress_handler(_going_on, _STEPS)
        database = sqlite_utils.Database(reading.connection)
        try:
            found = database.execute(query)
            if found.description is None:
                raise Refused("the query asks for nothing", hint=_VIEWS)
            columns = _columns(found.description or ())
            rows = (dict(zip(columns, each, strict=True)) for each in found)
            asked.rows(Sql(columns=columns, rows=[]), rows)
        except sqlite3.Error as error:
            told = translate(error, str(reading.path))
            if isinstance(error, sqlite3.DatabaseError) and "malformed" in str(error):
                raise told from None
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise interrupted() from None
            raise Refused(f"SQLite says: {error}", hint=_VIEWS) from None
    finally:
        reading.close()
    return 0


def _going_on() -> int:
    """Called while a query runs, so that an interrupt is heard before its end: SQLite stops where this raises it."""
    return 0


def _only_reading(action: int, *_what: object) -> int:
    """Another file would be opened by its name, and made if it is not there: a query has no business with it."""
    import sqlite3

    return sqlite3.SQLITE_DENY if action in {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH} else sqlite3.SQLITE_OK


def _columns(description: Any) -> list[str]:
    """The names of columns, told apart where they are the same."""
    names: list[str] = []
    for column in description:
        name, number = column[0], 2
        while name in names:
            name, number = f"{column[0]}_{number}", number + 1
        names.append(name)
    return names
