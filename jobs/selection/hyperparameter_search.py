"""Settings by what they would have foreseen: each generator is tried on windows of the past."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract import tables
from jobs.contract.top_k import NormOrder, top_k
from jobs.data import holdout, listens
from jobs.data.holdout import Holdout
from jobs.data.listens import RECENT, Listens
from jobs.metrics import accuracy
from jobs.models import als_model
from jobs.models.als_training import factorise, training_weights
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.next_played import follow_counts, kept_a_track, normalise
from jobs.models.popularity import popularity
from jobs.models.ranked_lists import best_of_rows, first_unheard, matrix_of_lists
from jobs.runtime import parallel
from jobs.runtime.parallel import in_blocks

MOST_LISTENS = {"quick": 200_000, "full": 2_000_000}


LISTENS_A_TRACK = {"quick": 2, "full": 20}  # with fewer, no taste but popularity can be learnt


MOST_USERS = {"quick": 1_000, "full": 20_000}


LARGE = 20_000_000  # listens, above which ALS has fewer factors


USUAL_TRACKS = 20_000  # above which the penalty, which grows with the tracks, starts lower


SEED = 20


K = 10


MARGIN = 1.003  # a step has to gain that much, or it is noise


LADDER_MARGIN = 1.01  # and that much as the best of a whole ladder


TUNED_FACTORS, TUNED_EPOCHS = 64, 6  # of a trial: enough to tell settings apart


TUNED_NUMBERS = 10_000_000  # tracks x factors of a trial, above which 32 factors have to do


KEPT_FACTORS = 16  # trials whose factors are kept


USERS_A_BLOCK = 512


HALF_LIVES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, None)  # plays


DAYS = (1 / 144, 1 / 48, 1 / 24, 0.25, 1.0, 7.0, 30.0, 90.0, 365.0, None)


RECENCY = (0.25, 1.0, 7.0, 30.0, 120.0, None)  # days


LADDERS = {
    "popular_half_life": DAYS,
    "own_half_life": (*HALF_LIVES[:-1], 256.0, None),
    "next_half_life": HALF_LIVES,
    "next_recency": RECENCY,
    "next_target_exponent": (0.0, 0.15, 0.3, 0.45, 0.6),
    "next_source_exponent": (0.0, 0.25, 0.5, 0.75, 1.0),
    "als_regularization": (3e-5, 1e-4, 3e-4, 0.001, 0.002, 0.004, 0.007, 0.01, 0.015, 0.025, 0.05),
    "als_unobserved": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    "als_half_life": HALF_LIVES,
    "als_recency": RECENCY,
    "als_repeats": (0.0, 0.25, 0.5, 1.0),
}


TRAINING = ("als_regularization", "als_unobserved", "als_repeats", "als_recency")


@dataclass(frozen=True)
class TuningWindow:
    """A window's past and some of its users with what they played next."""

    past: Listens
    later: Holdout

    @classmethod
    def read(cls, window: Path, effort: str, heard: str) -> "TuningWindow":
        """Read a window, cut down to a sample of its users where it is large."""
        past = listens.load(window)
        later = holdout.read(window, past, heard).warm()
        n, tracks = past.shape
        most = max(MOST_LISTENS[effort], LISTENS_A_TRACK[effort] * tracks)
        kept = int(n * min(1, most / max(len(past.item), 1)))
        users = np.sort(np.random.default_rng(SEED).permutation(n)[: max(kept, 1)])
        later = later.take(np.isin(later.row, users))
        later = Holdout(later.user_ids, np.searchsorted(users, later.row), later.labels)
        return cls(past.of_users(users), later.sample(MOST_USERS[effort]))

    @cached_property
    def played(self) -> np.ndarray:
        """The tracks that relations are applied to: the last plays of the holdout's users."""
        return np.unique(self.past.of_users(self.later.row).latest(RECENT).item)

    def ndcg(self, recommend: Callable[[np.ndarray, csr_matrix], np.ndarray], heard: str) -> float:
        """NDCG@10 of recommend(users' rows, what they have heard) over the holdout's users."""
        row = self.later.row

        def block(first: int, last: int) -> np.ndarray:
            users = row[first:last]
            known = self.past.of_users(users).pairs()
            known = known if heard == "exclude" else csr_matrix(known.shape, dtype=np.float32)
            found = recommend(users, known)
            labels = csr_matrix(self.later.labels[first:last])
            return accuracy.per_user(found, labels, K)["ndcg"]

        values = list(in_blocks(block, len(row), USERS_A_BLOCK, "tune"))
        return float(np.concatenate(values).mean()) if values else 0.0


def popular_score(trial: TuningWindow, chosen: Hyperparameters) -> float:
    """NDCG@10 of the top list."""
    top = popularity(trial.past, chosen.popular_half_life)["track_id"].to_numpy()
    order = np.searchsorted(trial.past.track_ids, top).astype(np.int32)
    return trial.ndcg(lambda users, heard: first_unheard(order, heard), chosen.heard)


def next_score(trial: TuningWindow, counts: csr_matrix, chosen: Hyperparameters) -> float:
    """NDCG@10 of what is played next; counts (trial.played, items) are of jobs.next_played."""
    plays = np.bincount(trial.past.item, minlength=trial.past.shape[1])
    lists = best_of_rows(normalise(counts, plays, chosen), kept_a_track(len(plays)))
    relation = matrix_of_lists(*lists, len(plays))

    def recommend(users: np.ndarray, heard: csr_matrix) -> np.ndarray:
        recent = trial.past.of_users(users).latest(RECENT)
        scores = recent.profiles(chosen.next_half_life)[:, trial.played] @ relation
        return best_of_rows(csr_matrix(scores - scores.multiply(heard)), K)[0]

    return trial.ndcg(recommend, chosen.heard)


