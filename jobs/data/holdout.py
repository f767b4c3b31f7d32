"""The tracks played after a window's cut: the labels for training and evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.ids import MISSING, find
from jobs.contract.ragged import offsets_of
from jobs.data import feedback, listens, sampling, songs
from jobs.data.feedback import DISLIKE
from jobs.data.listens import Listens

COLD = MISSING  # the row of a user without a past
MOST_USERS = 30_000  # users of a window's holdout for whom final lists are made
SEED = 20


@dataclass(frozen=True)
class Holdout:
    """Users with a label, ascending by id.

    user_ids (n,); row (n,) the user's row in the past, or COLD; labels (n, items), nonzero where
    the user played the track after the cut.
    """

    user_ids: np.ndarray
    row: np.ndarray
    labels: csr_matrix

    def take(self, users: np.ndarray) -> "Holdout":
        """Return the holdout of the users at the given places, or where a mask is true."""
        return Holdout(self.user_ids[users], self.row[users], csr_matrix(self.labels[users]))

    def warm(self) -> "Holdout":
        """Return the holdout of the users who have a past."""
        return self.take(self.row != COLD)

    def sample(self, most: int) -> "Holdout":
        """Return the holdout of at most so many users, drawn by a hash of their ids."""
        if len(self.user_ids) <= most:
            return self
        return self.take(sampling.drawn(self.user_ids, most, SEED))


def read(window: Path, past: Listens, heard: str) -> Holdout:
    """Return a window's holdout; where heard is "exclude", tracks already heard are no labels."""
    later = listens.load_holdout(window, past.track_ids)
    row = rows_in(past, later.user_ids)
    labels = later.pairs()
    if heard == "exclude":
        labels = unheard(labels, past, row)
    return Holdout(later.user_ids, row, labels).take(labels.getnnz(axis=1) > 0)


def read_played(window: Path, users: np.ndarray, heard: str) -> csr_matrix:
    """Return the labels (users, items) of some users by the ids that they played, not by song.

    So another id of a heard track is a label too, and lists hit a label only by the same id.
    """
    past = listens.load(window, timed=False, by_song=False)
    later = listens.load_holdout(window, past.track_ids, by_song=False)
    later = later.of_users(np.flatnonzero(np.isin(later.user_ids, users)))
    labels = later.pairs()
    if heard == "exclude":
        labels = unheard(labels, past, rows_in(past, later.user_ids))
    return labels


def rows_in(past: Listens, user_ids: np.ndarray) -> np.ndarray:
    """Return the rows (n,) of users in the past, or COLD."""
    return find(past.user_ids, user_ids)


def unheard(labels: csr_matrix, past: Listens, row: np.ndarray) -> csr_matrix:
    """Return labels (users, items) without what the users, rows of the past, have heard there."""
    return without(labels, heard_by(past, row))


def without(labels: csr_matrix, out: csr_matrix) -> csr_matrix:
    """Return labels (users, items) without those that have an entry in `out`."""
    if not out.nnz:
        return labels
    out.resize(labels.shape)  # labels may have more columns, for tracks that nobody has heard
    result = csr_matrix(labels - labels.multiply(out))
    result.eliminate_zeros()
    return result


def heard_by(past: Listens, row: np.ndarray) -> csr_matrix:
    """Return what users have heard in the past, (rows, items); COLD users have heard nothing."""
    return _of_rows(past, row, Listens.pairs)


def kept_out(
    past: Listens, row: np.ndarray, heard: str, disliked: csr_matrix | None = None
) -> csr_matrix:
    """Return what no list of some users may have, (rows, items): see Listens.kept_out.

    That is known of users with a past; `disliked` has what COLD users dislike too.
    """
    out = _of_rows(past, row, lambda warm: warm.kept_out(heard))
    return out if disliked is None else csr_matrix(out.maximum(disliked))


def disliked_by(folder: Path, past: Listens, user_ids: np.ndarray) -> csr_matrix | None:
    """Return what users (n,), ascending, dislike by a folder, (n, items) float32; None: nobody any.

    They may have no past: as from the service, their list has no track that they dislike.
    """
    said = feedback.read(folder, user_ids, past.track_ids)
    if said is None:
        return None
    shown = songs.shown(folder, past.track_ids)
    return said.standing(DISLIKE, (len(user_ids), past.shape[1]), shown)


def _of_rows(past: Listens, row: np.ndarray, of: Callable[[Listens], csr_matrix]) -> csr_matrix:
    """Return a matrix of users (rows, items), with nothing in the rows of COLD users."""
    warm = np.flatnonzero(row != COLD)
    pairs = of(past.of_users(row[warm]))
    lengths = np.zeros(len(row), np.int64)
    lengths[warm] = np.diff(pairs.indptr)
    entries = pairs.data, pairs.indices, offsets_of(lengths)
    return csr_matrix(entries, (len(row), past.shape[1]))
