"""The live mesh, commanded: `invite`, `leave`, `remove`, `disconnect`, `reconnect`, `sethostname`, `rekey`, `status`.

Each puts one request to the node of `--dir` over its control socket, and prints what it answers. A command for another machine is
signed by that node and travels along its route table; whether it was done, or that there is no way there, comes back the
same way. A lost reply is told as what it is: it may have been done.
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any, Final

import click

from ledger.errors import LedgerError, Refused
from replay.asked import Asked
from replay.options import Command

_BY: Final = click.option("--by", metavar="WHO", help="Who commands it, for the record. Else the user's name.")
_MACHINE: Final = click.argument("machine", required=False, metavar="[MACHINE]")


class Told(LedgerError):
    """The node refused, or could not: its own line, hint and exit code."""

    def __init__(self, message: str, hint: str | None, code: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = code


def put(asked: Asked, request: dict[str, Any]) -> dict[str, Any]:
    """The node's answer to a request. Raises Told for a refusal, Unreachable if no node is running."""
    from ledger.node.control import SOCKET, Unreachable, ask

    try:
        reply = ask(asked.folder / SOCKET, request)
    except Unreachable as error:
        if error.hint is not None:
            error.hint = error.hint.replace("`meshledger run`", f"`{asked.spelled('run')}`")
        raise
    if not reply.get("ok"):
        code = reply.get("exit")
        raise Told(str(reply.get("error")), reply.get("hint"), code if isinstance(code, int) and 0 < code < 6 else 1)
    return reply


