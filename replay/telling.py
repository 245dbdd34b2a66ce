"""What people read of an answer to `why`: one block, a word at the left of each part.

    alpha could not reach charlie at 2026-11-22T03:12:00Z
    ~
    cause    renamed-without-dns: …
    down     from … to …
    chain    alpha#12021  …
    others   …
    grounds  …
    do       …

Whoever wants data asks for json. Pure: an answer in, lines out; that they are harmless is for whoever writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from replay.answers_why import Other, Seen, Why
from replay.headlines import counted
from replay.spans import format_span

OTHERS_MAX: Final = 8
"""So many others are told one by one, whatever they saw."""
_MEANS = {
    "renamed-without-dns": "the new host name of {who} has no address in DNS",
    "name-unresolvable": "the host name of {who} had no address in DNS",
    "name-points-elsewhere": "the host name of {who} led to something else",
    "reverse-timeout": "the reverse look-up of {who}'s address timed out",
    "reverse-missing": "the address of {who} has no name in DNS",
    "target-down": "{who} did not run, or answered nobody",
    "observer-isolated": "{who} ran, and had lost the others",
    "partition": "the mesh had fallen into two sides",
    "left": "{who} had left the cluster",
    "removed": "{who} had been removed from the cluster",
    "not-a-member": "{who} was no member yet",
    "disconnected": "{who} had been disconnected on purpose",
    "connection-limit": "dropped by a limit of connections",
    "auth-failed": "one end did not accept the other's key",
    "host-key-mismatch": "{who} answered with another host key",
    "transport-mismatch": "one end spoke another transport",
    "version-mismatch": "the two spoke different versions",
    "protocol-error": "one end broke the protocol",
    "refused": "nothing listened there, while the machine was reached by others or wrote on",
    "timeout": "nothing came back on the path between the two; others reached both, or both wrote on",
    "idle-timeout": "what lies between the two forgot an idle connection",
    "reset": "the connection was reset on the path between the two",
    "closed": "the connection was closed, and neither end says why",
    "no-route": "no way to dial was known",
    "unknown": "the log does not tell",
}
"""Each cause in words."""


def why_lines(answer: Why) -> Iterator[str]:
    """The whole answer as text."""
    yield _verdict(answer)
    if answer.cause is not None:
        yield ""
        yield from _part("cause", [f"{answer.cause}: {_MEANS[answer.cause].format(who=answer.suspect or answer.target)}"])
        yield from _part("sides", [" | ".join(", ".join(side) for side in answer.sides)] if answer.sides else [])
    if answer.since is not None:
        yield from _part("since", [_span(answer)])
    yield from _part("chain", list(_chain(answer)))
    yield from _part("others", _others(answer))
    yield from _part("grounds", list(_grounds(answer)))
    if answer.advice is not None:
        yield from _part("do", [answer.advice])


def _verdict(answer: Why) -> str:
    a, b, at = answer.source, answer.target, answer.at
    by = "" if answer.as_seen_by is None else f", as seen by {answer.as_seen_by}"
    if answer.reachable is None:
        return f"whether {a} could reach {b} at {at} is not covered{by}"
    if not answer.reachable:
        return f"{a} could not reach {b} at {at}{by}"
    if answer.cause is None:
        return f"{a} could reach {b} at {at}{by}: the link was up both ways"
    route = " > ".join(answer.route) if isinstance(answer.route, list) else ""
    return f"{a} could reach {b} at {at}{by}, by way of {route}; the direct link was {answer.direct}"


def _part(word: str, lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{'' if number else word:<8} {line}"


def _span(answer: Why) -> str:
    began = answer.since
    if answer.until is not None and began is not None:
        return f"{began} until {answer.until}, {format_span(_ns(answer.until) - _ns(began))}"
    return f"{began}" if answer.cause is None else f"{began}; no end of it is recorded"


def _ns(instant: str) -> int:
    """An instant as we print it, in ns."""
    whole, _, fraction = instant.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(f"{fraction:0<9}")


def _chain(answer: Why) -> Iterator[str]:
    rows = [(link.pos, link.at, link.kind, link.says + ("   <- root" if link.root else "")) for link in answer.chain]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:3] if rows else []
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]).rstrip()


def _others(answer: Why) -> Iterator[str]:
    """One by one; where they are many, those who saw every one of the four links up in one line."""
    clear = [other.machine for other in answer.others if all(seen.state == "up" for seen in _four(other))]
    told_alone = len(answer.others) <= OTHERS_MAX
    for other in answer.others:
        if told_alone or other.machine not in clear:
            yield _other(other, answer)
    if clear and not told_alone:
        named = f"{' '.join(clear[:4])}{f' and {len(clear) - 4} more' if len(clear) > 4 else ''}"
        yield f"{counted(len(clear), 'other')} saw every link with {answer.target} and {answer.source} up: {named}"


def _four(other: Other) -> tuple[Seen, Seen, Seen, Seen]:
    return other.to_target, other.from_target, other.to_source, other.from_source


def _other(other: Other, answer: Why) -> str:
    """Its links with B, there and back, then those with A."""
    told = []
    for end, there, back in (
        (answer.target, other.to_target, other.from_target),
        (answer.source, other.to_source, other.from_source),
    ):
        told.append(f"{other.machine}:{end} {_seen(there)}, {end}:{other.machine} {_seen(back)}")
    return "; ".join(told)


def _seen(link: Seen) -> str:
    return f"{link.state} ({link.reason})" if link.reason is not None else link.state


def _grounds(answer: Why) -> Iterator[str]:
    covering = sum(reach is not None and reach.covered for reach in answer.coverage.values())
    yield f"{covering} of {counted(len(answer.coverage), 'feed')} cover the moment"
    for gap in answer.missing:
        began = f" from {gap.since}" if gap.since else ""
        yield f"missing: {gap.what}{began}{f' until {gap.until}' if gap.until else ''}"
