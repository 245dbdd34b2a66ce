"""What nodes say to each other, as bytes: all of it comes back, nothing else comes through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.node import wire
from ledger.node.frames import FRAME_MAX
from ledger.node.replicas import Held, Run
from ledger.node.words import Named, Word

NAMED = Named("alpha", 1, "ed25519:" + "A" * 43 + "=")
PLACE = wire.Place(NAMED, 7)
NOW_NS = 2_000_000_000 * 10**9
MONO_US = 10 * 365 * 86_400 * 10**6
"""Instants as they will be in 2033, and after ten years of uptime."""
WORD = Word("0" * 64, 7, 1, bytes(32), bytes(32), bytes(64))
SHOWN = wire.Shown(NAMED, WORD)
MESSAGES = [
    wire.Hello(
        1, "inc", "alpha", NAMED, 7, NOW_NS // 10**6, "1.0", "ccs", "name", "l-1", "a.lab", 2222, (PLACE,), "l-0", (SHOWN,), True
    ),
    wire.Bye("closed", "why", True, "head", (PLACE,), (SHOWN,)),
    wire.Ping(3, MONO_US, (PLACE,)),
    wire.Pong(3, MONO_US, MONO_US, MONO_US, NOW_NS // 10**6, "head"),
    wire.Have((PLACE,)),
    wire.Want(NAMED, Held(1, 7)),
    wire.Push(Run(NAMED, Held(0, 0), (b"x",), (bytes(32),), b"", WORD)),
    wire.Nothing("0" * 64),
    wire.JoinAsk("id", b"p", "inc", "bravo", "b.lab", 22, None, "h", "d", "l", "name", "ssh"),
    wire.JoinGranted(PLACE, (PLACE,)),
    wire.JoinRefused("auth-failed", "the code is wrong"),
    wire.Command("id", "alpha", "bravo", NOW_NS, "{}", b"s", ("alpha",)),
    wire.Reply("id", "{}", ("alpha",)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_a_message_comes_back_as_it_was(message):
    """Every kind of message survives the wire, and there is a test of each."""
    assert wire.decode(wire.encode(message)) == message
    assert {type(each) for each in MESSAGES} == set(wire.Message.__args__)


@given(st.one_of(st.binary(max_size=200), st.sampled_from(MESSAGES).map(wire.encode).flatmap(
    lambda frame: st.tuples(st.integers(0, len(frame)), st.binary(max_size=6)).map(lambda cut: frame[: cut[0]] + cut[1])
)))  # fmt: skip
def test_any_bytes_are_a_message_or_garbage(frame):
    """Whatever comes, `decode` gives a message or raises `Garbage`, and nothing else."""
    try:
        message = wire.decode(frame)
    except wire.Garbage:
        return
    assert type(message) in wire.Message.__args__


@pytest.mark.parametrize(
    "frame",
    [
        b"\x91" * 60_000,
        b"\x92\xa5hello\xff",
        wire.encode(MESSAGES[0]) + b"\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\x94\xa3bye\xa6closed\xa2\xff\xfe\xc2",
    ],
    ids=["nesting", "a short hello", "trailing bytes", "four thousand million items", "text that is none"],
)
def test_hostile_bytes_are_garbage(frame):
    """Deep nesting, announced sizes, trailing bytes and bad text end in one exception."""
    with pytest.raises(wire.Garbage):
        wire.decode(frame)


def test_what_is_too_long_for_a_frame_is_not_sent():
    """A message that does not fit is our own mistake, and is told before it reaches the wire."""
    with pytest.raises(wire.Garbage, match="65536"):
        wire.encode(wire.Push(Run(NAMED, Held(0, 0), (bytes(FRAME_MAX),), (), b"", WORD)))


def test_what_is_signed_leaves_out_what_changes_on_the_way():
    """A command's signature covers all but itself and the machines visited; a proof covers all but itself."""
    command, ask = MESSAGES[11], MESSAGES[8]
    passed = wire.Command("id", "alpha", "bravo", NOW_NS, "{}", b"other", ("alpha", "charlie"))
    assert wire.commanded(command) == wire.commanded(passed)
    assert wire.commanded(command) != wire.commanded(wire.Command("id", "alpha", "bravo", 6, "{}", b"s", ("alpha",)))
    assert wire.asked(ask) == wire.asked(
        wire.JoinAsk("id", b"q", "inc", "bravo", "b.lab", 22, None, "h", "d", "l", "name", "ssh")
    )
    assert wire.asked(ask) != wire.asked(
        wire.JoinAsk("id", b"p", "inc", "brave", "b.lab", 22, None, "h", "d", "l", "name", "ssh")
    )
