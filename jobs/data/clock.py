"""Find listens whose time can't be right: later than now, or far from all other times.

A device with a wrong clock reports a listen of 1970 or of 2098. One such listen would make all
others a century old, so these rows go to the quarantine before anything is computed.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from jobs.contract.names import CLOCK_TOLERANCE
from jobs.data.allocator import blocks
from jobs.data.bounds import user_weights
from jobs.data.cleaning import FAR_TIME, LATER_THAN_NOW, REASONS
from jobs.data.histories import Listens
from jobs.data.raw_files import LAST_SECOND

DAY = 86_400_000_000  # microseconds
ALL_DAYS = LAST_SECOND // 86_400  # from 1970 to 2099, the days that prepare takes
TAIL = 0.02  # share of the listens before the first quantile, and after the second one
FEWEST_DAYS = 30  # the middle 96 % of the listens count as at least so many days
NO_LOGS_BEFORE = 5 * 365 * DAY  # 1974: no service had logs then, so the unit is wrong
FAR = 5.0  # a time is far if it is more than so many lengths of the middle 96 % outside of them


@dataclass(frozen=True)
class Bounds:
    """The microseconds since 1970 from which and up to which a time can be right."""

    first: int
    last: int

    def __str__(self) -> str:
        first, last = (
            datetime.fromtimestamp(at / 1e6, UTC).date() for at in (self.first, self.last)
        )
        return f"{first} to {last}"


def moment(text: str) -> datetime:
    """Return the moment of an ISO text, in UTC where it has no time zone.

    Raises argparse.ArgumentTypeError, since the text is an option's.
    """
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:  # the second if its year in UTC is over 9999
        expected = "expected one as 2024-01-31 or 2024-01-31T18:30:00+02:00"
        raise argparse.ArgumentTypeError(f"{text!r} is not a moment: {expected}") from error


def microseconds(now: datetime) -> int:
    """Return a moment in microseconds since 1970."""
    return int(now.timestamp() * 1e6)


def latest_right(now: datetime) -> int:
    """Return the latest time that can be right, in microseconds since 1970."""
    return microseconds(now) + CLOCK_TOLERANCE


def neighbours_times(times: np.ndarray, latest: int, before: int) -> np.ndarray:
    """Return times (n,) in the order of the events, where each can be right.

    An event that is later than `latest` gets the time of the last one before that is not, plus a
    microsecond for each event between, so that no two plays become equal. `before` is the time of
    the event before the first.

    >>> neighbours_times(np.array([90, 20, 80, 80, 30]), latest=50, before=10)
    array([11, 20, 21, 22, 30])
    """
    place = np.arange(len(times))
    last = np.maximum.accumulate(np.where(times <= latest, place, -1))
    known = np.where(last >= 0, times[last], before)
    return known + place - last


def time_before(blocks: Iterable[np.ndarray], latest: int, now: int) -> int:
    """Return the time to pass to neighbours_times as `before`, in microseconds since 1970.

    If the first events are later than `latest`, they then get the microseconds just before the
    first event that is not later, or up to `now` if all are later. `blocks` are the times in the
    order of the events; only as many blocks are read as are needed.

    >>> time_before([np.array([90, 90]), np.array([80, 30])], latest=50, now=40)
    26
    >>> neighbours_times(np.array([90, 90, 80, 30]), latest=50, before=26)
    array([27, 28, 29, 30])
    """
    n = 0
    for times in blocks:
        right = np.flatnonzero(times <= latest)
        if len(right):
            return int(times[right[0]]) - n - int(right[0]) - 1
        n += len(times)
    return now - n


def mark_later_than_now(listens: Listens, bad: np.ndarray, now: datetime) -> None:
    """Give listens that are over a day later than now their code in `bad` and the user -1."""
    latest = latest_right(now)
    for rows in blocks(len(bad)):
        later = (listens.user[rows] >= 0) & (listens.time[rows] > latest)
        mark(listens, bad, rows, later, LATER_THAN_NOW)


def mark_far(listens: Listens, bad: np.ndarray, n: int, far: float) -> Bounds:
    """Give listens that are far from the others their code in `bad` and the user -1.

    The bounds are those of `time_bounds` for the first n listens. Returns them. The rows from n on
    are events of the service: they may be much later than the others, if those are an old data set.
    """
    bounds = time_bounds(listens, n, far)
    for rows in blocks(len(bad)):
        time, of_file = listens.time[rows], np.arange(rows.start, rows.stop) < n
        outside = (time < bounds.first) | (of_file & (time > bounds.last))
        mark(listens, bad, rows, (listens.user[rows] >= 0) & outside, FAR_TIME)
    return bounds


def mark(listens: Listens, bad: np.ndarray, rows: slice, wrong: np.ndarray, reason: str) -> None:
    """Give the wrong ones of some rows the code of the reason and the user -1."""
    bad[rows][wrong] = REASONS.index(reason)
    listens.user[rows][wrong] = -1


def time_bounds(listens: Listens, n: int, far: float) -> Bounds:
    """Return between which times a listen can be right, judged by the first n listens.

    The middle 96 % of the listens are between two days. A time is far if it is more than `far`
    times the distance of these days, or of 30 days if they are nearer, before the first or after
    the last. So up to 2 % of wrong times cannot move the bounds, however wrong they are. In a
    service that grows by a constant factor every year, even the very first listen is near: where
    listens double every year, the middle 96 % span 5.6 years, and the bound is 28 years before.
    One user's listens weigh at most a bounded share (see data/bounds): a bot that plays more in a
    week than all others did in years does not make these years far.
    """
    days = np.zeros(1)  # weighted listens by day since 1970
    heavy = weights_of_heavy_users(listens, n)
    for rows in blocks(n):
        good = listens.user[rows] >= 0
        user, day = listens.user[rows][good], listens.time[rows][good] // DAY
        counted = np.bincount(day).astype(np.float64)
        for heavy_user, weight in heavy.items():
            own = np.bincount(day[user == heavy_user], minlength=len(counted))
            counted -= (1 - weight) * own
        if len(counted) > len(days):
            counted, days = days, counted
        days[: len(counted)] += counted
    so_far = np.cumsum(days)
    first, last = np.searchsorted(so_far, np.array([TAIL, 1 - TAIL]) * so_far[-1])
    distance = int(min(far * max(last - first, FEWEST_DAYS), ALL_DAYS))
    begin, end = max(first - distance, 0), min(last + 1 + distance, ALL_DAYS)
    return Bounds(int(begin) * DAY, int(end) * DAY)


def weights_of_heavy_users(listens: Listens, n: int) -> dict[int, float]:
    """Return the weight of each listen of the users who have too many of the first n listens.

    They are found in a sample of every k-th listen, which has at most two million of them.
    """
    user = listens.user[: n : max(1, n >> 20)]
    users, counts = np.unique(user[user >= 0], return_counts=True)
    weights = user_weights(counts)
    heavy = weights < 1
    return dict(zip(users[heavy].tolist(), weights[heavy].tolist(), strict=True))
