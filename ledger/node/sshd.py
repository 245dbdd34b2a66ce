"""What this machine's own OpenSSH server is told, and what it says of itself: texts, and nothing is done with them here.

The transport `ssh` comes in through sshd. A member's key stands in a file of the node's own, each line
`restrict,command="… --key FINGERPRINT" KEY`: it opens the bridge to the node and nothing else. Keys come from the log, so from
others: a text that is not exactly one Ed25519 key never becomes a line (one with a line break in it would be a login).
`sshd_lines` is what an administrator puts into sshd's configuration; `limits` reads what `sshd -T` prints
(sshd_config(5), sshd(8) "AUTHORIZED_KEYS FILE FORMAT"). Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from ledger.errors import Refused
from ledger.identity import MACHINE_PATTERN

SUBSYSTEM_COMMAND: Final = "/bin/false mesh"
"""What sshd would run for the subsystem without a forced command: nothing. Its last word tells the bridge what was asked."""
_PREFIX: Final = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"
_ACCOUNT: Final = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


def key_of(text: str) -> str | None:
    """`text` as one Ed25519 public key, `ssh-ed25519 AAAA…` without comment (RFC 8709 section 4); None if it is none."""
    words = text.split(" ")
    if len(words) < 2 or words[0] != "ssh-ed25519" or not text.isprintable():
        return None
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(blob) != len(_PREFIX) + 32 or not blob.startswith(_PREFIX):
        return None
    return f"ssh-ed25519 {base64.b64encode(blob).decode('ascii')}"


def fingerprint(key: str) -> str:
    """The fingerprint of a public key as ssh-keygen shows it: `SHA256:` and base64 without padding. Raises Refused."""
    try:
        blob = base64.b64decode(key.split(" ")[1], validate=True)
    except (binascii.Error, ValueError, IndexError):
        raise Refused(f"{key[:40]!r} is no public key") from None
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def authorized_keys(keys: Iterable[tuple[str, str]], command: Sequence[str]) -> str:
    """The key file for these (key, machine): `command`, with `--key FINGERPRINT` behind it, is all that a key opens. What is
    no key, or no name, gets no line. Raises Refused for a command that cannot stand in a line.
    """
    lines = ["# Of the node, from the cluster's membership: rewritten whenever that changes.\n"]
    seen = set()
    for text, machine in keys:
        key = key_of(text)
        if key is None or key in seen:
            continue
        seen.add(key)
        name = machine if re.fullmatch(MACHINE_PATTERN.removeprefix("^").removesuffix("$"), machine) else "unnamed"
        lines.append(f'restrict,command="{_quoted([*command, "--key", fingerprint(key)])}" {key} {name}\n')
    return "".join(lines)


def _quoted(command: Sequence[str]) -> str:
    """A command for the account's shell, within the double quotes of an option."""
    text = shlex.join(command)
    if not text.isprintable():
        raise Refused("the bridge's path has signs that cannot stand in a key file", hint="choose another directory")
    return text.replace("\\", "\\\\").replace('"', '\\"')


def sshd_lines(account: str, keys_file: str, *, own_keys: bool = False) -> str:
    """What sshd's configuration needs for the account that runs the node. `own_keys`: the account's own
    `~/.ssh/authorized_keys` keeps opening what it opened (an account that people log in to). Raises Refused.
    """
    if not _ACCOUNT.fullmatch(account):
        raise Refused(f"{account!r} is no account name that sshd's Match can be given")
    if not keys_file.startswith("/") or not keys_file.isprintable() or '"' in keys_file or "%" in keys_file:
        raise Refused(f"{keys_file!r} cannot stand in sshd's configuration", hint="choose another directory")
    files = f'"{keys_file}"' if not own_keys else f'.ssh/authorized_keys "{keys_file}"'
    only = (
        ""
        if own_keys
        else """\
    AuthenticationMethods publickey
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    PermitTTY no
    DisableForwarding yes
    PermitUserRC no
"""
    )
    return f"""\
# Meshledger: the cluster's links come in through this server. Put this into /etc/ssh/sshd_config.d/meshledger.conf (the
# last block of a configuration, as Match goes on to its end), check with `sshd -t`, and reload sshd.
# The account needs a login shell that runs commands (/bin/sh); the keys in the file open the bridge to the node, no shell.
Subsystem mesh {SUBSYSTEM_COMMAND}
Match User {account}
    AuthorizedKeysFile {files}
    PubkeyAuthentication yes
{only}    ClientAliveInterval 30
    ClientAliveCountMax 3
Match all
"""


class SshdLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What sshd lets in, as far as its configuration says so; None where it does not say. `keys_files`: all of them in one
    text, as sshd prints it (without quotes).
    """

    startups_begin: int | None = None
    startups_rate: int | None = None
    startups_full: int | None = None
    sessions: int | None = None
    grace_s: int | None = None
    subsystem: str | None = None
    keys_files: str | None = None
    pubkey: bool | None = None
    strict_modes: bool | None = None
    ports: tuple[int, ...] = ()


def limits(said: str) -> SshdLimits:
    """What `sshd -T` printed (its defaults filled in, one `keyword value` a line, the keyword in lower case). A configuration
    file reads the same way, as far as it says anything; of what stands twice the first counts, as in sshd.
    """
    found: dict[str, str] = {}
    subsystem = None
    ports: list[int] = []
    for line in said.splitlines():
        keyword, _, value = line.strip().partition(" ")
        keyword, value = keyword.lower(), value.strip()
        if keyword == "subsystem" and value.split()[:1] == ["mesh"]:
            subsystem = subsystem or value.partition(" ")[2].strip()
        elif keyword == "port" and value.isdigit():
            ports.append(int(value))
        elif keyword and not keyword.startswith("#"):
            found.setdefault(keyword, value)
    begin, rate, full = _startups(found.get("maxstartups", ""))
    return SshdLimits(
        startups_begin=begin,
        startups_rate=rate,
        startups_full=full,
        sessions=_number(found.get("maxsessions")),
        grace_s=_number(found.get("logingracetime")),
        subsystem=subsystem,
        keys_files=found.get("authorizedkeysfile"),
        pubkey=_yes(found.get("pubkeyauthentication")),
        strict_modes=_yes(found.get("strictmodes")),
        ports=tuple(ports),
    )


def _startups(text: str) -> tuple[int | None, int | None, int | None]:
    """MaxStartups: `begin:rate:full`, or one number."""
    parts = [_number(each) for each in text.split(":")]
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    return parts[0], None, parts[0]


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _yes(text: str | None) -> bool | None:
    return None if text is None else text.lower() == "yes"
