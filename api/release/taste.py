"""Compiled loops for the vector of one user: what jobs.contract.fold_in computes in NumPy.

The service computes such a vector after each event, where the release's rule folds users in. In
NumPy much of the time goes into the calls, since a user has some hundred plays only. The tests
compare `vector_after` with fold_in.FoldInModel.taste, which jobs.replay uses. The two add up in
different orders, so the last digits of the float32 numbers differ.

See jobs/contract/compiled.py for how these functions are compiled, and where the code is kept.
"""

import math
from typing import NamedTuple

import numpy as np

from jobs.contract.blending import Scores, Tracks
from jobs.contract.compiled import compiled
from jobs.contract.fold_in import LADDER, FoldInModel

LINE = 64  # bytes: a processor reads from memory so many at a time


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
    history: Tracks, events: Tracks, position: Tracks, n: int, repeats: float, half_life: float
) -> tuple[Tracks, Scores]:
    """Return the rows (m,) of a user's tracks in a model of n tracks, and their weights (m,).

    The user has played the history (h,), oldest first, and then the events (e,), newest first, -1
    where a track is unknown. position (tracks,) is the row of each track, or n. The weights are
    those of fold_in.weights_of; half_life is infinite where plays don't fade.
    """
    plays, size = np.empty(len(history) + len(events), np.int32), len(history)
    for i in range(size):
        plays[i] = history[i]
    for age in range(len(events) - 1, -1, -1):
        if events[age] >= 0:
            plays[size] = events[age]
            size += 1
    tracks, ages, counts = distinct(plays[:size])
    rows, weights = np.empty(len(tracks), np.int32), np.empty(len(tracks), np.float32)
    for i in range(len(tracks)):  # reads only, so that it waits for many rows at the same time
        rows[i] = position[tracks[i]]
    size = 0
    for i in range(len(tracks)):
        if rows[i] < n:
            faded = np.float32(2.0 ** (-ages[i] / half_life))
            weights[size] = np.float32(counts[i]) ** np.float32(repeats) * faded
            rows[size] = rows[i]
            size += 1
    return rows[:size], weights[:size]


@compiled
def number(half: np.uint16) -> np.float32:
    """Return a float16 number, given as its 16 bits: see kernels.number."""
    bits = (np.int32(half) & 0x8000) << 16 | (np.int32(half) & 0x7FFF) << 13
    return np.int32(bits).view(np.float32) * np.float32(2.0**112)


