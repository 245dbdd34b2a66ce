"""Ledger keys: made, kept in a file that only its owner reads, loaded, and used."""

from __future__ import annotations

import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from ledger import keys
from ledger.errors import BadSignature, Refused, Unwritable
from ledger.keys import LedgerKey, generate, load, save, verify
from ledger.notes import key_bytes

# RFC 8032 section 7.1, test 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_the_key_of_rfc_8032():
    """The RFC's private key has the RFC's public key, and signs the RFC's message with the RFC's signature."""
    key = LedgerKey(Ed25519PrivateKey.from_private_bytes(SEED))
    assert (key.public, key.sign(b"\x72")) == (PUBLIC, SIGNATURE)
    verify(key.text, b"\x72", SIGNATURE)


def test_a_saved_key_is_the_key_loaded(tmp_path):
    """What is saved as PKCS#8 PEM, mode 0600, loads as the same key, which makes the same signatures."""
    key, path = generate(), tmp_path / "ledger.key"
    save(key, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    loaded = load(str(path))
    assert (loaded.public, loaded.text, loaded.sign(b"said")) == (key.public, key.text, key.sign(b"said"))
    assert key_bytes(key.text) == key.public


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277, 0o777])
def test_the_mode_does_not_hang_on_the_umask(tmp_path, mask):
    """Whatever the umask is, the file has mode 0600, and loads."""
    before = os.umask(mask)
    try:
        save(generate(), tmp_path / "ledger.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "ledger.key").stat().st_mode) == 0o600
    load(tmp_path / "ledger.key")


def test_two_keys_differ():
    """Each key is new."""
    assert generate().public != generate().public


def test_a_key_is_never_overwritten(tmp_path):
    """Saving to a path that exists, be it a link to nowhere, is refused, and what was there stays."""
    path = tmp_path / "ledger.key"
    save(generate(), path)
    there = path.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for taken in (path, tmp_path / "link"):
        with pytest.raises(Refused, match="exists") as refused:
            save(generate(), taken)
        assert refused.value.hint
    assert path.read_bytes() == there
    assert not (tmp_path / "elsewhere").exists()


def test_saving_needs_a_folder(tmp_path):
    """Saving where there is no folder is refused, naming it."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(Refused, match=folder.name):
            save(generate(), folder / "ledger.key")


def test_half_a_key_is_taken_away(tmp_path, monkeypatch):
    """If the medium refuses while a key is written, that is said, and no half-written file is left behind."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys.os, "fsync", full)
    with pytest.raises(Unwritable, match="no space left"):
        save(generate(), tmp_path / "ledger.key")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610, 0o700, 0o666])
def test_a_key_that_others_may_use_is_refused(tmp_path, mode):
    """A key file whose mode is wider than 0600 is refused, with what to do about it."""
    path = tmp_path / "ledger.key"
    save(generate(), path)
    path.chmod(mode)
    with pytest.raises(Refused, match=f"{mode:04o}") as refused:
        load(path)
    assert "chmod 600" in (refused.value.hint or "")
    path.chmod(0o400)
    load(path)


def test_what_holds_no_ledger_key(tmp_path):
    """A missing file, a folder, a pipe, another text, another kind of key and an encrypted key are refused."""
    private = Ed25519PrivateKey.generate()
    path = tmp_path / "ledger.key"
    with pytest.raises(Refused):
        load(path)
    with pytest.raises(Refused, match="is no file"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(Refused, match="is no file"):
        load(tmp_path / "pipe")
    for held in [
        b"",
        b"ed25519:GlzZBxQ8OExB6DDFvOEqqIF+xWSaqr8sMTiLNbLXRNY=\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        generate().pem()[:60],
        generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
    ]:
        path.write_bytes(held)
        path.chmod(0o600)
        with pytest.raises(Refused, match="holds no ledger key"):
            load(path)


def test_only_the_key_that_signed_verifies():
    """A signature holds for its key, message and bytes; a text that is no key is a caller's mistake."""
    alpha, bravo = generate(), generate()
    signature = alpha.sign(b"said")
    verify(alpha.text, b"said", signature)
    for key, said, by in [
        (bravo.text, b"said", signature),
        (alpha.text, b"else", signature),
        (alpha.text, b"said", b""),
    ]:
        with pytest.raises(BadSignature):
            verify(key, said, by)
    with pytest.raises(Refused):
        verify("ssh-ed25519 AAAA", b"said", signature)


def test_a_key_does_not_show_its_secret():
    """What a key prints of itself is its public half."""
    key = LedgerKey(Ed25519PrivateKey.from_private_bytes(SEED))
    assert repr(key) == f"LedgerKey({key.text})"
