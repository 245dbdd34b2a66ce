"""The one writer of a ledger's file: the right to write it, and the connection that does.

A writer holds a lock (flock on `FILE.lock`, gone with its process) and keeps the file in WAL mode with
`synchronous=FULL`; at its end the file goes back to `journal_mode=DELETE`, so that it opens on any medium. A new file gets its
name when it is whole. Rows are the business of `writer`.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ledger import schema
from ledger.errors import LedgerError, Locked, Unwritable
from ledger.opening import HELD, ROW_MAX_BYTES, SPOKEN, examine, translate

_PAUSE_S: Final = 0.005
"""How long apart a writer looks whether a reader has let go."""


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


class Writing:
    """The one connection that writes a ledger file. `end` leaves it in rollback mode and gives the lock back."""

    def __init__(self, path: str | Path, *, create: bool) -> None:
        self.path = Path(path)
        if not create:
            examine(self.path)
        self._lock = Lock(self.path)
        self._held: tuple[int, int] | None = None
        try:
            if create and (not self.path.exists() or self.path.stat().st_size == 0):
                _new_file(self.path.resolve())
            else:
                examine(self.path)
            self._held = HELD.enter(self.path)
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
            HELD.leave(self._held)
            self._held = None
        self._lock.release()

    def _settle(self) -> None:
        """The settings that durability rests on, read back."""
        run: Callable[[str], sqlite3.Cursor] = self.connection.execute
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, ROW_MAX_BYTES)
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
