"""A node's listener in a process of its own: `python ccs_process.py HOSTKEY MEMBERKEY.pub…` says its port, then echoes.

What it counted is said when its standard input ends. With `--off EDIT` (JSON, of `mutants`) it runs with that edit of the code.
"""

import asyncio
import contextlib
import json
import sys

from mutants import Mutant, edited
from wires import LOOPBACK, Heard

from ledger.node import ccs
from ledger.node.sshclient import load_key


async def serve(host_key, members, limits=None):
    """Listen until standard input ends."""
    listener = await ccs.listen(
        LOOPBACK,
        0,
        host_key=load_key(host_key),
        allow=lambda key, _address: "member" if key in members else None,
        handler=lambda link: Heard(link, echo=True),
        limits=limits,
    )
    sys.stdout.write(f"{listener.port}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    sys.stdout.write(json.dumps(listener.counts) + "\n")
    await listener.close()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    off = Mutant(*json.loads(arguments.pop())) if "--off" in arguments else None
    with edited(off) if off is not None else contextlib.nullcontext():
        asyncio.run(serve(arguments[0], set(arguments[1:])))
