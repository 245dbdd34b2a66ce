"""The resolver against dnsmasq, a real server with a configuration of its own on loopback: every outcome that it can give."""

import asyncio
import contextlib
import os
import signal
import socket

import pytest
from servers import LOOPBACK, Unstarted, free_port, program, running

from ledger.node.resolver import Resolver

CONFIG = """
no-resolv
no-hosts
no-daemon
bind-interfaces
listen-address=127.0.0.1
port={port}
pid-file=
local=/lab.example/
address=/charlie.lab.example/10.0.0.3
host-record=alpha.lab.example,10.0.0.1,2001:db8::1,77
host-record=bravo.lab.example,10.0.0.2
cname=web.lab.example,alpha.lab.example,33
txt-record=text.lab.example,only
ptr-record=9.0.0.10.in-addr.arpa,"charlie.lab.example"
local=/10.in-addr.arpa/
server=/elsewhere.example/127.0.0.1#{silent}
{wide}
"""


@contextlib.contextmanager
def dnsmasq(folder):
    """A dnsmasq, its process, and a resolver that asks it."""
    server = program("dnsmasq")

    def started(_process):
        return b"started" in (folder / "dnsmasq.log").read_bytes()

    wide = "\n".join(f"host-record=wide.lab.example,10.7.0.{n}" for n in range(1, 121))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((LOOPBACK, 0))
        for attempt in range(5):
            port = free_port(socket.SOCK_DGRAM)
            config = folder / "dnsmasq.conf"
            config.write_text(CONFIG.format(port=port, silent=silent.getsockname()[1], wide=wide))
            try:
                with running([server, "-C", config, "--log-facility=-"], started, folder / "dnsmasq.log") as process:
                    yield process, Resolver([(LOOPBACK, port)], 0.3, 0.9)
                    return
            except Unstarted as why:
                if "Address already in use" not in str(why) or attempt == 4:
                    raise


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Ask a dnsmasq that runs for this file: `asked(lambda resolver: …)`."""
    with dnsmasq(tmp_path_factory.mktemp("dns")) as (_, resolver):

        def ask(question):
            async def inner():
                return await question(Resolver(resolver.servers(), 0.3, 0.9))

            return asyncio.run(inner())

        yield ask


def test_both_families(asked):
    """A and AAAA of one name, with the TTL that the server gives."""
    found = asked(lambda resolver: resolver.forward("alpha.lab.example"))
    assert (found.outcome, found.answers, found.ttl_s) == ("answered", ("10.0.0.1", "2001:db8::1"), 77)


def test_one_family_and_an_alias(asked):
    """A name with A alone is answered; an alias gives the addresses of what it leads to, for as long as the shorter TTL."""
    assert asked(lambda resolver: resolver.forward("bravo.lab.example")).answers == ("10.0.0.2",)
    found = asked(lambda resolver: resolver.forward("web.lab.example"))
    assert (found.outcome, found.answers, found.ttl_s) == ("answered", ("10.0.0.1", "2001:db8::1"), 33)


def test_denials(asked):
    """A name that does not exist, and one that exists without an address, are told apart."""
    assert asked(lambda resolver: resolver.forward("none.lab.example")).outcome == "nxdomain"
    assert asked(lambda resolver: resolver.forward("text.lab.example")).outcome == "nodata"


def test_reverse(asked):
    """PTR of both families; an address that has no name is denied at once and does not time out."""
    assert asked(lambda resolver: resolver.reverse("10.0.0.1")).answers == ("alpha.lab.example",)
    assert asked(lambda resolver: resolver.reverse("2001:db8::1")).answers == ("alpha.lab.example",)
    assert asked(lambda resolver: resolver.reverse("10.0.0.9")).answers == ("charlie.lab.example",)
    assert asked(lambda resolver: resolver.reverse("10.0.0.77")).outcome == "nxdomain"


def test_an_answer_too_wide_for_a_datagram(asked):
    """A hundred and twenty addresses come over TCP; as many as an event takes are kept."""
    found = asked(lambda resolver: resolver.forward("wide.lab.example"))
    assert found.outcome == "answered"
    assert found.answers == tuple(f"10.7.0.{n}" for n in range(1, 65))


def test_a_server_behind_the_server_that_is_silent(asked):
    """Where dnsmasq itself waits for one that says nothing, the look-up times out, in bounded time."""
    found = asked(lambda resolver: resolver.forward("x.elsewhere.example"))
    assert found.outcome == "timeout"
    assert 900_000 <= found.took_us < 1_600_000


def test_a_server_that_knows_nobody_to_ask_refuses(asked):
    """A name of nobody's, at a server without a server above it, is that server's failure."""
    assert asked(lambda resolver: resolver.forward("outside.test")).outcome == "servfail"


def test_frozen_then_gone(tmp_path):
    """SIGSTOP: a time-out in bounded time; SIGCONT: an answer again; killed: the closed port is a time-out, too."""

    async def inner(process, resolver):
        name = "alpha.lab.example"
        assert (await resolver.forward(name)).outcome == "answered"
        os.kill(process.pid, signal.SIGSTOP)
        frozen = await resolver.forward(name)
        os.kill(process.pid, signal.SIGCONT)
        assert (await resolver.forward(name)).outcome == "answered"
        process.kill()
        process.wait(10)
        gone = await resolver.forward(name)
        assert (frozen.outcome, gone.outcome) == ("timeout", "timeout")
        assert max(frozen.took_us, gone.took_us) < 1_600_000

    with dnsmasq(tmp_path) as (process, resolver):
        asyncio.run(inner(process, resolver))
