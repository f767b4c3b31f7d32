"""Score how tracks without a listen are ordered, against a random order of them."""

import numpy as np
from scipy.sparse import csr_matrix, diags_array

from jobs.contract.top_k import NOTHING


def only(labels: csr_matrix, items: np.ndarray) -> csr_matrix:
    """Return the labels (users, items) of some items, given as a mask (items,) bool."""
    result = csr_matrix(labels @ diags_array(items.astype(np.float32)))
    result.eliminate_zeros()
    return result


def ndcg_by_chance(found: np.ndarray, labels: csr_matrix, new: np.ndarray, k: int) -> np.ndarray:
    """Return each user's expected NDCG@k, (users,), if the new tracks were in random order.

    found (users, n) are lists, in which new tracks keep the places that they have, but at each of
    them any of the new tracks may be. new (items,) says which tracks are new, and labels (users,
    items) are labels of new tracks only; each user has at least one.

    Of four new tracks one is a label, and the list has a new track at the first place of two. At
    this place the label is in a quarter of the orders, so 0.25 is expected:

    >>> labels, new = csr_matrix(np.array([[0, 1, 0, 0, 0]])), np.array([False] + [True] * 4)
    >>> ndcg_by_chance(np.array([[2, 0]]), labels, new, k=2).tolist()
    [0.25]
    """
    there = np.zeros((len(found), k), bool)
    shown = found[:, :k]
    there[:, : shown.shape[1]] = (shown != NOTHING) & new[shown]
    discount = 1 / np.log2(np.arange(2, k + 2))
    relevant = labels.getnnz(axis=1)
    ideal = np.cumsum(discount)[np.minimum(relevant, k) - 1]
    chance: np.ndarray = (there @ discount) * relevant / np.count_nonzero(new) / ideal
    return chance
