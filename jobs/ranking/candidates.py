"""Candidates of every kind for a block of users, each with what the ranker sees of it.

A generator gives each user a score for each track; its best 50 are candidates. All but one are
sparse products, profile (users, items) x relation (items, items): what is played next, neighbours,
the artists of the user's plays, the user's own plays. The factorisation's lists are read, and 100
of the top list fill. Every candidate then gets the score and the place of it by every generator.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.top_k import NOTHING
from jobs.data.listens import RECENT, Listens
from jobs.models.ranked_lists import best_of_rows
from jobs.models.sparse import Entries
from jobs.ranking.snapshot import Snapshot

GENERATORS = ("popular", "als", "next_played", "after_last", "similar", "artist", "replayed")
EACH = 50  # candidates of a generator: more of them cost time and gain nothing
LAST_SCORED = (
    16  # plays that the generator "after_last" is made from: earlier ones weigh next to nothing
)


@dataclass
class Candidates:
    """The candidates of a block of users: row (n,) of the block, item (n,), in that order."""

    row: np.ndarray
    item: np.ndarray
    top_place: np.ndarray  # (n,) where the item stands in the top list, from 0
    places: dict[str, np.ndarray] = field(default_factory=dict)  # generator: (n,) 1 is best, or NaN
    features: dict[str, np.ndarray] = field(default_factory=dict)  # name: (n,) float32

    def matrix(self) -> np.ndarray:
        """(n, features) float32."""
        return np.column_stack(list(self.features.values()))


def generate(
    past: Snapshot, users: np.ndarray, block: Listens, each: int
) -> tuple[dict[str, Entries], dict[str, np.ndarray]]:
    """Scores (users, items) of the sparse generators, and lists (users, each) of all but the top.

    block are the listens of the users.
    """
    scores = {name: Entries.of(matrix) for name, matrix in _sparse_scores(past, block).items()}
    lists = {"als": past.als_lists[users, :each]}
    heard = block.pairs()
    for name, entries in scores.items():
        if past.chosen.heard == "exclude":
            entries.clear(heard)
        lists[name], _ = best_of_rows(entries.matrix, each)
    return scores, lists


def _sparse_scores(past: Snapshot, block: Listens) -> dict[str, csr_matrix]:
    """(users, items) scores of the generators that are products of a profile and a relation."""
    chosen, recent = past.chosen, block.latest(RECENT)
    similar = recent.profiles(chosen.similar_half_life)
    following = recent.profiles(chosen.next_half_life)
    return {
        "next_played": csr_matrix(following @ past.followers),
        "after_last": csr_matrix(block.latest(LAST_SCORED).profiles(1.0) @ past.followers),
        "similar": csr_matrix(similar @ past.similar),
        "artist": csr_matrix(similar @ past.artists @ past.artist_tracks),
        "replayed": block.profiles(chosen.own_half_life),
    }


def _keys(lists: dict[str, np.ndarray], items: int) -> np.ndarray:
    """row * items + item of everything listed, ascending, once."""
    listed = np.concatenate(list(lists.values()), axis=1)
    rows, places = np.nonzero(listed != NOTHING)
    return np.unique(rows.astype(np.int64) * items + listed[rows, places])


def _places(found: np.ndarray, keys: np.ndarray, items: int) -> np.ndarray:
    rows, places = np.nonzero(found != NOTHING)
    result = np.full(len(keys), np.nan, np.float32)
    result[np.searchsorted(keys, rows.astype(np.int64) * items + found[rows, places])] = places + 1
    return result
