"""One-time codes: good once, for whoever has the secret, until they expire."""

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Refused
from ledger.node.config import NodeDir
from ledger.node.invites import Invites, derived, dial_key, parse_code, proof


@pytest.fixture
def invites(tmp_path):
    return Invites(NodeDir.make(tmp_path / "node"))


def issue(invites, expires_s=100):
    return invites.issue(
        expires_s=expires_s, machine="alpha", host="alpha.lab.example", port=2222, host_key="ssh-ed25519 AAAA",
        incarnation="0" * 64, transport="ccs", addressing="name",
    )  # fmt: skip


def test_a_code_is_good_once(invites):
    """With the secret it is good; used, expired, wrong or unknown it is refused, and the refusal says which."""
    code = issue(invites)
    good = proof(derived(code.secret), b"body")
    assert invites.check(code.id, good, b"body", 99) is None
    assert invites.check(code.id, good, b"another", 99) == "the code is wrong"
    assert invites.check("f" * 16, good, b"body", 99) == "the code is wrong"
    assert invites.check(code.id, good, b"body", 100) == "the code has expired"
    assert [each.id for each in invites.open(99)] == [code.id]
    invites.use(code.id, "bravo", 50)
    assert invites.check(code.id, good, b"body", 99) == "the code was used, by bravo"
    assert invites.open(99) == []


def test_what_was_used_is_remembered_by_the_next_process(invites, tmp_path):
    """The used state is on the disk; the secret is not."""
    code = issue(invites)
    invites.use(code.id, "bravo", 50)
    again = Invites(NodeDir(tmp_path / "node"))
    assert again.check(code.id, proof(derived(code.secret), b""), b"", 60) == "the code was used, by bravo"
    kept = (tmp_path / "node" / "invites.json").read_bytes()
    assert code.secret not in kept
    assert code.secret.hex().encode() not in kept


def test_a_code_survives_the_clipboard(invites):
    """Broken over lines it reads the same."""
    code = issue(invites)
    text = str(code)
    assert parse_code(f" {text[:40]}\n{text[40:]}\n") == code


@given(st.data())
def test_a_code_that_lost_or_changed_a_character_is_refused(data):
    """Nothing that is not a whole code is taken for one."""
    text = TEXT
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("abcXYZ019-_") | st.just(""))
    changed = text[:place] + other + text[place + 1 :]
    if changed != text:
        with pytest.raises(Refused):
            parse_code(changed)


def test_the_secret_makes_the_key_that_passes_sshd(invites):
    """The public half that the member lets in is that of the private half which the newcomer makes from the code."""
    code = issue(invites)
    private, public = dial_key(code.secret)
    told = asyncssh.import_private_key(private).export_public_key("openssh").decode().split()
    assert public == " ".join(told[:2]) == invites.all()[0].dial_key


def test_a_file_that_does_not_read_is_refused(invites, tmp_path):
    """It is not taken for an empty one: a used code would be good again."""
    (tmp_path / "node" / "invites.json").write_text("[{")
    with pytest.raises(Refused):
        invites.open(1)


def _text():
    from ledger.node.invites import Code

    return str(
        Code("0" * 16, b"s" * 24, 100, "alpha", "alpha.lab.example", 2222, "ssh-ed25519 AAAA", "0" * 64, "ccs", "name", None)
    )


TEXT = _text()
