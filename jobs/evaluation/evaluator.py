"""Score any lists by the plays of a window's holdout, all in the same way."""

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

KS = (5, 10, 100)  # lengths of lists that are scored
K = 10  # the length for which intervals, comparisons and segments are computed
USERS_A_BLOCK = 256


Lists = dict[str, np.ndarray]  # by name: (users, 100) items, best first


@dataclass(frozen=True)
class Evaluator:
    """A window's snapshot, the users of its holdout, and the top list as each of them gets it."""

    snapshot: Snapshot
    later: Holdout
    top: np.ndarray  # (users, 100) items

    @classmethod
    def read(
        cls, window: Path, most: int, switched_off: frozenset[str] = frozenset()
    ) -> "Evaluator":
        """Read a window with at most `most` users of its holdout, drawn at random.

        The generators that are switched off propose nothing, as in jobs.rank. Raises JobError if
        nobody in the holdout has a label.
        """
        snapshot = Snapshot.read(window, switched_off)
        later = holdout.read(window, snapshot.data, snapshot.hyperparameters.heard).sample(most)
        if not len(later.user_ids):
            raise JobError(
                f"no user in {window} played a track after the cut that could be recommended, so "
                "there is nothing to score: run run_all.sh with a larger --share"
            )

        disliked = holdout.disliked_by(window, snapshot.data, later.user_ids)

        def unheard(first: int, last: int) -> np.ndarray:
            heard = snapshot.hyperparameters.heard
            of_block = None if disliked is None else csr_matrix(disliked[first:last])
            out = holdout.kept_out(snapshot.data, later.row[first:last], heard, of_block)
            return first_unheard(snapshot.top, out)

        blocks = in_blocks(unheard, len(later.row), USERS_A_BLOCK, "evaluate")
        return cls(snapshot, later, np.concatenate(list(blocks)))

    @property
    def warm(self) -> np.ndarray:
        """Return which users have a past, (users,) bool."""
        warm: np.ndarray = self.later.row != COLD
        return warm

    @cached_property
    def listeners(self) -> np.ndarray:
        """Return how many users have heard each track before the cut, (items,)."""
        return np.asarray(self.snapshot.data.pairs().getnnz(axis=0))

    @cached_property
    def traits(self) -> tuple[str, csr_matrix | np.ndarray]:
        """Return by what tracks are similar, in words, and the tracks' vectors (items, d) for it.

        The vectors have unit length: those of the genres, or of the ALS model if no track has one.
        """
        if self.snapshot.genres.nnz:
            return "genres", self.snapshot.genres
        items = self.snapshot.item_factors
        lengths = np.linalg.norm(items, axis=1, keepdims=True)
        return "the vectors of ALS", items / np.maximum(lengths, 1e-9)

    def of_warm(self, lists: np.ndarray) -> np.ndarray:
        """Return lists (users, 100): those of the users with a past, and empty ones for others."""
        result = np.full((len(self.warm), lists.shape[1]), NOTHING, np.int32)
        result[self.warm] = lists
        return result

    def ndcg(self, lists: Lists) -> dict[str, np.ndarray]:
        """Return NDCG@10 of each user, (users,), by list."""
        labels = self.later.labels
        return {name: accuracy.per_user(items, labels, K)["ndcg"] for name, items in lists.items()}

    def scores(self, lists: Lists) -> dict[str, Scores]:
        """Return mean metrics by list, kind of user, length ("@10") and metric.

        The kinds are "all", "warm" and "cold"; a kind without users is left out.
        """
        kinds = {"all": np.ones(len(self.warm), bool), "warm": self.warm, "cold": ~self.warm}
        result: dict[str, Scores] = {}
        for name, found in lists.items():
            for k in KS:
                values = self._values(found, k)
                for kind, users in kinds.items():
                    if users.any():
                        means = {metric: float(of[users].mean()) for metric, of in values.items()}
                        means["coverage"] = beyond_accuracy.coverage(
                            found[users], k, self.listeners
                        )
                        result.setdefault(name, {}).setdefault(kind, {})[f"@{k}"] = means
        return result

    def _values(self, found: np.ndarray, k: int) -> dict[str, np.ndarray]:
        """Return every metric of each user, (users,), by name."""
        labels, users = self.later.labels, self.snapshot.data.shape[0]
        return accuracy.per_user(found, labels, k) | {
            "novelty": beyond_accuracy.novelty(found, k, self.listeners, users),
            "popularity": beyond_accuracy.popularity(found, k, self.listeners, users),
            "diversity": beyond_accuracy.diversity(found, k, self.traits[1]),
            "serendipity": beyond_accuracy.serendipity(found, self.top, labels, k),
        }
