"""jobs.prepare: rows that can't be used go to the quarantine with the reason."""

import json

import pyarrow as pa
import pytest

from jobs.contract.tables import ITEMS, LISTENS, QUARANTINE
from jobs.data import raw_files
from tests.support.inputs import (
    JAN,
    OTHER_TEXT,
    interactions,
    reasons,
    rows,
    run,
    save,
    tracks,
)


def test_bad_rows_of_tracks_and_catalogue_go_to_quarantine(tmp_path):
    data = save(
        tmp_path / "in",
        tracks=tracks(track_id=pa.array([10, None, 20])),
        catalog_names=pa.table(
            {
                "id": ["10", "x", "1", None, "5"],
                "type": [" Track", "track", "label", "genre", None],
                "name": ["Ten", "X", "L", "G", "N"],
            }
        ),
    )
    run(data, tmp_path)
    assert rows(QUARANTINE, tmp_path) == [
        ("catalog_names.parquet", 1, f"id {OTHER_TEXT}",
         '{"id":"x","type":"track","name":"X"}'),
        ("catalog_names.parquet", 2, "type is none of track, album, artist, genre",
         '{"id":"1","type":"label","name":"L"}'),
        ("catalog_names.parquet", 3, "id is missing", '{"id":null,"type":"genre","name":"G"}'),
        ("catalog_names.parquet", 4, "type is none of track, album, artist, genre",
         '{"id":"5","type":null,"name":"N"}'),
        ("tracks.parquet", 1, "track_id is missing",
         '{"track_id":null,"artists":[1,2],"genres":[7,5]}'),
    ]  # fmt: skip


def test_every_kind_of_bad_interaction_goes_to_quarantine_with_its_reason(tmp_path):
    good = ("1", "10", "2022-01-01", 1)
    bad = [
        ((None, "10", "2022-01-01", 1), "user_id is missing"),
        (("-1", "10", "2022-01-01", 1), "user_id is negative"),
        *(
            ((text, "10", "2022-01-01", 1), f"user_id {OTHER_TEXT}")
            for text in ("1.5", "", "01", "1.0", "1e0", "+1", "-0.0", "u1", "0x1", "1_0")
        ),
        (("9007199254740992", "10", "2022-01-01", 1), "user_id is over 2^53 - 1"),
        (("1", None, "2022-01-01", 1), "track_id is missing"),
        (("1", "-10", "2022-01-01", 1), "track_id is negative"),
        (("1", "ten", "2022-01-01", 1), f"track_id {OTHER_TEXT}"),
        (("1", "1" + "0" * 30, "2022-01-01", 1), "track_id is over 2^53 - 1"),
        (("1", "11", "2022-01-01", 1), "track_id is not in tracks.parquet"),
        (("1", "10", None, 1), "started_at is missing"),
        (("1", "10", "soon", 1), "started_at is not a date"),
        (("1", "10", "now", 1), "started_at is not a date"),
        (("1", "10", "2022-02-30", 1), "started_at is not a date"),
        *(
            (("1", "10", text, 1), f"started_at {raw_files.TIME_FLAWS[raw_files.NUMBER_TEXT - 1]}")
            for text in ("1641038400", "1641038400000", "1641038400.5")
        ),
        (("1", "10", "1969-12-31", 1), "started_at is not between 1970 and 2099"),
        (("1", "10", "2100-01-01", 1), "started_at is not between 1970 and 2099"),
        (("1", "10", "2022-01-01T00:00:00Z", 1), "the row equals an earlier one"),
    ]
    columns = zip(good, *(row for row, _ in bad), strict=True)
    table = pa.table(
        dict(zip(["user_id", "track_id", "started_at", "track_seq"], columns, strict=True))
    )
    run(save(tmp_path / "in", interactions=table), tmp_path, "--max-bad-share", "1")
    found = rows(QUARANTINE, tmp_path)
    assert rows(LISTENS, tmp_path) == [(1, 10, JAN[0], 1)]
    assert [row[2] for row in found] == [reason for _, reason in bad]
    assert [row[1] for row in found] == list(range(1, len(bad) + 1))
    kept = [tuple(json.loads(row[3]).values()) for row in found]
    assert kept == [(user, track, at, seq) for (user, track, at, seq), _ in bad]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([1, 2**64 - 1], pa.uint64()), "user_id is over 2^53 - 1"),
        (pa.array([1.0, float("inf")]), "user_id is not a whole number"),
        (pa.array([1.0, float("nan")]), "user_id is missing"),
        (pa.array([1.0, 2.0**25], pa.float32()), "user_id is over 2^53 - 1"),
    ],
)
def test_numbers_that_are_no_ids_are_bad_in_every_type(tmp_path, column, reason):
    table = pa.table({"user_id": column, "track_id": [10, 10], "started_at": JAN[:2]})
    run(save(tmp_path / "in", interactions=table), tmp_path, "--max-bad-share", "0.5")
    assert reasons(tmp_path) == [("interactions.parquet", 1, reason)]


def test_a_value_in_a_list_that_is_no_id_is_counted_and_the_track_is_kept(tmp_path):
    lists = [["1", "Queen"], ["1"], []]
    summary = run(save(tmp_path / "in", tracks=tracks(artists=lists)), tmp_path)
    assert [row[3] for row in rows(ITEMS, tmp_path)] == [[1], [1], []]
    assert reasons(tmp_path) == [
        ("tracks.parquet", 0, "a value in artists or genres is not an id, and was left out")
    ]
    assert "1 rows quarantined (1 of them tracks that lack an artist or a genre" in summary


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Mars/Olympus"])
def test_a_bad_row_with_a_zone_goes_to_quarantine_whatever_its_year(tmp_path, zone):
    moments = pa.array([0, 253_402_300_800_000_000, 0, 0], pa.timestamp("us", zone))
    data = save(tmp_path / "in", interactions=interactions(started_at=moments))
    run(data, tmp_path, "--max-bad-share", "0.5")
    assert reasons(tmp_path) == [
        ("interactions.parquet", 1, "started_at is not between 1970 and 2099")
    ]
