"""Forecast how popular tracks will be, from how earlier popularity was followed by plays.

A top list says what was played. Which half-life of plays predicts best depends on how fast tracks
come and go, and one half-life is not enough: a track that is new and rises differs from one that
has been popular for years, though their scores may be equal at one half-life.

So the past is cut at up to CUTS moments. At each of them, every track has eight numbers, its
listeners with eight half-lives, and one number that became known afterwards: its new listeners in
the time after the cut, which is as long as what the windows hold out. A ridge regression learns by
which weights the former add up to the latter, and is then applied at the end of the folder's
listens. Nothing else is read, so a window's forecast knows nothing after its cut.

- A new listener counts 1 / min(labels, 10), where labels are the tracks that they play for the
  first time after the cut: about what one of them adds to a metric of the first ten places. Only
  users with earlier listens count.
- The numbers are not replaced by their logarithms. With these the regression would fit the many
  tracks that hardly anybody plays, and would foresee that a track with three listeners, all of
  today, will be the most popular one.
- A user counts once for a track, so that nobody adds more than one listener anywhere.
"""

import numpy as np

from jobs.data import sampling
from jobs.data.bounds import pairs_of
from jobs.data.listens import Listens

CUTS = 60
HALF_LIVES = 2.0 ** np.arange(-4, 4)  # in lengths of a window
FIRST_CUT = 0.25  # share of the time span that the first cut knows
FEWEST_CUTS = 10
MOST_TRACKS = 2_000  # of each half-life, the most popular ones, that are learned from at a cut
MOST_LISTENS = 2_000_000  # of the users who are learned from, about
LABELS = 10  # the places of a list that matter
RIDGE = 1e-3  # penalty, as a share of the mean square of the features
SEED = 20


def forecast(data: Listens, counted: np.ndarray, seconds: int) -> np.ndarray:
    """Return the forecast of each track, (items,) float32: its new listeners in the next `seconds`.

    A new listener counts at most 1, and less if they play more new tracks. Users for whom counted
    (users,) bool is false don't count. A track without a listen has 0, as has one that nobody is
    expected to play, and all tracks if the past is too short to learn from.
    """
    n, members = data.shape[1], sampled(data, counted)
    share = len(members) / max(int(counted.sum()), 1)
    data = data.of_users(members)
    cuts = cuts_of(*data.span, seconds)
    if len(cuts) < FEWEST_CUTS:
        return np.zeros(n, np.float32)
    user, item, at, known_since = first_plays(data)
    popularity = Popularity(item, at, seconds * HALF_LIVES, n)
    features, targets = [], []
    for cut in cuts.tolist():
        so_far = popularity.until(cut)
        later = slice(*np.searchsorted(at, [cut, cut + seconds]))
        gained = new_listeners(user[later], item[later], known_since < cut, n)
        if not gained.any():
            continue
        best = [np.argpartition(-of, min(MOST_TRACKS, n - 1))[:MOST_TRACKS] for of in so_far]
        some = np.unique(np.concatenate(best))
        some = some[so_far[:, some].any(axis=0)]
        features.append(so_far[:, some].T)
        targets.append(gained[some])
    if len(features) < FEWEST_CUTS:
        return np.zeros(n, np.float32)
    now = popularity.until(data.span[1] + 1)
    learned = ridge(np.concatenate(features), np.concatenate(targets))
    result: np.ndarray = (np.maximum(learned @ now, 0) / share).astype(np.float32)
    return result


def sampled(data: Listens, counted: np.ndarray) -> np.ndarray:
    """Return the rows of the counted users, or of so many of them as have MOST_LISTENS."""
    users = np.flatnonzero(counted)
    lengths = np.diff(data.starts)[users]
    kept = int(len(users) * min(1, MOST_LISTENS / max(int(lengths.sum()), 1)))
    drawn: np.ndarray = users[sampling.drawn(data.user_ids[users], kept, SEED)]
    return drawn


def first_plays(data: Listens) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the first play of each pair, in order of time: users, items and moments (pairs,).

    The fourth array has each user's first moment, (users,).
    """
    place, _, _ = pairs_of(data)
    at = data.at[place].astype(np.int64)
    order = np.argsort(at, kind="stable")
    place = place[order]
    known_since = np.full(data.shape[0], np.iinfo(np.int64).max)
    some = np.flatnonzero(np.diff(data.starts))
    known_since[some] = data.at[data.starts[some]]
    return data.user[place], data.item[place], at[order], known_since


def cuts_of(first: int, last: int, seconds: int) -> np.ndarray:
    """Return the moments of the cuts of listens from a first to a last moment, ascending.

    Each has `seconds` after it, and before it a quarter of the time span and as many seconds.

    >>> cuts_of(0, 999, 100)[[0, 1, -1]].tolist()
    [249, 260, 899]
    """
    earliest = first + max(FIRST_CUT * (last - first), seconds)
    if earliest >= last - seconds:
        return np.empty(0, np.int64)
    return np.unique(np.linspace(earliest, last - seconds, CUTS).astype(np.int64))


class Popularity:
    """How many listeners each track has at rising moments, by half-life: (half-lives, items)."""

    def __init__(self, item: np.ndarray, at: np.ndarray, half_lives: np.ndarray, n: int) -> None:
        """Take first plays: items and moments (pairs,), ascending by moment."""
        self._item, self._at, self._half_lives = item, at, half_lives
        self._sums = np.zeros((len(half_lives), n))
        self._read, self._moment = 0, int(at[0])

    def until(self, moment: int) -> np.ndarray:
        """Return the listeners before a moment, not earlier than the last one asked for.

        A listener counts half after every half-life. The array changes with the next call.
        """
        fresh = slice(self._read, int(np.searchsorted(self._at, moment)))
        ages = moment - self._at[fresh]
        for sums, half_life in zip(self._sums, self._half_lives, strict=True):
            sums *= 2.0 ** ((self._moment - moment) / half_life)
            sums += np.bincount(self._item[fresh], 2.0 ** (-ages / half_life), len(sums))
        self._read, self._moment = fresh.stop, moment
        return self._sums


def new_listeners(user: np.ndarray, item: np.ndarray, known: np.ndarray, n: int) -> np.ndarray:
    """Return what users who are known add to each track, (n,), by the first plays of a time.

    known (users,) bool. User 0 plays two new tracks, user 1 one, and user 2 is not known:

    >>> user, item = np.array([0, 0, 1, 2]), np.array([3, 4, 3, 3])
    >>> new_listeners(user, item, np.array([True, True, False]), 5).tolist()
    [0.0, 0.0, 0.0, 1.5, 0.5]
    """
    user, item = user[known[user]], item[known[user]]
    labels = np.bincount(user, minlength=1)
    return np.bincount(item, 1 / np.minimum(labels[user], LABELS), n)


def ridge(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the weights (k,) by which features (n, k) add up to the targets (n,).

    >>> ridge(np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 2.0]]), np.array([3.0, 4.0, 7.0])).round(1)
    array([3., 2.])
    """
    left = features.T @ features
    left.flat[:: len(left) + 1] += RIDGE * np.trace(left) / len(left)
    found: np.ndarray = np.linalg.solve(left, features.T @ targets)
    return found
