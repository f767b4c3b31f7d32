"""Well-known models that the final list is compared with, on the same past and the same users.

They are implicit's ALS with its defaults, implicit's ALS tuned, implicit's item kNN, and EASE
(Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", 2019) in closed form. If a model has
several settings to choose from, each is fitted in full to the window "validation", and the one with
the best NDCG@10 there is fitted to "test".
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
from implicit.utils import ParameterWarning
from scipy.sparse import csr_matrix

from jobs.contract.ids import Ties
from jobs.contract.names import LIST_LENGTH
from jobs.contract.results import BaselineSetting
from jobs.contract.top_k import NormOrder, top_k
from jobs.data import holdout, listens
from jobs.data.listens import Listens
from jobs.metrics import accuracy
from jobs.models.als_training import WORTH_THREADS
from jobs.models.ranked_lists import best_of_rows
from jobs.runtime.parallel import in_blocks
from jobs.runtime.progress import progress_bar

# Returns the items (b, 100), best first, for users with these rows (b,) and plays (b, items). The
# last argument (b, items), or None, marks what may not be recommended to them.
Recommend = Callable[[np.ndarray, csr_matrix, csr_matrix | None], np.ndarray]


Setting = dict[str, Any]


SEED = 20
K = 10  # length of a list at which NDCG is computed
MOST_USERS = 10_000  # users of the window "validation" on whom settings are compared
USERS_A_BLOCK, TRACKS_A_BLOCK = 256, 8192
EASE_LIMIT = 6_000  # users or tracks, whichever are fewer: EASE inverts a matrix with these rows
SIMILARITIES = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}


def implicit_als(weights: csr_matrix, ties: Ties, **setting: Any) -> Recommend:
    """Train implicit's ALS, with the settings of its constructor.

    The lists come from our exact search in its factors, since implicit's own lists are the same.
    """
    threads = 0 if weights.nnz > WORTH_THREADS else 1  # for implicit, 0 means all
    model = AlternatingLeastSquares(**setting, random_state=SEED, num_threads=threads)
    model.fit(weights, show_progress=False)
    users, order = model.user_factors, NormOrder.of(model.item_factors, ties)
    return lambda rows, _, heard: top_k(users[rows], order, LIST_LENGTH, heard)[0]


def item_knn(weights: csr_matrix, ties: Ties, similarity: str, neighbours: int) -> Recommend:
    """Compute implicit's similarities; a track scores their weighted sum over the user's plays."""
    model = SIMILARITIES[similarity](K=neighbours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParameterWarning)  # about a matrix that implicit makes
        model.fit(weights, show_progress=False)
    similarities = csr_matrix(model.similarity, dtype=np.float32)

    def recommend(_: np.ndarray, plays: csr_matrix, heard: csr_matrix | None) -> np.ndarray:
        scores = csr_matrix(plays @ similarities)
        if heard is not None:
            scores = csr_matrix(scores - scores.multiply(heard))
        return best_of_rows(scores, LIST_LENGTH, ties)[0]

    return recommend


def ease(weights: csr_matrix, ties: Ties, penalty: float) -> Recommend:
    """Fit EASE, the linear model of Steck 2019.

    The scores of a user with the plays x (1 or 0 for each track) are x B, where
    B = I - P / diag(P), P = (X'X + penalty I)^-1, and X are the plays of all users.
    """
    x = csr_matrix(weights.sign(), dtype=np.float64)
    times_p, diagonal = (_by_items if x.shape[1] <= x.shape[0] else _by_users)(x, penalty)

    def recommend(_: np.ndarray, plays: csr_matrix, heard: csr_matrix | None) -> np.ndarray:
        rows = csr_matrix(plays.sign(), dtype=np.float64)
        scores = rows.toarray() - times_p(rows) / diagonal
        if heard is not None:
            scores[heard.nonzero()] = 0
        return best_of_rows(csr_matrix(np.maximum(scores, 0)), LIST_LENGTH, ties)[0]

    return recommend


Product = Callable[[csr_matrix], np.ndarray]  # multiplies rows (b, items) by P


def _by_items(x: csr_matrix, penalty: float) -> tuple[Product, np.ndarray]:
    """Return the product with P, which is computed as (items, items), and its diagonal."""
    p = np.linalg.inv((x.T @ x).toarray() + penalty * np.eye(x.shape[1]))
    return lambda rows: rows @ p, np.diag(p).copy()


def _by_users(x: csr_matrix, penalty: float) -> tuple[Product, np.ndarray]:
    """Return the product with P and its diagonal, by inverting only a matrix (users, users).

    By the Woodbury identity P = (I - X' A X) / penalty, where A = (XX' + penalty I)^-1.
    """
    a = np.linalg.inv((x @ x.T).toarray() + penalty * np.eye(x.shape[0]))
    columns = (x[:, i : i + TRACKS_A_BLOCK] for i in range(0, x.shape[1], TRACKS_A_BLOCK))
    inner = [np.asarray(part.multiply(a @ part).sum(axis=0)).ravel() for part in columns]
    diagonal = (1 - np.concatenate(inner)) / penalty
    return lambda rows: (rows.toarray() - ((rows @ x.T) @ a) @ x) / penalty, diagonal


@dataclass(frozen=True)
class Baseline:
    """A model and the settings that it may choose from.

    fit gets the matrix of plays, the ties of its tracks, and the setting without "weights", which
    says what the matrix has: the number of "plays", or 1 ("played or not").
    """

    name: str
    fit: Callable[..., Recommend]
    settings: list[Setting]


def baselines(past: Listens) -> list[Baseline]:
    """Return the baselines for this past; EASE only where the data is small enough."""
    repeats = len(past.item) > past.pairs().nnz
    weights = ("plays", "played or not") if repeats else ("played or not",)
    als = grid(
        weights=weights,
        factors=(64, 128),
        alpha=(1.0, 5.0, 20.0, 80.0),
        regularization=(1.0, 10.0, 30.0, 100.0, 300.0),
    )
    knn = grid(weights=weights, similarity=tuple(SIMILARITIES), neighbours=(20, 100, 500))
    result = [
        Baseline("implicit ALS, defaults", implicit_als, grid(weights=weights[:1])),
        Baseline("implicit ALS, tuned", implicit_als, als),
        Baseline("item kNN", item_knn, knn),
    ]
    if min(past.shape) <= EASE_LIMIT:
        penalties = (10.0, 30.0, 100.0, 300.0, 1000.0)
        result.append(Baseline("EASE", ease, grid(weights=("played or not",), penalty=penalties)))
    return result


def grid(**values: tuple[Any, ...]) -> list[Setting]:
    """Return every combination of the values as a setting."""
    return [
        dict(zip(values, combination, strict=True)) for combination in product(*values.values())
    ]


def lists_of(
    baseline: Baseline, setting: Setting, past: Listens, rows: np.ndarray, heard: str
) -> np.ndarray:
    """Return the lists (rows, 100) of a baseline that is fitted to the past with a setting.

    rows are users of the past; heard ("exclude" or "include") says whether tracks that a user has
    played are left out.
    """
    setting = dict(setting)
    counted = setting.pop("weights") == "plays"
    plays = past.profiles(None) if counted else past.pairs()
    recommend = baseline.fit(plays, past.ties, **setting)

    def block(first: int, last: int) -> np.ndarray:
        of_block = past.of_users(rows[first:last])
        plays = of_block.profiles(None) if counted else of_block.pairs()
        excluded = of_block.kept_out(heard)
        return recommend(rows[first:last], plays, excluded if excluded.nnz else None)

    blocks = in_blocks(block, len(rows), USERS_A_BLOCK, "peers")
    return np.concatenate([np.empty((0, LIST_LENGTH), np.int32), *blocks])


def best_setting(baseline: Baseline, window: Path, heard: str) -> BaselineSetting:
    """Return the setting with the best NDCG@10 on a window, how many were tried, and that NDCG."""
    if len(baseline.settings) == 1:
        return BaselineSetting(baseline.settings[0], settings_tried=1)
    past = listens.load(window)
    later = holdout.read(window, past, heard).warm().sample(MOST_USERS)
    scores = []
    for setting in progress_bar(baseline.settings, baseline.name):
        found = lists_of(baseline, setting, past, later.row, heard)
        scores.append(float(accuracy.per_user(found, later.labels, K)["ndcg"].sum()))
    best = int(np.argmax(scores))
    ndcg = scores[best] / max(len(later.row), 1)
    return BaselineSetting(baseline.settings[best], len(scores), ndcg)
