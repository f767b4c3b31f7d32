"""The blending that would have foreseen most on some sessions.

Rules by turns are tried as they are; of the weighted rule every number is varied, one at a time.
So many tries find something that suits these sessions by chance, so the best rule is judged by
other users than those it was found on: unless it is surely better for them than the offline list,
that is served as it is.
"""

from collections.abc import Callable
from functools import cache
from itertools import combinations, product
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from jobs.contract.blending import LISTED, SOURCES, Blending, Source
from jobs.metrics.bootstrap import LEVELS, drawn_means
from jobs.runtime.progress import progress_bar
from jobs.selection.replay_sessions import K, Sessions
from jobs.selection.rule_scorer import RuleScorer

SEEN = ("0", "1", "2", "3+")  # numbers of events


MOST_PAIRS = 500  # of an event and a neighbour that a request may have to add up


SIZES = ((5, 50), (10, 20), (10, 50), (5, 100))  # events, neighbours


HALF_LIVES = (1.0, 2.0, 4.0, 8.0, 16.0, None)


WEIGHTS = (0.0, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0)  # of a typical best neighbour: its gain


STEPS: dict[str, tuple[Any, ...]] = {
    "next_played_weight": WEIGHTS,
    "similar_weight": WEIGHTS,
    "fold_in_weight": WEIGHTS,
    "offline_half_life": HALF_LIVES,
    "half_life": HALF_LIVES,
    "offline_half_place": (5.0, 10.0, 20.0, 40.0, 80.0),
    "score_exponent": (0.5, 0.75, 1.0),
}


START = {
    "next_played_weight": 0.25,
    "similar_weight": 0.12,
    "fold_in_weight": 0.25,
    "offline_half_life": 4.0,
    "half_life": 4.0,
    "offline_half_place": 20.0,
    "score_exponent": 1.0,
}


Numbers = dict[str, Any]


def by_seen(hit: np.ndarray, at: np.ndarray) -> dict[str, float]:
    """hit@10 by the number of events seen; a number that no play has is out."""
    seen = np.minimum(at, len(SEEN) - 1)
    found = {name: hit[seen == i] for i, name in enumerate(SEEN)}
    return {name: float(hits.mean()) for name, hits in found.items() if len(hits)}


def goodness(hit: np.ndarray, at: np.ndarray) -> float:
    """What is maximised: the mean over 1, 2 and 3+ events, so that long sessions don't decide."""
    found = by_seen(hit, at)
    return float(np.mean([found[name] for name in SEEN[1:] if name in found]))


def typical_scores(played: Sessions) -> dict[str, float]:
    """The mean score of the best track that each source brings; 1 where it brings none."""
    best = {
        source: lists.scores[lists.offsets[:-1][np.diff(lists.offsets) > 0]]
        for source, lists in played.lists.items()
    }
    first = played.nearest[1][:, 0]
    best["fold_in"] = first[first > 0]
    return {
        source: float(scores.mean()) if len(scores) and scores.mean() > 0 else 1.0
        for source, scores in best.items()
    }


def used_by(numbers: Numbers) -> tuple[Source, ...]:
    """Return the sources whose weight is above 0."""
    return tuple(source for source in SOURCES if numbers[f"{source}_weight"] > 0)


def weighted(numbers: Numbers, size: tuple[int, int], typical: dict[str, float]) -> Blending:
    """The rule of some numbers, whose weights are relative to the typical best score.

    A source of weight 0 is left out, and gets the other's weight in case a setting asks for it.
    """
    relative = {source: numbers[f"{source}_weight"] for source in SOURCES}
    used = used_by(numbers)
    best = {source: score ** numbers["score_exponent"] for source, score in typical.items()}
    weights = {
        f"{source}_weight": float(f"{(weight or max(relative.values())) / best[source]:.4g}")
        for source, weight in relative.items()
    }
    return Blending(
        **numbers | weights,
        rule="weighted",
        sources=used,
        events=size[0],
        neighbours=size[1],
    )


