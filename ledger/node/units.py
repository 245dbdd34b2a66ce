"""The systemd unit under which a node runs: what `systemd-unit` prints.

`Type=notify`: the service is up once the ledger is verified and the node accepts. The watchdog restarts a node that no
longer writes. It stops on SIGTERM. A text; nothing is installed. No effects.
"""

from __future__ import annotations

from pathlib import Path


def unit(program: Path, folder: Path, account: str, cluster: str) -> str:
    """The unit of the node in `folder`, run as `account` by `program`."""
    return f"""\
[Unit]
Description=Meshledger node of cluster {_plain(cluster)}
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target nss-lookup.target time-sync.target

[Service]
Type=notify
ExecStart={_word(program)} run --dir {_word(folder)}
User={account}
WatchdogSec=120
Restart=on-failure
RestartSec=2
TimeoutStopSec=30
UMask=0077
LimitNOFILE=4096
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome={"yes" if folder.parts[1:2] in {(), ("var",), ("srv",), ("opt",)} else "no"}
PrivateTmp=yes
ReadWritePaths={_word(folder)}
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
LockPersonality=yes
RestrictRealtime=yes

[Install]
WantedBy=multi-user.target
"""


def _plain(text: str) -> str:
    """Without what systemd would read as a specifier or a new line."""
    return "".join(each for each in text if each.isprintable()).replace("%", "%%")


def _word(path: Path) -> str:
    """A path as one word of a command line (systemd.syntax(7))."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if any(each.isspace() or each in "\"'\\;" for each in text) else text
