"""Look up values of sparse matrices, and multiply rows of dense ones, for pairs of rows."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, diags_array

from jobs.contract import compiling
from jobs.contract.ids import MISSING, find
from jobs.contract.ragged import entries_of, row_of_each

PAIRS_A_BLOCK = 1024  # pairs of vectors that fit into a processor's cache together


@dataclass(frozen=True)
class Entries:
    """A sparse matrix with a sorted key for each entry, so that a binary search finds an entry.

    This is faster than scipy's indexing, which scans a whole row for each pair. The key of an entry
    is row * columns + column:

    >>> entries = Entries.of(csr_matrix(np.array([[0, 5, 0], [7, 0, 9]], np.float32)))
    >>> entries.keys.tolist()  # 0 * 3 + 1, 1 * 3 + 0, 1 * 3 + 2
    [1, 3, 5]
    >>> entries.look_up(np.array([1, 1]), np.array([2, 1])).tolist()
    [9.0, 0.0]
    """

    matrix: csr_matrix
    keys: np.ndarray  # (entries,) int64, ascending

    @classmethod
    def of(cls, matrix: csr_matrix) -> "Entries":
        """Return the entries of a matrix, whose rows are sorted in place."""
        matrix.sort_indices()
        return cls(matrix, _keys_of(matrix))

    def look_up(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the values (n,) float32 at pairs of rows and columns; 0 without an entry."""
        if not len(self.keys):
            return np.zeros(len(rows), np.float32)
        wanted = rows * np.int64(self.matrix.shape[1]) + columns
        at = find(self.keys, wanted)
        return np.where(at != MISSING, self.matrix.data[at], np.float32(0)).astype(np.float32)


def _keys_of(matrix: csr_matrix) -> np.ndarray:
    rows, columns = matrix.shape
    firsts = np.arange(rows) * np.int64(columns)
    keys: np.ndarray = np.repeat(firsts, np.diff(matrix.indptr)) + matrix.indices
    return keys


def look_up(matrix: csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the matrix's values (n,) float32 at pairs of rows (n,) and columns (n,)."""
    return Entries.of(matrix).look_up(rows, columns)


def arrays(matrix: csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the arrays of a matrix as compiled functions expect them: see models/kernels.Csr.

    Nothing is copied but offsets, and a matrix that has other types.
    """
    return (
        matrix.indptr.astype(np.int64, copy=False),
        matrix.indices.astype(np.int32, copy=False),
        matrix.data.astype(np.float32, copy=False),
    )


def product(left: csr_matrix, right: csr_matrix) -> csr_matrix:
    """Return left @ right, float32, whose rows are not sorted."""
    if not compiling.is_used():
        return csr_matrix(left @ right)
    from jobs.models import kernels

    starts, at, values = kernels.product(arrays(left), arrays(right), right.shape[1])
    return csr_matrix((values, at, starts), (left.shape[0], right.shape[1]))


def row_products(
    left: csr_matrix, rows: np.ndarray, right: csr_matrix, others: np.ndarray
) -> np.ndarray:
    """Return inner products (n,) float32: of row rows[i] of left with row others[i] of right.

    rows are ascending.
    """
    if compiling.is_used():
        from jobs.models import kernels

        result = np.empty(len(rows), np.float32)
        kernels.row_products(arrays(left), rows, arrays(right), others, left.shape[1], result)
        return result
    at, counts = entries_of(right.indptr, others)
    pair = row_of_each(counts)
    values = look_up(left, rows[pair], right.indices[at]) * right.data[at]
    return np.bincount(pair, values, minlength=len(others)).astype(np.float32)


def look_up_sorted(matrix: csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the same as look_up, for ascending rows, without sorting the matrix.

    Each row of the matrix is written into an array with all columns, from which its values are
    read. Where rows have thousands of entries, this takes a fraction of the time of sorting them.
    """
    result = np.empty(len(rows), np.float32)
    if compiling.is_used():
        from jobs.models import kernels

        kernels.look_up(arrays(matrix), rows, columns, matrix.shape[1], result)
        return result
    whole = np.zeros(matrix.shape[1], np.float32)
    ends = np.searchsorted(rows, np.arange(matrix.shape[0] + 1))
    for row, (first, last) in enumerate(pairwise(ends)):
        entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
        whole[matrix.indices[entries]] = matrix.data[entries]
        result[first:last] = whole[columns[first:last]]
        whole[matrix.indices[entries]] = 0
    return result


def clear(matrix: csr_matrix, marked: csr_matrix) -> None:
    """Set the values to 0 wherever `marked`, of the same shape, has an entry.

    >>> matrix = csr_matrix(np.array([[4, 5, 0], [7, 0, 9]], np.float32))
    >>> clear(matrix, csr_matrix(np.array([[0, 1, 1], [0, 1, 0]])))
    >>> matrix.toarray().tolist()
    [[4.0, 0.0, 0.0], [7.0, 0.0, 9.0]]
    """
    is_marked = np.zeros(matrix.shape[1], bool)
    for row in range(matrix.shape[0]):
        columns = marked.indices[marked.indptr[row] : marked.indptr[row + 1]]
        entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
        is_marked[columns] = True
        matrix.data[entries][is_marked[matrix.indices[entries]]] = 0
        is_marked[columns] = False


def dots(left: np.ndarray, rows: np.ndarray, right: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return inner products (n,) float32: of row rows[i] of left with row others[i] of right."""
    result = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), PAIRS_A_BLOCK):
        block = slice(first, first + PAIRS_A_BLOCK)
        np.einsum("nd,nd->n", left[rows[block]], right[others[block]], out=result[block])
    return result


def scale_rows(matrix: csr_matrix, factors: np.ndarray) -> csr_matrix:
    """Return the matrix with each row multiplied by its factor; factors are (rows,)."""
    return csr_matrix(diags_array(factors.astype(np.float32)) @ matrix)


def only_rows(matrix: csr_matrix, rows: np.ndarray) -> csr_matrix:
    """Return the matrix with entries in these rows only; rows are (rows,) bool."""
    if rows.all():
        return matrix
    result = scale_rows(matrix, rows)
    result.eliminate_zeros()
    return result


def incidence(lists: pa.ChunkedArray) -> csr_matrix:
    """Return (rows, distinct values) float32: 1 where the row's list contains the value."""
    lists = lists.combine_chunks()
    rows = np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
    values, columns = np.unique(lists.flatten().to_numpy(), return_inverse=True)
    shape = (len(lists), max(len(values), 1))
    result = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape)
    result.data[:] = 1
    return result
