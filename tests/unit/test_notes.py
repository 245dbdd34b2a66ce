"""Signed notes, checkpoints, bundles and proofs, against texts that others published and signed."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import BadProof, BadSignature, Damaged, Refused
from ledger.identity import Feed
from ledger.keys import LedgerKey
from ledger.merkle import EMPTY_ROOT, inclusion_proof, leaf_hash, root
from ledger.notes import (
    Checkpoint,
    Note,
    Signature,
    VerifierKey,
    format_notes,
    key_bytes,
    key_text,
    open_checkpoint,
    open_note,
    parse_note,
    parse_notes,
    sign_checkpoint,
    sign_note,
    signed_by,
)
from ledger.proofs import Proof, parse_proof, verify_proof

# Published with Go's golang.org/x/mod/sumdb/note: two keys, one text, a signature by each.
PETER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_PRIVATE = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ENOCH_KEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
ENOCH_LINE = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
PETER_NOTE = f"{TEXT}\n{PETER_LINE}"
PETER, ENOCH = VerifierKey.parse(PETER_KEY), VerifierKey.parse(ENOCH_KEY)

# Go's checksum database: its key, and a head that it published in September 2024.
SUMDB_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB_HEAD = """go.sum database tree
30055305
mXfgRcJ0bG0j3CPdKwgGWtUzBUbX67saZGRmFuJGGsM=

— sum.golang.org Az3grpgEild5qw7+5dtV13Kf1C2Xurm8q4fhdxvcsDHnqNTaxL2AFjBY+2TyGKevucFcAAlWFJJYle3EJlDCrQ+y3A8=
"""
# The example in C2SP tlog-checkpoint: a head of the same database under a made-up name.
SPEC_HEAD = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa \
Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
"""
# The example in C2SP signed-note: its text has an empty line of its own.
SPEC_NOTE = """Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore \
NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
"""

ORIGIN = f"meshledger/{Feed.of('incarnation', 'alpha').id}"
LEAVES = [leaf_hash(b"record %d" % index) for index in range(11)]


def key_of(seed):
    """The ledger key that grows from these 32 bytes."""
    return LedgerKey(Ed25519PrivateKey.from_private_bytes(seed))


ALPHA, BRAVO = key_of(b"a" * 32), key_of(b"b" * 32)
ALPHA_KEY, BRAVO_KEY = VerifierKey(ORIGIN, ALPHA.public), VerifierKey(ORIGIN, BRAVO.public)
HEAD = Checkpoint(ORIGIN, len(LEAVES), root(LEAVES))


def test_go_s_published_note_opens():
    """The note that Go published opens with the key that Go published, and names it."""
    opened = open_note(PETER_NOTE, [PETER])
    assert (opened.text, opened.by) == (TEXT, (PETER,))
    assert open_note(PETER_NOTE + ENOCH_LINE, [ENOCH, PETER]).by == (PETER, ENOCH)


def test_we_write_go_s_note_byte_for_byte():
    """Signed with the private key that Go published, its text becomes its note, byte for byte."""
    peter = key_of(base64.b64decode(PETER_PRIVATE)[1:])
    assert peter.public == PETER.public
    assert sign_note(TEXT, "PeterNeumann", peter) == PETER_NOTE


def test_a_note_reads_back_as_it_was():
    """Parsing and formatting a note gives the same bytes, also with empty lines in its text and several signers."""
    for text in (PETER_NOTE, PETER_NOTE + ENOCH_LINE, SPEC_NOTE, SPEC_HEAD, SUMDB_HEAD):
        assert str(parse_note(text)) == text
    note = parse_note(SPEC_NOTE)
    assert note.text.endswith("sole:\n\ned è subito sera.\n")
    assert parse_note(f"{note.text}\n{note.signature_lines}") == note


