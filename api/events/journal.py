"""The journal: every live event in an SQLite file, in the order in which the events came.

The table is part of the contract (`jobs.contract.journal`): jobs.export_events reads it. Several
processes may write into one journal; SQLite's locks keep their events apart and in order.

Order and time are two things. The key of a row is its place in a sequence, `seq`; its time, `at`,
is what the clock said, in microseconds since 1970. A seq is always larger than all before it, also
than those of forgotten events. It is never smaller than the clock's time either: so a journal that
replaces a lost one goes on after it, and what was noted of the lost one (tombstones, exported
events) stays before the new events. Nothing but the order may be read from a seq:

    the clock says    seq of the newest row    two events get seq, at
    9,000             5,000                    (9,000, 9,000)  (9,001, 9,001)
    70,000            9,001                    (70,000, 70,000)  (70,001, 70,001)
    9,500             70,001                   (70,002, 9,500)  (70,003, 9,501)

In the second line the clock was wrong, and in the third it was put right: the order goes on, and
the times are right again. Two events of one commit get different times, as two plays have.

The write-ahead log. SQLite appends each commit to a second file, events.db-wal, which takes one
write; a checkpoint later copies it into events.db itself. With RECO_JOURNAL=normal:

    call                   in the log       in the file   survives
    append([(7, 10)])      10               -             kill -9; not always a loss of power
    append([(7, 20)])      10, 20           -             the same
    checkpoint()           10, 20           10, 20        a loss of power too
    append([(7, 30)])      30, rest of 20   10, 20        30: as 10 in the first row

With "full" each append waits for the disk, so it survives a loss of power. In the last row the log
begins anew at its start, but what later commits have not overwritten is still in it. That is why
`forget` empties the log after it has deleted a user's events. SQLite cannot do that while another
program reads the file. Then `log_holds_forgotten` stays set, and each checkpoint tries again.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.events.connections import Connections, is_locked
from jobs.contract.ids import INTEGER
from jobs.contract.journal import TIME_OF_EVENT, Id, change_kinds, kinds_of_journal
from jobs.contract.names import CLOCK_TOLERANCE
from jobs.contract.text_ids import Kinds

READER_SECONDS = 0.05  # how long a checkpoint waits for other programs that are reading
LONG_LOG_PAGES = 16_384  # of 4 KiB: a longer log is emptied by the next checkpoint

# forgotten events count too: their seq must not be used again
NEWEST_SEQ = """
SELECT max(seq) FROM (SELECT max(seq) AS seq FROM events UNION ALL SELECT seq FROM forgotten_until)
"""
# the time of a user's last event; one that is later than the given time was stored by a wrong clock
LAST_TIME = f"""
SELECT max({TIME_OF_EVENT}) FROM events WHERE user_id = ? AND {TIME_OF_EVENT} <= ?
"""


# one index look-up for each user; SELECT DISTINCT would walk through all events
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
    """The journal cannot be written or read: says which file and why."""


class Busy(JournalError):
    """Another process is writing just now."""


class Journal:
    """The operations on one journal file.

    `append` and `forget` share a connection, `last` and `users_of_others` another: one thread may
    write while another reads. The other methods open a connection of their own. With `full`, every
    commit has reached the disk before `append` returns. A failed call raises JournalError; the next
    call opens the file anew, so the journal works again once the cause is gone.
    """

    def __init__(self, path: Path, full: bool = False) -> None:
        self.path = path
        self._connections = Connections(path, full)
        self.not_before = 0  # new events get a larger seq than this
        self.log_holds_forgotten = False  # the log may hold events that were forgotten
        # rows of other processes come between two commits of this one, so spans of seq hold them
        self._newest_seen = 0  # the seq of the newest row that we wrote, or know others wrote
        self._unread_spans: list[tuple[int, int]] = []  # after and up to which others wrote

    @property
    def kinds(self) -> Kinds | None:
        """Of which kinds the ids of its events are; None while it may have any."""
        return self._connections.kinds

    def read_kinds(self) -> None:
        """Go on with the kinds that the file's ids have; any are right where there is no event."""
        if self.kinds is not None or not self.path.is_file():
            return
        try:
            with closing(self._connections.connect()) as db:
                if db.execute("SELECT 1 FROM events LIMIT 1").fetchone():
                    self._connections.kinds = kinds_of_journal(db)
        except (sqlite3.Error, OSError) as error:
            raise self._error("read", error) from error

    def adopt(self, kinds: Kinds) -> None:
        """Have ids of these kinds from now on. OtherKind if the file has events with others.

        A file that can't be read now is looked at when it is opened again.
        """
        if kinds == self.kinds:
            return
        if self.path.is_file():
            with suppress(sqlite3.Error, OSError), closing(self._connections.connect()) as db:
                change_kinds(db, kinds)
        self.close()
        self._connections.kinds = kinds

    def append(self, events: Sequence[tuple[Id, Id]], timeout: float = 0) -> None:
        """Store (user_id, item_id) pairs in one commit: all of them or none, in this order.

        Busy where another process has not finished its own commit within `timeout` seconds.
        """
        if self.kinds is not None and self.kinds != Kinds():
            user_type, item_type = (int if kind == INTEGER else str for kind in self.kinds)
            if not all(type(u) is user_type and type(i) is item_type for u, i in events):
                raise JournalError("another release, with ids of another kind, was just loaded")
        try:
            db = self._connections.begin(timeout)
            newest, at = _newest_seq(db), time.time_ns() // 1000
            seq = max(newest + 1, self.not_before + 1, at)
            rows = [(seq + i, user, item, at + i) for i, (user, item) in enumerate(events)]
            db.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
            db.execute("COMMIT")
            self._note_others(newest)
            self._newest_seen = seq + len(rows) - 1
        except (sqlite3.Error, OSError) as error:
            raise self._failed_write(error) from error

    def forget(self, user_id: Id, tombstone: Callable[[int, int], int], timeout: float = 0) -> int:
        """Remove a user's events from the file and overwrite them with zeros; return their number.

        `tombstone(newest, last_at)` stores that the user is to be forgotten and returns up to which
        seq, at least `newest`. It is called inside the transaction, when no other event can be
        stored: each event is either deleted here or after the tombstone. `last_at` is the time of
        the user's last event, which may be later than now if the clock was just put back a little.
        """
        try:
            db = self._connections.begin(timeout)
            try:
                latest = time.time_ns() // 1000 + CLOCK_TOLERANCE
                (last_at,) = db.execute(LAST_TIME, (user_id, latest)).fetchone()
                until = tombstone(_newest_seq(db), last_at or 0)
                n_events = db.execute("DELETE FROM events WHERE user_id = ?", (user_id,)).rowcount
                db.execute("DELETE FROM forgotten_until")
                db.execute("INSERT INTO forgotten_until VALUES (?)", (until,))
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            self.log_holds_forgotten = True
            self._empty_log(db, min(timeout, 1))
            return n_events
        except (sqlite3.Error, OSError) as error:
            raise self._failed_write(error) from error

    def finish_forgetting(
        self, until: Mapping[int | bytes, int], name: Callable[[Any], int | bytes] = int
    ) -> None:
        """Delete the events of forgotten users up to the seq of their tombstones.

        They are still there where a crash came between the tombstone and the end of `forget`.
        `until` has the seq by what `name` returns of a user id.
        """
        if not until or not self.path.is_file():
            return
        query = "SELECT 1 FROM events WHERE user_id = ? AND seq <= ? LIMIT 1"
        try:
            # a connection of its own: events may be stored meanwhile
            with closing(self._connections.connect()) as db:
                if kinds_of_journal(db).users == INTEGER:
                    pairs = [*until.items()]
                else:  # tombstones have hashes only
                    users = [user for (user,) in db.execute(USERS)]
                    pairs = [(u, until[key]) for u in users if (key := name(u)) in until]
                left = [pair for pair in pairs if db.execute(query, pair).fetchone()]
                if left:
                    db.execute("BEGIN IMMEDIATE")
                    db.executemany("DELETE FROM events WHERE user_id = ? AND seq <= ?", left)
                    db.execute("COMMIT")
            self.log_holds_forgotten = True
        except (sqlite3.Error, OSError) as error:
            raise self._error("written", error) from error

    def last(self, user_id: Id, n: int, after: int = 0) -> list[Id]:
        """Return the user's last n item ids that came after a seq, oldest first."""
        query = """
            SELECT track_id FROM events WHERE user_id = ? AND seq > ? ORDER BY seq DESC LIMIT ?
        """
        try:
            rows = self._connections.reader().execute(query, (user_id, after, n)).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise self._failed_read(error) from error
        return [item for (item,) in reversed(rows)]

    def newest_seq(self) -> int:
        """Return the seq of the newest event, also of a forgotten one; 0 without a file."""
        if not self.path.is_file():
            return 0
        try:
            with closing(self._connections.connect()) as db:
                return _newest_seq(db)
        except (sqlite3.Error, OSError) as error:
            raise self._error("read", error) from error

    def users(self) -> NDArray[np.int64] | list[str]:
        """Return the ids of all users with events, ascending."""
        try:
            with closing(self._connections.connect()) as db:
                self._newest_seen, self._unread_spans = _newest_seq(db), []
                if kinds_of_journal(db).users != INTEGER:
                    return [user for (user,) in db.execute(USERS)]
                return np.fromiter((user for (user,) in db.execute(USERS)), np.int64)
        except (sqlite3.Error, OSError) as error:
            raise self._error("read", error) from error

    def users_of_others(self) -> set[Id]:
        """Return users whose events other processes stored since the last call or users()."""
        query = "SELECT user_id FROM events WHERE seq > ? AND seq <= ?"
        try:
            db = self._connections.reader_of_present_file()
            self._note_others(_newest_seq(db))
            spans = self._unread_spans[:]  # `append` may add one meanwhile, in another thread
            users = {user for span in spans for (user,) in db.execute(query, span).fetchall()}
            del self._unread_spans[: len(spans)]
            return users
        except (sqlite3.Error, OSError) as error:
            raise self._failed_read(error) from error

    def _note_others(self, newest: int) -> None:
        """Note that others wrote rows, if the newest row is none that we know."""
        if newest > self._newest_seen:
            self._unread_spans.append((self._newest_seen, newest))
            self._newest_seen = newest

    def checkpoint(self) -> None:
        """Copy the log into the file, and wait until the disk has it.

        Other processes may write meanwhile. They have to wait, for up to READER_SECONDS, only if
        the log is emptied, which is done if it is long or may hold forgotten events.
        """
        try:
            with closing(self._connections.connect()) as db:
                _, pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if pages > LONG_LOG_PAGES or self.log_holds_forgotten:
                    db.execute("PRAGMA busy_timeout = 0")
                    self._empty_log(db, READER_SECONDS)
        except (sqlite3.Error, OSError) as error:
            raise self._error("written", error) from error

    def _empty_log(self, db: sqlite3.Connection, timeout: float) -> None:
        """Copy the log into the file and empty it, if that succeeds within the timeout.

        It fails while others read. No other process can write while it is tried.
        """
        emptied, deadline = False, time.monotonic() + timeout
        # cleared first: another thread may set it, for a user who is forgotten meanwhile
        held_forgotten, self.log_holds_forgotten = self.log_holds_forgotten, False
        try:
            while not (emptied := _empty_log_now(db)) and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            if not emptied:
                self.log_holds_forgotten |= held_forgotten

    def close(self) -> None:
        """Close the file."""
        self._connections.close_writer()
        self._connections.close_reader()

    def _failed_write(self, error: Exception) -> JournalError:
        """Return the exception to raise; a connection that failed is not used again."""
        if is_locked(error):
            return Busy(f"{self.path} is locked by another process")
        self._connections.close_writer()
        return self._error("written", error)

    def _failed_read(self, error: Exception) -> JournalError:
        self._connections.close_reader()
        return self._error("read", error)

    def _error(self, verb: str, error: Exception) -> JournalError:
        return JournalError(f"the journal {self.path} can't be {verb}: {error}")


def _newest_seq(db: sqlite3.Connection) -> int:
    """Return the seq of the newest event, also of a forgotten one; 0 if there are none."""
    (newest,) = db.execute(NEWEST_SEQ).fetchone()
    return newest or 0


def _empty_log_now(db: sqlite3.Connection) -> bool:
    """Try to copy the log into the file and to empty it; return whether that succeeded."""
    busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy
