"""Compiled loops for ALS on large data: what implicit's solvers compute, in less time.

implicit calls BLAS for every single play. These functions first copy the vectors of a row's plays
into one array, which stays in the processor's cache, and then call BLAS for all of them at once.
The results are those of implicit but for the rounding of sums. See contract/compiling for when they
are used; the tests compare them with implicit.
"""

import numpy as np

from jobs.contract.compiled import compiled

VECTORS = 1024  # plays of a row that are copied at a time
STEPS = 3  # of the conjugate gradients, as in implicit
SMALLEST = 1e-20  # of a squared residual: below it the equations are solved
NEGLIGIBLE = 1e-9  # see contract/fold_in


@compiled
def _copy(buffer: np.ndarray, vectors: np.ndarray, items: np.ndarray) -> None:
    """Copy the vectors of items (m,) into the first rows of buffer."""
    for i in range(len(items)):
        item = items[i]
        for k in range(vectors.shape[1]):
            buffer[i, k] = vectors[item, k]


@compiled
def solve(
    first_row: int,
    last_row: int,
    starts: np.ndarray,
    items: np.ndarray,
    confidence: np.ndarray,
    penalty: np.ndarray,
    factors: np.ndarray,
    others: np.ndarray,
    gram: np.ndarray,
) -> None:
    """Improve factors (rows, d) in place, from row first_row to last_row, with the others fixed.

    starts, items and confidence are the arrays of a sparse matrix (rows, others); penalty (rows,)
    float32; gram (d, d) is the product of others (n, d) with themselves. Each row x takes STEPS
    steps of conjugate gradients towards the solution of

        (gram + sum over plays of (c - 1) y y' + penalty I) x = sum over plays of c y

    (Takacs, Pilaszy and Tikk, "Applications of the Conjugate Gradient Method for Implicit Feedback
    Collaborative Filtering", 2011). All arrays of floats are float32.
    """
    d = others.shape[1]
    buffer, of_play = np.empty((VECTORS, d), np.float32), np.empty(VECTORS, np.float32)
    rest, direction = np.empty(d, np.float32), np.empty(d, np.float32)
    moved, part = np.empty(d, np.float32), np.empty(d, np.float32)
    one = np.float32(1)
    for row in range(first_row, last_row):
        first, last = starts[row], starts[row + 1]
        x = factors[row]
        if first == last:
            x[:] = 0
            continue
        np.dot(gram, x, rest)
        for k in range(d):
            rest[k] = -rest[k] - penalty[row] * x[k]
        for start in range(first, last, VECTORS):
            m = min(last - start, VECTORS)
            _copy(buffer, others, items[start : start + m])
            fits = of_play[:m]
            np.dot(buffer[:m], x, fits)
            for i in range(m):
                c = confidence[start + i]
                fits[i] = c - (c - one) * fits[i]
            np.dot(buffer[:m].T, fits, part)
            for k in range(d):
                rest[k] += part[k]
        squared = np.float32(0)
        for k in range(d):
            direction[k] = rest[k]
            squared += rest[k] * rest[k]
        for _ in range(STEPS):
            if squared < SMALLEST:
                break
            np.dot(gram, direction, moved)
            for k in range(d):
                moved[k] += penalty[row] * direction[k]
            for start in range(first, last, VECTORS):
                m = min(last - start, VECTORS)
                if last - first > VECTORS:  # otherwise they are still there
                    _copy(buffer, others, items[start : start + m])
                fits = of_play[:m]
                np.dot(buffer[:m], direction, fits)
                for i in range(m):
                    fits[i] *= confidence[start + i] - one
                np.dot(buffer[:m].T, fits, part)
                for k in range(d):
                    moved[k] += part[k]
            length = squared / np.dot(direction, moved)
            before, squared = squared, np.float32(0)
            for k in range(d):
                x[k] += length * direction[k]
                rest[k] -= length * moved[k]
                squared += rest[k] * rest[k]
            for k in range(d):
                direction[k] = rest[k] + squared / before * direction[k]


@compiled
def fold_in(
    starts: np.ndarray,
    items: np.ndarray,
    extra: np.ndarray,
    penalty: np.ndarray,
    factors: np.ndarray,
    gram: np.ndarray,
    result: np.ndarray,
) -> None:
    """Write the vector of each row that contract/fold_in defines into result (rows, d), zeros.

    extra (plays,) is the weight of each play divided by that of an unobserved track, and penalty
    (rows,) each row's penalty, both float32. A play that weighs next to nothing counts on the right
    side of the equations only.
    """
    d = factors.shape[1]
    buffer, scaled = np.empty((VECTORS, d), np.float32), np.empty((VECTORS, d), np.float32)
    right = np.empty(d, np.float32)
    for row in range(len(starts) - 1):
        if starts[row] == starts[row + 1]:
            continue
        left = gram.copy()
        for k in range(d):
            left[k, k] += penalty[row]
        right[:] = 0
        m = 0
        for i in range(starts[row], starts[row + 1]):
            item = items[i]
            both = np.float32(1) + extra[i]
            for k in range(d):
                right[k] += both * factors[item, k]
            if extra[i] > NEGLIGIBLE:
                for k in range(d):
                    buffer[m, k] = factors[item, k]
                    scaled[m, k] = extra[i] * factors[item, k]
                m += 1
            if m == VECTORS:
                left += np.dot(scaled.T, buffer)
                m = 0
        left += np.dot(scaled[:m].T, buffer[:m])
        result[row] = np.linalg.solve(left, right)
