"""What systemd is told, and the unit it is told through."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from ledger.node.notify import Notify
from ledger.node.units import unit


@pytest.mark.parametrize("abstract", [False, True])
def test_each_word_is_a_datagram(tmp_path, abstract):
    """Ready with a status, the watchdog, stopping, over a socket in a folder or in the abstract."""
    name = f"\0meshledger-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(name)
        there.settimeout(5)
        notify = Notify({"NOTIFY_SOCKET": name.replace("\0", "@"), "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())})
        assert notify.interval_s == 1
        notify.ready("5 members\nlinked")
        notify.well()
        notify.stopping()
        assert [there.recv(100) for _ in range(3)] == [b"READY=1\nSTATUS=5 members linked", b"WATCHDOG=1", b"STOPPING=1"]


def test_where_nobody_listens_nothing_happens():
    """Without the socket, and with one that is gone, the node runs all the same."""
    Notify({}).ready("well")
    gone = Notify({"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "x"})
    gone.ready("well")
    assert (gone.interval_s, Notify({"WATCHDOG_USEC": "2000000"}).interval_s) == (None, None)


def test_the_unit_is_one_that_systemd_reads(tmp_path):
    """The check of systemd itself finds nothing wrong with it, also for a folder with a space and a percent sign."""
    text = unit(Path("/usr/bin/env"), Path("/var/lib/mesh ledger/50%"), "daemon", "lab %n\n[Service]")
    assert 'ExecStart=/usr/bin/env run --dir "/var/lib/mesh ledger/50%%"' in text
    assert text.count("[Service]") == text.count("\n[Service]\n") + 1
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze needs a machine that runs systemd")
    (tmp_path / "meshledger.service").write_text(text)
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "meshledger.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "meshledger.service" not in said.stderr
