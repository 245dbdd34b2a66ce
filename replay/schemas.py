"""The closed list of answers, and the JSON Schema of each: what `schema NAME` prints.

The schemas are made by msgspec from the structs that answers are encoded from (`answers`, `receipts`, their kin), and so cannot
differ from what is printed (JSON Schema, draft 2020-12, https://json-schema.org/draft/2020-12). `schema` describes the
object of `-o json`, `row_schema` one line of `-o jsonl`.

Pure: names in, schemas out.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ledger.errors import Refused
from replay.answers import Answer, At, Blame, Connstatus, Diff, Members, Routes, Stats
from replay.answers_conditions import Absences, Bisect, Conditions
from replay.answers_node import Doctor, Done, Invite, Node, Status
from replay.answers_views import Disagreements
from replay.answers_why import Why
from replay.listings import LISTED
from replay.receipts import (
    Backup,
    Checkpoint,
    Demo,
    Error,
    Export,
    Import,
    Keygen,
    Log,
    Merge,
    Note,
    Prove,
    Show,
    Sql,
    Tail,
    Verify,
    Version,
)
from replay.text import shorten

ANSWERS: Final[dict[str, type[Answer]]] = {
    answer.__name__.lower(): answer
    for answer in (
        At, Members, Connstatus, Routes, Diff, Blame, Why, Stats, Bisect, Conditions, Absences, Disagreements,
        Verify, Merge, Import, Log,
        Show, Tail, Export, Backup, Checkpoint, Prove, Keygen, Note, Sql, Version, Demo, Error, Node, Invite, Done, Status,
        Doctor,
    )
}  # fmt: skip
"""Every answer by its name."""


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of the answer `name`. Raises Refused, naming those there are, if there is none of that name."""
    return _described(_answer(name), f"meshledger.{name}/1")


def row_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one row of the answer `name`, as jsonl prints it. Raises Refused as `schema` does."""
    answer = _answer(name)
    shape = LISTED[answer][0] if answer in LISTED else dict[str, Any]
    return _described(shape, f"meshledger.{name}.row/1")


def _answer(name: str) -> type[Answer]:
    if name not in ANSWERS:
        raise Refused(f"there is no answer named '{shorten(name)}'", hint=f"one of {', '.join(sorted(ANSWERS))}")
    return ANSWERS[name]


def _described(shape: Any, identity: str) -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": identity, **msgspec.json.schema(shape)}
