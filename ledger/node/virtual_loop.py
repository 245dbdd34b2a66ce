"""An event loop whose time is virtual: where nothing is ready, it is the next timer's instant at once.

    loop = VirtualLoop()
    with loop.clocks():
        loop.run_until_complete(hours())

It is asyncio's own loop but for three things. Its clock stands still while anything runs and jumps when nothing does. What is
handed to an executor runs there and then, so that no thread is ever behind the clock. And what reaches a network goes to `net`,
if there is one (`virtual_net`); files and Unix sockets are real. `clocks` lets the libraries that look at `time` themselves
see this loop's. Effects: asyncio's, and for the while of `clocks` the module `time` of these libraries.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final, Protocol, cast

LOOKING: Final = ("asyncssh.connection", "dns.query", "dns.asyncquery")
"""The rooms of libraries that ask `time` how late it is: for new keys on an old connection, for the patience with a server."""


class Stuck(RuntimeError):
    """Nothing is ready and no timer runs: it would stay so for ever."""


class Net(Protocol):
    """What carries streams and datagrams."""

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> tuple[Any, Any]:
        """A stream to a listener."""

    def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Any:
        """A listener."""

    def datagrams(self, factory: Callable[[], asyncio.DatagramProtocol]) -> tuple[Any, Any]:
        """An end for datagrams."""


class _Jump(selectors.BaseSelector):
    """The real selector, which is never waited for: where it would be, time jumps."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.jump: Callable[[], bool]

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = self._real.select(0)
        if not found and (timeout is None or timeout > 0) and not self.jump():
            raise Stuck("nothing is ready, and nothing is due")
        return found

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. `wrong`: what nobody caught."""

    def __init__(self) -> None:
        selector = _Jump()
        selector.jump = self._jump
        self._passed = 0.0
        super().__init__(selector)
        self.net: Net | None = None
        self.wrong: list[str] = []
        self.set_exception_handler(self._uncaught)

    def time(self) -> float:
        """Seconds since this loop was made, in its own time."""
        return self._passed

    def _jump(self) -> bool:
        scheduled = cast("Any", self)._scheduled  # noqa: SLF001 - asyncio's heap of timers: its subclass may look
        if not scheduled:
            return False
        self._passed = max(self._passed, scheduled[0].when())
        return True

    def _uncaught(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.wrong.append(f"{context['message']}: {error!r}" if error is not None else f"{context['message']} {context}")

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override] # noqa: ARG002
        """Run it here and now."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whatever it raises belongs to who waits
            future.set_exception(error)
        return future

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int, **_more: Any
    ) -> tuple[Any, Any]:
        """A stream over the virtual network."""
        return await self._network().connect(protocol_factory, host, port)

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int, **_more: Any
    ) -> Any:
        """A listener in the virtual network."""
        return self._network().listen(protocol_factory, host, port)

    async def create_datagram_endpoint(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.DatagramProtocol], **_more: Any
    ) -> tuple[Any, Any]:
        """An end for datagrams in the virtual network."""
        return self._network().datagrams(protocol_factory)

    def _network(self) -> Net:
        if self.net is None:
            raise OSError("there is no network here")
        return self.net

    @contextmanager
    def clocks(self) -> Iterator[None]:
        """In this block the libraries that look at `time` see the time of this loop."""
        before = {name: import_module(name) for name in LOOKING}
        for module in before.values():
            module.time = _Time(self)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            for module in before.values():
                module.time = time  # type: ignore[attr-defined]


class _Time:
    """The module `time` with the clocks of a loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.time = self.monotonic = self.perf_counter = loop.time

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)
