"""`meshledger run` as systemd runs it: when it says that it is ready, that it is well, and how it ends."""

import itertools
import signal
import socket
import statistics
import time

import pytest
from raised import raised

from ledger.store import Ledger
from replay.check import verify


@pytest.fixture
def told(tmp_path, monkeypatch):
    """A socket such as systemd gives a service, and a watchdog of 800 ms."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(str(tmp_path / "told"))
        there.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "told"))
        monkeypatch.setenv("WATCHDOG_USEC", "800000")
        yield there


def test_ready_well_and_ended_in_order(tmp_path, told):
    """READY=1 comes once the port is bound, WATCHDOG=1 within its patience from then on, STOPPING=1 on SIGTERM; every line of
    the log is an object of JSON, the last one says where the ledger ends, and the ledger verifies.
    """
    (node,) = raised(tmp_path, 1)
    node.run()
    try:
        assert told.recv(99) == b"READY=1\nSTATUS=alpha runs"
        with socket.create_connection(("127.0.0.1", node.port), 5) as there:
            assert there.recv(8) == b"SSH-2.0-"
        heard = []
        for _ in range(6):
            assert told.recv(99) == b"WATCHDOG=1"
            heard.append(time.monotonic())
        assert statistics.median(b - a for a, b in itertools.pairwise(heard)) < 0.7
    finally:
        code = node.kill(signal.SIGTERM)
    assert code == 0
    while (last := told.recv(99)) == b"WATCHDOG=1":
        pass
    assert last == b"STOPPING=1"
    lines = node.said()
    assert [line["event"] for line in lines] == ["started", "stopped"]
    assert node.complaints().splitlines() == ["alpha stopped"]
    with Ledger.open(node.folder.ledger) as ledger:
        (feed,) = ledger.feeds()
        assert lines[-1]["position"] == feed.at(ledger.reader(feed).head().last)
    assert verify([node.folder.ledger]).problems == []


def test_a_damaged_ledger_is_never_ready(tmp_path, told):
    """With one byte of its record altered a node does not start: exit 4, the damage is named, and READY=1 is not said."""
    (node,) = raised(tmp_path, 1)
    whole = node.folder.ledger.read_bytes()
    place = whole.rindex(b'"name":"lab"')
    node.folder.ledger.write_bytes(whole[:place] + b'"name":"lob"' + whole[place + 12 :])
    node.run()
    assert node.process.wait(30) == 4
    assert "alpha#2" in node.complaints()
    told.setblocking(False)
    with pytest.raises(BlockingIOError):
        told.recv(99)
