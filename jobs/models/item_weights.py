"""Learn how much a play of each track says about every other one, in closed form (EASE).

EASE (Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", 2019) is a linear model: a user
with the plays x (1 or 0 for each track) gets the scores x B. B has a zero diagonal, so a track says
nothing about itself, and is the best such matrix by squared error with a penalty on its weights:

    P = (X'X + penalty I)^-1,    B = -P / diag(P) outside of the diagonal

where X are the plays (users, tracks). Two tracks that often come together but are explained by a
third one get a small weight, which counting what is played together can't do.

The inverse takes n^3 multiplications for n tracks, so only the most played tracks are learned (see
learned_tracks), from a sample of the users (see learned_users). A user's plays of a track count
once, so that one user changes X'X by at most 1 anywhere.
"""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_matrix

from jobs.contract.ids import Ties
from jobs.data import sampling
from jobs.models.ranked_lists import best_of_rows

Lists = tuple[np.ndarray, np.ndarray]  # items and weights (b, k), best first

WEIGHTS_A_TRACK = 200  # largest weights that are kept
MOST_TRACKS = 10_000
SMALL = 3_000  # tracks: so many are inverted in seconds, so they are learned at any size
MULTIPLICATIONS_A_LISTEN = 5_000  # of the inverse, the most where there are more than SMALL tracks
FEWEST_LISTENERS = 5  # of a track that is learned: with fewer, its weights are chance
MULTIPLICATIONS = 2_000_000_000  # for X'X, the most
PENALTY = 100.0  # at least
USUAL_LISTENERS = 100  # of a track, on average: with more, the penalty grows with their square root
TRACKS_A_BLOCK = 500
SEED = 20


def learned_tracks(listeners: np.ndarray, listens: int, ties: Ties) -> np.ndarray:
    """Return the tracks that weights are learned for, ascending, given listeners (items,).

    They are the tracks with the most listeners, FEWEST_LISTENERS at least. Their number n is at
    most MOST_TRACKS, and n^3 at most MULTIPLICATIONS_A_LISTEN for each listen, but n may be SMALL.

    >>> from jobs.contract.ids import ties_of
    >>> learned_tracks(np.array([9, 4, 5, 7]), 100, ties_of(np.arange(4))).tolist()
    [0, 2, 3]
    >>> listeners, ties = np.full(20_000, 9), ties_of(np.arange(20_000))
    >>> [len(learned_tracks(listeners, n, ties)) for n in (10**6, 10**7, 10**9)]
    [3000, 3684, 10000]
    """
    most = min(MOST_TRACKS, max(SMALL, int((MULTIPLICATIONS_A_LISTEN * listens) ** (1 / 3))))
    best = np.lexsort((ties.places[:-1], -listeners))[:most]
    return np.sort(best[listeners[best] >= FEWEST_LISTENERS])


def learned_users(user_ids: np.ndarray, tracks: np.ndarray) -> np.ndarray:
    """Return the rows of the users whose plays are learned from, ascending.

    tracks (users,) is how many of the learned tracks each has played: a user costs the square of it
    in X'X. Users are drawn by a hash until MULTIPLICATIONS are reached.
    """
    order = sampling.order(user_ids, SEED)
    costs = np.square(tracks[order].astype(np.float64))
    return np.sort(order[np.cumsum(costs) <= MULTIPLICATIONS])


def penalty(listeners: np.ndarray) -> float:
    """Return the penalty, given the listeners (n,) of the learned tracks in the sample.

    >>> penalty(np.array([50])), penalty(np.array([400]))
    (100.0, 200.0)
    """
    return float(PENALTY * np.sqrt(max(1.0, listeners.mean() / USUAL_LISTENERS)))


def item_weights(plays: csr_matrix, ties: Ties) -> Iterator[Lists]:
    """Yield the largest positive weights of each track, a block of tracks at a time.

    plays (users, n) are 1 where a user has played a track; ties are those of the n tracks. Row i
    of the result is how much a play of track i says for the others.
    """
    if not plays.shape[1]:
        return
    inverse = _inverse(plays)
    diagonal = np.diag(inverse).copy()
    for first in range(0, len(inverse), TRACKS_A_BLOCK):
        block = slice(first, first + TRACKS_A_BLOCK)
        weights = np.maximum(-inverse[block] / diagonal, 0).astype(np.float32)
        rows = np.arange(len(weights))
        weights[rows, first + rows] = 0
        yield best_of_rows(csr_matrix(weights), WEIGHTS_A_TRACK, ties)


def _inverse(plays: csr_matrix) -> np.ndarray:
    """Return P (n, n) float64, by Cholesky's decomposition in place."""
    by_track = csr_matrix(plays.T, dtype=np.float32)  # counts below 2^24 are exact
    n = by_track.shape[0]
    result = np.empty((n, n), order="F")
    for first in range(0, n, TRACKS_A_BLOCK):
        block = slice(first, first + TRACKS_A_BLOCK)
        result[:, block] = (by_track[block] @ plays).toarray().T
    result[np.diag_indices(n)] += penalty(np.diag(result))
    factor, _ = lapack.dpotrf(result, lower=True, overwrite_a=True)
    inverse: np.ndarray = lapack.dpotri(factor, lower=True, overwrite_c=True)[0]
    for first in range(0, n, TRACKS_A_BLOCK):  # the upper triangle, which is not computed
        block = slice(first, first + TRACKS_A_BLOCK)
        inverse[:first, block] = inverse[block, :first].T
        corner = inverse[block, block]
        inverse[block, block] = np.tril(corner) + np.tril(corner, -1).T
    return inverse.T  # equal, but its rows lie in one piece
