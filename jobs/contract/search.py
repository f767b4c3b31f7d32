"""How names are searched: text to words, words to a query, and the index's tables.

jobs.publish fills the index, an SQLite file with full-text tables, and the service asks it. Both
split text by the functions here, so SQLite's own tokenizer only has to split at blanks.

A name is found by the beginnings of its words in any order. Words are compared without differences
of case, accents and forms of characters. A word with marks inside counts in parts and as a whole,
and scripts without spaces count by pairs of characters:

    AC/DC           ac dc acdc
    Ёлка, Straße    елка strasse
    千本桜           千本 本桜 桜     (the last one alone, so that it can be found too)
    !!!             three signs of the private use area, since "!" would be no word
"""

import re
import unicodedata
from collections.abc import Iterator

SEARCH = "search.db"  # a file of a release
MAX_QUERY = 256  # characters: the longest text id can be typed whole
MAX_INDEXED = 1000  # characters of a name that are looked at
BEST_TRACKS = 10  # most played tracks of an artist that the index has

# Words stand in the index with their first one to fourteen letters too: without that, SQLite would
# merge the rows of all words that begin so before it gives the first. Rows only have to be found,
# not highlighted or ranked, so the index has neither the text nor the places of words in it.
_PREFIX = " ".join(map(str, range(1, 15)))
_FTS = f"fts5(text, content='', columnsize=0, detail=none, prefix='{_PREFIX}', tokenize='ascii')"
# The rows of `tracks` and `artists` are numbered from 1, the most played first, so that a search
# stops at its LIMIT. Row r of `tracks` is the r-th track of the array top_items.
SCHEMA = f"""
CREATE VIRTUAL TABLE tracks USING {_FTS};
CREATE VIRTUAL TABLE artists USING {_FTS};
CREATE TABLE artist (
    place INTEGER PRIMARY KEY, artist_id INTEGER, name TEXT, plays INTEGER, tracks INTEGER,
    best TEXT
);
"""

_WORD = re.compile(r"[^\W_]+")
# Thai to Tibetan, Burmese, Khmer, Japanese, Chinese:
_SPACELESS = re.compile(
    "([\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)"
)
_PRIVATE = 0xE000  # the private use area, where ASCII signs are moved to


def folded(text: str) -> str:
    """Return a text without differences of case, accents and forms of characters.

    >>> folded("Ёлка"), folded("ΆΛΦΑ"), folded("STRASSE") == folded("straße"), folded("ﬁn²")
    ('елка', 'αλφα', True, 'fin2')
    """
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(c for c in text if c.isascii() or unicodedata.category(c)[0] != "M")


def words(text: str) -> list[str]:
    """Return the words by which a text is found, each once.

    >>> words("AC/DC"), words("P!nk  pink"), words("千本桜")
    (['ac', 'dc', 'acdc'], ['p', 'nk', 'pnk', 'pink'], ['千本', '本桜', '桜'])
    """
    found: dict[str, None] = {}
    for word in folded(text[:MAX_INDEXED]).split():
        parts = _WORD.findall(word)
        found.update(dict.fromkeys((parts and _pieces(*parts, ends=True)) or [_signs(word)]))
        if len(parts) > 1:
            found.update(dict.fromkeys(_pieces("".join(parts), ends=True)))
    return list(found)


def query(text: str) -> str:
    """Return the full-text query of what a person typed; "" if there is nothing to look for.

    Every word is quoted, so no text is taken for an operator. A word with marks inside is looked
    for in parts or as a whole. Words of signs only count where there is nothing else.

    >>> query("ac/dc thun"), query('a"b AND !!!')
    ('("acdc"* OR ("ac"* AND "dc"*)) AND "thun"*', '("ab"* OR ("a"* AND "b"*)) AND "and"*')
    """
    typed = folded(text[:MAX_QUERY]).split()
    terms = dict.fromkeys(term for word in typed if (term := _term(_WORD.findall(word))))
    if not terms:
        terms = dict.fromkeys(_prefix(_signs(word)) for word in typed)
    return " AND ".join(terms)


def _term(parts: list[str]) -> str:
    if len(parts) < 2:
        return _all(_pieces(*parts))
    return f"({_all(_pieces(''.join(parts)))} OR ({_all(_pieces(*parts))}))"


def _all(words: Iterator[str]) -> str:
    return " AND ".join(map(_prefix, dict.fromkeys(words)))


def _prefix(word: str) -> str:
    return f'"{word}"*'


def _pieces(*parts: str, ends: bool = False) -> Iterator[str]:
    """Yield words, those of scripts without spaces as pairs; with `ends` their last one alone."""
    for part in parts:
        for place, run in enumerate(_SPACELESS.split(part)):
            if place % 2 and (ends or len(run) > 1):
                yield from (run[i : i + 2] for i in range(len(run) - (not ends)))
            elif run:
                yield run


def _signs(word: str) -> str:
    """Return a word of signs as letters: ASCII signs are separators in the index.

    >>> _signs("!!") == "\\ue021" * 2
    True
    """
    return "".join(chr(_PRIVATE + ord(c)) if c.isascii() else c for c in word)
