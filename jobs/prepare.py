"""Check, encode and sort the user's three files: makes listens, users, items and quarantine.

    python -m jobs.prepare --data IN --work WORK [--events FILE] [--forgotten FILE]

IN holds tracks.parquet, catalog_names.parquet and interactions.parquet. A row that can't be used
goes to WORK/quarantine.parquet with the reason. When a file is unusable, or more than
--max-bad-share of the interactions are bad, WORK stays as it was.

FILE holds more interactions, as jobs.export_events writes them. None of its rows counts as bad: a
track that tracks.parquet doesn't know yet is put aside, and so is a listen that is there already.

What users did before they asked the service to forget them is left out, without a trace: when that
was stands in WORK/state/forgotten.db, or in the file that --forgotten names.

A listen without a readable track_seq takes the number after the listen before it in the user's
history, 1 if it is the first; without the column that is the position in the history.
"""

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from jobs import command, contract, forgotten, inputs
from jobs.contract import JobError
from jobs.forgotten import Forgotten
from jobs.histories import NO_SEQ, Listens, histories

UNKNOWN_TRACK = "track_id is not in tracks.parquet"
UNKNOWN_TYPE = f"type is none of {', '.join(inputs.NAME_TYPES)}"
SAME_TRACK = "track_id stands in an earlier row"
OTHER_NAME = "type and id have another name in an earlier row"
SAME_ROW = "the row equals an earlier one"
NOT_YET = "track_id of an event is not in tracks.parquet yet"
REASONS = (  # why a row is bad, by its code; 0 means that it is good
    "",
    *(f"{column} {flaw}" for column in ("user_id", "track_id", "id") for flaw in inputs.ID_FLAWS),
    *(f"started_at {flaw}" for flaw in inputs.TIME_FLAWS),
    UNKNOWN_TRACK, UNKNOWN_TYPE, SAME_TRACK, OTHER_NAME, SAME_ROW, NOT_YET,
)  # fmt: skip
Names = dict[str, tuple[np.ndarray, pa.Array]]  # by type the ids, ascending, and their names


def main() -> str:
    """Make the four files; the summary counts what was kept and what was left out."""
    options = arguments()
    tracks, catalogue, *played = (options.data / file for file in inputs.COLUMNS)
    if options.events:
        played.append(options.events)
    for path in (tracks, catalogue, *played):
        inputs.check(path)
    names, bad_names = read_names(catalogue)
    items, bad_tracks = read_tracks(tracks, names)
    leaving = forgotten.read(
        options.forgotten or options.work / contract.STATE / contract.FORGOTTEN
    )
    listens, bad = read_listens(played, items, leaving)
    gone = (listens.user < 0) & (bad == 0)
    of_file, of_events = np.split(bad, [inputs.n_rows(played[0])])  # views
    of_events[of_events == REASONS.index(UNKNOWN_TRACK)] = REASONS.index(NOT_YET)
    codes = {catalogue: bad_names, tracks: bad_tracks}
    codes |= dict(zip(played, (of_file, of_events), strict=False))
    stop_if_bad(of_file, options)
    if not (listens.user >= 0).any():
        raise JobError(f"{played[0]} holds no listen but of those to be forgotten: add others")
    try:
        users, heard = write(options, items, listens, bad, codes)
        forgotten.note(options.work, leaving)
    except OSError as error:
        raise JobError(
            f"{options.work} can't be written ({error}): free it or name another"
        ) from None
    return (
        f"{options.data}: {pc.sum(users['listens']).as_py():,} listens of {len(users):,} users and "
        f"{heard:,} tracks; {sum(map(np.count_nonzero, codes.values())):,} rows quarantined"
        + (f"; {gone.sum():,} listens of forgotten users left out" if gone.any() else "")
        + (f"; {summary_of_events(of_events[~gone[len(of_file) :]])}" if options.events else "")
    )


