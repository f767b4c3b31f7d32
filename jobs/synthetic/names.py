# ruff: noqa: SIM905
"""Names for the synthetic sample: well-known tracks, genres, and words to make up other names."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# (track_id, title, artist, album, genre), the most played first. The ids are real. For the
# first five it is a guess that they belong to these titles.
WELL_KNOWN = (
    (47627256, "Cradles", "Sub Urban", "Cradles", "alternative"),
    (51516485, "bad guy", "Billie Eilish", "When We All Fall Asleep", "pop"),
    (24692821, "Way Down We Go", "KALEO", "A/B", "indie"),
    (32947997, "Shape of You", "Ed Sheeran", "÷", "pop"),
    (55561798, "Dance Monkey", "Tones And I", "Dance Monkey", "dance"),
    (53404, "Smells Like Teen Spirit", "Nirvana", "Nevermind", "rock"),
    (672687, "Toxicity", "System of A Down", "Toxicity", "metal"),
    (679169, "Thunderstruck", "AC/DC", "The Razors Edge", "rock"),
    (630670, "You're Gonna Go Far, Kid", "The Offspring", "Rise And Fall", "punk"),
    (646516, "Chop Suey!", "System of A Down", "Toxicity", "metal"),
    (19152669, "Centuries", "Fall Out Boy", "American Beauty/American Psycho", "alternative"),
    (38646012, "Another Brick In The Wall, Pt. 2", "Pink Floyd", "The Wall", "rock"),
    (647040, "Back in Black", "AC/DC", "Back in Black", "rock"),
    (694683, "Highway to Hell", "AC/DC", "Highway to Hell", "rock"),
    (654151, "The Kids Aren't Alright", "The Offspring", "Americana", "punk"),
    (2278985, "Rolling In The Deep", "Adele", "21", "pop"),
    (3616433, "Summertime Sadness", "Lana Del Rey", "Born To Die", "pop"),
    (10270285, "Young And Beautiful", "Lana Del Rey", "The Great Gatsby", "pop"),
    (178529, "Numb", "Linkin Park", "Meteora", "metal"),
    (33311009, "Believer", "Imagine Dragons", "Evolve", "alternative"),
    (6705392, "Seven Nation Army", "The White Stripes", "Elephant", "rock"),
    (37384, "Zombie", "The Cranberries", "No Need To Argue", "alternative"),
    (328683, "Bring Me To Life", "Evanescence", "Fallen", "metal"),
    (795836, "Shape of My Heart", "Sting", "Ten Summoner's Tales", "pop"),
    (35505245, "I Got Love", "Miyagi & Эндшпиль", "Hajime", "rusrap"),
    (65851540, "Юность", "Dabro", "Юность", "ruspop"),
)


# Families of genres with their share of the catalogue; a family's first genre is its largest.
FAMILIES = (
    (0.24, "pop ruspop estrada kpop disco teenpop synthpop dreampop chanson citypop"),
    (0.22, "rock alternative metal punk rusrock hardrock postrock numetal grunge progressive emo"),
    (0.18, "rap rusrap foreignrap trap hiphop grime drill phonk"),
    (0.16, "electronics dance house techno trance dnb dubstep breaks triphop idm hardstyle bass"),
    (0.08, "indie newwave shoegaze lofi folkrock postpunk experimental industrial"),
    (0.06, "folk rusfolk celtic balkan caucasian eastern latinfolk african country bard bluegrass"),
    (0.04, "jazz blues soul rnb funk tradjazz conjazz bossa swing gospel"),
    (0.02, "classical modern vocal opera soundtrack films tvseries musical videogame animated"),
)


GENRES_IN_ALL = 166  # the genres above, then regional ones of the same families
REGIONS = ("local", "ukr", "kaz", "euro", "latin", "asian", "arab", "nordic")
COMMON_TITLES = (
    "Intro Outro Home Love Alive Forever Summer Winter Runaway Fire Ocean Gravity Fly Rain Stay "
    "Paradise Angel Demons Hello Goodbye Sunrise Midnight Lost Believe Skit Interlude Любовь Дым "
    "Зима Лето Домой Небо Вступление Время Сердце Огонь Море Весна Прости Улетай Звезда Ночь Танцуй"
).split()


# Titles are an adjective and a noun of one language.
ADJECTIVES = (
    "Silver Broken Golden Quiet Electric Paper Velvet Burning Hollow Neon Wild Distant Crimson "
    "Frozen Secret Lonely Holy Empty Crystal Midnight Concrete Endless Falling Sleeping Dirty",
    "Белый Чёрный Последний Первый Старый Новый Тихий Дальний Чужой Ночной Пьяный Летний Северный",
)


NOUNS = (
    "River Heart City Dream Machine Garden Highway Mirror Shadow Summer Ocean Letter Light Wolf "
    "Echo Horizon Station Circus Planet Thunder Window Signal Tiger Island Parade Season Sky",
    "Город Снег Дом Ветер Поезд Космос Берег Рассвет Океан Вечер Голос Танец Мотив Закат Двор",
)


ENDINGS = (
    "",
    "",
    "",
    "",
    " (Live)",
    " (Remix)",
    " (Acoustic)",
    " Pt. 2",
    " - Radio Edit",
    " (2022)",
)


SYLLABLES = (
    "ka lo mi ra ve no sha ti lu dar en or bel qui zan fe mo ri sol ta vik ar de ju na ost pel "
    "ski to um va xe yan zo",
    "ба ро ли ва ни ми са ка ду ре го та лев мир бор зо ня ле ша ков",
)


ARTIST_FORMS = ("{}", "{}", "{}", "The {}", "DJ {}", "{} & Co", "MC {}", "{} Orchestra", "Lil {}")
COLLECTIONS = ("Сборник: ", "сборник ", "Лучшее: ", "Hits: ", "Various Artists - ")

# Odd names as in real data: punctuation only, markup, currency signs, emoji, other scripts, blanks.
ODD_NAMES = (
    "...", "???", "!!!", "-", "+", "$$$", "$ave $ome", "<3", "<b>bold</b>", "R&B & <i>", "🔥🔥🔥",
    "💔", "夜に駆ける", "너의 이름", "ليلى", "100%", "{}", "\\", "'", '"', "  ", "#1", "a\nb",
)  # fmt: skip


def draw_titles(rng: np.random.Generator, known: np.ndarray) -> pa.Array:
    """Return the titles of tracks: real ones where `known` is a row of WELL_KNOWN and not -1."""
    n = len(known)
    short, long = _phrases(rng, n), _join(_phrases(rng, n), _phrases(rng, n), sep=" & ")
    kind = rng.random(n)
    title = pc.if_else(pa.array(kind < 0.6), long, _join(short, _pick(rng, ENDINGS, n)))
    title = pc.if_else(pa.array(kind > 0.8), _pick(rng, COMMON_TITLES, n), title)
    return _known(known, 1, _odd(rng, title))


def draw_artist_names(rng: np.random.Generator, known: np.ndarray) -> pa.Array:
    """Return the names of artists; `known` has a track of each, as in draw_titles."""
    n = len(known)
    languages = [
        _join(*(_pick(rng, syllables.split() + [""] * (i > 1), n) for i in range(4)))
        for syllables in SYLLABLES
    ]
    name = pc.utf8_title(_either(rng, *languages))
    forms = [form.split("{}") for form in ARTIST_FORMS]
    form = pa.array(rng.integers(len(forms), size=n))
    before, after = (pa.array(parts).take(form) for parts in zip(*forms, strict=True))
    return _known(known, 2, _odd(rng, _join(before, name, after)))


def draw_album_names(
    rng: np.random.Generator, known: np.ndarray, first_titles: pa.Array
) -> pa.Array:
    """Return the names of albums, half of which are called like their first track."""
    n = len(known)
    other = _join(_phrases(rng, n), _phrases(rng, n), sep=": ")
    return _known(known, 3, pc.if_else(pa.array(rng.random(n) < 0.5), first_titles, other))


def draw_collection_names(rng: np.random.Generator, n: int) -> pa.Array:
    """Return names of albums by many artists, as "Hits: ... 12"."""
    volume = pa.array(rng.integers(1, 100, size=n)).cast(pa.string())
    return _join(_pick(rng, COLLECTIONS, n), _join(_phrases(rng, n), volume, sep=" "))


def _phrases(rng: np.random.Generator, n: int) -> pa.Array:
    """Return n phrases, each an adjective and a noun of one language."""
    pairs = zip(ADJECTIVES, NOUNS, strict=True)
    languages = [
        _join(_pick(rng, adjectives.split(), n), _pick(rng, nouns.split(), n), sep=" ")
        for adjectives, nouns in pairs
    ]
    return _either(rng, *languages)


def _either(rng: np.random.Generator, first: pa.Array, second: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(rng.random(len(first)) < 0.6), first, second)


def _odd(rng: np.random.Generator, names: pa.Array) -> pa.Array:
    """Make some names odd, as in real data: a leading tab, an emoji, punctuation only."""
    n = len(names)
    kind = rng.random(n)
    names = pc.if_else(pa.array(kind < 0.005), _join("\t", names), names)
    names = pc.if_else(pa.array((kind > 0.005) & (kind < 0.012)), _join(names, " 🎵"), names)
    return pc.if_else(pa.array(kind > 0.997), _pick(rng, list(ODD_NAMES), n), names)


def _known(known: np.ndarray, column: int, names: pa.Array) -> pa.Array:
    """Return the names, with a column of WELL_KNOWN in the places of the well-known tracks."""
    real = pa.array([row[column] for row in WELL_KNOWN])
    return pc.if_else(pa.array(known >= 0), real.take(pa.array(np.maximum(known, 0))), names)


def _pick(rng: np.random.Generator, choices: list[str] | tuple[str, ...], n: int) -> pa.Array:
    return pa.array(choices).take(pa.array(rng.integers(len(choices), size=n)))


def _join(*parts: pa.Array | str, sep: str = "") -> pa.Array:
    return pc.binary_join_element_wise(*parts, sep)
