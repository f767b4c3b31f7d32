"""Weighted reciprocal-rank fusion of the generators: one order of candidates from all their places.

A candidate scores the sum over generators of weight / (20 + place), after Cormack, Clarke and
Büttcher, "Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning Methods"
(2009).
The weights are those with the best NDCG@10 on some users of the windows: equal ones are worse than
the best generator alone. It learns next to nothing, so it holds where a ranker has too little to
learn from.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.ragged import entries_of, offsets_of_sorted, place_in_row, row_of_each
from jobs.metrics import accuracy
from jobs.ranking.candidates import GENERATORS, Candidates
from jobs.selection import hill_climb
from jobs.selection.hill_climb import Axis, climb, sweep

CONSTANT = 20
LADDER = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0)
MARGIN = 1.002  # a step has to gain that much
MOST_ROUNDS = 5
K = 10


@dataclass(frozen=True)
class Sample:
    """Candidates of some users: what each generator adds to them, and which were played.

    The candidates of a user fill a row of a table. So a played candidate is compared with its whole
    row at once, which takes a quarter of the time that a list of all pairs would.

    parts (n, generators) float32: what a candidate gets from each generator, before the weights
    table (users, longest) int64: the candidates of each row in order; n where a row has no more
    row, column (p,) int64: where the played candidates stand in the table
    worth (p,) float64: what each adds to the sum of the users' NDCG@10 if it comes first
    """

    parts: np.ndarray
    table: np.ndarray
    row: np.ndarray
    column: np.ndarray
    worth: np.ndarray

    def ndcg(self, weights: np.ndarray) -> float:
        """NDCG@10 of the candidates in the order of the weighted sums; equal ones by item."""
        scores = np.append(self.parts @ weights, np.float32(-np.inf))
        others = scores[self.table][self.row]
        own = others[np.arange(len(others)), self.column][:, None]
        earlier = np.arange(others.shape[1]) < self.column[:, None]
        place = np.count_nonzero((others > own) | ((others == own) & earlier), axis=1)
        return float(np.sum(self.worth / np.log2(place + 2), where=place < K))


def parts(pool: Candidates) -> np.ndarray:
    """(n, generators) float32: 1 / (20 + place), 0 where a generator doesn't list the candidate."""
    return np.column_stack(
        [np.nan_to_num(1 / (CONSTANT + pool.places[name])) for name in GENERATORS]
    )


def sample(pool: Candidates, labels: csr_matrix) -> Sample:
    """The candidates of the first users of a block, for whom there are labels (users, items)."""
    offsets = offsets_of_sorted(pool.row, labels.shape[0])
    n = offsets[-1]
    played = np.flatnonzero(accuracy.marked(labels, pool.row[:n], pool.item[:n]))
    users, row = np.unique(pool.row[played], return_inverse=True)
    candidates, lengths = entries_of(offsets, users)
    table = np.full((len(users), lengths.max(initial=1)), n)
    table[row_of_each(lengths), place_in_row(lengths)] = candidates
    ideal = np.cumsum(1 / np.log2(np.arange(2, K + 2)))
    relevant = np.minimum(labels.getnnz(axis=1), K)[users[row]]
    return Sample(
        parts(pool)[:n], table, row, played - offsets[users[row]], 1 / ideal[relevant - 1]
    )


def fit(samples: list[Sample]) -> np.ndarray:
    """(generators,) float32: the weights with the best NDCG@10, from the best generator's alone on.

    One weight after another moves to a value that gains more than MARGIN, until none does.
    """

    def total(weights: hill_climb.Point) -> float:
        vector = np.array([weights[name] for name in GENERATORS], np.float32)
        return sum(sample.ndcg(vector) for sample in samples) if vector.any() else 0.0

    alone = [{name: float(name == one) for name in GENERATORS} for one in GENERATORS]
    axes = {name: Axis(LADDER, sweep(MARGIN)) for name in GENERATORS}
    _, weights = climb(total, max(alone, key=total), axes, MOST_ROUNDS)
    return np.array([weights[name] for name in GENERATORS], np.float32)
