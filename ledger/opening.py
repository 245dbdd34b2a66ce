"""Opening a ledger's file: one writer, and readers who touch nothing.

A writer holds a lock (flock on `FILE.lock`, gone with its process) and keeps the file in WAL mode with
`synchronous=FULL`; at its end the file goes back to `journal_mode=DELETE`, so that it opens on any medium. A reader never
writes, creates or repairs anything beside the file:

    no `-wal`, rollback mode         read-only, as SQLite does it
    a live writer                    read-only, its shared memory read-only too
    a left-over `-wal` or journal    a private copy of the file and its companions, recovered there

SQLite's `immutable` is never used: beside a `-wal` that holds anything it silently drops rows.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ledger import schema
from ledger.errors import Damaged, LedgerError, Locked, NotALedger, Unwritable

_MAGIC = b"SQLite format 3\0"
_ROW_MAX_BYTES = 1 << 26
_TRIES, _PAUSE_S = 20, 0.05
"""How often, and how long apart, a reader tries a file that is between two modes."""
_REFUSING = frozenset(
    (
        sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_DELETE,
    )
)  # fmt: skip
"""SQLite could not write. Quotas and limits come so; a disk that is full has a code of its own."""
_PAUSE_S = 0.005


SPOKEN = (sqlite3.Error, UnicodeError)
"""What a query may raise: SQLite's errors, and the failure to read what it says about a schema that is damaged."""


