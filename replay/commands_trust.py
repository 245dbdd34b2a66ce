"""Whether it can be believed: `verify`, and what lets others check it: `checkpoint`, `prove`, `keygen`.

`-O` names the file that is made for others (a bundle of checkpoints, a proof, a key); the answer tells about it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from ledger.errors import Refused
from ledger.identity import parse_position
from ledger.notes import VerifierKey, key_bytes
from replay import headlines
from replay.asked import Asked
from replay.commands_files import source_file
from replay.exits import CONTRADICTED
from replay.options import Command, ledgers_argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.keys import LedgerKey
    from replay.receipts import Finding

_KEY = click.option("--key", metavar="KEYFILE", help="The key that signs, as keygen made it.")


@click.command("verify", cls=Command)
@click.option("--checkpoint", metavar="FILE", help="Heads that were kept elsewhere: shows an end that was cut off.")
@click.option("--verifier", "verifiers", multiple=True, metavar="VKEY", help="Whom to believe: ed25519:… or name+hash+key.")
@click.option("--only", multiple=True, metavar="NAME", help="Of the invariants only this one, such as A12; may be repeated.")
@click.option("--no-invariants", "bytes_only", is_flag=True, help="Check the bytes and nothing else.")
@ledgers_argument()
@click.pass_obj
def verify_(
    asked: Asked,
    /,
    *,
    checkpoint: str | None,
    verifiers: tuple[str, ...],
    only: tuple[str, ...],
    bytes_only: bool,
    ledgers: tuple[str, ...],
) -> int:
    """Check every byte of every ledger (records, chains, roots, signatures, forks), then every invariant over all entries, then
    the rules of the seed system over the whole history: what breaks one is a finding, and cites its entries.

    Exit code 4 if a ledger or this program is wrong: any problem, or an invariant of class log or software that is
    violated. Exit code 1 if only the mesh, or what the log covers of it, shows faults. A verdict is holds, violated, pending (the
    log ends before a deadline), vacuous (nothing happened that it speaks of) or not covered (the log cannot tell).

    A file alone cannot show that its end was cut off: a checkpoint that was kept elsewhere can. Invariants of your own
    come by the entry point meshledger.invariants.

    For example:
      meshledger verify *.ledger
      meshledger verify incident.ledger --only A12 --only B5
      meshledger verify incident.ledger --checkpoint monday.checkpoint --verifier 'ed25519:u7Zl…='
      meshledger verify seattle.ledger --no-invariants -o json
    """
    from projections.monitor import Outcome
    from replay import verdicts
    from replay.check import verify

    for each in verifiers:  # also those that no signature here asks for
        if each.startswith("ed25519:"):
            key_bytes(each)
        else:
            VerifierKey.parse(each)
    kept = None if checkpoint is None else _bundle(checkpoint)
    if only and bytes_only:
        raise Refused("--only and --no-invariants at once", hint="ask for one of them")
    chosen = [] if bytes_only else verdicts.monitors(only)
    paths = asked.paths(ledgers)
    report = verify(paths, checkpoints=kept, keys=verifiers, progress=asked.progress("verify", "feeds"))
    found = verdicts.judged(paths, report, chosen, progress=asked.progress("invariants", "entries")) if chosen else []
    failed = [verdict for verdict in found if verdict.outcome == "violated"]
    breaches = _findings(paths) if chosen and not only and report.ok else []
    answer = report.answer(verdicts.invariants(found), breaches, ok=not failed)
    entries = sum(feed.entries for feed in answer.feeds.values())
    records = sum(feed.records for feed in answer.feeds.values())
    wrong = headlines.counted(len(answer.problems), "problem") if answer.problems else "nothing wrong"
    feeds = headlines.counted(len(answer.feeds), "feed")
    lines = [f"{feeds}, {entries:,} entries, {records:,} records: {wrong}"]
    if found:
        held = Counter(verdict.outcome for verdict in found)
        told = ", ".join(f"{held[outcome]} {outcome}" for outcome in get_args(Outcome) if held[outcome])
        rules = f"; {headlines.counted(len(breaches), 'finding')}" if breaches else ""
        lines.append(f"{headlines.counted(len(found), 'invariant')}: {told}{rules}")
    asked.answer(answer, below=lines)
    if report.quarantined:
        asked.say(f"{headlines.counted(report.quarantined, 'line')} that imports refused in quarantine, outside the log")
    for problem in answer.problems[:1]:
        asked.complain(f"{problem.pos}: {problem.what}" if problem.pos else problem.what)
    if verdicts.broken(answer):
        return CONTRADICTED
    return 0 if answer.ok else 1


def _findings(paths: Sequence[Path]) -> list[Finding]:
    """The breaches of the seed system's rules over what these ledgers hold."""
    from replay.findings import findings
    from replay.history import History
    from replay.receipts import Finding
    from replay.spans import format_instant

    with History.open(*paths) as history:
        return [
            Finding(
                each.rule, each.says, list(each.subjects), format_instant(each.since_ns),
                None if each.until_ns is None else format_instant(each.until_ns), list(each.positions),
            )
            for each in findings(history)
        ]  # fmt: skip


