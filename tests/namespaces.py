"""Machines on wires of their own: a network namespace for each, and a router between them whose firewall the test commands.

A namespace here has no name and leaves no trace: it lives as long as the process that holds it, and that ends when its standard
input does, so that the kernel takes namespaces, wires and rules away also after a test that was killed. What runs inside is told
to die with the test. Root is not needed where the kernel lets every account have namespaces of its own.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import program

SERVER = "10.83.0.53"
READY = """
table ip mesh {
  chain between { type filter hook forward priority 0; policy accept; }
}
"""
NAMESERVER = """
import asyncio, json, sys
from ledger.node.responder import Responder
async def main():
    async with Responder(sys.argv[1], 53) as responder:
        for name, address in json.loads(sys.argv[2]).items():
            responder.table.address(name, address)
            responder.table.pointer(address, name)
        print("ready", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


class Refusal(Exception):
    """The kernel, or a program of this machine, does not do what a network needs; the text says what."""


class Space:
    """A namespace: the process that holds it, and how to get in. `of`: another one, whose owner this one shares."""

    def __init__(self, of=None):
        self.user = os.getuid() != 0
        own = ["--user", "--map-root-user"] if self.user and of is None else []
        command = [*(of.enter() if of is not None and self.user else []), program("unshare"), *own, "--net", program("cat")]
        self.holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until = time.monotonic() + 10
        while Path(f"/proc/{self.holder.pid}/comm").read_text().strip() != "cat":
            if self.holder.poll() is not None or time.monotonic() > until:
                said = self.close()
                raise Refusal(said or "the holder of a namespace did not begin")
            time.sleep(0.005)

    def enter(self):
        """The command before a command that is to run in here, and to die with this test."""
        owner = ["--user", "--preserve-credentials"] if self.user else []
        inside = [program("nsenter"), "--target", str(self.holder.pid), *owner, "--net"]
        return [*inside, program("setpriv"), "--pdeathsig", "KILL", "--"]

    def run(self, name, *arguments, said=""):
        """Run a program in here to its end."""
        command = [*self.enter(), program(name), *arguments]
        done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise Refusal(f"{name} {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def close(self):
        """Let go of it; what the holder complained of."""
        self.holder.kill()
        said = self.holder.communicate()[1]
        return said.decode(errors="replace").strip()


class Network:
    """Machines, each in a namespace of its own, `10.83.N.2`, and a router that forwards between them, unless told otherwise."""

    def __init__(self, stack, names):
        self.router = Space()
        stack.callback(self.router.close)
        self.spaces, self.addresses = {}, {}
        for number, name in enumerate(names, 1):
            space = self.spaces[name] = Space(self.router)
            stack.callback(space.close)
            self.addresses[name] = f"10.83.{number}.2"
            gate = f"10.83.{number}.1"
            lines = (
                f"link add {name} type veth peer name wire netns {space.holder.pid}",
                f"address add {gate}/24 dev {name}",
                f"link set {name} up",
            )
            self.router.run("ip", "-batch", "-", said="\n".join(lines))
            lines = (
                "link set lo up",
                f"address add {self.addresses[name]}/24 dev wire",
                "link set wire up",
                f"route add default via {gate}",
            )
            space.run("ip", "-batch", "-", said="\n".join(lines))
        self.router.run("ip", "-batch", "-", said=f"link set lo up\naddress add {SERVER}/32 dev lo")
        self.router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.router.run("nft", "-f", "-", said=READY)

    def inside(self, name):
        """The command before a command that is to run on a machine."""
        return self.spaces[name].enter()

    def rules(self, *rules):
        """From now on the router's firewall has these rules, and no others."""
        lines = ("flush chain ip mesh between", *(f"add rule ip mesh between {rule}" for rule in rules))
        self.router.run("nft", "-f", "-", said="\n".join(lines))

    def way(self, source, target):
        """How a rule names what goes from one machine to another."""
        return f"ip saddr {self.addresses[source]} ip daddr {self.addresses[target]}"

    def silence(self, *ways):
        """Rules by which what goes these ways, (from, to) each, is gone without a word."""
        return [f"{self.way(*way)} drop" for way in ways]

    def reset(self, *ways):
        """Rules by which what goes these ways is refused with a reset."""
        return [f"{self.way(*way)} meta l4proto tcp reject with tcp reset" for way in ways]

    def names(self, stack, hostnames):
        """A DNS server at the router, with these names and addresses."""
        path = (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
        command = [*self.router.enter(), sys.executable, "-c", NAMESERVER, SERVER, json.dumps(hostnames)]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        stack.callback(process.kill)
        assert process.stdout.readline() == "ready\n"


@contextlib.contextmanager
def network(*names):
    """A network of machines of these names, gone with the block. Where this machine has none to give the test is skipped."""
    for each in ("ip", "nft", "unshare", "nsenter", "setpriv"):
        program(each)
    with contextlib.ExitStack() as stack:
        try:
            made = Network(stack, names)
            made.rules(*made.reset(names[:2]), *made.silence(names[:2]))
            made.rules()
        except Refusal as refusal:
            pytest.skip(f"no network namespaces, for want of root{'' if os.getuid() else ' with all its rights'}: {refusal}")
        yield made
