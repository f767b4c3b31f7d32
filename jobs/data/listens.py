"""The listens of a folder as arrays, and the sparse matrices that the models are made from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, vstack

from jobs.contract import tables
from jobs.contract.ids import MISSING, Ties, find, ties_of
from jobs.contract.plays import faded
from jobs.contract.ragged import last_entries, offsets_of, runs
from jobs.contract.storage import JobError
from jobs.data import feedback, songs
from jobs.data.feedback import DISLIKE, LIKE
from jobs.data.ids import Encoder, encode

SECONDS_A_DAY = 86_400
LISTENS_A_BLOCK = 1 << 22


@dataclass(frozen=True)
class Listens:
    """All listens in order of user and time, ids as positions in user_ids and track_ids.

    starts (users + 1,) int64: a user's listens are those from starts[u] to starts[u + 1];
    item (n,) int32; at (n,) uint32, seconds since 1970 (a difference below 0 would wrap around).
    """

    starts: np.ndarray
    item: np.ndarray
    at: np.ndarray  # (0,) if times were not requested
    user_ids: np.ndarray  # (users,) int64, ascending
    track_ids: np.ndarray  # (items,) int64, ascending
    # Where nobody likes or dislikes anything, or no share of a listen is known, these are None.
    share: np.ndarray | None = None  # (n,) float32: how much of the track was played, NaN: unknown
    # (users, items) float32: 1 where a like stands and no dislike, if anybody played the track
    liked: csr_matrix | None = None
    disliked: csr_matrix | None = None  # (users, items) float32: 1 where a dislike stands

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of users and items."""
        return len(self.user_ids), len(self.track_ids)

    @cached_property
    def user(self) -> np.ndarray:
        """Return the user of each listen, (n,) int32."""
        return np.repeat(np.arange(self.shape[0], dtype=np.int32), np.diff(self.starts))

    @cached_property
    def ties(self) -> Ties:
        """Return the order in which tracks with equal scores stand in lists."""
        return ties_of(self.track_ids)

    @cached_property
    def span(self) -> tuple[int, int]:
        """Return the moments between which ages and lifetimes are measured; see robust_span."""
        some = np.flatnonzero(np.diff(self.starts))
        return robust_span(self.at[self.starts[some]], self.at[self.starts[some + 1] - 1])

    def of_users(self, users: np.ndarray) -> "Listens":
        """Return the listens of some users (ascending), renumbered from 0."""
        counts = self.starts[users + 1] - self.starts[users]
        starts = offsets_of(counts)
        rows: np.ndarray | slice
        if len(users) and users[-1] - users[0] + 1 == len(users):
            rows = slice(self.starts[users[0]], self.starts[users[-1] + 1])
        else:
            rows = runs(self.starts[users], counts)
        at = self.at[rows] if len(self.at) else self.at
        return Listens(
            starts,
            self.item[rows],
            at,
            self.user_ids[users],
            self.track_ids,
            None if self.share is None else self.share[rows],
            None if self.liked is None else csr_matrix(self.liked[users]),
            None if self.disliked is None else csr_matrix(self.disliked[users]),
        )

    def blocks(self, some: np.ndarray | None = None) -> Iterator["Listens"]:
        """Yield all users in blocks of about LISTENS_A_BLOCK listens, each renumbered from 0.

        With a mask (users,) bool, only the users for whom it is true.
        """
        return map(self.of_users, self.users_of_blocks(some))

    def users_of_blocks(self, some: np.ndarray | None = None) -> list[np.ndarray]:
        """Return the rows of the users in each block of `blocks`."""
        share = self.starts[:-1] // LISTENS_A_BLOCK
        blocks = np.split(np.arange(self.shape[0]), np.flatnonzero(np.diff(share)) + 1)
        return [users if some is None else users[some[users]] for users in blocks]

    def plays(self) -> np.ndarray:
        """Return how often each track was played, (items,) int64."""
        result = np.zeros(self.shape[1], np.int64)
        for first in range(0, len(self.item), LISTENS_A_BLOCK):  # numpy copies what it counts
            block = self.item[first : first + LISTENS_A_BLOCK]
            result += np.bincount(block, minlength=len(result))
        return result

    def latest(self, most: int) -> "Listens":
        """Return each user's last plays, at most so many."""
        rows, counts = last_entries(self.starts, most)
        at = self.at[rows] if len(self.at) else self.at
        share = None if self.share is None else self.share[rows]
        return replace(self, starts=offsets_of(counts), item=self.item[rows], at=at, share=share)

    def pairs(self) -> csr_matrix:
        """Return (users, items) float32: 1 where the user has heard the track."""
        result = self._matrix(np.ones(len(self.item), np.float32))
        result.data[:] = 1
        return result

    def kept_out(self, heard: str) -> csr_matrix:
        """Return what no list of a user may have, (users, items) float32, nonzero there.

        That is what the user dislikes, and, where `heard` is "exclude", what they have heard.
        """
        if heard == "exclude":
            heard_pairs = self.pairs()
            if self.disliked is None:
                return heard_pairs
            return csr_matrix(heard_pairs.maximum(self.disliked))
        if self.disliked is None:
            return csr_matrix(self.shape, dtype=np.float32)
        return self.disliked

    def profiles(self, half_life: float | None) -> csr_matrix:
        """Return (users, items) float32: the weights of a user's listens, added up by track.

        A listen weighs half as much for every half_life plays after it; with None it weighs 1.
        """
        if half_life is None:
            return self._matrix(np.ones(len(self.item), np.float32))
        plays_since = self.starts[self.user.astype(np.int64) + 1] - 1 - np.arange(len(self.item))
        return self._matrix(faded(plays_since, half_life))

    def weights(
        self,
        repeats: float,
        plays: float | None,
        days: float | None = None,
        most: int | None = None,
        by_share: bool = False,
    ) -> csr_matrix:
        """Return (users, items) float32: how much each pair tells about the user's taste.

        It is the pair's count (at most `most`) to the power `repeats`, halved for every `plays`
        plays of the user after its last listen, and for every `days` from that listen to the end of
        the span. With `by_share` it is multiplied by the mean share of the track that was played.
        """
        end = self.span[1] if days is not None else None
        return vstack(
            [block._weights(repeats, plays, days, end, most, by_share) for block in self.blocks()],
            format="csr",
        )

    def _weights(
        self,
        repeats: float,
        plays: float | None,
        days: float | None,
        end: int | None,
        most: int | None,
        by_share: bool,
    ) -> csr_matrix:
        counts = self.profiles(None)
        shares = None
        if by_share and self.share is not None:  # the same pairs in the same order
            shares = self._matrix(np.nan_to_num(self.share, nan=1)).data / counts.data
        if most is not None:
            np.minimum(counts.data, most, out=counts.data)
        counts.data **= np.float32(repeats)
        if shares is not None:
            counts.data *= shares
        if plays is None and days is None:
            return counts
        last = np.arange(len(self.item))
        if counts.nnz < len(last):
            last = np.lexsort((last, self.item, self.user))
            user, item = self.user[last], self.item[last]
            last = last[np.append((np.diff(user) > 0) | (np.diff(item) > 0), True)]
        age = np.zeros(len(last), np.float32)
        if plays is not None:
            age += (self.starts[self.user[last].astype(np.int64) + 1] - 1 - last) / plays
        if days is not None and end is not None:
            age += (end - np.minimum(self.at[last], end)) / (days * SECONDS_A_DAY)
        fading = csr_matrix((np.exp2(-age), (self.user[last], self.item[last])), self.shape)
        fading.sort_indices()
        counts.data *= fading.data
        return counts

    def _matrix(self, weights: np.ndarray) -> csr_matrix:
        result = csr_matrix((weights, self.item.copy(), self.starts), self.shape)
        result.sum_duplicates()
        return result


