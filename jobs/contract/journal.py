"""The journal of live events and the tombstones: two SQLite files that jobs and service share.

In both files order and time are two things. `seq` is a place in one sequence that events and
tombstones share: it only grows, and none is used twice. A time is what the clock said. In version
1 one number was both, so one wrong time moved all times that followed. What a file of version 1
holds keeps that number as its seq, so what was noted elsewhere (in releases, and in exported
events) can be compared with a seq without a rule of its own:

    version 1            version 2
    at   user  track     seq  user  track  at
    100  7     10        100  7     10     NULL   (the time is 100 as well)
    101  8     11        101  8     11     NULL
                         102  7     12     95     (the clock was put back)
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from jobs.contract.storage import JobError

JOURNAL_VERSION = 2  # its user_version
JOURNAL_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, track_id INTEGER NOT NULL, at INTEGER
);
CREATE INDEX IF NOT EXISTS events_of_user ON events (user_id);
CREATE TABLE IF NOT EXISTS forgotten_until (seq INTEGER NOT NULL);
"""
TIME_OF_EVENT = "coalesce(at, seq)"  # an event of version 1 has no `at` of its own


JOURNAL_KEEPS = 1000  # events of each user, as many as the service may have in memory
FORGOTTEN_VERSION = 2  # its user_version; version 1 left it 0
FORGOTTEN_SCHEMA = """
CREATE TABLE IF NOT EXISTS forgotten (
    user_id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, asked_at INTEGER NOT NULL
);
"""


class Tombstone(NamedTuple):
    """Up to where a user is forgotten."""

    seq: int  # the user's events up to this place in the sequence; no two tombstones share one
    asked_at: int  # what has a time only, up to this one, in microseconds since 1970


def version_of_journal(db: sqlite3.Connection) -> int:
    """Return a journal's version, 0 for a new file; DatabaseError if this code does not know it."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= JOURNAL_VERSION:
        raise sqlite3.DatabaseError(f"it has version {version}, expected {JOURNAL_VERSION}")
    return int(version)


def upgrade_journal(db: sqlite3.Connection) -> None:
    """Make the tables of a new journal, or bring one of version 1 to the present version.

    One transaction does it, so that a crash leaves the one or the other, and several processes may
    try at once. No row is rewritten: it takes as long for a million events as for one.
    """
    if version_of_journal(db) == JOURNAL_VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    with db:  # commits, or rolls back after an error
        for table in ("events", "forgotten_until"):
            if _columns(db, table)[:1] == ["at"]:
                db.execute(f"ALTER TABLE {table} RENAME COLUMN at TO seq")
        if _columns(db, "events") == ["seq", "user_id", "track_id"]:
            db.execute("ALTER TABLE events ADD COLUMN at INTEGER")
        for statement in JOURNAL_SCHEMA.split(";"):  # executescript would commit
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {JOURNAL_VERSION}")


def upgrade_forgotten(db: sqlite3.Connection) -> None:
    """The same for a file of tombstones. It runs in the caller's transaction."""
    if _version_of_forgotten(db) == FORGOTTEN_VERSION:
        return
    if "at" in _columns(db, "forgotten"):
        db.execute("ALTER TABLE forgotten RENAME COLUMN at TO seq")
        db.execute("ALTER TABLE forgotten ADD COLUMN asked_at INTEGER NOT NULL DEFAULT 0")
        db.execute("UPDATE forgotten SET asked_at = seq")
    db.execute(FORGOTTEN_SCHEMA)
    db.execute(f"PRAGMA user_version = {FORGOTTEN_VERSION}")


def read_forgotten(path: Path) -> dict[int, Tombstone]:
    """Return the tombstones by user_id, of either version; empty where there is no file."""
    if not path.is_file():
        return {}
    for mode in ("ro", "rw"):  # undoing what a crash left half written needs write access
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True)) as db:
                return _stored(db)
        except sqlite3.Error as error:
            reason = error
    raise JobError(f"{path} can't be read ({reason}): check its permissions or restore it")


def _stored(db: sqlite3.Connection) -> dict[int, Tombstone]:
    db.execute("BEGIN")  # another process may upgrade the file meanwhile
    columns = "seq, asked_at" if _version_of_forgotten(db) == FORGOTTEN_VERSION else "at, at"
    if not _columns(db, "forgotten"):  # a crash came before the first tombstone
        return {}
    rows = db.execute(f"SELECT user_id, {columns} FROM forgotten")
    return {user: Tombstone(seq, asked_at) for user, seq, asked_at in rows}


def _version_of_forgotten(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORGOTTEN_VERSION):
        raise sqlite3.DatabaseError(f"it has version {version}, expected {FORGOTTEN_VERSION}")
    return int(version)


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    """Return the names of a table's columns; empty if there is no such table."""
    return [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
