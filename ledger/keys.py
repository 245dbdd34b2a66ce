"""A machine's ledger key: Ed25519, the private half in a file of its own.

Effects allowed here: files, and the dice of the operating system. The file is PKCS#8 PEM (RFC 5958, RFC 8410), written
once with mode 0600, never overwritten, and refused when others could read it. The public half goes into events and
`KeyChanged` as `ed25519:` and base64 (`notes.key_text`). Two kinds of signature never share a key: this one signs
records and heads, never an SSH handshake.

`cryptography` is loaded when a key is made, read or used, so that importing this room costs a reader nothing.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ledger.errors import BadSignature, Refused, Unwritable
from ledger.notes import key_bytes, key_text, signed_by

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MODE: Final = 0o600
_FILE_MAX: Final = 16 * 1024


class LedgerKey:
    """A private key in memory: it signs, and says its public half. A `notes.Signer`."""

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public: bytes = private.public_key().public_bytes_raw()
        """The 32 bytes of the public key."""

    @property
    def text(self) -> str:
        """The public key as it stands in events: `ed25519:…`."""
        return key_text(self.public)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature over `message` (RFC 8032); the same message gives the same bytes."""
        return self._private.sign(message)

    def pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM: what `save` writes. Whoever holds it can sign as this machine."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def __repr__(self) -> str:
        return f"LedgerKey({self.text})"


def generate() -> LedgerKey:
    """A new key, from the operating system's dice."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return LedgerKey(Ed25519PrivateKey.generate())


def save(key: LedgerKey, path: Path | str) -> None:
    """Write the private key to a new file of mode 0600, on the disk when this returns.

    Raises Refused if the path exists (a key is never overwritten) or its folder does not, Unwritable if the medium
    refuses; what was written by then is taken away again.
    """
    pem, path = key.pem(), Path(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    except FileExistsError:
        raise Refused(f"{path} exists", hint="a key is never overwritten: choose another path, or move it away") from None
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"{path.parent} is no folder", hint="make it first") from None
    except OSError as error:
        raise Unwritable(f"{path}: {str(error.strerror).lower()}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, MODE)  # A strict umask may have left less than its owner needs.
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
        _sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Unwritable(f"{path}: {str(error.strerror).lower()}") from error


def load(path: Path | str) -> LedgerKey:
    """The key in this file. Raises Refused if it is not there, is open to more than its owner, or holds no such key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _read_private(Path(path))
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise Refused(f"{path} holds no ledger key", hint="a ledger key is an unencrypted Ed25519 key in PKCS#8 PEM")
    return LedgerKey(private)


def verify(key: str, message: bytes, signature: bytes) -> None:
    """That the ledger key `key` (`ed25519:…`, as in events) signed `message`.

    Returns nothing if it did. Raises BadSignature if not, Refused if `key` is no ledger key.
    """
    if not signed_by(key_bytes(key), message, signature):
        raise BadSignature(f"the signature is not by {key}")


def _read_private(path: Path) -> bytes:
    """The bytes of a file that only its owner can read. The file that was judged is the file that is read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            mode = stat.S_IMODE(status.st_mode)
            if not stat.S_ISREG(status.st_mode):
                raise Refused(f"{path} is no file", hint="name the file that keygen wrote")
            if mode & ~MODE:
                raise Refused(
                    f"{path} has mode {mode:04o}, wider than {MODE:04o}: others may use this key",
                    hint=f"chmod 600 {path}; if somebody may have read it, make a new key",
                )
            return os.read(descriptor, _FILE_MAX)
        finally:
            os.close(descriptor)
    except OSError as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else str(error.strerror).lower()
        raise Refused(f"{path}: {what}", hint="name the file that keygen wrote") from error


def _sync_folder(folder: Path) -> None:
    """A new name lasts only once its folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