def test_a_verifier_key_has_one_spelling():
    """A verifier key reads back as it was written; any part of it, and any changed character, is refused."""
    assert [str(VerifierKey.parse(text)) for text in (PETER_KEY, ENOCH_KEY, SUMDB_KEY)] == [
        PETER_KEY,
        ENOCH_KEY,
        SUMDB_KEY,
    ]
    ends = range(len(PETER_KEY) + 1)
    wrong = [PETER_KEY[i:j] for i in ends for j in ends if i < j and j - i < len(PETER_KEY)]
    wrong += [PETER_KEY[:i] + chr(ord(PETER_KEY[i]) + 1) + PETER_KEY[i + 1 :] for i in range(len(PETER_KEY))]
    wrong += [
        "",
        PETER_KEY.replace("c74f20a3", "C74F20A3"),
        PETER_KEY + "\n",
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",  # too long, its hash adjusted
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # unknown type, its hash adjusted
    ]
    for text in wrong:
        with pytest.raises(Refused):
            VerifierKey.parse(text)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "line\n", "no\u00a0break", "bell\a", "nul\0", "half\ud800"])
def test_what_cannot_name_a_key(name):
    """A key's name is not empty, and has neither spaces nor '+' nor what a note cannot hold."""
    with pytest.raises(Refused):
        VerifierKey(name, PETER.public)


def test_lines_by_unknown_keys_are_passed_over():
    """A line by a key that is not known is ignored, be it false, or share it a name or a hash with a known key."""
    same_name = "— PeterNeumann " + ENOCH_LINE.rsplit(maxsplit=1)[-1] + "\n"
    same_hash = "— EnochRoot " + PETER_LINE.rsplit(maxsplit=1)[-1] + "\n"
    note = f"{TEXT}\n{ENOCH_LINE.replace('rwz+eB', 'rwz+eC')}{same_name}{same_hash}{PETER_LINE}"
    assert open_note(note, [PETER]).by == (PETER,)


def test_a_note_without_a_known_signature_is_not_believed():
    """A note that none of the known keys has signed raises, and so does one that is read with no keys at all."""
    for keys in ([], [ENOCH], [VerifierKey("Peter", PETER.public)]):
        with pytest.raises(BadSignature):
            open_note(PETER_NOTE, keys)
    assert issubclass(BadSignature, Damaged)


def test_a_false_signature_by_a_known_key_spoils_the_note():
    """A false line by a known key raises, although another known key has signed the same text truly."""
    false = PETER_LINE.replace("x08go/ZJ", "x08go/ZK")
    for note in (f"{TEXT}\n{false}", f"{TEXT}\n{ENOCH_LINE}{false}", f"{TEXT}\n{PETER_LINE}{false}"):
        with pytest.raises(BadSignature):
            open_note(note, [PETER, ENOCH])
    longer = f"{TEXT}\n{PETER_LINE[:60]}ABCD{PETER_LINE[60:]}"
    with pytest.raises(BadSignature):
        open_note(longer, [PETER])


@given(st.integers(0, len(PETER_NOTE.encode()) - 1), st.integers(0, 7))
def test_no_changed_bit_opens(place, bit):
    """Whatever single bit of a signed note is changed: it does not open, as text, as note or by its signature."""
    changed = bytearray(PETER_NOTE.encode())
    changed[place] ^= 1 << bit
    with pytest.raises((BadSignature, Refused)):  # noqa: PT012  # bytes that are no UTF-8 are no note either
        try:
            text = changed.decode()
        except UnicodeDecodeError:
            raise Refused("no text") from None
        open_note(text, [PETER])


