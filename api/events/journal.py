"""The journal: every live event in an SQLite file (its table is the contract's), in order.

Several processes may write into one journal: SQLite's locks keep their events apart and in order.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from jobs.contract import journal

T = TypeVar("T")


PATIENCE = 5.0  # seconds to wait for another process that is writing


A_MOMENT = 0.05  # seconds to wait for others who are reading


LONG = 16_384  # pages of the write-ahead log after which it begins anew


LAST = """
SELECT max(at) FROM (SELECT max(at) AS at FROM events UNION ALL SELECT at FROM forgotten_until)
"""


# each user by one search, instead of a walk through all events
USERS = """
WITH RECURSIVE found(user_id) AS (
    SELECT min(user_id) FROM events
    UNION ALL
    SELECT (SELECT min(user_id) FROM events WHERE user_id > found.user_id)
    FROM found WHERE found.user_id IS NOT NULL
)
SELECT user_id FROM found WHERE user_id IS NOT NULL
"""


class JournalError(Exception):
    """The journal can't be written or read: says which file and why."""


class Busy(JournalError):
    """Another process is writing just now."""


class Journal:
    """One file; it is opened when first needed, and again after an error.

    `append` and `forget` have a connection and `last` another, so that each may be called in a
    thread of its own. With `full`, every commit has reached the disk before `append` returns.
    """

    def __init__(self, path: Path, full: bool = False) -> None:
        self.path = path
        self._log = path.with_name(f"{path.name}-wal")  # SQLite's own name for it
        self._synchronous = "FULL" if full else "NORMAL"
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._written: list[int] = []  # the inodes that the writer has open
        self._read: list[int] = []  # and the reader
        self.not_before = 0  # what comes is later than this
        self.leaves_traces = False  # what is forgotten may still stand in the log
        self._seen = 0  # the time of the last event whose user was told of
        self._others: list[tuple[int, int]] = []  # after and up to which others wrote meanwhile

    def append(self, events: Sequence[tuple[int, int]], patience: float = 0) -> None:
        """Store (user_id, item_id) pairs in one commit: all of them or none, in this order.

        Their time is the clock's, but always after that of the event before. Busy where another
        process has not finished its own commit within `patience` seconds.
        """
        try:
            db = self._begin(patience)
            last = _last(db)
            at = max(last + 1, self.not_before + 1, time.time_ns() // 1000)
            rows = [(at + i, user, item) for i, (user, item) in enumerate(events)]
            db.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
            db.execute("COMMIT")
            self._note_others(last)
            self._seen = at + len(rows) - 1
        except (sqlite3.Error, OSError) as error:
            if _is_busy(error):
                raise Busy(f"{self.path} is locked by another process") from None
            self._close_writer()
            raise self._error("written", error) from error

    def forget(self, user_id: int, tombstone: Callable[[int], int], patience: float = 0) -> int:
        """Remove a user's events from the file, zeros in their place; how many there were.

        `tombstone` stores that the user is to be forgotten, not before a time, and gives the time;
        no other event is taken in between that and the end.
        """
        try:
            db = self._begin(patience)
            try:
                at = tombstone(_last(db))
                found = db.execute("DELETE FROM events WHERE user_id = ?", (user_id,)).rowcount
                db.execute("DELETE FROM forgotten_until")
                db.execute("INSERT INTO forgotten_until VALUES (?)", (at,))
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            self.leaves_traces = not _empty_log(db, min(patience, 1))
            return found
        except (sqlite3.Error, OSError) as error:
            if _is_busy(error):
                raise Busy(f"{self.path} is locked by another process") from None
            self._close_writer()
            raise self._error("written", error) from error

    def finish_forgetting(self, until: Mapping[int, int]) -> None:
        """Remove each user's events up to a time, where a crash came before that."""
        self.not_before = max(until.values(), default=0)
        if not until or not self.path.is_file():
            return
        left = "SELECT 1 FROM events WHERE user_id = ? AND at <= ? LIMIT 1"
        try:
            with closing(self._open()) as db:  # events may be stored meanwhile
                gone = [pair for pair in until.items() if db.execute(left, pair).fetchone()]
                if gone:
                    db.execute("BEGIN IMMEDIATE")
                    db.executemany("DELETE FROM events WHERE user_id = ? AND at <= ?", gone)
                    db.execute("COMMIT")
            self.leaves_traces = True
        except (sqlite3.Error, OSError) as error:
            raise self._error("written", error) from error

    def last(self, user_id: int, n: int) -> list[int]:
        """The user's last n item ids, oldest first."""
        query = "SELECT track_id FROM events WHERE user_id = ? ORDER BY at DESC LIMIT ?"
        try:
            rows = self._open_reader().execute(query, (user_id, n)).fetchall()
        except (sqlite3.Error, OSError) as error:
            self._close_reader()
            raise self._error("read", error) from error
        return [item for (item,) in reversed(rows)]

    def users(self) -> NDArray[np.int64]:
        """Everyone who has an event, ascending."""
        try:
            with closing(self._open()) as db:
                self._seen, self._others = _last(db), []
                return np.fromiter((user for (user,) in db.execute(USERS)), np.int64)
        except (sqlite3.Error, OSError) as error:
            raise self._error("read", error) from error

    def news(self) -> set[int]:
        """Users of whom other processes have stored events since the last call or users()."""
        query = "SELECT user_id FROM events WHERE at > ? AND at <= ?"
        try:
            if self._reader and self._inodes() != self._read:  # the file was replaced
                self._close_reader()
            db = self._open_reader()
            self._note_others(_last(db))
            spans = self._others[:]
            found = {user for span in spans for (user,) in db.execute(query, span).fetchall()}
            del self._others[: len(spans)]
            return found
        except (sqlite3.Error, OSError) as error:
            self._close_reader()
            raise self._error("read", error) from error

    def _note_others(self, last: int) -> None:
        """What was stored since the last event that this one stored or saw is by others."""
        if last > self._seen:
            self._others.append((self._seen, last))
            self._seen = last

    def checkpoint(self) -> None:
        """Bring all that was written to the disk, and into the file itself.

        Others may write meanwhile; only where the write-ahead log is long, or may hold what is
        forgotten, do they wait a moment.
        """
        try:
            with closing(self._open()) as db:
                _, pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if pages > LONG or self.leaves_traces:
                    db.execute("PRAGMA busy_timeout = 0")
                    traces, self.leaves_traces = self.leaves_traces, False
                    if not _empty_log(db, A_MOMENT):
                        self.leaves_traces |= traces
        except (sqlite3.Error, OSError) as error:
            raise self._error("written", error) from error

    def close(self) -> None:
        """Close the file."""
        self._close_writer()
        self._close_reader()

    def _close_writer(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None

    def _close_reader(self) -> None:
        if self._reader:
            self._reader.close()
            self._reader = None

    def _begin(self, patience: float) -> sqlite3.Connection:
        """The writer, in a transaction that keeps other writers out."""
        db = self._writer or self._open_writer(patience)
        if self._inodes() != self._written:
            raise OSError("it was removed or replaced; the next event begins a new one")
        _patiently(lambda: db.execute("BEGIN IMMEDIATE"), patience)
        return db

    def _open_writer(self, patience: float) -> sqlite3.Connection:
        self._writer = db = self._open(patience)
        db.execute("PRAGMA busy_timeout = 0")
        self._written = self._inodes()
        return db

    def _open_reader(self) -> sqlite3.Connection:
        """The reader; it follows the writer to a new file."""
        if self._reader and self._written and self._read != self._written:
            self._close_reader()
        if self._reader is None:
            self._reader = self._open()
            self._read = self._inodes()
        return self._reader

    def _open(self, patience: float = PATIENCE) -> sqlite3.Connection:
        """A connection to the file, which is made where there is none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, patience, isolation_level=None, check_same_thread=False)
        try:
            _patiently(lambda: self._set_up(db), patience)
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _set_up(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, journal.JOURNAL_VERSION):
            raise sqlite3.DatabaseError(
                f"it has version {version}, expected {journal.JOURNAL_VERSION}"
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {self._synchronous}")
        db.execute("PRAGMA secure_delete = ON")  # zeros take the place of what is forgotten
        db.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoint() is called for that
        db.executescript(journal.JOURNAL_SCHEMA)
        if version == 0:
            db.execute(f"PRAGMA user_version = {journal.JOURNAL_VERSION}")

    def _inodes(self) -> list[int]:
        """What stands at the paths of the file and of its log; OSError where nothing does."""
        return [self.path.stat().st_ino, self._log.stat().st_ino]

    def _error(self, verb: str, error: Exception) -> JournalError:
        return JournalError(f"the journal {self.path} can't be {verb}: {error}")


def _last(db: sqlite3.Connection) -> int:
    """The time of the last event, also of one that was forgotten since."""
    (last,) = db.execute(LAST).fetchone()
    return last or 0


def _empty_log(db: sqlite3.Connection, patience: float) -> bool:
    """Bring all into the file and empty its log: whether that was done before patience ended.

    It can't be while others read; no other process can write while it is tried.
    """
    deadline = time.monotonic() + patience
    while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def _is_busy(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return bool(code & 0xFF == sqlite3.SQLITE_BUSY)


def _patiently(action: Callable[[], T], patience: float) -> T:
    """Try again while another process holds the lock, for so many seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return action()
        except sqlite3.Error as error:
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.001)
