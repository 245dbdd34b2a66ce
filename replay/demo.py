"""`meshledger demo`: a real cluster raised on loopback, broken, and asked about; every answer is held against what must be.

The nodes are processes of their own (`demo_mesh`), with real keys, real SSH and their own views of DNS (`demo_wires`). What is
expected is written down first (`demo_checks`), then the faults happen (`demo_story`) and every node is ended. The ledgers that
are left are merged, and asked by fresh processes through the command line and nothing else. A line a fault, ending in `ok` or
`NOT OK`; then what any reader may type.

Effects: those of its rooms, and two folders: the nodes', which is taken away again, and the ledgers', which stays.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from ledger.errors import Refused
from ledger.opening import translate
from replay.demo_checks import ALTERED, MESH, NAMED, NAMELESS, Check, Question, Reading, checks, typed
from replay.demo_mesh import Cluster, Commands, Died
from replay.demo_story import BY_ADDRESS, ByAddress, Mesh, Parts
from replay.demo_wires import Wires
from replay.receipts import Demo, Step

_BLOCKS: Final = 77, 78
"""The second octets of the addresses of the two clusters."""
_ANSWERED: Final = (0, 1, 3, 4)
_SHOWN_MAX: Final = 8
_TRUE: Final = b'"hostname":"alpha.lab.example"'
_FALSE: Final = b'"hostname":"alphb.lab.example"'
Say = Callable[[str], None]


def run(
    seed: int, machines: int, keep: Path | None, *, tell: Say | None = None, say: Say | None = None, without: Collection[str] = ()
) -> Demo:
    """Raise, break, ask. `keep`: the new folder for the ledgers, else one among the temporary ones; `tell` takes each line of the
    result as it comes, `say` what is being done. `without`: faults that are left out, whose lines are then NOT OK.

    Raises Refused if the folder is there, and Died or Late if a node ended by itself, or did not do its part in time.
    """
    tell, say = tell or (lambda _line: None), say or (lambda _line: None)
    folder = _folder(keep)
    work = Path(tempfile.mkdtemp(prefix="meshledger-nodes-"))
    try:
        return asyncio.run(_shown(_Plan(Parts.of(machines, seed), folder, work, frozenset(without)), tell, say))
    except BaseException as error:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, asyncio.CancelledError):
            raise KeyboardInterrupt from None
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="meshledger-demo-"))
    try:
        keep.mkdir(mode=0o700)
    except FileExistsError:
        raise Refused(f"{keep}: is there already", hint="name a new folder") from None
    except FileNotFoundError:
        raise Refused(f"{keep.parent}: there is no such folder", hint="make it first, or name another") from None
    except OSError as error:
        raise translate(error, str(keep)) from None
    return keep


class _Plan:
    """Who plays what, where, and what must be the answers. `folder`: of the ledgers; `work`: of the nodes."""

    def __init__(self, parts: Parts, folder: Path, work: Path, without: Collection[str]) -> None:
        self.parts = parts
        self.folder = folder
        self.work = work
        self.without = without
        self.checks = checks(parts)
        self.merged = folder / "mesh.ledger"


async def _shown(plan: _Plan, tell: Say, say: Say) -> Demo:
    for name in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(name, _this_task().cancel)
    async with AsyncExitStack() as stack:
        commands = Commands(plan.work)
        mesh, two = await _lived(plan, commands, say, stack)
        say("all nodes have ended; their ledgers are merged, and asked by processes that know nothing of this")
        ledgers = await _collected(plan, commands)
        asking = _Asking(commands, ledgers, {**mesh.moments, **two.moments}, {**mesh.receipts, **two.receipts})
        steps: list[Step] = []
        async with _together() as tasks:
            for judging in [tasks.create_task(asking.judged(check)) for check in plan.checks]:
                found = await judging
                steps += found
                tell(line(found))
    wrong = sum(not step.ok for step in steps)
    tell(f"{len(steps)} answers, {f'{wrong} of them wrong' if wrong else 'all of them ok'}")
    tell(f"the merged ledger: {plan.merged}")
    first = plan.checks[0].questions[0]
    tell(f"next: meshledger {shlex.join([*typed(first.words, asking.moments), str(plan.merged)])}")
    return Demo(ok=not wrong, generated=False, ledger=str(plan.merged), steps=steps)


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    return task


async def _lived(plan: _Plan, commands: Commands, say: Say, stack: AsyncExitStack) -> tuple[Cluster, Cluster]:
    """Both clusters, from the first key to the last process."""
    wires = await stack.enter_async_context(Wires(plan.parts.names, _BLOCKS[0]))
    beside = await stack.enter_async_context(Wires(BY_ADDRESS, _BLOCKS[1], by_address=True))
    stack.push_async_callback(commands.end_all)
    mesh = Cluster(commands, wires, plan.parts.names)
    two = Cluster(commands, beside, BY_ADDRESS, addressing="address")
    async with _together() as tasks:
        tasks.create_task(Mesh(mesh, plan.parts, say, plan.without).told())
        tasks.create_task(ByAddress(two, say, plan.without).told())
    return mesh, two


@asynccontextmanager
async def _together() -> AsyncIterator[asyncio.TaskGroup]:
    """Tasks that all end when one fails; it is the failure that is raised, and no group of such."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        raise next(_leaves(group)) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


