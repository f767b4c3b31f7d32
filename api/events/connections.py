"""SQLite connections to the journal's file: opening, replacing and waiting for locks."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from jobs.contract import journal
from jobs.contract.text_ids import Kinds

T = TypeVar("T")
LOCK_SECONDS = 5.0  # how long to wait for another process that is writing


Inodes = tuple[int, int]  # of the file and of its write-ahead log


class Connections:
    """Two connections to one SQLite file, one to write and one to read, each for its own thread.

    Each is opened when it is first needed, and again after it was closed because of an error.
    Methods raise sqlite3.Error or OSError where the file cannot be used.
    """

    def __init__(self, path: Path, full: bool) -> None:
        self.path = path
        self._log = path.with_name(f"{path.name}-wal")  # SQLite names the log so
        self._synchronous = "FULL" if full else "NORMAL"
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._writer_inodes: Inodes | None = None
        self._reader_inodes: Inodes | None = None
        self._schema = 0  # a number that changes with the tables, as the writer has found them
        self.kinds: Kinds | None = None  # those that the file's ids must have; None: any

    def begin(self, timeout: float) -> sqlite3.Connection:
        """Return the writing connection, inside a transaction that keeps other writers out."""
        db = self._writer or self._open_writer(timeout)
        # SQLite goes on writing into a file that was deleted: nobody would ever read those events
        if self._inodes() != self._writer_inodes:
            raise OSError("it was removed or replaced; the next event begins a new one")
        retry_while_locked(lambda: db.execute("BEGIN IMMEDIATE"), timeout)
        if self.kinds not in (None, Kinds()) and _schema_version(db) != self._schema:
            raise OSError("another process made its tables anew; the next event looks at them")
        return db

    def reader(self) -> sqlite3.Connection:
        """Return the reading connection; it follows the writer to a new file."""
        if self._reader and self._writer_inodes and self._reader_inodes != self._writer_inodes:
            self.close_reader()
        if self._reader is None:
            self._reader = self.connect()
            self._reader_inodes = self._inodes()
        return self._reader

    def reader_of_present_file(self) -> sqlite3.Connection:
        """Return the reading connection; it follows whoever replaced the file."""
        if self._reader and self._inodes() != self._reader_inodes:
            self.close_reader()
        return self.reader()

    def connect(self, timeout: float = LOCK_SECONDS) -> sqlite3.Connection:
        """Open one more connection; a missing file is created. The caller closes it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout, isolation_level=None, check_same_thread=False)
        try:
            retry_while_locked(lambda: self._set_up(db), timeout)
        except sqlite3.Error:
            db.close()
            raise
        return db

    def close_writer(self) -> None:
        """Close the writing connection, which rolls back what it had not committed."""
        if self._writer:
            self._writer.close()
            self._writer = None

    def close_reader(self) -> None:
        """Close the reading connection."""
        if self._reader:
            self._reader.close()
            self._reader = None

    def _open_writer(self, timeout: float) -> sqlite3.Connection:
        self._writer = db = self.connect(timeout)
        db.execute("PRAGMA busy_timeout = 0")  # retry_while_locked waits instead
        self._writer_inodes = self._inodes()
        self._schema = _schema_version(db)
        return db

    def _set_up(self, db: sqlite3.Connection) -> None:
        """Set up a new connection; create the tables, or bring them to the present version."""
        journal.version_of_journal(db)  # a file of another version is left as it is
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {self._synchronous}")
        db.execute("PRAGMA secure_delete = ON")  # zeros replace what is deleted
        db.execute("PRAGMA wal_autocheckpoint = 0")  # else a put would now and then wait for one
        journal.upgrade_journal(db)
        if self.kinds is not None:
            try:
                journal.change_kinds(db, self.kinds)
            except journal.OtherKind as error:
                raise sqlite3.DatabaseError(
                    f"the kinds of ids differ: {error}, but those of the served release "
                    f"{journal.named_kinds(self.kinds)}"
                ) from None

    def _inodes(self) -> Inodes:
        """Return what is at the paths of the file and its log; OSError where one is missing."""
        return self.path.stat().st_ino, self._log.stat().st_ino


def _schema_version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA schema_version").fetchone()
    return int(version)


def is_locked(error: Exception) -> bool:
    """Return whether the error says that another process holds the lock."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return bool(code & 0xFF == sqlite3.SQLITE_BUSY)


def retry_while_locked(action: Callable[[], T], timeout: float) -> T:
    """Call the action; while another process holds the lock, retry for `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return action()
        except sqlite3.Error as error:
            if not is_locked(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.001)  # SQLite's own waiting sleeps up to 100 ms at a time
