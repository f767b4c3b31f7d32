"""What a user's plays count for the lists that are made from the neighbours of played tracks.

Jobs compute such lists for all users at once, and the service for one whom somebody looks at.
"""

import numpy as np

from jobs.contract.blending import Neighbours
from jobs.contract.ragged import entries_of

RECENT = 100  # a user's last plays, whose similar and next tracks are looked up
LAST_SCORED = 16  # last plays that the generator "after_last" uses
LAST_HALF_LIFE = 1.0  # plays after which they count half there
LISTED = 50  # tracks that the service shows of such a list: the candidates of the ranker


def faded(plays_since: np.ndarray, half_life: float | None) -> np.ndarray:
    """Return what plays count, (n,) float32: half for every half_life of the plays since; or 1.

    >>> faded(np.array([4, 2, 0]), 2.0).tolist()
    [0.25, 0.5, 1.0]
    """
    if half_life is None:
        return np.ones(len(plays_since), np.float32)
    weights: np.ndarray = np.exp2(-plays_since / half_life).astype(np.float32)
    return weights


def profile(plays: np.ndarray, half_life: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the different tracks (m,) of plays, oldest first, and what their plays add up to.

    >>> tracks, weights = profile(np.array([7, 3, 7]), 1.0)
    >>> tracks.tolist(), weights.tolist()
    ([3, 7], [0.5, 1.25])
    """
    n = len(plays)
    return _added_up(plays, faded(n - 1 - np.arange(n), half_life))


def best_neighbours(
    plays: np.ndarray,
    half_life: float | None,
    lists: Neighbours,
    heard: np.ndarray,
    n: int,
    ties: np.ndarray,
) -> np.ndarray:
    """Return the n tracks with the largest sums over the neighbours of plays, best first.

    A neighbour's score counts as much as the plays of its track. Tracks in `heard` (ascending) are
    left out; equal sums are in the order of `ties` (tracks,).

    >>> lists = Neighbours(np.array([0, 2, 3]), np.array([5, 6, 6]), np.array([1, .5, 2], "f4"))
    >>> best_neighbours(np.array([0, 1]), 1.0, lists, np.array([]), 5, np.arange(9)).tolist()
    [6, 5]
    """
    tracks, weights = profile(plays, half_life)
    return best(*_listed_near(tracks, weights, lists), heard, n, ties)


def by_artists(
    plays: np.ndarray,
    half_life: float | None,
    credits: tuple[np.ndarray, np.ndarray],
    lists: Neighbours,
    heard: np.ndarray,
    n: int,
    ties: np.ndarray,
) -> np.ndarray:
    """Return the n tracks with the largest sums over the artists of plays, best first.

    credits are the offsets (tracks + 1,) and items of each track's artists, among whom a play is
    divided; lists has the tracks of each artist. The rest is as in best_neighbours.

    >>> credits = np.array([0, 2, 3]), np.array([0, 1, 1])  # track 0 is by two artists
    >>> lists = Neighbours(np.array([0, 1, 2]), np.array([5, 6]), np.array([1, 1], "f4"))
    >>> by_artists(np.array([0, 1]), None, credits, lists, np.array([]), 5, np.arange(9)).tolist()
    [6, 5]
    """
    tracks, weights = profile(plays, half_life)
    places, lengths = entries_of(credits[0], tracks)
    shares = weights.repeat(lengths) * (1 / lengths.repeat(lengths)).astype(np.float32)
    credited = credits[1][places]
    artists, sums = _added_up(credited, shares)
    # A product of sparse matrices has the artist that it came upon last first: see kernels.product.
    order = np.argsort(-np.unique(credited, return_index=True)[1])
    artists, sums = artists[order], sums[order]
    return best(*_listed_near(artists, sums, lists), heard, n, ties)


def by_weights(
    plays: np.ndarray,
    half_life: float | None,
    lists: Neighbours,
    heard: np.ndarray,
    n: int,
    ties: np.ndarray,
) -> np.ndarray:
    """Return the n tracks with the largest sums over all played tracks, best first.

    Each track counts once, and half for every half_life of the plays after its last one. The rest
    is as in best_neighbours.

    >>> lists = Neighbours(np.array([0, 1, 2]), np.array([5, 6]), np.array([1, 1], "f4"))
    >>> by_weights(np.array([1, 1, 0]), 1.0, lists, np.array([]), 5, np.arange(9)).tolist()
    [5, 6]
    """
    tracks, since = np.unique(plays[::-1], return_index=True)
    weights = np.ones(len(tracks), np.float32)
    if half_life is not None:
        weights = np.exp2(-(since / half_life).astype(np.float32))
    return best(*_listed_near(tracks, weights, lists), heard, n, ties)


def _listed_near(
    rows: np.ndarray, weights: np.ndarray, lists: Neighbours
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tracks in the lists of some rows (m,), and sums of scores times weights (m,)."""
    places, lengths = entries_of(lists.offsets, rows)
    return _added_up(lists.items[places], lists.scores[places] * weights.repeat(lengths))


def _added_up(tracks: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different tracks, ascending, and the sums of their values, as float32.

    They are added one after the other, as products of sparse matrices are.
    """
    different, places = np.unique(tracks, return_inverse=True)
    sums = np.zeros(len(different), np.float32)
    np.add.at(sums, places, values)
    return different, sums


def best(
    tracks: np.ndarray, sums: np.ndarray, heard: np.ndarray, n: int, ties: np.ndarray
) -> np.ndarray:
    """Return the n tracks with the largest positive sums, none of `heard`.

    Of two tracks with equal sums, the one with the lower place in `ties` comes first.

    >>> sums, ties = np.array([1.0, 1.0, 5.0, 0.0]), np.array([0, 1, 7, 3, 2, 5, 4, 6, 8, 9])
    >>> best(np.array([4, 2, 9, 3]), sums, np.array([9]), 2, ties).tolist()
    [4, 2]
    """
    kept = (sums > 0) & ~np.isin(tracks, heard)
    tracks, sums = tracks[kept], sums[kept]
    ordered: np.ndarray = tracks[np.lexsort((ties[tracks], -sums))][:n]
    return ordered
