"""The resolver against the responder, over real sockets on loopback: every outcome, in bounded time, whoever answers."""

import asyncio
import contextlib
import socket
import time

import pytest

from ledger.errors import Refused
from ledger.events import NameFailed, NameResolved
from ledger.node.resolver import Resolver
from ledger.node.responder import Responder

NAME = "alpha.lab.example"


@contextlib.asynccontextmanager
async def answering(**options):
    """A responder, and a resolver that asks it."""
    async with Responder() as responder:
        yield responder, Resolver([("127.0.0.1", responder.port)], **{"timeout_s": 0.1, "lifetime_s": 0.4, **options})


@contextlib.contextmanager
def silent_port():
    """A port that takes every packet and answers none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def closed_port():
    """A port where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def look_up(prepare, ask=lambda resolver: resolver.forward(NAME)):
    """What one look-up gives after the table was prepared."""

    async def inner():
        async with answering() as (responder, resolver):
            prepare(responder.table)
            return await ask(resolver), responder

    return asyncio.run(inner())


def test_both_families_are_answered_in_numeric_order():
    """A and AAAA come together, IPv4 first, whatever order the server has them in; the event says who answered."""
    lookup, responder = look_up(lambda table: table.address(NAME, "2001:db8::9", "10.0.0.10", "10.0.0.9", ttl_s=77))
    assert lookup.outcome == "answered"
    assert lookup.answers == ("10.0.0.9", "10.0.0.10", "2001:db8::9")
    event = lookup.event()
    assert isinstance(event, NameResolved)
    assert (event.name, event.direction, event.ttl_s, event.server) == (NAME, "forward", 77, f"127.0.0.1:{responder.port}")
    assert 0 < event.took_us < 400_000


def test_aliases_are_followed():
    """A chain of CNAMEs ends at the addresses of its last name; the least TTL of the chain is the answer's."""

    def prepare(table):
        table.alias(NAME, "b.lab.example", ttl_s=5)
        table.alias("b.lab.example", "c.lab.example")
        table.address("c.lab.example", "10.1.2.3")

    lookup, _ = look_up(prepare)
    assert (lookup.outcome, lookup.answers, lookup.ttl_s) == ("answered", ("10.1.2.3",), 5)


def test_an_alias_that_leads_out_of_the_answer_is_asked_for():
    """Where a server gives an alias without what it leads to, the resolver asks for that, and for the TTL counts both."""

    async def inner():
        async with answering() as (responder, resolver):
            responder.table.alias(NAME, "far.example", ttl_s=50)
            inside = responder._answer

            def only_the_alias(reply, name, kind):
                alias = responder.table.records(name, "CNAME")
                if alias is not None:
                    reply.answer.append(alias)
                else:
                    inside(reply, name, kind)

            responder._answer = only_the_alias
            responder.table.address("far.example", "10.9.9.9", ttl_s=40)
            return await resolver.forward(NAME)

    lookup = asyncio.run(inner())
    assert (lookup.outcome, lookup.answers, lookup.ttl_s) == ("answered", ("10.9.9.9",), 40)


def test_a_circle_of_aliases_ends():
    """A name that is its own alias by way of another is a failure of the server, found in bounded time."""

    def prepare(table):
        table.alias(NAME, "b.lab.example")
        table.alias("b.lab.example", NAME)

    lookup, _ = look_up(prepare)
    assert lookup.outcome == "servfail"


@pytest.mark.parametrize("how", ["nxdomain", "nodata", "servfail"])
def test_a_name_without_an_answer_says_why(how):
    """That there is no such name, no such record, and that the server fails are three things; none is a time-out."""
    lookup, responder = look_up(lambda table: table.behave(NAME, how))
    assert (lookup.outcome, lookup.answers) == (how, ())
    assert isinstance(lookup.event(), NameFailed)
    assert lookup.event().outcome == how
    assert lookup.event().server == f"127.0.0.1:{responder.port}"


