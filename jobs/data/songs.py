"""Find recordings that stand in the catalogue under several ids, and read which id is shown.

Two tracks are one song if they have the same set of artists, at least one of them known, and the
same normalised title. songs.parquet has such tracks with the id under which their song is shown in
a folder: the one with the most listeners there. Arrays of listens have only shown tracks, so that
all models, and what a user has heard, are about songs. The other ids look like tracks without a
listen; `hidden` names them, and no list may have them.
"""

import re
import unicodedata
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import tables
from jobs.contract.ragged import offsets_of
from jobs.data.ids import Encoder, encode
from jobs.runtime.progress import progress_bar

TITLES_A_BLOCK = 1 << 16
YEAR = r"(?:19|20)\d\d"
# What says how a recording was published, not which one it is:
MARKS = (
    rf"(?:{YEAR} )?(?:digital(?:ly)? )?remaster(?:ed)?(?: version)?(?: {YEAR})?",
    r"explicit(?: version)?",
    r"(?:mono|stereo|single|album)(?: version)?",
)
GUEST = r"(?:feat\.?|ft\.?|featuring) [^()\[\]]+"
MARK = rf"(?:{'|'.join(MARKS)}|{GUEST})"
IN_BRACKETS = re.compile(rf" (?:\( ?{MARK} ?\)|\[ ?{MARK} ?\])")
AFTER_A_DASH = re.compile(rf" - (?:{'|'.join(MARKS)})(?=$| - | [(\[])")
GUEST_AT_THE_END = re.compile(r" (?:- )?(?:feat\.?|ft\.|featuring) (?:(?! - )[^()\[\]])+")
MAY_HAVE_MARKS = re.compile(r"[(\[]| - | f")
BEFORE_BRACKETS = re.compile(r" ?([(\[])")
# Titles that tell nothing: two tracks that have one of them are two recordings. A number may
# follow, as in "Track 7", and a part in brackets.
NO_TITLES = (
    "intro", "introduction", "outro", "interlude", "intermission", "skit", "segue", "reprise",
    "prelude", "prologue", "overture", "finale", "epilogue", "untitled", "unknown", "no title",
    "track", "bonus", "bonus track", "hidden track", "part", "pt", "no", "number", "chapter",
    "scene", "act", "silence", "instrumental", "improvisation", "jam", "aria", "recitativo",
    "allegro", "adagio", "andante", "largo", "presto", "menuetto", "scherzo",
)  # fmt: skip
NO_TITLE = re.compile(rf"(?:{'|'.join(NO_TITLES)})(?: (?:\d+|[ivx]+))?|\d{{1,2}}")
FIRST_WORDS = {title.split()[0] for title in NO_TITLES}
WORD = re.compile(r"[^\W_]+")
BRACKETS = re.compile(r"\(.*?\)|\[.*?\]")
# Names that stand for no artist: two titles of "Various Artists" are of two artists.
NO_ARTISTS = ("various artists", "various", "unknown artist", "unknown", "artist unknown")

# Accents of Latin, Greek and Cyrillic letters. Marks of other scripts make other letters, and so
# does the one of the Cyrillic short i.
ACCENTS = re.compile("(?<!\u0438)[\u0300-\u036f]")
ONE_FORM = str.maketrans(
    dict.fromkeys("‘’ʼ＇", "'") | dict.fromkeys("“”", '"') | dict.fromkeys("‐‑‒–—−", "-")
)


