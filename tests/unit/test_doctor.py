"""What the doctor finds: of a machine, over real sockets and a DNS server whose answers are known; of a real sshd's limits."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from servers import ACCOUNT, program, sshd_program
from wires import LOOPBACK, Hall, closed_port, key

from ledger.node import ccs
from ledger.node.doctor import examine, examine_limits
from ledger.node.doctor_sshd import examine_sshd, judge, sshd_says
from ledger.node.links import Limits
from ledger.node.resolver import Resolver
from ledger.node.responder import Responder
from ledger.node.sshclient import key_text
from ledger.node.sshd import limits, sshd_lines

NAME = "alpha.lab.example"


def look(prepare, *, target=NAME, addressing="name", known=True, port=None):
    """The findings about a machine that listens on loopback, with DNS as `prepare` makes it."""

    async def inner():
        async with Responder() as responder, Hall() as hall:
            responder.table.address(NAME, LOOPBACK)
            responder.table.pointer(LOOPBACK, NAME)
            prepare(responder.table)
            return await examine(
                target,
                port or hall.port,
                addressing=addressing,
                host_key={True: key_text(hall.host), False: key_text(key()), None: None}[known],
                resolver=Resolver([(LOOPBACK, responder.port)], 0.1, 0.3),
                probe=ccs.probe,
                timeout_s=2.0,
            )

    return asyncio.run(asyncio.wait_for(inner(), 30))


def verdicts(findings):
    return {each.name: each.verdict for each in findings.checks}


def nothing(_table):
    """DNS is as it should be."""


def test_a_machine_that_is_well():
    """Name, address, key and the name of the address fit: all ok, the address is told, and each look-up can be an event."""
    for known in (True, None):
        findings = look(nothing, known=known)
        assert verdicts(findings) == {"forward": "ok", "ssh": "ok", "reverse": "ok"}
        assert (findings.ok, findings.reason, findings.address) == (True, None, LOOPBACK)
        assert [each.event().outcome for each in findings.lookups] == ["answered", "answered"]


@pytest.mark.parametrize("how", ["nxdomain", "nodata", "servfail", "silent"])
def test_a_name_that_does_not_resolve(how):
    """The machine cannot be dialled, whatever the failure; it is said which, and what to do, and nothing else is asked."""
    findings = look(lambda table: table.behave(NAME, how))
    assert verdicts(findings) == {"forward": "bad"}
    assert (findings.ok, findings.reason, findings.address) == (False, "name-unresolvable", None)
    assert ("timeout" if how == "silent" else how) in findings.checks[0].said
    assert findings.checks[0].hint


def test_a_name_that_points_elsewhere():
    """An address where nobody listens, and one where another machine's key answers: name-points-elsewhere, told apart."""
    silent = look(nothing, port=closed_port())
    other = look(nothing, known=False)
    assert silent.reason == other.reason == "name-points-elsewhere"
    assert "refused" in silent.checks[1].said
    assert "another key answers" in other.checks[1].said
    assert silent.checks[1].hint != other.checks[1].hint


def test_one_right_address_is_enough_and_a_wrong_one_is_a_warning():
    """With two addresses, one of which answers: the machine is found there; the other is said."""
    findings = look(lambda table: table.address(NAME, "127.0.0.2", LOOPBACK))
    assert verdicts(findings)["ssh"] == "warning"
    assert (findings.ok, findings.address) == (True, LOOPBACK)


def test_an_address_that_is_not_the_machines_by_address():
    """By address the reason is that of the dial: refused where nobody listens, host-key-mismatch where another one answers."""
    assert look(nothing, target=LOOPBACK, addressing="address", port=closed_port()).reason == "refused"
    assert look(nothing, target=LOOPBACK, addressing="address", known=False).reason == "host-key-mismatch"


@pytest.mark.parametrize(
    ("addressing", "how", "verdict", "reason"),
    [
        ("address", "silent", "bad", "reverse-timeout"),
        ("address", "nxdomain", "warning", None),
        ("name", "silent", "warning", None),
        ("name", "nodata", "warning", None),
        ("address", "answer", "ok", None),
    ],
)
def test_reverse(addressing, how, verdict, reason):
    """By address a look-up that times out is what refuses a link; that there is none is a finding. By name both are."""
    target = LOOPBACK if addressing == "address" else NAME
    findings = look(lambda table: table.behave(LOOPBACK, how), target=target, addressing=addressing)
    assert verdicts(findings)["reverse"] == verdict
    assert (findings.reason, findings.ok) == (reason, verdict != "bad")


def test_a_reverse_name_that_is_another_one():
    """By name, the name of the address should be the machine's: a warning; by address any name will do."""
    for addressing, target, verdict in (("name", NAME, "warning"), ("address", LOOPBACK, "ok")):
        findings = look(lambda table: table.pointer(LOOPBACK, "other.example"), target=target, addressing=addressing)
        assert verdicts(findings)["reverse"] == verdict


