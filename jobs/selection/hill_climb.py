"""Hill climbing on ladders of values: move one number after another while a score rises.

This is coordinate ascent, which Metzler and Croft use for scores that have no gradient, such as
NDCG ("Linear Feature-Based Models for Information Retrieval", 2007). Each number has a ladder: the
values that it may take, in order. An Axis says what the ladder is, and how it is searched while all
other numbers keep their values. The rounds over all axes end with one that changes nothing.

There are four searches. On the ladder 1, 2, 4, 8 with the scores 5, 4, 7, 6, starting at 1:

    best_neighbour  stays at 1: the next value, 2, has a lower score
    step_by_step    stays at 1: it goes on in a direction only while the score rises
    best_of_all     goes to 4, the best of the ladder
    sweep           goes to 4: it tries each value in turn and keeps those that are better
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

Point = dict[str, Any]  # a value for each name; values are hashable

# Returns the place on a ladder to which a number moves, given a function from a place to its score,
# the length of the ladder, and the number's place now.
Search = Callable[[Callable[[int], float], int, int], int]


@dataclass(frozen=True)
class Axis:
    """The ladder of one number, and how it is searched."""

    ladder: Sequence[Any]
    search: Search


def climb(
    score: Callable[[Point], float],
    start: Point,
    axes: Mapping[str, Axis],
    most_rounds: int | None = None,
) -> tuple[float, Point]:
    """Return the best score that is reached from a start, and the point that has it.

    Numbers are moved in the order of the axes; the start's values must be on their ladders. Numbers
    without an axis keep their values. No point is scored twice. most_rounds limits the rounds.
    """
    known: dict[tuple[Any, ...], float] = {}

    def known_score(point: Point) -> float:
        values = tuple(point.values())
        if values not in known:
            known[values] = score(point)
        return known[values]

    def score_at(point: Point, name: str, place: int) -> float:
        return known_score(point | {name: axes[name].ladder[place]})

    point, before, rounds = dict(start), None, 0
    while point != before and rounds != most_rounds:
        before = point
        rounds += 1
        for name, axis in axes.items():
            place = axis.ladder.index(point[name])
            moved = axis.search(partial(score_at, point, name), len(axis.ladder), place)
            point = point | {name: axis.ladder[moved]}
    return known_score(point), point


def best_neighbour(margin: float = 1.0) -> Search:
    """Move to the better of the two neighbouring values, as long as it gains more than the margin.

    The margin is a factor: a score has to be larger than margin × the score so far.
    """
    return partial(_move_to_best, margin, 1)


def best_of_all(margin: float = 1.0) -> Search:
    """Move to the best value of the whole ladder if it gains more than the margin, a factor.

    It tries all values, so it also finds a better one behind values that change nothing.
    """
    return partial(_move_to_best, margin, None)


def _move_to_best(
    margin: float, reach: int | None, score: Callable[[int], float], n: int, place: int
) -> int:
    while True:
        low, high = (0, n) if reach is None else (max(place - reach, 0), min(place + reach + 1, n))
        best = max(range(low, high), key=score)
        if not score(best) > margin * score(place):
            return place
        place = best


def step_by_step(score: Callable[[int], float], n: int, place: int) -> int:
    """Move up the ladder while the score rises, then down while it rises."""
    for step in (1, -1):
        while 0 <= place + step < n and score(place + step) > score(place):
            place += step
    return place


def sweep(margin: float = 1.0) -> Search:
    """Try every value in order; move to each that gains more than the margin, a factor."""

    def search(score: Callable[[int], float], n: int, place: int) -> int:
        for tried in range(n):
            if score(tried) > margin * score(place):
                place = tried
        return place

    return search
