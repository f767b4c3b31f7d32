"""The top list is read as positions, and one of other tracks is refused."""

import numpy as np
import pytest

from jobs.contract.storage import JobError
from jobs.models.popularity import read_top
from tests.support.workspace import run, save_listens


def test_the_top_list_is_read_as_positions_of_its_tracks_best_first(tmp_path):
    work = save_listens(tmp_path, [(1, 30, 0), (2, 30, 0), (2, 10, 1)], tracks=[20])
    run("top_popular", work)
    assert read_top(work, np.array([10, 20, 30])).tolist() == [2, 0]


def test_a_top_list_of_other_tracks_is_refused_instead_of_read_wrongly(tmp_path):
    work = save_listens(tmp_path, [(1, 30, 0), (2, 10, 1)])
    run("top_popular", work)
    with pytest.raises(JobError, match=r"top_popular\.parquet has a track_id .*jobs\.prepare"):
        read_top(work, np.array([10, 20]))
