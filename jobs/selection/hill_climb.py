"""Hill climbing on ladders of values: one number after another is moved while a score rises.

This is coordinate ascent, which Metzler and Croft use for scores that have no gradient, such as
NDCG ("Linear Feature-Based Models for Information Retrieval", 2007). Each number stands on a ladder
of values to try. An Axis says what the ladder is and how it is searched while all other numbers
stay. Rounds over all axes go on until one changes nothing.

There are three searches. On the ladder 1, 2, 4, 8 with the scores 5, 4, 7, 6, from 1 on:

    best_neighbour  stays at 1: the next value, 2, scores less
    step_by_step    stays at 1 too: it goes on in one direction only while the score rises
    best_of_all     goes to 4, the best of the ladder
    sweep           goes to 4: it tries each value in turn and keeps those that are better
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

Point = dict[str, Any]  # a value for each name; values are hashable

# From the score at each place of a ladder, the length of the ladder and the place where the number
# stands: the place to which it moves.
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
    """Return the best score that is reached from a start, and its point.

    Numbers are moved in the order of the axes; the values of the start must be on their ladders.
    Names without an axis keep their values. No point is scored twice.
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
    """Move to the better of the two next values, again and again while the score gains a factor."""
    return partial(_move_to_best, margin, 1)


def best_of_all(margin: float = 1.0) -> Search:
    """Move to the best value of the ladder if the score gains a factor.

    It looks beyond values that change nothing, at the price of trying all.
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
    """Try every value from the ladder's first to its last; move where the score gains a factor."""

    def search(score: Callable[[int], float], n: int, place: int) -> int:
        for tried in range(n):
            if score(tried) > margin * score(place):
                place = tried
        return place

    return search
