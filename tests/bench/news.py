"""How soon an entry reaches every machine while the link between its origin and one of them is down.

A cluster of processes found by name, each with a DNS server of its own; to the first and the last machine the other's name is
unknown, so they never link, and what the first records comes to the last by way of the others. The first changes its host name
a number of times, each an entry of its own feed, and each other machine's ledger says when it had received it. All
instants are of one wall clock, for it is one machine. There is no peer: Serf has no log.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from bench.agents import end, own_entries, until
from bench.peers.contestant import Absent
from raised import raised

from ledger.events import FeedReceived, HostnameChanged
from ledger.node.responder import Responder

INTERVAL_MS = 2000
TIMES = 20


@contextlib.contextmanager
def views(names: list[str]) -> Iterator[list[str]]:
    """A DNS server for each machine; the first does not know the last, nor the last the first. Gives their addresses."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()
    servers = [Responder() for _ in names]
    for name, server in zip(names, servers, strict=True):
        for other in names:
            if {name, other} != {names[0], names[-1]}:
                for spelling in ("", "again-"):
                    server.table.address(f"{spelling}{other}.lab.example", "127.0.0.1")

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as all_of_them:
            for server in servers:
                await all_of_them.enter_async_context(server)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield [f"127.0.0.1:{server.port}" for server in servers]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def news(who: str, folder: str, machines: int) -> dict[str, Any]:
    """Seconds from an entry's instant until the last machine had it, at half and at worst; `apart`: and until the one without a
    link to the origin had it. Raises Absent if the cluster does not come to stand, or that link does, or `who` is not ours.
    """
    if who != "ours":
        raise Absent("keeps no log")
    path = Path(folder)
    shutil.rmtree(path, ignore_errors=True)
    nodes = raised(path, machines, interval_ms=INTERVAL_MS, addressing="name", dns=("127.0.0.1:1",))
    first, last = nodes[0], nodes[-1]
    pairs = {frozenset((a.name, b.name)) for a in nodes for b in nodes if a is not b} - {frozenset((first.name, last.name))}

    def standing() -> set[frozenset[str]]:
        found = set()
        for node in nodes:
            with contextlib.suppress(Exception):
                members = node.ask("status")["members"]
                found |= {frozenset((node.name, name)) for name, member in members.items() if member["linked"]}
        return found

    try:
        with views([node.name for node in nodes]) as servers:
            for node, server in zip(nodes, servers, strict=True):
                node.folder.set_config(msgspec.structs.replace(node.folder.config(), dns_servers=(server,)))
                node.start()
            until(lambda: standing() == pairs)
            time.sleep(2 * INTERVAL_MS / 1000)
            since = time.time_ns()
            for number in range(TIMES):
                spelling = "again-" if number % 2 == 0 else ""
                first.ask("sethostname", hostname=f"{spelling}{first.name}.lab.example", force=True)
            told = [entry for entry in own_entries(first, since) if isinstance(entry.event, HostnameChanged)]
            feed = told[0].feed
            late: dict[str, list[float]] = {}

            def arrived() -> bool:
                for node in nodes[1:]:
                    got = [entry for entry in own_entries(node, since) if isinstance(entry.event, FeedReceived)]
                    when = [
                        next((e.at_ns for e in got if e.event.feed == feed.id and e.event.held >= one.index), 0) for one in told
                    ]
                    late[node.name] = [(at - one.at_ns) / 1e9 for at, one in zip(when, told, strict=True)]
                    if not all(when):
                        return False
                return True

            until(arrived)
            apart = late[last.name]
            every = [max(some) for some in zip(*late.values(), strict=True)]
            return {
                "every_p50": statistics.median(every), "every_max": max(every), "apart_p50": statistics.median(apart),
                "answer": len(told), "linked": len(standing() - pairs),
            }  # fmt: skip
    finally:
        end(nodes)
        shutil.rmtree(path, ignore_errors=True)


TASKS = {"news": news}
