"""Cut the listens into windows: at points in time, or after a share of each user's listens.

One user must not decide where all others are cut. So in every quantile and median here, a user's
listens have weights with which they are at most a bounded share of all (see data/bounds). The
weights of suspicious accounts that are left out are 0.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from jobs.contract import storage
from jobs.contract.names import SPLIT
from jobs.contract.ragged import place_in_row
from jobs.contract.results import Split
from jobs.data import sampling
from jobs.data.bounds import ENOUGH_USERS, moments, track_ends
from jobs.data.listens import SECONDS_A_DAY, Listens

FEWEST_LISTENS = 3  # a user with fewer has no listens in a holdout of the user split
SHORT_LIFE = 0.02  # share of the data's time span: users with a shorter lifetime do not come back
FEWEST_KNOWN = 0.5  # share of the holdout's users who should have a past
BRIEF_TRACKS = 0.2  # share of the data's time span: shorter-lived tracks come and go
FEWEST_HELD = 20  # users of a holdout, where its share of the listens is chosen
MOST_LISTENS = 20_000_000  # in the windows: if there are more, users are sampled
SEED = 20
SHARE, SMALLEST_SHARE = 0.1, 0.01  # of the listens, held out by a window


@dataclass(frozen=True)
class Window:
    """Which listens are a window's past, and which its holdout: (listens,) bool each."""

    past: np.ndarray
    holdout: np.ndarray
    cut: str


def by_time(
    data: Listens, share: float, gap_days: float, weights: np.ndarray | None = None
) -> list[Window]:
    """Return windows from the latest to the earliest, cut at moments; a moment is never split.

    weights (users,) are those of each user's listens, 1 if they are not given.
    """
    result = []
    end = np.inf
    weights = np.ones(data.shape[0]) if weights is None else weights
    for at in moments(data, weights, [1 - i * share for i in (1, 2, 3)]):
        past, before_end = data.at < at, data.at < end
        holdout = before_end & (data.at >= at + gap_days * SECONDS_A_DAY)
        result.append(Window(past, holdout, datetime.fromtimestamp(int(at), UTC).isoformat()))
        end = at
    return result


def by_user(data: Listens, share: float) -> list[Window]:
    """Return windows from the latest to the earliest, cut after a share of each user's listens."""
    result = []
    length = np.diff(data.starts)
    place = place_in_row(length)
    for _ in range(3):
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
    users = np.unique(data.user[some])
    counted: np.ndarray = users[weights[users] > 0]
    return counted


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


def choose_split(
    data: Listens, asked: str, share: float, gap_days: float, weights: np.ndarray
) -> tuple[str, str]:
    """Return the split to use and the reason: the requested one, or the one that suits the data.

    Nothing is concluded from fewer than ENOUGH_USERS users.
    """
    if asked != "auto":
        return asked, "as asked"
    windows = by_time(data, share, gap_days, weights)
    if not all_filled(windows):
        return "user", "the listens have too few distinct times to cut between them"
    n_users = np.count_nonzero(weights)
    if n_users < ENOUGH_USERS:
        return "time", f"the default, since {n_users:,} users are too few to choose by"
    users, tracks = median_lives(data, weights)
    known = share_with_a_past(data, windows[0], weights)
    reason = (
        f"the median listen is by a user who is active for {users:.1%} of the time span, and of a "
        f"track that is played for {tracks:.1%} of it; "
        f"{known:.0%} of the users after {windows[0].cut} also have earlier listens"
    )
    stays_away = users < SHORT_LIFE or known < FEWEST_KNOWN
    return ("user" if stays_away and tracks > BRIEF_TRACKS else "time"), reason


def choose_share(data: Listens, split: str, gap_days: float, weights: np.ndarray) -> float:
    """Return the share of the listens that a window holds out.

    It is smaller where tracks have short lifetimes, but large enough that all windows have a past,
    and a holdout of FEWEST_HELD users.
    """
    if split == "user" or np.count_nonzero(weights) < ENOUGH_USERS:
        return SHARE
    _, life = median_lives(data, weights)
    if life > BRIEF_TRACKS:
        return SHARE
    share = float(np.clip(life / 2, SMALLEST_SHARE, SHARE))
    while share < SHARE:
        windows = by_time(data, share, gap_days, weights)
        held = [len(users_of(data, window.holdout, weights)) for window in windows]
        if all_filled(windows) and min(held) >= FEWEST_HELD:
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


def users_share(folder: Path) -> float:
    """Return the share of all users that a window has, or 1 if the folder is not a window."""
    path = folder / SPLIT
    if not path.exists():
        return 1.0
    return storage.read_json(path, "jobs.windows", Split).users
