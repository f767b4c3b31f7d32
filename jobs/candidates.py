"""Candidates of every kind for a block of users, each with what the ranker sees of it.

A generator gives each user a score for each track; its best 50 are candidates. All but one are
sparse products, profile (users, items) x relation (items, items): what is played next, neighbours,
the artists of the user's plays, the user's own plays. The factorisation's lists are read, and 100
of the top list fill. Every candidate then gets the score and the place of it by every generator.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, diags_array

from jobs import als_model, contract, listens, settings, windows
from jobs.listens import RECENT, SECONDS_A_DAY, Listens
from jobs.ranked import (
    Entries,
    best_of_rows,
    dots,
    first_unheard,
    look_up,
    matrix_of_lists,
    read_lists,
    read_matrices,
)
from jobs.retrieval import NOTHING
from jobs.settings import Settings

GENERATORS = ("popular", "als", "next", "last", "similar", "artist", "own")
EACH = 50  # candidates of a generator: more of them cost time and gain nothing
TRACKS_AN_ARTIST = 20
LAST_PLAYS = 5  # each of which is looked at alone
LAST_SCORED = 16  # plays that the generator "last" is made from: earlier ones weigh next to nothing
HORIZONS = (0.01, 0.05, 0.25)  # shares of all listens, counted from the end


@dataclass(frozen=True)
class Past:
    """All that a folder knows of its users and tracks, by row of the model."""

    data: Listens
    chosen: Settings
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
    def read(cls, work: Path) -> "Past":
        """Read a folder in which the jobs up to next_played have run."""
        data = listens.load(work)
        users, items = als_model.load(work, data.shape)
        tracks = contract.read(contract.ITEMS, work, ["artist_ids", "genre_ids"])
        artists, genres = (_incidence(tracks[name]) for name in ("artist_ids", "genre_ids"))
        top = contract.read(contract.TOP_POPULAR, work, ["track_id"])["track_id"].to_numpy()
        ids = data.track_ids
        (similar,) = read_matrices(contract.SIMILAR, work, ids, "score")
        followers, directly = read_matrices(contract.FOLLOWERS, work, ids, "score", "directly")
        return cls(
            data,
            settings.load(work),
            users,
            items,
            read_lists(contract.PERSONAL_ALS, work, data.user_ids, ids),
            np.searchsorted(ids, top).astype(np.int32),
            similar,
            followers,
            directly,
            _scale_rows(artists, 1 / np.maximum(artists.getnnz(axis=1), 1)),
            _scale_rows(genres, 1 / np.sqrt(np.maximum(genres.getnnz(axis=1), 1))),
            windows.users_share(work),
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
        return self.item_factors.T @ self.item_factors

    @cached_property
    def artist_tracks(self) -> csr_matrix:
        """(artists, items): the most played tracks of each artist, by their share of its plays."""
        plays = np.log1p(self.data.plays()) + 0.1
        by_artist = _scale_rows(self.artists, plays).T.tocsr()
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


@dataclass
class Pool:
    """The candidates of a block of users: row (n,) of the block, item (n,), in that order."""

    row: np.ndarray
    item: np.ndarray
    top_place: np.ndarray  # (n,) where the item stands in the top list, from 0
    places: dict[str, np.ndarray] = field(default_factory=dict)  # generator: (n,) 1 is best, or NaN
    features: dict[str, np.ndarray] = field(default_factory=dict)  # name: (n,) float32

    def matrix(self) -> np.ndarray:
        """(n, features) float32."""
        return np.column_stack(list(self.features.values()))


def pool(past: Past, users: np.ndarray, each: int = EACH) -> Pool:
    """The candidates of some users (ascending), so many of each generator, with their features."""
    block = past.data.of_users(users)
    scores, lists = generate(past, users, block, each)
    heard = block.pairs() if past.chosen.heard == "exclude" else csr_matrix(block.shape)
    lists["popular"] = first_unheard(past.top, heard)
    keys = _keys(lists, past.data.shape[1])
    row, item = np.divmod(keys, past.data.shape[1])
    result = Pool(row.astype(np.int32), item.astype(np.int32), past.top_place[item])
    for name in GENERATORS:
        result.places[name] = _places(lists[name], keys, past.data.shape[1])
    _add_scores(result, past, scores, users)
    _add_last_plays(result, past, block)
    _add_context(result, past, block)
    return result


def generate(
    past: Past, users: np.ndarray, block: Listens, each: int
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


def _sparse_scores(past: Past, block: Listens) -> dict[str, csr_matrix]:
    """(users, items) scores of the generators that are products of a profile and a relation."""
    chosen, recent = past.chosen, block.latest(RECENT)
    similar = recent.profiles(chosen.similar_half_life)
    following = recent.profiles(chosen.next_half_life)
    return {
        "next": csr_matrix(following @ past.followers),
        "last": csr_matrix(block.latest(LAST_SCORED).profiles(1.0) @ past.followers),
        "similar": csr_matrix(similar @ past.similar),
        "artist": csr_matrix(similar @ past.artists @ past.artist_tracks),
        "own": block.profiles(chosen.own_half_life),
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


def _add_scores(result: Pool, past: Past, scores: dict[str, Entries], users: np.ndarray) -> None:
    """Each generator's score of each candidate, and its ratio to the user's best one."""
    row, item, features = result.row, result.item, result.features
    tastes = {"als": past.user_factors[users]}
    if past.chosen.folds_in:
        block = past.data.of_users(users)
        tastes["als_recent"] = als_model.recent_tastes(
            block, past.item_factors, past.gram, past.chosen
        )
    values = {name: dots(taste, row, past.item_factors, item) for name, taste in tastes.items()}
    values |= {name: entries.look_up(row, item) for name, entries in scores.items()}
    for name, value in values.items():
        best = np.zeros(row.max(initial=0) + 1, np.float32)
        np.maximum.at(best, row, value)
        features[f"{name}_score"] = value
        features[f"{name}_to_best"] = value / np.maximum(best[row], 1e-9)
    for name, places in result.places.items():
        features[f"{name}_rank"] = places
    features["generators"] = np.sum([~np.isnan(p) for p in result.places.values()], axis=0)


def _add_last_plays(result: Pool, past: Past, block: Listens) -> None:
    """How each of the user's last plays, taken alone, is followed by the candidate."""
    row, item, starts = result.row, result.item, block.starts
    for back in range(1, LAST_PLAYS + 1):
        at = starts[1:] - back
        there = at >= starts[:-1]
        played = block.item[np.where(there, at, 0)]
        named = {f"follows_{back}": past.followers}
        if back == 1:
            named["follows_directly"] = past.directly
        for name, relation in named.items():
            after = look_up(relation[played], row, item)
            result.features[name] = np.where(there[row], after, np.float32(0))


