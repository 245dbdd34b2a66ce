"""Whether this machine's sshd lets the cluster in: its limits, the node's lines in it, and the way to the key file.

Judged is what `sshd -T` says for the account (Match blocks applied), so what sshd will do and not what a file seems to say. That
needs no root: an ordinary user's sshd reads the same configuration, given any host key that it may read. What cannot be
looked at is `unknown`, not fine. Effects: one run of sshd, the modes of a few folders, the account's entry.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final

from ledger.node.doctor import Check
from ledger.node.sshd import SshdLimits, limits

_SBIN: Final = "/usr/sbin:/sbin:/usr/local/sbin"
_SAYS_S: Final = 10.0
_LINES: Final = "put the lines of `meshledger sshd-config` into sshd's configuration and reload it"


def sshd_says(account: str, host_key: Path | None = None, config: Path | None = None) -> str | None:
    """What `sshd -T` prints for `account`; None if there is no sshd, or it does not say. `host_key`: a private key that this
    user may read, for whoever is not root; `config`: another configuration than the system's.
    """
    server = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{_SBIN}")
    if server is None:
        return None
    command = [server, "-T", "-C", f"user={account},host=localhost,addr=127.0.0.1"]
    command += ["-f", str(config)] if config is not None else []
    command += ["-h", str(host_key)] if host_key is not None else []
    try:
        said = subprocess.run(command, capture_output=True, timeout=_SAYS_S, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.decode("utf-8", "replace") if said.returncode == 0 else None


def examine_sshd(said: str | None, keys_file: Path, account: str, machines: int) -> list[Check]:
    """All checks of this machine's sshd for a cluster of `machines`; `said`: what `sshd_says` gave."""
    checks = [_account(account)]
    if said is None:
        hint = "is sshd installed here? As root: sshd -T"
        return [*checks, Check(name="sshd", verdict="unknown", said="sshd does not say how it is configured", hint=hint)]
    told = limits(said)
    checks += judge(told, keys_file, machines)
    if told.strict_modes is not False:
        checks.append(_modes(keys_file, account))
    return checks


def judge(told: SshdLimits, keys_file: Path, machines: int) -> list[Check]:
    """What the configuration means for a cluster of `machines`, of which all others may dial at once."""
    others = max(1, machines - 1)
    checks = []
    if told.pubkey is False:
        checks.append(Check(name="sshd-keys", verdict="bad", said="sshd takes no public keys", reason="auth-failed", hint=_LINES))
    elif told.keys_files is None or str(keys_file) not in told.keys_files:
        said = f"sshd does not read {keys_file}"
        checks.append(Check(name="sshd-keys", verdict="bad", said=said, reason="auth-failed", hint=_LINES))
    else:
        checks.append(Check(name="sshd-keys", verdict="ok", said=f"sshd reads {keys_file}"))
    if told.subsystem is None:
        said = "sshd has no subsystem mesh"
        checks.append(Check(name="sshd-subsystem", verdict="bad", said=said, reason="transport-mismatch", hint=_LINES))
    else:
        checks.append(Check(name="sshd-subsystem", verdict="ok", said="sshd has the subsystem mesh"))
    checks.append(_sessions(told))
    checks.append(_startups(told, others))
    return checks


def _sessions(told: SshdLimits) -> Check:
    if told.sessions is None:
        return Check(name="sshd-sessions", verdict="unknown", said="MaxSessions is not known")
    if told.sessions < 1:
        said, hint = "MaxSessions 0: sshd opens no session", "MaxSessions 10"
        return Check(name="sshd-sessions", verdict="bad", said=said, reason="connection-limit", hint=hint)
    return Check(name="sshd-sessions", verdict="ok", said=f"MaxSessions {told.sessions}; a link needs one")


def _startups(told: SshdLimits, others: int) -> Check:
    """Above `begin` connections that have not logged in sshd drops some, above `full` all others (sshd_config(5))."""
    if told.startups_begin is None or told.startups_full is None:
        return Check(name="sshd-startups", verdict="unknown", said="MaxStartups is not known")
    said = f"MaxStartups {told.startups_begin}:{told.startups_rate}:{told.startups_full}, {others} others may dial at once"
    if told.startups_full < 1:
        return Check(name="sshd-startups", verdict="bad", said=said, reason="connection-limit", hint="MaxStartups 10:30:100")
    if told.startups_begin < others:
        hint = f"MaxStartups {2 * others}:30:{max(100, 4 * others)}, else some links stand only at the next try"
        return Check(name="sshd-startups", verdict="warning", said=said, reason="connection-limit", hint=hint)
    return Check(name="sshd-startups", verdict="ok", said=said)


def _account(account: str) -> Check:
    """The bridge runs as the account, with its shell, and has to reach the node's socket."""
    try:
        entry = pwd.getpwnam(account)
    except KeyError:
        hint = f"useradd --system --create-home --shell /bin/sh {account}"
        return Check(name="account", verdict="bad", said=f"there is no account {account} here", reason="auth-failed", hint=hint)
    if Path(entry.pw_shell).name in {"nologin", "false"}:
        said = f"the shell of {account} is {entry.pw_shell}, which runs no bridge"
        return Check(name="account", verdict="bad", said=said, reason="auth-failed", hint=f"chsh --shell /bin/sh {account}")
    if entry.pw_uid != os.getuid():
        said = f"this runs under uid {os.getuid()}, the account {account} is {entry.pw_uid}"
        hint = f"run the node as {account}: its socket is open to that account alone"
        return Check(name="account", verdict="warning", said=said, hint=hint)
    return Check(name="account", verdict="ok", said=f"{account} runs {entry.pw_shell}")


def _modes(keys_file: Path, account: str) -> Check:
    """What StrictModes asks: the file and the folders above it, up to the account's home if it is within, belong to root or to
    the account, and nobody else may write there (sshd, safe_path).
    """
    try:
        entry = pwd.getpwnam(account)
        real = keys_file.resolve()
        home = Path(entry.pw_dir).resolve()
        for place in (real, *real.parents):
            if not place.exists() and place == real:
                continue
            said = place.stat()
            if said.st_uid not in {0, entry.pw_uid} or stat.S_IMODE(said.st_mode) & 0o022:
                return Check(
                    name="sshd-modes",
                    verdict="bad",
                    said=f"others may write to {place}: sshd will not trust {keys_file}",
                    reason="auth-failed",
                    hint="keep the node's directory below the account's home, or below /var/lib",
                )
            if place == home:
                break
    except (KeyError, OSError) as error:
        return Check(name="sshd-modes", verdict="unknown", said=f"{keys_file}: {error}")
    return Check(name="sshd-modes", verdict="ok", said=f"nobody else may write to {keys_file}")
