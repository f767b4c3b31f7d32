"""Convert the Last.fm 1K listening histories into input for the jobs.

    python -m jobs.import_lastfm1k --in lastfm-dataset-1K --out IN

The data are 19 million plays of 992 users until May 2009, collected by Òscar Celma:
http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html. They may be used for non-commercial
purposes only.

--in is the unpacked folder. Of its files only userid-timestamp-artid-artname-traid-traname.tsv is
read (also with .gz or .zst). A line without an id of the track gets "artist - title" as id, or a
hash of it if that is longer than 256 bytes. Ids are text.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract.storage import JobError
from jobs.data import raw_files
from jobs.imports.output import TEXT, Output, files, id_of, output, parser
from jobs.inputs.csv_files import Layout, csv_batches
from jobs.inputs.files import CSV, PACKED, Part
from jobs.inputs.lines import BAD_LINE
from jobs.runtime import cli

NAME = "userid-timestamp-artid-artname-traid-traname.tsv"
COLUMNS = ("user", "time", "artist_id", "artist", "track_id", "title")
LAYOUT = Layout(COLUMNS, "\t", header=False, quotes=False)


def main(argv: Sequence[str]) -> str:
    """Write interactions and tracks."""
    args = parser(__doc__).parse_args(argv)
    found = files(args.source, NAME, *(NAME + ending for ending in PACKED))
    if len(found) > 1:
        raise JobError(f"{' and '.join(map(str, found))} are the same data: keep one of them")
    part = Part(found[0], found[0].name, CSV, PACKED.get(found[0].suffix))
    with output(args.out, TEXT) as out:
        row = 0
        for batch in csv_batches(part, LAYOUT, COLUMNS, {}):
            convert(batch, part.name, row, out)
            row += len(batch)
    return out.summary(args.out)


def convert(batch: pa.RecordBatch, file: str, first: int, out: Output) -> None:
    """Write the listens of some lines, the first of which has the number `first`."""
    seconds, flaws = raw_files.times(batch["time"])
    title, artist = batch["title"].fill_null(""), batch["artist"].fill_null("")
    has_id = batch["track_id"].is_valid().to_numpy(zero_copy_only=False)
    named = pc.and_(pc.not_equal(title, ""), pc.not_equal(artist, "")).to_numpy(
        zero_copy_only=False
    )
    user = batch["user"].is_valid().to_numpy(zero_copy_only=False)
    good = (flaws == 0) & user & (has_id | named)
    bad = np.flatnonzero(~good)
    if len(bad):
        rows = batch.take(pa.array(bad)).to_pylist()
        lines = [
            row.get(BAD_LINE) or "\t".join(row[name] or "" for name in COLUMNS) for row in rows
        ]
        out.add_unreadable(file, (first + bad).tolist(), lines)
    batch = batch.filter(pa.array(good))
    stand_in = pc.binary_join_element_wise(batch["artist"], batch["title"], " - ")
    ids = pc.coalesce(batch["track_id"], stand_in).dictionary_encode()
    ids = pa.array(map(id_of, ids.dictionary.to_pylist()), TEXT).take(ids.indices)
    out.add(batch["user"], ids, seconds[good] / 1e6)
    artists = pa.array([[name] if name else [] for name in batch["artist"].to_pylist()])
    out.add_tracks({"track_id": ids, "name": batch["title"], "artists": artists})


if __name__ == "__main__":
    cli.run(main)
