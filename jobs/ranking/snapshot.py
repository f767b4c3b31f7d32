"""Read what a folder knows of its users and tracks, once, for candidates and features."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, diags_array

from jobs.contract import tables
from jobs.data import listens, songs, splitting
from jobs.data.listens import SECONDS_A_DAY, Listens
from jobs.models import als_model, hyperparameters, popularity
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.ranked_lists import best_of_rows, matrix_of_lists, read_lists, read_matrices

TRACKS_AN_ARTIST = 20  # most played tracks of an artist that the generator "artist" proposes
HORIZONS = (0.01, 0.05, 0.25)  # the latest listens, as shares of all, for features of tracks


@dataclass(frozen=True)
class Snapshot:
    """The files of a folder as arrays and matrices; users and items are rows of the model."""

    data: Listens
    hyperparameters: Hyperparameters
    user_factors: np.ndarray  # (users, d)
    item_factors: np.ndarray  # (items, d)
    als_lists: np.ndarray  # (users, 100) items
    top: np.ndarray  # the items of the top list, best first
    similar: csr_matrix  # (items, items): cosines
    followers: csr_matrix  # (items, items): how often the column's track follows the row's
    directly: csr_matrix  # the same for the very next play only
    artists: csr_matrix  # (items, artists): 1 / number of the track's artists
    genres: csr_matrix  # (items, genres), rows of unit length
    users_share: float  # 0 to 1: the share of all users that the folder was made from

    @classmethod
    def read(cls, work: Path) -> "Snapshot":
        """Read a folder in which the jobs up to next_played have run, or raise JobError."""
        data = listens.load(work)
        users, items = als_model.load(work, data.shape)
        tracks = tables.read(tables.ITEMS, work, ["artist_ids", "genre_ids"])
        listed = ~songs.hidden(work, data.track_ids)  # the others must not be found by their kinds
        artists, genres = (
            only_rows(incidence(tracks[name]), listed) for name in ("artist_ids", "genre_ids")
        )
        ids = data.track_ids
        (similar,) = read_matrices(tables.SIMILAR, work, ids, "score")
        followers, directly = read_matrices(tables.FOLLOWERS, work, ids, "score", "directly")
        return cls(
            data,
            hyperparameters.load(work),
            users,
            items,
            read_lists(tables.PERSONAL_ALS, work, data.user_ids, ids),
            popularity.read_top(work, ids),
            similar,
            followers,
            directly,
            scale_rows(artists, 1 / np.maximum(artists.getnnz(axis=1), 1)),
            scale_rows(genres, 1 / np.sqrt(np.maximum(genres.getnnz(axis=1), 1))),
            splitting.users_share(work),
        )

    @cached_property
    def top_place(self) -> np.ndarray:
        """Return each track's place in the top list, (items,), from 0; its length if not in it."""
        result = np.full(self.data.shape[1], len(self.top))
        result[self.top] = np.arange(len(self.top))
        return result

    @cached_property
    def gram(self) -> np.ndarray:
        """Return the product of the item factors with themselves, (d, d)."""
        gram: np.ndarray = self.item_factors.T @ self.item_factors
        return gram

    @cached_property
    def artist_tracks(self) -> csr_matrix:
        """Return the most played tracks of each artist, (artists, items), with their scores.

        The score is 0.1 + log(1 + plays), divided by the number of the track's artists.
        """
        plays = np.log1p(self.data.plays()) + 0.1
        by_artist = scale_rows(self.artists, plays).T.tocsr()
        items, scores = best_of_rows(by_artist, TRACKS_AN_ARTIST)
        return matrix_of_lists(items, scores, self.data.shape[1])

    @cached_property
    def item_features(self) -> dict[str, np.ndarray]:
        """Return the features of tracks that don't depend on the user, (items,) float32, by name.

        Where the folder was made from a sample of the users, plays are scaled up to all users.
        """
        data, n = self.data, self.data.shape[1]
        begin, end = data.span
        plays = data.plays() / self.users_share
        first, last = np.full(n, end, np.uint32), np.full(n, begin, np.uint32)
        np.minimum.at(first, data.item, data.at)
        np.maximum.at(last, data.item, data.at)
        first, last = (np.clip(at, begin, end) for at in (first, last))
        result = {
            "item_plays": np.log1p(plays),
            "item_age_days": (end - first) / SECONDS_A_DAY,
            "item_idle_days": (end - last) / SECONDS_A_DAY,
        }
        starts = np.quantile(data.at, 1 - np.array(HORIZONS))
        for share, start in zip(HORIZONS, starts, strict=True):
            recent = data.at >= start
            late = np.bincount(data.item[recent], minlength=n) / self.users_share
            result[f"item_plays_last_{share:.0%}"] = np.log1p(late)
            result[f"item_trend_{share:.0%}"] = np.log((late + 1) / (plays * share + 1))
        return {name: values.astype(np.float32) for name, values in result.items()}


def scale_rows(matrix: csr_matrix, factors: np.ndarray) -> csr_matrix:
    """Return the matrix with each row multiplied by its factor; factors are (rows,)."""
    return csr_matrix(diags_array(factors.astype(np.float32)) @ matrix)


def only_rows(matrix: csr_matrix, rows: np.ndarray) -> csr_matrix:
    """Return the matrix with entries in these rows only; rows are (rows,) bool."""
    if rows.all():
        return matrix
    result = scale_rows(matrix, rows)
    result.eliminate_zeros()
    return result


def incidence(lists: pa.ChunkedArray) -> csr_matrix:
    """Return (rows, distinct values) float32: 1 where the row's list contains the value."""
    lists = lists.combine_chunks()
    rows = np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
    values, columns = np.unique(lists.flatten().to_numpy(), return_inverse=True)
    shape = (len(lists), max(len(values), 1))
    result = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape)
    result.data[:] = 1
    return result
