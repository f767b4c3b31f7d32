"""Metrics of ranked lists beyond accuracy, such as coverage, novelty and diversity."""

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.top_k import NOTHING
from jobs.metrics.accuracy import hits


def coverage(found: np.ndarray, k: int, catalogue: int) -> float:
    """The share of a catalogue's items that stand in somebody's first k."""
    listed = np.unique(found[:, :k])
    return float(np.count_nonzero(listed != NOTHING) / catalogue)


def novelty(found: np.ndarray, k: int, listeners: np.ndarray, users: int) -> np.ndarray:
    """(lists,) float64: mean self-information of the first k items, in bits.

    -log2 of the share of users who have heard the item (Vargas and Castells 2011), one listener
    at least; 0 for an empty list.
    """
    bits = -np.log2(np.maximum(listeners, 1) / users)
    first = found[:, :k]
    there = first != NOTHING
    total = np.where(there, bits[np.where(there, first, 0)], 0).sum(axis=1)
    means: np.ndarray = total / np.maximum(there.sum(axis=1), 1)
    return means


def popularity(found: np.ndarray, k: int, listeners: np.ndarray, users: int) -> np.ndarray:
    """(lists,) float64: mean share of the users, 0 to 1, who have heard one of the first k items.

    0 for an empty list.
    """
    first = found[:, :k]
    there = first != NOTHING
    total = np.where(there, listeners[np.where(there, first, 0)], 0).sum(axis=1)
    shares: np.ndarray = total / (users * np.maximum(there.sum(axis=1), 1))
    return shares


def serendipity(found: np.ndarray, expected: np.ndarray, labels: csr_matrix, k: int) -> np.ndarray:
    """(lists,) float64: the share of the k places with a label that a plain list would have missed.

    |(list - expected) & labels| / k (Adamopoulos and Tuzhilin 2014, after Ge et al. 2010); what is
    expected is the first k of a primitive list for the same users, expected (lists, at least k).
    """
    first, known = found[:, :k], expected[:, :k]
    right = hits(first, labels)
    for place in range(known.shape[1]):
        right &= first != known[:, place : place + 1]
    shares: np.ndarray = right.sum(axis=1) / k
    return shares


def diversity(found: np.ndarray, k: int, vectors: csr_matrix | np.ndarray) -> np.ndarray:
    """(lists,) float64: 1 - mean cosine of all pairs among the first k items.

    The intra-list diversity of Zhang and Hurley 2008. vectors (items, d) are of unit length; items
    with a zero one are left out; a list with fewer than two others has none, 0.
    """
    row, place = np.nonzero(found[:, :k] != NOTHING)
    item = found[row, place]
    known = _squared_lengths(vectors)[item] > 0
    row, item = row[known], item[known]
    shape = (len(found), vectors.shape[0])
    total = csr_matrix((np.ones(len(row), np.float32), (row, item)), shape) @ vectors
    n = np.bincount(row, minlength=len(found))
    of_pairs = _squared_lengths(total) - n  # |sum|^2 is the sum over all pairs and each with itself
    return np.where(n > 1, 1 - of_pairs / np.maximum(n * (n - 1), 1), 0)


def _squared_lengths(rows: csr_matrix | np.ndarray) -> np.ndarray:
    if isinstance(rows, np.ndarray):
        lengths: np.ndarray = np.einsum("nd,nd->n", rows, rows)
        return lengths
    return np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
