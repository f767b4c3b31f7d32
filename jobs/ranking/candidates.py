"""The candidates of each user: the tracks that generators propose and that the ranker orders.

features.featured_candidates collects what the generators of the table in generators.py propose.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.top_k import NOTHING
from jobs.data.listens import Listens
from jobs.models.ranked_lists import best_of_rows
from jobs.ranking.generators import GENERATORS, no_scores
from jobs.ranking.snapshot import Snapshot


@dataclass
class Candidates:
    """The candidates of a block of users, in the order of users, then of ties between items."""

    row: np.ndarray  # (n,) int32: the user, counted from the block's first
    item: np.ndarray  # (n,) int32: the track
    top_place: np.ndarray  # (n,): the track's place in the top list, from 0
    # By generator, (n,): the place in its list for the user, from 1; NaN if the track isn't in it.
    places: dict[str, np.ndarray] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)  # by name, (n,) float32

    def matrix(self) -> np.ndarray:
        """Return the features as a matrix (n, features) float32, one feature after the other.

        CatBoost reads a matrix in this order without copying it.
        """
        return np.array(list(self.features.values()), np.float32).T

    def of_users(self, some: np.ndarray) -> "Candidates":
        """Return the candidates of some of the block's users (users,) bool, renumbered from 0."""
        if some.all():
            return self
        kept = some[self.row]
        return Candidates(
            (np.cumsum(some, dtype=np.int32) - 1)[self.row[kept]],
            self.item[kept],
            self.top_place[kept],
            {name: values[kept] for name, values in self.places.items()},
            {name: values[kept] for name, values in self.features.items()},
        )


def generate(
    snapshot: Snapshot, block: Listens, length: int | None = None
) -> tuple[dict[str, csr_matrix], dict[str, np.ndarray]]:
    """Return scores (users, items) and lists (users, length) of items, each by generator.

    No list has a track that is kept out for its user, though the scores may have some. block has
    the listens of the users. Without a length, each list is as long as the table of
    generators says.
    """
    scores, lists = {}, {}
    out = block.kept_out(snapshot.hyperparameters.heard)
    for name, generator in GENERATORS.items():
        scores_of = no_scores if name in snapshot.switched_off else generator.scores
        scores[name] = scores_of(snapshot, block)
        lists[name], _ = best_of_rows(
            scores[name], length or generator.candidates, snapshot.data.ties, out
        )
    return scores, lists


def candidate_keys(lists: dict[str, np.ndarray], items: int) -> np.ndarray:
    """Return a key row * items + item for every listed item, ascending, each once.

    lists has the lists (users, k) of each generator; items is the number of all tracks. With ten
    tracks, user 1 and track 2 have the key 1 * 10 + 2 = 12, from which np.divmod(12, 10) gives both
    back.

    >>> lists = {"als": np.array([[2, NOTHING]] * 2), "similar": np.array([[0, 2], [2, NOTHING]])}
    >>> candidate_keys(lists, 10).tolist()
    [0, 2, 12]
    """
    listed = np.concatenate(list(lists.values()), axis=1)
    rows, places = np.nonzero(listed != NOTHING)
    keys: np.ndarray = rows.astype(np.int64) * items + listed[rows, places]
    keys.sort()  # takes a fifth of the time of np.unique, which hashes
    different: np.ndarray = keys[np.diff(keys, prepend=-1) > 0]
    return different


def places_of(listed: np.ndarray, keys: np.ndarray, items: int) -> np.ndarray:
    """Return the place of each key in one generator's lists, (keys,) float32, from 1, or NaN.

    listed (users, k) are the lists; keys are those of candidate_keys, ascending.

    >>> places_of(np.array([[0, 2], [2, NOTHING]]), np.array([0, 2, 5, 12]), 10).tolist()
    [1.0, 2.0, nan, 1.0]
    """
    rows, places = np.nonzero(listed != NOTHING)
    result = np.full(len(keys), np.nan, np.float32)
    result[np.searchsorted(keys, rows.astype(np.int64) * items + listed[rows, places])] = places + 1
    return result
