"""Ragged lists: lists of different lengths that stand one after the other in flat arrays.

The lists of row i are items[offsets[i]:offsets[i + 1]], so offsets has one number more than there
are rows. The rows [a, b], [] and [c, d, e] are

    items    a b c d e      offsets  0 2 2 5      lengths  2 0 3
    row      0 0 2 2 2      place    0 1 0 1 2    (inside the row)

Every function works on whole arrays, without a loop over the rows.
"""

from collections.abc import Sequence

import numpy as np


def offsets_of(lengths: np.ndarray | Sequence[int]) -> np.ndarray:
    """Return the offsets (rows + 1,) of rows with these lengths.

    >>> offsets_of(np.array([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def offsets_of_sorted(rows: np.ndarray, n: int) -> np.ndarray:
    """Return the offsets (n + 1,) of n rows, given the row of each entry, ascending.

    >>> offsets_of_sorted(np.array([0, 0, 2, 2, 2]), 3).tolist()
    [0, 2, 2, 5]
    """
    return np.searchsorted(rows, np.arange(n + 1))


def row_of_each(lengths: np.ndarray) -> np.ndarray:
    """Return the row of each entry, (entries,).

    >>> row_of_each(np.array([2, 0, 3])).tolist()
    [0, 0, 2, 2, 2]
    """
    return np.repeat(np.arange(len(lengths)), lengths)


def place_in_row(lengths: np.ndarray) -> np.ndarray:
    """Return the place of each entry inside its row, (entries,), the first 0.

    >>> place_in_row(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    starts = np.cumsum(lengths) - lengths
    places = np.arange(lengths.sum())
    places -= np.repeat(starts, lengths)
    return places


def runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return runs of successive numbers, one after the other: from each start on, so many.

    >>> runs(np.array([10, 70, 40]), np.array([2, 0, 3])).tolist()
    [10, 11, 40, 41, 42]
    """
    ends = np.cumsum(lengths)  # of each run in the result
    numbers = np.repeat(starts - ends + lengths, lengths)
    numbers += np.arange(len(numbers))
    return numbers


def entries_of(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the entries of some rows stand, row after row, and the rows' lengths.

    >>> places, lengths = entries_of(np.array([0, 2, 2, 5]), np.array([2, 0]))
    >>> places.tolist(), lengths.tolist()
    ([2, 3, 4, 0, 1], [3, 2])
    """
    starts = offsets[rows]
    lengths = offsets[rows + 1] - starts
    return runs(starts, lengths), lengths


def last_entries(offsets: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the last n entries of every row stand, and how many each row has of them.

    >>> places, lengths = last_entries(np.array([0, 2, 2, 5]), n=2)
    >>> places.tolist(), lengths.tolist()
    ([0, 1, 3, 4], [2, 0, 2])
    """
    lengths = np.minimum(np.diff(offsets), n)
    return runs(offsets[1:] - lengths, lengths), lengths