def test_a_server_that_refuses_has_failed():
    """REFUSED is the server's failure and says nothing of the name."""
    lookup, _ = look_up(lambda table: table.behave(NAME, "refused"))
    assert lookup.outcome == "servfail"


def test_silence_ends_in_bounded_time():
    """A server that does not answer is a time-out, at the life time and not later than a try after it."""
    began = time.monotonic()
    lookup, responder = look_up(lambda table: table.behave(NAME, "silent"))
    assert lookup.outcome == "timeout"
    assert 0.4 <= lookup.took_us / 1e6 < 0.6
    assert time.monotonic() - began < 1.5
    assert responder.asked[NAME, "A"] >= 3, "asked again at each time-out"


def test_a_closed_port_is_as_silent_as_a_lost_packet():
    """Where nobody listens the look-up times out, in bounded time."""
    lookup = asyncio.run(Resolver([("127.0.0.1", closed_port())], 0.1, 0.3).forward(NAME))
    assert lookup.outcome == "timeout"
    assert lookup.took_us < 600_000


def test_a_silent_server_does_not_hold_up_the_next():
    """The second server is asked one time-out after the first, and its answer decides."""

    async def inner():
        with silent_port() as port:
            async with Responder() as responder:
                responder.table.address(NAME, "10.0.0.1")
                resolver = Resolver([("127.0.0.1", port), ("127.0.0.1", responder.port)], 0.1, 2.0)
                return await resolver.forward(NAME), responder.port

    lookup, port = asyncio.run(inner())
    assert (lookup.outcome, lookup.server) == ("answered", f"127.0.0.1:{port}")
    assert 90_000 < lookup.took_us < 400_000


def test_a_failing_server_is_passed_over_at_once():
    """SERVFAIL of the first server sends the question to the second without waiting."""

    async def inner():
        async with Responder() as bad, Responder() as good:
            bad.table.behave(NAME, "servfail")
            good.table.address(NAME, "10.0.0.1")
            return await Resolver([("127.0.0.1", bad.port), ("127.0.0.1", good.port)], 1.0, 2.0).forward(NAME)

    lookup = asyncio.run(inner())
    assert (lookup.outcome, lookup.answers) == ("answered", ("10.0.0.1",))
    assert lookup.took_us < 900_000


def test_a_truncated_answer_is_asked_for_over_tcp():
    """What does not fit a datagram comes whole over TCP."""

    def prepare(table):
        table.address(NAME, *(f"10.0.0.{n}" for n in range(1, 61)))
        table.behave(NAME, "truncate")

    lookup, responder = look_up(prepare)
    assert lookup.outcome == "answered"
    assert len(lookup.answers) == 60
    assert responder.asked_tcp == 2


def test_a_forged_answer_is_ignored():
    """An answer with another id than the question's is nobody's; the true one decides."""

    def prepare(table):
        table.address(NAME, "10.0.0.1")
        table.behave(NAME, "lie")

    lookup, _ = look_up(prepare)
    assert lookup.answers == ("10.0.0.1",)


def test_a_dropped_aaaa_question_costs_one_time_out():
    """Some servers never answer AAAA: the addresses of the other family come one time-out later, not a life time later."""

    async def inner():
        async with answering(lifetime_s=3.0) as (responder, resolver):
            responder.table.address(NAME, "10.0.0.1")
            inside = responder.replies
            responder.replies = lambda wire, *, tcp: [] if b"\x00\x1c\x00\x01" in wire[-4:] else inside(wire, tcp=tcp)
            return await resolver.forward(NAME)

    lookup = asyncio.run(inner())
    assert (lookup.outcome, lookup.answers) == ("answered", ("10.0.0.1",))
    assert lookup.took_us < 1_000_000


@pytest.mark.parametrize("address", ["10.2.3.4", "2001:db8::7"])
def test_reverse(address):
    """The names of an address of either family; the event's name is the address."""
    lookup, _ = look_up(
        lambda table: table.pointer(address, "Bravo.lab.example", NAME), lambda resolver: resolver.reverse(address)
    )
    assert (lookup.name, lookup.direction, lookup.answers) == (address, "reverse", (NAME, "bravo.lab.example"))


