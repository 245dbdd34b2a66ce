"""A small DNS server of our own, for demonstrations and tests: a table that may change while it answers, and every way to fail.

    async with Responder() as responder:
        responder.table.address("alpha.lab.example", "127.0.0.2")
        responder.table.pointer("127.0.0.2", "alpha.lab.example")
        responder.table.behave("bravo.lab.example", "silent")

It listens on one port, UDP and TCP, of the kernel's choice unless told, and is authoritative for what stands in its table: any
other name is NXDOMAIN. It is no server for anybody else: no recursion, no zones, no limits. Effects: sockets.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from typing import Final, Literal, Self, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset

from ledger.identity import host_name

Behaviour = Literal["answer", "nxdomain", "nodata", "servfail", "refused", "silent", "lie", "truncate"]
"""`lie`: a forged answer (another id, another address) comes before the true one. `truncate`: over UDP only that the
answer is too long; over TCP all of it.
"""
FORGED: Final = {"A": "192.0.2.66", "AAAA": "2001:db8::66", "PTR": "forged.invalid.", "CNAME": "forged.invalid."}
_HOPS_MAX: Final = 16
_ATTEMPTS: Final = 8


class Table:
    """What the responder says. Names are host names, addresses texts; each call takes effect with the next question."""

    def __init__(self) -> None:
        self._records: dict[tuple[dns.name.Name, str], tuple[int, tuple[str, ...]]] = {}
        self._behaviour: dict[dns.name.Name, Behaviour] = {}

    def address(self, name: str, *addresses: str, ttl_s: int = 60) -> None:
        """`name` has these addresses, and no others."""
        owner = dns.name.from_text(host_name(name))
        self._drop(owner)
        for kind, version in (("A", 4), ("AAAA", 6)):
            texts = tuple(each for each in addresses if ipaddress.ip_address(each).version == version)
            if texts:
                self._records[owner, kind] = ttl_s, texts
        self._behaviour[owner] = "answer"

    def alias(self, name: str, target: str, ttl_s: int = 60) -> None:
        """`name` is an alias (CNAME) of `target`."""
        owner = dns.name.from_text(host_name(name))
        self._drop(owner)
        self._records[owner, "CNAME"] = ttl_s, (host_name(target) + ".",)
        self._behaviour[owner] = "answer"

    def pointer(self, address: str, *names: str, ttl_s: int = 60) -> None:
        """`address` has these names (PTR), and no others."""
        owner = dns.reversename.from_address(address)
        self._drop(owner)
        self._records[owner, "PTR"] = ttl_s, tuple(host_name(each) + "." for each in names)
        self._behaviour[owner] = "answer"

    def behave(self, name_or_address: str, behaviour: Behaviour) -> None:
        """From now on questions about this name (or about the PTR of this address) are treated so; its records stay."""
        self._behaviour[_owner(name_or_address)] = behaviour

    def forget(self, name_or_address: str) -> None:
        """Nothing stands here about this name or address any more."""
        owner = _owner(name_or_address)
        self._drop(owner)
        self._behaviour.pop(owner, None)

    def _drop(self, owner: dns.name.Name) -> None:
        for kind in ("A", "AAAA", "CNAME", "PTR"):
            self._records.pop((owner, kind), None)

    def behaviour(self, owner: dns.name.Name) -> Behaviour:
        """How questions about a name are treated; one that does not stand here is `nxdomain`."""
        return self._behaviour.get(owner, "nxdomain")

    def records(self, owner: dns.name.Name, kind: str) -> dns.rrset.RRset | None:
        """The records of a name."""
        ttl_s, texts = self._records.get((owner, kind), (0, ()))
        return dns.rrset.from_text(owner, ttl_s, "IN", kind, *texts) if texts else None


def _owner(name_or_address: str) -> dns.name.Name:
    try:
        return dns.reversename.from_address(name_or_address)
    except dns.exception.SyntaxError:
        return dns.name.from_text(host_name(name_or_address))


class Responder:
    """The server. `asked` counts questions by (name, type), `asked_tcp` those over TCP."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.table = Table()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.asked_tcp = 0
        self.address = address
        self.port = port
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.close()
        await asyncio.sleep(0)

    async def start(self) -> None:
        """Listen. Raises OSError if that port cannot be had."""
        loop = asyncio.get_running_loop()
        for attempt in range(_ATTEMPTS):
            self._tcp = await asyncio.start_server(self._converse, self.address, self.port)
            port = self._tcp.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(self.address, port))
            except OSError:  # the kernel's choice for TCP may be taken for UDP
                self._tcp.close()
                if self.port or attempt + 1 == _ATTEMPTS:
                    raise
            else:
                self.port = port
                return

    def close(self) -> None:
        """Answer no more: from here on the port is closed."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for stream in self._streams:
            stream.transport.abort()

    def replies(self, wire: bytes, *, tcp: bool) -> list[bytes]:
        """The messages to send for one that came; none if it is no question, or silence is what it gets."""
        try:
            question = dns.message.from_wire(wire)
            asked = question.question[0]
        except (dns.exception.DNSException, IndexError, ValueError):
            return []
        if question.flags & dns.flags.QR:
            return []
        kind = dns.rdatatype.to_text(asked.rdtype)
        self.asked[asked.name.to_text(omit_final_dot=True).lower(), kind] += 1
        self.asked_tcp += tcp
        behaviour = self.table.behaviour(asked.name)
        if behaviour == "silent":
            return []
        reply = dns.message.make_response(question, recursion_available=True)
        reply.flags |= dns.flags.AA
        if behaviour == "truncate" and not tcp:
            reply.flags |= dns.flags.TC
            return [reply.to_wire()]
        if behaviour in {"servfail", "refused"}:
            reply.set_rcode(dns.rcode.SERVFAIL if behaviour == "servfail" else dns.rcode.REFUSED)
        elif behaviour in {"nxdomain", "nodata"}:
            self._deny(reply, asked.name, nxdomain=behaviour == "nxdomain")
        else:
            self._answer(reply, asked.name, kind)
        wires = [reply.to_wire(max_size=65535)]
        if behaviour == "lie":
            wires.insert(0, _forged(question, asked.name, kind))
        return wires

    def _answer(self, reply: dns.message.Message, name: dns.name.Name, kind: str) -> None:
        """Put the records of a name into a reply, and of what its aliases lead to, as far as the table knows it."""
        for _ in range(_HOPS_MAX):
            records = self.table.records(name, kind)
            if records is not None:
                reply.answer.append(records)
                return
            alias = self.table.records(name, "CNAME")
            if alias is None:
                self._deny(reply, name, nxdomain=self.table.behaviour(name) == "nxdomain")
                return
            reply.answer.append(alias)
            name = alias[0].target

    def _deny(self, reply: dns.message.Message, name: dns.name.Name, *, nxdomain: bool) -> None:
        """Say that there is no such name, or no such record, and for how long that may be kept (RFC 2308)."""
        if nxdomain:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        zone = name.parent() if len(name.labels) > 1 else name
        reply.authority.append(dns.rrset.from_text(zone, 5, "IN", "SOA", "ns.invalid. hostmaster.invalid. 1 60 60 60 5"))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Questions over TCP: each with two bytes of length before it (RFC 7766)."""
        self._streams.add(writer)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                for wire in self.replies(await reader.readexactly(length), tcp=True):
                    writer.write(len(wire).to_bytes(2, "big") + wire)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._streams.discard(writer)
            writer.transport.abort()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for wire in self._responder.replies(data, tcp=False):
            cast("asyncio.DatagramTransport", self._transport).sendto(wire, addr)


def _forged(question: dns.message.Message, name: dns.name.Name, kind: str) -> bytes:
    """An answer that somebody else might send: it fits the question in all but the id."""
    reply = dns.message.make_response(question)
    reply.id = question.id ^ 0x5A5A
    if kind in FORGED:
        reply.answer.append(dns.rrset.from_text(name, 3600, "IN", kind, FORGED[kind]))
    return reply.to_wire()
