"""What the ranker sees of each candidate."""

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.ragged import entries_of, row_of_each
from jobs.data.listens import SECONDS_A_DAY, Listens
from jobs.models import als_model
from jobs.models.ranked_lists import first_unheard
from jobs.models.sparse import Entries, dots, look_up
from jobs.ranking.candidates import EACH, GENERATORS, Candidates, _keys, _places, generate
from jobs.ranking.snapshot import Snapshot, scale_rows

LAST_PLAYS = 5  # each of which is looked at alone


def featured_candidates(past: Snapshot, users: np.ndarray, each: int = EACH) -> Candidates:
    """The candidates of some users (ascending), so many of each generator, with their features."""
    block = past.data.of_users(users)
    scores, lists = generate(past, users, block, each)
    heard = block.pairs() if past.chosen.heard == "exclude" else csr_matrix(block.shape)
    lists["popular"] = first_unheard(past.top, heard)
    keys = _keys(lists, past.data.shape[1])
    row, item = np.divmod(keys, past.data.shape[1])
    result = Candidates(row.astype(np.int32), item.astype(np.int32), past.top_place[item])
    for name in GENERATORS:
        result.places[name] = _places(lists[name], keys, past.data.shape[1])
    _add_scores(result, past, scores, users)
    _add_last_plays(result, past, block)
    _add_context(result, past, block)
    return result


def _add_scores(
    result: Candidates, past: Snapshot, scores: dict[str, Entries], users: np.ndarray
) -> None:
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


def _add_last_plays(result: Candidates, past: Snapshot, block: Listens) -> None:
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


def _add_context(result: Candidates, past: Snapshot, block: Listens) -> None:
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
            affinity = scale_rows(affinity, 1 / total)
            features[f"{name}_affinity_{span}"] = _row_products(affinity, row, kinds, item)
    for name, values in features.items():
        features[name] = np.asarray(values, np.float32)


def _row_products(
    left: csr_matrix, rows: np.ndarray, right: csr_matrix, others: np.ndarray
) -> np.ndarray:
    """(n,) the products of left's rows with right's rows, pair by pair."""
    at, counts = entries_of(right.indptr, others)
    pair = row_of_each(counts)
    values = look_up(left, rows[pair], right.indices[at]) * right.data[at]
    return np.bincount(pair, values, minlength=len(others)).astype(np.float32)


def feature_names(past: Snapshot) -> list[str]:
    """The names of a pool's features, in their order."""
    return list(featured_candidates(past, np.arange(min(1, len(past.data.user_ids)))).features)
