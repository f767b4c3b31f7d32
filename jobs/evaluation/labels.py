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
from jobs.data.feedback import DISLIKE, EVER, LISTEN, SKIP, Feedback
from jobs.data.holdout import Holdout
from jobs.data.listens import Listens

OPTIONAL = (*kinds.COLUMNS, kinds.DURATION, "started_at", "track_seq")  # columns that are read


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

    Tracks that the user dislikes at the end are no labels, be it by the feedback in `work`, if that
    is given, or by the file, if that has a column `kind` and comes after it; nor are its rows that
    are no listens (see data/kinds), where `skip_under` says which ones are skips. Raises JobError
    if the file can't be read or is empty.
    """
    try:
        names = set(pq.read_schema(path).names)
        more = [name for name in OPTIONAL if name in names]
        table = pq.read_table(path, columns=["user_id", "track_id", *more])
        if any(table[name].null_count for name in ("user_id", "track_id")):
            raise pa.ArrowInvalid("a user_id or a track_id is missing")
        user, track = (
            numbers(table[name].combine_chunks(), ids_of_past and ids_of_past.of_column(name), name)
            for name in ("user_id", "track_id")
        )
        kind, order = _told(table, skip_under)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise JobError(
            f"{path} can't be read as labels ({error}): pass a parquet file whose "
            "columns user_id and track_id have ids of the same kinds as the run's data"
        ) from None
    if not len(user):
        raise JobError(f"{path} has no rows: pass a file with plays that came after the run's data")
    ids, row = np.unique(user, return_inverse=True)
    n = past.shape[1]
    place = find(past.track_ids, track)
    unknown = place == MISSING
    others, of_others = np.unique(track[unknown], return_inverse=True)
    place[unknown] = n + of_others
    shape = len(ids), n + len(others)
    if shown is not None:
        shown = np.append(shown, n + np.arange(len(others)))
    item = place if shown is None else shown[place]
    listened = kind == LISTEN
    labels = csr_matrix(
        (np.ones(np.count_nonzero(listened), np.float32), (row[listened], item[listened])), shape
    )
    known = holdout.rows_in(past, ids)
    before = feedback.read(work, ids, past.track_ids) if work else None
    said = _in_order(before, row, place, kind, order)
    labels = holdout.without(labels, said.standing(DISLIKE, shape, shown))
    if heard == "exclude":
        labels = holdout.unheard(labels, past, known)
    return Holdout(ids, known, labels).take(labels.getnnz(axis=1) > 0)


def _told(table: pa.Table, skip_under: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what each row is, (n,) places in KINDS, and the rows (n,) by time, as in jobs.prepare.

    Raises ArrowInvalid if a value can't be read, or if only how long tracks are could tell whether
    a row is a skip.
    """
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    told, flaws = kinds.read(pa.RecordBatch.from_pydict(columns))
    if told is None or flaws is None:
        return np.full(len(table), LISTEN), np.arange(len(table))
    if flaws.any():
        row = int(np.argmax(flaws > 0))
        raise pa.ArrowInvalid(f"in row {row:,} {kinds.REASONS[flaws[row] - 1]}")
    kind = told.kind if len(told.kind) else np.full(len(table), LISTEN)
    share = told.share if len(told.share) else np.full(len(table), np.nan, np.float32)
    if len(told.ms):
        share = np.where(np.isnan(share), _share_of_ms(columns, kind, share, told.ms), share)
    kind = np.where((kind == LISTEN) & (share < skip_under), SKIP, kind)
    time = seq = np.zeros(len(table), np.int64)
    if "started_at" in columns:
        time, _ = raw_files.times(columns["started_at"])
    if "track_seq" in columns:
        values, _ = raw_files.numbers(columns["track_seq"])
        seq = np.nan_to_num(values, nan=np.inf)  # without one it is the last of its instant
    return kind, np.lexsort((seq, time))


def _share_of_ms(
    columns: dict[str, pa.Array], kind: np.ndarray, share: np.ndarray, ms: np.ndarray
) -> np.ndarray:
    """Return the shares of what was played in milliseconds, (n,); NaN where one is unknown."""
    if kinds.DURATION in columns:
        duration, _ = raw_files.numbers(columns[kinds.DURATION])
        return np.minimum(ms / np.where(duration > 0, duration, np.nan), 1)
    open_rows = np.flatnonzero((kind == LISTEN) & np.isnan(share) & ~np.isnan(ms))
    if len(open_rows):
        raise pa.ArrowInvalid(
            f"in row {open_rows[0]:,} there is {kinds.MILLISECONDS}, and nothing says how long the "
            f"track is: add a column {kinds.DURATION} or {kinds.SHARE}, or leave out "
            f"{kinds.MILLISECONDS} if all rows are listens"
        )
    return share


def _in_order(
    known: Feedback | None, user: np.ndarray, track: np.ndarray, kind: np.ndarray, order: np.ndarray
) -> Feedback:
    """Return what was known, and then what the rows of a file say in this order, by user and track.

    user (n,) are rows among the users, track (n,) places, kind (n,) places in KINDS.
    """
    rows = order[kind[order] > SKIP]
    later = Feedback(user[rows], track[rows], np.full(len(rows), EVER), kind[rows])
    both = [later] if known is None else [known, later]
    columns = ("user", "track", "at", "kind")
    said = Feedback(*(np.concatenate([getattr(one, name) for one in both]) for name in columns))
    return said.take(np.lexsort((said.track, said.user)))


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