def robust_span(first: np.ndarray, last: np.ndarray) -> tuple[int, int]:
    """Return the begin and end of the listens of some users, given each user's first and last one.

    A few users with wrong clocks must not make all other listens old. So the users are ordered by
    their last listens, and the end is the last listen of the third user from the end, or of the
    user after whom a thousandth of the users come if that is earlier. The begin is found in the
    same way from the first listens. Of fewer than 15 users, one clock may be wrong; of fewer than
    10, none. Here it is one of ten:

    >>> robust_span(np.arange(10), np.array([20, 21, 22, 23, 24, 25, 26, 27, 28, 999]))
    (1, 28)
    """
    n = len(first)
    if not n:
        return 0, 0
    k = max(min(2, n // 5 - 1), n // 1000, 0)
    return int(np.partition(first, k)[k]), int(np.partition(last, n - 1 - k)[n - 1 - k])


def load(work: Path, timed: bool = True, by_song: bool = True, everyone: bool = True) -> Listens:
    """Read WORK's listens, users and items; times only if `timed`.

    Each listen is of the track under which its song is shown, or, without `by_song`, of the track
    that was played. Unless `everyone`, the accounts that suspicious.parquet leaves out have no
    listens.
    """
    user_ids = tables.read(tables.USERS, work, ["user_id"])["user_id"].to_numpy()
    track_ids = tables.read(tables.ITEMS, work, ["track_id"])["track_id"].to_numpy()
    counted = None if everyone else ~left_out(work, user_ids)
    return _load(tables.LISTENS, work, user_ids, track_ids, timed, by_song, counted)


def left_out(work: Path, user_ids: np.ndarray) -> np.ndarray:
    """Return which users (n,) bool are suspicious and left out of what all users get."""
    table = read_suspicious(work)
    rows = find(user_ids, table.filter(table["left_out"])["user_id"].to_numpy())
    result = np.zeros(len(user_ids), bool)
    result[rows[rows != MISSING]] = True
    return result


def read_suspicious(work: Path) -> pa.Table:
    """Return the rows of suspicious.parquet; none in a folder that an earlier version made."""
    if not (work / tables.SUSPICIOUS.file).exists():
        return tables.SUSPICIOUS.schema.empty_table()
    return tables.read(tables.SUSPICIOUS, work)


def load_holdout(work: Path, track_ids: np.ndarray, by_song: bool = True) -> Listens:
    """Read the listens after a window's cut, as `load` does; the users are those of the holdout."""
    users = tables.read(tables.HOLDOUT, work, ["user_id"])["user_id"].to_numpy()
    return _load(tables.HOLDOUT, work, np.unique(users), track_ids, True, by_song)


def _load(
    table: tables.Table,
    work: Path,
    user_ids: np.ndarray,
    track_ids: np.ndarray,
    timed: bool,
    by_song: bool,
    counted: np.ndarray | None = None,
) -> Listens:
    """Read a table; without the listens of the users for whom `counted` (users,) is false."""
    n = tables.n_rows(table, work)
    share = _read_shares(work, n) if table is tables.LISTENS else None
    users, tracks = Encoder.of(user_ids), Encoder.of(track_ids)
    shown = songs.shown(work, track_ids) if by_song else None
    counts = np.zeros(len(user_ids), np.int64)
    item, at = np.empty(n, np.int32), np.empty(n if timed else 0, np.uint32)
    end = seen = 0
    columns = ["user_id", "track_id", *(["started_at"] if timed else [])]
    for batch in tables.batches(table, work, columns):
        own, seen = slice(seen, seen + len(batch)), seen + len(batch)
        some = None
        if counted is not None and not counted.all():
            rows = users.positions(batch["user_id"].to_numpy())
            some = counted[rows] | (rows == MISSING)
            batch = batch.filter(pa.array(some))
        start, end = end, end + len(batch)
        if share is not None and some is not None:
            share[start:end] = share[own][some]  # own begins at start or later
        ids = batch["user_id"].to_numpy()
        first = np.flatnonzero(np.diff(ids, prepend=-1))  # of each user's rows
        user = encode(ids[first], users, "user_id", table, work)
        np.add.at(counts, user, np.diff(first, append=len(ids)))
        played = encode(batch["track_id"].to_numpy(), tracks, "track_id", table, work)
        item[start:end] = played if shown is None else shown[played]
        if timed:
            at[start:end] = batch["started_at"].cast(pa.int64()).to_numpy() // 1_000_000
    likes = dislikes = None
    if table is tables.LISTENS:
        likes, dislikes = _standing(work, user_ids, track_ids, shown, counted)
        if likes is not None:
            played = np.zeros(len(track_ids), np.float32)
            played[item[:end]] = 1
            likes = csr_matrix(likes.multiply(played))
            likes.eliminate_zeros()
    return Listens(
        offsets_of(counts), item[:end], at[:end], user_ids, track_ids,
        None if share is None else share[:end], likes, dislikes,
    )  # fmt: skip


def _read_shares(work: Path, n: int) -> np.ndarray | None:
    """Return how much of the track was played in each listen, (n,); None if that is not known."""
    if not (work / tables.SHARES.file).exists():
        return None
    share: np.ndarray = tables.read(tables.SHARES, work)["played_share"].to_numpy().copy()
    if len(share) != n:
        raise JobError(
            f"{work / tables.SHARES.file} has {len(share):,} rows, but {tables.LISTENS.file} has "
            f"{n:,}, so they come from different runs: run python -m jobs.prepare and all later "
            "jobs again"
        )
    return share


def _standing(
    work: Path,
    user_ids: np.ndarray,
    track_ids: np.ndarray,
    shown: np.ndarray | None,
    counted: np.ndarray | None,
) -> tuple[csr_matrix | None, csr_matrix | None]:
    """Return which likes and dislikes stand, (users, items) each; None if there are none.

    A like of a track that the user dislikes does not count, nor do those of users who are not
    `counted`, (users,) bool.
    """
    said = feedback.read(work, user_ids, track_ids)
    if said is None:
        return None, None
    if counted is not None:
        said = said.take(counted[said.user])
    shape = len(user_ids), len(track_ids)
    likes, dislikes = (said.standing(kind, shape, shown) for kind in (LIKE, DISLIKE))
    likes = csr_matrix(likes - likes.multiply(dislikes))
    likes.eliminate_zeros()
    return likes, dislikes
