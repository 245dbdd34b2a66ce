"""Names to addresses and back, by DNS and by nothing else, in bounded time, every outcome a value that becomes an event.

Asked are the configured servers, or those that the system's `resolv.conf` names at that moment; never `/etc/hosts`, never
a search list. The first server is asked first; one that is silent for `timeout_s` is joined by the next, and so on round
and round until `lifetime_s`, and whoever answers first decides. A server that fails (SERVFAIL, REFUSED, RFC 1035 section
4.1.1) is passed over. A closed port is as silent as a lost packet. Truncated answers are asked for again over TCP; answers
that do not fit the question are ignored, as anybody could have sent them.

Whether an answer is the right one (`mismatch`) is for the caller to judge, which knows what it wanted. Effects: the network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.reversename
import dns.rrset
import msgspec

from ledger.events import NameFailed, NameResolved, Outcome
from ledger.identity import host_name

Direction = Literal["forward", "reverse"]
Server = tuple[str, int]

LOOKUPS_MAX: Final = 64
"""Look-ups at once; more wait."""
ANSWERS_MAX: Final = 64
CACHE_MAX: Final = 1024
CACHED_S_MAX: Final = 3600.0
_HOPS_MAX: Final = 8
_WORD_MAX: Final = 255


class Lookup(msgspec.Struct, frozen=True, gc=False):
    """One look-up. `answers`: addresses in numeric order, IPv4 first, or (reverse) host names; `server`: which decided, with
    its port if it is not 53; `ttl_s`: how long this may be kept; `took_us`: from the question to the decision.
    """

    name: str
    direction: Direction
    outcome: Outcome
    answers: tuple[str, ...] = ()
    server: str | None = None
    ttl_s: int | None = None
    took_us: int | None = None

    def event(self) -> NameResolved | NameFailed:
        """The look-up as the log keeps it."""
        kind = NameResolved if self.outcome == "answered" else NameFailed
        return kind(
            name=self.name,
            direction=self.direction,
            outcome=self.outcome,
            answers=self.answers,
            server=self.server,
            ttl_s=self.ttl_s,
            took_us=self.took_us,
        )


class _Reply(msgspec.Struct, frozen=True):
    """What one question came to."""

    outcome: Outcome
    answers: tuple[str, ...] = ()
    server: str | None = None
    ttl_s: int | None = None


class Resolver:
    """Asks `servers` (address, port), the system's if there are none."""

    def __init__(self, servers: Sequence[Server] = (), timeout_s: float = 0.5, lifetime_s: float = 2.0) -> None:
        for address, _ in servers:
            ipaddress.ip_address(address)
        self._servers = tuple(servers)
        self._timeout_s = timeout_s
        self._lifetime_s = lifetime_s
        self._cache: dict[tuple[str, Direction], tuple[float, Lookup]] = {}
        self._room = asyncio.Semaphore(LOOKUPS_MAX)

    async def forward(self, name: str, *, cached: bool = False) -> Lookup:
        """The addresses of a host name: A and AAAA, aliases followed. `cached`: an answer that its TTL still allows will do.
        Raises Refused for what is no host name.
        """
        name = host_name(name)
        kept = self._kept(name, "forward") if cached else None
        return kept or await self._look_up(name, "forward", dns.name.from_text(name), ("A", "AAAA"))

    async def reverse(self, address: str, *, cached: bool = False) -> Lookup:
        """The names of an address: PTR, aliases followed (RFC 2317). Raises ValueError for what is no address."""
        address = str(ipaddress.ip_address(address))
        kept = self._kept(address, "reverse") if cached else None
        return kept or await self._look_up(address, "reverse", dns.reversename.from_address(address), ("PTR",))

    def servers(self) -> tuple[Server, ...]:
        """Whom a look-up would ask now. Raises nothing: without any configuration that is this machine, as in libc."""
        if self._servers:
            return self._servers
        try:
            system = dns.resolver.Resolver()
        except (dns.resolver.NoResolverConfiguration, OSError):
            return (("127.0.0.1", 53),)
        return tuple((str(each), system.port) for each in system.nameservers) or (("127.0.0.1", 53),)

    def _kept(self, name: str, direction: Direction) -> Lookup | None:
        until, lookup = self._cache.get((name, direction), (0.0, None))
        return lookup if asyncio.get_running_loop().time() < until else None

    async def _look_up(self, name: str, direction: Direction, asked: dns.name.Name, kinds: Sequence[str]) -> Lookup:
        loop = asyncio.get_running_loop()
        async with self._room:
            began = loop.time()
            reply = _joined(await self._ask_all(asked, kinds))
            ended = loop.time()
        lookup = Lookup(
            name, direction, reply.outcome, reply.answers, reply.server, reply.ttl_s, max(0, round((ended - began) * 1e6))
        )
        self._cache.pop((name, direction), None)
        if reply.ttl_s and reply.outcome in {"answered", "nxdomain", "nodata"}:
            if len(self._cache) >= CACHE_MAX:
                self._cache.pop(next(iter(self._cache)))
            self._cache[name, direction] = ended + min(reply.ttl_s, CACHED_S_MAX), lookup
        return lookup

    async def _ask_all(self, asked: dns.name.Name, kinds: Sequence[str]) -> list[_Reply]:
        """Ask for every kind at once. Where one is answered, the others have one more time-out: some servers drop AAAA."""
        asking = {asyncio.ensure_future(self._follow(asked, kind)): kind for kind in kinds}
        try:
            done, pending = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            if pending:
                patience = self._timeout_s if any(each.result().outcome == "answered" for each in done) else None
                more, pending = await asyncio.wait(pending, timeout=patience)
                done |= more
        finally:
            await _end(asking)
        return [each.result() for each in asking if each in done]

    async def _follow(self, asked: dns.name.Name, kind: str) -> _Reply:
        """One kind of record of a name, wherever its aliases lead. A circle, or too long a chain, is `servfail`."""
        left_s, loop = self._lifetime_s, asyncio.get_running_loop()
        until = loop.time() + left_s
        ttl_s: int | None = None
        for _ in range(_HOPS_MAX):
            got = await self._ask(asked, kind, until)
            if isinstance(got, _Reply):
                return got
            message, server = got
            try:
                chain = message.resolve_chaining()
            except (dns.exception.DNSException, ValueError):
                return _Reply("servfail", server=server)
            ttl_s = chain.minimum_ttl if ttl_s is None else min(ttl_s, chain.minimum_ttl)
            if chain.answer is not None:
                return _Reply("answered", _texts(chain.answer, kind), server, ttl_s)
            if message.rcode() == dns.rcode.NXDOMAIN:
                return _Reply("nxdomain", server=server, ttl_s=ttl_s)
            if not chain.cnames:
                return _Reply("nodata", server=server, ttl_s=ttl_s)
            asked = chain.canonical_name
        return _Reply("servfail", server=server)

    async def _ask(self, asked: dns.name.Name, kind: str, until: float) -> tuple[dns.message.QueryMessage, str] | _Reply:
        """The first decisive answer of any server, with who gave it; else that there was none."""
        loop, servers = asyncio.get_running_loop(), self.servers()
        failed: dict[Server, str] = {}
        pending: dict[asyncio.Future[dns.message.QueryMessage | None], Server] = {}
        turns = itertools.cycle(servers)
        try:
            while (left := until - loop.time()) > 0:
                if len(failed) < len(servers):
                    server = next(each for each in turns if each not in failed)
                    pending[asyncio.ensure_future(_query(server, asked, kind, left))] = server
                if not pending:
                    break
                done, _ = await asyncio.wait(pending, timeout=min(self._timeout_s, left), return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    server = pending.pop(each)
                    message = each.result()
                    if message is not None and _decides(message):
                        return message, _named(server)
                    failed[server] = "silent" if message is None else "servfail"
        finally:
            await _end(pending)
        culprit = next((each for each, how in failed.items() if how == "servfail"), None)
        return _Reply("servfail" if culprit else "timeout", server=_named(culprit or servers[0]))


async def _end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _query(server: Server, asked: dns.name.Name, kind: str, left_s: float) -> dns.message.QueryMessage | None:
    """One question to one server, over TCP if the answer is truncated. None if it cannot be asked or does not answer."""
    question = dns.message.make_query(asked, kind)
    address, port = server
    try:
        reply, _ = await dns.asyncquery.udp_with_fallback(
            question, address, timeout=left_s, port=port, ignore_unexpected=True, ignore_errors=True
        )
    except (dns.exception.DNSException, OSError, EOFError, ValueError):
        return None
    return reply if isinstance(reply, dns.message.QueryMessage) else None


def _decides(message: dns.message.Message) -> bool:
    """Whether a message is an answer: not a failure, and not a hint to ask elsewhere."""
    if message.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return False
    kinds = {each.rdtype for each in message.authority}
    referral = not message.answer and dns.rdatatype.NS in kinds and dns.rdatatype.SOA not in kinds
    return not (referral and message.rcode() == dns.rcode.NOERROR)


def _joined(replies: list[_Reply]) -> _Reply:
    """What A and AAAA come to together: any answer is one; that the name does not exist, or a failure, outweighs that it has
    no such record.
    """
    answered = [each for each in replies if each.outcome == "answered"]
    if answered:
        answers = tuple(answer for each in answered for answer in each.answers)[:ANSWERS_MAX]
        ttls = [each.ttl_s for each in answered if each.ttl_s is not None]
        return _Reply("answered", answers, answered[0].server, min(ttls, default=None))
    order: tuple[Outcome, ...] = ("nxdomain", "servfail", "timeout", "nodata")
    return min(replies, key=lambda each: order.index(each.outcome))


def _texts(records: dns.rrset.RRset, kind: str) -> tuple[str, ...]:
    """The records as the log writes them, in an order that does not depend on the server's mood."""
    if kind == "PTR":
        names = {each.target.to_text(omit_final_dot=True).lower()[:_WORD_MAX] for each in records}
        return tuple(sorted(names)[:ANSWERS_MAX])
    addresses = {ipaddress.ip_address(each.address) for each in records}
    return tuple(str(each) for each in sorted(addresses, key=int)[:ANSWERS_MAX])


def _named(server: Server) -> str:
    address, port = server
    if port == 53:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
