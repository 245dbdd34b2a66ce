"""Signed: texts, and heads of logs, that an outsider can check (C2SP signed-note v1.0.0, tlog-checkpoint v1.0.0).

A *note* is a text, a blank line, and signature lines. What a note says counts only once `open_note` has found a
signature by a key that its reader knew before; signatures by unknown keys are passed over, a false one by a known key
spoils the note. A *checkpoint* is a note that names a log (`origin`), a tree size and a root: a feed's signed head.
A *bundle* is several notes in one file, a blank line after each but the last.

Only Ed25519 (RFC 8032; signature type 0x01) is spoken. What was read always formats back to the same text; anything
else is Refused. `cryptography` is loaded when a signature is checked, never by reading. No files here, and no private
key: who signs is handed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from ledger.errors import BadProof, BadSignature, Refused
from ledger.texts import from_base64, hash_from_base64, is_number, plain, to_base64

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURES_MAX: Final = 100
"""More signature lines than this make no note; C2SP asks for at least 16."""

_ED25519: Final = b"\x01"
_DASH: Final = "— "
_KEY_PREFIX: Final = "ed25519:"


class Signer(Protocol):
    """Who can sign: `public` are the 32 bytes of the Ed25519 public key, `sign` gives 64 bytes (RFC 8032)."""

    @property
    def public(self) -> bytes:
        """The 32 bytes of the public key."""

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature over `message`."""


class VerifierKey(msgspec.Struct, frozen=True, gc=False):
    """A public key under a name, as verifiers know it. `public`: 32 bytes. As text: `name+hash+base64`."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        if not _names_key(plain(self.name, "key's name")):
            raise Refused(f"{self.name!r} cannot name a key", hint="a key's name has neither spaces nor '+'")
        if len(self.public) != 32:
            raise Refused(f"an Ed25519 public key has 32 bytes, this one {len(self.public)}")

    @property
    def id(self) -> bytes:
        """The key's hash: the first 4 bytes of SHA-256(name || 0x0A || 0x01 || public key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """The key that `name+hash+base64` spells. Raises Refused if it spells none, or one of another type."""
        name, _, rest = text.partition("+")
        digits, _, encoded = rest.partition("+")
        material = from_base64(encoded)
        if material is None or len(material) != 33 or material[:1] != _ED25519:
            raise Refused(f"{text!r} is no Ed25519 verifier key", hint="such as name+c74f20a3+ARpc2QcU…")
        key = cls(name, material[1:])
        if digits != key.id.hex():
            raise Refused(f"{text!r}: the hash of this name and key is {key.id.hex()}")
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{to_base64(_ED25519 + self.public)}"


class Signature(msgspec.Struct, frozen=True, gc=False):
    """One signature line: who claims to have signed (`name`, 4 bytes `id`), and the bytes of the signature."""

    name: str
    id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {to_base64(self.id + self.value)}"


class Note(msgspec.Struct, frozen=True, gc=False):
    """A text, with its last newline, and signatures that nobody has checked yet. `str(note)` is the file."""

    text: str
    signatures: tuple[Signature, ...]

    @property
    def signature_lines(self) -> str:
        """The signature lines alone, each with its newline. A note is its text, a newline, and these."""
        return "".join(f"{signature}\n" for signature in self.signatures)

    def __str__(self) -> str:
        return f"{self.text}\n{self.signature_lines}"


class Opened(msgspec.Struct, frozen=True, gc=False):
    """A note whose text may be believed: it was signed by every key in `by`, of which there is at least one."""

    text: str
    by: tuple[VerifierKey, ...]


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """A log's head: `size` leaves whose tree has this 32-byte `root`. `extensions`: further lines, none in ours."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text of the note."""
        return "\n".join((self.origin, str(self.size), to_base64(self.root), *self.extensions, ""))

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The head that this note text states; whether it is true is for `open_checkpoint`. Raises Refused."""
        *lines, end = plain(text, "checkpoint").split("\n")
        if len(lines) < 3 or not all(lines) or end or not is_number(lines[1]):
            raise Refused("this is no checkpoint", hint="a checkpoint's lines are origin, size and root in base64")
        return cls(lines[0], int(lines[1]), hash_from_base64(lines[2]), tuple(lines[3:]))


# Keys and bare signatures.


def key_text(public: bytes) -> str:
    """A ledger key as it stands in events: `ed25519:` and the base64 of its 32 bytes."""
    return _KEY_PREFIX + to_base64(public)


def key_bytes(text: str) -> bytes:
    """The 32 bytes of a ledger key as it stands in events. Raises Refused if the text is no such key."""
    public = from_base64(text.removeprefix(_KEY_PREFIX)) if text.startswith(_KEY_PREFIX) else None
    if public is None or len(public) != 32:
        raise Refused(f"{text!r} is no ledger key", hint="a ledger key is 'ed25519:' and 32 bytes in base64")
    return public


@lru_cache(maxsize=256)
def _public(key: bytes) -> Ed25519PublicKey:
    """A key that is asked again and again, made ready once."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(key)


