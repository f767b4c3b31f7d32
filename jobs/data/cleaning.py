"""Read the rows of the user's three files, and find the bad ones with the reason for each."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract.ids import find
from jobs.contract.ragged import offsets_of_sorted
from jobs.contract.storage import JobError
from jobs.data import raw_files
from jobs.data.histories import NO_SEQ, Listens
from jobs.data.ids import Encoder
from jobs.data.tombstones import NOT_OF_JOURNAL, Tombstones
from jobs.inputs import sizes
from jobs.inputs.files import Input, Reading
from jobs.inputs.text import BAD_LINE
from jobs.runtime.progress import progress_bar

UNKNOWN_TRACK = "track_id is not in tracks.parquet"
UNKNOWN_TYPE = f"type is none of {', '.join(raw_files.NAME_TYPES)}"
SAME_TRACK = "track_id stands in an earlier row"
OTHER_NAME = "type and id have another name in an earlier row"
SAME_ROW = "the row equals an earlier one"
NOT_YET = "track_id of an event is not in tracks.parquet yet"
LOST_LINK = "a value in artists or genres is not an id, and was left out"
LATER_THAN_NOW = "started_at is over a day later than now"
NO_ROW = "the line can't be read as a row"
FAR_TIME = "started_at is far from all other times"
REASONS = (  # why a row is bad, by its code; 0 means that it is good
    "",
    *(f"{name} {flaw}" for name in ("user_id", "track_id", "id") for flaw in raw_files.ID_FLAWS),
    *(f"started_at {flaw}" for flaw in raw_files.TIME_FLAWS),
    UNKNOWN_TRACK, UNKNOWN_TYPE, SAME_TRACK, OTHER_NAME, SAME_ROW, NOT_YET,
    LATER_THAN_NOW, FAR_TIME, LOST_LINK, NO_ROW,
)  # fmt: skip


Names = dict[str, tuple[np.ndarray, pa.Array]]  # by type the ids, ascending, and their names


def read_names(source: Input) -> tuple[Names, np.ndarray]:
    """Return the first name of each type and id, and the codes (n,) of the catalogue's rows."""
    columns = raw_files.table(source)
    ids, flaws = raw_files.ids(columns["id"])
    bad = coded("id", flaws)
    mark_unreadable(bad, columns[BAD_LINE])
    types = pc.index_in(
        pc.utf8_lower(raw_files.text(columns["type"])), pa.array(raw_files.NAME_TYPES)
    )
    type_code = types.fill_null(-1).to_numpy(zero_copy_only=False)
    bad[(bad == 0) & (type_code < 0)] = REASONS.index(UNKNOWN_TYPE)
    names = raw_files.text(columns["name"])
    has_name = names.is_valid().to_numpy(zero_copy_only=False)
    result = {}
    for code, name in enumerate(raw_files.NAME_TYPES):
        rows = np.flatnonzero((bad == 0) & (type_code == code) & has_name)
        unique, first, place = np.unique(ids[rows], return_index=True, return_inverse=True)
        result[name] = unique, names.take(pa.array(rows[first]))
        differs = pc.not_equal(names.take(pa.array(rows)), result[name][1].take(pa.array(place)))
        bad[rows[differs.to_numpy(zero_copy_only=False)]] = REASONS.index(OTHER_NAME)
    return result, bad


def read_tracks(source: Input, names: Names) -> tuple[pa.Table, np.ndarray]:
    """Return the items, by track_id, and the codes (n,) of the rows of tracks.parquet.

    A row whose artists or genres have values that are no ids has a code too, but is kept.
    """
    columns = raw_files.table(source)
    ids, flaws = raw_files.ids(columns["track_id"])
    bad = coded("track_id", flaws)
    mark_unreadable(bad, columns[BAD_LINE])
    rows = np.flatnonzero(bad == 0)
    track_ids, first = np.unique(ids[rows], return_index=True)
    bad[np.delete(rows, first)] = REASONS.index(SAME_TRACK)
    if track_ids.size == 0:
        reason = ": add the tracks"
        if len(bad):
            reason = f", {REASONS[bad[0]]} (first in {raw_files.row_name(source, 0)})"
        raise JobError(f"{source.path} holds no usable track in {len(ids):,} rows{reason}")
    kept = pa.array(rows[first])
    artists, artist_names, lost_artists = named(columns["artists"].take(kept), names["artist"])
    genres, genre_names, lost_genres = named(columns["genres"].take(kept), names["genre"])
    bad[rows[first[np.union1d(lost_artists, lost_genres)]]] = REASONS.index(LOST_LINK)
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
    """Return the codes (n,), places in REASONS, of a column's flaws."""
    first = REASONS.index(f"{column} {raw_files.ID_FLAWS[0]}")
    return np.where(flaws > 0, first - 1 + flaws, 0).astype(np.uint8)


