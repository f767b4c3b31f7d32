"""The whole line of jobs on a cluster makes the same bytes as threads do."""

import pytest

from jobs import compare_engines, sample_data
from tests.spark.conftest import ENGINE


@pytest.mark.usefixtures("installed")
def test_every_file_has_the_same_bytes_although_an_executor_is_killed(tmp_path):
    sizes = ["--users", "1100", "--tracks", "1100", "--listens", "60000"]
    sample_data.main(["--out", str(tmp_path / "in"), *sizes])
    given = ["--data", str(tmp_path / "in"), "--out", str(tmp_path), "--engine", ENGINE]
    summary = compare_engines.main([*given, "--kill", "rank", "--", "--tune", "off"])
    assert "have the same bytes, although an executor was killed in rank" in summary
