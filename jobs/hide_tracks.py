"""Copy input files without the listens of some tracks, to measure how new tracks are found.

    python -m jobs.hide_tracks --data IN --out OUT --share 0.05

The tracks stay in OUT/tracks.parquet, so that the jobs see them as new ones. Which tracks are
hidden depends on their ids and on --seed. Run the jobs on OUT, then `python -m jobs.score` with
labels that the tracks were not removed from.
"""

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.contract import storage
from jobs.contract.storage import JobError
from jobs.data import id_columns, raw_columns, raw_files
from jobs.inputs import files
from jobs.runtime import cli


def main(argv: Sequence[str]) -> str:
    """Write the files into --out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--share", type=float, default=0.05, help="share of the tracks (0.05)")
    parser.add_argument("--seed", type=int, default=0, help="of the random choice, at least 0")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed is {args.seed}, expected at least 0")
    if not 0 < args.share < 1:
        parser.error(f"--share is {args.share}, expected a number between 0 and 1")
    if args.out.resolve() == args.data.resolve():
        raise JobError(f"--out is the folder of --data, {args.data}: pass another folder")
    names = files.find(args.data, "catalog_names")
    given = files.required(args.data, "tracks")
    given = given if names else replace(given, kind=raw_columns.NAMED_TRACKS)
    listens = files.required(args.data, "interactions")
    for source in (given, listens, *([names] if names else [])):
        raw_columns.check(source)
        if source.parts[0].form != files.PARQUET or source.path.is_dir():
            raise JobError(f"{source.path} is not one parquet file, and this job takes no other")
    tracks, interactions = given.path, listens.path
    ids, flaws = id_columns.link_numbers(raw_files.table(given)["track_id"])
    ids = np.unique(ids[flaws == 0])
    if not len(ids):
        raise JobError(f"{tracks} has no usable track: there is nothing to hide")
    drawn = np.random.default_rng(args.seed).permutation(ids)
    hidden = drawn[: max(1, round(args.share * len(ids)))]
    args.out.mkdir(parents=True, exist_ok=True)
    left_out = 0
    with (
        pq.ParquetFile(interactions) as file,
        storage.atomic(args.out / interactions.name) as path,
        pq.ParquetWriter(path, file.schema_arrow) as out,
    ):
        for batch in file.iter_batches():
            played, flaws = id_columns.link_numbers(batch["track_id"])
            kept = batch.filter(pa.array((flaws > 0) | ~np.isin(played, hidden)))
            left_out += len(batch) - len(kept)
            out.write_batch(kept)
    for copied in (tracks, *([names.path] if names else [])):
        with storage.atomic(args.out / copied.name) as path:
            shutil.copy(copied, path)
    return f"{len(hidden):,} tracks and their {left_out:,} listens are hidden in {args.out}"


if __name__ == "__main__":
    cli.run(main)
