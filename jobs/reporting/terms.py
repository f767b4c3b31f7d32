"""The names under which the console and the pages show lists, features and metrics.

metrics.json and ranking.json keep short names as keys; people read the names given here.
"""

import re

from jobs.contract.results import Metrics, Scores

FINAL, TOP, PERSONAL, BEST = (
    "final list", "top popular", "personal ALS", "best single generator"
)  # fmt: skip


GENERATORS = {  # by key: the name, and what the generator proposes
    "popular": (TOP, "The tracks that most people play, recent plays first."),
    "forecast": (
        "forecast",
        "The tracks that most users are expected to play for the first time soon.",
    ),
    "als": (
        PERSONAL,
        "The tracks nearest to the user in the factor model (alternating least squares).",
    ),
    "next_played": (
        "next played",
        "The tracks that people play soon after the tracks that the user played.",
    ),
    "after_last": (
        "after last plays",
        "The tracks that people play soon after the very last tracks that the user played.",
    ),
    "similar": (
        "similar tracks",
        "The tracks nearest in the factor model to those that the user played.",
    ),
    "artist": ("same artists", "Other tracks of the artists that the user played."),
    "user_knn": (
        "similar users",
        "The tracks that the users with the most similar taste have played.",
    ),
    "sequence_knn": (
        "similar sequences",
        "The tracks that others played next where they had played the same as the user lately.",
    ),
    "ease": (
        "item weights",
        "The tracks for which the tracks that the user played say most, by the linear model EASE.",
    ),
    "replayed": ("played before", "The tracks that the user played already."),
    "new_tracks": (
        "new tracks",
        "The tracks without a listen that are nearest to the user, by their artists and genres.",
    ),
}


METRICS = {  # by key: the name, and what the metric measures, for the first 10 places of a list
    "ndcg": (
        "NDCG",
        "How many of the tracks were played afterwards, where higher places count more: 1 is the "
        "best possible list, 0 a list without a hit.",
    ),
    "precision": ("precision", "The share of the listed tracks that were played afterwards."),
    "recall": ("recall", "The share of the tracks played afterwards that are in the list."),
    "hit": ("hit rate", "The share of users with at least one such track in their list."),
    "map": (
        "MAP",
        "Mean average precision: the precision at the place of each hit, summed and divided by "
        "the number of tracks played afterwards.",
    ),
    "coverage": (
        "coverage",
        "The share of the played tracks that are in the list of at least one user.",
    ),
    "novelty": ("novelty", "How few users had played the listed tracks: −log₂ of their share."),
    "popularity": ("popularity", "The mean share of users who had played a listed track."),
    "diversity": ("diversity", "1 − the mean similarity of the listed tracks, two by two."),
    "serendipity": (
        "serendipity",
        "The share of the listed tracks that were played afterwards and that the top list of the "
        "same length would not have shown.",
    ),
}


SEGMENTS = {  # of users and tracks, by key
    "all": "all users and tracks",
    "cold": "new users",
    "few plays": "users with few plays",
    "medium plays": "users with medium plays",
    "many plays": "users with many plays",
    "heavy repeaters": "users who repeat most",
    "head tracks": "most played tracks",
    "mid tracks": "medium played tracks",
    "tail tracks": "least played tracks",
    "new tracks": "tracks without a play before",
}


_FEATURES = {
    "generators": "generators that propose the track",
    "follows_directly": "often played directly after the last play",
    "item_plays": "plays of the track",
    "item_age_days": "days since the track's first play",
    "item_idle_days": "days since the track's last play",
    "user_listens": "plays of the user",
    "user_idle_days": "days since the user's last play",
    "user_mainstream": "mean popularity of what the user plays",
    "popularity_gap": "popularity of the track against what the user plays",
    "artist_affinity_recent": "the track's artists in the user's recent plays",
    "artist_affinity_all": "the track's artists in all plays of the user",
    "genre_affinity_recent": "the track's genres in the user's recent plays",
    "genre_affinity_all": "the track's genres in all plays of the user",
}


_FEATURE_KINDS = {  # patterns with a group for what they are about
    r"(.+)_recent_score": "{} by recent plays: score",
    r"(.+)_recent_to_best": "{} by recent plays: relative score",
    r"(.+)_score": "{}: score",
    r"(.+)_to_best": "{}: relative score",
    r"(.+)_rank": "{}: rank",
    r"follows_(\d+)": "often played after the user's last play but {}",
    r"item_plays_last_(.+)": "listeners of the track in the last {} of all plays",
    r"item_trend_(.+)": "trend of the track in the last {} of all plays",
}


def list_name(key: str) -> str:
    """Return the name of a generator; other lists, as baselines, are named by their keys."""
    name, _ = GENERATORS.get(key, (key, ""))
    return name


def metric_name(key: str) -> str:
    """Return the name of a metric."""
    name, _ = METRICS[key]
    return name


def feature_name(key: str) -> str:
    """Return the name of a feature of the ranker; one that is not known here keeps its key."""
    if key in _FEATURES:
        return _FEATURES[key]
    for pattern, form in _FEATURE_KINDS.items():
        if match := re.fullmatch(pattern, key):
            return form.format(list_name(match[1]))
    return key


def three_lists(content: Metrics) -> dict[str, Scores]:
    """Return the metrics of top popular, personal ALS and the final list, as users get them.

    By name, kind of user ("all", "warm", "cold"), length ("@10") and metric. Each list is continued
    by the top list where it is too short, so a new user gets the top list from all three. (In
    `content.lists` personal ALS is the file alone, without a list for new users.)
    """
    generators = content.generators
    return {
        TOP: generators["popular"],
        PERSONAL: generators["als"],
        FINAL: content.lists[FINAL],
    }
