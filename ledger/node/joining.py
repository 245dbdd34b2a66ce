"""A newcomer's way in: dial the member that a code names, ask, and take in the record of the whole cluster.

The member is believed because the code names the host key that must answer; the newcomer is believed because it has the
code's secret. Once let in it gets the runs of all feeds, each under its origin's word, and judges them as any node does;
then it opens its own feed. Until all of that stands there is no ledger: a join that comes to nothing leaves the directory
with its keys, and can be tried again. Effects: DNS, the network, the directory; instants are an argument.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncssh
import msgspec

from ledger.entry import Observed
from ledger.errors import LedgerError, Refused
from ledger.events import Event, FeedReceived, Reason
from ledger.identity import Feed
from ledger.node import ccs
from ledger.node.config import Config, NodeDir
from ledger.node.founding import host_key_of
from ledger.node.invites import Code, derived, dial_key, proof
from ledger.node.links import DialFailed, Link
from ledger.node.replicas import QUIET, held
from ledger.node.resolver import Resolver
from ledger.node.sshclient import load_key
from ledger.node.taking import take_run
from ledger.node.wire import Bye, Garbage, JoinAsk, JoinGranted, JoinRefused, Message, Place, Push, Want, asked, decode, encode
from ledger.store import Ledger

ANSWER_S: Final = 30.0
"""How long a member may take to answer, and between two runs."""
Clock = Callable[[], int]


class NotLetIn(LedgerError):
    """The member refused. `reason`: in the log's words."""

    exit_code = 1

    def __init__(self, reason: Reason, detail: str) -> None:
        told = detail if reason == "unknown" and detail else f"{reason} ({detail})" if detail else reason
        super().__init__(f"not let in: {told}", hint=_HINTS.get(reason))
        self.reason = reason


class NotReached(LedgerError):
    """The member that the code names could not be reached."""

    exit_code = 5


_HINTS: Final[dict[str, str]] = {
    "name-unresolvable": "publish an address for this machine's host name first, as the members' DNS servers see it",
    "transport-mismatch": "one cluster uses one transport and one way of addressing; `meshledger init` shows what there is",
    "auth-failed": "a code is good once, and for a while: `meshledger invite` on a member prints another",
    "host-key-mismatch": "another machine answers at the member's address: check DNS before anything else",
}


