"""Count how often one track is played soon after another in the history of the same user.

A user plays A, B, C, with a window of 2 plays and a decay of 0.9. A is followed by B (counts 1) and
by C (one play further, counts 0.9); B is followed by C (counts 1). The counts of all users are
added up, and `normalise` divides them by how often the tracks are played at all.

No user decides what follows a track. If a user plays a track n times, more than PLAYS_OF_PAIR, each
of these plays weighs PLAYS_OF_PAIR / n, and the plays of one user weigh at most SHARE_OF_USER of
all (see data/bounds).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, vstack

from jobs.contract import compiling, tables
from jobs.contract.names import LIST_LENGTH
from jobs.contract.ragged import offsets_of
from jobs.contract.top_k import NOTHING
from jobs.data.bounds import PLAYS_OF_PAIR, user_weights
from jobs.data.listens import LISTENS_A_BLOCK, SECONDS_A_DAY, Listens
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.ranked_lists import best_of_rows, rows_of
from jobs.models.sparse import look_up_sorted
from jobs.runtime.engine import in_blocks

MOST_FOLLOWERS = 20_000_000  # rows of followers.parquet
PLAYS_A_BLOCK = 1 << 18  # listens whose followers are counted at a time


@dataclass(frozen=True)
class Plays:
    """All listens, sorted by track: those of track t are at starts[t] to starts[t + 1].

    A place is a position in the data, where the listens stand in order of user and time.
    """

    item: np.ndarray  # (n,) int32: the track at each place, not sorted by track
    starts: np.ndarray  # (items + 1,) int64
    at: np.ndarray  # (n,) int32 or int64: the place of each listen
    last: np.ndarray  # (n,) like `at`: the place of the last listen of the same user
    weight: np.ndarray  # (n,) float32: how much each listen counts
    times: np.ndarray  # (items,) float64: how often each track is played, within the bounds

    @classmethod
    def of(cls, data: Listens, half_life_days: float | None) -> "Plays":
        """Sort listens by track; with a half-life, a listen of that age counts half."""
        n = len(data.item)
        places = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)
        by_track = csr_matrix((places, data.item, data.starts), data.shape).tocsc()
        last = (data.starts[1:] - 1).astype(places.dtype)[by_track.indices]
        at = by_track.data
        starts = by_track.indptr.astype(np.int64)
        weight = user_weights(np.diff(data.starts)).astype(np.float32)[by_track.indices]
        for first, end in track_ranges(starts, LISTENS_A_BLOCK):  # in blocks, to save memory
            rows = slice(starts[first], starts[end])
            weight[rows] *= pair_weights(starts[first : end + 1] - starts[first], last[rows])
        times = sums_of_rows(weight, starts)
        if half_life_days is not None:
            _, end = data.span
            age = (end - np.minimum(data.at[at], end)).astype(np.float32)
            weight *= np.exp2(age / np.float32(-half_life_days * SECONDS_A_DAY))
        return cls(data.item, starts, at, last, weight, times)

    def ranges(self) -> list[tuple[int, int]]:
        """Return (first, last) of blocks of tracks with about PLAYS_A_BLOCK listens each."""
        return track_ranges(self.starts, PLAYS_A_BLOCK)

    def followers(self, first: int, last: int, weights: np.ndarray) -> list[csr_matrix]:
        """Return what follows the tracks from first to last: two (last - first, items) float32.

        The first matrix counts the next len(weights) plays, the second one only the very next play.
        The next play counts weights[0], the one after it weights[1], and so on, times the weight of
        the listen that is followed. A track doesn't follow itself.
        """
        start, stop = self.starts[first], self.starts[last]
        parts = []
        for low in range(start, stop, PLAYS_A_BLOCK) or [start]:
            high = min(low + PLAYS_A_BLOCK, stop)
            rows = np.clip(self.starts[first : last + 1], low, high) - low
            parts.append([self._followers(rows, low, high, w) for w in (weights, weights[:1])])
        # Mostly there is one part; there are more if the tracks have over PLAYS_A_BLOCK listens.
        return [sum(rest, one) for one, *rest in zip(*parts, strict=True)]

    def _followers(self, rows: np.ndarray, low: int, high: int, weights: np.ndarray) -> csr_matrix:
        """Return the followers (tracks, items), summed over the listens from low to high.

        rows (tracks + 1,) has the first listen of each track, counted from low.
        """
        part = slice(low, high)
        plays = self.item, self.at[part], self.last[part], self.weight[part]
        return following(*plays, rows, weights, len(self.starts) - 1)


def following(
    item: np.ndarray,
    at: np.ndarray,
    last: np.ndarray,
    weight: np.ndarray,
    rows: np.ndarray,
    steps: np.ndarray,
    items: int,
) -> csr_matrix:
    """Return what follows some plays, added up for each row, (rows, items) float32.

    item (plays,) are the tracks in order of user and time. at, last and weight (n,) are places in
    it, the last places of the same users, and how much each counts; those of row r are at rows[r]
    to rows[r + 1]. The next play counts steps[0], the one after it steps[1], and so on. A track
    doesn't follow itself.
    """
    if compiling.is_used():
        from jobs.models import kernels

        starts, columns, values = kernels.followers(item, at, last, weight, rows, steps, items)
        return csr_matrix((values, columns, starts), (len(rows) - 1, items))
    places = at[:, None] + np.arange(1, len(steps) + 1, dtype=at.dtype)
    counted = places <= last[:, None]
    followers = item[np.where(counted, places, 0)]
    counted &= followers != item[at][:, None]
    starts = offsets_of(np.count_nonzero(counted, axis=1))
    entries = np.broadcast_to(steps, counted.shape)[counted], followers[counted], starts
    by_play = csr_matrix(entries, (len(at), items))
    by_row = weight, np.arange(len(at)), rows
    return csr_matrix(csr_matrix(by_row, (len(rows) - 1, len(at))) @ by_play)


def track_ranges(starts: np.ndarray, plays: int) -> list[tuple[int, int]]:
    """Return (first, last) of blocks of tracks with about so many listens each; see Plays.starts.

    >>> track_ranges(np.array([0, 2, 4, 5]), 4)
    [(0, 2), (2, 3)]
    """
    edges = np.flatnonzero(np.diff(starts[:-1] // plays)) + 1
    return list(pairwise([0, *edges.tolist(), len(starts) - 1]))


def pair_weights(starts: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return the weight of each listen (n,) float32 by how often its user played its track.

    The listens of track t are at starts[t] to starts[t + 1]; equal values of `last` that follow
    each other are listens of one user. 30 plays of one track by one user, and a single play by
    another user:

    >>> weights = pair_weights(np.array([0, 31]), np.array([99] * 30 + [150]))
    >>> weights.sum().round(), weights[30]
    (np.float32(21.0), np.float32(1.0))
    """
    new = np.ones(len(last), bool)
    new[1:] = last[1:] != last[:-1]
    new[starts[:-1][np.diff(starts) > 0]] = True
    plays = np.diff(np.flatnonzero(new), append=len(last))
    weights = np.minimum(1, np.float32(PLAYS_OF_PAIR) / plays).astype(np.float32)
    return np.repeat(weights, plays)


