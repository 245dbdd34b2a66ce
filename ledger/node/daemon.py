"""The node that runs: one task group, one queue, one clock; what happened is stored, and only then acted upon.

`Daemon` turns what comes from wires, timers and operators into observations of the core, stores the events that the core gives,
tells it what stands, and does what it wants done; then it waits for the next. The ledger is written here and nowhere else. A
ledger that refuses (a full disk) stops the pings, and the same entries are tried again each second until they stand. It ends on
SIGTERM, or when the machine has left: farewell, a sealed feed, a closed file. Effects: all of a node's.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from ledger import keys
from ledger.entry import Entry, Observed
from ledger.errors import LedgerError, Refused
from ledger.events import NodeStarted
from ledger.identity import Feed
from ledger.node import confirming, control
from ledger.node import signals as sig
from ledger.node.config import Config, NodeDir
from ledger.node.craft import OwnCraft
from ledger.node.dice import Dice
from ledger.node.exchange import Exchange
from ledger.node.gate import Gate, Log
from ledger.node.invites import Invites
from ledger.node.links import Limits
from ledger.node.mesh import Mesh
from ledger.node.notify import Notify
from ledger.node.replicas import held
from ledger.node.resolver import Resolver
from ledger.node.sshclient import load_key
from ledger.node.view import View
from ledger.node.wires import Wires
from ledger.store import Ledger

QUEUE_MAX: Final = 10_000
"""Observations that wait; above, nothing is taken from any peer until half of them are done."""
TURN_MAX: Final = 256
RETRY_S: Final = 1.0
WORDS_S: Final = 60.0
Views = Callable[[Ledger, Feed], View]


class Daemon:
    """The node of a directory. `views`: makes the fold of its record; `log`: takes structured lines."""

    def __init__(
        self, folder: NodeDir, views: Views, *, software: str, log: Log | None = None, notify: Notify | None = None
    ) -> None:
        self.folder = folder
        self.config: Config = folder.config()
        self.key = folder.ledger_key()
        self.ledger = Ledger.open(folder.ledger, write=True)
        try:
            self.feed = own_feed(self.ledger, self.config.machine, self.key)
            kept = folder.file("words").read_bytes() if folder.file("words").exists() else b""
            self.craft = OwnCraft(self.ledger, self.feed, self.key, kept)
            self.mesh = self._mesh(views(self.ledger, self.feed), software)
        except BaseException:
            self.ledger.close()
            raise
        self.log: Log = log or (lambda _line: None)
        self.notify = notify or Notify({})
        self.software = software
        self.gate = Gate(Invites(folder), self.log)
        self.listener: Any = None
        self.wires: Wires
        self.exchange: Exchange
        self._queue: deque[tuple[sig.Now, sig.Observation]] = deque()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._paused = False
        self._batch: list[Observed] = []
        self._retry_at = 0.0
        self._requests: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._requested = 0
        self._full = False

    def _mesh(self, view: View, software: str) -> Mesh:
        reader = self.ledger.reader(self.feed)
        last = reader.head().last
        before = [entry.event for entry in reader.rare(("node.started",))]
        started = before[-1] if before else None
        changed = [entry.index for entry in reader.rare(("key.changed",))]
        boots = [entry.boot for entry in reader.entries(max(0, last - 1)) if entry.boot is not None]
        now = self.now()
        boot = max([now.wall_ns // 1_000_000, *(each + 1 for each in boots)])
        others = {
            feed: (held(self.ledger, feed), self.craft.gives(feed)) for feed in self.ledger.feeds() if feed.ledger_key is not None
        }
        return Mesh(
            self.feed, view, self.craft, Dice(hash((self.feed.id, boot)) & (2**64 - 1)), now, boot=boot, software=software,
            port=self.config.port, last=last, held={feed: found for feed, found in others.items() if feed != self.feed} | {
                self.feed: (held(self.ledger, self.feed), last)
            },
            changed_keys=changed[-1] if changed else 0, before=started.software if isinstance(started, NodeStarted) else None,
        )  # fmt: skip

    @staticmethod
    def now() -> sig.Now:
        """Both clocks."""
        return sig.Now(time.time_ns(), time.monotonic_ns())

    # The run.

    async def run(self, *, signals: bool = True) -> str:
        """Run until SIGTERM, SIGINT, `stop` or the machine's departure; returns why it ended. Raises OSError, LedgerError."""
        why = "stopped"
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    why = await self._live(tasks, signals=signals)
                finally:
                    with contextlib.suppress(AttributeError):
                        self.wires.close()
        finally:
            self.ledger.close()
        return why

    async def _live(self, tasks: asyncio.TaskGroup, *, signals: bool) -> str:
        config, snapshot = self.config, self.mesh.core.snapshot
        transport = import_module(f"ledger.node.{'ccs' if snapshot.transport == 'ccs' else 'openssh'}")
        self.wires = Wires(
            transport, Resolver(config.servers, config.dns_timeout_ms / 1000, config.dns_lifetime_ms / 1000),
            load_key(self.folder.file("dial_key")), dial_timeout_s=config.dial_timeout_ms / 1000, put=self.put,
            mono_us=lambda: time.monotonic_ns() // 1000, tasks=tasks,
        )  # fmt: skip
        self.exchange = Exchange(self.ledger, self.craft, self.wires, self.log)
        limits = Limits(
            connections=config.connections_max, unauthenticated=config.unauthenticated_max, strangers=config.strangers_max,
            login_s=config.login_timeout_ms / 1000,
        )  # fmt: skip
        if snapshot.transport == "ccs":
            self.listener = await transport.listen(
                config.listen, config.port, host_key=load_key(self.folder.file("host_key")), allow=self.gate.standing,
                handler=self.wires.accepted, limits=limits,
            )  # fmt: skip
            self.mesh.core.port = self.listener.port
        else:
            self.listener = await transport.listen(
                self.folder.file("peer.sock"), keys_file=self.folder.file("authorized_keys"), allow=self.gate.standing,
                handler=self.wires.accepted, limits=limits,
            )  # fmt: skip
            own = self.mesh.core.member(self.mesh.core.me)
            self.mesh.core.port = own.port if own is not None else 22
        self.gate.listener = self.listener
        door = control.Control(self.folder.file(control.SOCKET), self.commanded)
        await door.start()
        if signals:
            for name in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(name, self._stopping.set)
        try:
            self.mesh.start()
            self._settle()
            self.notify.ready(f"{self.feed.name} runs")
            self.log({"event": "started", "machine": self.feed.machine, "feed": self.feed.name, "port": self.mesh.core.port})
            await self._loop()
            return self._why
        finally:
            self.notify.stopping()
            await door.close()
            await self.listener.close()
            self._end()

    _why = "stopped"

    async def _loop(self) -> None:
        words_at = time.monotonic() + WORDS_S
        well_at = 0.0
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            while not self._stopping.is_set():
                if not self._queue:
                    await self._wait(stopped)
                # What has arrived is read before any deadline is judged, or an own delay would be taken for others' silence:
                # one turn of the loop finds out what there is, the next one reads it.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                self._turn()
                here = time.monotonic()
                if here >= words_at and self.craft.changed:
                    words_at = here + WORDS_S
                    self._keep_words()
                if self.notify.interval_s is not None and here >= well_at and not self._full:
                    well_at = here + self.notify.interval_s
                    self.notify.well()
        finally:
            stopped.cancel()

    async def _wait(self, stopped: asyncio.Future[Any]) -> None:
        """Until something comes, or is due."""
        self._wake.clear()
        due = self.mesh.deadline()
        most = 1.0 if self.notify.interval_s is None else min(1.0, self.notify.interval_s / 2)
        delay = most if due is None else min(most, (due - time.monotonic_ns()) / 1e9)
        if delay > 0:
            waking = asyncio.ensure_future(self._wake.wait())
            await asyncio.wait({waking, stopped}, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            waking.cancel()

    def _turn(self) -> None:
        """Take in what came, store what happened, do what is wanted."""
        if self._full and time.monotonic() >= self._retry_at:
            self._store(())
        count = 0
        while self._queue and count < TURN_MAX:
            now, seen = self._queue.popleft()
            self.mesh.observe(now, seen)
            count += 1
        due = self.mesh.deadline()
        if due is not None and due <= time.monotonic_ns():
            self.mesh.observe(self.now(), sig.Tick())
        if self._paused and len(self._queue) < QUEUE_MAX // 2:
            self._paused = False
            self.wires.pause(reading=True)
        self._settle()

    def put(self, seen: sig.Observation) -> None:
        """Something was observed, now."""
        self._queue.append((self.now(), seen))
        if len(self._queue) > QUEUE_MAX and not self._paused:
            self._paused = True
            self.wires.pause(reading=False)
        self._wake.set()

    def stop(self, why: str = "stopped") -> None:
        """End in order."""
        self._why = why
        self._stopping.set()

    def _end(self) -> None:
        """Say farewell, seal, and keep the words."""
        core = self.mesh.core
        recorded = core.state != "checking" and not self._full
        if recorded:
            self.ledger.seal(self.feed)
        self.mesh.stop(self.now(), self.craft.head() if recorded else None)
        self._settle()
        if recorded and not self._full:
            self.ledger.seal(self.feed)
        self._keep_words()
        self.log({"event": "stopped", "why": self._why, "position": self.feed.at(core.last)})

    def _keep_words(self) -> None:
        try:
            self.folder.replace("words", self.craft.encoded())
        except LedgerError as error:
            self.log({"event": "words-not-kept", "error": error.message})

    # What happened, and what is wanted.

    def _settle(self) -> None:
        """Store and act until nothing is left to do."""
        for _ in range(1000):
            events, actions = self.mesh.take_events(), self.mesh.take_actions()
            if not events and not actions:
                return
            self._store(events)
            for action in actions:
                self._do(action)

    def _store(self, events: Sequence[Observed]) -> None:
        """Append to the own feed; what the ledger refuses is kept, in order, and tried again."""
        batch = [*self._batch, *events]
        if not batch:
            return
        last = self.mesh.core.last
        try:
            receipt = self.ledger.append(batch, observer=self.feed, expect=last)
        except LedgerError as error:
            self._batch, self._retry_at = batch, time.monotonic() + RETRY_S
            if not self._full:
                self._full = True
                self.log({"event": "ledger-refuses", "error": error.message, "hint": error.hint})
                self.notify.status(f"the ledger refuses: {error.message}")
                self.mesh.observe(self.now(), sig.Medium(False, error.message))
            return
        self._batch = []
        if self._full:
            self._full = False
            self.log({"event": "ledger-takes"})
            self.mesh.observe(self.now(), sig.Medium(True))
        self.mesh.stored([
            Entry(self.feed, index, each.at_ns, each.event, each.boot, each.mono_ns, each.at_ns)
            for index, each in enumerate(batch, receipt.first)
        ])  # fmt: skip

    def _do(self, action: sig.Action) -> None:
        match action:
            case sig.Send():
                self.wires.send(action.channel, action.message)
            case sig.Give():
                self.exchange.give(action)
            case sig.Take():
                self._take(action)
            case sig.Dial():
                self.wires.dial(action)
            case sig.Abort():
                self.wires.abort(action.channel)
            case sig.LookUp():
                self.wires.look_up(action)
            case sig.Probe():
                self.wires.probe(action)
            case sig.Trust():
                self.gate.trust(action, self.feed.machine)
            case sig.Begin():
                self._begin(action)
            case sig.Redeem():
                self.mesh.redeemed(action.channel, self.gate.redeem(action))
            case sig.Answer():
                future = self._requests.pop(action.request, None)
                if future is not None and not future.done():
                    future.set_result(action.body)
            case sig.Halt():
                self.stop(action.why)

    def _take(self, action: sig.Take) -> None:
        """Take a run in, after what happened before it."""
        self.mesh.observe(self.now(), sig.Tick())
        self._store(self.mesh.take_events())
        if self._full:
            return
        try:
            took = self.exchange.take(action, self.mesh.core.stamp)
        except LedgerError as error:
            self.log({"event": "run-not-taken", "feed": action.run.feed.machine, "error": error.message})
            return
        self.mesh.observe(self.now(), took)

    def _begin(self, action: sig.Begin) -> None:
        """Open the next epoch."""
        before = self.feed
        epoch = 1 + max(each.epoch for each in self.ledger.feeds() if each.machine == before.machine)
        feed = Feed.of(before.incarnation, before.machine, epoch, before.ledger_key)
        opened = confirming.opening(self.mesh.core, feed, action)
        self.ledger.append([opened], observer=feed)
        self.log({"event": "new-epoch", "feed": feed.name, "why": action.why})
        self.feed = self.craft.feed = feed
        self.mesh.begun(feed, held(self.ledger, before))
        self.mesh.stored([Entry(feed, 1, opened.at_ns, opened.event, opened.boot, opened.mono_ns, opened.at_ns)])

    # Who may in, and who commands.

    async def commanded(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """One request over the control socket."""
        if request["ask"] == "stop":
            self.stop()
            return {"machine": self.feed.machine}
        if request["ask"] == "invite":
            return self.gate.invite(request, self.mesh.core)
        self._requested += 1
        number = self._requested
        future = self._requests[number] = asyncio.get_running_loop().create_future()
        machine, by = request.get("machine"), request.get("by")
        more = {name: value for name, value in request.items() if name not in {"ask", "machine", "by"}}
        self.put(sig.Commanded(number, str(request["ask"]), machine and str(machine), by and str(by), more))
        answer: Mapping[str, Any] = await future
        return answer


def own_feed(ledger: Ledger, machine: str, key: keys.LedgerKey) -> Feed:
    """The feed that this machine writes: its newest with this ledger key. Raises Refused if there is none."""
    found = [feed for feed in ledger.feeds() if feed.machine == machine and feed.ledger_key == key.text]
    if not found:
        raise Refused(f"{ledger.path} holds no feed of {machine} under this ledger key", hint="`meshledger init` or `join` first")
    return found[-1]
