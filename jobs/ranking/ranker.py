"""The CatBoost ranker: its examples, its training, and the lists in its order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from catboost import CatBoost
from catboost import Pool as Groups
from scipy.sparse import csr_matrix

from jobs.contract import tables
from jobs.contract.names import LIST_LENGTH
from jobs.contract.ragged import place_in_row
from jobs.contract.top_k import NOTHING
from jobs.data import holdout
from jobs.data.holdout import Holdout
from jobs.metrics import accuracy
from jobs.models.ranked_lists import rows_of
from jobs.ranking import candidates, fusion
from jobs.ranking.candidates import GENERATORS, Candidates
from jobs.ranking.features import featured_candidates
from jobs.ranking.snapshot import Snapshot
from jobs.runtime import parallel
from jobs.runtime.parallel import in_blocks

T = TypeVar("T")
RANKER, FUSION = "ranker", "fusion"
USERS_A_BLOCK = 512
MOST_USERS = 12_000  # of a window that the ranker learns from or is judged on
HANDICAP = 0.01
FUSION_USERS = 1_000  # of a window that the fusion's weights are fitted to
NEGATIVES = 40  # a user, drawn from the candidates that were not played
SEED = 20
PARAMETERS = {
    "loss_function": "QueryRMSE",
    "iterations": 150,
    "depth": 6,
    "learning_rate": 0.05,
    "l2_leaf_reg": 20,
    "rsm": 0.5,  # of the features that a tree may choose from
    "border_count": 64,
    "random_seed": SEED,
    "allow_writing_files": False,
    "verbose": False,
}


@dataclass(frozen=True)
class TrainingExamples:
    """Candidates to learn from: features (n, f), played (n,) bool, user (n,) ascending."""

    features: np.ndarray
    played: np.ndarray
    user: np.ndarray


def over_users(
    past: Snapshot,
    users: np.ndarray,
    visit: Callable[[Candidates, slice], T],
    name: str,
    each: int = candidates.EACH,
) -> Iterator[T]:
    """Yield visit(candidates of a block of users, where in users they stand), block by block."""

    def block(first: int, last: int) -> T:
        return visit(featured_candidates(past, users[first:last], each), slice(first, last))

    return in_blocks(block, len(users), USERS_A_BLOCK, f"rank {name}")


def listed_users(work: Path, past: Snapshot) -> Holdout:
    """The users of a window for whom it has final lists: those of its holdout, or a sample."""
    return holdout.read(work, past.data, past.chosen.heard).sample(holdout.MOST_USERS).warm()


def collect_examples(pool: Candidates, labels: csr_matrix, users: np.ndarray) -> TrainingExamples:
    """The played candidates of some users, and NEGATIVES others of each; users without are out."""
    played = accuracy.marked(labels, pool.row, pool.item)
    chance = np.random.default_rng((SEED, users[0])).random(len(played))
    chance[played] = -1  # the row's first
    order = np.lexsort((chance, pool.row))
    place = place_in_row(np.bincount(pool.row))
    hits = np.bincount(pool.row[played], minlength=len(users))[pool.row]
    kept = np.sort(order[(place < hits + NEGATIVES) & (hits > 0)])
    return TrainingExamples(pool.matrix()[kept], played[kept], users[pool.row[kept]])


def fit_ranker(windows: list[list[TrainingExamples]], names: list[str]) -> CatBoost | None:
    """Fit the ranker; a group is one user in one window. None where there is nothing to learn."""
    parts = [(i, part) for i, window in enumerate(windows) for part in window]
    played = np.concatenate([np.zeros(0, bool)] + [part.played for _, part in parts])
    if played.all() or not played.any():
        return None
    features = np.concatenate([part.features for _, part in parts])
    group = np.concatenate([part.user.astype(np.int64) * len(windows) + i for i, part in parts])
    data = Groups(features, played.astype(np.float32), group_id=group, feature_names=names)
    return CatBoost(PARAMETERS | {"thread_count": parallel.threads()}).fit(data)


def predict(ranker: CatBoost, pool: Candidates) -> np.ndarray:
    """(n,) float32: the ranker's score of each candidate."""
    scores: np.ndarray = ranker.predict(pool.matrix(), thread_count=1)
    return scores.astype(np.float32)


@dataclass(frozen=True)
class TrainingSample:
    """What a block of users teaches: the ranker from examples, the fusion from a sample."""

    examples: TrainingExamples
    sample: fusion.Sample


