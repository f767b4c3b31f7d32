"""The features of each candidate: the numbers by which the ranker orders candidates."""

import numpy as np
from scipy.sparse import csr_matrix

from jobs.data.listens import SECONDS_A_DAY, Listens
from jobs.models import als_model
from jobs.models.sparse import dots, look_up_sorted, row_products, scale_rows
from jobs.ranking.candidates import Candidates, candidate_keys, generate, places_of
from jobs.ranking.generators import GENERATORS
from jobs.ranking.snapshot import Snapshot

LAST_PLAYS = 5  # last plays of a user, each of which has a feature of its own


def featured_candidates(
    snapshot: Snapshot, users: np.ndarray, length: int | None = None
) -> Candidates:
    """Return the candidates of some users (ascending) with their features.

    Every generator proposes up to `length` tracks for each user, or without a length as many as the
    table of generators says.
    """
    block = snapshot.data.of_users(users)
    scores, lists = generate(snapshot, block, length)
    # Keys have the items' places among ties, so that candidates of equal scores are in that order.
    ties, n = snapshot.data.ties, snapshot.data.shape[1]
    lists = {name: ties.places[listed] for name, listed in lists.items()}
    keys = candidate_keys(lists, n)
    row, place = np.divmod(keys, n)
    item = ties.at[place]
    result = Candidates(row.astype(np.int32), item, snapshot.top_place[item])
    for name, of_generator in lists.items():
        result.places[name] = places_of(of_generator, keys, n)
    _add_scores(result, snapshot, scores, users)
    _add_last_plays(result, snapshot, block)
    _add_context(result, snapshot, block)
    return result


def _add_scores(
    result: Candidates, snapshot: Snapshot, scores: dict[str, csr_matrix], users: np.ndarray
) -> None:
    """Add each generator's score of each candidate, its ratio to the user's best, and the place.

    ALS scores every candidate, not only those of its lists. A generator that is switched off has no
    features, so that it is as if it did not exist: among features that are all 0, each split of the
    ranker would choose from fewer that say something.
    """
    row, item, features = result.row, result.item, result.features
    tastes = {"als": snapshot.user_factors[users]}
    if snapshot.hyperparameters.folds_in:
        block = snapshot.data.of_users(users)
        tastes["als_recent"] = als_model.recent_tastes(
            block, snapshot.item_factors, snapshot.gram, snapshot.hyperparameters
        )
    values = {name: dots(taste, row, snapshot.item_factors, item) for name, taste in tastes.items()}
    for name, generator in GENERATORS.items():
        if not generator.only_places and name not in snapshot.switched_off:
            values[name] = look_up_sorted(scores[name], row, item)
    for name, value in values.items():
        best = np.zeros(row.max(initial=0) + 1, np.float32)
        np.maximum.at(best, row, value)
        features[f"{name}_score"] = value
        features[f"{name}_to_best"] = value / np.maximum(best[row], 1e-9)
    for name, places in result.places.items():
        if name not in snapshot.switched_off:
            features[f"{name}_rank"] = places
    features["generators"] = np.sum(
        [~np.isnan(places) for places in result.places.values()], axis=0
    )


def _add_last_plays(result: Candidates, snapshot: Snapshot, block: Listens) -> None:
    """Add how often the candidate is played soon after each of the user's last plays."""
    row, item, starts = result.row, result.item, block.starts
    for back in range(1, LAST_PLAYS + 1):
        at = starts[1:] - back
        exists = at >= starts[:-1]
        played = block.item[np.where(exists, at, 0)]
        relations = {f"follows_{back}": snapshot.followers}
        if back == 1:
            relations["follows_directly"] = snapshot.directly
        for name, relation in relations.items():
            scores = look_up_sorted(relation[played], row, item)
            result.features[name] = np.where(exists[row], scores, np.float32(0))


def _add_context(result: Candidates, snapshot: Snapshot, block: Listens) -> None:
    """Add features of the track, of the user, and of how both fit by artist, genre, popularity."""
    row, item, features = result.row, result.item, result.features
    for name, values in snapshot.item_features.items():
        features[name] = values[item]
    counts = np.diff(block.starts)
    last_at = block.at[block.starts[1:] - 1]
    plays = block.profiles(None)
    popularity = snapshot.item_features["item_plays"]
    mainstream = (plays @ popularity) / np.maximum(counts, 1)
    features["user_listens"] = np.log1p(counts)[row]
    _, end = snapshot.data.span
    features["user_idle_days"] = ((end - np.minimum(last_at, end)) / SECONDS_A_DAY)[row]
    features["user_mainstream"] = mainstream[row]
    features["popularity_gap"] = popularity[item] - mainstream[row]
    recent = block.profiles(snapshot.hyperparameters.similar_half_life)
    for name, kinds in (("artist", snapshot.artists), ("genre", snapshot.genres)):
        for span, profile in (("recent", recent), ("all", plays)):
            affinity = csr_matrix(profile @ kinds)
            total = np.maximum(np.asarray(affinity.sum(axis=1)).ravel(), 1e-9)
            affinity = scale_rows(affinity, 1 / total)
            features[f"{name}_affinity_{span}"] = row_products(affinity, row, kinds, item)
    for name, values in features.items():
        features[name] = np.asarray(values, np.float32)


def feature_names(snapshot: Snapshot) -> list[str]:
    """Return the names of the features, in the order of Candidates.matrix."""
    return list(
        featured_candidates(snapshot, np.arange(min(1, len(snapshot.data.user_ids)))).features
    )
