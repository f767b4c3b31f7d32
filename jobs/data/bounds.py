"""The bounds of one user's part in what all users get, and counts that keep them.

One account must not decide what everybody hears, whether it is a bot, a shop's radio or a person
who never stops. So wherever the plays of all users are added up, two bounds hold:

    PLAYS_OF_PAIR    A user's plays of one track count as at most so many plays. (In the top list
                     they count as one listener.) A track that is played more often by the same user
                     is not liked by more people.
    SHARE_OF_USER    All plays of a user weigh at most this share of the plays of all users. In a
                     service with fewer than 1,500 users it is 15 times the mean share of a user.

Ordinary heavy listeners stay below: in public data sets with thousands of users, nobody has a
hundredth of the plays. Adding one account with any plays changes a track's count by at most
PLAYS_OF_PAIR, and moves a quantile by at most SHARE_OF_USER of the plays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.data.listens import SECONDS_A_DAY, Listens
from jobs.runtime import parallel

BlockWithPairs = tuple[Listens, np.ndarray, np.ndarray, np.ndarray]
PLAYS_OF_PAIR = 20  # plays of one track by one user, at most, that count
SHARE_OF_USER = 0.01  # of the plays of all users
MEANS_OF_USER = 15  # times the mean share of a user: allowed where that is more
ENOUGH_USERS = 50  # users with a label: fewer prove nothing, and nothing is chosen by them
HALF = 16  # bits
MOST_THREADS = 4  # that find pairs, since each of them takes some 150 MB


def most_share(users: int) -> float:
    """Return which share of all plays one of so many users may have at most.

    >>> most_share(100), most_share(50_000)
    (0.15, 0.01)
    """
    return min(1.0, max(SHARE_OF_USER, MEANS_OF_USER / max(users, 1)))


def user_weights(plays: np.ndarray) -> np.ndarray:
    """Return how much each play of a user weighs, (users,) float64: 1, or less for many plays.

    plays (users,) are their numbers of plays; users with 0 are not counted and weigh 0. With these
    weights no user has more than most_share of all. Of 200 users, one may have 7.5 %: 1,000 plays
    of one user beside one play of each other user count as 199 × 0.075 / 0.925 = 16.1.

    >>> counts = np.array([1_000] + [1] * 199)
    >>> (counts * user_weights(counts)).round(1)[:3].tolist()
    [16.1, 1.0, 1.0]
    """
    most = most_play_sum(plays[plays > 0])
    return np.where(plays > 0, np.minimum(1.0, most / np.maximum(plays, 1)), 0.0)


def most_play_sum(plays: np.ndarray) -> float:
    """Return the largest number of plays that count of one user, given all users' plays (users,).

    If the k users with most plays are cut down to c plays, and the others have r together, then c
    is the share s of all if c = s (k c + r), so c = s r / (1 - k s). k is the smallest number for
    which nobody else has more.
    """
    share = most_share(len(plays))
    descending = -np.sort(-plays.astype(np.float64))
    rest = descending.sum() - np.append(0, np.cumsum(descending))
    k = np.arange(len(descending) + 1)
    possible = k * share < 1
    most = share * rest[possible] / (1 - k[possible] * share)
    next_one = np.append(descending, 0)[possible]
    return float(most[np.argmax(next_one <= most * (1 + 1e-12))])


def moments(data: Listens, weights: np.ndarray, shares: Sequence[float]) -> list[int]:
    """Return the moments up to which these shares of the weighted plays lie, in seconds since 1970.

    weights (users,) are those of each play of a user. With weights of 1 these are the quantiles of
    data.at by numpy's method "higher". The times are counted by their upper 16 bits and then, for
    the one value that has the quantile, by their lower 16 bits; nothing is sorted.
    """
    upper = np.zeros(1 << HALF)
    for block, weight in weighted_blocks(data, weights):
        upper += np.bincount(block.at >> HALF, weight, 1 << HALF)
    result = []
    for share in shares:
        wanted = share * (upper.sum() - 1) + 1
        high, before = reached(upper, wanted)
        low, _ = reached(lower_counts(data, weights, high), wanted - before)
        result.append((high << HALF) + low)
    return result


def reached(counts: np.ndarray, wanted: float) -> tuple[int, float]:
    """Return the first place whose counts up to it have this sum, and the sum before it.

    >>> reached(np.array([2.0, 0.0, 3.0, 0.0]), 4.0)
    (2, 2.0)
    """
    sums = np.cumsum(counts)
    place = min(int(np.searchsorted(sums, wanted)), int(np.flatnonzero(counts)[-1]))
    return place, float(sums[place] - counts[place])


def lower_counts(data: Listens, weights: np.ndarray, upper: int) -> np.ndarray:
    """Return the weighted plays by the lower 16 bits of their times, of those with these upper."""
    result = np.zeros(1 << HALF)
    for block, weight in weighted_blocks(data, weights):
        at = block.at.astype(np.int64)
        some = at >> HALF == upper
        result += np.bincount(at[some] & ((1 << HALF) - 1), weight[some], 1 << HALF)
    return result


def weighted_blocks(data: Listens, weights: np.ndarray) -> Iterator[tuple[Listens, np.ndarray]]:
    """Yield blocks of listens, each with the weights (n,) of its listens."""
    first = 0
    for block in data.blocks():
        users = slice(first, first + block.shape[0])
        yield block, np.repeat(weights[users], np.diff(block.starts))
        first = users.stop


def pairs_of(block: Listens) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each pair of a user and a track: its first and last listen, and its plays, (pairs,).

    Listens are sorted by track and place. A user's listens stand together, so those of a pair do.
    User 0 plays the tracks 1, 0, 1, user 1 the track 1:

    >>> item, ids = np.array([1, 0, 1, 1], np.int32), np.arange(2)
    >>> found = pairs_of(Listens(np.array([0, 3, 4]), item, np.zeros(4), ids, ids))
    >>> [of.tolist() for of in found]
    [[1, 0, 3], [1, 2, 3], [1, 2, 1]]
    """
    n = len(block.item)
    bits = max(n - 1, 1).bit_length()
    keys = block.item.astype(np.int64) << bits
    keys |= np.arange(n)
    keys.sort()
    item, place = keys >> bits, keys & ((1 << bits) - 1)
    user = block.user[place]
    last = np.ones(n, bool)
    last[:-1] = (np.diff(item) != 0) | (np.diff(user) != 0)
    ends = np.flatnonzero(last)
    plays = np.diff(ends, prepend=-1)
    return place[ends - plays + 1], place[ends], plays


