"""Accuracy of ranked lists, by the definitions of trec_eval.

A user without a hit counts as 0.
"""

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.top_k import NOTHING

PER_USER = ("precision", "recall", "ndcg", "hit", "map")


def marked(matrix: csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(n,) bool: whether the matrix has an entry there."""
    if not len(rows):
        return np.zeros(0, bool)
    return np.asarray(matrix[rows, columns]).ravel() > 0


def hits(found: np.ndarray, labels: csr_matrix) -> np.ndarray:
    """(users, k) bool: whether each listed item is one of the user's labels."""
    row, place = np.nonzero(found != NOTHING)
    result = np.zeros(found.shape, bool)
    result[row, place] = marked(labels, row, found[row, place])
    return result


def per_user(found: np.ndarray, labels: csr_matrix, k: int) -> dict[str, np.ndarray]:
    """PER_USER metrics at k, (users,) float64 each, of lists found (users, at least k) items.

    Every user must have a label. Recall and MAP divide by all labels, NDCG by that of the best
    list of k, with binary relevance.
    """
    hit = hits(found[:, :k], labels)
    relevant = labels.getnnz(axis=1)
    places = np.arange(1, hit.shape[1] + 1)
    discount = 1 / np.log2(places + 1)
    ideal = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(1, k + 1) + 1))])
    precision_at_hits = np.cumsum(hit, axis=1) / places * hit
    count = hit.sum(axis=1)
    return {
        "precision": count / k,
        "recall": count / relevant,
        "ndcg": hit @ discount / ideal[np.minimum(relevant, k)],
        "hit": (count > 0).astype(float),
        "map": precision_at_hits.sum(axis=1) / relevant,
    }
