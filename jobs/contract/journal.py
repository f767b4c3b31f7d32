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

Where ids are text, both files have version 12. The journal has the texts: they mean the same in
every release. The tombstones have a keyed hash of each text, since an id may be an e-mail address,
and whoever was forgotten must not be found in the file. The key is in a file of its own beside it.
The types of the journal's columns say of which kind its ids are; without events they may change.
"""

import os
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, TypeVar

from jobs.contract import storage
from jobs.contract.ids import INTEGER, TEXT
from jobs.contract.storage import JobError
from jobs.contract.text_ids import Kinds

JOURNAL_VERSION = 2  # its user_version
TEXT_VERSION = 12  # that of a journal and of tombstones with text ids: 10 more than the others'
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
HASHED_SCHEMA = """
CREATE TABLE forgotten (
    user_hash BLOB PRIMARY KEY, seq INTEGER NOT NULL, asked_at INTEGER NOT NULL
) WITHOUT ROWID;
"""
# The hash of no text at all, which is no id: it tells whether a key is that of the tombstones.
KEY_CHECK_SCHEMA = "CREATE TABLE IF NOT EXISTS key_check (hash BLOB NOT NULL)"
KEY_BYTES, HASH_BYTES = 32, 16
SQL_TYPES = {INTEGER: "INTEGER", TEXT: "TEXT"}

T = TypeVar("T")
Id = int | str  # of a user or a track, by its kind
# ids of tracks, newest first; as bytes they are whole numbers of 64 bits, which take less time
Events = Sequence[Id] | bytes


class OtherKind(Exception):
    """A file of the state has ids of another kind; the text says which."""


class Tombstone(NamedTuple):
    """Up to where a user is forgotten."""

    seq: int  # the user's events up to this place in the sequence; no two tombstones share one
    asked_at: int  # what has a time only, up to this one, in microseconds since 1970


def version_of_journal(db: sqlite3.Connection) -> int:
    """Return a journal's version, 0 for a new file; DatabaseError if this code does not know it."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, 1, JOURNAL_VERSION, TEXT_VERSION):
        raise sqlite3.DatabaseError(f"it has version {version}, expected {JOURNAL_VERSION}")
    return int(version)


def upgrade_journal(db: sqlite3.Connection) -> None:
    """Make the tables of a new journal, or bring one of version 1 to the present version.

    One transaction does it, so that a crash leaves the one or the other, and several processes may
    try at once. No row is rewritten: it takes as long for a million events as for one.
    """
    if version_of_journal(db) in (JOURNAL_VERSION, TEXT_VERSION):
        return
    db.execute("BEGIN IMMEDIATE")
    with db:  # commits, or rolls back after an error
        for table in ("events", "forgotten_until"):
            if _columns(db, table)[:1] == ["at"]:
                db.execute(f"ALTER TABLE {table} RENAME COLUMN at TO seq")
        if _columns(db, "events") == ["seq", "user_id", "track_id"]:
            db.execute("ALTER TABLE events ADD COLUMN at INTEGER")
        _make_journal(db, Kinds())


def _make_journal(db: sqlite3.Connection, kinds: Kinds) -> None:
    schema = JOURNAL_SCHEMA
    for column, kind in zip(("user_id", "track_id"), kinds, strict=True):
        schema = schema.replace(f"{column} INTEGER", f"{column} {SQL_TYPES[kind]}")
    for statement in schema.split(";"):  # executescript would commit
        db.execute(statement)
    version = JOURNAL_VERSION if kinds == Kinds() else TEXT_VERSION
    db.execute(f"PRAGMA user_version = {version}")


def kinds_of_journal(db: sqlite3.Connection) -> Kinds:
    """Return of which kinds the ids of a journal are."""
    types = {name: kind for _, name, kind, *_ in db.execute("PRAGMA table_info(events)")}
    names = {"TEXT": TEXT}
    return Kinds(*(names.get(types.get(name, ""), INTEGER) for name in ("user_id", "track_id")))


def kinds_of_events(path: Path) -> Kinds | None:
    """Return the kinds of the ids in a journal's file; None if it has no events, or is not there.

    A file that can't be read tells nothing: those who need it report that.
    """
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            some = db.execute("SELECT 1 FROM events LIMIT 1").fetchone()
            return kinds_of_journal(db) if some else None
    except sqlite3.Error:
        return None


def change_kinds(db: sqlite3.Connection, kinds: Kinds) -> None:
    """Make a journal one for ids of these kinds; OtherKind if it has events with others."""
    if kinds_of_journal(db) == kinds:
        return
    db.execute("BEGIN IMMEDIATE")
    with db:
        found = kinds_of_journal(db)
        if found == kinds:
            return
        if db.execute("SELECT 1 FROM events LIMIT 1").fetchone():
            raise OtherKind(f"those of the journal are {named_kinds(found)}")
        db.execute("DROP TABLE events")
        _make_journal(db, kinds)


def named_kinds(kinds: Kinds) -> str:
    """Return the kinds of ids in words."""
    return f"{kinds.users} for users and {kinds.tracks} for tracks"


