"""Give a share of the places in final lists to tracks without a listen.

Nobody can play a new track before it is shown. Where it is not shown because the ranker, which has
learned from what people played, prefers known tracks, it stays unknown. So a share of the places
can be reserved: with 0.1 these are the places 10, 20, 30 and so on, with 0.25 the places 4, 8, 12.
"""

import numpy as np

from jobs.contract.top_k import NOTHING

MOST = 0.5  # the largest share of the places


def explored(
    items: np.ndarray, scores: np.ndarray, new: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return lists with their best new tracks at the reserved places: items and scores (users, k).

    items and scores (users, k) are best first; new (users, m) are tracks without a listen, best
    first. NOTHING fills both. The other tracks keep their order and move down; those that move
    beyond the k-th place are left out. A new track gets the score of the track before it, so that
    scores never rise.

    With a share of a half, every second place is reserved, and there are two new tracks:

    >>> items, scores = np.array([[1, 2, 3, 4, 5, 6]]), np.array([[6, 5, 4, 3, 2, 1.0]])
    >>> items, scores = explored(items, scores, np.array([[4, 9]]), 0.5)
    >>> items.tolist(), scores.tolist()
    ([[1, 4, 2, 9, 3, 5]], [[6.0, 6.0, 5.0, 5.0, 4.0, 2.0]])
    """
    users, k = items.shape
    places = np.flatnonzero(np.diff(np.floor(np.arange(k + 1) * share + 1e-9)) > 0)
    new = new[:, : len(places)]
    if not new.shape[1]:
        return items, scores
    reserved = np.zeros((users, k), bool)
    reserved[:, places[: new.shape[1]]] = new != NOTHING
    kept = (items != NOTHING) & ~(items[:, :, None] == new[:, None, :]).any(axis=2)
    order = np.argsort(reserved, axis=1, kind="stable")  # the places that are free, then the others
    place = np.cumsum(kept, axis=1) - 1
    kept &= place < (~reserved).sum(axis=1, keepdims=True)
    row, at = np.nonzero(kept)
    to = order[row, place[row, at]]
    result, values = np.full_like(items, NOTHING), np.full_like(scores, -np.inf)
    result[row, to], values[row, to] = items[row, at], scores[row, at]
    result[reserved] = new[new != NOTHING]
    return _joined(result, values, reserved)


def _joined(
    items: np.ndarray, scores: np.ndarray, reserved: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Close the gaps of short lists, and give reserved places the score of the place before.

    A new track at the first place gets the score of the place after it.
    """
    gaps = np.argsort(items == NOTHING, axis=1, kind="stable")
    items, scores, reserved = (
        np.take_along_axis(part, gaps, axis=1) for part in (items, scores, reserved)
    )
    reserved &= items != NOTHING
    before = np.where(reserved, np.inf, scores)
    before = np.minimum.accumulate(before, axis=1)
    first = np.max(scores, axis=1, initial=-np.inf, keepdims=True)
    best = np.where(np.isneginf(first), np.float32(0), first)
    return items, np.where(reserved, np.where(np.isinf(before), best, before), scores)
