"""One release, opened once and read-only: who heard what, which lists, which neighbours.

Inside, tracks are positions in the sorted track ids; the user's own ids appear at the edge only.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from api.release import loader
from jobs.contract.blending import LISTED, NO_TRACKS, Neighbours, Tracks, in_growing_blocks
from jobs.contract.ids import find

ROWS_REMEMBERED = 1 << 16


class Catalog:
    """The lists of one release. `overrides` take the place of parts of its blending."""

    def __init__(self, folder: Path, overrides: dict[str, Any], hashes: bool = True) -> None:
        """Open and check the release in `folder`; ReleaseError where it can't be served."""
        manifest = loader.check(folder, hashes)
        arrays = loader.arrays(folder)
        self.id = manifest.id
        self.created_at = _utc(manifest.created_at)
        self.data_until = manifest.data.last if manifest.data else None
        self.blending = msgspec.structs.replace(manifest.settings.blending, **overrides)
        self._forgotten_until = manifest.forgotten_until
        self._forgotten: set[int] = set()
        self.excludes_heard = manifest.settings.heard == "exclude"
        self._user_ids, self._track_ids = arrays["user_ids"], arrays["track_ids"]
        # where the user stands; -1 for one whom the release doesn't know, or is to forget
        self.row = lru_cache(ROWS_REMEMBERED)(partial(_row, self._user_ids, self._forgotten))
        self._track_texts = loader.texts(arrays)
        self._top = arrays["top_items"]
        self._lists = {
            name: (arrays[f"{name}_offsets"], arrays[f"{name}_items"])
            for name in ("recommendations", "history", "names")
        }
        self.neighbours: dict[str, Neighbours] = {
            name: Neighbours(*(arrays[f"{name}_{part}"] for part in Neighbours._fields))
            for name in LISTED
        }
        folds_in = self.blending.rule != "offline" and "fold_in" in self.blending.weights()
        self.model = loader.model(arrays, manifest.settings) if folds_in else None

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

    def forget(self, until: Mapping[int, int]) -> None:
        """Take those for unknown whose tombstone is newer than what the release obeys."""
        self._forgotten |= {user for user, at in until.items() if at > self._forgotten_until}
        self.row.cache_clear()

    def final(self, row: int) -> Tracks:
        """The user's final list, best first; empty for one who has none."""
        return self._list("recommendations", row)

    def history(self, row: int) -> Tracks:
        """What the user has listened to, oldest first."""
        return self._list("history", row)

    def knows(self, item_id: int) -> bool:
        """Whether it is a track of the release."""
        return _find(self._track_ids, item_id) >= 0

    def positions(self, item_ids: Sequence[int]) -> Tracks:
        """Where the items stand; -1 for one that the release doesn't know."""
        if not item_ids or not self.n_tracks:
            return NO_TRACKS
        return find(self._track_ids, np.array(item_ids, np.int64)).astype(np.int32)

    def name(self, track: int) -> str | None:
        """The track's name, if the catalogue has one."""
        return self._list("names", track).tobytes().decode() or None

    def top(self, n: int) -> Tracks:
        """The first n tracks of the top list."""
        return self._top[:n]

    def offline(self, final: Tracks) -> Iterator[Tracks]:
        """A user's final list, then the top list, block by block as they are read."""
        return chain([final], in_growing_blocks(self._top))

    def ids(self, tracks: Tracks) -> list[int]:
        """The user's own ids of tracks."""
        ids: list[int] = self._track_ids[tracks].tolist()
        return ids

    def text(self, tracks: Tracks) -> bytes:
        """The user's own ids of tracks as a JSON list."""
        # each text has blanks in front of it, up to one width
        return b"[%b]" % self._track_texts.take(tracks).tobytes()[:-1].translate(None, b" ")

    def _list(self, name: str, row: int) -> Tracks:
        if row < 0:
            return NO_TRACKS
        offsets, items = self._lists[name]
        return items[offsets[row] : offsets[row + 1]]


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _row(ids: NDArray[np.int64], forgotten: set[int], user_id: int) -> int:
    return -1 if user_id in forgotten else _find(ids, user_id)


def _find(ids: NDArray[np.int64], key: int) -> int:
    """Where the key stands in the sorted ids, or -1.

    The key must be of the array's type: for a Python int, searchsorted converts the whole array.
    """
    place = int(ids.searchsorted(np.int64(key)))
    return place if place < len(ids) and ids[place] == key else -1