def signed_by(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) over `message` is by the Ed25519 key `public` (32 bytes), after RFC 8032."""
    from cryptography.exceptions import InvalidSignature

    try:
        _public(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


# Notes.


def parse_note(text: str) -> Note:
    """The note that `text` is, from its first byte to its last; nothing in it is believed yet. Raises Refused."""
    head, blank, tail = plain(text, "note").rpartition("\n\n")
    lines = tail.split("\n")
    if not blank or lines.pop() or not 0 < len(lines) <= SIGNATURES_MAX:
        raise Refused("this is no signed note", hint="a note is a text, a blank line, and 1 to 100 signature lines")
    return Note(head + "\n", tuple(_signature(line) for line in lines))


def sign_note(text: str, name: str, *signers: Signer) -> str:
    """`text`, which must end in a newline, as a note signed by `signers`, whose keys verifiers know as `name`."""
    if not text.endswith("\n") or not signers:
        raise Refused("a note's text ends in a newline, and somebody signs it")
    message = plain(text, "note").encode()
    made = (Signature(name, VerifierKey(name, one.public).id, one.sign(message)) for one in signers)
    return str(Note(text, tuple(made)))


def open_note(text: str | Note, keys: Iterable[VerifierKey]) -> Opened:
    """The note's text, once at least one of `keys` has signed it.

    Lines by other keys are passed over, as are those that share only name or hash with one of `keys`. Raises
    BadSignature if a line by one of `keys` does not verify, or if there is none; Refused if this is no note, or if two
    different keys share name and hash.
    """
    note = parse_note(text) if isinstance(text, str) else text
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.id), key) != key:
            raise Refused(f"two keys are called {key.name}+{key.id.hex()}")
    message, by = note.text.encode(), dict[VerifierKey, None]()
    for signature in note.signatures:
        signer = known.get((signature.name, signature.id))
        if signer is None:
            continue
        if not signed_by(signer.public, message, signature.value):
            raise BadSignature(f"the signature by {signer.name}+{signer.id.hex()} does not fit the text")
        by[signer] = None
    if not by:
        raise BadSignature("the note is not signed by any key that is known")
    return Opened(note.text, tuple(by))


def parse_notes(text: str) -> list[Note]:
    """The notes of a bundle. Raises Refused if `text` is none; an empty text is an empty bundle.

    A note in a bundle ends where a blank line, or the end, follows a block of signature lines. Its text has no such
    block, and does not begin with a blank line: so two notes run together are never taken for one.
    """
    if not text:
        return []
    notes, block, signed = [], list[str](), False
    for line in plain(text, "bundle of notes").split("\n"):
        dashed = line.startswith(_DASH)
        if signed and not line:
            notes.append(parse_note("\n".join([*block, ""])))
            block, signed = [], False
        elif (signed and not dashed) or not (block or line):
            raise _no_bundle()
        else:
            signed = dashed and (signed or (len(block) > 0 and not block[-1]))
            block.append(line)
    if block:
        raise _no_bundle()
    return notes


def format_notes(notes: Sequence[Note]) -> str:
    """The bundle of these notes. Raises Refused if one would not read back: if its text has the look of a note."""
    text = "\n".join(str(note) for note in notes)
    if parse_notes(text) != list(notes):
        raise _no_bundle()
    return text


# Checkpoints.


def sign_checkpoint(checkpoint: Checkpoint, *signers: Signer) -> str:
    """The checkpoint as a note, signed under its origin's name. Raises Refused if it would not read back as it is."""
    if Checkpoint.parse(checkpoint.text) != checkpoint:
        raise Refused("the checkpoint would not read back as it is", hint="an extension is one line")
    return sign_note(checkpoint.text, checkpoint.origin, *signers)


def open_checkpoint(text: str | Note, keys: Iterable[VerifierKey], *, origin: str) -> Checkpoint:
    """The head that one of `keys` signed for the log `origin`. Raises as `open_note` does; BadProof for another log."""
    checkpoint = Checkpoint.parse(open_note(text, keys).text)
    if checkpoint.origin != origin:
        raise BadProof(f"this is a checkpoint of {checkpoint.origin!r}, not of {origin!r}")
    return checkpoint


def _no_bundle() -> Refused:
    return Refused("this is no bundle of notes", hint="just one blank line stands between two notes")


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    data = from_base64(encoded)
    if not line.startswith(_DASH) or not _names_key(name) or data is None or len(data) < 5:
        raise Refused(f"{line!r} is no signature line", hint="such as: — name base64")
    return Signature(name, data[:4], data[4:])


def _names_key(name: str) -> bool:
    return bool(name) and "+" not in name and not any(sign.isspace() for sign in name)
