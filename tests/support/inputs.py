"""The usual three input files, jobs.prepare on them, and what it made."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import prepare
from jobs.contract.tables import QUARANTINE, Table, read

OTHER_TEXT = "is a text other than the plain digits of a whole number, as 7"
JAN = [datetime(2022, 1, day) for day in range(1, 10)]


def tracks(**changes):
    """Three tracks: 10 has all names, 20 lacks some, 30 has none."""
    columns = {
        "track_id": [10, 20, 30],
        "albums": [[], [1], None],
        "artists": [[1], [1, 2], []],
        "genres": [[5, 6], [7, 5], None],
    }
    return pa.table(columns | changes)


def names(**changes):
    columns = {
        "id": [10, 20, 10, 1, 2, 5, 6, 5],
        "type": ["track", "track", "artist", "artist", "artist", "genre", "genre", "album"],
        "name": ["\t Ten  Dots ", "Двадцать", "not the track", "AC/DC", " ", "rock", "pop", "x"],
    }
    return pa.table(columns | changes)


def interactions(**changes):
    columns = {
        "user_id": [3, 1, 3, 1],
        "track_id": [20, 10, 10, 20],
        "track_seq": [2, 1, 1, 2],
        "started_at": [JAN[1], JAN[0], JAN[0], JAN[3]],
    }
    return pa.table(columns | changes)


def save(folder: Path, **tables) -> Path:
    """Write the three input files, the usual ones where none is given."""
    folder.mkdir(parents=True, exist_ok=True)
    usual = {"tracks": tracks(), "catalog_names": names(), "interactions": interactions()}
    for name, table in (usual | tables).items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def run(data: Path, work: Path, *options: str) -> str:
    """The job's main with this command line; its summary."""
    now = ["--now", "2026-01-01"]  # so that clock.json is the same in every run
    return prepare.main(["--data", str(data), "--work", str(work), *now, *options])


def rows(table: Table, work: Path) -> list[tuple]:
    return [tuple(row.values()) for row in read(table, work).to_pylist()]


def reasons(work: Path) -> list[tuple]:
    return [row[:3] for row in rows(QUARANTINE, work)]


def content(work: Path) -> dict[str, bytes]:
    """Every file in a folder, hidden ones too."""
    return {path.name: path.read_bytes() for path in work.iterdir()}
