"""Real nodes without a world: daemons with their keys, ledgers and SSH, on a virtual network in virtual time; storey B.

    run = simulate_nodes(7, folder, views=replay.living.view, machines=3, seconds=600, faults=6)
    run.coverage                     # how often each fault has bitten
    run.unsettled                    # what did not hold when the world had been quiet for long enough

What runs is `ledger.node.daemon` as it is, with `ccs`, asyncssh, dnspython and SQLite; of this room are what it runs in, the
clocks that it is handed, and its death. A node that is killed leaves the files that a killed process leaves: its ledger is set
back to the bytes that were on the disk at that instant. Keys are drawn from the seed, and Ed25519 (RFC 8032) needs no chance to
sign, so that one seed gives one log, byte for byte; the SSH on the wire has dice of its own, which no log depends on.

What can be broken, and how it is made sure that it was, is in `virtual_breaks`. Effects: all of a node's, in the folder.
"""

from __future__ import annotations

import asyncio
import contextvars
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ledger import keys
from ledger.entry import Observed
from ledger.events import Addressing, FeedReceived, MachineJoined, SettingsChanged
from ledger.identity import Feed
from ledger.node import signals as sig
from ledger.node.config import Config, NodeDir
from ledger.node.daemon import Daemon, Views
from ledger.node.dice import Dice
from ledger.node.founding import found
from ledger.node.replicas import Held, run_after, speak
from ledger.node.responder import Responder
from ledger.node.state import MS, SECOND
from ledger.node.taking import take_run
from ledger.node.virtual_loop import VirtualLoop
from ledger.node.virtual_net import DNS_ADDRESS, HERE, VirtualNet
from ledger.node.virtual_node import START_NS
from ledger.node.virtual_streams import Host
from ledger.store import Ledger

PORT: Final = 2222
QUIET_INTERVALS: Final = 12
STOP_S: Final = 60
"""How long an orderly end may take."""


class VirtualDaemon(Daemon):
    """The daemon, but that it can be killed and held up: then it does and writes nothing."""

    dead = False
    held_up_until = 0.0

    def __init__(self, folder: NodeDir, views: Views, **more: Any) -> None:
        super().__init__(folder, views, **more)
        # What dies here is the process and never the machine that the files are on: what was written to them is what they hold.
        self.ledger._connection.execute("pragma synchronous=off")  # noqa: SLF001 - a node has no say in it

    def put(self, seen: sig.Observation) -> None:
        """As it is, while it lives."""
        if not self.dead:
            super().put(seen)

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        await super()._wait()
        if loop.time() < self.held_up_until:
            await asyncio.sleep(self.held_up_until - loop.time())

    def _end(self) -> None:
        if not self.dead:
            super()._end()


