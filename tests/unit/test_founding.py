"""A cluster's first day: what `found` writes makes its founder the only member, under keys that the incarnation commits to."""

import pytest

from ledger.errors import Refused
from ledger.events import SettingsChanged
from ledger.identity import incarnation_id
from ledger.node.config import Config, NodeDir
from ledger.node.founding import found
from replay.check import verify
from replay.history import History

AT_NS = 1_790_000_000_000_000_000


def founded(path, transport="ccs", **config):
    folder = NodeDir.make(path)
    folder.make_keys(host=transport == "ccs")
    feed = found(
        folder,
        Config(machine="alpha", **config),
        name="lab",
        hostname="alpha.lab.example",
        port=2222,
        transport=transport,
        addressing="name",
        settings=SettingsChanged(1, 1000),
        salt="salt",
        at_ns=AT_NS,
    )
    return folder, feed


def test_the_founder_is_the_only_member(tmp_path):
    """Membership, keys, settings and transport are what was founded, by the record and nothing else."""
    folder, feed = founded(tmp_path / "node")
    key = folder.ledger_key().text
    assert feed.incarnation == incarnation_id("lab", "ccs", "name", key, "salt")
    assert verify([folder.ledger]).ok
    with History.open(folder.ledger) as history:
        cluster = history.at("end")
    assert (cluster.members, cluster.name, cluster.transport, cluster.addressing) == (["alpha"], "lab", "ccs", "name")
    member = cluster.membership.machines["alpha"]
    assert (member.host_key, member.dial_key, member.ledger_key) == (
        folder.public("host_key"),
        folder.public("dial_key"),
        key,
    )
    assert (member.hostname, member.port, cluster.interval_ns) == ("alpha.lab.example", 2222, 10**9)
    assert cluster.machines["alpha"].communicating is True


def test_in_ssh_the_machines_own_sshd_answers(tmp_path):
    """The host key recorded is sshd's; without it, or without an account, nothing is founded."""
    with pytest.raises(Refused, match="sshd"):
        founded(tmp_path / "none", "ssh")
    folder, _feed = founded(tmp_path / "node", "ssh", sshd_host_key="ssh-ed25519 AAAAsshd", account="mesh")
    with History.open(folder.ledger) as history:
        member = history.at("end").membership.machines["alpha"]
    assert (member.host_key, member.account) == ("ssh-ed25519 AAAAsshd", "mesh")


def test_what_no_event_takes_is_refused(tmp_path):
    """A host name that is none is refused before anything stands."""
    folder = NodeDir.make(tmp_path / "node")
    folder.make_keys()
    with pytest.raises(Refused):
        found(
            folder, Config(machine="alpha"), name="lab", hostname="not a name", port=1, transport="ccs", addressing="name",
            settings=SettingsChanged(1), salt="", at_ns=AT_NS,
        )  # fmt: skip
    assert not (folder.path / "config.toml").exists()
