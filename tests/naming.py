"""DNS for nodes that are processes: our own responder, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading

from ledger.node.responder import Responder


class Names:
    """A DNS server of our own, in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.responder = Responder()
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        async with self.responder:
            self._ready.set()
            await self._end.wait()

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.responder.port}"

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
