"""The three input files of the synthetic sample, written block by block."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import ndtri

from jobs.contract import storage
from jobs.contract.ragged import place_in_row
from jobs.runtime.progress import progress_bar
from jobs.synthetic import few_listeners
from jobs.synthetic.catalog import Catalog, catalog_tables, make_catalog
from jobs.synthetic.listens import TrackSampler, draw_listens, user_blocks

FIRST_DAY = np.datetime64("2022-01-01", "D")

# Listens a user at normal quantiles: log-linear between the quartiles 22, 54, 149 and a long tail.
QUANTILES = np.array([-3.0, -0.6745, 0.0, 0.6745, 2.0, 4.85])
LISTENS_AT = np.array([1, 22, 54, 149, 1200, 16_637])
WITH_HISTORY, ABSENT = 47, 16  # users that the service's examples speak of
ID_GAPS = 0.001  # share of user ids that nobody has

# How interactions are written: columns that count up take less room as differences.
COMPACT = {
    "use_dictionary": ["user_id", "track_id", "started_at"],
    "column_encoding": dict.fromkeys(["track_seq", "__index_level_0__"], "DELTA_BINARY_PACKED"),
}


MAX_LISTENS = np.iinfo(np.int16).max  # of a user, since track_seq is int16


def generate(args: argparse.Namespace) -> None:
    """Write the three files."""
    rng = np.random.default_rng(args.seed)
    catalog = make_catalog(rng, args.tracks, args.listens / args.users)
    tracks, names = catalog_tables(rng, catalog)
    write(args.out / "tracks.parquet", [tracks], tracks.schema)
    write(args.out / "catalog_names.parquet", [names], names.schema)
    user_ids = draw_user_ids(rng, args.users)
    path = args.out / "interactions.parquet"
    if args.shape == "few-listeners":
        blocks = few_listeners.interactions(catalog, user_ids, FIRST_DAY, args.listens, args.seed)
        write(path, blocks, few_listeners.schema())
        return
    counts = draw_counts(rng, args.users, args.tracks, args.listens)
    favour(counts, int(np.searchsorted(user_ids, WITH_HISTORY)))
    blocks = interactions(catalog, user_ids, counts, args.seed)
    write(path, blocks, interactions_schema(), **COMPACT)


def check(users: int, tracks: int, listens: int, seed: int, shape: str) -> None:
    """Raise JobError for sizes that no data of the shape can have, and for a negative seed."""
    if seed < 0:
        raise storage.JobError(f"--seed is {seed}: give 0 or more")
    for name, value, most in (("users", users, 100_000_000), ("tracks", tracks, 10_000_000)):
        if not 1 <= value <= most:
            raise storage.JobError(f"--{name} is {value}: give 1 to {most:,}")
    if shape == "few-listeners":
        _check_few_listeners(users, tracks, listens)
        return
    room = users * min(tracks, MAX_LISTENS)
    if not users <= listens <= room:
        raise storage.JobError(
            f"--listens is {listens:,}: {users:,} users and {tracks:,} tracks can have {users:,} "
            f"to {room:,} (each user at least one, each track once a user, at most {MAX_LISTENS:,})"
        )


def _check_few_listeners(users: int, tracks: int, listens: int) -> None:
    if users > few_listeners.MOST_USERS:
        raise storage.JobError(
            f"--users is {users:,}: give at most {few_listeners.MOST_USERS:,} with few-listeners"
        )
    if tracks < users:
        raise storage.JobError(f"--tracks is {tracks:,}: give at least as many as --users, {users}")
    pairs = int(few_listeners.listeners_of_tracks(tracks, users).sum())
    if listens < pairs:
        raise storage.JobError(
            f"--listens is {listens:,}: {users:,} users and {tracks:,} tracks with few-listeners "
            f"make {pairs:,} pairs, so give at least that many"
        )


def write(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, **options: Any) -> None:
    """Write tables one by one as one file; the options are ParquetWriter's."""
    with (
        storage.atomic(path) as temporary,
        pq.ParquetWriter(temporary, schema, **options) as writer,
    ):
        for table in tables:
            writer.write_table(table)


def interactions_schema() -> pa.Schema:
    """The schema of interactions.parquet, with an index that repeats, as in the real files."""
    columns = {
        "user_id": pd.array([], dtype="int32"),
        "track_id": pd.array([], dtype="int32"),
        "track_seq": pd.array([], dtype="int16"),
        "started_at": np.array([], dtype="datetime64[ns]"),
    }
    return pa.Schema.from_pandas(pd.DataFrame(columns, index=np.array([], dtype="int64")))


def draw_user_ids(rng: np.random.Generator, n_users: int) -> np.ndarray:
    """n ascending ids from 0 with a few gaps; WITH_HISTORY is one of them, ABSENT is not."""
    highest = max(n_users + int(ID_GAPS * n_users) + 1, WITH_HISTORY + 1)
    free = np.setdiff1d(np.arange(highest), [WITH_HISTORY, ABSENT])
    drawn = rng.choice(free, n_users - 1, replace=False)
    result: np.ndarray = np.sort(np.append(drawn, WITH_HISTORY))
    return result


def draw_counts(
    rng: np.random.Generator, n_users: int, n_tracks: int, n_listens: int
) -> np.ndarray:
    """Listens of each user, (n,): the real distribution scaled to the mean, summing to n_listens.

    Quantiles are spaced evenly and shuffled, so that small samples have the shape as well.
    """
    points = ndtri((rng.permutation(n_users) + 0.5) / n_users)
    shape = np.exp(np.interp(points, QUANTILES, np.log(LISTENS_AT)))
    most = min(n_tracks, MAX_LISTENS)

    def scaled(factor: float) -> np.ndarray:
        counts: np.ndarray = np.clip(shape * factor, 1, most).astype(np.int64)
        return counts

    low, high = 0.0, float(most)  # at `high` each user, of whom none has less than 1, is full
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if scaled(middle).sum() <= n_listens else (low, middle)
    counts = scaled(low)
    room = np.flatnonzero(counts < most)
    counts[room[: n_listens - counts.sum()]] += 1
    return counts


def favour(counts: np.ndarray, user: int) -> None:
    """Swap a user's listens with those of the user at the upper quartile."""
    other = np.argsort(counts, kind="stable")[3 * len(counts) // 4]
    counts[[user, other]] = counts[[other, user]]


def interactions(
    catalog: Catalog, user_ids: np.ndarray, counts: np.ndarray, seed: int
) -> Iterator[pa.Table]:
    """The rows of interactions.parquet by user and time, a block of users at a time."""
    schema, sampler = interactions_schema(), TrackSampler(catalog)
    with progress_bar(total=counts.sum(), unit=" listens", unit_scale=True) as progress:
        for block, users in enumerate(user_blocks(counts)):
            count = counts[users]
            rng = np.random.default_rng([seed, block])
            day, track = draw_listens(rng, sampler, count)
            place = place_in_row(count)
            columns = [
                np.repeat(user_ids[users], count).astype(np.int32),
                catalog.track_id[track].astype(np.int32),
                (place + 1).astype(np.int16),
                (FIRST_DAY + day).astype("datetime64[ns]"),
                place,
            ]
            yield pa.table(columns, schema=schema)
            progress.update(len(day))