def summary_of_events(bad: np.ndarray) -> str:
    """What became of the events, by their codes (n,)."""
    kept, aside, known = (np.sum(bad == REASONS.index(r)) for r in ("", NOT_YET, SAME_ROW))
    return (
        f"of {len(bad):,} events {kept:,} were taken in, {known:,} were there already and "
        f"{aside:,} wait for tracks that {inputs.TRACKS} doesn't know"
    )


def write(
    options: argparse.Namespace,
    items: pa.Table,
    listens: Listens,
    bad: np.ndarray,
    codes: dict[Path, np.ndarray],
) -> tuple[pa.Table, int]:
    """Write the four files; returns the users and the number of tracks with a listen.

    `codes` are those of each file's rows. Marks in `bad`, the codes of the listens, those that
    equal an earlier one, and writes nothing where they make too many of the interactions bad.
    """
    track_ids = items["track_id"].to_numpy()
    heard = np.zeros(len(track_ids), bool)
    users = []
    with contract.writer(contract.LISTENS, options.work) as append:
        for part, repeated in histories(listens):
            bad[repeated] = REASONS.index(SAME_ROW)
            heard[part.track] = True
            append(listens_table(part, track_ids))
            users.append(users_table(part))
        stop_if_bad(codes[options.data / inputs.INTERACTIONS], options)
        # While the other files change, no job shall find the old listens beside them.
        (options.work / contract.LISTENS.file).unlink(missing_ok=True)
        contract.write(contract.ITEMS, options.work, items)
        contract.write(contract.USERS, options.work, encoded(pa.concat_tables(users)))
        with contract.writer(contract.QUARANTINE, options.work) as append_bad:
            for path in sorted(codes, key=lambda path: path.name):
                for rows in bad_rows(path, codes[path]):
                    append_bad(rows)
    return pa.concat_tables(users), int(heard.sum())


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = command.parser(__doc__)
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
    options = parser.parse_args()
    if not 0 <= options.max_bad_share <= 1:
        parser.error(f"--max-bad-share is {options.max_bad_share}, expected 0 to 1")
    if options.events and not options.events.is_file():
        raise JobError(f"{options.events} is no file: run python -m jobs.export_events")
    if options.forgotten and not options.forgotten.is_file():
        raise JobError(
            f"{options.forgotten} is no file: name forgotten.db in the service's RECO_STATE"
        )
    return options


def read_names(path: Path) -> tuple[Names, np.ndarray]:
    """The first name of each type and id, and the codes (n,) of the catalogue's rows."""
    columns = inputs.table(path)
    ids, flaws = inputs.ids(columns["id"])
    bad = coded("id", flaws)
    types = pc.index_in(pc.utf8_lower(inputs.text(columns["type"])), pa.array(inputs.NAME_TYPES))
    type_code = types.fill_null(-1).to_numpy(zero_copy_only=False)
    bad[(bad == 0) & (type_code < 0)] = REASONS.index(UNKNOWN_TYPE)
    names = inputs.text(columns["name"])
    has_name = names.is_valid().to_numpy(zero_copy_only=False)
    result = {}
    for code, name in enumerate(inputs.NAME_TYPES):
        rows = np.flatnonzero((bad == 0) & (type_code == code) & has_name)
        unique, first, place = np.unique(ids[rows], return_index=True, return_inverse=True)
        result[name] = unique, names.take(pa.array(rows[first]))
        other = pc.not_equal(names.take(pa.array(rows)), result[name][1].take(pa.array(place)))
        bad[rows[other.to_numpy(zero_copy_only=False)]] = REASONS.index(OTHER_NAME)
    return result, bad


