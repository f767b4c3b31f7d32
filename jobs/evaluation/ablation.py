"""Measure what each part is worth: the ranker without each generator, and ALS after each epoch.

A generator is left out as if it did not exist: the candidates that only this generator proposes are
removed, and so are the features that it gives to other candidates. The ranker is trained again on
the windows "train" and "validation" and orders the candidates of "test": with all generators, and
without each. It is also trained with all generators and its features in another order: a difference
as small as the one between these two is chance.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.top_k import NormOrder, top_k
from jobs.data import holdout
from jobs.data.holdout import Holdout
from jobs.data.splitting import train_windows
from jobs.metrics import accuracy
from jobs.models import als_model
from jobs.models.als_training import factorise, training_weights
from jobs.ranking import ranker
from jobs.ranking.candidates import Candidates
from jobs.ranking.features import featured_candidates
from jobs.ranking.ranker import TrainingExamples
from jobs.ranking.snapshot import Snapshot
from jobs.runtime.parallel import in_blocks

K = 10  # length of a list at which NDCG is computed
USERS_A_BLOCK = 512
MOST_USERS = 5_000  # users of a window that the rankers are trained on
WHOLE, AGAIN = "nothing", "nothing, learnt again"  # keys of the variants with all generators
FOLLOWING = ("next_played", "after_last")  # both are made from followers.parquet


def variants(candidates: Candidates, generators: Iterable[str]) -> dict[str, Candidates]:
    """Return the candidates of each variant, by the name of what is left out."""
    return {
        WHOLE: candidates,
        AGAIN: replace(candidates, features=dict(reversed(candidates.features.items()))),
        **{name: without(candidates, name) for name in generators},
        " and ".join(FOLLOWING): without(candidates, *FOLLOWING, features=r"follows_\w+"),
    }


def without(candidates: Candidates, *generators: str, features: str = "") -> Candidates:
    """Return the candidates that there would be without some generators, and without features.

    A generator's features are its score, the ratio to the user's best score, and the place. Further
    features are left out if their whole name matches the regular expression `features`.
    """
    removed = rf"(?:{'|'.join(generators)})(?:_recent)?_(?:score|to_best|rank)|{features}"
    places = {name: of for name, of in candidates.places.items() if name not in generators}
    proposers = np.sum([~np.isnan(of) for of in places.values()], axis=0)
    kept = proposers > 0
    left = {
        name: of[kept]
        for name, of in candidates.features.items()
        if not re.fullmatch(removed, name)
    }
    return replace(
        candidates,
        row=candidates.row[kept],
        item=candidates.item[kept],
        top_place=candidates.top_place[kept],
        places={name: of[kept] for name, of in places.items()},
        features=left | {"generators": proposers[kept].astype(np.float32)},
    )


def examples(
    window: Path, generators: Iterable[str], switched_off: frozenset[str]
) -> dict[str, list[TrainingExamples]]:
    """Return the training examples of a window for each variant, by what is left out."""
    snapshot = Snapshot.read(window, switched_off)
    later = (
        holdout.read(window, snapshot.data, snapshot.hyperparameters.heard)
        .warm()
        .sample(MOST_USERS)
    )

    def visit(candidates: Candidates, part: slice) -> dict[str, TrainingExamples]:
        labels, users = csr_matrix(later.labels[part]), (later.row[part], later.user_ids[part])
        left = variants(candidates, generators)
        return {out: ranker.collect_examples(of, labels, *users) for out, of in left.items()}

    result: dict[str, list[TrainingExamples]] = {}
    for block in ranker.over_users(snapshot, later.row, visit, f"ablation {window.name}"):
        for out, of_block in block.items():
            result.setdefault(out, []).append(of_block)
    return result


def leave_one_out(
    windows: Path, snapshot: Snapshot, later: Holdout, generators: Iterable[str], trees: int
) -> dict[str, np.ndarray]:
    """Return NDCG@10 of each of the holdout's users, (users,), by what is left out of the ranker.

    Each ranker has as many trees as `trees` says.

    The users must have a past. The result is empty if a ranker has nothing to learn from.
    """
    learned_from = (*train_windows(windows), windows / "validation")
    learnt = [examples(window, generators, snapshot.switched_off) for window in learned_from]
    rankers = {
        out: ranker.fit_ranker([window.get(out, []) for window in learnt], list(of.features), trees)
        for out, of in variants(featured_candidates(snapshot, later.row[:1]), generators).items()
    }
    if None in rankers.values():
        return {}

    def visit(candidates: Candidates, part: slice) -> list[np.ndarray]:
        labels = csr_matrix(later.labels[part])
        ndcg = []
        for out, left in variants(candidates, generators).items():
            scores = ranker.predict(rankers[out], left)
            found, _ = ranker.best_lists(left, scores, labels.shape[0])
            ndcg.append(accuracy.per_user(found, labels, K)["ndcg"])
        return ndcg

    blocks = list(ranker.over_users(snapshot, later.row, visit, "ablation report"))
    return dict(zip(rankers, np.concatenate(blocks, axis=1), strict=True))


def als_by_epoch(snapshot: Snapshot, later: Holdout) -> list[float]:
    """Return the mean NDCG@10 of personal ALS after each epoch, up to twice the usual number.

    The users of the holdout must have a past.
    """
    hyperparameters = replace(
        snapshot.hyperparameters, als_epochs=2 * snapshot.hyperparameters.als_epochs
    )
    result = []

    def score(users: np.ndarray, items: np.ndarray) -> None:
        order, gram = NormOrder.of(items, snapshot.data.ties), items.T @ items

        def block(first: int, last: int) -> np.ndarray:
            rows = later.row[first:last]
            block_listens = snapshot.data.of_users(rows)
            tastes = users[rows]
            if hyperparameters.folds_in:
                tastes = als_model.recent_tastes(block_listens, items, gram, hyperparameters)
            out = block_listens.kept_out(hyperparameters.heard)
            found, _ = top_k(tastes, order, K, out)
            return accuracy.per_user(found, csr_matrix(later.labels[first:last]), K)["ndcg"]

        values = list(in_blocks(block, len(later.row), USERS_A_BLOCK, "epochs"))
        result.append(float(np.concatenate(values).mean()))

    factorise(training_weights(snapshot.data, hyperparameters), hyperparameters, score)
    return result
