"""Search for the weighted blending rule that predicts the most plays of some sessions.

The numbers of the rule are varied by hill climbing, for each of some sizes. It is searched on
several parts of the plays at once: what a rule would have hit is computed once, and counted for
each part. A rule's score is the mean of hit@5, hit@10 and hit@20, although it is judged by hit@10:
steps of the search by hit@10 alone follow chance more often.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jobs.contract.blending import LISTED, SOURCES, Blending, Source
from jobs.runtime import parallel
from jobs.selection.hill_climb import Axis, Point, climb, step_by_step
from jobs.selection.hit_rates import mean_hit_rate
from jobs.selection.replay_sessions import Sessions
from jobs.selection.rule_scorer import RuleScorer

MOST_PAIRS = 500  # pairs of an event and a neighbour whose scores one request may have to add up
MOST_THREADS = 4  # that score plays, since to gather the entries of each looks at all plays
FIRST = (5, 10, 20)  # lengths of the lists that a rule is searched by
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


class Found(NamedTuple):
    """Numbers of the weighted rule, for a size of (events, neighbours), and their score."""

    score: float
    numbers: Point
    size: tuple[int, int]


def typical_scores(sessions: Sessions) -> dict[Source, float]:
    """Return the mean score of each source's best track, of the sources that bring any.

    A source is left out if it has no track, and where its scores are so small that they are
    rounding errors, as those of an ALS model that has found nothing and has vectors of nearly zero
    length.
    """
    first = sessions.nearest[1][:, 0]
    best = {"fold_in": first[first > 0]} | {
        source: lists.scores[lists.offsets[:-1][np.diff(lists.offsets) > 0]]
        for source, lists in sessions.lists.items()
    }
    return {
        source: float(best[source].mean())
        for source in SOURCES
        if len(best[source]) and best[source].mean() > LEAST_SCORE
    }


def used_sources(numbers: Point) -> tuple[Source, ...]:
    """Return the sources whose weight is above 0."""
    return tuple(source for source in SOURCES if numbers[f"{source}_weight"] > 0)


def weighted_rule(numbers: Point, size: tuple[int, int], typical: dict[Source, float]) -> Blending:
    """Return the weighted rule with these numbers, for a size of (events, neighbours).

    The weights among the numbers are relative: with a weight of 0.25 a source's typical best score
    counts 0.25, so if that score is 0.5, the rule has the weight 0.25 / 0.5 = 0.5. A source with a
    weight of 0 is left out. Its weight in the rule is then computed from the largest of the other
    weights; it has an effect only if a setting of the service adds that source again.
    """
    relative = {source: numbers[f"{source}_weight"] for source in SOURCES}
    best = {source: typical.get(source, 1.0) ** numbers["score_exponent"] for source in SOURCES}
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


def search(
    sessions: Sessions,
    parts: Sequence[np.ndarray],
    typical: dict[Source, float],
    progress: Any = None,
) -> list[Found]:
    """Return the best weighted rule for each of some parts of the plays, (plays,) bool each.

    All numbers are varied for each size, starting from the best numbers so far. A rule uses sources
    that have a typical score; if none with lists has one, it still names the first, which brings
    nothing.
    """
    sources = tuple(source for source in SOURCES if source in typical)
    if not set(sources).intersection(LISTED):
        sources = (LISTED[0], *sources)
    axes = {
        name: Axis(ladder, step_by_step)
        for name, ladder in LADDERS.items()
        if name.removesuffix("_weight") not in set(SOURCES).difference(sources)
    }
    first = START | {f"{name}_weight": 0.0 for name in SOURCES if name not in sources}
    found = [Found(-1.0, first, SIZES[0])] * len(parts)
    for size in SIZES:
        starts = [affordable(each.numbers, size, sources) for each in found]
        for allowed in dict.fromkeys(allowed for allowed, _ in starts):
            scores = score_of_plays(sessions, size, allowed, typical, progress)
            for i, (own, start) in enumerate(starts):
                if own == allowed:
                    score, numbers = climb(_scored_on(parts[i], sessions.at, scores), start, axes)
                    if score > found[i].score:
                        found[i] = Found(score, numbers, size)
    return found


def affordable(
    numbers: Point, size: tuple[int, int], sources: tuple[Source, ...]
) -> tuple[tuple[Source, ...], Point]:
    """Return the sources that a rule of this size may use, and the numbers with these only.

    If a request would have to add up more than MOST_PAIRS scores, one of the two sources with lists
    of neighbours is left out: the one with the smaller weight.
    """
    if size[0] * size[1] * len(set(LISTED).intersection(sources)) <= MOST_PAIRS:
        return sources, numbers
    lesser = min(LISTED, key=lambda source: numbers[f"{source}_weight"])
    return (
        tuple(source for source in sources if source != lesser),
        numbers | {f"{lesser}_weight": 0.0},
    )


def score_of_plays(
    sessions: Sessions,
    size: tuple[int, int],
    sources: tuple[Source, ...],
    typical: dict[Source, float],
    progress: Any = None,
) -> Callable[[Point], np.ndarray | None]:
    """Return the function from numbers to what each play scores by the weighted rule of a size.

    That is (plays,) int8: in how many of the first 5, 10 and 20 tracks the play is. It is None for
    numbers that use no source with lists of neighbours (LISTED), or a source that is not in
    `sources`. What was computed is remembered.
    """
    most = Blending(sources=sources, events=size[0], neighbours=size[1])
    n_threads = min(parallel.threads(), MOST_THREADS)
    thread = np.arange(len(sessions)) % n_threads  # that computes a play
    scorers = [RuleScorer.of(sessions, most, thread == i) for i in range(n_threads)]
    plays = np.concatenate([scorer.plays for scorer in scorers])
    known: dict[tuple[Any, ...], np.ndarray] = {}

    def scores(numbers: Point) -> np.ndarray | None:
        used = used_sources(numbers)
        if not set(used).intersection(LISTED) or not set(sources).issuperset(used):
            return None
        key = tuple(numbers.values())
        if key not in known:
            if progress is not None:
                progress.update()
            rule = weighted_rule(numbers, size, typical)
            places = parallel.each(lambda scorer: scorer.places(rule), scorers)
            known[key] = np.zeros(len(sessions), np.int8)
            known[key][plays] = sum(np.concatenate(places) < first for first in FIRST)
        return known[key]

    return scores


def _scored_on(
    part: np.ndarray, at: np.ndarray, scores: Callable[[Point], np.ndarray | None]
) -> Callable[[Point], float]:
    """Return the function from numbers to their score on a part of the plays, -1 for no rule."""
    events = at[part]

    def score(numbers: Point) -> float:
        found = scores(numbers)
        return -1.0 if found is None else mean_hit_rate(found[part], events) / len(FIRST)

    return score