def read_tracks(path: Path, names: Names) -> tuple[pa.Table, np.ndarray]:
    """The items, by track_id, and the codes (n,) of the rows of tracks.parquet."""
    columns = inputs.table(path)
    ids, flaws = inputs.ids(columns["track_id"])
    bad = coded("track_id", flaws)
    rows = np.flatnonzero(bad == 0)
    track_ids, first = np.unique(ids[rows], return_index=True)
    bad[np.delete(rows, first)] = REASONS.index(SAME_TRACK)
    if track_ids.size == 0:
        raise JobError(f"{path} holds no usable track in {len(ids):,} rows: add the tracks")
    kept = pa.array(rows[first])
    artists, artist_names = named(columns["artists"].take(kept), names["artist"])
    genres, genre_names = named(columns["genres"].take(kept), names["genre"])
    items = {
        "track_id": track_ids,
        "track_id_enc": np.arange(len(track_ids), dtype=np.int32),
        "track_name": name_of(track_ids, names["track"]),
        "artist_ids": artists,
        "artist_names": artist_names,
        "genre_ids": genres,
        "genre_names": genre_names,
    }
    return pa.table(items), bad


def coded(column: str, flaws: np.ndarray) -> np.ndarray:
    """The codes (n,) of a column's flaws."""
    first = REASONS.index(f"{column} {inputs.ID_FLAWS[0]}")
    return np.where(flaws > 0, first - 1 + flaws, 0).astype(np.uint8)


def named(column: pa.Array, names: tuple[np.ndarray, pa.Array]) -> tuple[pa.Array, pa.Array]:
    """The lists of ids of a column (n,), and beside them the lists of those names that exist."""
    ids, rows = inputs.id_lists(column)
    found = name_of(ids, names)
    exists = found.is_valid().to_numpy(zero_copy_only=False)
    return (
        lists(pa.array(ids), rows, len(column)),
        lists(found.drop_null(), rows[exists], len(column)),
    )