def test_two_keys_of_one_name_and_hash_are_refused():
    """One key given twice is one key; if two different keys shared name and hash, nobody could say whose line it is."""
    assert open_note(PETER_NOTE, [PETER, PETER]).by == (PETER,)

    class Twin(VerifierKey, frozen=True):
        @property
        def id(self):
            return PETER.id

    with pytest.raises(Refused):
        open_note(PETER_NOTE, [PETER, Twin("PeterNeumann", ENOCH.public)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT,
        TEXT + "\n",
        PETER_NOTE[:-1],
        PETER_NOTE + "\n",
        "\x01" + PETER_NOTE,
        "\ud800" + PETER_NOTE,
        PETER_NOTE.replace("\n", "\r\n"),
        PETER_NOTE.replace("— ", "- "),
        PETER_NOTE.replace("— ", "—"),
        PETER_NOTE.replace("PeterNeumann", "Bad Name"),
        PETER_NOTE.replace("PeterNeumann", "Bad+Name"),
        PETER_NOTE.replace("PeterNeumann", "Bad\u2003Name"),
        PETER_NOTE + "Unexpected line.\n",
        PETER_NOTE.replace("AM=", "AM"),
        PETER_NOTE.replace("AM=", "AN="),  # the same bytes, spelled otherwise
        f"{TEXT}\n— PeterNeumann x08gow==\n",  # a key's hash, and no signature
        f"{TEXT}\n{PETER_LINE * 101}",
    ],
)
def test_what_is_no_note(text):
    """A text that is not a signed note to the last byte is refused."""
    with pytest.raises(Refused):
        parse_note(text)


def test_a_note_may_have_many_signatures():
    """C2SP asks that 16 signatures be read; 100 are, and a key that signed several times is named once."""
    assert open_note(f"{TEXT}\n{PETER_LINE * 100}", [PETER]).by == (PETER,)


def test_what_cannot_be_signed():
    """A text without its last newline, with control characters, or without anybody to sign it, is refused."""
    for text, name, signers in [
        ("no newline", "alpha", [ALPHA]),
        ("bell\a\n", "alpha", [ALPHA]),
        ("text\n", "two words", [ALPHA]),
        ("text\n", "alpha", []),
    ]:
        with pytest.raises(Refused):
            sign_note(text, name, *signers)


def test_ledger_keys_stand_in_events_as_text():
    """A ledger key's text is `ed25519:` and base64, and reads back; any other spelling is refused."""
    text = key_text(PETER.public)
    assert text == "ed25519:GlzZBxQ8OExB6DDFvOEqqIF+xWSaqr8sMTiLNbLXRNY="
    assert key_bytes(text) == PETER.public
    for wrong in (
        "",
        "ed25519:",
        text[8:],
        text[:-1],
        text + "\n",
        text.replace("ed25519", "Ed25519"),
        text[:-2] + "Z=",
    ):
        with pytest.raises(Refused):
            key_bytes(wrong)


def test_a_signature_of_any_wrong_length_does_not_hold():
    """Whatever is given as signature or key, the answer is yes or no, never an accident."""
    signature = ALPHA.sign(b"said")
    assert signed_by(ALPHA.public, b"said", signature)
    for public, said, by in [
        (ALPHA.public, b"else", signature),
        (BRAVO.public, b"said", signature),
        (ALPHA.public, b"said", b""),
        (ALPHA.public, b"said", signature + b"\0"),
        (b"short", b"said", signature),
    ]:
        assert not signed_by(public, said, by)


def test_published_checkpoints():
    """A head that Go's checksum database signed opens with its key, as does the one C2SP shows, under its true name."""
    keys = [VerifierKey.parse(SUMDB_KEY)]
    head = open_checkpoint(SUMDB_HEAD, keys, origin="go.sum database tree")
    assert (head.origin, head.size, head.root.hex()[:8]) == ("go.sum database tree", 30055305, "9977e045")
    renamed = SPEC_HEAD.replace("— example.com/behind-the-sofa", "— sum.golang.org").replace(
        "example.com/behind-the-sofa", "go.sum database tree"
    )
    assert open_checkpoint(renamed, keys, origin="go.sum database tree").size == 20852163
    assert Checkpoint.parse(parse_note(SPEC_HEAD).text).text == parse_note(SPEC_HEAD).text
    with pytest.raises(BadSignature):
        open_checkpoint(SPEC_HEAD, keys, origin="example.com/behind-the-sofa")
    with pytest.raises(BadProof):
        open_checkpoint(SUMDB_HEAD, keys, origin="another tree")


