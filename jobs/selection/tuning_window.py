"""Windows on which hyperparameters are tried, and the NDCG@10 of each generator on them."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.plays import RECENT
from jobs.contract.top_k import NormOrder, top_k
from jobs.data import sampling
from jobs.data.holdout import Holdout
from jobs.data.holdout import read as read_holdout
from jobs.data.listens import Listens
from jobs.data.listens import load as load_listens
from jobs.metrics import accuracy
from jobs.models import als_model
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.next_played import Plays, followers_a_track, normalise
from jobs.models.popularity import popularity
from jobs.models.ranked_lists import best_of_rows, first_unheard, matrix_of_lists
from jobs.runtime.parallel import in_blocks

MOST_LISTENS = {"quick": 200_000, "full": 2_000_000}  # listens that are kept, by effort
LISTENS_A_TRACK = {"quick": 2, "full": 20}  # kept for each track if that is more than MOST_LISTENS
MOST_USERS = {"quick": 1_000, "full": 20_000}  # users of the holdout who are scored
FEWEST_USERS = 1_000  # users who are kept where each has many listens
MOST_OF_HEAVY = (
    5  # times MOST_LISTENS that these users may keep together; then their oldest are cut
)
USERS_A_BLOCK = 512
SAMPLE_SEED = 20
K = 10  # the length at which NDCG is computed


@dataclass(frozen=True)
class TuningWindow:
    """A window's listens, and users of its holdout with what they played after the cut."""

    listens: Listens
    holdout: Holdout  # its rows are those of `listens`
    heard: Listens  # all listens of the same users, also those that were cut

    @classmethod
    def read(cls, window: Path, effort: str, heard: str) -> "TuningWindow":
        """Read a window, cut down to a random sample of its users where it is large.

        effort ("quick" or "full") sets how many listens are kept, and how many users are scored.
        Where users have so many listens each that the sample would have few users, FEWEST_USERS are
        kept, of whom each brings their latest listens.
        """
        listens = load_listens(window)
        holdout = read_holdout(window, listens, heard).warm()
        n_users, n_tracks = listens.shape
        most = max(MOST_LISTENS[effort], LISTENS_A_TRACK[effort] * n_tracks)
        kept = int(n_users * min(1, most / max(len(listens.item), 1)))
        users = sampling.drawn(listens.user_ids, max(kept, FEWEST_USERS), SAMPLE_SEED)
        holdout = holdout.take(np.isin(holdout.row, users))
        rows = np.searchsorted(users, holdout.row)
        holdout = Holdout(holdout.user_ids, rows, holdout.labels).sample(MOST_USERS[effort])
        whole = listens.of_users(users)
        latest = whole.latest(most_each(np.diff(whole.starts), MOST_OF_HEAVY * most))
        return cls(latest, holdout, whole)

    @cached_property
    def source_tracks(self) -> np.ndarray:
        """Return the tracks (n,) among the last plays of the scored users, ascending.

        Relations between tracks need no other rows.
        """
        return np.unique(self.listens.of_users(self.holdout.row).latest(RECENT).item)

    @cached_property
    def times_played(self) -> np.ndarray:
        """Return how often each track is played, within the bounds of one user's part, (items,)."""
        return Plays.of(self.listens, None).times

    def ndcg(self, recommend: Callable[[np.ndarray, csr_matrix], np.ndarray], heard: str) -> float:
        """Return the mean NDCG@10 of the scored users.

        recommend gets rows of users (b,) and what they may not be recommended (b, items), and
        returns items (b, at least 10), best first.
        """
        rows = self.holdout.row

        def block(first: int, last: int) -> np.ndarray:
            users = rows[first:last]
            excluded = self.heard.of_users(users).kept_out(heard)
            items = recommend(users, excluded)
            labels = csr_matrix(self.holdout.labels[first:last])
            return accuracy.per_user(items, labels, K)["ndcg"]

        values = list(in_blocks(block, len(rows), USERS_A_BLOCK, "tune"))
        return float(np.concatenate(values).mean()) if values else 0.0


def most_each(counts: np.ndarray, most: int) -> int:
    """Return how many listens each user may bring, so that all bring `most` together at most.

    counts (users,) are the listens that each user has. It is at least 1.

    >>> most_each(np.array([10, 2, 7]), 12), most_each(np.array([10, 2, 7]), 100)
    (5, 10)
    """
    largest = int(counts.max(initial=1))
    fits = bisect_right(range(1, largest + 1), most, key=lambda n: np.minimum(counts, n).sum())
    return max(fits, 1)


def score_popular(window: TuningWindow, hyperparameters: Hyperparameters) -> float:
    """Return the NDCG@10 of the top list."""
    top = popularity(window.listens, hyperparameters.popular_half_life)["track_id"].to_numpy()
    order = np.searchsorted(window.listens.track_ids, top).astype(np.int32)
    return window.ndcg(lambda users, heard: first_unheard(order, heard), hyperparameters.heard)


def next_played_relation(
    window: TuningWindow, counts: csr_matrix, hyperparameters: Hyperparameters
) -> csr_matrix:
    """Return how likely the tracks are to follow each other, (window.source_tracks, items) float32.

    counts (window.source_tracks, items) are rows of models.next_played.follow_counts.
    """
    plays = window.times_played
    likely = normalise(counts, plays, hyperparameters)
    lists = best_of_rows(likely, followers_a_track(len(plays)), window.listens.ties)
    return matrix_of_lists(*lists, len(plays))


def score_next_played(
    window: TuningWindow, relation: csr_matrix, hyperparameters: Hyperparameters
) -> float:
    """Return the NDCG@10 of the generator "next_played", given its relation."""

    def recommend(users: np.ndarray, heard: csr_matrix) -> np.ndarray:
        recent = window.listens.of_users(users).latest(RECENT)
        profiles = recent.profiles(hyperparameters.next_half_life)[:, window.source_tracks]
        scores = csr_matrix(profiles @ relation)
        return best_of_rows(csr_matrix(scores - scores.multiply(heard)), K, window.listens.ties)[0]

    return window.ndcg(recommend, hyperparameters.heard)


def score_als(window: TuningWindow, items: np.ndarray, hyperparameters: Hyperparameters) -> float:
    """Return the NDCG@10 of ALS with item factors (items, d), with users folded in."""
    order, gram = NormOrder.of(items, window.listens.ties), items.T @ items

    def recommend(users: np.ndarray, heard: csr_matrix) -> np.ndarray:
        block = window.listens.of_users(users)
        vectors = als_model.recent_tastes(block, items, gram, hyperparameters)
        return top_k(vectors, order, K, heard)[0]

    return window.ndcg(recommend, hyperparameters.heard)


def score_replayed(window: TuningWindow, hyperparameters: Hyperparameters) -> float:
    """Return the NDCG@10 of the generator "replayed": each user's own plays."""

    def recommend(users: np.ndarray, _: csr_matrix) -> np.ndarray:
        profiles = window.listens.of_users(users).profiles(hyperparameters.own_half_life)
        return best_of_rows(profiles, K, window.listens.ties)[0]

    return window.ndcg(recommend, hyperparameters.heard)
