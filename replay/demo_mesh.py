"""The machines of a demonstration: real nodes, each a process of its own with directory, keys and ledger, commanded like any.

Everything is done by this program's own command line, as an operator would (`init`, `invite`, `join`, `run`, `leave`, …), in
processes that know nothing of the demonstration. What to wait for is read where an operator could look: the node's answer to
`status`, and its ledger. A wait ends when what it waits for holds, after a generous deadline (`Late`), or when a node's process
has ended by itself (`Died`). Whatever happens, no process outlives the block; if this one is killed, the kernel ends them.

Effects: processes, files in the folder given, clocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from ledger.entry import Entry
from ledger.errors import LedgerError
from ledger.identity import Feed
from ledger.node.config import LEDGER
from ledger.node.control import SOCKET, Unreachable, ask
from ledger.store import Ledger
from replay.demo_wires import Wires

INTERVAL_MS: Final = 28
"""For each pair of machines, one with itself too, so long lies between pings, and until one counts as failed: every result is
recorded by everybody, and two processors are to be enough for all.
"""
INTERVAL_MIN_MS: Final = 700
LOST_AFTER: Final = 4
DEADLINE_S: Final = 120.0
_LOOK_S: Final = 0.04
"""For each machine so long lies between two looks at all of them."""
_NOTICED_S: Final = 1.0
"""Until the end of a process is known here, which others have met already."""
_TOGETHER: Final = 4
"""Commands at once."""
_WORDS_KEPT: Final = 3
BUSY: Final = "is this machine busy with something else?"
_PROGRAM: Final = "import sys; from replay.cli import main; sys.exit(main())"
_ROOT: Final = Path(__file__).resolve().parents[1]
_PR_SET_PDEATHSIG: Final = 1
Say = Callable[[str], None]


class Late(LedgerError):
    """What was waited for did not come to hold in time."""

    exit_code = 5


class Died(LedgerError):
    """A process ended that should not have."""

    exit_code = 5


class Commands:
    """The command line of this program, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._room = asyncio.Semaphore(_TOGETHER)
        self._living: set[asyncio.subprocess.Process] = set()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MESHLEDGER_")}
        where = os.pathsep.join(filter(None, (str(_ROOT), kept.get("PYTHONPATH"))))
        self._environment = {**kept, "PYTHONPATH": where, "XDG_STATE_HOME": str(folder / "nowhere")}

    async def begin(self, words: Collection[str], *, stdout: Any, stderr: Any) -> asyncio.subprocess.Process:
        """Start a process: it has no terminal, and ends at the latest when this one does."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", _PROGRAM, *words, stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            cwd=self.folder, env=self._environment, start_new_session=True, preexec_fn=_ends_with(os.getpid()),
        )  # fmt: skip
        self._living.add(process)
        return process

    async def call(self, *words: str, codes: Collection[int] = (0,)) -> Any:
        """What a command answers, as JSON. Raises Died if it ends with another code than these."""
        pipe = asyncio.subprocess.PIPE
        async with self._room:
            process = await self.begin((*words, "-o", "json", "-q"), stdout=pipe, stderr=pipe)
            out, errors = await process.communicate()
            self._living.discard(process)
        if process.returncode not in codes:
            said = errors.decode(errors="replace").strip().splitlines()
            raise Died(
                f"`meshledger {' '.join(words)}` ended with {process.returncode}: {' / '.join(said[:_WORDS_KEPT]) or 'no word'}",
                hint="a demonstration needs all of its commands",
            )
        return json.loads(out) if out else None

    async def end_all(self) -> None:
        """End every process that still runs, at once."""
        for process in self._living:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        for process in self._living:
            await process.wait()
        self._living.clear()


class Cluster:
    """Machines of one cluster, in folders below `commands.folder`, with `wires` between them. `moments`: instants by name;
    `receipts`: positions that commands answered with.
    """

    def __init__(self, commands: Commands, wires: Wires, names: Collection[str], *, addressing: str = "name") -> None:
        self.commands = commands
        self.wires = wires
        self.names = tuple(names)
        self.addressing = addressing
        self.moments: dict[str, int] = {}
        self.receipts: dict[str, str] = {}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._known: dict[Feed, list[Entry]] = {}

    def ledger(self, name: str) -> Path:
        """A machine's ledger."""
        return self.commands.folder / name / LEDGER

    def log(self, name: str) -> Path:
        """What a machine's node wrote on its standard error."""
        return self.commands.folder / f"{name}.log"

    def mark(self, moment: str) -> None:
        """Remember this instant."""
        self.moments[moment] = time.time_ns()

    async def command(self, name: str, *words: str) -> Any:
        """What a command for the node of a machine answers. Raises Died, of a node if one has ended: then that is why."""
        try:
            return await self.commands.call(*words, "--dir", str(self.commands.folder / name))
        except Died:
            waiting = {asyncio.ensure_future(process.wait()): other for other, process in self._running.items()}
            if waiting:
                ended, others = await asyncio.wait(waiting, timeout=_NOTICED_S, return_when=asyncio.FIRST_COMPLETED)
                for each in others:
                    each.cancel()
                for each in ended:
                    raise self._died(waiting[each], self._running[waiting[each]], f"`{words[0]}` is done") from None
            raise

    # A machine's life.

    def _own(self, name: str) -> list[str]:
        wires = self.wires
        hostname = host(name)
        if self.addressing == "address":
            hostname = wires.address(next(other for other in self.names if other != name), name)
        dns = wires.dns[name]
        return [
            "--machine", name, "--hostname", hostname, "--listen", wires.own(name), "--port", str(wires.ports[name]),
            "--dns", f"{dns.address}:{dns.port}",
        ]  # fmt: skip

    async def found(self, title: str) -> None:
        """The first machine founds the cluster, and runs."""
        first, every_ms = self.names[0], max(INTERVAL_MS * len(self.names) ** 2, INTERVAL_MIN_MS)
        await self.command(
            first, "init", title, "--transport", "ccs", "--addressing", self.addressing, "--interval", f"{every_ms}ms",
            "--timeout", f"{every_ms}ms", "--lost-after", str(LOST_AFTER), *self._own(first),
        )  # fmt: skip
        await self.start(first)

    async def join(self, name: str) -> None:
        """Another one joins with a code of the first one's, and runs."""
        code = (await self.command(self.names[0], "invite"))["code"]
        await self.command(name, "join", code, *self._own(name))
        await self.start(name)

    async def start(self, name: str) -> None:
        """Run the node of a machine, and wait until it answers."""
        with self.log(name).open("ab") as log:
            words = ("run", "--dir", str(self.commands.folder / name))
            self._running[name] = await self.commands.begin(words, stdout=asyncio.subprocess.DEVNULL, stderr=log)
        await self.until(f"{name} runs", lambda: self._answers(name))

    def _answers(self, name: str) -> bool:
        return self._status(name).get("state") == "running"

    async def kill(self, name: str) -> None:
        """End a machine's process with no warning."""
        process = self._running.pop(name)
        process.kill()
        await process.wait()

    async def gone(self, *names: str) -> None:
        """Wait until machines that have left, or were told to stop, have ended by themselves. Raises Late, Died."""
        ending = {name: self._running.pop(name) for name in names}
        try:
            async with asyncio.timeout(DEADLINE_S):
                for name, process in ending.items():
                    if await process.wait():
                        raise self._died(name, process, "it ended")
        except TimeoutError:
            raise Late(f"not within {DEADLINE_S:g} s: {', '.join(names)} have ended", hint=BUSY) from None

    async def stop(self) -> None:
        """End all that run, in order."""
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        await self.gone(*self._running)

    # What to wait for.

    async def until(self, what: str, holds: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
        """Wait until something holds. Raises Late, or Died if a machine's process ends meanwhile."""
        end = time.monotonic() + deadline_s
        while not await asyncio.to_thread(holds):
            for name, process in self._running.items():
                if process.returncode is not None:
                    raise self._died(name, process, what)
            if time.monotonic() > end:
                raise Late(f"not within {deadline_s:g} s: {what}", hint=BUSY)
            await asyncio.sleep(_LOOK_S * len(self.names))

    def _died(self, name: str, process: asyncio.subprocess.Process, what: str) -> Died:
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return Died(
            f"the node of {name} has ended by itself (exit code {process.returncode}) while waiting until {what}",
            hint=f"its last words: {' / '.join(lines[-_WORDS_KEPT:]) or 'none'}",
        )

    def _status(self, name: str) -> dict[str, Any]:
        with contextlib.suppress(Unreachable):
            return ask(self.commands.folder / name / SOCKET, {"ask": "status"}, timeout_s=DEADLINE_S)
        return {}

    def linked(self, *names: str) -> bool:
        """Whether these are all linked with each other, and have heard from each other, as each says itself."""
        for name in names:
            members = self._status(name).get("members", {})
            if not all(members.get(other, {}).get("linked") for other in names if other != name):
                return False
        return True

    def apart(self, name: str, *others: str) -> bool:
        """Whether neither side holds the other for linked; of one that does not run, whether the others do not."""
        sides = [(a, b) for other in others for a, b in ((name, other), (other, name)) if a in self._running]
        seen = {a: self._status(a).get("members", {}) for a in {a for a, _b in sides}}
        return all(b in seen[a] and not seen[a][b]["linked"] for a, b in sides)

    def wrote(self, name: str, kind: str, since: str, **fields: str) -> bool:
        """Whether a machine's own feed has an entry of this kind with these fields, of after a moment."""
        with Ledger.open(self.ledger(name)) as ledger:
            for feed in ledger.feeds():
                if feed.machine == name:
                    known = self._known.setdefault(feed, [])
                    known += ledger.read(feed, after=known[-1].index if known else 0)
        return any(
            entry.kind == kind
            and entry.at_ns >= self.moments[since]
            and all(getattr(entry.event, field) == value for field, value in fields.items())
            for feed, known in self._known.items()
            if feed.machine == name
            for entry in known
        )


def host(name: str) -> str:
    """The host name of a machine."""
    return f"{name}.lab.example"


def _ends_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes another program: it asks to be killed when this process is (prctl(2), Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ask_for_it() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask_for_it
