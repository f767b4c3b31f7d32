"""Ranked lists: choose the best items of each row, and write and read them as files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from jobs.contract import compiling, tables
from jobs.contract.ids import Ties, ties_of
from jobs.contract.names import LIST_LENGTH
from jobs.contract.ragged import offsets_of, place_in_row, row_of_each
from jobs.contract.tables import Table
from jobs.contract.top_k import NOTHING
from jobs.data import ids
from jobs.data.ids import Encoder
from jobs.models.sparse import arrays, clear

# All bits of a float32 but the sign. Read as integers, they are in the order of positive floats.
FLOAT_BITS = np.uint64(0x7FFFFFFF)


def rows_of(
    table: Table, keys: np.ndarray, track_ids: np.ndarray, items: np.ndarray, scores: np.ndarray
) -> pa.Table:
    """Return rows of a ranked file: for each of keys (b,) its items (b, k) and scores (b, k).

    items and scores are best first; items are positions in track_ids. Entries without an item
    (NOTHING) or with a score of -inf come last in each list, and are left out.
    """
    kept = (items != NOTHING) & (scores > -np.inf)
    row, place = np.nonzero(kept)
    key, item, rank, score = table.schema.names
    return pa.table(
        {
            key: keys[row],
            item: track_ids[items[kept]],
            rank: (place + 1).astype(np.int32),
            score: scores[kept].astype(np.float32),
        }
    )


def best_of_rows(
    scores: csr_matrix, k: int, ties: Ties, out: csr_matrix | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest positive entries of each row: items and scores (rows, k), best first.

    Where `out`, of the same shape, has an entry, none is taken. Equal scores are in the order of
    `ties`, those of the columns. NOTHING and -inf fill the rows with fewer entries. In the example,
    item 3 comes before item 2:

    >>> scores = csr_matrix(np.array([[0, 0.5, 2, 2], [0, 0, 0, 1]], np.float32))
    >>> ties = Ties(places=np.array([0, 1, 3, 2, -1]), at=np.array([0, 1, 3, 2, -1]))
    >>> items, best = best_of_rows(scores, 2, ties)
    >>> items.tolist(), best.tolist()
    ([[3, 2], [3, -1]], [[2.0, 2.0], [1.0, -inf]])

    Each entry is packed into one 64-bit integer, since sorting integers is much faster than sorting
    by three columns. From the highest bits to the lowest, it has the row, 31 bits that fall as the
    score rises, and the place among ties. In the example the integers are, in ascending order:

        row   FLOAT_BITS - bits of the score   place
        0     0x3fffffff (2.0)                 2 (of item 3)
        0     0x3fffffff (2.0)                 3 (of item 2)
        0     0x40ffffff (0.5)                 1 (of item 1)
        1     0x407fffff (1.0)                 2 (of item 3)
    """
    items = np.full((scores.shape[0], k), NOTHING, np.int32)
    best = np.full((scores.shape[0], k), -np.inf, np.float32)
    if out is None:
        out = csr_matrix(scores.shape, dtype=np.float32)
    if compiling.is_used():
        from jobs.models import kernels

        starts, columns, data = arrays(scores)
        bits, left_out = data.view(np.int32), arrays(out)[:2]
        kernels.best_of_rows(starts, columns, bits, k, *ties, left_out, items, best.view(np.int32))
        return items, best
    if out.nnz:
        scores = scores.copy()
        clear(scores, out)
    item_bits = np.uint64(max(scores.shape[1] - 1, 1).bit_length())
    rows_a_sort = 1 << min(11, 33 - int(item_bits))  # row, score and item must fit into 64 bits
    for first in range(0, scores.shape[0], rows_a_sort):
        starts = scores.indptr[first : first + rows_a_sort + 1].astype(np.int64)
        data = scores.data[starts[0] : starts[-1]].astype(np.float32, copy=False)
        row = row_of_each(np.diff(starts))
        large = np.flatnonzero(data >= _lower_bounds(data, starts - starts[0], k)[row])
        row, tie = row[large], ties.places[scores.indices[starts[0] + large]]
        falling = FLOAT_BITS - data[large].view(np.int32).astype(np.uint64)
        key = (row.astype(np.uint64) << np.uint64(31)) | falling
        key = (key << item_bits) | tie.astype(np.uint64)
        key.sort()
        counts = np.bincount(row, minlength=len(starts) - 1)
        place = place_in_row(counts)
        kept = place < k
        key, row, place = key[kept], first + row[kept], place[kept]
        items[row, place] = ties.at[key & ((np.uint64(1) << item_bits) - np.uint64(1))]
        falling = (key >> item_bits) & FLOAT_BITS
        best[row, place] = (FLOAT_BITS - falling).astype(np.int32).view(np.float32)
    return items, best


