"""All that a folder knows of its users and tracks, read once for candidates and features."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, diags_array

from jobs.contract import tables
from jobs.data import listens, splitting
from jobs.data.listens import SECONDS_A_DAY, Listens
from jobs.models import als_model, hyperparameters, popularity
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.ranked_lists import best_of_rows, matrix_of_lists, read_lists, read_matrices

TRACKS_AN_ARTIST = 20
HORIZONS = (0.01, 0.05, 0.25)  # shares of all listens, counted from the end


@dataclass(frozen=True)
class Snapshot:
    """All that a folder knows of its users and tracks, by row of the model."""

    data: Listens
    chosen: Hyperparameters
    user_factors: np.ndarray
    item_factors: np.ndarray
    als_lists: np.ndarray  # (users, 100) items
    top: np.ndarray  # items, best first
    similar: csr_matrix
    followers: csr_matrix
    directly: csr_matrix  # followers that came right after
    artists: csr_matrix  # (items, artists): 1 / number of the track's artists
    genres: csr_matrix  # (items, genres), rows of unit length
    users_share: float  # of all users, in the sample that the folder is of

    @classmethod
    def read(cls, work: Path) -> "Snapshot":
        """Read a folder in which the jobs up to next_played have run."""
        data = listens.load(work)
        users, items = als_model.load(work, data.shape)
        tracks = tables.read(tables.ITEMS, work, ["artist_ids", "genre_ids"])
        artists, genres = (incidence(tracks[name]) for name in ("artist_ids", "genre_ids"))
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
        """(items,): where a track stands in the top list; its length for one that nobody played."""
        result = np.full(self.data.shape[1], len(self.top))
        result[self.top] = np.arange(len(self.top))
        return result

    @cached_property
    def gram(self) -> np.ndarray:
        """(d, d): the item factors' own product."""
        gram: np.ndarray = self.item_factors.T @ self.item_factors
        return gram

    @cached_property
    def artist_tracks(self) -> csr_matrix:
        """(artists, items): the most played tracks of each artist, by their share of its plays."""
        plays = np.log1p(self.data.plays()) + 0.1
        by_artist = scale_rows(self.artists, plays).T.tocsr()
        items, scores = best_of_rows(by_artist, TRACKS_AN_ARTIST)
        return matrix_of_lists(items, scores, self.data.shape[1])

    @cached_property
    def item_features(self) -> dict[str, np.ndarray]:
        """What is known of each track as a whole: (items,) float32 each.

        Plays are those that all users would have: a sample's are multiplied.
        """
        data, n = self.data, self.data.shape[1]
        end = data.at.max()
        plays = data.plays() / self.users_share
        first, last = np.full(n, end), np.full(n, data.at.min())
        np.minimum.at(first, data.item, data.at)
        np.maximum.at(last, data.item, data.at)
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
    """The matrix with each row multiplied by its factor, (rows,)."""
    return csr_matrix(diags_array(factors.astype(np.float32)) @ matrix)


def incidence(lists: pa.ChunkedArray) -> csr_matrix:
    """(rows, distinct values) float32: 1 where the row's list holds the value."""
    lists = lists.combine_chunks()
    rows = np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
    values, columns = np.unique(lists.flatten().to_numpy(), return_inverse=True)
    shape = (len(lists), max(len(values), 1))
    result = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape)
    result.data[:] = 1
    return result
