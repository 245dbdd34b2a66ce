"""The generated incident is answered about rightly, and every question put to it can be answered wrongly."""

from collections.abc import Callable
from pathlib import Path

import generated_asked as shown
import pytest
from generated import NAMES, Incident, collected, imagine, record

from ledger.events import Event, HostnameChanged, LinkLost, MachineLeft


@pytest.mark.parametrize("seed", [0, 1, 7, 2**32 - 1])
def test_every_seed_is_right(seed: int, tmp_path: Path) -> None:
    """Whatever the seed, every answer is what the story says."""
    story = imagine(seed)
    steps = list(shown.checks(story, record(story, tmp_path), tmp_path))
    assert [step for step in steps if not step.ok] == []


def test_a_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """The same seed writes the same ledgers; another seed, others."""
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        collected(tmp_path / name, seed)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(
        ["incident.ledger", *(f"{name}.ledger" for name in NAMES)]
    )
    for name in NAMES:
        one, two, three = (tmp_path / each / f"{name}.ledger" for each in ("one", "two", "three"))
        assert one.read_bytes() == two.read_bytes() != three.read_bytes()


def without(incident: Incident, name: str, kind: type, peer: str | None = None) -> None:
    """Take entries out of what a machine wrote."""
    kept = [
        o for o in incident.entries[name] if not isinstance(o.event, kind) or peer not in {None, getattr(o.event, "peer", None)}
    ]
    assert len(kept) < len(incident.entries[name])
    incident.entries[name] = kept


def silent(incident: Incident, name: str, peer: str) -> None:
    """Take out all that a machine wrote about another, so that nothing is known of the link."""
    without(incident, name, Event, peer)


def _same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def marked(*words: object) -> object:
        result = merge(*words)
        with Path(str(words[1])).open("ab") as file:
            file.write(bytes([len(written)]))
        written.append(words)
        return result

    merge = shown.merge
    monkeypatch.setattr(shown, "merge", marked)


BREAKS: dict[str, Callable[[Incident], object]] = {
    "at 03:02:30": lambda story: silent(story, "echo", "bravo"),
    "stats --of bravo=delta: flaps": lambda story: (silent(story, "bravo", "delta"), silent(story, "delta", "bravo")),
    "at 03:08:30: charlie": lambda story: without(story, "alpha", LinkLost, "charlie"),
    "routes --at 03:08:30: alpha to charlie": lambda story: silent(story, "charlie", "bravo"),
    "blame alpha:charlie --at 03:08:30: reason": lambda story: without(story, "alpha", LinkLost, "charlie"),
    "blame charlie --at 03:08:30: hostname": lambda story: without(story, "charlie", HostnameChanged),
    "diff 03:05:30 03:08:30: links that went down": lambda story: without(story, "echo", LinkLost, "charlie"),
    "connstatus --at 03:10:30: delta=echo": lambda story: without(story, "delta", LinkLost, "echo"),
    "at 03:12:30": lambda story: silent(story, "charlie", "delta"),
    "at 03:14:30": lambda story: without(story, "echo", MachineLeft),
    "members --at 03:14:30: echo": lambda story: without(story, "echo", MachineLeft),
    "verify, one byte altered in a copy": lambda story: without(story, "charlie", HostnameChanged),
}
"""For each check what breaks the incident so that it fails. The rest is broken in the ledgers, below."""


@pytest.mark.parametrize("question", BREAKS)
def test_a_broken_incident_fails(question: str, tmp_path: Path) -> None:
    """A check whose part of the story did not happen says NOT OK."""
    story = imagine(1)
    BREAKS[question](story)
    steps = {step.question: step for step in shown.checks(story, record(story, tmp_path), tmp_path)}
    assert not steps[question].ok


def test_a_broken_ledger_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage, a merge that is another each time, and a merged file that says something else are NOT OK."""
    story = imagine(1)
    paths = record(story, tmp_path)
    paths[4].write_bytes(paths[4].read_bytes().replace(b'"cause"', b'"cauze"').replace(b'"peer":"alpha"', b'"peer":"zulus"', 1))
    _same_bytes(monkeypatch)
    steps = {step.question: step for step in shown.checks(story, paths, tmp_path)}
    assert not steps["verify alpha.ledger … echo.ledger"].ok
    (tmp_path / "whole").mkdir()
    paths = record(story, tmp_path / "whole")
    steps = {step.question: step for step in shown.checks(story, paths, tmp_path / "whole")}
    assert not steps["merge, forwards and backwards"].ok
    monkeypatch.setattr(shown, "merge", lambda paths, target: Path(target).write_bytes(Path(paths[0]).read_bytes()))
    steps = {step.question: step for step in shown.checks(story, paths, tmp_path / "whole")}
    assert not steps["at each minute, merged and not"].ok


def test_every_check_is_broken_somewhere(tmp_path: Path) -> None:
    """No check is left out of the two tests above."""
    story = imagine(1)
    asked = {step.question for step in shown.checks(story, record(story, tmp_path), tmp_path)}
    rest = {"verify alpha.ledger … echo.ledger", "merge, forwards and backwards", "at each minute, merged and not"}
    assert asked == set(BREAKS) | rest
