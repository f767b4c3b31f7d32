"""Hill climbing: what is reached, from where, and at which price."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.selection.hill_climb import Axis, best_neighbour, best_of_all, climb, step_by_step, sweep

SEARCHES = {
    "best_neighbour": best_neighbour(),
    "best_of_all": best_of_all(),
    "step_by_step": step_by_step,
    "sweep": sweep(),
}

ladders = st.lists(st.integers(2, 6), min_size=1, max_size=3)  # lengths


@pytest.mark.parametrize(
    ("search", "reached"),
    [("best_neighbour", 1), ("step_by_step", 1), ("best_of_all", 4), ("sweep", 4)],
)
def test_searches_differ_in_how_far_they_look(search, reached):
    scores = {1: 5, 2: 4, 4: 7, 8: 6}
    found = climb(lambda p: scores[p["x"]], {"x": 1}, {"x": Axis((1, 2, 4, 8), SEARCHES[search])})
    assert found == (scores[reached], {"x": reached})


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
@given(data=st.data(), lengths=ladders)
def test_the_top_of_a_smooth_hill_is_reached_from_anywhere(search, data, lengths):
    start, top = (
        {f"x{i}": data.draw(st.integers(0, n - 1)) for i, n in enumerate(lengths)} for _ in range(2)
    )
    axes = {f"x{i}": Axis(range(n), search) for i, n in enumerate(lengths)}

    def height(point):
        return -sum(abs(point[name] - top[name]) for name in top)

    assert climb(height, start, axes) == (0, top)


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
@given(data=st.data(), lengths=ladders)
def test_what_is_reached_is_no_worse_than_the_start_or_any_next_value(search, data, lengths):
    names = [f"x{i}" for i in range(len(lengths))]
    points = [*product(*map(range, lengths))]
    heights = data.draw(st.lists(st.integers(0, 9), min_size=len(points), max_size=len(points)))
    score = dict(zip(points, heights, strict=True))
    start = data.draw(st.sampled_from(points))
    tried = []

    def height(point):
        tried.append(tuple(point.values()))
        return score[tried[-1]]

    axes = {name: Axis(range(n), search) for name, n in zip(names, lengths, strict=True)}
    best, point = climb(height, dict(zip(names, start, strict=True)), axes)
    reached = tuple(point.values())
    assert best == score[reached] >= score[start]
    for i, n in enumerate(lengths):
        for value in {max(reached[i] - 1, 0), min(reached[i] + 1, n - 1)}:
            assert score[*reached[:i], value, *reached[i + 1 :]] <= best
    assert len(tried) == len({*tried})  # no point is scored twice


@pytest.mark.parametrize("make", [best_neighbour, best_of_all, sweep])
def test_a_gain_below_the_margin_moves_nothing(make):
    axes = {"x": Axis((1, 2), make(1.1))}
    assert climb(lambda p: {1: 1.0, 2: 1.05}[p["x"]], {"x": 1}, axes) == (1.0, {"x": 1})
    assert climb(lambda p: {1: 1.0, 2: 1.15}[p["x"]], {"x": 1}, axes) == (1.15, {"x": 2})


def test_rounds_can_be_limited_and_a_name_without_an_axis_stays():
    def height(point):  # a ridge: each number can rise by one more than the other only
        return point["x"] + point["y"] if abs(point["x"] - point["y"]) <= 1 else -1

    axes = {name: Axis(range(9), best_neighbour()) for name in "xy"}
    start = {"x": 0, "y": 0, "z": "kept"}
    assert climb(height, start, axes, most_rounds=1)[1] == {"x": 1, "y": 2, "z": "kept"}
    assert climb(height, start, axes) == (16, {"x": 8, "y": 8, "z": "kept"})
    assert climb(height, start, axes, most_rounds=0) == (0, start)
