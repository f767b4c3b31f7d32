"""Names for very many tracks, whose words are as many and as frequent as those of real titles.

The sample's titles have few words, so an index of them would be small. Here words are drawn from a
large vocabulary by Zipf's law: the r-th word is 1 / r as frequent as the first.
"""

import numpy as np
import pyarrow as pa

from jobs.synthetic.names import SYLLABLES

WORDS = 200_000
LONGEST = 4  # syllables of a word
SCRIPTS = (0.6, 0.36, 0.04)  # shares of the words: Latin, Cyrillic, Chinese
FIRST_SIGN, SIGNS = 0x4E00, 2000  # Chinese characters that are used
WORDS_A_TITLE = (0.2, 0.3, 0.25, 0.15, 0.1)  # shares of titles of 1, 2, ... words
TRACKS_AN_ARTIST = 6.5


def vocabulary(rng: np.random.Generator) -> np.ndarray:
    """Return the words (WORDS,) as objects, the most frequent first; some are there twice."""
    words = []
    syllables = [group.split() for group in SYLLABLES]
    script = rng.choice(len(SCRIPTS), WORDS, p=SCRIPTS)
    length = rng.integers(1, LONGEST + 1, WORDS)
    drawn = rng.integers(0, 1 << 30, (WORDS, LONGEST))
    for kind, n, numbers in zip(script.tolist(), length.tolist(), drawn.tolist(), strict=True):
        if kind == 2:
            words.append("".join(chr(FIRST_SIGN + number % SIGNS) for number in numbers[:n]))
        else:
            choices = syllables[kind]
            words.append("".join(choices[number % len(choices)] for number in numbers[:n]))
    return np.array(words, object)


def phrases(rng: np.random.Generator, words: np.ndarray, n: int) -> list[str]:
    """Return n phrases of one to five words."""
    frequency = 1 / np.arange(1, len(words) + 1)
    ends = np.cumsum(rng.choice(len(WORDS_A_TITLE), n, p=WORDS_A_TITLE) + 1)
    drawn = words[rng.choice(len(words), ends[-1], p=frequency / frequency.sum())]
    return [" ".join(part) for part in np.split(drawn, ends[:-1])]


def items(rng: np.random.Generator, track_ids: np.ndarray) -> pa.Table:
    """Return the columns of items.parquet with a name and an artist for each track, no genres."""
    n = len(track_ids)
    words = vocabulary(rng)
    artists = phrases(rng, words, max(int(n / TRACKS_AN_ARTIST), 1))
    # few artists have many tracks
    artist = (len(artists) * rng.random(n) ** 2).astype(np.int64)
    offsets = pa.array(np.arange(n + 1, dtype=np.int32))
    nothing = pa.array(np.zeros(n + 1, np.int32))
    return pa.table(
        {
            "track_id": track_ids,
            "track_id_enc": np.arange(n, dtype=np.int32),
            "track_name": phrases(rng, words, n),
            "artist_ids": pa.ListArray.from_arrays(offsets, pa.array(artist)),
            "artist_names": pa.ListArray.from_arrays(offsets, pa.array(artists).take(artist)),
            "genre_ids": pa.ListArray.from_arrays(nothing, pa.array([], pa.int64())),
            "genre_names": pa.ListArray.from_arrays(nothing, pa.array([], pa.string())),
        }
    )
