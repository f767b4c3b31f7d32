"""Synthetic listening histories in which most tracks have one listener, who plays them repeatedly.

Public data sets of a few hundred people with their play counts are like this. The share of tracks
with l listeners is in proportion to 1 / l², so about 60 % of the tracks have one. ALS gives vectors
of equal direction to all tracks that only one and the same user plays, so the search for similar
tracks finds large groups of equally similar tracks.

The pairs of user and track are in memory (8 bytes each). Their plays are drawn for a block of users
at a time, so memory does not grow with the number of listens.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from jobs.contract.ragged import offsets_of, place_in_row, row_of_each
from jobs.runtime.progress import progress_bar
from jobs.synthetic.catalog import DAYS, Catalog, changes
from jobs.synthetic.listens import user_blocks

MOST_USERS = 10_000  # every track is compared with every user
ACTIVITY = 0.8  # standard deviation of the logarithm of users' activity
BY_GENRE, BY_ARTIST = 1.0, 1.5  # standard deviations of a user's liking, added to log activity
REPLAYS = 1.2  # Pareto exponent of the replays of a pair: a smaller one gives a heavier tail
MOST_REPLAYS = 200  # of a pair, before scaling to the requested number of listens
SESSION = 20  # mean plays of a session
SECONDS_A_PLAY = 240  # from the start of a play to the next one of the session
TRACKS_A_BLOCK = 512  # tracks whose listeners are drawn at a time


def schema() -> pa.Schema:
    """Return the schema of interactions.parquet; track_seq is int32, as a user has many plays."""
    columns = {
        "user_id": pd.array([], dtype="int32"),
        "track_id": pd.array([], dtype="int32"),
        "track_seq": pd.array([], dtype="int32"),
        "started_at": np.array([], dtype="datetime64[us]"),
    }
    return pa.Schema.from_pandas(pd.DataFrame(columns), preserve_index=False)


def listeners_of_tracks(n_tracks: int, n_users: int) -> np.ndarray:
    """Return the number of listeners of each track, ascending, (n_tracks,).

    The share of tracks with l listeners is in proportion to 1 / l². With 500 users, 61 % have one
    listener and 15 % have two.

    >>> listeners_of_tracks(10, 500).tolist()
    [1, 1, 1, 1, 1, 1, 2, 2, 4, 12]
    """
    shares = np.cumsum(1 / np.arange(1, n_users + 1) ** 2)
    points = (np.arange(n_tracks) + 0.5) / n_tracks
    listeners: np.ndarray = np.searchsorted(shares / shares[-1], points) + 1
    return listeners


def draw_pairs(
    rng: np.random.Generator, catalog: Catalog, n_users: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the pairs of a user and a track that the user hears: users (n,), track positions (n,).

    The pairs are sorted by user and position, and none comes twice. Each user hears at least one
    track, so there must be at least as many tracks as users. The listeners of a track are the users
    with the largest sum of activity, liking of its genre, liking of its artist, and Gumbel noise.
    Taking the largest sums with Gumbel noise is weighted drawing without replacement.
    """
    n_tracks = len(catalog.track_id)
    listeners = np.empty(n_tracks, np.int64)
    listeners[np.argsort(catalog.popularity, kind="stable")] = listeners_of_tracks(
        n_tracks, n_users
    )
    activity = rng.normal(0, ACTIVITY, n_users)
    by_genre = rng.normal(0, BY_GENRE, (catalog.genre[-1] + 1, n_users))
    assigned = np.full(n_tracks, -1)  # a user who hears the track in any case
    assigned[rng.choice(n_tracks, n_users, replace=False)] = np.arange(n_users)
    by_artist = np.empty((0, n_users))
    pairs = []
    for first in range(0, n_tracks, TRACKS_A_BLOCK):
        block = slice(first, first + TRACKS_A_BLOCK)
        artist = catalog.artist[block]
        # An artist with tracks in two blocks keeps the likings of the block before.
        before = by_artist[-1:] if first and artist[0] == catalog.artist[first - 1] else None
        by_artist = rng.normal(0, BY_ARTIST, (artist[-1] - artist[0] + 1, n_users))
        if before is not None:
            by_artist[0] = before
        appeal = activity + by_genre[catalog.genre[block]] + by_artist[artist - artist[0]]
        appeal += rng.gumbel(size=appeal.shape)
        fixed = assigned[block]
        appeal[np.flatnonzero(fixed >= 0), fixed[fixed >= 0]] = np.inf
        place = np.arange(n_users) < listeners[block, None]
        user = np.argsort(-appeal, axis=1)[place]
        pairs.append(
            user * n_tracks + np.repeat(np.arange(first, first + len(fixed)), place.sum(1))
        )
    packed = np.sort(np.concatenate(pairs))
    return packed // n_tracks, packed % n_tracks


def draw_plays(rng: np.random.Generator, n_pairs: int, n_listens: int) -> np.ndarray:
    """Draw the number of plays of each pair, (n_pairs,): at least 1 each, n_listens in all."""
    weight = np.cumsum(np.minimum(rng.pareto(REPLAYS, n_pairs), MOST_REPLAYS))
    replays = np.rint(weight / weight[-1] * (n_listens - n_pairs)).astype(np.int64)
    plays: np.ndarray = 1 + np.diff(replays, prepend=0)
    return plays


def interactions(
    catalog: Catalog, user_ids: np.ndarray, first_day: np.datetime64, n_listens: int, seed: int
) -> Iterator[pa.Table]:
    """Yield the rows of interactions.parquet by user and time, a block of users at a time."""
    rng = np.random.default_rng(seed)
    user, track = draw_pairs(rng, catalog, len(user_ids))
    plays = draw_plays(rng, len(user), n_listens)
    counts = np.bincount(user, plays, len(user_ids)).astype(np.int64)
    with progress_bar(total=n_listens, unit=" listens", unit_scale=True) as progress:
        for block, users in enumerate(user_blocks(counts)):
            count = counts[users]
            pairs = slice(*np.searchsorted(user, [users.start, users.stop]))
            second, position = draw_times(
                np.random.default_rng([seed, block]), np.repeat(track[pairs], plays[pairs]), count
            )
            place = place_in_row(count)
            columns = [
                np.repeat(user_ids[users], count).astype(np.int32),
                catalog.track_id[position].astype(np.int32),
                (place + 1).astype(np.int32),
                (first_day + second.astype("timedelta64[s]")).astype("datetime64[us]"),
            ]
            yield pa.table(columns, schema=schema())
            progress.update(len(second))


def draw_times(
    rng: np.random.Generator, track: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Spread plays over sessions of the year; return their seconds and tracks, by user and time.

    `track` (n,) has the track of each play, user by user, and `count` the plays of each user. The
    seconds count from the start of the year. The plays of a session are in the order of the
    catalogue, so artist by artist.
    """
    user = row_of_each(count)
    sessions = -(-count // SESSION)
    first = offsets_of(sessions)[:-1]
    start = rng.integers(DAYS * 86_400, size=int(sessions.sum()))
    session = first[user] + rng.integers(sessions[user])
    order = np.lexsort((track, session))
    session, track = session[order], track[order]
    begins = np.flatnonzero(changes(session))
    place = place_in_row(np.diff(begins, append=len(session)))
    second = start[session] + SECONDS_A_PLAY * place
    by_time = np.lexsort((second, user))  # so far the sessions are not in order of time
    return second[by_time], track[by_time]