def _add_context(result: Pool, past: Past, block: Listens) -> None:
    """The track, the user, and how the two fit by artist, genre, and popularity."""
    row, item, features = result.row, result.item, result.features
    for name, values in past.item_features.items():
        features[name] = values[item]
    counts = np.diff(block.starts)
    last_at = block.at[block.starts[1:] - 1]
    plays = block.profiles(None)
    popularity = past.item_features["item_plays"]
    mainstream = (plays @ popularity) / np.maximum(counts, 1)
    features["user_listens"] = np.log1p(counts)[row]
    features["user_idle_days"] = ((past.data.at.max() - last_at) / SECONDS_A_DAY)[row]
    features["user_mainstream"] = mainstream[row]
    features["popularity_gap"] = popularity[item] - mainstream[row]
    recent = block.profiles(past.chosen.similar_half_life)
    for name, kinds in (("artist", past.artists), ("genre", past.genres)):
        for span, profile in (("recent", recent), ("all", plays)):
            affinity = csr_matrix(profile @ kinds)
            total = np.maximum(np.asarray(affinity.sum(axis=1)).ravel(), 1e-9)
            affinity = _scale_rows(affinity, 1 / total)
            features[f"{name}_affinity_{span}"] = _row_products(affinity, row, kinds, item)
    for name, values in features.items():
        features[name] = np.asarray(values, np.float32)


def _row_products(
    left: csr_matrix, rows: np.ndarray, right: csr_matrix, others: np.ndarray
) -> np.ndarray:
    """(n,) the products of left's rows with right's rows, pair by pair."""
    counts = np.diff(right.indptr)[others]
    pair = np.repeat(np.arange(len(others)), counts)
    inside = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    at = right.indptr[others][pair] + inside
    values = look_up(left, rows[pair], right.indices[at]) * right.data[at]
    return np.bincount(pair, values, minlength=len(others)).astype(np.float32)


def _scale_rows(matrix: csr_matrix, factors: np.ndarray) -> csr_matrix:
    return csr_matrix(diags_array(factors.astype(np.float32)) @ matrix)


def _incidence(lists: pa.ChunkedArray) -> csr_matrix:
    """(rows, distinct values) float32: 1 where the row's list holds the value."""
    lists = lists.combine_chunks()
    rows = np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
    values, columns = np.unique(lists.flatten().to_numpy(), return_inverse=True)
    shape = (len(lists), max(len(values), 1))
    result = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape)
    result.data[:] = 1
    return result


def feature_names(past: Past) -> list[str]:
    """The names of a pool's features, in their order."""
    return list(pool(past, np.arange(min(1, len(past.data.user_ids)))).features)
