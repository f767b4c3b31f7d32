"""The data of one release, read-only: histories, final lists, neighbours, names.

Tracks are handled as positions in the sorted track ids. Only `ids` and `text` return track ids. An
id is a whole number or a text, by the kinds that the release states.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from api.release import kernels, loader
from api.release.details import Details, texts_of
from api.release.keys import Keys, Places
from api.release.search_index import open_index
from api.schemas import NamedTrack
from jobs.contract.blending import LISTED, NO_TRACKS, Neighbours, Tracks, in_growing_blocks
from jobs.contract.ids import find, ties_of
from jobs.contract.journal import Events, Id

ROWS_REMEMBERED = 1 << 16  # users whose row is cached
KEY_PARTS = ("offsets", "items")

Name = Callable[[Any], int | bytes]  # from a user id to what a tombstone is stored under


def _same(user_id: int) -> int:
    return user_id


class Catalog:
    """The data of one release. `overrides` replace fields of its blending."""

    def __init__(self, folder: Path, overrides: dict[str, Any], hashes: bool = True) -> None:
        """Open and check the release in `folder`; raise ReleaseError if it can't be served."""
        manifest = loader.check(folder, hashes)
        arrays = loader.arrays(folder, manifest)
        self.id, self.folder = manifest.id, folder
        self.created_at = _utc(manifest.created_at)
        self.data_from = manifest.data.first if manifest.data else None
        self.data_until = manifest.data.last if manifest.data else None
        self.blending = msgspec.structs.replace(manifest.settings.blending, **overrides)
        self._forgotten_until = manifest.forgotten_until
        self._forgotten: set[int | bytes] = set()
        self.excludes_heard = manifest.settings.heard == "exclude"
        self._user_ids, self._track_ids = arrays["user_ids"], arrays["track_ids"]
        self.kinds = manifest.kinds
        self._user_keys, self._track_keys = (
            Keys(arrays[f"{kind}_ids"], *(arrays[f"{kind}_keys_{part}"] for part in KEY_PARTS))
            if f"{kind}_keys_items" in arrays
            else None
            for kind in ("user", "track")
        )
        self.row = self._remembering_rows(_same)
        if self._track_keys is not None:
            self._places = Places(self._track_keys.place)
        self._ties = ties_of(self._track_ids)
        # A text is a track's id as JSON has it and a comma after it, filled up to a common width: a
        # whole number by blanks before it, and a text by bytes 0 after it.
        self._track_texts = arrays["track_texts"]
        self._text_width = len(self._track_texts) // max(self.n_tracks, 1)
        self._filling = ord(" ") if self._track_keys is None else 0
        # (tracks + 1,): the track under which each track's song is shown; the last is for -1. Empty
        # where no song has several ids.
        self._shown = (
            np.append(arrays["shown_items"], np.int32(-1)) if "shown_items" in arrays else NO_TRACKS
        )
        self._top = arrays["top_items"]
        self.details = Details(arrays)
        self.index = open_index(folder)
        # of the generators: plays after which a play counts half
        self.half_lives = {
            "next_played": manifest.settings.next_half_life,
            "similar": manifest.settings.similar_half_life,
            "replayed": manifest.settings.own_half_life,
            "ease": manifest.settings.als_half_life,
        }
        self._lists = {
            name: (arrays[f"{name}_offsets"], arrays[f"{name}_items"])
            for name in ("recommendations", "history", "names", "disliked")
            if f"{name}_items" in arrays  # nobody may dislike anything
        }
        self.neighbours: dict[str, Neighbours] = {
            name: Neighbours(*(arrays[f"{name}_{part}"] for part in Neighbours._fields))
            for name in LISTED
        }
        folds_in = self.blending.rule != "offline" and "fold_in" in self.blending.weights()
        self.model = loader.model(arrays, manifest.settings, self._ties) if folds_in else None

    @property
    def ties(self) -> Tracks:
        """Return the place of each track among those with equal scores."""
        return self._ties.places

    @property
    def n_users(self) -> int:
        """Number of users with a history, a final list, or a track that they dislike."""
        return len(self._user_ids)

    @property
    def n_tracks(self) -> int:
        """Number of tracks that the release knows."""
        return len(self._track_ids)

    @property
    def n_top(self) -> int:
        """Length of the top list: the number of tracks with a listen."""
        return len(self._top)

    def forget(self, until: Mapping[int | bytes, int], name: Name = _same) -> None:
        """Treat users as unknown whose tombstone is newer than those that the release obeys.

        `until` has the seq of each user's tombstone, by what `name` returns of a user id.
        """
        self._forgotten |= {user for user, seq in until.items() if seq > self._forgotten_until}
        self.row = self._remembering_rows(name)

    def _remembering_rows(self, name: Name) -> Callable[[Any], int]:
        """Return the function `row` for names of users: the position of a user by their id.

        It is -1 if the release doesn't know them or must forget them.
        """
        row = partial(_row, self._user_ids, self._forgotten)
        if self._user_keys is not None:
            row = partial(_row_of_text, self._user_keys, self._forgotten, name)
        return lru_cache(ROWS_REMEMBERED)(row)

    def final(self, row: int) -> Tracks:
        """Return the final list of the user in a row, best first; empty if there is none."""
        return self._list("recommendations", row)

    def history(self, row: int) -> Tracks:
        """Return the listens of the user in a row, oldest first."""
        return self._list("history", row)

    def kept_out(self, row: int) -> Tracks:
        """Return what no list of the user in a row may have: disliked tracks, and perhaps heard."""
        out = self._list("history", row) if self.excludes_heard else NO_TRACKS
        if "disliked" not in self._lists:
            return out
        return np.concatenate([out, self._list("disliked", row)])

    def knows(self, item_id: Id) -> bool:
        """Return whether the release knows a track."""
        if self._track_keys is not None:
            return isinstance(item_id, str) and self._places[item_id] >= 0
        return isinstance(item_id, int) and _find(self._track_ids, item_id) >= 0

    def positions(self, item_ids: Events) -> Tracks:
        """Return the positions of track ids; -1 for one that the release doesn't know.

        If a song has several ids, each of them has the position of the one that is shown.
        """
        if self._track_keys is None:
            if not isinstance(item_ids, bytes):
                item_ids = np.array(item_ids, np.int64).tobytes()
            # read-only: compiled code has another form for an array that may be written
            ids = np.frombuffer(item_ids, np.int64)
            return kernels.positions(ids, self._track_ids, self._shown)
        found = self._found(item_ids)
        return self._shown.take(found) if len(self._shown) else found

    def hidden(self) -> Tracks:
        """Return the positions that no answer may have: other ids of a song that is shown."""
        if not len(self._shown):
            return NO_TRACKS
        return np.flatnonzero(self._shown[:-1] != np.arange(self.n_tracks))

    @property
    def all_tracks(self) -> Tracks:
        """Return the top list, then all tracks without a listen that may be shown."""
        return self._top

    def _found(self, item_ids: Sequence[Any]) -> NDArray[Any]:
        """Return the positions of exactly these ids, -1 for unknown ones."""
        if self._track_keys is None:
            return find(self._track_ids, np.array(item_ids, np.int64))
        return np.fromiter(map(self._places.__getitem__, item_ids), np.int32, len(item_ids))

    def exact(self, item_ids: Sequence[Id], unknown: bool = False) -> list[int]:
        """Return the positions of exactly these ids, even if their song is shown under another id.

        Those that the release doesn't know are left out, or -1 where `unknown` is true.
        """
        places: list[int] = self._found(item_ids).tolist() if item_ids else []
        return places if unknown else [place for place in places if place >= 0]

    def top_rank(self, track: int) -> int | None:
        """Return a track's place in the top list, from 1; None without a listen, or if unknown."""
        if not self.details.plays(track):
            return None
        places = np.flatnonzero(self._top == track)
        return int(places[0]) + 1 if len(places) else None

    def near(self, source: str, track: int, n: int) -> list[int]:
        """Return the first n neighbours of a track."""
        offsets, items, _ = self.neighbours[source]
        near: list[int] = items[offsets[track] : offsets[track + 1]][:n].tolist()
        return near

    def named(self, tracks: ArrayLike) -> list[NamedTrack]:
        """Return tracks with their names and those of their artists.

        All of them are read in one go: one by one, each would take five times as long, and answers
        wait meanwhile, for the interpreter runs one thread at a time.
        """
        places = np.asarray(tracks, np.int64)
        names = texts_of(*self._lists["names"], places)
        artists = self.details.artists(places) or repeat(None)
        return [
            NamedTrack(track_id, name or None, of_track)
            for track_id, name, of_track in zip(self.ids(places), names, artists, strict=False)
        ]

    def places_of_numbers(self, numbers: Sequence[int]) -> list[int]:
        """Return the positions of tracks by the numbers that files inside the release have.

        It is -1 for a number that the release doesn't know.
        """
        places: list[int] = find(self._track_ids, np.array(numbers, np.int64)).tolist()
        return places

    def user_number(self, row: int) -> int:
        """Return the number that the user in a row has inside the release."""
        return int(self._user_ids[row])

    def users_beginning_with(self, text: str, limit: int) -> list[str]:
        """Return known users whose ids are text and begin with a text; an equal id comes first."""
        assert self._user_keys is not None
        exact = [text] if self.row(text) >= 0 else []
        found = map(self._user_keys.text, self._user_keys.beginning_with(text, 2 * limit))
        others = [user for user in found if user != text and self.row(user) >= 0]
        return (exact + sorted(others))[:limit]

    def users_between(self, low: int, high: int, limit: int) -> list[int]:
        """Return the first known users with ids from low to high - 1, as ids."""
        start, end = self._user_ids.searchsorted(np.array([low, high], np.int64)).tolist()
        found = (int(user) for user in self._user_ids[start:end] if self.row(int(user)) >= 0)
        return list(islice(found, limit))

    def random_users(self, n: int) -> list[Id]:
        """Return the ids of some known users, drawn at random."""
        places = random.sample(range(self.n_users), min(2 * n, self.n_users))
        keys = self._user_keys
        drawn = [int(self._user_ids[at]) if keys is None else keys.text(at) for at in places]
        return [user for user in drawn if self.row(user) >= 0][:n]

    def history_rows(self, row: int) -> tuple[int, int]:
        """Return which rows of listens.parquet are those of the user in a row: from, to below."""
        offsets, _ = self._lists["history"]
        return (int(offsets[row]), int(offsets[row + 1])) if row >= 0 else (0, 0)

    def top(self, n: int) -> Tracks:
        """Return the first n tracks of the top list."""
        return self._top[:n]

    def offline(self, final: Tracks) -> Iterator[Tracks]:
        """Yield a user's final list, then the top list in growing blocks."""
        return chain([final], in_growing_blocks(self._top))

    def track_id(self, track: int) -> Id:
        """Return the id of a track."""
        keys = self._track_keys
        return int(self._track_ids[track]) if keys is None else keys.text(track)

    def ids(self, tracks: Tracks) -> list[Id]:
        """Return the ids of tracks."""
        if self._track_keys is not None:
            return [*self._track_keys.texts(tracks)]
        ids: list[Id] = self._track_ids[tracks].tolist()
        return ids

    def text(self, tracks: Tracks) -> bytes:
        """Return the ids of tracks as a JSON list without blanks."""
        text: bytes = kernels.json_list(
            tracks, self._track_texts, self._text_width, self._filling
        ).tobytes()
        return text

    def _list(self, name: str, row: int) -> Tracks:
        offsets, items = self._lists[name]
        if row < 0:
            return items[:0]
        return items[offsets[row] : offsets[row + 1]]


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _row(ids: NDArray[np.int64], forgotten: set[int | bytes], user_id: int) -> int:
    return -1 if user_id in forgotten else _find(ids, user_id)


def _row_of_text(keys: Keys, forgotten: set[int | bytes], name: Name, user_id: str) -> int:
    return -1 if forgotten and name(user_id) in forgotten else keys.place(user_id)


def _find(ids: NDArray[np.int64], key: int) -> int:
    """Return the position of a key in the sorted ids, or -1.

    The key is converted to the array's type: with a Python int, searchsorted would convert the
    whole array.
    """
    place = int(ids.searchsorted(np.int64(key)))
    return place if place < len(ids) and ids[place] == key else -1
