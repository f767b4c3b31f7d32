"""Compiled loops for the vector of one user: what jobs.contract.fold_in computes in NumPy.

The service computes such a vector after each event, where the release's rule folds users in. In
NumPy much of the time goes into the calls, since a user has some hundred plays only. The tests
compare `UserVectors` with fold_in.FoldInModel.taste, which jobs.replay uses. The two add up in
different orders, so the last digits of the float32 numbers differ.

See jobs/contract/compiled.py for how these functions are compiled, and where the code is kept.
"""

import math

import numpy as np

from jobs.contract.blending import NO_TRACKS, Scores, Tracks
from jobs.contract.compiled import compiled
from jobs.contract.fold_in import NEGLIGIBLE, FoldInModel

NO_WEIGHTS: Scores = np.empty(0, np.float32)
SHARE_BY_INVERSE = 0.75  # of the dimensions: with more plays that count, `fitted` takes less time


@compiled
def distinct(plays: Tracks) -> tuple[Tracks, Tracks, Tracks]:
    """Return the tracks of plays (m,), how many plays ago each was last, and how often, each (n,).

    The plays are oldest first.

    >>> tracks, ages, counts = distinct(np.array([5, 3, 3, 7], np.int32))
    >>> tracks.tolist(), ages.tolist(), counts.tolist()
    ([7, 3, 5], [0, 1, 3], [1, 2, 1])
    """
    slots = 64
    while slots < 2 * len(plays):
        slots *= 2
    table = np.full(slots, -1, np.int32)  # a hash table: places in `tracks`, or -1
    tracks, ages = np.empty(len(plays), np.int32), np.empty(len(plays), np.int32)
    counts = np.empty(len(plays), np.int32)
    size = 0
    for age in range(len(plays)):
        track = plays[len(plays) - 1 - age]
        slot = (int(track) * 0x9E3779B1 >> 7) & (slots - 1)
        while table[slot] >= 0 and tracks[table[slot]] != track:
            slot = (slot + 1) & (slots - 1)
        if table[slot] >= 0:
            counts[table[slot]] += 1
        else:
            table[slot], tracks[size], ages[size], counts[size] = size, track, age, 1
            size += 1
    return tracks[:size], ages[:size], counts[:size]


@compiled
def _add_rows(total: Scores, factors: Scores, rows: Scores, first: int) -> None:
    """Add the rows (n, d), each times its factor (n,), to total (d - first,), from column `first`.

    Four rows are added at a time, since reading and writing `total` takes most of the time. The
    slices tell the compiler that no index is out of bounds, so that it uses vector units.
    """
    n = len(factors)
    whole = n - n % 4
    for i in range(0, whole, 4):
        f0, f1, f2, f3 = factors[i], factors[i + 1], factors[i + 2], factors[i + 3]
        r0, r1, r2, r3 = (
            rows[i, first:],
            rows[i + 1, first:],
            rows[i + 2, first:],
            rows[i + 3, first:],
        )
        for at in range(len(total)):
            total[at] += (f0 * r0[at] + f1 * r1[at]) + (f2 * r2[at] + f3 * r3[at])
    for i in range(whole, n):
        factor, row = factors[i], rows[i, first:]
        for at in range(len(total)):
            total[at] += factor * row[at]


@compiled
def solve(left: Scores, right: Scores) -> bool:
    """Solve left x = right for x (d,), which replaces right; return whether that was possible.

    left (d, d) is symmetric and positive definite. Only its upper triangle is read; it becomes that
    of Cholesky's factor U, with U'U = left.

    >>> left, right = np.array([[4.0, 2.0], [0.0, 2.0]]), np.array([2.0, 2.0])
    >>> solve(left, right), right.tolist()
    (True, [0.0, 1.0])
    """
    d = len(right)
    factors = np.empty(d, left.dtype)
    for row in range(d):
        for above in range(row):
            factors[above] = -left[above, row]
        rest = left[row, row:]
        _add_rows(rest, factors[:row], left, row)
        if not rest[0] > 0:
            return False
        scale = np.float32(1 / math.sqrt(rest[0]))
        for at in range(len(rest)):
            rest[at] *= scale
    for row in range(d):  # U'y = right
        right[row] /= left[row, row]
        factor, rest, below = right[row], left[row, row:], right[row:]
        for at in range(1, len(rest)):
            below[at] -= factor * rest[at]
    for row in range(d - 1, -1, -1):  # U x = y
        rest, below = left[row, row:], right[row:]
        for at in range(1, len(rest)):
            below[0] -= rest[at] * below[at]
        below[0] /= rest[0]
    return True


