"""A member turns hostile: its keys are good, and what it says is not. Three honest nodes, each a process, have to live with it.

The fourth member's directory is in the hands of the test, which dials as it and greets as it should, and then breaks the protocol
in one way after another. Each time it is dropped and that is recorded; a feed of which it gives two versions is
kept as evidence; and the honest three go on linking and pinging as if nothing were.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from raised import Node, linked, raised, wait_for
from wires import Heard, settle
from wires import dial as dial_ccs

from ledger import codec, keys
from ledger.entry import Entry, Observed
from ledger.events import JoinRefused, LinkFailed, LinkLost, NoteAdded, PingAnswered
from ledger.identity import Feed
from ledger.node import wire
from ledger.node.frames import FRAME_MAX, PREFIX
from ledger.node.replicas import Held, Run, run_after, speak
from ledger.node.responder import Responder
from ledger.node.sshclient import load_key
from ledger.node.words import Named, digest, spoken
from ledger.notes import Checkpoint, sign_checkpoint
from ledger.origins import origin_of
from ledger.store import Ledger
from replay.check import verify

NAMES = ("alpha", "bravo", "charlie")
FLOOD = 200
boots = itertools.count(time.time_ns() // 1_000_000)


class Hostile:
    """The fourth member, in the hands of the test."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.key = node.folder.ledger_key()
        with Ledger.open(node.folder.ledger, write=True) as ledger:
            self.feed = next(feed for feed in ledger.feeds() if feed.machine == node.name)
            self.incarnation = self.feed.incarnation
            word = speak(ledger, self.feed, self.key)
            run = run_after(ledger, self.feed, Held(), word)
            assert run is not None
            self.run: Run = run
            self.last = word.last

    async def greeted(self, to: Node) -> Heard:
        """A link to a node, both sides having greeted."""
        heard = await self.dialled(to)
        link = os.urandom(6).hex()
        heard.link.send(wire.encode(wire.Hello(
            wire.PROTOCOL, self.incarnation, self.node.name, Named.of(self.feed), self.last, next(boots), "hostile 1", "ccs",
            "address", link, "127.0.0.1", self.node.port,
        )))  # fmt: skip
        while not isinstance(wire.decode(await asyncio.wait_for(heard.frames.get(), 10)), wire.Hello):
            pass
        return heard

    async def dialled(self, to: Node) -> Heard:
        """A channel to a node, nothing said on it yet."""
        key = load_key(self.node.folder.file("dial_key"))
        heard: Heard = await dial_ccs(to.port, key, [to.folder.public("host_key")])
        return heard

    def say(self, *messages: wire.Message) -> Callable[[Heard], Awaitable[None]]:
        """An act: to say this."""

        async def act(heard: Heard) -> None:
            for message in messages:
                heard.link.send(wire.encode(message))

        return act

    def raw(self, data: bytes) -> Callable[[Heard], Awaitable[None]]:
        """An act: to write these bytes, framed or not."""

        async def act(heard: Heard) -> None:
            heard.link._carrier.write(data)  # past the framing

        return act

    def untrue(self) -> Run:
        """A run whose word is signed, and whose entries are others than the word states."""
        entries = [Observed(time.time_ns(), NoteAdded("never happened", "delta"))] * self.last
        return replace(self.run, tail=codec.encode_record(codec.make_record(1, entries)))

    def forged(self, of: Feed) -> Run:
        """A run of somebody else's feed, signed by this member's key."""
        entries = [Observed(time.time_ns(), NoteAdded("never said", "alpha"))]
        word = spoken(of, 10**6, 0, root=bytes(32), opened=digest(entries).digest(), signer=self.key)
        tail = codec.encode_record(codec.make_record(10**6, entries))
        return Run(Named.of(of), Held(0, 10**6 - 1), (), (), tail, word)

    def records(self) -> Run:
        """Records that do not lead to the tree that this member signed."""
        record = codec.encode_record(codec.make_record(1, [Observed(time.time_ns(), NoteAdded("no", "delta"))]))
        word = spoken(self.feed, 2, 2, root=os.urandom(32), opened=digest(()).digest(), signer=self.key)
        return Run(Named.of(self.feed), Held(), (record,), (bytes(32),), b"", word)

    async def forged_head(self, heard: Heard) -> None:
        """An act: to answer a ping with a head of its own feed, signed by another key."""
        other = self.node.folder.path.parent / "alpha" / "other_key"
        if not other.exists():
            keys.save(keys.generate(), other)
        note = sign_checkpoint(Checkpoint(origin_of(self.feed), 3, bytes(32)), keys.load(other))
        while True:
            message = wire.decode(await asyncio.wait_for(heard.frames.get(), 10))
            if isinstance(message, wire.Ping):
                heard.link.send(wire.encode(wire.Pong(message.number, message.sent_us, 1, 1, next(boots), note)))
                return


