"""jobs.prepare: a file that can't be used is refused clearly, and WORK stays as it was."""

import re
from datetime import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.contract.storage import JobError
from tests.support.inputs import JAN, OTHER_TEXT, content, interactions, names, run, save, tracks


def test_tracks_without_a_usable_id_say_why(tmp_path):
    data = save(tmp_path / "in", tracks=tracks(track_id=["USRC17607839", "USRC17607840", "x"]))
    with pytest.raises(JobError, match=f"no usable track in 3 rows, track_id {OTHER_TEXT}"):
        run(data, tmp_path, "--track-ids", "integer")


@pytest.mark.parametrize("change", [str.upper, str.title, lambda name: name.replace("_", "")])
def test_columns_in_other_letters_get_a_hint(tmp_path, change):
    table = interactions()
    named = table.rename_columns([change(name) for name in table.column_names])
    with pytest.raises(JobError, match=f"--columns interactions.user_id={change('user_id')}"):
        run(save(tmp_path / "in", interactions=named), tmp_path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def scribble(path: Path) -> None:
    """Spoil the pages and keep the footer."""
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 200 + whole[204:])


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


BAD_FILES = [  # what is done to a file, and what is said about it
    (
        "interactions",
        Path.unlink,
        "is missing: add it, as parquet, CSV or JSON lines",
    ),
    ("tracks", folder_instead, "has no parts: add files that end in .parquet, .csv"),
    ("tracks", lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    ("interactions", lambda path: path.write_text("user_id,track_id"), "can't be read as parquet"),
    ("interactions", cut, "can't be read as parquet"),
    ("interactions", scribble, "can't be read as parquet"),
]


MORE = interactions().append_column("user_id", pa.array([1] * 4))
RENAMED = interactions().rename_columns({"user_id": "userId"})
BAD_TABLES = [
    (
        "interactions",
        RENAMED,
        "has no column user_id: found userId, track_id, track_seq, started_at",
    ),
    ("interactions", RENAMED, "; perhaps pass --columns interactions.user_id=userId"),
    ("tracks", tracks().drop_columns(["genres"]), "has no column genres: found track_id, albums,"),
    ("catalog_names", names().drop_columns(["type"]), "has no column type: found id, name"),
    ("interactions", MORE, "has 2 columns user_id: keep one of them"),
    ("tracks", tracks(track_id=[{"a": 1}] * 3), "track_id is struct<a: int64>, expected whole num"),
    (
        "interactions",
        interactions(track_id=[[1]] * 4),
        "track_id is list<element: int64>, expected",
    ),
    ("interactions", interactions(user_id=[True] * 4), "user_id is bool, expected whole numbers"),
    ("interactions", interactions(user_id=JAN[:4]), "user_id is timestamp[us], expected whole num"),
    (
        "interactions",
        interactions(track_seq=[[1]] * 4),
        "track_seq is list<element: int64>, expected",
    ),
    ("interactions", interactions(started_at=[1_641_000_000] * 4), "started_at is int64, expected"),
    ("interactions", interactions(started_at=[1.5] * 4), "expected dates (numbers are ambiguous"),
    ("interactions", interactions(started_at=[time()] * 4), "started_at is time64[us], expected"),
    ("tracks", tracks(artists=[1, 2, 3]), "artists is int64, expected lists of whole numbers"),
    (
        "tracks",
        tracks(genres=[[[1]]] * 3),
        "genres is list<element: list<element: int64>>, expected",
    ),
    ("catalog_names", names(name=[{"en": "x"}] * 8), "name is struct<en: string>, expected text"),
    ("catalog_names", names(type=[["x"]] * 8), "type is list<element: string>, expected text"),
    ("catalog_names", names(name=[b"\xe9"] * 8), "can't be read as parquet (Invalid UTF8"),
    ("interactions", interactions().slice(0, 0), "interactions.parquet holds no rows"),
    ("tracks", tracks().slice(0, 0), "holds no usable track in 0 rows"),
    ("tracks", tracks(track_id=[-1, None, -2]), "holds no usable track in 3 rows"),
    (
        "interactions",
        interactions(track_id=[1, 2, 3, 4]),
        "no usable listen in 4 rows: 4 where track_id is not in tracks.parquet (first in row 0)",
    ),
    (
        "interactions",
        interactions(started_at=["31.01.2024 18:30"] * 4),
        "4 where started_at is not a date (first in row 0); write times as 2024-01-31 or 2024-",
    ),
    (
        "interactions",
        interactions(user_id=[1, None, -1, 2]),
        "2 of 4 rows (50.0%) are bad, 1 where user_id is missing (first in row 1); 1 where user_id "
        "is negative (first in row 2). Correct them, or allow more than 0.1 with --max-bad-share",
    ),
    (
        "interactions",
        pa.concat_tables([interactions()] * 2),
        "4 of 8 rows (50.0%) are bad, 4 where the row equals an earlier one (first in row 4)",
    ),
]


FAULTS = BAD_FILES + [
    (name, lambda path, table=table: pq.write_table(table, path), words)
    for name, table, words in BAD_TABLES
]


@pytest.mark.parametrize(("name", "spoil", "words"), FAULTS, ids=[words for _, _, words in FAULTS])
def test_a_bad_file_is_refused_clearly_and_work_stays_as_it_was(tmp_path, name, spoil, words):
    data, work = save(tmp_path / "in"), tmp_path / "work"
    run(data, work)
    before = content(work)
    spoil(data / f"{name}.parquet")
    with pytest.raises(JobError) as error:
        run(data, work)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert content(work) == before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(JobError, match=r"nowhere is not a folder: look at the path; the"):
        run(tmp_path / "nowhere", tmp_path / "work")


def test_a_file_instead_of_its_folder_is_told_the_folder(tmp_path):
    data = save(tmp_path / "in")
    with pytest.raises(JobError, match=f"pass the folder that it is in, {re.escape(str(data))};"):
        run(data / "interactions.parquet", tmp_path / "work")


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet", ".jsonl"])
def test_listens_under_another_name_are_told_how_to_be_called(tmp_path, ending):
    data = save(tmp_path / "in")
    (data / "interactions.parquet").rename(data / f"my.plays{ending}")
    words = f"; if my.plays{ending} has the interactions, rename it to interactions{ending}"
    with pytest.raises(JobError, match=re.escape(words)):
        run(data, tmp_path / "work")


def test_listens_in_several_files_are_told_to_become_a_folder(tmp_path):
    data = save(tmp_path / "in")
    for month in ("01", "02"):
        pq.write_table(interactions(), data / f"interactions-2024-{month}.parquet")
    (data / "interactions.parquet").unlink()
    with pytest.raises(JobError, match=r"put them into a folder interactions$"):
        run(data, tmp_path / "work")


@pytest.mark.parametrize(
    "names", [("uid", "item", "ts"), ("u", "track_id", "played_at"), ("User", "song_id", "time")]
)
def test_usual_names_of_columns_are_suggested_and_none_that_is_known(tmp_path, names):
    wanted = ("user_id", "track_id", "started_at")
    data = save(
        tmp_path / "in",
        interactions=interactions().rename_columns([*names[:2], "track_seq", names[2]]),
    )
    pairs = [f"interactions.{w}={n}" for w, n in zip(wanted, names, strict=True) if w != n]
    with pytest.raises(JobError, match=re.escape(f"--columns {','.join(pairs)}") + "$"):
        run(data, tmp_path / "work")
    run(data, tmp_path / "work", "--columns", ",".join(pairs))


def test_work_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "work").write_text("a file")
    with pytest.raises(JobError, match="work can't be written"):
        run(save(tmp_path / "in"), tmp_path / "work")
