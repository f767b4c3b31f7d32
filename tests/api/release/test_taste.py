"""The compiled fold-in against the plain one of jobs.contract.fold_in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.release import taste
from jobs.contract.fold_in import FoldInModel, weights_of
from jobs.contract.ids import ties_of
from jobs.contract.top_k import NormOrder

N_TRACKS = 30
PLAYS = st.lists(st.integers(0, N_TRACKS - 1), max_size=60).map(
    lambda tracks: np.array(tracks, np.int32)
)
HALF_LIVES = st.sampled_from([None, 0.5, 2.0, 50.0])
REPEATS = st.sampled_from([0.0, 0.5, 1.0])


EVENTS = st.lists(st.integers(-1, N_TRACKS - 1), max_size=9).map(
    lambda tracks: np.array(tracks, np.int32)
)


@given(PLAYS, EVENTS, REPEATS, HALF_LIVES)
def test_weights_are_those_of_the_plain_function(plays, events, repeats, half_life):
    position = np.arange(N_TRACKS, dtype=np.int32)
    rows, weights = taste.weighed(plays, events, position, N_TRACKS, repeats, half_life or np.inf)
    known = events[events >= 0][::-1]
    items, expected = weights_of(np.concatenate([plays, known]), repeats, half_life)
    order = np.argsort(rows)
    assert rows[order].tolist() == items.tolist()
    assert weights[order] == pytest.approx(expected, rel=1e-6)


@given(PLAYS, EVENTS, st.integers(1, 40), st.integers(0, 2**32 - 1), REPEATS, HALF_LIVES)
def test_a_user_vector_is_that_of_the_plain_function(plays, events, d, seed, repeats, half_life):
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((N_TRACKS, d)).astype(np.float32)
    factors[rng.random(N_TRACKS) < 0.2] = 0  # tracks that the model does not know
    order = NormOrder.of(factors, ties_of(np.arange(N_TRACKS)))
    model = FoldInModel(order, factors.T @ factors, 0.023, 0.1, 1.0, repeats, half_life)
    known = events[events >= 0][::-1]
    scores = model.scores(model.taste(np.concatenate([plays, known])), np.arange(N_TRACKS))
    for form in (model, model.on_axes()):
        found = taste.vector_after(plays, events, taste.Equations.of(form))
        assert len(found) == (d if len(known) else 0)
        if len(known):
            fits = form.scores(found, np.arange(N_TRACKS))
            assert fits == pytest.approx(scores, rel=1e-3, abs=1e-3)


@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_solved_equations_hold(d, seed):
    rng = np.random.default_rng(seed)
    part = rng.standard_normal((d, d))
    left, right = part @ part.T + np.eye(d), rng.standard_normal(d)
    solution = right.copy()
    assert taste.solve(left.copy(), solution)
    assert left @ solution == pytest.approx(right, abs=1e-4)


def test_equations_without_a_solution_are_told():
    assert not taste.solve(np.zeros((2, 2)), np.ones(2))
