"""The compiled loops for large data against the plain forms, which small data uses."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from jobs.contract import compiling
from jobs.contract.ids import ties_of
from jobs.contract.ragged import offsets_of
from jobs.contract.top_k import NOTHING, NormOrder, best_of_parts, top_k
from jobs.data.listens import Listens
from jobs.models import kernels, sparse
from jobs.models.als_model import recent_tastes
from jobs.models.als_training import factorise
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.next_played import Plays, step_weights
from jobs.models.ranked_lists import best_of_rows
from jobs.runtime import parallel

SEEDS = st.integers(0, 999)


@contextmanager
def compiled():
    """Let the jobs' functions use compiled loops."""
    compiling.use(True)
    try:
        yield
    finally:
        compiling.use(False)


def both(function, *args):
    """What a function returns in the plain form and in the compiled one."""
    with compiled():
        fast = function(*args)
    return function(*args), fast


def some_matrix(rng, rows, columns, signed=False):
    """A matrix with empty rows, whose values are often equal, and may cancel each other."""
    values = rng.integers(-3 if signed else 0, 4, (rows, columns)) / np.float32(4)
    return csr_matrix((values * (rng.random((rows, columns)) < 0.4)).astype(np.float32))


def some_listens(rng, users, tracks):
    """Listens of users, some of whom have none, and some of whom repeat tracks."""
    counts = rng.integers(0, 12, users)
    item = rng.integers(0, tracks, counts.sum()).astype(np.int32)
    at = np.sort(rng.integers(1, 10**6, len(item))).astype(np.uint32)
    return Listens(offsets_of(counts), item, at, np.arange(users), np.arange(tracks) * 7)


@given(SEEDS, st.booleans())
def test_a_compiled_product_is_the_product_of_scipy_entry_by_entry(seed, signed):
    rng = np.random.default_rng(seed)
    left, right = some_matrix(rng, 6, 8), some_matrix(rng, 8, 9, signed)
    plain, fast = both(sparse.product, left, right)
    assert np.array_equal(plain.toarray(), fast.toarray())
    if not signed:  # sums over rows are the same only if entries are in the same order
        plain.eliminate_zeros()
        assert np.array_equal(plain.indices, fast.indices)


@given(SEEDS, st.integers(1, 12))
def test_compiled_best_entries_and_their_order_are_the_same(seed, k):
    rng = np.random.default_rng(seed)
    matrix = some_matrix(rng, 7, 30, signed=True)
    different = rng.random(len(matrix.data)) < 0.5  # by a little, or by orders of magnitude
    matrix.data[different] *= np.exp(rng.normal(0, rng.choice([0.01, 9]), different.sum()))
    out = some_matrix(rng, 7, 30) if seed % 2 else None
    before = matrix.copy()
    (items, scores), (fast_items, fast_scores) = both(
        best_of_rows, matrix, k, ties_of(np.arange(30)), out
    )
    assert np.array_equal(items, fast_items)
    assert np.array_equal(scores, fast_scores)
    assert np.array_equal(matrix.toarray(), before.toarray())
    if out is not None:
        rows, places = np.nonzero(items != NOTHING)
        assert not out.toarray()[rows, items[rows, places]].any()


@given(SEEDS, st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8))))
def test_compiled_look_ups_find_the_same_values(seed, pairs):
    rng = np.random.default_rng(seed)
    matrix, other = some_matrix(rng, 7, 9), some_matrix(rng, 9, 9)
    rows, columns = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    assert np.array_equal(*both(sparse.look_up_sorted, matrix, rows, columns))
    assert np.array_equal(*both(sparse.row_products, matrix, rows, other, columns))


@given(SEEDS, st.integers(1, 9))
def test_compiled_search_of_the_best_items_finds_the_same(seed, k):
    rng = np.random.default_rng(seed)
    queries, items = (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (4, 7))
    heard, ties = some_matrix(rng, 4, 7), ties_of(np.arange(7))
    plain, fast = both(top_k, queries, NormOrder.of(items, ties), k, heard)
    assert all(map(np.array_equal, plain, fast))
    places = rng.permutation(7).astype(np.int32)
    rows = np.flatnonzero(rng.integers(0, 2, 4))  # some of the queries are compared with a part
    parts = [(np.arange(4), items[:3], places[:3]), (rows, items[3:], places[3:])]
    plain, fast = both(best_of_parts, queries, parts, k)
    assert all(map(np.array_equal, plain, fast))


@given(st.lists(st.integers(0, 2**20), max_size=300, unique=True), st.integers(0, 6))
def test_keys_are_sorted_by_their_upper_bits(places, lowest):
    keys = np.array([place << lowest | place % (1 << lowest) for place in places], np.int64)
    bits = max(int(keys.max(initial=1)).bit_length() - lowest, 1)
    found = kernels._sorted(keys.copy(), np.empty_like(keys), lowest, bits)
    assert found.tolist() == sorted(keys.tolist())


@given(SEEDS, st.integers(1, 6))
@settings(max_examples=40)
def test_compiled_counts_of_followers_are_the_same(seed, window):
    plays = Plays.of(some_listens(np.random.default_rng(seed), 9, 6), None)
    plain, fast = both(plays.followers, 1, 6, step_weights(window, 0.9))
    for counts, fast_counts in zip(plain, fast, strict=True):
        counts.eliminate_zeros()
        assert np.array_equal(counts.toarray(), fast_counts.toarray())
        assert np.array_equal(counts.indices, fast_counts.indices)


@pytest.mark.parametrize("factors", [3, 16])
def test_compiled_als_gives_the_vectors_of_implicit_but_for_rounding(factors):
    data = some_listens(np.random.default_rng(4), 80, 30)
    settings = Hyperparameters(als_factors=factors, als_regularization=0.01, als_half_life=3.0)
    weights = data.weights(0.5, None)
    with threadpool_limits(limits=1, user_api="blas"):
        plain, fast = both(factorise, weights, settings)
        for vectors, fast_vectors in zip(plain, fast, strict=True):
            np.testing.assert_allclose(fast_vectors, vectors, rtol=0.01, atol=1e-4)
        _, items = plain
        tastes, fast_tastes = both(recent_tastes, data, items, items.T @ items, settings)
    np.testing.assert_allclose(fast_tastes, tastes, rtol=0.01, atol=1e-4)
    assert not fast_tastes[np.diff(data.starts) == 0].any()


def test_compiled_als_does_not_depend_on_the_number_of_threads(monkeypatch):
    data = some_listens(np.random.default_rng(5), 80, 30)
    monkeypatch.setattr("jobs.models.als_training.PAIRS_A_PART", 40)
    found = []
    with compiled(), threadpool_limits(limits=1, user_api="blas"):
        for n in (1, 2):
            monkeypatch.setattr(parallel, "_threads", n)
            found.append(factorise(data.pairs(), Hyperparameters(als_factors=8)))
    for one, two in zip(*found, strict=True):
        assert np.array_equal(one, two)
