"""Scoring against labels from outside, on lists whose answer can be seen."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.contract.names import MAX_ID
from jobs.contract.storage import JobError
from jobs.data import holdout, listens
from jobs.evaluation.labels import read_labels
from tests.support.workspace import run


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
