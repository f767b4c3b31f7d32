"""Convert ratings of MovieLens into input for the jobs.

    python -m jobs.import_movielens --in ml-1m --out IN

The data sets are at https://grouplens.org/datasets/movielens/. They may be used for research, but
not commercially without permission, and not be passed on under other terms: each has a README.

--in is an unpacked folder with ratings.csv and movies.csv (ml-latest, ml-20m, ml-25m, ml-32m), or
with ratings.dat and movies.dat (ml-1m, ml-10m). A rating of at least --least-rating is taken for a
listen; the others are left out and counted. Films have a name and genres, and no artists.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract.storage import JobError
from jobs.data import raw_files
from jobs.imports.output import NUMBER, TEXT, Output, files, output, parser
from jobs.inputs.csv_files import Layout, csv_batches, layout
from jobs.inputs.files import CSV, Part, Reading
from jobs.inputs.lines import BAD_LINE
from jobs.runtime import cli

RATINGS = ("userId", "movieId", "rating", "timestamp")
MOVIES = ("movieId", "title", "genres")
# 1::1193::5::978300760 has an empty value between every two colons
DAT = Layout(("userId", "", "movieId", "-", "rating", "--", "timestamp"), ":", False, quotes=False)
NO_GENRES = "(no genres listed)"
NAMES = [pa.field("name", TEXT), pa.field("genres", pa.large_list(TEXT))]


def main(argv: Sequence[str]) -> str:
    """Write interactions and tracks."""
    options = parser(__doc__)
    options.add_argument("--least-rating", type=float, default=4, help="of a listen (4)")
    args = options.parse_args(argv)
    found = files(args.source, "ratings.csv", "ratings.dat")
    if len(found) > 1:
        raise JobError(f"{' and '.join(map(str, found))} are two data sets: pass the folder of one")
    part = Part(found[0], found[0].name, CSV)
    written = layout(part, Reading(), RATINGS) if part.path.suffix == ".csv" else DAT
    if written is None or not {*RATINGS} <= {*written.names}:
        raise JobError(
            f"{part.path} lacks one of the columns {', '.join(RATINGS)}: unpack the data set again"
        )
    with output(args.out, NUMBER, NAMES) as out:
        row = 0
        for batch in csv_batches(part, written, RATINGS, {}):
            convert(batch, part.name, row, args.least_rating, out)
            row += len(batch)
        for ids, titles, genres in movies(part.path, out):
            out.add_tracks({"track_id": ids, "name": titles, "genres": genres})
    return out.summary(args.out)


def convert(batch: pa.RecordBatch, file: str, first: int, least: float, out: Output) -> None:
    """Write the ratings of some lines that are high enough; the first has the number `first`."""
    user, user_flaws = raw_files.ids(batch["userId"])
    movie, movie_flaws = raw_files.ids(batch["movieId"])
    time, time_flaws = raw_files.times(batch["timestamp"], "s")
    is_rating = pc.match_substring_regex(batch["rating"], r"^[0-5](\.\d)?$")
    rating = pc.if_else(is_rating, batch["rating"], None).cast(pa.float64())
    rated = rating.is_valid().to_numpy(zero_copy_only=False)
    good = (user_flaws == 0) & (movie_flaws == 0) & (time_flaws == 0) & rated
    bad = np.flatnonzero(~good)
    if len(bad):
        rows = batch.take(pa.array(bad)).to_pylist()
        lines = [r.get(BAD_LINE) or ",".join(str(r[name]) for name in RATINGS) for r in rows]
        out.add_unreadable(file, (first + bad).tolist(), lines)
    liked = good & (rating.fill_null(-1).to_numpy(zero_copy_only=False) >= least)
    out.left_out[f"ratings below {least:g}"] += int(np.count_nonzero(good & ~liked))
    out.add(pa.array(user[liked]), pa.array(movie[liked]), time[liked] / 1e6)


def movies(ratings: Path, out: Output) -> Iterator[tuple[np.ndarray, list[str], list[list[str]]]]:
    """Yield ids, titles and genres of the films beside a file of ratings."""
    path = ratings.with_name(f"movies{ratings.suffix}")
    if not path.is_file():
        raise JobError(f"{path} is missing: unpack the whole data set")
    if path.suffix == ".dat":
        lines = path.read_bytes().decode("latin-1").splitlines()
        rows = [line.split("::") for line in lines]
        blocks = [[row if len(row) == 3 else [line] for row, line in zip(rows, lines, strict=True)]]
    else:
        part = Part(path, path.name, CSV)
        found = layout(part, Reading(), MOVIES)
        if found is None or not {*MOVIES} <= {*found.names}:
            raise JobError(
                f"{path} lacks one of the columns {', '.join(MOVIES)}: unpack the data set again"
            )
        blocks = [
            [
                [line] if (line := row.get(BAD_LINE)) else [row[name] or "" for name in MOVIES]
                for row in batch.to_pylist()
            ]
            for batch in csv_batches(part, found, MOVIES, {})
        ]
    first = 0
    for block in blocks:
        numbers = pa.array([row[0] if len(row) == 3 else None for row in block], pa.string())
        ids, flaws = raw_files.ids(numbers)
        bad = np.flatnonzero(flaws)
        if len(bad):
            texts = [",".join(block[i]) for i in bad]
            out.add_unreadable(path.name, (first + bad).tolist(), texts)
        good = [row for row, flaw in zip(block, flaws, strict=True) if not flaw]
        genres = [row[2].split("|") if row[2] not in ("", NO_GENRES) else [] for row in good]
        yield ids[flaws == 0], [row[1] for row in good], genres
        first += len(block)


if __name__ == "__main__":
    cli.run(main)
