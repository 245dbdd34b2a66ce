"""What a node has open in the world: links, dials, look-ups and probes; each ends as one observation.

Callbacks of links put observations into the daemon's queue, stamped where they came in; nothing is decided in them. Dials,
look-ups and probes are tasks of one group, bounded in number. A message is stamped as it leaves if it is a ping or its answer:
what lies between an answer and the record of what led to it is then no part of the round trip. Effects: the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any, Final

import asyncssh
from msgspec.structs import replace

from ledger.errors import LedgerError
from ledger.events import Reason
from ledger.node import signals as sig
from ledger.node import wire
from ledger.node.links import DialFailed, Link
from ledger.node.replicas import Held
from ledger.node.resolver import Lookup, Resolver

DIALS_MAX: Final = 64
Put = Callable[[sig.Observation], None]


class Wires:
    """The open ends of one node. `transport`: `ccs` or `openssh`; `put`: takes observations; `mono_us`: the clock of stamps."""

    def __init__(
        self, transport: ModuleType, resolver: Resolver, dial_key: asyncssh.SSHKey, *,
        dial_timeout_s: float, put: Put, mono_us: Callable[[], int], tasks: asyncio.TaskGroup,
    ) -> None:  # fmt: skip
        self._transport = transport
        self._resolver = resolver
        self._dial_key = dial_key
        self._timeout_s = dial_timeout_s
        self._put = put
        self._mono_us = mono_us
        self._tasks = tasks
        self._room = asyncio.Semaphore(DIALS_MAX)
        self._dials: dict[int, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._seen: dict[tuple[str, str], Lookup] = {}
        self._accepted = 0
        self.links: dict[int, Link] = {}
        self.given: dict[tuple[int, str], Held] = {}

    # In.

    def accepted(self, link: Link) -> _Wire:
        """A link that the listener took; called by the transport."""
        self._accepted -= 1
        return self._open(self._accepted, link)

    def _open(self, number: int, link: Link) -> _Wire:
        self.links[number] = link
        self._put(sig.Opened(number, link.key, link.address))
        return _Wire(self, number)

    def heard(self, number: int, frame: bytes) -> None:
        """A frame came."""
        if number not in self.links:
            return
        try:
            message = wire.decode(frame)
        except wire.Garbage as garbage:
            self._put(sig.Garbled(number, str(garbage)))
            return
        self._put(sig.Heard(number, message))

    def closed(self, number: int, reason: Reason, detail: str) -> None:
        """A link is gone; of one that this side ended nobody wants to hear."""
        if self.links.pop(number, None) is not None:
            self._forget(number)
            self._put(sig.Closed(number, reason, detail))

    def _forget(self, number: int) -> None:
        for key in [key for key in self.given if key[0] == number]:
            del self.given[key]

    def pause(self, *, reading: bool, only: int | None = None) -> None:
        """Take nothing from any peer (or from one), or take again."""
        found = self.links.values() if only is None else [self.links[only]] if only in self.links else []
        for link in found:
            link.resume() if reading else link.pause()

    # Out.

    def dial(self, action: sig.Dial) -> None:
        """Dial."""
        self._dials[action.channel] = self._task(self._dial(action))

    async def _dial(self, action: sig.Dial) -> None:
        number = action.channel
        try:
            async with self._room:
                await self._transport.dial(
                    action.address, action.port, account=action.account, dial_key=self._dial_key,
                    host_keys=action.host_keys, timeout_s=self._timeout_s, handler=lambda link: self._open(number, link),
                )  # fmt: skip
        except DialFailed as failed:
            self._put(sig.Missed(number, failed.reason, failed.detail, failed.address or action.address))
        except (LedgerError, OSError, ValueError, asyncssh.Error) as error:
            self._put(sig.Missed(number, "unknown", f"{type(error).__name__}: {error}", action.address))
        finally:
            self._dials.pop(number, None)

    def abort(self, number: int) -> None:
        """End a link or a dial at once."""
        link, dial = self.links.pop(number, None), self._dials.pop(number, None)
        self._forget(number)
        if dial is not None:
            dial.cancel()
        if link is not None:
            link.abort()

    def send(self, number: int, message: wire.Message) -> None:
        """Send a message, if the link still stands."""
        link = self.links.get(number)
        if link is None:
            return
        if isinstance(message, wire.Ping):
            message = replace(message, sent_us=self._mono_us())
        elif isinstance(message, wire.Pong):
            message = replace(message, replied_us=self._mono_us())
        link.send(wire.encode(message))

    def rekey(self, dial_key: asyncssh.SSHKey) -> None:
        """Dial with this key from now on."""
        self._dial_key = dial_key

    def look_up(self, action: sig.LookUp) -> None:
        """Ask DNS."""
        self._task(self._look_up(action))

    async def _look_up(self, action: sig.LookUp) -> None:
        try:
            if action.direction == "forward":
                found = await self._resolver.forward(action.name, cached=action.cached)
            else:
                found = await self._resolver.reverse(action.name, cached=action.cached)
        except (LedgerError, ValueError):
            self._put(sig.LookedUp(action.question, action.name[:255], action.direction, "nodata", fresh=False))
            return
        key = (action.name, action.direction)
        fresh = self._seen.get(key) is not found
        self._seen[key] = found
        self._put(sig.LookedUp(
            action.question, found.name, found.direction, found.outcome, found.answers, found.server, found.ttl_s,
            found.took_us, fresh,
        ))  # fmt: skip

    def probe(self, action: sig.Probe) -> None:
        """Find out which host key answers."""
        self._task(self._probe(action))

    async def _probe(self, action: sig.Probe) -> None:
        try:
            async with self._room:
                key = await self._transport.probe(action.address, action.port, self._timeout_s)
        except DialFailed as failed:
            self._put(sig.Probed(action.question, None, failed.reason, failed.detail))
        except (OSError, ValueError, asyncssh.Error) as error:
            self._put(sig.Probed(action.question, None, "unknown", f"{type(error).__name__}: {error}"))
        else:
            self._put(sig.Probed(action.question, key))

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def close(self) -> None:
        """End everything at once."""
        for task in list(self._running):
            task.cancel()
        for number in list(self.links):
            self.abort(number)


class _Wire:
    """The handler of one link."""

    def __init__(self, wires: Wires, number: int) -> None:
        self._wires = wires
        self._number = number

    def received(self, frame: bytes) -> None:
        """A message came."""
        self._wires.heard(self._number, frame)

    def closed(self, reason: Reason, detail: str) -> None:
        """The link is gone."""
        self._wires.closed(self._number, reason, detail)
