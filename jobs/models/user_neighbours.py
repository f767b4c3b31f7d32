"""Score tracks for a user by what the users with the most similar taste play (user-kNN).

The similarity of two users is the cosine of their profiles, in which a track that few people play
weighs more (its inverse document frequency, as in the search of texts). The score of a track is the
sum of the squared similarities of the 100 nearest users who have played it (the method is that of
Herlocker et al., "An Algorithmic Framework for Performing Collaborative Filtering", 1999, for plays
instead of ratings), where a neighbour has played a track if it is among their last RECENT plays:

    neighbour   similarity   weight   has played     scores of the user
    A           0.5          0.25     tracks 1, 2    track 2: 0.25 + 0.09 = 0.34
    B           0.3          0.09     tracks 2, 3    track 1: 0.25, track 3: 0.09

No user decides what another one gets: a neighbour's plays of a track count once, and the weight of
a neighbour is at most MOST_OF_MEDIAN times the median weight of all neighbours.

Comparing a user with another one takes a multiplication for each track that both have played. So
neighbours come from a sample of the users, as large as the work allows (see sample).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.ids import Ties, find, ties_of
from jobs.contract.plays import RECENT
from jobs.data import sampling
from jobs.data.bounds import TrackCounts
from jobs.data.listens import Listens
from jobs.models.ranked_lists import best_of_rows, matrix_of_lists
from jobs.models.sparse import product, scale_rows

NEIGHBOURS = 100  # of each user
MOST_OF_MEDIAN = 10  # times the median weight of a user's neighbours: the most that one may weigh
MOST_USERS = 50_000  # in the sample from which neighbours come
FEWEST_USERS = 1_000  # of a sample that is not everyone: fewer are no use
MULTIPLICATIONS_A_USER = 20_000  # the most, on average, for comparing a user with the sample
MULTIPLICATIONS = 1_000_000_000  # for comparing all users: allowed where that is more
USERS_A_BLOCK = 128  # users who are compared with the sample at a time
SEED = 20


@dataclass(frozen=True)
class Neighbourhood:
    """The users from whom neighbours come, and how all users are compared with them."""

    user_ids: np.ndarray  # (sample,) ascending
    played: csr_matrix  # (sample, items): 1 where the track is among the user's last plays
    rarity: np.ndarray  # (items,) float32: how much a track counts in a profile
    profiles: csr_matrix  # (items, sample): the profiles, of unit length

    @classmethod
    def of(cls, data: Listens, counted: np.ndarray, counts: TrackCounts) -> "Neighbourhood":
        """Draw the sample; counts are those of the users for whom counted (users,) is true."""
        listeners, rarity = counts.listeners.astype(np.float64), rarity_of(counted, counts)
        members = data.of_users(sample(data, counted, lambda some: some.pairs() @ listeners))
        profiles = csr_matrix(_unit(members.pairs(), rarity).T)
        return cls(members.user_ids, members.latest(RECENT).pairs(), rarity, profiles)

    @cached_property
    def ties(self) -> Ties:
        """Return the order in which users with equal similarities are taken."""
        return ties_of(self.user_ids)

    def scores(self, block: Listens, half_life: float | None) -> csr_matrix:
        """Return scores (users, items) float32 for a block of users; nobody is their own neighbour.

        half_life is that of the users' plays, in plays.
        """
        plays = block.weights(0, half_life)
        return product(self.weights(plays, block.user_ids), self.played)

    def weights(self, plays: csr_matrix, user_ids: np.ndarray) -> csr_matrix:
        """Return how much each user of the sample counts as a neighbour, (users, sample) float32.

        plays (users, items) is how much each play of the users counts.
        """
        items = np.full((len(user_ids), NEIGHBOURS), -1, np.int32)
        weights = np.zeros(items.shape, np.float32)
        own = find(self.user_ids, user_ids)
        for first in range(0, len(user_ids), USERS_A_BLOCK):
            rows = slice(first, first + USERS_A_BLOCK)
            similar = product(_unit(plays[rows], self.rarity), self.profiles)
            row = np.repeat(own[rows], np.diff(similar.indptr))
            similar.data[similar.indices == row] = 0
            items[rows], weights[rows] = best_of_rows(similar, NEIGHBOURS, self.ties)
        return matrix_of_lists(items, bounded(weights), len(self.user_ids))


def rarity_of(counted: np.ndarray, counts: TrackCounts) -> np.ndarray:
    """Return how much a track counts in a profile, (items,) float32: the more, the rarer it is."""
    rarity: np.ndarray = np.log((1 + counted.sum()) / (1 + counts.listeners.astype(np.float64)))
    return rarity.astype(np.float32)


def sample(
    data: Listens, counted: np.ndarray, costs_of: Callable[[Listens], np.ndarray]
) -> np.ndarray:
    """Return the rows of the users from whom neighbours come, ascending.

    They are drawn by a hash among the users for whom counted (users,) bool is true, at most
    MOST_USERS. costs_of says how many multiplications, or steps like these, it takes to compare
    everybody with each of some users: for profiles, as many as their tracks have listeners. So the
    cost of a sample is known beforehand, and the sample has no more users than
    MULTIPLICATIONS_A_USER or MULTIPLICATIONS allow. It is empty if these are fewer than
    FEWEST_USERS, and not all.
    """
    users = np.flatnonzero(counted)
    drawn: np.ndarray = users[sampling.order(data.user_ids[users], SEED)[:MOST_USERS]]
    rows = np.sort(drawn)
    costs = np.zeros(len(counted))
    costs[rows] = costs_of(data.of_users(rows))
    most = max(MULTIPLICATIONS, MULTIPLICATIONS_A_USER * len(counted))
    drawn = drawn[np.cumsum(costs[drawn]) <= most]
    if len(drawn) < min(FEWEST_USERS, len(users)):
        return drawn[:0]
    return np.sort(drawn)


def bounded(similarities: np.ndarray) -> np.ndarray:
    """Return the weights (users, k) of neighbours by their similarities, which fall in each row.

    Here the median weight is 0.01, so that no neighbour weighs more than 0.1:

    >>> bounded(np.array([[0.9, 0.1, 0.1, -np.inf]])).round(3).tolist()
    [[0.1, 0.01, 0.01, 0.0]]
    """
    weights = np.square(np.maximum(similarities, 0))
    found = np.count_nonzero(weights, axis=1)
    median = np.take_along_axis(weights, found[:, None] // 2, axis=1)
    result: np.ndarray = np.minimum(weights, MOST_OF_MEDIAN * median)
    return result


def _unit(plays: csr_matrix, rarity: np.ndarray) -> csr_matrix:
    """Return rows of unit length: plays (users, items), each times the rarity of its track."""
    weighted = plays.copy()
    weighted.data *= rarity[weighted.indices]
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return scale_rows(weighted, 1 / np.maximum(lengths, 1e-9))
