"""Before it hurts: whether a machine can be found, reached and trusted as the cluster will do it, check by check.

What `join` asks before it asks for anything else, what `doctor` answers, and what `sethostname` has to know of a new name. The
checks are the seed system's conditions: the main host name gives an address; at that address the service answers, with this
machine's key and no other's; the address has a name, found without a time-out; and the server's limits let a whole cluster in
at once. Nothing is repaired, and nothing on the machine is changed. Effects: DNS and the network, through what is handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, Protocol

import msgspec

from ledger.events import Addressing, Reason
from ledger.node.links import DialFailed, Limits
from ledger.node.resolver import Lookup

Verdict = Literal["ok", "warning", "bad", "unknown"]
"""`warning`: it works, and will cause trouble. `bad`: it cannot work. `unknown`: it could not be looked at."""
Probe = Callable[[str, int, float], Awaitable[str]]
"""A transport's `probe`: (address, port, timeout_s) -> the host key that answers there, or DialFailed."""

_FILES_BESIDE: Final = 64
"""What the node has open beside connections: ledger, sockets, look-ups."""


class Asks(Protocol):
    """What is needed of a resolver."""

    async def forward(self, name: str, *, cached: bool = False) -> Lookup:
        """The addresses of a host name."""

    async def reverse(self, address: str, *, cached: bool = False) -> Lookup:
        """The names of an address."""


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was looked at. `reason`: what a link that failed for it would be given as its reason."""

    name: str
    verdict: Verdict
    said: str
    reason: Reason | None = None
    hint: str | None = None


class Findings(msgspec.Struct, frozen=True):
    """All checks in the order in which they matter. `address`: where the machine was found, if it was; `lookups`: all that DNS
    was asked, each of which may be kept as an event.
    """

    checks: tuple[Check, ...] = ()
    address: str | None = None
    lookups: tuple[Lookup, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is bad; warnings may stand."""
        return all(each.verdict != "bad" for each in self.checks)

    @property
    def reason(self) -> Reason | None:
        """The first reason for which a link would fail."""
        return next((each.reason for each in self.checks if each.verdict == "bad" and each.reason), None)


async def examine(
    target: str,
    port: int,
    *,
    addressing: Addressing,
    host_key: str | None,
    resolver: Asks,
    probe: Probe,
    timeout_s: float = 5.0,
) -> Findings:
    """Look at the machine that `target` (its main host name, or by address its address) is to lead to. `host_key`: the key that
    has to answer; None where any will do, as it is not known yet.
    """
    lookups: list[Lookup] = []
    checks: list[Check] = []
    addresses: Sequence[str] = (target,)
    if addressing == "name":
        found = await resolver.forward(target)
        lookups.append(found)
        checks.append(_forward(found))
        addresses = found.answers if found.outcome == "answered" else ()
    reached: str | None = None
    if addresses:
        reached, check = await _answers(addresses, port, host_key, probe, timeout_s, named=addressing == "name")
        checks.append(check)
        reverse = await asyncio.gather(*(resolver.reverse(each) for each in addresses))
        lookups += reverse
        checks += [_reverse(each, target, addressing) for each in reverse]
    return Findings(tuple(checks), reached, tuple(lookups))


def _forward(found: Lookup) -> Check:
    """What a forward look-up means for whoever will dial by this name."""
    asked = f" by {found.server}" if found.server else ""
    if found.outcome == "answered":
        return Check(name="forward", verdict="ok", said=f"{found.name} is {', '.join(found.answers)}")
    hints = {
        "nxdomain": f"publish an address for {found.name}, or name the machine otherwise with sethostname",
        "nodata": f"{found.name} exists, and has no address: publish an A or AAAA record",
        "timeout": "no DNS server answered in time: look at dns_servers in config.toml, or at /etc/resolv.conf",
        "servfail": "the DNS server cannot answer: look at the zone and at its servers",
    }
    return Check(
        name="forward",
        verdict="bad",
        said=f"{found.name} does not resolve: {found.outcome}{asked}",
        reason="name-unresolvable",
        hint=hints.get(found.outcome),
    )


