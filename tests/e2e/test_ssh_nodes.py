"""A cluster over the transport `ssh`: real nodes, each behind a real OpenSSH server of its own, by the command line.

One story, told in order, as an operator would live it; each act leaves what the next one needs. DNS is the responder, on
loopback; nothing of the machine's own sshd, account files or DNS is used.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from naming import Names
from servers import ACCOUNT, LOOPBACK, program, sshd, sshd_program

from ledger.events import JoinRefused, KeyChanged, LinkFailed, LinkLost, MachineLeft
from ledger.node.sshd import fingerprint, sshd_lines
from ledger.store import Ledger
from replay.check import verify

ROOT = Path(__file__).parents[2]
MAIN = "import sys\nfrom replay.cli import main\nsys.exit(main(sys.argv[1:]))"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "XDG_STATE_HOME": "nowhere"}


FEW = "MaxStartups 2:100:2"
"""What bravo's sshd takes at once, of connections that have not logged in."""


class Machine:
    """A machine: an sshd, a node's directory, and the node's process while it runs."""

    def __init__(self, folder, name, dns, stack, more=""):
        self.name, self.dir, self.dns = name, folder / name, dns
        self.sshd = folder / f"{name}-sshd"
        self.process = None
        self.port = stack.enter_context(sshd(self.sshd, sshd_lines(ACCOUNT, str(self.dir / "authorized_keys")), more=more))
        self.hostname = f"{name}.lab.example"

    def call(self, *arguments, code=0, also=0):
        """What a command prints, as JSON where it is; it ends with one of these two codes."""
        command = [sys.executable, "-c", MAIN, *arguments, "--dir", str(self.dir), "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)
        assert done.returncode in {code, also or code}, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout.startswith("{") else done.stderr

    def own(self):
        """The options of `init` and `join` that say where this machine is."""
        return (
            "--machine", self.name, "--hostname", self.hostname, "--port", str(self.port), "--account", ACCOUNT,
            "--sshd-host-key", str(self.sshd / "sshd_host_key.pub"), "--dns", f"{LOOPBACK}:{self.dns}",
        )  # fmt: skip

    def start(self):
        with (self.dir / "stderr").open("ab") as errors:
            command = [sys.executable, "-c", MAIN, "run", "--dir", str(self.dir)]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=ENVIRONMENT)
        until(lambda: (self.dir / "control.sock").exists() and self.status())

    def end(self, how=signal.SIGTERM):
        if self.process is not None:
            self.process.send_signal(how)
            code = self.process.wait(30)
            self.process = None
            (self.dir / "control.sock").unlink(missing_ok=True)
            return code
        return None

    def status(self):
        with contextlib.suppress(AssertionError):
            said = self.call("status", also=1)
            return said if isinstance(said, dict) else None
        return None

    def linked(self):
        """The machines that this one has a link with, as it says."""
        status = self.status() or {"members": {}}
        return {name for name, member in status["members"].items() if member["linked"]}

    def events(self, *kinds):
        """The events of these kinds in its own feed."""
        with Ledger.open(self.dir / "node.ledger") as ledger:
            own = [feed for feed in ledger.feeds() if feed.machine == self.name]
            return [entry.event for feed in own for entry in ledger.read(feed) if isinstance(entry.event, kinds)]


def until(true, seconds=90):
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.1)


@contextlib.contextmanager
def machines(folder, *names):
    """Machines with an sshd each, and a DNS server that has their names."""
    with contextlib.ExitStack() as stack:
        dns = Names()
        stack.callback(dns.close)
        made = []
        for name in names:
            machine = Machine(folder, name, dns.responder.port, stack, FEW if name == "bravo" else "")
            dns.responder.table.address(machine.hostname, LOOPBACK)
            stack.callback(machine.end, signal.SIGKILL)
            made.append(machine)
        dns.responder.table.pointer(LOOPBACK, *(machine.hostname for machine in made))
        yield made


