"""How often one track is played soon after another, in the order of people's own plays."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, vstack

from jobs.contract import tables
from jobs.contract.names import LIST_LENGTH
from jobs.contract.ragged import offsets_of
from jobs.contract.top_k import NOTHING
from jobs.data.listens import SECONDS_A_DAY, Listens
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.ranked_lists import best_of_rows, rows_of
from jobs.models.sparse import look_up
from jobs.runtime.parallel import in_blocks

MOST_FOLLOWERS = 20_000_000
PLAYS_A_BLOCK = 1 << 18  # whose followers are counted at a time


@dataclass(frozen=True)
class Plays:
    """The listens track by track: those of track t are from starts[t] to starts[t + 1].

    at (n,) int32 or int64 is a listen's place in the data, last (n,) that of its user's last one,
    worth (n,) float32 what it counts.
    """

    item: np.ndarray  # of each place in the data
    starts: np.ndarray
    at: np.ndarray
    last: np.ndarray
    worth: np.ndarray

    @classmethod
    def of(cls, data: Listens, half_life_days: float | None) -> "Plays":
        """Sort the listens of some data by track; they count half after a half-life, if given."""
        n = len(data.item)
        places = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)
        by_track = csr_matrix((places, data.item, data.starts), data.shape).tocsc()
        last = (data.starts[1:] - 1).astype(places.dtype)[by_track.indices]
        at = by_track.data
        worth = np.ones(n, np.float32)
        if half_life_days is not None:
            age = (data.at.max() - data.at[at]).astype(np.float32)
            worth = np.exp2(age / np.float32(-half_life_days * SECONDS_A_DAY))
        return cls(data.item, by_track.indptr.astype(np.int64), at, last, worth)

    def ranges(self) -> list[tuple[int, int]]:
        """Ranges of tracks with PLAYS_A_BLOCK listens or so; all tracks stand in one."""
        edges = np.flatnonzero(np.diff(self.starts[:-1] // PLAYS_A_BLOCK)) + 1
        return list(pairwise([0, *edges.tolist(), len(self.starts) - 1]))

    def followers(self, first: int, last: int, weights: np.ndarray) -> list[csr_matrix]:
        """(last - first, items) float32: what is played within len(weights) plays after a track.

        And what is played directly after it. A play counts weights[0] if it comes right after,
        weights[1] with one between, and so on; a track doesn't follow itself.
        """
        start, stop = self.starts[first], self.starts[last]
        parts = []
        for low in range(start, stop, PLAYS_A_BLOCK) or [start]:
            high = min(low + PLAYS_A_BLOCK, stop)
            rows = np.clip(self.starts[first : last + 1], low, high) - low
            parts.append([self._followers(rows, low, high, w) for w in (weights, weights[:1])])
        return [sum(rest, one) for one, *rest in zip(*parts, strict=True)]  # of one part mostly

    def _followers(self, rows: np.ndarray, low: int, high: int, weights: np.ndarray) -> csr_matrix:
        """(rows, items): sums over the listens from low to high, of which rows has the starts."""
        after = self.at[low:high, None] + np.arange(1, len(weights) + 1, dtype=self.at.dtype)
        there = after <= self.last[low:high, None]
        then = self.item[np.where(there, after, 0)]
        there &= then != self.item[self.at[low:high]][:, None]
        starts = offsets_of(np.count_nonzero(there, axis=1))
        entries = np.broadcast_to(weights, there.shape)[there], then[there], starts
        played = csr_matrix(entries, (high - low, len(self.starts) - 1))
        worth = self.worth[low:high], np.arange(high - low), rows
        return csr_matrix(csr_matrix(worth, (len(rows) - 1, high - low)) @ played)


def step_weights(window: int, decay: float) -> np.ndarray:
    """(window,) float32: what a play counts that comes 1, 2, … plays after."""
    return (decay ** np.arange(window)).astype(np.float32)


def follow_counts(data: Listens, chosen: Hyperparameters) -> csr_matrix:
    """(items, items) float32: plays of the column's track within `window` plays after the row's."""
    plays = Plays.of(data, chosen.next_recency)
    weights = step_weights(chosen.next_window, chosen.next_decay)
    return vstack([plays.followers(*some, weights)[0] for some in plays.ranges()], format="csr")


def normalise(counts: csr_matrix, plays: np.ndarray, chosen: Hyperparameters) -> csr_matrix:
    """Divide by powers of the row's weight and of the column's plays."""
    followed = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1e-9)
    source = (followed**-chosen.next_source_exponent).astype(np.float32)
    target = (np.maximum(plays, 1.0) ** -chosen.next_target_exponent).astype(np.float32)
    data = counts.data * np.repeat(source, np.diff(counts.indptr)) * target[counts.indices]
    return csr_matrix((data, counts.indices, counts.indptr), counts.shape)


def kept_a_track(tracks: int) -> int:
    """How many followers of each track the ranker may look at: at most MOST_FOLLOWERS in all."""
    return max(LIST_LENGTH, min(1000, MOST_FOLLOWERS // max(tracks, 1)))


def follower_tables(data: Listens, chosen: Hyperparameters) -> Iterator[pa.Table]:
    """The rows of followers.parquet, a block of tracks at a time."""
    plays, ids = Plays.of(data, chosen.next_recency), data.track_ids
    weights = step_weights(chosen.next_window, chosen.next_decay)
    times, kept, ranges = np.diff(plays.starts), kept_a_track(len(ids)), plays.ranges()

    def block(number: int, _: int) -> pa.Table:
        first, last = ranges[number]
        within, directly = (
            normalise(counts, times, chosen) for counts in plays.followers(first, last, weights)
        )
        found, scores = best_of_rows(within, kept)
        row, place = np.nonzero(found != NOTHING)
        table = rows_of(tables.NEXT_PLAYED, ids[first:last], ids, found, scores)
        after = look_up(directly, row, found[row, place])
        return table.append_column("directly", pa.array(after))

    yield from in_blocks(block, len(ranges), 1, "next_played")
