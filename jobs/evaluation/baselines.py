"""What others would recommend: well-known models on the same past, for the same users.

implicit's ALS at its defaults and tuned, implicit's item kNN, and EASE (Steck 2019) in closed form.
Where there is a choice of settings, each is fitted in full size to the window "validation",
and the one with the best NDCG@10 there is fitted to "test".
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

# The items (b, 100), best first, for users in some rows with their plays (b, items), without those
# marked in a third matrix, if one is given.
Recommend = Callable[[np.ndarray, csr_matrix, csr_matrix | None], np.ndarray]


Setting = dict[str, Any]


SEED = 20
K = 10
MOST_USERS = 10_000  # of the window "validation", by whom a setting is judged
USERS_A_BLOCK, TRACKS_A_BLOCK = 256, 8192
EASE_LIMIT = 6_000  # users or tracks, whichever are fewer: a matrix of that size is inverted
SIMILARITIES = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}


def implicit_als(weights: csr_matrix, **setting: Any) -> Recommend:
    """implicit's own model; its lists and ours of its factors are both exact."""
    threads = 0 if weights.nnz > WORTH_THREADS else 1  # 0 stands for all
    model = AlternatingLeastSquares(**setting, random_state=SEED, num_threads=threads)
    model.fit(weights, show_progress=False)
    users, order = model.user_factors, NormOrder.of(model.item_factors)
    return lambda rows, _, heard: top_k(users[rows], order, LIST_LENGTH, heard)[0]


def item_knn(weights: csr_matrix, similarity: str, neighbours: int) -> Recommend:
    """implicit's similarities; a track's score is their sum over the user's plays."""
    model = SIMILARITIES[similarity](K=neighbours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParameterWarning)  # of a matrix that implicit made itself
        model.fit(weights, show_progress=False)
    near = csr_matrix(model.similarity, dtype=np.float32)

    def recommend(_: np.ndarray, own: csr_matrix, heard: csr_matrix | None) -> np.ndarray:
        scores = csr_matrix(own @ near)
        if heard is not None:
            scores = csr_matrix(scores - scores.multiply(heard))
        return best_of_rows(scores, LIST_LENGTH)[0]

    return recommend


def ease(weights: csr_matrix, penalty: float) -> Recommend:
    """Steck's linear model: scores are x B, B = I - P / diag(P), P = (X'X + penalty I)^-1."""
    x = csr_matrix(weights.sign(), dtype=np.float64)
    times_p, diagonal = (_by_items if x.shape[1] <= x.shape[0] else _by_users)(x, penalty)

    def recommend(_: np.ndarray, own: csr_matrix, heard: csr_matrix | None) -> np.ndarray:
        rows = csr_matrix(own.sign(), dtype=np.float64)
        scores = rows.toarray() - times_p(rows) / diagonal
        if heard is not None:
            scores[heard.nonzero()] = 0
        return best_of_rows(csr_matrix(np.maximum(scores, 0)), LIST_LENGTH)[0]

    return recommend


Product = Callable[[csr_matrix], np.ndarray]  # of rows (b, items) and P


def _by_items(x: csr_matrix, penalty: float) -> tuple[Product, np.ndarray]:
    """P itself, items × items, and its diagonal."""
    p = np.linalg.inv((x.T @ x).toarray() + penalty * np.eye(x.shape[1]))
    return lambda rows: rows @ p, np.diag(p).copy()


def _by_users(x: csr_matrix, penalty: float) -> tuple[Product, np.ndarray]:
    """P as (I - X' A X) / penalty, A = (XX' + penalty I)^-1 users × users (Woodbury)."""
    a = np.linalg.inv((x @ x.T).toarray() + penalty * np.eye(x.shape[0]))
    columns = (x[:, i : i + TRACKS_A_BLOCK] for i in range(0, x.shape[1], TRACKS_A_BLOCK))
    inner = [np.asarray(part.multiply(a @ part).sum(axis=0)).ravel() for part in columns]
    diagonal = (1 - np.concatenate(inner)) / penalty
    return lambda rows: (rows.toarray() - ((rows @ x.T) @ a) @ x) / penalty, diagonal


@dataclass(frozen=True)
class Baseline:
    """A model with the settings that it may choose from; "weights" is what it is fitted to."""

    name: str
    fit: Callable[..., Recommend]
    settings: list[Setting]


def baselines(past: Listens) -> list[Baseline]:
    """Those for which the data is small enough."""
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
    """Every combination."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def lists_of(
    peer: Baseline, setting: Setting, past: Listens, rows: np.ndarray, heard: str
) -> np.ndarray:
    """(rows, 100) items for users with a past, by the peer with a setting fitted to that past."""
    setting = dict(setting)
    plays = setting.pop("weights") == "plays"
    recommend = peer.fit(past.profiles(None) if plays else past.pairs(), **setting)

    def block(first: int, last: int) -> np.ndarray:
        own = past.of_users(rows[first:last])
        known = own.pairs()
        out = known if heard == "exclude" else None
        return recommend(rows[first:last], own.profiles(None) if plays else known, out)

    blocks = in_blocks(block, len(rows), USERS_A_BLOCK, "peers")
    return np.concatenate([np.empty((0, LIST_LENGTH), np.int32), *blocks])


def best_setting(peer: Baseline, window: Path, heard: str) -> BaselineSetting:
    """Return the setting that scores best on a window, and how well it does there."""
    if len(peer.settings) == 1:
        return BaselineSetting(peer.settings[0], settings_tried=1)
    past = listens.load(window)
    later = holdout.read(window, past, heard).warm().sample(MOST_USERS)
    scores = []
    for setting in progress_bar(peer.settings, peer.name):
        found = lists_of(peer, setting, past, later.row, heard)
        scores.append(float(accuracy.per_user(found, later.labels, K)["ndcg"].sum()))
    best = int(np.argmax(scores))
    ndcg = scores[best] / max(len(later.row), 1)
    return BaselineSetting(peer.settings[best], len(scores), ndcg)
