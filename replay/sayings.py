"""An entry in one line, and what to do about a cause: words for people.

What comes from outside (details of errors, names, notes) is shortened and made harmless (`text`). Advice names the machine that
is suspected and does not repeat what was asked. Pure: entries and facts in, words out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ledger import events as ev
from ledger.entry import Entry
from replay.text import shorten, visible

DETAIL_MAX: Final = 120
"""So much of an error is shown in a line; `show` gives it whole."""


def says(entry: Entry) -> str:
    """What an entry says, in one harmless line."""
    event: Any = entry.event
    told = _TOLD.get(event.__class__)
    return visible(told(entry.observer, event) if told is not None else "")


def _lost(observer: str, event: ev.LinkLost | ev.LinkFailed) -> str:
    culprit = f", by {event.culprit}" if event.culprit else ""
    detail = f": {shorten(event.detail, DETAIL_MAX)}" if event.detail else ""
    return f"{observer}:{event.peer} {event.reason}{culprit}{detail}"


def _looked_up(_observer: str, event: ev.NameResolved | ev.NameFailed) -> str:
    answers = f" {' '.join(event.answers[:4])}" if event.answers else ""
    reverse = "reverse " if event.direction == "reverse" else ""
    return shorten(f"{reverse}{event.name} {event.outcome}{answers}{f' from {event.server}' if event.server else ''}", DETAIL_MAX)


def _gone(_observer: str, event: ev.MachineLeft) -> str:
    return f"{event.machine} {event.cause}{f', by {event.by}' if event.by else ''}"


def _key(observer: str, event: ev.KeyChanged) -> str:
    return f"{observer}: another {event.role} key, {shorten(event.new, 40)}"


def _plan(_observer: str, event: ev.MachineDisconnected) -> str:
    by = f", by {shorten(event.by, 40)}" if event.by else ""
    return f"{event.machine} disconnected on purpose{by}{f': {shorten(event.text, DETAIL_MAX)}' if event.text else ''}"


_TOLD: Final[dict[type, Callable[[str, Any], str]]] = {
    ev.LinkLost: _lost,
    ev.LinkFailed: _lost,
    ev.LinkEstablished: lambda observer, event: f"{observer}:{event.peer} up{f' at {event.address}' if event.address else ''}",
    ev.PingAnswered: lambda observer, event: f"{observer}:{event.peer} answered after {event.rtt_us / 1000:.1f} ms",
    ev.PingFailed: lambda observer, event: f"{observer}:{event.peer} no answer, {event.reason}",
    ev.NameResolved: _looked_up,
    ev.NameFailed: _looked_up,
    ev.HostnameChanged: lambda _observer, event: f"{event.old} -> {event.new}{', forced' if event.forced else ''}",
    ev.KeyChanged: _key,
    ev.VersionChanged: lambda observer, event: f"{observer}: {shorten(event.old, 40)} -> {shorten(event.new, 40)}",
    ev.MachineLeft: _gone,
    ev.MachineDisconnected: _plan,
    ev.NodeStarted: lambda observer, event: f"{observer} started, boot {event.boot}",
    ev.NodeStopped: lambda observer, event: f"{observer} stopped, boot {event.boot}",
    ev.NodeStalled: lambda observer, event: f"{observer} stood still for {event.stalled_ms / 1000:.1f} s",
}


def advice(cause: str, a: str, b: str, *, suspect: str | None, hostname: str | None, old: str | None) -> str:
    """What to do. `hostname`: the suspect's; `old`: the one it had before a rename."""
    who = suspect or b
    named = hostname or f"{who}'s host name"
    return _ADVICE[cause].format(a=a, b=b, who=who, name=visible(named), old=visible(old or "the old name"))


_ADVICE: Final = {
    "renamed-without-dns": "publish an address for {name}, or set {old} again on {who}",
    "name-unresolvable": "publish an address for {name}, or mend the name server that the others ask",
    "name-points-elsewhere": "let {name} point to {who}: what answers there has another host key, or none",
    "reverse-timeout": "make the reverse look-up of {who}'s address answer, if only with no such name",
    "reverse-missing": "publish a PTR record for {who}'s address",
    "target-down": "look at {who} itself: everybody lost it, so start the machine or its node again",
    "observer-isolated": "look at {who}'s own network: it ran, and lost the others",
    "partition": "look at the network between the two sides: within each all is well",
    "left": "{who} left in order; if it is to be back, invite it again",
    "removed": "{who} was removed by an operator; if it is to be back, invite it again",
    "not-a-member": "let {who} join first: invite it on a member",
    "disconnected": "{who} was disconnected on purpose: reconnect it when its work is done",
    "connection-limit": "wait some seconds, since it heals by itself; else see why {who} opened so many, or allow more of them",
    "auth-failed": "see that the keys of {a} and {b} are those that they joined with: `blame` tells who changed one",
    "host-key-mismatch": "trust nothing yet: {who} has another host key; if it was changed on purpose, let it join again",
    "transport-mismatch": "let one transport be used by all: a cluster mixes none",
    "version-mismatch": "bring {a} and {b} to one version",
    "protocol-error": "see `show` of the root entry; then start the node on {b} again",
    "refused": "see that the node on {b} listens: the machine answers, and refuses",
    "timeout": "look at the path between {a} and {b}: firewall, router, cable",
    "idle-timeout": "let the ping interval be shorter than what NAT or firewall between {a} and {b} forget in",
    "reset": "look at what lies between {a} and {b} and resets connections",
    "closed": "see what closed the connection between {a} and {b}: `log -l {a}={b}` around then",
    "no-route": "look at the routing between {a} and {b}",
    "unknown": "bring what is missing: more ledgers, or an earlier moment",
}  # fmt: skip
"""By cause."""