@given(st.integers(0, 10**18 - 1), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_signed_is_the_checkpoint_opened(size, top):
    """Any size and root, signed and opened again, are the same; under another's key they are not believed."""
    head = Checkpoint(ORIGIN, size, top)
    note = sign_checkpoint(head, ALPHA)
    assert note.startswith(f"{ORIGIN}\n{size}\n")
    assert open_checkpoint(note, [ALPHA_KEY], origin=ORIGIN) == head
    with pytest.raises(BadSignature):
        open_checkpoint(note, [BRAVO_KEY], origin=ORIGIN)


def test_two_machines_sign_one_head():
    """Two keys under one name sign one head; each opens it alone, and both are named by a reader who knows both."""
    note = sign_checkpoint(HEAD, ALPHA, BRAVO)
    assert open_note(note, [BRAVO_KEY]).by == (BRAVO_KEY,)
    assert open_note(note, [BRAVO_KEY, ALPHA_KEY]).by == (ALPHA_KEY, BRAVO_KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n",
        "origin\n1\n",
        "origin\n1\nAAAA\n",
        f"\n1\n{'A' * 43}=\n",
        f"origin\n01\n{'A' * 43}=\n",
        f"origin\n-1\n{'A' * 43}=\n",
        f"origin\n1 \n{'A' * 43}=\n",
        f"origin\n٣\n{'A' * 43}=\n",
        f"origin\n{'9' * 19}\n{'A' * 43}=\n",
        f"origin\n1\n{'A' * 43}=",
        f"origin\n1\n{'A' * 43}=\n\nafter a blank\n",
        f"origin\n1\n{'A' * 43}=\n\n",
        f"origin\n1\n{'A' * 42}B=\n",
    ],
)
def test_what_is_no_checkpoint(text):
    """Origin, size and root, one line each, are needed in their one spelling; anything else is refused."""
    with pytest.raises(Refused):
        Checkpoint.parse(text)


def test_extension_lines_are_kept():
    """Lines after the root are opaque: they are kept, and signed with the rest."""
    head = Checkpoint(ORIGIN, 0, EMPTY_ROOT, ("one more", "and another"))
    assert open_checkpoint(sign_checkpoint(head, ALPHA), [ALPHA_KEY], origin=ORIGIN) == head


def test_what_cannot_be_a_checkpoint_is_not_signed():
    """A head that would read back otherwise than it was meant is refused before it is signed."""
    for head in [
        Checkpoint("two words", 0, EMPTY_ROOT),
        Checkpoint("a\nb", 0, EMPTY_ROOT),
        Checkpoint(ORIGIN, -1, EMPTY_ROOT),
        Checkpoint(ORIGIN, 0, b"short"),
        Checkpoint(ORIGIN, 0, EMPTY_ROOT, ("two\nlines",)),
        Checkpoint(ORIGIN, 0, EMPTY_ROOT, ("",)),
    ]:
        with pytest.raises(Refused):
            sign_checkpoint(head, ALPHA)


def test_a_bundle_holds_several_notes():
    """Several notes in one file, a blank line between them, are read as they stand, empty lines in a text included."""
    texts = [SUMDB_HEAD, PETER_NOTE + ENOCH_LINE, SPEC_NOTE, SPEC_HEAD]
    bundle = "\n".join(texts)
    notes = parse_notes(bundle)
    assert [str(note) for note in notes] == texts
    assert format_notes(notes) == bundle
    assert parse_notes("") == [] == parse_notes(format_notes([]))
    assert parse_notes(PETER_NOTE) == [parse_note(PETER_NOTE)]


@given(
    st.lists(
        st.builds(
            Note,
            st.lists(st.sampled_from(["", "text", "— x AAAA", "— name AAAAAAAA"]), min_size=1).map(
                lambda lines: "\n".join([*lines, ""])
            ),
            st.lists(st.just(Signature("name", b"\0" * 4, b"\0\0")), min_size=1, max_size=3).map(tuple),
        ),
        max_size=4,
    )
)
def test_a_bundle_reads_back_or_is_refused(notes):
    """Whatever notes are bundled, also texts that look like signatures: they read back as they were, or are refused."""
    try:
        bundle = format_notes(notes)
    except Refused:
        assert any("\n\n— " in note.text or note.text.startswith("\n") for note in notes)
        return
    assert parse_notes(bundle) == notes


