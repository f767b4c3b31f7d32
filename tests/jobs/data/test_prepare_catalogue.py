"""jobs.prepare: tracks and names may be missing, or stand in one file as text."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from jobs.contract.storage import JobError
from jobs.contract.tables import ITEMS, LISTENS
from jobs.data import raw_files
from tests.support.inputs import content, interactions, reasons, rows, run, save


def test_without_tracks_they_are_those_of_the_listens(tmp_path):
    data = save(tmp_path / "in")
    (data / "tracks.parquet").unlink()
    summary = run(data, tmp_path / "named")
    assert rows(ITEMS, tmp_path / "named") == [
        (10, 0, "Ten  Dots", [], [], [], []),
        (20, 1, "Двадцать", [], [], [], []),
    ]
    assert "; no file of tracks, so they are those of the listens, and live events" in summary
    (data / "catalog_names.parquet").unlink()
    summary = run(data, tmp_path / "alone")
    assert [row[:3] for row in rows(ITEMS, tmp_path / "alone")] == [(10, 0, None), (20, 1, None)]
    assert rows(LISTENS, tmp_path / "alone") == rows(LISTENS, tmp_path / "named")
    assert "those of the listens, without names, and live events of other tracks wait" in summary


def test_bad_tracks_of_listens_are_no_tracks(tmp_path):
    data = save(tmp_path / "in", interactions=interactions(track_id=["20", None, "x", "-1"]))
    for name in ("tracks", "catalog_names"):
        (data / f"{name}.parquet").unlink()
    run(data, tmp_path, "--max-bad-share", "0.9")
    assert [row[0] for row in rows(ITEMS, tmp_path)] == [20]
    assert [row[:2] for row in reasons(tmp_path)] == [
        ("interactions.parquet", r) for r in (1, 2, 3)
    ]
    for table, words in (
        (interactions().slice(0, 0), "interactions.parquet holds no rows: add the listens"),
        (interactions(track_id=["x"] * 4), "interactions.parquet holds no usable track in 1 rows"),
    ):
        pq.write_table(table, data / "interactions.parquet")
        with pytest.raises(JobError, match=re.escape(words)):
            run(data, tmp_path)


def test_an_event_of_a_track_that_no_listen_has_waits(tmp_path):
    data = save(tmp_path / "in")
    (data / "tracks.parquet").unlink()
    pq.write_table(interactions(track_id=[10, 99, 10, 20]), tmp_path / "events.parquet")
    summary = run(data, tmp_path, "--events", str(tmp_path / "events.parquet"))
    assert "1 wait for tracks that interactions.parquet doesn't know" in summary


LISTS = [["AC/DC"], ["Äon", "AC/DC"], []]
NAMED = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
SAME = [  # forms of one file with the names of tracks, artists and genres
    {"artists": LISTS, "genres": [["rock", "pop"], ["rock"], None]},
    {"artist": ["AC/DC", "Äon|AC/DC", None], "genre": ["rock; pop", " rock ", ""]},
    {"artists": ['["AC/DC"]', "['Äon' 'AC/DC']", "[]"], "genres": ["rock|pop", "rock", None]},
    {"artists": ["[AC/DC]", "['Äon', AC/DC]", "[]"], "genres": ["[rock, pop]", "[rock]", "[NULL]"]},
]


@given(st.lists(st.text(NAMED, min_size=1)))
@example(["null", "NULL", "Null", "None"])
def test_lists_as_python_and_duckdb_write_them_keep_each_name_whole(names):
    names = [name for name in (name.strip() for name in names) if name]

    def duckdb(name):
        plain = re.fullmatch(r"[\w /.-]+", name) and name not in raw_files.NO_VALUE
        return name if plain else "'" + name.replace("\\", r"\\").replace("'", r"\'") + "'"

    written = pa.array([f"[{', '.join(map(duckdb, names))}]", repr(names)])
    assume(not re.fullmatch(r"[-\d.\s,\[\]]*", written[0].as_py()))  # these are numbers
    for found in raw_files._split(written, raw_files.BETWEEN_NAMES).to_pylist():
        assert found == names


@pytest.mark.parametrize("columns", SAME)
def test_one_file_of_tracks_may_have_all_names_as_text(tmp_path, columns):
    table = {"track_id": [10, 20, 30], "name": [" Ten ", "Двадцать", None]} | columns
    data = save(tmp_path / "in", tracks=pa.table(table))
    (data / "catalog_names.parquet").unlink()
    summary = run(data, tmp_path)
    assert rows(ITEMS, tmp_path) == [
        (10, 0, "Ten", [0], ["AC/DC"], [1, 0], ["rock", "pop"]),
        (20, 1, "Двадцать", [1, 0], ["Äon", "AC/DC"], [1], ["rock"]),
        (30, 2, None, [], [], [], []),
    ]
    assert reasons(tmp_path) == []
    assert "no file" not in summary


def test_bad_rows_of_one_file_of_tracks_go_to_quarantine_once(tmp_path):
    ids = ["10", "x", "10", *map(str, range(20, 40))]
    table = {"track_id": ids, "name": ids, "artist": ["a"] * len(ids)}
    data = save(tmp_path / "in", tracks=pa.table(table))
    (data / "catalog_names.parquet").unlink()
    run(data, tmp_path)
    assert [row[:2] for row in reasons(tmp_path)] == [("tracks.parquet", 1), ("tracks.parquet", 2)]
    assert [row[2] for row in rows(ITEMS, tmp_path)] == ["10", *map(str, range(20, 40))]


def test_a_file_of_tracks_without_names_needs_no_artists(tmp_path):
    data = save(tmp_path / "in", tracks=pa.table({"track_id": [10, 20], "artists": [[7], [8, 7]]}))
    (data / "catalog_names.parquet").unlink()
    summary = run(data, tmp_path)
    assert [row[2:5] for row in rows(ITEMS, tmp_path)] == [(None, [7], []), (None, [8, 7], [])]
    assert "; no file of names, so tracks have none" in summary


def test_artist_and_artists_together_are_refused(tmp_path):
    table = {"track_id": [10], "artist": ["a"], "artists": ["b"]}
    data = save(tmp_path / "in", tracks=pa.table(table))
    (data / "catalog_names.parquet").unlink()
    with pytest.raises(JobError, match=r"tracks.parquet has artist and artists: keep one of them"):
        run(data, tmp_path)


def test_names_of_the_file_of_tracks_count_only_without_catalog_names(tmp_path):
    data = save(tmp_path / "in")
    run(data, tmp_path / "expected")
    named = pq.read_table(data / "tracks.parquet").append_column("name", pa.array(["x", "y", "z"]))
    pq.write_table(named, data / "tracks.parquet")
    run(data, tmp_path / "work")
    assert content(tmp_path / "work") == content(tmp_path / "expected")


name = st.text(st.characters(codec="utf-8", exclude_characters="|;[\0"), max_size=4)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(name, st.lists(name, max_size=3)), min_size=2, max_size=6))
def test_names_come_back_as_they_were_given(tmp_path_factory, named):
    folder = tmp_path_factory.mktemp("names")
    table = {
        "track_id": range(10, 10 + len(named)),
        "name": [name for name, _ in named],
        "artists": pa.array([artists for _, artists in named], pa.list_(pa.string())),
    }
    data = save(folder / "in", tracks=pa.table(table), interactions=interactions(track_id=[10] * 4))
    (data / "catalog_names.parquet").unlink()
    run(data, folder, "--max-bad-share", "1")
    found = [(row[2], row[4]) for row in rows(ITEMS, folder)]

    for (track, artists), (found_track, found_artists) in zip(named, found, strict=True):
        assert (found_track or "") == strip(track)
        assert found_artists == [strip(a) for a in artists if strip(a)]


def strip(text: str) -> str:
    return pa.compute.utf8_trim_whitespace(pa.scalar(text)).as_py()