def feed_of(node: Node) -> Feed:
    """The feed of a node."""
    with Ledger.open(node.folder.ledger) as ledger:
        return next(feed for feed in ledger.feeds() if feed.machine == node.name)


def own(node: Node) -> list[Entry]:
    """What a node has recorded itself."""
    with Ledger.open(node.folder.ledger) as ledger:
        return [entry for feed in ledger.feeds() if feed.machine == node.name for entry in ledger.read(feed)]


def of_delta(node: Node, *kinds: type) -> list[Any]:
    """What a node recorded of the hostile member, of these kinds."""
    return [entry.event for entry in own(node) if isinstance(entry.event, kinds) and entry.event.peer == "delta"]


def refused(node: Node) -> list[JoinRefused]:
    """What a node recorded of those whom it turned away at a limit."""
    events = [entry.event for entry in own(node)]
    return [event for event in events if isinstance(event, JoinRefused) and event.reason == "connection-limit"]


class Scene:
    """Three nodes that run, linked, and the hostile member."""

    def __init__(self, folder: Path, dns: str) -> None:
        self.nodes = raised(folder, 4, interval_ms=400, timeout_ms=350, lost_after=8, dns=(dns,))
        self.honest, last = self.nodes[:3], self.nodes[3]
        self.hostile = Hostile(last)
        self.begun = self.over = 0
        for node in self.honest:
            node.start()

    async def ready(self) -> None:
        await asyncio.to_thread(wait_for, lambda: linked(self.honest), 30)

    async def dropped(self, act: Callable[[Heard], Awaitable[None]]) -> Any:
        """Do this to alpha, linked as a member: what alpha recorded of it, once it has dropped the link."""
        alpha = self.honest[0]
        before = len(of_delta(alpha, LinkLost))
        heard = await self.hostile.greeted(alpha)
        await act(heard)
        await heard.end(10)
        await asyncio.to_thread(wait_for, lambda: len(of_delta(alpha, LinkLost)) > before, 10)
        return of_delta(alpha, LinkLost)[before]

    def end(self) -> None:
        for node in self.honest:
            if node.process is not None:
                node.process.send_signal(signal.SIGTERM)
        for node in self.honest:
            if node.process is not None:
                assert node.process.wait(30) == 0
                node.process = None
            assert node.complaints() == ""


def played(folder: Path, story: Callable[[Scene], Awaitable[None]]) -> Scene:
    """Play a story to a running cluster, and end it in order."""

    async def inner() -> Scene:
        async with Responder() as responder:
            scene = Scene(folder, f"127.0.0.1:{responder.port}")
            try:
                await scene.ready()
                scene.begun = time.time_ns()
                await story(scene)
                scene.over = time.time_ns()
                await asyncio.to_thread(scene.end)
            finally:
                for node in scene.honest:
                    if node.process is not None:
                        node.kill()
                await settle()
            return scene

    return asyncio.run(asyncio.wait_for(inner(), 120))


