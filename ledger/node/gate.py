"""Who may come in: by the membership that the record names, or by a code that was given out.

The listener asks at each proof of a key (`standing`), so a removed machine's key is refused from the moment its removal is
stored. In transport `ssh` it is sshd that asks a file, which is written anew whenever members or codes change. Effects: the
invites' file, the clock by which codes expire, a timer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from ledger.errors import LedgerError, Refused
from ledger.node import signals as sig
from ledger.node.invites import Invites
from ledger.node.links import Standing
from ledger.node.state import Core

GATHER_S: Final = 0.5
Log = Callable[[Mapping[str, Any]], None]


class Gate:
    """The gate of one node. `listener`: the transport's, once it listens."""

    def __init__(self, invites: Invites, log: Log, put: Callable[[sig.Observation], None]) -> None:
        self._invites = invites
        self._put = put
        self._log = log
        self.listener: Any = None
        self._own = ""
        self._members: dict[str, str] = {}
        self._former: frozenset[str] = frozenset()
        self._turned: dict[str | None, tuple[int, str]] = {}

    def trust(self, action: sig.Trust, own: str) -> None:
        """Whom the record names, from now on. `own`: this machine."""
        self._own = own
        self._members = {key: machine for machine, key in action.keys.items()}
        self._former = action.former
        self._admit()

    def _admit(self) -> None:
        if self.listener is not None and hasattr(self.listener, "admit"):
            invited = [(invite.dial_key, f"invite-{invite.id}") for invite in self._invites.all()]
            own = self._members.items()
            try:
                self.listener.admit([*((key, machine) for key, machine in own if machine != self._own), *invited])
            except LedgerError as error:
                self._log({"event": "keys-not-written", "error": error.message})

    def standing(self, key: str, address: str) -> Standing | None:  # noqa: ARG002 - keys say who it is
        """How a key stands: asked by the listener at each proof."""
        if key in self._members:
            return "member"
        if key in self._former:
            return None
        return "guest" if self._invites.open(time.time_ns() // 10**9) else "stranger"

    def turned_away(self, key: str, address: str) -> None:
        """The listener turned somebody away at a limit. What comes within a moment is told as one."""
        if not self._turned:
            asyncio.get_running_loop().call_later(GATHER_S, self._tell)
        machine = self._members.get(key)
        self._turned[machine] = self._turned.get(machine, (0, ""))[0] + 1, address

    def _tell(self) -> None:
        turned, self._turned = self._turned, {}
        for machine, (count, address) in turned.items():
            self._put(sig.TurnedAway(count, address or None, machine))

    def redeem(self, action: sig.Redeem) -> str | None:
        """Use a code, or say why not. That it is used is on the disk when this returns."""
        now_s = time.time_ns() // 10**9
        try:
            why_not = self._invites.check(action.invite, action.proof, action.body, now_s)
            if why_not is None:
                self._invites.use(action.invite, action.machine, now_s)
        except LedgerError as error:
            why_not = error.message
        return why_not

    def invite(self, request: Mapping[str, Any], core: Core) -> Mapping[str, Any]:
        """A new code. Raises Refused."""
        own = core.member(core.me)
        if own is None or own.hostname is None or own.host_key is None:
            raise Refused("this machine has no host name or host key to put into a code")
        seconds = request.get("expires_s", 3600)
        if not isinstance(seconds, int) or not 0 < seconds <= 366 * 86_400:
            raise Refused("a code is good for a second to a year")
        code = self._invites.issue(
            expires_s=time.time_ns() // 10**9 + seconds, machine=core.me, host=own.hostname, port=core.port,
            host_key=own.host_key, incarnation=core.feed.incarnation, transport="ccs" if core.snapshot.transport == "ccs" else
            "ssh", addressing="address" if core.snapshot.addressing == "address" else "name", account=own.account,
        )  # fmt: skip
        self._admit()
        return {"code": str(code), "machine": core.me, "expires_s": code.expires_s}
