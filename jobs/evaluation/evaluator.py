"""The users of a window's holdout, by whom any list is judged in the same way."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.results import Scores
from jobs.contract.storage import JobError
from jobs.contract.top_k import NOTHING
from jobs.data import holdout
from jobs.data.holdout import COLD, Holdout
from jobs.metrics import accuracy, beyond_accuracy
from jobs.models.ranked_lists import first_unheard
from jobs.ranking.snapshot import Snapshot
from jobs.runtime.parallel import in_blocks

KS = (5, 10, 100)
K = 10  # where one figure has to do
USERS_A_BLOCK = 512


Lists = dict[str, np.ndarray]  # by name: (users, 100) items, best first


@dataclass(frozen=True)
class Evaluator:
    """A window's past, its holdout, and the top list as each of the holdout's users gets it."""

    past: Snapshot
    later: Holdout
    top: np.ndarray  # (users, 100) items

    @classmethod
    def read(cls, window: Path, most: int) -> "Evaluator":
        """Read a window with at most so many users of its holdout."""
        past = Snapshot.read(window)
        later = holdout.read(window, past.data, past.chosen.heard).sample(most)
        if not len(later.user_ids):
            raise JobError(f"nobody in {window} played anything new: there is nothing to score")

        def unheard(first: int, last: int) -> np.ndarray:
            known = holdout.heard_by(past.data, later.row[first:last])
            return first_unheard(past.top, known if past.chosen.heard == "exclude" else 0 * known)

        blocks = in_blocks(unheard, len(later.row), USERS_A_BLOCK, "evaluate")
        return cls(past, later, np.concatenate(list(blocks)))

    @property
    def warm(self) -> np.ndarray:
        """(users,) bool: who has a past."""
        warm: np.ndarray = self.later.row != COLD
        return warm

    @cached_property
    def listeners(self) -> np.ndarray:
        """(items,): how many users have heard the track."""
        return np.asarray(self.past.data.pairs().getnnz(axis=0))

    @cached_property
    def traits(self) -> tuple[str, csr_matrix | np.ndarray]:
        """What makes tracks alike, and a unit vector of it for each: genres, or else the model."""
        if self.past.genres.nnz:
            return "genres", self.past.genres
        items = self.past.item_factors
        lengths = np.linalg.norm(items, axis=1, keepdims=True)
        return "the vectors of ALS", items / np.maximum(lengths, 1e-9)

    def of_warm(self, lists: np.ndarray) -> np.ndarray:
        """(users, 100): lists of the users with a past, and none for the others."""
        result = np.full((len(self.warm), lists.shape[1]), NOTHING, np.int32)
        result[self.warm] = lists
        return result

    def ndcg(self, lists: Lists) -> dict[str, np.ndarray]:
        """NDCG@10 of each user (users,) by list."""
        labels = self.later.labels
        return {name: accuracy.per_user(own, labels, K)["ndcg"] for name, own in lists.items()}

    def scores(self, lists: Lists) -> dict[str, Scores]:
        """Metrics by list, kind of user (all, warm, cold), k and name; no kind without users."""
        kinds = {"all": np.ones(len(self.warm), bool), "warm": self.warm, "cold": ~self.warm}
        catalogue = int(np.count_nonzero(self.listeners))
        result: dict[str, Scores] = {}
        for name, found in lists.items():
            for k in KS:
                values = self._values(found, k)
                for kind, users in kinds.items():
                    if users.any():
                        means = {metric: float(of[users].mean()) for metric, of in values.items()}
                        means["coverage"] = beyond_accuracy.coverage(found[users], k, catalogue)
                        result.setdefault(name, {}).setdefault(kind, {})[f"@{k}"] = means
        return result

    def _values(self, found: np.ndarray, k: int) -> dict[str, np.ndarray]:
        """Every metric of each user, (users,) by name."""
        labels, users = self.later.labels, self.past.data.shape[0]
        return accuracy.per_user(found, labels, k) | {
            "novelty": beyond_accuracy.novelty(found, k, self.listeners, users),
            "popularity": beyond_accuracy.popularity(found, k, self.listeners, users),
            "diversity": beyond_accuracy.diversity(found, k, self.traits[1]),
            "serendipity": beyond_accuracy.serendipity(found, self.top, labels, k),
        }
