"""What a person types finds the names that they mean, in any script, and nothing is an error."""

import sqlite3
import unicodedata
from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.contract.search import MAX_QUERY, SCHEMA, folded, query, words

LETTERS = "abzAZéÉñßẞёЁеάΆςΣσıİžŁøガか桜ไทยنا가너हिא9٣２ "
NAMES = st.text(LETTERS, min_size=1, max_size=30) | st.text(max_size=30)


def found(names: list[str], text: str) -> list[str]:
    """The names that a text finds, in their order."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        rows = ((place, " ".join(words(name))) for place, name in enumerate(names, 1))
        db.executemany("INSERT INTO tracks(rowid, text) VALUES (?, ?)", rows)
        if not (terms := query(text)):
            return []
        sql = "SELECT rowid FROM tracks WHERE tracks MATCH ? ORDER BY rowid LIMIT 100"
        return [names[place - 1] for (place,) in db.execute(sql, (terms,))]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("AC/DC", ["ac/dc", "acdc", "ac dc", "dc ac", "AC", "acd", "ac/d", "DC"]),
        ("Ёлка", ["елка", "ЁЛКА", "ёл", "ЕЛ", "е\u0308лка"]),
        ("Άλφα", ["αλφα", "ΑΛΦΑ", "άλ"]),
        ("Straße", ["strasse", "STRASSE", "straß", "Straẞe"]),
        ("Beyoncé", ["beyonce", "BEYONCÉ", "beyonce\u0301"]),
        ("Don’t Stop", ["don't stop", "dont", "stop don"]),
        ("千本桜", ["千本桜", "千本", "本桜", "桜", "千"]),
        ("夜に駆ける 2020", ["駆ける", "夜に", "2020 夜"]),
        ("ガール", ["カール", "ガー"]),
        ("รักเธอ", ["รัก", "เธอ"]),
        ("너의 이름", ["너의", "이름 너", "이ᄅ"]),
        ("ليلى", ["ليل"]),
        ("!!!", ["!!!", "!", "!!"]),
        ("Rock & Roll", ["rock & roll", "rock roll", "&"]),
        ("🔥🔥🔥", ["🔥"]),
        ("Ｆｕｌｌ ｗｉｄｔｈ", ["full width", "ｆｕ"]),
        ("and so on", ["AND", "and on"]),
        ("P!nk", ["p!nk", "pnk", "nk p"]),
    ],
)
def test_a_name_is_found_in_every_way_to_write_it(name, texts):
    names = ["something else", name, "Blur"]
    assert {text: found(names, text) for text in texts} == {text: [name] for text in texts}


@pytest.mark.parametrize(
    "text",
    ["AND", 'a"b', "!!!", '"', "NEAR(a b)", "text:a", "a*", "-a", "^a", "(", "{a b}", "a\x00b",
     "\\", "x" * 500, "a " * 200, "'; DROP TABLE tracks; --", "\ud7ff\ue000", "_", "a_b", " ", ""],
)  # fmt: skip
def test_no_text_is_an_operator_or_an_error(text):
    assert found(["nothing like it"], text) in ([], ["nothing like it"])


@given(NAMES, st.data())
@example("ŉ ﬃ Ǆ", None)
@example("İı", None)
def test_a_name_is_found_by_the_beginnings_of_its_words_in_any_order(name, data):
    typed = name[:MAX_QUERY].split()
    if data is not None and typed:
        typed = data.draw(st.permutations(typed))
        cut = [data.draw(st.integers(1, len(word))) for word in typed]
        whole = [word[:end] for word, end in zip(typed, cut, strict=True)]
        # a part of a character with marks is another one in some scripts
        typed = [w for w in whole if words(w) and any(c.isalnum() for c in w)] or typed
    text = " ".join(typed)
    if query(text):
        assert found([name], text) == [name]


@given(NAMES)
def test_case_and_forms_of_characters_do_not_matter(name):
    for other in (name.casefold(), *(unicodedata.normalize(f, name) for f in ("NFC", "NFD"))):
        assert words(other) == words(name)
    assert folded(folded(name)) == folded(name)


@given(NAMES)
def test_words_hold_nothing_that_splits_or_quotes(name):
    for word in words(name):
        assert word and not any(c.isascii() and not c.isalnum() for c in word)


@given(st.text(max_size=250))
def test_every_text_is_a_valid_query(text):
    assert len(found(["a b c", "千本桜", "!"], text)) <= 3
