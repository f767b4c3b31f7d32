"""Order the candidates of all kinds into each user's final list.

    python -m jobs.rank --work data

A CatBoost model learns from the windows which candidates were played next: from "train", to be
judged on "choose" beside a weighted fusion of the generators (see fusion) and every one of them
alone; the best serves (see best_rule). Model and fusion learn again from "train" and "choose" to
make the lists of "report", and from all three to make those for tomorrow: recommendations.parquet
here and in windows/choose and windows/report. ranking.json says what was chosen and by how much.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from catboost import CatBoost
from catboost import Pool as Groups
from scipy.sparse import csr_matrix

from jobs import candidates, command, contract, fusion, holdout, memory, metrics
from jobs.candidates import GENERATORS, Past, Pool
from jobs.contract import LIST_LENGTH
from jobs.holdout import Holdout
from jobs.ranked import in_blocks, rows_of
from jobs.retrieval import NOTHING

T = TypeVar("T")
RANKING = "ranking.json"
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
class Examples:
    """Candidates to learn from: features (n, f), played (n,) bool, user (n,) ascending."""

    features: np.ndarray
    played: np.ndarray
    user: np.ndarray


def over_users(
    past: Past,
    users: np.ndarray,
    visit: Callable[[Pool, slice], T],
    name: str,
    each: int = candidates.EACH,
) -> Iterator[T]:
    """Yield visit(candidates of a block of users, where in users they stand), block by block."""

    def block(first: int, last: int) -> T:
        return visit(candidates.pool(past, users[first:last], each), slice(first, last))

    return in_blocks(block, len(users), USERS_A_BLOCK, f"rank {name}")


def listed_users(work: Path, past: Past) -> Holdout:
    """The users of a window for whom it has final lists: those of its holdout, or a sample."""
    return holdout.read(work, past.data, past.chosen.heard).sample(holdout.MOST_USERS).warm()


def draw(pool: Pool, labels: csr_matrix, users: np.ndarray) -> Examples:
    """The played candidates of some users, and NEGATIVES others of each; users without are out."""
    played = metrics.marked(labels, pool.row, pool.item)
    chance = np.random.default_rng((SEED, users[0])).random(len(played))
    chance[played] = -1  # the row's first
    order = np.lexsort((chance, pool.row))
    place = np.arange(len(order)) - np.searchsorted(pool.row, pool.row)
    hits = np.bincount(pool.row[played], minlength=len(users))[pool.row]
    kept = np.sort(order[(place < hits + NEGATIVES) & (hits > 0)])
    return Examples(pool.matrix()[kept], played[kept], users[pool.row[kept]])


def learn(windows: list[list[Examples]], names: list[str]) -> CatBoost | None:
    """Fit the ranker; a group is one user in one window. None where there is nothing to learn."""
    parts = [(i, part) for i, window in enumerate(windows) for part in window]
    played = np.concatenate([np.zeros(0, bool)] + [part.played for _, part in parts])
    if played.all() or not played.any():
        return None
    features = np.concatenate([part.features for _, part in parts])
    group = np.concatenate([part.user.astype(np.int64) * len(windows) + i for i, part in parts])
    data = Groups(features, played.astype(np.float32), group_id=group, feature_names=names)
    return CatBoost(PARAMETERS | {"thread_count": memory.threads}).fit(data)


def predict(ranker: CatBoost, pool: Pool) -> np.ndarray:
    """(n,) float32: the ranker's score of each candidate."""
    return ranker.predict(pool.matrix(), thread_count=1).astype(np.float32)


@dataclass(frozen=True)
class Lesson:
    """What a block of users teaches: the ranker from examples, the fusion from a sample."""

    examples: Examples
    sample: fusion.Sample


def teach(pool: Pool, labels: csr_matrix, users: np.ndarray, of: int) -> Lesson:
    """The lesson of a block of users, with their labels (users, items); there are `of` in all."""
    share = min(1, FUSION_USERS / of)
    some = csr_matrix(labels[: int(np.ceil(share * len(users)))])
    return Lesson(draw(pool, labels, users), fusion.sample(pool, some))


