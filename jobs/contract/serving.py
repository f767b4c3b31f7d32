"""The arrays of a release that the service maps into memory: names and types."""

from typing import Any

import numpy as np

SERVING_ARRAYS: dict[str, np.dtype[Any]] = {
    "track_ids": np.dtype(np.int64),
    "track_texts": np.dtype(np.uint8),  # see serving_arrays.texts
    "names_offsets": np.dtype(np.int64),
    "names_items": np.dtype(np.uint8),  # UTF-8; nothing where a track has no name
    "user_ids": np.dtype(np.int64),  # users with a history or a final list
    "top_items": np.dtype(np.int32),  # the top list, best first
    "recommendations_offsets": np.dtype(np.int64),
    "recommendations_items": np.dtype(
        np.int32
    ),  # best first, without tracks that may not be served
    "history_offsets": np.dtype(np.int64),
    "history_items": np.dtype(np.int32),  # every listen, oldest first
    "similar_offsets": np.dtype(np.int64),
    "similar_items": np.dtype(np.int32),  # best first
    "similar_scores": np.dtype(np.float32),
    "next_played_offsets": np.dtype(np.int64),
    "next_played_items": np.dtype(np.int32),  # best first
    "next_played_scores": np.dtype(np.float32),
    # the ALS vectors of tracks: see top_k.NormOrder and fold_in.FoldInModel
    "als_items": np.dtype(np.int32),  # from the longest vector to the shortest
    "als_places": np.dtype(np.int32),  # each track's place in that order
    "als_norms": np.dtype(np.float32),
    "als_vectors": np.dtype(np.float16),  # one after the other
    "als_gram": np.dtype(np.float32),  # row by row
}

# Types that arrays have in releases of earlier versions:
EARLIER_TYPES: dict[str, np.dtype[Any]] = {"als_vectors": np.dtype(np.float32)}

# Arrays that a release may lack, since it was made before, or since nothing is to be told:
OPTIONAL_ARRAYS: dict[str, np.dtype[Any]] = {
    "shown_items": np.dtype(np.int32),  # the track under which each track's song is shown
    "disliked_offsets": np.dtype(np.int64),  # of each user
    "disliked_items": np.dtype(np.int32),  # tracks that no answer may have, as they are shown
    # names of artists and genres: those of a track are places among the distinct names
    "artists_offsets": np.dtype(np.int64),
    "artists_items": np.dtype(np.int32),
    "artist_names_offsets": np.dtype(np.int64),
    "artist_names_items": np.dtype(np.uint8),  # UTF-8
    "genres_offsets": np.dtype(np.int64),
    "genres_items": np.dtype(np.int32),
    "genre_names_offsets": np.dtype(np.int64),
    "genre_names_items": np.dtype(np.uint8),
    "listeners_items": np.dtype(np.int32),  # of each track
    "plays_items": np.dtype(np.int32),
    "trend_items": np.dtype(np.int32),  # TREND_PERIODS numbers of plays for each track
    # followers.parquet, from which two generators are made
    "followers_offsets": np.dtype(np.int64),
    "followers_items": np.dtype(np.int32),
    "followers_scores": np.dtype(np.float32),
    # what the generators artist, ease and forecast are made from: each track's artists (by number),
    # and each artist's most played tracks; the weights of item_weights.parquet; the tracks of
    # forecast.parquet, best first
    "credits_offsets": np.dtype(np.int64),
    "credits_items": np.dtype(np.int32),
    "artist_tracks_offsets": np.dtype(np.int64),
    "artist_tracks_items": np.dtype(np.int32),
    "artist_tracks_scores": np.dtype(np.float32),
    "item_weights_offsets": np.dtype(np.int64),
    "item_weights_items": np.dtype(np.int32),
    "item_weights_scores": np.dtype(np.float32),
    "forecast_items": np.dtype(np.int32),
    # where ids are text: the text that each number of user_ids or track_ids stands for, in UTF-8
    **{
        f"{kind}_keys_{part}": np.dtype(dtype)
        for kind in ("user", "track")
        for part, dtype in (("offsets", np.int64), ("items", np.uint8))
    },
}


TREND_PERIODS = 12  # equal parts of the time from the first listen to the last
