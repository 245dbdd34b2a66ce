"""What nodes say to each other: a closed union of messages, each one frame, in MessagePack.

The first message on a channel is a `Hello` (or, of a newcomer with a code, a `JoinAsk`); what was refused is told in a `Bye`
before the channel ends. Every text, list and number is bounded in its type, so what decodes can be kept. Unknown fields and
trailing bytes are refused: both ends of a link run one protocol, whose number is in the hello.

`decode` raises `Garbage` and nothing else, whatever the bytes. Pure.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ledger.events import Addressing, Count, FeedId, Hostname, Key, LinkId, Machine, Port, Reason, Stamp, Transport, Word
from ledger.node.frames import FRAME_MAX
from ledger.node.replicas import Held, Run
from ledger.node.words import Named
from ledger.node.words import Word as Spoken

PROTOCOL: Final = 2
SHOWN_MAX: Final = 4
"""Of so many of a machine's feeds it is shown what is held: who set its disk back further than that learns of the newest."""
Detail = Annotated[str, Meta(max_length=1024)]
Digest = Annotated[bytes, Meta(max_length=64)]
Said = Annotated[str, Meta(max_length=32_768)]


class Wire(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True, forbid_unknown_fields=True):
    """What all messages share."""


class Place(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """An entry of a feed, or how far a feed can be given."""

    feed: Named
    last: Count


Places = Annotated[tuple[Place, ...], Meta(max_length=512)]


class Shown(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """What is held of one of the hearer's own feeds: the newest word of it."""

    feed: Named
    word: Spoken


class Hello(Wire, frozen=True, tag="hello"):
    """Who speaks. `link`: the id that the dialler gave; `entitled`: entries that the other side should hold before it judges
    (admissions, reconnections, changed keys, the oldest first); `replaces`: a link that the speaker knows to be gone;
    `yours`: the newest words held of the hearer's last feeds; `checking`: the speaker does not know yet that its record is whole.
    """

    protocol: Count
    incarnation: Word
    machine: Machine
    feed: Named
    last: Count
    boot: Stamp
    software: Word
    transport: Transport
    addressing: Addressing
    link: LinkId
    hostname: Hostname | None = None
    port: Port | None = None
    entitled: Annotated[tuple[Place, ...], Meta(max_length=64)] = ()
    replaces: LinkId | None = None
    yours: Annotated[tuple[Shown, ...], Meta(max_length=SHOWN_MAX)] = ()
    checking: bool = False


class Bye(Wire, frozen=True, tag="bye"):
    """Why this channel ends here. `quiet`: another link of the pair stands or comes, so nothing is wrong; `head`: at a stop,
    the last head of the speaker's feed, signed; `because`: the entry that is why, after what it rests on, which the other side
    may ask for where it lacks it; `yours`: as in a greeting, for whoever is refused may have lost what the speaker alone holds.
    """

    reason: Reason
    detail: Detail = ""
    quiet: bool = False
    head: Annotated[str, Meta(max_length=4096)] | None = None
    because: Annotated[tuple[Place, ...], Meta(max_length=16)] = ()
    yours: Annotated[tuple[Shown, ...], Meta(max_length=SHOWN_MAX)] = ()


class Ping(Wire, frozen=True, tag="ping"):
    """A ping. `sent_us`: on the sender's monotonic clock; `have`: how far it can give feeds, where that is news."""

    number: Count
    sent_us: Stamp = 0
    have: Places = ()


class Pong(Wire, frozen=True, tag="pong"):
    """The answer: the ping's number and stamp, and two stamps of the answerer's monotonic clock. `head`: a newly signed head
    of its feed, if one is due.
    """

    number: Count
    sent_us: Stamp
    received_us: Stamp
    replied_us: Stamp = 0
    boot: Stamp = 0
    head: Annotated[str, Meta(max_length=4096)] | None = None


class Have(Wire, frozen=True, tag="have"):
    """How far the sender can give feeds, where that is news."""

    feeds: Places


class Want(Wire, frozen=True, tag="want"):
    """Asks for the next run of a feed after what is held of it."""

    feed: Named
    after: Held


class Push(Wire, frozen=True, tag="push"):
    """A run of a feed."""

    run: Run


class Nothing(Wire, frozen=True, tag="nothing"):
    """There is no run to give of that feed."""

    feed: FeedId


class JoinAsk(Wire, frozen=True, tag="join-ask"):
    """A newcomer with a code. `proof`: HMAC-SHA256 under the invite's key over `asked(…)`."""

    invite: Annotated[str, Meta(max_length=64)]
    proof: Digest
    incarnation: Word
    machine: Machine
    hostname: Hostname
    port: Port
    account: Word | None
    host_key: Key
    dial_key: Key
    ledger_key: Key
    addressing: Addressing
    transport: Transport


class JoinGranted(Wire, frozen=True, tag="join-granted"):
    """Let in, by the entry `by`. Runs of all feeds follow, up to `feeds`; then the member ends the channel."""

    by: Place
    feeds: Places


class JoinRefused(Wire, frozen=True, tag="join-refused"):
    """Not let in."""

    reason: Reason
    detail: Detail = ""


class Command(Wire, frozen=True, tag="command"):
    """A command for `target`, signed by `origin`'s ledger key over `commanded(…)`. `visited`: the machines it has passed."""

    id: Annotated[str, Meta(max_length=64)]
    origin: Machine
    target: Machine
    expires_ns: Annotated[int, Meta(ge=0, le=2**62)]
    body: Said
    signature: Digest
    visited: Annotated[tuple[Machine, ...], Meta(max_length=64)] = ()


class Reply(Wire, frozen=True, tag="reply"):
    """What became of a command, on its way back along `path` (the next machine last). `body`: JSON."""

    id: Annotated[str, Meta(max_length=64)]
    body: Said
    path: Annotated[tuple[Machine, ...], Meta(max_length=64)] = ()


Message = (
    Hello | Bye | Ping | Pong | Have | Want | Push | Nothing | JoinAsk | JoinGranted | JoinRefused | Command | Reply
)  # fmt: skip

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Message)


class Garbage(ValueError):
    """Bytes that are no message."""


def encode(message: Message) -> bytes:
    """A message as one frame. Raises Garbage if it is too long to be one."""
    body = _encoder.encode(message)
    if len(body) > FRAME_MAX:
        raise Garbage(f"a message of {len(body)} bytes; a frame has {FRAME_MAX} at most")
    return body


def decode(frame: bytes) -> Message:
    """The message in a frame. Raises Garbage for anything else: also bad text and deep nesting."""
    try:
        message: Message = _decoder.decode(frame)
    except (ValueError, RecursionError, MemoryError) as error:
        raise Garbage(f"no message: {error}"[:1000]) from None
    return message


def asked(ask: JoinAsk) -> bytes:
    """What the proof of a `JoinAsk` is over: all of it but the proof."""
    return _encoder.encode(msgspec.structs.replace(ask, proof=b""))


def commanded(command: Command) -> bytes:
    """What a command's signature is over: all of it but the signature and where it has been."""
    return b"meshledger command/1\n" + _encoder.encode(msgspec.structs.replace(command, signature=b"", visited=()))