def _blocks_with_pairs(data: Listens, counted: np.ndarray | None) -> Iterator[BlockWithPairs]:
    """Yield all blocks of listens with their pairs (see pairs_of), which several threads find."""
    users = data.users_of_blocks(counted)

    def work(first: int, last: int) -> BlockWithPairs:
        block = data.of_users(users[first])
        return block, *pairs_of(block)

    n_threads = min(parallel.threads(), MOST_THREADS)
    return parallel.in_blocks(work, len(users), 1, None, n_threads)


class Latest:
    """The two latest moments of each track that are of different users, block after block.

    Moments are int64; with their negatives, it keeps the two earliest ones.
    """

    NONE = np.iinfo(np.int64).min

    def __init__(self, n_tracks: int) -> None:
        self.first = np.full(n_tracks, self.NONE)
        self.second = self.first.copy()

    def add(self, item: np.ndarray, at: np.ndarray) -> None:
        """Add a moment of each pair of a user and a track."""
        first = np.full(len(self.first), self.NONE)
        second = first.copy()
        np.maximum.at(first, item, at)
        best = np.flatnonzero(at == first[item])
        rest = np.ones(len(item), bool)
        rest[best[np.unique(item[best], return_index=True)[1]]] = False
        np.maximum.at(second, item[rest], at[rest])
        lesser = np.minimum(first, self.first)
        self.second = np.maximum(lesser, np.maximum(second, self.second))
        self.first = np.maximum(first, self.first)

    def robust(self) -> np.ndarray:
        """Return each track's second moment, or the only one, (items,); NONE if it has none."""
        return np.where(self.second == self.NONE, self.first, self.second)


@dataclass(frozen=True)
class TrackCounts:
    """How much each track is played by all users, (items,) each."""

    plays: np.ndarray  # int64, all of them
    bounded: np.ndarray  # int64, where a user's plays of the track count as PLAYS_OF_PAIR at most
    listeners: np.ndarray  # int64
    since: np.ndarray  # (items, moments) int64: listeners who played it at a moment or later
    faded: np.ndarray  # float64: listeners, each less with the age of their last play of the track


def track_counts(
    data: Listens,
    counted: np.ndarray | None = None,
    moments: Sequence[int] = (),
    half_life_days: float | None = None,
) -> TrackCounts:
    """Count the plays and listeners of each track; without the users for whom `counted` is false.

    A listener counts 2 ^ (-age / half-life) in `faded`, where the age is that of their last play of
    the track: 1 at the end of the data's span, 0.5 one half-life before. However often one user
    plays a track, it gains at most 1. Here the half-life is a week. Track 0 is played a week before
    the end; track 1 then and at the end, by the same user:

    >>> at = np.array([0, 0, 7 * SECONDS_A_DAY], np.uint32)
    >>> item, ids = np.array([0, 1, 1], np.int32), np.array([10, 20])
    >>> data = Listens(np.array([0, 3]), item, at, np.array([5]), ids)
    >>> track_counts(data, half_life_days=7.0).faded.tolist()
    [0.5, 1.0]
    """
    n = data.shape[1]
    plays, bounded, listeners = (np.zeros(n, np.int64) for _ in range(3))
    since, faded = np.zeros((n, len(moments)), np.int64), np.zeros(n)
    end = data.span[1] if half_life_days is not None else 0
    for block, _, last, plays_of_pair in _blocks_with_pairs(data, counted):
        item = block.item[last]
        plays += np.bincount(block.item, minlength=n)
        listeners += np.bincount(item, minlength=n)
        capped = np.minimum(plays_of_pair, PLAYS_OF_PAIR)
        bounded += np.bincount(item, capped, n).astype(np.int64)
        for i, moment in enumerate(moments):
            since[:, i] += np.bincount(item[block.at[last] >= moment], minlength=n)
        if half_life_days is not None:
            age = (end - np.minimum(block.at[last], end)) / SECONDS_A_DAY
            faded += np.bincount(item, np.exp2(-age / half_life_days), n)
    return TrackCounts(plays, bounded, listeners, since, faded)


def track_ends(data: Listens, counted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return when each track was first and last played, (items,) int64 seconds, within the span.

    The user who was the first of all to play a track doesn't count, nor does the one who was the
    last, unless nobody else played it: so one user can't make all tracks new or old. A track
    without a listen has the span's end as its first moment, and the span's begin as its last.
    """
    begin, end = data.span
    earliest, latest = Latest(data.shape[1]), Latest(data.shape[1])
    for block, first, last, _ in _blocks_with_pairs(data, counted):
        at, item = block.at.astype(np.int64), block.item[last]
        earliest.add(item, -at[first])
        latest.add(item, at[last])
    none = latest.first == Latest.NONE
    first, last = (np.clip(of, begin, end) for of in (-earliest.robust(), latest.robust()))
    return np.where(none, end, first), np.where(none, begin, np.maximum(first, last))
