"""Metrics of ranked lists beyond accuracy, such as coverage, novelty and diversity.

The lists `found` are (lists, at least k) items, with NOTHING behind the last one.
"""

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.top_k import NOTHING
from jobs.metrics.accuracy import hits


def coverage(found: np.ndarray, k: int, listeners: np.ndarray) -> float:
    """Return the share of the played items that are among the first k of any list, 0 to 1.

    listeners (items,) are how many users have heard each item. Items that nobody has heard don't
    count, so that the share means the same however many of them the catalogue has.
    """
    items = np.unique(found[:, :k])
    items = items[items != NOTHING]
    return float(np.count_nonzero(listeners[items]) / np.count_nonzero(listeners))


def novelty(found: np.ndarray, k: int, listeners: np.ndarray, users: int) -> np.ndarray:
    """Return the mean self-information of the first k items, in bits, (lists,) float64.

    It is -log2 of the share of the users who have heard the item (Vargas and Castells 2011): an
    item that one of 8 users has heard has 3 bits, and so has one that nobody has heard. An empty
    list has 0. listeners (items,) are how many of the users have heard each item.
    """
    bits = -np.log2(np.maximum(listeners, 1) / users)
    first = found[:, :k]
    listed = first != NOTHING
    total = np.where(listed, bits[np.where(listed, first, 0)], 0).sum(axis=1)
    means: np.ndarray = total / np.maximum(listed.sum(axis=1), 1)
    return means


def popularity(found: np.ndarray, k: int, listeners: np.ndarray, users: int) -> np.ndarray:
    """Return the mean share of the users who have heard one of the first k items, (lists,) float64.

    The share is 0 to 1; an empty list has 0. listeners (items,) are as in novelty.
    """
    first = found[:, :k]
    listed = first != NOTHING
    total = np.where(listed, listeners[np.where(listed, first, 0)], 0).sum(axis=1)
    shares: np.ndarray = total / (users * np.maximum(listed.sum(axis=1), 1))
    return shares


def serendipity(found: np.ndarray, expected: np.ndarray, labels: csr_matrix, k: int) -> np.ndarray:
    """Return the share of the first k places with a hit not in an expected list, (lists,) float64.

    It is |(list - expected) & labels| / k (Adamopoulos and Tuzhilin 2014, after Ge et al. 2010),
    where expected (lists, at least k) are the lists of a simple model, such as the top list, for
    the same users; its first k items count.
    """
    first, first_expected = found[:, :k], expected[:, :k]
    surprising = hits(first, labels)
    for place in range(first_expected.shape[1]):
        surprising &= first != first_expected[:, place : place + 1]
    shares: np.ndarray = surprising.sum(axis=1) / k
    return shares


def diversity(found: np.ndarray, k: int, vectors: csr_matrix | np.ndarray) -> np.ndarray:
    """Return 1 - the mean cosine of all pairs among the first k items, (lists,) float64.

    It is the intra-list diversity of Zhang and Hurley 2008. vectors (items, d) have unit length, or
    are zero: such items are left out. A list with fewer than two items left has a diversity of 0.
    """
    row, place = np.nonzero(found[:, :k] != NOTHING)
    item = found[row, place]
    known = _squared_lengths(vectors)[item] > 0
    row, item = row[known], item[known]
    shape = (len(found), vectors.shape[0])
    total = csr_matrix((np.ones(len(row), np.float32), (row, item)), shape) @ vectors
    n = np.bincount(row, minlength=len(found))
    of_pairs = (
        _squared_lengths(total) - n
    )  # |sum|^2 has every pair twice, and each item with itself
    return np.where(n > 1, 1 - of_pairs / np.maximum(n * (n - 1), 1), 0)


def _squared_lengths(rows: csr_matrix | np.ndarray) -> np.ndarray:
    if isinstance(rows, np.ndarray):
        lengths: np.ndarray = np.einsum("nd,nd->n", rows, rows)
        return lengths
    return np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
