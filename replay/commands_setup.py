"""A node made and run: `init`, `join`, `run`, `doctor`, `sshd-config`, `systemd-unit`.

What these make is one directory (`--dir`); nothing else on the machine is touched: `sshd-config` and `systemd-unit` print what an
administrator may put where it belongs. `run` hands the node the projections that replay asks: so the table a live machine
routes by, the keys it trusts, and what is rebuilt later, are one piece of code.
"""

from __future__ import annotations

import secrets
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ledger.errors import Refused
from replay.asked import Asked
from replay.commands_node import span_ms
from replay.options import Command
from replay.text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ledger.node.config import Config, NodeDir
    from replay.answers_node import Node

_SSHD_KEY: Final = "/etc/ssh/ssh_host_ed25519_key.pub"
_NAME_MAX: Final = 255
_PORTS: Final = {"ssh": 22, "ccs": 2222}


def _own(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say of this machine what others need to know."""
    for option in reversed((
        click.option("--machine", metavar="NAME", help="The machine's lasting name. Else the first label of its host name."),
        click.option("--hostname", metavar="FQDN", help="Its main host name (or, by address, its address). Else this system's."),
        click.option("--listen", default="0.0.0.0", show_default=True, metavar="ADDRESS", help="Where ccs accepts."),  # noqa: S104
        click.option("--port", type=click.IntRange(1, 65535), help="The port others dial: 22 in ssh, 2222 in ccs."),
        click.option("--account", metavar="USER", help="In ssh: the account at this machine's sshd."),
        click.option("--sshd-host-key", metavar="FILE", help=f"In ssh: sshd's public host key. Else {_SSHD_KEY}."),
        click.option("--dns", multiple=True, metavar="ADDRESS[:PORT]", help="A DNS server; may be repeated. Else the system's."),
    )):  # fmt: skip
        function = option(function)
    return function


@click.command("init", cls=Command)
@click.argument("name")
@click.option("--transport", type=click.Choice(["ssh", "ccs"]), default="ssh", show_default=True, help="How links are carried.")
@click.option("--addressing", type=click.Choice(["name", "address"]), default="name", show_default=True, help="What is dialled.")
@click.option("--interval", default="60s", show_default=True, metavar="SPAN", help="Every machine pings every other so often.")
@click.option("--timeout", metavar="SPAN", help="When a ping counts as failed. Else a quarter of the interval.")
@click.option("--lost-after", type=click.IntRange(1, 1000), default=1, show_default=True, help="Failures until a link is lost.")
@_own
@click.pass_obj
def init_(
    asked: Asked, /, *, name: str, transport: str, addressing: str, interval: str, timeout: str | None, lost_after: int,
    machine: str | None, hostname: str | None, listen: str, port: int | None, account: str | None, sshd_host_key: str | None,
    dns: tuple[str, ...],
) -> int:  # fmt: skip
    """Found a cluster NAME with this machine as its first member: keys, configuration and ledger in the node's directory.

    In transport ssh links go through the machines' own sshd (see sshd-config); in ccs each node listens itself, and serves
    nothing but the mesh. One cluster uses one transport, and one way of addressing, until it is dissolved.

    For example:
      meshledger init lab --hostname alpha.lab.example --account mesh
      meshledger init lab --transport ccs --port 2222 --dir /var/lib/meshledger
    """
    from ledger.events import SettingsChanged
    from ledger.node.config import NodeDir
    from ledger.node.founding import found

    if not 0 < len(name) <= _NAME_MAX or not name.isprintable():
        raise Refused(f"'{shorten(name)}' cannot name a cluster", hint=f"1 to {_NAME_MAX} printable characters, such as lab")
    every_ms = span_ms(interval, "an interval")
    wait_ms = span_ms(timeout, "a time-out") if timeout else max(1, every_ms // 4)
    if wait_ms > every_ms:
        raise Refused(f"a ping times out after {wait_ms} ms, and the next goes after {every_ms} ms", hint="a smaller --timeout")
    config, main_name = configured(
        transport, machine=machine, hostname=hostname, listen=listen, port=port, account=account, sshd=sshd_host_key, dns=dns
    )
    with NodeDir.making(asked.folder) as folder:
        folder.make_keys(host=transport == "ccs")
        found(
            folder, config, name=name, hostname=main_name, port=port or _PORTS[transport],
            transport="ssh" if transport == "ssh" else "ccs", addressing="name" if addressing == "name" else "address",
            settings=SettingsChanged(1, every_ms, wait_ms, lost_after), salt=secrets.token_hex(8), at_ns=time.time_ns(),
        )  # fmt: skip
    asked.answer(made(folder))
    asked.say(f"next: `{asked.spelled('run')}` here, then `{asked.spelled('invite')}` for each machine that is to join")
    return 0


def configured(
    transport: str, *, machine: str | None, hostname: str | None, listen: str, port: int | None, account: str | None,
    sshd: str | None, dns: tuple[str, ...],
) -> tuple[Config, str]:  # fmt: skip
    """The configuration that these options mean, and the main host name. Raises Refused for what cannot be."""
    from ledger.identity import host_name
    from ledger.node.config import Config, default_machine

    main_name = host_name(hostname or socket.getfqdn())
    known: str | None = None
    if transport == "ssh":
        if account is None:
            raise Refused("in transport ssh others log in to an account at this machine's sshd", hint="name it: --account mesh")
        known = _public(Path(sshd or _SSHD_KEY))
    config = Config(
        machine=machine or default_machine(main_name), listen=listen, port=port or _PORTS[transport], account=account,
        sshd_host_key=known, dns_servers=dns,
    )  # fmt: skip
    config.servers  # noqa: B018 - what is no address is refused now, and not when a name is asked for
    return config, main_name


def _public(path: Path) -> str:
    """The public key in a file of sshd's."""
    try:
        words = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeError) as error:
        missing = "there is no such file" if isinstance(error, FileNotFoundError) else "no key can be read from it"
        raise Refused(f"{path}: {missing}", hint="name sshd's public host key: --sshd-host-key FILE") from None
    if len(words) < 2 or words[0] != "ssh-ed25519":
        raise Refused(f"{path} holds no Ed25519 public key", hint="such as /etc/ssh/ssh_host_ed25519_key.pub")
    return " ".join(words[:2])


