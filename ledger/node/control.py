"""How an operator speaks to a running node: one line of JSON there, one line back, over `control.sock`.

The socket has mode 0600 in a directory of mode 0700: whoever can open it may command the node, and nobody else. A request
is an object with `ask`; a reply has `ok`, and with `ok: false` also `error`, `hint` and the exit code that the command line is
to end with. A line has at most 1 MiB. `Control` serves within the node's event loop; `ask` is for the command line, and
waits. Effects: the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ledger.errors import LedgerError
from ledger.node.config import reachable

LINE_MAX: Final = 1 << 20
SOCKET: Final = "control.sock"
Handler = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]


class Unreachable(LedgerError):
    """Nobody answers on the socket: the node is not running, or this user may not speak to it."""

    exit_code = 5


class Control:
    """The serving side. `handler` answers one request; what it raises as `LedgerError` becomes a refusal."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Begin to listen. A socket that a killed node left behind is taken away; Precondition: this node is the only one."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, reachable(self._path), limit=LINE_MAX)
        self._path.chmod(0o600)

    async def close(self) -> None:
        """End, also for those who are asking."""
        if self._server is not None:
            self._server.close()
            for task in list(self._clients):
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler runs in one
        self._clients.add(task)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass  # a client that went away, or asked with a line beyond all bounds: nothing of the node's
        finally:
            self._clients.discard(task)
            with contextlib.suppress(ConnectionError):
                writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return refused("a request is one line of JSON", exit_code=2)
        if not isinstance(request, dict) or not isinstance(request.get("ask"), str):
            return refused("a request is an object with `ask`", exit_code=2)
        try:
            return {"ok": True, **await self._handler(request)}
        except LedgerError as error:
            return refused(error.message, hint=error.hint, exit_code=error.exit_code)


def refused(what: str, *, hint: str | None = None, exit_code: int = 1) -> dict[str, Any]:
    """A reply that says no."""
    return {"ok": False, "error": what, "hint": hint, "exit": exit_code}


def ask(path: Path, request: Mapping[str, Any], *, timeout_s: float = 60.0) -> dict[str, Any]:
    """Put a request to the node behind the socket, and wait for the reply, refusals too. Raises Unreachable."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as there:
        there.settimeout(timeout_s)
        try:
            there.connect(reachable(path))
            there.sendall(json.dumps(request).encode() + b"\n")
            with there.makefile("rb") as answers:
                line = answers.readline(LINE_MAX)
            reply = json.loads(line)
        except (FileNotFoundError, ConnectionRefusedError):
            raise Unreachable(f"no node is running at {path.parent}", hint="start it with `meshledger run`") from None
        except TimeoutError:
            raise Unreachable(
                f"the node at {path.parent} has not answered within {timeout_s:g} s", hint="what was asked may still be done"
            ) from None
        except (OSError, ValueError) as error:
            raise Unreachable(f"{path}: {error or 'the node went away'}", hint="what was asked may still be done") from None
    if not isinstance(reply, dict):
        raise Unreachable(f"{path}: the answer is none")
    return reply
