"""Make the index by which the service finds tracks and artists by name; see contract.search."""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import tables
from jobs.contract.names import SERVING
from jobs.contract.ragged import offsets_of_sorted
from jobs.contract.search import BEST_TRACKS, SCHEMA, SEARCH, words
from jobs.runtime.progress import progress_bar

ROWS_A_BLOCK = 20_000
MEMORY = 64 << 20  # bytes of words that SQLite collects before it writes them
COLUMNS = ["track_id", "track_name", "artist_ids", "artist_names"]


def make(folder: Path) -> None:
    """Write search.db for the release in `folder`, whose arrays are there."""
    items = tables.read(tables.ITEMS, folder, COLUMNS).sort_by("track_id")
    top = np.load(folder / SERVING / "top_items.npy", mmap_mode="r")
    plays = np.load(folder / SERVING / "plays_items.npy", mmap_mode="r")
    path = folder / SEARCH
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")  # a half-written file is never part of a release
        db.execute("PRAGMA synchronous = OFF")
        db.executescript(SCHEMA)
        _fill(db, "tracks", _track_texts(items, top), len(top))
        artists = _artists(items, top, plays)
        _fill(db, "artists", (row[2] for row in artists), len(artists))
        db.execute("BEGIN")
        db.executemany("INSERT INTO artist VALUES (?, ?, ?, ?, ?, ?)", artists)
        db.execute("COMMIT")
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _fill(db: sqlite3.Connection, table: str, texts: Iterable[str], n: int) -> None:
    """Insert the words of n texts, numbered from 1, and merge the index into one piece."""
    db.execute(f"INSERT INTO {table}({table}, rank) VALUES ('hashsize', {MEMORY})")
    rows = ((place, " ".join(words(text))) for place, text in enumerate(texts, 1))
    with progress_bar(total=n, desc=f"index {table}", unit=" rows", unit_scale=True) as bar:
        while block := list(islice(rows, ROWS_A_BLOCK)):
            db.execute("BEGIN")
            db.executemany(f"INSERT INTO {table}(rowid, text) VALUES (?, ?)", block)
            db.execute("COMMIT")
            bar.update(len(block))
    db.execute(f"INSERT INTO {table}({table}) VALUES ('optimize')")


def _track_texts(items: pa.Table, top: np.ndarray) -> Iterator[str]:
    """Yield the name and the artists of each track, in the order of the top list."""
    for first in range(0, len(top), ROWS_A_BLOCK):
        block = items.take(pa.array(top[first : first + ROWS_A_BLOCK]))
        names, artists = block["track_name"].to_pylist(), block["artist_names"].to_pylist()
        for name, by in zip(names, artists, strict=True):
            yield " ".join([name or "", *(by or ())])


# place, artist_id, name, plays, tracks, the ids of the most played tracks as JSON
Artist = tuple[int, int, str, int, int, str]


def _artists(items: pa.Table, top: np.ndarray, plays: np.ndarray) -> list[Artist]:
    """Return the named artists, those with most plays first.

    items.parquet has the names of those artists that have one, so a name belongs to an id where a
    track has as many names as ids. Tracks of which this is not so tell no artist's name.
    """
    ids, names = items["artist_ids"], items["artist_names"]
    n_ids, n_names = (pc.fill_null(pc.list_value_length(lists), 0) for lists in (ids, names))
    whole = items.filter(pc.equal(n_ids, n_names))
    artist = pc.list_flatten(whole["artist_ids"]).to_numpy()
    name = pc.list_flatten(whole["artist_names"]).to_pylist()
    known, first = np.unique(artist, return_index=True)
    shown = np.full(len(items), len(top))
    shown[top] = np.arange(len(top))  # the place of each track in the top list
    all_ids = pc.list_flatten(ids).to_numpy()
    track = np.repeat(np.arange(len(items)), n_ids.to_numpy())
    kept = np.isin(all_ids, known) & (shown[track] < len(top))
    row, track = np.searchsorted(known, all_ids[kept]), track[kept]
    pairs = np.unique(row.astype(np.int64) * (len(top) + 1) + shown[track])
    row, place = np.divmod(pairs, len(top) + 1)  # by artist, then by place, each pair once
    track, starts = top[place], offsets_of_sorted(row, len(known))
    total = np.bincount(row, plays[track], len(known)).astype(np.int64)
    track_ids = items["track_id"].to_numpy()
    order = np.lexsort((known, -np.diff(starts), -total))
    return [
        (
            at,
            int(known[i]),
            name[first[i]],
            int(total[i]),
            int(starts[i + 1] - starts[i]),
            json.dumps(track_ids[track[starts[i] : starts[i + 1]][:BEST_TRACKS]].tolist()),
        )
        for at, i in enumerate(order.tolist(), 1)
    ]
