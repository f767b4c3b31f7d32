"""What a release knows of one user, for people who look at it: history with dates, and lists.

A list is what a generator proposes to the user. It is computed from the arrays, by the functions of
the jobs, or read from the parquet files. All of it runs in a thread.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import UNSET

from api.release.catalog import Catalog
from api.release.details import MADE_BEFORE, RANKED_BEFORE
from jobs.contract import tables
from jobs.contract.blending import Tracks, in_growing_blocks, without
from jobs.contract.journal import Id
from jobs.contract.names import LIST_LENGTH, RANKING
from jobs.contract.plays import (
    LAST_HALF_LIFE,
    LAST_SCORED,
    LISTED,
    RECENT,
    best,
    best_neighbours,
    by_artists,
    by_weights,
    profile,
)

Generator = Callable[[Catalog, Id, int], Tracks]  # of a user, who is in a row or -1


class Lacking(Exception):
    """The release does not have what is asked for; the text says why."""


class Listings(NamedTuple):
    """The generators' lists for a user, as positions, and why others can't be given, by name."""

    lists: dict[str, Tracks]
    lacks: dict[str, str]
    left_out: list[str]  # generators whose lists the ranker did not get


def times(folder: Path, first: int, end: int) -> list[str] | None:
    """Return when the listens in rows first to end - 1 of listens.parquet began, in UTC.

    None if the file can't be read, as after its release was removed.
    """
    try:
        parts = list(_rows(folder / tables.LISTENS.file, ["started_at"], first, end))
    except (OSError, pa.ArrowException):
        return None
    return [at.isoformat() for part in parts for at in part["started_at"].to_pylist()]


def _rows(path: Path, columns: list[str], first: int, end: int) -> Iterator[pa.Table]:
    """Yield the rows first to end - 1 of a parquet file; only their row groups are read."""
    with pq.ParquetFile(path, memory_map=True) as file:
        start = 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            if start < end and first < stop:
                rows = file.read_row_group(group, columns, use_threads=False)
                skip = max(first - start, 0)
                yield rows.slice(skip, min(end, stop) - start - skip)
            start = stop


def _of_user(path: Path, user_id: Id, number: int) -> list[Id]:
    """Return the track ids of a user's rows in a parquet file that is sorted by user, then rank.

    `number` is the user's inside the release, by which the rows are sorted.
    """
    found: list[Id] = []
    with pq.ParquetFile(path, memory_map=True) as file:
        numbers = tables.bounds_of_groups(file.metadata)
        for group in range(file.num_row_groups):
            if isinstance(user_id, str):
                if numbers is None or numbers[group][0] <= number <= numbers[group][1]:
                    rows = file.read_row_group(group, ["user_id", "track_id"], use_threads=False)
                    found += rows.filter(pc.equal(rows["user_id"], user_id))["track_id"].to_pylist()
                continue
            bounds = file.metadata.row_group(group).column(0).statistics
            if bounds is None or not bounds.min <= user_id <= bounds.max:
                continue
            rows = file.read_row_group(group, ["user_id", "track_id"], use_threads=False)
            first, end = np.searchsorted(rows["user_id"].to_numpy(), [user_id, user_id + 1])
            found += rows["track_id"].slice(first, end - first).to_pylist()
    return found


def listings(catalog: Catalog, user_id: Id, row: int) -> Listings:
    """Return what each generator proposes to a user, who is in a row of the catalog, or -1."""
    lists, lacks = {}, {}
    for name, make in GENERATORS.items():
        try:
            lists[name] = make(catalog, user_id, row)
        except Lacking as error:
            lacks[name] = str(error)
    return Listings(lists, lacks, _left_out(catalog.folder))


def _left_out(folder: Path) -> list[str]:
    """Return the generators that jobs.rank did without; none if ranking.json can't be read."""
    try:
        content = json.loads((folder / RANKING).read_bytes())
        return [name for name in GENERATORS if name in content.get("switched_off", ())]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def _forecast(catalog: Catalog, user_id: Id, row: int) -> Tracks:
    """The first tracks of the forecast."""
    order, heard = catalog.details.forecast, _heard(catalog, row)
    if order is None:
        raise Lacking(RANKED_BEFORE)
    return without(order[: LIST_LENGTH + len(heard)], heard)[:LIST_LENGTH]


