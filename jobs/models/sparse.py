"""Look-ups and products of sparse and dense matrices, pair by pair."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.ids import MISSING, find

PAIRS_A_BLOCK = 1024


@dataclass(frozen=True)
class Entries:
    """A sparse matrix whose entries are found by one binary search in its own order.

    scipy's indexing scans a row for each pair that is asked for.
    """

    matrix: csr_matrix
    keys: np.ndarray  # (entries,) int64, ascending: row * columns + column

    @classmethod
    def of(cls, matrix: csr_matrix) -> "Entries":
        """Sort the matrix's rows in place."""
        matrix.sort_indices()
        return cls(matrix, _keys_of(matrix))

    def look_up(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(n,) float32: the values at pairs of rows and columns."""
        if not len(self.keys):
            return np.zeros(len(rows), np.float32)
        wanted = rows * np.int64(self.matrix.shape[1]) + columns
        at = find(self.keys, wanted)
        return np.where(at != MISSING, self.matrix.data[at], np.float32(0)).astype(np.float32)

    def clear(self, marked: csr_matrix) -> None:
        """Set the values to 0 wherever `marked`, of the same shape, has an entry."""
        at = find(self.keys, _keys_of(marked))
        self.matrix.data[at[at != MISSING]] = 0


def _keys_of(matrix: csr_matrix) -> np.ndarray:
    rows, columns = matrix.shape
    firsts = np.arange(rows) * np.int64(columns)
    keys: np.ndarray = np.repeat(firsts, np.diff(matrix.indptr)) + matrix.indices
    return keys


def look_up(matrix: csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(n,) float32: the matrix's values at pairs of rows and columns."""
    return Entries.of(matrix).look_up(rows, columns)


def dots(left: np.ndarray, rows: np.ndarray, right: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) float32: the inner products of left's rows with right's, pair by pair.

    So many pairs at a time as fit into a processor's cache.
    """
    result = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), PAIRS_A_BLOCK):
        some = slice(first, first + PAIRS_A_BLOCK)
        np.einsum("nd,nd->n", left[rows[some]], right[others[some]], out=result[some])
    return result
