"""The comparison of engines: what it refuses before it works. tests/spark runs it."""

import pytest

from jobs import compare_engines


@pytest.mark.parametrize("engine", ["local", "spark://127.0.0.1:7077"])
def test_executors_that_others_started_are_not_killed(tmp_path, capsys, engine):
    given = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--engine", engine]
    with pytest.raises(SystemExit) as end:
        compare_engines.main([*given, "--kill", "rank"])
    assert end.value.code == 2
    assert f"local-cluster[WORKERS,CORES,MB], found {engine}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
