"""Search for the hyperparameters with which each generator predicts the held-out plays best.

Each generator is tried alone on windows of the past, by hill climbing on ladders of values. A step
has to gain a margin, since a smaller gain on so few users is noise. Half-lives are tried along
their whole ladders: long ones differ little in short histories, so that a step from one to the next
would gain nothing, although a value further on is better.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract import tables
from jobs.data.listens import Listens
from jobs.models.als_training import factorise, training_weights
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.next_played import follow_counts
from jobs.runtime import parallel
from jobs.selection import hill_climb
from jobs.selection.hill_climb import Axis, best_neighbour, best_of_all
from jobs.selection.tuning_window import (
    TuningWindow,
    next_played_relation,
    score_als,
    score_next_played,
    score_popular,
    score_replayed,
)

LARGE_LISTENS = 20_000_000  # listens: with more, ALS gets FACTORS_OF_LARGE
FACTORS_OF_LARGE = 64
USUAL_TRACKS = (
    20_000  # tracks: with more, the penalty would grow, so als_regularization starts lower
)
MARGIN = 1.01  # factor that NDCG@10 has to gain for a step: one user of 1,000 can change it by .3 %
FEW_REPEATERS = 0.01  # share of users: with fewer who repeat tracks, repeats are not looked at
TRIAL_FACTORS, TRIAL_EPOCHS = 64, 6  # of ALS in the search: enough to compare values
MOST_TRIAL_NUMBERS = 10_000_000  # tracks x factors: with more, ALS gets half of TRIAL_FACTORS
KEPT_FACTORS = 16  # matrices of item factors from trials that are kept in memory
HALF_LIVES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, None)  # plays
DAYS = (1 / 144, 1 / 48, 1 / 24, 0.25, 1.0, 7.0, 30.0, 90.0, 365.0, None)  # 10 minutes to a year
RECENCY = (0.25, 1.0, 7.0, 30.0, 120.0, None)  # days
LADDERS: dict[str, tuple[Any, ...]] = {
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
    "als_like_weight": (0.0, 1.0, 3.0, 10.0),
    "als_by_share": (False, True),
}


POPULAR = ("popular_half_life",)
NEXT_PLAYED = ("next_half_life", "next_target_exponent", "next_source_exponent")
NEXT_PLAYED_RELATION = ("next_recency", "next_target_exponent", "next_source_exponent")
ALS = ("als_regularization", "als_unobserved", "als_half_life")
ALS_TRAINING = (
    "als_regularization", "als_unobserved", "als_repeats", "als_recency", "als_like_weight",
    "als_by_share",
)  # fmt: skip
WHOLE_LADDERS = ("als_like_weight",)  # a little weight may do nothing where much does something


Score = Callable[[Hyperparameters], float]


def tune(windows: list[TuningWindow], start: Hyperparameters, log: list[str]) -> Hyperparameters:
    """Return the hyperparameters with the best NDCG@10 of each generator, the mean over windows.

    Appends one line for each search to the log. Half-lives in days are tried for the other
    generators only if one makes the top list better.
    """
    repeats = any(share_of_repeaters(window.listens) > FEW_REPEATERS for window in windows)
    popular, next_played = mean_score(windows, score_popular), next_played_score(windows)
    als, replayed = als_score(windows), mean_score(windows, score_replayed)

    best = climb(start, POPULAR, popular, log)
    fades = best.popular_half_life is not None
    best = climb(best, NEXT_PLAYED, next_played, log)
    if fades:
        best = climb(best, ("next_recency",), next_played, log)
    best = climb(best, (*ALS, "als_repeats") if repeats else ALS, als, log)
    if fades and (fading := climb(best, ("als_recency",), als, log)) != best:
        best = climb(fading, ALS, als, log)
    if any(window.listens.share is not None for window in windows):
        best = climb(replace(best, als_by_share=False), ("als_by_share",), als, log)
    if any(window.listens.liked is not None and window.listens.liked.nnz for window in windows):
        best = climb(replace(best, als_like_weight=0.0), ("als_like_weight",), als, log)
    if repeats and best.heard == "include":
        best = climb(best, ("own_half_life",), replayed, log)
    return best


def share_of_repeaters(listens: Listens) -> float:
    """Return the share of the users who played a track more than once."""
    tracks, plays = listens.pairs().getnnz(axis=1), np.diff(listens.starts)
    return float(np.mean(tracks < plays))


def climb(
    start: Hyperparameters, names: tuple[str, ...], score: Score, log: list[str]
) -> Hyperparameters:
    """Move some hyperparameters along their ladders while the score rises; log the best values."""
    axes = {}
    for name in names:
        whole = None in LADDERS[name] or name in WHOLE_LADDERS
        search = best_of_all(MARGIN) if whole else best_neighbour(MARGIN)
        axes[name] = Axis(LADDERS[name], search)
    point = {name: getattr(start, name) for name in names}
    reached, point = hill_climb.climb(lambda values: score(replace(start, **values)), point, axes)
    values = ", ".join(f"{name} {value}" for name, value in point.items())
    log.append(f"{values}: NDCG@10 {reached:.4f}")
    return replace(start, **point)


def mean_score(
    windows: list[TuningWindow], score: Callable[[TuningWindow, Hyperparameters], float]
) -> Score:
    """Return the function that computes the mean of a score over the windows."""
    return lambda tried: mean_over(windows, lambda _, window: score(window, tried))


def mean_over(windows: list[TuningWindow], score: Callable[[int, TuningWindow], float]) -> float:
    """Return the mean of score(number of the window, window).

    Small windows have too little work for several threads, so they are scored side by side. Large
    ones are scored one after the other, since side by side they would need more memory.
    """
    n_threads = None if windows[0].listens.shape[1] <= USUAL_TRACKS else 1
    pairs = [*enumerate(windows)]
    return float(np.mean(parallel.each(lambda pair: score(*pair), pairs, n_threads)))


def next_played_score(windows: list[TuningWindow]) -> Score:
    """Return the function that scores "next_played"; it keeps what takes long to compute.

    That is the counts, and the last relation between tracks, which no half-life changes.
    """

    @cache
    def counts(index: int, counted: Hyperparameters) -> csr_matrix:
        window = windows[index]
        return csr_matrix(follow_counts(window.listens, counted)[window.source_tracks])

    @lru_cache(len(windows))
    def relation(index: int, related: Hyperparameters) -> csr_matrix:
        counted = replace(Hyperparameters(), next_recency=related.next_recency)
        return next_played_relation(windows[index], counts(index, counted), related)

    def score(tried: Hyperparameters) -> float:
        related = replace(
            Hyperparameters(), **{name: getattr(tried, name) for name in NEXT_PLAYED_RELATION}
        )
        return mean_over(
            windows, lambda i, window: score_next_played(window, relation(i, related), tried)
        )

    return score


def als_score(windows: list[TuningWindow]) -> Score:
    """Return the function that scores ALS; it keeps the last KEPT_FACTORS item factors.

    They have fewer dimensions and epochs than those of the final model.
    """
    large = windows[0].listens.shape[1] * TRIAL_FACTORS > MOST_TRIAL_NUMBERS
    factors = TRIAL_FACTORS // 2 if large else TRIAL_FACTORS
    small = Hyperparameters(als_factors=factors, als_epochs=TRIAL_EPOCHS)

    @lru_cache(KEPT_FACTORS)
    def item_factors(index: int, trained: Hyperparameters) -> np.ndarray:
        return factorise(training_weights(windows[index].listens, trained), trained)[1]

    def score(tried: Hyperparameters) -> float:
        trained = replace(small, **{name: getattr(tried, name) for name in ALS_TRAINING})
        return mean_over(
            windows, lambda i, window: score_als(window, item_factors(i, trained), tried)
        )

    return score


def by_size(work: Path, start: Hyperparameters) -> Hyperparameters:
    """Return the hyperparameters to start the search from, adapted to the size of WORK's data."""
    factors = factors_for(tables.n_rows(tables.LISTENS, work), start.als_factors)
    start = replace(start, als_factors=factors)
    n_tracks = max(tables.n_rows(tables.ITEMS, work), USUAL_TRACKS)
    penalty = start.als_regularization * USUAL_TRACKS / n_tracks
    ladder = np.array(LADDERS["als_regularization"])
    nearest = ladder[np.argmin(np.abs(np.log(ladder / penalty)))]
    return replace(start, als_regularization=float(nearest))


def factors_for(listens: int, usual: int = Hyperparameters.als_factors) -> int:
    """Return the length of the vectors of ALS for so many listens."""
    return FACTORS_OF_LARGE if listens > LARGE_LISTENS else usual
