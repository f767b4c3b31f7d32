"""Scoring against labels from outside, on lists whose answer can be seen."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.contract import tables
from jobs.contract.names import MAX_ID
from jobs.contract.storage import JobError
from jobs.contract.text_ids import TextIds
from jobs.data import holdout, listens
from jobs.evaluation.labels import numbers, read_labels
from tests.support.workspace import run, save_listens


def save_labels(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def read(finished, path):
    return read_labels(path, listens.load(finished), "exclude")


def test_a_heard_track_is_no_label_and_each_unknown_one_counts_as_missed(finished, tmp_path):
    past = listens.load(finished)
    user, heard = past.user_ids[0], past.track_ids[past.item[0]]
    new = past.track_ids[holdout.heard_by(past, np.array([0])).toarray()[0] == 0][0]
    path = save_labels(
        tmp_path / "labels.parquet",
        user_id=[int(user)] * 5,
        track_id=[int(heard), int(new), MAX_ID - 1, MAX_ID - 2, MAX_ID - 1],
    )
    found = read(finished, path)
    assert found.row.tolist() == [0]
    assert found.labels.getnnz() == 3


def test_a_user_whom_nobody_knows_is_scored_as_cold(finished, tmp_path):
    track = int(listens.load(finished).track_ids[0])
    path = save_labels(tmp_path / "l.parquet", user_id=[MAX_ID - 1], track_id=[track])
    found = read(finished, path)
    assert found.row.tolist() == [holdout.COLD]
    assert found.labels.getnnz() == 1
    assert "1 users" in run("score", finished, "--labels", str(path))


@pytest.mark.parametrize(
    "columns",
    [
        {"user": [1]},
        {"user_id": ["x"], "track_id": [1]},
        {"user_id": [None, 1], "track_id": [1, 1]},
        {"user_id": [1, 1], "track_id": [1, None]},
    ],
)
def test_labels_that_are_none_are_refused_by_name(finished, tmp_path, columns):
    path = save_labels(tmp_path / "labels.parquet", **columns)
    with pytest.raises(JobError, match="columns user_id and track_id"):
        read(finished, path)


def test_of_rows_with_kinds_only_listens_to_tracks_that_are_not_disliked_are_labels(tmp_path):
    save_listens(tmp_path, [(1, 10, 0), (2, 11, 1)], tracks=range(10, 30))
    said = {
        "user_id": [1, 1, 3],  # the last one has no listen
        "track_id": [20, 21, 12],
        "at": pa.array([0, 0, 0], tables.TIME),
        "kind": ["dislike", "like", "dislike"],
    }
    tables.write(tables.FEEDBACK, tmp_path, pa.table(said))
    rows = [
        # track, kind, share, second; the listen of 20 comes after a dislike in the past
        (12, "listen", 0.5, 0), (13, "listen", 0.4, 0), (14, None, None, 0), (15, "skip", 1.0, 0),
        (16, "like", None, 0), (17, "listen", 1.0, 0), (17, "dislike", None, 5),
        (18, "dislike", None, 1), (18, "listen", 1.0, 2), (18, "undislike", None, 3),
        (19, "undislike", None, 9), (19, "dislike", None, 8), (19, "listen", 1.0, 1),
        (20, "listen", 1.0, 0), (21, "listen", 1.0, 0), (10, "listen", 1.0, 0),
    ]  # fmt: skip
    track, kind, share, at = zip(*rows, strict=True)
    columns = {"kind": kind, "played_share": share, "started_at": pa.array(at, pa.timestamp("s"))}
    users = [1] * len(rows)
    path = save_labels(tmp_path / "l.parquet", user_id=users, track_id=track, **columns)
    found = read_labels(path, listens.load(tmp_path), "exclude", work=tmp_path)
    assert past_ids(tmp_path)[found.labels.indices].tolist() == [12, 14, 18, 19, 21]
    path = save_labels(tmp_path / "l.parquet", user_id=[3, 3], track_id=[12, 13])
    found = read_labels(path, listens.load(tmp_path), "exclude", work=tmp_path)
    assert past_ids(tmp_path)[found.labels.indices].tolist() == [13]
    bad = save_labels(tmp_path / "l.parquet", user_id=[1], track_id=[12], kind=["heard"])
    with pytest.raises(JobError, match="kind is none of listen, skip, like"):
        read(tmp_path, bad)


def test_how_much_of_a_label_was_played_is_told_by_its_length_too_as_in_prepare(tmp_path):
    save_listens(tmp_path, [(1, 10, 0)], tracks=range(10, 30))
    rows = {
        "user_id": [1] * 6,
        "track_id": [11, 12, 13, 14, 15, 16],
        "played_ms": [40, 60, None, 40, 40, 900],
        "played_share": pa.array([None, None, None, 0.9, None, None], pa.float64()),
        "duration_ms": [100, 100, 100, 100, None, 100],
    }
    path = save_labels(tmp_path / "l.parquet", **rows)
    found = read_labels(path, listens.load(tmp_path), "exclude", work=tmp_path)
    assert past_ids(tmp_path)[found.labels.indices].tolist() == [12, 13, 14, 15, 16]
    del rows["duration_ms"]
    with pytest.raises(JobError, match=r"in row 0 there is played_ms, .*add a column duration_ms"):
        read(tmp_path, save_labels(tmp_path / "l.parquet", **rows))
    rows |= {"played_share": [0.1, 0.5, None, 0.9, 0.7, 1.0]}  # where it is known, it counts
    found = read(tmp_path, save_labels(tmp_path / "l.parquet", **rows))
    assert past_ids(tmp_path)[found.labels.indices].tolist() == [12, 13, 14, 15, 16]


def test_what_labels_say_of_a_track_comes_after_what_was_said_before(tmp_path):
    save_listens(tmp_path, [(1, 10, 0)], tracks=range(10, 30))
    said = {
        "user_id": [1, 1],
        "track_id": [20, 21],
        "at": pa.array([0, 0], tables.TIME),
        "kind": ["dislike", "dislike"],
    }
    tables.write(tables.FEEDBACK, tmp_path, pa.table(said))
    rows = [
        # track, kind, track_seq; all at one time
        (20, "undislike", 0), (20, "listen", 1), (21, "listen", 2),
        (22, "listen", 3), (22, "undislike", 5), (22, "dislike", 4),
        (23, "listen", 6), (23, "dislike", None), (23, "undislike", 7),
    ]  # fmt: skip
    track, kind, seq = zip(*rows, strict=True)
    columns = {"kind": kind, "track_seq": pa.array(seq, pa.int64())}
    times = pa.array([5] * len(rows), pa.timestamp("s"))
    path = save_labels(
        tmp_path / "l.parquet", user_id=[1] * len(rows), track_id=track, started_at=times, **columns
    )
    found = read_labels(path, listens.load(tmp_path), "exclude", work=tmp_path)
    assert past_ids(tmp_path)[found.labels.indices].tolist() == [20, 22]


def past_ids(work):
    return listens.load(work).track_ids


def test_a_label_whose_text_id_is_none_is_named_by_its_row():
    known = TextIds.of(pa.array(["a", "b"]))
    with pytest.raises(pa.ArrowInvalid, match="in row 1 the track_id is longer than 256 bytes"):
        numbers(pa.array(["a", "x" * 257, ""]), known, "track_id")
