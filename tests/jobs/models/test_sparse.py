"""Values of sparse matrices, looked up in two ways."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from jobs.models.sparse import clear, look_up, look_up_sorted


def some_matrix(seed: int) -> csr_matrix:
    """A matrix with empty rows, whose entries are not in the order of their columns."""
    rng = np.random.default_rng(seed)
    whole = (rng.random((7, 9)) * (rng.random((7, 9)) < 0.4)).astype(np.float32)
    left = csr_matrix(np.eye(7, dtype=np.float32)[rng.permutation(7)])
    return csr_matrix(left @ csr_matrix(whole))


@given(st.integers(0, 99), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8))))
def test_each_value_is_found(seed, pairs):
    matrix = some_matrix(seed)
    rows, columns = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    expected = matrix.toarray()[rows, columns]
    assert np.array_equal(look_up_sorted(matrix, rows, columns), expected)
    assert np.array_equal(look_up(matrix, rows, columns), expected)


@given(st.integers(0, 99), st.integers(0, 99))
def test_what_is_marked_is_cleared_and_nothing_else(seed, other):
    matrix, marked = some_matrix(seed), some_matrix(other)
    expected = np.where(marked.toarray() > 0, 0, matrix.toarray())
    clear(matrix, marked)
    assert np.array_equal(matrix.toarray(), expected)
