"""A node's directory: what is in it, how it is made, and what `config.toml` may say.

    config.toml  node.ledger  host_key  dial_key  ledger_key  (and their .pub)  control.sock  peer.sock  invites.json
    authorized_keys (transport `ssh` only)  words

The directory has mode 0700, every file in it 0600; a key that others may read is refused. Three keys: `host_key` proves the
listener (transport `ccs`; in `ssh` that is sshd's), `dial_key` proves who dials, `ledger_key` signs the feed. What a cluster
agrees on (interval, limits, thresholds, names) stands in the ledger and not here; here stands what only this machine
needs to know of itself. A key that `config.toml` does not know is refused with the nearest that it knows. Effects: files.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta

from ledger import keys
from ledger.errors import Refused, Unwritable
from ledger.events import Machine, Word
from ledger.identity import MACHINE_PATTERN

CONFIG: Final = "config.toml"
LEDGER: Final = "node.ledger"
MODE: Final = 0o600
_ADDRESS: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]+)|([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*))(?:(?<!:):([0-9]{1,5}))?"
)
_SOCKET_MAX: Final = 100
"""A Unix socket's path has 107 bytes at most on Linux; some are left for a name beside it."""

Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]
Limit = Annotated[int, Meta(ge=1, le=100_000)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a node is told about itself. `listen`, `port`: where it accepts (`ccs`; port 0: the kernel's choice, for tests);
    `account`: the account whose sshd key file it keeps (`ssh`); `dns_servers`: `address` or `address:port`, the system's if
    none; `sshd_host_key`: the public key of the machine's own sshd (`ssh`).
    """

    machine: Machine
    listen: Word = "0.0.0.0"  # noqa: S104 - a mesh is there to be reached; sshd listens so, too
    port: Annotated[int, Meta(ge=0, le=65535)] = 2222
    account: Word | None = None
    sshd_host_key: Annotated[str, Meta(max_length=1024)] | None = None
    dns_servers: tuple[Word, ...] = ()
    dns_timeout_ms: Milliseconds = 500
    dns_lifetime_ms: Milliseconds = 2_000
    dial_timeout_ms: Milliseconds = 10_000
    login_timeout_ms: Milliseconds = 10_000
    connections_max: Limit = 256
    unauthenticated_max: Limit = 64
    strangers_max: Limit = 8

    @property
    def servers(self) -> list[tuple[str, int]]:
        """The configured DNS servers. Raises Refused for one that is no address with or without a port."""
        return [address_of(text, 53) for text in self.dns_servers]


def address_of(text: str, default_port: int) -> tuple[str, int]:
    """`address`, `address:port` or `[v6]:port` as (address, port). Raises Refused for anything else."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise Refused(f"{text!r} is no address with a port", hint="such as 192.0.2.53:53 or [2001:db8::53]:53")
    six, four, bare, port = found.groups()
    number = int(port) if port else default_port
    if not 0 < number < 65536:
        raise Refused(f"{text!r}: there is no port {number}")
    return six or four or bare, number


def parse(text: str, where: str) -> Config:
    """The configuration in a TOML text. Raises Refused, naming the key and what would be right."""
    try:
        return msgspec.toml.decode(text, type=Config)
    except msgspec.DecodeError as error:
        said = str(error)
        hint = None
        if "unknown field" in said:
            unknown = said.split("`")[1]
            near = difflib.get_close_matches(unknown, Config.__struct_fields__, 1)
            hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(Config.__struct_fields__)}"
        raise Refused(f"{where}: {said}", hint=hint) from None


def written(config: Config) -> str:
    """A configuration as TOML text, defaults left out."""
    lines = ["# Of this machine only: what the cluster agrees on stands in its ledger."]
    plain = Config(machine=config.machine)
    for name in Config.__struct_fields__:
        value: Any = getattr(config, name)
        if name == "machine" or value != getattr(plain, name):
            lines.append(f"{name} = {msgspec.json.encode(value).decode()}")  # as TOML, texts, numbers and arrays read the same
    return "\n".join(lines) + "\n"


def default_machine(hostname: str) -> str:
    """The machine's name as it would be taken from its host name: the first label, in lower case. Raises Refused if it
    cannot be one.
    """
    label = hostname.split(".", maxsplit=1)[0].lower()
    if not re.fullmatch(MACHINE_PATTERN.removeprefix("^").removesuffix("$"), label):
        raise Refused(f"{label!r} cannot name a machine", hint="give one with --machine, such as alpha")
    return label


class NodeDir:
    """A node's directory at `path`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def make(cls, path: str | Path) -> Self:
        """A new directory, or an empty one that is there. Raises Refused if it holds a node already, Unwritable."""
        made = cls(path)
        if (made.path / CONFIG).exists() or made.ledger.exists():
            raise Refused(f"{made.path} holds a node already", hint="name another directory with --dir")
        try:
            made.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            made.path.chmod(0o700)
        except OSError as error:
            raise Unwritable(f"{made.path}: {error.strerror}") from error
        return made

    @classmethod
    @contextmanager
    def making(cls, path: str | Path) -> Iterator[Self]:
        """The same for what is put there as a whole: if that fails, what was put there so far is taken away again."""
        there = Path(path).exists()
        made = cls.make(path)
        before = set(made.path.iterdir())
        try:
            yield made
        except BaseException:
            for each in set(made.path.iterdir()) - before:
                each.unlink(missing_ok=True)
            if not there:
                made.path.rmdir()
            raise

    @property
    def ledger(self) -> Path:
        """The node's ledger file."""
        return self.path / LEDGER

    def file(self, name: str) -> Path:
        """The file or socket of this name."""
        return self.path / name

    def words(self) -> bytes:
        """What the file `words` holds; nothing if there is none."""
        return self.file("words").read_bytes() if self.file("words").exists() else b""

    def config(self) -> Config:
        """The configuration. Raises Refused if there is none, or it does not read."""
        try:
            text = (self.path / CONFIG).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise Refused(
                f"{self.path} holds no node", hint="`meshledger init` founds a cluster here, `meshledger join CODE` joins one"
            ) from None
        except (OSError, UnicodeError) as error:
            raise Refused(f"{self.path / CONFIG}: {error}") from None
        return parse(text, str(self.path / CONFIG))

    def set_config(self, config: Config) -> None:
        """Write the configuration, whole or not at all."""
        self.replace(CONFIG, written(config).encode())

    def replace(self, name: str, data: bytes) -> None:
        """Write a file of mode 0600 beside its place and rename it: it is whole, on the disk, or as it was."""
        target, fresh = self.path / name, self.path / f".{name}.new"
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(target)
            self._keep_names()
        except OSError as error:
            raise Unwritable(f"{target}: {error.strerror}") from error

    def _keep_names(self) -> None:
        """What was renamed here survives a power cut from now on. Raises OSError."""
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def make_keys(self, *, host: bool = True) -> None:
        """The three keys (without `host`, two), each in a new file. Raises Refused if one is there already."""
        keys.save(keys.generate(), self.path / "ledger_key")
        for name in ("host_key", "dial_key") if host else ("dial_key",):
            self._make_ssh_key(name)

    def _make_ssh_key(self, name: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

        if (self.path / name).exists():
            raise Refused(f"{self.path / name} exists", hint="a key is never overwritten")
        private = Ed25519PrivateKey.generate()
        self.replace(name, private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.replace(f"{name}.pub", public + b"\n")

    def renew(self, role: str) -> tuple[Path, str]:
        """A new `host`, `dial` or `ledger` key beside the old one, not yet in its place: its path, and the public key as text."""
        name = f"{role}_key.next"
        (self.path / name).unlink(missing_ok=True)
        if role == "ledger":
            fresh = keys.generate()
            keys.save(fresh, self.path / name)
            return self.path / name, fresh.text
        self._make_ssh_key(name)
        return self.path / name, self.public(name)

    def adopt_ledger(self, public: str) -> keys.LedgerKey:
        """Put the new ledger key in its place, if it is this one; returns it. Raises Refused if there is no such new key."""
        fresh = self.path / "ledger_key.next"
        key = keys.load(fresh)
        if key.text != public:
            raise Refused(f"{fresh} is another key", hint="the one that is recorded is lost: leave, and join again")
        try:
            fresh.replace(self.path / "ledger_key")
            self._keep_names()
        except OSError as error:
            raise Unwritable(f"{fresh}: {error.strerror}") from error
        return key

    def adopt(self, role: str, public: str) -> None:
        """Put the new `host` or `dial` key in its place, if it is this one: the private half first, so that whatever moment the
        power goes at, `settle` can end it. Raises Refused if there is no such new key.
        """
        name, fresh = f"{role}_key", f"{role}_key.next"
        if self.public(fresh) != public:
            raise Refused(f"{self.path / fresh} is another key", hint="the one that is recorded is lost: leave, and join again")
        try:
            if (self.path / fresh).exists():
                (self.path / fresh).replace(self.path / name)
            (self.path / f"{fresh}.pub").replace(self.path / f"{name}.pub")
            self._keep_names()
        except OSError as error:
            raise Unwritable(f"{self.path / name}: {error.strerror}") from error

    def settle(self, role: str, recorded: str | None) -> None:
        """At a start: a new key that is recorded gets its place, one that is not is forgotten."""
        name, fresh = f"{role}_key", f"{role}_key.next"
        if not (self.path / f"{fresh}.pub").exists():
            return
        if recorded is not None and self.public(fresh) == recorded and self.public(name) != recorded:
            self.adopt(role, recorded)
        else:
            for each in (fresh, f"{fresh}.pub"):
                (self.path / each).unlink(missing_ok=True)

    def public(self, name: str) -> str:
        """The public half of `host_key` or `dial_key`: `ssh-ed25519 AAAA…`, without comment. Raises Refused if none."""
        try:
            words = (self.path / f"{name}.pub").read_text(encoding="ascii").split()
        except (OSError, UnicodeError) as error:
            raise Refused(f"{self.path / name}.pub: {error}", hint="the node's directory lacks a key") from None
        return " ".join(words[:2])

    def ledger_key(self) -> keys.LedgerKey:
        """The key that signs this node's feed."""
        return keys.load(self.path / "ledger_key")


def reachable(path: Path) -> str:
    """A spelling of a Unix socket's path that is short enough for the kernel, whatever folder it is in. It holds while this
    process keeps the folder open: for longer paths a descriptor of it stays open for good.
    """
    if len(os.fsencode(path)) <= _SOCKET_MAX:
        return str(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{folder}/{path.name}"
