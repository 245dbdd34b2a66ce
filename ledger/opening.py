"""Opening a ledger's file to read it, which touches nothing.

A reader never writes, creates or repairs anything beside the file:

    no `-wal`, rollback mode         read-only, as SQLite does it
    a live writer                    read-only, its shared memory read-only too
    a left-over `-wal` or journal    a private copy of the file and its companions, recovered there

A private copy is of its moment: who follows what a writer may go on with opens anew (`follow` does, for each step). So it is
where a writer ended beside a reader, and could not leave WAL mode.

Whether somebody writes is told by a lock that is gone with its process (`locking`, where the one writer is). SQLite's `immutable`
is never used: beside a `-wal` that holds anything it silently drops rows.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ledger import schema
from ledger.errors import Damaged, LedgerError, Locked, NotALedger, Unwritable

_MAGIC = b"SQLite format 3\0"
ROW_MAX_BYTES: Final = 1 << 26
_TRIES: Final = 20
_PAUSE_S: Final = 0.05
"""How often, and how long apart, a reader tries a file that is between two modes."""
_BETWEEN: Final = frozenset((sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY_CANTINIT, sqlite3.SQLITE_READONLY_RECOVERY))
"""What SQLite says of such a file: the writer's log, or its shared memory, is not there yet or not ready."""
_REFUSING = frozenset(
    (
        sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_DELETE,
    )
)  # fmt: skip
"""SQLite could not write. Quotas and limits come so; a disk that is full has a code of its own."""
SPOKEN = (sqlite3.Error, UnicodeError)
"""What a query may raise: SQLite's errors, and the failure to read what it says about a schema that is damaged."""


def translate(error: sqlite3.Error | UnicodeError | OSError, path: str) -> LedgerError:
    """What SQLite or the system said, as one of our errors: what, where, what to do."""
    text = str(error)
    if getattr(error, "sqlite_errorcode", None) in _REFUSING:
        return Unwritable(
            f"{path}: the medium refuses: {text.lower()}; what was being written may stand or not",
            hint="free space or heal the medium, then do the same again",
        )
    if isinstance(error, OSError):
        text = error.strerror or text
        if isinstance(error, FileNotFoundError):
            return NotALedger(f"{path}: there is no such file")
        return Unwritable(f"{path}: {text.lower()}")
    if isinstance(error, sqlite3.OperationalError):
        if "locked" in text or "busy" in text:
            return Locked(f"{path}: is locked by another program", hint="wait until it is done, or read a `backup`")
        if "full" in text:
            return Unwritable(
                f"{path}: no space left; what was being written may stand or not, and what stood can be read",
                hint="free space, then do the same again",
            )
        if "readonly" in text or "read-only" in text:
            return Unwritable(f"{path}: cannot be written here", hint="copy it to a place you may write to")
        if "unable to open" in text:
            return Unwritable(f"{path}: cannot be opened", hint="check the path and its permissions")
    if isinstance(error, sqlite3.DatabaseError) and "not a database" in text:
        return NotALedger(f"{path}: is no ledger", hint="name a file made by meshledger")
    if isinstance(error, sqlite3.IntegrityError):
        return Damaged(f"{path}: {text}")
    return Damaged(f"{path}: SQLite says: {text}")


class _Held:
    """The descriptors that this process holds of ledger files beside SQLite's own.

    When a process closes *any* descriptor of a file, POSIX takes away all its locks there. A writer that lost its lock so
    would have its log deleted under it by the next stock program that opens and closes the ledger. So what is opened here
    stays open, one descriptor a file, until no connection of ours is left there.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._descriptors: dict[tuple[int, int], int] = {}
        self._users: dict[tuple[int, int], int] = {}

    def enter(self, path: Path) -> tuple[int, int]:
        """Say that a connection to this file is about to be opened."""
        with self._guard:
            found = path.stat()
            key = (found.st_dev, found.st_ino)
            self._users[key] = self._users.get(key, 0) + 1
            return key

    def leave(self, key: tuple[int, int]) -> None:
        """Say that it was closed."""
        with self._guard:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                descriptor = self._descriptors.pop(key, None)
                if descriptor is not None:
                    os.close(descriptor)

    def pieces(self, path: Path, size: int) -> Generator[bytes, None, None]:
        """The bytes of a file, so many at a time."""
        with self._guard:
            found = path.stat()
            key = (found.st_dev, found.st_ino)
            descriptor = self._descriptors.get(key, -1)
            if descriptor < 0:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                if key in self._users:
                    self._descriptors[key] = descriptor
            try:
                at = 0
                while piece := os.pread(descriptor, size, at):
                    yield piece
                    at += len(piece)
            finally:
                if key not in self._users:
                    os.close(descriptor)


HELD: Final = _Held()


def examine(path: Path) -> int:
    """The file's journal mode byte (1 rollback, 2 WAL). Raises NotALedger if it cannot be a ledger."""
    if path.is_dir():
        raise NotALedger(f"{path}: is a folder", hint="name a .ledger file in it, or give the folder with -L")
    if path.exists() and not path.is_file():
        raise NotALedger(f"{path}: is no file", hint="name a file made by meshledger")
    try:
        with closing(HELD.pieces(path, 100)) as pieces:
            head = next(pieces, b"")
    except OSError as error:
        raise translate(error, str(path)) from None
    if not head:
        raise NotALedger(f"{path}: is empty", hint="an import or a merge makes a ledger")
    if not head.startswith(_MAGIC) or len(head) < 100:
        raise NotALedger(f"{path}: is no ledger", hint="name a file made by meshledger; `import` reads other formats")
    return head[19]


