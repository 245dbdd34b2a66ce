"""What must be answered about a demonstration: the questions, what is expected of each, and a control of each without its fault.

All of it stands before the first process is started (`checks`), made of who plays which part and of nothing that happened. When
all is over the questions are put to the ledgers by a command line that knows nothing of the faults; each question is put a
second time where its fault is not: before it, or about a pair that it spares. A check is right if every answer is as expected
and no control is: a question that is answered so in any case shows nothing.

No effects: JSON answers in, words and positions out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from replay import demo_story as story
from replay.demo_story import BY_ADDRESS, Parts
from replay.spans import format_instant

Reading = tuple[str, list[str]]
"""What an answer says, in words that can be compared, and the positions that show it."""
Receipts = Mapping[str, str]
MESH: Final = "mesh"
NAMED: Final = "named"
NAMELESS: Final = "nameless"
ALTERED: Final = "altered"
"""Ledgers: the merged one of the mesh; one of those that go by address as it was before, and both as they are at last; a copy of
the first of which one byte was altered.
"""


class Question(msgspec.Struct, frozen=True):
    """A question as it is typed, with `{moment}` where an instant stands; how its answer is read; and what must come. `control`:
    the same where there is no fault, and `control_of` the ledger that it is put to.
    """

    words: tuple[str, ...]
    read: Callable[[Any, Receipts], Reading]
    expected: str
    control: tuple[str, ...]
    of: str = MESH
    control_of: str = ""


class Check(msgspec.Struct, frozen=True):
    """A fault, and the questions about it."""

    fault: str
    questions: tuple[Question, ...]


def typed(words: Sequence[str], moments: Mapping[str, int]) -> list[str]:
    """The words of a question with its moments filled in."""
    return [format_instant(moments[word[1:-1]]) if word.startswith("{") else word for word in words]


def checks(parts: Parts) -> list[Check]:
    """All that is asked, in the order of the faults."""
    return [_cut(parts), _one_way(parts), _renamed(parts), _killed(parts), _limit(parts), _parted(parts), _nameless(), _record()]


def _why(a: str, b: str, moment: str, expected: str, before: str) -> Question:
    return Question(("why", a, b, "--at", f"{{{moment}}}"), read_why, expected, ("why", a, b, "--at", f"{{{before}}}"))


def _heard(pair: tuple[str, str], expected: str, other: tuple[str, str]) -> Question:
    def asked(names: tuple[str, str]) -> tuple[str, ...]:
        return ("log", "-l", "=".join(names), "-k", "ping", "--since", "{whole}", "--until", "{silent}")

    return Question(asked(pair), read_heard, expected, asked(other))


def _cut(parts: Parts) -> Check:
    """Both ends heard nothing any more; others still reach both. The control: before, and the wire that is cut one way only."""
    a, b = parts.cut
    return Check(story.CUT, (
        _why(a, b, "silent", "timeout, reached by way of others", "whole"),
        _heard(parts.cut, "nothing gets through either way", parts.one_way),
    ))  # fmt: skip


def _one_way(parts: Parts) -> Check:
    """Both ends miss answers, but one has heard the other's pings. The control: before, and the wire that is cut both ways."""
    c, d = parts.one_way
    return Check(story.ONE_WAY, (
        _why(c, d, "silent", "timeout, reached by way of others", "whole"),
        _heard(parts.one_way, f"nothing gets from {c} to {d}", parts.cut),
    ))  # fmt: skip


def _renamed(parts: Parts) -> Check:
    """A member that does not communicate, because of the entry that `sethostname` answered with."""
    name = parts.renamed

    def read(answer: Any, _receipts: Receipts) -> Reading:
        machine = answer["machines"][name]
        what = {True: "communicates", False: "does not communicate", None: "may communicate"}[machine["communicating"]]
        return f"{'a member' if machine['member'] else 'no member'} that {what}", [machine["since_pos"]]

    return Check(story.RENAMED, (
        _why(parts.asker, name, "mute", "renamed-without-dns, not reached, by the rename", "before the rename"),
        Question(("at", "{mute}"), read, "a member that does not communicate", ("at", "{before the rename}")),
    ))  # fmt: skip


def _killed(parts: Parts) -> Check:
    """Down for everybody, as its next start shows; then back."""
    a, b = parts.asker, parts.killed
    return Check(story.KILLED, (
        _why(a, b, "dead", f"target-down, not reached, by node.started of {b}", "before the limit"),
        _why(a, b, "alive", "linked", "dead"),
    ))  # fmt: skip