def als_score(trial: TuningWindow, items: np.ndarray, chosen: Hyperparameters) -> float:
    """NDCG@10 of the factorisation whose item factors are given, users folded in."""
    order, gram = NormOrder.of(items), items.T @ items

    def recommend(users: np.ndarray, heard: csr_matrix) -> np.ndarray:
        block = trial.past.of_users(users)
        vectors = als_model.recent_tastes(block, items, gram, chosen)
        return top_k(vectors, order, K, heard)[0]

    return trial.ndcg(recommend, chosen.heard)


def own_score(trial: TuningWindow, chosen: Hyperparameters) -> float:
    """NDCG@10 of the user's own plays."""

    def recommend(users: np.ndarray, _: csr_matrix) -> np.ndarray:
        return best_of_rows(trial.past.of_users(users).profiles(chosen.own_half_life), K)[0]

    return trial.ndcg(recommend, chosen.heard)


def climb(
    chosen: Hyperparameters,
    names: tuple[str, ...],
    score: Callable[[Hyperparameters], float],
    log: list[str],
) -> Hyperparameters:
    """Move one setting after another to a better place on its ladder while the score rises."""
    known = cache(score)
    moved = True
    while moved:
        moved = False
        for name in names:
            margin = LADDER_MARGIN if None in LADDERS[name] else MARGIN
            best = max(_nearby(chosen, name), key=known)
            while known(best) > margin * known(chosen):
                chosen, moved = best, True
                best = max(_nearby(chosen, name), key=known)
    values = ", ".join(f"{name} {getattr(chosen, name)}" for name in names)
    log.append(f"{values}: NDCG@10 {known(chosen):.4f}")
    return chosen


def _nearby(chosen: Hyperparameters, name: str) -> list[Hyperparameters]:
    """The settings with other values of one: all of what fades, otherwise the two neighbours."""
    ladder: tuple[Any, ...] = LADDERS[name]
    place = ladder.index(getattr(chosen, name))
    near = ladder if None in ladder else ladder[max(place - 1, 0) : place + 2]
    changes: list[dict[str, Any]] = [{name: value} for value in near]
    return [replace(chosen, **change) for change in changes]


def tune(trials: list[TuningWindow], chosen: Hyperparameters, log: list[str]) -> Hyperparameters:
    """The settings that score best on the trials, each generator by itself."""
    # A small window has too little work for several threads, so the windows go side by side. Large
    # ones go one after the other, since side by side they would need more memory.
    n_threads = None if trials[0].past.shape[1] <= USUAL_TRACKS else 1

    def mean(score: Callable[[int, TuningWindow], float]) -> float:
        scores = parallel.each(lambda pair: score(*pair), [*enumerate(trials)], n_threads)
        return float(np.mean(scores))

    chosen = climb(
        chosen, ("popular_half_life",), lambda s: mean(lambda _, t: popular_score(t, s)), log
    )
    fades = chosen.popular_half_life is not None

    @cache
    def counts(index: int, counted: Hyperparameters) -> csr_matrix:
        trial = trials[index]
        return csr_matrix(follow_counts(trial.past, counted)[trial.played])

    def following(s: Hyperparameters) -> float:
        counted = replace(Hyperparameters(), next_recency=s.next_recency)
        return mean(lambda i, trial: next_score(trial, counts(i, counted), s))

    names = ("next_half_life", "next_target_exponent", "next_source_exponent")
    chosen = climb(chosen, names, following, log)
    if fades:
        chosen = climb(chosen, ("next_recency",), following, log)

    huge = trials[0].past.shape[1] * TUNED_FACTORS > TUNED_NUMBERS
    dimensions = TUNED_FACTORS // 2 if huge else TUNED_FACTORS
    reduced = replace(chosen, als_factors=dimensions, als_epochs=TUNED_EPOCHS)

    @lru_cache(KEPT_FACTORS)
    def factors(index: int, trained: Hyperparameters) -> np.ndarray:
        past = trials[index].past
        return factorise(training_weights(past, trained), trained)[1]

    def als(s: Hyperparameters) -> float:
        trained = replace(reduced, **{name: getattr(s, name) for name in TRAINING})
        return mean(lambda i, trial: als_score(trial, factors(i, trained), s))

    names = "als_regularization", "als_unobserved", "als_half_life"
    repeats = any(trial.past.pairs().nnz < len(trial.past.item) for trial in trials)
    chosen = climb(chosen, (*names, "als_repeats") if repeats else names, als, log)
    if fades and (fading := climb(chosen, ("als_recency",), als, log)) != chosen:
        chosen = climb(fading, names, als, log)
    if repeats and chosen.heard == "include":
        chosen = climb(
            chosen, ("own_half_life",), lambda s: mean(lambda _, t: own_score(t, s)), log
        )
    return chosen


def by_size(work: Path, chosen: Hyperparameters) -> Hyperparameters:
    """The settings with those changed to start from that depend on the size of WORK's data."""
    if tables.n_rows(tables.LISTENS, work) > LARGE:
        chosen = replace(chosen, als_factors=64)
    tracks = max(tables.n_rows(tables.ITEMS, work), USUAL_TRACKS)
    penalty = chosen.als_regularization * USUAL_TRACKS / tracks
    ladder = np.array(LADDERS["als_regularization"])
    nearest = ladder[np.argmin(np.abs(np.log(ladder / penalty)))]
    return replace(chosen, als_regularization=float(nearest))
