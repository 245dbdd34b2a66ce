"""Whether anybody wrote to an open file since it was asked last.

SQLite counts the commits of other connections (`pragma data_version`). A reader that keeps what it read asks for that count
before it relies on it; a question that goes through many feeds asks once, and is answered as of then. Reads, never writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


class Watch:
    """Whether anybody wrote since: SQLite's `data_version` of one connection. While it is held `still`, it was looked at
    once, and all readers of the file answer as of then.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._still: int | None = None

    def look(self) -> int:
        """The version now."""
        found: int = self._connection.execute("pragma data_version").fetchone()[0]
        if self._still is not None:
            self._still = found
        return found

    def version(self) -> int:
        """The version now, or as it was looked at last while held still."""
        return self.look() if self._still is None else self._still

    @contextmanager
    def still(self) -> Iterator[None]:
        """Within, `version` looks once."""
        before, self._still = self._still, self.version()
        try:
            yield
        finally:
            self._still = before
