"""The files that flow between the jobs and the service: names, columns, types, order.

One home for every file and column name. Reading checks the schema and names the job that makes
a missing or wrong file; writing is atomic (temporary file, fsync, rename), so a file that exists
is whole. Encoded ids (`*_enc`) are positions in the sorted ids: dense int32, the jobs' own.
"""

import filecmp
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

VERSION = 2  # of this contract: a release of another is refused
MAX_ID = 2**53 - 1  # the largest integer that JSON clients keep exact
LIST_LENGTH = 100  # rows a user or track in the offline lists
WINDOWS = ("train", "choose", "report")  # folders of windows/: train the ranker, choose by, report
ID, TEXT, TIME = pa.int64(), pa.string(), pa.timestamp("us")
INT, SCORE = pa.int32(), pa.float32()


class JobError(Exception):
    """A problem that the user can mend: says what, what was found and what to do."""


@dataclass(frozen=True)
class Table:
    """One parquet file: `order` are the columns its rows are sorted by."""

    file: str
    made_by: str
    row: str
    schema: pa.Schema
    order: tuple[str, ...]


def _ranked(file: str, made_by: str, row: str, key: str, item: str) -> Table:
    """A file of ranked lists: for each `key` the `item`s from rank 1 on, best first."""
    schema = pa.schema([(key, ID), (item, ID), ("rank", INT), ("score", SCORE)])
    return Table(file, made_by, row, schema, (key, "rank"))


LISTENS = Table(
    "listens.parquet",
    "jobs.prepare",
    "one kept listen",
    pa.schema([("user_id", ID), ("track_id", ID), ("started_at", TIME), ("track_seq", INT)]),
    ("user_id", "started_at", "track_seq"),
)
USERS = Table(
    "users.parquet",
    "jobs.prepare",
    "one user with a listen; user_id_enc is the user's row in the model",
    pa.schema([("user_id", ID), ("user_id_enc", INT), ("listens", INT), ("last_at", TIME)]),
    ("user_id_enc",),
)
ITEMS = Table(
    "items.parquet",
    "jobs.prepare",
    "one track of tracks.parquet; track_id_enc is its row in the model",
    pa.schema(
        [
            ("track_id", ID),
            ("track_id_enc", INT),
            ("track_name", TEXT),  # null where the catalogue has none
            ("artist_ids", pa.list_(ID)),
            ("artist_names", pa.list_(TEXT)),  # only those that the catalogue names
            ("genre_ids", pa.list_(ID)),
            ("genre_names", pa.list_(TEXT)),
        ]
    ),
    ("track_id_enc",),
)
QUARANTINE = Table(
    "quarantine.parquet",
    "jobs.prepare",
    "one bad input row, as text, with the reason why it was left out",
    pa.schema([("file", TEXT), ("row", ID), ("reason", TEXT), ("content", TEXT)]),
    ("file", "row"),
)
EVENTS = Table(
    "events.parquet",
    "jobs.export_events",
    "one listen that the service saw; track_seq is not known",
    LISTENS.schema,
    ("started_at",),
)
HOLDOUT = Table(
    "holdout.parquet",
    "jobs.windows",
    "one listen that came after the window's cut: what the window's lists should foresee",
    LISTENS.schema,
    LISTENS.order,
)
TOP_POPULAR = Table(
    "top_popular.parquet",
    "jobs.top_popular",
    "one track with a listen, what everyone plays first",
    pa.schema(
        [("track_id", ID), ("rank", INT), ("score", SCORE), ("listeners", INT), ("plays", INT)]
    ),
    ("rank",),
)
PERSONAL_ALS = _ranked(
    "personal_als.parquet", "jobs.personal_als", "one track for a user", "user_id", "track_id"
)
SIMILAR = _ranked(
    "similar.parquet", "jobs.similar", "one neighbour of a track", "track_id", "similar_track_id"
)
NEXT_PLAYED = _ranked(
    "next_played.parquet",
    "jobs.next_played",
    "one track played soon after a track",
    "track_id",
    "next_track_id",
)
FOLLOWERS = Table(
    "followers.parquet",
    "jobs.next_played",
    "one track played soon after a track, as in next_played, and how often directly after it",
    NEXT_PLAYED.schema.append(pa.field("directly", SCORE)),
    NEXT_PLAYED.order,
)
RECOMMENDATIONS = _ranked(
    "recommendations.parquet", "jobs.rank", "one track for a user, final", "user_id", "track_id"
)
TABLES = {
    t.file: t
    for t in (
        LISTENS, USERS, ITEMS, QUARANTINE, EVENTS, HOLDOUT, TOP_POPULAR, PERSONAL_ALS, SIMILAR,
        NEXT_PLAYED, FOLLOWERS, RECOMMENDATIONS,
    )
}  # fmt: skip
RELEASED = (
    LISTENS, USERS, ITEMS, TOP_POPULAR, PERSONAL_ALS, SIMILAR, NEXT_PLAYED, RECOMMENDATIONS
)  # fmt: skip
ALS_MODEL = "als_model.npz"
METRICS = "metrics.json"
REPLAY = "replay.json"
MANIFEST = "manifest.json"
COMPARISON = "comparison.json"  # with the release that was current
CURRENT = "current"  # WORK/current -> WORK/releases/<id>
PREVIOUS = "previous"  # likewise, to what was current before
RELEASES = "releases"

