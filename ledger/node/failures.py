"""What an exception of the wire means, in the log's closed list of reasons.

The verbatim text is kept as `detail`, cut and without control characters; the reason is judged from the class and from
the codes of RFC 4253 section 11.1 and RFC 4254 section 5.1. Of OpenSSH two things are known that no code says: it turns a
connection away above its limits with a line of text before its version, and answers a session above `MaxSessions` with
`open failed`. No effects: exceptions in, words out.
"""

from __future__ import annotations

import errno
from typing import Final

import asyncssh

from ledger.events import Reason

DETAIL_MAX: Final = 400
_PROTOCOL: Final = {
    asyncssh.DISC_PROTOCOL_ERROR, asyncssh.DISC_KEY_EXCHANGE_FAILED, asyncssh.DISC_MAC_ERROR, asyncssh.DISC_COMPRESSION_ERROR,
    asyncssh.DISC_SERVICE_NOT_AVAILABLE, asyncssh.DISC_PROTOCOL_VERSION_NOT_SUPPORTED,
}  # fmt: skip
_CODES: Final[dict[int, Reason]] = {
    **dict.fromkeys(_PROTOCOL, "protocol-error"),
    asyncssh.DISC_HOST_NOT_ALLOWED_TO_CONNECT: "refused",
    asyncssh.DISC_HOST_KEY_NOT_VERIFIABLE: "host-key-mismatch",
    asyncssh.DISC_CONNECTION_LOST: "closed",
    asyncssh.DISC_BY_APPLICATION: "closed",
    asyncssh.DISC_TOO_MANY_CONNECTIONS: "connection-limit",
    asyncssh.DISC_AUTH_CANCELLED_BY_USER: "auth-failed",
    asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE: "auth-failed",
    asyncssh.DISC_ILLEGAL_USER_NAME: "auth-failed",
}
_ERRNOS: Final[dict[int, Reason]] = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ECONNABORTED: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "no-route",
    errno.ENETUNREACH: "no-route",
}
TURNED_AWAY: Final = ("Exceeded MaxStartups", "Not allowed at this time")
"""How OpenSSH's listener turns a connection away, before its version (sshd.c; `PerSourcePenalties` since 9.8)."""


def shown(text: str) -> str:
    """A text from outside, fit for a `detail`: printable, at most 400 characters."""
    clean = "".join(sign if sign.isprintable() else " " for sign in text).strip()
    return clean if len(clean) <= DETAIL_MAX else clean[: DETAIL_MAX - 1] + "…"


def reason_of(error: BaseException | None) -> tuple[Reason, str]:
    """(reason, detail) of what ended or prevented a connection; None: it was closed in order."""
    if error is None:
        return "closed", "closed by the other side"
    detail = shown(str(error)) or type(error).__name__
    match error:
        case asyncssh.PermissionDenied():
            return "auth-failed", detail
        case asyncssh.ChannelOpenError():
            return _session_refused(error), detail
        case asyncssh.DisconnectError():
            if error.code == asyncssh.DISC_PROTOCOL_ERROR and "authentication failures" in error.reason:
                return "auth-failed", detail
            if error.code == asyncssh.DISC_CONNECTION_LOST and "imeout" in error.reason:
                return "timeout", detail
            return _CODES.get(error.code, "protocol-error"), detail
        case TimeoutError():
            return "timeout", detail if str(error) else "no answer in time"
        case OSError():
            return _ERRNOS.get(error.errno or 0, "unknown"), detail
        case _:
            return "unknown", detail


def _session_refused(error: asyncssh.ChannelOpenError) -> Reason:
    """What it means that a peer which let us in gives us no session, or no mesh in it."""
    if error.code == asyncssh.OPEN_RESOURCE_SHORTAGE or error.reason == "open failed":
        return "connection-limit"
    if error.reason == "SSH connection closed":
        return "closed"
    return "transport-mismatch"


def before_version(heard: bytes, error: BaseException) -> tuple[Reason, str] | None:
    """The reason, if what the peer said before any SSH version explains the failure better; None if it said nothing."""
    if not heard or heard.startswith(b"SSH-"):
        return None
    line = shown(heard.split(b"\n", 1)[0].decode("utf-8", "replace"))
    if line.startswith(TURNED_AWAY):
        return "connection-limit", line
    if isinstance(error, asyncssh.HostKeyNotVerifiable | asyncssh.PermissionDenied):
        return None
    return "protocol-error", f"not SSH: {line}"
