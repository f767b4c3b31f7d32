"""Order the candidates of all kinds into each user's final list.

    python -m jobs.rank --work data

A CatBoost model learns from the windows which candidates were played next: from "train", to be
judged on "choose" beside every single generator; the best of them serves. It learns again from
"train" and "choose" to make windows/report/recommendations.parquet, and from all three to make
recommendations.parquet. ranking.json says what was chosen and by how much.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from catboost import CatBoost
from catboost import Pool as Groups

from jobs import candidates, command, contract, holdout, metrics
from jobs.candidates import GENERATORS, Past, Pool
from jobs.contract import LIST_LENGTH, JobError
from jobs.holdout import Holdout
from jobs.ranked import in_blocks, rows_of
from jobs.retrieval import NOTHING

RANKING = "ranking.json"
RANKER = "ranker"
USERS_A_BLOCK = 512
MOST_USERS = 30_000  # of a window that the ranker learns from or is judged on
NEGATIVES = 40  # a user, drawn from the candidates that were not played
SEED = 20
PARAMETERS = {
    "loss_function": "QueryRMSE",
    "iterations": 200,
    "depth": 6,
    "learning_rate": 0.08,
    "random_seed": SEED,
    "allow_writing_files": False,
    "verbose": False,
}


@dataclass(frozen=True)
class Window:
    """A window's past and those of its users who played something new after its cut."""

    past: Past
    later: Holdout

    @classmethod
    def read(cls, work: Path) -> "Window":
        """Read a window's folder."""
        past = Past.read(work)
        later = holdout.read(work, past.data, past.chosen.heard)
        return cls(past, later.warm().sample(MOST_USERS))


@dataclass(frozen=True)
class Examples:
    """Candidates to learn from: features (n, f), played (n,) bool, user (n,) ascending."""

    features: np.ndarray
    played: np.ndarray
    user: np.ndarray


def examples(window: Window, name: str) -> Examples:
    """The played candidates of a window's users, and as many others as NEGATIVES."""
    users, labels = window.later.row, window.later.labels

    def block(first: int, last: int) -> Examples:
        part = users[first:last]
        pool = candidates.pool(window.past, part)
        played = metrics.marked(labels[first:last], pool.row, pool.item)
        chance = np.random.default_rng((SEED, first)).random(len(played))
        chance[played] = -1
        order = np.lexsort((chance, pool.row))
        starts = np.searchsorted(pool.row, pool.row[order])
        place = np.arange(len(order)) - starts  # the row's played ones come first
        hits = np.bincount(pool.row[played], minlength=len(part))[pool.row[order]]
        kept = np.sort(order[(place < hits + NEGATIVES) & (hits > 0)])
        return Examples(pool.matrix()[kept], played[kept], part[pool.row[kept]])

    parts = list(in_blocks(block, len(users), USERS_A_BLOCK, f"rank examples {name}"))
    return Examples(
        *(np.concatenate([getattr(p, f) for p in parts]) for f in Examples.__annotations__)
    )


def learn(parts: list[Examples], names: list[str]) -> CatBoost:
    """Fit the ranker; a group is one user in one window."""
    played = np.concatenate([part.played for part in parts])
    if not played.any():
        raise JobError("no candidate was played in the windows: there is nothing to learn from")
    features = np.concatenate([part.features for part in parts])
    group = np.concatenate(
        [part.user.astype(np.int64) * len(parts) + i for i, part in enumerate(parts)]
    )
    data = Groups(features, played.astype(np.float32), group_id=group, feature_names=names)
    return CatBoost(PARAMETERS | {"thread_count": os.cpu_count()}).fit(data)


def scores_of(pool: Pool, rule: str, ranker: CatBoost | None) -> np.ndarray:
    """(n,) how a rule values each candidate: the ranker, or one generator's places."""
    if rule == RANKER:
        assert ranker is not None
        return ranker.predict(pool.matrix(), thread_count=1).astype(np.float32)
    return -np.nan_to_num(pool.places[rule], nan=np.inf)


def best_lists(pool: Pool, scores: np.ndarray, users: int) -> tuple[np.ndarray, np.ndarray]:
    """The 100 best candidates of each row: items and scores (users, 100), best first."""
    order = np.lexsort((pool.item, -scores, pool.row))
    row = pool.row[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    order, row, place = (part[place < LIST_LENGTH] for part in (order, row, place))
    items = np.full((users, LIST_LENGTH), NOTHING, np.int32)
    best = np.full((users, LIST_LENGTH), -np.inf, np.float32)
    items[row, place], best[row, place] = pool.item[order], scores[order]
    items[np.isneginf(best)] = NOTHING
    return items, best


def judge(window: Window, ranker: CatBoost) -> dict[str, float]:
    """NDCG@10 of the ranker and of every generator on a window's users."""
    users, labels = window.later.row, window.later.labels

    def block(first: int, last: int) -> np.ndarray:
        part = users[first:last]
        pool = candidates.pool(window.past, part)
        result = []
        for rule in (RANKER, *GENERATORS):
            found, _ = best_lists(pool, scores_of(pool, rule, ranker), len(part))
            result.append(metrics.per_user(found, labels[first:last], 10)["ndcg"])
        return np.array(result)

    values = np.concatenate(list(in_blocks(block, len(users), USERS_A_BLOCK, "rank judge")), axis=1)
    return dict(zip((RANKER, *GENERATORS), values.mean(axis=1).tolist(), strict=True))


def recommend(work: Path, past: Past, rule: str, ranker: CatBoost) -> int:
    """Write a folder's recommendations.parquet; returns its number of rows."""
    n = len(past.data.user_ids)

    def block(first: int, last: int) -> pa.Table:
        pool = candidates.pool(past, np.arange(first, last))
        found, scores = best_lists(pool, scores_of(pool, rule, ranker), last - first)
        ids = past.data.user_ids[first:last]
        return rows_of(contract.RECOMMENDATIONS, ids, past.data.track_ids, found, scores)

    written = 0
    with contract.writer(contract.RECOMMENDATIONS, work) as append:
        for table in in_blocks(block, n, USERS_A_BLOCK, "rank"):
            append(table)
            written += len(table)
    return written


def main() -> str:
    """Make recommendations.parquet here and in windows/report."""
    work = command.parser(__doc__).parse_args().work
    train, choose, report = (Window.read(work / "windows" / name) for name in contract.WINDOWS)
    names = candidates.feature_names(train.past)
    learnt = [examples(train, "train")]
    ranker = learn(learnt, names)
    judged = judge(choose, ranker)
    rule = max(judged, key=lambda name: judged[name])
    learnt.append(examples(choose, "choose"))
    ranker = learn(learnt, names)
    importance = dict(
        zip(
            names,
            ranker.get_feature_importance(type="PredictionValuesChange").tolist(),
            strict=True,
        )
    )
    recommend(work / "windows" / "report", report.past, rule, ranker)
    learnt.append(examples(report, "report"))
    ranker = learn(learnt, names)
    past = Past.read(work)
    written = recommend(work, past, rule, ranker)
    content = {"rule": rule, "ndcg@10_on_choose": judged, "feature_importance": importance}
    contract.write_json(work / RANKING, content)
    single = max(GENERATORS, key=lambda name: judged[name])
    return (
        f"{written:,} rows by {rule}; on the window choose NDCG@10 {judged[RANKER]:.4f} by the "
        f"ranker, {judged[single]:.4f} by the best single generator ({single})"
    )


if __name__ == "__main__":
    command.run(main)