# The service's journal of live events, an SQLite file in WORK/state. `at`, microseconds since 1970
# in UTC, is an event's time and its place in the order of acknowledgement: no two have the same,
# and none is before `forgotten_until`, when a user's events were removed last.
STATE = "state"
JOURNAL = "events.db"
JOURNAL_VERSION = 1  # its user_version
JOURNAL_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    at INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, track_id INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS events_of_user ON events (user_id);
CREATE TABLE IF NOT EXISTS forgotten_until (at INTEGER NOT NULL);
"""
JOURNAL_KEEPS = 1000  # of each user; more events than that in memory can't be asked for

# Who asked to be forgotten, beside the journal: an SQLite file, too. What a user did up to `at`, as
# the journal counts it, is gone. WORK and each release say in a file of their own up to which `at`
# their listens obey that; without it they obey none.
FORGOTTEN = "forgotten.db"
FORGOTTEN_SCHEMA = """
CREATE TABLE IF NOT EXISTS forgotten (user_id INTEGER PRIMARY KEY, at INTEGER NOT NULL);
"""
FORGOTTEN_UNTIL = "forgotten.json"

# What publish puts into a release for the service to memory-map: serving/<name>.npy. Lists are
# held as offsets and flat items: those of row i are items[offsets[i]:offsets[i + 1]]. Tracks are
# int32 positions in track_ids, users are positions in user_ids; both arrays are sorted.
SERVING = "serving"
SERVING_ARRAYS: dict[str, np.dtype[Any]] = {
    "track_ids": np.dtype(np.int64),
    "track_texts": np.dtype(np.uint8),  # each id as it stands in a JSON list: see serving.texts
    "names_offsets": np.dtype(np.int64),
    "names_items": np.dtype(np.uint8),  # UTF-8; nothing where a track has no name
    "user_ids": np.dtype(np.int64),  # users with a history or a final list
    "top_items": np.dtype(np.int32),  # the top list, best first
    "recommendations_offsets": np.dtype(np.int64),
    "recommendations_items": np.dtype(np.int32),  # best first, free of what may not be served
    "history_offsets": np.dtype(np.int64),
    "history_items": np.dtype(np.int32),  # every listen, oldest first
    "similar_offsets": np.dtype(np.int64),
    "similar_items": np.dtype(np.int32),  # best first
    "similar_scores": np.dtype(np.float32),
    "next_played_offsets": np.dtype(np.int64),
    "next_played_items": np.dtype(np.int32),  # best first
    "next_played_scores": np.dtype(np.float32),
    # the ALS vectors of tracks, as retrieval.NormOrder and Model have them
    "als_items": np.dtype(np.int32),  # from the longest vector to the shortest
    "als_places": np.dtype(np.int32),  # of each track in that order
    "als_norms": np.dtype(np.float32),
    "als_vectors": np.dtype(np.float32),  # one after the other
    "als_gram": np.dtype(np.float32),  # row by row
}


def listed(work: Path) -> list[str]:
    """The ids of the releases in WORK/releases, oldest first: real folders only, never a link."""
    releases = work / RELEASES
    if not releases.is_dir():
        return []
    folders = (f for f in releases.iterdir() if f.is_dir() and not f.is_symlink())
    return sorted(f.name for f in folders if not f.name.startswith("."))


def read(table: Table, folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a file of the contract, or the named columns of it, after checking its schema."""
    _check(table, folder)
    names = None if columns is None else list(columns)
    return pq.read_table(folder / table.file, columns=names, memory_map=True)


