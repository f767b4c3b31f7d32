"""The journal of live events and the tombstones: two SQLite files that jobs and service share."""

import sqlite3
from contextlib import closing
from pathlib import Path

from jobs.contract.storage import JobError

JOURNAL_VERSION = 1  # its user_version
JOURNAL_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    at INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, track_id INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS events_of_user ON events (user_id);
CREATE TABLE IF NOT EXISTS forgotten_until (at INTEGER NOT NULL);
"""


JOURNAL_KEEPS = 1000  # events of each user, as many as the service may have in memory
FORGOTTEN_SCHEMA = """
CREATE TABLE IF NOT EXISTS forgotten (user_id INTEGER PRIMARY KEY, at INTEGER NOT NULL);
"""


def read_forgotten(path: Path) -> dict[int, int]:
    """Return by user_id the time up to which a user is forgotten; empty where there is no file."""
    if not path.is_file():
        return {}
    for mode in ("ro", "rw"):  # undoing what a crash left half written needs write access
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True)) as db:
                tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
                if "forgotten" not in tables:  # a crash came before the first tombstone
                    return {}
                return dict(db.execute("SELECT user_id, at FROM forgotten").fetchall())
        except sqlite3.Error as error:
            reason = error
    raise JobError(f"{path} can't be read ({reason}): check its permissions or restore it")