class RealNode:
    """One machine: its directory, its clocks, its name server, and its daemon while it runs."""

    def __init__(self, run: NodesRun, name: str, place: int) -> None:
        self.run = run
        self.name = name
        self.hostname = f"{name}.lab.example"
        self.address = f"10.0.0.{place + 1}"
        self.folder = NodeDir.make(run.folder / name)
        self.responder = Responder(DNS_ADDRESS, 53)
        self.host = Host(self.address, lambda wire: self.responder.replies(wire, tcp=False))
        self.offset_ns = 0
        self.base_ns = 0
        self.daemon: VirtualDaemon | None = None
        self.said: list[Mapping[str, Any]] = []
        self._task: asyncio.Task[str] | None = None

    def now(self) -> sig.Now:
        """Its clocks: the wall's, which may be set, and one that began when its power came on."""
        passed = round(self.run.loop.time() * 1e9)
        return sig.Now(START_NS + passed + self.offset_ns, self.base_ns + passed)

    def make_keys(self, dice: Dice) -> None:
        """The three keys, drawn."""

        def drawn() -> Ed25519PrivateKey:
            return Ed25519PrivateKey.from_private_bytes(b"".join(dice.bits().to_bytes(8, "big") for _ in range(4)))

        keys.save(keys.LedgerKey(drawn()), self.folder.file("ledger_key"))
        for name in ("host_key", "dial_key"):
            key = drawn()
            self.folder.replace(name, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
            self.folder.replace(f"{name}.pub", key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n")

    # Life.

    def start(self) -> None:
        """Run its node."""
        if self._task is None:
            context = contextvars.copy_context()
            context.run(HERE.set, self.address)
            self._task = self.run.loop.create_task(self._live(), context=context)

    async def _live(self) -> str:
        self.daemon = VirtualDaemon(self.folder, self.run.views, software="virtual 1", log=self.said.append, now=self.now)
        try:
            return await self.daemon.run(signals=False)
        finally:
            self.daemon = None

    async def stop(self) -> None:
        """End it in order."""
        if self.daemon is not None and self._task is not None:
            self.daemon.stop()
            async with asyncio.timeout(STOP_S):
                await self._task
        self._task = None

    async def kill(self, *, power: bool = False) -> bool:
        """End it without a word, or (`power`) with all of the machine; whether it ran."""
        if self.daemon is None or self._task is None or self.daemon.dead:
            return False
        self.daemon.dead = True
        ledger = self.folder.ledger
        image = ledger.with_name("image")
        image.mkdir()
        for path in (ledger, ledger.with_name(f"{ledger.name}-wal")):
            if path.exists():
                shutil.copyfile(path, image / path.name)
        if power:
            self.run.net.switch(self.address, on=False)
        self.run.net.kill(self.address)
        self._task.cancel()
        await asyncio.wait([self._task])
        for path in ledger.parent.glob(f"{ledger.name}*"):
            path.unlink()
        for path in image.iterdir():
            path.replace(ledger.with_name(path.name))
        image.rmdir()
        self._task = None
        return True

    def power_on(self, dice: Dice) -> None:
        """Its kernel answers again, and its monotonic clock begins anew."""
        self.base_ns = dice.between(1, 60) * SECOND - round(self.run.loop.time() * 1e9)
        self.run.net.switch(self.address, on=True)

    def failed(self) -> BaseException | None:
        """What its node died of, if it did by itself."""
        if self._task is None or not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception()

    async def command(self, ask: str, machine: str, **more: object) -> Mapping[str, Any] | None:
        """An operator commands, at this machine; None if it does not run, or ends before it answers."""
        if self.daemon is None or self._task is None:
            return None
        asked = asyncio.ensure_future(self.daemon.desk.asked({"ask": ask, "machine": machine, "by": "operator", **more}))
        await asyncio.wait([asked, self._task], return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            return asked.result()
        asked.cancel()
        return None


class NodesRun:
    """A cluster of real nodes and what is done to it. `unsettled`: what did not hold in the end; `log`: what they logged."""

    def __init__(
        self, loop: VirtualLoop, seed: int, folder: Path, views: Views, names: Sequence[str], *, settings: SettingsChanged,
        addressing: Addressing,
    ) -> None:  # fmt: skip
        self.dice = Dice(seed)
        self.loop = loop
        self.net = VirtualNet(loop, self.dice.fork())
        loop.net = self.net
        self.folder = folder
        self.views = views
        self.interval_ns = settings.ping_interval_ms * MS
        self.coverage: Counter[str] = Counter()
        self.unsettled: list[str] = []
        self.nodes = {name: RealNode(self, name, place) for place, name in enumerate(names)}
        for node in self.nodes.values():
            self.net.hosts[node.address] = node.host
            node.power_on(self.dice)
            for other in self.nodes.values():
                node.responder.table.address(other.hostname, other.address)
                node.responder.table.pointer(other.address, other.hostname)
        self._found(settings, addressing)

    @property
    def ledgers(self) -> list[Path]:
        """The nodes' ledger files."""
        return [node.folder.ledger for node in self.nodes.values()]

    def _found(self, settings: SettingsChanged, addressing: Addressing) -> None:
        """Every machine's directory: the first founded the cluster and admitted the others, and they know it."""
        first, *rest = self.nodes.values()
        for node in self.nodes.values():
            node.make_keys(self.dice)
            node.folder.set_config(Config(machine=node.name, listen=node.address, port=PORT, dns_servers=(DNS_ADDRESS,)))
        named = {node.name: node.hostname if addressing == "name" else node.address for node in self.nodes.values()}
        feed = found(
            first.folder, first.folder.config(), name="lab", hostname=named[first.name], port=PORT, transport="ccs",
            addressing=addressing, settings=settings, salt="virtual", at_ns=START_NS - 3,
        )  # fmt: skip
        with Ledger.open(first.folder.ledger, write=True) as ledger:
            for node in rest:
                joined = MachineJoined(
                    node.name, named[node.name], PORT, None, node.folder.public("host_key"), node.folder.public("dial_key"),
                    node.folder.ledger_key().text, 0, addressing,
                )  # fmt: skip
                ledger.append(joined, observer=feed, at=START_NS - 2)
            for node in rest:
                self._told(node, feed, ledger, first.folder.ledger_key())

    @staticmethod
    def _told(node: RealNode, feed: Feed, founder: Ledger, key: keys.LedgerKey) -> None:
        word = speak(founder, feed, key)
        with Ledger.create(node.folder.ledger, incarnation=feed.incarnation) as ledger:
            own = ledger.open_feed(
                node.name, at=START_NS - 1, ledger_key=node.folder.ledger_key().text, incarnation=feed.incarnation
            )
            held = Held()
            while (run := run_after(founder, feed, held, word)) is not None:
                taken = take_run(ledger, run, incarnation=feed.incarnation)
                if taken.refused is not None:
                    raise AssertionError(f"the founder's feed is refused: {taken.refused}")
                held = taken.held
            ledger.append(Observed(START_NS - 1, FeedReceived(feed.id, held.last)), observer=own)

    def look(self) -> list[str]:
        """What does not hold now, as the nodes have it in memory."""
        wrong = []
        running = {name: node.daemon for name, node in self.nodes.items() if node.daemon is not None}
        for name, node in self.nodes.items():
            error = node.failed()
            if error is not None:
                wrong.append(f"{name} died of {error!r}")
        for name, daemon in running.items():
            core = daemon.mesh.core
            if core.state != "running":
                wrong.append(f"{name} is {core.state}")
            for other in core.others:
                peer = core.peers.get(other)
                if peer is None or (peer.channel is None and not {name, other} & core.snapshot.planned):
                    wrong.append(f"{name} has no link to {other}: {peer.reason if peer else 'unknown to it'}")
            for theirs in running.values():
                # Of what was written within the last intervals the tail may be on its way.
                last, before = theirs.mesh.core.last, theirs.now().mono_ns - 5 * self.interval_ns
                tail = theirs.ledger.reader(theirs.feed).entries(max(0, last - 1000))
                due = last - sum((each.mono_ns or 0) > before for each in tail if each.boot == theirs.mesh.core.boot)
                held = daemon.mesh.core.holds(theirs.feed.id).last
                if held < due:
                    wrong.append(f"{name} holds {held} of {theirs.feed.name}, of which {due} are old enough")
        return [*wrong, *self.loop.wrong]
