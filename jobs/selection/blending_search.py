"""Search for the blending rule that predicts the most plays of some sessions.

Rules that take tracks from both lists in turn are compared as they are. The numbers of the weighted
rule are varied by hill climbing. A search over so many rules also finds some that fit these
sessions only by chance. So the best rule is tested on users who took no part in the search: unless
it is significantly better for them than the offline list, the offline list is served as it is.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from jobs.contract.blending import LISTED, SOURCES, Blending, Source
from jobs.data.bounds import ENOUGH_USERS
from jobs.metrics.bootstrap import LEVELS, drawn_means
from jobs.runtime.progress import progress_bar
from jobs.selection.hill_climb import Axis, Point, climb, step_by_step
from jobs.selection.replay_sessions import K, Sessions
from jobs.selection.rule_scorer import RuleScorer

EVENTS_SEEN = ("0", "1", "2", "3+")  # groups of plays, by the number of events before the play
MOST_PAIRS = 500  # pairs of an event and a neighbour whose scores one request may have to add up
SIZES = ((5, 50), (10, 20), (10, 50), (5, 100))  # (events, neighbours of each event)
HALF_LIVES = (1.0, 2.0, 4.0, 8.0, 16.0, None)  # events
WEIGHTS = (0.0, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0)  # what a source's typical best score counts
LEAST_SCORE = 1e-9  # smaller typical scores are rounding errors
LADDERS: dict[str, tuple[float | None, ...]] = {
    "next_played_weight": WEIGHTS,
    "similar_weight": WEIGHTS,
    "fold_in_weight": WEIGHTS,
    "offline_half_life": HALF_LIVES,
    "half_life": HALF_LIVES,
    "offline_half_place": (5.0, 10.0, 20.0, 40.0, 80.0),
    "score_exponent": (0.5, 0.75, 1.0),
}


START: Point = {
    "next_played_weight": 0.25,
    "similar_weight": 0.12,
    "fold_in_weight": 0.25,
    "offline_half_life": 4.0,
    "half_life": 4.0,
    "offline_half_place": 20.0,
    "score_exponent": 1.0,
}


def hit_rates(hits: np.ndarray, events: np.ndarray) -> dict[str, float]:
    """Return hit@10 by the number of events seen; numbers that no play has are left out.

    hits (plays,) bool; events (plays,) are the numbers of events before the plays.
    """
    seen = np.minimum(events, len(EVENTS_SEEN) - 1)
    by_seen = {name: hits[seen == i] for i, name in enumerate(EVENTS_SEEN)}
    return {name: float(group.mean()) for name, group in by_seen.items() if len(group)}


def mean_hit_rate(hits: np.ndarray, events: np.ndarray) -> float:
    """Return what the search maximises: the mean of hit@10 after 1, 2, and 3 or more events.

    A mean over all plays would depend mostly on long sessions, which have the most plays.
    """
    rates = hit_rates(hits, events)
    return float(np.mean([rates[name] for name in EVENTS_SEEN[1:] if name in rates]))


def typical_scores(sessions: Sessions) -> dict[str, float]:
    """Return the mean score of each source's best track.

    It is 1 for a source without any track, and where the scores are so small that they are rounding
    errors, as those of an ALS model that has found nothing and has vectors of nearly zero length.
    """
    best = {
        source: lists.scores[lists.offsets[:-1][np.diff(lists.offsets) > 0]]
        for source, lists in sessions.lists.items()
    }
    first = sessions.nearest[1][:, 0]
    best["fold_in"] = first[first > 0]
    return {
        source: float(scores.mean()) if len(scores) and scores.mean() > LEAST_SCORE else 1.0
        for source, scores in best.items()
    }


def used_sources(numbers: Point) -> tuple[Source, ...]:
    """Return the sources whose weight is above 0."""
    return tuple(source for source in SOURCES if numbers[f"{source}_weight"] > 0)


def weighted_rule(numbers: Point, size: tuple[int, int], typical: dict[str, float]) -> Blending:
    """Return the weighted rule with these numbers, for a size of (events, neighbours).

    The weights among the numbers are relative: with a weight of 0.25 a source's typical best score
    counts 0.25, so if that score is 0.5, the rule has the weight 0.25 / 0.5 = 0.5. A source with a
    weight of 0 is left out. Its weight in the rule is then computed from the largest of the other
    weights; it has an effect only if a setting of the service adds that source again.
    """
    relative = {source: numbers[f"{source}_weight"] for source in SOURCES}
    best = {source: score ** numbers["score_exponent"] for source, score in typical.items()}
    weights = {
        f"{source}_weight": float(f"{(weight or max(relative.values())) / best[source]:.4g}")
        for source, weight in relative.items()
    }
    return Blending(
        **numbers | weights,
        rule="weighted",
        sources=used_sources(numbers),
        events=size[0],
        neighbours=size[1],
    )


def score_of_numbers(
    sessions: Sessions, size: tuple[int, int], sources: tuple[Source, ...], progress: Any
) -> Callable[[Point], float]:
    """Return the function that scores the weighted rule of a size, given its numbers.

    It returns -1 for numbers that use no source with lists of neighbours (LISTED), or a source that
    is not in `sources`.
    """
    typical = typical_scores(sessions)
    scorer = RuleScorer.of(sessions, Blending(sources=sources, events=size[0], neighbours=size[1]))

    def score(numbers: Point) -> float:
        used = used_sources(numbers)
        if not set(used).intersection(LISTED) or not set(sources).issuperset(used):
            return -1.0
        progress.update()
        hits = np.zeros(len(sessions), bool)
        hits[scorer.plays] = scorer.hits(weighted_rule(numbers, size, typical))
        return mean_hit_rate(hits, sessions.at)

    return score


def best_weighted(sessions: Sessions, progress: Any) -> tuple[float, Blending]:
    """Return the best weighted rule and its score.

    All numbers are varied for each size, starting from the best numbers so far. If a size would
    make a request add up more than MOST_PAIRS scores, one of the two sources with lists of
    neighbours is left out: the one with the smaller weight.
    """
    axes = {name: Axis(ladder, step_by_step) for name, ladder in LADDERS.items()}
    best, best_numbers, best_size = -1.0, START, SIZES[0]
    for size in SIZES:
        start, sources = best_numbers, SOURCES
        if size[0] * size[1] * len(LISTED) > MOST_PAIRS:
            lesser = min(LISTED, key=lambda source: start[f"{source}_weight"])
            sources = tuple(source for source in SOURCES if source != lesser)
            start = start | {f"{lesser}_weight": 0.0}
        score, numbers = climb(score_of_numbers(sessions, size, sources, progress), start, axes)
        if score > best:
            best, best_numbers, best_size = score, numbers, size
    return best, weighted_rule(best_numbers, best_size, typical_scores(sessions))


def is_surely_better(hits: np.ndarray, baseline: np.ndarray, sessions: Sessions) -> bool:
    """Return whether hits (plays,) have a significantly higher mean_hit_rate than a baseline's.

    That is so if it is higher in 97.5 % of the draws of users, by the paired bootstrap (see
    metrics.bootstrap). A hit rate is the sum of the users' hits divided by the sum of their plays,
    so both sums are computed for each draw, and then divided.
    """
    seen = np.minimum(sessions.at, len(EVENTS_SEEN) - 1)
    bins = [seen == i for i in range(1, len(EVENTS_SEEN)) if (seen == i).any()]
    gain = hits.astype(float) - baseline
    columns = [values for in_bin in bins for values in (in_bin * gain, in_bin)]
    n = len(sessions.tracks)
    of_users = np.column_stack([np.bincount(sessions.session, values, n) for values in columns])
    means = drawn_means(of_users)
    with np.errstate(invalid="ignore"):
        gains = (means[:, ::2] / means[:, 1::2]).mean(axis=1)
    return bool(np.quantile(np.nan_to_num(gains), LEVELS[0]) > 0)


def users_with_events(sessions: Sessions) -> int:
    """Return how many users have a play with an event before it."""
    return len(np.unique(sessions.session[sessions.at > 0]))


def choose_blending(sessions: Sessions) -> tuple[Blending, pd.DataFrame]:
    """Return the rule to serve, and a table of all rules compared, with hit@10, the best first.

    Returns the default rule and an empty table if fewer than ENOUGH_USERS users have a play with an
    event before it, or if none of the users of the search has one, or none of the others.
    """
    searched, others = sessions.split()
    if users_with_events(sessions) < ENOUGH_USERS:
        return Blending(), pd.DataFrame()
    if not ((searched.at > 0).any() and (others.at > 0).any()):
        return Blending(), pd.DataFrame()
    offline_score = mean_hit_rate(searched.offline_place < K, searched.at)
    with progress_bar(desc="replay choose", unit=" rules") as progress:
        rules = [
            Blending(sources=sources)
            for n in range(1, len(SOURCES) + 1)
            for sources in combinations(SOURCES, n)
        ]
        scored = [(mean_hit_rate(searched.hits(rule), searched.at), rule) for rule in rules]
        scored.append(best_weighted(searched, progress))
    best = max(scored, key=lambda pair: pair[0])[1]
    if not is_surely_better(others.hits(best), others.offline_place < K, others):
        best = msgspec.structs.replace(best, rule="offline")
    scored.append((offline_score, Blending(rule="offline")))
    rows = [{"hit@10": score} | msgspec.to_builtins(rule) for score, rule in scored]
    return best, pd.DataFrame(rows).sort_values("hit@10", ascending=False, kind="stable")
