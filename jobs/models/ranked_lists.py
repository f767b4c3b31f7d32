"""Ranked lists: arrays of the best items a row, turned into rows of the contract's files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from jobs.contract import tables
from jobs.contract.names import LIST_LENGTH
from jobs.contract.ragged import offsets_of, place_in_row, row_of_each
from jobs.contract.tables import Table
from jobs.contract.top_k import NOTHING
from jobs.data import ids
from jobs.data.ids import Encoder

FLOAT_BITS = np.uint64(0x7FFFFFFF)  # of a positive float32, whose order is that of its bits


def rows_of(
    table: Table, keys: np.ndarray, track_ids: np.ndarray, items: np.ndarray, scores: np.ndarray
) -> pa.Table:
    """Rows of a ranked file: for keys (b,) the tracks items (b, k) with scores (b, k), best first.

    NOTHING and scores of -inf are left out; they stand behind all others.
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


def best_of_rows(scores: csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest positive entries of each row: items and scores (rows, k), best first.

    Equal scores come in the order of items; NOTHING and -inf fill rows with fewer. One integer an
    entry is sorted: row, then the bits of the float upside down, then the item, which is much
    faster than sorting by three columns.
    """
    items = np.full((scores.shape[0], k), NOTHING, np.int32)
    best = np.full((scores.shape[0], k), -np.inf, np.float32)
    item_bits = np.uint64(max(scores.shape[1] - 1, 1).bit_length())
    rows_a_sort = 1 << min(11, 33 - int(item_bits))
    for first in range(0, scores.shape[0], rows_a_sort):
        starts = scores.indptr[first : first + rows_a_sort + 1].astype(np.int64)
        data = scores.data[starts[0] : starts[-1]].astype(np.float32, copy=False)
        row = row_of_each(np.diff(starts))
        likely = np.flatnonzero(data >= _least(data, starts - starts[0], k)[row])
        row, item = row[likely], scores.indices[starts[0] + likely]
        falling = FLOAT_BITS - data[likely].view(np.int32).astype(np.uint64)
        key = (row.astype(np.uint64) << np.uint64(31)) | falling
        key = (key << item_bits) | item.astype(np.uint64)
        key.sort()
        counts = np.bincount(row, minlength=len(starts) - 1)
        place = place_in_row(counts)
        kept = place < k
        key, row, place = key[kept], first + row[kept], place[kept]
        items[row, place] = key & ((np.uint64(1) << item_bits) - np.uint64(1))
        falling = (key >> item_bits) & FLOAT_BITS
        best[row, place] = (FLOAT_BITS - falling).astype(np.int32).view(np.float32)
    return items, best


def _least(data: np.ndarray, starts: np.ndarray, k: int) -> np.ndarray:
    """(rows,) what an entry must reach to be among a row's k largest, as its first 8 k tell."""
    result = np.full(len(starts) - 1, np.finfo(np.float32).smallest_subnormal)
    many = np.flatnonzero(np.diff(starts) > 16 * k)
    if len(many):
        some = data[starts[many][:, None] + np.arange(8 * k)]
        result[many] = np.maximum(np.partition(some, 7 * k, axis=1)[:, 7 * k], result[many])
    return result


def matrix_of_lists(items: np.ndarray, scores: np.ndarray, columns: int) -> csr_matrix:
    """(rows, columns) float32: lists as best_of_rows returns them, as a sparse matrix."""
    row, place = np.nonzero(items != NOTHING)
    entries = scores[row, place], (row, items[row, place])
    return csr_matrix(entries, (len(items), columns), dtype=np.float32)


def first_unheard(order: np.ndarray, heard: csr_matrix) -> np.ndarray:
    """(users, 100) int32: the first items of one order that each user (row of heard) hasn't heard.

    Takes users × (100 + the most heard by one of them) bytes: call it on blocks of users.
    """
    result = np.full((heard.shape[0], LIST_LENGTH), NOTHING, np.int32)
    order = order[: LIST_LENGTH + int(np.diff(heard.indptr).max(initial=0))]
    open_ = heard[:, order].toarray() == 0
    place = np.cumsum(open_, axis=1) - 1
    row, at = np.nonzero(open_ & (place < LIST_LENGTH))
    result[row, place[row, at]] = order[at]
    return result


def read_matrices(
    table: Table, work: Path, track_ids: np.ndarray, *values: str
) -> list[csr_matrix]:
    """(items, items) float32 each: columns of a file of track lists (similar, followers)."""
    key, item = table.schema.names[:2]
    n, tracks = tables.n_rows(table, work), Encoder.of(track_ids)
    counts = np.zeros(len(track_ids), np.int64)
    columns = np.empty(n, np.int32)
    found = {name: np.empty(n, np.float32) for name in values}
    end = 0
    for batch in tables.batches(table, work, [key, item, *values]):  # by key
        start, end = end, end + len(batch)
        row = ids.encode(batch[key].to_numpy(), tracks, key, table, work)
        counts += np.bincount(row, minlength=len(counts))
        columns[start:end] = ids.encode(batch[item].to_numpy(), tracks, item, table, work)
        for name in values:
            found[name][start:end] = batch[name].to_numpy()
    starts = offsets_of(counts)
    shape = len(track_ids), len(track_ids)
    order = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)
    places = csr_matrix((order, columns, starts), shape)
    places.sort_indices()
    return [
        csr_matrix((found.pop(name)[places.data], places.indices, starts), shape) for name in values
    ]


def read_lists(table: Table, work: Path, keys: np.ndarray, track_ids: np.ndarray) -> np.ndarray:
    """(keys, 100) int32: the items of a ranked file by rank, for each of the ascending keys."""
    key, item, rank, _ = table.schema.names
    result = np.full((len(keys), LIST_LENGTH), NOTHING, np.int32)
    users, tracks = Encoder.of(keys), Encoder.of(track_ids)
    for batch in tables.batches(table, work, [key, item, rank]):
        row = ids.encode(batch[key].to_numpy(), users, key, table, work)
        column = ids.encode(batch[item].to_numpy(), tracks, item, table, work)
        result[row, batch[rank].to_numpy() - 1] = column
    return result
