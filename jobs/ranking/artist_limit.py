"""Limit how many of the first tracks of a list are by one artist.

A user who plays one artist much gets a list of that artist. With a limit of 2, each artist has at
most two of the first ten tracks: a track beyond that moves down behind the first ten, and nothing
leaves the list. A track counts for each of its artists.

A limit costs hits where people play on with the same artist. So jobs.rank chooses the smallest
limit that costs at most MOST_COST of NDCG@10 on the window "validation", or none.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.ragged import entries_of, row_of_each
from jobs.contract.top_k import NOTHING
from jobs.metrics import accuracy

FIRST = 10  # tracks of a list in which artists are counted
LADDER = (2, 3, 4, 5, 6, 7, 8)  # limits that are tried
MOST_COST = 0.005  # share of NDCG@10 that a limit may cost
OFF = "off"
USERS_A_BLOCK = 2048


@dataclass(frozen=True)
class Choice:
    """A limit, and why it was chosen."""

    limit: int | None
    reason: str
    ndcg: dict[str, float]  # NDCG@10 on the window "validation", by limit; empty if not compared


def limited(items: np.ndarray, artists: csr_matrix, limit: int | None) -> np.ndarray:
    """Return the order in which the limit is kept, (users, k): places in lists of items (users, k).

    The first ten are the first tracks that can be taken without more than `limit` of one artist.
    If these are fewer than ten, the next tracks of the list follow them, whoever they are by.
    artists (items, artists) is nonzero where the track has the artist. NOTHING ends short lists.

    Tracks 0, 1 and 2 are by one artist, and the list has only four tracks:

    >>> artists = csr_matrix(np.array([[1, 0], [1, 0], [1, 1], [0, 1]]))
    >>> limited(np.array([[0, 1, 2, 3]]), artists, 2).tolist()
    [[0, 1, 3, 2]]
    """
    order = np.tile(np.arange(items.shape[1]), (len(items), 1))
    if limit is None or not len(items):
        return order
    crowded = np.flatnonzero(_most(tracks_by_artist(items[:, :FIRST], artists)) > limit)
    if len(crowded):
        taken = _taken(items[crowded], artists, limit)
        order[crowded] = np.argsort(~taken, axis=1, kind="stable")
    return order


def _taken(items: np.ndarray, artists: csr_matrix, limit: int) -> np.ndarray:
    """Return which places of lists (users, k) are taken for the first ten, (users, k) bool."""
    users, k = items.shape
    listed = items != NOTHING
    place, row = np.nonzero(listed.T)  # place after place
    at, lengths = entries_of(artists.indptr, items[row, place])
    entry = row_of_each(lengths)
    row, ends = row[entry], np.searchsorted(place[entry], np.arange(k + 1))
    keys = row * np.int64(artists.shape[1]) + artists.indices[at]
    pairs, pair = np.unique(keys, return_inverse=True)  # of a user and an artist
    by_artist = np.zeros(len(pairs), np.int64)
    n_taken = np.zeros(users, np.int64)
    taken = np.zeros((users, k), bool)
    for i in range(k):
        part = slice(ends[i], ends[i + 1])
        may = listed[:, i] & (n_taken < FIRST)
        may[row[part][by_artist[pair[part]] >= limit]] = False
        taken[:, i] = may
        n_taken += may
        by_artist[pair[part][may[row[part]]]] += 1  # each pair is there once
        if (n_taken == FIRST).all():
            break
    return taken


def tracks_by_artist(items: np.ndarray, artists: csr_matrix) -> csr_matrix:
    """Return how many tracks of each list (users, k) are by each artist, (users, artists)."""
    row, place = np.nonzero(items != NOTHING)
    at, lengths = entries_of(artists.indptr, items[row, place])
    entries = np.ones(len(at), np.int64), (row[row_of_each(lengths)], artists.indices[at])
    return csr_matrix(entries, (len(items), artists.shape[1]))  # adds up equal places


def _most(counts: csr_matrix) -> np.ndarray:
    """Return the largest count of each row, (rows,)."""
    return np.asarray(counts.max(axis=1).todense()).ravel()


def spread(items: np.ndarray, artists: csr_matrix) -> tuple[float, float]:
    """Return two means over lists (users, k), of their first ten tracks.

    The first is the number of different artists, the second the number of tracks by the artist
    who has most of them.

    >>> artists = csr_matrix(np.array([[1, 0], [1, 0], [1, 1], [0, 1]]))
    >>> spread(np.array([[0, 1, 2, 3], [0, 1, NOTHING, NOTHING]]), artists)
    (1.5, 2.5)
    """
    counts = tracks_by_artist(items[:, :FIRST], artists)
    return float(counts.getnnz(axis=1).mean()), float(_most(counts).mean())


def choose(asked: str, items: np.ndarray, labels: csr_matrix, artists: csr_matrix) -> Choice:
    """Return the limit for the final lists: the one that was asked for, or by NDCG@10.

    `asked` is "auto", "off" or a number. items (users, k) are lists without a limit, and labels
    (users, items) what the users played.
    """
    if asked != "auto":
        return Choice(None if asked == OFF else int(asked), "as asked", {})
    if not artists.nnz:
        return Choice(None, "no track has an artist", {})
    ndcg = {str(limit or OFF): _ndcg(items, labels, artists, limit) for limit in (None, *LADDER)}
    best = ndcg[OFF]
    if not best:
        return Choice(None, "the lists have no hit on the window validation", ndcg)
    costs = {limit: 1 - ndcg[str(limit)] / best for limit in LADDER}
    for limit, cost in costs.items():
        if cost <= MOST_COST:
            return Choice(limit, f"NDCG@10 {-cost:+.2%}", ndcg)
    least = min(costs, key=lambda limit: costs[limit])
    return Choice(None, f"a limit of {least} would cost {costs[least]:.2%} of NDCG@10", ndcg)


def _ndcg(items: np.ndarray, labels: csr_matrix, artists: csr_matrix, limit: int | None) -> float:
    """Return the mean NDCG@10 of the lists with a limit, a block of users at a time."""
    total = 0.0
    for first in range(0, len(items), USERS_A_BLOCK):
        block = items[first : first + USERS_A_BLOCK]
        found = np.take_along_axis(block, limited(block, artists, limit), axis=1)
        of_block = csr_matrix(labels[first : first + USERS_A_BLOCK])
        total += float(accuracy.per_user(found, of_block, FIRST)["ndcg"].sum())
    return total / max(len(items), 1)