@dataclass(frozen=True)
class Models:
    """What orders candidates: the ranker, None where it had nothing to learn, and the fusion."""

    ranker: CatBoost | None
    weights: np.ndarray  # (generators,) of the fusion

    @classmethod
    def fit(cls, windows: list[list[Lesson]], names: list[str]) -> "Models":
        """Learn from the lessons of some windows."""
        samples = [lesson.sample for window in windows for lesson in window]
        examples = [[lesson.examples for lesson in window] for window in windows]
        return cls(learn(examples, names), fusion.fit(samples))

    @property
    def rules(self) -> list[str]:
        """What may serve."""
        return [*GENERATORS, FUSION, *([RANKER] if self.ranker else [])]

    def scores(self, pool: Pool, rule: str) -> np.ndarray:
        """(n,) float32: how a rule values each candidate.

        The ranker's prediction; the fusion's sum; or one generator's places, and behind them the
        order of the top list.
        """
        if rule == RANKER:
            assert self.ranker is not None
            return predict(self.ranker, pool)
        if rule == FUSION:
            return fusion.parts(pool) @ self.weights
        places = pool.places[rule]
        behind = LIST_LENGTH + 1 + pool.top_place
        return -np.where(np.isnan(places), behind, places).astype(np.float32)


def best_lists(pool: Pool, scores: np.ndarray, users: int) -> tuple[np.ndarray, np.ndarray]:
    """The 100 best candidates of each row: items and scores (users, 100), best first."""
    order = np.lexsort((pool.item, -scores, pool.row))
    place = np.arange(len(order)) - np.searchsorted(pool.row, pool.row)
    order, row, place = (part[place < LIST_LENGTH] for part in (order, pool.row, place))
    items = np.full((users, LIST_LENGTH), NOTHING, np.int32)
    best = np.full((users, LIST_LENGTH), -np.inf, np.float32)
    items[row, place], best[row, place] = pool.item[order], scores[order]
    items[np.isneginf(best)] = NOTHING
    return items, best


def learn_and_judge(
    past: Past, later: Holdout, models: Models | None, name: str
) -> tuple[list[Lesson], dict[str, float]]:
    """Lessons of a window's users, and NDCG@10 of every rule on them, if there are models."""
    later = later.sample(MOST_USERS)
    rules = models.rules if models else []

    def visit(pool: Pool, part: slice) -> tuple[Lesson, list[np.ndarray]]:
        labels = csr_matrix(later.labels[part])
        judged = []
        for rule in rules:
            assert models is not None
            found, _ = best_lists(pool, models.scores(pool, rule), labels.shape[0])
            judged.append(metrics.per_user(found, labels, 10)["ndcg"])
        return teach(pool, labels, later.row[part], len(later.row)), judged

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


def recommend(work: Path, past: Past, users: np.ndarray, rule: str, models: Models) -> int:
    """Write a folder's recommendations.parquet for users (rows, ascending); returns its rows."""
    ids = past.data.user_ids[users], past.data.track_ids

    def visit(pool: Pool, part: slice) -> pa.Table:
        found, scores = best_lists(pool, models.scores(pool, rule), part.stop - part.start)
        return rows_of(contract.RECOMMENDATIONS, ids[0][part], ids[1], found, scores)

    written = 0
    each = LIST_LENGTH if rule in GENERATORS else candidates.EACH
    with contract.writer(contract.RECOMMENDATIONS, work) as append:
        for table in over_users(past, users, visit, work.name, each):
            append(table)
            written += len(table)
    return written


def main() -> str:
    """Make recommendations.parquet here and in the windows choose and report."""
    work = command.parser(__doc__).parse_args().work
    train, choose, report = (work / "windows" / name for name in contract.WINDOWS)
    past = Past.read(train)
    names = candidates.feature_names(past)
    learnt = [learn_and_judge(past, listed_users(train, past), None, "train")[0]]

    del past  # as large as the next one
    past, models = Past.read(choose), Models.fit(learnt, names)
    later = listed_users(choose, past)
    lessons, judged = learn_and_judge(past, later, models, "choose")
    rule = best_rule(judged)
    recommend(choose, past, later.row, rule, models)
    learnt.append(lessons)

    del past
    past, models = Past.read(report), Models.fit(learnt, names)
    ranker, weights = models.ranker, models.weights
    importance = ranker.get_feature_importance(type="PredictionValuesChange") if ranker else []
    later = listed_users(report, past)
    recommend(report, past, later.row, rule, models)
    learnt.append(learn_and_judge(past, later, None, "report")[0])

    del past
    past, models = Past.read(work), Models.fit(learnt, names)
    written = recommend(work, past, np.arange(past.data.shape[0]), rule, models)
    content = {
        "rule": rule,
        "ndcg@10_on_choose": judged,
        "fusion_weights": dict(zip(GENERATORS, map(float, weights), strict=True)),
        "feature_importance": dict(zip(names, map(float, importance), strict=False)),
    }
    contract.write_json(work / RANKING, content)
    shown = sorted(judged, key=lambda name: -judged[name])[:3]
    figures = ", ".join(f"{name} {judged[name]:.4f}" for name in shown)
    return f"{written:,} rows by {rule}; NDCG@10 on the window choose: {figures}"


if __name__ == "__main__":
    command.run(main)