def lists(values: pa.Array, rows: np.ndarray, n: int) -> pa.Array:
    """Flat values and the row of each, ascending, as lists (n,)."""
    starts = np.searchsorted(rows, np.arange(n + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(starts, values)


def name_of(ids: np.ndarray, names: tuple[np.ndarray, pa.Array]) -> pa.Array:
    """The names (n,) of ids, null where there is none."""
    found = positions(names[0], ids)
    return names[1].take(pa.array(found, mask=found < 0))


def positions(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where the values (n,) stand in an ascending array: int32, -1 where they don't."""
    if ordered.size == 0:
        return np.full(len(values), -1, np.int32)
    found = np.searchsorted(ordered, values).astype(np.int32)
    found[found == len(ordered)] = 0
    return np.where(ordered[found] == values, found, np.int32(-1))


def read_listens(
    paths: list[Path], items: pa.Table, leaving: Forgotten
) -> tuple[Listens, np.ndarray]:
    """Every row of the files, one after the other and in file order, and its code (n,).

    Bad rows, and those that are to be forgotten, have the user -1; the latter aren't bad.
    """
    n, track_ids = sum(map(inputs.n_rows, paths)), items["track_id"].to_numpy()
    listens = Listens(*(np.empty(n, dtype) for dtype in ("int32", "int32", "int64", "int32")))
    bad = np.empty(n, np.uint8)
    end = 0
    with tqdm(total=n, desc="check", unit=" rows", unit_scale=True, disable=None) as bar:
        for batch in chain.from_iterable(map(inputs.batches, paths)):
            start, end = end, end + len(batch)
            some, bad[start:end] = check(batch, track_ids, leaving)
            if some.user.max(initial=0) > np.iinfo(listens.user.dtype).max:
                listens = listens._replace(user=listens.user.astype(np.int64))
            for column, values in zip(listens, some, strict=True):
                column[start:end] = values
            bar.update(len(batch))
    return listens, bad


def check(
    batch: pa.RecordBatch, track_ids: np.ndarray, leaving: Forgotten
) -> tuple[Listens, np.ndarray]:
    """The listens of a batch of interactions, bad ones too, and the rows' codes (n,)."""
    user, user_flaws = inputs.ids(batch["user_id"])
    track, track_flaws = inputs.ids(batch["track_id"])
    time, time_flaws = inputs.times(batch["started_at"])
    position = positions(track_ids, track)
    unknown = np.where(position < 0, REASONS.index(UNKNOWN_TRACK), 0).astype(np.uint8)
    bad = coded("user_id", user_flaws)
    for other in (coded("track_id", track_flaws), unknown, coded("started_at", time_flaws)):
        bad = np.where(bad == 0, other, bad)
    seq = np.full(len(batch), NO_SEQ)
    if "track_seq" in batch.schema.names:
        numbers, flaws = inputs.ids(batch["track_seq"])
        seq = np.where((flaws == 0) & (numbers < NO_SEQ), numbers, NO_SEQ)
    gone = (user_flaws == 0) & leaving.covers(user, np.where(time_flaws == 0, time, 0))
    bad[gone] = 0
    return Listens(np.where((bad == 0) & ~gone, user, -1), position, time, seq), bad


def stop_if_bad(bad: np.ndarray, options: argparse.Namespace) -> None:
    """Raise a JobError if no row is usable or more are bad than allowed."""
    path, n, n_bad = options.data / inputs.INTERACTIONS, len(bad), np.count_nonzero(bad)
    if n == 0:
        raise JobError(f"{path} holds no rows: add the listens")
    counts = [np.count_nonzero(bad == code) for code in range(len(REASONS) if n_bad else 0)]
    found = "; ".join(
        f"{count:,} where {REASONS[code]} (first in row {np.argmax(bad == code)})"
        for code, count in enumerate(counts)
        if code and count
    )
    if n_bad == n:
        raise JobError(f"{path} holds no usable listen in {n:,} rows: {found}")
    if n_bad > options.max_bad_share * n:
        raise JobError(
            f"{path}: {n_bad:,} of {n:,} rows ({n_bad / n:.1%}) are bad, {found}. "
            f"Mend them, or allow more than {options.max_bad_share:g} with --max-bad-share"
        )


def listens_table(listens: Listens, track_ids: np.ndarray) -> pa.Table:
    """Sorted listens as rows of the contract."""
    columns = (listens.user, track_ids[listens.track], listens.time, listens.seq)
    arrays = [pa.array(c.astype(np.int64)) for c in columns]
    return pa.table(arrays, names=contract.LISTENS.schema.names)


def users_table(listens: Listens) -> pa.Table:
    """The users of sorted listens; their user_id_enc is still to come."""
    starts = np.flatnonzero(np.append(True, np.diff(listens.user) != 0))
    ends = np.append(starts[1:], len(listens.user))
    columns = {
        "user_id": listens.user[starts].astype(np.int64),
        "listens": (ends - starts).astype(np.int32),
        "last_at": listens.time[ends - 1].astype("datetime64[us]"),
    }
    return pa.table(columns)


def encoded(users: pa.Table) -> pa.Table:
    """Users, by user_id, with their position as user_id_enc."""
    return users.append_column("user_id_enc", pa.array(np.arange(len(users), dtype=np.int32)))


def bad_rows(path: Path, codes: np.ndarray) -> Iterator[pa.Table]:
    """The bad rows of a file, in file order, as rows of the quarantine; codes (n,) tell which."""
    if not codes.any():
        return
    end = 0
    reasons = pa.array(REASONS)
    for batch in inputs.batches(path):
        start, end = end, end + len(batch)
        rows = np.flatnonzero(codes[start:end])
        if rows.size == 0:
            continue
        columns = {
            "file": pa.repeat(path.name, len(rows)),
            "row": start + rows,
            "reason": reasons.take(pa.array(codes[start + rows])),
            "content": json_lines(batch.take(pa.array(rows))),
        }
        yield pa.table(columns)


def json_lines(batch: pa.RecordBatch) -> list[str]:
    """Each row (n,) of a batch as a JSON object."""
    columns = [  # pandas knows neither all zones nor, in any but UTC, all years
        column.cast(pa.timestamp(column.type.unit, "UTC"))
        if pa.types.is_timestamp(column.type) and column.type.tz
        else column
        for column in batch.columns
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    frame = batch.to_pandas(integer_object_nulls=True, date_as_object=False)
    text = frame.to_json(orient="records", lines=True, force_ascii=False, date_format="iso")
    return str(text).replace("\\/", "/").removesuffix("\n").split("\n")


if __name__ == "__main__":
    command.run(main)