def undisturbed(scene: Scene) -> None:
    """While it all went on, the honest three lost no link among themselves and had answers to their pings all the time."""
    for node in scene.honest:
        entries = [entry for entry in own(node) if scene.begun < entry.at_ns < scene.over]
        assert [e.event for e in entries if isinstance(e.event, LinkLost | LinkFailed) and e.event.peer in NAMES] == []
        for other in NAMES:
            if other != node.name:
                answered = [e.at_ns for e in entries if isinstance(e.event, PingAnswered) and e.event.peer == other]
                gaps = [after - before for before, after in itertools.pairwise([scene.begun, *answered, scene.over])]
                assert max(gaps) < 6e9, f"{node.name} to {other}"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, dict[str, Any]]:
    """All that a hostile member did, and what alpha recorded of each."""
    found: dict[str, Any] = {}

    async def story(scene: Scene) -> None:
        hostile, alpha = scene.hostile, scene.honest[0]
        acts = {
            "garbage": hostile.raw((64).to_bytes(PREFIX, "big") + b"\xff" * 64),
            "oversized": hostile.raw((FRAME_MAX + 1).to_bytes(PREFIX, "big") + bytes(100)),
            "half": hostile.raw((400).to_bytes(PREFIX, "big") + b"half"),
            "misplaced": hostile.say(wire.JoinRefused("refused", "what is that doing here")),
            "as-bravo": hostile.say(wire.Push(hostile.forged(feed_of(scene.honest[1])))),
            "as-alpha": hostile.say(wire.Push(hostile.forged(feed_of(alpha)))),
            "untrue": hostile.say(wire.Push(hostile.untrue())),
            "records": hostile.say(wire.Push(hostile.records())),
            "head": hostile.forged_head,
        }
        for name, act in acts.items():
            found[name] = await scene.dropped(act)
        before = len(of_delta(alpha, LinkFailed))
        silent = await hostile.dialled(alpha)
        await hostile.raw((64).to_bytes(PREFIX, "big") + b"\xff" * 64)(silent)
        await silent.end(10)

        def told_of_it() -> bool:
            return any(each.reason == "protocol-error" for each in of_delta(alpha, LinkFailed)[before:])

        await asyncio.to_thread(wait_for, told_of_it, 10)
        flood = [await asyncio.open_connection("127.0.0.1", alpha.port) for _ in range(FLOOD)]
        await asyncio.to_thread(wait_for, lambda: len(refused(alpha)) > 0, 10)
        for _, writer in flood:
            writer.transport.abort()
        found["flood"] = refused(alpha)

    scene = played(tmp_path_factory.mktemp("hostile"), story)
    return scene, found


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("garbage", "no message"), ("oversized", "a frame of 65537 bytes"), ("misplaced", "JoinRefused"),
        ("as-bravo", "bravo: signature"), ("as-alpha", "alpha: signature"),
        ("untrue", "not those of the word"), ("records", "malformed"), ("head", "did not sign"),
    ],
)  # fmt: skip
def test_a_member_that_breaks_the_protocol_is_dropped_and_that_is_recorded(told, act, said):
    """What a member with a good key says wrongly ends its link at once, as `protocol-error`, with what was wrong."""
    lost = told[1][act]
    assert lost.reason == "protocol-error"
    assert said.lower() in lost.detail.lower()


def test_half_a_frame_and_then_silence_is_a_peer_that_does_not_answer(told):
    """A frame that does not end hides all that could follow: the pings find it out."""
    assert told[1]["half"].reason in {"timeout", "protocol-error"}


def test_a_flood_of_connections_is_one_entry(told):
    """Two hundred connections that prove nothing, of which a node keeps 64, are one entry with whence they came, and not many."""
    (event,) = told[1]["flood"]
    assert event.address == "127.0.0.1"
    assert 1 <= int(event.detail.split()[0]) <= FLOOD


def test_the_honest_go_on_and_their_ledgers_hold(told):
    """No link among the honest was lost, none of their pings was left out; every ledger verifies, and nothing forged is in it."""
    scene, _ = told
    undisturbed(scene)
    for node in scene.honest:
        report = verify([node.folder.ledger])
        assert [problem.what for problem in report.problems] == []
        with Ledger.open(node.folder.ledger) as ledger:
            notes = [entry for feed in ledger.feeds() for entry in ledger.read(feed) if isinstance(entry.event, NoteAdded)]
        assert notes == []


def test_two_versions_of_its_own_feed_are_evidence(tmp_path):
    """A member signs two histories of its own and gives each to another: who sees both keeps both, says so, and goes on; the
    honest feeds stay whole.
    """

    def other(hostile: Hostile, text: str) -> Run:
        entries = [Observed(1, NoteAdded(text, "delta"))]
        with Ledger.open(hostile.node.folder.ledger) as ledger:
            held = ledger.reader(hostile.feed).open_stored()[1]
        word = spoken(
            hostile.feed, len(held) + 1, 0, root=hostile.run.word.root, opened=digest([*held, *entries]).digest(),
            signer=hostile.key,
        )  # fmt: skip
        return replace(hostile.run, tail=codec.encode_record(codec.make_record(1, [*held, *entries])), word=word)

    async def story(scene: Scene) -> None:
        hostile, alpha = scene.hostile, scene.honest[0]
        one, two = other(hostile, "one"), other(hostile, "two")
        first = await hostile.greeted(alpha)
        await hostile.say(wire.Push(one))(first)

        def held() -> bool:
            with Ledger.open(alpha.folder.ledger) as ledger:
                return any(feed == hostile.feed and ledger.head(feed).last == hostile.last + 1 for feed in ledger.feeds())

        await asyncio.to_thread(wait_for, held, 10)
        second = await hostile.greeted(alpha)
        await hostile.say(wire.Push(two))(second)
        await asyncio.to_thread(wait_for, lambda: any(line["event"] == "fork" for line in alpha.said()), 10)
        for heard in (first, second):
            heard.link.abort()

    scene = played(tmp_path, story)
    undisturbed(scene)
    report = verify([scene.honest[0].folder.ledger])
    assert {problem.pos for problem in report.problems} == {f"delta#{scene.hostile.last + 1}"}
    with Ledger.open(scene.honest[0].folder.ledger) as ledger:
        branches = ledger.branches(scene.hostile.feed)
    assert len(branches) >= 1
