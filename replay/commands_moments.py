"""The state at a moment: `at`, and its parts `members`, `connstatus`, `routes`.

All four ask one `Cluster` and print what `states` makes of it. A moment that no feed covers is still answered with what was
last known, and ends with exit code 3; a feed that contradicts itself is answered as far as it stands, and ends with 4.
`--as-seen-by` asks for what one machine knew by then (`believing`) instead of all that is known now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from ledger.errors import NotCovered
from ledger.identity import parse_position
from projections.belief import holds
from projections.cluster import Cluster
from projections.views import View
from replay import headlines, states
from replay.answers import Answer, Connstatus
from replay.asked import Asked
from replay.history import History
from replay.options import Command, belief_option, ledgers_argument
from replay.spans import format_instant


def _answered(
    asked: Asked,
    ledgers: Sequence[str],
    time: str,
    observer: str | None,
    *,
    ask: Callable[[Cluster, str | None], Answer],
    lines: Callable[[Cluster], Sequence[str]],
) -> int:
    with asked.history(ledgers) as history:
        cluster = state(asked, history, time, observer)
        answer = ask(cluster, observer)
        above = lines(cluster) if asked.form == "table" else ()
        few = isinstance(answer, Connstatus) and 1 < len(cluster.members) <= headlines.MATRIX_MAX
        if few and asked.form == "table" and isinstance(answer, Connstatus):
            with asked.stream() as out:
                out.writelines(f"{line}\n" for line in (*above, *headlines.matrix(answer), *headlines.reading(answer)))
        else:
            asked.answer(answer, above=above)
        return asked.judged(history, coverage(asked, history, cluster))


def state(asked: Asked, history: History, time: str, observer: str | None = None) -> Cluster:
    """The cluster at the moment that `time` names, as `observer` knew it if one is named.

    Raises NotCovered if no feed had begun by then, and what `History.belief` raises.
    """
    at_ns = asked.moment(history, time)
    if observer is not None:
        return history.belief(observer, parse_position(time) or at_ns)
    cluster = history.at(at_ns)
    if not cluster.states:
        start = format_instant(history.start_ns())
        raise NotCovered(f"no feed had begun by {format_instant(at_ns)}", hint=f"the first entry is of {start}: ask for 'start'")
    return cluster


def coverage(asked: Asked, history: History, cluster: Cluster) -> int:
    """0 if any feed covers the moment, else 3, and it is told. Of a belief: the observer's own feed, and nothing is lacking."""
    if cluster.view is not None:
        return _believed(asked, history, cluster, cluster.view)
    if cluster.covered:
        return 0
    end_ns = history.end_ns()
    if not cluster.members and cluster.at_ns <= end_ns + 4 * cluster.interval_ns:
        return 0  # dissolved: that there is nothing is covered
    last = format_instant(min(end_ns, cluster.at_ns))
    return asked.uncovered(
        f"no feed covers {format_instant(cluster.at_ns)}: what is shown is what was last known",
        f"the feeds were last heard by {last}; ask for a moment before that, or name more ledgers",
    )


def _believed(asked: Asked, history: History, cluster: Cluster, view: View) -> int:
    code = 0
    if not holds(cluster):
        last = format_instant(cluster.states[view.own].last_ns)
        code = asked.uncovered(
            f"{view.observer}'s feed does not cover {format_instant(cluster.at_ns)}: what is shown is what it last knew",
            f"it last wrote at {last}; ask for an earlier moment",
        )
    names = {feed.id: feed.name for feed in history.feeds}
    for feed, (there, held) in sorted(view.lacking.items()):
        code = asked.uncovered(
            f"{view.observer} had received {held:,} entries of {names.get(feed, f'feed {feed[:8]}')}, "
            f"of which these ledgers hold {there:,}: what the others said is unknown",
            "name the ledgers that hold them too",
        )
    return code


def _whole(cluster: Cluster) -> list[str]:
    return [*headlines.head(cluster), headlines.links(cluster), ""]


def _only_head(cluster: Cluster) -> list[str]:
    return headlines.head(cluster)


def _linked(cluster: Cluster) -> list[str]:
    return [*headlines.head(cluster), headlines.links(cluster)]


_AT = click.option("--at", "time", default="end", show_default=True, metavar="TIME", help="The moment asked about.")


@click.command("at", cls=Command)
@click.argument("time", metavar="TIME")
@belief_option()
@ledgers_argument()
@click.pass_obj
def at_(asked: Asked, /, *, time: str, observer: str | None, ledgers: tuple[str, ...]) -> int:
    """The whole state at a moment: machines, links, pairs, routes, and what the answer rests on.

    Every link is up, down or unknown as its observer saw it; what the ledgers do not say is unknown, never guessed.

    For example:
      meshledger at '2026-01-01 03:12:07' -L seattle.ledger
      meshledger at -2h30m alpha.ledger bravo.ledger
      meshledger at alpha#12021 -L incident.ledger -o json
      meshledger at '2026-11-22 03:12' --as-seen-by delta -L incident.ledger
    """
    return _answered(asked, ledgers, time, observer, ask=states.at, lines=_whole)


@click.command("members", cls=Command)
@_AT
@belief_option()
@ledgers_argument()
@click.pass_obj
def members_(asked: Asked, /, *, time: str, observer: str | None, ledgers: tuple[str, ...]) -> int:
    """Who was a member, since when and by which entry, and who communicated with the rest.

    Communicating is yes, no or unknown (`-`): a member whose every link is down is still a member.

    For example:
      meshledger members -L seattle.ledger
      meshledger members --at yesterday -L incident.ledger
      meshledger members --at 03:12 -L incident.ledger -o csv
    """
    return _answered(asked, ledgers, time, observer, ask=states.members, lines=_only_head)


@click.command("connstatus", cls=Command)
@_AT
@belief_option()
@ledgers_argument()
@click.pass_obj
def connstatus_(asked: Asked, /, *, time: str, observer: str | None, ledgers: tuple[str, ...]) -> int:
    """Every link as its observer saw it, and every pair. Up to 25 machines are shown as a matrix, FROM down and TO across.

    A pair that is up one way and down the other is asymmetric; a pair whose feeds do not cover the moment is uncovered.

    For example:
      meshledger connstatus --at '2026-11-22 03:12' -L alpha.ledger -L bravo.ledger
      meshledger connstatus -L incident.ledger
      meshledger connstatus -L seattle.ledger -o csv -O links.csv
    """
    return _answered(asked, ledgers, time, observer, ask=states.connstatus, lines=_linked)


@click.command("routes", cls=Command)
@_AT
@belief_option()
@ledgers_argument()
@click.pass_obj
def routes_(asked: Asked, /, *, time: str, observer: str | None, ledgers: tuple[str, ...]) -> int:
    """How each machine would reach each other: the path with the fewest hops over pairs that are up.

    `-` means that there is no way; `unknown`, that there may be one over pairs of which too little is known.

    For example:
      meshledger routes --at '2026-11-22 03:12' -L incident.ledger
      meshledger routes -L seattle.ledger -o jsonl
      meshledger routes --at '2026-11-22 03:12' --as-seen-by alpha -L incident.ledger
    """
    return _answered(asked, ledgers, time, observer, ask=states.routes, lines=_only_head)
