"""A journal, tombstones and exported events as version 1 wrote them: `at` is also the key."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

JOURNAL = """
CREATE TABLE IF NOT EXISTS events (
    at INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, track_id INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS events_of_user ON events (user_id);
CREATE TABLE IF NOT EXISTS forgotten_until (at INTEGER NOT NULL);
"""
FORGOTTEN = "CREATE TABLE forgotten (user_id INTEGER PRIMARY KEY, at INTEGER NOT NULL);"
IN_2026 = 1_795_000_000_000_000  # microseconds since 1970
IN_2150 = 5_680_281_600_000_000

Event = tuple[int, int, int]  # at, user, track


def after_one_event_of_2150(n: int = 50) -> list[Event]:
    """An event of 2026, one of 2150, and n that were stored with the right clock later."""
    later = [(IN_2150 + 1 + i, i % 5, 10 + i % 9) for i in range(n)]
    return [(IN_2026, 3, 10), (IN_2150, 7, 11), *later]


def journal(path: Path, events: Iterable[Event], forgotten_until: int | None = None) -> None:
    """Write a journal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        db.executescript(JOURNAL)
        db.execute("BEGIN")
        db.executemany("INSERT INTO events VALUES (?, ?, ?)", events)
        db.execute("COMMIT")
        if forgotten_until is not None:
            db.execute("INSERT INTO forgotten_until VALUES (?)", (forgotten_until,))
        db.execute("PRAGMA user_version = 1")


def forgotten(path: Path, tombstones: Mapping[int, int]) -> None:
    """Write tombstones, by user the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute(FORGOTTEN)
        db.executemany("INSERT INTO forgotten VALUES (?, ?)", tombstones.items())
        db.commit()


def exported(path: Path, events: Iterable[Event]) -> None:
    """Write events.parquet."""
    at, user, track = zip(*events, strict=True)
    columns = {
        "user_id": pa.array(user, pa.int64()),
        "track_id": pa.array(track, pa.int64()),
        "started_at": pa.array(at, pa.timestamp("us")),
        "track_seq": pa.nulls(len(at), pa.int32()),
    }
    pq.write_table(pa.table(columns), path)