async def _collected(plan: _Plan, commands: Commands) -> Mapping[str, list[Path]]:
    """Each machine's ledger in the folder that stays, those of the mesh also merged: by name, what questions are put to."""
    beside = plan.folder / "by-address"
    beside.mkdir(mode=0o700)
    collected: dict[Path, list[Path]] = {plan.folder: [], beside: []}
    for folder, names in ((plan.folder, plan.parts.names), (beside, BY_ADDRESS)):
        for name in names:
            target = folder / f"{name}.ledger"
            shutil.move(plan.work / name / "node.ledger", target)
            collected[folder].append(target.absolute())
    merged = plan.merged.absolute()
    await commands.call("merge", *map(str, collected[plan.folder]), "-O", str(merged))
    altered = plan.work / "altered.ledger"
    altered.write_bytes(merged.read_bytes().replace(_TRUE, _FALSE, 1))
    return {MESH: [merged], NAMELESS: collected[beside], NAMED: [plan.work / "named.ledger"], ALTERED: [altered]}


# What is told.


class _Asking:
    """Puts questions, each at most once: one may be the control of another."""

    def __init__(
        self, commands: Commands, ledgers: Mapping[str, list[Path]], moments: Mapping[str, int], receipts: Mapping[str, str]
    ) -> None:
        self.moments = moments
        self._commands = commands
        self._ledgers = ledgers
        self._receipts = receipts
        self._put: dict[tuple[str, ...], asyncio.Future[object]] = {}

    async def judged(self, check: Check) -> list[Step]:
        """The answers to the questions of a check, and to their controls."""
        steps = []
        for question in check.questions:
            (answer, positions), (control, _) = await asyncio.gather(
                self._read(question, question.words, question.of),
                self._read(question, question.control, question.control_of or question.of),
            )
            ok = answer == question.expected != control
            words = shlex.join(typed(question.words, self.moments))
            steps.append(Step(words, question.expected, answer, ok, check.fault, positions, control))
        return steps

    async def _read(self, question: Question, words: Sequence[str], of: str) -> Reading:
        command = (*typed(words, self.moments), *map(str, self._ledgers[of]))
        if command not in self._put:
            self._put[command] = asyncio.ensure_future(self._commands.call(*command, codes=_ANSWERED))
        try:
            return question.read(await self._put[command], self._receipts)
        except Died as died:
            return f"no answer: {died.message}", []


def line(steps: Sequence[Step]) -> str:
    """The steps of one fault as one line."""
    said = "; ".join(f"{_brief(step.question)} -> {step.answer}" for step in steps)
    positions = list(dict.fromkeys(position for step in steps for position in step.positions))
    by = f"; by {' '.join(positions[:_SHOWN_MAX])}{' …' if len(positions) > _SHOWN_MAX else ''}" if positions else ""
    wrong = [
        f"expected {step.expected}" if step.answer != step.expected else f"and {step.expected} without it, too"
        for step in steps
        if not step.ok
    ]
    verdict = f"{'; '.join(wrong)}   NOT OK" if wrong else "ok"
    return f"{steps[0].fault}: {said}{by}   {verdict}"


def _brief(question: str) -> str:
    """A question without its options and moments."""
    words = shlex.split(question)
    named = words[: next((place for place, word in enumerate(words) if word.startswith("-")), len(words))]
    return " ".join(word for word in named if not word[0].isdigit())
