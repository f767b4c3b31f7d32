"""Copy input files without the listens of some tracks, to measure how new tracks are found.

    python -m jobs.hide_tracks --data IN --out OUT --share 0.05

The tracks stay in OUT/tracks.parquet, so that the jobs see them as new ones. Which tracks are
hidden depends on their ids and on --seed. A file of parquet keeps all its columns. Of other forms,
and of folders of parts, the columns that jobs.prepare reads are written as parquet; lines that are
no rows are left out. Run the jobs on OUT, then `python -m jobs.score` with labels that still have
the plays of the hidden tracks.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.contract import storage
from jobs.contract.storage import JobError
from jobs.data import id_columns, raw_columns, raw_files
from jobs.inputs import files
from jobs.inputs.files import Input
from jobs.inputs.lines import BAD_LINE
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
    ids, flaws = id_columns.link_numbers(raw_files.table(given)["track_id"])
    ids = np.unique(ids[flaws == 0])
    if not len(ids):
        raise JobError(f"{given.path} has no usable track: there is nothing to hide")
    drawn = np.random.default_rng(args.seed).permutation(ids)
    hidden = drawn[: max(1, round(args.share * len(ids)))]
    args.out.mkdir(parents=True, exist_ok=True)
    left_out = 0

    def shown(batch: pa.RecordBatch) -> pa.RecordBatch:
        nonlocal left_out
        played, flaws = id_columns.link_numbers(batch["track_id"])
        kept = batch.filter(pa.array((flaws > 0) | ~np.isin(played, hidden)))
        left_out += len(batch) - len(kept)
        return kept

    copy(listens, args.out, shown)
    for source in (given, *([names] if names else [])):
        copy(source, args.out, lambda batch: batch)
    return f"{len(hidden):,} tracks and their {left_out:,} listens are hidden in {args.out}"


def copy(source: Input, folder: Path, shown: Callable[[pa.RecordBatch], pa.RecordBatch]) -> None:
    """Write an input as one parquet file into a folder; `shown` returns what is kept of a batch."""
    name = files.TRACKS if source.kind == raw_columns.NAMED_TRACKS else source.kind
    with (
        storage.atomic(folder / f"{name}.parquet") as path,
        ExitStack() as stack,
    ):
        out: pq.ParquetWriter | None = None
        for batch in batches(source):
            out = out or stack.enter_context(pq.ParquetWriter(path, batch.schema))
            try:
                out.write_batch(shown(batch).cast(out.schema))
            except (pa.ArrowException, ValueError) as error:
                raise JobError(
                    f"{source.path} has parts of different types ({error}): write all parts with "
                    "the same ones"
                ) from None
        if out is None:
            raise JobError(f"{source.path} has no rows: there is nothing to hide")


def batches(source: Input) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an input: all columns of one parquet file, else those that are read."""
    if source.parts[0].form == files.PARQUET and not source.path.is_dir():
        with pq.ParquetFile(source.path) as file:
            yield from file.iter_batches()
        return
    for batch in raw_files.batches(source):
        if BAD_LINE in batch.schema.names:
            batch = batch.filter(batch[BAD_LINE].is_null()).drop_columns([BAD_LINE])
        yield batch


if __name__ == "__main__":
    cli.run(main)
