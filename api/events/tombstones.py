"""Who asked to be forgotten, and when: kept in a file beside the journal, and in memory."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from threading import Lock

from api.events.journal import PATIENCE, JournalError
from jobs.contract import journal, storage


class Tombstones:
    """The tombstones of one file; several processes may share it. No two have the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # by user the time, in microseconds since 1970; never changed, as others may go through it
        self.at: dict[int, int] = {}
        self._changing = Lock()
        self.known = False  # whether the file has been read, or there was none
        self._seen: tuple[int, int] | None = None  # size and time of change of what was read

    @property
    def last(self) -> int:
        """The time of the newest tombstone; 0 without any."""
        return max(self.at.values(), default=0)

    def add(self, user_id: int, not_before: int = 0) -> int:
        """Store on the disk that a user is to be forgotten: the time up to which.

        It is the clock's, but never before `not_before` nor before that of another tombstone.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, PATIENCE, isolation_level=None)) as db:
                db.executescript(journal.FORGOTTEN_SCHEMA)
                db.execute("PRAGMA synchronous = FULL")
                db.execute("BEGIN IMMEDIATE")
                (last,) = db.execute("SELECT max(at) FROM forgotten").fetchone()
                at: int = max(time.time_ns() // 1000, not_before, (last or 0) + 1)
                db.execute("INSERT OR REPLACE INTO forgotten VALUES (?, ?)", (user_id, at))
                db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self.path} can't be written: {error}") from error
        with self._changing:
            self.at = self.at | {user_id: at}
        return at

    def news(self) -> list[int]:
        """Read the file if it has changed: users with a tombstone that was not known."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self.known = True
            return []
        except OSError as error:
            raise JournalError(f"{self.path} can't be read: {error}") from error
        seen = found.st_size, found.st_mtime_ns
        if seen == self._seen:
            return []
        try:
            stored = journal.read_forgotten(self.path)
        except storage.JobError as error:
            raise JournalError(str(error)) from error
        with self._changing:
            new = [user for user, at in stored.items() if self.at.get(user) != at]
            self.at = self.at | stored
        self._seen, self.known = seen, True
        return new
