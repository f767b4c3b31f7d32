"""jobs.prepare --check: how the files are understood, and what would be quarantined."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.contract.storage import JobError
from jobs.data import input_check, raw_files
from tests.support.inputs import JAN, interactions, run, save, tracks


@pytest.fixture
def check(tmp_path, capsys):
    """Run --check on the folder "in"; what it prints."""

    def run_check(*options: str) -> str:
        summary = run(tmp_path / "in", tmp_path / "work", "--check", *options)
        assert summary == "nothing was written: run it without --check"
        assert not (tmp_path / "work").exists()
        return capsys.readouterr().out

    return run_check


def test_files_rows_columns_types_and_first_rows_are_shown_as_understood(tmp_path, check):
    save(tmp_path / "in", tracks=tracks(track_id=[10, 20, None]))
    (tmp_path / "in/interactions.parquet").unlink()
    (tmp_path / "in/interactions.csv").write_text("uid;x;item;ts\n1;y;10;1641038400\n1;y;10;?\n")
    names = "interactions.user_id=uid,interactions.track_id=item,interactions.started_at=ts"
    said = check("--columns", names, "--time-unit", "s")
    data = tmp_path / "in"
    assert re.search(rf"{data}/tracks.parquet: parquet, \d\.\d kB, 3 rows", said)
    assert f"{data}/interactions.csv: CSV, 41 bytes, about 2 rows" in said
    assert "\n  artists: list<element: int64>\n  genres: list<element: int64>\n" in said
    assert "\n  user_id: text, called uid\n" in said
    assert "\n  not read: x\n" in said
    assert '\n  {"user_id":"1","track_id":"10","started_at":"2022-01-01T12:00:00.000"}\n' in said
    assert '\n  {"user_id":"1","track_id":"10","started_at":null}\n' in said
    assert "\n    1 where track_id is missing: row 2 of tracks.parquet is {" in said
    assert "\n  of a sample of 2 rows from the file, 1 would be quarantined:\n" in said
    assert (
        "\n    1 where started_at is not a date: row 1 of interactions.csv is "
        '{"user_id":"1","track_id":"10","started_at":"?"}\n' in said
    )


@pytest.mark.parametrize("options", [[], ["--no-header"]])
def test_the_rows_of_a_csv_without_a_header_are_all_counted(tmp_path, check, options):
    save(tmp_path / "in")
    (tmp_path / "in/interactions.parquet").unlink()
    (tmp_path / "in/interactions.csv").write_text("7,10,2022-01-01\n7,20,2022-01-02\n")
    names = "interactions.user_id=1,interactions.track_id=2,interactions.started_at=3"
    said = check("--columns", names, *options)
    assert "CSV, 32 bytes, about 2 rows" in said
    assert "of a sample of 2 rows" in said


def test_every_part_is_sampled_and_rows_are_named_by_part(tmp_path, check, monkeypatch):
    data = save(tmp_path / "in")
    (data / "interactions.parquet").unlink()
    (data / "interactions").mkdir()
    users = [1] * 400
    for part in range(3):
        users[399] = -1 if part == 1 else 1
        table = pa.table({"user_id": users, "track_id": [10] * 400, "started_at": [JAN[0]] * 400})
        pq.write_table(table, data / f"interactions/part-{part}.parquet", row_group_size=20)
    monkeypatch.setattr(input_check, "SAMPLE", 30)
    monkeypatch.setattr(raw_files, "SAMPLED_GROUPS", 3)
    said = check()
    assert "interactions: 3 parts of parquet, " in said
    assert "1,200 rows\n  parts: interactions/part-0.parquet, interactions/part-1.parquet" in said
    assert "of a sample of 180 rows from each part, 1 would be quarantined:" in said
    assert "1 where user_id is negative: row 399 of interactions/part-1.parquet is {" in said


def test_unknown_tracks_and_times_after_now_are_found_in_the_sample(tmp_path, check):
    table = interactions(
        track_id=[10, 99, 10, 20], started_at=[JAN[0]] * 3 + [JAN[0].replace(year=2050)]
    )
    save(tmp_path / "in", interactions=table)
    said = check()
    assert "1 where track_id is not in tracks.parquet: row 1 of" in said
    assert "1 where started_at is over a day later than now: row 3 of" in said


def test_what_is_missing_is_said_and_no_track_is_unknown_then(tmp_path, check):
    data = save(tmp_path / "in")
    (data / "tracks.parquet").unlink()
    said = check()
    assert "of a sample of 4 rows from the file, 0 would be quarantined\n" in said
    assert "There is no file of tracks, so they are those of the listens, and live events" in said


def test_a_file_that_prepare_would_refuse_is_refused(tmp_path, check):
    save(tmp_path / "in", interactions=interactions(user_id=[True] * 4))
    with pytest.raises(JobError, match="user_id is bool, expected whole numbers"):
        check()
