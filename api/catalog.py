"""One release, opened once and read-only: who heard what, which lists, which neighbours.

Inside, tracks are positions in the sorted track ids; the user's own ids appear at the edge only.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from api import release
from api.blending import Source, Tracks, merge_neighbours, without

NO_TRACKS: Tracks = np.empty(0, np.int32)
BLOCK = 256  # tracks of the top list that are looked at in one go


class Catalog:
    """The lists of one release. `overrides` take the place of parts of its blending."""

    def __init__(self, folder: Path, overrides: dict[str, Any]) -> None:
        """Open and check the release in `folder`; ReleaseError where it can't be served."""
        manifest = release.check(folder)
        arrays = release.arrays(folder)
        self.id = manifest.id
        self.blending = msgspec.structs.replace(manifest.settings.blending, **overrides)
        self.excludes_heard = manifest.settings.heard == "exclude"
        self._user_ids, self._track_ids = arrays["user_ids"], arrays["track_ids"]
        self._top = arrays["top_items"]
        self._arrays = arrays

    @property
    def n_users(self) -> int:
        """Users with a history or a final list."""
        return len(self._user_ids)

    @property
    def n_tracks(self) -> int:
        """Tracks that the release knows."""
        return len(self._track_ids)

    @property
    def n_top(self) -> int:
        """Length of the top list: the tracks that anyone listened to."""
        return len(self._top)

    def of_user(self, user_id: int) -> tuple[Tracks, Tracks]:
        """The user's final list, best first, and heard tracks, ascending; both empty if unknown.

        In a release that includes heard tracks, none counts as heard.
        """
        row = _find(self._user_ids, user_id)
        if row < 0:
            return NO_TRACKS, NO_TRACKS
        offline = self._list("recommendations", row)
        return offline, self._list("heard", row) if self.excludes_heard else NO_TRACKS

    def near(self, item_ids: Sequence[int], n: int, source: Source) -> Tracks:
        """The first n neighbours of each item, merged; an unknown item brings none."""
        if not item_ids or not len(self._track_ids):
            return NO_TRACKS
        keys = np.array(item_ids, np.int64)
        rows = self._track_ids.searchsorted(keys)
        rows[rows == len(self._track_ids)] = 0
        rows = rows[self._track_ids[rows] == keys]
        offsets = self._arrays[f"{source}_offsets"]
        starts = offsets[rows]
        counts = np.minimum(offsets[rows + 1] - starts, n)
        ends = counts.cumsum()  # of each item's part in the flat result
        places = np.repeat(starts - ends + counts, counts)
        places += np.arange(len(places))
        items, scores = self._arrays[f"{source}_items"], self._arrays[f"{source}_scores"]
        return merge_neighbours(items[places], scores[places])

    def top_ids(self, heard: Tracks) -> Iterator[int]:
        """The ids of the top list without heard tracks, found block by block as they are read."""
        for start in range(0, len(self._top), BLOCK):
            yield from self.ids(without(self._top[start : start + BLOCK], heard))

    def ids(self, tracks: Tracks) -> list[int]:
        """The user's own ids of tracks."""
        ids: list[int] = self._track_ids[tracks].tolist()
        return ids

    def _list(self, name: str, row: int) -> Tracks:
        offsets = self._arrays[f"{name}_offsets"]
        return self._arrays[f"{name}_items"][offsets[row] : offsets[row + 1]]


def _find(ids: NDArray[np.int64], key: int) -> int:
    """Where the key stands in the sorted ids, or -1.

    The key must be of the array's type: for a Python int, searchsorted converts the whole array.
    """
    place = int(ids.searchsorted(np.int64(key)))
    return place if place < len(ids) and ids[place] == key else -1
