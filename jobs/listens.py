"""The listens of a folder as arrays, and the sparse matrices that the models are made from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from jobs import contract
from jobs.contract import JobError

SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class Listens:
    """All listens in order of user and time, ids as positions in user_ids and track_ids.

    user, item (n,) int32; at (n,) int64, seconds since 1970.
    """

    user: np.ndarray
    item: np.ndarray
    at: np.ndarray
    user_ids: np.ndarray  # (users,) int64, ascending
    track_ids: np.ndarray  # (items,) int64, ascending

    @property
    def shape(self) -> tuple[int, int]:
        """Users and items."""
        return len(self.user_ids), len(self.track_ids)

    @cached_property
    def starts(self) -> np.ndarray:
        """(users + 1,) int64: a user's listens are those from starts[u] to starts[u + 1]."""
        counts = np.bincount(self.user, minlength=len(self.user_ids))
        return np.concatenate([[0], np.cumsum(counts)])

    def of_users(self, users: np.ndarray) -> "Listens":
        """The listens of some users (ascending), renumbered from 0."""
        counts = np.diff(self.starts)[users]
        user = np.repeat(np.arange(len(users), dtype=np.int32), counts)
        inside = np.arange(len(user)) - (np.cumsum(counts) - counts)[user]
        rows = self.starts[users][user] + inside
        return Listens(user, self.item[rows], self.at[rows], self.user_ids[users], self.track_ids)

    def pairs(self) -> csr_matrix:
        """(users, items) float32: 1 where the user has heard the track."""
        result = self._matrix(np.ones(len(self.item), np.float32))
        result.data[:] = 1
        return result

    def profiles(self, half_life: float | None) -> csr_matrix:
        """(users, items) float32: a listen weighs half as much every half_life later plays.

        Listens of one track add up. With None every listen weighs 1.
        """
        if half_life is None:
            return self._matrix(np.ones(len(self.item), np.float32))
        plays_since = self.starts[self.user.astype(np.int64) + 1] - 1 - np.arange(len(self.item))
        return self._matrix(np.exp2(-plays_since / half_life).astype(np.float32))

    def weights(self, repeats: float, plays: float | None, days: float | None = None) -> csr_matrix:
        """(users, items) float32: how much each pair says of the user's taste.

        The pair's count to the power `repeats`, halved with every `plays` later plays of the user
        since its last one, and with every `days` from then to the last listen of all.
        """
        counts = self.profiles(None)
        counts.data **= np.float32(repeats)
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
        if days is not None:
            age += (self.at.max() - self.at[last]) / (days * SECONDS_A_DAY)
        fading = csr_matrix((np.exp2(-age), (self.user[last], self.item[last])), self.shape)
        fading.sort_indices()
        counts.data *= fading.data
        return counts

    def _matrix(self, weights: np.ndarray) -> csr_matrix:
        result = csr_matrix((weights, self.item.copy(), self.starts), self.shape)
        result.sum_duplicates()
        return result


def load(work: Path) -> Listens:
    """Read WORK's listens, users and items."""
    user_ids = contract.read(contract.USERS, work, ["user_id"])["user_id"].to_numpy()
    track_ids = contract.read(contract.ITEMS, work, ["track_id"])["track_id"].to_numpy()
    return _load(contract.LISTENS, work, user_ids, track_ids)


def load_holdout(work: Path, track_ids: np.ndarray) -> Listens:
    """Read what came after a window's cut; its users are those of the holdout."""
    users = contract.read(contract.HOLDOUT, work, ["user_id"])["user_id"].to_numpy()
    return _load(contract.HOLDOUT, work, np.unique(users), track_ids)


def _load(
    table: contract.Table, work: Path, user_ids: np.ndarray, track_ids: np.ndarray
) -> Listens:
    n = contract.n_rows(table, work)
    user, item, at = (np.empty(n, kind) for kind in (np.int32, np.int32, np.int64))
    end = 0
    for batch in contract.batches(table, work, ["user_id", "track_id", "started_at"]):
        start, end = end, end + len(batch)
        user[start:end] = encode(batch["user_id"].to_numpy(), user_ids, "user_id", table, work)
        item[start:end] = encode(batch["track_id"].to_numpy(), track_ids, "track_id", table, work)
        at[start:end] = batch["started_at"].cast(pa.int64()).to_numpy() // 1_000_000
    return Listens(user, item, at, user_ids, track_ids)


def encode(
    ids: np.ndarray, known: np.ndarray, column: str, table: contract.Table, work: Path
) -> np.ndarray:
    """The positions of ids in `known` (ascending); JobError if one is missing there."""
    found = np.minimum(np.searchsorted(known, ids), max(len(known) - 1, 0))
    if len(ids) and (not len(known) or not np.array_equal(known[found], ids)):
        raise JobError(
            f"{work / table.file} has a {column} that the files beside it don't know: they are of "
            f"different runs; run python -m jobs.prepare and what follows it again"
        )
    return found
