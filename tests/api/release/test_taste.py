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


@given(PLAYS, REPEATS, HALF_LIVES)
def test_weights_are_those_of_the_plain_function(plays, repeats, half_life):
    rows, weights = taste.weighed(
        plays, np.arange(N_TRACKS, dtype=np.int32), N_TRACKS, repeats, half_life or np.inf
    )
    items, expected = weights_of(plays, repeats, half_life)
    order = np.argsort(rows)
    assert rows[order].tolist() == items.tolist()
    assert weights[order] == pytest.approx(expected, rel=1e-6)


@given(PLAYS, st.integers(1, 40), st.integers(0, 2**32 - 1), REPEATS, HALF_LIVES)
def test_a_user_vector_is_that_of_the_plain_function(plays, d, seed, repeats, half_life):
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((N_TRACKS, d)).astype(np.float32)
    factors[rng.random(N_TRACKS) < 0.2] = 0  # tracks that the model does not know
    order = NormOrder.of(factors, ties_of(np.arange(N_TRACKS)))
    model = FoldInModel(order, factors.T @ factors, 0.02, 0.1, 1.0, repeats, half_life)
    found = taste.UserVectors(model).of(plays)
    assert found == pytest.approx(model.taste(plays), rel=1e-3, abs=1e-4)


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
