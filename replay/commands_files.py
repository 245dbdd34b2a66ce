"""What goes into ledgers and out of them: `import`, `merge`, `export`, `backup`.

A command that writes takes one target and says so; what it read stays as it was. After an import and a merge the snapshots are
written, so that the first question is as quick as any. Where something was refused the answer is *no* (1): not all of it was
taken; where copies contradict each other it is 4, and each fork is named.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import click

from ledger.errors import Refused
from replay import headlines
from replay.asked import Asked
from replay.exits import CONTRADICTED, NO
from replay.options import Command, Group, ledgers_argument
from replay.receipts import Import, Merge
from replay.spans import parse_span

if TYPE_CHECKING:
    from collections.abc import Callable

    from replay.export import Format
    from replay.matrices import Unit

_PLACES: Final = {
    "rtt-matrix": ("replay.commands_files", "Matrices of round-trip times, one a slice of time."),
    "jsonl": ("replay.commands_files", "Entries, one a line, as export and log write them."),
    "ledger": ("replay.commands_files", "The feeds of other ledgers, as merge does."),
}

_SQLITE: Final = b"SQLite format 3\0"

import_ = Group(
    "import",
    places=_PLACES,
    help="""Take measurements, lines or ledgers into the one ledger of -L, which is made if it is not there.

Importing twice adds nothing, and an import that was interrupted goes on where it stood. Refused lines are numbered,
kept in quarantine, and make the exit code 1.

For example:
  meshledger import rtt-matrix seattle-rtt.tar.xz -L seattle.ledger --start 2026-01-01T00:00:00Z --interval 60s
  meshledger import jsonl entries.jsonl -L incident.ledger
  meshledger import ledger alpha.ledger bravo.ledger -L incident.ledger
