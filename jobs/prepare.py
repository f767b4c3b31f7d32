"""Check, encode and sort the three input files into listens, users, items and quarantine.

    python -m jobs.prepare --data IN --work WORK [--events FILE] [--forgotten FILE]

IN has tracks.parquet, catalog_names.parquet and interactions.parquet. A row that can't be used
goes to WORK/quarantine.parquet with the reason. When a file can't be read, or more than
--max-bad-share of the interactions are bad, WORK stays as it was.

--events names a file with more interactions, as jobs.export_events writes them. Its rows do
not count for --max-bad-share: a listen of a track that tracks.parquet does not have yet, and one
that is also in interactions.parquet, only go to the quarantine.

What users did before they asked the service to forget them is left out and is not kept in the
quarantine. The times of these requests are in WORK/state/forgotten.db, or in the file that
--forgotten names.

A listen without a readable track_seq gets the number after that of the listen before it in the
user's history, and 1 if it is the first.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import tables
from jobs.contract.names import FORGOTTEN, STATE
from jobs.contract.storage import JobError
from jobs.data import raw_files, tombstones
from jobs.data.cleaning import (
    NOT_YET,
    REASONS,
    SAME_ROW,
    UNKNOWN_TRACK,
    read_listens,
    read_names,
    read_tracks,
)
from jobs.data.histories import Listens, histories
from jobs.data.quarantine import bad_rows, stop_if_bad
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make the four files; the summary counts what was kept and what was left out."""
    options = arguments(argv)
    parallel.set_threads(memory.check("prepare", options))
    tracks, catalogue, *played = (options.data / file for file in raw_files.COLUMNS)
    if options.events:
        played.append(options.events)
    for path in (tracks, catalogue, *played):
        raw_files.check(path)
    names, bad_names = read_names(catalogue)
    items, bad_tracks = read_tracks(tracks, names)
    to_forget = tombstones.read(options.forgotten or options.work / STATE / FORGOTTEN)
    listens, bad = read_listens(played, items, to_forget)
    forgotten = (listens.user < 0) & (bad == 0)
    of_file, of_events = np.split(bad, [raw_files.n_rows(played[0])])  # views
    of_events[of_events == REASONS.index(UNKNOWN_TRACK)] = REASONS.index(NOT_YET)
    codes = {catalogue: bad_names, tracks: bad_tracks}
    codes |= dict(zip(played, (of_file, of_events), strict=False))
    stop_if_bad(of_file, options)
    if not (listens.user >= 0).any():
        raise JobError(f"{played[0]} holds listens of users to be forgotten only: add others")
    try:
        users, heard = write(options, items, listens, bad, codes)
        tombstones.note(options.work, to_forget)
    except OSError as error:
        raise JobError(
            f"{options.work} can't be written ({error}): check disk space and permissions, "
            "or pass another --work"
        ) from None
    kept_events = of_events[~forgotten[len(of_file) :]]
    return (
        f"{options.data}: {pc.sum(users['listens']).as_py():,} listens of {len(users):,} users and "
        f"{heard:,} tracks; {sum(map(np.count_nonzero, codes.values())):,} rows quarantined"
        + (f"; {forgotten.sum():,} listens of forgotten users left out" if forgotten.any() else "")
        + (f"; {summary_of_events(kept_events)}" if options.events else "")
    )


def summary_of_events(bad: np.ndarray) -> str:
    """Return how many events were taken in or left out, by their codes (n,)."""
    kept, aside, known = (np.sum(bad == REASONS.index(r)) for r in ("", NOT_YET, SAME_ROW))
    return (
        f"of {len(bad):,} events {kept:,} were taken in, {known:,} were there already and "
        f"{aside:,} wait for tracks that {raw_files.TRACKS} doesn't know"
    )


def write(
    options: argparse.Namespace,
    items: pa.Table,
    listens: Listens,
    bad: np.ndarray,
    codes: dict[Path, np.ndarray],
) -> tuple[pa.Table, int]:
    """Write the four files; return the users and the number of tracks with a listen.

    `codes` has the codes of each file's rows, `bad` those of the listens. A listen that equals an
    earlier one gets its code here; where that makes too many interactions bad, nothing is written.
    """
    track_ids = items["track_id"].to_numpy()
    heard = np.zeros(len(track_ids), bool)
    users = []
    with tables.writer(tables.LISTENS, options.work) as append:
        for part, repeated in histories(listens):
            bad[repeated] = REASONS.index(SAME_ROW)
            heard[part.track] = True
            append(listens_table(part, track_ids))
            users.append(users_table(part))
        stop_if_bad(codes[options.data / raw_files.INTERACTIONS], options)
        # Until all files are new, no job may find the old listens beside them.
        (options.work / tables.LISTENS.file).unlink(missing_ok=True)
        tables.write(tables.ITEMS, options.work, items)
        tables.write(tables.USERS, options.work, encoded(pa.concat_tables(users)))
        with tables.writer(tables.QUARANTINE, options.work) as append_bad:
            for path in sorted(codes, key=lambda path: path.name):
                for rows in bad_rows(path, codes[path]):
                    append_bad(rows)
    return pa.concat_tables(users), int(heard.sum())


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the three files")
    parser.add_argument("--events", type=Path, help="more interactions, by jobs.export_events")
    parser.add_argument(
        "--forgotten", type=Path, help="whom to forget (default: WORK/state/forgotten.db)"
    )
    parser.add_argument(
        "--max-bad-share",
        type=float,
        default=0.1,
        help="stop when more of the interactions than this are bad, 0 to 1 (default: 0.1)",
    )
    options = parser.parse_args(argv)
    if not 0 <= options.max_bad_share <= 1:
        parser.error(f"--max-bad-share is {options.max_bad_share}, expected 0 to 1")
    if options.events and not options.events.is_file():
        raise JobError(f"{options.events} is no file: run python -m jobs.export_events")
    if options.forgotten and not options.forgotten.is_file():
        raise JobError(
            f"{options.forgotten} is no file: name forgotten.db in the service's RECO_STATE"
        )
    return options


def listens_table(listens: Listens, track_ids: np.ndarray) -> pa.Table:
    """Return sorted listens as rows of listens.parquet."""
    columns = (listens.user, track_ids[listens.track], listens.time, listens.seq)
    arrays = [pa.array(c.astype(np.int64)) for c in columns]
    return pa.table(arrays, names=tables.LISTENS.schema.names)


def users_table(listens: Listens) -> pa.Table:
    """Return the users of sorted listens, without user_id_enc."""
    starts = np.flatnonzero(np.append(True, np.diff(listens.user) != 0))
    ends = np.append(starts[1:], len(listens.user))
    columns = {
        "user_id": listens.user[starts].astype(np.int64),
        "listens": (ends - starts).astype(np.int32),
        "last_at": listens.time[ends - 1].astype("datetime64[us]"),
    }
    return pa.table(columns)


def encoded(users: pa.Table) -> pa.Table:
    """Return users, by user_id, with their position as user_id_enc."""
    return users.append_column("user_id_enc", pa.array(np.arange(len(users), dtype=np.int32)))


if __name__ == "__main__":
    cli.run(main)
