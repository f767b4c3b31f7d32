"""Write a synthetic sample of the three input files: tracks, catalog_names and interactions.

    python -m jobs.sample_data --out data/sample --users 2000 --tracks 4000 --listens 100000

All of it is made up, but for the titles of some well-known tracks. Its shape is that of a real
service's year: few users listen much, few tracks are popular, users keep to artists and genres
they like, one session stays with related artists and plays albums in order, new releases rise and
fade, and the catalogue has the gaps and oddities of a real one. Every row is the first listen of
a track by a user. The same parameters give the same bytes, and memory does not grow with the
number of listens.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import ndtri
from tqdm import tqdm

from jobs import command, contract, sample_catalog, sample_listens
from jobs.sample_catalog import Catalog

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


def main() -> str:
    """Generate the files into --out."""
    args = parse_args()
    check(args.users, args.tracks, args.listens, args.seed)
    try:
        generate(args)
    except OSError as error:
        raise contract.JobError(
            f"{args.out} can't be written ({error}): free it or name another"
        ) from None
    return (
        f"{args.listens:,} synthetic listens of {args.users:,} users and {args.tracks:,} tracks "
        f"in {args.out}"
    )


def generate(args: argparse.Namespace) -> None:
    """Write the three files."""
    rng = np.random.default_rng(args.seed)
    catalog = sample_catalog.make(rng, args.tracks, args.listens / args.users)
    tracks, names = sample_catalog.tables(rng, catalog)
    write(args.out / "tracks.parquet", [tracks], tracks.schema)
    write(args.out / "catalog_names.parquet", [names], names.schema)
    user_ids = draw_user_ids(rng, args.users)
    counts = draw_counts(rng, args.users, args.tracks, args.listens)
    favour(counts, int(np.searchsorted(user_ids, WITH_HISTORY)))
    blocks = interactions(catalog, user_ids, counts, args.seed)
    write(args.out / "interactions.parquet", blocks, interactions_schema(), **COMPACT)


def parse_args() -> argparse.Namespace:
    """The job's options; there is no --work, since what it makes is input."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data/sample"), help="folder to write (data/sample)"
    )
    parser.add_argument("--users", type=int, default=2_000, help="users with a listen (2000)")
    parser.add_argument("--tracks", type=int, default=4_000, help="tracks (4000)")
    parser.add_argument("--listens", type=int, default=100_000, help="listens in all (100000)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (0)")
    return parser.parse_args()


def check(users: int, tracks: int, listens: int, seed: int) -> None:
    """Raise JobError for sizes that no data can have, and a seed that cannot be."""
    if seed < 0:
        raise contract.JobError(f"--seed is {seed}: give 0 or more")
    for name, value, most in (("users", users, 100_000_000), ("tracks", tracks, 10_000_000)):
        if not 1 <= value <= most:
            raise contract.JobError(f"--{name} is {value}: give 1 to {most:,}")
    room = users * min(tracks, MAX_LISTENS)
    if not users <= listens <= room:
        raise contract.JobError(
            f"--listens is {listens:,}: {users:,} users and {tracks:,} tracks can have {users:,} "
            f"to {room:,} (each user at least one, each track once a user, at most {MAX_LISTENS:,})"
        )


def write(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, **options: Any) -> None:
    """Write tables one by one as one file; the options are ParquetWriter's."""
    with (
        contract.atomic(path) as temporary,
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
    schema, urn = interactions_schema(), sample_listens.Urn(catalog)
    with tqdm(total=counts.sum(), unit=" listens", unit_scale=True, disable=None) as progress:
        for block, users in enumerate(sample_listens.user_blocks(counts)):
            count = counts[users]
            rng = np.random.default_rng([seed, block])
            day, track = sample_listens.draw_listens(rng, urn, count)
            place = np.arange(len(day)) - np.repeat(np.cumsum(count) - count, count)
            columns = [
                np.repeat(user_ids[users], count).astype(np.int32),
                catalog.track_id[track].astype(np.int32),
                (place + 1).astype(np.int16),
                (FIRST_DAY + day).astype("datetime64[ns]"),
                place,
            ]
            yield pa.table(columns, schema=schema)
            progress.update(len(day))


if __name__ == "__main__":
    command.run(main)
