"""Intervals of means over users, and of ratios of two means, by the paired bootstrap.

A draw has as many users as there are, drawn with replacement. It takes the values of all lists from
the same users: if these users are hard to predict, that makes all lists worse, and a ratio of two
lists hardly changes. The middle 95 % of the draws are the interval. It shows how much a mean
depends on which users were scored, not on which window was.
"""

import numpy as np

from jobs.contract.results import Ratio

DRAWS = 2000
SEED = 20
LEVELS = (0.025, 0.975)  # quantiles of the draws that bound the interval of 95 %


def drawn_means(values: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    """Return the means (draws, m) float64 of values (users, m), over the users of each draw."""
    rng = np.random.default_rng(SEED)
    n = len(values)
    result = np.empty((draws, values.shape[1]))
    for i in range(draws):
        times = np.bincount(rng.integers(n, size=n), minlength=n)
        result[i] = times @ values / n
    return result


def intervals(by_list: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Return the interval (low, high) of each list's mean, from its values (users,)."""
    means = drawn_means(np.column_stack(list(by_list.values())))
    lows, highs = np.quantile(means, LEVELS, axis=0).tolist()
    return dict(zip(by_list, zip(lows, highs, strict=True), strict=True))


def ratio(ours: np.ndarray, theirs: np.ndarray) -> Ratio:
    """Return the mean of ours divided by the mean of theirs, and the interval of this ratio.

    ours and theirs (users,) are values of the same users. The ratio is None if the mean of theirs
    is 0. The interval is None if that is so, or if the mean of theirs is 0 in so many draws that a
    bound of the interval is not finite.
    """
    means = drawn_means(np.column_stack([ours, theirs]))
    whole = ours.mean() / theirs.mean() if theirs.any() else None
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = np.quantile(means[:, 0] / means[:, 1], LEVELS)
    known = whole is not None and bool(np.isfinite(bounds).all())
    low, high = bounds.tolist() if known else (None, None)
    return Ratio(None if whole is None else float(whole), low, high)
