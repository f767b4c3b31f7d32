"""hit@10 of replayed plays by the number of events before them, with intervals over users.

A hit rate is the sum of the users' hits divided by the sum of their plays. For its interval users
are drawn again (see metrics.bootstrap); all lists have the same users in a draw, so that the
difference between two lists has an interval of its own.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from jobs.contract.results import Gain
from jobs.metrics.bootstrap import LEVELS, drawn_means

EVENTS_SEEN = ("0", "1", "2", "3+")  # groups of plays, by the number of events before the play
AFTER_EVENTS = EVENTS_SEEN[1:]

Name = TypeVar("Name")  # of a list
DrawnRates = dict[str, np.ndarray]
"""By group of plays: (draws,) hit rates; NaN where no user of a draw has such a play."""


def groups_of(at: np.ndarray) -> np.ndarray:
    """Return the places in EVENTS_SEEN of plays with so many events before them, (plays,)."""
    groups: np.ndarray = np.minimum(at, len(EVENTS_SEEN) - 1)
    return groups


def hit_rates(hits: np.ndarray, at: np.ndarray) -> dict[str, float]:
    """Return hit@10 by the number of events seen; numbers that no play has are left out.

    hits (plays,) bool; at (plays,) are the numbers of events before the plays.
    """
    seen = groups_of(at)
    by_seen = {name: hits[seen == i] for i, name in enumerate(EVENTS_SEEN)}
    return {name: float(group.mean()) for name, group in by_seen.items() if len(group)}


def mean_hit_rate(hits: np.ndarray, at: np.ndarray) -> float:
    """Return what the search maximises: the mean of hit@10 after 1, 2, and 3 or more events.

    A mean over all plays would depend mostly on long sessions, which have the most plays. It is
    NaN without a play after an event.
    """
    rates = hit_rates(hits, at)
    after = [rates[name] for name in AFTER_EVENTS if name in rates]
    return float(np.mean(after)) if after else float("nan")


def drawn_rates(
    hits: Mapping[Name, np.ndarray], at: np.ndarray, session: np.ndarray
) -> dict[Name, DrawnRates]:
    """Return the hit rates of each list in each draw of users, by group of plays.

    hits (plays,) bool by list; session (plays,) says which user's play each is. Users without a
    play are not drawn.
    """
    users, user = np.unique(session, return_inverse=True)
    seen = groups_of(at)
    groups = [i for i in range(len(EVENTS_SEEN)) if (seen == i).any()]
    lists = [np.ones(len(at), bool), *hits.values()]  # the first counts the plays
    if not groups:
        return {name: {} for name in hits}
    sums = [
        np.bincount(user, (seen == group) & hit, len(users)) for hit in lists for group in groups
    ]
    means = drawn_means(np.column_stack(sums)).reshape(-1, len(lists), len(groups))
    with np.errstate(invalid="ignore"):
        rates = means[:, 1:] / means[:, :1]
    return {
        name: {EVENTS_SEEN[group]: rates[:, i, j] for j, group in enumerate(groups)}
        for i, name in enumerate(hits)
    }


def drawn_gains(ours: DrawnRates, theirs: DrawnRates, groups: Sequence[str]) -> np.ndarray:
    """Return how much higher our mean hit rate over some groups is in each draw, (draws,).

    A group counts in the draws that have a play of it; a draw without any has a gain of 0.
    """
    gains = np.column_stack([ours[name] - theirs[name] for name in groups if name in ours])
    counted = np.isfinite(gains)
    sums = np.where(counted, gains, 0).sum(axis=1)
    result: np.ndarray = sums / np.maximum(counted.sum(axis=1), 1)
    return result


def gain_of(value: float, drawn: np.ndarray) -> Gain:
    """Return a gain with its interval from the draws, which holds the gain itself.

    All three have four digits, as they are shown, so that no bound looks like 0 but is not.
    """
    low, high = np.quantile(drawn, LEVELS).tolist()
    low, high = min(low, value), max(high, value)
    return Gain(*(round(each, 4) + 0.0 for each in (value, low, high)))  # + 0.0: no -0.0
