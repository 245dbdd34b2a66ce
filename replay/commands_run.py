"""The node run, and looked at: `run`, `doctor`, `sshd-config`.

`run` hands the node the projections that replay asks, so that the table a live machine routes by, the keys it trusts, and what is
rebuilt later, are one piece of code. It stays in the foreground; its log is lines of JSON on the standard error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.errors import Damaged, Locked, Refused
from replay.asked import Asked
from replay.options import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ledger.node.config import Config, NodeDir
    from ledger.node.doctor import Check
    from projections.cluster import Cluster


@click.command("run", cls=Command)
@click.option("--unchecked", is_flag=True, help="Do not check every byte of the ledger before the start.")
@click.pass_obj
def run_(asked: Asked, /, *, unchecked: bool) -> int:
    """Run the node of this directory, in the foreground, until SIGTERM or Ctrl-C, or until the machine has left the cluster.

    The ledger is checked first, every byte of it. Then the node accepts and dials, pings, records, and holds the feeds of all
    others. Under systemd (`systemd-unit`) it says when it is ready, and feeds the watchdog.

    For example:
      meshledger run
      meshledger run --dir /var/lib/meshledger
    """
    from importlib.metadata import version

    from ledger.node.config import NodeDir
    from ledger.node.daemon import Daemon
    from ledger.node.notify import Notify
    from ledger.opening import is_written
    from replay.living import view

    def log(line: Mapping[str, Any]) -> None:
        if not asked.quiet or line.get("event") not in {"started", "stopped"}:
            with suppress(OSError):  # on a full disk there may be no room to say so either; that is no reason to end
                print(json.dumps(dict(line)), file=sys.stderr, flush=True)  # noqa: T201

    folder = NodeDir(asked.folder)
    folder.config()
    if is_written(folder.ledger):
        raise Locked(f"a node is running at {folder.path} already", hint=f"`{asked.spelled('status')}` shows how it is")
    if not unchecked:
        _check(folder)
    daemon = Daemon(folder, view, software=version("meshledger"), log=log, notify=Notify())
    why = asyncio.run(daemon.run())
    asked.say(f"{daemon.feed.machine} {why}")
    return 0


def _check(folder: NodeDir) -> None:
    """Every byte of the ledger. Raises Damaged, naming the first thing that is wrong: no node adds to such a record."""
    from replay.check import verify

    problems = verify([folder.ledger]).problems
    if problems:
        first = problems[0]
        raise Damaged(first.what, position=first.pos, hint=f"meshledger verify {folder.ledger} shows all of it")


@click.command("doctor", cls=Command)
@click.argument("machine", required=False, metavar="[MACHINE|HOSTNAME]")
@click.pass_obj
def doctor_(asked: Asked, /, *, machine: str | None) -> int:
    """Look at what links depend on: names, forward and reverse, who answers there with which key, and the limits of this machine.

    Without an argument every member is looked at, as this machine sees it. It changes nothing, and needs no running node.

    For example:
      meshledger doctor
      meshledger doctor charlie
      meshledger doctor c3.lab.example -o json
    """
    from ledger.node.config import NodeDir
    from replay.answers_node import Doctor, Looked
    from replay.history import History

    folder = NodeDir(asked.folder)
    config = folder.config()
    with History.open(folder.ledger) as history:
        cluster = history.belief(config.machine, "end")
    targets = _targets(cluster, config, machine)
    found = asyncio.run(_examined(config, cluster, targets))
    if machine is None:
        found[config.machine] = [*found.get(config.machine, []), *_limits(folder, config, cluster)]
    checks = [
        Looked(name, check.name, check.verdict, check.said, check.reason, check.hint)
        for name, each in found.items()
        for check in each
    ]
    answer = Doctor(ok=all(check.verdict != "bad" for check in checks), checks=checks)
    asked.answer(answer)
    for check in checks:
        if check.hint and check.verdict != "ok":
            asked.say(f"{check.machine}: {check.check}: {check.hint}")
    return 0 if answer.ok else 1


def _targets(cluster: Cluster, config: Config, machine: str | None) -> dict[str, tuple[str, int, str | None]]:
    """By name what is to be looked at: host name or address, port, and the key that has to answer."""
    members = {
        name: (found.hostname or name, found.port, found.host_key)
        for name, found in cluster.membership.machines.items()
        if found.member
    }
    if machine is None:
        return members
    if machine in members:
        return {machine: members[machine]}
    named = {name: target for name, target in members.items() if target[0] == machine}
    if named:
        return named
    if "." not in machine and ":" not in machine:
        raise Refused(f"{machine} is no member", hint=f"members are {', '.join(members) or 'none'}; or give a host name")
    return {machine: (machine, config.port, None)}


async def _examined(
    config: Config, cluster: Cluster, targets: Mapping[str, tuple[str, int, str | None]]
) -> dict[str, list[Check]]:
    from ledger.node.doctor import examine
    from ledger.node.resolver import Resolver
    from ledger.node.sshclient import probe_key

    resolver = Resolver(config.servers, config.dns_timeout_ms / 1000, config.dns_lifetime_ms / 1000)
    found = await asyncio.gather(*(
        examine(
            target, port, addressing="address" if cluster.addressing == "address" else "name", host_key=key, resolver=resolver,
            probe=probe_key,
        )
        for target, port, key in targets.values()
    ))  # fmt: skip
    return {name: list(each.checks) for name, each in zip(targets, found, strict=True)}


def _limits(folder: NodeDir, config: Config, cluster: Cluster) -> list[Check]:
    import resource

    from ledger.node.doctor import examine_limits
    from ledger.node.doctor_sshd import examine_sshd, sshd_says
    from ledger.node.links import Limits

    machines = max(len(cluster.members), 2)
    if cluster.transport == "ccs":
        limits = Limits(
            connections=config.connections_max, unauthenticated=config.unauthenticated_max, strangers=config.strangers_max
        )
        return examine_limits(limits, machines, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    account = config.account or "root"
    return examine_sshd(sshd_says(account), folder.file("authorized_keys"), account, machines)


@click.command("sshd-config", cls=Command)
@click.option("--account", metavar="USER", help="Else the account of the node's configuration.")
@click.option("--own-keys", is_flag=True, help="The account's own authorized_keys keep opening what they opened.")
@click.pass_obj
def sshd_config_(asked: Asked, /, *, account: str | None, own_keys: bool) -> int:
    """What this machine's sshd needs so that links come in through it (transport ssh). It is printed, and nothing is changed.

    A member's key then opens the bridge to the node and nothing else: no shell, no forwarding.

    For example:
      meshledger sshd-config -O /etc/ssh/sshd_config.d/meshledger.conf
      meshledger sshd-config --account mesh --own-keys
    """
    from ledger.node.config import NodeDir
    from ledger.node.sshd import sshd_lines

    folder = NodeDir(Path(os.path.abspath(asked.folder)))  # noqa: PTH100 - links in it stay as they are named
    named = account or folder.config().account
    if named is None:
        raise Refused("no account is configured: this node is of transport ccs", hint="--account mesh, or leave sshd as it is")
    with asked.stream() as out:
        out.write(sshd_lines(named, str(folder.file("authorized_keys")), own_keys=own_keys))
    return 0