def batches(
    table: Table, folder: Path, columns: Sequence[str], rows: int = 1 << 20
) -> Iterator[pa.RecordBatch]:
    """Read the named columns in file order, at most `rows` rows at a time."""
    _check(table, folder)
    with pq.ParquetFile(folder / table.file, memory_map=True) as file:
        yield from file.iter_batches(rows, columns=columns)


def n_rows(table: Table, folder: Path) -> int:
    """The number of rows of a file, from its footer."""
    return int(_check(table, folder).num_rows)


def _check(table: Table, folder: Path) -> pq.FileMetaData:
    path = folder / table.file
    if not path.is_file():
        raise JobError(f"{path} is missing: run {_command(table, folder)}")
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise JobError(
            f"{path} is not a whole parquet file ({error}): run {_command(table, folder)} again"
        ) from None
    found = metadata.schema.to_arrow_schema()
    if not found.equals(table.schema):
        raise JobError(
            f"{path} has the columns {_columns(found)}, expected {_columns(table.schema)}: "
            f"run {_command(table, folder)} again"
        )
    return metadata


def _command(table: Table, folder: Path) -> str:
    """What makes the file; some of those in WORK/windows/NAME are made from WORK."""
    job, work = table.made_by, folder
    if folder.parent.name == "windows" and job in ("jobs.prepare", "jobs.windows", "jobs.rank"):
        job, work = job.replace("prepare", "windows"), folder.parent.parent
    return f"python -m {job} --work {work}"


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def write(table: Table, folder: Path, data: pa.Table) -> None:
    """Write a whole file of the contract, atomically; columns are cast to the declared types."""
    with writer(table, folder) as append:
        append(data)


@contextmanager
def writer(table: Table, folder: Path) -> Iterator[Any]:
    """Write a file piece by piece: yields append(pa.Table); the file appears whole at the end."""
    with (
        atomic(folder / table.file) as path,
        pq.ParquetWriter(path, table.schema, compression="zstd") as out,
    ):
        yield lambda data: out.write_table(data.select(table.schema.names).cast(table.schema))


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place at the end.

    If `path` has the very same bytes already, it stays, so that nobody takes it for changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
            return
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Make a rename inside `folder` last through a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_forgotten(path: Path) -> dict[int, int]:
    """By user_id the time up to which they are forgotten; empty where there is no file."""
    if not path.is_file():
        return {}
    for mode in ("ro", "rw"):  # only who may write can take back what a crash left half written
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True)) as db:
                tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
                if "forgotten" not in tables:  # a crash came before the first tombstone
                    return {}
                return dict(db.execute("SELECT user_id, at FROM forgotten").fetchall())
        except sqlite3.Error as error:
            reason = error
    raise JobError(f"{path} can't be read ({reason}): free it, or restore it")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically; keys keep their order."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """Read a JSON object that the job `made_by` wrote; a key that it lacks is a JobError too."""
    again = f"run python -m {made_by} again"

    class Content(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            raise JobError(f"{path} has no {key!r}, it may be of another version: {again}")

    try:
        content = json.loads(path.read_text(), object_hook=Content)
    except FileNotFoundError:
        raise JobError(f"{path} is missing: run python -m {made_by}") from None
    except (ValueError, OSError) as error:
        raise JobError(f"{path} is not JSON ({error}): {again}") from None
    if not isinstance(content, dict):
        raise JobError(f"{path} holds no JSON object: {again}")
    return content
