"""The generators, which propose candidates for each user: the tracks that the ranker orders.

    generator    proposes                                             made from
    -----------  ---------------------------------------------------  -------------------------
    popular      the first tracks of the top list                     top_popular.parquet
    als          the tracks of the user's list by the ALS model       personal_als.parquet
    next_played  what people play soon after the user's last plays    followers.parquet
    after_last   the same, where the very last plays count most       followers.parquet
    similar      tracks that are similar to the user's last plays     similar.parquet
    artist       often played tracks by the artists of these plays    items.parquet, listens.parquet
    replayed     the tracks that the user has played                  listens.parquet
    new_tracks   tracks without a listen by the user's ALS vector     new_tracks.parquet

"popular" proposes 100 tracks for each user, "new_tracks" up to 10, every other generator up to 50.
"Last plays" are the last 100 of a user, or the last 16 in "after_last". Where heard tracks are
excluded, no generator proposes a track that the user has played, so "replayed" proposes nothing.

The generators from "next_played" to "replayed" are products of sparse matrices: a user's profile
(how much each of their plays counts) times a relation of tracks to tracks. If a user's plays of
tracks 1 and 2 count 1 and 0.5, and track 9 follows them with scores of 0.2 and 0.6, then
"next_played" gives track 9 the score 1 × 0.2 + 0.5 × 0.6 = 0.5. The relation of "replayed" is each
track to itself.

features.featured_candidates collects what the generators propose.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.names import LIST_LENGTH
from jobs.contract.plays import LAST_HALF_LIFE, LAST_SCORED, RECENT
from jobs.contract.top_k import NOTHING
from jobs.data.listens import Listens
from jobs.models.ranked_lists import best_of_rows
from jobs.models.sparse import Entries
from jobs.ranking.snapshot import Snapshot

# The order is that of ties between generators, of the fusion's weights and of all reports.
GENERATORS = (
    "popular",
    "als",
    "next_played",
    "after_last",
    "similar",
    "artist",
    "replayed",
    "new_tracks",
)
CANDIDATES_A_GENERATOR = 50  # tracks for each user; more cost time without a better final list
NEW_CANDIDATES = 10  # tracks without a listen for each user


def most_of(generator: str) -> int:
    """Return how many candidates a generator proposes for each user at most."""
    return {"popular": LIST_LENGTH, "new_tracks": NEW_CANDIDATES}.get(
        generator, CANDIDATES_A_GENERATOR
    )


@dataclass
class Candidates:
    """The candidates of a block of users, in the order of users, then of items."""

    row: np.ndarray  # (n,) int32: the user, counted from the block's first
    item: np.ndarray  # (n,) int32: the track
    top_place: np.ndarray  # (n,): the track's place in the top list, from 0
    # By generator, (n,): the place in its list for the user, from 1; NaN if the track isn't in it.
    places: dict[str, np.ndarray] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)  # by name, (n,) float32

    def matrix(self) -> np.ndarray:
        """Return the features as a matrix (n, features) float32."""
        return np.column_stack(list(self.features.values()))


def generate(
    snapshot: Snapshot, users: np.ndarray, block: Listens, length: int
) -> tuple[dict[str, Entries], dict[str, np.ndarray]]:
    """Return scores (users, items) and lists (users, length) of items, each by generator.

    There are scores only of the generators that are sparse products, and lists of all generators
    but "popular". block has the listens of the users.
    """
    scores = {name: Entries.of(matrix) for name, matrix in _sparse_scores(snapshot, block).items()}
    lists = {
        "als": snapshot.als_lists[users, :length],
        "new_tracks": snapshot.new_lists[users, :NEW_CANDIDATES],
    }
    heard = block.pairs()
    for name, entries in scores.items():
        if snapshot.hyperparameters.heard == "exclude":
            entries.clear(heard)
        lists[name], _ = best_of_rows(entries.matrix, length)
    return scores, lists


def _sparse_scores(snapshot: Snapshot, block: Listens) -> dict[str, csr_matrix]:
    """Return the scores (users, items) of the generators that are sparse products, by generator."""
    hyperparameters, recent = snapshot.hyperparameters, block.latest(RECENT)
    similar = recent.profiles(hyperparameters.similar_half_life)
    following = recent.profiles(hyperparameters.next_half_life)
    last = block.latest(LAST_SCORED).profiles(LAST_HALF_LIFE)
    return {
        "next_played": csr_matrix(following @ snapshot.followers),
        "after_last": csr_matrix(last @ snapshot.followers),
        "similar": csr_matrix(similar @ snapshot.similar),
        "artist": csr_matrix(similar @ snapshot.artists @ snapshot.artist_tracks),
        "replayed": block.profiles(hyperparameters.own_half_life),
    }


def candidate_keys(lists: dict[str, np.ndarray], items: int) -> np.ndarray:
    """Return a key row * items + item for every listed item, ascending, each once.

    lists has the lists (users, k) of each generator; items is the number of all tracks. With ten
    tracks, user 1 and track 2 have the key 1 * 10 + 2 = 12, from which np.divmod(12, 10) gives both
    back.

    >>> lists = {"als": np.array([[2, NOTHING]] * 2), "similar": np.array([[0, 2], [2, NOTHING]])}
    >>> candidate_keys(lists, 10).tolist()
    [0, 2, 12]
    """
    listed = np.concatenate(list(lists.values()), axis=1)
    rows, places = np.nonzero(listed != NOTHING)
    return np.unique(rows.astype(np.int64) * items + listed[rows, places])


def places_of(listed: np.ndarray, keys: np.ndarray, items: int) -> np.ndarray:
    """Return the place of each key in one generator's lists, (keys,) float32, from 1, or NaN.

    listed (users, k) are the lists; keys are those of candidate_keys, ascending.

    >>> places_of(np.array([[0, 2], [2, NOTHING]]), np.array([0, 2, 5, 12]), 10).tolist()
    [1.0, 2.0, nan, 1.0]
    """
    rows, places = np.nonzero(listed != NOTHING)
    result = np.full(len(keys), np.nan, np.float32)
    result[np.searchsorted(keys, rows.astype(np.int64) * items + listed[rows, places])] = places + 1
    return result
