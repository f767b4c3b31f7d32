"""Work folders for tests: made by hand, or by the jobs themselves."""

import importlib
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from jobs.contract import tables
from jobs.contract.names import CURRENT, EARLIER, PREVIOUS, WINDOWS

START = datetime(2022, 1, 1)
NOW = "2100-01-01"  # for prepare, so that clock.json is the same in every run
LISTS = ("top_popular", "train_als", "personal_als", "similar", "next_played", "item_weights")
AFTER_LISTS = ("rank", "evaluate", "replay", "publish")


Row = tuple[int, int, float]  # user, track, days since START


def run(job: str, work: Path, *options: object) -> str:
    """What `python -m jobs.<job> --work <work> <options>` does, in this process; its summary."""
    module = importlib.import_module(f"jobs.{job}")
    with threadpool_limits(limits=1, user_api="blas"):
        return module.main(["--work", str(work), *map(str, options)])


BY_TIME = ("--split", "time")  # small samples have too few users to take this split by themselves


def make_lists(work: Path) -> None:
    """Run every job that makes lists of one folder's listens."""
    for job in LISTS:
        run(job, work)


def run_line(
    data: Path,
    work: Path,
    tune: Sequence[str] = (),
    windows: Sequence[str] = BY_TIME,
    prepare: Sequence[object] = (),
    last: str = "publish",
) -> None:
    """Run every job as run_all.sh does, but explore, which makes nothing that others read.

    `last` is the job after which the line ends: rank, evaluate, replay or publish.
    """
    run("prepare", work, "--data", data, "--now", NOW, *prepare)
    run("windows", work, *windows)
    run("tune", work, *tune)
    windows_made = [work / "windows" / name for name in (*EARLIER, *WINDOWS)]
    for folder in (*(window for window in windows_made if window.exists()), work):
        make_lists(folder)
    for job in AFTER_LISTS[: AFTER_LISTS.index(last) + 1]:
        run(job, work)


def rows(table: tables.Table, work: Path, *columns: str) -> list[tuple]:
    """The rows of a file, or the named columns of them."""
    return [tuple(row.values()) for row in tables.read(table, work, columns or None).to_pylist()]


def lists(table: tables.Table, work: Path) -> dict[int, list[int]]:
    """The items of each key of a ranked file, best first; ranks are checked."""
    result: dict[int, list[int]] = {}
    for key, item, rank, _ in rows(table, work):
        result.setdefault(key, []).append(item)
        assert rank == len(result[key])
    return result


def save_listens(work: Path, listens: Sequence[Row], tracks: Sequence[int] = ()) -> Path:
    """Write listens, users and items as jobs.prepare would; `tracks` may be more than listened."""
    listens = sorted(listens, key=lambda row: (row[0], row[2]))  # stable: ties keep their order
    user, track, day = (list(column) for column in zip(*listens, strict=True))
    at = [START + timedelta(days=d) for d in day]
    users, items = sorted(set(user)), sorted({*track, *tracks})
    empty: list[list[int]] = [[] for _ in items]
    _write(tables.LISTENS, work, user, track, at, range(len(user)))
    counts = [user.count(u) for u in users]
    last = [max(a for u2, a in zip(user, at, strict=True) if u2 == u) for u in users]
    _write(tables.USERS, work, users, range(len(users)), counts, last)
    names = [str(item) for item in items]
    _write(tables.ITEMS, work, items, range(len(items)), names, empty, empty, empty, empty)
    return work


def _write(table: tables.Table, work: Path, *columns: Sequence[Any]) -> None:
    arrays = [
        pa.array(list(values), field.type)
        for values, field in zip(columns, table.schema, strict=True)
    ]
    tables.write(table, work, pa.table(arrays, schema=table.schema))


def save_input(
    folder: Path, listens: Sequence[Row], tracks: Sequence[int], kinds: bool = True
) -> Path:
    """Write the three input files; each track has an artist and a genre if `kinds`."""
    folder.mkdir(parents=True, exist_ok=True)
    of_three = [[i % 3] if kinds else [] for i in range(len(tracks))]
    lists = pa.array(of_three, pa.list_(pa.int64()))
    columns = {"track_id": list(tracks), "albums": lists, "artists": lists, "genres": lists}
    pq.write_table(pa.table(columns), folder / "tracks.parquet")
    named = {"id": [0, 1] * 2, "type": ["artist", "artist", "genre", "genre"], "name": list("abcd")}
    pq.write_table(pa.table(named), folder / "catalog_names.parquet")
    user, track, day = zip(*listens, strict=True)
    played = {
        "user_id": user,
        "track_id": track,
        "started_at": [START + timedelta(days=float(d)) for d in day],
        "track_seq": range(len(user)),
    }
    pq.write_table(pa.table(played), folder / "interactions.parquet")
    return folder


def copied(finished: Path, work: Path) -> Path:
    """A finished folder to change, without its windows and releases."""
    ignore = shutil.ignore_patterns("windows", "releases", CURRENT, PREVIOUS)
    return shutil.copytree(finished, work, ignore=ignore)