async def _answers(
    addresses: Sequence[str], port: int, host_key: str | None, probe: Probe, timeout_s: float, *, named: bool
) -> tuple[str | None, Check]:
    """Which of the addresses answers at the port with the right key, and what that means."""

    async def ask(address: str) -> str | DialFailed:
        try:
            return await probe(address, port, timeout_s)
        except DialFailed as failed:
            return failed

    heard = dict(zip(addresses, await asyncio.gather(*map(ask, addresses)), strict=True))
    right = [address for address, key in heard.items() if isinstance(key, str) and host_key in {None, key}]
    told = "; ".join(f"{address}: {_told(key, host_key)}" for address, key in heard.items())
    if len(right) == len(heard):
        return right[0], Check(name="ssh", verdict="ok", said=f"port {port}: {told}")
    if right:
        hint = f"links find it at {right[0]}; let the name have no other address"
        return right[0], Check(name="ssh", verdict="warning", said=f"port {port}: {told}", hint=hint)
    others = [key for key in heard.values() if isinstance(key, str)]
    failures = [key for key in heard.values() if isinstance(key, DialFailed)]
    reason: Reason = "name-points-elsewhere" if named else "host-key-mismatch" if others else failures[0].reason
    hint = (
        "another machine answers there: let the name have the address of this one"
        if others
        else f"nothing of ours answers there: does the service run, and does a firewall let port {port} through?"
    )
    return None, Check(name="ssh", verdict="bad", said=f"port {port}: {told}", reason=reason, hint=hint)


def _told(heard: str | DialFailed, host_key: str | None) -> str:
    if isinstance(heard, DialFailed):
        return f"{heard.reason} ({heard.detail})"
    return "answers with its key" if host_key in {None, heard} else "another key answers"


def _reverse(found: Lookup, target: str, addressing: Addressing) -> Check:
    """What a reverse look-up means: by address a time-out refuses the link, a name that is missing is a finding."""
    address = found.name
    if found.outcome == "answered":
        if addressing == "address" or target in found.answers:
            return Check(name="reverse", verdict="ok", said=f"{address} is {', '.join(found.answers)}")
        return Check(
            name="reverse",
            verdict="warning",
            said=f"{address} is {', '.join(found.answers)}, not {target}",
            hint=f"let the PTR record of {address} name {target}",
        )
    if found.outcome == "timeout":
        return Check(
            name="reverse",
            verdict="bad" if addressing == "address" else "warning",
            said=f"the name of {address} was not found in time",
            reason="reverse-timeout",
            hint=f"publish a PTR record for {address}, or let its DNS server answer that there is none",
        )
    return Check(
        name="reverse",
        verdict="warning",
        said=f"{address} has no name ({found.outcome})",
        reason="reverse-missing",
        hint=f"publish a PTR record for {address}",
    )


def examine_limits(limits: Limits, machines: int, files_max: int) -> list[Check]:
    """Whether a listener of our own (`ccs`) has room for a cluster of `machines`: each other one has a link, and while it
    replaces it two. `files_max`: how many files and sockets the process may have open (RLIMIT_NOFILE).
    """
    others = max(1, machines - 1)
    room = limits.connections - limits.unauthenticated - limits.strangers
    need = "1 other needs" if others == 1 else f"{others} others need"
    said = f"{room} of {limits.connections} connections are the members'; {need} {2 * others}"
    bad = room < others
    checks = [
        Check(
            name="limits",
            verdict="bad" if bad else "warning" if room < 2 * others else "ok",
            said=said,
            reason="connection-limit" if bad else None,
            hint=f"connections_max = {limits.unauthenticated + limits.strangers + 4 * others}" if room < 2 * others else None,
        )
    ]
    needed = limits.connections + 2 * others + _FILES_BESIDE
    checks.append(
        Check(
            name="files",
            verdict="ok" if files_max >= needed else "warning",
            said=f"{files_max} open files are allowed; a full house needs {needed}",
            hint=None if files_max >= needed else f"LimitNOFILE={max(1024, 2 * needed)} in the unit, or ulimit -n",
        )
    )
    return checks
