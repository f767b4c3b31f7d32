"""Read what a folder knows of its users and tracks, once, for candidates and features."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract import tables
from jobs.contract.names import NEW_LENGTH
from jobs.data import bounds, listens, songs, splitting
from jobs.data.bounds import TrackCounts
from jobs.data.listens import SECONDS_A_DAY, Listens
from jobs.models import als_model, hyperparameters, popularity
from jobs.models.forecast import forecast
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.ranked_lists import best_of_rows, matrix_of_lists, read_lists, read_matrices
from jobs.models.sequence_neighbours import Histories
from jobs.models.sparse import incidence, only_rows, scale_rows
from jobs.models.user_neighbours import Neighbourhood

TRACKS_AN_ARTIST = 20  # most played tracks of an artist that the generator "artist" proposes
# Names of generators that may be switched off.
FORECAST, USER_KNN, SEQUENCE_KNN = "forecast", "user_knn", "sequence_knn"
HORIZONS = (0.01, 0.05, 0.25)  # the latest listens, as shares of all, for features of tracks


@dataclass(frozen=True)
class Snapshot:
    """The files of a folder as arrays and matrices; users and items are rows of the model."""

    data: Listens
    hyperparameters: Hyperparameters
    user_factors: np.ndarray  # (users, d)
    item_factors: np.ndarray  # (items, d)
    certainty: np.ndarray  # (items,): 1 if played, less if the factors are predicted
    als_lists: np.ndarray  # (users, 100) items
    new_lists: np.ndarray  # (users, 20) items without a listen
    top: np.ndarray  # the items of the top list, best first
    similar: csr_matrix  # (items, items): cosines
    followers: csr_matrix  # (items, items): how often the column's track follows the row's
    directly: csr_matrix  # the same for the very next play only
    item_weights: csr_matrix  # (items, items): what a play of the row's track says for others
    artists: csr_matrix  # (items, artists): 1 / number of the track's artists
    genres: csr_matrix  # (items, genres), rows of unit length
    users_share: float  # 0 to 1: the share of all users that the folder was made from
    counted: np.ndarray  # (users,) bool: whose plays count in what all users get
    switched_off: frozenset[str] = frozenset()  # generators that propose nothing

    @classmethod
    def read(cls, work: Path, switched_off: frozenset[str] = frozenset()) -> "Snapshot":
        """Read a folder in which the jobs up to item_weights have run, or raise JobError."""
        data = listens.load(work)
        users, items = als_model.load(work, data.shape)
        tracks = tables.read(tables.ITEMS, work, ["artist_ids", "genre_ids"])
        listed = ~songs.hidden(work, data.track_ids)  # other ids of a song get no artists or genres
        artists, genres = (
            only_rows(incidence(tracks[name]), listed) for name in ("artist_ids", "genre_ids")
        )
        ids = data.track_ids
        (similar,) = read_matrices(tables.SIMILAR, work, ids, "score")
        followers, directly = read_matrices(tables.FOLLOWERS, work, ids, "score", "directly")
        (item_weights,) = read_matrices(tables.ITEM_WEIGHTS, work, ids, "score")
        return cls(
            data,
            hyperparameters.load(work),
            users,
            items,
            als_model.certainty(work),
            read_lists(tables.PERSONAL_ALS, work, data.user_ids, ids),
            read_lists(tables.NEW_TRACKS, work, data.user_ids, ids, NEW_LENGTH),
            popularity.read_top(work, ids),
            similar,
            followers,
            directly,
            item_weights,
            scale_rows(artists, 1 / np.maximum(artists.getnnz(axis=1), 1)),
            scale_rows(genres, 1 / np.sqrt(np.maximum(genres.getnnz(axis=1), 1))),
            splitting.users_share(work),
            ~listens.left_out(work, data.user_ids),
            switched_off,
        )

    def complete(self) -> None:
        """Compute now what all blocks of users need, before they are spread over processes."""
        for name in ("top_place", "gram", "artist_tracks", "item_features", "rising"):
            getattr(self, name)
        if USER_KNN not in self.switched_off:
            _ = self.neighbourhood.ties
        if SEQUENCE_KNN not in self.switched_off:
            _ = self.histories
        _ = self.data.ties, self.data.span

    @cached_property
    def top_place(self) -> np.ndarray:
        """Return each track's place in the top list, (items,), from 0; its length if not in it."""
        result = np.full(self.data.shape[1], len(self.top))
        result[self.top] = np.arange(len(self.top))
        return result

    @cached_property
    def gram(self) -> np.ndarray:
        """Return the product of the played tracks' factors with themselves, (d, d)."""
        return als_model.gram(self.item_factors, self.certainty)

    @cached_property
    def best_of_artists(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the most played tracks of each artist, best first, and their scores.

        Both are (artists, k). The score is 0.1 + log(1 + plays), divided by the number of the
        track's artists.
        """
        plays = np.log1p(self.track_counts.bounded) + 0.1
        by_artist = scale_rows(self.artists, plays).T.tocsr()
        return best_of_rows(by_artist, TRACKS_AN_ARTIST, self.data.ties)

    @cached_property
    def artist_tracks(self) -> csr_matrix:
        """Return the same as a matrix of scores, (artists, items)."""
        return matrix_of_lists(*self.best_of_artists, self.data.shape[1])

    @cached_property
    def track_counts(self) -> TrackCounts:
        """Return the tracks' plays and listeners, in all and since the moments of HORIZONS."""
        weights = bounds.user_weights(np.diff(self.data.starts) * self.counted)
        moments = bounds.moments(self.data, weights, [1 - share for share in HORIZONS])
        return bounds.track_counts(self.data, self.counted, moments)

    @cached_property
    def neighbourhood(self) -> Neighbourhood:
        """Return the users among whom each user's neighbours are found."""
        return Neighbourhood.of(self.data, self.counted, self.track_counts)

    @cached_property
    def histories(self) -> Histories:
        """Return the histories in which places are searched that are similar to a user's end."""
        return Histories.of(self.data, self.counted, self.track_counts)

    @cached_property
    def forecast(self) -> np.ndarray:
        """Return the forecast of each track's popularity, (items,) float32; 0 if switched off."""
        if FORECAST in self.switched_off:
            return np.zeros(self.data.shape[1], np.float32)
        weights = bounds.user_weights(np.diff(self.data.starts) * self.counted)
        (begin,) = bounds.moments(self.data, weights, [1 - splitting.SHARE])
        return forecast(self.data, self.counted, max(self.data.span[1] - begin, 1))

    @cached_property
    def rising(self) -> np.ndarray:
        """Return the tracks with a forecast, best first."""
        order = np.lexsort((self.data.ties.places[:-1], -self.forecast)).astype(np.int32)
        result: np.ndarray = order[self.forecast[order] > 0]
        return result

    @cached_property
    def item_features(self) -> dict[str, np.ndarray]:
        """Return the features of tracks that don't depend on the user, (items,) float32, by name.

        Each is bounded in what one user can change (see data/bounds). Where the folder was made
        from a sample of the users, plays are scaled up to all users.
        """
        (_, end), counts = self.data.span, self.track_counts
        first, last = bounds.track_ends(self.data, self.counted)
        listeners = counts.listeners / self.users_share
        result = {
            "item_plays": np.log1p(counts.bounded / self.users_share),
            "item_age_days": (end - first) / SECONDS_A_DAY,
            "item_idle_days": (end - last) / SECONDS_A_DAY,
            "forecast_score": np.log(self.forecast / self.users_share + 0.1),
        }
        for share, late in zip(HORIZONS, counts.since.T / self.users_share, strict=True):
            result[f"item_plays_last_{share:.0%}"] = np.log1p(late)
            result[f"item_trend_{share:.0%}"] = np.log((late + 1) / (listeners * share + 1))
        return {name: values.astype(np.float32) for name, values in result.items()}
