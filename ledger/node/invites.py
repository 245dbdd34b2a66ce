"""One-time codes by which a machine is admitted: what a code says, and what the member who made it remembers.

A code is one line: where to dial, which host key to expect there, which cluster it is, and a secret. The newcomer proves
that it has the secret by HMAC-SHA256 (RFC 2104) over what it asks, so the secret never travels; the member keeps only a key
derived from it, and that a code was used is on the disk before the admission is written. In transport `ssh` the same
secret makes the key with which the newcomer passes sshd (Ed25519, the seed is a hash of the secret).

Effects: the file `invites.json` of a node's directory. Instants are seconds since 1970, and arguments.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ledger.errors import Refused
from ledger.events import Addressing, Key, Machine, Transport, Word
from ledger.node.config import NodeDir

FILE: Final = "invites.json"
KEPT_MAX: Final = 1000
"""So many codes are remembered; the oldest that are used or expired go first."""
_PREFIX: Final = "meshledger-1-"
_SUM_BYTES: Final = 4


class Code(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a code says. `host`, `port`: the member's main host name (or address) and port; `account`: in `ssh`, whose sshd
    login; `host_key`: the key that must answer there; `expires_s`: until when it is good.
    """

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$", max_length=16)]
    secret: Annotated[bytes, Meta(min_length=16, max_length=32)]
    expires_s: int
    machine: Machine
    host: Word
    port: Annotated[int, Meta(ge=1, le=65535)]
    host_key: Key
    incarnation: Word
    transport: Transport
    addressing: Addressing
    account: Word | None = None

    def __str__(self) -> str:
        body = msgspec.msgpack.encode(self)
        return _PREFIX + base64.urlsafe_b64encode(body + _sum(body)).decode().rstrip("=")


class Invite(msgspec.Struct, frozen=True):
    """A code as its maker remembers it. `key`: derived from the secret; `used_s`: when, by which machine, it was used."""

    id: str
    key: str
    expires_s: int
    dial_key: str
    used_s: int | None = None
    used_by: str | None = None


def parse_code(text: str) -> Code:
    """The code in a line. Raises Refused for anything that is none, also for one that lost a character."""
    line = "".join(text.split())
    encoded = line.removeprefix(_PREFIX)
    try:
        body = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        if line.startswith(_PREFIX) and _sum(body[:-_SUM_BYTES]) == body[-_SUM_BYTES:]:
            code = msgspec.msgpack.decode(body[:-_SUM_BYTES], type=Code)
            if str(code) == line:
                return code
    except (ValueError, msgspec.MsgspecError):
        pass
    raise Refused("this is no code to join with, or a part of it is missing", hint="`meshledger invite` on a member prints one")


def derived(secret: bytes) -> bytes:
    """The HMAC key of a secret: 32 bytes."""
    return hashlib.sha256(b"meshledger invite hmac\n" + secret).digest()


def dial_seed(secret: bytes) -> bytes:
    """The seed of the Ed25519 key that passes sshd: 32 bytes."""
    return hashlib.sha256(b"meshledger invite dial\n" + secret).digest()


def dial_key(secret: bytes) -> tuple[bytes, str]:
    """That key: its private half in OpenSSH's format, its public half as `ssh-ed25519 AAAA…`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    private = Ed25519PrivateKey.from_private_bytes(dial_seed(secret))
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), public


def proof(key: bytes, body: bytes) -> bytes:
    """What shows that one who asks with `body` has the secret: 32 bytes."""
    return hmac.digest(key, b"meshledger join\n" + body, "sha256")


class Invites:
    """The codes that a node has given out, kept in its directory."""

    def __init__(self, folder: NodeDir) -> None:
        self._folder = folder

    def all(self) -> list[Invite]:
        """Every code remembered, the oldest first. Raises Refused if the file does not read."""
        path = self._folder.file(FILE)
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[Invite])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise Refused(f"{path}: {error}", hint="move it away: the codes in it are then good for nothing") from None

    def open(self, now_s: int) -> list[Invite]:
        """The codes that are good now."""
        return [invite for invite in self.all() if invite.used_s is None and now_s < invite.expires_s]

    def issue(
        self, *, expires_s: int, machine: str, host: str, port: int, host_key: str,
        incarnation: str, transport: Transport, addressing: Addressing, account: str | None = None,
    ) -> Code:  # fmt: skip
        """A new code, remembered before it is given out."""
        secret = secrets.token_bytes(24)
        code = Code(
            secrets.token_hex(8), secret, expires_s, machine, host, port, host_key, incarnation, transport, addressing, account
        )
        invite = Invite(code.id, derived(secret).hex(), expires_s, dial_key(secret)[1])
        self._keep([*self.all(), invite])
        return code

    def check(self, id: str, given: bytes, body: bytes, now_s: int) -> str | None:  # noqa: A002 - its name on the wire
        """Why an ask is refused, or None: the code is good, and whoever asks has its secret."""
        invite = next((each for each in self.all() if each.id == id), None)
        if invite is None or not hmac.compare_digest(proof(bytes.fromhex(invite.key), body), given):
            return "the code is wrong"
        if invite.used_s is not None:
            return f"the code was used, by {invite.used_by}"
        return None if now_s < invite.expires_s else "the code has expired"

    def use(self, id: str, by: str, now_s: int) -> None:  # noqa: A002
        """Remember that a code is used: on the disk when this returns."""
        self._keep([msgspec.structs.replace(i, used_s=now_s, used_by=by) if i.id == id else i for i in self.all()])

    def _keep(self, invites: list[Invite]) -> None:
        spent = [invite for invite in invites if invite.used_s is not None]
        while len(invites) > KEPT_MAX and spent:
            invites.remove(spent.pop(0))
        self._folder.replace(FILE, msgspec.json.encode(invites[-KEPT_MAX:]))


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_SUM_BYTES]
