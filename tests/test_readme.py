"""The README runs: every `console` block is typed into a shell, every `python` block is run, and what they print is compared.

Blocks share one folder and run in their order, with the Seattle measurements in it; where those are not at hand the blocks that
need them are skipped, with a reason. Set MESHLEDGER_UPDATE=1 to write what is printed now into the README.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from seattle_data import archive

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
SEATTLE = "seattle-rtt.tar.xz"


def run(command: str, folder: Path) -> str:
    """What a command prints on standard output, and its exit code behind `[exit N]` where it is not 0."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(README.parent), "NO_COLOR": "1"}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert "Traceback" not in done.stderr, done.stderr
    ended = "" if done.returncode in {0, 141} else f"[exit {done.returncode}]\n"
    return done.stdout + ended


def console(block: str, folder: Path) -> str:
    """The block as a shell would show it now."""
    commands = re.findall(r"^\$ (.*(?:\\\n.*)*)$", block, re.MULTILINE)
    assert commands, "a console block without a command"
    return "".join(f"$ {command}\n{run(command, folder)}" for command in commands)


@pytest.mark.timeout(900)
def test_every_example_prints_what_the_readme_says(tmp_path: Path) -> None:
    """Each command and each program of the README prints exactly what stands below it."""
    text = README.read_text(encoding="utf-8")
    (tmp_path / SEATTLE).symlink_to(archive())
    told: list[tuple[str, str]] = []
    for found in BLOCK.finditer(text):
        language, block, printed = found.groups()
        if language == "console":
            now = f"```console\n{console(block, tmp_path)}```"
        else:
            program = tmp_path / "example.py"
            program.write_text(block, encoding="utf-8")
            now = f"```python\n{block}```\n\n```text\n{run(f'{sys.executable} example.py', tmp_path)}```"
            assert printed is not None, "a program without the text that it prints"
        told.append((found.group(0), now))
    assert len(told) > 5
    if os.environ.get("MESHLEDGER_UPDATE"):
        for was, now in told:
            text = text.replace(was, now)
        README.write_text(text, encoding="utf-8")
        return
    for was, now in told:
        assert was == now


def test_the_two_commands_are_those_that_ci_runs() -> None:
    """The README's first commands install into a fresh environment, run the demo and the tests; CI does the same."""
    text = README.read_text(encoding="utf-8")
    assert "pip install -q '.[test]' && .venv/bin/meshledger demo" in text
    assert ".venv/bin/python -m pytest -q" in text
    script = (README.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip\" install -q '.[test]'" in script
    assert 'meshledger" demo' in script
    assert "python -m pytest -q" in script


SEED_TABLE = {"seed": "simulation/test_seed.py", "live": "e2e/test_live_mesh.py", "ssh": "e2e/test_ssh_nodes.py"}


def test_every_sentence_of_the_seed_system_names_a_proof_that_is_there() -> None:
    """S1 to S31 each stand in one row of the table, and each proof of a row is a file that is there, or a test in it by what its
    name contains; where a file stands alone, it names the sentence itself.
    """
    text = README.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (S[^|]*) \|[^|]*\| ([^|]*) \|$", text, re.MULTILINE)
    assert sorted(int(number) for sentences, _ in rows for number in re.findall(r"S(\d+)", sentences)) == list(range(1, 32))
    tests = README.parent / "tests"
    for sentences, proofs in rows:
        for file, after in re.findall(r"`([^`]+)`([^`·,]*)", proofs):
            path = tests / SEED_TABLE.get(file, file)
            assert path.is_file(), f"{sentences}: {file}"
            words = after.strip().replace(" ", "_")
            if path.suffix == ".py" and words:
                named = re.findall(r"^def (test_\w*)", path.read_text(encoding="utf-8"), re.MULTILINE)
                assert any(words in name for name in named), f"{sentences}: {file} {after}"
            elif file in SEED_TABLE:
                said = path.read_text(encoding="utf-8")
                assert any(re.search(rf"\b{each}\b", said) for each in re.findall(r"S\d+", sentences)), f"{sentences}: {file}"