def named(
    column: pa.Array, names: tuple[np.ndarray, pa.Array]
) -> tuple[pa.Array, pa.Array, np.ndarray]:
    """Return a column's lists of ids (n,), and the lists of the names that exist for them.

    The third result is the rows in which values were left out because they are no ids.
    """
    ids, rows, lost = raw_files.id_lists(column)
    found = name_of(ids, names)
    exists = found.is_valid().to_numpy(zero_copy_only=False)
    return (
        lists(pa.array(ids), rows, len(column)),
        lists(found.drop_null(), rows[exists], len(column)),
        lost,
    )


def lists(values: pa.Array, rows: np.ndarray, n: int) -> pa.Array:
    """Return lists (n,) of flat values, given the row of each, ascending."""
    return pa.ListArray.from_arrays(offsets_of_sorted(rows, n).astype(np.int32), values)


def name_of(ids: np.ndarray, names: tuple[np.ndarray, pa.Array]) -> pa.Array:
    """Return the names (n,) of ids, null where an id has none."""
    found = find(names[0], ids)
    return names[1].take(pa.array(found, mask=found < 0))


def mark_unreadable(bad: np.ndarray, lines: pa.Array) -> None:
    """Give the rows (n,) that stand for a line which is no row their code."""
    bad[lines.is_valid().to_numpy(zero_copy_only=False)] = REASONS.index(NO_ROW)


def read_listens(
    sources: Sequence[Input], items: pa.Table, tombstones: Tombstones
) -> tuple[Listens, np.ndarray, list[int]]:
    """Return the listens of all inputs, one after the other in their order, and their codes (n,).

    Bad rows have the user -1, and so have listens that are to be forgotten, whose code is 0. The
    last result is where each input ends.
    """
    n, tracks = sum(map(sizes.rows, sources)), Encoder.of(items["track_id"].to_numpy())
    listens = Listens(*(np.empty(n, dtype) for dtype in ("int32", "int32", "int64", "int32")))
    bad = np.empty(n, np.uint8)
    end, ends = 0, []
    with progress_bar(total=n, desc="check", unit=" rows", unit_scale=True) as bar:
        for source in sources:
            for batch in raw_files.batches(source):
                start, end = end, end + len(batch)
                if end > len(bad):  # the number of rows of a text file was an estimate
                    resize(listens, bad, end + end // 8)
                part, bad[start:end] = check(batch, tracks, tombstones, source.reading)
                if part.user.max(initial=0) > np.iinfo(listens.user.dtype).max:
                    listens = listens._replace(user=listens.user.astype(np.int64))
                for column, values in zip(listens, part, strict=True):
                    column[start:end] = values
                bar.update(len(batch))
            ends.append(end)
    if end < len(bad):
        resize(listens, bad, end)
    return listens, bad, ends


def resize(listens: Listens, bad: np.ndarray, n: int) -> None:
    """Change the number of rows in place, which keeps no second copy of large arrays."""
    for column in (*listens, bad):
        column.resize(n, refcheck=False)


def check(
    batch: pa.RecordBatch, tracks: Encoder, tombstones: Tombstones, reading: Reading
) -> tuple[Listens, np.ndarray]:
    """Return the listens of a batch of interactions, bad ones too, and the rows' codes (n,)."""
    user, user_flaws = raw_files.ids(batch["user_id"])
    track, track_flaws = raw_files.ids(batch["track_id"])
    time, time_flaws = raw_files.times(batch["started_at"], reading.unit, reading.origin)
    position = tracks.positions(track)
    unknown = np.where(position < 0, REASONS.index(UNKNOWN_TRACK), 0).astype(np.uint8)
    bad = coded("user_id", user_flaws)
    for codes in (coded("track_id", track_flaws), unknown, coded("started_at", time_flaws)):
        bad = np.where(bad == 0, codes, bad)
    if BAD_LINE in batch.schema.names:
        mark_unreadable(bad, batch[BAD_LINE])
    seq = np.full(len(batch), NO_SEQ)
    if "track_seq" in batch.schema.names:
        numbers, flaws = raw_files.ids(batch["track_seq"])
        seq = np.where((flaws == 0) & (numbers < NO_SEQ), numbers, NO_SEQ)
    place = np.full(len(batch), NOT_OF_JOURNAL)
    if raw_files.JOURNAL_SEQ in batch.schema.names:
        numbers, flaws = raw_files.ids(batch[raw_files.JOURNAL_SEQ])
        place = np.where(flaws == 0, numbers, NOT_OF_JOURNAL)
    readable = np.where(time_flaws == 0, time, 0)
    forgotten = (user_flaws == 0) & tombstones.covers(user, readable, place)
    bad[forgotten] = 0
    return Listens(np.where((bad == 0) & ~forgotten, user, -1), position, time, seq), bad
