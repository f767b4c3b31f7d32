"""Make up the catalogue of the synthetic sample: its tracks, artists, albums, genres and names.

Tracks are sorted by family → genre → scene → artist → album. So the tracks of an artist (or of any
other level) are a run of neighbouring positions, and drawing a track of that artist is drawing from
a range of positions. A scene is a group of related artists. The numbers are fitted to a real
catalogue of a million tracks: 6.5 tracks an artist, 1.64 genres a track, popularity that falls as a
power of the rank.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.contract.ragged import offsets_of
from jobs.synthetic.names import (
    FAMILIES,
    GENRES_IN_ALL,
    REGIONS,
    WELL_KNOWN,
    draw_album_names,
    draw_artist_names,
    draw_collection_names,
    draw_titles,
)

TRACKS_PER_ARTIST = 6.5
TRACKS_PER_ALBUM = 2.2
ARTISTS_PER_SCENE = 12
COLLECTIONS_PER_TRACK = 0.15  # collections: albums by many artists
IN_COLLECTION = 0.3  # share of tracks that are on a collection
FEATURING = 0.12  # share of tracks with a second artist, of the same scene
GENRE_COUNTS = (0.385, 0.592, 0.023)  # shares of tracks with one, two and three genres
NO_ALBUM, NO_ARTIST, NO_GENRE = 18e-6, 15_369e-6, 3_687e-6  # shares of tracks without one
UNNAMED_GENRES = 30  # number of genre ids that have no name in the catalogue
WITH_UNNAMED_GENRE = 0.048  # share of tracks with such a genre
SHARED_IDS = 0.033  # share of albums and artists whose id is also the id of a track
MIN_ID, MAX_ID = 26, 101_521_819  # range of the made-up ids
TOP_SHARE = 0.12  # share of users that hear the most popular track
HEAD = 20  # ranks over which popularity is nearly flat
# Added to the appeal of tracks that are released during the year of listens. Between artists, the
# standard deviation of appeal is 1.
NEW_APPEAL = 0.7
OLDEST, DAYS = -2000, 365  # release days go from OLDEST to DAYS - 1; 0 is the first day of listens


@dataclass(frozen=True)
class Catalog:
    """T tracks in catalogue order.

    The fields from family to album number the runs of neighbouring tracks, ascending from 0: tracks
    of one artist, and no others, have the same number in `artist`.
    """

    track_id: np.ndarray  # (T,) int64
    known: np.ndarray  # (T,) row in WELL_KNOWN, -1 for made-up tracks
    family: np.ndarray  # (T,) a run number, not a row of FAMILIES: a family can have no tracks
    genre: np.ndarray
    scene: np.ndarray
    artist: np.ndarray
    album: np.ndarray
    genre_id: np.ndarray  # (T,) position in the lists of genre_table()
    popularity: np.ndarray  # (T,) expected listens a user, sums to the mean listens of a user
    release: np.ndarray  # (T,) day of release; 0 is the first day of listens


def genre_table() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the genres, family by family: names, families and shares of the tracks."""
    families = [names.split() for _, names in FAMILIES]
    extra = GENRES_IN_ALL - sum(map(len, families))
    for i in range(extra):
        family = families[i % len(families)]
        region = REGIONS[i // len(families) % len(REGIONS)]
        family.append(f"{region}-{family[i // (len(families) * len(REGIONS))]}")
    names = [name for family in families for name in family]
    of_family = np.repeat(np.arange(len(families)), [len(family) for family in families])
    share = np.concatenate(
        [
            total * _normed(1 / (np.arange(len(family)) + 1.5))
            for (total, _), family in zip(FAMILIES, families, strict=True)
        ]
    )
    return names, of_family, _normed(share)


def make_catalog(rng: np.random.Generator, n_tracks: int, mean_listens: float) -> Catalog:
    """Make a catalogue for users with `mean_listens` listens on average."""
    names, of_family, share = genre_table()
    known = np.arange(min(n_tracks, len(WELL_KNOWN)))
    known_genre = np.array([names.index(WELL_KNOWN[i][4]) for i in known])
    points = (np.arange(n_tracks - len(known)) + 0.5) / max(1, n_tracks - len(known))
    genre_id = np.concatenate([known_genre, np.searchsorted(np.cumsum(share)[:-1], points)])
    known = np.concatenate([known, np.full(len(points), -1)])
    by_artist = np.argsort(_number(known, 2), kind="stable")  # well-known tracks first
    order = by_artist[np.argsort(genre_id[by_artist], kind="stable")]
    genre_id, known = genre_id[order], known[order]

    made_up = known < 0
    new_family, new_genre = changes(of_family[genre_id]), changes(genre_id)
    new_artist = new_genre | changes(_number(known, 2))
    new_artist |= made_up & (rng.random(n_tracks) < 1 / TRACKS_PER_ARTIST)
    new_album = new_artist | changes(_number(known, 3))
    new_album |= made_up & (rng.random(n_tracks) < 1 / TRACKS_PER_ALBUM)
    new_scene = new_genre | new_artist & made_up & (rng.random(n_tracks) < 1 / ARTISTS_PER_SCENE)
    artist, album = np.cumsum(new_artist) - 1, np.cumsum(new_album) - 1

    appeal = rng.normal(size=artist[-1] + 1)[artist] + 0.8 * rng.normal(size=n_tracks)
    appeal[~made_up] = appeal.max() + len(WELL_KNOWN) - known[~made_up]
    release = np.where(made_up, rng.integers(OLDEST, DAYS, size=album[-1] + 1)[album], OLDEST)
    appeal[release >= 0] += NEW_APPEAL
    rank = np.empty(n_tracks, dtype=np.int64)
    rank[np.argsort(-appeal)] = np.arange(n_tracks)
    return Catalog(
        track_id=_track_ids(rng, known),
        known=known,
        family=np.cumsum(new_family) - 1,
        genre=np.cumsum(new_genre) - 1,
        scene=np.cumsum(new_scene) - 1,
        artist=artist,
        album=album,
        genre_id=genre_id,
        popularity=popularity(n_tracks, mean_listens)[rank],
        release=release,
    )


def popularity(n_tracks: int, mean_listens: float) -> np.ndarray:
    """Return the expected listens of each track by a user, by rank, (n_tracks,).

    Their sum is mean_listens. They start at about TOP_SHARE, fall as a power of the rank, and
    are nearly 0 at the last rank.
    """
    rank = np.arange(n_tracks)
    # Find the exponent that gives the sum by bisection: a larger exponent gives a smaller sum.
    low, high = 0.0, 4.0
    for _ in range(50):
        exponent = (low + high) / 2
        shares = TOP_SHARE * (1 + rank / HEAD) ** -exponent * (1 - rank / n_tracks)
        low, high = (exponent, high) if shares.sum() > mean_listens else (low, exponent)
    result: np.ndarray = shares * (mean_listens / shares.sum())
    return result


def catalog_tables(rng: np.random.Generator, catalog: Catalog) -> tuple[pa.Table, pa.Table]:
    """Return the tables of tracks.parquet, by id, and of catalog_names.parquet, by type and id."""
    n_artists, n_albums = int(catalog.artist[-1]) + 1, int(catalog.album[-1]) + 1
    n_collections = int(COLLECTIONS_PER_TRACK * len(catalog.track_id))
    artist_ids = _shared_ids(rng, n_artists, catalog.track_id)
    album_ids = _shared_ids(rng, n_albums + n_collections, catalog.track_id)
    tracks = _tracks_table(rng, catalog, artist_ids, album_ids)
    return tracks, _names_table(rng, catalog, artist_ids, album_ids)


def _tracks_table(
    rng: np.random.Generator, catalog: Catalog, artist_ids: np.ndarray, album_ids: np.ndarray
) -> pa.Table:
    n_tracks, n_albums = len(catalog.track_id), int(catalog.album[-1]) + 1
    collection = np.full(n_tracks, -1)
    if len(album_ids) > n_albums:
        collection = rng.integers(n_albums, len(album_ids), size=n_tracks)
        collection[rng.random(n_tracks) >= IN_COLLECTION] = -1
    albums = _present(catalog.album, collection, ids=album_ids)
    artists = _present(catalog.artist, _featured(rng, catalog), ids=artist_ids)
    genres = _genres(rng, catalog)
    for lists, share in ((albums, NO_ALBUM), (artists, NO_ARTIST), (genres, NO_GENRE)):
        lists[_without(rng, catalog, share)] = -1
    order = np.argsort(catalog.track_id)
    return pa.table(
        {
            "track_id": catalog.track_id[order],
            "albums": _list_array(albums[order]),
            "artists": _list_array(artists[order]),
            "genres": _list_array(genres[order]),
        }
    )


def _names_table(
    rng: np.random.Generator, catalog: Catalog, artist_ids: np.ndarray, album_ids: np.ndarray
) -> pa.Table:
    titles = draw_titles(rng, catalog.known)
    first = np.flatnonzero(changes(catalog.album))
    albums = draw_album_names(rng, catalog.known[first], titles.take(pa.array(first)))
    collections = draw_collection_names(rng, len(album_ids) - len(first))
    artists = draw_artist_names(rng, catalog.known[changes(catalog.artist)])
    genres = pa.array(genre_table()[0])
    parts = (
        ("album", album_ids, pa.concat_arrays([albums, collections])),
        ("artist", artist_ids, artists),
        ("genre", np.arange(1, len(genres) + 1), genres),
        ("track", catalog.track_id, titles),
    )
    return pa.concat_tables(_names_of(*part) for part in parts)


def _names_of(kind: str, ids: np.ndarray, names: pa.Array) -> pa.Table:
    order = np.argsort(ids)
    kinds = pa.array([kind]).take(pa.array(np.zeros(len(ids), dtype=np.int64)))
    return pa.table({"id": ids[order].astype(np.int64), "type": kinds, "name": names.take(order)})


def _track_ids(rng: np.random.Generator, known: np.ndarray) -> np.ndarray:
    result = np.empty(len(known), dtype=np.int64)
    ids = np.array([row[0] for row in WELL_KNOWN])
    result[known >= 0] = ids[known[known >= 0]]
    result[known < 0] = _distinct_ids(rng, int((known < 0).sum()), ids)
    return result


def _shared_ids(rng: np.random.Generator, n: int, track_ids: np.ndarray) -> np.ndarray:
    """Return n different ids, a few of which are also the ids of tracks."""
    n_shared = min(round(SHARED_IDS * n), len(track_ids))
    shared = rng.choice(track_ids, n_shared, replace=False)
    return rng.permutation(np.concatenate([shared, _distinct_ids(rng, n - n_shared, shared)]))


def _distinct_ids(rng: np.random.Generator, n: int, taken: np.ndarray) -> np.ndarray:
    """Return n different ids in random order, none of which is in `taken`."""
    drawn = rng.integers(MIN_ID, MAX_ID + 1, size=2 * n + 100)
    _, first = np.unique(drawn, return_index=True)
    drawn = drawn[np.sort(first)]
    return drawn[~np.isin(drawn, taken)][:n]


def _featured(rng: np.random.Generator, catalog: Catalog) -> np.ndarray:
    """Return the second artist of each track, of the same scene, or -1 for none: (T,)."""
    start = np.flatnonzero(changes(catalog.scene))
    stop = np.append(start[1:], len(catalog.scene))
    position = rng.integers(start[catalog.scene], stop[catalog.scene])
    other = catalog.artist[position]
    alone = (rng.random(len(other)) >= FEATURING) | (other == catalog.artist)
    return np.where(alone | (catalog.known >= 0), -1, other)


def _genres(rng: np.random.Generator, catalog: Catalog) -> np.ndarray:
    """Return the genre ids of each track, (T, 3), -1 for none.

    The first is the genre of catalog.genre_id; the others are of its family, often the family's
    first genre.
    """
    _, of_family, _ = genre_table()
    first = np.searchsorted(of_family, of_family[catalog.genre_id])
    last = np.searchsorted(of_family, of_family[catalog.genre_id], side="right")
    step = rng.integers(1, last - first)
    other = first + (catalog.genre_id - first + step) % (last - first)
    second = np.where((first != catalog.genre_id) & (rng.random(len(first)) < 0.7), first, other)
    third = rng.integers(first, last)
    result = np.stack([catalog.genre_id, second, third], axis=1) + 1
    count = rng.random(len(first))
    result[count < GENRE_COUNTS[0], 1] = -1
    result[count < sum(GENRE_COUNTS[:2]), 2] = -1
    unnamed = (rng.random(len(first)) < WITH_UNNAMED_GENRE) & (catalog.known < 0)
    ids = GENRES_IN_ALL + 1 + rng.integers(UNNAMED_GENRES, size=len(first))
    column = (result[:, 1] > 0).astype(np.int64)
    result[unnamed, column[unnamed]] = ids[unnamed]
    for i, j in ((1, 0), (2, 0), (2, 1)):  # each genre once
        result[result[:, i] == result[:, j], i] = -1
    return result


def _without(rng: np.random.Generator, catalog: Catalog, share: float) -> np.ndarray:
    """Draw the positions of a share of the tracks, all of them made-up, and at least one."""
    made_up = np.flatnonzero(catalog.known < 0)
    count = min(len(made_up), max(1, round(share * len(catalog.known))))
    return rng.choice(made_up, count, replace=False)


def _present(first: np.ndarray, second: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the ids of two columns of indices into ids, (T, 2); -1 stays -1."""
    indices = np.stack([first, second], axis=1)
    return np.where(indices < 0, -1, ids[indices])


def _list_array(rows: np.ndarray) -> pa.ListArray:
    """Return a list for each row: its values without -1."""
    present = rows >= 0
    offsets = offsets_of(present.sum(axis=1)).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(rows[present]))


def _number(known: np.ndarray, column: int) -> np.ndarray:
    """Number the tracks by artist (column 2) or album (3); made-up ones get the last number."""
    values = [(row[2], row[3])[: column - 1] for row in WELL_KNOWN]
    number = {value: i for i, value in enumerate(dict.fromkeys(values))}
    numbers = np.array([number[value] for value in values] + [len(number)])
    result: np.ndarray = numbers[known]
    return result


def changes(values: np.ndarray) -> np.ndarray:
    """Return where a value differs from the one before it, and True for the first: (n,) bool.

    >>> changes(np.array([7, 7, 5, 7])).tolist()
    [True, False, True, True]
    """
    result = np.ones(len(values), dtype=bool)
    result[1:] = values[1:] != values[:-1]
    return result


def _normed(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = values / values.sum()
    return result
