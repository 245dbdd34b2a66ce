"""What is answered about ledgers and files: entries, checks, what was taken over or written, proofs, failures.

The same form as `answers`: one struct an answer, tagged with its schema; within a version fields are added, never
changed. A feed is keyed by its name: `alpha`, or `alpha.2` in its second epoch. Hashes are hexadecimal SHA-256.

Shapes only: nothing is computed here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from replay.answers import Answer, Count, Instant, Pos

Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Json = Annotated[Any, Meta(extra_json_schema={"type": "object"})]


class FeedCheck(Struct, frozen=True):
    """A feed as verified: `root` of the Merkle tree over its records; `signature`: what became of its signed heads."""

    epoch: Annotated[int, Meta(ge=1)]
    entries: Count
    records: Count
    root: Hash | None
    signature: str | None


class Problem(Struct, frozen=True):
    """Something that is not as it was written, or contradicts itself. `pos` null: it concerns no single place. `invariant`:
    the one that it breaks.
    """

    pos: str | None
    what: str
    invariant: str | None = None


class Violation(Struct, frozen=True):
    """Where an invariant is broken, and why; `also`: the other entries that belong to it. `at` null: no single moment."""

    pos: str
    at: Instant | None
    what: str
    also: list[str]


class Invariant(Struct, frozen=True):
    """What was found of an invariant. `severity`: of log and software it holds in every correct history, of mesh and
    coverage it is a finding. `judged`: how often it was put to the test; `violations`: the earliest of those `violated`;
    `uncovered`: how often the log could not tell; `pending`: what was awaited still when it ended.
    """

    name: str
    title: str
    severity: Literal["log", "software", "mesh", "coverage"]
    verdict: Literal["holds", "violated", "pending", "vacuous", "not covered"]
    says: str
    judged: Count
    violated: Count
    uncovered: Count
    pending: Count
    violations: list[Violation]


class Finding(Struct, frozen=True):
    """A breach of one of the seed system's rules over the history: which, in a sentence; from when until when (null: it had not
    ended); whom; and the entries that show it.
    """

    rule: str
    says: str
    subjects: list[str]
    since: Instant
    until: Instant | None
    positions: list[Pos]


class Verify(Answer, frozen=True, kw_only=True, tag="meshledger.verify/1"):
    """`verify`: every byte, chain and signature; then the invariants, over the whole history, if they were asked for. `ok`:
    nothing is wrong and nothing was found.
    """

    ok: bool
    feeds: dict[str, FeedCheck]
    problems: list[Problem]
    invariants: list[Invariant]
    findings: list[Finding]


class Taken(Struct, frozen=True):
    """Entries of a feed that came: new here, here before, at odds with what is here."""

    new: Count
    there: Count
    conflicting: Count


class Contradiction(Struct, frozen=True):
    """Two different entries at one position: the branches as they are named."""

    pos: Pos
    branches: list[str]


class Refusal(Struct, frozen=True):
    """A line, cell or file that was not taken, and why. `line` counts from 1; null if it concerns a whole file."""

    line: Count | None
    why: str
    file: str | None = None


class Merge(Answer, frozen=True, kw_only=True, tag="meshledger.merge/1"):
    """`merge`: what each feed brought."""

    feeds: dict[str, Taken]
    conflicts: list[Contradiction]
    refused: list[Refusal]


class Import(Answer, frozen=True, kw_only=True, tag="meshledger.import/1"):
    """`import`: what each feed brought, and what was refused."""

    feeds: dict[str, Taken]
    conflicts: list[Contradiction]
    refused: list[Refusal]


class LogRow(Struct, frozen=True, gc=False):
    """An entry. `rec`: the sealed record that holds it, null in the open part. `event`: its fields as stored; an entry
    of an unknown kind or a newer version has `raw` instead, its stored bytes in base64.
    """

    pos: Pos
    rec: Count | None
    at: Instant
    boot: Count | None
    mono_ns: int | None
    kind: str
    v: Count
    event: Json | UnsetType = UNSET
    raw: str | UnsetType = UNSET


class Log(Answer, frozen=True, kw_only=True, tag="meshledger.log/1"):
    """`log`: the entries asked for. As jsonl one `LogRow` a line, which `import` reads."""

    entries: list[LogRow]


class Show(Answer, frozen=True, kw_only=True, tag="meshledger.show/1"):
    """`show`: the entries at the positions asked for."""

    entries: list[LogRow]


class Tail(Answer, frozen=True, kw_only=True, tag="meshledger.tail/1"):
    """`tail`: the entries appended after the position asked for."""

    entries: list[LogRow]


class Export(Answer, frozen=True, kw_only=True, tag="meshledger.export/1"):
    """`export`: what was written where; `file` null is the standard output."""

    file: str | None
    format: str
    feeds: dict[str, Count]
    entries: Count


class Backup(Answer, frozen=True, kw_only=True, tag="meshledger.backup/1"):
    """`backup`: the copy, and the entries it holds of each feed."""

    file: str
    feeds: dict[str, Count]
    entries: Count
    bytes: Count


class Head(Struct, frozen=True):
    """A feed's head: number of records and root of their tree. `text`: the C2SP checkpoint, signed if a key was."""

    feed: str
    records: Count
    root: Hash
    entries: Count
    signed: bool
    text: str


