"""Read labels from a file: plays that were held out before a run, to score its lists."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix

from jobs.contract.ids import MISSING, find
from jobs.contract.storage import JobError
from jobs.contract.text_ids import FolderIds, TextIds
from jobs.data import feedback, holdout, id_columns, kinds, raw_files
from jobs.data.feedback import DISLIKE, LISTEN, UNDISLIKE
from jobs.data.holdout import Holdout
from jobs.data.listens import Listens


def read_labels(
    path: Path,
    past: Listens,
    heard: str,
    shown: np.ndarray | None = None,
    ids_of_past: FolderIds | None = None,
    skip_under: float = kinds.SKIP_UNDER,
    work: Path | None = None,
) -> Holdout:
    """Return the users of a file of labels who have one, with their rows in the past, and labels.

    The labels are (users, items + n), where the last n columns are those of the tracks that are not
    in the catalogue: no list can contain them, but each counts as a label that was missed. With
    `shown` (see songs.shown) a label is of the track under which its song is shown. If heard is
    "exclude", tracks that the user has played in the past are no labels. `ids_of_past` has the text
    ids of the past.

    Tracks that the user dislikes are no labels, be it by the feedback in `work`, if that is given,
    or by the file, if that has a column `kind`; nor are its rows that are no listens (see
    data/kinds), where `skip_under` says which ones are skips. Raises JobError if the file can't be
    read or is empty.
    """
    try:
        names = set(pq.read_schema(path).names)
        more = [name for name in (*kinds.COLUMNS[:2], "started_at") if name in names]
        table = pq.read_table(path, columns=["user_id", "track_id", *more])
        if any(table[name].null_count for name in ("user_id", "track_id")):
            raise pa.ArrowInvalid("a user_id or a track_id is missing")
        user, track = (
            numbers(table[name].combine_chunks(), ids_of_past and ids_of_past.of_column(name), name)
            for name in ("user_id", "track_id")
        )
        listened, disliked = _told(table, user, track, skip_under)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise JobError(
            f"{path} can't be read as labels ({error}): pass a parquet file whose "
            "columns user_id and track_id have ids of the same kinds as the run's data"
        ) from None
    if not len(user):
        raise JobError(f"{path} has no rows: there is nothing to score")
    ids, row = np.unique(user, return_inverse=True)
    n = past.shape[1]
    item = find(past.track_ids, track)
    item = item if shown is None else np.append(shown, MISSING)[item]
    unknown = item == MISSING
    others, place = np.unique(track[unknown], return_inverse=True)
    item[unknown] = n + place
    shape = len(ids), n + len(others)
    labels = csr_matrix(
        (np.ones(len(row), np.float32)[listened], (row[listened], item[listened])), shape
    )
    known = holdout.rows_in(past, ids)
    out = csr_matrix((np.ones(len(disliked), np.float32), (row[disliked], item[disliked])), shape)
    labels = holdout.without(labels, out)
    said = work and feedback.read(work, ids, past.track_ids)
    if said:
        labels = holdout.without(labels, said.standing(DISLIKE, (len(ids), n), shown))
    if heard == "exclude":
        labels = holdout.unheard(labels, past, known)
    return Holdout(ids, known, labels).take(labels.getnnz(axis=1) > 0)


def _told(
    table: pa.Table, user: np.ndarray, track: np.ndarray, skip_under: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows are listens, (n,) bool, and rows (m,) whose track the user dislikes.

    The last dislike or undislike of a user and a track counts, by started_at and then by row.
    Raises ArrowInvalid if a kind or a share can't be read.
    """
    batch = table.combine_chunks()
    rows = pa.RecordBatch.from_arrays(
        [column.combine_chunks() for column in batch.columns], batch.column_names
    )
    told, flaws = kinds.read(rows)
    if told is None or flaws is None:
        return np.ones(len(table), bool), np.empty(0, np.int64)
    if flaws.any():
        row = int(np.argmax(flaws > 0))
        raise pa.ArrowInvalid(f"in row {row:,} {kinds.REASONS[flaws[row] - 1]}")
    kind = told.kind if len(told.kind) else np.full(len(table), LISTEN)
    listened = kind == LISTEN
    if len(told.share):
        listened &= ~(told.share < skip_under)
    time = np.zeros(len(table), np.int64)
    if "started_at" in table.column_names:
        time, _ = raw_files.times(rows["started_at"])
    said = np.flatnonzero((kind == DISLIKE) | (kind == UNDISLIKE))
    said = said[np.lexsort((time[said], track[said], user[said]))]
    last = np.append((np.diff(user[said]) != 0) | (np.diff(track[said]) != 0), True)[: len(said)]
    return listened, said[last & (kind[said] == DISLIKE)]


def numbers(column: pa.Array, known: TextIds | None, name: str) -> np.ndarray:
    """Return the numbers (n,) of a column of ids; those of unknown text ids are negative."""
    if known is None:
        found: np.ndarray = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
        return found
    encoded, flaws = id_columns.texts(column)
    if flaws.any():
        row = int(np.argmax(flaws > 0))
        flaw = raw_files.ID_FLAWS[flaws[row] - 1]
        raise pa.ArrowInvalid(f"in row {row:,} the {name} {flaw}")
    unknown = -2 - encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    read: np.ndarray = known.read(encoded).to_numpy(zero_copy_only=False)
    return np.where(read == MISSING, unknown, read)
