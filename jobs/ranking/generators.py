"""The table of generators, which propose candidates for each user.

Everything that deals with generators follows from the table GENERATORS at the end: candidates,
features, the fusion, the comparison of rules, the ablation and the reports. docs/contributing.md
describes how to add one.

A generator is a function that gives scores to tracks for a block of users. Most are products of
sparse matrices: a user's profile (how much each of their plays counts) times a relation of tracks
to tracks. If a user's plays of tracks 1 and 2 count 1 and 0.5, and track 9 follows them with scores
of 0.2 and 0.6, then "next_played" gives track 9 the score 1 × 0.2 + 0.5 × 0.6 = 0.5.

No generator proposes a track that the user dislikes. Where heard tracks are excluded, none proposes
a track that the user has played either, so "replayed" proposes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract import tables
from jobs.contract.ids import find
from jobs.contract.plays import LAST_HALF_LIFE, LAST_SCORED, RECENT
from jobs.contract.tables import Table
from jobs.data.listens import Listens
from jobs.models.ranked_lists import first_unheard, matrix_of_lists
from jobs.models.sparse import product
from jobs.ranking.snapshot import FORECAST, SEQUENCE_KNN, USER_KNN, Snapshot

# Returns (users, items) float32 for a block of users with their listens: tracks with larger scores
# suit a user better, and those with 0 are not proposed. A user's scores must not depend on the
# other users of the block.
Scores = Callable[[Snapshot, Listens], csr_matrix]


@dataclass(frozen=True)
class Generator:
    """A row of the table: how tracks are scored, and what becomes of the scores."""

    scores: Scores
    made_from: tuple[Table, ...]  # files that it depends on, beside those of listens and settings
    default_weight: float  # in the fusion, where users are too few to fit weights to
    candidates: int = 50  # tracks for each user; more cost time without a better final list
    only_places: bool = False  # whether scores say nothing but the place, so they are no features
    # The share of the labels among all candidates that it alone has to find, or jobs.rank does
    # without it. The more time it takes, the larger it should be; 0: it is never left out.
    least_alone: float = 0.0


def _of_lists(lists: np.ndarray, items: int) -> csr_matrix:
    """Return scores (users, items) that have the order of lists (users, k): 1, 1/2, 1/3, …"""
    scores = np.broadcast_to(1 / np.arange(1, lists.shape[1] + 1), lists.shape)
    return matrix_of_lists(lists, scores, items)


def _rows(snapshot: Snapshot, block: Listens) -> np.ndarray:
    """Return the rows (users,) of a block's users in the snapshot."""
    return find(snapshot.data.user_ids, block.user_ids)


def no_scores(_: Snapshot, block: Listens) -> csr_matrix:
    """Score nothing, as a generator does that is switched off."""
    return csr_matrix(block.shape, dtype=np.float32)


def popular(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score the first tracks of the top list."""
    out = block.kept_out(snapshot.hyperparameters.heard)
    return _of_lists(first_unheard(snapshot.top, out), block.shape[1])


def forecast(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score the tracks that most users are expected to play for the first time."""
    out = block.kept_out(snapshot.hyperparameters.heard)
    return _of_lists(first_unheard(snapshot.rising, out), block.shape[1])


def als(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score the tracks of the users' lists by the ALS model."""
    return _of_lists(snapshot.als_lists[_rows(snapshot, block)], block.shape[1])


def next_played(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score what people play soon after the users' last 100 plays."""
    recent = block.latest(RECENT).profiles(snapshot.hyperparameters.next_half_life)
    return product(recent, snapshot.followers)


def after_last(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score the same for the last 16 plays, of which the very last count most."""
    return product(block.latest(LAST_SCORED).profiles(LAST_HALF_LIFE), snapshot.followers)


def similar(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score tracks that are similar to the users' last 100 plays."""
    recent = block.latest(RECENT).profiles(snapshot.hyperparameters.similar_half_life)
    return product(recent, snapshot.similar)


def artist(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score often played tracks by the artists of the last 100 plays."""
    recent = block.latest(RECENT).profiles(snapshot.hyperparameters.similar_half_life)
    return product(product(recent, snapshot.artists), snapshot.artist_tracks)


def user_knn(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score what the users with the most similar taste have played."""
    return snapshot.neighbourhood.scores(block, snapshot.hyperparameters.als_half_life)


def sequence_knn(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score what others played next where they had played the same as the users lately."""
    return snapshot.histories.scores(block)


def ease(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score tracks by the item weights of the users' plays."""
    plays = block.weights(0, snapshot.hyperparameters.als_half_life)
    return product(plays, snapshot.item_weights)


def replayed(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score the tracks that the users have played."""
    return block.profiles(snapshot.hyperparameters.own_half_life)


def new_tracks(snapshot: Snapshot, block: Listens) -> csr_matrix:
    """Score the tracks without a listen that are nearest to the users' ALS vectors."""
    return _of_lists(snapshot.new_lists[_rows(snapshot, block)], block.shape[1])


# The order is that of ties between generators, of the fusion's weights and of all reports.
GENERATORS = {
    "popular": Generator(popular, (tables.TOP_POPULAR,), 0.2, candidates=100, only_places=True),
    FORECAST: Generator(forecast, (tables.LISTENS,), 0.0, candidates=100, only_places=True),
    "als": Generator(als, (tables.PERSONAL_ALS,), 1.0, only_places=True),
    "next_played": Generator(next_played, (tables.FOLLOWERS,), 1.0),
    "after_last": Generator(after_last, (tables.FOLLOWERS,), 0.4),
    "similar": Generator(similar, (tables.SIMILAR,), 0.4),
    "artist": Generator(artist, (tables.ITEMS,), 0.2),
    USER_KNN: Generator(user_knn, (tables.LISTENS,), 0.4, least_alone=0.005),
    SEQUENCE_KNN: Generator(sequence_knn, (tables.LISTENS,), 0.4, least_alone=0.01),
    "ease": Generator(ease, (tables.ITEM_WEIGHTS,), 0.4, least_alone=0.002),
    "replayed": Generator(replayed, (tables.LISTENS,), 0.4),
    "new_tracks": Generator(new_tracks, (tables.NEW_TRACKS,), 0.1, candidates=10, only_places=True),
}
