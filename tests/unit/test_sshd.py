"""What sshd is told, and what is read from what it says: texts that others wrote never become more than one line of one key."""

import base64
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import ACCOUNT, program, sshd_program

from ledger.errors import Refused
from ledger.node.sshd import authorized_keys, fingerprint, key_of, limits, sshd_lines

BLOB = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + bytes(range(32))
KEY = "ssh-ed25519 " + base64.b64encode(BLOB).decode()


def test_a_key_is_taken_without_its_comment():
    """An Ed25519 key, with or without a comment, is one text."""
    assert key_of(KEY) == key_of(KEY + " somebody@somewhere") == KEY


@pytest.mark.parametrize(
    "text",
    [
        "", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa " + base64.b64encode(BLOB).decode(), KEY + "\nssh-ed25519 AAAA",
        KEY.replace(" ", "\n"), f'command="sh" {KEY}', KEY + " \x1b[31m", "ssh-ed25519 " + base64.b64encode(BLOB + b"x").decode(),
        "ssh-ed25519 " + base64.b64encode(BLOB.replace(b"ed25519", b"ed25518")).decode(), "ssh-ed25519 Ü", " " + KEY,
    ],
)  # fmt: skip
def test_what_is_not_one_key_is_none(text):
    """Other kinds, options, line breaks, control signs and half keys are no key."""
    assert key_of(text) is None


@given(st.text(max_size=200), st.text(max_size=60))
def test_no_text_becomes_more_than_a_line_of_a_key(text, machine):
    """Whatever stands in a log as a key or as a name: each line that sshd reads is the forced command and one real key."""
    for key in (text, f"{KEY} {text}"):
        for line in authorized_keys([(key, machine)], ["/bin/bridge"]).split("\n"):
            assert not line or line.startswith(("# ", 'restrict,command="/bin/bridge --key SHA256:'))
            assert not line.startswith("restrict") or line.rsplit(" ", 3)[1:3] == KEY.split(" ")


def test_each_key_has_one_line_with_its_own_fingerprint():
    """A key that stands twice has one line; the command is quoted for the shell and for the file."""
    said = authorized_keys([(KEY, "alpha"), (KEY, "bravo")], ["/opt/a b/py", "it's", 'x"y\\z'])
    assert said.count("\n") == 2
    assert said.splitlines()[1] == (
        f"""restrict,command="'/opt/a b/py' 'it'\\"'\\"'s' 'x\\"y\\\\z' --key {fingerprint(KEY)}" {KEY} alpha"""
    )
    with pytest.raises(Refused):
        authorized_keys([(KEY, "alpha")], ["/opt/a\nb"])


def test_a_fingerprint_is_what_ssh_keygen_shows(tmp_path):
    """SHA256: and base64, as ssh-keygen prints it."""
    (tmp_path / "key.pub").write_text(KEY + "\n")
    said = subprocess.run([program("ssh-keygen"), "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True).stdout
    assert said.split()[1] == fingerprint(KEY)
    with pytest.raises(Refused):
        fingerprint("none")


@pytest.mark.parametrize("own_keys", [False, True])
def test_the_lines_are_a_configuration_that_sshd_takes(tmp_path, own_keys):
    """`sshd -T` reads what is printed, and for the account says what was meant: our key file, and the subsystem."""
    server = sshd_program()
    keys = tmp_path / "a b" / "authorized_keys"
    host = tmp_path / "host"
    subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", host], check=True)
    (tmp_path / "config").write_text(f"HostKey {host}\nMaxStartups 7:40:70\n" + sshd_lines(ACCOUNT, str(keys), own_keys=own_keys))
    asked = [server, "-T", "-f", tmp_path / "config", "-C", f"user={ACCOUNT},host=x,addr=192.0.2.1"]
    said = limits(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    assert said.subsystem == "/bin/false mesh"
    assert said.keys_files == f"{'.ssh/authorized_keys ' if own_keys else ''}{keys}"
    assert (said.startups_begin, said.startups_rate, said.startups_full, said.sessions) == (7, 40, 70, 10)
    assert (said.pubkey, said.strict_modes, said.grace_s, said.ports) == (True, True, 120, (22,))


def test_what_cannot_stand_in_a_configuration_is_refused():
    """An account or a path that would mean something else to sshd."""
    for account, path in (
        ("a b", "/x"),
        ("root\nMatch all", "/x"),
        ("mesh", "x"),
        ("mesh", '/x"y'),
        ("mesh", "/%u"),
        ("*", "/x"),
    ):
        with pytest.raises(Refused):
            sshd_lines(account, path)


def test_a_configuration_that_says_nothing_tells_nothing():
    """What does not stand there is unknown, not a default of ours; garbage is passed over."""
    said = limits('garbage\n\nMaxSessions many\n# Port 99\nAuthorizedKeysFile "a b\n')
    assert (said.sessions, said.startups_full, said.subsystem, said.pubkey, said.ports) == (None, None, None, None, ())
    assert limits("maxstartups 5\nmaxstartups 9").startups_full == 5
