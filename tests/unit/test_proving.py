"""Proofs that an outsider checks with a key and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import word
from word import Word, feed_of

from ledger.errors import BadProof, BadSignature, LedgerError, NotCovered, Refused
from ledger.identity import Feed
from ledger.keys import generate
from ledger.notes import Checkpoint, VerifierKey, parse_note, parse_notes
from ledger.store import Ledger
from replay.proving import bundle, check_growth, check_proof, checkpoint, origin_of, prove, prove_growth, read_bundle
from replay.union import Union

ALPHA, BRAVO = feed_of("alpha"), feed_of("bravo")
KEY, OTHER = generate(), generate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of two feeds, one of seven records."""
    return word.write(tmp_path / "a.ledger", {ALPHA: Word((0,) * 16, (2, 5, 6, 8, 9, 12, 15)), BRAVO: Word((0, 0))})


def test_an_origin_is_a_name_that_keys_may_bear() -> None:
    """The origin names incarnation, machine, epoch and the first digits of the id, with nothing in it that C2SP forbids."""
    assert origin_of(ALPHA) == f"meshledger/import-words/alpha.1/{ALPHA.id[:16]}"
    assert VerifierKey(origin_of(Feed.of("a b+c\n", "alpha")), KEY.public).name.startswith("meshledger/a-b-c-/alpha.1/")


def test_a_bundle_holds_a_signed_head_of_every_feed(path: Path) -> None:
    """The heads of all feeds are C2SP notes, read back as they were, signed or not."""
    with Union.open([path]) as union:
        signed, bare = checkpoint(union, KEY), checkpoint(union)
    assert [(head.feed, head.records, head.entries, head.signed) for head in signed.heads] == [
        ("alpha", 7, 15, True),
        ("bravo", 0, 0, True),
    ]
    assert [str(note) for note in parse_notes(bundle(signed))] == [head.text for head in signed.heads]
    for answer in (signed, bare):
        heads = read_bundle(bundle(answer))
        assert [(head.size, head.root.hex()) for head, _note in heads] == [(head.records, head.root) for head in answer.heads]
        assert all((note is not None) == answer.heads[0].signed for _head, note in heads)
    for nothing in ("", "text\n", "\n\n"):
        with pytest.raises(Refused):
            read_bundle(nothing)


@pytest.mark.parametrize("index", [1, 2, 3, 6, 9, 15])
def test_a_proof_verifies_offline_alone(path: Path, index: int) -> None:
    """From the text and the key alone come the record's entries, the one asked for among them."""
    with Union.open([path]) as union:
        answer = prove(union, ALPHA, index, KEY)
    assert answer.text is not None
    proven = check_proof(answer.text, [KEY.text])
    assert (proven.origin, proven.size, proven.root.hex(), proven.record) == (origin_of(ALPHA), 7, answer.root, answer.rec)
    assert proven.entries[index - proven.first] == word.entry(ALPHA, index, 0)
    assert [key.public for key in proven.by] == [KEY.public]
    with pytest.raises(BadSignature):
        check_proof(answer.text, [OTHER.text])


def test_no_line_of_a_proof_may_be_another(path: Path) -> None:
    """Any character of a proof that is replaced by another of its kind makes the check fail."""
    with Union.open([path]) as union:
        text = prove(union, ALPHA, 6, KEY).text
    assert text is not None
    for place in range(len(text)):
        if re.match(r"[A-Za-z0-9+/]", text[place]):
            other = "B" if text[place] != "B" else "C"
            with pytest.raises(LedgerError):
                check_proof(text[:place] + other + text[place + 1 :], [KEY.text])


def test_what_cannot_be_proved_is_refused(path: Path) -> None:
    """An entry of the open part is not covered; one that is not there, or without a signer, is refused."""
    with Union.open([path]) as union:
        with pytest.raises(NotCovered):
            prove(union, ALPHA, 16, KEY)
        for index in (0, 17):
            with pytest.raises(Refused):
                prove(union, ALPHA, index, KEY)
        with pytest.raises(Refused, match="no signed head"):
            prove(union, ALPHA, 3)
        bare = check = prove(union, ALPHA, 3, KEY).text
    assert bare is not None
    with pytest.raises(Refused, match="bears no record"):
        check_proof(re.sub(r"extra .*\n", "", check or ""), [KEY.text])


def test_a_signed_head_in_the_ledger_serves_without_a_key(path: Path) -> None:
    """A head that the ledger keeps, and that covers the record, makes a proof with no key at hand."""
    with Union.open([path]) as union:
        text = checkpoint(union, KEY).heads[0].text
    with Ledger.open(path, write=True) as ledger:
        ledger.keep_signature(ALPHA, 7, text)
    with Union.open([path]) as union:
        proof = prove(union, ALPHA, 3).text
    assert proof is not None
    assert check_proof(proof, [VerifierKey(origin_of(ALPHA), KEY.public)]).record == 2


@pytest.mark.parametrize(("old", "new"), [(0, 7), (1, 7), (3, 7), (4, 6), (7, 7), (2, 4)])
def test_growth_is_shown_from_any_size_to_any_other(path: Path, old: int, new: int) -> None:
    """Whoever kept the old root sees that the new head begins with it, and that another root does not."""
    with Union.open([path]) as union:
        answer = prove_growth(union, ALPHA, old, new, KEY)
    assert answer.text is not None
    assert answer.old_root is not None
    grown = check_growth(answer.text, bytes.fromhex(answer.old_root), [KEY.text])
    assert (grown.old_size, grown.size, grown.root.hex()) == (old, new, answer.root)
    with pytest.raises(BadProof):
        check_growth(answer.text, bytes(32), [KEY.text])
    with pytest.raises(BadSignature):
        check_growth(answer.text, bytes.fromhex(answer.old_root), [OTHER.text])


def test_sizes_that_never_were_are_refused(path: Path) -> None:
    """No proof goes backwards or beyond the end; no text without a signer; no text that is none."""
    with Union.open([path]) as union:
        for old, new in ((3, 2), (0, 8), (-1, 3)):
            with pytest.raises(Refused):
                prove_growth(union, ALPHA, old, new, KEY)
        assert prove_growth(union, ALPHA, 3).text is None
    for text in ("", "old x\n\n", "new 3\n\n"):
        with pytest.raises(Refused):
            check_growth(text, bytes(32), [KEY.text])


def test_a_checkpoint_commits_to_the_root_that_the_file_has(path: Path) -> None:
    """The signed text names origin, size and root, one line each, as C2SP tlog-checkpoint has them."""
    with Union.open([path]) as union:
        head = checkpoint(union, KEY).heads[0]
    stated = Checkpoint.parse(parse_note(head.text).text)
    assert (stated.origin, stated.size, stated.root.hex(), stated.extensions) == (origin_of(ALPHA), 7, head.root, ())