def plain(text: str) -> str:
    """Return a text without differences of case, accents, white space, and forms of characters.

    >>> plain(" Beyoncé –  HALO"), plain("Rock’n’Roll")
    ('beyonce - halo', "rock'n'roll")
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text).translate(ONE_FORM)
    text = text.casefold()
    if not text.isascii():
        text = ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    return " ".join(text.split())


def normalised(title: str) -> str:
    """Return a title as it is compared; empty if it is too general to name a song.

    Marks are dropped, in brackets and after a dash. Other brackets stay.

    >>> normalised("Café (Remastered 2011) [feat. X & Y]"), normalised("CAFE - 2011 Remaster")
    ('cafe', 'cafe')
    >>> normalised("Café (Live)"), normalised("Intro"), normalised("Track 07")
    ('cafe (live)', '', '')
    """
    text = plain(title)
    if MAY_HAVE_MARKS.search(text):
        text = BEFORE_BRACKETS.sub(r" \1", text)
        text = " ".join(GUEST_AT_THE_END.sub(" ", IN_BRACKETS.sub("", text)).split())
        text = IN_BRACKETS.sub("", AFTER_A_DASH.sub("", text))
    return "" if tells_nothing(text) else text


def tells_nothing(text: str) -> bool:
    """Return whether a plain title is one of NO_TITLES, a small number, or empty.

    >>> [tells_nothing(text) for text in ("[untitled]", "intro (live)", "22", "22 (live)", "1999")]
    [True, True, True, True, False]
    """
    first = WORD.search(text)
    if first is None:
        return not text
    if first[0] not in FIRST_WORDS and not first[0].isdigit():
        return False
    outside = BRACKETS.sub(" ", text)
    words = WORD.findall(outside) or WORD.findall(text)
    return NO_TITLE.fullmatch(" ".join(words)) is not None


def same_songs(items: pa.Table) -> np.ndarray:
    """Return a number for each track of items (n,) int64, which is equal for tracks of one song.

    It is the place of the song's first track. items has the columns of items.parquet.
    """
    result = np.arange(len(items))
    places = np.flatnonzero(_known_artists(items) > 0)
    firsts: dict[bytes, int] = {}  # by a hash, which takes less memory than names
    tracks = _titles_and_artists(items, places)
    for place, title, artists in progress_bar(tracks, "compare titles", len(places)):
        if title and (text := normalised(title)):
            song = f"{sorted({*artists})} {text}".encode(errors="surrogatepass")
            result[place] = firsts.setdefault(blake2b(song, digest_size=16).digest(), place)
    return result


def _titles_and_artists(
    items: pa.Table, places: np.ndarray
) -> Iterator[tuple[int, str | None, list[int]]]:
    """Yield places with the title and the artists of each, from a block of them at a time."""
    of_track = offsets_of(np.bincount(_rows(items["artist_ids"]), minlength=len(items)))
    artists = pc.list_flatten(items["artist_ids"]).to_numpy()
    for first in range(0, len(places), TITLES_A_BLOCK):
        block = places[first : first + TITLES_A_BLOCK]
        titles = items["track_name"].take(block).to_pylist()
        start = of_track[block[0]]
        own = artists[start : of_track[block[-1] + 1]].tolist()
        starts, ends = ((of_track[block + i] - start).tolist() for i in (0, 1))
        for place, title, a, b in zip(block.tolist(), titles, starts, ends, strict=True):
            yield place, title, own[a:b]


def _known_artists(items: pa.Table) -> np.ndarray:
    """Return how many artists each track has, (n,), without those whose name stands for nobody."""
    names = pc.list_flatten(items["artist_names"]).combine_chunks().dictionary_encode()
    nobody = np.array([plain(name) in NO_ARTISTS for name in names.dictionary.to_pylist()], bool)
    rows = _rows(items["artist_names"])[nobody[names.indices.to_numpy()]]
    artists = np.bincount(_rows(items["artist_ids"]), minlength=len(items))
    known: np.ndarray = artists - np.bincount(rows, minlength=len(items))
    return known


def _rows(lists: pa.ChunkedArray) -> np.ndarray:
    """Return the row of each value of a column of lists."""
    rows: np.ndarray = pc.list_parent_indices(lists).to_numpy()
    return rows


def shared(song: np.ndarray) -> np.ndarray:
    """Return which tracks share a song with another, (n,) bool, by the song of each, 0 to n - 1.

    >>> shared(np.array([0, 1, 0, 3])).tolist()
    [True, False, True, False]
    """
    result: np.ndarray = np.bincount(song, minlength=len(song))[song] > 1
    return result


def listeners(user: np.ndarray, track: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return how many users play each track, (tracks,), where `counted` (tracks,) bool is true.

    The listens (n,) are sorted by user, and tracks are places. Here two users play track 1:

    >>> listeners(np.array([3, 3, 8]), np.array([1, 1, 1]), np.array([False, True])).tolist()
    [0, 2]
    """
    kept = counted[track]
    row = np.cumsum(np.diff(user, prepend=user[:1]) != 0)[kept]
    pairs = np.unique(row * len(counted) + track[kept])
    return np.bincount(pairs % len(counted), minlength=len(counted))


def write(folder: Path, track_ids: np.ndarray, song: np.ndarray, heard_by: np.ndarray) -> int:
    """Write songs.parquet if some tracks share a song; return how many do.

    song (n,) has one number, 0 to n - 1, for all tracks of a song; heard_by (n,) are the tracks'
    listeners. A song is shown under the id with the most, or the smallest of those with as many.
    """
    tracks = np.flatnonzero(shared(song))
    if not len(tracks):
        (folder / tables.SONGS.file).unlink(missing_ok=True)
        return 0
    order = tracks[np.lexsort((tracks, -heard_by[tracks], song[tracks]))]
    best = order[np.append(True, np.diff(song[order]) != 0)]
    shown_of = np.empty(len(song), np.int64)
    shown_of[song[best]] = best
    rows = {"track_id": track_ids[tracks], "song_id": track_ids[shown_of[song[tracks]]]}
    tables.write(tables.SONGS, folder, pa.table(rows))
    return len(tracks)


def shown(folder: Path, track_ids: np.ndarray) -> np.ndarray | None:
    """Return for each track the one under which its song is shown, (n,) int32 places in track_ids.

    None if no song has several ids, as in folders of earlier versions. Raises JobError if
    songs.parquet has a track that is not among track_ids.
    """
    if not (folder / tables.SONGS.file).exists():
        return None
    rows = tables.read(tables.SONGS, folder)
    known = Encoder.of(track_ids, len(rows))
    track, song = (
        encode(rows[name].to_numpy(), known, name, tables.SONGS, folder)
        for name in ("track_id", "song_id")
    )
    result = np.arange(len(track_ids), dtype=np.int32)
    result[track] = song
    return result


def hidden(folder: Path, track_ids: np.ndarray) -> np.ndarray:
    """Return which tracks are other ids of a song that is shown under another one, (n,) bool."""
    found = shown(folder, track_ids)
    if found is None:
        return np.zeros(len(track_ids), bool)
    result: np.ndarray = found != np.arange(len(track_ids))
    return result
