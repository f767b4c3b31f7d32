"""Order the candidates of all kinds into each user's final list.

    python -m jobs.rank --work data

A CatBoost model learns from the windows which candidates were played next: from "train", to be
judged on "choose" beside every single generator; the best of them serves. It learns again from
"train" and "choose" to make the lists of "report", and from all three to make those for tomorrow:
recommendations.parquet here and in windows/choose and windows/report. ranking.json says what was
chosen and by how much.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from catboost import CatBoost
from catboost import Pool as Groups
from scipy.sparse import csr_matrix

from jobs import candidates, command, contract, holdout, metrics
from jobs.candidates import GENERATORS, Past, Pool
from jobs.contract import LIST_LENGTH, JobError
from jobs.ranked import in_blocks, rows_of
from jobs.retrieval import NOTHING

T = TypeVar("T")
RANKING = "ranking.json"
RANKER = "ranker"
USERS_A_BLOCK = 512
MOST_USERS = 30_000  # of a window that the ranker learns from or is judged on
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
    past: Past, users: np.ndarray, visit: Callable[[Pool, slice], T], name: str
) -> Iterator[T]:
    """Yield visit(candidates of a block of users, where in users they stand), block by block."""

    def block(first: int, last: int) -> T:
        return visit(candidates.pool(past, users[first:last]), slice(first, last))

    return in_blocks(block, len(users), USERS_A_BLOCK, f"rank {name}")


def labels_of(work: Path, past: Past) -> csr_matrix:
    """(users, items): what a window's users played next; a sample of MOST_USERS has any."""
    later = holdout.read(work, past.data, past.chosen.heard).warm().sample(MOST_USERS)
    lengths = np.zeros(past.data.shape[0], np.int64)
    lengths[later.row] = np.diff(later.labels.indptr)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix((later.labels.data, later.labels.indices, starts), past.data.shape)


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


def joined(parts: list[Examples]) -> Examples:
    """All examples in one."""
    names = (field.name for field in fields(Examples))
    return Examples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def learn(windows: list[Examples], names: list[str]) -> CatBoost:
    """Fit the ranker; a group is one user in one window."""
    every = joined(windows)
    if not every.played.any():
        raise JobError("no candidate was played in the windows: there is nothing to learn from")
    window = np.repeat(np.arange(len(windows)), [len(part.user) for part in windows])
    group = every.user.astype(np.int64) * len(windows) + window
    data = Groups(
        every.features, every.played.astype(np.float32), group_id=group, feature_names=names
    )
    return CatBoost(PARAMETERS | {"thread_count": os.cpu_count()}).fit(data)


def scores_of(pool: Pool, rule: str, ranker: CatBoost) -> np.ndarray:
    """(n,) how a rule values each candidate: the ranker, or one generator's places."""
    if rule == RANKER:
        return ranker.predict(pool.matrix(), thread_count=1).astype(np.float32)
    return -np.nan_to_num(pool.places[rule], nan=np.inf)


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
    past: Past, labels: csr_matrix, ranker: CatBoost
) -> tuple[Examples, dict[str, float]]:
    """Examples of a window, and NDCG@10 of the ranker and of every generator on its users."""
    users = np.flatnonzero(labels.getnnz(axis=1))

    def visit(pool: Pool, part: slice) -> tuple[Examples, list[np.ndarray]]:
        wanted = csr_matrix(labels[users[part]])
        judged = []
        for rule in (RANKER, *GENERATORS):
            found, _ = best_lists(pool, scores_of(pool, rule, ranker), wanted.shape[0])
            judged.append(metrics.per_user(found, wanted, 10)["ndcg"])
        return draw(pool, wanted, users[part]), judged

    drawn, judged = zip(*over_users(past, users, visit, "choose"), strict=True)
    means = np.concatenate(judged, axis=1).mean(axis=1).tolist()
    return joined(list(drawn)), dict(zip((RANKER, *GENERATORS), means, strict=True))


def recommend(
    work: Path, past: Past, rule: str, ranker: CatBoost, labels: csr_matrix
) -> tuple[int, Examples]:
    """Write a folder's recommendations.parquet; returns its rows, and examples from its labels."""
    users = np.arange(past.data.shape[0])
    ids = past.data.user_ids, past.data.track_ids

    def visit(pool: Pool, part: slice) -> tuple[pa.Table, Examples]:
        found, scores = best_lists(pool, scores_of(pool, rule, ranker), part.stop - part.start)
        table = rows_of(contract.RECOMMENDATIONS, ids[0][part], ids[1], found, scores)
        return table, draw(pool, csr_matrix(labels[part]), users[part])

    written, drawn = 0, []
    with contract.writer(contract.RECOMMENDATIONS, work) as append:
        for table, examples in over_users(past, users, visit, work.name):
            append(table)
            written += len(table)
            drawn.append(examples)
    return written, joined(drawn)


def main() -> str:
    """Make recommendations.parquet here and in the windows choose and report."""
    work = command.parser(__doc__).parse_args().work
    folders = {name: work / "windows" / name for name in contract.WINDOWS}
    past = Past.read(folders["train"])
    names = candidates.feature_names(past)
    labels = labels_of(folders["train"], past)
    users = np.flatnonzero(labels.getnnz(axis=1))
    drawn = over_users(
        past, users, lambda pool, at: draw(pool, labels[users[at]], users[at]), "train"
    )
    learnt = [joined(list(drawn))]

    past = Past.read(folders["choose"])
    ranker = learn(learnt, names)
    examples, judged = learn_and_judge(past, labels_of(folders["choose"], past), ranker)
    rule = max(judged, key=lambda name: judged[name])
    none = csr_matrix(past.data.shape, dtype=np.float32)
    recommend(folders["choose"], past, rule, ranker, none)
    learnt.append(examples)

    past = Past.read(folders["report"])
    ranker = learn(learnt, names)
    importance = ranker.get_feature_importance(type="PredictionValuesChange").tolist()
    labels = labels_of(folders["report"], past)
    learnt.append(recommend(folders["report"], past, rule, ranker, labels)[1])

    past = Past.read(work)
    ranker = learn(learnt, names)
    written, _ = recommend(work, past, rule, ranker, csr_matrix(past.data.shape, dtype=np.float32))
    content = {
        "rule": rule,
        "ndcg@10_on_choose": judged,
        "feature_importance": dict(zip(names, importance, strict=True)),
    }
    contract.write_json(work / RANKING, content)
    single = max(GENERATORS, key=lambda name: judged[name])
    return (
        f"{written:,} rows by {rule}; on the window choose NDCG@10 {judged[RANKER]:.4f} by the "
        f"ranker, {judged[single]:.4f} by the best single generator ({single})"
    )


if __name__ == "__main__":
    command.run(main)
