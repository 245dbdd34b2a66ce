"""Where operators ask: each request over the control socket becomes an observation, and waits for the answer that the core gives.

Three things are done here and not in the core: a code to join with, a new key of this machine (its file is written before the
record says that it counts, so that no power cut can leave the record with a key that nobody has), and the end of the node.
Effects: the node's directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from ledger.errors import Refused
from ledger.node import signals as sig
from ledger.node.config import NodeDir
from ledger.node.gate import Gate
from ledger.node.mesh import Mesh


class Desk:
    """The desk of one node. `put`: takes observations; `stop`: ends the node."""

    def __init__(
        self, folder: NodeDir, mesh: Mesh, gate: Gate, *, put: Callable[[sig.Observation], None], stop: Callable[[], None]
    ) -> None:
        self._folder = folder
        self._mesh = mesh
        self._gate = gate
        self._put = put
        self._stop = stop
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._requested = 0
        self._renewing = False

    async def asked(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """One request, answered. Raises LedgerError."""
        if request["ask"] == "stop":
            self._stop()
            return {"machine": self._mesh.core.me}
        if request["ask"] == "invite":
            return self._gate.invite(request, self._mesh.core)
        if request["ask"] == "rekey":
            return await self._renewed(request)
        return await self._commanded(request)

    async def _commanded(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self._requested += 1
        number = self._requested
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        machine, by = request.get("machine"), request.get("by")
        more = {name: value for name, value in request.items() if name not in {"ask", "machine", "by"}}
        self._put(sig.Commanded(number, str(request["ask"]), machine and str(machine), by and str(by), more))
        answer: Mapping[str, Any] = await future
        return answer

    def answer(self, action: sig.Answer) -> None:
        """The core's answer to a request."""
        future = self._waiting.pop(action.request, None)
        if future is not None and not future.done():
            future.set_result(action.body)

    async def _renewed(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """A new key is made, if it is the node's own to make, and then asked to be recorded; one at a time."""
        role, given = str(request.get("role")), request.get("key")
        made = role in {"dial", "ledger"} or (role == "host" and self._mesh.core.snapshot.transport == "ccs")
        if role not in {"dial", "host", "ledger"}:
            raise Refused(f"a machine has no {role} key to change", hint="dial, host or ledger")
        if made and given is not None:
            raise Refused(f"the {role} key is the node's own, and made by it", hint="ask without --key")
        if not made and given is None:
            raise Refused("in transport `ssh` the host key is sshd's", hint="change it there, then name the new one with --key")
        if self._renewing:
            raise Refused("a key is being changed already", hint="try again in a minute")
        self._renewing = True
        try:
            new = self._folder.renew(role)[1] if made else str(given)
            return await self._commanded({"ask": "rekey", "role": role, "new": new})
        finally:
            self._renewing = False
