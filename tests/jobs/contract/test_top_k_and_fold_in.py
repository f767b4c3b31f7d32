"""jobs.retrieval: exact top-k, and users folded in, beside what numpy and implicit say."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix, random_array
from threadpoolctl import threadpool_limits

from jobs.contract.fold_in import FoldInModel, fold_in, penalty_groups, row_penalties
from jobs.contract.ids import ties_of
from jobs.contract.top_k import NOTHING, NormOrder, top_k
from jobs.data.listens import Listens
from jobs.models import als_training
from jobs.models.hyperparameters import Hyperparameters
from jobs.runtime import parallel
from tests.support.rankings import assert_same_ranking


@dataclass(frozen=True)
class Problem:
    """Queries and items of whole numbers, so that scores are exact and many are equal."""

    queries: np.ndarray
    items: np.ndarray
    heard: csr_matrix | None
    k: int

    @classmethod
    def draw(cls, seed: int, n: int, d: int, k: int, zeros: float, heard: float) -> "Problem":
        rng = np.random.default_rng(seed)
        queries, items = (rng.integers(-4, 5, (rows, d)) for rows in (12, n))
        items[rng.random(n) < 0.5] //= 4  # many short ones
        for vectors in (queries, items):
            vectors[rng.random(len(vectors)) < zeros] = 0
        mask = rng.random((12, n)) < heard
        mask[0] = True  # one user has heard everything
        known = None if heard == 0 else csr_matrix(mask.astype(np.float32))
        return cls(queries.astype(np.float32), items.astype(np.float32), known, k)

    def brute_force(self) -> list[list[tuple[int, float]]]:
        """Each query's items and scores: best first, equal scores in the order of ties."""
        ties = ties_of(np.arange(len(self.items))).places
        scores = self.queries @ self.items.T
        open_ = np.broadcast_to(self.items.any(axis=1), scores.shape)
        if self.heard is not None:
            open_ = open_ & (self.heard.toarray() == 0)
        result = []
        for row, may in zip(scores, open_, strict=True):
            best = sorted(np.flatnonzero(may).tolist(), key=lambda item: (-row[item], ties[item]))
            result.append([(item, float(row[item])) for item in best])
        return result


problems = st.builds(
    Problem.draw,
    seed=st.integers(0, 2**32),
    n=st.integers(1, 40) | st.integers(500, 3000),
    d=st.integers(1, 4),
    k=st.integers(1, 50) | st.just(600),
    zeros=st.sampled_from([0, 0.2, 1]),
    heard=st.sampled_from([0, 0.1, 0.9]),
)


@settings(max_examples=60, deadline=None)
@given(problems)
@example(Problem.draw(0, 3000, 2, 100, 0.2, 0.95))
def test_top_k_is_what_sorting_all_scores_gives(problem):
    ties = ties_of(np.arange(len(problem.items)))
    order = NormOrder.of(problem.items, ties)
    found, scores = top_k(problem.queries, order, problem.k, problem.heard)
    assert found.shape == scores.shape == (len(problem.queries), problem.k)
    for row, (items, values) in enumerate(zip(found.tolist(), scores.tolist(), strict=True)):
        expected = problem.brute_force()[row]
        n = min(problem.k, len(expected))
        assert values == [score for _, score in expected[:n]] + [-np.inf] * (problem.k - n)
        assert items[n:] == [NOTHING] * (problem.k - n)
        assert set(zip(items[:n], values[:n], strict=True)) <= set(expected)
        assert len(set(items[:n])) == n
        places = ties.places[items[:n]].tolist()
        by_place = list(zip([-v for v in values[:n]], places, strict=True))
        assert by_place == sorted(by_place)


def test_a_search_that_stops_early_misses_nothing():
    rng = np.random.default_rng(1)
    queries = rng.normal(size=(50, 8)).astype(np.float32)
    items = rng.normal(size=(20_000, 8)) * rng.lognormal(0, 1.5, (20_000, 1))
    items = items.astype(np.float32)
    found, scores = top_k(queries, NormOrder.of(items), 20)
    every = queries @ items.T
    np.testing.assert_allclose(scores, -np.sort(-every, axis=1)[:, :20], rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(every, found, axis=1), scores, rtol=1e-5)


