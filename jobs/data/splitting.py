"""Cut the listens into windows: at points in time, or after a share of each user's listens.

One user must not decide where all others are cut. So in every quantile and median here, a user's
listens have weights with which they are at most a bounded share of all (see data/bounds). The
weights of suspicious accounts that are left out are 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np

from jobs.contract import storage
from jobs.contract.names import EARLIER, SPLIT, WINDOWS
from jobs.contract.ragged import place_in_row
from jobs.contract.results import Split
from jobs.data import sampling
from jobs.data.bounds import ENOUGH_USERS, moments, track_ends
from jobs.data.feedback import EVER
from jobs.data.listens import SECONDS_A_DAY, Listens

FEWEST_LISTENS = 3  # a user with fewer has no listens in a holdout of the user split
SHORT_LIFE = 0.02  # share of the data's time span: users with a shorter lifetime do not come back
FEWEST_KNOWN = 0.5  # share of the holdout's users who should have a past
BRIEF_TRACKS = 0.2  # share of the data's time span: shorter-lived tracks come and go
FEWEST_HELD = 20  # users of a holdout, where its share of the listens is chosen
MOST_LISTENS = 20_000_000  # in the windows: if there are more, users are sampled
SEED = 20
LEARNED_USERS = 12_000  # of the holdouts together: with more, there are no earlier windows
LEAST_PAST = 0.5  # share of the listens that the earliest window knows
SHARE, SMALLEST_SHARE = 0.1, 0.01  # of the listens, held out by a window
WIDER_SHARES = (0.15, 0.2)  # tried where the time split has few judges; three windows take 60 %
ENOUGH_JUDGES = 200  # users with a past and a holdout in each window, or half of all users


@dataclass(frozen=True)
class Window:
    """Which listens are a window's past, and which its holdout: (listens,) bool each."""

    past: np.ndarray
    holdout: np.ndarray
    cut: str
    # The moments of the cut and of the end of the holdout, in seconds since 1970, where these are
    # the same for all users; None where the cut is a place in each user's history.
    begins: int | None = None
    ends: int | None = None


def by_time(
    data: Listens, share: float, gap_days: float, weights: np.ndarray | None = None, n: int = 3
) -> list[Window]:
    """Return n windows from the latest to the earliest, cut at moments; a moment is never split.

    weights (users,) are those of each user's listens, 1 if they are not given.
    """
    result: list[Window] = []
    end: int | None = None
    weights = np.ones(data.shape[0]) if weights is None else weights
    for at in moments(data, weights, [1 - i * share for i in range(1, n + 1)]):
        past, before_end = data.at < at, data.at < (np.inf if end is None else end)
        holdout = before_end & (data.at >= at + gap_days * SECONDS_A_DAY)
        cut = datetime.fromtimestamp(int(at), UTC).isoformat()
        result.append(Window(past, holdout, cut, int(at), EVER if end is None else end))
        end = int(at)
    return result


def by_user(data: Listens, share: float, n: int = 3) -> list[Window]:
    """Return n windows, the latest first, cut after a share of each user's listens."""
    result = []
    length = np.diff(data.starts)
    place = place_in_row(length)
    for _ in range(n):
        held = np.maximum(1, np.round(share * length)).astype(np.int64)
        left = np.where(length >= FEWEST_LISTENS, length - held, length)
        past, before_end = place < left[data.user], place < length[data.user]
        result.append(Window(past, before_end & ~past, f"each user's last {share:.0%}"))
        length = left
    return result


def share_with_a_past(data: Listens, window: Window, weights: np.ndarray) -> float:
    """Return the share of the holdout's users who have listens in the window's past."""
    held, past = (users_of(data, rows, weights) for rows in (window.holdout, window.past))
    return float(np.isin(held, past).mean()) if len(held) else 0.0


def users_of(data: Listens, some: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the users who have listens among some (listens,) bool, and a weight above 0."""
    found = np.zeros(data.shape[0], bool)
    found[data.user[some]] = True
    return np.flatnonzero(found & (weights > 0))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the first value up to which half of the weights lie.

    >>> weighted_median(np.array([3, 1, 2]), np.array([5, 1, 1]))
    3.0
    """
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(sums, sums[-1] / 2)])


def median_lives(data: Listens, weights: np.ndarray) -> tuple[float, float]:
    """Return the medians, over listens, of the lifetime of the listen's user and of its track.

    A lifetime goes from the first to the last listen within the span of the data, as a share of it.
    In a track's lifetime one user alone does not count (see bounds.track_ends).
    """
    begin, end = data.span
    some = np.flatnonzero(np.diff(data.starts))
    firsts, lasts = data.at[data.starts[some]], data.at[data.starts[some + 1] - 1]
    life = np.clip(lasts, begin, end).astype(np.int64) - np.clip(firsts, begin, end)
    of_user = weighted_median(life, (weights * np.diff(data.starts))[some])
    first, last = track_ends(data, weights > 0)
    plays = np.bincount(data.item, np.repeat(weights, np.diff(data.starts)), data.shape[1])
    of_track = weighted_median(last - first, plays)
    return of_user / max(end - begin, 1), of_track / max(end - begin, 1)


@dataclass(frozen=True)
class Choice:
    """How the windows are cut, and why."""

    split: str  # "time" or "user"
    share: float  # of the listens, which each window holds out
    reason: str
    windows: list[Window]  # from the latest to the earliest