def operator(by: str | None) -> str:
    """Who commands: as given, else the user's name."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _done(asked: Asked, word: str, machine: str | None, by: str | None, **more: Any) -> int:
    from replay.answers_node import Done

    reply = put(asked, {"ask": word, "machine": machine, "by": operator(by), **more})
    answer = Done(ask=word, machine=str(reply["machine"]), by=operator(by), pos=reply.get("pos"), detail=reply.get("detail"))
    asked.answer(answer)
    return 0


@click.command("invite", cls=Command)
@click.option("--expires", default="1h", show_default=True, metavar="SPAN", help="How long the code is good.")
@click.pass_obj
def invite_(asked: Asked, /, *, expires: str) -> int:
    """A code with which one machine may join, once: `meshledger join CODE` there.

    It holds where to dial, the host key to expect and a secret. Who has the code may join, so hand it over safely.

    For example:
      meshledger invite
      meshledger invite --expires 15min -o json
    """
    from replay.answers_node import Invite
    from replay.spans import format_instant, parse_span

    reply = put(asked, {"ask": "invite", "expires_s": max(1, parse_span(expires) // 10**9)})
    answer = Invite(
        code=str(reply["code"]), machine=str(reply["machine"]), expires=format_instant(int(reply["expires_s"]) * 10**9)
    )
    if asked.form == "table":
        with asked.stream() as out:
            out.write(f"{answer.code}\n")
        asked.say(f"good once, until {answer.expires}; on the other machine: meshledger join CODE")
        return 0
    asked.answer(answer)
    return 0


@click.command("leave", cls=Command)
@_MACHINE
@_BY
@click.option("--dissolve", is_flag=True, help="Leave also if this is the last machine: that ends the cluster.")
@click.pass_obj
def leave_(asked: Asked, /, *, machine: str | None, by: str | None, dissolve: bool) -> int:
    """Let this machine leave the cluster, or MACHINE, which is told so over the mesh and leaves by itself.

    Leaving is for good: to come back it must be invited. For a pause there is `disconnect`. With the last machine the cluster
    is dissolved.

    For example:
      meshledger leave
      meshledger leave charlie --by anna
    """
    return _done(asked, "leave", machine, by, dissolve=dissolve)


@click.command("remove", cls=Command)
@click.argument("machine")
@_BY
@click.pass_obj
def remove_(asked: Asked, /, *, machine: str, by: str | None) -> int:
    """Remove a machine that cannot leave by itself: lost, stolen, or out of reach.

    Every member that hears of it drops its links and refuses its keys at once. A machine on the other side of a partition
    learns it when the sides meet again; the removed one, if it is cut off, from the node that removed it, which calls it
    for a day or until it ends itself.

    For example:
      meshledger remove charlie
      meshledger remove charlie --by anna
    """
    return _done(asked, "remove", machine, by)


@click.command("disconnect", cls=Command)
@_MACHINE
@_BY
@click.option("--text", default="", metavar="TEXT", help="Why: it stands in the record.")
@click.pass_obj
def disconnect_(asked: Asked, /, *, machine: str | None, by: str | None, text: str) -> int:
    """Disconnect this machine, or MACHINE, for a while: planned, and not a leave. `reconnect` ends it.

    Its links are closed, and its absence counts as planned in every total.

    For example:
      meshledger disconnect --text 'upgrade to 8.2'
      meshledger disconnect charlie
    """
    return _done(asked, "disconnect", machine, by, text=text)


@click.command("reconnect", cls=Command)
@_MACHINE
@_BY
@click.pass_obj
def reconnect_(asked: Asked, /, *, machine: str | None, by: str | None) -> int:
    """End the disconnection of this machine, or of MACHINE: it links to all others at once.

    For example:
      meshledger reconnect
      meshledger reconnect charlie
    """
    return _done(asked, "reconnect", machine, by)


@click.command("sethostname", cls=Command)
@click.argument("hostname")
@_MACHINE
@_BY
@click.option("--force", is_flag=True, help="Also if the name does not resolve to this machine's listener.")
@click.pass_obj
def sethostname_(asked: Asked, /, *, hostname: str, machine: str | None, by: str | None, force: bool) -> int:
    """Change the main host name of this machine, or of MACHINE: the name under which others find it from now on.

    Refused unless the name resolves, as this node sees it, to an address where the machine answers with its own key: update the
    DNS record first. Links that stand stay.

    For example:
      meshledger sethostname c3.lab.example
      meshledger sethostname c3.lab.example charlie --force
    """
    return _done(asked, "sethostname", machine, by, hostname=hostname, force=force)


@click.command("rekey", cls=Command)
@click.argument("role", type=click.Choice(["dial", "host", "ledger"]))
@click.option("--key", type=click.Path(exists=True, dir_okay=False), metavar="FILE", help="The new public key of sshd (`ssh`).")
@click.pass_obj
def rekey_(asked: Asked, /, *, role: str, key: str | None) -> int:
    """Change a key of this machine: `dial`, with which it proves who dials, `host`, with which it answers, or `ledger`, with
    which it signs its feed.

    The node makes the new key, records it, and uses it from then on; links of an old dial or host key end and come back, and the
    old one is refused. In transport `ssh` the host key is sshd's: change it there, and name the new public key with --key. With
    a new ledger key the machine's feed ends and its next epoch begins; what the old one signed stays good.

    For example:
      meshledger rekey dial
      meshledger rekey ledger
      meshledger rekey host --key /etc/ssh/ssh_host_ed25519_key.pub
    """
    from replay.answers_node import Done

    request = {"ask": "rekey", "role": role}
    if key is not None:
        words = Path(key).read_text(encoding="utf-8", errors="replace").split()
        if len(words) < 2 or words[0] != "ssh-ed25519":
            raise Refused(f"{key} is no public Ed25519 key", hint="such as /etc/ssh/ssh_host_ed25519_key.pub")
        request["key"] = " ".join(words[:2])
    reply = put(asked, request)
    asked.answer(Done(ask="rekey", machine=str(reply["machine"]), by=None, pos=reply.get("pos"), detail=reply.get("detail")))
    return 0


@click.command("status", cls=Command)
@_MACHINE
@click.pass_obj
def status_(asked: Asked, /, *, machine: str | None) -> int:
    """How the node of this directory is now, or that of MACHINE, asked over the mesh: links, round trips, what is held.

    For example:
      meshledger status
      meshledger status charlie
      meshledger status -o json
    """
    from replay import headlines
    from replay.answers_node import status

    answer = status(put(asked, {"ask": "status", "machine": machine}))
    linked = sum(peer.linked for peer in answer.members.values())
    others = max(len(answer.members) - 1, 0)
    name, members = answer.cluster or answer.incarnation[:12], headlines.counted(len(answer.members), "member")
    asked.answer(
        answer,
        above=[
            f"{answer.machine} in cluster {name}, {members}, {linked} of {others} linked",
            f"{answer.state} since {answer.since}, {answer.transport}, {answer.hostname or 'no host name'}, at {answer.position}",
            *([f"hint: {answer.hint}"] if answer.hint else []),
            "",
        ],
    )
    return 0 if linked == others else 1


def span_ms(text: str, what: str) -> int:
    """A span as whole milliseconds. Raises Refused for less than one."""
    from replay.spans import parse_span

    found = parse_span(text) // 1_000_000
    if found < 1:
        raise Refused(f"{what} of {text} is less than a millisecond")
    return found