def test_nobody_and_nothing_have_empty_lists():
    items = np.eye(3, dtype=np.float32)
    found, scores = top_k(items[:0], NormOrder.of(items), 5)
    assert found.shape == scores.shape == (0, 5)
    found, scores = top_k(items, NormOrder.of(items[:0]), 5)
    assert (found == NOTHING).all()
    assert np.isneginf(scores).all()


def plays(seed: int, users: int, items: int, density: float) -> csr_matrix:
    """Random weights up to 3; some users have none."""
    rng = np.random.default_rng(seed)
    matrix = random_array((users, items), density=density, rng=rng, dtype=np.float32, format="csr")
    matrix.data *= 3
    return csr_matrix(matrix)


def by_normal_equations(
    weights: np.ndarray, items: np.ndarray, unobserved: float, penalty: float
) -> np.ndarray:
    """The minimum over x of sum (w + w0 [or w0]) (played - x·y)^2 + w0 penalty |x|^2."""
    confidence = np.where(weights > 0, weights + unobserved, unobserved)
    left = (items.T * confidence) @ items + unobserved * penalty * np.eye(items.shape[1])
    return np.linalg.solve(left, items.T @ (confidence * (weights > 0)))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    density=st.sampled_from([0, 0.05, 0.5]),
    unobserved=st.sampled_from([0.01, 0.2, 1.0]),
    exponent=st.sampled_from([0.0, 0.5, 1.0]),
    threads=st.sampled_from([1, 2]),
)
def test_a_user_folded_in_solves_the_normal_equations(seed, density, unobserved, exponent, threads):
    weights = plays(seed, 20, 60, density)
    items = np.random.default_rng(seed).normal(0, 0.5, (60, 6)).astype(np.float32)
    users = fold_in(weights, items, items.T @ items, 0.05, unobserved, exponent, threads)
    penalties = row_penalties(
        np.asarray(weights.sum(axis=1)).ravel(), 60, 0.05, unobserved, exponent
    )
    for rows, penalty in penalty_groups(penalties):
        for row in rows:
            dense = weights[[row]].toarray()[0].astype(np.float64)
            expected = by_normal_equations(dense, items.astype(np.float64), unobserved, penalty)
            np.testing.assert_allclose(users[row], expected, rtol=1e-3, atol=1e-4)
    assert not users[weights.getnnz(axis=1) == 0].any()


def test_where_all_rows_have_one_penalty_fold_in_is_implicits_recalculate_user():
    weights = plays(3, 30, 80, 0.1)
    weights.data[:] = 1
    items = np.random.default_rng(3).normal(0, 0.3, (80, 16)).astype(np.float32)
    unobserved = 0.1
    regularization = unobserved * 1.1**-17.5  # a penalty that the ladder of penalty_groups has
    users = fold_in(weights, items, items.T @ items, regularization, unobserved, exponent=0)
    with threadpool_limits(limits=1, user_api="blas"):  # else implicit warns
        model = AlternatingLeastSquares(
            factors=16, alpha=1 + 1 / unobserved, regularization=regularization / unobserved
        )
    model.item_factors = items
    theirs = model.recalculate_user(np.arange(30), weights)
    np.testing.assert_allclose(users, theirs, rtol=1e-3, atol=1e-5)


@given(st.lists(st.floats(1e-6, 1e6), max_size=50))
def test_groups_of_penalties_lose_no_row_and_change_none_by_over_a_twentieth(penalties):
    penalties = np.array(penalties)
    groups = penalty_groups(penalties)
    rows = np.concatenate([[], *(rows for rows, _ in groups)])
    assert sorted(rows) == list(range(len(penalties)))
    for rows, value in groups:
        assert np.abs(np.log(penalties[rows] / value)).max() <= np.log(1.1) / 2 + 1e-9


def test_a_user_folded_in_does_not_depend_on_the_users_beside():
    weights = plays(7, 60, 80, 0.1)
    items = np.random.default_rng(7).normal(0, 0.3, (80, 8)).astype(np.float32)
    penalty = items.T @ items, 0.05, 0.1, 1.0
    every = fold_in(weights, items, *penalty)
    for some in (np.arange(0, 60, 7), np.arange(5)):
        assert np.array_equal(fold_in(csr_matrix(weights[some]), items, *penalty), every[some])