def _limit(parts: Parts) -> Check:
    """A link dropped by the limit and back by itself: nobody commanded anything meanwhile."""
    pair = "=".join(sorted((parts.limited, parts.dropped)))

    def asked(since: str, until: str) -> tuple[str, ...]:
        return ("stats", "--of", pair, "--since", f"{{{since}}}", "--until", f"{{{until}}}")

    def read(answer: Any, _receipts: Receipts) -> Reading:
        (times,) = answer["pairs"].values()
        return ("down for a while" if times["flaps"] and times["down_ns"] else "never down"), []

    def commands(since: str, until: str) -> tuple[str, ...]:
        kinds = ("-k", "machine", "-k", "hostname", "-k", "settings", "-k", "key")
        return ("log", *kinds, "--since", f"{{{since}}}", "--until", f"{{{until}}}")

    return Check(story.LIMIT, (
        _why(parts.dropped, parts.limited, "dead", "connection-limit, reached by way of others", "before the limit"),
        Question(asked("before the limit", "alive"), read, "down for a while", asked("whole", "silent")),
        _why(parts.dropped, parts.limited, "alive", "linked", "dead"),
        Question(commands("before the limit", "alive"), read_acts, "no operator", commands("begun", "whole")),
    ))  # fmt: skip


def _parted(parts: Parts) -> Check:
    """Two that are no members any more, each by the entry that the command answered with."""
    return Check(story.PARTED, (
        _why(parts.asker, parts.left, "parted", "left, not reached, by the leave", "alive"),
        _why(parts.asker, parts.removed, "parted", "removed, not reached, by the removal", "alive"),
    ))  # fmt: skip


def _nameless() -> Check:
    """A finding, which names the machine and its look-up. The control: the ledger as it was before."""
    words = ("verify",)

    def read(answer: Any, _receipts: Receipts) -> Reading:
        found = [each for each in answer["findings"] if each["rule"] == "address-has-name"]
        if not found:
            return "no finding", []
        return f"{found[0]['subjects'][0]} breaks {found[0]['rule']}", found[0]["positions"]

    return Check(story.NAMELESS, (
        Question(words, read, f"{BY_ADDRESS[0]} breaks address-has-name", words, NAMELESS, NAMED),
    ))  # fmt: skip


def _record() -> Check:
    """Beside all faults: the record itself is in order. The control is a copy with one byte altered."""
    words = ("verify",)
    return Check("the record", (
        Question(words, read_verified, "no byte altered, no law of log or software broken", words, MESH, ALTERED),
    ))  # fmt: skip


# How answers are read.


def read_why(answer: Any, receipts: Receipts) -> Reading:
    """Of `why`: the cause, whether there was another way, and what all began with, if that is an entry of one of a kind."""
    if answer["direct"] == "up":
        return "linked", []
    route = answer["route"]
    way = "reached by way of others" if isinstance(route, list) and len(route) > 2 else "not reached"
    chain = answer["chain"]
    known = {position: f", by {what}" for what, position in receipts.items()}
    root = next((link for link in chain if link["root"]), None)
    began = ""
    if root is not None:
        started = f", by node.started of {answer['suspect']}" if root["kind"] == "node.started" else ""
        began = known.get(root["pos"], started)
    return f"{answer['cause']}, {way}{began}", [link["pos"] for link in chain]


def read_acts(answer: Any, _receipts: Receipts) -> Reading:
    """Of `log`: whether an operator commanded anything."""
    found = [entry["pos"] for entry in answer["entries"]]
    return ("an operator" if found else "no operator"), found


def read_heard(answer: Any, _receipts: Receipts) -> Reading:
    """Of the pings of a pair, whose last ones were not answered: which way they still got through. A ping was heard by the other
    side if that wrote its number, or a later one (`ping.heard`). The first of those not answered may have been on its way; it is
    the middle one that is judged.
    """
    failed: dict[tuple[str, str], list[tuple[int, str]]] = {}
    heard: dict[tuple[str, str], tuple[int, str]] = {}
    for entry in answer["entries"]:
        event, observer = entry["event"], entry["pos"].partition("#")[0]
        way = observer, event["peer"]
        if entry["kind"] == "ping.answered":
            failed[way] = []
        elif entry["kind"] == "ping.failed" and event.get("link") and event["reason"] == "timeout":
            failed.setdefault(way, []).append((event["number"], entry["pos"]))
        elif entry["kind"] == "ping.heard":
            back = event["peer"], observer
            heard[back] = max(heard.get(back, (0, "")), (event["number"], entry["pos"]))
    shut, shown = [], []
    for way, numbers in sorted(failed.items()):
        if not numbers:
            continue
        judged = numbers[len(numbers) // 2]
        number, position = heard.get(way, (0, ""))
        shown += [judged[1], *([position] if position else [])]
        if number < judged[0]:
            shut.append(way)
    if len(shut) > 1:
        return "nothing gets through either way", shown
    return (f"nothing gets from {shut[0][0]} to {shut[0][1]}" if shut else "all gets through"), shown


def read_verified(answer: Any, _receipts: Receipts) -> Reading:
    """Of `verify`: whether log and software are in order; what befell the mesh is no matter here."""
    broken = [
        each["name"] for each in answer["invariants"] if each["verdict"] == "violated" and each["severity"] in {"log", "software"}
    ]
    if answer["problems"]:
        return answer["problems"][0]["what"], [each["pos"] for each in answer["problems"] if each["pos"]]
    return f"{', '.join(broken)} broken" if broken else "no byte altered, no law of log or software broken", []
