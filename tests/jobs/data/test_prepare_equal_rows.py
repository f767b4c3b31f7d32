"""jobs.prepare: equal rows are copies of one play, or several plays."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from jobs.contract.storage import JobError
from jobs.contract.tables import LISTENS
from jobs.data.equal_rows import LONG_PART
from tests.support.inputs import JAN, reasons, rows, run, save


def test_repeats_of_a_pair_are_kept_unless_the_whole_row_repeats(tmp_path):
    same = {"user_id": [1] * 4, "track_id": [10, 20, 10, 10], "started_at": [JAN[0]] * 4}
    data = save(tmp_path / "in", interactions=pa.table(same | {"track_seq": [1, 2, 3, 3]}))
    run(data, tmp_path, "--max-bad-share", "0.5")
    assert [row[1] for row in rows(LISTENS, tmp_path)] == [10, 20, 10]
    assert reasons(tmp_path) == [("interactions.parquet", 3, "the row equals an earlier one")]

    data = save(tmp_path / "in", interactions=pa.table(same))  # no track_seq: a day's repeats stay
    run(data, tmp_path)
    assert [row[1] for row in rows(LISTENS, tmp_path)] == [10, 20, 10, 10]
    run(data, tmp_path, "--max-bad-share", "0.5", "--equal-rows", "copies")
    assert [row[1] for row in rows(LISTENS, tmp_path)] == [10, 20]
    assert [row[1] for row in reasons(tmp_path)] == [2, 3]


@pytest.mark.parametrize(
    ("shift", "plays"), [(0, True), (60, True), (3600, True), (1, False), (0.001, False)]
)
def test_equal_rows_are_plays_where_times_are_whole_minutes(tmp_path, shift, plays):
    times = [day + timedelta(seconds=shift) for day in [JAN[0], JAN[0], JAN[1], JAN[2]]]
    same = {"user_id": [1] * 4, "track_id": [10] * 4, "started_at": times}
    data = save(tmp_path / "in", interactions=pa.table(same))
    run(data, tmp_path, "--max-bad-share", "0.5")
    assert len(rows(LISTENS, tmp_path)) == (4 if plays else 3)


def test_a_file_that_has_all_its_rows_twice_is_refused_and_the_option_named(tmp_path):
    once = [(user, track, JAN[day]) for user in (1, 2) for track in (10, 20) for day in range(8)]
    user, track, day = zip(*once, *once, strict=True)
    twice = pa.table({"user_id": user, "track_id": track, "started_at": day})
    data = save(tmp_path / "in", interactions=twice)
    with pytest.raises(JobError, match=r"64 of 64 rows are there twice.* --equal-rows copies"):
        run(data, tmp_path)
    run(data, tmp_path, "--equal-rows", "copies", "--max-bad-share", "0.5")
    assert len(rows(LISTENS, tmp_path)) == 32
    run(data, tmp_path, "--equal-rows", "plays")
    assert len(rows(LISTENS, tmp_path)) == 64


def test_a_file_that_has_a_part_twice_is_refused_and_its_rows_are_named(tmp_path):
    rng = np.random.default_rng(5)
    rest = [(i % 50, 10 * (1 + i % 2), JAN[int(rng.integers(9))]) for i in range(3000)]
    part = [(100 + i, 10, JAN[i % 9]) for i in range(LONG_PART)]
    for n, says in ((LONG_PART, True), (LONG_PART - 1, False)):
        listens = [*rest[:700], *part, *rest[700:], *part[:n]]
        columns = zip(*listens, strict=True)
        names = ("user_id", "track_id", "started_at")
        data = save(tmp_path / "in", interactions=pa.table(dict(zip(names, columns, strict=True))))
        if says:
            message = r"row 4,000 to row 4,999 are the same as those from row 700 on.* --equal-rows"
            with pytest.raises(JobError, match=message):
                run(data, tmp_path)
            run(data, tmp_path, "--equal-rows", "plays")
        else:
            run(data, tmp_path)
        assert len(rows(LISTENS, tmp_path)) == len(listens)