class _Patient(sqlite3.Connection):
    """Once it has `begun` a question waits while a writer that begins or ends has the file between two modes; before that
    whoever opens it does. Each question is read whole (`row_reader`), so that none is ever asked in the middle of another.
    """

    begun = False

    def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
        """As sqlite3 does it."""
        for tries_left in reversed(range(_TRIES if self.begun else 1)):
            try:
                return super().execute(sql, values)
            except sqlite3.OperationalError as error:
                if not tries_left or getattr(error, "sqlite_errorcode", None) not in _BETWEEN:  # Python's own bear no code
                    raise
            time.sleep(_PAUSE_S)
        raise AssertionError("the last try returns or raises")


class Reading:
    """A connection that reads one ledger file and touches nothing. Close it when done."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._private: tempfile.TemporaryDirectory[str] | None = None
        self._held: tuple[int, int] | None = None
        try:
            examine(self.path)
            self._held = HELD.enter(self.path)
            self.connection = self._begin()
        except (*SPOKEN, OSError) as error:
            self.close()
            raise translate(error, str(self.path)) from None
        except LedgerError:
            self.close()
            raise

    @property
    def is_copy(self) -> bool:
        """Whether this reads a private copy, which nobody adds to."""
        return self._private is not None

    def _begin(self) -> _Patient:
        """The connection, checked. While a writer begins or ends, the file is between two modes for a moment: try again."""
        for tries_left in reversed(range(_TRIES)):
            connection: _Patient | None = None
            try:
                connection = self._open(examine(self.path))
                schema.check(connection, str(self.path))
            except sqlite3.OperationalError as error:
                if connection is not None:
                    connection.close()
                if not tries_left or getattr(error, "sqlite_errorcode", None) not in _BETWEEN:  # Python's own bear no code
                    raise
                time.sleep(_PAUSE_S)
            except BaseException:
                if connection is not None:
                    connection.close()
                raise
            else:
                connection.begun = True
                return connection
        raise AssertionError("the last try returns or raises")

    def _open(self, mode: int) -> _Patient:
        left = any(_holds(self.path, suffix) for suffix in ("-wal", "-journal"))
        if is_written(self.path) or (mode == 1 and not left):
            # Also where nobody writes: somebody may begin.
            return _connect(self.path, "mode=ro&readonly_shm=1")
        return _connect(self._copy(), "mode=rw")

    def _copy(self) -> Path:
        """A private copy of the file and what lies beside it, taken while no writer may begin."""
        self._private = tempfile.TemporaryDirectory(prefix="meshledger-")
        target = Path(self._private.name) / "copy.ledger"
        with _Shared(self.path):
            for suffix in ("", "-wal", "-journal"):
                if suffix == "" or _holds(self.path, suffix):
                    with Path(f"{target}{suffix}").open("xb") as file:
                        file.writelines(HELD.pieces(Path(f"{self.path}{suffix}"), 1 << 20))
        return target

    def close(self) -> None:
        """Let go of the file and of a private copy."""
        connection = getattr(self, "connection", None)
        if connection is not None:
            connection.close()
        if self._private is not None:
            self._private.cleanup()
            self._private = None
        if self._held is not None:
            HELD.leave(self._held)
            self._held = None


def _holds(path: Path, suffix: str) -> bool:
    with suppress(OSError):
        return Path(f"{path}{suffix}").stat().st_size > 0
    return False


def _connect(path: Path, options: str) -> _Patient:
    uri = f"file:{quote(os.fsencode(path.resolve()))}?{options}"  # a name need not be text
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10, factory=_Patient)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, ROW_MAX_BYTES)
    for pragma in ("trusted_schema=off", "cell_size_check=on", "mmap_size=0", "query_only=on", "cache_size=-2048"):
        connection.execute(f"pragma {pragma}")
    return connection


def is_written(path: Path) -> bool:
    """Whether a process writes this ledger now."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class _Shared:
    """While this is held no writer begins; where there is no lock file, or none may be opened, it does nothing."""

    def __init__(self, path: Path) -> None:
        self._file = f"{path}.lock"
        self._descriptor = -1

    def __enter__(self) -> None:
        with suppress(OSError):
            self._descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def __exit__(self, *_exception: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