def folding_model(seed: int, half_life: float | None) -> FoldInModel:
    items = np.random.default_rng(seed).normal(0, 0.3, (80, 16)).astype(np.float32)
    items[::7] = 0
    return FoldInModel(NormOrder.of(items), items.T @ items, 0.02, 0.1, 1.0, 0.5, half_life)


@settings(deadline=None)
@given(
    users=st.lists(st.lists(st.integers(0, 79), max_size=12), min_size=1, max_size=8),
    half_life=st.sampled_from([None, 2.0]),
)
def test_a_user_alone_is_folded_in_as_the_jobs_fold_in_many(users, half_life):
    model = folding_model(1, half_life)
    listened = Listens(
        np.cumsum([0, *(len(plays) for plays in users)]),
        np.array([item for plays in users for item in plays], np.int32),
        np.zeros(sum(map(len, users)), np.uint32),
        np.arange(len(users)),
        np.arange(80),
    )
    items = np.zeros((80, 16), np.float32)
    items[model.order.items] = model.order.vectors
    weights = listened.weights(model.repeats, half_life)
    weights.data[~items.any(axis=1)[weights.indices]] = 0  # what the model doesn't know
    weights.eliminate_zeros()
    together = fold_in(weights, items, model.gram, 0.02, 0.1, 1.0)
    for plays, expected in zip(users, together, strict=True):
        alone = model.taste(np.array(plays, np.int32))
        np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-6)


def test_the_nearest_items_are_those_of_the_largest_product_and_none_is_heard():
    model = folding_model(2, None)
    plays, heard = np.array([3, 5, 3, 8]), np.array([3, 5, 8, 9])
    taste = model.taste(plays)
    found, scores = model.nearest(taste[None], 20, [heard])
    np.testing.assert_allclose(model.scores(taste, found[0]), scores[0], rtol=1e-5)
    assert model.scores(taste, np.array([0, 7])).tolist() == [0, 0]  # unknown to the model
    every = zip(model.order.items.tolist(), model.order.vectors @ taste, strict=True)
    best = sorted((pair for pair in every if pair[0] not in heard), key=lambda pair: -pair[1])
    ours = dict(zip(found[0].tolist(), scores[0].tolist(), strict=True))
    assert_same_ranking(ours, dict(best[:20]), tolerance=1e-6)
    assert (np.diff(scores[0]) <= 0).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 6))
def test_the_nearest_of_vectors_in_halves_are_those_of_the_rounded_vectors(seed, k, d):
    items = np.random.default_rng(seed).normal(0, 0.3, (300, d)).astype(np.float32)
    model = FoldInModel(NormOrder.of(items), items.T @ items, 0.02, 0.1, 1.0, 0.5, None)
    halves = model.in_halves()
    assert (np.diff(halves.order.norms) <= 0).all()
    taste = model.taste(np.array([3, 5]))
    found, scores = halves.nearest(taste[None], k, [np.array([3, 5])])
    assert not {3, 5} & {*found[0].tolist()}
    rounded = items.astype(np.float16).astype(np.float32) @ taste
    rounded[[3, 5]] = -np.inf
    assert scores[0] == pytest.approx(np.sort(rounded)[::-1][:k], rel=1e-5, abs=1e-6)
    exact = items @ taste
    error = 2**-11 * float(np.linalg.norm(taste) * model.order.norms[0])
    assert halves.scores(taste, np.arange(300)) == pytest.approx(exact, abs=error + 1e-6)


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(als_training, "WORTH_THREADS", 0)
    weights = plays(5, 300, 200, 0.05)
    items = np.random.default_rng(5).normal(size=(200, 16)).astype(np.float32)
    folded = [fold_in(weights, items, items.T @ items, 0.01, 0.1, 1.0, n) for n in (1, 2, 3)]
    weights.data[:] = 1
    chosen = Hyperparameters(als_factors=16, als_epochs=3)
    trained = []
    for n in (1, 2, 3):
        monkeypatch.setattr(parallel, "_threads", n)
        trained.append(np.concatenate(als_training.factorise(weights, chosen)))
    for one, *others in (folded, trained):
        assert all(np.array_equal(one, other) for other in others)