@compiled
def weighed(
    plays: Tracks, position: Tracks, n: int, repeats: float, half_life: float
) -> tuple[Tracks, Scores]:
    """Return the rows (m,) of a user's tracks in a model of n tracks, and their weights (m,).

    The plays are oldest first; position (tracks,) is the row of each track, or n. The weights are
    those of fold_in.weights_of; half_life is infinite where plays don't fade.
    """
    tracks, ages, counts = distinct(plays)
    rows, weights = np.empty(len(tracks), np.int32), np.empty(len(tracks), np.float32)
    size = 0
    for i in range(len(tracks)):
        row = position[tracks[i]]
        if row < n:
            faded = np.float32(2.0 ** (-ages[i] / half_life))
            rows[size], weights[size] = row, np.float32(counts[i]) ** np.float32(repeats) * faded
            size += 1
    return rows[:size], weights[:size]


@compiled
def fitted(
    vectors: Scores, rows: Tracks, extra: Scores, gram: Scores, penalty: float, negligible: float
) -> Scores:
    """Return the vector (d,) float32 that fits some rows (n,) of vectors (m, d): see fold_in.

    extra (n,) are the weights of the rows, divided by that of unobserved tracks; those below
    `negligible` don't count on the left side of the equations. gram (d, d) is the product of all
    vectors with themselves. The vector is 0 if the equations can't be solved.
    """
    d = len(gram)
    played, right = vectors[rows], np.zeros(d, np.float32)
    _add_rows(right, extra + np.float32(1), played, 0)
    counting = extra > negligible
    played, extra = played[counting], extra[counting]
    left = gram + np.dot((played * extra.reshape(-1, 1)).T, played)
    for row in range(d):
        left[row, row] += np.float32(penalty)
    return right if solve(left, right) else np.zeros(d, np.float32)


@compiled
def fitted_by_inverse(
    vectors: Scores, rows: Tracks, extra: Scores, inverse: Scores, negligible: float
) -> Scores:
    """Return the same vector as `fitted`, from the inverse (d, d) of gram + penalty I.

    It takes less time where few plays count, since only a system of as many equations is left to be
    solved (Woodbury's formula). With the counting plays W (m, d) and their weights C (m, m) on a
    diagonal, the vector x of (A + W'CW) x = b is A^-1 b - A^-1 W' (C^-1 + W A^-1 W')^-1 W A^-1 b.
    """
    d = len(inverse)
    played, right, result = vectors[rows], np.zeros(d, np.float32), np.zeros(d, np.float32)
    _add_rows(right, extra + np.float32(1), played, 0)
    _add_rows(result, right, inverse, 0)
    counting = extra > negligible
    played, extra = played[counting], extra[counting]
    across, m = played.T.copy(), len(extra)
    moved = np.dot(played, inverse)  # W A^-1
    left, part = np.dot(moved, across), np.zeros(m, np.float32)
    for i in range(m):
        left[i, i] += np.float32(1) / extra[i]
    _add_rows(part, result, across, 0)
    if not solve(left, part):
        return np.zeros(d, np.float32)
    _add_rows(result, -part, moved, 0)
    return result


class UserVectors:
    """The vectors of users in a model, for what they have played."""

    def __init__(self, model: FoldInModel) -> None:
        self._model = model
        self._inverses: dict[float, Scores] = {}  # of gram + penalty I, by penalty

    def of(self, plays: Tracks) -> Scores:
        """Return the vector (d,) of a user for their plays, oldest first.

        It is 0 if the model knows none of their tracks.
        """
        model, half_life = self._model, self._model.half_life or math.inf
        order = model.order
        rows, weights = weighed(plays, order.position, len(order.vectors), model.repeats, half_life)
        extra = weights / np.float32(model.unobserved)
        penalty = model.penalty(weights)
        if np.count_nonzero(extra > NEGLIGIBLE) > SHARE_BY_INVERSE * len(model.gram):
            return fitted(order.vectors, rows, extra, model.gram, penalty, NEGLIGIBLE)
        return fitted_by_inverse(order.vectors, rows, extra, self._inverse(penalty), NEGLIGIBLE)

    def compile(self) -> None:
        """Compile what vectors need, or read it from the cache, before it is needed."""
        model = self._model
        fitted(model.order.vectors, NO_TRACKS, NO_WEIGHTS, model.gram, 1.0, NEGLIGIBLE)
        self.of(NO_TRACKS)

    def _inverse(self, penalty: float) -> Scores:
        """Return the inverse (d, d) of gram + penalty I; penalties are steps of a short ladder."""
        if penalty not in self._inverses:
            gram = self._model.gram.astype(np.float64)
            inverse = np.linalg.inv(gram + penalty * np.eye(len(gram)))
            self._inverses[penalty] = inverse.astype(np.float32)
        return self._inverses[penalty]
