"""How sure a mean over users is, and a ratio of two: the paired bootstrap.

Users are drawn again with replacement, as many as there are; a draw takes a user's values for every
list, so that what is hard for a user is hard for all of them. The middle 95 % of the draws are the
interval. It covers the choice of users, not that of the window.
"""

import numpy as np

from jobs.contract.results import Ratio

DRAWS = 2000
SEED = 20
LEVELS = (0.025, 0.975)


def drawn_means(values: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    """(draws, m) float64: means of values (users, m) over users drawn again."""
    rng = np.random.default_rng(SEED)
    n = len(values)
    result = np.empty((draws, values.shape[1]))
    for i in range(draws):
        times = np.bincount(rng.integers(n, size=n), minlength=n)
        result[i] = times @ values / n
    return result


def intervals(by_list: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """The interval of each list's mean, from its users' values (users,)."""
    means = drawn_means(np.column_stack(list(by_list.values())))
    lows, highs = np.quantile(means, LEVELS, axis=0).tolist()
    return dict(zip(by_list, zip(lows, highs, strict=True), strict=True))


def ratio(ours: np.ndarray, theirs: np.ndarray) -> Ratio:
    """Mean of ours over mean of theirs, the same users' values (users,), and its interval.

    None where theirs is 0, in the mean or in more than the draws that the interval leaves out.
    """
    means = drawn_means(np.column_stack([ours, theirs]))
    whole = ours.mean() / theirs.mean() if theirs.any() else None
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = np.quantile(means[:, 0] / means[:, 1], LEVELS)
    known = whole is not None and bool(np.isfinite(bounds).all())
    low, high = bounds.tolist() if known else (None, None)
    return Ratio(None if whole is None else float(whole), low, high)
