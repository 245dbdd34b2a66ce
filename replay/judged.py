"""The answer of `bisect`, and the conditions it can be asked: shipped, guests' and expressions.

Guests name theirs in the entry point group `meshledger.conditions`: a `Condition`, or a list of them, or a function that gives
either. What a guest's package does wrong is said as such. Reads a history, writes nothing.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from ledger.errors import Refused
from projections.conditions import CONDITIONS, GROUP, Condition
from projections.expression import expression
from projections.vocabulary import WORDS
from replay.answers_conditions import Against, Bisect, Conditions, Listed, Verdict
from replay.answers_conditions import Stretch as Told
from replay.glances import machines_of, no_machine
from replay.history import History
from replay.intervals import Stretch, intervals, unknown, window
from replay.spans import format_instant
from replay.turns import Progress

_VERDICTS: dict[bool | None, Verdict] = {True: "held", False: "broken", None: "not covered"}


def conditions() -> dict[str, Condition]:
    """All conditions by name, guests' after the shipped. Raises Refused for a guest's that is none, or that clashes."""
    found = dict(CONDITIONS)
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        try:
            made = point.load()
            made = made() if callable(made) and not isinstance(made, Condition) else made
            given = [made] if isinstance(made, Condition) else list(made)
        except Exception as error:
            message = f"conditions of {point.name}: {type(error).__name__}: {error}"
            raise Refused(message, hint="its package is at fault") from error
        for each in given:
            if not isinstance(each, Condition) or each.name in found:
                what = f"a condition named {each.name} is there already" if isinstance(each, Condition) else "no condition"
                raise Refused(f"{point.name}: {what}", hint="its package is at fault")
            found[each.name] = each
    return found


def listed() -> Conditions:
    """The conditions and words that there are."""
    places = {0: "", 1: '("alpha")', 2: '("alpha", "bravo")'}
    return Conditions(
        conditions=[Listed(each.name, each.says) for each in conditions().values()],
        words=[Listed(f"{name}{places[word.takes]}", word.says) for name, word in WORDS.items()],
    )


def chosen(history: History, name: str | None, text: str | None) -> Condition:
    """The condition of that name, or that an expression says. Raises Refused for one that there is not, for none, for both,
    and for a machine that the history does not know.
    """
    if (name is None) == (text is None):
        raise Refused("one condition is asked for: a name, or --expr", hint="`meshledger bisect --list` prints the names")
    if text is None:
        known = conditions()
        if name not in known:
            raise unknown(str(name), list(known))
        return known[name]
    condition, machines = expression(text)
    there = machines_of(history) if machines else set()
    for machine in machines:
        if machine not in there:
            raise no_machine(machine, there)
    return condition


def bisect(
    history: History,
    condition: Condition,
    since_ns: int | None = None,
    until_ns: int | None = None,
    *,
    progress: Progress | None = None,
) -> Bisect:
    """The condition over [since, until), as it is printed. The window and what is raised are those of `intervals`."""
    start_ns, end_ns = window(history, since_ns, until_ns)
    found = intervals(history, condition, start_ns, end_ns, progress=progress)
    total: dict[bool | None, int] = dict.fromkeys((True, False, None), 0)
    for stretch in found:
        total[stretch.holds] += stretch.until_ns - stretch.since_ns
    broken = [place for place, stretch in enumerate(found) if stretch.holds is False]
    good = [stretch for stretch in found[: broken[0]] if stretch.holds] if broken else []
    return Bisect(
        condition=condition.name,
        says=condition.says,
        since=format_instant(start_ns),
        until=format_instant(end_ns),
        held_ns=total[True],
        broken_ns=total[False],
        uncovered_ns=total[None],
        broken=len(broken),
        first=_told(found[broken[0]], end_ns) if broken else None,
        good=format_instant(good[-1].until_ns - 1) if good else None,
        stretches=[_told(stretch, end_ns) for stretch in found],
    )


def _told(stretch: Stretch, end_ns: int) -> Told:
    return Told(
        verdict=_VERDICTS[stretch.holds],
        since=format_instant(stretch.since_ns),
        until=None if stretch.until_ns == end_ns else format_instant(stretch.until_ns),
        span_ns=stretch.until_ns - stretch.since_ns,
        pos=stretch.by.position if stretch.by else None,
        kind=stretch.by.kind if stretch.by else None,
        before=stretch.before.position if stretch.before else None,
        witnesses=[Against(each.subject, each.what, list(each.positions)) for each in stretch.judged.witnesses],
        more=stretch.judged.more,
    )