def with_earlier(
    choice: Choice, data: Listens, gap_days: float, weights: np.ndarray
) -> list[Window]:
    """Return the windows of a choice, with earlier ones where they are small.

    The ranker learns more from more windows. There are as many as have at most LEARNED_USERS users
    in their holdouts together, if each is as large as the earliest, and as leave LEAST_PAST of the
    listens before the first cut.
    """
    last = choice.windows[-1]
    users = len(users_of(data, last.holdout, weights))
    past = int((1 - LEAST_PAST) / choice.share + 1e-9)
    least = len(WINDOWS)
    n = int(np.clip(LEARNED_USERS // max(users, 1), least, min(past, least + len(EARLIER))))
    if n <= least:
        return choice.windows
    if choice.split == "user":
        more = by_user(data, choice.share, n)
    else:
        more = by_time(data, choice.share, gap_days, weights, n)
    return [*choice.windows, *(w for w in more[least:] if w.past.any() and w.holdout.any())]


def choose(
    data: Listens, asked: str, share: float | None, gap_days: float, weights: np.ndarray
) -> Choice:
    """Return the split and the share to use: the requested ones, or those that suit the data.

    Nothing is concluded from fewer than ENOUGH_USERS users. Where the time split would judge lists
    by few users, it holds out a larger share; if that isn't enough, and tracks live long, the user
    split is taken, which judges by all users.
    """
    usual, n_users = share or SHARE, np.count_nonzero(weights)

    @cache
    def cut(held: float) -> list[Window]:
        return by_time(data, held, gap_days, weights)

    def time_split(held: float, reason: str) -> Choice:
        return Choice("time", held, reason, cut(held))

    def user_split(reason: str) -> Choice:
        return Choice("user", usual, reason, by_user(data, usual))

    if asked == "user":
        return user_split("as asked")
    if asked == "auto" and not all_filled(cut(usual)):
        return user_split("the listens have too few distinct times to cut between them")
    if asked == "auto" and n_users < ENOUGH_USERS:
        few = f"the default, since {n_users:,} users are too few to choose by"
        return time_split(usual, few)
    users, tracks = median_lives(data, weights)
    chosen = share or share_by_life(tracks, cut, data, weights)
    if asked == "time":
        return time_split(chosen, "as asked")
    known = share_with_a_past(data, cut(usual)[0], weights)
    reason = (
        f"the median listen is by a user who is active for {users:.1%} of the time span, and of a "
        f"track that is played for {tracks:.1%} of it; "
        f"{known:.0%} of the users after {cut(usual)[0].cut} also have earlier listens"
    )
    if tracks <= BRIEF_TRACKS:
        return time_split(chosen, reason)
    if users < SHORT_LIFE or known < FEWEST_KNOWN:
        return user_split(reason)
    for held in [share] if share else [chosen, *WIDER_SHARES]:
        judges = fewest_judges(cut(held), data, weights)
        if judges >= min(ENOUGH_JUDGES, n_users / 2):
            return time_split(held, reason)
    return user_split(
        f"{reason}; after a cut in time, only {judges:,} of {n_users:,} users could be judged"
    )


def fewest_judges(windows: list[Window], data: Listens, weights: np.ndarray) -> int:
    """Return how many users have both a past and a holdout, in the window with the fewest."""
    return min(
        len(np.intersect1d(users_of(data, w.past, weights), users_of(data, w.holdout, weights)))
        for w in windows
    )


def share_by_life(
    life: float, cut: Callable[[float], list[Window]], data: Listens, weights: np.ndarray
) -> float:
    """Return the share of the listens that a window of the time split holds out.

    It is smaller where the lifetime of tracks is short (`life`, a share of the time span), but
    large enough that all windows have a past, and a holdout of FEWEST_HELD users. `cut` returns the
    windows that hold out a share.
    """
    if np.count_nonzero(weights) < ENOUGH_USERS or life > BRIEF_TRACKS:
        return SHARE
    share = float(np.clip(life / 2, SMALLEST_SHARE, SHARE))
    while share < SHARE:
        held = [len(users_of(data, window.holdout, weights)) for window in cut(share)]
        if all_filled(cut(share)) and min(held) >= FEWEST_HELD:
            break
        share = min(2 * share, SHARE)
    return share


def all_filled(windows: list[Window]) -> bool:
    """Return whether each window has a past and a holdout."""
    return all(window.past.any() and window.holdout.any() for window in windows)


def sample(data: Listens, weights: np.ndarray) -> np.ndarray:
    """Return a mask (users,) bool of the users that the windows are made of.

    Users are drawn by a hash of their ids. Their number depends on the weighted number of listens,
    so that one user can't make the sample much smaller.
    """
    n = data.shape[0]
    listens = float((weights * np.diff(data.starts)).sum())
    kept = int(n * min(1, MOST_LISTENS / max(listens, 1)))
    result = np.zeros(n, bool)
    result[sampling.drawn(data.user_ids, max(kept, 1), SEED)] = True
    return result


def train_windows(windows: Path) -> list[Path]:
    """Return the folders of the windows up to "train", in order of time."""
    return [windows / name for name in (*EARLIER, "train") if (windows / name / SPLIT).exists()]


def users_share(folder: Path) -> float:
    """Return the share of all users that a window has, or 1 if the folder is not a window."""
    path = folder / SPLIT
    if not path.exists():
        return 1.0
    return storage.read_json(path, "jobs.windows", Split).users
