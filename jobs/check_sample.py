"""Compare synthetic data with published figures of a real service's year.

    python -m jobs.check_sample --data data/sample

Prints a table with a row for each figure: its value in notebooks on Yandex Music's data of 2022,
and its value in the files of --data. Counts of the real data are scaled to the size of --data.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

USERS, TRACKS, LISTENS = 1_373_221, 1_000_000, 222_629_898  # of the real data
LATE = np.datetime64("2022-12-16")
REAL = {  # by name: the value in the real data, and the count that it grows with, if any
    "listens": (LISTENS, "listens"),
    "users": (USERS, "users"),
    "tracks": (TRACKS, "tracks"),
    "listens of a user: lower quartile": (22, None),
    "listens of a user: median": (54, None),
    "listens of a user: upper quartile": (149, None),
    "listens of a user: most": (16_637, None),
    "listeners of the first track": (82_000, "users"),
    "listeners of the hundredth track": (17_000, "users"),
    "listens from 2022-12-16": (13_898_646, "listens"),
    "users with a listen from then": (783_525, "users"),
    "users with none before": (30_660, "users"),
    "names in the catalogue": (1_812_471, "tracks"),
    "albums": (658_724, "tracks"),
    "artists": (153_581, "tracks"),
    "genres": (166, None),
    "ids of several types": (35_774, "tracks"),
    "names that repeat": (867_353, "tracks"),
    "genres of a track": (1.64, None),
    "tracks of one genre": (385_000, "tracks"),
    "tracks of two genres": (592_000, "tracks"),
    "tracks without an artist": (15_369, "tracks"),
    "tracks without a genre": (3_687, "tracks"),
    "tracks with a genre that has no name": (48_345, "tracks"),
}


def listened(data: Path) -> dict[str, float]:
    """Return the figures of the interactions by name; the file is read block by block."""
    of_user, late_of_user = np.zeros(0, np.int64), np.zeros(0, np.int64)
    tracks = pq.read_table(data / "tracks.parquet", columns=["track_id"])["track_id"]
    of_track = np.zeros(pc.max(tracks).as_py() + 1, np.int32)
    with pq.ParquetFile(data / "interactions.parquet") as file:
        for batch in file.iter_batches(1 << 20, columns=["user_id", "track_id", "started_at"]):
            user, track = (batch[name].to_numpy() for name in ("user_id", "track_id"))
            late = batch["started_at"].to_numpy() >= LATE
            of_user = added(of_user, np.bincount(user))
            late_of_user = added(late_of_user, np.bincount(user[late]))
            np.add.at(of_track, track, 1)
    counts, listeners = of_user[of_user > 0], np.sort(of_track[of_track > 0])[::-1]
    lower, median, upper = np.quantile(counts, (0.25, 0.5, 0.75))
    late_of_user = added(late_of_user, np.zeros_like(of_user))
    return {
        "listens": counts.sum(),
        "users": len(counts),
        "listens of a user: lower quartile": lower,
        "listens of a user: median": median,
        "listens of a user: upper quartile": upper,
        "listens of a user: most": counts.max(),
        "listeners of the first track": listeners[0],
        "listeners of the hundredth track": listeners[99] if len(listeners) > 99 else 0,
        "listens from 2022-12-16": late_of_user.sum(),
        "users with a listen from then": np.count_nonzero(late_of_user),
        "users with none before": np.count_nonzero((late_of_user == of_user) & (of_user > 0)),
    }


def added(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the sum of two arrays of counts, as long as the longer one.

    >>> added(np.array([1, 2]), np.array([5])).tolist()
    [6, 2]
    """
    result = np.zeros(max(len(one), len(other)), np.int64)
    result[: len(one)] += one
    result[: len(other)] += other
    return result


def catalogue(tracks: Path, names: Path) -> dict[str, float]:
    """Return the figures of tracks.parquet and catalog_names.parquet by name."""
    named, of_track = pd.read_parquet(names), pq.read_table(tracks)
    types = named["type"].value_counts()
    genres, artists = (of_track[name].combine_chunks() for name in ("genres", "artists"))
    known = named.loc[named["type"] == "genre", "id"].to_numpy()
    unknown = ~np.isin(genres.flatten().to_numpy(), known)
    row = pc.list_parent_indices(genres).to_numpy()
    n_artists, n_genres = lengths(artists), lengths(genres)
    return {
        "tracks": len(of_track),
        "names in the catalogue": len(named),
        "albums": types["album"],
        "artists": types["artist"],
        "genres": types["genre"],
        "ids of several types": (named.groupby("id")["type"].nunique() > 1).sum(),
        "names that repeat": named["name"].duplicated().sum(),
        "genres of a track": n_genres.mean(),
        "tracks of one genre": (n_genres == 1).sum(),
        "tracks of two genres": (n_genres == 2).sum(),
        "tracks without an artist": (n_artists == 0).sum(),
        "tracks without a genre": (n_genres == 0).sum(),
        "tracks with a genre that has no name": len(np.unique(row[unknown])),
    }


def lengths(lists: pa.Array) -> np.ndarray:
    """Return the length of each list, (n,); that of a null is 0."""
    result: np.ndarray = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return result


def compare(data: Path) -> pd.DataFrame:
    """Return a row for each figure: the real value, scaled to the size of the data, and theirs."""
    synthetic = listened(data)
    synthetic |= catalogue(data / "tracks.parquet", data / "catalog_names.parquet")
    scale = {
        None: 1.0,
        "listens": synthetic["listens"] / LISTENS,
        "users": synthetic["users"] / USERS,
        "tracks": synthetic["tracks"] / TRACKS,
    }
    rows = {
        name: {"real": f"{value * scale[by]:,.6g}", "synthetic": f"{synthetic[name]:,.6g}"}
        for name, (value, by) in REAL.items()
    }
    return pd.DataFrame(rows).T


def main(argv: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data/sample"), help="folder to read (data/sample)"
    )
    print(compare(parser.parse_args(argv).data).to_string())


if __name__ == "__main__":
    main(sys.argv[1:])
