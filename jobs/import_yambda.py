"""Convert Yambda, the listens of a million users of Yandex Music, into input for the jobs.

    python -m jobs.import_yambda --in yambda --out IN

The data are at https://huggingface.co/datasets/yandex/yambda under the Apache License 2.0, in three
sizes (50m, 500m, 5b). --in has files of one size, flat/SIZE/multi_event.parquet or else listens,
likes, unlikes, dislikes and undislikes .parquet, and artist_item_mapping.parquet for the artists.
Tracks have no names there.

Likes and dislikes, and what takes them back, are rows of the interactions of their kind. Of a
listen it is written how much was played; jobs.prepare decides what is a skip. Times count from 0,
and the true dates are not known: they are written as if they began at --origin.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.contract.ragged import offsets_of
from jobs.contract.storage import JobError
from jobs.data import clock
from jobs.data.quarantine import json_lines
from jobs.imports.output import BLOCK, LISTEN, NUMBER, Output, files, output, parser
from jobs.imports.output import KIND as KIND_COLUMN
from jobs.runtime import cli

COLUMNS = ("uid", "item_id", "timestamp")
KIND, PLAYED = "event_type", "played_ratio_pct"
MAPPING = "artist_item_mapping.parquet"
ARTISTS = [pa.field("artists", pa.large_list(NUMBER))]
SHARE = pa.field("played_share", pa.float32())
LISTENS, EVENTS = "listens.parquet", "multi_event.parquet"
# by the kinds of rows, the files that have no other rows
FILES = {kind: f"{kind}s.parquet" for kind in ("like", "unlike", "dislike", "undislike")}
LATEST = 4_102_444_800 - 1  # the last second of 2099


def main(argv: Sequence[str]) -> str:
    """Write interactions and tracks."""
    args = arguments(argv)
    paths = events_of(args.source)
    mapping = [*args.source.rglob(MAPPING)]
    with output(args.out, NUMBER, ARTISTS, [KIND_COLUMN, SHARE]) as out:
        found = np.zeros(0, bool)  # whether each item has a row
        for kind, path in paths.items():
            row = 0
            with pq.ParquetFile(path, memory_map=True) as file:
                names = file.schema_arrow.names
                wanted = [name for name in (*COLUMNS, KIND, PLAYED) if name in names]
                for batch in file.iter_batches(BLOCK, columns=wanted):
                    items = convert(batch, kind, path.name, row, args, out)
                    found = np.pad(found, (0, max(0, items.max(initial=-1) + 1 - len(found))))
                    found[items] = True
                    row += len(batch)
        tracks = np.flatnonzero(found)
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
        "--origin",
        type=clock.moment,
        default="2024-01-01",
        help="the moment 0, in UTC (default: 2024-01-01)",
    )
    args = options.parse_args(argv)
    args.first_second = clock.microseconds(args.origin) // 10**6
    return args


def events_of(source: Path) -> dict[str, Path]:
    """Return the files with the events by the kind of their rows, "listen" if they have a column.

    Raises JobError if there are several sizes, or none.
    """
    found = [
        path
        for path in files(source, LISTENS, EVENTS)
        if "sequential" not in path.relative_to(source).parts
    ]
    folders = {path.parent for path in found}
    if len(folders) > 1:
        names = " and ".join(map(str, sorted(folders)))
        raise JobError(f"{names} are two sizes of one data set: pass the folder of one")
    if not found:
        raise JobError(f"{source} has only the form `sequential`: get `flat`, with a listen a row")
    folder = found[0].parent
    paths = {LISTEN: folder / EVENTS}  # has all kinds
    if not paths[LISTEN].exists():
        paths = {LISTEN: folder / LISTENS} | {kind: folder / name for kind, name in FILES.items()}
    paths = {kind: path for kind, path in paths.items() if path.exists()}
    for path in paths.values():
        try:
            columns = pq.read_schema(path).names
        except (OSError, pa.ArrowException) as error:
            raise JobError(f"{path} can't be read as parquet ({error}): get it again") from None
        if missing := [name for name in COLUMNS if name not in columns]:
            raise JobError(f"{path} has no column {', '.join(missing)}: found {', '.join(columns)}")
    return paths


def convert(
    batch: pa.RecordBatch, kind: str, file: str, first: int, args: argparse.Namespace, out: Output
) -> np.ndarray:
    """Write some rows, and return their items. `first` is the first row's number in the file.

    `kind` is that of the rows, where they have none of their own.
    """
    kinds = pa.repeat(kind, len(batch))
    if KIND in batch.schema.names:
        kinds = batch[KIND].cast(pa.string())
    known = pc.is_in(kinds, pa.array([LISTEN, *FILES])).to_numpy(zero_copy_only=False)
    values = [batch[name].cast(pa.int64()) for name in COLUMNS]
    filled = [column.fill_null(-1).to_numpy(zero_copy_only=False) for column in values]
    user, item, time = filled
    seconds = time + args.first_second
    bad = (user < 0) | (item < 0) | (time < 0) | (seconds > LATEST) | (seconds < 0) | ~known
    if bad.any():
        rows = np.flatnonzero(bad)
        out.add_unreadable(file, (first + rows).tolist(), json_lines(batch.take(pa.array(rows))))
    kept = pa.array(~bad)
    played = {}
    if PLAYED in batch.schema.names:
        percent = batch[PLAYED].cast(pa.float32())
        played[SHARE.name] = pc.min_element_wise(pc.divide(percent, 100), 1.0, skip_nulls=False)
    out.add(
        pa.array(user[~bad]),
        pa.array(item[~bad]),
        seconds[~bad],
        kinds.filter(kept),
        **{name: column.filter(kept) for name, column in played.items()},
    )
    items: np.ndarray = item[~bad]
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
