"""What the parts are worth: the ranker without each generator, and ALS after each epoch.

A generator is left out as if it had never been written: the candidates that it alone brings, its
score and place of the others. The ranker learns anew from the windows "train" and "validation" and
orders the candidates of "test": with all generators, without each, and again with all but its
features in another order, which shows how much is chance.
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
from jobs.metrics import accuracy
from jobs.models import als_model
from jobs.models.als_training import factorise, training_weights
from jobs.ranking import ranker
from jobs.ranking.candidates import Candidates
from jobs.ranking.features import featured_candidates
from jobs.ranking.ranker import TrainingExamples
from jobs.ranking.snapshot import Snapshot
from jobs.runtime.parallel import in_blocks

K = 10
USERS_A_BLOCK = 512
MOST_USERS = 5_000  # of a window that the rankers learn from
WHOLE, AGAIN = "nothing", "nothing, learnt again"
FOLLOWING = ("next_played", "after_last")  # two generators with one source, what follows a play


def variants(pool: Candidates, generators: Iterable[str]) -> dict[str, Candidates]:
    """The candidates by what is left out."""
    return {
        WHOLE: pool,
        AGAIN: replace(pool, features=dict(reversed(pool.features.items()))),
        **{name: without(pool, name) for name in generators},
        " and ".join(FOLLOWING): without(pool, *FOLLOWING, features=r"follows_\w+"),
    }


def without(pool: Candidates, *generators: str, features: str = "") -> Candidates:
    """The candidates that there would be without some generators, their own features, and others.

    A generator's own features are its score, the ratio to the user's best one, and the place.
    """
    own = rf"(?:{'|'.join(generators)})(?:_recent)?_(?:score|to_best|rank)|{features}"
    places = {name: of for name, of in pool.places.items() if name not in generators}
    agreeing = np.sum([~np.isnan(of) for of in places.values()], axis=0)
    kept = agreeing > 0
    left = {name: of[kept] for name, of in pool.features.items() if not re.fullmatch(own, name)}
    return replace(
        pool,
        row=pool.row[kept],
        item=pool.item[kept],
        top_place=pool.top_place[kept],
        places={name: of[kept] for name, of in places.items()},
        features=left | {"generators": agreeing[kept].astype(np.float32)},
    )


def examples(window: Path, generators: Iterable[str]) -> dict[str, list[TrainingExamples]]:
    """What the ranker would learn from a window, by what is left out."""
    past = Snapshot.read(window)
    later = holdout.read(window, past.data, past.chosen.heard).warm().sample(MOST_USERS)

    def visit(pool: Candidates, part: slice) -> dict[str, TrainingExamples]:
        labels, users = csr_matrix(later.labels[part]), later.row[part]
        left = variants(pool, generators)
        return {out: ranker.collect_examples(of, labels, users) for out, of in left.items()}

    result: dict[str, list[TrainingExamples]] = {}
    for drawn in ranker.over_users(past, later.row, visit, f"ablation {window.name}"):
        for out, some in drawn.items():
            result.setdefault(out, []).append(some)
    return result


def leave_one_out(
    windows: Path, past: Snapshot, later: Holdout, generators: Iterable[str]
) -> dict[str, np.ndarray]:
    """NDCG@10 of each of the holdout's users, by what the ranker did without.

    The users must have a past. Empty where the windows leave nothing to learn from.
    """
    learnt = [examples(windows / name, generators) for name in ("train", "validation")]
    rankers = {
        out: ranker.fit_ranker([window.get(out, []) for window in learnt], list(of.features))
        for out, of in variants(featured_candidates(past, later.row[:1]), generators).items()
    }
    if None in rankers.values():
        return {}

    def visit(pool: Candidates, part: slice) -> list[np.ndarray]:
        labels = csr_matrix(later.labels[part])
        ndcg = []
        for out, left in variants(pool, generators).items():
            scores = ranker.predict(rankers[out], left)
            found, _ = ranker.best_lists(left, scores, labels.shape[0])
            ndcg.append(accuracy.per_user(found, labels, K)["ndcg"])
        return ndcg

    blocks = list(ranker.over_users(past, later.row, visit, "ablation report"))
    return dict(zip(rankers, np.concatenate(blocks, axis=1), strict=True))


def als_by_epoch(past: Snapshot, later: Holdout) -> list[float]:
    """NDCG@10 of personal ALS after each epoch, twice as many as are used; users have a past."""
    chosen = replace(past.chosen, als_epochs=2 * past.chosen.als_epochs)
    result = []

    def score(users: np.ndarray, items: np.ndarray) -> None:
        order, gram = NormOrder.of(items), items.T @ items

        def block(first: int, last: int) -> np.ndarray:
            rows = later.row[first:last]
            own = past.data.of_users(rows)
            tastes = users[rows]
            if chosen.folds_in:
                tastes = als_model.recent_tastes(own, items, gram, chosen)
            heard = own.pairs() if chosen.heard == "exclude" else None
            found, _ = top_k(tastes, order, K, heard)
            return accuracy.per_user(found, csr_matrix(later.labels[first:last]), K)["ndcg"]

        values = list(in_blocks(block, len(later.row), USERS_A_BLOCK, "epochs"))
        result.append(float(np.concatenate(values).mean()))

    factorise(training_weights(past.data, chosen), chosen, score)
    return result