def translate(error: sqlite3.Error | UnicodeError | OSError, path: str) -> LedgerError:
    """What SQLite or the system said, as one of our errors: what, where, what to do."""
    text = str(error)
    if getattr(error, "sqlite_errorcode", None) in _REFUSING:
        return Unwritable(
            f"{path}: the medium refuses: {text.lower()}; nothing of this append is certain",
            hint="free space or heal the medium, then repeat the append with the same position",
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
                f"{path}: no space left; nothing of this append is certain, reads go on",
                hint="free space, then repeat the append with the same position",
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


_HELD: Final = _Held()


def _examine(path: Path) -> int:
    """The file's journal mode byte (1 rollback, 2 WAL). Raises NotALedger if it cannot be a ledger."""
    if path.is_dir():
        raise NotALedger(f"{path}: is a folder", hint="name a .ledger file in it, or give the folder with -L")
    if path.exists() and not path.is_file():
        raise NotALedger(f"{path}: is no file", hint="name a file made by meshledger")
    try:
        with closing(_HELD.pieces(path, 100)) as pieces:
            head = next(pieces, b"")
    except OSError as error:
        raise translate(error, str(path)) from None
    if not head:
        raise NotALedger(f"{path}: is empty", hint="an import or a merge makes a ledger")
    if not head.startswith(_MAGIC) or len(head) < 100:
        raise NotALedger(f"{path}: is no ledger", hint="name a file made by meshledger; `import` reads other formats")
    return head[19]


class Reading:
    """A connection that reads one ledger file and touches nothing. Close it when done."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._private: tempfile.TemporaryDirectory[str] | None = None
        self._held: tuple[int, int] | None = None
        try:
            _examine(self.path)
            self._held = _HELD.enter(self.path)
            self.connection = self._begin()
        except (*SPOKEN, OSError) as error:
            self.close()
            raise translate(error, str(self.path)) from None
        except LedgerError:
            self.close()
            raise

    def _begin(self) -> sqlite3.Connection:
        """The connection, checked. While a writer begins or ends, the file is between two modes for a moment: try again."""
        for tries_left in reversed(range(_TRIES)):
            connection: sqlite3.Connection | None = None
            try:
                connection = self._open(_examine(self.path))
                schema.check(connection, str(self.path))
            except sqlite3.OperationalError as error:
                if connection is not None:
                    connection.close()
                if not tries_left or "unable to open" not in str(error):
                    raise
                time.sleep(_PAUSE_S)
            except BaseException:
                if connection is not None:
                    connection.close()
                raise
            else:
                return connection
        raise AssertionError("the last try returns or raises")

    def _open(self, mode: int) -> sqlite3.Connection:
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
                        file.writelines(_HELD.pieces(Path(f"{self.path}{suffix}"), 1 << 20))
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
            _HELD.leave(self._held)
            self._held = None


def _holds(path: Path, suffix: str) -> bool:
    with suppress(OSError):
        return Path(f"{path}{suffix}").stat().st_size > 0
    return False


def _connect(path: Path, options: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.resolve()))}?{options}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _ROW_MAX_BYTES)
    for pragma in ("trusted_schema=off", "cell_size_check=on", "mmap_size=0", "query_only=on", "cache_size=-2048"):
        connection.execute(f"pragma {pragma}")
    return connection


class Lock:
    """The right to write one file. Raises Locked if another process, or this one, has it. A reader that looks whether
    somebody writes, or that copies what a killed writer left, is waited for.
    """

    def __init__(self, path: Path) -> None:
        self.file = f"{path}.lock"
        while True:
            try:
                self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise translate(error, self.file) from None
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if self._is_free_to_share():
                    os.close(self._descriptor)
                    time.sleep(_PAUSE_S)
                    continue
                os.close(self._descriptor)
                raise Locked(
                    f"{path}: is being written by another process",
                    hint="one ledger has one writer; readers are welcome",
                ) from None
            # The last holder may have taken the name away between our open and our lock.
            with suppress(OSError):
                if Path(self.file).stat().st_ino == os.fstat(self._descriptor).st_ino:
                    return
            os.close(self._descriptor)

    def _is_free_to_share(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Give the right back, and take the lock's file away."""
        if self._descriptor < 0:
            return  # given back already: the file there may be another writer's
        with suppress(OSError):
            Path(self.file).unlink()
        os.close(self._descriptor)
        self._descriptor = -1


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


class Writing:
    """The one connection that writes a ledger file. `end` leaves it in rollback mode and gives the lock back."""

    def __init__(self, path: str | Path, *, create: bool) -> None:
        self.path = Path(path)
        if not create:
            _examine(self.path)
        self._lock = Lock(self.path)
        self._held: tuple[int, int] | None = None
        try:
            if create and (not self.path.exists() or self.path.stat().st_size == 0):
                _new_file(self.path.resolve())
            else:
                _examine(self.path)
            self._held = _HELD.enter(self.path)
            self.connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
            self._settle()
            schema.check(self.connection, str(self.path))
        except (*SPOKEN, OSError) as error:
            self._let_go()
            raise translate(error, str(self.path)) from None
        except LedgerError:
            self._let_go()
            raise

    def _let_go(self) -> None:
        connection = getattr(self, "connection", None)
        if connection is not None:
            connection.close()
        if self._held is not None:
            _HELD.leave(self._held)
            self._held = None
        self._lock.release()

    def _settle(self) -> None:
        """The settings that durability rests on, read back."""
        run: Callable[[str], sqlite3.Cursor] = self.connection.execute
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _ROW_MAX_BYTES)
        run("pragma journal_mode=wal")
        run("pragma synchronous=full")
        run("pragma trusted_schema=off")
        run("pragma cell_size_check=on")
        run("pragma mmap_size=0")
        run("pragma cache_size=-2048")
        run("pragma foreign_keys=on")
        run(f"pragma wal_autocheckpoint={4 * 1024 * 1024 // schema.PAGE_BYTES}")
        mode, level = run("pragma journal_mode").fetchone()[0], run("pragma synchronous").fetchone()[0]
        if mode != "wal" or level < 2:
            raise Unwritable(f"{self.path}: this medium gives no durable journal (mode {mode}, synchronous {level})")

    def end(self) -> None:
        """Take everything into the file, leave rollback mode, let others write."""
        try:
            with suppress(sqlite3.Error):
                self.connection.execute("pragma wal_checkpoint(truncate)")
                self.connection.execute("pragma journal_mode=delete")
        finally:
            self._let_go()


def _new_file(path: Path) -> None:
    """A ledger without feeds that only its owner may read. It is made beside its place and gets its name when it is
    whole: a kill leaves all of it or nothing.
    """
    draft = Path(f"{path}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        schema.create(str(draft))
        os.fsync(descriptor)
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    with suppress(OSError):  # a medium without this has names that are durable by themselves, or none that are
        os.fsync(folder)
    os.close(folder)