class Checkpoint(Answer, frozen=True, kw_only=True, tag="meshledger.checkpoint/1"):
    """`checkpoint`: the heads of all feeds, to be kept elsewhere."""

    heads: list[Head]


class Prove(Answer, frozen=True, kw_only=True, tag="meshledger.prove/1"):
    """`prove`: that a record stands in a head (`inclusion`), or that a head continues an older one (`consistency`).

    `hashes`: the path of RFC 6962, section 2.1. Of an inclusion `pos` and `rec` name the record and `leaf` is its hash;
    of a consistency `old_records` and `old_root` are the older head. `text`: the proof as others read it.
    """

    proof: Literal["inclusion", "consistency"]
    feed: str
    records: Count
    root: Hash
    hashes: list[Hash]
    pos: Pos | None = None
    rec: Count | None = None
    leaf: Hash | None = None
    old_records: Count | None = None
    old_root: Hash | None = None
    text: str | None = None


class Keygen(Answer, frozen=True, kw_only=True, tag="meshledger.keygen/1"):
    """`keygen`: where the private key lies, and the public one as text (`ed25519:…`)."""

    file: str
    public_key: str


class Note(Answer, frozen=True, kw_only=True, tag="meshledger.note/1"):
    """`note`: where it stands, in which file, of which moment; `new` false: it stood there already, word for word."""

    file: str
    pos: Pos
    at: Instant
    mark: str | None
    by: str | None
    text: str
    new: bool


class Sql(Answer, frozen=True, kw_only=True, tag="meshledger.sql/1"):
    """`sql`: the rows, each an object with the columns of the query."""

    columns: list[str]
    rows: list[dict[str, Any]]


class Version(Answer, frozen=True, kw_only=True, tag="meshledger.version/1"):
    """`version`: of this program, Python, SQLite, and the ledger's layout that is written."""

    version: str
    python: str
    sqlite: str
    format: Count


class Step(Struct, frozen=True):
    """A question of the demonstration, what was expected, what came, and whether that is right. `fault`: what it is about;
    `positions`: the entries that show it; `control`: what came where the fault was not, which must be something else.
    """

    question: str
    expected: str
    answer: str
    ok: bool
    fault: str | None = None
    positions: list[Pos] = field(default_factory=list)
    control: str | None = None


class Demo(Answer, frozen=True, kw_only=True, tag="meshledger.demo/1"):
    """`demo`: a cluster raised, broken, asked about and checked. `generated`: no real node took part. `ledger`: all in one."""

    ok: bool
    generated: bool
    ledger: str | None
    steps: list[Step]


class Error(Answer, frozen=True, kw_only=True, tag="meshledger.error/1"):
    """Why there is no answer: the class of error, one line, what to do about it, and the exit code."""

    error: str
    message: str
    hint: str | None
    exit_code: Count