def made(folder: NodeDir) -> Node:
    """What was made, as its ledger says it."""
    from replay.answers_node import Node
    from replay.history import History

    config = folder.config()
    with History.open(folder.ledger) as history:
        cluster = history.at("end")
    own = cluster.membership.machines[config.machine]
    return Node(
        machine=own.machine, hostname=own.hostname or "", port=own.port, cluster=cluster.name,
        incarnation=cluster.incarnation or "", transport=cluster.transport or "", dir=str(folder.path),
        host_key=own.host_key or "", dial_key=own.dial_key or "", ledger_key=own.ledger_key or "",
    )  # fmt: skip


@click.command("join", cls=Command)
@click.argument("code")
@_own
@click.pass_obj
def join_(
    asked: Asked, /, *, code: str, machine: str | None, hostname: str | None, listen: str, port: int | None,
    account: str | None, sshd_host_key: str | None, dns: tuple[str, ...],
) -> int:  # fmt: skip
    """Join the cluster that CODE names, as `meshledger invite` printed it on a member.

    This machine's names are looked up first, and what is wrong is said; then the member is dialled, which must answer with
    the host key that the code names. What is taken in is the whole record of the cluster, each feed under its origin's word.

    For example:
      meshledger join meshledger-1-k5d… --hostname bravo.lab.example --account mesh
      meshledger join "$(cat code)" --machine bravo --dir /var/lib/meshledger
    """
    import asyncio

    from ledger.node.config import NodeDir
    from ledger.node.invites import parse_code
    from ledger.node.joining import join

    parsed = parse_code(code)
    config, main_name = configured(
        parsed.transport, machine=machine, hostname=hostname, listen=listen, port=port, account=account, sshd=sshd_host_key,
        dns=dns,
    )  # fmt: skip
    folder = NodeDir.make(asked.folder)
    if not folder.file("ledger_key").exists():
        folder.make_keys(host=parsed.transport == "ccs")
    asyncio.run(join(parsed, folder, config, hostname=main_name, port=config.port, clock=time.time_ns))
    asked.answer(made(folder))
    asked.say(f"next: `{asked.spelled('run')}` here")
    return 0


@click.command("systemd-unit", cls=Command)
@click.option("--account", default="meshledger", show_default=True, metavar="USER", help="Who runs the node.")
@click.pass_obj
def systemd_unit_(asked: Asked, /, *, account: str) -> int:
    """The systemd unit under which the node of this directory runs. It is printed, and nothing is installed.

    The service is ready once the ledger is verified and the node accepts; a watchdog restarts one that no longer writes.

    For example:
      meshledger systemd-unit --dir /var/lib/meshledger -O /etc/systemd/system/meshledger.service
      meshledger systemd-unit --account mesh
    """
    from ledger.node.config import NodeDir
    from ledger.node.units import unit

    answer = made(NodeDir(asked.folder.absolute()))
    program = Path(sys.argv[0]).absolute()
    with asked.stream() as out:
        out.write(unit(program, asked.folder.absolute(), account, answer.cluster or answer.incarnation))
    return 0