""",
)


def _ended(asked: Asked, answer: Import | Merge, target: Path, *, printed: bool = False) -> int:
    """Save snapshots, print what became of all, and judge it."""
    from replay.snapshots import write_quietly

    if not answer.conflicts:
        write_quietly(target)
    asked.answer(answer, below=[headlines.taken(answer)], printed=printed)
    for conflict in answer.conflicts:
        asked.complain(f"{conflict.pos} is contradicted: {' and '.join(conflict.branches)} differ from there on")
    if answer.refused:
        first = answer.refused[0]
        place = f"{first.file}, line {first.line}" if first.line else first.file or "the whole"
        asked.complain(f"{headlines.counted(len(answer.refused), 'part')} refused; the first: {place}: {first.why}")
    return CONTRADICTED if answer.conflicts else NO if answer.refused else 0


@click.command("rtt-matrix", cls=Command)
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@click.option("--unit", type=click.Choice(["s", "ms", "us"]), default="s", show_default=True, help="The unit of cells.")
@click.option("--start", required=True, metavar="TIME", help="The instant of the first slice.")
@click.option("--interval", required=True, metavar="SPAN", help="From one slice to the next.")
@click.option("--names", metavar="FILE", help="One machine a line, in the order of rows: NAME [HOSTNAME]. Else m01, m02, …")
@click.option("--lost-after", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="K", help="Failures in a row.")
@click.pass_obj
def rtt_matrix_(
    asked: Asked, /, *, sources: tuple[str, ...], unit: str, start: str, interval: str, names: str | None, lost_after: int
) -> int:
    """Round-trip times measured elsewhere: each matrix is a slice of time, row i what machine i saw.

    Files, folders and tar archives, in natural order (_2 before _10). A positive cell is a ping that was answered, any other
    off the diagonal one that failed. The same input gives the same bytes; more slices later add the rest.

    For example:
      meshledger import rtt-matrix seattle-rtt.tar.xz -L seattle.ledger --start 2026-01-01T00:00:00Z --interval 60s
      meshledger import rtt-matrix slices/ -L lab.ledger --unit ms --start '2026-11-22 03:00' --interval 5s --names lab.txt
    """
    from ledger.store import Ledger
    from replay.moments import Anchors, parse_moment
    from replay.rtt_matrix import Options, import_rtt_matrix, open_matrices

    target = asked.target()
    start_ns = parse_moment(start, Anchors(tz=asked.zone)).at_ns
    options = Options(start_ns, parse_span(interval), cast("Unit", unit), lost_after)
    matrices = open_matrices(sources, options, names)
    with Ledger.create(target) as ledger:
        answer = import_rtt_matrix(ledger, matrices, asked.progress("import", "slices"))
    return _ended(asked, answer, target)


@click.command("jsonl", cls=Command)
@click.argument("source", metavar="FILE|-")
@click.pass_obj
def jsonl_(asked: Asked, /, *, source: str) -> int:
    """Entries, one a line, as `export` and `log -o jsonl` write them. `-` is the standard input.

    What is there is compared, what is new is added; sealed records come back as their origin sealed them.

    For example:
      meshledger import jsonl entries.jsonl -L incident.ledger
      meshledger export -L alpha.ledger | meshledger import jsonl - -L copy.ledger
    """
    from ledger.store import Ledger
    from replay.jsonl_import import import_jsonl

    target = asked.target()
    told = asked.progress("import", "lines")
    if source == "-":
        with Ledger.create(target) as ledger:
            answer = import_jsonl(ledger, sys.stdin.buffer, "-", told)
    else:
        with source_file(source).open("rb") as file:
            if file.peek(len(_SQLITE)).startswith(_SQLITE):
                raise Refused(f"{source}: is a ledger, and no lines", hint="`meshledger import ledger` takes ledgers in")
            with Ledger.create(target) as ledger:
                answer = import_jsonl(ledger, file, source, told)
    return _ended(asked, answer, target)


def source_file(name: str) -> Path:
    """A file that is to be read. Raises Refused if it is not there, or is a folder."""
    path = Path(name)
    if path.is_dir():
        raise Refused(f"{name}: is a folder", hint="name a file in it")
    if not path.exists():
        raise Refused(f"{name}: there is no such file")
    return path


@click.command("ledger", cls=Command)
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@click.pass_obj
def ledger_(asked: Asked, /, *, sources: tuple[str, ...]) -> int:
    """The feeds of other ledgers, merged into the one of -L.

    For example:
      meshledger import ledger bravo.ledger -L incident.ledger
      meshledger import ledger collected/ -L incident.ledger
    """
    from replay.merge import merge

    target = asked.target()
    asked.reads = [Path(source) for source in sources]
    merged = merge(list(sources), target, progress=asked.progress("merge", "entries"))
    return _ended(asked, Import(feeds=merged.feeds, conflicts=merged.conflicts, refused=merged.refused), target)


@click.command("merge", cls=Command)
@ledgers_argument()
@click.pass_obj
def merge_(asked: Asked, /, *, ledgers: tuple[str, ...]) -> int:
    """Make one ledger of several: the union of their feeds, written to the file of -O. If that is there, it is added to.

    Any order, grouping and repetition of the files gives the same bytes. Where two contradict each other, both sides
    are kept as evidence, neither stands, and the exit code is 4.

    For example:
      meshledger merge alpha.ledger bravo.ledger delta.ledger -O incident.ledger
      meshledger merge collected/ -O incident.ledger -o json
    """
    from replay.merge import merge

    target = asked.file("the merged ledger")
    sources = [*asked.ledgers, *ledgers]
    asked.reads = [Path(source) for source in sources]
    answer = merge(sources, target, progress=asked.progress("merge", "entries"))
    return _ended(asked, answer, target, printed=True)


@click.command("export", cls=Command)
@click.option("--format", "form", type=click.Choice(["jsonl", "csv", "parquet", "ledger"]), default="jsonl", show_default=True)
@click.option("-S", "--since", metavar="TIME", help="From this moment on.")
@click.option("-U", "--until", metavar="TIME", help="Before this moment.")
@ledgers_argument()
@click.pass_obj
def export_(asked: Asked, /, *, form: str, since: str | None, until: str | None, ledgers: tuple[str, ...]) -> int:
    """Write what ledgers hold in another form: to the file of -O, or jsonl and csv to the standard output.

    Feed by feed, so that the same content gives the same bytes. Parquet needs the extra: pip install 'meshledger[parquet]'.

    For example:
      meshledger export -L incident.ledger > incident.jsonl
      meshledger export --format parquet -L seattle.ledger -O seattle.parquet
      meshledger export --format csv --since '03:05' --until '03:35' -L incident.ledger -O part.csv
    """
    from replay.export import export
    from replay.union import Union

    if asked.destination is None and asked.output in {"csv", "json"} and asked.output != form:
        raise Refused(f"without -O the entries themselves are printed, as {form}", hint="--format says as what: jsonl or csv")
    with asked.history(ledgers) as history:
        selection = asked.range(history, since, until)
    told: Callable[..., None] | None = asked.progress("export", "entries")
    with Union.open(asked.paths(ledgers)) as union:
        if asked.destination is None:
            asked.printed = True
            told = None if sys.stdout.isatty() else told  # it would be drawn between the entries
            answer = export(union, sys.stdout.buffer, cast("Format", form), selection, progress=told)
            asked.say(headlines.written(answer.feeds, form))
        else:
            answer = export(union, asked.destination, cast("Format", form), selection, progress=told)
            asked.answer(answer, printed=True)
        return asked.forked(union.contradicted)


@click.command("backup", cls=Command)
@ledgers_argument()
@click.pass_obj
def backup_(asked: Asked, /, *, ledgers: tuple[str, ...]) -> int:
    """Copy one ledger to the new file of -O, whole and consistent, also while a node is writing it.

    Every byte of the copy is checked: of a damaged ledger there is none.

    For example:
      meshledger backup node.ledger -O monday.ledger
      meshledger backup --dir /var/lib/meshledger -O monday.ledger -o json
    """
    from replay.export import backup

    asked.answer(backup(asked.one(ledgers), asked.file("the copy")), printed=True)
    return 0