def _lower_bounds(data: np.ndarray, starts: np.ndarray, k: int) -> np.ndarray:
    """Return a lower bound of each row's k-th largest entry, (rows,), so that fewer are sorted.

    In a row of more than 16 k entries it is the k-th largest of the first 8 k, which cannot be
    larger than the k-th largest of all; in other rows it is the smallest positive float.
    """
    result = np.full(len(starts) - 1, np.finfo(np.float32).smallest_subnormal)
    many = np.flatnonzero(np.diff(starts) > 16 * k)
    if len(many):
        first = data[starts[many][:, None] + np.arange(8 * k)]
        result[many] = np.maximum(np.partition(first, 7 * k, axis=1)[:, 7 * k], result[many])
    return result


def matrix_of_lists(items: np.ndarray, scores: np.ndarray, columns: int) -> csr_matrix:
    """Return lists, as best_of_rows returns them, as a sparse matrix (rows, columns) float32."""
    row, place = np.nonzero(items != NOTHING)
    entries = scores[row, place], (row, items[row, place])
    return csr_matrix(entries, (len(items), columns), dtype=np.float32)


def first_unheard(order: np.ndarray, heard: csr_matrix) -> np.ndarray:
    """Return the first 100 items of an order that each user hasn't heard, (users, 100) int32.

    order (n,) are items, best first; heard (users, items) is nonzero where the user has heard the
    item. Takes memory in proportion to users × (100 + the most that one of them has heard), so it
    should be called on blocks of users.
    """
    result = np.full((heard.shape[0], LIST_LENGTH), NOTHING, np.int32)
    order = order[: LIST_LENGTH + int(np.diff(heard.indptr).max(initial=0))]
    unheard = heard[:, order].toarray() == 0
    place = np.cumsum(unheard, axis=1) - 1
    row, at = np.nonzero(unheard & (place < LIST_LENGTH))
    result[row, place[row, at]] = order[at]
    return result


def read_matrices(
    table: Table, work: Path, track_ids: np.ndarray, *values: str
) -> list[csr_matrix]:
    """Return columns of a file of track lists (similar, followers), (items, items) float32 each.

    The entries of a row are in the order of the file. The matrices share their indices, so none of
    them may be sorted in place.

    values are the names of the columns. Raises JobError if a track is not among track_ids.
    """
    key, item = table.schema.names[:2]
    n, tracks = tables.n_rows(table, work), Encoder.of(track_ids)
    counts = np.zeros(len(track_ids), np.int64)
    columns = np.empty(n, np.int32)
    found = {name: np.empty(n, np.float32) for name in values}
    end = 0
    for batch in tables.batches(table, work, [key, item, *values]):  # sorted by key
        start, end = end, end + len(batch)
        row = ids.encode(batch[key].to_numpy(), tracks, key, table, work)
        counts += np.bincount(row, minlength=len(counts))
        columns[start:end] = ids.encode(batch[item].to_numpy(), tracks, item, table, work)
        for name in values:
            found[name][start:end] = batch[name].to_numpy()
    starts = offsets_of(counts)
    shape = len(track_ids), len(track_ids)
    return [csr_matrix((found.pop(name), columns, starts), shape) for name in values]


def read_by_score(table: Table, work: Path, keys: np.ndarray, track_ids: np.ndarray) -> np.ndarray:
    """Return the items of a ranked file as read_lists does, but by score, equal ones by tie.

    This is another order than by rank where a rule has moved tracks down.
    """
    key, item, _, score = table.schema.names
    rows = tables.read(table, work, [key, item, score])
    row = ids.encode(rows[key].to_numpy(), keys, key, table, work)
    column = ids.encode(rows[item].to_numpy(), track_ids, item, table, work)
    order = np.lexsort((ties_of(track_ids).places[column], -rows[score].to_numpy(), row))
    result = np.full((len(keys), LIST_LENGTH), NOTHING, np.int32)
    result[row[order], place_in_row(np.bincount(row, minlength=len(keys)))] = column[order]
    return result


def read_lists(
    table: Table, work: Path, keys: np.ndarray, track_ids: np.ndarray, length: int = LIST_LENGTH
) -> np.ndarray:
    """Return the items of a ranked file, (keys, length) int32, by rank, for each of ascending keys.

    Items are positions in track_ids; NOTHING fills short lists. Raises JobError if an id of the
    file is not among keys or track_ids.
    """
    key, item, rank, _ = table.schema.names
    result = np.full((len(keys), length), NOTHING, np.int32)
    users, tracks = Encoder.of(keys), Encoder.of(track_ids)
    for batch in tables.batches(table, work, [key, item, rank]):
        row = ids.encode(batch[key].to_numpy(), users, key, table, work)
        column = ids.encode(batch[item].to_numpy(), tracks, item, table, work)
        result[row, batch[rank].to_numpy() - 1] = column
    return result
