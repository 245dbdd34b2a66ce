"""A node's directory: what it says is read back, what it should not say is refused with what would be right."""

from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Refused
from ledger.node.config import Config, NodeDir, address_of, default_machine, parse, reachable, written
from ledger.notes import key_text

_PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=30)


@given(
    st.builds(
        Config,
        machine=st.sampled_from(["alpha", "m-1"]),
        listen=_PLAIN,
        port=st.integers(0, 65535),
        account=st.none() | _PLAIN,
        dns_servers=st.lists(_PLAIN, max_size=3).map(tuple),
        connections_max=st.integers(1, 100),
    )
)
def test_a_configuration_reads_back(config):
    """What is written is what is read."""
    assert parse(written(config), "config.toml") == config


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('machine = "alpha"\nporte = 3', "did you mean port?"),
        ('machine = "alpha"\nzzz = 3', "it knows machine"),
        ('machine = "Alpha"', None),
        ("machine = ", None),
        ('machine = "alpha"\nport = 70000', None),
        ("", None),
    ],
)
def test_what_it_does_not_know_is_refused(text, hint):
    """One line says which file and key, and where there is a nearest key, which."""
    with pytest.raises(Refused, match=r"^here: ") as refused:
        parse(text, "here")
    assert (refused.value.hint or "").startswith(hint or "")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_addresses_with_and_without_a_port(text, meant):
    """IPv4, IPv6, and each with a port, mean what they say."""
    assert address_of(text, 53) == meant


@pytest.mark.parametrize("text", ["", ":53", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:70000", "a b", "[::1"])
def test_what_is_no_address_is_refused(text):
    """A server that cannot be meant is refused when the configuration is read, not when it is asked."""
    with pytest.raises(Refused):
        address_of(text, 53)


def test_a_directory_is_its_owners(tmp_path):
    """Directory 0700, files 0600; the SSH keys are what SSH reads; a second node there is refused."""
    folder = NodeDir.make(tmp_path / "node")
    folder.set_config(Config(machine="alpha"))
    folder.make_keys()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in folder.path.iterdir()} == {0o600}
    for name in ("host_key", "dial_key"):
        told = asyncssh.read_private_key(folder.file(name)).export_public_key("openssh").decode().split()
        assert folder.public(name) == " ".join(told[:2])
    assert folder.ledger_key().text == key_text(folder.ledger_key().public)
    with pytest.raises(Refused, match="holds a node already"):
        NodeDir.make(tmp_path / "node")
    with pytest.raises(Refused):
        folder.make_keys()


@pytest.mark.parametrize("there", [False, True])
def test_what_could_not_be_made_leaves_nothing(tmp_path, there):
    """A node that could not be founded can be founded again in the same place; what stood there before stays."""
    place = tmp_path / "node"
    if there:
        place.mkdir()
        (place / "notes").write_text("mine", encoding="utf-8")

    def fail():
        with NodeDir.making(place) as folder:
            folder.make_keys()
            folder.ledger.write_bytes(b"half")
            raise Refused("the medium is full")

    with pytest.raises(Refused, match="the medium is full"):
        fail()
    assert place.exists() == there
    assert not there or [each.name for each in place.iterdir()] == ["notes"]
    with NodeDir.making(place) as folder:
        folder.make_keys()
    assert folder.ledger_key()


def test_where_there_is_no_node_the_way_to_one_is_said(tmp_path):
    """A directory without a node names both commands that make one."""
    with pytest.raises(Refused) as refused:
        NodeDir(tmp_path).config()
    assert "init" in refused.value.hint
    assert "join" in refused.value.hint


@pytest.mark.parametrize(("hostname", "machine"), [("Alpha.lab.example", "alpha"), ("m-1", "m-1")])
def test_a_machines_name_comes_from_its_host_name(hostname, machine):
    """The first label, in lower case."""
    assert default_machine(hostname) == machine
    with pytest.raises(Refused):
        default_machine("_x.lab")


def test_a_socket_deep_in_the_tree_is_reachable(tmp_path):
    """The kernel takes 107 bytes for a socket's path; folders are deeper than that."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    (deep / "here").write_text("found")
    short = reachable(deep / "here")
    assert len(short) < 100
    assert Path(short).read_text(encoding="utf-8") == "found"