def climb(value: Callable[..., float], numbers: Numbers) -> tuple[float, Numbers]:
    """Change one number at a time, step by step up or down, as long as the value rises."""
    best, before = value(*numbers.values()), None
    while before != best:
        before = best
        for (name, steps), direction in product(STEPS.items(), (1, -1)):
            while 0 <= (at := steps.index(numbers[name]) + direction) < len(steps):
                tried = numbers | {name: steps[at]}
                reached = value(*tried.values())
                if reached <= best:
                    break
                best, numbers = reached, tried
    return best, numbers


def judge(
    played: Sessions, size: tuple[int, int], sources: tuple[Source, ...], progress: Any
) -> Callable[..., float]:
    """How good the weighted rule of a size is, as a function of its numbers, in order of STEPS.

    It is -1 for numbers that use no list of neighbours, or another source than these.
    """
    typical = typical_scores(played)
    contest = RuleScorer.of(played, Blending(sources=sources, events=size[0], neighbours=size[1]))

    @cache
    def value(*numbers: float | None) -> float:
        tried = dict(zip(STEPS, numbers, strict=True))
        used = used_by(tried)
        if not set(used).intersection(LISTED) or not set(sources).issuperset(used):
            return -1.0
        progress.update()
        hit = np.zeros(len(played), bool)
        hit[contest.plays] = contest.hits(weighted(tried, size, typical))
        return goodness(hit, played.at)

    return value


def best_weighted(played: Sessions, progress: Any) -> tuple[float, Blending]:
    """The best weighted rule: all its numbers for the first size, then what other sizes change."""
    best, numbers, chosen = -1.0, START, SIZES[0]
    for size in SIZES:
        start, sources = numbers, SOURCES
        if size[0] * size[1] * len(LISTED) > MOST_PAIRS:  # without the lesser one, then
            lesser = min(LISTED, key=lambda source: start[f"{source}_weight"])
            sources = tuple(source for source in SOURCES if source != lesser)
            start = start | {f"{lesser}_weight": 0.0}
        reached, tried = climb(judge(played, size, sources, progress), start)
        if reached > best:
            best, numbers, chosen = reached, tried, size
    return best, weighted(numbers, chosen, typical_scores(played))


def surely_better(hit: np.ndarray, other: np.ndarray, played: Sessions) -> bool:
    """Whether (plays,) hits are better than others, by goodness, in 97.5 % of draws of users."""
    seen = np.minimum(played.at, len(SEEN) - 1)
    bins = [seen == i for i in range(1, len(SEEN)) if (seen == i).any()]
    gain = hit.astype(float) - other
    columns = [values for some in bins for values in (some * gain, some)]
    n = len(played.tracks)
    of_users = np.column_stack([np.bincount(played.session, values, n) for values in columns])
    means = drawn_means(of_users)
    with np.errstate(invalid="ignore"):
        gains = (means[:, ::2] / means[:, 1::2]).mean(axis=1)
    return bool(np.quantile(np.nan_to_num(gains), LEVELS[0]) > 0)


def choose(played: Sessions) -> tuple[Blending, pd.DataFrame]:
    """The best rule on some sessions, and all that were compared, the offline list too.

    Where too few sessions have an event before a play, that is the default.
    """
    played, others = played.parted()
    if not ((played.at > 0).any() and (others.at > 0).any()):
        return Blending(), pd.DataFrame()
    offline = (goodness(played.offline_place < K, played.at), Blending(rule="offline"))
    with progress_bar(desc="replay choose", unit=" rules") as progress:
        rules = [
            Blending(sources=sources)
            for n in range(1, len(SOURCES) + 1)
            for sources in combinations(SOURCES, n)
        ]
        tried = [(goodness(played.hits(rule), played.at), rule) for rule in rules]
        tried.append(best_weighted(played, progress))
    best = max(tried, key=lambda pair: pair[0])[1]
    if not surely_better(others.hits(best), others.offline_place < K, others):
        best = msgspec.structs.replace(best, rule="offline")
    rows = [{"hit@10": value} | msgspec.to_builtins(rule) for value, rule in [*tried, offline]]
    return best, pd.DataFrame(rows).sort_values("hit@10", ascending=False, kind="stable")
