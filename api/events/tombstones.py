"""Tombstones: which users asked to be forgotten, and up to where, in a file beside the journal.

A tombstone is a user and a seq, a place in the journal's sequence. What the user did up to there is
not used any more; what they do later counts as if they were new. It works on three things:

    seq 100  user 7 plays track 10          journal: (100, 7, 10)
             release A is made              its lists know user 7; it obeys tombstones up to 0
    seq 150  POST /forget_user?user_id=7    1. tombstone (7, 150) is stored, the disk has it
                                            2. row (100, 7, 10) of the journal becomes zeros
    seq 200  user 7 plays track 20          journal: (200, 7, 20), after 150: it counts
             release B is made by jobs      they left out events of user 7 up to 150; B obeys
             that read the tombstones       tombstones up to 150, so it may know user 7 again

Release A obeys tombstones up to 0 < 150: user 7 is answered as someone whom it does not know, also
after a restart, a swap or a return to A. Release B obeys up to 150: its list of user 7 is used.

Why this order: after a crash between 1 and 2 the tombstone is there, and the next start deletes the
row (`Journal.finish_forgetting`). The other way round, a crash would lose that the user is to be
forgotten, and release A would answer with their history. No event can get a seq between the newest
row and the tombstone, as the journal is locked meanwhile. No two tombstones have the same seq, so
"obeys up to 150" says exactly which ones a release obeys.

A tombstone also has the time at which the user asked. Only the jobs need it, for listens of the
input files, which have no seq. It is the clock's, whatever an earlier event or tombstone says: if
the clock was wrong once, later tombstones are right again.

Other processes on the same folder poll the file (`TombstoneWatcher`) and obey within a second.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path
from threading import Lock

from api.events.connections import LOCK_SECONDS
from api.events.journal import JournalError
from jobs.contract import journal, storage
from jobs.contract.ids import INTEGER, TEXT
from jobs.contract.journal import Id, Tombstone

logger = logging.getLogger("api")


TOMBSTONE_POLL_SECONDS = 1.0


class Tombstones:
    """The tombstones of one file; several processes may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # by what `name_of` returns of a user; replaced, never changed: other threads iterate it
        self._stored: Mapping[int | bytes, Tombstone] = {}
        self._key = b""  # of the hashes of text ids
        self.problem: str | None = None  # why the file could not be read
        self.was_read = False  # once at least, if there is a file
        self._lock = Lock()  # for replacing `_stored` from several threads
        self._version: tuple[int, int] | None = None  # size and time of change of what was read

    @property
    def until(self) -> dict[int | bytes, int]:
        """Up to which seq each user is forgotten, by what `name_of` returns of them."""
        return {user: tombstone.seq for user, tombstone in self._stored.items()}

    @property
    def kind(self) -> str | None:
        """Of which kind the ids of the forgotten users are; None if there are none."""
        first = next(iter(self._stored), None)
        return None if first is None else INTEGER if isinstance(first, int) else TEXT

    def name_of(self, user_id: Id) -> int | bytes:
        """Return what a user's tombstone is stored under: the id, or the keyed hash of a text."""
        if isinstance(user_id, int):
            return user_id
        return journal.hashed(self._key, user_id.encode())

    def seq_of(self, user_id: Id) -> int:
        """Return up to which seq a user is forgotten; 0 without a tombstone."""
        tombstone = self._stored.get(self.name_of(user_id)) if self._stored else None
        return tombstone.seq if tombstone else 0

    def asked_at(self, user_id: Id) -> int:
        """Return when a user with a tombstone asked, in microseconds since 1970."""
        return self._stored[self.name_of(user_id)].asked_at

    def add(self, user_id: Id, newest: int = 0, last_at: int = 0) -> int:
        """Store on the disk that a user is to be forgotten; return up to which seq.

        It is not before `newest`, the last seq of the journal, and after any other tombstone. The
        time is the clock's, but not before `last_at`, the time of the user's last event.
        JournalError where the file cannot be written.
        """
        now = time.time_ns() // 1000
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(user_id, str) and not self._key:
                self._key = journal.make_key(self.path)
            name, kind = self.name_of(user_id), TEXT if isinstance(user_id, str) else INTEGER
            with closing(sqlite3.connect(self.path, LOCK_SECONDS, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = FULL")
                db.execute("BEGIN IMMEDIATE")
                journal.upgrade_forgotten(db, kind)
                if kind == TEXT:
                    journal.note_key(db, self._key)
                (before,) = db.execute("SELECT max(seq) FROM forgotten").fetchone()
                added = Tombstone(max(now, newest, (before or 0) + 1), max(now, last_at))
                db.execute("INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?)", (name, *added))
                db.execute("COMMIT")
        except (sqlite3.Error, OSError, storage.JobError) as error:
            raise JournalError(f"{self.path} can't be written: {error}") from error
        with self._lock:
            self._stored = {**self._stored, name: added}
        return added.seq

    def read_new(self) -> list[int | bytes]:
        """Read the file if it has changed; return the names of users whose tombstones are new.

        JournalError where it cannot be read; `problem` then says why, until it can.
        """
        try:
            new = self._read_if_changed()
        except JournalError as error:
            self.problem = str(error)
            raise
        self.problem, self.was_read = None, True
        return new

    def _read_if_changed(self) -> list[int | bytes]:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError(f"{self.path} can't be read: {error}") from error
        version = status.st_size, status.st_mtime_ns
        if version == self._version:
            return []
        try:
            stored = journal.read_forgotten(self.path)
            if any(isinstance(user, bytes) for user in stored) and not self._key:
                self._key = journal.read_key(self.path)
        except storage.JobError as error:
            raise JournalError(str(error)) from error
        with self._lock:
            new = [user for user, found in stored.items() if self._stored.get(user) != found]
            self._stored = {**self._stored, **stored}
        self._version = version
        return new


class TombstoneWatcher:
    """Polls the tombstones that other processes store, and has them obeyed.

    `obey(names)` is awaited with the names of users with new tombstones; `recover()` when the file
    can be read again after it could not.
    """

    def __init__(
        self,
        tombstones: Tombstones,
        obey: Callable[[list[int | bytes]], Awaitable[None]],
        recover: Callable[[], Awaitable[None]],
    ) -> None:
        self._tombstones = tombstones
        self._obey = obey
        self._recover = recover
        self._polling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the file; from then on poll it."""
        await self._poll()
        self._polling = asyncio.create_task(self._keep_polling())

    def stop(self) -> None:
        """Stop polling."""
        if self._polling:
            self._polling.cancel()

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(TOMBSTONE_POLL_SECONDS)
            await self._poll()

    async def _poll(self) -> None:
        before = self._tombstones.problem
        try:
            new = await asyncio.to_thread(self._tombstones.read_new)
        except JournalError as error:
            if str(error) != before:  # once, not at each poll
                logger.error("New requests to be forgotten cannot be read: %s", error)
            return
        if new:
            await self._obey(new)
        if before:
            await self._recover()