def training_sample(
    pool: Candidates, labels: csr_matrix, users: np.ndarray, of: int
) -> TrainingSample:
    """The lesson of a block of users, with their labels (users, items); there are `of` in all."""
    share = min(1, FUSION_USERS / of)
    some = csr_matrix(labels[: int(np.ceil(share * len(users)))])
    return TrainingSample(collect_examples(pool, labels, users), fusion.sample(pool, some))


@dataclass(frozen=True)
class FittedRankers:
    """What orders candidates: the ranker, None where it had nothing to learn, and the fusion."""

    ranker: CatBoost | None
    weights: np.ndarray  # (generators,) of the fusion

    @classmethod
    def fit(cls, windows: list[list[TrainingSample]], names: list[str]) -> "FittedRankers":
        """Learn from the lessons of some windows."""
        samples = [lesson.sample for window in windows for lesson in window]
        examples = [[lesson.examples for lesson in window] for window in windows]
        return cls(fit_ranker(examples, names), fusion.fit(samples))

    @property
    def rules(self) -> list[str]:
        """What may serve."""
        return [*GENERATORS, FUSION, *([RANKER] if self.ranker else [])]

    def scores(self, pool: Candidates, rule: str) -> np.ndarray:
        """(n,) float32: how a rule values each candidate.

        The ranker's prediction; the fusion's sum; or one generator's places, and behind them the
        order of the top list.
        """
        if rule == RANKER:
            assert self.ranker is not None
            return predict(self.ranker, pool)
        if rule == FUSION:
            sums: np.ndarray = fusion.parts(pool) @ self.weights
            return sums
        places = pool.places[rule]
        behind = LIST_LENGTH + 1 + pool.top_place
        return -np.where(np.isnan(places), behind, places).astype(np.float32)


def best_lists(pool: Candidates, scores: np.ndarray, users: int) -> tuple[np.ndarray, np.ndarray]:
    """The 100 best candidates of each row: items and scores (users, 100), best first."""
    order = np.lexsort((pool.item, -scores, pool.row))
    place = place_in_row(np.bincount(pool.row))
    order, row, place = (part[place < LIST_LENGTH] for part in (order, pool.row, place))
    items = np.full((users, LIST_LENGTH), NOTHING, np.int32)
    best = np.full((users, LIST_LENGTH), -np.inf, np.float32)
    items[row, place], best[row, place] = pool.item[order], scores[order]
    items[np.isneginf(best)] = NOTHING
    return items, best


def collect_and_evaluate(
    past: Snapshot, later: Holdout, models: FittedRankers | None, name: str
) -> tuple[list[TrainingSample], dict[str, float]]:
    """Lessons of a window's users, and NDCG@10 of every rule on them, if there are models."""
    later = later.sample(MOST_USERS)
    rules = models.rules if models else []

    def visit(pool: Candidates, part: slice) -> tuple[TrainingSample, list[np.ndarray]]:
        labels = csr_matrix(later.labels[part])
        judged = []
        for rule in rules:
            assert models is not None
            found, _ = best_lists(pool, models.scores(pool, rule), labels.shape[0])
            judged.append(accuracy.per_user(found, labels, 10)["ndcg"])
        return training_sample(pool, labels, later.row[part], len(later.row)), judged

    seen = list(over_users(past, later.row, visit, name))
    ndcg = {
        rule: float(sum(judged[i].sum() for _, judged in seen)) / max(len(later.row), 1)
        for i, rule in enumerate(rules)
    }
    return [lesson for lesson, _ in seen], ndcg


def best_rule(judged: dict[str, float]) -> str:
    """The best of the judged rules; the ranker too if it's within HANDICAP of the best.

    It is judged after learning from one window, and serves after learning from three.
    """
    best = max(judged, key=lambda name: judged[name])
    return RANKER if judged.get(RANKER, 0) > judged[best] * (1 - HANDICAP) else best


def recommend(
    work: Path, past: Snapshot, users: np.ndarray, rule: str, models: FittedRankers
) -> int:
    """Write a folder's recommendations.parquet for users (rows, ascending); returns its rows."""
    ids = past.data.user_ids[users], past.data.track_ids

    def visit(pool: Candidates, part: slice) -> pa.Table:
        found, scores = best_lists(pool, models.scores(pool, rule), part.stop - part.start)
        return rows_of(tables.RECOMMENDATIONS, ids[0][part], ids[1], found, scores)

    written = 0
    each = LIST_LENGTH if rule in GENERATORS else candidates.EACH
    with tables.writer(tables.RECOMMENDATIONS, work) as append:
        for table in over_users(past, users, visit, work.name, each):
            append(table)
            written += len(table)
    return written
