"""Commands for another machine: signed, passed from hop to hop along the route table, done once, and answered.

A command names its target, an id and when it expires, and is signed by the ledger key of the machine at which the operator
stands. Each machine on the way passes it on by its *own* table, to none that it has visited; where there is no way, that is the
answer. The target does it once per id: a repetition gets the first answer. The answer comes back the way the command went. If
none comes before it expires, nobody can say whether it was done, and so it is told: indeterminate, which is not failed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ledger.node import commanding
from ledger.node.commanding import ELSEWHERE, Answered, no
from ledger.node.signals import Answer, Commanded
from ledger.node.state import SECOND, Channel, Core
from ledger.node.wire import Command, Reply, commanded

EXPIRES_NS: Final = 20 * SECOND
SKEW_NS: Final = 300 * SECOND
"""Clocks differ; a command is refused as expired only beyond this."""
KEPT_MAX: Final = 1000
HOPS_MAX: Final = 64


def requested(core: Core, seen: Commanded) -> None:
    """An operator asks this node."""
    target = seen.machine or core.me

    def answered(body: Mapping[str, Any]) -> None:
        core.do(Answer(seen.request, body))

    if target == core.me or seen.ask not in ELSEWHERE:
        commanding.perform(core, seen.ask, target, seen.by, more=seen.more, answered=answered)
    elif core.member(target) is None:
        answered(no(f"{target} is no member", hint=f"members are {', '.join(core.snapshot.membership.names)}", code=2))
    else:
        _issue(core, seen, target, answered)


def _issue(core: Core, seen: Commanded, target: str, answered: Answered) -> None:
    number = core.next_number()
    body = json.dumps({"ask": seen.ask, "by": seen.by, "more": dict(seen.more)})
    bare = Command(f"{core.feed.id[:8]}-{core.boot:x}-{number:x}", core.me, target, core.now.wall_ns + EXPIRES_NS, body, b"")
    command = msgspec.structs.replace(bare, signature=core.craft.sign(commanded(bare)), visited=(core.me,))
    core.requests[command.id] = answered
    if not _pass_on(core, command):
        core.requests.pop(command.id)
        answered(_no_route(core, target))
        return

    def late() -> None:
        if core.requests.pop(command.id, None) is not None:
            said = f"no answer from {target} within {EXPIRES_NS // SECOND} s: it may have been done, or not"
            answered(no(said, hint=f"look with `meshledger log -m {target}`, or ask again", code=5))

    core.later(EXPIRES_NS, late)


def _no_route(core: Core, target: str) -> dict[str, Any]:
    return no(f"no-route: {core.me} knows no way to {target}", hint="`meshledger routes` shows the table", code=5)


def next_hop(core: Core, target: str, visited: tuple[str, ...]) -> Channel | None:
    """The channel on which a command for `target` goes on: by the table, else by a neighbour that the table says has a way."""
    linked = {name: peer.channel for name, peer in core.peers.items() if peer.channel is not None and name not in visited}
    if target in linked:
        return linked[target]
    routes = core.view.at(core.now.wall_ns).routes
    route = routes.get((core.me, target))
    if isinstance(route, tuple) and len(route) > 1 and route[1] in linked and not set(route[1:]) & set(visited):
        return linked[route[1]]
    for name in sorted(linked):
        onward = routes.get((name, target))
        if isinstance(onward, tuple) and not set(onward) & {core.me, *visited}:
            return linked[name]
    return None


def _pass_on(core: Core, command: Command) -> bool:
    channel = next_hop(core, command.target, command.visited)
    if channel is None:
        return False
    core.send(channel, command)
    return True


def came(core: Core, heard: Command) -> None:
    """A command came along."""
    if heard.target != core.me:
        passed = msgspec.structs.replace(heard, visited=(*heard.visited, core.me))
        if core.me in heard.visited or len(passed.visited) > HOPS_MAX or not _pass_on(core, passed):
            _reply(core, heard, _no_route(core, heard.target))
        return
    if heard.id in core.done:
        earlier = core.done[heard.id]
        if earlier is not None:
            _reply(core, heard, earlier)
        return
    origin = core.member(heard.origin)
    newest = core.newest(origin) if origin is not None else None
    keys = {origin.ledger_key if origin is not None else None, newest.ledger_key if newest is not None else None} - {None}
    if not any(core.craft.signed(str(key), commanded(heard), heard.signature) for key in keys):
        _reply(core, heard, no(f"{core.me} does not take commands of {heard.origin}: not a member's signature"))
        return
    if heard.expires_ns + SKEW_NS < core.now.wall_ns:
        _reply(core, heard, no(f"the command came to {core.me} after it had expired"))
        return
    core.done[heard.id] = None
    while len(core.done) > KEPT_MAX:
        core.done.pop(next(iter(core.done)))

    def answered(body: Mapping[str, Any]) -> None:
        core.done[heard.id] = body
        _reply(core, heard, body)

    try:
        wanted = json.loads(heard.body)
        ask, by, more = str(wanted["ask"]), wanted.get("by"), dict(wanted.get("more") or {})
    except (ValueError, KeyError, TypeError, RecursionError):
        answered(no("the command does not read", code=2))
        return
    if ask not in ELSEWHERE:
        answered(no(f"{ask} is not commanded from elsewhere", code=2))
        return
    commanding.perform(core, ask, core.me, str(by) if by is not None else None, more=more, answered=answered)


def _reply(core: Core, command: Command, body: Mapping[str, Any]) -> None:
    replied(core, Reply(command.id, json.dumps(body), command.visited))


def replied(core: Core, heard: Reply) -> None:
    """An answer on its way back, or at its end."""
    if not heard.path or heard.path == (core.me,):
        answered = core.requests.pop(heard.id, None)
        if answered is not None:
            try:
                body = json.loads(heard.body)
            except (ValueError, RecursionError):
                body = None
            answered(body if isinstance(body, dict) else no("the answer does not read", code=5))
        return
    path = heard.path[:-1] if heard.path[-1] == core.me else heard.path
    peer = core.peers.get(path[-1])
    if peer is not None and peer.channel is not None:
        core.send(peer.channel, msgspec.structs.replace(heard, path=path))
