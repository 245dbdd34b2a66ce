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
from ledger.node import confirming, control, wire
from ledger.node import signals as sig
from ledger.node.config import Config, NodeDir
from ledger.node.craft import OwnCraft
from ledger.node.dice import Dice
from ledger.node.invites import Invites
from ledger.node.links import Limits, Standing
from ledger.node.mesh import Mesh
from ledger.node.notify import Notify
from ledger.node.replicas import Held, held, take_run
from ledger.node.resolver import Resolver
from ledger.node.sshclient import load_key
from ledger.node.view import View
from ledger.node.wires import Wires
from ledger.store import Ledger

QUEUE_MAX: Final = 10_000
"""Observations that wait; above, nothing is taken from any peer until half of them are done."""
TURN_MAX: Final = 256
RUNS_MAX: Final = 8
"""Runs that follow one another in one push."""
RETRY_S: Final = 1.0
WORDS_S: Final = 60.0
Views = Callable[[Ledger, Feed], View]
Log = Callable[[Mapping[str, Any]], None]


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
        self.invites = Invites(folder)
        self.listener: Any = None
        self.wires: Wires
        self._queue: deque[tuple[sig.Now, sig.Observation]] = deque()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._paused = False
        self._batch: list[Observed] = []
        self._retry_at = 0.0
        self._members: dict[str, str] = {}
        self._former: frozenset[str] = frozenset()
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
        limits = Limits(
            connections=config.connections_max, unauthenticated=config.unauthenticated_max, strangers=config.strangers_max,
            login_s=config.login_timeout_ms / 1000,
        )  # fmt: skip
        if snapshot.transport == "ccs":
            self.listener = await transport.listen(
                config.listen, config.port, host_key=load_key(self.folder.file("host_key")), allow=self.standing,
                handler=self.wires.accepted, limits=limits,
            )  # fmt: skip
            self.mesh.core.port = self.listener.port
        else:
            self.listener = await transport.listen(
                self.folder.file("peer.sock"), keys_file=self.folder.file("authorized_keys"), allow=self.standing,
                handler=self.wires.accepted, limits=limits,
            )  # fmt: skip
            own = self.mesh.core.member(self.mesh.core.me)
            self.mesh.core.port = own.port if own is not None else 22
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
        delay = 1.0 if due is None else min(1.0, (due - time.monotonic_ns()) / 1e9)
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
                self._give(action)
            case sig.Take():
                self._store(self.mesh.take_events())
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
                self._trust(action)
            case sig.Begin():
                self._begin(action)
            case sig.Redeem():
                self._redeem(action)
            case sig.Answer():
                future = self._requests.pop(action.request, None)
                if future is not None and not future.done():
                    future.set_result(action.body)
            case sig.Halt():
                self.stop(action.why)

    def _give(self, action: sig.Give) -> None:
        feed = action.feed.feed(self.feed.incarnation)
        key = (action.channel, feed.id)
        after = action.after if action.after is not None else self.wires.given.get(key)
        run = self.craft.run(feed, after) if after is not None and feed in self.ledger.feeds() else None
        if run is None:
            if action.after is not None:
                self.wires.given[key] = action.after
                self.wires.send(action.channel, wire.Nothing(feed.id))
            return
        pushed = 0
        while run is not None and pushed < RUNS_MAX:
            self.wires.send(action.channel, wire.Push(run))
            pushed += 1
            if run.records:
                records = run.after.records + len(run.records)
                after = Held(records, self.ledger.reader(feed).record(records).last)
            else:
                after = Held(run.after.records, run.word.last)
            self.wires.given[key] = after
            run = self.craft.run(feed, after) if action.after is None else None

    def _take(self, action: sig.Take) -> None:
        run, now = action.run, self.now()
        feed = run.feed.feed(self.feed.incarnation)
        have = held(self.ledger, feed)
        if feed == self.feed:
            ahead = run.word.last if self.craft.proves(feed, run.word) and run.word.last > have.last else None
            self.mesh.observe(now, sig.Took(action.channel, feed, have, have.last, ahead=ahead))
            return
        self.mesh.observe(now, sig.Tick())
        self._store(self.mesh.take_events())
        if self._full:
            return
        try:
            taken = take_run(self.ledger, run, incarnation=self.feed.incarnation, own=self.feed, stamp=self.mesh.core.stamp)
        except LedgerError as error:
            self.log({"event": "run-not-taken", "feed": feed.name, "error": error.message})
            return
        again = None
        if taken.refused == "again":
            head = self.ledger.head(feed)
            again = Held(head.records, head.sealed)
        elif taken.refused == "inconsistent":
            again = Held()
        elif taken.refused == "gap":
            again = taken.held
        self.mesh.observe(now, sig.Took(
            action.channel, feed, taken.held, self.craft.learn(run, taken), taken.entries, taken.own, taken.refused, again,
            taken.detail,
        ))  # fmt: skip
        if taken.forked is not None:
            self.log({"event": "fork", "position": feed.at(taken.forked), "detail": taken.detail})

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

    def _redeem(self, action: sig.Redeem) -> None:
        now_s = time.time_ns() // 10**9
        try:
            why_not = self.invites.check(action.invite, action.proof, action.body, now_s)
            if why_not is None:
                self.invites.use(action.invite, action.machine, now_s)
        except LedgerError as error:
            why_not = error.message
        self.mesh.redeemed(action.channel, why_not)

    # Who may in, and who commands.

    def _trust(self, action: sig.Trust) -> None:
        self._members = {key: machine for machine, key in action.keys.items()}
        self._former = action.former
        self._admit()

    def _admit(self) -> None:
        if self.listener is not None and hasattr(self.listener, "admit"):
            invited = [(invite.dial_key, f"invite-{invite.id}") for invite in self.invites.all()]
            own = self._members.items()
            try:
                self.listener.admit([*((key, machine) for key, machine in own if machine != self.feed.machine), *invited])
            except LedgerError as error:
                self.log({"event": "keys-not-written", "error": error.message})

    def standing(self, key: str, address: str) -> Standing | None:  # noqa: ARG002 - keys say who it is
        """How a key stands: asked by the listener at each proof."""
        if key in self._members:
            return "member"
        if key in self._former:
            return None
        return "guest" if self.invites.open(time.time_ns() // 10**9) else "stranger"

    async def commanded(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """One request over the control socket."""
        if request["ask"] == "stop":
            self.stop()
            return {"machine": self.feed.machine}
        if request["ask"] == "invite":
            return self._invite(request)
        self._requested += 1
        number = self._requested
        future = self._requests[number] = asyncio.get_running_loop().create_future()
        machine, by = request.get("machine"), request.get("by")
        more = {name: value for name, value in request.items() if name not in {"ask", "machine", "by"}}
        self.put(sig.Commanded(number, str(request["ask"]), machine and str(machine), by and str(by), more))
        answer: Mapping[str, Any] = await future
        return answer

    def _invite(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        core = self.mesh.core
        own = core.member(core.me)
        if own is None or own.hostname is None or own.host_key is None:
            raise Refused("this machine has no host name or host key to put into a code")
        seconds = request.get("expires_s", 3600)
        if not isinstance(seconds, int) or not 0 < seconds <= 366 * 86_400:
            raise Refused("a code is good for a second to a year")
        code = self.invites.issue(
            expires_s=time.time_ns() // 10**9 + seconds, machine=core.me, host=own.hostname, port=core.port, host_key=own.host_key,
            incarnation=self.feed.incarnation, transport="ccs" if core.snapshot.transport == "ccs" else "ssh",
            addressing="address" if core.snapshot.addressing == "address" else "name", account=own.account,
        )  # fmt: skip
        self._admit()
        return {"code": str(code), "machine": core.me, "expires_s": code.expires_s}


def own_feed(ledger: Ledger, machine: str, key: keys.LedgerKey) -> Feed:
    """The feed that this machine writes: its newest with this ledger key. Raises Refused if there is none."""
    found = [feed for feed in ledger.feeds() if feed.machine == machine and feed.ledger_key == key.text]
    if not found:
        raise Refused(f"{ledger.path} holds no feed of {machine} under this ledger key", hint="`meshledger init` or `join` first")
    return found[-1]
