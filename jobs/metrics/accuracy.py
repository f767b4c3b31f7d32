"""Accuracy of ranked lists, by the definitions of trec_eval.

A user without a hit counts as 0 in every mean.
"""

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.top_k import NOTHING

PER_USER = ("precision", "recall", "ndcg", "hit", "map")


def marked(matrix: csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return whether the matrix has a positive entry at pairs of rows and columns, (n,) bool."""
    if not len(rows):
        return np.zeros(0, bool)
    return np.asarray(matrix[rows, columns]).ravel() > 0


def hits(found: np.ndarray, labels: csr_matrix) -> np.ndarray:
    """Return whether each listed item is one of the user's labels, (users, k) bool."""
    row, place = np.nonzero(found != NOTHING)
    result = np.zeros(found.shape, bool)
    result[row, place] = marked(labels, row, found[row, place])
    return result


def per_user(found: np.ndarray, labels: csr_matrix, k: int) -> dict[str, np.ndarray]:
    """Return the metrics PER_USER at k, (users,) float64 each, of lists (users, at least k).

    Every user must have a label. Recall and MAP divide by the number of all labels. A hit at place
    p adds 1 / log2(p + 1) to DCG, and NDCG is DCG divided by that of the best possible list of k.

    Items 7 and 9 are the labels; the list has 9 at place 2, so NDCG@2 is
    (1 / log2(3)) / (1 / log2(2) + 1 / log2(3)) = 0.631 / 1.631 = 0.387.

    >>> labels = csr_matrix(([1, 1], ([0, 0], [7, 9])), (1, 10))
    >>> metrics = per_user(np.array([[4, 9]]), labels, k=2)
    >>> {name: round(values.item(), 3) for name, values in metrics.items()}
    {'precision': 0.5, 'recall': 0.5, 'ndcg': 0.387, 'hit': 1.0, 'map': 0.25}
    """
    hit = hits(found[:, :k], labels)
    relevant = labels.getnnz(axis=1)
    places = np.arange(1, hit.shape[1] + 1)
    discount = 1 / np.log2(places + 1)
    ideal = ideal_dcg(k)
    precision_at_hits = np.cumsum(hit, axis=1) / places * hit
    count = hit.sum(axis=1)
    return {
        "precision": count / k,
        "recall": count / relevant,
        "ndcg": hit @ discount / ideal[np.minimum(relevant, k)],
        "hit": (count > 0).astype(float),
        "map": precision_at_hits.sum(axis=1) / relevant,
    }


def ideal_dcg(k: int) -> np.ndarray:
    """Return the DCG of lists that begin with 0, 1, ... k hits, (k + 1,)."""
    return np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(1, k + 1) + 1))])


def best_ndcg(candidates: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Return the NDCG at k (users,) of the best order of candidates.

    candidates (users,) are the numbers of labels among each user's candidates, labels (users,) the
    numbers of all labels. One of two labels, at the first place, is 1 / 1.631:

    >>> best_ndcg(np.array([0, 1, 2]), np.array([2, 2, 2]), k=2).round(3).tolist()
    [0.0, 0.613, 1.0]
    """
    ideal = ideal_dcg(k)
    result: np.ndarray = ideal[np.minimum(candidates, k)] / ideal[np.minimum(labels, k)]
    return result
