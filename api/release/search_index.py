"""Asks the search index of a release; see jobs.contract.search. Every call runs in a thread."""

import json
import sqlite3
import time
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from jobs.contract.search import SEARCH, query

SECONDS = 1.0  # after which a search is interrupted
STEPS = 1000  # of SQLite's virtual machine between two looks at the clock

# Each statement gives all that it finds as one row, a JSON list. A thread that fetches row by row
# stops at each of them for the interpreter, which runs one thread at a time, and takes it from an
# answer each time.
TRACKS = """
SELECT json_group_array(rowid)
FROM (SELECT rowid FROM tracks WHERE tracks MATCH ? ORDER BY rowid LIMIT ?)
"""
FOUND = "json_group_array(json_array(place, artist_id, name, plays, tracks, json(best)))"
ARTISTS = f"""
SELECT {FOUND} FROM artist
WHERE place IN (SELECT rowid FROM artists WHERE artists MATCH ? ORDER BY rowid LIMIT ?)
"""
FIRST_ARTISTS = f"SELECT {FOUND} FROM artist WHERE place <= ?"


class SearchError(Exception):
    """A search that took too long, or an index that can't be read; the text says which."""


class FoundArtist(NamedTuple):
    """An artist, as the index has it."""

    artist_id: int
    name: str
    plays: int
    n_tracks: int
    best: list[int]  # ids of the most played tracks


class SearchIndex:
    """The index of one release. It stays open, so that it works while the files are removed."""

    def __init__(self, folder: Path) -> None:
        """Open the index of a release; raise SearchError if that is not possible."""
        self._lock = Lock()  # one search at a time
        self._deadline = deadline = [0.0]  # a list, so that the handler does not keep this object
        try:
            address = f"{(folder / SEARCH).absolute().as_uri()}?mode=ro&immutable=1"
            self._db = sqlite3.connect(address, uri=True, check_same_thread=False)
            self._db.execute("SELECT 1 FROM artist LIMIT 1").fetchall()
        except sqlite3.Error as error:
            raise SearchError(f"{SEARCH} of release {folder.name} can't be read: {error}") from None
        self._db.set_progress_handler(lambda: time.monotonic() > deadline[0], STEPS)

    def tracks(self, text: str, limit: int) -> list[int]:
        """Return the places in the top list, from 0, of the first tracks that a text finds.

        An empty text finds all tracks.
        """
        if not text.strip():
            return list(range(limit))
        terms = query(text)
        places = self._fetch(TRACKS, terms, limit) if terms else []
        return sorted(place - 1 for place in places)

    def artists(self, text: str, limit: int) -> list[FoundArtist]:
        """Return the first artists that a text finds, those with most plays first."""
        if not text.strip():
            found = self._fetch(FIRST_ARTISTS, limit)
        else:
            terms = query(text)
            found = self._fetch(ARTISTS, terms, limit) if terms else []
        return [FoundArtist(*values) for _, *values in sorted(found)]

    def _fetch(self, statement: str, *values: object) -> list[Any]:
        """Return the list that is the one value of a statement's one row."""
        with self._lock:
            self._deadline[0] = time.monotonic() + SECONDS
            try:
                [(found,)] = self._db.execute(statement, values)
                return [*json.loads(found)]
            except sqlite3.OperationalError as error:
                if "interrupted" not in str(error):
                    raise SearchError(f"{SEARCH} can't be read: {error}") from None
                raise SearchError(
                    f"q: the search was stopped after {SECONDS:g} s: try longer words"
                ) from None
            except sqlite3.Error as error:
                raise SearchError(f"{SEARCH} can't be read: {error}") from None


def open_index(folder: Path) -> SearchIndex | str:
    """Return the index of a release, or why there is none."""
    if not (folder / SEARCH).is_file():
        return "the release was made by an earlier version: run python -m jobs.publish"
    try:
        return SearchIndex(folder)
    except SearchError as error:
        return str(error)