def _popular(catalog: Catalog, user_id: Id, row: int) -> Tracks:
    """The first tracks of the top list."""
    found, heard = [], _heard(catalog, row)
    for block in in_growing_blocks(catalog.top(LIST_LENGTH + len(heard))):
        found.append(without(block, heard))
    return np.concatenate(found)[:LIST_LENGTH] if found else catalog.top(0)


def _from(table: tables.Table, most: int) -> Generator:
    """Return a generator whose lists are in a parquet file of the release."""

    def read(catalog: Catalog, user_id: Id, row: int) -> Tracks:
        if row < 0:
            return catalog.top(0)
        try:
            path = catalog.folder / table.file
            ids = _of_user(path, user_id, catalog.user_number(row))
        except FileNotFoundError:
            raise Lacking(f"{table.file} is not in the release: {MADE_BEFORE}") from None
        except (OSError, pa.ArrowException) as error:
            raise Lacking(f"{table.file} can't be read: {error}") from None
        positions = catalog.positions(ids)
        return positions[positions >= 0][:most]

    return read


def _after(last: int, half_life: float | None, name: str) -> Generator:
    """Return a generator of the neighbours of a user's last plays."""

    def compute(catalog: Catalog, user_id: Id, row: int) -> Tracks:
        lists = catalog.neighbours["similar"] if name == "similar" else catalog.details.followers
        if lists is None:
            raise Lacking(MADE_BEFORE)
        fading = _setting(catalog, half_life, name)
        plays = catalog.history(row)[-last:]
        return best_neighbours(plays, fading, lists, _heard(catalog, row), LISTED, catalog.ties)

    return compute


def _setting(catalog: Catalog, half_life: float | None, name: str) -> float | None:
    """Return a half-life: the given one, or that of the release's settings."""
    if half_life is not None:
        return half_life
    found = catalog.half_lives[name]
    if found is UNSET:
        raise Lacking(MADE_BEFORE)
    return found


def _replayed(catalog: Catalog, user_id: Id, row: int) -> Tracks:
    """The tracks that the user has played, the latest plays counting most."""
    tracks, weights = profile(catalog.history(row), _setting(catalog, None, "replayed"))
    return best(tracks, weights, _heard(catalog, row), LISTED, catalog.ties)


def _artist(catalog: Catalog, user_id: Id, row: int) -> Tracks:
    """The most played tracks by the artists of the user's last plays."""
    lists = catalog.details.artist_tracks
    if lists is None:
        raise Lacking(RANKED_BEFORE)
    plays, half_life = catalog.history(row)[-RECENT:], _setting(catalog, None, "similar")
    heard, credited = _heard(catalog, row), catalog.details.credits
    return by_artists(plays, half_life, credited, lists, heard, LISTED, catalog.ties)


def _ease(catalog: Catalog, user_id: Id, row: int) -> Tracks:
    """The tracks for which all of the user's plays speak."""
    lists = catalog.details.item_weights
    if lists is None:
        raise Lacking(MADE_BEFORE)
    plays, half_life = catalog.history(row), _setting(catalog, None, "ease")
    return by_weights(plays, half_life, lists, _heard(catalog, row), LISTED, catalog.ties)


def _of_others(catalog: Catalog, user_id: Id, row: int) -> Tracks:
    """Say why no release has what the neighbours among users are found by."""
    raise Lacking(
        "it compares the listener with the plays of up to 50,000 others. They are not in a "
        "release, since they would add 12 bytes for each track that each of these has played, "
        "100 MB or more where there are millions of listeners"
    )


def _heard(catalog: Catalog, row: int) -> Tracks:
    """Return the tracks that no list may have, ascending, each once."""
    return np.unique(catalog.kept_out(row))


GENERATORS: dict[str, Generator] = {
    "popular": _popular,
    "forecast": _forecast,
    "als": _from(tables.PERSONAL_ALS, LISTED),
    "next_played": _after(RECENT, None, "next_played"),
    "after_last": _after(LAST_SCORED, LAST_HALF_LIFE, "after_last"),
    "similar": _after(RECENT, None, "similar"),
    "artist": _artist,
    "user_knn": _of_others,
    "sequence_knn": _of_others,
    "ease": _ease,
    "replayed": _replayed,
    "new_tracks": _from(tables.NEW_TRACKS, 10),
}
