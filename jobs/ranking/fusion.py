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

from jobs.contract.ragged import entries_of, offsets_of_sorted, row_of_each
from jobs.metrics import accuracy
from jobs.ranking.candidates import GENERATORS, Candidates

CONSTANT = 20


LADDER = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0)


MARGIN = 1.002  # a step has to gain that much


MOST_ROUNDS = 5


K = 10


@dataclass(frozen=True)
class Sample:
    """Candidates of some users: what each generator adds to them, and which were played.

    parts (n, generators) float32; pair (m,) candidates that compete with the positive ones, and
    of (m,) with which of those; played (p,) the positive candidates; worth (p,) what NDCG@10 gains
    by one of them in the first place, as a share of the sum over all users.
    """

    parts: np.ndarray
    pair: np.ndarray
    of: np.ndarray
    played: np.ndarray
    worth: np.ndarray

    def ndcg(self, weights: np.ndarray) -> float:
        """NDCG@10 of the candidates in the order of the weighted sums; equal ones by item."""
        scores = self.parts @ weights
        own, other = scores[self.played][self.of], scores[self.pair]
        ahead = (other > own) | ((other == own) & (self.pair < self.played[self.of]))
        place = np.bincount(self.of, ahead, minlength=len(self.played))
        return float(np.sum(self.worth / np.log2(place + 2), where=place < K))


def parts(pool: Candidates) -> np.ndarray:
    """(n, generators) float32: 1 / (20 + place), 0 where a generator doesn't list the candidate."""
    return np.column_stack(
        [np.nan_to_num(1 / (CONSTANT + pool.places[name])) for name in GENERATORS]
    )


def sample(pool: Candidates, labels: csr_matrix) -> Sample:
    """The candidates of the first users of a block, for whom there are labels (users, items)."""
    starts = offsets_of_sorted(pool.row, labels.shape[0])
    n = starts[-1]
    played = np.flatnonzero(accuracy.marked(labels, pool.row[:n], pool.item[:n]))
    row = pool.row[played]
    pair, counts = entries_of(starts, row)
    of = row_of_each(counts)
    ideal = np.cumsum(1 / np.log2(np.arange(2, K + 2)))
    relevant = np.minimum(labels.getnnz(axis=1), K)
    return Sample(parts(pool)[:n], pair, of, played, 1 / ideal[relevant[row] - 1])


def fit(samples: list[Sample]) -> np.ndarray:
    """(generators,) float32: the weights with the best NDCG@10, from the best generator's alone on.

    One weight after another moves to its best value until none gains.
    """

    def total(weights: np.ndarray) -> float:
        return sum(sample.ndcg(weights) for sample in samples)

    alone = np.eye(len(GENERATORS), dtype=np.float32)
    weights = max(alone, key=total)
    best = total(weights)
    for _ in range(MOST_ROUNDS):
        before = best
        for i in range(len(GENERATORS)):
            for value in LADDER:
                tried = np.where(alone[i] > 0, np.float32(value), weights)
                if tried.any() and (found := total(tried)) > MARGIN * best:
                    weights, best = tried, found
        if best == before:
            break
    return weights