def sums_of_rows(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the sums (rows,) float64 of values (n,), those of row i being at starts[i:i + 2].

    >>> sums_of_rows(np.array([1.0, 2.0, 3.0]), np.array([0, 2, 2, 3])).tolist()
    [3.0, 0.0, 3.0]
    """
    result = np.zeros(len(starts) - 1)
    some = np.diff(starts) > 0
    if some.any():
        result[some] = np.add.reduceat(values, starts[:-1][some], dtype=np.float64)
    return result


def step_weights(window: int, decay: float) -> np.ndarray:
    """Return how much the play 1, 2, …, window plays after a listen counts, (window,) float32.

    >>> step_weights(3, 0.5).tolist()
    [1.0, 0.5, 0.25]
    """
    return (decay ** np.arange(window)).astype(np.float32)


def follow_counts(data: Listens, hyperparameters: Hyperparameters) -> csr_matrix:
    """Return how often the column's track follows the row's track, (items, items) float32.

    One user plays the tracks 0, 1, 2, 1. With a window of 2 plays and a decay of 0.5, track 0 is
    followed by 1 (counts 1) and 2 (counts 0.5). Track 1 is followed by 2, but not by itself.

    >>> history = np.array([0, 1, 2, 1], np.int32)
    >>> ids = np.array([10, 20, 30])
    >>> data = Listens(np.array([0, 4]), history, np.empty(0, np.uint32), np.array([7]), ids)
    >>> follow_counts(data, Hyperparameters(next_window=2, next_decay=0.5)).toarray().tolist()
    [[0.0, 1.0, 0.5], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    return counts_of(Plays.of(data, hyperparameters.next_recency), hyperparameters)


def counts_of(plays: Plays, hyperparameters: Hyperparameters) -> csr_matrix:
    """Return the same as follow_counts, of plays that are sorted already."""
    weights = step_weights(hyperparameters.next_window, hyperparameters.next_decay)
    blocks = [plays.followers(first, last, weights)[0] for first, last in plays.ranges()]
    return vstack(blocks, format="csr")


def normalise(
    counts: csr_matrix, plays: np.ndarray, hyperparameters: Hyperparameters
) -> csr_matrix:
    """Return counts (tracks, items) divided by powers of the row's sum and of the column's plays.

    The result is count / sum of the row ^ next_source_exponent / plays ^ next_target_exponent, so
    that popular tracks don't follow everything. plays (items,) is how often each track is
    played (see Plays.times).

    Track 1 follows three times as often as track 2, but is played nine times as often as track 2.
    With exponents of 0.5 both have the same score: 3 / 4^0.5 / 9^0.5 = 1 / 4^0.5 / 1^0.5 = 0.5.

    >>> halves = Hyperparameters(next_source_exponent=0.5, next_target_exponent=0.5)
    >>> counts = csr_matrix(np.array([[0, 3, 1]], np.float32))
    >>> normalise(counts, np.array([4, 9, 1]), halves).toarray().round(6).tolist()
    [[0.0, 0.5, 0.5]]
    """
    followed = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1e-9)
    source = (followed**-hyperparameters.next_source_exponent).astype(np.float32)
    target = (np.maximum(plays, 1.0) ** -hyperparameters.next_target_exponent).astype(np.float32)
    data = counts.data * np.repeat(source, np.diff(counts.indptr)) * target[counts.indices]
    return csr_matrix((data, counts.indices, counts.indptr), counts.shape)


def followers_a_track(tracks: int) -> int:
    """Return how many followers of each track are kept for the ranker, 100 to 1,000.

    Above 100 they are at most MOST_FOLLOWERS for all tracks together.
    """
    return max(LIST_LENGTH, min(1000, MOST_FOLLOWERS // max(tracks, 1)))


def follower_tables(data: Listens, hyperparameters: Hyperparameters) -> Iterator[pa.Table]:
    """Yield the rows of followers.parquet, a block of tracks at a time."""
    plays, ids = Plays.of(data, hyperparameters.next_recency), data.track_ids
    weights = step_weights(hyperparameters.next_window, hyperparameters.next_decay)
    ranges = plays.ranges()
    most = followers_a_track(len(ids))

    def block(number: int, _: int) -> pa.Table:
        first, last = ranges[number]
        within, directly = (
            normalise(counts, plays.times, hyperparameters)
            for counts in plays.followers(first, last, weights)
        )
        found, scores = best_of_rows(within, most, data.ties)
        row, place = np.nonzero(found != NOTHING)
        table = rows_of(tables.NEXT_PLAYED, ids[first:last], ids, found, scores)
        directly_scores = look_up_sorted(directly, row, found[row, place])
        return table.append_column("directly", pa.array(directly_scores))

    yield from in_blocks(block, len(ranges), 1, "next_played")