def _bundle(name: str) -> str:
    """The text of a file of checkpoints. Raises Refused, naming the file, for one that is none."""
    from replay.proving import read_bundle

    try:
        text = source_file(name).read_text("utf-8")
        read_bundle(text)
    except UnicodeDecodeError:
        raise Refused(f"{name}: is no UTF-8 text", hint="name a file that `checkpoint` wrote") from None
    except Refused as error:
        raise Refused(error.message if error.message.startswith(name) else f"{name}: {error.message}", hint=error.hint) from None
    return text


@click.command("checkpoint", cls=Command)
@_KEY
@ledgers_argument()
@click.pass_obj
def checkpoint_(asked: Asked, /, *, key: str | None, ledgers: tuple[str, ...]) -> int:
    """The head of each feed (records and root of their Merkle tree) as C2SP checkpoints, signed if a key is named.

    Kept elsewhere, they show later that nothing was cut off or written anew: `verify --checkpoint`.

    For example:
      meshledger checkpoint --key auditor.key -L incident.ledger -O monday.checkpoint
      meshledger checkpoint -L incident.ledger -o json
    """
    from replay.proving import bundle, checkpoint
    from replay.union import Union

    with Union.open(asked.paths(ledgers)) as union:
        answer = checkpoint(union, _signer(key))
        if asked.destination is not None:
            asked.keep(bundle(answer))
        asked.answer(answer, printed=True)
        return asked.forked(union.contradicted)


@click.command("prove", cls=Command)
@click.argument("what", metavar="POS|FEED")
@_KEY
@click.option("--old", type=click.IntRange(0), metavar="N", help="Of a FEED: that its head continues the one of N records.")
@ledgers_argument()
@click.pass_obj
def prove_(asked: Asked, /, *, what: str, key: str | None, old: int | None, ledgers: tuple[str, ...]) -> int:
    """Proof, for whoever has the signer's key and nothing else, that an entry stands in a feed (C2SP tlog-proof).

    With --old, proof that a feed's head only grew from an older one. Without --key a signed head that the ledger holds is used.

    For example:
      meshledger prove alpha#12021 --key auditor.key -L incident.ledger -O alpha-12021.tlog-proof
      meshledger prove alpha --old 40 --key auditor.key -L incident.ledger -O growth.proof
    """
    from replay.history import History
    from replay.proving import prove, prove_growth
    from replay.union import Union

    signer = _signer(key)
    with Union.open(asked.paths(ledgers)) as union:
        position = parse_position(what if "#" in what else f"{what}#1")
        if position is None or ("#" in what) == (old is not None):
            hint = "prove alpha#12021 for an entry, prove alpha --old 40 for a feed"
            raise Refused(f"'{what}' does not say what is to be proved", hint=hint)
        feed = History(union, snapshots=False).entry(position).feed
        answer = prove(union, feed, position.index, signer) if old is None else prove_growth(union, feed, old, signer=signer)
        if asked.destination is not None:
            if answer.text is None:
                raise Refused("a proof of growth is kept with its new head, signed", hint="sign it: --key FILE")
            asked.keep(answer.text)
        asked.answer(answer, printed=True)
        return asked.forked(union.contradicted)


def _signer(key: str | None) -> LedgerKey | None:
    from ledger.keys import load

    return None if key is None else load(key)


@click.command("keygen", cls=Command)
@click.pass_obj
def keygen_(asked: Asked, /) -> int:
    """Make an Ed25519 key that signs heads: the private half into the new file of -O, the public half is printed.

    The file is for its owner only, and is never overwritten. Others need nothing but the public half.

    For example:
      meshledger keygen -O auditor.key
      meshledger keygen -O auditor.key -o json
    """
    from ledger.keys import generate, save
    from replay.receipts import Keygen

    path: Path = asked.file("the key")
    key = generate()
    save(key, path)
    asked.answer(Keygen(file=str(path), public_key=key.text), printed=True)
    return 0
