"""What was so: at any moment, and between any two. The public surface of this folder; our own code imports the rooms themselves.

Names are loaded when they are first asked for, so that the command line starts at once.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replay.absences import absences
    from replay.blame import blame
    from replay.check import verify
    from replay.diff import diff
    from replay.disagreements import disagreements
    from replay.export import backup, export
    from replay.findings import findings
    from replay.history import History
    from replay.intervals import first_violation, intervals
    from replay.judged import bisect, conditions
    from replay.judging import judge
    from replay.merge import merge
    from replay.moments import parse_moment
    from replay.stats import stats
    from replay.union import Union
    from replay.why import why

_ROOMS = {
    "History": "history",
    "absences": "absences",
    "Union": "union",
    "backup": "export",
    "bisect": "judged",
    "blame": "blame",
    "conditions": "judged",
    "diff": "diff",
    "disagreements": "disagreements",
    "export": "export",
    "findings": "findings",
    "first_violation": "intervals",
    "intervals": "intervals",
    "judge": "judging",
    "merge": "merge",
    "parse_moment": "moments",
    "stats": "stats",
    "verify": "check",
    "why": "why",
}

__all__ = [
    "History", "Union", "absences", "backup", "bisect", "blame", "conditions", "diff", "disagreements", "export", "findings",
    "first_violation", "intervals", "judge", "merge", "parse_moment", "stats", "verify", "why",
]  # fmt: skip


class _Face(ModuleType):
    """Some rooms bear the name of what they are for; whoever asks the face for `diff` means the question, not the room."""

    def __getattr__(self, name: str) -> Any:
        if name not in _ROOMS:
            raise AttributeError(f"module 'replay' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"replay.{_ROOMS[name]}"), name)

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _ROOMS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
