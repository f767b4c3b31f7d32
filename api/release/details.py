"""What a release tells people of its tracks: artists, genres, counts. A release may lack it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jobs.contract.blending import Neighbours
from jobs.contract.serving import TREND_PERIODS

MADE_BEFORE = "the release was made by an earlier version: run python -m jobs.publish"
RANKED_BEFORE = (
    "the release was made without what this list is computed from: "
    "run python -m jobs.rank, then python -m jobs.publish"
)
Arrays = Mapping[str, NDArray[Any]]


class Details:
    """The optional arrays of a release; a method returns None if its arrays are not there."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        # what generators are made from: tracks near each track, and near each artist
        self.followers, self.item_weights, self.artist_tracks = (
            Neighbours(*(arrays[f"{name}_{part}"] for part in Neighbours._fields))
            if f"{name}_items" in arrays
            else None
            for name in ("followers", "item_weights", "artist_tracks")
        )
        # the tracks that are expected to be played most, best first
        self.forecast: NDArray[np.int32] | None = arrays.get("forecast_items")

    @property
    def has_names(self) -> bool:
        """Return whether the release has the names of artists and genres."""
        return "artists_items" in self._arrays

    @property
    def has_counts(self) -> bool:
        """Return whether the release has the counts of its tracks."""
        return "listeners_items" in self._arrays

    @property
    def credits(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the offsets and items of each track's artists, which artist_tracks goes with."""
        return self._arrays["credits_offsets"], self._arrays["credits_items"]

    def artists(self, tracks: ArrayLike) -> list[list[str]] | None:
        """Return the names of the artists of each of some tracks."""
        return self._names("artist", tracks)

    def genres(self, tracks: ArrayLike) -> list[list[str]] | None:
        """Return the names of the genres of each of some tracks."""
        return self._names("genre", tracks)

    def listeners(self, track: int) -> int | None:
        """Return how many users have heard a track."""
        return self._count("listeners_items", track)

    def plays(self, track: int) -> int | None:
        """Return how many listens a track has."""
        return self._count("plays_items", track)

    def trend(self, track: int) -> list[int] | None:
        """Return a track's plays in equal parts of the time of all listens, the earliest first."""
        if not self.has_counts:
            return None
        start = track * TREND_PERIODS
        counts: list[int] = self._arrays["trend_items"][start : start + TREND_PERIODS].tolist()
        return counts

    def _count(self, name: str, track: int) -> int | None:
        return int(self._arrays[name][track]) if self.has_counts else None

    def _names(self, kind: str, tracks: ArrayLike) -> list[list[str]] | None:
        arrays = self._arrays
        if f"{kind}s_items" not in arrays:
            return None
        offsets, items = arrays[f"{kind}s_offsets"], arrays[f"{kind}s_items"]
        rows = np.asarray(tracks, np.int64)
        bounds = zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True)
        places = [items[start:end].tolist() for start, end in bounds]
        different = list({place for some in places for place in some})
        names = texts_of(arrays[f"{kind}_names_offsets"], arrays[f"{kind}_names_items"], different)
        name_of = dict(zip(different, names, strict=True))
        return [[name_of[place] for place in some] for some in places]


def texts_of(offsets: NDArray[np.int64], items: NDArray[np.uint8], rows: ArrayLike) -> list[str]:
    """Return the texts in some rows (n,), whose UTF-8 stands in items from offsets[row] on.

    >>> texts_of(np.array([0, 1, 3]), np.frombuffer(b"abc", np.uint8), [1, 0])
    ['bc', 'a']
    """
    content, places = memoryview(items.data), np.asarray(rows, np.int64)
    bounds = zip(offsets[places].tolist(), offsets[places + 1].tolist(), strict=True)
    return [str(content[start:end], "utf-8") for start, end in bounds]
