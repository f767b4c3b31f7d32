"""The text ids of a release's users or tracks: from a text to its place, and back."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.contract import ids

REMEMBERED = 1 << 16  # places, about 20 MB


class Places(dict[str, int]):
    """The places of text ids that were looked up; when it is full, it begins anew.

    A look-up here takes half the time of one in functools.lru_cache. The ids are interned, as those
    of live events are: then Python finds out by their addresses that two are equal.
    """

    def __init__(self, place: Callable[[str], int]) -> None:
        super().__init__()
        self._place = place

    def __missing__(self, text: str) -> int:
        """Return the place of an id that was not looked up before."""
        if len(self) >= REMEMBERED:
            self.clear()
        place = self[sys.intern(text)] = self._place(text)
        return place


class Keys:
    """Text ids by their places among the numbers that stand for them, which are ascending."""

    def __init__(
        self, numbers: NDArray[np.int64], offsets: NDArray[np.int64], items: NDArray[Any]
    ) -> None:
        self._numbers, self._offsets, self._items = numbers, offsets, items

    def place(self, text: str) -> int:
        """Return the place of an id; -1 if the release does not know it."""
        return ids.place_of(text.encode(), self._numbers, self._is_at)

    def text(self, place: int) -> str:
        """Return the id at a place."""
        return self._bytes(place).decode()

    def texts(self, places: NDArray[Any]) -> list[str]:
        """Return the ids at some places."""
        return [self._bytes(place).decode() for place in places.tolist()]

    def beginning_with(self, text: str, limit: int) -> list[int]:
        """Return the places of the first ids that begin with a text, in the order of numbers.

        One byte after the other is compared, of those ids that are left.
        """
        wanted = text.encode()
        starts = self._offsets[:-1]
        places = np.flatnonzero(np.diff(self._offsets) >= len(wanted))
        for i, byte in enumerate(wanted):
            places = places[self._items[starts[places] + i] == byte]
        found: list[int] = places[:limit].tolist()
        return found

    def _bytes(self, place: int) -> bytes:
        return self._items[self._offsets[place] : self._offsets[place + 1]].tobytes()

    def _is_at(self, place: int, text: bytes) -> bool:
        return self._bytes(place) == text
