"""A node's first day: a directory, its keys, and the first entries of its feed.

`found` makes the ledger of a new cluster: its own feed opened under its own key, the cluster created, its own join, the
settings. The incarnation id commits to the founder's ledger key, so nobody else can be its root. What a newcomer writes when
it has been admitted is in `joining`. Effects: the directory and its ledger; instants and salt are arguments.
"""

from __future__ import annotations

from ledger.errors import Refused
from ledger.events import Addressing, ClusterCreated, MachineJoined, SettingsChanged, Transport
from ledger.identity import Feed, incarnation_id
from ledger.node.config import Config, NodeDir
from ledger.store import Ledger


def found(
    folder: NodeDir,
    config: Config,
    *,
    name: str,
    hostname: str,
    port: int,
    transport: Transport,
    addressing: Addressing,
    settings: SettingsChanged,
    salt: str,
    at_ns: int,
) -> Feed:
    """Make the directory's keys, configuration and ledger, and found cluster `name` in it. Returns its own feed.

    `hostname`: the main host name (in address mode the address) under which others find it, at `port`. Raises Refused for
    what no event takes, and then leaves what was made till then to `NodeDir.making`.
    """
    host_key = host_key_of(folder, config, transport)
    key = folder.ledger_key()
    incarnation = incarnation_id(name, transport, addressing, key.text, salt)
    feed = Feed.of(incarnation, config.machine, 1, key.text)
    events = [
        ClusterCreated(name, incarnation, transport, addressing, salt),
        MachineJoined(
            config.machine, hostname, port, config.account, host_key, folder.public("dial_key"), key.text, 2, addressing, 1
        ),
        settings,
    ]
    with Ledger.create(folder.ledger, incarnation=incarnation) as ledger, ledger.transaction():
        ledger.open_feed(config.machine, at=at_ns, ledger_key=key.text, incarnation=incarnation)
        ledger.append(events, observer=feed, at=at_ns)
    folder.set_config(config)
    return feed


def host_key_of(folder: NodeDir, config: Config, transport: Transport) -> str:
    """The public key that answers at this machine's port: the node's own, or its sshd's. Raises Refused if that is not known."""
    if transport == "ccs":
        return folder.public("host_key")
    if config.sshd_host_key is None or config.account is None:
        raise Refused(
            "in transport ssh others come through this machine's sshd: its host key and the account are needed",
            hint="--sshd-host-key /etc/ssh/ssh_host_ed25519_key.pub --account mesh",
        )
    return config.sshd_host_key
