"""Inputs in which songs stand in the catalogue under several ids, with titles that differ."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.workspace import Row, save_input

# Other ways to write the title of the same recording:
VARIANTS: dict[str, Callable[[str], str]] = {
    "the same": lambda title: title,
    "capitals": str.upper,
    "accents": lambda title: title.replace("e", "é").replace("o", "ö").replace("c", "ç"),
    "white space": lambda title: "  " + title.replace(" ", "\u00a0  ") + "\t",
    "remastered in a year": lambda title: f"{title} (Remastered 2011)",
    "a year's remaster": lambda title: f"{title} - 2009 Remaster",
    "digital": lambda title: f"{title} [2001 Digital Remaster]",
    "after a long dash": lambda title: f"{title} – Remastered Version",
    "a guest": lambda title: f"{title} (feat. Some One & Others)",
    "a guest without brackets": lambda title: f"{title} ft. Some One",
    "explicit": lambda title: f"{title} [Explicit]",
    "mono": lambda title: f"{title} (Mono)",
    "single": lambda title: f"{title} - Single Version",
    "two marks": lambda title: f"{title} (featuring Some One) [Stereo] - Remaster",
    "full width": lambda title: "".join(
        chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in f"{title} (Remaster)"
    ),
}
# What makes the title that of another recording:
OTHERS: dict[str, Callable[[str], str]] = {
    "live": lambda title: f"{title} (Live)",
    "live in a year": lambda title: f"{title} - Live 1994",
    "a year": lambda title: f"{title} (1995)",
    "a part": lambda title: f"{title}, Pt. 2",
    "a part in brackets": lambda title: f"{title} (Part II)",
    "a remix": lambda title: f"{title} (Some One Remix)",
    "an instrumental": lambda title: f"{title} [Instrumental]",
    "a remastered take": lambda title: f"{title} (Live) [Remastered]",
    "one more word": lambda title: f"{title} remastered me",
}
WORDS = ("cold", "river", "moon", "secret", "dance", "echo", "once", "hotel", "complete", "love")


def title(song: int) -> str:
    """The title of a song, made of words with letters that may have accents."""
    n = len(WORDS)
    return f"{WORDS[song % n].title()} {WORDS[song // n % n]} {WORDS[song // n // n % n]}"


def save_doubles(folder: Path, songs: int, users: int, plays: int, seed: int = 0) -> list[Row]:
    """Write input in which each song has the ids t and 500 + t, played half of the time each.

    The titles of a song differ by one of VARIANTS. Returns the listens.
    """
    rng = np.random.default_rng(seed)
    listens = []
    for user in range(1, users + 1):
        own = np.arange(songs)[np.arange(songs) % 4 == user % 4]
        weights = 1 / np.arange(1, len(own) + 1)
        for day in np.sort(rng.uniform(0, 200, plays)):
            liked = rng.random() < 0.85
            song = rng.choice(own, p=weights / weights.sum()) if liked else rng.integers(songs)
            listens.append((user, int(song + 500 * rng.integers(2)), float(day)))
    ids = [*range(songs), *range(500, 500 + songs)]
    save_input(folder, listens, ids)
    artists = [[1000 + t % 4 * 3 + t // 4 % 3] for t in range(songs)] * 2
    ways = list(VARIANTS.values())
    names = [title(t) for t in range(songs)]
    names += [ways[t % len(ways)](title(t)) for t in range(songs)]
    save_catalogue(folder, ids, artists, names)
    return listens


def save_catalogue(
    folder: Path, ids: list[int], artists: list[list[int]], names: list[str | None]
) -> None:
    """Write tracks.parquet and catalog_names.parquet of tracks with these artists and names."""
    lists = pa.list_(pa.int64())
    genres = pa.array([[t % 4] for t in range(len(ids))], lists)
    columns = {"track_id": ids, "artists": pa.array(artists, lists), "genres": genres}
    pq.write_table(pa.table(columns), folder / "tracks.parquet")
    named = {"id": ids, "type": ["track"] * len(ids), "name": names}
    pq.write_table(pa.table(named), folder / "catalog_names.parquet")