@pytest.mark.parametrize(
    "text",
    [
        "\n",
        PETER_NOTE + "\n",
        "\n" + PETER_LINE,
        PETER_NOTE + PETER_NOTE,
        PETER_NOTE + "\n\n" + PETER_NOTE,
        PETER_NOTE + "\n" + TEXT,
        (PETER_NOTE + "\n" + PETER_NOTE)[:-1],
        "\a" + PETER_NOTE,
    ],
)
def test_what_is_no_bundle(text):
    """Notes without a blank line between them, a blank line too many, and what is left over, are refused."""
    with pytest.raises(Refused):
        parse_notes(text)


@pytest.mark.parametrize("extra", [b"", b"opaque"])
@pytest.mark.parametrize("index", [0, 7, 10])
def test_a_proof_file_shows_one_record(index, extra):
    """A proof file reads back as it was written, and leads from its leaf to the signed head, and from no other leaf."""
    note = parse_note(sign_checkpoint(HEAD, ALPHA))
    proof = Proof(index, tuple(inclusion_proof(LEAVES, index)), note, extra)
    text = str(proof)
    assert text.startswith("c2sp.org/tlog-proof@v1\n" + ("extra b3BhcXVl\n" if extra else "") + f"index {index}\n")
    assert text.endswith(f"=\n\n{note}")
    assert parse_proof(text) == proof
    assert verify_proof(proof, LEAVES[index], [ALPHA_KEY], origin=ORIGIN) == HEAD
    with pytest.raises(BadProof):
        verify_proof(proof, LEAVES[3], [ALPHA_KEY], origin=ORIGIN)
    with pytest.raises(BadProof):
        verify_proof(proof, LEAVES[index], [ALPHA_KEY], origin="another")
    with pytest.raises(BadSignature):
        verify_proof(proof, LEAVES[index], [BRAVO_KEY], origin=ORIGIN)


def test_a_proof_in_a_tree_of_one_has_no_hashes():
    """In a tree of one record the proof is the signed head alone, and still reads back."""
    head = Checkpoint(ORIGIN, 1, LEAVES[0])
    proof = parse_proof(str(Proof(0, (), parse_note(sign_checkpoint(head, ALPHA)))))
    assert verify_proof(proof, LEAVES[0], [ALPHA_KEY], origin=ORIGIN) == head


def test_what_is_no_proof():
    """A file that is not a proof to the last byte is refused."""
    text = str(Proof(7, tuple(inclusion_proof(LEAVES, 7)), parse_note(sign_checkpoint(HEAD, ALPHA)), b"opaque"))
    for wrong in [
        "",
        "c2sp.org/tlog-proof@v1\n",
        text.replace("@v1", "@v2"),
        text.replace("index 7", "index 07"),
        text.replace("index 7", "index -7"),
        text.replace("index 7", "index"),
        text.replace("index 7", "number 7"),
        text.replace("extra b3BhcXVl", "extra !"),
        text.replace("extra b3BhcXVl", "extra "),
        text.replace("index 7\n", "index 7\nAAAA\n"),
        text.replace("\n\n", "\n", 1),
        text.replace("\n", "\r\n"),
        text[:-1],
        text + "\n",
        "\n" + text,
    ]:
        with pytest.raises(Refused):
            parse_proof(wrong)


def test_reading_loads_no_cryptography():
    """Notes, bundles, checkpoints and proofs are read, and trees computed, without loading the cryptography package."""
    note = str(Proof(0, (), parse_note(sign_checkpoint(Checkpoint(ORIGIN, 1, LEAVES[0]), ALPHA))))
    program = (
        "import sys, ledger.keys, ledger.merkle, ledger.notes, ledger.proofs\n"
        "proof = ledger.proofs.parse_proof(sys.argv[1])\n"
        "ledger.notes.parse_notes(str(proof.checkpoint))\n"
        "ledger.notes.Checkpoint.parse(proof.checkpoint.text)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('cryptography', '_cffi_backend')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, note], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