def hashed(key: bytes, text: bytes) -> bytes:
    """Return the keyed hash under which a tombstone of a text id is stored."""
    return blake2b(text, key=key, digest_size=HASH_BYTES).digest()


def _key_file(path: Path) -> Path:
    return path.with_suffix(".key")


def read_key(path: Path) -> bytes:
    """Return the key of the tombstones in a file. JobError if it is missing or is another one."""
    file = _key_file(path)
    try:
        key = file.read_bytes()
    except OSError as error:
        raise JobError(
            f"{file} can't be read ({error}): it is the key of {path.name}, without which nobody "
            "knows whom to forget; restore it"
        ) from None
    if len(key) != KEY_BYTES:
        raise JobError(f"{file} has {len(key)} bytes, expected {KEY_BYTES}: restore it")
    if path.is_file() and _read(path, _key_check) not in (None, hashed(key, b"")):
        raise JobError(
            f"{file} is not the key of {path.name}, without which nobody knows whom to forget; "
            "restore the right one"
        )
    return key


def note_key(db: sqlite3.Connection, key: bytes) -> None:
    """Note in a file of tombstones which key is theirs, once, in the caller's transaction."""
    db.execute(KEY_CHECK_SCHEMA)
    if _key_check(db) is None:
        db.execute("INSERT INTO key_check VALUES (?)", (hashed(key, b""),))


def _key_check(db: sqlite3.Connection) -> bytes | None:
    if not _columns(db, "key_check"):
        return None
    found: tuple[bytes] | None = db.execute("SELECT hash FROM key_check").fetchone()
    return found and found[0]


def make_key(path: Path) -> bytes:
    """Return the key of the tombstones in a file; make it if there are none yet.

    Where there are tombstones, a missing key is lost: with another one nobody would be forgotten
    any more, and nothing would say so. JobError then, as read_key.
    """
    file = _key_file(path)
    if not file.exists() and not any(isinstance(user, bytes) for user in read_forgotten(path)):
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.touch(0o600)
        with temporary.open("wb") as opened:
            opened.write(secrets.token_bytes(KEY_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        try:
            os.link(temporary, file)  # fails if another process was first, whose key counts then
        except OSError:
            if not file.exists():  # the file system has no hard links
                temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        storage.fsync_folder(file.parent)
    return read_key(path)


def upgrade_forgotten(db: sqlite3.Connection, kind: str = INTEGER) -> None:
    """The same for a file of tombstones, whose users' ids are of a kind.

    It runs in the caller's transaction. DatabaseError if it has tombstones of the other kind.
    """
    version, expected = (
        _version_of_forgotten(db),
        FORGOTTEN_VERSION if kind == INTEGER else TEXT_VERSION,
    )
    if version == expected:
        return
    if version == TEXT_VERSION or kind == TEXT:
        if _columns(db, "forgotten") and db.execute("SELECT 1 FROM forgotten").fetchone():
            raise sqlite3.DatabaseError(f"it has tombstones of users whose ids are not {kind}")
        db.execute("DROP TABLE IF EXISTS forgotten")
    if "at" in _columns(db, "forgotten"):
        db.execute("ALTER TABLE forgotten RENAME COLUMN at TO seq")
        db.execute("ALTER TABLE forgotten ADD COLUMN asked_at INTEGER NOT NULL DEFAULT 0")
        db.execute("UPDATE forgotten SET asked_at = seq")
    db.execute(FORGOTTEN_SCHEMA if kind == INTEGER else HASHED_SCHEMA)
    db.execute(f"PRAGMA user_version = {expected}")


def read_forgotten(path: Path) -> Mapping[int | bytes, Tombstone]:
    """Return the tombstones by user_id, or by the hash of a text id; empty where there is no file.

    The file may be of any version.
    """
    return _read(path, _stored) if path.is_file() else {}


def _read(path: Path, read: Callable[[sqlite3.Connection], T]) -> T:
    """Return what a function reads in a file of tombstones; JobError if it can't."""
    for mode in ("ro", "rw"):  # undoing what a crash left half written needs write access
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True)) as db:
                return read(db)
        except sqlite3.Error as error:
            reason = error
    raise JobError(f"{path} can't be read ({reason}): check its permissions or restore it")


def _stored(db: sqlite3.Connection) -> dict[int | bytes, Tombstone]:
    db.execute("BEGIN")  # another process may upgrade the file meanwhile
    version = _version_of_forgotten(db)
    columns = "at, at" if version == 0 else "seq, asked_at"
    if not _columns(db, "forgotten"):  # a crash came before the first tombstone
        return {}
    user = "user_hash" if version == TEXT_VERSION else "user_id"
    rows = db.execute(f"SELECT {user}, {columns} FROM forgotten")
    return {user: Tombstone(seq, asked_at) for user, seq, asked_at in rows}


def _version_of_forgotten(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORGOTTEN_VERSION, TEXT_VERSION):
        raise sqlite3.DatabaseError(f"it has version {version}, expected {FORGOTTEN_VERSION}")
    return int(version)


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    """Return the names of a table's columns; empty if there is no such table."""
    return [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
