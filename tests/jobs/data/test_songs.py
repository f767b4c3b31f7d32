"""The same song under several ids: which tracks are one song, and which of their ids is shown."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract import tables
from jobs.contract.names import WINDOWS
from jobs.data import listens, songs
from tests.support.doubles import OTHERS, VARIANTS, save_catalogue, title
from tests.support.workspace import NOW, rows, run, save_input, save_listens

titles = st.integers(0, 999).map(title)
variants = st.sampled_from(sorted(VARIANTS))


def items_of(tracks: list[tuple[list[int], str | None]], names: list[list[str]] | None = None):
    """The columns of items.parquet of tracks with these artists and titles."""
    artists, titles = zip(*tracks, strict=True)
    schema = [(name, tables.ITEMS.schema.field(name).type) for name in
              ("track_name", "artist_ids", "artist_names")]  # fmt: skip
    named = names or [[f"artist {a}" for a in own] for own in artists]
    return pa.table([list(titles), list(artists), named], schema=pa.schema(schema))


@given(titles, variants, variants)
def test_titles_of_one_recording_are_equal_in_every_way_in_which_they_are_written(name, one, two):
    ways = [VARIANTS[one](name), VARIANTS[two](name), VARIANTS[two](VARIANTS[one](name))]
    assert {songs.normalised(way) for way in ways} == {name.casefold()}


@given(titles, variants, st.sampled_from(sorted(OTHERS)))
def test_titles_of_another_recording_stay_different(name, variant, other):
    assert songs.normalised(OTHERS[other](name)) != songs.normalised(VARIANTS[variant](name))


@given(st.text())
def test_any_text_has_a_normal_form_without_doubled_spaces(text):
    found = songs.normalised(text)
    assert found == " ".join(found.split())
    assert songs.normalised(text.upper()) == songs.normalised(text.upper().lower())


@pytest.mark.parametrize(("one", "two"), [("Мой", "Мои"), ("か", "が"), ("सुन", "सन")])
def test_marks_that_make_another_letter_are_kept(one, two):
    assert songs.normalised(one) != songs.normalised(two)


@pytest.mark.parametrize(
    "name",
    ["Intro", "INTRO (Live)", "[Untitled]", "Interlude II", "Track 07", "Skit 3", "(Remastered)",
     "Part 2", "12", "Allegro", "", "  ", None],
)  # fmt: skip
def test_titles_that_tell_nothing_never_make_one_song(name):
    assert not songs.shared(songs.same_songs(items_of([([1], name)] * 3))).any()


def test_one_song_has_the_same_artists_of_whom_one_is_known():
    tracks = [
        ([1, 2], "Song"), ([2, 1, 1], "song"), ([1], "Song"), ([], "Song"), ([], "Song"),
        ([1], "Song (Live)"), ([9], "Song"), ([9], "Song"), ([9, 1], "Song"), ([1, 9], "Song"),
    ]  # fmt: skip
    names = [["Various Artists"] if own == [9] else [f"{a}" for a in own] for own, _ in tracks]
    assert songs.same_songs(items_of(tracks, names)).tolist() == [0, 0, 2, 3, 4, 5, 6, 7, 8, 8]


catalogues = st.lists(
    st.tuples(st.integers(0, 3), variants, st.integers(0, 2)), min_size=1, max_size=12
)
plays = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 11), st.integers(0, 50)), min_size=1)


@settings(max_examples=60)
@given(catalogues, plays)
def test_a_song_is_shown_under_its_best_known_id_and_listens_are_of_it(
    tmp_path_factory, catalogue, played
):
    """Tracks are a number of a title, how it is written, and an artist; 0 is none."""
    folder = tmp_path_factory.mktemp("songs")
    ids = [10 * place + 7 for place in range(len(catalogue))]
    listens_ = sorted({(u, ids[t % len(ids)], float(day)) for u, t, day in played})
    save_input(folder, listens_, ids)
    names = [VARIANTS[way](title(song)) for song, way, _ in catalogue]
    save_catalogue(folder, ids, [[a] if a else [] for _, _, a in catalogue], names)
    summary = run("prepare", folder, "--data", folder, "--now", NOW)
    heard_by = defaultdict(set)
    for user, track, _ in listens_:
        heard_by[track].add(user)
    tracks_of = defaultdict(list)
    for track, (song, _, artist) in zip(ids, catalogue, strict=True):
        tracks_of[song, artist if artist else -track].append(track)
    expected = {
        track: min(tracks, key=lambda t: (-len(heard_by[t]), t))
        for tracks in tracks_of.values()
        for track in tracks
        if len(tracks) > 1
    }
    assert f"; {len(expected)} tracks are one song with another;" in summary
    assert (folder / tables.SONGS.file).exists() == bool(expected)
    if expected:
        assert rows(tables.SONGS, folder) == sorted(expected.items())
    data, raw = listens.load(folder), listens.load(folder, by_song=False)
    for one, other in zip(data.track_ids[data.item], raw.track_ids[raw.item], strict=True):
        assert one == expected.get(other, other)
    hidden = {track for track, shown in expected.items() if track != shown}
    assert set(data.track_ids[songs.hidden(folder, data.track_ids)]) == hidden


def test_an_option_leaves_every_track_a_song_of_its_own(tmp_path):
    played = [(1, 1, 0.0), (1, 2, 1.0), (2, 2, 2.0)]
    save_input(tmp_path, played, [1, 2])
    save_catalogue(tmp_path, [1, 2], [[1], [1]], ["Song", "SONG"])
    run("prepare", tmp_path, "--data", tmp_path, "--now", NOW)
    assert rows(tables.SONGS, tmp_path) == [(1, 2), (2, 2)]
    off = run("prepare", tmp_path, "--data", tmp_path, "--now", NOW, "--same-song", "off")
    assert "one song" not in off
    assert not (tmp_path / tables.SONGS.file).exists()


def test_in_a_window_no_play_after_the_cut_decides_which_id_is_shown(tmp_path):
    before = [(user, 1 + (user < 3), float(day)) for user in range(1, 9) for day in range(8)]
    after = [(user, 2, day) for user in range(1, 9) for day in (80.0, 81.0)]
    save_listens(tmp_path, before + after, tracks=[1, 2])
    songs.write(tmp_path, np.array([1, 2]), np.zeros(2, int), np.array([0, 8]))
    run("windows", tmp_path, "--split", "time", "--share", "0.2")
    assert rows(tables.SONGS, tmp_path) == [(1, 2), (2, 2)]
    shown = {name: rows(tables.SONGS, tmp_path / "windows" / name) for name in WINDOWS}
    assert shown["train"] == shown["test"] == [(1, 1), (2, 1)]
    for name in WINDOWS:
        folder = tmp_path / "windows" / name
        later = listens.load_holdout(folder, np.array([1, 2]))
        assert set(later.track_ids[later.item]) == {1}
    songs.write(tmp_path, np.array([1, 2]), np.arange(2), np.array([0, 8]))
    run("windows", tmp_path, "--split", "time", "--share", "0.2")
    assert not any((tmp_path / "windows" / name / tables.SONGS.file).exists() for name in WINDOWS)