@pytest.mark.parametrize(("how", "outcome"), [("nxdomain", "nxdomain"), ("silent", "timeout"), ("nodata", "nodata")])
def test_reverse_that_fails(how, outcome):
    """An address without a name (at once) and a look-up that times out are two things: the seed refuses only the second."""
    lookup, _ = look_up(lambda table: table.behave("10.2.3.4", how), lambda resolver: resolver.reverse("10.2.3.4"))
    assert (lookup.outcome, lookup.direction) == (outcome, "reverse")


def test_the_cache_keeps_what_its_ttl_allows():
    """`cached` asks once per TTL, for denials too; without it every look-up asks, and failures are never kept."""

    async def inner():
        async with answering() as (responder, resolver):
            responder.table.address(NAME, "10.0.0.1", ttl_s=60)
            first = await resolver.forward(NAME, cached=True)
            responder.table.address(NAME, "10.0.0.2", ttl_s=0)
            assert await resolver.forward(NAME, cached=True) == first
            assert (await resolver.forward(NAME)).answers == ("10.0.0.2",)
            assert (await resolver.forward(NAME, cached=True)).answers == ("10.0.0.2",)
            assert responder.asked[NAME, "A"] == 3, "a TTL of 0 is not kept"
            assert (await resolver.forward("none.example", cached=True)).outcome == "nxdomain"
            assert (await resolver.forward("none.example", cached=True)).outcome == "nxdomain"
            assert responder.asked["none.example", "A"] == 1
            responder.table.behave("down.example", "servfail")
            await resolver.forward("down.example", cached=True)
            await resolver.forward("down.example", cached=True)
            assert responder.asked["down.example", "A"] == 2

    asyncio.run(inner())


def test_many_at_once_are_all_answered():
    """Two hundred look-ups at once, half of them of silent names, end within little more than the life time."""

    async def inner():
        async with answering(timeout_s=0.5, lifetime_s=1.0) as (responder, resolver):
            for n in range(200):
                responder.table.address(f"m{n}.example", f"10.0.1.{n}")
                if n % 2:
                    responder.table.behave(f"m{n}.example", "silent")
            began = time.monotonic()
            found = await asyncio.gather(*(resolver.forward(f"m{n}.example") for n in range(200)))
            return found, time.monotonic() - began

    found, took = asyncio.run(inner())
    assert [each.outcome for each in found] == ["answered", "timeout"] * 100
    assert took < 8.0, "64 at a time"


def test_what_is_no_name_is_refused_at_the_door():
    """A text that cannot be a host name or an address is the caller's mistake, not an outcome of DNS."""
    resolver = Resolver([("127.0.0.1", 53)])
    with pytest.raises(Refused):
        asyncio.run(resolver.forward("no name"))
    with pytest.raises(ValueError, match="does not appear to be"):
        asyncio.run(resolver.reverse("alpha"))
    with pytest.raises(ValueError, match="does not appear to be"):
        Resolver([("ns.example", 53)])


def test_the_systems_servers_are_asked_where_none_are_configured():
    """Without configured servers it is the system's, or this machine's own."""
    servers = Resolver().servers()
    assert servers
    assert all(port == 53 for _, port in servers)


def test_garbage_does_not_stop_the_responder():
    """Datagrams and streams that are no DNS question are answered with nothing, and the next question is."""

    async def inner():
        async with answering() as (responder, resolver):
            responder.table.address(NAME, "10.0.0.1")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                for junk in (b"", b"\x00", b"GET / HTTP/1.1\r\n", bytes(512)):
                    out.sendto(junk, ("127.0.0.1", responder.port))
            _, writer = await asyncio.open_connection("127.0.0.1", responder.port)
            writer.write(b"\x00\x05junk!")
            await asyncio.sleep(0.05)
            found = await resolver.forward(NAME)
            writer.transport.abort()
            return found

    assert asyncio.run(inner()).answers == ("10.0.0.1",)
