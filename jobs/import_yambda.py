"""Convert Yambda, the listens of a million users of Yandex Music, into input for the jobs.

    python -m jobs.import_yambda --in yambda --out IN

The data are at https://huggingface.co/datasets/yandex/yambda under the Apache License 2.0, in three
sizes (50m, 500m, 5b). --in has flat/SIZE/listens.parquet or flat/SIZE/multi_event.parquet of one
size, and artist_item_mapping.parquet for the artists. Tracks have no names there.

Of multi_event.parquet only listens are taken; likes and dislikes are left out and counted. So are
listens of which less than --least-played percent was played: by Yambda's own rule a track is
listened to if over half of it was played. Times count from 0, and the true dates are not known:
they are written as if they began at --origin.
"""

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.contract.ragged import offsets_of
from jobs.contract.storage import JobError
from jobs.data import clock
from jobs.data.quarantine import json_lines
from jobs.imports.output import BLOCK, NUMBER, Output, files, output, parser
from jobs.runtime import cli

COLUMNS = ("uid", "item_id", "timestamp")
KIND, PLAYED = "event_type", "played_ratio_pct"
MAPPING = "artist_item_mapping.parquet"
ARTISTS = [pa.field("artists", pa.large_list(NUMBER))]
LATEST = 4_102_444_800 - 1  # the last second of 2099


def main(argv: Sequence[str]) -> str:
    """Write interactions and tracks."""
    args = arguments(argv)
    path = listens_of(args.source)
    mapping = [*args.source.rglob(MAPPING)]
    with output(args.out, NUMBER, ARTISTS) as out:
        heard = np.zeros(0, bool)  # whether each item has a listen
        row = 0
        with pq.ParquetFile(path, memory_map=True) as file:
            wanted = [name for name in (*COLUMNS, KIND, PLAYED) if name in file.schema_arrow.names]
            for batch in file.iter_batches(BLOCK, columns=wanted):
                items = convert(batch, path.name, row, args, out)
                heard = np.pad(heard, (0, max(0, items.max(initial=-1) + 1 - len(heard))))
                heard[items] = True
                row += len(batch)
        tracks = np.flatnonzero(heard)
        artists = artists_of(tracks, mapping[0]) if mapping else pa.nulls(len(tracks))
        for start in range(0, len(tracks), BLOCK):
            rows = slice(start, start + BLOCK)
            some = artists.slice(start, BLOCK).cast(ARTISTS[0].type)
            out.add_tracks({"track_id": tracks[rows], "artists": some})
    without = "" if mapping else f"; without artists, since {args.source} has no {MAPPING}"
    return out.summary(args.out) + without


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    options = parser(__doc__)
    options.add_argument(
        "--origin", default="2024-01-01", help="the moment 0, in UTC (default: 2024-01-01)"
    )
    options.add_argument(
        "--least-played", type=float, default=50, help="percent of a track that are a listen (50)"
    )
    args = options.parse_args(argv)
    try:
        moment: datetime = clock.moment(args.origin)
    except ValueError:
        options.error(f"--origin is {args.origin}, expected a date, as 2024-01-01")
    args.first_second = clock.microseconds(moment) // 10**6
    return args


def listens_of(source: Path) -> Path:
    """Return the file with the listens. Raises JobError if there are several sizes, or none."""
    found = [
        path
        for path in files(source, "listens.parquet", "multi_event.parquet")
        if "sequential" not in path.relative_to(source).parts
    ]
    folders = {path.parent for path in found}
    if len(folders) > 1:
        names = " and ".join(map(str, sorted(folders)))
        raise JobError(f"{names} are two sizes of one data set: pass the folder of one")
    if not found:
        raise JobError(f"{source} has only the form `sequential`: get `flat`, with a listen a row")
    path = min(found)  # listens, where multi_event is there too
    try:
        columns = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise JobError(f"{path} can't be read as parquet ({error}): get it again") from None
    if missing := [name for name in COLUMNS if name not in columns]:
        raise JobError(f"{path} has no column {', '.join(missing)}: found {', '.join(columns)}")
    return path


def convert(
    batch: pa.RecordBatch, file: str, first: int, args: argparse.Namespace, out: Output
) -> np.ndarray:
    """Write the listens of some rows, and return their items. `first` is the first row's number."""
    kept = np.ones(len(batch), bool)
    if KIND in batch.schema.names:
        kind = batch[KIND].cast(pa.string())
        kept = pc.equal(kind, "listen").fill_null(False).to_numpy(zero_copy_only=False)
        out.left_out["likes, dislikes and their opposites"] += int(np.count_nonzero(~kept))
    values = [batch[name].cast(pa.int64()) for name in COLUMNS]
    filled = [column.fill_null(-1).to_numpy(zero_copy_only=False) for column in values]
    user, item, time = filled
    seconds = time + args.first_second
    bad = kept & ((user < 0) | (item < 0) | (time < 0) | (seconds > LATEST) | (seconds < 0))
    if bad.any():
        rows = np.flatnonzero(bad)
        out.add_unreadable(file, (first + rows).tolist(), json_lines(batch.take(pa.array(rows))))
    kept &= ~bad
    if PLAYED in batch.schema.names:
        played = batch[PLAYED].cast(pa.float64()).fill_null(100).to_numpy(zero_copy_only=False)
        skipped = kept & (played < args.least_played)
        what = f"listens of which less than {args.least_played:g} % was played"
        out.left_out[what] += int(np.count_nonzero(skipped))
        kept &= ~skipped
    out.add(pa.array(user[kept]), pa.array(item[kept]), seconds[kept])
    items: np.ndarray = item[kept]
    return items


def artists_of(tracks: np.ndarray, path: Path) -> pa.Array:
    """Return the artists of tracks, whose ids are ascending, as lists (n,)."""
    try:
        table = pq.read_table(path, columns=["item_id", "artist_id"]).drop_null()
    except (OSError, pa.ArrowException) as error:
        raise JobError(f"{path} can't be read ({error}): get it again") from None
    item, artist = (table[name].to_numpy().astype(np.int64) for name in table.column_names)
    place = np.searchsorted(tracks, item).clip(max=max(0, len(tracks) - 1))
    known = tracks[place] == item if len(tracks) else np.zeros(len(item), bool)
    place, artist = place[known], artist[known]
    order = np.lexsort((artist, place))
    offsets = offsets_of(np.bincount(place, minlength=len(tracks)))
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(artist[order]))


if __name__ == "__main__":
    cli.run(main)
