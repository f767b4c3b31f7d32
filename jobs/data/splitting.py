"""Cut the listens into windows: at points in time, or after a share of each user's listens."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from jobs.contract import storage
from jobs.contract.names import SPLIT
from jobs.contract.ragged import place_in_row
from jobs.contract.results import Split
from jobs.data.listens import SECONDS_A_DAY, Listens

FEWEST_LISTENS = 3  # a user with fewer has no listens in a holdout of the user split
SHORT_LIFE = 0.02  # share of the data's time span: users with a shorter lifetime do not come back
FEWEST_KNOWN = 0.5  # share of the holdout's users who should have a past
BRIEF_TRACKS = 0.2  # share of the data's time span: shorter-lived tracks come and go
MOST_LISTENS = 20_000_000  # in the windows: if there are more, users are sampled
SEED = 20
SHARE, SMALLEST_SHARE = 0.1, 0.01  # of the listens, held out by a window


@dataclass(frozen=True)
class Window:
    """Which listens are a window's past, and which its holdout: (listens,) bool each."""

    past: np.ndarray
    holdout: np.ndarray
    cut: str


def by_time(data: Listens, share: float, gap_days: float) -> list[Window]:
    """Return windows from the latest to the earliest, cut at moments; a moment is never split."""
    result = []
    end = np.inf
    for i in range(1, 4):
        at = np.quantile(data.at, 1 - i * share, method="higher")
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


def share_with_a_past(data: Listens, window: Window) -> float:
    """Return the share of the holdout's users who have listens in the window's past."""
    held, past = (np.unique(data.user[rows]) for rows in (window.holdout, window.past))
    return float(np.isin(held, past).mean()) if len(held) else 0.0


def median_life(key: np.ndarray, at: np.ndarray, span: tuple[int, int]) -> float:
    """Return the median over listens of the lifetime of the listen's user or track (`key`).

    A lifetime goes from the first to the last listen within the span of the data, as a share of it.
    """
    begin, end = span
    first, last = (np.full(key.max() + 1, moment, np.uint32) for moment in (end, begin))
    np.minimum.at(first, key, at)
    np.maximum.at(last, key, at)
    life = np.clip(last, begin, end) - np.clip(first, begin, end)
    return float(np.median(life[key]) / max(end - begin, 1))


def choose_split(data: Listens, asked: str, share: float, gap_days: float) -> tuple[str, str]:
    """Return the split to use and the reason: the requested one, or the one that suits the data."""
    if asked != "auto":
        return asked, "as asked"
    windows = by_time(data, share, gap_days)
    if not all_filled(windows):
        return "user", "the listens have too few distinct times to cut between them"
    users, tracks = (median_life(key, data.at, data.span) for key in (data.user, data.item))
    known = share_with_a_past(data, windows[0])
    reason = (
        f"the median listen is by a user who is active for {users:.1%} of the time span, and of a "
        f"track that is played for {tracks:.1%} of it; "
        f"{known:.0%} of the users after {windows[0].cut} also have earlier listens"
    )
    stays_away = users < SHORT_LIFE or known < FEWEST_KNOWN
    return ("user" if stays_away and tracks > BRIEF_TRACKS else "time"), reason


def choose_share(data: Listens, split: str, gap_days: float) -> float:
    """Return the share of the listens that a window holds out.

    It is smaller where tracks have short lifetimes, but large enough that all windows have a past
    and a holdout.
    """
    life = median_life(data.item, data.at, data.span)
    if split == "user" or life > BRIEF_TRACKS:
        return SHARE
    share = float(np.clip(life / 2, SMALLEST_SHARE, SHARE))
    while share < SHARE and not all_filled(by_time(data, share, gap_days)):
        share = min(2 * share, SHARE)
    return share


def all_filled(windows: list[Window]) -> bool:
    """Return whether each window has a past and a holdout."""
    return all(window.past.any() and window.holdout.any() for window in windows)


def sample(data: Listens) -> np.ndarray:
    """Return a mask (users,) bool of the users that the windows are made of."""
    n = data.shape[0]
    kept = int(n * min(1, MOST_LISTENS / max(len(data.item), 1)))
    result = np.zeros(n, bool)
    result[np.random.default_rng(SEED).permutation(n)[: max(kept, 1)]] = True
    return result


def users_share(folder: Path) -> float:
    """Return the share of all users that a window has, or 1 if the folder is not a window."""
    path = folder / SPLIT
    if not path.exists():
        return 1.0
    return storage.read_json(path, "jobs.windows", Split).users
