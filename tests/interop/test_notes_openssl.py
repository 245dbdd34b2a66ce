"""Our signatures and keys in the hands of OpenSSL's command line, and its key in ours."""

from __future__ import annotations

import base64
import shutil
import subprocess

import pytest

from ledger.keys import generate, load, save
from ledger.merkle import leaf_hash
from ledger.notes import Checkpoint, VerifierKey, open_note, parse_note, sign_checkpoint

OPENSSL = shutil.which("openssl")
SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: what stands before the 32 bytes of an Ed25519 key


def openssl(*arguments):
    return subprocess.run([OPENSSL, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(autouse=True)
def needs_openssl():
    """OpenSSL 3 or newer: the first whose command line signs and verifies Ed25519 by `-rawin`."""
    if OPENSSL is None:
        pytest.skip("no openssl on this machine")
    version = openssl("version").stdout.split()
    if version[:1] != ["OpenSSL"] or int(version[1].split(".")[0]) < 3:
        pytest.skip(f"{' '.join(version[:2])} cannot verify Ed25519 on its command line")


def verified(folder, text, signature, public):
    (folder / "text").write_bytes(text.encode())
    (folder / "signature").write_bytes(signature)
    (folder / "public.der").write_bytes(SPKI_PREFIX + public)
    return openssl(
        "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", folder / "public.der",
        "-in", folder / "text", "-sigfile", folder / "signature",
    )  # fmt: skip


def test_openssl_verifies_our_checkpoint(tmp_path):
    """OpenSSL accepts the signature of a checkpoint as we wrote it, and rejects it when a digit of the size differs."""
    key = generate()
    note = parse_note(sign_checkpoint(Checkpoint("meshledger/alpha", 41, leaf_hash(b"record")), key))
    verifier = str(VerifierKey("meshledger/alpha", key.public))
    public, signature = base64.b64decode(verifier.split("+", 2)[2])[1:], note.signatures[0].value
    good = verified(tmp_path, note.text, signature, public)
    assert (good.returncode, good.stdout.strip()) == (0, "Signature Verified Successfully"), good.stderr
    assert verified(tmp_path, note.text.replace("41", "42"), signature, public).returncode != 0


def test_openssl_reads_our_key_file(tmp_path):
    """OpenSSL reads the key file that we wrote, and finds the public key that we state."""
    key = generate()
    save(key, tmp_path / "ledger.key")
    done = openssl("pkey", "-in", tmp_path / "ledger.key", "-pubout", "-outform", "DER", "-out", tmp_path / "public.der")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "public.der").read_bytes() == SPKI_PREFIX + key.public


def test_we_read_openssl_s_key_file(tmp_path):
    """A key that OpenSSL made loads as a ledger key, and signs notes that open under it."""
    done = openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / "ledger.key")
    assert done.returncode == 0, done.stderr
    (tmp_path / "ledger.key").chmod(0o600)
    key = load(tmp_path / "ledger.key")
    note = sign_checkpoint(Checkpoint("meshledger/alpha", 1, leaf_hash(b"record")), key)
    known = VerifierKey("meshledger/alpha", key.public)
    assert open_note(note, [known]).by == (known,)