class _Inbox:
    """What the member sends, in order. The end is a reason and a detail."""

    def __init__(self) -> None:
        self._came: asyncio.Queue[Message | tuple[Reason, str]] = asyncio.Queue()

    def received(self, frame: bytes) -> None:
        """A message came."""
        try:
            self._came.put_nowait(decode(frame))
        except Garbage as error:
            self._came.put_nowait(("protocol-error", str(error)))

    def closed(self, reason: Reason, detail: str) -> None:
        """The link is gone."""
        self._came.put_nowait((reason, detail))

    async def next(self) -> Message | tuple[Reason, str]:
        """The next message, or how it ended."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._came.get()
        except TimeoutError:
            return "timeout", f"nothing came for {ANSWER_S:g} s"


async def join(code: Code, folder: NodeDir, config: Config, *, hostname: str, port: int, clock: Clock) -> Feed:
    """Ask to be let in with `code`, as `config.machine` under `hostname`, and make the ledger of the node. Returns its feed.

    Raises NotLetIn, NotReached, and Refused for a code that has expired or a directory that holds a node.
    """
    if clock() // 1_000_000_000 >= code.expires_s:
        raise Refused("the code has expired", hint="`meshledger invite` on a member prints another")
    if folder.ledger.exists():
        raise Refused(f"{folder.path} holds a node already", hint="name another directory with --dir")
    inbox = _Inbox()
    link = await _dial(code, folder, config, inbox)
    try:
        link.send(encode(_ask(code, folder, config, hostname, port)))
        granted = await inbox.next()
        if isinstance(granted, (JoinRefused, Bye)):
            raise NotLetIn(granted.reason, granted.detail)
        if not isinstance(granted, JoinGranted):
            raise NotReached(f"{code.machine} did not answer: {granted}", hint="the code may be used up; ask for another")
        return await _take_all(_Asking(code, link, inbox), folder, config, granted, clock)
    finally:
        link.abort()


async def _dial(code: Code, folder: NodeDir, config: Config, inbox: _Inbox) -> Link:
    """A link to the member that made the code. Raises NotReached, and NotLetIn where a wrong key answers."""
    addresses = [code.host]
    if code.addressing == "name":
        found = await Resolver(
            config.servers, timeout_s=config.dns_timeout_ms / 1000, lifetime_s=config.dns_lifetime_ms / 1000
        ).forward(code.host)
        if not found.answers:
            raise NotReached(
                f"{code.host}: {found.outcome}",
                hint="DNS is required to join, and /etc/hosts is not asked: check --dns, or the system's servers",
            )
        addresses = list(found.answers)
    failed: DialFailed | None = None
    for address in addresses:
        try:
            return await _dialled(code, folder, config, address, inbox)
        except DialFailed as error:
            failed = error
    reason, detail = (failed.reason, failed.detail) if failed is not None else ("unknown", "no address")
    if reason in {"host-key-mismatch", "auth-failed"}:
        raise NotLetIn(reason, detail)
    raise NotReached(f"{code.machine} at {code.host}, port {code.port}: {reason} ({detail})")


async def _dialled(code: Code, folder: NodeDir, config: Config, address: str, inbox: _Inbox) -> Link:
    timeout_s = config.dial_timeout_ms / 1000
    if code.transport == "ccs":
        key = load_key(folder.file("dial_key"))
        return await ccs.dial(
            address, code.port, dial_key=key, host_keys=[code.host_key], timeout_s=timeout_s, handler=lambda _link: inbox
        )
    from ledger.node import openssh

    passing: Any = asyncssh.import_private_key(dial_key(code.secret)[0])
    return await openssh.dial(
        address, code.port, account=code.account or "", dial_key=passing, host_keys=[code.host_key], timeout_s=timeout_s,
        handler=lambda _link: inbox,
    )  # fmt: skip


def _ask(code: Code, folder: NodeDir, config: Config, hostname: str, port: int) -> JoinAsk:
    ask = JoinAsk(
        invite=code.id, proof=b"", incarnation=code.incarnation, machine=config.machine, hostname=hostname, port=port,
        account=config.account, host_key=host_key_of(folder, config, code.transport), dial_key=folder.public("dial_key"),
        ledger_key=folder.ledger_key().text, addressing=code.addressing, transport=code.transport,
    )  # fmt: skip
    return msgspec.structs.replace(ask, proof=proof(derived(code.secret), asked(ask)))


class _Asking(msgspec.Struct):
    """One who was let in, and asks for the record."""

    code: Code
    link: Link
    inbox: _Inbox


async def _take_all(asking: _Asking, folder: NodeDir, config: Config, granted: JoinGranted, clock: Clock) -> Feed:
    """All feeds as they were promised, then the own one, in a ledger that is there only once it is whole."""
    fresh = folder.file("joining.ledger")
    fresh.unlink(missing_ok=True)
    try:
        with Ledger.create(fresh, incarnation=asking.code.incarnation) as ledger:
            notable = {}
            for place in granted.feeds:
                feed, told = await _take_feed(ledger, asking, place)
                if told:
                    notable[feed] = held(ledger, feed).last
            feed = _begin(ledger, folder, config, notable, clock)
        folder.set_config(config)
        fresh.rename(folder.ledger)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return feed


async def _take_feed(ledger: Ledger, asking: _Asking, place: Place) -> tuple[Feed, bool]:
    """Ask for the runs of a feed, one after another, up to what was promised. Whether more than pings came."""
    feed, notable = place.feed.feed(asking.code.incarnation), False
    while (have := held(ledger, feed)).last < place.last:
        asking.link.send(encode(Want(place.feed, have)))
        came = await asking.inbox.next()
        if not isinstance(came, Push):
            raise NotReached(f"{asking.code.machine} let this machine in, but its record did not come whole: {came}", hint=_AGAIN)
        taken = take_run(ledger, came.run, incarnation=asking.code.incarnation)
        if taken.refused is not None or taken.forked is not None or taken.held == have:
            raise NotReached(f"{taken.feed.name}: {taken.refused or 'forked'} ({taken.detail})", hint=_AGAIN)
        notable = notable or any(entry.kind not in QUIET for entry in taken.entries)
    return feed, notable


_AGAIN: Final = "this machine is admitted all the same: let a member `remove` it, and join again with a new code"


def _begin(ledger: Ledger, folder: NodeDir, config: Config, notable: dict[Feed, int], clock: Clock) -> Feed:
    """Open the own feed, in the epoch after those that a machine of this name has had, and say what is held."""
    key, incarnation = folder.ledger_key().text, ledger.incarnation
    epoch = 1 + max((feed.epoch for feed in ledger.feeds() if feed.machine == config.machine), default=0)
    now_ns = clock()

    def stamped(event: Event) -> Observed:
        return Observed(now_ns, event)

    with ledger.transaction():
        feed = ledger.open_feed(config.machine, at=now_ns, epoch=epoch, ledger_key=key, incarnation=incarnation)
        ledger.append([stamped(FeedReceived(other.id, last)) for other, last in sorted(notable.items())], observer=feed)
    return feed
