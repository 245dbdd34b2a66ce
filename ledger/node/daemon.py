"""The node that runs: one task group, one queue, one clock; what happened is stored, and only then acted upon.

`Daemon` turns what comes from wires, timers and operators into observations of the core, stores the events that the core gives,
tells it what stands, and does what it wants done; then it waits for the next. The ledger is written here and nowhere else. A
ledger that refuses (a full disk) stops the pings, and the same entries are tried again each second until they stand. It ends on
SIGTERM, or when the machine has left: farewell, a sealed feed, a closed file. Effects: all of a node's.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, Final, cast

from ledger.errors import LedgerError, Unwritable
from ledger.identity import Feed
from ledger.node import control, renewal, wire
from ledger.node import signals as sig
from ledger.node.booting import boot
from ledger.node.bulk import Bulk, Haste, at_once
from ledger.node.config import Config, NodeDir
from ledger.node.craft import OwnCraft
from ledger.node.desk import Desk
from ledger.node.exchange import Exchange
from ledger.node.gate import Gate, Log
from ledger.node.invites import Invites
from ledger.node.links import Limits
from ledger.node.notify import Notify
from ledger.node.pen import RETRY_S, Pen
from ledger.node.replicas import is_quiet
from ledger.node.resolver import Resolver
from ledger.node.sshclient import load_key
from ledger.node.view import View
from ledger.node.wires import Wires
from ledger.store import Ledger

QUEUE_MAX: Final = 10_000
"""Observations that wait; above, nothing is taken from any peer until half of them are done."""
TURN_MAX: Final = 256
BULK_S: Final = 0.015
"""So long is given and taken in one turn, and one run at least; then it is seen who has said something."""
WORDS_S: Final = 60.0
Views = Callable[[Ledger, Feed], View]


def clocks() -> sig.Now:
    """Both clocks of this machine."""
    return sig.Now(time.time_ns(), time.monotonic_ns())


class Daemon:
    """The node of a directory. `views`: makes the fold of its record; `log`: takes structured lines; `now`: reads both clocks,
    of which the monotonic one goes as the event loop's does.
    """

    def __init__(
        self, folder: NodeDir, views: Views, *, software: str, log: Log | None = None, notify: Notify | None = None,
        now: Callable[[], sig.Now] = clocks,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.now = now
        self.config: Config = folder.config()
        self.ledger = Ledger.open(folder.ledger, write=True)
        try:
            self.key, self.feed = renewal.finished(folder, self.ledger, self.config.machine, self.now().wall_ns)
            self.craft = OwnCraft(self.ledger, self.feed, self.key, folder.words())
            view, port = views(self.ledger, self.feed), self.config.port
            self.mesh = boot(self.ledger, view, self.craft, self.now(), software=software, port=port)
        except BaseException:
            self.ledger.close()
            raise
        self.log: Log = log or (lambda _line: None)
        self.notify = notify or Notify({})
        self.software = software
        self.gate = Gate(Invites(folder), self.log, self.put)
        self.listener: Any = None
        self.wires: Wires
        self._queue: deque[tuple[sig.Now, sig.Observation]] = deque()
        self._wake = asyncio.Event()
        self._stopping, self._why = False, "stopped"
        self._paused = False
        self._bulk = Bulk()
        self._haste = Haste()
        self.pen = Pen(self.ledger, self.mesh, log=self.log, notify=self.notify, now=now)
        self.desk = Desk(folder, self.mesh, self.gate, put=self.put, stop=self.stop)

    def _mono_s(self) -> float:
        return self.now().mono_ns / 1e9

    @property
    def full(self) -> bool:
        """Whether the ledger refuses."""
        return self.pen.full

    # The run.

    async def run(self, *, signals: bool = True) -> str:
        """Run until SIGTERM, SIGINT, `stop` or the machine's departure; returns why it ended. Raises OSError, LedgerError:
        Unwritable also at the end, if the medium still refused what was seen last.
        """
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
        if self.full:
            raise Unwritable(
                f"{self.folder.ledger}: the medium refused the last {len(self.pen.waiting)} entries or more; they are lost",
                hint="nothing that others were told of is among them; free space, then run it again",
            )
        return why

    async def _live(self, tasks: asyncio.TaskGroup, *, signals: bool) -> str:
        config, snapshot, own = self.config, self.mesh.core.snapshot, self.mesh.core.member(self.mesh.core.me)
        if own is not None:
            self.folder.settle("dial", own.dial_key)
            self.folder.settle("host", own.host_key)
        transport = import_module(f"ledger.node.{'ccs' if snapshot.transport == 'ccs' else 'openssh'}")
        self.wires = Wires(
            transport, Resolver(config.servers, config.dns_timeout_ms / 1000, config.dns_lifetime_ms / 1000),
            load_key(self.folder.file("dial_key")), dial_timeout_s=config.dial_timeout_ms / 1000, put=self.put,
            mono_us=lambda: self.now().mono_us, tasks=tasks,
        )  # fmt: skip
        self.pen.exchange = Exchange(self.ledger, self.craft, self.wires, self.log)
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
            self.mesh.core.port = own.port if own is not None else 22
        self.gate.listener, self.listener.turned_away = self.listener, self.gate.turned_away
        door = control.Control(self.folder.file(control.SOCKET), self.desk.asked)
        await door.start()
        if signals:
            for name in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(name, self.stop)
        try:
            self.mesh.look(self.now())
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

    async def _loop(self) -> None:
        words_at = self._mono_s() + WORDS_S
        well_at = 0.0
        while not self._stopping:
            if self._queue or self._presses():
                await asyncio.sleep(0)
            else:
                await self._wait()
            if self._due():
                # What has arrived is read before any deadline is judged, or an own delay would be taken for others' silence:
                # one turn of the loop finds out what there is, the next one reads it.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            self._turn()
            here = self._mono_s()
            if here >= words_at and self.craft.changed:
                words_at = here + WORDS_S
                self._keep_words()
            if self.notify.interval_s is not None and here >= well_at and not self.full:
                well_at = here + self.notify.interval_s
                self.notify.well()

    async def _wait(self) -> None:
        """Until something comes, or is due."""
        self._wake.clear()
        waits = [WORDS_S, (self._haste.due_ns(knocks=self._knocks()) - self.now().mono_ns) / 1e9]
        due = self.mesh.deadline()
        if due is not None:
            waits.append((due - self.now().mono_ns) / 1e9)
        if self.full:
            waits.append(RETRY_S)
        if self.notify.interval_s is not None:
            waits.append(self.notify.interval_s / 2)
        if min(waits) > 0 and not self._stopping:
            timer = asyncio.get_running_loop().call_later(min(waits), self._wake.set)
            await self._wake.wait()
            timer.cancel()

    def _due(self) -> bool:
        """Whether a deadline of the core has come."""
        due = self.mesh.deadline()
        return due is not None and due <= self.now().mono_ns

    def _turn(self) -> None:
        """Take in what came, store what happened, do what is wanted."""
        self.pen.retry()
        count = 0
        while self._queue and count < TURN_MAX:
            now, seen = self._queue.popleft()
            channel = getattr(seen, "channel", 0)
            if channel in self._bulk and not at_once(seen):
                self._finish(channel)
            self.mesh.observe(max(now, self.mesh.core.now, key=lambda each: each.mono_ns), seen)
            count += 1
        if self._due():
            self.mesh.observe(self.now(), sig.Tick())
        if self._paused and len(self._queue) < QUEUE_MAX // 2:
            self._paused = False
            self.wires.pause(reading=True)
        self._settle()
        if self._presses():
            self._some(self._mono_s() + BULK_S)

    def _presses(self) -> bool:
        """Whether something of what waits has waited long enough."""
        return self.now().mono_ns >= self._haste.due_ns(knocks=self._knocks())

    def _knocks(self) -> bool:
        """Whether a link is being made."""
        return self.listener.knocking or any(each.stage in {"greeting", "judging"} for each in self.mesh.core.channels.values())

    def _some(self, until_s: float) -> None:
        """Give and take in what waits, until that time; store what waits to be stored."""
        since_ns = self.now().mono_ns
        while self._bulk and self._mono_s() < until_s:
            action = self._bulk.next()
            self._carry([action]) if isinstance(action, sig.Give) else self._take(self._takes(action, until_s))
            self._settle()
        if self._haste.is_soon(self.now().mono_ns) and not self.full:
            self.pen.flush()
            self._settle()
        if self._bulk:
            self._haste.worked(since_ns, self.now().mono_ns)
        else:
            self._haste.done(waiting=bool(self.pen.waiting) and not self.full)

    def _takes(self, first: sig.Take, until_s: float) -> Iterator[sig.Take]:
        """A run, and those whose turn is next, as long as there is time: they share a transaction."""
        yield first
        while self._bulk.is_take() and self._mono_s() < until_s:
            yield cast("sig.Take", self._bulk.next())

    def _finish(self, channel: int) -> None:
        """What waits of a channel is done before what comes after it there."""
        self._carry(self._bulk.of(channel))
        self._settle()

    def _carry(self, actions: Iterable[sig.Give | sig.Take]) -> None:
        """Give runs, or take them in, in order."""
        for action in actions:
            if isinstance(action, sig.Take):
                self._take([action])
            else:
                self.pen.exchange.give(action)
                self._ease(action.channel)

    def _take(self, actions: Iterable[sig.Take]) -> None:
        for action in self.pen.take(actions):
            self._ease(action.channel)

    def _ease(self, channel: int) -> None:
        """Let a channel speak again, if that was all that it waited for."""
        if not self._paused and self._bulk.eases(channel):
            self.wires.pause(reading=True, only=channel)

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
        self._stopping = True
        self._wake.set()

    def _end(self) -> None:
        """Say farewell, seal, and keep the words."""
        core = self.mesh.core
        self.pen.flush()
        recorded = core.state != "checking" and not self.full
        self.mesh.stop(self.now())
        self._settle()
        if recorded:  # others are given the end of the feed before they hear that it ends
            self._some(math.inf)
            self.pen.flush()
        if recorded and not self.full:
            self.ledger.seal(self.feed)
        self.mesh.say_farewell(self.craft.head() if recorded else None)
        self._settle()
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
            self.pen.write(events)
            if self.pen.waiting and not self.full:
                self._soon()
            for action in actions:
                self._do(action)

    def _soon(self) -> None:
        """Something waits that is not urgent."""
        self._haste.soon(self.now().mono_ns + self.pen.gather_ns())

    def _do(self, action: sig.Action) -> None:
        match action:
            case sig.Send():
                if isinstance(action.message, wire.Bye):
                    self._carry(self._bulk.of(action.channel))
                self.wires.send(action.channel, action.message)
            case sig.Give() | sig.Take():
                self._bulk.add(action)
                if isinstance(action, sig.Take) and is_quiet(action.run):
                    self._soon()
                else:
                    self._haste.urgent(self.now().mono_ns)
                if self._bulk.crowds(action.channel):
                    self.wires.pause(reading=False, only=action.channel)
            case sig.Dial():
                self.wires.dial(action)
            case sig.Abort():
                self._bulk.ended(action.channel)
                self.wires.abort(action.channel)
            case sig.LookUp():
                self.wires.look_up(action)
            case sig.Probe():
                self.wires.probe(action)
            case sig.Trust():
                self.gate.trust(action, self.feed.machine)
            case sig.Begin():
                if action.why == "unconfirmed":  # what others lack of it they get under its last word
                    self.craft.leave()
                self.feed = self.craft.feed = self.pen.begin(action, self.key.text)
            case sig.Redeem():
                self.mesh.redeemed(action.channel, self.gate.redeem(action))
            case sig.Answer():
                self.desk.answer(action)
            case sig.Adopt():
                self._adopt(action)
            case sig.Halt():
                self.stop(action.why)

    def _adopt(self, action: sig.Adopt) -> None:
        """Use a new key. If its file cannot be put in its place now, the next start does it."""
        role = action.role
        try:
            if role == "ledger":
                self.key = renewal.adopt(self.folder, self.craft, action.key)
            elif role == "dial" or self.mesh.core.snapshot.transport == "ccs":  # else it is sshd's, and in use already
                (self.wires if role == "dial" else self.listener).rekey(load_key(self.folder.file(f"{role}_key.next")))
                self.folder.adopt(role, action.key)
        except LedgerError as error:
            self.log({"event": "key-not-in-place", "role": role, "error": error.message})
            return
        if role == "ledger":
            self.feed = self.craft.feed = self.pen.begin(sig.Begin("new-key"), self.key.text)
