"""Count what jobs.explore shows of the listens, in one pass, a block at a time."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.contract import tables
from jobs.contract.tables import LISTENS
from jobs.data.ids import Encoder, encode
from jobs.runtime.progress import progress_bar

DAY = 86_400_000_000  # microseconds

# Time between two listens of a user: each bin reaches from its least microseconds to the next
# bin's. Listens with dates alone, without times of day, fall into the first and the last three.
GAPS = {
    "at the same time": 0,
    "less than 30 minutes": 1,
    "30 minutes to 1 day": DAY // 48,
    "1 to 7 days": DAY,
    "7 to 30 days": 7 * DAY,
    "30 days or more": 30 * DAY,
}


PLAYS = {"once": 1, "twice": 2, "3 to 5 times": 3, "6 to 20 times": 6, "more often": 21}


@dataclass
class Statistics:
    """What one pass over the listens counts; tracks by their position in items."""

    plays: np.ndarray  # (tracks,) listens
    listeners: np.ndarray  # (tracks,) users who heard it
    first_at: list[np.ndarray] = field(default_factory=list)  # of each user, in order of users
    listens_on: Counter[int] = field(default_factory=Counter)  # by day since 1970
    users_on: Counter[int] = field(default_factory=Counter)
    gaps: np.ndarray = field(default_factory=lambda: np.zeros(len(GAPS), np.int64))
    plays_of_pair: np.ndarray = field(default_factory=lambda: np.zeros(len(PLAYS), np.int64))

    @property
    def pairs(self) -> int:
        """Return the number of different pairs of a user and a track."""
        return int(self.plays_of_pair.sum())


def count(work: Path, track_ids: np.ndarray) -> Statistics:
    """Read the listens once. Raises JobError if one is of a track that track_ids does not have."""
    plays = np.zeros(len(track_ids), np.int64)
    result = Statistics(plays, plays.copy())
    tracks = Encoder(track_ids, None)  # a search, since a table takes more memory than all else
    total = tables.n_rows(LISTENS, work)
    with progress_bar(total=total, unit=" listens", unit_scale=True) as progress:
        for user, track_id, at in users_in_blocks(work):
            count_block(result, user, encode(track_id, tracks, "track_id", LISTENS, work), at)
            progress.update(len(user))
    return result


def users_in_blocks(work: Path) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield users, track ids and microseconds of listens in blocks of whole users."""
    kept = [np.empty(0, np.int64)] * 3
    for batch in tables.batches(LISTENS, work, ["user_id", "track_id", "started_at"]):
        new = [column.cast(pa.int64()).to_numpy() for column in batch.columns]
        block = [np.concatenate(pair) for pair in zip(kept, new, strict=True)]
        cut = int(np.searchsorted(block[0], block[0][-1]))  # the last user may go on
        if cut:
            yield block[0][:cut], block[1][:cut], block[2][:cut]
        kept = [column[cut:] for column in block]
    yield kept[0], kept[1], kept[2]


def count_block(counts: Statistics, user: np.ndarray, track: np.ndarray, at: np.ndarray) -> None:
    """Add the listens of some users, by user and time; track is a position in items."""
    n_tracks = len(counts.plays)
    new_user = np.ones(len(user), bool)
    new_user[1:] = user[1:] != user[:-1]
    row = np.cumsum(new_user) - 1
    counts.plays += np.bincount(track, minlength=n_tracks)
    pairs, plays = np.unique(row * n_tracks + track, return_counts=True)
    counts.listeners += np.bincount(pairs % n_tracks, minlength=n_tracks)
    add_to_bins(counts.plays_of_pair, PLAYS, plays)
    counts.first_at.append(at[new_user])
    add_to_bins(counts.gaps, GAPS, np.diff(at)[~new_user[1:]])
    day = at // DAY
    new_day = new_user.copy()
    new_day[1:] |= day[1:] != day[:-1]
    for counter, days in ((counts.listens_on, day), (counts.users_on, day[new_day])):
        counter.update(dict(zip(*(a.tolist() for a in np.unique_counts(days)), strict=True)))


def add_to_bins(bins: np.ndarray, least: dict[str, int], values: np.ndarray) -> None:
    """Count each value in the last bin whose least value it reaches."""
    bin_of = np.searchsorted(list(least.values()), values, side="right") - 1
    bins += np.bincount(bin_of, minlength=len(bins))