@contextlib.contextmanager
def held(port, count):
    """So many connections to an sshd that do not log in: each has its slot once sshd has said its version."""
    with contextlib.ExitStack() as stack:
        while count:
            holder = stack.enter_context(socket.create_connection((LOOPBACK, port), 5))
            count -= holder.recv(8) == b"SSH-2.0-"
        yield


def joined(alpha, other):
    """Let a machine join by a code of alpha's, and run it."""
    code = alpha.call("invite")["code"]
    other.call("join", code, *other.own())
    other.start()
    return code


def test_a_cluster_behind_real_ssh_servers(tmp_path):
    """S1, S2, S4, S10, S11, S23, S26: founded, joined by one-time codes (a used one is refused and recorded, an altered one is
    none), linked in full; a machine killed is known at once and comes back by itself; one that is turned away by MaxStartups
    comes in as soon as there is room, with no membership change; a removed one is out at once: sshd refuses its key.
    """
    sshd_program()
    with machines(tmp_path, "alpha", "bravo", "charlie") as (alpha, bravo, charlie):
        alpha.call("init", "lab", "--interval", "1s", *alpha.own())
        alpha.start()
        used = joined(alpha, bravo)
        joined(alpha, charlie)
        everyone = {"alpha", "bravo", "charlie"}
        until(lambda: all(each.linked() == everyone - {each.name} for each in (alpha, bravo, charlie)))

        # A member's key stands in every other machine's file, and nowhere as anything but a bridge's.
        for each in (alpha, bravo, charlie):
            lines = [
                line for line in (each.dir / "authorized_keys").read_text().splitlines() if line.startswith("restrict,command=")
            ]
            assert sum(line.endswith((" alpha", " bravo", " charlie")) for line in lines) == 2

        # A code is good once.
        late = Machine.__new__(Machine)
        late.__dict__.update(charlie.__dict__, name="delta", dir=tmp_path / "delta", process=None)
        late.call("join", used, *late.own(), code=1)
        until(lambda: alpha.events(JoinRefused))
        late.dir = tmp_path / "echo"
        late.call("join", used[:-6] + ("AAAAAA" if used[-6:] != "AAAAAA" else "BBBBBB"), *late.own(), code=2)

        # Killed, known, and back.
        bravo.end(signal.SIGKILL)
        until(lambda: "bravo" not in alpha.linked() | charlie.linked())
        assert [lost.reason for lost in alpha.events(LinkLost) if lost.peer == "bravo"][-1] in {"closed", "reset"}

        # Turned away by a full sshd meanwhile, which is a reason of its own; then back, with nobody's help.
        with held(bravo.port, 2):
            until(lambda: "connection-limit" in {failed.reason for failed in alpha.events(LinkFailed) if failed.peer == "bravo"})
        bravo.start()
        until(lambda: bravo.linked() == {"alpha", "charlie"})
        assert alpha.events(MachineLeft) == []

        # Removed, and out at once.
        mark = fingerprint(" ".join((charlie.dir / "dial_key.pub").read_text().split()[:2]))
        assert mark in (alpha.dir / "authorized_keys").read_text()
        alpha.call("remove", "charlie")
        until(lambda: mark not in (alpha.dir / "authorized_keys").read_text() + (bravo.dir / "authorized_keys").read_text())
        for each in (alpha, bravo):
            (tmp_path / "known").write_text(f"[{LOOPBACK}]:{each.port} {(each.sshd / 'sshd_host_key.pub').read_text()}")
            command = [
                program("ssh"), "-F", "none", "-i", charlie.dir / "dial_key", "-p", str(each.port), "-o", "BatchMode=yes",
                "-o", f"UserKnownHostsFile={tmp_path}/known", "-o", "IdentitiesOnly=yes", f"{ACCOUNT}@{LOOPBACK}", "-s", "mesh",
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
            assert b"Permission denied (publickey" in done.stderr
        until(lambda: alpha.linked() == {"bravo"})
        for each in (alpha, bravo):
            assert each.end() == 0
            assert verify([each.dir / "node.ledger"]).problems == []


def test_a_host_key_of_sshd_is_changed(tmp_path):
    """`rekey host --key`: bravo's sshd is given another host key. Until that is recorded alpha, which has just started, links
    with nobody: another key answers at bravo's name, whoever dials. From then on the new key is the one that counts, for alpha
    too, which bravo tells of it when it dials, and over new starts of both nodes.
    """
    sshd_program()
    with machines(tmp_path, "alpha", "bravo") as (alpha, bravo):
        alpha.call("init", "lab", "--interval", "1s", *alpha.own())
        alpha.start()
        joined(alpha, bravo)
        until(lambda: alpha.linked() == {"bravo"} and bravo.linked() == {"alpha"})
        public = bravo.sshd / "sshd_host_key.pub"
        before = public.read_text().split()[1]
        for each in (bravo.sshd / "sshd_host_key", public):
            each.unlink()
        subprocess.run(
            [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", bravo.sshd / "sshd_host_key"], check=True, timeout=30
        )
        os.kill(int((bravo.sshd / "sshd.pid").read_text()), signal.SIGHUP)
        alpha.end(signal.SIGKILL)
        alpha.start()
        until(lambda: "host-key-mismatch" in {failed.reason for failed in alpha.events(LinkFailed) if failed.peer == "bravo"})
        assert alpha.linked() == bravo.linked() == set()
        bravo.call("rekey", "host", "--key", str(public))
        after = public.read_text().split()[1]
        changed = bravo.events(KeyChanged)
        assert [(change.role, change.old.split()[1], change.new.split()[1]) for change in changed] == [("host", before, after)]
        until(lambda: alpha.linked() == {"bravo"} and bravo.linked() == {"alpha"})
        for each in (alpha, bravo):
            each.end(signal.SIGKILL)
            each.start()
            until(lambda: alpha.linked() == {"bravo"} and bravo.linked() == {"alpha"})
        for each in (alpha, bravo):
            assert each.end() == 0
            assert verify([each.dir / "node.ledger"]).problems == []


def test_a_machine_removed_while_it_was_away_is_told_through_sshd(tmp_path):
    """Charlie's node is down when alpha removes it, and alpha's is started anew. When charlie's is back every sshd refuses its
    key; alpha comes in at charlie's, where its own key still stands, and says why: charlie takes in its removal, and ends.
    """
    sshd_program()
    with machines(tmp_path, "alpha", "bravo", "charlie") as (alpha, bravo, charlie):
        alpha.call("init", "lab", "--interval", "1s", *alpha.own())
        alpha.start()
        joined(alpha, bravo)
        joined(alpha, charlie)
        until(lambda: charlie.linked() == {"alpha", "bravo"} and alpha.linked() == {"bravo", "charlie"})
        charlie.end(signal.SIGKILL)
        alpha.call("remove", "charlie")
        alpha.end(signal.SIGKILL)
        alpha.start()
        charlie.start()
        until(lambda: charlie.process.poll() is not None, 200)
        assert charlie.end() == 0
        assert {failed.reason for failed in charlie.events(LinkFailed)} <= {"auth-failed", "not-a-member"}
        with Ledger.open(charlie.dir / "node.ledger") as ledger:
            alphas = [feed for feed in ledger.feeds() if feed.machine == "alpha"]
            removals = [e.event for feed in alphas for e in ledger.read(feed) if isinstance(e.event, MachineLeft)]
        assert [(removal.machine, removal.cause) for removal in removals] == [("charlie", "removed")]
        until(lambda: alpha.linked() == {"bravo"})
        for each in (alpha, bravo):
            assert each.end() == 0
        report = verify([each.dir / "node.ledger" for each in (alpha, bravo, charlie)])
        assert report.problems == []