# Limits.


@pytest.mark.parametrize(("machines", "said"), [(1, "1 other needs 2"), (2, "1 other needs 2"), (3, "2 others need 4")])
def test_limits_are_told_in_english(machines, said):
    """One other needs what several need."""
    assert examine_limits(Limits(), machines, files_max=400)[0].said.endswith(said)


def test_a_listeners_own_limits():
    """Room for each other member twice is fine, once is a warning, less is bad; open files are counted."""
    of = {
        machines: [each.verdict for each in examine_limits(Limits(), machines, files_max=400)]
        for machines in (1, 20, 93, 94, 186)
    }
    assert of == {
        1: ["ok", "ok"], 20: ["ok", "ok"], 93: ["ok", "warning"], 94: ["warning", "warning"], 186: ["bad", "warning"],
    }  # fmt: skip


def test_sshds_limits_are_judged_for_the_size_of_the_cluster():
    """Sshd drops above the first number of MaxStartups: that has to hold all others; without sessions, keys, or lines of ours
    nothing can work.
    """
    lines = "subsystem mesh x\nauthorizedkeysfile /n/keys\npubkeyauthentication yes\nmaxsessions 10\nmaxstartups 10:30:100\n"

    def of(text, machines=11):
        return {each.name: each.verdict for each in judge(limits(text), Path("/n/keys"), machines)}

    good = {"sshd-keys": "ok", "sshd-subsystem": "ok", "sshd-sessions": "ok", "sshd-startups": "ok"}
    assert of(lines) == good
    assert of(lines, 12) == {**good, "sshd-startups": "warning"}
    assert of(lines.replace("maxsessions 10", "maxsessions 0")) == {**good, "sshd-sessions": "bad"}
    assert of(lines.replace("/n/keys", ".ssh/authorized_keys")) == {**good, "sshd-keys": "bad"}
    assert of(lines.replace("pubkeyauthentication yes", "pubkeyauthentication no")) == {**good, "sshd-keys": "bad"}
    assert of(lines.replace("subsystem mesh x\n", "")) == {**good, "sshd-subsystem": "bad"}
    assert of("") == {"sshd-keys": "bad", "sshd-subsystem": "bad", "sshd-sessions": "unknown", "sshd-startups": "unknown"}


def test_a_real_sshd_with_our_lines_is_well(tmp_path):
    """`sshd -T` with what `sshd-config` prints has nothing bad but what the test's own folder is: others may write above it.
    Without our lines, what is missing is said.
    """
    sshd_program()
    host = tmp_path / "host"
    subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", host], check=True)
    keys = tmp_path / "authorized_keys"
    keys.write_text("")
    (tmp_path / "with").write_text(sshd_lines(ACCOUNT, str(keys)))
    (tmp_path / "without").write_text("MaxStartups 2\n")
    good = examine_sshd(sshd_says(ACCOUNT, host, tmp_path / "with"), keys, ACCOUNT, 5)
    assert {each.name for each in good if each.verdict == "bad"} <= {"sshd-modes", "account"}
    lacking = examine_sshd(sshd_says(ACCOUNT, host, tmp_path / "without"), keys, ACCOUNT, 5)
    found = {each.name: each.verdict for each in lacking}
    assert (found["sshd-keys"], found["sshd-subsystem"], found["sshd-startups"]) == ("bad", "bad", "warning")
    assert all(each.hint for each in lacking if each.verdict in {"bad", "warning"})


def test_a_folder_that_others_may_write_to_is_found(tmp_path):
    """What StrictModes would refuse is said before sshd refuses it, naming the folder."""
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    said = "strictmodes yes\n"
    (check,) = [each for each in examine_sshd(said, open_to_all / "keys", ACCOUNT, 2) if each.name == "sshd-modes"]
    assert check.verdict == "bad"
    assert str(open_to_all) in check.said
    assert not [each for each in examine_sshd("strictmodes no\n", open_to_all / "keys", ACCOUNT, 2) if each.name == "sshd-modes"]


def test_an_sshd_that_says_nothing_is_unknown(tmp_path):
    """A configuration that sshd does not take, and an account that is none, are no verdict on limits."""
    (tmp_path / "broken").write_text("Nonsense yes\n")
    assert sshd_says(ACCOUNT, None, tmp_path / "broken") is None
    found = {each.name: each.verdict for each in examine_sshd(None, tmp_path / "keys", "no-such-account", 2)}
    assert found == {"account": "bad", "sshd": "unknown"}
    other = "nobody" if os.getuid() == 0 else "root"
    assert next(iter(examine_sshd(None, tmp_path / "keys", other, 2))).verdict in {"warning", "bad"}