@compiled
def gather(vectors: np.ndarray, rows: Tracks, into: Scores) -> None:
    """Write some rows (n,) of vectors (m, d), the bits of float16, into the first rows of `into`.

    Rows lie far apart, so they are read before they are written: see kernels._read_lists.
    """
    read, n = 0, len(rows)
    for i in range(n):
        row = vectors[rows[i]]
        for at in range(0, len(row), LINE // 2):
            read |= row[at]
    into[:1, 0] = read
    for i in range(n):
        row, numbers = vectors[rows[i]], into[i]
        for at in range(len(numbers)):
            numbers[at] = number(row[at])


@compiled
def counting(played: Scores, extra: Scores, least: float) -> tuple[Scores, Scores]:
    """Return the vectors (m, d) and weights (m,) of the plays whose weight is above `least`.

    played (n, d) and extra (n,) are the vectors and weights of all plays; they are overwritten.
    """
    size = 0
    for i in range(len(extra)):
        if extra[i] > least:
            if size < i:
                row, numbers = played[i], played[size]
                for at in range(len(numbers)):
                    numbers[at] = row[at]
                extra[size] = extra[i]
            size += 1
    return played[:size], extra[:size]


@compiled
def right_side(played: Scores, extra: Scores) -> Scores:
    """Return the right side (d,) of a user's equations: the sum of the rows, each by 1 + extra."""
    right = np.zeros(played.shape[1], np.float32)
    _add_rows(right, extra + np.float32(1), played, 0)
    return right


@compiled
def fitted(right: Scores, played: Scores, weights: Scores, gram: Scores, penalty: float) -> Scores:
    """Return the vector (d,) of a user by the equations of fold_in; 0 if they can't be solved.

    right (d,) is their right side, played (m, d) and weights (m,) are the plays that count on the
    left side, and gram (d, d) is the product of all vectors of the model with themselves.
    """
    m, d = played.shape
    weighted = np.empty((m, d), np.float32)
    for i in range(m):
        for column in range(d):
            weighted[i, column] = played[i, column] * weights[i]
    left = np.dot(weighted.T, played)
    for row in range(d):
        for column in range(d):
            left[row, column] += gram[row, column]
        left[row, row] += np.float32(penalty)
    return right if solve(left, right) else np.zeros(d, np.float32)


@compiled
def fitted_on_axes(
    right: Scores, played: Scores, weights: Scores, eigenvalues: Scores, penalty: float
) -> Scores:
    """Return the same vector as `fitted` where gram is diagonal, with eigenvalues (d,) on it.

    It takes less time, since only a system of as many equations is left to be solved as there are
    plays that count (Woodbury's formula). With the counting plays W (m, d), their weights C (m, m)
    on a diagonal and A = gram + penalty I, which is diagonal too, the vector x of
    (A + W'CW) x = b is A^-1 b - A^-1 W' (C^-1 + W A^-1 W')^-1 W A^-1 b.
    """
    m, d = played.shape
    moved, across = np.empty((m, d), np.float32), np.empty((d, m), np.float32)  # W A^-1 and W'
    result = np.empty(d, np.float32)
    for column in range(d):
        inverse = np.float32(1) / (eigenvalues[column] + np.float32(penalty))
        result[column] = right[column] * inverse
        for i in range(m):
            moved[i, column] = played[i, column] * inverse
            across[column, i] = played[i, column]
    left, part = np.dot(moved, across), np.zeros(m, np.float32)
    for i in range(m):
        left[i, i] += np.float32(1) / weights[i]
    _add_rows(part, result, across, 0)
    if not solve(left, part):
        return np.zeros(d, np.float32)
    _add_rows(result, -part, moved, 0)
    return result


class Equations(NamedTuple):
    """The equations of a model's users: the fields of a FoldInModel, as compiled code takes them.

    vectors (m, d) are the bits of float16. eigenvalues (d,) are the diagonal of gram (d, d); they
    are empty where gram is not diagonal.
    """

    position: Tracks
    vectors: np.ndarray
    gram: Scores
    eigenvalues: Scores
    regularization: float
    unobserved: float
    exponent: float
    repeats: float
    half_life: float  # infinite where plays don't fade
    ladder: float  # factor between penalties: see fold_in.on_ladder
    negligible: float  # parts of the penalty: see FoldInModel.negligible

    @classmethod
    def of(cls, model: FoldInModel) -> "Equations":
        """Return the equations of a model."""
        diagonal = np.ascontiguousarray(model.gram.diagonal())
        eigenvalues = diagonal if (model.gram == np.diag(diagonal)).all() else diagonal[:0]
        halves = model.order.vectors.astype(np.float16, copy=False).view(np.uint16)
        return cls(
            model.order.position, halves, model.gram, eigenvalues,
            model.regularization, model.unobserved, model.exponent, model.repeats,
            model.half_life or math.inf, LADDER, model.negligible(1),
        )  # fmt: skip


@compiled
def vector_after(history: Tracks, events: Tracks, equations: Equations) -> Scores:
    """Return the vector (d,) of a user for a history, oldest first, and events, newest first.

    Events below 0 are of unknown tracks. Without a known one the vector is empty. It is 0 if the
    model knows no track of both.
    """
    model, newest = equations, -1
    for event in events:
        newest = max(newest, event)
    if newest < 0:
        return np.empty(0, np.float32)
    rows, weights = weighed(
        history, events, model.position, len(model.vectors), model.repeats, model.half_life
    )
    if len(rows) == 0:
        return np.zeros(len(model.gram), np.float32)
    total = 0.0
    for weight in weights:
        total += float(weight)
    others = model.unobserved * len(model.position)
    penalty = model.regularization * (total + others) ** model.exponent / model.unobserved
    penalty = model.ladder ** (math.floor(math.log(penalty) / math.log(model.ladder)) + 0.5)
    extra = weights / np.float32(model.unobserved)
    played = np.empty((len(rows), model.vectors.shape[1]), np.float32)
    gather(model.vectors, rows, played)
    right = right_side(played, extra)
    played, left = counting(played, extra, model.negligible * penalty)
    if len(left) > len(model.eigenvalues):
        return fitted(right, played, left, model.gram, penalty)
    return fitted_on_axes(right, played, left, model.eigenvalues, penalty)
