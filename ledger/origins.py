"""What a feed's signed heads are heads *of*: the origin line of its checkpoints (C2SP tlog-checkpoint v1.0.0).

It names the incarnation, the machine, the epoch and the first digits of the feed's id, and is also the name of the key that
signs. Pure.
"""

from __future__ import annotations

import re
from typing import Final

from ledger.identity import Feed

ID_DIGITS: Final = 16
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9._-]")


def origin_of(feed: Feed) -> str:
    """The origin of a feed's checkpoints, and the name of the keys that sign them."""
    incarnation = _FOREIGN.sub("-", feed.incarnation)
    return f"meshledger/{incarnation}/{feed.machine}.{feed.epoch}/{feed.id[:ID_DIGITS]}"
