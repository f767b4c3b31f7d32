"""Order candidates by weighted reciprocal-rank fusion of their places in the generators' lists.

The score of a candidate is the sum of weight / (20 + place) over the generators that list it, after
Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank
Learning Methods" (2009). With the weights 1 for "als" and 0.5 for "popular",

    place 3 by als, place 1 by popular    1 / 23 + 0.5 / 21 = 0.0673
    place 1 by als only                   1 / 21            = 0.0476

so a track that both list comes before the first track of one.

The weights are those with the best NDCG@10 on some users of the windows. (With equal weights the
fusion is worse than the best generator alone.) Only one number for each generator is learned, so
the fusion also works where there are too few plays to train the ranker.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.ragged import entries_of, offsets_of_sorted, place_in_row, row_of_each
from jobs.metrics import accuracy
from jobs.ranking.candidates import Candidates
from jobs.ranking.generators import GENERATORS
from jobs.runtime.parallel import each
from jobs.selection import hill_climb
from jobs.selection.hill_climb import Axis, climb, sweep

CONSTANT = 20  # added to every place, so that the first few places differ less
LADDER = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0)  # the weights that are tried
MARGIN = 1.002  # factor that NDCG@10 has to gain for a weight to change
MOST_ROUNDS = 5  # over all weights
K = 10  # length of a list at which NDCG is computed


@dataclass(frozen=True)
class Sample:
    """Candidates of some users, with their parts of the score, and which of them were played.

    Users of whom no candidate was played are left out. The candidates of a user fill a row of a
    table. So a played candidate is compared with its whole row at once, which takes a quarter of
    the time of a list of all pairs.

    parts (n, generators) float32: see the function parts
    table (users, longest) int64: the candidates of each user, in order; n fills the shorter rows
    row, column (p,) int64: where the played candidates are in the table
    gain (p,) float64: what each adds to the sum of the users' NDCG@10 if it comes first
    """

    parts: np.ndarray
    table: np.ndarray
    row: np.ndarray
    column: np.ndarray
    gain: np.ndarray

    def ndcg(self, weights: np.ndarray) -> float:
        """Return the sum of the users' NDCG@10 if candidates are ordered by their weighted sums.

        weights (generators,); equal sums are in the order of candidates.
        """
        scores = np.append(self.parts @ weights, np.float32(-np.inf))
        others = scores[self.table][self.row]
        played = others[np.arange(len(others)), self.column][:, None]
        earlier = np.arange(others.shape[1]) < self.column[:, None]
        place = np.count_nonzero((others > played) | ((others == played) & earlier), axis=1)
        return float(np.sum(self.gain / np.log2(place + 2), where=place < K))


def parts(candidates: Candidates) -> np.ndarray:
    """Return 1 / (20 + place), (n, generators) float32; 0 for a track not in the list.

    >>> places = {name: np.array([np.nan]) for name in GENERATORS}
    >>> places |= {"popular": np.array([1.0]), "als": np.array([5.0])}
    >>> one = Candidates(np.array([0]), np.array([7]), np.array([0]), places)
    >>> parts(one).round(3)[0, :4].tolist()  # of "popular", "forecast", "als" and "next_played"
    [0.048, 0.0, 0.04, 0.0]
    """
    return np.column_stack(
        [np.nan_to_num(1 / (CONSTANT + candidates.places[name])) for name in GENERATORS]
    )


def sample(candidates: Candidates, labels: csr_matrix, some: np.ndarray) -> Sample:
    """Return the sample of some of a block's users (users,) bool, with labels (users, items)."""
    offsets = offsets_of_sorted(candidates.row, labels.shape[0])
    of_some = accuracy.marked(labels, candidates.row, candidates.item) & some[candidates.row]
    played = np.flatnonzero(of_some)
    users, row = np.unique(candidates.row[played], return_inverse=True)
    entries, lengths = entries_of(offsets, users)
    n = len(entries)
    table = np.full((len(users), lengths.max(initial=1)), n)
    table[row_of_each(lengths), place_in_row(lengths)] = np.arange(n)
    ideal = np.cumsum(1 / np.log2(np.arange(2, K + 2)))
    relevant = np.minimum(labels.getnnz(axis=1), K)[users[row]]
    return Sample(
        parts(candidates)[entries],
        table,
        row,
        played - offsets[users[row]],
        1 / ideal[relevant - 1],
    )


def fit(samples: list[Sample]) -> np.ndarray:
    """Return the weights (generators,) float32 with the best NDCG@10 on the samples.

    The search starts with a weight of 1 for the generator that is best alone and 0 for all others.
    One weight after another moves to a value that gains more than MARGIN, until none does.
    """

    def total(weights: hill_climb.Point) -> float:
        vector = np.array([weights[name] for name in GENERATORS], np.float32)
        return sum(each(lambda one: one.ndcg(vector), samples)) if vector.any() else 0.0

    alone = [{name: float(name == one) for name in GENERATORS} for one in GENERATORS]
    axes = {name: Axis(LADDER, sweep(MARGIN)) for name in GENERATORS}
    _, weights = climb(total, max(alone, key=total), axes, MOST_ROUNDS)
    return np.array([weights[name] for name in GENERATORS], np.float32)
