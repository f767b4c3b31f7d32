"""What listeners say of tracks: likes and dislikes, and what takes them back.

feedback.parquet has them as they came, by user, track and time. What stands at the end is told by
the last of a pair: a like and an unlike of a user and a track are of one pair, and so are a dislike
and an undislike. Where a song has several ids, what is said of one of them holds for all.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

from jobs.contract import tables
from jobs.contract.ids import MISSING
from jobs.data.ids import Encoder, encode

KINDS = ("listen", "skip", "like", "unlike", "dislike", "undislike")  # of rows of the interactions
LISTEN, SKIP, LIKE, UNLIKE, DISLIKE, UNDISLIKE = range(len(KINDS))
EVER = np.iinfo(np.int64).max  # a moment after all others, in seconds


@dataclass(frozen=True)
class Feedback:
    """Likes and dislikes and what takes them back, (n,) each, by user, track and time."""

    user: np.ndarray  # rows among the users
    track: np.ndarray  # places among the tracks: the ids as given, not those that songs show
    at: np.ndarray  # int64 microseconds since 1970
    kind: np.ndarray  # places in KINDS

    def before(self, until: np.ndarray) -> "Feedback":
        """Return what each user said before a moment, (users,) int64 seconds."""
        return self.take(self.at // 1_000_000 < until[self.user])

    def take(self, rows: np.ndarray) -> "Feedback":
        """Return some rows, by their places or a mask."""
        return Feedback(self.user[rows], self.track[rows], self.at[rows], self.kind[rows])

    def standing(self, kind: int, shape: tuple[int, int], shown: np.ndarray | None) -> csr_matrix:
        """Return the likes, or the dislikes, that were not taken back, (users, items) float32.

        kind is LIKE or DISLIKE. With `shown` (see songs.shown) they are of shown tracks.

        >>> user, track = np.array([0, 0, 0, 1]), np.array([2, 2, 2, 0])
        >>> said = np.array([DISLIKE, LIKE, UNDISLIKE, DISLIKE])
        >>> feedback = Feedback(user, track, np.arange(4), said)
        >>> feedback.standing(DISLIKE, (2, 3), None).toarray().tolist()
        [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
        >>> feedback.standing(LIKE, (2, 3), None).toarray().tolist()
        [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
        """
        rows = np.flatnonzero((self.kind == kind) | (self.kind == kind + 1))
        user, track = self.user[rows], self.track[rows]
        last = np.append((np.diff(user) != 0) | (np.diff(track) != 0), True)[: len(rows)]
        stands = last & (self.kind[rows] == kind)
        items = track[stands] if shown is None else shown[track[stands]]
        result = csr_matrix((np.ones(len(items), np.float32), (user[stands], items)), shape)
        result.data[:] = 1  # two ids of a song
        return result


def exists(folder: Path) -> bool:
    """Return whether anybody in a folder has said anything of a track."""
    return (folder / tables.FEEDBACK.file).exists()


def read(folder: Path, user_ids: np.ndarray, track_ids: np.ndarray) -> Feedback | None:
    """Return a folder's feedback of users with these ids, ascending; None if it has none."""
    if not exists(folder):
        return None
    table = tables.read(tables.FEEDBACK, folder)
    user = Encoder.of(user_ids, len(table)).positions(table["user_id"].to_numpy())
    track = encode(table["track_id"].to_numpy(), track_ids, "track_id", tables.FEEDBACK, folder)
    kind = pc.index_in(table["kind"], pa.array(KINDS)).to_numpy()
    at = table["at"].cast(pa.int64()).to_numpy()
    return Feedback(user, track, at, kind).take(user != MISSING)


def users_who_dislike(folder: Path) -> np.ndarray:
    """Return the ids of the users of a folder who ever disliked a track, ascending."""
    if not exists(folder):
        return np.empty(0, np.int64)
    table = tables.read(tables.FEEDBACK, folder, ["user_id", "kind"])
    dislikes = pc.equal(table["kind"], KINDS[DISLIKE])
    return np.unique(table.filter(dislikes)["user_id"].to_numpy())


def write(folder: Path, table: pa.Table) -> None:
    """Write feedback.parquet, or remove it if there is none."""
    if len(table):
        tables.write(tables.FEEDBACK, folder, table)
    else:
        (folder / tables.FEEDBACK.file).unlink(missing_ok=True)
