"""The golden corpus: every shape of event and record that was ever written. Lines are added, never changed or removed.

`golden/events.jsonl`: kind, version and the bytes as stored. `golden/records.jsonl`: entries (`stored` with one character a
byte), the canonical bytes of their record and its leaf hash, in hexadecimal digits.
"""

import json
from pathlib import Path

_FOLDER = Path(__file__).parent / "golden"


def _lines(name):
    return [json.loads(line) for line in (_FOLDER / name).read_text(encoding="utf-8").splitlines()]


EVENTS = _lines("events.jsonl")
RECORDS = _lines("records.jsonl")
