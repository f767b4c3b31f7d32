"""Write the three input files of the synthetic sample, block by block."""

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

# The listens of a user at quantiles of the normal distribution: the quartiles 22, 54 and 149 of a
# real service, and a long tail. The logarithm is linear between them.
QUANTILES = np.array([-3.0, -0.6745, 0.0, 0.6745, 2.0, 4.85])
LISTENS_AT = np.array([1, 22, 54, 149, 1200, 16_637])
WITH_HISTORY, ABSENT = 47, 16  # user ids in the examples of the service: with listens, and unknown
ID_GAPS = 0.001  # share of user ids that no user has

# Encoding of interactions.parquet: columns of ascending numbers take less space as differences.
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
    """Raise JobError for sizes that are impossible for the shape, and for a negative seed."""
    if seed < 0:
        raise storage.JobError(f"--seed is {seed}: give 0 or more")
    for name, value, limit in (("users", users, 100_000_000), ("tracks", tracks, 10_000_000)):
        if not 1 <= value <= limit:
            raise storage.JobError(f"--{name} is {value}: give 1 to {limit:,}")
    if shape == "few-listeners":
        _check_few_listeners(users, tracks, listens)
        return
    most = users * min(tracks, MAX_LISTENS)
    if not users <= listens <= most:
        raise storage.JobError(
            f"--listens is {listens:,}: give {users:,} to {most:,} for {users:,} users and "
            f"{tracks:,} tracks (a user has 1 to {MAX_LISTENS:,} listens, each of another track)"
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
    """Write tables one by one into one file; `options` are options of ParquetWriter."""
    with (
        storage.atomic(path) as temporary,
        pq.ParquetWriter(temporary, schema, **options) as writer,
    ):
        for table in tables:
            writer.write_table(table)


def interactions_schema() -> pa.Schema:
    """Return the schema of interactions.parquet, with a repeating pandas index as in real files."""
    columns = {
        "user_id": pd.array([], dtype="int32"),
        "track_id": pd.array([], dtype="int32"),
        "track_seq": pd.array([], dtype="int16"),
        "started_at": np.array([], dtype="datetime64[ns]"),
    }
    return pa.Schema.from_pandas(pd.DataFrame(columns, index=np.array([], dtype="int64")))


def draw_user_ids(rng: np.random.Generator, n_users: int) -> np.ndarray:
    """Draw ascending ids with a few gaps, (n,): WITH_HISTORY is among them, ABSENT is not."""
    highest = max(n_users + int(ID_GAPS * n_users) + 1, WITH_HISTORY + 1)
    free = np.setdiff1d(np.arange(highest), [WITH_HISTORY, ABSENT])
    drawn = rng.choice(free, n_users - 1, replace=False)
    result: np.ndarray = np.sort(np.append(drawn, WITH_HISTORY))
    return result


def draw_counts(
    rng: np.random.Generator, n_users: int, n_tracks: int, n_listens: int
) -> np.ndarray:
    """Draw the listens of each user, (n,), from the real distribution scaled to sum to n_listens.

    The quantiles are evenly spaced and shuffled, so that small samples have the same distribution.
    """
    points = ndtri((rng.permutation(n_users) + 0.5) / n_users)
    shape = np.exp(np.interp(points, QUANTILES, np.log(LISTENS_AT)))
    most = min(n_tracks, MAX_LISTENS)

    def scaled(factor: float) -> np.ndarray:
        counts: np.ndarray = np.clip(shape * factor, 1, most).astype(np.int64)
        return counts

    # Find the largest factor that does not exceed n_listens by bisection. With the factor `most`
    # every user, since each has at least 1, has as many listens as possible.
    low, high = 0.0, float(most)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if scaled(middle).sum() <= n_listens else (low, middle)
    counts = scaled(low)
    below = np.flatnonzero(counts < most)
    counts[below[: n_listens - counts.sum()]] += 1
    return counts


def favour(counts: np.ndarray, user: int) -> None:
    """Exchange the number of listens of a user with that of the user at the upper quartile."""
    other = np.argsort(counts, kind="stable")[3 * len(counts) // 4]
    counts[[user, other]] = counts[[other, user]]


def interactions(
    catalog: Catalog, user_ids: np.ndarray, counts: np.ndarray, seed: int
) -> Iterator[pa.Table]:
    """Yield the rows of interactions.parquet by user and time, a block of users at a time."""
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
